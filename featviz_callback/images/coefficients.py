"""Optimise Fourier coefficients by a preconditioned gradient, the default.

A `Fourier` scales its parameters and mixes their colours to render an image. Each
gradient is scaled and mixed in turn. Steps in the parameters equal preconditioned steps
in the coefficients. The scaling and the mixing then happen once a step, to the gradient
alone.

`Coefficients` replaces a `Fourier` wherever no Keras optimizer is given. It must not
change the images, only the stored parameters.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from featviz_callback.images.fields import background, limit_contrast, mix_channels, to_image
from featviz_callback.images.fourier import HEADROOM, LARGEST_GAIN, Fourier, color_strengths


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

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw the coefficients of one image, `(channels, row and column functions)`."""
        fourier = self.fourier
        coefficients = fourier.init(rng, shape) * fourier.scale(shape) * self._units(shape)
        if (colors := fourier.color_matrix(shape)) is not None:
            coefficients = np.tensordot(colors, coefficients, 1)
        return coefficients.astype("float32")

    def precondition(
        self, decay: float, lowest: float, chroma: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """Return the preconditioner, see `Fourier.precondition`."""
        fourier = self.fourier
        squares = (fourier.scale_of(decay, lowest, shape) * self._units(shape)) ** 2
        if (colors := fourier.color_matrix(shape)) is None:
            return (squares,)
        mixture = colors * color_strengths(chroma, shape)
        return squares, mixture @ mixture.T

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        fourier = self.fourier
        field = fourier.render(params, rows, columns, shape)
        if not self.signed:
            return to_image(field, fourier.mean, shape)
        plain = np.float32(self._share) * background(fourier.mean, shape)
        return ops.tanh(field + ops.convert_to_tensor(plain) if plain.any() else field)

    def project(self, params, shape: tuple):
        """Bound the contrast of each image, see `Fourier.project`."""
        return params * ops.minimum(1.0, HEADROOM * self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """Give each image its full contrast, see `Fourier.finish`."""
        return params * ops.minimum(LARGEST_GAIN, self._gain(params, shape))

    def _units(self, shape):
        """Return the coefficients of functions whose root mean square in the field is one."""
        return self._share * self.fourier.norms(shape)

    def _gain(self, params, shape):
        weights = (self._units(shape) ** -2.0 / shape[2]).astype("float32").reshape(-1, 1)
        # Faster than a weighted sum, which would write the products as one more large array.
        squares = ops.reshape(ops.square(params), (-1, weights.size))
        sums = ops.matmul(squares, ops.convert_to_tensor(weights))
        mean_square = ops.sum(ops.reshape(sums, (-1, shape[2])), axis=1)
        return limit_contrast(ops.reshape(mean_square, (-1, 1, 1, 1)), self.fourier.contrast)


def for_default_optimization(parameterization: object, values_range: tuple[float, float]) -> object:
    """Return `Coefficients` in place of a `Fourier`; return any other object as it is.

    Args:
        parameterization: Any parameterization.
        values_range: Lowest and highest value of the image to be made.
    """
    if type(parameterization) is not Fourier:
        return parameterization
    return Coefficients(parameterization, signed=values_range[0] == -values_range[1])


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
