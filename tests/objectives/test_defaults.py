"""Which units are watched if nobody names any."""

import keras
import pytest
from keras import layers

from featviz_callback.objectives import NothingToShow, default_objectives, every_channel
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
        *[f"Channel#conv{c}_{i}" for c in (2, 4, 6) for i in (0, 1, 3, 4)],
        *[f"Neuron#logits_{i}" for i in range(16)],
    ]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, [0]),
        (3, [0, 1, 2]),
        (4, [0, 1, 2, 3]),
        (5, [0, 1, 3, 4]),
        (8, [1, 3, 5, 7]),
        (10, [1, 3, 6, 8]),
        (100, [12, 37, 62, 87]),
        (512, [64, 192, 320, 448]),
    ],
)
def test_the_channels_are_the_middles_of_four_equal_parts_of_a_layer(size, expected):
    model = sequential(layers.Conv2D(size, 1, name="conv"), shape=(2, 2, 1))
    [objective] = default_objectives(model)
    assert objective.names == [f"Channel#conv_{i}" for i in expected]


def test_the_same_channels_are_taken_whatever_the_weights():
    def names(seed):
        keras.utils.set_random_seed(seed)
        model = sequential(layers.Conv2D(30, 3, name="conv"), shape=(8, 8, 1))
        return [objective.names for objective in default_objectives(model)]

    assert names(0) == names(1) == [[f"Channel#conv_{i}" for i in (3, 11, 18, 26)]]


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


def test_default_objectives_receive_the_first_of_several_signals():
    chosen = default_objectives(two_branches(image=False))
    assert named(chosen) == ["of_both", "of_image", "see"]


def test_default_objectives_need_something_to_watch():
    with pytest.raises(ValueError, match="Nothing to watch"):
        default_objectives(sequential(layers.MaxPooling2D(2), shape=(4, 4, 1)))


# --- heads that end in plain operations -------------------------------------------------


def head_names(end, shape=(4, 4, 1)):
    """The layers of a functional model of two dense layers, of 3 and 2 units, and an end."""
    image = keras.Input(shape)
    flat = layers.Flatten()(image)
    a, b = layers.Dense(3, name="a")(flat), layers.Dense(2, name="b")(flat)
    return named(default_objectives(keras.Model(image, end(a, b))))


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda a, b: keras.ops.reshape(keras.ops.softmax(a), (-1, 3, 1)), ["a"]),
        (lambda a, b: a[:, :2] + b, ["a", "b"]),
        (lambda a, b: keras.ops.concatenate([a, keras.ops.sigmoid(b)], axis=-1), ["a", "b"]),
        (lambda a, b: [a[:, :1], a[:, 1:], 2 * b - 1], ["a", "b"]),
        (lambda a, b: {"x": keras.ops.cast(a, "float16"), "y": b}, ["a", "b"]),
    ],
    ids=["reshaped", "added", "joined", "cut", "dict"],
)
def test_default_objectives_are_of_all_that_operations_at_the_end_receive(end, expected):
    assert head_names(end) == expected


def test_default_objectives_are_of_what_a_nested_model_of_operations_receives():
    first, second = keras.Input((3,)), keras.Input((2,))
    inner = keras.Model([first, second], [keras.ops.softmax(first), keras.ops.sigmoid(second)])
    assert head_names(lambda a, b: inner([a, b])) == ["a", "b"]


class Returns(keras.Model):
    """A subclassed model of two heads, which ends in what it is told."""

    def __init__(self, end):
        super().__init__()
        self.end = end
        self.flat = layers.Flatten(name="flat")
        self.a, self.b = layers.Dense(3, name="a"), layers.Dense(2, name="b")

    def call(self, inputs):
        flat = self.flat(inputs)
        return self.end(self.a(flat), self.b(flat))


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda a, b: (a, b), ["a", "b"]),
        (lambda a, b: {"y": a, "x": keras.ops.sigmoid(b)}, ["a", "b"]),
        (lambda a, b: a, ["a"]),
        (lambda a, b: keras.ops.softmax(b), ["b"]),
        (lambda a, b: keras.ops.sum(a, axis=1, keepdims=True) * b[:, :1], ["b"]),
    ],
    ids=["both", "one by an operation", "the first", "the last", "unknown"],
)
def test_default_objectives_are_of_what_a_subclassed_model_returns(end, expected):
    model = Returns(end)
    model(keras.ops.zeros((1, 4, 4, 1)))
    # What is no head is a hidden layer, and comes before.
    heads = [o.names[0].removeprefix("Neuron#")[0] for o in default_objectives(model)]
    assert heads[-len(expected) :] == expected


# --- features beyond convolutions -------------------------------------------------------


