"""Draw with this package's defaults, for 32 steps or as many as are given."""

from shared import IDS, arguments, finish, load, timed

from featviz_callback import Objective, optimize

given = arguments(steps=32)
model = load(given)
objective = Objective.neuron(model, "logits", IDS)
result, seconds = timed(lambda: optimize(objective, steps=given.steps, values_range=(-1, 1)))
finish(given, result.images, seconds)
