"""What is optimised, and how it becomes an image.

A parameterization is three pure functions:

* `init(rng, shape)` draws the start of one image on the host;
* `image(params, rows, columns, shape)` renders a batch at a grid of positions,
  with values in `[0, 1]`;
* `project(params, shape)` returns the nearest parameters that are allowed.

It may have two more:

* `precondition(decay, lowest, shape)` gives an array of factors, for one image's
  parameters, by which the default ascent moves some farther than others;
* `finish(params, shape)` is applied once, when an image is to be looked at.

The image is always `sigmoid(field)`: a fixed map, so that two frames with the
same parameters are the same picture. Anything with these three methods, equal
and hashable by value, can be passed as `parameterization`.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from keras import ops

from featviz_callback import sampling

# Square root of the covariance of natural images' colours, from ImageNet: light and
# dark, then two hues (Olah, Mordvintsev, Schubert, "Feature Visualization", Distill
# 2017, "Preconditioning and Parameterization"). Scaled to keep the mean square of
# what it is applied to; the hues a little less, since they are found last.
_NATURAL_COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_NATURAL_COLORS /= np.sqrt(np.mean(np.sum(_NATURAL_COLORS**2, axis=1)))
_NATURAL_COLORS *= [1.0, 0.8, 0.8]

# An image that has found nothing is not blown up into noise.
_LARGEST_GAIN = 3.0


@dataclass(frozen=True)
class Pixel:
    """One parameter a pixel: the plainest parameterization.

    Args:
        contrast: Largest root mean square of the field before the sigmoid.
            Positive; `inf` for no bound.
        start: Standard deviation of the field's start. Not negative.
        mean: Mean of the start, in `(0, 1)`, one number or one a channel.

    Example:
    >>> from featviz_callback.parameterizations import Pixel
    >>> Pixel().init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)
    """

    contrast: float = 2.0
    start: float = 0.01
    mean: float | tuple[float, ...] = 0.5

    def __post_init__(self):
        _check(self)

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's parameters, float32 `(channels, height, width)`."""
        height, width, channels = shape
        return rng.normal(0, self.start, (channels, height, width)).astype("float32")

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        field = sampling.render(
            sampling.interpolation_basis(rows, shape[0]),
            params,
            sampling.interpolation_basis(columns, shape[1]),
        )
        return _squash(field, self.mean)

    def project(self, params, shape: tuple):
        """Scales each image's parameters to the contrast allowed."""
        mean_square = ops.mean(ops.square(params), axis=(1, 2, 3), keepdims=True)
        return params * ops.minimum(1.0, self.contrast * ops.rsqrt(mean_square + 1e-12))


