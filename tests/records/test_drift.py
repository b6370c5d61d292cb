"""Drift, compared with NumPy's correlation and with closed forms."""

import tracemalloc

import numpy as np
import pytest

from featviz_callback.records.drift import drift
from tests.conftest import random_images

PICTURE = np.random.default_rng(0).normal(size=(1, 40, 40, 3))
OTHER = np.random.default_rng(1).normal(size=(1, 40, 40, 3))
WAVES = np.arange(8) * np.pi / 4


def wave(function):
    return np.tile(function(WAVES)[None, :, None, None], (1, 1, 4, 1))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (PICTURE, PICTURE, 0),
        (PICTURE, 0.3 * PICTURE, 0),
        (PICTURE, PICTURE + 5, 0),
        (PICTURE, PICTURE + np.array([1, -2, 3]), 0),
        (PICTURE, -2 * PICTURE, 2),
        (wave(np.sin), wave(np.cos), 1),
        (wave(np.sin), wave(lambda x: np.sin(x + np.pi / 3)), 0.5),
        (wave(np.sin), wave(np.sin) + wave(np.cos), 1 - 0.5**0.5),
        (0 * PICTURE, 0 * PICTURE + 1, 0),
        (0 * PICTURE, PICTURE, 1),
        (PICTURE, 0 * PICTURE + 0.5, 1),
    ],
)
def test_drift_is_one_minus_the_correlation(before, after, expected):
    np.testing.assert_allclose(drift(before, after), [expected], atol=1e-6)


def test_the_drift_of_signals_is_that_of_images_of_height_one():
    np.testing.assert_allclose(
        drift(PICTURE[:, :1], OTHER[:, :1]), drift(PICTURE[:, 0], OTHER[:, 0])
    )


def test_drift_of_unrelated_pictures_is_about_one():
    assert abs(drift(PICTURE, OTHER)[0] - 1) < 0.05


def test_drift_is_numpys_correlation_image_by_image():
    before, after = random_images(4, 7, 5, 1), random_images(4, 7, 5, 1, seed=9)
    after[2] += before[2]
    expected = [
        1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before, after, strict=True)
    ]
    np.testing.assert_allclose(drift(before, after), expected, atol=1e-6)
    np.testing.assert_allclose(drift(after, before), expected, atol=1e-6)


@pytest.mark.parametrize("brightness", [0.1, 0.3, 0.7])
def test_pictures_of_one_colour_have_no_contrast_however_they_round(brightness):
    one_colour = np.full(PICTURE.shape, brightness)
    np.testing.assert_array_equal(drift(one_colour, 0 * PICTURE + 0.9), [0])
    np.testing.assert_array_equal(drift(one_colour, 1e9 * PICTURE), [1])
    np.testing.assert_array_equal(drift(1e9 * PICTURE, one_colour), [1])


@pytest.mark.parametrize(("contrast", "expected"), [(1e-8, 0), (1e-10, 1)])
def test_the_threshold_of_contrast_does_not_depend_on_the_number_of_pixels(contrast, expected):
    for picture in (PICTURE, PICTURE[:, :4, :5]):
        faint = contrast * picture
        np.testing.assert_allclose(drift(faint, 1e9 * picture), [expected], atol=1e-6)
        np.testing.assert_allclose(drift(1e9 * picture, faint), [expected], atol=1e-6)


def test_drift_is_from_0_to_2_however_it_rounds():
    pictures = np.random.default_rng(0).normal(size=(200, 7, 5, 2))
    assert drift(pictures, pictures).min() == 0
    assert drift(pictures, -pictures).max() == 2


def test_drift_of_faint_contrast_on_a_bright_background_is_exact():
    before, after = (250 + 0.01 * random_images(3, 40, 40, 1, seed=i) for i in range(2))
    after = (before + after) / 2
    expected = [
        1 - np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(before.astype("float64"), after.astype("float64"), strict=True)
    ]
    np.testing.assert_allclose(drift(before, after), expected, atol=1e-6)


def test_the_drift_of_many_pictures_takes_less_memory_than_they_do():
    before, after = np.random.default_rng(0).random((2, 40, 32, 32, 3), "float32")
    tracemalloc.start()
    found = drift(before, after)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The float64 values of all pictures alone would take twice as much as they do.
    assert peak < before.nbytes
    alone = [drift(before[i : i + 1], after[i : i + 1])[0] for i in range(40)]
    np.testing.assert_array_equal(found, alone)
