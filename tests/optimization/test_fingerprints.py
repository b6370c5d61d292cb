"""What a step was compiled with: whatever a layer computes with, by value."""

import decimal
import enum
import functools
import gc
import logging
import weakref
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import Objective, optimize
from featviz_callback.optimization import fingerprint, models_unchanged
from tests.conftest import set_random_seed


class Settings:
    """Values of a layer that are neither Keras' nor variables."""

    of_class = 1.0


class Plain:
    """An object of a user's class."""

    def __init__(self, **values):
        vars(self).update(values)


class Slotted:
    __slots__ = ("__value",)

    def __init__(self, value):
        self.__value = value


class Called(Plain):
    def __call__(self, x):
        return x * self.v


class Mode(enum.Enum):
    ONE, TWO = 1, 2


class Level(enum.IntEnum):
    ONE, TWO = 1, 2


class Scale(layers.Layer, Settings):
    """A layer that computes with a value of one of many kinds."""

    def __init__(self, read, **settings):
        super().__init__(**settings)
        self.read = read

    def call(self, x):
        return x * self.read(self)


KINDS = {
    "NumPy's number": ("value", np.float32, lambda s: s.value),
    "array": (
        "value",
        lambda v: np.full((6, 5, 1), v, "float32"),
        lambda s: ops.convert_to_tensor(s.value),
    ),
    "tensor": ("value", ops.convert_to_tensor, lambda s: s.value),
    "private": ("_value", float, lambda s: s._value),
    "list": ("value", lambda v: [v, "a"], lambda s: s.value[0]),
    "dict": ("value", lambda v: {"a": {"b": v}}, lambda s: s.value["a"]["b"]),
    "partial": ("value", lambda v: functools.partial(max, v), lambda s: s.value(0.0)),
    "of the class": ("of_class", float, lambda s: s.of_class),
    "object": ("value", lambda v: Plain(inner=Plain(v=v)), lambda s: s.value.inner.v),
}


def of_scale(kind="private"):
    set_random_seed(1)
    name, make, read = KINDS[kind]
    scale = Scale(read, name="scale")
    if name != "of_class":
        setattr(scale, name, make(1.0))
    images = keras.Input((6, 5, 1))
    outputs = layers.Dense(2, name="logits")(layers.Flatten()(scale(images)))
    return keras.Model(images, outputs), scale


def assert_true(model, seed=0):
    """Require the scores of images to be what the model predicts for them."""
    result = optimize(Objective.neuron(model, "logits", [0, 1]), steps=1, seed=seed)
    predicted = model.predict(result.images, verbose=0)
    np.testing.assert_allclose(result.scores, np.diag(predicted), rtol=1e-4)


@pytest.mark.parametrize(
    "kind",
    # Each of them takes seconds.
    [
        pytest.param(kind, marks=[] if i % 3 == 0 else [pytest.mark.acceptance])
        for i, kind in enumerate(KINDS)
    ],
)
def test_a_step_is_compiled_anew_where_a_value_of_a_layer_changed(kind, monkeypatch):
    name, make, _ = KINDS[kind]
    model, scale = of_scale(kind)
    owner = Settings if name == "of_class" else scale
    keys = []
    for value in (1.0, 3.0):
        monkeypatch.setattr(owner, name, make(value))
        # Keras keeps a function that it traced, too.
        model.predict_function = None
        assert_true(model)
        keys.append(fingerprint(model))
    assert keys[0] != keys[1]
    # An equal value is no other one.
    monkeypatch.setattr(owner, name, make(3.0))
    if kind != "partial" or keras.backend.backend() != "torch":
        assert fingerprint(model) == keys[1]


def ring(value):
    """An object that holds itself."""
    found = Plain(v=value)
    found.itself = found.deeper = [found]
    return found


@pytest.mark.parametrize(
    "make",
    [
        lambda v: list(Mode)[v],
        lambda v: list(Level)[v],
        lambda v: SimpleNamespace(v=v),
        lambda v: {v, "a", (3, v)},
        lambda v: slice(v, None),
        lambda v: range(v),
        lambda v: complex(v, float("nan")),
        lambda v: decimal.Decimal(v),
        lambda v: Plain(v={"a": [Plain(v=v)]}),
        lambda v: Slotted(v),
        lambda v: Plain(v=v).__init__,
        lambda v: [0] * 2000 + [1] * v,
        ring,
    ],
)
def test_a_value_of_any_kind_counts_by_what_it_is(make):
    model, scale = of_scale()
    keys = []
    for value in (0, 1, 1):
        scale.value = make(value)
        keys.append(fingerprint(model))
    assert keys[0] != keys[1] == keys[2]


