"""The Fourier basis, against NumPy's transforms and polynomials."""

import numpy as np
import pytest

from featviz_callback.images import fourier_basis, sampling
from tests.conftest import tensor, to_numpy
from tests.images.conftest import SIZES, coefficients, resampled
from tests.reference import axis_basis, axis_spectrum


def fourier(coefficients, rows, columns):
    """Render with the package at one grid, `(images, height, width, channels)`."""
    *_, height, width = coefficients.shape
    rows, columns = np.atleast_2d(rows), np.atleast_2d(columns)
    return to_numpy(
        sampling.render(
            tensor(normalised_basis(rows, height)),
            tensor(coefficients),
            tensor(normalised_basis(columns, width)),
        )
    )


def normalised_basis(positions, size):
    """Return the basis of functions with a mean square of one."""
    return to_numpy(fourier_basis.evaluate(tensor(positions), size)) * fourier_basis.norms(size)


@pytest.mark.parametrize("size", range(1, 12))
def test_the_fourier_basis_has_as_many_functions_as_pixels(size):
    assert len(fourier_basis.frequencies(size)) == size
    basis = normalised_basis(np.arange(size)[None], size)[0]
    np.testing.assert_allclose(basis.T @ basis / size, np.eye(size), atol=1e-6)


@pytest.mark.parametrize(("detail", "highest"), [(1.0, 8), (0.5, 4), (0.3, 2), (0.01, 0)])
def test_detail_cuts_the_high_frequencies(detail, highest):
    frequencies = fourier_basis.frequencies(16, detail)
    assert frequencies.max() == highest
    assert len(frequencies) == (16 if detail == 1 else 2 * highest + 1)
    basis = fourier_basis.evaluate(tensor(np.zeros((1, 5))), 16, detail)
    assert basis.shape[-1] == len(frequencies) == len(fourier_basis.norms(16, detail))


@pytest.mark.parametrize("kept", range(1, 50))
def test_detail_does_not_lose_a_frequency_to_rounding(kept):
    # 50 * 0.58 is a little below 29.
    assert fourier_basis.frequencies(100, kept / 50).max() == kept


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_spectrum_gives_numpys_inverse_transform(height, width):
    given = coefficients(height, width)
    spectrum = height * width * axis_spectrum(height) @ given[0] @ axis_spectrum(width).T
    expected = np.fft.ifft2(spectrum)
    np.testing.assert_allclose(expected.imag, 0, atol=1e-10)
    image = fourier(given, np.arange(height), np.arange(width))[0]
    error = np.abs(image.transpose(2, 0, 1) - expected.real).max()
    assert error <= 1e-5 * np.abs(expected.real).max()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_mean_square_is_the_sum_of_squared_coefficients(height, width):
    given = coefficients(height, width, channels=1)
    image = fourier(given, np.arange(height), np.arange(width))
    np.testing.assert_allclose((image.astype("float64") ** 2).mean(), (given**2).sum(), rtol=1e-5)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (3, 5), (-7, 11)])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (5, 7)])
def test_a_shift_by_whole_pixels_rolls_the_image(height, width, shift):
    rows, columns = np.arange(height), np.arange(width)
    given = coefficients(height, width)
    whole = fourier(given, rows, columns)
    expected = np.roll(whole, (-shift[0], -shift[1]), axis=(1, 2))
    moved = rows + shift[0], columns + shift[1]
    np.testing.assert_allclose(fourier(given, *moved), expected, atol=1e-4)
    np.testing.assert_allclose(resampled(whole, *moved), expected, atol=1e-4)


@pytest.mark.parametrize("factor", [0.5, 0.93, 1.0, 1.7])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (5, 7), (13, 10)])
def test_fractions_of_pixels_read_the_trigonometric_polynomial(height, width, factor):
    rows, columns = np.arange(9) / factor + 0.37, np.arange(4) / factor - 2.81
    given = coefficients(height, width)
    expected = np.einsum(
        "yi,ncij,xj->nyxc", axis_basis(rows, height), given, axis_basis(columns, width)
    )
    np.testing.assert_allclose(fourier(given, rows, columns), expected, rtol=1e-4, atol=1e-4)


def test_far_positions_are_as_exact_as_near_ones():
    near, far = ([[0.25, 1.5, 3.0]] + np.float64(turns * 256) for turns in (0, 100))
    np.testing.assert_allclose(
        to_numpy(fourier_basis.evaluate(tensor(far), 256)),
        to_numpy(fourier_basis.evaluate(tensor(near), 256)),
        atol=2e-3,
    )


@pytest.mark.parametrize("detail", [1.0, 0.6])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5), (1, 6), (2, 2), (5, 1)])
def test_complex_coefficients_are_those_of_numpy(height, width, detail):
    down, across = (len(fourier_basis.frequencies(n, detail)) for n in (height, width))
    given = np.random.default_rng(0).normal(size=(2, down, across)).astype("float32")
    size = (height, width)
    parts = fourier_basis.to_complex(tensor(given), size, detail)
    np.testing.assert_allclose(
        to_numpy(fourier_basis.from_complex(*parts, size, detail)), given, rtol=1e-5, atol=1e-6
    )
    rows, columns = (
        fourier_basis.evaluate(tensor(np.arange(n)[None]), n, detail) for n in (height, width)
    )
    image = to_numpy(rows)[0] @ given @ to_numpy(columns)[0].T
    spectrum = np.fft.fft2(image) / (height * width)
    real, imaginary, mirror_real, mirror_imaginary = map(to_numpy, parts)
    # Away from the constant and the highest frequency, four functions share two numbers.
    inner = np.s_[..., 1 : (height + 1) // 2, 1 : (width + 1) // 2]
    first = (real - 1j * imaginary)[inner]
    second = (mirror_real - 1j * mirror_imaginary)[inner]
    rows = np.arange(1, 1 + first.shape[-2])
    columns = np.arange(1, 1 + first.shape[-1])
    np.testing.assert_allclose(4 * spectrum[:, rows[:, None], columns], first, atol=1e-5)
    mirrored = spectrum[:, -rows[:, None], columns]
    np.testing.assert_allclose(4 * np.abs(mirrored), np.abs(second), atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 12])
@pytest.mark.parametrize("detail", [0.5, 1.0])
def test_the_basis_at_pixels_is_that_of_any_positions(size, detail):
    positions = tensor(np.arange(float(size))[None])
    expected = to_numpy(fourier_basis.evaluate(positions, size, detail))[0]
    np.testing.assert_allclose(fourier_basis.at_pixels(size, detail), expected, atol=1e-5)
