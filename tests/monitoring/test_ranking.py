"""Real images ranked by how much they activate a target."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.monitoring.ranking import rank, score_all
from tests.conftest import layer_output, make_small_model, random_images, sequential

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


def test_images_go_through_the_model_once_for_all_objectives(model):
    """A layer before the model's first one counts the calls."""
    calls = []

    class Counting(layers.Layer):
        def call(self, images):
            calls.append(images.shape[0])
            return images

    counting = sequential(Counting(), *model.layers)
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


def test_the_top_activating_images_come_first(model):
    objective = Objective.neuron(model, "logits", [0, 4])
    [ranking] = rank([objective], IMAGES, most=5)
    expected = np.argsort(-layer_output(model, "logits", IMAGES)[:, [0, 4]].T, axis=1)[:, :5]
    np.testing.assert_array_equal(ranking.indices, expected)
    assert (np.diff(ranking.scores, axis=1) <= 0).all()


def test_there_may_be_fewer_images_than_are_asked_for(model):
    [ranking] = rank([Objective.neuron(model, "logits", 0)], IMAGES[:2], most=5)
    assert ranking.indices.shape == (1, 2)


def test_an_image_whose_score_is_not_a_number_is_last():
    model = sequential(layers.Lambda(keras.ops.log), layers.Flatten(name="flat"), shape=(1, 1, 1))
    images = np.array([1.0, -1.0, 3.0], "float32").reshape(3, 1, 1, 1)
    [ranking] = rank([Objective.neuron(model, "flat", 0)], images, most=3)
    assert ranking.indices.tolist() == [[2, 0, 1]]
    assert np.isnan(ranking.scores[0, 2])