def test_what_changes_within_an_object_counts():
    model, scale = of_scale()
    scale.value = called = Called(v=1.0)
    scale.log = logging.getLogger("tests.fingerprints")
    before = fingerprint(model)
    scale.log.info("Another one, so that it remembers its level.")
    assert fingerprint(model) == before
    called.v = 3.0
    assert fingerprint(model) != before


@pytest.mark.parametrize("make", [lambda f: f, property, staticmethod, classmethod])
def test_a_function_of_a_class_counts(make, monkeypatch):
    model, _ = of_scale()
    monkeypatch.setattr(Settings, "helper", make(lambda x: x), raising=False)
    before = fingerprint(model)
    assert fingerprint(model) == before
    monkeypatch.setattr(Settings, "helper", make(lambda x: 2 * x))
    assert fingerprint(model) != before


def test_a_large_tensor_is_the_same_at_each_look():
    model, scale = of_scale()
    scale.value = ops.zeros((2**20 + 1,))
    before = fingerprint(model)
    assert fingerprint(model) == before
    scale.value = ops.zeros((2**20 + 1,))
    assert fingerprint(model) != before


def test_a_normalization_may_be_adapted_again():
    set_random_seed(1)
    normalization = layers.Normalization(axis=None)
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [keras.Input((6, 5, 1)), normalization, layers.Flatten(), layers.Dense(2, name="logits")]
    )
    for mean, deviation in ((0.5, 0.3), (9.0, 4.0)):
        normalization.adapt(rng.normal(mean, deviation, (64, 6, 5, 1)).astype("float32"))
        model.predict_function = None
        assert_true(model)


def test_training_and_calls_change_no_fingerprint():
    class Remembering(layers.Layer):
        def call(self, x):
            self._last = self.last = x
            return x

    images = keras.Input((6, 5, 1))
    outputs = layers.Dense(2, name="logits")(layers.Flatten()(Remembering()(images)))
    model = keras.Model(images, outputs)
    model.compile("sgd", "mse")
    data = np.zeros((8, 6, 5, 1), "float32"), np.zeros((8, 2))
    model.fit(*data, verbose=0)
    before = fingerprint(model)
    model.fit(*data, epochs=3, validation_data=data, verbose=0)
    model.predict(data[0], verbose=0)
    if keras.backend.backend() == "torch":
        # It runs eagerly, so that tensors of the last call are values.
        return
    assert fingerprint(model) == before


class OwnFunction(keras.Model):
    """A model whose layers have functions that reach the model."""

    def __init__(self):
        super().__init__()
        self.gain = 2.0
        self.conv = layers.Conv2D(2, 3, activation=self.squash)
        self.scale = layers.Lambda(lambda x: x * self.gain)
        self.flat, self.logits = layers.Flatten(), layers.Dense(2, name="logits")

    def squash(self, x):
        return ops.tanh(x)

    def call(self, x):
        return self.logits(self.flat(self.scale(self.conv(x))))


def test_a_model_whose_functions_reach_it_is_freed():
    model = OwnFunction()
    model(np.zeros((1, 6, 5, 1), "float32"))
    optimize(Objective.neuron(model, "logits", 0), steps=1)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_names_that_keras_counts_stay_as_they_are():
    before = layers.Dense(1).name, keras.Model().name
    fingerprint(of_scale()[0])
    counts = [int(name.rpartition("_")[2]) for name in (layers.Dense(1).name, keras.Model().name)]
    first = [int(name.rpartition("_")[2] or 0) if "_" in name else 0 for name in before]
    # The model of `of_scale` has one layer `Dense`, with a name of its own.
    assert counts[0] - first[0] == 1
    assert counts[1] - first[1] == 1


def test_within_a_block_a_model_is_looked_at_once():
    model, scale = of_scale()
    with models_unchanged():
        before = fingerprint(model)
        scale._value = 7.0
        with models_unchanged():
            assert fingerprint(model) == before
    assert fingerprint(model) != before
