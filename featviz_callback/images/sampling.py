"""Read images at a grid of positions, by matrix products.

A grid has one position, in pixels, for each row and one for each column of the
augmented image. Shift, scale, crop and flip only change those positions. Any number
of such transformations compose on the host into two short vectors. Two matrix products
then render the image at the final grid, so that no image is resampled twice. Positions
wrap around: an image continues with its opposite border.

This module must not know any parameterization or transformation.
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


def every_pixel(images: int, shape: tuple) -> tuple:
    """Return the rows and the columns of all pixels of so many images, as tensors."""
    height, width, _ = shape
    rows, columns = (np.tile(np.arange(size), (images, 1)) for size in (height, width))
    return to_tensor(rows), to_tensor(columns)


def interpolation_basis(positions, size: int):
    """Return the matrix of a linear interpolation between the pixels of an axis.

    Args:
        positions: Float tensor `(images, input_size)`, in pixels.
        size: Length of the image's axis in pixels.

    Returns:
        Float32 tensor `(images, input_size, size)`; each row sums to one.
    """
    distance = ops.expand_dims(positions, -1) - to_tensor(np.arange(size))
    distance = distance - size * ops.round(distance / size)
    if size == 1:  # A single pixel is its own neighbour on both sides.
        return ops.ones_like(distance)
    return ops.relu(1.0 - ops.abs(distance))


def render(rows_basis, coefficients, columns_basis):
    """Render images at a grid, from coefficients of a separable basis.

    Args:
        rows_basis: `(images, height, row_functions)`.
        coefficients: `(images, channels, row_functions, column_functions)`.
        columns_basis: `(images, width, column_functions)`.

    Returns:
        Tensor `(images, height, width, channels)`.
    """
    # In this order, each line is one product per image, and the channels end up last.
    values = ops.einsum("iwl,ickl->iwck", columns_basis, coefficients)
    return ops.einsum("ihk,iwck->ihwc", rows_basis, values)


def resample(images, rows, columns):
    """Read images `(images, height, width, channels)` at a grid, linearly."""
    return interpolate(ops.transpose(images, (0, 3, 1, 2)), rows, columns, images.shape[1:])


def interpolate(fields, rows, columns, shape: tuple):
    """Read fields `(images, channels, height, width)` at a grid, linearly.

    Args:
        fields: Float tensor.
        rows: Positions `(images, new height)`, in pixels.
        columns: Positions `(images, new width)`.
        shape: `(height, width, channels)`.

    Returns:
        Tensor `(images, new height, new width, channels)`.
    """
    down, across = (interpolation_basis(*one) for one in zip((rows, columns), shape, strict=False))
    return render(down, fields, across)


def read(images, rows, columns):
    """Read images at any positions, linearly between pixels, mirrored beyond the border.

    Keras' `affine_transform` is no replacement, since its gradient on TensorFlow is wrong.

    Args:
        images: Tensor `(images, height, width, channels)`.
        rows: Vertical positions in pixels, tensor `(images, new height, new width)`.
        columns: Horizontal positions in pixels, of the same shape.

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
    """Return the indices of whole positions, mirrored so that the border pixel repeats."""
    positions = ops.mod(ops.cast(positions, "int32"), 2 * size)
    return ops.minimum(positions, 2 * size - 1 - positions)


def to_tensor(array):
    """Return a NumPy array as a float32 tensor."""
    return ops.convert_to_tensor(np.asarray(array, "float32"))
