"""Which units are meant by layers, ids and vectors, and what is refused."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from tests.conftest import (
    IMAGE_SHAPE,
    fill,
    layer_output,
    random_images,
    sequential,
    to_numpy,
)

# --- ids and vectors ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (3, [3]),
        ([3, 1], [3, 1]),
        ((3, 1), [3, 1]),
        (range(2, 5), [2, 3, 4]),
        (np.array([4, 0]), [4, 0]),
        (np.int64(7), [7]),
        (np.array(7), [7]),
        (np.array([1, 2], "uint8"), [1, 2]),
        (-1, [9]),
        ([-10, -1], [0, 9]),
    ],
)
def test_ids_come_in_every_usual_form(ids, expected, small_model):
    objective = Objective.neuron(small_model, "logits", ids)
    assert objective.names == [f"Neuron#logits_{i}" for i in expected]
    assert objective.terms[0].data.tolist() == expected


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ((0, 3, 1), ["0_3_1"]),
        ([(0, 3, 1), (-1, -1, -1)], ["0_3_1", "9_7_3"]),
        (np.array([[0, 3, 1], [2, 0, 0]]), ["0_3_1", "2_0_0"]),
        (((0, 3, 1), (2, 0, 0), (9, 7, 3)), ["0_3_1", "2_0_0", "9_7_3"]),
        ([0, 3, 1], ["0", "3", "1"]),
        ((0, 3), ["0", "3"]),
    ],
)
def test_a_tuple_of_the_layers_rank_is_one_index(ids, expected, small_model):
    objective = Objective.neuron(small_model, "conv1", ids)
    assert objective.names == [f"Neuron#conv1_{label}" for label in expected]


@pytest.mark.parametrize(
    ("make", "ids", "bounds"),
    [
        (Objective.neuron, 10, "-10 to 9"),
        (Objective.neuron, [0, -11], "-10 to 9"),
        (Objective.channel, 10, "-10 to 9"),
    ],
)
def test_an_id_out_of_range_is_refused_with_the_range(make, ids, bounds, small_model):
    with pytest.raises(ValueError, match=bounds):
        make(small_model, "logits", ids)


@pytest.mark.parametrize("channel", [4, -5])
def test_a_channel_out_of_range_is_refused_with_the_range_of_channels(channel, small_model):
    with pytest.raises(ValueError, match="-4 to 3"):
        Objective.channel(small_model, "conv1", channel)


def test_an_index_out_of_range_is_refused_with_its_axis_range(small_model):
    with pytest.raises(ValueError, match="-8 to 7"):
        Objective.neuron(small_model, "conv1", (0, 8, 0))


@pytest.mark.parametrize("ids", [[(0, 1)], [(0, 1, 2), (0, 1, 2, 3)], [(0, 1, 2), 5]])
def test_an_index_has_a_number_for_each_axis(ids, small_model):
    with pytest.raises(ValueError, match="`neurons_ids`. Expected 3 numbers"):
        Objective.neuron(small_model, "conv1", ids)


@pytest.mark.parametrize("make", [Objective.neuron, Objective.channel])
@pytest.mark.parametrize(
    "ids",
    [[], (), np.array([], int), 1.0, [1.5], True, [True, False], [True, 2], "3", None, [None]],
)
def test_ids_are_whole_numbers_and_at_least_one(make, ids, small_model):
    with pytest.raises(ValueError, match="_ids"):
        make(small_model, "logits", ids)


@pytest.mark.parametrize(
    "vectors",
    [np.ones(3), np.zeros(4), [np.ones(4), np.zeros(4)], np.full(4, np.nan), np.ones((0, 4))],
)
def test_vectors_fit_the_layer_and_are_finite_and_not_zero(vectors, small_model):
    with pytest.raises(ValueError, match="vectors"):
        Objective.direction(small_model, "conv1", vectors)


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.ones(3), r"of shape \(3,\)"),
        (np.ones((0, 4)), r"of shape \(0, 4\)"),
        (np.zeros(4), "vector 0, which is zero"),
        ([np.ones(4), np.zeros(4)], "vector 1, which is zero"),
        ([np.ones(4), [0, 1, np.nan, 0]], "vector 1, which is not finite"),
        (np.full((10, 8, 4), np.inf), "vector 0, which is not finite"),
        ([np.ones(4), np.ones(3)], "no array of numbers .*inhomogeneous"),
        ({"a": 1}, "no array of numbers"),
        (None, r"of shape \(\)"),
    ],
)
def test_what_is_wrong_with_vectors_is_said(vectors, reason, small_model):
    with pytest.raises(ValueError, match=f"`vectors`.*Received: .*{reason}"):
        Objective.direction(small_model, "conv1", vectors)


@pytest.fixture
def tokens():
    """A model whose output is four positions of two channels."""
    return sequential(layers.Reshape((4, 2), name="tokens"), shape=(4, 2, 1))


@pytest.fixture
def shape_logs(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [r.getMessage() for r in caplog.records if "whole shape" in r.getMessage()]


FOUR = np.array([[1.0, 0], [0, 1], [1, 1], [1, -1]])


def test_vectors_that_may_be_the_whole_shape_are_and_it_is_said(tokens, shape_logs):
    objective = Objective.direction(tokens, "tokens", FOUR, cossim_pow=0)
    images = random_images(1, 4, 2, 1)
    expected = (images[0, ..., 0] * FOUR).sum(-1).mean()
    np.testing.assert_allclose(objective.score(images), [expected], rtol=1e-5)
    assert len(shape_logs()) == 1


@pytest.mark.parametrize("vectors", [FOUR[:3], FOUR[0], FOUR[None], np.stack([FOUR, -FOUR])])
def test_vectors_that_can_be_read_in_one_way_are_no_matter(
    vectors, tokens, small_model, shape_logs
):
    Objective.direction(tokens, "tokens", vectors)
    Objective.direction(small_model, "logits", np.ones(10))
    Objective.direction(small_model, "conv1", np.ones((10, 8, 4)))
    one_row = sequential(layers.Reshape((1, 8), name="row"), shape=(4, 2, 1))
    Objective.direction(one_row, "row", np.ones((1, 8)))
    assert not shape_logs()


def test_as_many_vectors_as_positions_are_several_where_each_is_repeated(tokens, shape_logs):
    repeated = np.repeat(FOUR[:, None], 4, axis=1)
    objective = Objective.direction(tokens, "tokens", repeated, cossim_pow=0)
    images = random_images(4, 4, 2, 1)
    expected = (images[..., 0] * FOUR[:, None]).sum(-1).mean(1)
    np.testing.assert_allclose(objective.score(images), expected, rtol=1e-5)
    assert not shape_logs()


def test_tokens_and_features_are_rows_and_channels():
    model = sequential(
        layers.Conv2D(5, 2, strides=2), layers.Reshape((4, 5), name="tokens"), shape=(4, 4, 1)
    )
    tokens = to_numpy(model(random_images(2, 4, 4, 1)))
    feature = Objective.channel(model, "tokens", 3).score(random_images(2, 4, 4, 1))
    np.testing.assert_allclose(feature, tokens[:, :, 3].mean(1), rtol=1e-5)
    neuron = Objective.neuron(model, "tokens", (1, 3)).score(random_images(2, 4, 4, 1))
    np.testing.assert_allclose(neuron, tokens[:, 1, 3], rtol=1e-5)


def test_ids_of_a_layer_with_channels_first_have_them_last():
    model = sequential(
        layers.Conv2D(2, 3, data_format="channels_first", name="conv"), shape=(3, 6, 5)
    )
    images = random_images(2, 6, 5, 3)
    output = to_numpy(model(np.moveaxis(images, -1, 1)))
    for objective, expected in (
        (Objective.channel(model, "conv", 1), output[:, 1].mean((1, 2))),
        (Objective.neuron(model, "conv", (3, 0, 1)), output[:, 1, 3, 0]),
        (Objective.direction(model, "conv", [0, 1], cossim_pow=0), output[:, 1].mean((1, 2))),
    ):
        np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


# --- layers -------------------------------------------------------------------------


@pytest.fixture
def nested_model():
    """A convolution two models deep."""
    block = keras.Sequential([layers.Conv2D(3, 3, name="deep")], name="block")
    backbone = keras.Sequential([keras.Input((8, 8, 1)), block], name="backbone")
    return sequential(backbone, layers.Flatten(), layers.Dense(2, name="top"), shape=(8, 8, 1))


def test_a_layer_is_named_indexed_or_given(small_model, images):
    ways = ["logits", -1, 3, small_model.get_layer("logits")]
    objectives = [Objective.neuron(small_model, way, 5) for way in ways]
    expected = layer_output(small_model, "logits", images)[:, 5]
    for objective in objectives:
        assert objective.names == ["Neuron#logits_5"]
        np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


def test_a_path_leads_into_nested_models(nested_model):
    deep = nested_model.get_layer("backbone").get_layer("block").get_layer("deep")
    eights = random_images(2, 8, 8, 1)
    expected = to_numpy(deep(eights))[..., 1].mean((1, 2))
    for way in ("backbone/block/deep", deep):
        objective = Objective.channel(nested_model, way, 1)
        assert objective.names == ["Channel#backbone/block/deep_1"]
        np.testing.assert_allclose(objective.score(eights), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "hint"),
    [("conv3", "conv2"), ("logit", "logits"), ("Conv1", "conv1"), ("zzz", "conv1")],
)
def test_an_unknown_name_is_refused_with_names_like_it(given, hint, small_model):
    with pytest.raises(ValueError, match=hint):
        Objective.channel(small_model, given, 0)


def test_a_nested_layer_without_its_path_is_hinted_at(nested_model):
    with pytest.raises(ValueError, match=r"Near it are \['backbone/block/deep'\]"):
        Objective.channel(nested_model, "deep", 0)


@pytest.mark.parametrize("layer", [4, -5, 1.0, None, True, layers.Dense(2)])
def test_what_is_not_a_layer_of_the_model_is_refused(layer, small_model):
    with pytest.raises(ValueError, match="`layer`"):
        Objective.layer(small_model, layer)


@pytest.mark.parametrize("model", [None, "model", layers.Dense(2)])
def test_what_is_not_a_model_is_refused(model):
    with pytest.raises(ValueError, match="keras.Model"):
        Objective.layer(model, 0)


def test_an_unbuilt_model_is_refused():
    with pytest.raises(ValueError, match="not built"):
        Objective.layer(keras.Sequential([layers.Conv2D(2, 3)]), 0)


class Subclassed(keras.Model):
    """No graph of layers: only a call."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(3, 3, name="conv")
        self.top = layers.Dense(2, name="top")

    def call(self, x):
        return self.top(keras.ops.mean(self.conv(x), axis=(1, 2)))


