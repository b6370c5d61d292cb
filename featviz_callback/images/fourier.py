"""Parameterise images by Fourier coefficients, scaled like those of natural images.

`Fourier` is the default parameterization. A gradient step in its parameters is a step in
a space where neighbouring pixels, and the colours, are decorrelated. This decorrelation
keeps high-frequency noise out of the images.

Everything here is a pure function of parameters and shapes. Only `init` may draw random
numbers, and no framework may be named.
"""

from dataclasses import dataclass
from functools import lru_cache
from numbers import Real

import numpy as np
from keras import ops

from featviz_callback.images import fourier_basis, sampling
from featviz_callback.images.fields import (
    AUTO,
    check_field,
    limit_contrast,
    mix_channels,
    require,
    to_image,
)
from featviz_callback.images.shapes import is_rgb, is_small
from featviz_callback.images.statistics import NATURAL_COLORS, Spectrum

# Each octave has the same power if amplitudes fall as `1 / frequency` in images, and as
# `1 / sqrt(frequency)` in signals.
SIGNAL_DECAY = 0.5

# The contrast may be so many times higher during the optimisation than in the finished
# image. The headroom makes the finished background plainer, at an equal recognition rate.
HEADROOM = 1.2

# A larger gain would amplify an image without any feature into noise.
LARGEST_GAIN = 3.0

# Root mean squares of the field: of photographs, of images that their object fills, and the
# largest, at which nearly all of an image is black or white.
_CONTRAST, _SMALL_CONTRAST, _LARGEST_CONTRAST = 1.0, 2.0, 8.0

_NOISE, _WINDOW = 0.05, 0.4

# An amplitude below this share of the largest is below a rounding error of the image.
_LEAST = 1e-6


