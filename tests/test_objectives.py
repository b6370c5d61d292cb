"""How objectives combine, what they are made from, and what is refused."""

import copy
import dataclasses
import logging
import math
import operator

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives import default_objectives
from tests.conftest import (
    fill,
    layer_output,
    make_small_model,
    random_images,
    sequential,
    to_numpy,
)

VECTOR = np.array([1.0, -2.0, 0.5, 3.0])


# --- algebra ------------------------------------------------------------------------


@pytest.fixture
def operands(small_model):
    return (
        Objective.neuron(small_model, "logits", 1),
        Objective.channel(small_model, "conv2", 2),
        Objective.direction(small_model, "conv1", VECTOR),
    )


COMBINATIONS = {
    "2a + 3b": (lambda a, b, c: 2 * a + 3 * b, (2, 3, 0)),
    "3b + 2a": (lambda a, b, c: b * 3 + a * 2, (2, 3, 0)),
    "a - b": (lambda a, b, c: a - b, (1, -1, 0)),
    "-a": (lambda a, b, c: -a, (-1, 0, 0)),
    "a / 2": (lambda a, b, c: a / 2, (0.5, 0, 0)),
    "(a + b) + c": (lambda a, b, c: (a + b) + c, (1, 1, 1)),
    "a + (b + c)": (lambda a, b, c: a + (b + c), (1, 1, 1)),
    "a - (b - c)": (lambda a, b, c: a - (b - c), (1, -1, 1)),
    "-(2a - 3b) / 4 + c": (lambda a, b, c: -(2 * a - 3 * b) / 4 + c, (-0.5, 0.75, 1)),
    "2(3(a + b) - c)": (lambda a, b, c: 2 * (3 * (a + b) - c), (6, 6, -2)),
    "a + a": (lambda a, b, c: a + a, (2, 0, 0)),
    "sum": (lambda a, b, c: sum([a, b, c]), (1, 1, 1)),
    "float32 first": (lambda a, b, c: np.float32(2) * a, (2, 0, 0)),
    "float32 last": (lambda a, b, c: a * np.float32(2), (2, 0, 0)),
    "float64 first": (lambda a, b, c: np.float64(2) * a, (2, 0, 0)),
    "int64 first": (lambda a, b, c: np.int64(2) * a, (2, 0, 0)),
    "array of no axis first": (lambda a, b, c: np.array(2.0) * a, (2, 0, 0)),
    "array of no axis last": (lambda a, b, c: a * np.array(2.0), (2, 0, 0)),
    "division by float32": (lambda a, b, c: a / np.float32(4), (0.25, 0, 0)),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_a_combination_scores_the_weighted_sum_of_scores(case, operands, images):
    combine, factors = COMBINATIONS[case]
    combined = combine(*operands)
    assert isinstance(combined, Objective)
    parts = [f * o.score(images).astype("float64") for f, o in zip(factors, operands, strict=True)]
    error = np.abs(combined.score(images) - sum(parts))
    assert (error <= 1e-5 * sum(map(np.abs, parts)) + 1e-7).all()


@pytest.mark.parametrize("case", COMBINATIONS)
def test_operators_leave_their_operands_as_they_were(case, operands, images):
    before = [(o.terms, o.names, o.score(images).tolist()) for o in operands]
    COMBINATIONS[case][0](*operands)
    assert [(o.terms, o.names, o.score(images).tolist()) for o in operands] == before


def test_a_sum_has_every_combination_in_order(small_model):
    total = (
        Objective.neuron(small_model, "logits", [7, 1])
        + Objective.channel(small_model, "conv1", [0, 3])
        + Objective.direction(small_model, "conv2", np.ones(6))
    )
    assert total.names == [
        "Neuron#logits_7 & Channel#conv1_0 & Direction#conv2_0",
        "Neuron#logits_7 & Channel#conv1_3 & Direction#conv2_0",
        "Neuron#logits_1 & Channel#conv1_0 & Direction#conv2_0",
        "Neuron#logits_1 & Channel#conv1_3 & Direction#conv2_0",
    ]
    assert len(total) == 4


def test_each_combination_scores_the_sum_of_its_own_targets(small_model):
    neurons = Objective.neuron(small_model, "logits", [7, 1])
    channels = Objective.channel(small_model, "conv1", [0, 3, 2])
    six = random_images(6, 12, 10, 1)
    logits, conv = (layer_output(small_model, n, six) for n in ("logits", "conv1"))
    expected = [
        2 * logits[i, neuron] - conv[i, ..., channel].mean()
        for i, (neuron, channel) in enumerate([(n, c) for n in (7, 1) for c in (0, 3, 2)])
    ]
    np.testing.assert_allclose((2 * neurons - channels).score(six), expected, rtol=1e-4, atol=1e-6)


def test_ten_neurons_five_channels_and_a_direction_are_fifty_targets(small_model):
    total = (
        Objective.neuron(small_model, "logits", range(10))
        + Objective.channel(small_model, "conv2", range(5))
        + Objective.direction(small_model, "conv1", VECTOR)
    )
    assert len(total) == len(set(total.names)) == 50


def test_a_score_needs_one_image_a_target(small_model, images):
    with pytest.raises(ValueError, match="Expected 2 images"):
        Objective.neuron(small_model, "logits", [0, 1]).score(images)


def test_objectives_of_different_models_do_not_add(operands):
    other = Objective.neuron(make_small_model(), "logits", 0)
    with pytest.raises(ValueError, match="different models"):
        operands[0] + other


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize(
    "multiply",
    [
        operator.mul,
        lambda a, factor: factor * a,
        lambda a, factor: Objective.neuron(a.model, "logits", 0, multiplier=factor),
    ],
)
def test_multipliers_are_finite(multiply, factor, operands):
    with pytest.raises(ValueError, match="finite"):
        multiply(operands[0], factor)


@pytest.mark.parametrize("other", ["2", None, [2.0], 1j])
@pytest.mark.parametrize("operate", [operator.mul, operator.truediv, operator.add, operator.sub])
def test_operators_know_numbers_and_objectives_only(operate, other, operands):
    with pytest.raises(TypeError):
        operate(operands[0], other)


@pytest.mark.parametrize("number", [1, -1, 0.5])
def test_no_number_is_added_but_the_zero_that_a_sum_starts_with(number, operands):
    with pytest.raises(TypeError):
        operands[0] + number
    with pytest.raises(TypeError):
        number + operands[0]
    assert 0 + operands[0] is operands[0]


def test_an_array_times_an_objective_is_no_array_of_objectives(operands):
    with pytest.raises(TypeError):
        np.array([1.0, 2.0]) * operands[0]


def test_division_by_zero_is_refused(operands):
    with pytest.raises(ZeroDivisionError):
        operands[0] / 0


def test_an_objective_cannot_be_changed(operands):
    one = operands[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.terms = ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.terms[0].multiplier = 5.0
    with pytest.raises(ValueError, match="read-only"):
        one.terms[0].data[...] = 0


def test_a_deep_copy_is_the_objective_itself(operands):
    assert copy.deepcopy(operands[0]) is operands[0]


def test_the_callers_vectors_are_copied(small_model, images):
    vector = VECTOR.astype("float32")
    objective = Objective.direction(small_model, "conv1", vector)
    before = objective.score(images)
    vector[:] = 1
    np.testing.assert_array_equal(objective.score(images), before)


# --- ids and names ------------------------------------------------------------------


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


@pytest.mark.parametrize("make", [Objective.neuron, Objective.channel])
@pytest.mark.parametrize(
    "ids",
    [[], (), np.array([], int), 1.0, [1.5], True, [True, False], [True, 2], "3", None, [None]],
)
def test_ids_are_whole_numbers_and_at_least_one(make, ids, small_model):
    with pytest.raises(ValueError, match="_ids"):
        make(small_model, "logits", ids)


@pytest.mark.parametrize(
    ("names", "expected"),
    [("abc", ["abc"]), (["abc"], ["abc"]), (("x",), ["x"])],
)
def test_a_string_is_one_name(names, expected, small_model):
    assert Objective.neuron(small_model, "logits", 0, names=names).names == expected


@pytest.mark.parametrize("names", ["ab", ["a"], ["a", "b", "c"], ["a", 2], []])
def test_there_is_one_name_a_target(names, small_model):
    with pytest.raises(ValueError, match="Expected 2 strings"):
        Objective.neuron(small_model, "logits", [0, 1], names=names)


def test_default_names_say_kind_layer_and_id(small_model):
    assert Objective.layer(small_model, "conv1").names == ["Layer#conv1"]
    assert Objective.layer(small_model, "conv1", name="mine").names == ["mine"]
    assert Objective.direction(small_model, "conv1", [VECTOR, -VECTOR]).names == [
        "Direction#conv1_0",
        "Direction#conv1_1",
    ]


@pytest.mark.parametrize(
    "vectors",
    [np.ones(3), np.zeros(4), [np.ones(4), np.zeros(4)], np.full(4, np.nan), np.ones((0, 4))],
)
def test_vectors_fit_the_layer_and_are_finite_and_not_zero(vectors, small_model):
    with pytest.raises(ValueError, match="vectors"):
        Objective.direction(small_model, "conv1", vectors)


@pytest.mark.parametrize("power", [-1, math.nan, math.inf, "2"])
def test_the_power_of_the_cosine_is_a_number_from_zero(power, small_model):
    with pytest.raises(ValueError, match="cossim_pow"):
        Objective.direction(small_model, "conv1", VECTOR, cossim_pow=power)


def test_an_unknown_reducer_is_refused(small_model):
    with pytest.raises(ValueError, match="'magnitude' or 'mean'"):
        Objective.layer(small_model, "conv1", reducer="max")


@pytest.mark.parametrize(("wanted", "function"), [("conv1", None), ([], keras.ops.mean)])
def test_a_custom_objective_needs_layers_and_a_function(wanted, function, small_model):
    with pytest.raises(ValueError, match="Invalid value"):
        Objective.custom(small_model, wanted, function)


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
    with pytest.raises(ValueError, match="backbone/block/deep"):
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
    assert len(softmax_logs()) == 1
    np.testing.assert_allclose(objective.score(fours), logits[:, 2], rtol=1e-4, atol=1e-6)

    kept = Objective.neuron(model, "probabilities", 2, pre_activation=False)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(kept.score(fours), shares[:, 2], rtol=1e-4)


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


def test_pre_activation_needs_an_activation(small_model):
    with pytest.raises(ValueError, match="without one"):
        Objective.layer(small_model, "flatten", pre_activation=True)


# --- objectives by default ----------------------------------------------------------


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


def test_default_objectives_of_signals_are_their_convolutions():
    model = sequential(layers.Conv1D(2, 3, name="conv"), shape=(8, 3))
    assert [o.names for o in default_objectives(model)] == [["Channel#conv_0", "Channel#conv_1"]]


def test_default_objectives_have_their_channels_last():
    model = sequential(
        layers.Conv2D(2, 3, data_format="channels_first", name="conv"), shape=(3, 9, 9)
    )
    assert [o.names for o in default_objectives(model)] == [["Channel#conv_0", "Channel#conv_1"]]


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


def test_images_are_scored_beside_held_inputs():
    image, more = keras.Input((3, 3, 1), name="image"), keras.Input((1,), name="more")
    outputs = layers.Multiply(name="product")([layers.Flatten()(image), more])
    model = keras.Model({"image": image, "more": more}, outputs)
    images = random_images(2, 3, 3, 1)
    scores = Objective.neuron(model, "product", 4).score(images, held_inputs={"more": 2.0})
    np.testing.assert_allclose(scores, 2 * images[:, 1, 1, 0], rtol=1e-6)
    with pytest.raises(ValueError, match="`held_inputs`.*'image': .*'more': "):
        Objective.neuron(model, "product", 4).score(images)


def test_default_objectives_need_something_to_watch():
    with pytest.raises(ValueError, match="Nothing to watch"):
        default_objectives(sequential(layers.MaxPooling2D(2), shape=(4, 4, 1)))


# --- what could be mistaken for something else ------------------------------------------


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


def test_a_product_of_finite_multipliers_may_be_too_large(small_model):
    objective = 1e20 * Objective.neuron(small_model, "logits", 0)
    with pytest.raises(ValueError, match="`multiplier`.*1e\\+40"):
        1e20 * objective


@pytest.mark.parametrize("factor", [1e39, float("inf"), float("nan")])
def test_a_product_of_multipliers_stays_finite(factor, small_model):
    objective = 1e10 * Objective.neuron(small_model, "logits", 0)
    with pytest.raises(ValueError, match="`multiplier`"):
        factor * objective
