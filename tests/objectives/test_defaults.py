"""Which units are watched if nobody names any."""

import keras
import pytest
from keras import layers

from featviz_callback.objectives import default_objectives
from tests.conftest import sequential


def test_default_objectives_are_output_units_and_spread_out_channels():
    model = sequential(
        *[layers.Conv2D(5 if i else 2, 1, name=f"conv{i}") for i in range(7)],
        layers.GlobalAveragePooling2D(),
        layers.Dense(20, name="logits"),
        shape=(4, 4, 1),
    )
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert names == [
        *[f"Channel#conv0_{i}" for i in range(2)],
        *[f"Channel#conv{c}_{i}" for c in (2, 4, 6) for i in range(4)],
        *[f"Neuron#logits_{i}" for i in range(16)],
    ]


def test_default_objectives_share_the_units_among_the_outputs():
    inputs = keras.Input((4, 4, 1))
    flat = layers.Flatten()(inputs)
    heads = [layers.Dense(20, name=name)(flat) for name in ("a", "b", "c")]
    model = keras.Model(inputs, [heads[2], heads[0], layers.Reshape((4, 5))(heads[1])])
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert names == [f"Neuron#{name}_{i}" for name in "ac" for i in range(8)]


def test_default_objectives_are_of_sixteen_outputs_at_most():
    inputs = keras.Input((4, 4, 1))
    flat = layers.Flatten()(inputs)
    model = keras.Model(inputs, [layers.Dense(1, name=f"head{i}")(flat) for i in range(20)])
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert len(names) == 16
    assert {names[0], names[-1]} == {"Neuron#head0_0", "Neuron#head19_0"}


def test_default_objectives_of_signals_are_their_convolutions():
    model = sequential(layers.Conv1D(2, 3, name="conv"), shape=(8, 3))
    assert [o.names for o in default_objectives(model)] == [["Channel#conv_0", "Channel#conv_1"]]


def test_default_objectives_know_layers_derived_from_those_of_keras():
    class OwnConv(layers.Conv2D):
        """A user's convolution, of another name."""

    class OwnSoftmax(layers.Softmax):
        """A user's softmax, of another name."""

    model = sequential(
        OwnConv(2, 3, name="conv"),
        layers.Flatten(),
        layers.Dense(2),
        OwnSoftmax(name="probabilities"),
        shape=(4, 4, 1),
    )
    assert [o.names for o in default_objectives(model)] == [
        ["Channel#conv_0", "Channel#conv_1"],
        ["Neuron#probabilities_0", "Neuron#probabilities_1"],
    ]


def test_default_objectives_have_their_channels_last():
    model = sequential(
        layers.Conv2D(2, 3, data_format="channels_first", name="conv"), shape=(3, 9, 9)
    )
    assert [o.names for o in default_objectives(model)] == [["Channel#conv_0", "Channel#conv_1"]]


def named(objectives):
    """The layers whose units are watched."""
    return sorted({o.names[0].split("#")[1].rsplit("_", 1)[0] for o in objectives})


@pytest.mark.parametrize("operation", [keras.ops.softmax, keras.ops.sigmoid, keras.ops.exp])
def test_default_objectives_are_of_each_head_whatever_it_ends_in(operation):
    inputs = keras.Input((4, 4, 1))
    flat = layers.Flatten()(inputs)
    classes, box = layers.Dense(3, name="classes")(flat), layers.Dense(2, name="box")(flat)
    assert named(default_objectives(keras.Model(inputs, [operation(classes), box]))) == [
        "box",
        "classes",
    ]


def test_default_objectives_are_of_the_heads_of_a_nested_model():
    flat = keras.Input((16,))
    heads = [layers.Dense(2, name="a")(flat), keras.ops.sigmoid(layers.Dense(2, name="b")(flat))]
    inputs = keras.Input((4, 4, 1))
    outputs = keras.Model(flat, heads, name="heads")(layers.Flatten()(inputs))
    assert named(default_objectives(keras.Model(inputs, outputs))) == ["heads/a", "heads/b"]


def two_branches(*, image=True):
    shape = (8, 8, 1) if image else (9, 1)
    convolution = layers.Conv2D if image else layers.Conv1D
    first, sensor = keras.Input(shape, name="first"), keras.Input((8, 2), name="sensor")
    sees = layers.Flatten()(convolution(2, 3, name="see")(first))
    hears = layers.Flatten()(layers.Conv1D(2, 3, name="hear")(sensor))
    heads = [
        layers.Dense(2, name="of_image")(sees),
        layers.Dense(2, name="of_sensor")(hears),
        layers.Dense(2, name="of_both")(layers.Concatenate()([sees, hears])),
    ]
    return keras.Model([first, sensor], heads)


def test_default_objectives_receive_the_image():
    assert named(default_objectives(two_branches())) == ["of_both", "of_image", "see"]


def test_default_objectives_receive_the_input_that_is_not_fixed():
    chosen = default_objectives(two_branches(), {"first": 0.5})
    assert named(chosen) == ["hear", "of_both", "of_sensor"]


def test_default_objectives_receive_any_of_several_signals():
    chosen = default_objectives(two_branches(image=False))
    assert named(chosen) == ["hear", "of_both", "of_image", "of_sensor", "see"]


def test_default_objectives_need_something_to_watch():
    with pytest.raises(ValueError, match="Nothing to watch"):
        default_objectives(sequential(layers.MaxPooling2D(2), shape=(4, 4, 1)))
