"""Many images scored for many targets, against Keras' own outputs."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives import inputs, score_all
from featviz_callback.objectives.joined import join_alike
from tests.conftest import layer_output, make_small_model, random_images, sequential, to_numpy

IMAGES = random_images(70, 12, 10, 1)


@pytest.fixture(scope="module")
def model():
    return make_small_model()


def test_every_image_is_scored_for_every_target(model):
    logits = layer_output(model, "logits", IMAGES)
    channels = layer_output(model, "conv2", IMAGES).mean((1, 2))
    neurons = Objective.neuron(model, "logits", [3, 7])
    np.testing.assert_allclose(score_all([neurons], IMAGES)[0], logits[:, [3, 7]].T, atol=1e-5)
    both = 2 * neurons - Objective.channel(model, "conv2", [0, 5])
    expected = [2 * logits[:, i] - channels[:, j] for i in (3, 7) for j in (0, 5)]
    np.testing.assert_allclose(score_all([both], IMAGES)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda m: Objective.layer(m, "conv1"),
        lambda m: Objective.direction(m, "conv2", np.eye(6)[1]),
        lambda m: Objective.custom(m, ["conv1", "logits"], lambda x: x[0][:, 0, 0, 0] + x[1][:, 2]),
        lambda m: Objective.neuron(m, "conv1", (2, 3, 1), pre_activation=True),
    ],
    ids=["layer", "direction", "custom", "pre-activation"],
)
def test_scores_are_those_that_the_objective_gives_itself(make, model):
    objective = make(model)
    np.testing.assert_allclose(
        score_all([objective], IMAGES)[0][0], objective.score(IMAGES), rtol=1e-4, atol=1e-5
    )


def counting_layer(calls):
    """Return a layer that notes in a list how many images each call has."""

    class Counting(layers.Layer):
        def call(self, images):
            calls.append(images.shape[0])
            return images

    return Counting()


def test_images_go_through_the_model_once_for_all_objectives(model):
    calls = []
    counting = sequential(counting_layer(calls), *model.layers)
    counting.set_weights(model.get_weights())
    objectives = [
        Objective.channel(counting, "conv1", [1, 2]),
        Objective.neuron(counting, "logits", 3) + Objective.layer(counting, "conv2"),
        Objective.channel(counting, "conv1", 0, multiplier=-2.0),
    ]
    calls.clear()
    scores = score_all(objectives, IMAGES)
    assert calls == [70]
    for objective, found in zip(objectives, scores, strict=True):
        [alone] = score_all([objective], IMAGES)
        np.testing.assert_allclose(found, alone, atol=1e-6)
    conv1 = layer_output(model, "conv1", IMAGES).mean((1, 2))
    np.testing.assert_allclose(scores[2], -2 * conv1[:, [0]].T, atol=1e-5)


def test_few_large_images_are_scored_in_one_call():
    calls = []
    convolution = layers.Conv2D(1, 3, strides=64, name="conv")
    model = sequential(counting_layer(calls), convolution, shape=(335, 335, 1))
    images = random_images(6, 335, 335, 1)
    objective = Objective.channel(model, "conv", 0)
    calls.clear()
    [scores] = score_all([objective], images)
    # The last call takes as many images as the first one.
    assert calls == [4, 4]
    expected = layer_output(model, "conv", images).mean((1, 2))
    np.testing.assert_allclose(scores, expected.T, atol=1e-5)


def test_a_model_of_a_fixed_number_of_images_gets_that_number_each_time(model):
    calls = []
    inner = keras.Input(batch_shape=(32, 12, 10, 1))
    fixed = keras.Model(inner, model(counting_layer(calls)(inner)), name="fixed")
    objective = Objective.neuron(fixed, -1, [0, 9])
    calls.clear()
    [scores] = score_all([objective], IMAGES)
    assert calls == [32, 32, 32]
    expected = layer_output(model, "logits", IMAGES)[:, [0, 9]].T
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_joined_targets_are_scored_like_each_alone(model):
    parts = [Objective.neuron(model, "logits", [3, 1]), -1 * Objective.neuron(model, "logits", 0)]
    [joined] = join_alike(parts)
    [scores] = score_all([joined], IMAGES[:5])
    expected = layer_output(model, "logits", IMAGES[:5])[:, [3, 1, 0]].T * [[1], [1], [-1]]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_one_row_of_several_vectors_is_read_for_each_target(model):
    vectors = np.eye(4)[[2, 0, 2]]
    objective = Objective.direction(model, "conv1", vectors, cossim_pow=0)
    [scores] = score_all([objective], IMAGES[:5])
    expected = layer_output(model, "conv1", IMAGES[:5]).mean((1, 2)).T[[2, 0, 2]]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_images_are_scored_together_with_the_other_inputs():
    image, more = keras.Input((4, 3, 1), name="image"), keras.Input((2,), name="more")
    model = keras.Model(
        [image, more], layers.Concatenate(name="all")([layers.Flatten()(image), more])
    )
    image_input, fixed_inputs = inputs.resolve(model, {"more": [5.0, 7.0]})
    images = random_images(3, 4, 3, 1)
    objective = Objective.neuron(model, "all", [2, 13])
    [scores] = score_all([objective], images, image_input, fixed_inputs)
    expected = model.predict([images, np.tile([5.0, 7.0], (3, 1))], verbose=0)[:, [2, 13]].T
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_scoring_changes_no_variable_and_is_in_inference_mode():
    normal = layers.BatchNormalization(name="normal")
    model = sequential(normal, layers.Dropout(0.5, name="drop"), shape=(4, 3, 1))
    model.set_weights([np.full(1, value) for value in (2.0, 1.0, 0.5, 4.0)])
    before = [to_numpy(variable).copy() for variable in model.variables]
    images = random_images(3, 4, 3, 1)
    [scores] = score_all([Objective.channel(model, "drop", 0)], images)
    expected = 2 * (images.mean((1, 2, 3)) - 0.5) / np.sqrt(4.0 + normal.epsilon) + 1
    np.testing.assert_allclose(scores[0], expected, rtol=1e-4)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