def channels(model):
    """The layers of which channels are watched, in order."""
    names = [o.names for o in default_objectives(model) if o.names[0].startswith("Channel#")]
    assert all(len(one) <= 4 for one in names)
    return [one[0].removeprefix("Channel#").rsplit("_", 1)[0] for one in names]


def attended(tokens, i):
    attention = layers.MultiHeadAttention(2, 8, name=f"attention{i}")
    return tokens + attention(tokens, tokens)


def block(tokens, i, activation="gelu"):
    """A block of a vision transformer."""
    tokens = layers.LayerNormalization()(tokens)
    tokens = tokens if i else attended(tokens, i)
    hidden = layers.Dense(12, activation=activation, name=f"hidden{i}")(tokens)
    return tokens + layers.Dense(6, name=f"back{i}")(hidden)


def transformer(blocks, embed=None, block=block):
    image = keras.Input((8, 8, 1))
    embed = embed or layers.Conv2D(6, 4, 4, name="patches")
    tokens = layers.Reshape((-1, 6))(embed(image))
    for i in range(blocks):
        tokens = block(tokens, i)
    pooled = layers.GlobalAveragePooling1D()(tokens)
    return keras.Model(image, layers.Dense(3, name="out")(pooled))


def test_of_a_vision_transformer_the_hidden_layers_of_its_mlps_are_watched():
    model = transformer(5)
    assert channels(model) == ["hidden0", "hidden1", "hidden3", "hidden4"]
    assert named(default_objectives(model))[-1] == "out"


def test_of_a_short_vision_transformer_the_patches_are_watched_too():
    assert channels(transformer(2)) == ["patches", "hidden0", "hidden1"]


def own_attention(tokens, i):
    """A block that widens for queries, keys and values at once, and has its GELU apart."""
    q, k, v = keras.ops.split(layers.Dense(18, name=f"qkv{i}")(tokens), 3, axis=-1)
    tokens = tokens + keras.ops.softmax(q @ keras.ops.transpose(k, (0, 2, 1))) @ v
    hidden = layers.Activation("gelu")(layers.Dense(24, name=f"hidden{i}")(tokens))
    return tokens + layers.Dense(6, name=f"back{i}")(hidden)


def test_queries_keys_and_values_are_not_taken_for_an_mlp():
    assert channels(transformer(4, block=own_attention)) == [f"hidden{i}" for i in range(4)]


def mixer(tokens, i):
    turned = layers.Permute((2, 1))(tokens)
    turned = layers.Dense(8, activation="gelu", name=f"mix{i}")(turned)
    tokens = tokens + layers.Permute((2, 1))(layers.Dense(4)(turned))
    hidden = layers.Dense(12, activation="gelu", name=f"hidden{i}")(tokens)
    return tokens + layers.Dense(6)(hidden)


def test_of_a_token_mixer_both_mlps_are_watched():
    assert channels(transformer(2, block=mixer)) == ["mix0", "hidden0", "mix1", "hidden1"]


def test_of_a_hybrid_convolutions_and_tokens_are_watched_in_the_order_of_depth():
    stem = keras.Sequential([layers.Conv2D(6, 3, 2, name="conv0"), layers.Conv2D(6, 2, name="c1")])
    stem.name = "stem"
    assert channels(transformer(3, stem)) == ["stem/conv0", "stem/c1", "hidden1", "hidden2"]


def test_of_a_network_with_convolutions_no_gate_is_watched():
    image = keras.Input((8, 8, 1))
    maps = layers.Conv2D(4, 3, name="conv0")(image)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(maps)
    gate = layers.Dense(8, activation="relu", name="squeeze")(gate)
    maps = maps * layers.Dense(4, activation="sigmoid", name="excite")(gate)
    maps = layers.Conv2D(4, 3, name="conv1")(maps)
    model = keras.Model(image, layers.Dense(2, name="out")(layers.Flatten()(maps)))
    assert channels(model) == ["conv0", "conv1"]


def test_of_a_plain_mlp_hidden_units_are_watched():
    hidden = [layers.Dense(3 if i else 8, "relu", name=f"hidden{i}") for i in range(5)]
    ends = [layers.Dense(3, name="logits"), layers.Softmax(name="shares")]
    model = sequential(layers.Flatten(), *hidden, *ends, shape=(4, 4, 1))
    assert [o.names for o in default_objectives(model)] == [
        [f"Neuron#hidden0_{i}" for i in (1, 3, 5, 7)],
        *[[f"Neuron#hidden{k}_{i}" for i in range(3)] for k in (1, 3, 4)],
        [f"Neuron#shares_{i}" for i in range(3)],
    ]


def test_depthwise_convolutions_are_watched_where_there_is_nothing_else():
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")
    model = sequential(depthwise, layers.Flatten(), layers.Dense(2), shape=(8, 8, 2))
    assert channels(model) == ["depthwise"]


