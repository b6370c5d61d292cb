"""Draw with Xplique's `maco`, one class at a time, at the model's own size."""

import numpy as np
import tensorflow as tf
from maco_shared import SIZE, arguments, finish
from shared import IDS, load, timed
from xplique.features_visualizations import Objective, maco

given = arguments()
model = load(given)
data = None
if given.real is not None:
    data = tf.data.Dataset.from_tensor_slices(given.real).batch(8)


def draw(index):
    """Return one picture and its transparency."""
    tf.random.set_seed(index)
    image, transparency = maco(
        Objective.neuron(model, "logits", index),
        maco_dataset=data,
        nb_steps=given.steps,
        nb_crops=given.crops,
        values_range=(-1.0, 1.0),
        custom_shape=(SIZE, SIZE),
    )
    return np.asarray(image), np.asarray(transparency).mean(-1)


found, seconds = timed(lambda: [draw(index) for index in IDS])
finish(given, *map(np.stack, zip(*found, strict=True)), seconds)
