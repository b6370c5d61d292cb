"""Measure the average colours and the average spectrum of images.

The colours of natural images are a constant from the literature. `measure` computes the
statistics of your own images.

This module must not know any parameterization.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from keras import ops

from featviz_callback.images import fourier_basis

# Square root of the covariance of natural images' colours, from ImageNet: light and
# dark, then two of chroma (Olah, Mordvintsev, Schubert, "Feature Visualization", Distill
# 2017, "Preconditioning and Parameterization").
_NATURAL_COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_NATURAL_COLORS /= np.sqrt(np.mean(np.sum(_NATURAL_COLORS**2, axis=1)))

NATURAL_COLORS = tuple(map(tuple, _NATURAL_COLORS.tolist()))

# The least share of the strongest colour's deviation. A constant channel would otherwise
# make the colours impossible to invert.
_WEAKEST_COLOR = 0.01


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The strength of each frequency, equal and hashable by value.

    Attributes:
        amplitudes: Array `(channels, row functions, column functions)` for one size of
            images. A first axis of length 1 is for all channels. The squares of each
            channel sum to one.
    """

    amplitudes: np.ndarray

    @cached_property
    def _key(self):
        return self.amplitudes.shape, self.amplitudes.tobytes()

    def __eq__(self, other):
        return isinstance(other, Spectrum) and self._key == other._key

    def __hash__(self):
        return hash(self._key)


@dataclass(frozen=True)
class Statistics:
    """The statistics of a set of images, on a scale from 0 to 1.

    Attributes:
        mean: Mean of each channel.
        deviation: Standard deviation of all values about their channels' means.
        colors: Square root of the channels' covariance, `(channels, channels)`,
            strongest colour first. The matrix keeps the mean square of its argument.
        spectrum: Mean magnitude of each frequency, in these decorrelated colours.
    """

    mean: tuple[float, ...]
    deviation: float
    colors: tuple[tuple[float, ...], ...]
    spectrum: Spectrum


def measure(
    images: np.ndarray, values_range: tuple, shape: tuple, detail: float = 1.0
) -> Statistics:
    """Measure the statistics of real images.

    Args:
        images: Array `(images, height, width, channels)` in `values_range`.
        values_range: Lowest and highest value of an image, numbers or one a channel.
        shape: `(height, width, channels)` of the images to be made. The real images are
            resized to this shape before their spectrum is measured.
        detail: Highest frequency kept, as a share of the Nyquist frequency.

    Returns:
        The `Statistics` of the images.

    Raises:
        ValueError: If the images are not finite, or have another number of channels.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != shape[2] or not np.isfinite(images).all():
        raise ValueError(
            "Invalid value for argument `images`. Expected a finite array (images, height, "
            f"width, {shape[2]}). Received: an array of shape {images.shape}"
        )
    low, high = np.asarray(values_range)
    shares = (images.astype("float64") - low) / (high - low)
    mean = shares.mean((0, 1, 2))
    centred = shares - mean
    colors = _square_root(np.cov(centred.reshape(-1, shape[2]), rowvar=False, bias=True))
    decorrelated = centred @ np.linalg.inv(colors).T
    return Statistics(
        mean=tuple(mean.tolist()),
        deviation=float(np.sqrt(np.mean(centred**2))),
        colors=tuple(map(tuple, colors.tolist())),
        spectrum=_spectrum(_resized(decorrelated, shape[:2]), detail),
    )


def _resized(images, size):
    if images.shape[1:3] == tuple(size):
        return images
    images = ops.convert_to_tensor(images.astype("float32"))
    return ops.convert_to_numpy(
        ops.image.resize(images, size, antialias=True, data_format="channels_last")
    )


def _square_root(covariance):
    variances, directions = np.linalg.eigh(np.atleast_2d(covariance))
    strongest = np.argsort(-variances)
    deviations = np.sqrt(np.maximum(variances[strongest], 0))
    # Images of one value have no colours, and zeros could not be inverted.
    deviations = np.maximum(deviations, _WEAKEST_COLOR * (deviations[0] or 1.0))
    colors = directions[:, strongest] * deviations
    return colors / np.sqrt(np.mean(np.sum(colors**2, axis=1)))


def _spectrum(images, detail):
    """Return the mean magnitudes of images `(images, height, width, channels)`."""
    size = images.shape[1:3]
    down, across = (fourier_basis.orthonormal(length, detail) for length in size)
    coefficients = np.einsum("yi,nyxc,xj->ncij", down, images, across, optimize=True)
    parts = map(ops.convert_to_numpy, fourier_basis.to_complex(coefficients, size, detail))
    real, imaginary, mirror_real, mirror_imaginary = parts
    magnitudes = np.hypot(real, imaginary) + np.hypot(mirror_real, mirror_imaginary)
    frequencies = (fourier_basis.frequencies(length, detail).astype(int) for length in size)
    shared = np.outer(*(fourier_basis.norms(length, detail) for length in size))
    # Each function that shares a frequency gets its part of the magnitude.
    amplitudes = magnitudes.mean(0)[:, *np.ix_(*frequencies)] / shared
    lengths = np.sqrt(np.sum(amplitudes**2, axis=(1, 2), keepdims=True))
    # A colour without contrast has no spectrum, and zeros could not be normalised.
    amplitudes = np.where(lengths > 0, amplitudes, 1.0)
    amplitudes /= np.sqrt(np.sum(amplitudes**2, axis=(1, 2), keepdims=True))
    return Spectrum(amplitudes.astype("float32"))