def test_a_subclassed_model_is_read_as_it_is_called():
    model = Subclassed()
    eights = random_images(2, 8, 8, 1)
    model(eights)
    fill(model)
    np.testing.assert_allclose(
        Objective.channel(model, "conv", 2).score(eights),
        to_numpy(model.conv(eights))[..., 2].mean((1, 2)),
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(
        Objective.neuron(model, "top", 1).score(eights), to_numpy(model(eights))[:, 1], rtol=1e-4
    )


def test_the_call_of_a_shared_layer_is_part_of_the_name():
    inputs = keras.Input((8, 8, 1))
    shared = layers.Conv2D(1, 3, name="shared")
    model = keras.Model(inputs, shared(shared(inputs)))
    both = Objective.channel(model, "shared", 0) + Objective.channel(model, "shared:1", 0)
    assert both.names == ["Channel#shared_0 & Channel#shared:1_0"]
    images = random_images(2, 8, 8, 1)
    first = to_numpy(shared(images))
    expected = first.mean((1, 2, 3)) + to_numpy(shared(first)).mean((1, 2, 3))
    np.testing.assert_allclose(both.score(images), expected, rtol=1e-5, atol=1e-6)


class Twins(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Conv2D(2, 3, name="twin") for _ in range(2)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


def twins():
    model = Twins()
    model(random_images(1, *IMAGE_SHAPE))
    return fill(model)


def test_a_name_of_two_layers_is_refused_with_what_tells_them_apart():
    message = r"2 layers of the name 'twin': name one of \['blocks\[0\]', 'blocks\[1\]'\]"
    with pytest.raises(ValueError, match=message):
        Objective.channel(twins(), "twin", 0)


@pytest.mark.parametrize("way", ["blocks[1]", lambda m: m.blocks[1], -1])
def test_one_of_two_layers_of_one_name_is_read(way, images):
    model = twins()
    objective = Objective.channel(model, way(model) if callable(way) else way, 0)
    assert objective.names == ["Channel#blocks[1]_0"]
    expected = to_numpy(model(images))[..., 0].mean((1, 2))
    np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


# --- before the activation ----------------------------------------------------------


@pytest.fixture
def removal_logs(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [r.getMessage() for r in caplog.records if "is removed" in r.getMessage()]


@pytest.mark.parametrize(
    "top",
    [
        lambda: [layers.Dense(4, activation="softmax", name="probabilities")],
        lambda: [layers.Dense(4), layers.Softmax(name="probabilities")],
        lambda: [layers.Dense(4), layers.Activation("softmax", name="probabilities")],
    ],
)
def test_a_softmax_is_taken_off_and_said_once(top, removal_logs):
    model = sequential(layers.Flatten(), *top(), shape=(4, 4, 1))
    fours = random_images(3, 4, 4, 1)
    kernel, bias = model.get_weights()
    logits = fours.reshape(3, -1) @ kernel + bias
    objective = Objective.neuron(model, "probabilities", 2)
    Objective.neuron(model, "probabilities", 1)
    assert len(removal_logs()) == 1
    np.testing.assert_allclose(objective.score(fours), logits[:, 2], rtol=1e-4, atol=1e-6)

    kept = Objective.neuron(model, "probabilities", 2, pre_activation=False)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(kept.score(fours), shares[:, 2], rtol=1e-4)


@pytest.mark.parametrize(
    "head",
    [
        [layers.Dense(3, activation=keras.ops.softmax, name="out")],
        [layers.Dense(3, activation=layers.Softmax(), name="out")],
        [keras.Sequential([layers.Dense(3, activation="softmax", name="inner")], name="out")],
    ],
    ids=["function", "layer", "nested"],
)
def test_a_softmax_is_seen_in_whatever_form(head):
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), *head])
    images = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype("float32")
    dense = head[0].layers[0] if isinstance(head[0], keras.Model) else head[0]
    kernel, bias = (np.asarray(w) for w in dense.get_weights())
    expected = (images.reshape(5, -1) @ kernel + bias)[:, 1]
    scores = Objective.neuron(model, "out", 1).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_pre_activation_reads_what_a_relu_receives(removal_logs):
    model = sequential(layers.Conv2D(2, 1, activation="relu", name="conv"), shape=(4, 4, 1))
    kernel, bias = model.get_weights()
    model.set_weights([kernel, bias - 5])
    fours = random_images(3, 4, 4, 1)
    linear = (fours @ kernel[0] + bias - 5).mean((1, 2))
    before = Objective.channel(model, "conv", 1, pre_activation=True)
    np.testing.assert_allclose(before.score(fours), linear[:, 1], rtol=1e-4)
    assert not Objective.channel(model, "conv", 1).score(fours).any()
    assert not removal_logs()


