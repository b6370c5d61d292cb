"""The default optimisation moves Fourier coefficients by a preconditioned gradient.

An optimisation of `Fourier`'s parameters scales them and mixes their colours on the way
to an image, and does the same to each gradient on its way back. In the coefficients
themselves, the same steps are steps along a preconditioned gradient. The scaling and the
mixing then happen once a step, to the gradient alone.

`Coefficients` replaces a `Fourier` wherever no Keras optimizer is given. Images are the
same; only what is stored as parameters differs.
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
        signed: Whether images have values in `[-1, 1]` in place of `[0, 1]`. Then the
            coefficients are those of half the field, and its hyperbolic tangent is the
            image.

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
        """The share of the field that the coefficients describe."""
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
        """See `Fourier.precondition`."""
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
        """See `Fourier.project`."""
        return params * ops.minimum(1.0, HEADROOM * self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """See `Fourier.finish`."""
        return params * ops.minimum(LARGEST_GAIN, self._gain(params, shape))

    def _units(self, shape):
        """The coefficients of functions whose root mean square in the field is one."""
        return self._share * self.fourier.norms(shape)

    def _gain(self, params, shape):
        weights = (self._units(shape) ** -2.0 / shape[2]).astype("float32").reshape(-1, 1)
        # A product with a vector reads the squares once, and writes nothing large.
        squares = ops.reshape(ops.square(params), (-1, weights.size))
        sums = ops.matmul(squares, ops.convert_to_tensor(weights))
        mean_square = ops.sum(ops.reshape(sums, (-1, shape[2])), axis=1)
        return limit_contrast(ops.reshape(mean_square, (-1, 1, 1, 1)), self.fourier.contrast)


def for_default_optimization(parameterization: object, values_range: tuple[float, float]) -> object:
    """Return what the default optimisation moves: coefficients in place of a `Fourier`.

    Args:
        parameterization: Any parameterization; others than a `Fourier` are returned.
        values_range: Lowest and highest value of the image that is wanted.
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
        gradient: Float32 tensor `(images, ...)`, or `(images, channels, ...)` where
            channels are mixed.
        preconditioner: Tensors, as the method `precondition` of a parameterization
            returns them. None at all leaves the gradient as it is. One has a weight
            for each parameter, or broadcasts against them. A second one is a matrix
            `(channels, channels)` that then mixes the channels. Together they are
            symmetric and positive semi-definite.
    """
    if not preconditioner:
        return gradient
    weights, *mixture = preconditioner
    direction = gradient * weights
    return mix_channels(direction, *mixture) if mixture else direction
