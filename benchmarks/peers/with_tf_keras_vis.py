"""Draw with tf-keras-vis' defaults, but for the range of values."""

import numpy as np
import tensorflow as tf
from shared import IDS, SIZE, arguments, finish, load, timed
from tf_keras_vis.activation_maximization import ActivationMaximization
from tf_keras_vis.utils.scores import CategoricalScore

given = arguments(steps=200)
tf.random.set_seed(0)
drawing = ActivationMaximization(load(given), clone=False)
start = tf.random.uniform((len(IDS), SIZE, SIZE, 3), -1, 1)
images, seconds = timed(
    lambda: drawing(
        CategoricalScore(list(IDS)), seed_input=start, input_range=(-1, 1), steps=given.steps
    )
)
finish(given, np.asarray(images), seconds)
