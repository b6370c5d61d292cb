"""Evaluate the real Fourier basis of an axis, and convert to its complex form.

The basis is separable: one set of cosines and sines for the rows and one for the
columns. Cosines come first, then sines, everywhere in this package.

This module must not know about scales, colours or contrast, which belong to the
parameterizations.
"""

import numpy as np
from keras import ops

from featviz_callback.images.sampling import to_tensor


def frequencies(size: int, detail: float = 1.0) -> np.ndarray:
    """Return the frequencies of the real basis of one axis, in cycles per image.

    Cosines come first, then sines, as in `evaluate`. The basis is complete with
    `detail=1`: it has `size` functions for `size` pixels, odd or even.

    Args:
        size: Length of the axis in pixels.
        detail: Highest frequency kept, as a share of the Nyquist frequency.

    Returns:
        Float64 array of whole numbers.
    """
    highest = int(np.floor(size / 2 * detail + 1e-9))
    last_sine = min(highest, (size - 1) // 2)
    return np.concatenate([np.arange(highest + 1.0), np.arange(1.0, last_sine + 1)])


def norms(size: int, detail: float = 1.0) -> np.ndarray:
    """Return the factors that give each function of `evaluate` a mean square of one."""
    cycles = frequencies(size, detail)
    constant = (cycles == 0) | (cycles * 2 == size)
    return np.where(constant, 1.0, np.sqrt(2.0))


def evaluate(positions, size: int, detail: float = 1.0):
    """Evaluate the real Fourier basis of an axis at any positions.

    Args:
        positions: Float tensor `(images, input_size)`, in pixels.
        size: Length of the image's axis in pixels.
        detail: Highest frequency kept, as a share of the Nyquist frequency.

    Returns:
        Float32 tensor `(images, input_size, functions)` of cosines and sines, with
        an amplitude of one.
    """
    cycles = frequencies(size, detail)
    # A sine is a cosine, a quarter of a turn later: one call computes both.
    quarters = np.arange(len(cycles)) > cycles.max()
    # Positions are reduced to one period first, since float32 loses digits of large angles.
    turns = positions / size
    turns = ops.expand_dims(turns - ops.round(turns), -1)
    return ops.cos(turns * to_tensor(2 * np.pi * cycles) - to_tensor(np.pi / 2 * quarters))


def at_pixels(size: int, detail: float = 1.0) -> np.ndarray:
    """Return what `evaluate` does at the pixels of an axis, `(size, functions)`."""
    cycles = frequencies(size, detail)
    is_sine = np.arange(len(cycles)) > cycles.max()
    angles = 2 * np.pi * np.outer(np.arange(size), cycles) / size
    return np.where(is_sine, np.sin(angles), np.cos(angles))


def orthonormal(size: int, detail: float = 1.0) -> np.ndarray:
    """Return the real Fourier basis of the pixels of an axis, `(size, functions)`."""
    positions = np.arange(size, dtype="float32")[None]
    basis = ops.convert_to_numpy(evaluate(ops.convert_to_tensor(positions), size, detail))[0]
    return basis * norms(size, detail) / np.sqrt(size)


def to_complex(coefficients, size: tuple[int, int], detail: float = 1.0):
    """Convert real coefficients to complex ones.

    A frequency `(down, across)` and its mirror image `(-down, across)` share four real
    functions, or fewer if the functions are constant along an axis.

    Args:
        coefficients: `(..., row functions, column functions)`, in the order of
            `evaluate`, for functions of equal norm.
        size: `(height, width)` of the image.
        detail: As for `evaluate`.

    Returns:
        Four tensors `(..., down, across)` of whole frequencies from 0: real and
        imaginary part of the frequency, then of its mirror image.
    """
    cosines, sines = _split_axis(coefficients, -2, size[0], detail)
    (cos_cos, cos_sin), (sin_cos, sin_sin) = (
        _split_axis(part, -1, size[1], detail) for part in (cosines, sines)
    )
    return cos_cos - sin_sin, cos_sin + sin_cos, cos_cos + sin_sin, sin_cos - cos_sin


def from_complex(real, imaginary, mirror_real, mirror_imaginary, size, detail: float = 1.0):
    """Convert complex coefficients to real ones, the inverse of `to_complex`."""
    cosines, sines = (
        _join_axis(cosines / 2, sines / 2, -1, size[1], detail)
        for cosines, sines in (
            (real + mirror_real, imaginary - mirror_imaginary),
            (imaginary + mirror_imaginary, mirror_real - real),
        )
    )
    return _join_axis(cosines, sines, -2, size[0], detail)


def _split_axis(coefficients, axis, size, detail):
    """Split cosines and sines along one axis; missing sines are zeros."""
    highest = int(frequencies(size, detail).max())
    cosines, sines = ops.split(coefficients, [highest + 1], axis=axis)
    padding = [[0, 0]] * len(coefficients.shape)
    padding[axis] = [1, highest - sines.shape[axis]]
    return cosines, ops.pad(sines, padding)


def _join_axis(cosines, sines, axis, size, detail):
    functions = len(frequencies(size, detail))
    last = functions - cosines.shape[axis] + 1
    sines = sines[..., 1:last, :] if axis == -2 else sines[..., 1:last]
    return ops.concatenate([cosines, sines], axis=axis)
