"""What each way of reading makes of a layer's output."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives.readouts import (
    ChannelReadout,
    CustomReadout,
    DirectionReadout,
    LayerReadout,
    NeuronReadout,
)
from tests.conftest import layer_output, random_images, sequential, to_numpy
from tests.reference import direction_score

VECTOR = np.array([1.0, -2.0, 0.5, 3.0])
EACH_POSITION = np.random.default_rng(1).normal(size=(10, 8, 4))


def spread(outputs):
    return keras.ops.mean(outputs[..., 0] - outputs[..., 1], axis=(1, 2))


def conv_times_logit(outputs):
    conv, logits = outputs
    return keras.ops.max(conv, axis=(1, 2, 3)) * logits[:, 0]


def each(function, layer="conv1"):
    """A score of one image's output, for every image."""
    return lambda out: [function(one) for one in out(layer)]


SCORES = {
    "neuron": (lambda m: Objective.neuron(m, "logits", 3), lambda out: out("logits")[:, 3]),
    "neuron from the end": (
        lambda m: Objective.neuron(m, "logits", -1),
        lambda out: out("logits")[:, 9],
    ),
    "neuron by row, column, channel": (
        lambda m: Objective.neuron(m, "conv1", (2, 5, 1)),
        lambda out: out("conv1")[:, 2, 5, 1],
    ),
    "neuron by flat index": (
        lambda m: Objective.neuron(m, "conv1", (2 * 8 + 5) * 4 + 1),
        lambda out: out("conv1")[:, 2, 5, 1],
    ),
    "channel": (
        lambda m: Objective.channel(m, "conv2", 4),
        lambda out: out("conv2")[..., 4].mean((1, 2)),
    ),
    "channel of a vector": (
        lambda m: Objective.channel(m, "logits", 4),
        lambda out: out("logits")[:, 4],
    ),
    "layer, magnitude": (
        lambda m: Objective.layer(m, "conv1"),
        lambda out: (out("conv1") ** 2).mean((1, 2, 3)),
    ),
    "layer, mean": (
        lambda m: Objective.layer(m, "conv1", reducer="mean"),
        lambda out: out("conv1").mean((1, 2, 3)),
    ),
    "direction": (
        lambda m: Objective.direction(m, "conv1", VECTOR),
        each(lambda x: direction_score(x, VECTOR, 2)),
    ),
    "direction, other power": (
        lambda m: Objective.direction(m, "conv1", VECTOR, cossim_pow=0.5),
        each(lambda x: direction_score(x, VECTOR, 0.5)),
    ),
    "direction, product alone": (
        lambda m: Objective.direction(m, "conv1", VECTOR, cossim_pow=0),
        lambda out: (out("conv1") @ VECTOR).mean((1, 2)),
    ),
    "direction, a vector a position": (
        lambda m: Objective.direction(m, "conv1", EACH_POSITION),
        each(lambda x: direction_score(x, EACH_POSITION, 2)),
    ),
    "direction in a vector layer": (
        lambda m: Objective.direction(m, "logits", np.arange(10)),
        each(lambda x: direction_score(x, np.arange(10.0), 2), "logits"),
    ),
    "custom": (
        lambda m: Objective.custom(m, "conv1", spread),
        lambda out: (out("conv1")[..., 0] - out("conv1")[..., 1]).mean((1, 2)),
    ),
    "custom of two layers": (
        lambda m: Objective.custom(m, ["conv1", "logits"], conv_times_logit),
        lambda out: out("conv1").max((1, 2, 3)) * out("logits")[:, 0],
    ),
    "multiplier": (
        lambda m: Objective.neuron(m, "logits", 3, multiplier=-2.5),
        lambda out: -2.5 * out("logits")[:, 3],
    ),
}


@pytest.mark.parametrize("case", SCORES)
def test_a_score_is_what_numpy_makes_of_the_layers_output(case, small_model, images):
    make, expected = SCORES[case]
    outputs = {n: layer_output(small_model, n, images) for n in ("conv1", "conv2", "logits")}
    np.testing.assert_allclose(
        make(small_model).score(images), expected(outputs.get), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("case", SCORES)
def test_no_score_depends_on_the_other_images_of_the_batch(case, small_model, images):
    objective = SCORES[case][0](small_model)
    alone = np.concatenate([objective.score(image[None]) for image in images])
    np.testing.assert_allclose(objective.score(images), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [1e-8, 1.0, 1e8])
def test_the_cosine_of_a_direction_does_not_depend_on_its_length(length, small_model, images):
    vector = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.0])
    long, unit = (
        Objective.direction(small_model, "conv2", v).score(images)
        for v in (length * vector, vector)
    )
    np.testing.assert_allclose(long / length, unit, rtol=1e-4)


def test_a_direction_scores_zero_where_nothing_is_active():
    model = sequential(layers.Conv2D(2, 1, activation="relu", name="conv"), shape=(4, 4, 1))
    model.set_weights([np.ones((1, 1, 1, 2)), np.full(2, -5.0)])
    scores = Objective.direction(model, "conv", [1.0, 2.0]).score(random_images(3, 4, 4, 1))
    np.testing.assert_array_equal(scores, np.zeros(3))


