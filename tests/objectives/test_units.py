"""Which units are meant by layers, ids and vectors, and what is refused."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from tests.conftest import fill, layer_output, random_images, sequential, to_numpy

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
    np.testing.assert_allclose(both.score(images), expected, rtol=1e-5)


class Twins(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [layers.Conv2D(2, 3, name="twin") for _ in range(2)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


@pytest.mark.parametrize("find", [lambda m: "twin", lambda m: m.blocks[1]])
def test_two_layers_of_one_name_are_refused(find):
    model = Twins()
    model.build((None, 12, 10, 1))
    with pytest.raises(ValueError, match="2 layers at the path 'twin'"):
        Objective.channel(model, find(model), 0)


# --- before the activation ----------------------------------------------------------


@pytest.fixture
def softmax_logs(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [r for r in caplog.records if "softmax" in r.getMessage()]


@pytest.mark.parametrize(
    "top",
    [
        lambda: [layers.Dense(4, activation="softmax", name="probabilities")],
        lambda: [layers.Dense(4), layers.Softmax(name="probabilities")],
        lambda: [layers.Dense(4), layers.Activation("softmax", name="probabilities")],
    ],
)
def test_a_softmax_is_taken_off_and_said_once(top, softmax_logs):
    model = sequential(layers.Flatten(), *top(), shape=(4, 4, 1))
    fours = random_images(3, 4, 4, 1)
    kernel, bias = model.get_weights()
    logits = fours.reshape(3, -1) @ kernel + bias
    objective = Objective.neuron(model, "probabilities", 2)
    Objective.neuron(model, "probabilities", 1)
    assert len(softmax_logs()) == 1
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


def test_pre_activation_reads_what_a_relu_receives(softmax_logs):
    model = sequential(layers.Conv2D(2, 1, activation="relu", name="conv"), shape=(4, 4, 1))
    kernel, bias = model.get_weights()
    model.set_weights([kernel, bias - 5])
    fours = random_images(3, 4, 4, 1)
    linear = (fours @ kernel[0] + bias - 5).mean((1, 2))
    before = Objective.channel(model, "conv", 1, pre_activation=True)
    np.testing.assert_allclose(before.score(fours), linear[:, 1], rtol=1e-4)
    assert not Objective.channel(model, "conv", 1).score(fours).any()
    assert not softmax_logs()


class OwnSoftmax(layers.Softmax):
    """A user's softmax, of another name."""


class OwnReLU(layers.ReLU):
    """A user's ReLU, of another name."""


def test_a_layer_derived_from_softmax_is_taken_off_too(softmax_logs):
    model = sequential(
        layers.Flatten(), layers.Dense(4), OwnSoftmax(name="probabilities"), shape=(4, 4, 1)
    )
    fours = random_images(3, 4, 4, 1)
    kernel, bias = model.get_weights()
    logits = fours.reshape(3, -1) @ kernel + bias
    scores = Objective.neuron(model, "probabilities", 2).score(fours)
    np.testing.assert_allclose(scores, logits[:, 2], rtol=1e-4, atol=1e-6)
    assert len(softmax_logs()) == 1


def test_pre_activation_reads_what_a_layer_derived_from_relu_receives():
    model = sequential(OwnReLU(name="relu"), shape=(4, 4, 1))
    negative = -np.abs(random_images(3, 4, 4, 1))
    before = Objective.channel(model, "relu", 0, pre_activation=True)
    np.testing.assert_allclose(before.score(negative), negative.mean((1, 2, 3)), rtol=1e-5)


def test_pre_activation_needs_an_activation(small_model):
    with pytest.raises(ValueError, match="without one"):
        Objective.layer(small_model, "flatten", pre_activation=True)
