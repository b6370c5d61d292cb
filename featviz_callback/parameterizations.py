"""What is optimised, and how it becomes an image.

A parameterization is a pair of pure functions, `init` and `image`, and a third,
`project`, which keeps the parameters within bounds after each step:

* `init(rng, shape)` draws the start of one image on the host;
* `image(params, rows, columns, shape)` renders a batch at a grid of positions,
  with values in `[0, 1]`;
* `project(params, shape)` returns the nearest parameters that are allowed.

The image is always `sigmoid(field)`: a fixed map, so that two frames with the
same parameters are the same picture. Anything with these three methods, equal
and hashable by value, can be passed as `parameterization`.
"""

from dataclasses import dataclass

import numpy as np
from keras import ops

from featviz_callback import sampling

# Square root of the covariance of natural images' colours, from ImageNet:
# Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
# "Preconditioning and Parameterization".
_NATURAL_COLORS = np.array([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])


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
        return ops.sigmoid(field + _logit(self.mean))

    def project(self, params, shape: tuple):
        """Scales each image's parameters to the contrast allowed."""
        mean_square = ops.mean(ops.square(params), axis=(1, 2, 3), keepdims=True)
        return params * _shrink(mean_square, self.contrast)


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
        contrast: Largest root mean square of the field before the sigmoid.
            Positive; `inf` for no bound.
        start: Root mean square of the field's start. Not negative.
        mean: Mean of the start, in `(0, 1)`, one number or one a channel.

    Example:
    >>> from featviz_callback.parameterizations import Fourier
    >>> Fourier().init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
        "Preconditioning and Parameterization".
    """

    decay: float = 1.0
    detail: float = 1.0
    contrast: float = 2.0
    start: float = 0.01
    mean: float | tuple[float, ...] = 0.5

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's parameters, `(channels, row and column functions)`."""
        scale = self.scale(shape)
        return rng.normal(0, self.start, (shape[2], *scale.shape)).astype("float32")

    def scale(self, shape: tuple) -> np.ndarray:
        """What each parameter is multiplied by; the mean square sums to one."""
        frequencies = np.hypot(
            sampling.fourier_frequencies(shape[0], self.detail)[:, None] / shape[0],
            sampling.fourier_frequencies(shape[1], self.detail)[None] / shape[1],
        )
        lowest = 1 / max(shape[:2])
        scale = np.maximum(frequencies, lowest) ** -self.decay
        return (scale / np.sqrt(np.sum(scale**2))).astype("float32")

    def field(self, params, rows, columns, shape: tuple):
        """The linear part: everything before the mean and the sigmoid."""
        coefficients = params * ops.convert_to_tensor(self.scale(shape))
        if shape[2] == 3:
            coefficients = _correlate_colors(coefficients)
        return sampling.render(
            sampling.fourier_basis(rows, shape[0], self.detail),
            coefficients,
            sampling.fourier_basis(columns, shape[1], self.detail),
        )

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        field = self.field(params, rows, columns, shape)
        return ops.sigmoid(field + _logit(self.mean))

    def project(self, params, shape: tuple):
        """Scales each image's parameters to the contrast allowed."""
        scale = ops.convert_to_tensor(self.scale(shape))
        squares = ops.sum(ops.square(params * scale), axis=(2, 3), keepdims=True)
        mean_square = ops.mean(squares, axis=1, keepdims=True)
        return params * _shrink(mean_square, self.contrast)


NAMED = {"fourier": Fourier, "pixel": Pixel}


def get(parameterization, mean=None):
    """Returns the parameterization of that name, or the object itself.

    Raises:
        ValueError: If the name is unknown or the object lacks a method.
    """
    if isinstance(parameterization, str) and parameterization in NAMED:
        return NAMED[parameterization]()
    missing = [m for m in ("init", "image", "project") if not hasattr(parameterization, m)]
    if missing:
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected one of "
            f"{sorted(NAMED)} or an object with the methods init, image and project. "
            f"Received: parameterization={parameterization!r}"
        )
    return parameterization


def _correlate_colors(coefficients):
    matrix = _NATURAL_COLORS / np.sqrt(np.mean(np.sum(_NATURAL_COLORS**2, axis=1)))
    images, channels, *functions = coefficients.shape
    flat = ops.reshape(coefficients, (images, channels, -1))
    flat = ops.matmul(ops.convert_to_tensor(matrix.astype("float32")), flat)
    return ops.reshape(flat, (images, channels, *functions))


def _shrink(mean_square, contrast):
    return ops.minimum(1.0, contrast * ops.rsqrt(ops.maximum(mean_square, 1e-12)))


def _logit(mean):
    mean = np.asarray(mean, "float64")
    return ops.convert_to_tensor(np.log(mean / (1 - mean)).astype("float32"))
