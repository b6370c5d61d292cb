"""Draw with Xplique's defaults, but for the size, the range of values and the steps."""

import numpy as np
from shared import IDS, SIZE, arguments, finish, load, timed
from xplique.features_visualizations import Objective, optimize

given = arguments(steps=256)
model = load(given)
objective = Objective.neuron(model, "logits", list(IDS))
found, seconds = timed(
    lambda: optimize(
        objective, nb_steps=given.steps, values_range=(-1.0, 1.0), custom_shape=(SIZE, SIZE)
    )[0]
)
finish(given, np.asarray(found[-1] if isinstance(found, list) else found), seconds)