def test_a_vector_too_short_to_have_a_length_in_float32_scores_next_to_nothing(small_model, images):
    scores = Objective.direction(small_model, "conv1", 1e-25 * VECTOR).score(images)
    np.testing.assert_allclose(scores, 0, atol=1e-20)


def test_outputs_in_half_precision_are_averaged_in_float32():
    model = sequential(layers.Conv2D(1, 1, name="conv", dtype="mixed_bfloat16"), shape=(64, 64, 1))
    images = random_images(2, 64, 64, 1)
    outputs = to_numpy(model(images)).astype("float64")
    scores = Objective.layer(model, "conv").score(images)
    np.testing.assert_allclose(scores, (outputs**2).mean((1, 2, 3)), rtol=1e-5)


def test_a_custom_function_gives_one_score_an_image(small_model, images):
    objective = Objective.custom(small_model, "conv1", keras.ops.mean)
    with pytest.raises(ValueError, match="one score an image"):
        objective.score(images)


def test_a_custom_function_of_the_wrong_number_of_scores_is_refused(small_model, images):
    objective = Objective.custom(small_model, "conv1", lambda o: keras.ops.mean(o, (0, 1, 2)))
    with pytest.raises(ValueError, match=r"\(3,\). Received: \(4,\)"):
        objective.score(images)


def test_a_layer_of_several_outputs_an_image_is_refused():
    class Windows(layers.Layer):
        def call(self, inputs):
            return keras.ops.reshape(inputs, (-1, 2, 2, 1))

    class Whole(keras.Model):
        def __init__(self):
            super().__init__()
            self.windows = Windows(name="windows")

        def call(self, inputs):
            return self.windows(inputs)

    model = Whole()
    model(np.zeros((1, 4, 4, 1), "float32"))
    with pytest.raises(ValueError, match="'windows' returns 8 outputs for 2 images"):
        Objective.channel(model, "windows", 0).score(np.zeros((2, 4, 4, 1)))


# --- what a changed layer still has -----------------------------------------------------


@pytest.mark.parametrize(
    ("read", "shape", "rows", "expected"),
    [
        (NeuronReadout((3, 4, 2)), (3, 4, 2), [0, 23], [True, True]),
        (NeuronReadout((3, 4, 2)), (2, 4, 2), [15, 16], [True, False]),
        (NeuronReadout((3, 4, 2)), (3, 4, 3), [0, 1, 2, 23], [True, True, False, False]),
        (NeuronReadout((10,)), (12,), [9], [True]),
        (NeuronReadout((10,)), (None,), [9], [True]),
        (ChannelReadout(), (3, 4, 2), [1, 2], [True, False]),
        (ChannelReadout(), (None, None, 2), [1, 2], [True, False]),
        (DirectionReadout(2.0), (3, 4, 2), [[1, 1], [1, 1, 1]], [True, False]),
        (DirectionReadout(2.0), (2, 2), [np.ones((2, 2)), np.ones((3, 2))], [True, False]),
        (LayerReadout("mean"), (3, 4, 2), [0], [True]),
        (CustomReadout(max), (3, 4, 2), [0], [True]),
    ],
)
def test_what_is_read_is_still_there(read, shape, rows, expected):
    assert [read.fits(shape, np.array(row)) for row in rows] == expected


# --- whether outputs have positions ----------------------------------------------------


def pair(o):
    return o[0][:, 0, 0, 0] + o[1][:, 0]


MAPS = {
    "neuron of a map": (lambda m: Objective.neuron(m, "conv1", (2, 5, 1)), True),
    "channel of a map": (lambda m: Objective.channel(m, "conv1", 1), True),
    "layer of a map": (lambda m: Objective.layer(m, "conv1"), True),
    "direction of a map": (lambda m: Objective.direction(m, "conv1", VECTOR), True),
    "sum of maps": (
        lambda m: Objective.channel(m, "conv1", 1) - 2 * Objective.layer(m, "conv2"),
        True,
    ),
    "logit": (lambda m: Objective.neuron(m, "logits", 3), False),
    "channel of a vector": (lambda m: Objective.channel(m, "logits", 3), False),
    "layer of a vector": (lambda m: Objective.layer(m, "logits"), False),
    "direction of a vector": (lambda m: Objective.direction(m, "logits", np.ones(10)), False),
    "custom": (lambda m: Objective.custom(m, ["conv1", "logits"], pair), False),
    "sum with a logit": (
        lambda m: Objective.channel(m, "conv1", 1) + Objective.neuron(m, "logits", 3),
        False,
    ),
}


@pytest.mark.parametrize("target", MAPS)
def test_targets_read_maps_if_all_that_they_read_has_positions(target, small_model):
    make, expected = MAPS[target]
    assert make(small_model).reads_maps is expected


def test_a_sequence_has_positions():
    model = sequential(
        layers.Conv1D(3, 3, name="conv"), layers.GlobalAveragePooling1D(name="mean"), shape=(9, 2)
    )
    assert Objective.channel(model, "conv", 1).reads_maps
    assert not Objective.channel(model, "mean", 1).reads_maps
