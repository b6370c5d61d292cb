"""Images of known coefficients, read on and between their pixels."""

import keras
import numpy as np
import pytest

from featviz_callback.images import fourier_basis, sampling, shapes
from tests.conftest import gradient, random_images, tensor, to_numpy
from tests.reference import axis_basis, axis_spectrum

SIZES = [(8, 8), (7, 7), (8, 6), (5, 8), (6, 9), (2, 3), (1, 4), (13, 10)]


def coefficients(height, width, channels=2, images=1):
    draw = np.random.default_rng(height * 100 + width).normal
    return draw(size=(images, channels, height, width))


def fourier(coefficients, rows, columns):
    """The package's rendering at one grid, `(images, height, width, channels)`."""
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
    """Of functions with a mean square of one."""
    return to_numpy(fourier_basis.evaluate(tensor(positions), size)) * fourier_basis.norms(size)


def resampled(images, rows, columns):
    rows, columns = np.atleast_2d(rows), np.atleast_2d(columns)
    return to_numpy(sampling.resample(tensor(images), tensor(rows), tensor(columns)))


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


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("basis", [fourier_basis.evaluate, sampling.interpolation_basis])
def test_the_gradient_is_the_adjoint(basis, height, width):
    rng = np.random.default_rng(0)
    bases = [basis(tensor(rng.uniform(-size, 2 * size, (1, 6))), size) for size in (height, width)]
    x, y = coefficients(height, width), rng.normal(size=(1, 6, 6, 2))

    def product(c):
        return keras.ops.sum(sampling.render(bases[0], c, bases[1]) * tensor(y))

    rows, columns = (to_numpy(one)[0].astype("float64") for one in bases)
    by_transposes = np.einsum("yi,yxc,xj->cij", rows, y[0], columns)
    np.testing.assert_allclose(gradient(product, x)[0], by_transposes, rtol=1e-4, atol=1e-4)
    forward = np.einsum("yi,cij,xj->yxc", rows, x[0], columns)
    np.testing.assert_allclose((forward * y[0]).sum(), (x[0] * by_transposes).sum(), rtol=1e-9)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (3, 5), (-7, 11)])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (5, 7)])
def test_a_shift_by_whole_pixels_rolls_the_image(height, width, shift):
    rows, columns = np.arange(height), np.arange(width)
    given = coefficients(height, width)
    still = fourier(given, rows, columns)
    expected = np.roll(still, (-shift[0], -shift[1]), axis=(1, 2))
    moved = rows + shift[0], columns + shift[1]
    np.testing.assert_allclose(fourier(given, *moved), expected, atol=1e-4)
    np.testing.assert_allclose(resampled(still, *moved), expected, atol=1e-4)


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


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_the_weights_of_an_interpolation_sum_to_one(size):
    positions = np.random.default_rng(0).uniform(-2 * size, 3 * size, (2, 50))
    basis = to_numpy(sampling.interpolation_basis(tensor(positions), size))
    assert basis.shape == (2, 50, size)
    assert (basis >= 0).all()
    np.testing.assert_allclose(basis.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_interpolation_is_linear_and_wraps_around(size):
    values = np.random.default_rng(0).normal(size=size)
    positions = np.random.default_rng(1).uniform(-size, 2 * size, 50)
    basis = to_numpy(sampling.interpolation_basis(tensor(positions[None]), size))[0]
    expected = np.interp(
        positions, np.arange(-size, 2 * size + 1), np.tile(values, 4)[: 3 * size + 1]
    )
    np.testing.assert_allclose(basis @ values, expected, atol=1e-5)


def test_each_image_of_a_batch_has_its_own_grid():
    given = random_images(2, 4, 5, 3)
    moved = resampled(given, [[0, 1, 2, 3], [1, 2, 3, 4]], [[0, 1, 2, 3, 4], [2, 3, 4, 5, 6]])
    expected = np.stack([given[0], np.roll(given[1], (-1, -2), (0, 1))])
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def read_by_numpy(image, row, column):
    """One point, of an image continued by NumPy: the border repeated, then backwards."""
    margin = 40
    padded = np.pad(image, ((margin, margin), (margin, margin), (0, 0)), "symmetric")
    top, left = int(np.floor(row)), int(np.floor(column))
    weights = np.outer([1 - (row - top), row - top], [1 - (column - left), column - left])
    corners = padded[top + margin : top + margin + 2, left + margin : left + margin + 2]
    return np.einsum("yx,yxc->c", weights, corners)


@pytest.mark.parametrize(("height", "width"), [(5, 7), (4, 4), (1, 6)])
def test_images_are_read_between_their_pixels_and_mirrored_beyond_the_border(height, width):
    images = random_images(2, height, width, 3)
    rows, columns = np.random.default_rng(0).uniform(-20, 20, (2, 2, 6, 5))
    expected = np.empty((2, 6, 5, 3))
    for i, y, x in np.ndindex(2, 6, 5):
        expected[i, y, x] = read_by_numpy(images[i], rows[i, y, x], columns[i, y, x])
    found = to_numpy(sampling.read(tensor(images), tensor(rows), tensor(columns)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_reading_is_the_adjoint():
    images, weights = random_images(2, 6, 5, 3), random_images(2, 4, 7, 3)
    rows, columns = np.random.default_rng(0).uniform(-9, 9, (2, 2, 4, 7))

    def product(images):
        return keras.ops.sum(sampling.read(images, tensor(rows), tensor(columns)) * tensor(weights))

    found = gradient(product, images)
    for i, y, x, c in np.ndindex(*images.shape):
        one = np.zeros_like(images)
        one[i, y, x, c] = 1
        read = to_numpy(sampling.read(tensor(one), tensor(rows), tensor(columns)))
        assert found[i, y, x, c] == pytest.approx((read * weights).sum(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("image", "view"), [(8, 8), (5, 10), (7, 14), (12, 4), (3, 7)])
def test_a_whole_grid_covers_the_image_evenly(image, view):
    grid = sampling.whole_grid(image, view)
    assert grid.shape == (view,)
    np.testing.assert_allclose(np.diff(grid), image / view)
    # Half a step of the view inside the outer edges of the first and the last pixel.
    np.testing.assert_allclose(
        [grid[0], grid[-1]], [-0.5, image - 0.5] + np.array([1, -1]) * image / view / 2
    )


@pytest.mark.parametrize("detail", [1.0, 0.6])
@pytest.mark.parametrize(("height", "width"), [(8, 6), (7, 5), (1, 6), (2, 2), (5, 1)])
def test_complex_coefficients_are_numpys(height, width, detail):
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


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((95, 95, 3), True),
        ((96, 95, 3), False),
        ((20, 96, 3), False),
        ((2, 400, 1), False),
        ((1, 400, 1), True),
    ],
)
def test_an_image_is_small_by_its_longer_side_and_a_signal_at_any_length(shape, small):
    assert shapes.is_small(shape) == small