class OwnSoftmax(layers.Softmax):
    """A user's softmax, of another name."""


class OwnReLU(layers.ReLU):
    """A user's ReLU, of another name."""


def test_a_layer_derived_from_softmax_is_taken_off_too(removal_logs):
    model = sequential(
        layers.Flatten(), layers.Dense(4), OwnSoftmax(name="probabilities"), shape=(4, 4, 1)
    )
    fours = random_images(3, 4, 4, 1)
    kernel, bias = model.get_weights()
    logits = fours.reshape(3, -1) @ kernel + bias
    scores = Objective.neuron(model, "probabilities", 2).score(fours)
    np.testing.assert_allclose(scores, logits[:, 2], rtol=1e-4, atol=1e-6)
    assert len(removal_logs()) == 1


def test_pre_activation_reads_what_a_layer_derived_from_relu_receives():
    model = sequential(OwnReLU(name="relu"), shape=(4, 4, 1))
    negative = -np.abs(random_images(3, 4, 4, 1))
    before = Objective.channel(model, "relu", 0, pre_activation=True)
    np.testing.assert_allclose(before.score(negative), negative.mean((1, 2, 3)), rtol=1e-5)


def test_pre_activation_needs_an_activation(small_model):
    with pytest.raises(ValueError, match="without one"):
        Objective.layer(small_model, "flatten", pre_activation=True)


