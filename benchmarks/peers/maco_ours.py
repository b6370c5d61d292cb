"""Draw with `parameterization="fixed_magnitude"`; with `--crops`, zoomed in on crops."""

from maco_shared import arguments, finish
from shared import IDS, load, timed

from featviz_callback import Objective, optimize, transformations

given = arguments()
model = load(given)
objective = Objective.neuron(model, "logits", IDS)
chosen = "standard"
if given.crops:
    # Boxes of half to a quarter of a side, about the middle.
    chosen = [transformations.Scale(2.0, 4.0), transformations.Jitter(0.15)]
result, seconds = timed(
    lambda: optimize(
        objective,
        steps=given.steps,
        parameterization="fixed_magnitude",
        transformations=chosen,
        probe_data=given.real,
        values_range=(-1, 1),
    )
)
finish(given, result.images, result.importance, seconds)
