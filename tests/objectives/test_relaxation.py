"""Activations that let a gradient through where they are flat."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives.relaxation import relaxed_activations
from tests.conftest import (
    gradient,
    random_images,
    sequential,
    to_numpy,
)
from tests.objectives.conftest import belongings

RELUS = {
    "argument": lambda: [layers.Conv2D(2, 1, activation="relu")],
    "relu6": lambda: [layers.Conv2D(2, 1, activation="relu6")],
    "layer": lambda: [layers.Conv2D(2, 1), layers.ReLU()],
    "activation layer": lambda: [layers.Conv2D(2, 1), layers.Activation("relu")],
    "inside a model": lambda: [keras.Sequential([layers.Conv2D(2, 1, activation="relu")])],
}


@pytest.mark.parametrize("case", RELUS)
def test_relaxed_relus_keep_their_values_and_let_a_gradient_through(case):
    model = sequential(*RELUS[case](), shape=(3, 3, 1))
    kernel, bias = model.get_weights()
    model.set_weights([kernel, np.array([-10.0, 0.0])])
    threes = random_images(2, 3, 3, 1)

    def first_channel(x):
        return keras.ops.sum(model(x)[..., 0])

    plain, before = to_numpy(model(threes)), belongings(model)
    assert not gradient(first_channel, threes).any()
    with relaxed_activations(model):
        np.testing.assert_allclose(to_numpy(model(threes)), plain, atol=1e-6)
        # The slope of a softplus is the logistic function of what comes in.
        slope = 1 / (1 + np.exp(10 - kernel[0, 0, 0, 0] * threes.astype("float64")))
        expected = slope * kernel[0, 0, 0, 0]
        np.testing.assert_allclose(gradient(first_channel, threes), expected, rtol=1e-5)
    assert belongings(model) == before


def logistic(x):
    return 1 / (1 + np.exp(-x))


def logistic_slope(x):
    return logistic(x) * logistic(-x)


FLAT = {
    "ReLU6 layer, above": (lambda: layers.ReLU(6.0), 9.0, logistic),
    "ReLU6 layer, below": (lambda: layers.ReLU(6.0), -4.0, logistic),
    "relu6, above": (lambda: layers.Activation("relu6"), 9.0, logistic),
    "relu6, below": (lambda: layers.Activation("relu6"), -4.0, logistic),
    "hard sigmoid, above": (lambda: layers.Activation("hard_sigmoid"), 5.0, logistic_slope),
    "hard sigmoid, below": (lambda: layers.Activation("hard_sigmoid"), -5.0, logistic_slope),
    "hard tanh, above": (lambda: layers.Activation("hard_tanh"), 3.0, lambda x: np.cosh(x) ** -2),
    "hard tanh, below": (lambda: layers.Activation("hard_tanh"), -3.0, lambda x: np.cosh(x) ** -2),
    "hard SiLU, below": (lambda: layers.Activation("hard_silu"), -5.0, logistic),
}


@pytest.mark.parametrize("case", FLAT)
def test_a_gradient_comes_through_at_each_flat_end(case):
    make, value, slope = FLAT[case]
    model = sequential(make(), shape=(3, 3, 1))
    threes = value + random_images(2, 3, 3, 1) - 0.5
    assert np.ptp(model.predict(threes, verbose=0)) == 0

    def total(x):
        return keras.ops.sum(model(x))

    plain, before = to_numpy(model(threes)), belongings(model)
    assert not gradient(total, threes).any()
    with relaxed_activations(model):
        np.testing.assert_allclose(to_numpy(model(threes)), plain, atol=1e-6)
        found = gradient(total, threes)
    np.testing.assert_allclose(found, slope(threes.astype("float64")), rtol=1e-4)
    assert (found > 0).all()
    assert belongings(model) == before


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "swish", lambda x: x, layers.PReLU()])
def test_other_activations_are_not_relaxed(activation):
    model = sequential(layers.Conv2D(1, 1, activation=activation), shape=(3, 3, 1))
    threes = random_images(1, 3, 3, 1)

    def total(x):
        return keras.ops.sum(model(x))

    plain = gradient(total, threes)
    with relaxed_activations(model):
        np.testing.assert_array_equal(gradient(total, threes), plain)


def test_a_layer_with_two_paths_is_relaxed_once():
    class Keeps(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = keras.Sequential([layers.ReLU()])
            self.relu = self.inner.layers[0]

        def call(self, inputs):
            return self.inner(inputs)

    model, threes = Keeps(), random_images(1, 3, 3, 1) - 2
    model(threes)
    with relaxed_activations(model):
        slopes = gradient(lambda x: keras.ops.sum(model(x)), threes)
    np.testing.assert_allclose(slopes, 1 / (1 + np.exp(-threes.astype("float64"))), rtol=1e-5)
