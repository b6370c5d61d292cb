"""Images of which the optimisation may move the phases only.

Magnitudes stay those of natural images, or of the user's own. The optimisation cannot
add high-frequency noise, and contrast needs no bound.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from keras import ops

from featviz_callback.images import fourier_basis
from featviz_callback.images.fields import require
from featviz_callback.images.fourier import Fourier

# A field of fixed magnitude has its full contrast from the start and can only turn its
# phases, for which it takes steps so many times longer. Measured in `benchmarks/`.
_TURN = 20.0


@dataclass(frozen=True)
class FixedMagnitude:
    """Phases as parameters; the magnitude of each frequency stays as it is.

    Each step moves the coefficients freely, and then gives each frequency its magnitude
    back.

    Args:
        fourier: Basis, magnitudes (its `spectrum`, or the fall by `decay`), colours,
            contrast, window and mean. Its `noise` does not matter.

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
        (arXiv:2306.06805). There the phases themselves are the parameters.
    """

    fourier: Fourier = field(default_factory=Fourier)

    def __post_init__(self):
        require(self.fourier, "contrast", np.isfinite(self.fourier.contrast), "a finite number")

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw random phases, float32 `(channels, row and column functions)`."""
        noise = replace(self.fourier, noise=1.0).init(rng, shape)
        params = self.project(ops.convert_to_tensor(noise[None]), shape)
        return ops.convert_to_numpy(params)[0]

    def precondition(
        self, decay: float, lowest: float, chroma: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """See `Fourier.precondition`; steps are longer, since phases have to turn."""
        (squares,) = self.fourier.precondition(decay, lowest, chroma, shape)
        return (_TURN**2 * squares,)

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        return self.fourier.image(params, rows, columns, shape)

    def project(self, params, shape: tuple):
        """Give each frequency of each image its magnitude back."""
        size, detail = shape[:2], self.fourier.detail
        parts = fourier_basis.to_complex(params, size, detail)
        # One, two or four functions with a root mean square of one share a magnitude.
        shared = np.outer(*(_norm_of_each_frequency(length, detail) for length in size))
        shared = ops.convert_to_tensor((self.fourier.contrast * shared).astype("float32"))
        unit = []
        for real, imaginary in (parts[:2], parts[2:]):
            inverse = shared * ops.rsqrt(ops.square(real) + ops.square(imaginary) + 1e-20)
            unit += [real * inverse, imaginary * inverse]
        return fourier_basis.from_complex(unit[0], unit[1], unit[2], unit[3], size, detail)


def _norm_of_each_frequency(size, detail):
    """The norm of the functions of each whole frequency of one axis."""
    highest = int(fourier_basis.frequencies(size, detail).max())
    return fourier_basis.norms(size, detail)[: highest + 1]
