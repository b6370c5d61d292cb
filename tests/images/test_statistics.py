"""Colours and spectra of real images, against NumPy's own."""

import numpy as np
import pytest

from featviz_callback.images import fourier_basis, statistics
from featviz_callback.images.statistics import Spectrum, measure
from tests.conftest import random_images


def images_of_spectrum(amplitudes, count):
    """Grey images with random phases, by NumPy's inverse transform."""
    rng = np.random.default_rng(0)
    phases = np.fft.fft2(rng.normal(size=(count, *amplitudes.shape)))
    return np.fft.ifft2(phases / np.abs(phases) * amplitudes).real[..., None]


def test_mean_deviation_and_colours_are_those_of_all_pixels():
    images = random_images(6, 5, 4, 3) @ np.array([[3.0, 1, 0], [1, 2, 0], [0, 0, 1]])
    found = measure(images, (-2.0, 2.0), (5, 4, 3))
    shares = (images.reshape(-1, 3) + 2) / 4
    np.testing.assert_allclose(found.mean, shares.mean(0))
    np.testing.assert_allclose(found.deviation, np.sqrt(shares.var(0).mean()))
    covariance = np.cov(shares.T, bias=True)
    colors = np.array(found.colors)
    np.testing.assert_allclose(colors @ colors.T, covariance * 3 / np.trace(covariance))
    lengths = np.linalg.norm(colors, axis=0)
    assert (np.diff(lengths) < 0).all()


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (1, 9)])
def test_the_spectrum_is_the_magnitude_of_each_frequency(size):
    frequencies = np.hypot(*np.ix_(*(np.fft.fftfreq(n) * n for n in size)))
    amplitudes = 1 / np.maximum(frequencies, 0.5)
    images = images_of_spectrum(amplitudes, 4)
    # Each image's own mean is removed too: `measure` removes only the mean of all images.
    images -= images.mean((1, 2), keepdims=True)
    found = measure(images, (-1.0, 1.0), (*size, 1)).spectrum.amplitudes[0]
    down, across = (fourier_basis.frequencies(n).astype(int) for n in size)
    expected = amplitudes[np.ix_(down, across)]
    expected[0, 0] = 0
    expected /= np.sqrt(np.sum(expected**2))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_images_of_another_size_are_resized_for_the_spectrum():
    images = random_images(3, 12, 16, 2)
    functions = len(fourier_basis.frequencies(8, 0.5)), len(fourier_basis.frequencies(6, 0.5))
    found = measure(images, (0.0, 1.0), (8, 6, 2), detail=0.5).spectrum
    assert found.amplitudes.shape == (2, *functions)
    np.testing.assert_allclose((found.amplitudes**2).sum((1, 2)), 1, rtol=1e-5)


def test_images_of_one_value_have_some_spectrum():
    found = measure(np.full((2, 4, 4, 3), 0.25), (0.0, 1.0), (4, 4, 3))
    assert found.mean == (0.25, 0.25, 0.25)
    assert found.deviation == 0
    assert np.isfinite(found.colors).all()
    assert np.isfinite(found.spectrum.amplitudes).all()


def test_spectra_are_compared_by_value():
    first, same, other = (Spectrum(np.full((1, 2, 2), v, "float32")) for v in (1, 1, 2))
    assert first == same
    assert hash(first) == hash(same)
    assert first != other


@pytest.mark.parametrize(
    "images", [np.zeros((4, 4, 3)), np.zeros((2, 4, 4, 1)), np.full((1, 4, 4, 3), np.nan)]
)
def test_images_of_other_channels_are_refused(images):
    with pytest.raises(ValueError, match=r"`images`.*width, 3\)"):
        measure(images, (0, 1), (4, 4, 3))


def test_natural_colours_are_light_then_chroma_and_keep_the_mean_square():
    colors = np.array(statistics.NATURAL_COLORS)
    light, *others = colors.T
    assert (light > 0).all()
    assert all(abs(other.sum()) < 0.2 * np.abs(other).sum() for other in others)
    np.testing.assert_allclose(np.mean(np.sum(colors**2, axis=1)), 1)