@dataclass(frozen=True)
class Fourier:
    """Fourier coefficients as parameters, scaled like the spectrum of natural images.

    The basis is real and separable: products of a cosine or sine of the rows and one
    of the columns. It has as many functions as the image has pixels with `detail=1`.
    Each function has a root mean square of one, so the contrast of the field is that
    of its coefficients (Parseval's theorem). A coefficient is its parameter times
    `1 / frequency**decay`. A gradient step in the parameters is therefore a step in a
    space where neighbouring pixels, and the colours of RGB images, are decorrelated.

    Args:
        decay: Exponent by which the spectrum falls. 0 is white, 1 is that of natural
            images.
        detail: Highest frequency, as a share of the Nyquist frequency, in `(0, 1]`.
            A lower one is smoother and faster.
        window: Distance from the middle at which contrast has faded to `1/e`, as a
            share of each side. Features then gather in the middle, on a plain
            background. `None` keeps the contrast up to the border. `"auto"` is 0.4
            for photographs, and `None` for signals, for images below 96 pixels and, in
            the default optimisation, for feature maps, whose units are everywhere.
        contrast: Root mean square of the finished field, before the window and the
            sigmoid. It may be 1.2 times as high during the optimisation. Positive.
            `"auto"` is 1, or 2 for signals and images below 96 pixels. In the default
            optimisation it then rises, up to 8, for targets whose score would stay
            below that of real images.
        noise: Root mean square of the field's random start. Not negative. `"auto"` is
            0.05. The default optimisation then tries strong noise and plain colours
            too.
        mean: Value of the plain background, in `(0, 1)`, one number or one per channel.
        colors: Mixtures of the channels that vary together. `"natural"` takes the
            mixtures of natural images for RGB images, and mixes no other channels.
            `None` treats each channel by itself. A matrix `(channels, channels)` has
            one mixture per column and should keep the mean square.
        spectrum: Amplitudes in place of `1 / frequency**decay`, measured for images
            of one size and one `detail`.

    Raises:
        ValueError: If an argument is out of its range, or `colors` is no square
            matrix. When used: if `mean`, `colors` or `spectrum` do not fit the image.

    Example:
    >>> from featviz_callback import parameterizations
    >>> fourier = parameterizations.Fourier(detail=1)
    >>> fourier.init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
        "Preconditioning and Parameterization".
    """

    decay: float = 1.0
    detail: float = 0.8
    window: float | str | None = 0.4
    contrast: float | str = 1.0
    noise: float | str = 0.05
    mean: float | tuple[float, ...] = 0.5
    colors: str | tuple[tuple[float, ...], ...] | None = "natural"
    spectrum: Spectrum | None = None

    def __post_init__(self):
        check_field(self, may_be_auto=True)
        require(self, "detail", 0 < self.detail <= 1, "above 0, up to 1")
        is_share = isinstance(self.window, Real) and self.window > 0
        known = is_share or self.window in (None, AUTO)
        require(self, "window", known, "above 0, None or 'auto'")
        if not (self.colors is None or isinstance(self.colors, str)):
            matrix = np.asarray(self.colors, "float64")
            square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
            require(self, "colors", square and np.isfinite(matrix).all(), "a square matrix")
            object.__setattr__(self, "colors", tuple(map(tuple, matrix.tolist())))
        else:
            require(self, "colors", self.colors in (None, "natural"), "'natural' or a matrix")

    def window_of(self, shape: tuple) -> float | None:
        """Return the window of images of this shape."""
        if isinstance(self.window, str):
            return None if is_small(shape) else _WINDOW
        return self.window

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw the parameters of one image, float32 `(channels, row and column functions)`."""
        functions = _frequencies(shape[0], shape[1], self.detail).shape
        noise = _NOISE if isinstance(self.noise, str) else self.noise
        return rng.normal(0, noise, (shape[2], *functions)).astype("float32")

    def contrasts(self, shape: tuple) -> tuple[float, float]:
        """Return the lowest and the highest contrast of an image."""
        if not isinstance(self.contrast, str):
            return self.contrast, self.contrast
        lowest = _SMALL_CONTRAST if is_small(shape) else _CONTRAST
        return lowest, _LARGEST_CONTRAST

    def scale(self, shape: tuple) -> np.ndarray:
        """Return the factor of each parameter; the squares of a channel sum to one.

        Raises:
            ValueError: If the spectrum was measured for another shape.
        """
        frequencies = _frequencies(shape[0], shape[1], self.detail)
        if self.spectrum is None:
            scale = np.maximum(frequencies, 1.0) ** -self.decay
            return (scale / np.sqrt(np.sum(scale**2))).astype("float32")
        channels, *functions = self.spectrum.amplitudes.shape
        if channels not in (1, shape[2]) or tuple(functions) != frequencies.shape:
            raise ValueError(
                f"Invalid value for argument `spectrum`. Expected one of {frequencies.shape} "
                f"functions for images of shape {shape}. Received: one of {tuple(functions)} for "
                f"{channels} channels"
            )
        return self.spectrum.amplitudes

    def precondition(
        self, steepness: float, lowest: float, chroma: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """Return the preconditioner that makes steps follow a target spectrum.

        The default schedule changes the target spectrum during the optimisation.

        Args:
            steepness: How steeply the target spectrum falls, as a multiple of `decay`.
            lowest: Frequency, in cycles per image, below which the target spectrum is
                flat.
            chroma: Strength of all decorrelated colours but the first in the target
                spectrum, as a multiple of their strength in `colors`.
            shape: `(height, width, channels)` of the image.

        Returns:
            A tuple for `coefficients.apply_preconditioner`. It has one weight for each
            parameter: the squared ratio of its strengths in the target spectrum and in
            this one.
        """
        # The scale is zero for frequencies that real images lack, and weights must be finite.
        scale = self.scale(shape)
        scale = np.maximum(scale, _LEAST * np.max(scale))
        squares = (self.scale_of(steepness, lowest, shape) / scale) ** 2
        if self.color_matrix(shape) is not None:
            squares = squares * color_strengths(chroma, shape)[:, None, None] ** 2
        return (squares,)

    def scale_of(self, steepness: float, lowest: float, shape: tuple) -> np.ndarray:
        """Return a scale, as `scale` does, that falls `steepness` times as steeply.

        Args:
            steepness: A multiple of `decay`. A `spectrum` is multiplied by
                `frequency**-decay` to the power of `steepness - 1`.
            lowest: Frequency, in cycles per image, below which the scale is flat. That of a
                `spectrum` is not made flat.
            shape: `(height, width, channels)` of the image.
        """
        frequencies = _frequencies(shape[0], shape[1], self.detail)
        if self.spectrum is None:
            scale = np.maximum(frequencies, lowest) ** (-self.decay * steepness)
        else:
            tilt = np.maximum(frequencies, 1.0) ** (-self.decay * (steepness - 1))
            scale = self.scale(shape) * tilt
        return scale / np.sqrt(np.sum(scale**2, axis=(-2, -1), keepdims=True))

    def norms(self, shape: tuple) -> np.ndarray:
        """Return the amplitude of each function whose root mean square is one."""
        return np.outer(*(fourier_basis.norms(size, self.detail) for size in shape[:2]))

    def color_matrix(self, shape: tuple) -> np.ndarray | None:
        """Return the mixtures of channels, one per column; `None` if nothing is mixed.

        Raises:
            ValueError: If the mixtures have another number of channels than the image.
        """
        if self.colors is None or (self.colors == "natural" and not is_rgb(shape)):
            return None
        colors = np.array(NATURAL_COLORS if self.colors == "natural" else self.colors)
        if len(colors) != shape[2]:
            raise ValueError(
                f"Invalid value for argument `colors`. Expected a matrix of {shape[2]} rows for "
                f"images of shape {shape}. Received: one of {len(colors)}"
            )
        return colors

    def field(self, params, rows, columns, shape: tuple):
        """Render the linear part of an image, before mean and sigmoid."""
        coefficients = self._coefficients(params, self.norms(shape), shape)
        return self.render(coefficients, rows, columns, shape)

    def field_gradient(self, gradient, shape: tuple):
        """Return the gradient by each value of the field, from that by the parameters.

        Frequencies above `detail` are left out, and those of no strength are 0.
        """
        scale = self.scale(shape)
        weights = self.norms(shape) / np.where(scale > 0, scale, np.inf)
        gradient = gradient * ops.convert_to_tensor(weights.astype("float32"))
        if (colors := self.color_matrix(shape)) is not None:
            inverse = np.linalg.inv(colors).T.astype("float32")
            gradient = mix_channels(gradient, ops.convert_to_tensor(inverse))
        return self.render_pixels(ops.convert_to_numpy(gradient), shape)

    def parameters_of(self, field: np.ndarray) -> np.ndarray:
        """Return the parameters of a field `(height, width, channels)`, without the window.

        Frequencies above `detail` are left out, and those of no strength in `spectrum` are 0.
        """
        down, across = (fourier_basis.orthonormal(n, self.detail) for n in field.shape[:2])
        coefficients = np.einsum("yi,yxc,xj->cij", down, field, across, optimize=True)
        if (colors := self.color_matrix(field.shape)) is not None:
            coefficients = np.tensordot(np.linalg.inv(colors), coefficients, 1)
        # An orthonormal function has a root mean square of one over the root of the pixels.
        scale = self.scale(field.shape) * np.sqrt(np.prod(field.shape[:2]))
        usable = np.broadcast_to(scale > 0, coefficients.shape)
        return np.divide(coefficients, scale, out=np.zeros_like(coefficients), where=usable).astype(
            "float32"
        )

    def _coefficients(self, params, norms, shape):
        """Return the coefficients of each channel, for basis functions of these amplitudes."""
        scale = (self.scale(shape) * norms).astype("float32")
        coefficients = params * ops.convert_to_tensor(scale)
        if (colors := self.color_matrix(shape)) is None:
            return coefficients
        return mix_channels(coefficients, ops.convert_to_tensor(colors.astype("float32")))

    def render(self, coefficients, rows, columns, shape: tuple):
        """Render the field of these coefficients at a grid, with the window."""
        rows_basis, columns_basis = self._bases(rows, columns, shape)
        return sampling.render(rows_basis, coefficients, columns_basis)

    def render_pixels(self, coefficients: np.ndarray, shape: tuple) -> np.ndarray:
        """Render what `render` does at every pixel, on the host.

        A product of small matrices is quicker there than its operations are begun.
        """
        window = self.window_of(shape)
        down, across = (_pixel_basis(size, self.detail, window) for size in shape[:2])
        return np.moveaxis(down @ coefficients @ across.T, 1, -1)

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        return to_image(self.field(params, rows, columns, shape), self.mean, shape)

    def project(self, params, shape: tuple):
        """Bound the contrast of each image, slightly above that of the finished image."""
        return params * ops.minimum(1.0, HEADROOM * self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """Give each image its full contrast, with a gain of at most 3."""
        return params * ops.minimum(LARGEST_GAIN, self._gain(params, shape))

    def _gain(self, params, shape):
        # After mixing, since mixtures that are not orthogonal change the contrast.
        squares = ops.square(self._coefficients(params, 1.0, shape))
        mean_square = ops.sum(squares, axis=(1, 2, 3), keepdims=True) / shape[2]
        return limit_contrast(mean_square, self.contrasts(shape)[0])

    def _bases(self, rows, columns, shape):
        window = self.window_of(shape)
        if rows.shape != columns.shape or shape[0] != shape[1]:
            return self._basis(rows, shape[0], window), self._basis(columns, shape[1], window)
        # Both axes at once: the cost of small images is the number of operations.
        both = self._basis(ops.concatenate([rows, columns]), shape[0], window)
        return both[: rows.shape[0]], both[rows.shape[0] :]

    def _basis(self, positions, size, window):
        basis = fourier_basis.evaluate(positions, size, self.detail)
        if window is None:
            return basis
        # The window multiplies the small basis, which is cheaper than each pixel.
        distance = ((positions + 0.5) / size - 0.5) / window
        return basis * ops.expand_dims(ops.exp(-ops.square(ops.square(distance))), -1)


def color_strengths(chroma: float, shape: tuple) -> np.ndarray:
    """Return the strength of each decorrelated colour: 1 for lightness, then chroma."""
    return np.array([1.0] + [chroma] * (shape[2] - 1))


@lru_cache(maxsize=8)
def _pixel_basis(size, detail, window):
    """Return the basis of an axis at its pixels, with the window, `(size, functions)`."""
    basis = fourier_basis.at_pixels(size, detail)
    if window is not None:
        distance = ((np.arange(size) + 0.5) / size - 0.5) / window
        basis = basis * np.exp(-(distance**4))[:, None]
    basis = basis.astype("float32")
    basis.flags.writeable = False
    return basis


@lru_cache(maxsize=8)
def _frequencies(height, width, detail):
    """Return the frequency of each function of a separable basis."""
    down = fourier_basis.frequencies(height, detail)[:, None]
    across = fourier_basis.frequencies(width, detail)[None]
    # Frequencies in cycles along the longer side make the spectrum isotropic.
    longest = max(height, width)
    frequencies = np.hypot(down * longest / height, across * longest / width)
    frequencies.flags.writeable = False
    return frequencies
