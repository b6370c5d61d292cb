"""Optimise Fourier coefficients by a preconditioned gradient, the default.

A `Fourier` scales its parameters and mixes their colours to render an image. Each
gradient is scaled and mixed in turn. Steps in the parameters equal preconditioned steps
in the coefficients. The scaling and the mixing then happen once a step, to the gradient
alone.

`Coefficients` replaces a `Fourier` wherever no Keras optimizer is given. It must not
change the images, only the stored parameters.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from keras import ops

from featviz_callback.images.fields import (
    AUTO,
    background,
    limit_contrast,
    logit,
    mix_channels,
    to_image,
)
from featviz_callback.images.fourier import HEADROOM, LARGEST_GAIN, Fourier, color_strengths

# Starts: the share of the range of a dark plain colour, the most channels of which all
# corners of the cube are tried, root mean squares of noise, how steeply its spectrum falls,
# and how many of each there are.
_DARK = 0.02
_MOST_MIXED = 3
_STRENGTHS = (1.0, 3.0)
_STEEPNESSES = (0.0, 1.0, 1.5)
_DRAWS = 4

# Images of more pixels get one of each, since starts take memory.
_LARGE = 256 * 256


@dataclass(frozen=True)
class Coefficients:
    """The coefficients of a `Fourier`, as the parameters that an optimisation moves.

    Args:
        fourier: Basis, start, contrast, window and mean of the images.
        signed: Whether images have values in `[-1, 1]` in place of `[0, 1]`. If so, the
            coefficients describe half the field, and the image is the hyperbolic tangent
            of that half.

    Example:
    >>> from featviz_callback import parameterizations
    >>> from featviz_callback.images import Coefficients
    >>> coefficients = Coefficients(parameterizations.Fourier(detail=1))
    >>> coefficients.init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)
    """

    fourier: Fourier
    signed: bool = False

    @property
    def _share(self):
        """Share of the field that the coefficients describe."""
        return 0.5 if self.signed else 1.0

    def contrasts(self, shape: tuple) -> tuple[float, float]:
        """Return the lowest and the highest contrast of an image."""
        return self.fourier.contrasts(shape)

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw the coefficients of one image, `(channels, row and column functions)`."""
        params = self.fourier.init(rng, shape) * self.fourier.scale(shape)
        return self._mixed(params * self._units(shape), shape)

    def starts(self, rng: np.random.Generator, shape: tuple) -> dict[str, np.ndarray]:
        """Return starts of other strengths and spectra, and plain colours, by name.

        Args:
            rng: The generator of the noise.
            shape: `(height, width, channels)` of the image.

        Returns:
            The coefficients of one image for each name. Empty if the start is given by
            `noise`.
        """
        return {name: draw(rng) for name, draw in self.draws(shape).items()}

    def draws(self, shape: tuple) -> dict[str, Callable[[np.random.Generator], np.ndarray]]:
        """Return functions that draw the starts, each of which moves the generator on.

        Args:
            shape: `(height, width, channels)` of the image.
        """
        if self.fourier.noise != AUTO:
            return {}
        named: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
            f"plain {i}": partial(self._plain, shares=one, shape=shape)
            for i, one in enumerate(_corners(shape[2]))
        }
        count = _DRAWS if math.prod(shape[:2]) <= _LARGE else 1
        for strength, steepness, i in itertools.product(_STRENGTHS, _STEEPNESSES, range(count)):
            named[f"noise {strength:g} {steepness:g} {i}"] = partial(
                self._noise,
                strength=strength,
                steepness=steepness,
                # Colours that differ as in real images, and colours that are independent.
                is_mixed=i % 2 == 0,
                shape=shape,
            )
        return named

    def _noise(self, rng, strength, steepness, is_mixed, shape):
        scale = self.fourier.scale_of(steepness, 1.0, shape) * strength
        noise = rng.standard_normal((shape[2], *scale.shape[-2:]))
        params = noise * scale * self._units(shape)
        params = self._mixed(params, shape) if is_mixed else params
        return self._bounded(params.astype("float32"), shape)

    def _bounded(self, params, shape):
        """Return parameters of no more contrast than an optimisation allows."""
        squares = np.sum((params / self._units(shape)) ** 2) / shape[2]
        largest = HEADROOM * self.contrasts(shape)[1]
        return params * np.float32(min(1.0, largest / max(math.sqrt(squares), 1e-12)))

    def _plain(self, _, shares, shape):
        field = logit(np.asarray(shares)) - background(self.fourier.mean, shape)
        params = np.zeros((shape[2], *self._units(shape).shape), "float32")
        params[:, 0, 0] = self._share * field
        return self._bounded(params, shape)

    def _mixed(self, params, shape):
        if (colors := self.fourier.color_matrix(shape)) is not None:
            params = np.tensordot(colors, params, 1)
        return params.astype("float32")

    def precondition(
        self, steepness: float, lowest: float, chroma: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """Return the preconditioner, see `Fourier.precondition`."""
        fourier = self.fourier
        squares = (fourier.scale_of(steepness, lowest, shape) * self._units(shape)) ** 2
        if (colors := fourier.color_matrix(shape)) is None:
            return (squares,)
        mixture = colors * color_strengths(chroma, shape)
        return squares, mixture @ mixture.T

    def field(self, params, rows, columns, shape: tuple):
        """Render the linear part of an image, before mean and sigmoid."""
        return self.fourier.render(params, rows, columns, shape)

    def field_gradient(self, gradient, shape: tuple):
        """Return the gradient by each value of the field, from that by the coefficients."""
        squares = (self.fourier.norms(shape) ** 2).astype("float32")
        return self.fourier.render_pixels(ops.convert_to_numpy(gradient) * squares, shape)

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        fourier = self.fourier
        field = self.field(params, rows, columns, shape)
        if not self.signed:
            return to_image(field, fourier.mean, shape)
        plain = np.float32(self._share) * background(fourier.mean, shape)
        return ops.tanh(field + ops.convert_to_tensor(plain) if plain.any() else field)

    def project(self, params, shape: tuple, contrast: Any = None):
        """Bound the contrast of each image, see `Fourier.project`.

        Args:
            params: The coefficients of each image.
            shape: `(height, width, channels)` of an image.
            contrast: Tensor `(images, 1, 1, 1)`; the lowest contrast if `None`.
        """
        return params * ops.minimum(1.0, HEADROOM * self._gain(params, shape, contrast))

    def finish(self, params, shape: tuple, contrast: Any = None):
        """Give each image its full contrast, see `Fourier.finish` and `project`."""
        return params * ops.minimum(LARGEST_GAIN, self._gain(params, shape, contrast))

    def contrast_of(self, params, shape: tuple):
        """Return the root mean square of the field of each image, `(images, 1, 1, 1)`."""
        return ops.sqrt(self._mean_square(params, shape))

    def _units(self, shape):
        """Return the coefficients of functions whose root mean square in the field is one."""
        return self._share * self.fourier.norms(shape)

    def _gain(self, params, shape, contrast):
        lowest = self.contrasts(shape)[0]
        contrast = lowest if contrast is None else contrast
        return limit_contrast(self._mean_square(params, shape), contrast)

    def _mean_square(self, params, shape):
        weights = _square_weights(self, shape)
        # Faster than a weighted sum, which would write the products as one more large array.
        squares = ops.reshape(ops.square(params), (-1, len(weights)))
        return ops.expand_dims(ops.matmul(squares, ops.convert_to_tensor(weights)), (2, 3))


@lru_cache(maxsize=8)
def _square_weights(coefficients, shape):
    """Return what the square of each coefficient adds to the mean square, `(all, 1)`."""
    weights = (coefficients._units(shape) ** -2.0 / shape[2]).astype("float32")
    weights = np.tile(weights.reshape(-1), shape[2])[:, None]
    weights.flags.writeable = False
    return weights


def _corners(channels):
    """Return plain colours: each channel nearly at an end of the range."""
    ends = (_DARK, 1 - _DARK)
    if channels <= _MOST_MIXED:
        return list(itertools.product(ends, repeat=channels))
    return [(end,) * channels for end in ends]


def for_default_optimization(
    parameterization: object,
    values_range: tuple,
    shape: tuple,
    is_everywhere: bool,
) -> object:
    """Return `Coefficients` in place of a `Fourier`; return any other object as it is.

    Args:
        parameterization: Any parameterization.
        values_range: Lowest and highest value of the image to be made.
        shape: `(height, width, channels)` of that image.
        is_everywhere: Whether the targets are read from all positions of the image. Unless
            the user asks for a window, there is none then.
    """
    if type(parameterization) is not Fourier:
        return parameterization
    is_auto = parameterization.window == AUTO
    if is_auto and (is_everywhere or parameterization.window_of(shape) is None):
        parameterization = replace(parameterization, window=None)
    is_signed = np.array_equal(values_range[0], np.negative(values_range[1]))
    return Coefficients(parameterization, signed=is_signed)


def lowest_value(parameterization: object) -> float:
    """Return the lowest value of an image; its highest value is 1."""
    return -1.0 if isinstance(parameterization, Coefficients) and parameterization.signed else 0.0


def apply_preconditioner(gradient: Any, preconditioner: tuple) -> Any:
    """Return the direction of a step: the gradient, preconditioned.

    Args:
        gradient: Float32 tensor `(images, ...)`, or `(images, channels, ...)` if the
            preconditioner mixes channels.
        preconditioner: Tuple of tensors, as the method `precondition` of a
            parameterization returns it. An empty tuple leaves the gradient as it is. The
            first tensor has a weight for each parameter, or broadcasts against the
            parameters. The second is a matrix `(channels, channels)` that then mixes the
            channels. The whole preconditioner is symmetric and positive semi-definite.

    Returns:
        Float32 tensor of the shape of `gradient`.
    """
    if not preconditioner:
        return gradient
    weights, *mixture = preconditioner
    direction = gradient * weights
    return mix_channels(direction, *mixture) if mixture else direction
