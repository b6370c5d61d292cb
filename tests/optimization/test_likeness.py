"""How much alike images are."""

import numpy as np
import pytest

from featviz_callback.optimization.likeness import describe, likeness
from tests.conftest import random_images, tensor, to_numpy

IMAGES = random_images(2, 6, 5, 3)
FEATURES = random_images(2, 4, 4, 7, seed=1)


def grams(features):
    flat = features.reshape(len(features), -1, features.shape[-1]).astype("float64")
    return np.einsum("ipc,ipd->icd", flat, flat).reshape(len(features), -1)


def products(a, b):
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / lengths


def compared(images, features, others, other_features):
    own = describe(tensor(images), None if features is None else tensor(features))
    described = describe(tensor(others), None if other_features is None else tensor(other_features))
    return to_numpy(likeness(own, tuple(one[:, None] for one in described)))


def test_likeness_is_the_mean_of_a_correlation_and_the_cosine_of_gram_matrices():
    found = compared(IMAGES, FEATURES, IMAGES[::-1], FEATURES[::-1])
    flat = IMAGES.reshape(2, -1) - IMAGES.reshape(2, -1).mean(1, keepdims=True)
    expected = np.maximum(products(flat, flat[::-1]), 0)
    expected = (expected + products(grams(FEATURES), grams(FEATURES[::-1]))) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_equal_images_are_wholly_alike_and_opposite_ones_are_not():
    np.testing.assert_allclose(compared(IMAGES, FEATURES, IMAGES, FEATURES), 1, rtol=1e-5)
    np.testing.assert_allclose(compared(IMAGES, None, 1 - IMAGES, None), 0, atol=1e-6)


def test_features_are_alike_wherever_they_are():
    moved = np.roll(FEATURES, 2, axis=1)
    np.testing.assert_allclose(compared(IMAGES, FEATURES, IMAGES, moved), 1, rtol=1e-5)


def test_opposite_features_are_not_alike():
    np.testing.assert_allclose(compared(IMAGES, FEATURES, IMAGES, -FEATURES), 0.5, rtol=1e-5)


def test_no_image_is_like_one_that_is_not_there():
    own = describe(tensor(IMAGES), tensor(FEATURES))
    nothing = tuple(0 * one[:, None] for one in own)
    np.testing.assert_array_equal(to_numpy(likeness(own, nothing)), 0)


@pytest.mark.parametrize("channels", [97, 300])
def test_many_channels_are_described_by_fewer_mixtures(channels):
    some = np.abs(np.random.default_rng(0).normal(size=(2, 4, 4, channels)))
    some[1, ..., : channels // 2] *= 0.05
    own = describe(tensor(IMAGES), tensor(some))
    # Of what is above zero, and of what is below.
    assert own[1].shape == (2, 2 * 96 * 96)
    found = compared(IMAGES[[0, 0]], some, IMAGES[[0, 0]], some[::-1])
    expected = (1 + products(grams(some), grams(some[::-1]))) / 2
    np.testing.assert_allclose(found, expected, atol=0.15)
