"""Models whose call needs the values of tensors, and so trains with `run_eagerly` alone."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from tests.conftest import PIXELS, compiled, set_random_seed, to_numpy, train

BACKEND = keras.backend.backend()

pytestmark = pytest.mark.skipif(
    BACKEND == "jax", reason="JAX itself trains no model whose call needs values"
)


class Network(keras.Model):
    """Two convolutions and logits. The output of the first one is doubled on the way."""

    def __init__(self):
        super().__init__()
        self.conv1 = layers.Conv2D(4, 3, activation="tanh", name="conv1")
        self.conv2 = layers.Conv2D(6, 3, activation="tanh", name="conv2")
        self.flatten = layers.Flatten(name="flatten")
        self.logits = layers.Dense(10, name="logits")

    def call(self, images):
        return self.logits(self.flatten(self.conv2(self.doubled(self.conv1(images)))))


class Numpy(Network):
    """It reads a value with `.numpy()`."""

    def doubled(self, x):
        highest = keras.ops.max(x)
        highest = highest.detach() if BACKEND == "torch" else highest
        return x * (1 + float(np.ceil(highest.numpy())))


class If(Network):
    """It asks a Python `if`."""

    def doubled(self, x):
        return 2 * x if keras.ops.max(x) > 0 else x


class Built(If):
    """It says itself how it is built."""

    def build(self, shape):
        for layer in (self.conv1, self.conv2):
            layer.build(shape)
            shape = layer.compute_output_shape(shape)
        self.logits.build((None, int(np.prod(shape[1:]))))
        self.built = True


def trained(kind, is_built, *callbacks):
    set_random_seed(0)
    model = compiled(kind())
    model.run_eagerly = True
    if is_built:
        model(PIXELS[:1])
    history = train(model, *callbacks)
    return model, history.history["loss"]


def channels(model):
    return Objective.channel(model, "conv2", [0, 5])


@pytest.mark.parametrize(
    ("kind", "is_built", "objectives"),
    [
        (Numpy, True, None),
        (Numpy, False, channels),
        (If, False, None),
        (If, True, channels),
        (Built, True, channels),
    ],
)
def test_what_needs_values_is_drawn_or_refused_with_the_reason(
    kind, is_built, objectives, watch, caplog
):
    caplog.set_level("WARNING", logger="featviz_callback")
    plain, losses = trained(kind, is_built)
    callback = watch(objectives, on_error="warn", values_range=(0, 1))
    model, own = trained(kind, is_built, callback)
    assert own == losses
    for now, expected in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(now, expected)
    said = [one.getMessage() for one in caplog.records]
    history = callback.history
    if BACKEND == "tensorflow":
        assert not len(history)
        [refusal] = said
        assert f"'{model.name}' fails on tensors without values" in refusal
        assert ("'numpy'" if kind is Numpy else "Python `bool`") in refusal
        assert "`run_eagerly` makes no difference" in refusal
        return
    assert not said
    assert history.epochs.tolist()[-2:] == [0, 1]
    maps = model.conv2(2 * model.conv1(history.images[-1]))
    logits = to_numpy(model.logits(model.flatten(maps)))
    scores = {f"Channel#conv2_{i}": to_numpy(maps).mean((1, 2))[:, i] for i in range(6)}
    scores |= {f"Neuron#logits_{i}": logits[:, i] for i in range(10)}
    known = [i for i, name in enumerate(history.names) if name in scores]
    assert len(known) >= 2
    expected = [scores[history.names[i]][i] for i in known]
    np.testing.assert_allclose(history.scores[-1, known], expected, rtol=1e-4, atol=1e-6)
