"""Real images ranked by how much they activate a target."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.optimization.ranking import rank
from tests.conftest import layer_output, make_small_model, random_images, sequential

IMAGES = random_images(70, 12, 10, 1)


@pytest.fixture(scope="module")
def model():
    return make_small_model()


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


# --- what never changes -----------------------------------------------------------------


def of_scores(scores, most=2):
    """Rank images whose values are the scores: `scores` are `(targets, images)`."""
    scores = np.array(scores, "float32")
    count, images = scores.shape
    model = sequential(layers.Flatten(name="flat"), shape=(count, 1, 1))
    objective = Objective.neuron(model, "flat", range(count))
    return rank([objective], scores.T.reshape(images, count, 1, 1), most)[0]


@pytest.mark.parametrize(
    ("scores", "is_silent", "is_constant"),
    [
        ([0.0, 0.0, 0.0], True, False),
        ([0.0, 0.0, 0.001], False, False),
        ([0.0, 0.0, -0.001], False, False),
        # Whatever other units score.
        ([3e-8, 0.0, -3e-8], False, False),
        ([0.0, 0.0, 1e-30], False, False),
        ([0.5, 0.5, 0.5], False, True),
        ([-0.5, -0.5, -0.5], False, True),
        ([0.5, 0.5 + 1e-7, 0.5], False, True),
        ([0.5, 0.5001, 0.5], False, False),
        ([-0.5, 0.5, 0.5], False, False),
        ([np.nan, np.nan, np.nan], False, False),
        ([0.0, np.nan, 0.0], True, False),
        ([0.5, np.inf, 0.5], False, True),
    ],
    ids=str,
)
def test_all_scores_are_zero_or_equal_or_neither(scores, is_silent, is_constant):
    ranking = of_scores([scores, [0.1, 1.0, 0.2]])
    assert ranking.is_silent.tolist() == [is_silent, False]
    assert ranking.is_constant.tolist() == [is_constant, False]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_never_changes_does_not_depend_on_the_scale_of_scores(scale):
    scores = np.array([[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    ranking = of_scores(scale * scores)
    assert ranking.is_silent.tolist() == [True, False, False]
    assert ranking.is_constant.tolist() == [False, True, False]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_broken_unit_says_nothing_about_the_others(broken):
    ranking = of_scores([[0.0, 0.0], [broken, broken], [0.2, 0.3], [0.2, 0.2]])
    assert ranking.is_silent.tolist() == [True, False, False, False]
    assert ranking.is_constant.tolist() == [False, False, False, True]


def test_one_image_tells_what_is_zero_and_not_what_is_constant():
    ranking = of_scores([[0.0], [0.5]])
    assert ranking.is_silent.tolist() == [True, False]
    assert ranking.is_constant.tolist() == [False, False]


def test_units_that_are_planted_are_found_in_a_real_network():
    model = sequential(layers.Conv2D(4, 3, activation="relu", name="conv"), shape=(12, 10, 1))
    kernel, bias = model.get_weights()
    bias[1], kernel[..., 2], bias[2] = -100.0, 0.0, 1.0
    model.set_weights([kernel, bias])
    [ranking] = rank([Objective.channel(model, "conv", range(4))], IMAGES, most=6)
    scores = model.predict(IMAGES, verbose=0).mean((1, 2)).T
    assert (
        ranking.is_silent.tolist() == (scores == 0).all(1).tolist() == [False, True] + [False] * 2
    )
    spread = np.ptp(scores, axis=1) < 1e-6
    assert ranking.is_constant.tolist() == (spread & (scores > 0).any(1)).tolist()
    assert ranking.is_constant.tolist() == [False, False, True, False]