class Involution(layers.Layer):
    """A layer of maps that owns its kernel."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 5), name="kernel")

    def call(self, inputs):
        return inputs @ self.kernel


class Places(layers.Layer):
    """Adds a value to each place of a map, which is no kernel."""

    def build(self, shape):
        self.values = self.add_weight(shape=(1, *shape[1:]), name="values")

    def call(self, inputs):
        return inputs + self.values


def test_layers_of_maps_with_a_kernel_are_watched_where_there_is_no_convolution():
    einsum = layers.EinsumDense("abcd,de->abce", (8, 8, 5), name="einsum")
    inner = [Places(name="places"), Involution(name="involution"), einsum]
    model = sequential(*inner, layers.Flatten(), layers.Dense(2, name="out"), shape=(8, 8, 2))
    assert channels(model) == ["involution", "einsum"]
    with_convolution = sequential(layers.Conv2D(2, 1, name="conv"), *inner[:2], shape=(8, 8, 2))
    assert channels(with_convolution) == ["conv"]


def test_default_objectives_are_32_at_most():
    image = keras.Input((8, 8, 1))
    hidden = layers.Dense(8, "relu")(layers.Dense(8, "relu")(image))
    hidden = layers.Dense(8, "relu")(layers.Dense(8, "relu")(hidden))
    model = keras.Model(image, layers.Dense(40)(layers.Flatten()(hidden)))
    assert sum(len(o) for o in default_objectives(model)) == 32


def test_every_channel_is_of_all_convolutions_that_receive_the_image():
    image, other = keras.Input((8, 8, 3), name="image"), keras.Input((8, 8, 2), name="other")
    found = layers.Conv2D(4, 3, name="first")(image)
    found = layers.DepthwiseConv2D(3, depth_multiplier=2, name="deep")(found)
    inner = [keras.Input((4, 4, 8)), layers.SeparableConv2D(5, 3, name="sep")]
    nested = keras.Sequential(inner, name="block")
    found = layers.Flatten()(layers.Conv2DTranspose(2, 3, name="back")(nested(found)))
    found = layers.Concatenate()([found, layers.Flatten()(layers.Conv2D(7, 3)(other))])
    model = keras.Model([image, other], layers.Dense(3)(found))
    counts = {one.names[0].rpartition("_")[0]: len(one) for one in every_channel(model)}
    assert counts == {
        "Channel#first": 4,
        "Channel#deep": 8,
        "Channel#block/sep": 5,
        "Channel#back": 2,
    }


def test_every_channel_of_a_model_without_a_convolution_is_refused():
    with pytest.raises(NothingToShow, match="no convolution receives the image"):
        every_channel(sequential(layers.Flatten(), layers.Dense(3)))


@pytest.mark.parametrize("is_apart", [False, True])
def test_gates_of_squeeze_and_excitation_are_no_features(is_apart):
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, name="conv")(inputs)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(4, 1, activation="relu", name="squeeze")(squeezed)
    # As in MobileNetV3, or as in EfficientNet.
    gates = layers.Conv2D(8, 1, activation=None if is_apart else "sigmoid", name="gates")(squeezed)
    gates = layers.Activation("hard_sigmoid")(gates) if is_apart else gates
    last = layers.Conv2D(2, 3, activation="sigmoid", name="last")(x * gates)
    model = keras.Model(inputs, last)
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert {name.partition("#")[2][:-2] for name in names} == {"conv", "last"}


def test_a_convolution_behind_all_maps_is_a_feature():
    maps = [layers.Conv2D(8, 3, name="conv"), layers.GlobalAveragePooling2D(keepdims=True)]
    wide = layers.Conv2D(16, 1, activation="relu", name="wide")
    # As in MobileNetV3: its logits are the model's outputs already.
    logits = [layers.Conv2D(5, 1, name="logits"), layers.Flatten(), layers.Softmax(name="end")]
    model = sequential(*maps, wide, *logits)
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert {name.partition("#")[2].rpartition("_")[0] for name in names} == {"conv", "wide", "end"}


@pytest.mark.parametrize(
    ("inside", "shown"),
    [
        (lambda: [layers.LSTM(6, return_sequences=True, name="one"), layers.GRU(5, name="two")],
         ["one", "two"]),
        (lambda: [layers.Bidirectional(layers.LSTM(3), name="both"),
                  layers.Dense(7, activation="relu", name="hidden")],
         ["both", "hidden"]),
    ],
)  # fmt: skip
def test_a_recurrent_network_shows_its_hidden_layers(inside, shown):
    model = keras.Sequential([keras.Input((9, 4)), *inside(), layers.Dense(2, name="score")])
    names = [one.names[0].partition("#")[2][:-2] for one in default_objectives(model)]
    assert names == [*shown, "score"]
