"""Images of fixed magnitude: spectrum and phases, against NumPy's transform."""

import numpy as np
import pytest

from featviz_callback.images.parameterizations import FixedMagnitude
from tests.conftest import tensor, to_numpy
from tests.images.conftest import field, parameters, plain
from tests.reference import fourier_scale


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (5, 9), (1, 12), (2, 3)])
def test_every_frequency_keeps_its_fixed_magnitude(size):
    shape = (*size, 1)
    one = FixedMagnitude(plain(decay=0.7, contrast=0.8))
    params = one.project(tensor(parameters(shape, 3.0)), shape)
    expected = 0.8 * fourier_scale(*size, 0.7)
    # Cosines come first: the frequencies 0, 1, 2... and their mirror images.
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) for n in size)
    for image in field(one.fourier, params, shape):
        found = np.abs(np.fft.fft2(image[..., 0])) / np.prod(size)
        np.testing.assert_allclose(found, expected[np.ix_(down, across)], rtol=2e-3, atol=2e-5)


def test_phases_are_moved_twenty_times_as_far_as_free_coefficients():
    fixed = FixedMagnitude(plain(decay=0.7, contrast=1.0))
    (squares,) = fixed.precondition(1.4, 1.5, 1.0, (8, 6, 1))
    expected = 20 * fourier_scale(8, 6, 0.7 * 1.4, 1.5) / fourier_scale(8, 6, 0.7)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


def test_fixed_magnitude_keeps_the_phases():
    shape = (7, 6, 2)
    free = parameters(shape)
    one = FixedMagnitude(plain(contrast=0.5))
    before, after = (
        np.fft.fft2(field(one.fourier, params, shape), axes=(1, 2))
        for params in (free * 0.1, to_numpy(one.project(tensor(free), shape)))
    )
    # The sine of the constant and of the highest frequency has no phase to keep.
    np.testing.assert_allclose(np.angle(after / before)[:, 1:3, 1:3], 0, atol=1e-3)


def test_a_start_already_has_the_fixed_magnitude():
    one, shape = FixedMagnitude(plain(contrast=1.0)), (8, 6, 3)
    start = one.init(np.random.default_rng(0), shape)
    again = to_numpy(one.project(tensor(start[None]), shape))[0]
    assert start.dtype == np.float32
    np.testing.assert_allclose(start, again, rtol=1e-4, atol=1e-5)


def test_phases_are_random_whatever_the_start():
    loud, silent = (
        FixedMagnitude(plain(contrast=1.0, noise=noise)).init(np.random.default_rng(0), (8, 6, 1))
        for noise in (1.0, 0.0)
    )
    np.testing.assert_allclose(silent, loud)


def test_a_frequency_without_a_phase_stays_finite():
    projected = FixedMagnitude(plain(contrast=1.0)).project(
        tensor(np.zeros((1, 1, 8, 6))), (8, 6, 1)
    )
    assert np.isfinite(to_numpy(projected)).all()
