"""Layers and models that return several tensors, read one by one."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import Objective
from featviz_callback.objectives import default_objectives
from featviz_callback.objectives.paths import split_index
from featviz_callback.objectives.shapes import layer_calls
from tests.conftest import fill, random_images, sequential, to_numpy
from tests.objectives.conftest import spec


class Several(layers.Layer):
    """Returns what it is told, of two dense layers."""

    def __init__(self, arrange, **settings):
        super().__init__(**settings)
        self.arrange = arrange
        self.first, self.second = layers.Dense(3, name="first"), layers.Dense(2, name="second")

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)

    def call(self, inputs):
        return self.arrange(ops.tanh(self.first(inputs)), self.second(inputs))


ARRANGED = {
    "tuple": (lambda a, b: (a, b), "several[0]", "several[1]"),
    "list": (lambda a, b: [a, b], "several[0]", "several[1]"),
    "dict": (lambda a, b: {"b": b, "a": a}, "several[a]", "several['b']"),
    "nested": (lambda a, b: ({"in": [a]}, b), "several[0][in][0]", "several[1]"),
}


@pytest.mark.parametrize("case", ARRANGED)
def test_each_tensor_of_a_layer_is_read_by_its_index(case):
    arrange, first, second = ARRANGED[case]
    image = keras.Input((4, 4, 1))
    outputs = Several(arrange, name="several")(layers.Flatten()(image))
    model = fill(keras.Model(image, keras.tree.flatten(outputs)))
    images = random_images(3, 4, 4, 1)
    expected = sorted(model.predict(images, verbose=0), key=lambda one: -one.shape[1])
    for name, values in zip((first, second), expected, strict=True):
        objective = Objective.neuron(model, name, 1)
        assert objective.names == [f"Neuron#{name.replace(chr(39), '')}_1"]
        np.testing.assert_allclose(objective.score(images), values[:, 1], rtol=1e-4, atol=1e-6)


def test_a_tensor_of_a_later_call_has_an_index_too():
    several = Several(lambda a, b: (a, b), name="several")
    image = keras.Input((2, 3, 1))
    first, _ = several(layers.Reshape((2, 3))(image))
    model = fill(keras.Model(image, several(first)))
    images = random_images(3, 2, 3, 1)
    expected = model.predict(images, verbose=0)[1].mean(1)[:, 1]
    objective = Objective.channel(model, "several:1[1]", 1)
    assert objective.names == ["Channel#several:1[1]_1"]
    np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


def test_a_nested_model_loses_the_sigmoid_of_the_output_that_is_meant():
    flat = keras.Input((16,))
    first = ops.sigmoid(layers.Dense(2, name="a")(flat))
    second = layers.Dense(2, activation="sigmoid", name="b")(flat)
    image = keras.Input((4, 4, 1))
    inner = keras.Model(flat, {"one": first, "two": second, "raw": flat}, name="inner")
    model = fill(keras.Model(image, inner(layers.Flatten()(image))))
    images = random_images(3, 4, 4, 1)
    expected = model.predict(images, verbose=0)
    for key in ("one", "two"):
        scores = Objective.neuron(model, f"inner[{key}]", 1).score(images)
        logits = np.log(expected[key] / (1 - expected[key]))[:, 1]
        np.testing.assert_allclose(scores, logits, rtol=1e-3, atol=1e-4)
    raw = Objective.neuron(model, "inner[raw]", 5).score(images)
    np.testing.assert_allclose(raw, images.reshape(3, -1)[:, 5], rtol=1e-6)


def test_the_states_of_a_recurrent_layer_are_read():
    signal = keras.Input((6, 4))
    model = fill(keras.Model(signal, layers.LSTM(3, return_state=True, name="lstm")(signal)))
    signals = random_images(2, 6, 4)
    expected = model.predict(signals, verbose=0)[2][:, 1]
    scores = Objective.neuron(model, "lstm[2]", 1).score(signals)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_a_layers_own_name_with_brackets_wins():
    # TensorFlow calls no layer of such a name.
    model = keras.Sequential([layers.ReLU(name="relu"), layers.ReLU(name="relu[0]")])
    assert split_index(model, "relu[0]") == ("relu[0]", ())
    assert split_index(model, "relu[1]") == ("relu", ("1",))


@pytest.mark.parametrize(
    ("name", "returns"),
    [("several", "a tuple"), ("several[2]", "a tuple"), ("several[a]", "a tuple")],
)
def test_what_returns_no_single_tensor_lists_outputs_and_layers_inside(name, returns):
    image = keras.Input((4, 4, 1))
    several = Several(lambda a, b: (a, b), name="several")
    model = keras.Model(image, several(layers.Flatten()(image)))
    with pytest.raises(ValueError, match="Invalid value for argument `layer`") as refusal:
        Objective.neuron(model, name, 0)
    for part in (returns, "'several[0]', 'several[1]'", "'several/first'", f"layer={name!r}"):
        assert part in str(refusal.value)


def test_one_tensor_has_no_index(small_model):
    with pytest.raises(ValueError, match=r"returns one tensor. Expected .*\['conv1'\]"):
        Objective.channel(small_model, "conv1[0]", 0)


def test_an_index_has_no_activation_of_its_own():
    signal = keras.Input((6, 4))
    model = keras.Model(signal, layers.LSTM(3, return_state=True, name="lstm")(signal))
    with pytest.raises(ValueError, match=r"`pre_activation`.*layer='lstm\[0\]'"):
        Objective.neuron(model, "lstm[0]", 0, pre_activation=True)


def test_every_tensor_of_a_call_is_among_the_calls():
    image = keras.Input((4, 4, 1))
    several = Several(lambda a, b: {"b": b, "a": a}, name="several")
    model = keras.Model(image, several(layers.Flatten()(image)))
    calls = layer_calls(model, spec(4, 4, 1))
    assert {c.name: c.shape for c in calls if c.layer is several} == {
        "several[a]": (3,),
        "several[b]": (2,),
    }


def test_default_objectives_are_of_each_tensor_that_is_returned():
    image = keras.Input((4, 4, 1))
    maps = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    model = keras.Model(image, Several(lambda a, b: (a, b), name="several")(maps))
    assert [o.names[0] for o in default_objectives(model)] == [
        "Channel#conv_0",
        "Neuron#several[0]_0",
        "Neuron#several[1]_0",
    ]


class Broken(layers.Layer):
    """Fails, once it is told to."""

    fails = False

    def call(self, inputs):
        if self.fails:
            raise TypeError("no such\nroad")
        return inputs


@pytest.mark.parametrize(
    "read", [default_objectives, lambda model: Objective.channel(model, "last", 0)]
)
def test_a_model_that_fails_is_named_with_the_reason(read):
    broken = Broken(name="broken")
    model = sequential(layers.Conv2D(2, 3), broken, layers.ReLU(name="last"))
    broken.fails = True
    reason = f"the model '{model.name}' fails .*TypeError: no such road\\. If it needs values"
    with pytest.raises(ValueError, match=reason):
        read(model)


def test_a_layer_of_values_of_a_subclassed_model_is_read():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.several = Several(lambda a, b: {"a": a, "b": b}, name="several")

        def call(self, inputs):
            return self.several(ops.reshape(inputs, (-1, 16)))

    model = Net()
    images = random_images(3, 4, 4, 1)
    model(images)
    fill(model)
    expected = to_numpy(model(images)["b"])[:, 1]
    scores = Objective.neuron(model, "several[b]", 1).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
