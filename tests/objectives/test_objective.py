"""Objectives: what they score, their names, and their algebra."""

import copy
import dataclasses
import math
import operator

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.terms import make_term
from tests.conftest import layer_output, make_small_model, random_images, sequential

VECTOR = np.array([1.0, -2.0, 0.5, 3.0])


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


def test_images_are_scored_beside_fixed_inputs(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    image, more = keras.Input((3, 3, 1), name="image"), keras.Input((1,), name="more")
    outputs = layers.Multiply(name="product")([layers.Flatten()(image), more])
    model = keras.Model({"image": image, "more": more}, outputs)
    images = random_images(2, 3, 3, 1)
    scores = Objective.neuron(model, "product", 4).score(images, fixed_inputs={"more": 2.0})
    np.testing.assert_allclose(scores, 2 * images[:, 1, 1, 0], rtol=1e-6)
    assert not caplog.text
    for _ in range(2):
        assert not Objective.neuron(model, "product", 4).score(images).any()
    assert caplog.text.count("'more' at zero") == 1


def test_bytes_are_scored_as_the_model_gets_them():
    class Scaling(keras.Model):
        """A model that scales whole numbers itself, and leaves floats alone."""

        def __init__(self):
            super().__init__()
            self.out = layers.Flatten(name="out")

        def call(self, images):
            is_whole = not keras.backend.is_float_dtype(
                keras.backend.standardize_dtype(images.dtype)
            )
            images = keras.ops.cast(images, "float32")
            return self.out(images / 255 if is_whole else images)

    model = Scaling()
    images = np.full((2, 3, 3, 1), 51, "uint8")
    model.build(images.shape)
    unit = Objective.neuron(model, "out", 4)
    np.testing.assert_allclose(unit.score(images), [0.2, 0.2], rtol=1e-5)
    np.testing.assert_allclose(unit.score(images.astype("float32")), [51, 51], rtol=1e-5)


def test_a_layer_keeps_nothing_of_what_is_scored():
    class Keeping(layers.Layer):
        last = None

        def call(self, x):
            self.last = x
            return x

    keeping = Keeping()
    model = sequential(keeping, layers.Flatten(name="flat"), shape=(4, 4, 1))
    mine = keeping.last = object()
    objective = Objective.neuron(model, "flat", 0)
    images = random_images(1, 4, 4, 1)
    np.testing.assert_allclose(objective.score(images), images[:, 0, 0, 0], rtol=1e-6)
    assert keeping.last is mine


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


@pytest.mark.parametrize("multiplier", ["2", None, [2.0], 1j])
def test_a_multiplier_is_a_number(multiplier, small_model):
    with pytest.raises(ValueError, match="`multiplier`"):
        Objective.neuron(small_model, "logits", 0, multiplier=multiplier)


def test_a_product_of_finite_multipliers_may_be_too_large(small_model):
    objective = 1e20 * Objective.neuron(small_model, "logits", 0)
    with pytest.raises(ValueError, match="`multiplier`.*1e\\+40"):
        1e20 * objective


@pytest.mark.parametrize("factor", [1e39, float("inf"), float("nan")])
def test_a_product_of_multipliers_stays_finite(factor, small_model):
    objective = 1e10 * Objective.neuron(small_model, "logits", 0)
    with pytest.raises(ValueError, match="`multiplier`"):
        factor * objective


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
    with pytest.raises(ZeroDivisionError, match="objective"):
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


def test_what_a_term_reads_keeps_its_own_kind_of_data(small_model, images):
    """Of any kind of read: those of floats as well as those of ids."""
    shares = np.array([0.25, 0.5], "float32")
    term = make_term(
        lambda outputs, rows: rows * outputs[0][:, 0],
        (Tap("logits"),),
        shares,
        1.0,
        None,
        ["quarter", "half"],
    )
    weighted = Objective(small_model, (term,))
    assert weighted.terms[0].data.tolist() == [0.25, 0.5]
    expected = shares * layer_output(small_model, "logits", images[:2])[:, 0]
    np.testing.assert_allclose(weighted.score(images[:2]), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda m: Objective.neuron(m, "logits", np.arange(2)), "int32"),
        (lambda m: Objective.channel(m, "conv1", [0, 1]), "int32"),
        (lambda m: Objective.layer(m, "conv1"), "int32"),
        (lambda m: Objective.custom(m, "conv1", keras.ops.mean), "int32"),
        (lambda m: Objective.direction(m, "conv1", VECTOR.astype("int64")), "float32"),
    ],
    ids=["neuron", "channel", "layer", "custom", "direction"],
)
def test_ids_are_int32_and_vectors_float32(make, dtype, small_model):
    """Of another dtype, the same step would be compiled again."""
    assert make(small_model).terms[0].data.dtype == dtype


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
    both = Objective.custom(small_model, ["conv1", "logits"], lambda outputs: outputs[0])
    assert both.names == ["Custom#conv1+logits"]


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