@dataclass(frozen=True)
class Fourier:
    """Parameters are the image's Fourier coefficients, scaled like natural images.

    The basis is real and separable (products of cosines and sines of the rows
    and of the columns), with as many functions as pixels where `detail` is 1.
    Each has a root mean square of one, so the contrast of the field is that of
    its coefficients (Parseval). A coefficient is its parameter times
    `1 / frequency**decay`, which makes the steepest ascent that of a space in
    which neighbouring pixels, and for RGB the colours, are decorrelated.

    Args:
        decay: Exponent of the spectrum's fall. 0 is white, 1 is that of natural
            images.
        detail: Highest frequency, as a share of the Nyquist frequency, in
            `(0, 1]`. Lower is smoother and faster.
        window: Distance from the middle at which the contrast has faded to `1/e`,
            as a share of each side: what is wanted gathers on a quiet ground.
            `None` for contrast up to the border.
        contrast: Root mean square of the finished field, before window and
            sigmoid, and the most that it may reach on the way. Positive.
        start: Root mean square of the field's start. Not negative.
        mean: Value of the quiet ground, in `(0, 1)`, one number or one a channel.

    Example:
    >>> from featviz_callback.parameterizations import Fourier
    >>> Fourier(detail=1).init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
        "Preconditioning and Parameterization".
    """

    decay: float = 1.0
    detail: float = 0.8
    window: float | None = 0.42
    contrast: float = 1.5
    start: float = 0.05
    mean: float | tuple[float, ...] = 0.5

    def __post_init__(self):
        _check(self)
        _require(self, "detail", 0 < self.detail <= 1, "above 0, up to 1")
        _require(self, "window", self.window is None or self.window > 0, "above 0, or None")

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's parameters, `(channels, row and column functions)`."""
        scale = self.scale(shape)
        return rng.normal(0, self.start, (shape[2], *scale.shape)).astype("float32")

    def scale(self, shape: tuple) -> np.ndarray:
        """What each parameter is multiplied by; the squares sum to one."""
        scale = np.maximum(_frequencies(shape[0], shape[1], self.detail), 1.0) ** -self.decay
        return (scale / np.sqrt(np.sum(scale**2))).astype("float32")

    def precondition(self, decay: float, lowest: float, shape: tuple) -> np.ndarray:
        """How much farther than the others the ascent moves each parameter.

        It makes the ascent that of another spectrum, which may change on the way.

        Args:
            decay: Exponent of that spectrum's fall.
            lowest: Frequency in cycles per image below which that spectrum is flat.
            shape: `(height, width, channels)` of the image.

        Returns:
            Float array that broadcasts against one image's parameters.
        """
        scale = np.maximum(_frequencies(shape[0], shape[1], self.detail), lowest) ** -decay
        return scale / np.sqrt(np.sum(scale**2)) / self.scale(shape)

    def field(self, params, rows, columns, shape: tuple):
        """The linear part: everything before the mean and the sigmoid."""
        down, across = (sampling.fourier_norms(size, self.detail) for size in shape[:2])
        scale = self.scale(shape) * np.outer(down, across)
        coefficients = params * ops.convert_to_tensor(scale.astype("float32"))
        if shape[2] == 3:
            coefficients = _correlate_colors(coefficients)
        rows_basis, columns_basis = self._bases(rows, columns, shape)
        return sampling.render(rows_basis, coefficients, columns_basis)

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        return _squash(self.field(params, rows, columns, shape), self.mean)

    def project(self, params, shape: tuple):
        """Keeps each image's contrast below that of the finished image."""
        return params * ops.minimum(1.0, self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """Gives each image its full contrast, unless it has hardly left its start."""
        return params * ops.minimum(_LARGEST_GAIN, self._gain(params, shape))

    def _gain(self, params, shape):
        channels = np.full(shape[2], 1 / shape[2])
        if shape[2] == 3:
            channels = np.mean(_NATURAL_COLORS**2, axis=0)
        weights = channels[:, None, None] * self.scale(shape).astype("float64") ** 2
        weights = ops.convert_to_tensor(weights.astype("float32").reshape(-1, 1))
        squares = ops.reshape(ops.square(params), (params.shape[0], -1))
        mean_square = ops.reshape(ops.matmul(squares, weights), (-1, 1, 1, 1))
        return self.contrast * ops.rsqrt(ops.maximum(mean_square, 1e-12))

    def _bases(self, rows, columns, shape):
        if rows.shape != columns.shape or shape[0] != shape[1]:
            return self._basis(rows, shape[0]), self._basis(columns, shape[1])
        # Both axes at once: what small images cost is the number of operations.
        both = self._basis(ops.concatenate([rows, columns]), shape[0])
        return both[: rows.shape[0]], both[rows.shape[0] :]

    def _basis(self, positions, size):
        basis = sampling.fourier_basis(positions, size, self.detail)
        if self.window is None:
            return basis
        # As a factor of the basis the window costs nothing for each pixel.
        distance = ((positions + 0.5) / size - 0.5) / self.window
        return basis * ops.expand_dims(ops.exp(-ops.square(ops.square(distance))), -1)


def standard(shape: tuple) -> Fourier:
    """The default: `Fourier()`; small images get neither a quiet ground nor a cut-off.

    Args:
        shape: `(height, width, channels)` of the image.
    """
    if sampling.is_small(shape):
        return Fourier(detail=1.0, window=None, contrast=2.0)
    return Fourier()


def like_data(images: np.ndarray, values_range: tuple[float, float], shape: tuple) -> Fourier:
    """The default, on a ground of the mean colour of real images.

    Args:
        images: Array `(images, height, width, channels)` in `values_range`.
        values_range: Lowest and highest value of an image.
        shape: `(height, width, channels)` of the image to be made.

    Raises:
        ValueError: If the images are not finite, or of other channels.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[-1] != shape[2] or not np.isfinite(images).all():
        raise ValueError(
            "Invalid value for argument `probe_data`. Expected a finite array (images, height, "
            f"width, {shape[2]}). Received: an array of shape {images.shape}"
        )
    low, high = values_range
    mean = (images.mean((0, 1, 2), dtype="float64") - low) / (high - low)
    return replace(standard(shape), mean=tuple(np.clip(mean, 0.02, 0.98)))


def get(parameterization: str | object, shape: tuple) -> object:
    """Returns the parameterization of that name, or the object itself.

    Raises:
        ValueError: If the name is unknown or the object lacks a method.
    """
    if isinstance(parameterization, str) and parameterization == "fourier":
        return standard(shape)
    if isinstance(parameterization, str) and parameterization == "pixel":
        return Pixel()
    if not all(hasattr(parameterization, method) for method in ("init", "image", "project")):
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected 'fourier', 'pixel' or an "
            "object with the methods init, image and project. "
            f"Received: parameterization={parameterization!r}"
        )
    return parameterization


def _check(self):
    # Lists and arrays become tuples: a parameterization is compared by value.
    mean = self.mean if np.ndim(self.mean) == 0 else tuple(map(float, self.mean))
    object.__setattr__(self, "mean", mean)
    _require(
        self, "mean", np.all((np.asarray(mean) > 0) & (np.asarray(mean) < 1)), "between 0 and 1"
    )
    _require(self, "contrast", self.contrast > 0, "above 0")
    _require(self, "start", self.start >= 0, "0 or more")


def _require(self, name, holds, expected):
    if not holds:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. "
            f"Received: {name}={getattr(self, name)!r}"
        )


@lru_cache(maxsize=8)
def _frequencies(height, width, detail):
    """The frequency of each function of a separable basis."""
    down = sampling.fourier_frequencies(height, detail)[:, None]
    across = sampling.fourier_frequencies(width, detail)[None]
    # In cycles along the longer side, so that the spectrum is isotropic.
    longest = max(height, width)
    frequencies = np.hypot(down * longest / height, across * longest / width)
    frequencies.flags.writeable = False
    return frequencies


def _correlate_colors(coefficients):
    images, channels, *functions = coefficients.shape
    flat = ops.reshape(coefficients, (images, channels, -1))
    flat = ops.matmul(ops.convert_to_tensor(_NATURAL_COLORS.astype("float32")), flat)
    return ops.reshape(flat, (images, channels, *functions))


def _squash(field, mean):
    mean = np.asarray(mean, "float64")
    logit = np.log(mean / (1 - mean)).astype("float32")
    return ops.sigmoid(field + ops.convert_to_tensor(logit) if logit.any() else field)
