"""Read images at a grid of positions, by matrix products.

A grid has one position, in pixels, for each row and one for each column of the
augmented image. Shift, scale, crop and flip only change those positions. Any number
of them compose on the host into two short vectors, and two matrix products render
the image at the final grid, so no image is resampled twice.

Positions wrap around: an image continues with its opposite border.

This module knows no parameterization and no transformation.
"""

import numpy as np
from keras import ops


def whole_grid(image_size: int, input_size: int) -> np.ndarray:
    """Return positions along one axis that spread an augmented image over the whole image.

    Args:
        image_size: Length of the image's axis in pixels.
        input_size: Length of the augmented image's axis in pixels.

    Returns:
        Float64 array `(input_size,)`; `0, 1, 2, ...` where both sizes agree.
    """
    step = image_size / input_size
    return (np.arange(input_size) + 0.5) * step - 0.5


def interpolation_basis(positions, size: int):
    """Linear interpolation between the pixels of an axis, as a matrix.

    Args:
        positions: Float tensor `(images, input_size)`, in pixels.
        size: Length of the image's axis in pixels.

    Returns:
        Float32 tensor `(images, input_size, size)`; each row sums to one.
    """
    distance = ops.expand_dims(positions, -1) - to_tensor(np.arange(size))
    distance = distance - size * ops.round(distance / size)
    if size == 1:  # a single pixel is its own neighbour on both sides
        return ops.ones_like(distance)
    return ops.relu(1.0 - ops.abs(distance))


def render(rows_basis, coefficients, columns_basis):
    """Read images, given by coefficients of a separable basis, at a grid.

    Args:
        rows_basis: `(images, height, row_functions)`.
        coefficients: `(images, channels, row_functions, column_functions)`.
        columns_basis: `(images, width, column_functions)`.

    Returns:
        Tensor `(images, height, width, channels)`.
    """
    # In this order each is one product an image, and the channels end up last.
    values = ops.einsum("iwl,ickl->iwck", columns_basis, coefficients)
    return ops.einsum("ihk,iwck->ihwc", rows_basis, values)


def resample(images, rows, columns):
    """Read images `(images, height, width, channels)` at a grid, linearly."""
    _, height, width, _ = images.shape
    return render(
        interpolation_basis(rows, height),
        ops.transpose(images, (0, 3, 1, 2)),
        interpolation_basis(columns, width),
    )


def read(images, rows, columns):
    """Read images at any positions, linearly between pixels, mirrored beyond the border.

    In place of Keras' `affine_transform`, whose gradient on TensorFlow is not that of
    what it reads.

    Args:
        images: Tensor `(images, height, width, channels)`.
        rows: Tensor `(images, new height, new width)` of positions, in pixels.
        columns: The same across.

    Returns:
        Tensor `(images, new height, new width, channels)`.
    """
    count, height, width, channels = images.shape
    pixels = ops.reshape(images, (-1, channels))
    first = ops.reshape(ops.arange(count, dtype="int32"), (-1, 1, 1)) * (height * width)
    top, left = ops.floor(rows), ops.floor(columns)
    total = 0.0
    for down, row_shares in enumerate((1 - (rows - top), rows - top)):
        for right, column_shares in enumerate((1 - (columns - left), columns - left)):
            row, column = _mirrored(top + down, height), _mirrored(left + right, width)
            values = ops.take(pixels, first + row * width + column, axis=0)
            shares = ops.cast(row_shares * column_shares, images.dtype)
            total = total + values * ops.expand_dims(shares, -1)
    return total


def _mirrored(positions, size):
    """Indices of whole positions; the first one outside is the last one inside again."""
    positions = ops.mod(ops.cast(positions, "int32"), 2 * size)
    return ops.minimum(positions, 2 * size - 1 - positions)


def to_tensor(array):
    """A NumPy array as a float32 tensor."""
    return ops.convert_to_tensor(np.asarray(array, "float32"))
