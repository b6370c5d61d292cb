"""Images read at a grid, against NumPy and linear algebra."""

import keras
import numpy as np
import pytest

from featviz_callback.images import fourier_basis, sampling
from tests.conftest import gradient, random_images, tensor, to_numpy
from tests.images.conftest import SIZES, coefficients, resampled


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
    """Return one point of an image that NumPy continues as its mirror image."""
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


@pytest.mark.parametrize(("image", "input_size"), [(8, 8), (5, 10), (7, 14), (12, 4), (3, 7)])
def test_a_whole_grid_covers_the_image_evenly(image, input_size):
    grid = sampling.whole_grid(image, input_size)
    assert grid.shape == (input_size,)
    np.testing.assert_allclose(np.diff(grid), image / input_size)
    # Half a step inside the outer edges of the first and the last pixel.
    np.testing.assert_allclose(
        [grid[0], grid[-1]], [-0.5, image - 0.5] + np.array([1, -1]) * image / input_size / 2
    )
