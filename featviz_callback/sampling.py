"""Where an image is sampled, and the matrices that sample it.

A view of an image is a grid: one position, in pixels, for each row and each
column of the view. Shift, scale, crop and flip only change those positions, so
any number of them compose on the host into two short vectors, and the image is
rendered at the grid by two matrix products. Nothing is resampled twice.

Positions wrap around: an image continues with its opposite border.
"""

import numpy as np
from keras import ops


def is_small(shape: tuple) -> bool:
    """Whether an image is below 96 pixels, on which the default recipe depends.

    What a small image shows (a digit, a shoe, CIFAR's frog) fills its frame; larger
    ones are photographs, in which it stands on a ground. A signal, an image of height
    one, fills its frame at any length.
    """
    return max(shape[:2]) < 96 or shape[0] == 1


def whole_grid(image_size: int, view_size: int) -> np.ndarray:
    """Positions along one axis that spread a view over the whole image.

    Args:
        image_size: Length of the image's axis in pixels.
        view_size: Length of the view's axis in pixels.

    Returns:
        Float64 array `(view_size,)`; `0, 1, 2, ...` where both sizes agree.
    """
    step = image_size / view_size
    return (np.arange(view_size) + 0.5) * step - 0.5


def fourier_frequencies(size: int, detail: float = 1.0) -> np.ndarray:
    """Frequencies of the real basis of one axis, in cycles per image.

    Cosines come first, then sines, as in `fourier_basis`. With `detail=1` the
    basis is complete: `size` functions for `size` pixels, odd or even.

    Args:
        size: Length of the axis in pixels.
        detail: Highest frequency kept, as a share of the Nyquist frequency.

    Returns:
        Float64 array of whole numbers.
    """
    highest = int(np.floor(size / 2 * detail + 1e-9))
    last_sine = min(highest, (size - 1) // 2)
    return np.concatenate([np.arange(highest + 1.0), np.arange(1.0, last_sine + 1)])


def fourier_norms(size: int, detail: float = 1.0) -> np.ndarray:
    """Factors that give each function of `fourier_basis` a mean square of one."""
    frequencies = fourier_frequencies(size, detail)
    constant = (frequencies == 0) | (frequencies * 2 == size)
    return np.where(constant, 1.0, np.sqrt(2.0))


def fourier_basis(positions, size: int, detail: float = 1.0):
    """The real Fourier basis of an axis, read at any positions.

    Args:
        positions: Float tensor `(images, view_size)`, in pixels.
        size: Length of the image's axis in pixels.
        detail: Highest frequency kept, as a share of the Nyquist frequency.

    Returns:
        Float32 tensor `(images, view_size, functions)` of cosines and sines, with
        an amplitude of one.
    """
    frequencies = fourier_frequencies(size, detail)
    # A sine is a cosine a quarter of a turn later.
    quarters = np.arange(len(frequencies)) > frequencies.max()
    # Positions are reduced to one period first: float32 keeps few digits of
    # the cosine of a large angle.
    turns = positions / size
    turns = ops.expand_dims(turns - ops.round(turns), -1)
    return ops.cos(turns * _constant(2 * np.pi * frequencies) - _constant(np.pi / 2 * quarters))


def to_complex(coefficients, size: tuple[int, int], detail: float = 1.0):
    """Real coefficients as complex ones, of the frequencies down and up the image.

    A frequency and its mirror image `(-down, across)` share four real functions,
    or two where one of them is constant along an axis.

    Args:
        coefficients: `(..., row functions, column functions)`, in the order of
            `fourier_basis`, of functions of one length.
        size: `(height, width)` of the image.
        detail: As for `fourier_basis`.

    Returns:
        Four tensors `(..., down, across)`, of whole frequencies from 0: real and
        imaginary part of the frequency, then of its mirror image.
    """
    cosines, sines = _split_axis(coefficients, -2, size[0], detail)
    (cos_cos, cos_sin), (sin_cos, sin_sin) = (
        _split_axis(part, -1, size[1], detail) for part in (cosines, sines)
    )
    return cos_cos - sin_sin, cos_sin + sin_cos, cos_cos + sin_sin, sin_cos - cos_sin


def from_complex(real, imaginary, mirror_real, mirror_imaginary, size, detail: float = 1.0):
    """The inverse of `to_complex`."""
    cosines, sines = (
        _join_axis(cosines / 2, sines / 2, -1, size[1], detail)
        for cosines, sines in (
            (real + mirror_real, imaginary - mirror_imaginary),
            (imaginary + mirror_imaginary, mirror_real - real),
        )
    )
    return _join_axis(cosines, sines, -2, size[0], detail)


def _split_axis(coefficients, axis, size, detail):
    """Cosines and sines along one axis, sines with zeros where there is none."""
    highest = int(fourier_frequencies(size, detail).max())
    cosines, sines = ops.split(coefficients, [highest + 1], axis=axis)
    padding = [[0, 0]] * len(coefficients.shape)
    padding[axis] = [1, highest - sines.shape[axis]]
    return cosines, ops.pad(sines, padding)


def _join_axis(cosines, sines, axis, size, detail):
    functions = len(fourier_frequencies(size, detail))
    last = functions - cosines.shape[axis] + 1
    sines = sines[..., 1:last, :] if axis == -2 else sines[..., 1:last]
    return ops.concatenate([cosines, sines], axis=axis)


def interpolation_basis(positions, size: int):
    """Linear interpolation between the pixels of an axis, as a matrix.

    Args:
        positions: Float tensor `(images, view_size)`, in pixels.
        size: Length of the image's axis in pixels.

    Returns:
        Float32 tensor `(images, view_size, size)`; each row sums to one.
    """
    distance = ops.expand_dims(positions, -1) - _constant(np.arange(size))
    distance = distance - size * ops.round(distance / size)
    if size == 1:  # a single pixel is its own neighbour on both sides
        return ops.ones_like(distance)
    return ops.relu(1.0 - ops.abs(distance))


def render(rows_basis, coefficients, columns_basis):
    """Reads images, given by coefficients of a separable basis, at a grid.

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
    """Reads images `(images, height, width, channels)` at a grid, linearly."""
    _, height, width, _ = images.shape
    return render(
        interpolation_basis(rows, height),
        ops.transpose(images, (0, 3, 1, 2)),
        interpolation_basis(columns, width),
    )


def _constant(array):
    return ops.convert_to_tensor(np.asarray(array, "float32"))


def read(images, rows, columns):
    """Reads images at any positions, linearly between pixels, mirrored beyond the border.

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
