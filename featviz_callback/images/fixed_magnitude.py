"""Optimise the phases of Fourier coefficients, with fixed magnitudes.

The magnitudes are those of natural images, or of your own. After each step, every
frequency gets its magnitude back.

The optimisation must not change a magnitude. It can therefore add no high-frequency
noise, and contrast needs no bound.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from keras import ops

from featviz_callback.images import fourier_basis
from featviz_callback.images.fields import AUTO, require
from featviz_callback.images.fourier import Fourier

# Steps are so many times longer than for `Fourier`. The field has its full contrast from
# the start, so short steps would hardly turn its phases. Measured in `benchmarks/`.
_TURN = 20.0


@dataclass(frozen=True)
class FixedMagnitude:
    """Fourier coefficients with free phases and fixed magnitudes.

    Each step moves the coefficients freely. Then each frequency gets its magnitude back.

    Args:
        fourier: Basis, magnitudes (from `spectrum`, or `1 / frequency**decay`), colours,
            contrast, window and mean. Its `noise` is ignored.

    Raises:
        ValueError: If the contrast is not finite.

    Example:
    >>> from featviz_callback import parameterizations
    >>> fixed = parameterizations.FixedMagnitude()
    >>> fixed.init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 7, 5)

    Reference:
        Fel et al., "Unlocking Feature Visualization for Deeper Networks with
        MAgnitude Constrained Optimization", NeurIPS 2023, section 3
        (arXiv:2306.06805). In the paper, the phases themselves are the parameters.
    """

    fourier: Fourier = field(default_factory=Fourier)

    def __post_init__(self):
        is_finite = self.fourier.contrast == AUTO or np.isfinite(self.fourier.contrast)
        require(self.fourier, "contrast", is_finite, "a finite number")

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw random phases, float32 `(channels, row and column functions)`."""
        noise = replace(self.fourier, noise=1.0).init(rng, shape)
        params = self.project(ops.convert_to_tensor(noise[None]), shape)
        return ops.convert_to_numpy(params)[0]

    def precondition(
        self, steepness: float, lowest: float, chroma: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """Return the preconditioner of `Fourier.precondition`, for longer steps."""
        (squares,) = self.fourier.precondition(steepness, lowest, chroma, shape)
        return (_TURN**2 * squares,)

    def field(self, params, rows, columns, shape: tuple):
        """Render the linear part of an image, before mean and sigmoid."""
        return self.fourier.field(params, rows, columns, shape)

    def field_gradient(self, gradient, shape: tuple):
        """Return the gradient by each value of the field, from that by the parameters."""
        return self.fourier.field_gradient(gradient, shape)

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        return self.fourier.image(params, rows, columns, shape)

    def project(self, params, shape: tuple):
        """Give each frequency of each image its magnitude back."""
        size, detail = shape[:2], self.fourier.detail
        # One, two or four functions share a magnitude, each with a root mean square of one.
        shared = np.outer(*(_norm_of_each_frequency(length, detail) for length in size))
        shared = ops.convert_to_tensor(
            (self.fourier.contrasts(shape)[0] * shared).astype("float32")
        )
        return self._with_magnitudes(params, (shared, shared), shape)

    def with_magnitudes_of(self, params, others, shape: tuple):
        """Give each frequency of each image the magnitude that it has in other parameters."""
        real, imaginary, *mirrored = fourier_basis.to_complex(
            others, shape[:2], self.fourier.detail
        )
        magnitudes = _magnitude(real, imaginary), _magnitude(*mirrored)
        return self._with_magnitudes(params, magnitudes, shape)

    def _with_magnitudes(self, params, magnitudes, shape):
        size, detail = shape[:2], self.fourier.detail
        parts = fourier_basis.to_complex(params, size, detail)
        unit = []
        for magnitude, real, imaginary in zip(magnitudes, parts[::2], parts[1::2], strict=True):
            inverse = magnitude * ops.rsqrt(ops.square(real) + ops.square(imaginary) + 1e-20)
            unit += [real * inverse, imaginary * inverse]
        return fourier_basis.from_complex(unit[0], unit[1], unit[2], unit[3], size, detail)


def _magnitude(real, imaginary):
    return ops.sqrt(ops.square(real) + ops.square(imaginary))


def _norm_of_each_frequency(size, detail):
    """Return the norm of the functions of each whole frequency of one axis."""
    highest = int(fourier_basis.frequencies(size, detail).max())
    return fourier_basis.norms(size, detail)[: highest + 1]