# --- a sigmoid at the target -----------------------------------------------------------


def classifier(*head, shape=(4, 4, 1)):
    return sequential(layers.Flatten(name="flat"), *head, shape=shape)


def functional(*heads):
    """A model of images of 4 x 4 pixels, with functions of the flat pixels for its outputs."""
    inputs = keras.Input((4, 4, 1))
    flat = layers.Flatten()(inputs)
    return fill(keras.Model(inputs, [head(flat) for head in heads]))


def nested(head):
    """A model of flat pixels, which ends in a function of them."""
    flat = keras.Input((16,))
    return keras.Model(flat, head(flat), name="out")


def logits_of(model, images, output=None):
    """The logits that the probabilities predicted by Keras imply."""
    shares = model.predict(images, verbose=0)
    shares = np.asarray(shares if output is None else shares[output], "float64")
    return np.log(shares / (1 - shares))


class Head(layers.Layer):
    """A user's own layer, which ends in a sigmoid."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dense = layers.Dense(16)
        self.activation = keras.activations.sigmoid

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, inputs):
        return self.activation(self.dense(inputs))


class Gate(Head):
    """A user's own layer, which multiplies by a sigmoid."""

    def call(self, inputs):
        return inputs * super().call(inputs)


class Around(layers.Layer):
    """A user's own layer, which returns what a layer inside returns."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.inner = Head(name="inner")

    def build(self, shape):
        self.inner.build(shape)
        self.built = True

    def call(self, inputs):
        return self.inner(inputs)


def own_sigmoid(x):
    return 1 / (1 + keras.ops.exp(-x))


own_sigmoid.__name__ = "sigmoid"


def test_a_function_that_is_only_named_sigmoid_stays():
    def sigmoid(x):
        return keras.ops.sigmoid(-x)

    model = classifier(layers.Dense(3, activation=sigmoid, name="out"))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, "out", 1).score(images)
    np.testing.assert_allclose(scores, model.predict(images, verbose=0)[:, 1], rtol=1e-4)


@pytest.mark.parametrize(
    "head",
    [
        lambda: [layers.Dense(3, activation="sigmoid", name="out")],
        lambda: [layers.Dense(3), layers.Activation("sigmoid", name="out")],
        lambda: [layers.Dense(3), layers.Activation(keras.activations.sigmoid, name="out")],
        lambda: [layers.Dense(3, activation=keras.ops.sigmoid, name="out")],
        lambda: [layers.Dense(3, activation=own_sigmoid, name="out")],
        lambda: [layers.Dense(3, activation=layers.Activation("sigmoid"), name="out")],
        lambda: [keras.Sequential([layers.Dense(3, activation="sigmoid")], name="out")],
        lambda: [nested(lambda x: layers.Dense(3, activation="sigmoid")(x))],
        lambda: [nested(lambda x: keras.ops.sigmoid(layers.Dense(3)(x)))],
        lambda: [nested(lambda x: layers.Dropout(0.5)(layers.Dense(3, activation="sigmoid")(x)))],
        lambda: [Head(name="out")],
        lambda: [Around(name="out")],
    ],
    ids=[
        *("activation", "layer", "layer of a function", "operation", "named function"),
        *("layer as activation", "nested", "nested graph", "nested operation", "dropped out"),
        *("own layer", "inside an own layer"),
    ],
)
def test_a_sigmoid_is_removed_in_whatever_form(head, removal_logs):
    model = classifier(*head())
    images = random_images(5, 4, 4, 1)
    logits = logits_of(model, images)
    for unit in (0, 2):
        scores = Objective.neuron(model, "out", unit).score(images)
        np.testing.assert_allclose(scores, logits[:, unit], rtol=1e-3, atol=1e-4)
    assert removal_logs() == ["The sigmoid of layer 'out' is removed: the score is the logit."]


def test_a_sigmoid_can_be_kept(removal_logs):
    model = classifier(layers.Dense(3, activation="sigmoid", name="out"))
    images = random_images(5, 4, 4, 1)
    kept = Objective.neuron(model, "out", 2, pre_activation=False)
    expected = model.predict(images, verbose=0)[:, 2]
    np.testing.assert_allclose(kept.score(images), expected, rtol=1e-4)
    assert not removal_logs()


def test_each_of_several_heads_loses_its_own_activation(removal_logs):
    model = functional(
        layers.Dense(2, activation="sigmoid", name="tags"),
        lambda x: layers.Activation("softmax", name="kind")(layers.Dense(3)(x)),
    )
    images = random_images(5, 4, 4, 1)
    tags = Objective.neuron(model, "tags", 1).score(images)
    np.testing.assert_allclose(tags, logits_of(model, images, 0)[:, 1], rtol=1e-3, atol=1e-4)
    shares = np.log(model.predict(images, verbose=0)[1])
    first, second = (Objective.neuron(model, "kind", i).score(images) for i in range(2))
    np.testing.assert_allclose(first - second, shares[:, 0] - shares[:, 1], rtol=1e-3, atol=1e-4)
    assert [line.split("is removed")[0] for line in removal_logs()] == [
        "The sigmoid of layer 'tags' ",
        "The softmax of layer 'kind' ",
    ]


@pytest.mark.parametrize("operation", [keras.ops.sigmoid, keras.activations.sigmoid])
def test_the_last_layer_before_a_sigmoid_that_is_no_layer_is_the_logit(operation):
    model = functional(lambda x: operation(layers.Dense(2)(x)))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, -1, 1).score(images)
    np.testing.assert_allclose(scores, logits_of(model, images)[:, 1], rtol=1e-3, atol=1e-4)


def test_a_sigmoid_between_layers_is_removed_at_the_target_alone():
    model = sequential(
        layers.Conv2D(3, 3, activation="sigmoid", name="gate"),
        layers.Flatten(),
        layers.Dense(2, name="logits"),
        shape=(6, 6, 1),
    )
    images = random_images(5, 6, 6, 1)
    shares = layer_output(model, "gate", images)
    expected = np.log(shares / (1 - shares)).mean((1, 2))[:, 2]
    scores = Objective.channel(model, "gate", 2).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-4)
    behind = Objective.neuron(model, "logits", 1).score(images)
    expected = model.predict(images, verbose=0)[:, 1]
    np.testing.assert_allclose(behind, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Gate(name="out"),
        lambda: layers.Dense(3, activation="hard_sigmoid", name="out"),
        lambda: layers.Dense(3, activation="silu", name="out"),
    ],
    ids=["own gate", "hard sigmoid", "silu"],
)
def test_what_does_not_end_in_a_sigmoid_is_read_as_it_is(layer, removal_logs):
    model = classifier(layer())
    images = random_images(5, 4, 4, 1)
    expected = model.predict(images, verbose=0)[:, 2]
    scores = Objective.neuron(model, "out", 2).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert not removal_logs()


@pytest.mark.parametrize("kind", [layers.LSTM, layers.SimpleRNN])
def test_a_recurrent_layer_of_sigmoids_is_read_as_it_is(kind, removal_logs):
    model = sequential(kind(3, activation="sigmoid", name="out"), shape=(6, 4))
    signals = random_images(5, 6, 4)
    scores = Objective.neuron(model, "out", 2).score(signals)
    expected = model.predict(signals, verbose=0)[:, 2]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert not removal_logs()


def test_a_sigmoid_of_half_precision_is_removed():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = classifier(
            layers.Dense(3), layers.Activation("sigmoid", dtype="float32", name="out")
        )
    finally:
        keras.config.set_dtype_policy(policy)
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, "out", 1).score(images)
    np.testing.assert_allclose(scores, logits_of(model, images)[:, 1], rtol=1e-2, atol=1e-2)
    assert scores.min() < 0


def test_the_call_of_a_shared_layer_that_returns_the_output_loses_its_sigmoid():
    shared = layers.Dense(16, activation="sigmoid", name="shared")
    model = classifier(nested(lambda x: shared(shared(x))))
    objective = Objective.neuron(model, "out", 3)
    assert objective.names == ["Neuron#out/shared:1_3"]
    images = random_images(5, 4, 4, 1)
    expected = logits_of(model, images)[:, 3]
    np.testing.assert_allclose(objective.score(images), expected, rtol=1e-3, atol=1e-4)


def test_a_layer_shared_in_a_nested_model_keeps_an_operation_behind_it():
    shared = layers.Dense(16, name="shared")
    model = classifier(nested(lambda x: keras.ops.sigmoid(shared(shared(x)))))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, "out", 3).score(images)
    expected = model.predict(images, verbose=0)[:, 3]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "behind",
    [
        lambda: [layers.Activation("linear", dtype="float32")],
        lambda: [layers.Dropout(0.5)],
        lambda: [layers.Flatten()],
        lambda: [layers.Identity()],
        lambda: [layers.GaussianNoise(0.5), layers.Dropout(0.5), layers.Activation(None)],
        lambda: [layers.Reshape((3, 1)), layers.Identity()],
    ],
    ids=["linear", "dropout", "flatten", "identity", "several", "reshape"],
)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_a_sigmoid_before_layers_that_pass_on_values_is_removed(behind, policy, removal_logs):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier(layers.Dense(3, activation="sigmoid", name="shares"), *behind())
    finally:
        keras.config.set_dtype_policy(before)
    images = random_images(5, 4, 4, 1)
    logits = logits_of(model, images).reshape(5, 3)
    for unit in (0, 2):
        scores = Objective.neuron(model, -1, unit).score(images)
        near = 1e-3 if policy == "float32" else 3e-2
        np.testing.assert_allclose(scores, logits[:, unit], rtol=near, atol=near)
    [log] = removal_logs()
    assert log.startswith(f"The sigmoid before layer '{model.layers[-1].name}' is removed")


@pytest.mark.parametrize("ids", [7, (1, 1, 1)], ids=str)
def test_a_softmax_before_another_shape_is_removed_for_the_same_unit(ids):
    model = classifier(
        layers.Reshape((4, 4, 1)),
        layers.Conv2D(2, 3, activation="softmax"),
        layers.Flatten(),
        layers.Reshape((2, 2, 2), name="out"),
    )
    images = random_images(5, 4, 4, 1)
    kernel, bias = model.layers[2].get_weights()
    expected = np.einsum("nhw,hw->n", images[:, 1:, 1:, 0], kernel[..., 0, 1]) + bias[1]
    scores = Objective.neuron(model, "out", ids).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    flat = Objective.neuron(model, 3, 7).score(images)
    np.testing.assert_allclose(flat, expected, rtol=1e-4, atol=1e-5)


def test_a_sigmoid_that_is_no_layer_is_removed_before_a_layer_that_passes_it_on():
    model = functional(lambda x: layers.Dropout(0.5)(keras.ops.sigmoid(layers.Dense(2)(x))))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, -1, 1).score(images)
    np.testing.assert_allclose(scores, logits_of(model, images)[:, 1], rtol=1e-3, atol=1e-4)


def test_a_sigmoid_inside_a_nested_model_is_removed_before_a_layer_that_passes_it_on():
    inner = nested(lambda x: layers.Dropout(0.5)(layers.Dense(3, activation="sigmoid")(x)))
    model = classifier(inner, layers.Activation("linear", dtype="float32"))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, -1, 1).score(images)
    np.testing.assert_allclose(scores, logits_of(model, images)[:, 1], rtol=1e-3, atol=1e-4)


def test_a_sigmoid_of_a_layer_that_is_shared_stays_before_another_layer(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    shared = layers.Dense(16, activation="sigmoid", name="shared")
    inner = nested(lambda x: layers.Dropout(0.5, name="last")(shared(x)))
    model = functional(lambda x: inner(shared(x)))
    images = random_images(5, 4, 4, 1)
    scores = Objective.neuron(model, "out/last", 3).score(images)
    expected = model.predict(images, verbose=0)[:, 3]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert "The sigmoid before layer 'out/last' stays: name layer 'out/shared'" in caplog.text


def test_a_sigmoid_before_a_shape_that_varies_stays_and_is_named(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    inputs = keras.Input((None, None, 1))
    shares = layers.Conv2D(2, 1, activation="sigmoid", name="shares")(inputs)
    model = fill(keras.Model(inputs, layers.Reshape((-1, 2), name="out")(shares)))
    images = random_images(5, 4, 4, 1)
    scores = Objective.channel(model, "out", 1).score(images)
    expected = model.predict(images, verbose=0).mean(1)[:, 1]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert "The sigmoid before layer 'out' stays: name layer 'shares'" in caplog.text


class OwnCall(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self):
        super().__init__()
        self.flat = layers.Flatten()
        self.out = layers.Dense(2, activation="sigmoid", name="out")

    def call(self, inputs):
        return self.out(self.flat(inputs))


@pytest.mark.parametrize("layer", ["out", -1])
def test_a_sigmoid_of_a_subclassed_model_is_removed(layer):
    model = OwnCall()
    images = random_images(5, 4, 4, 1)
    logits = logits_of(model, images)
    scores = Objective.neuron(model, layer, 1).score(images)
    np.testing.assert_allclose(scores, logits[:, 1], rtol=1e-3, atol=1e-4)
