"""Begin at a given image: parameters are a change of it, in any of the parameterizations.

The image is `sigmoid(start + change)`. The start is the logit of the given image, pixel by
pixel, so it is the image itself, whatever basis and window the change has. Without a change,
the image is the given one. Detail, window and contrast of the parameterization are those of
the change.

The start is data of a compiled step, as everything that is given for a target.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from featviz_callback.images import sampling
from featviz_callback.images.coefficients import for_default_optimization
from featviz_callback.images.fields import logit
from featviz_callback.images.fixed_magnitude import FixedMagnitude

# Values closer to an end of the range than this share begin there. At the ends themselves no
# gradient could move them.
MARGIN = 0.01


@dataclass(frozen=True)
class Accentuation:
    """A change of a given image, as the parameters that an optimisation moves.

    `FixedMagnitude` keeps the magnitudes of the given image in place of its own.

    Args:
        change: The parameterization of the change: one with a method
            `field(params, rows, columns, shape)`, as `Fourier` has.

    Example:
    >>> from featviz_callback import parameterizations
    >>> change = Accentuation(parameterizations.Pixel())
    >>> start = change.start(np.full((8, 6, 3), 0.5, "float32"))
    >>> params = change.init(np.random.default_rng(0), (8, 6, 3))
    >>> start[0].shape, params.any()
    ((3, 8, 6), np.False_)

    Reference:
        Hamblin, Fel, Saha, Konkle, Alvarez, "Feature Accentuation: Revealing 'What'
        Features Respond to in Natural Images", 2024 (arXiv:2402.10039).
    """

    change: Any

    def start(self, image: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return the data of one given image.

        Args:
            image: Float32 array `(height, width, channels)` with values in `[0, 1]`.

        Returns:
            Its field `(channels, height, width)`; for `FixedMagnitude` also its parameters.
        """
        field = logit(np.clip(image.astype("float64"), MARGIN, 1 - MARGIN))
        return self.start_of(np.ascontiguousarray(field.transpose(2, 0, 1), "float32"))

    def start_of(self, field: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what `start` does, from a field `(channels, height, width)`."""
        if not isinstance(self.change, FixedMagnitude):
            return (field,)
        return field, self.change.fourier.parameters_of(field.transpose(1, 2, 0))

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Return the parameters of no change."""
        return np.zeros_like(self.change.init(rng, shape))

    def precondition(self, *spectrum: Any) -> tuple[np.ndarray, ...]:
        """Return the preconditioner of the change, see `Fourier.precondition`."""
        if hasattr(self.change, "precondition"):
            return self.change.precondition(*spectrum)
        return (np.ones((1, 1, 1), "float32"),)

    def field_gradient(self, gradient, shape: tuple):
        """Return the gradient by each value of the field; `None` if the change has none."""
        if hasattr(self.change, "field_gradient"):
            return self.change.field_gradient(gradient, shape)
        return None

    def image(self, params, rows, columns, shape: tuple, start: tuple = ()):
        """Render float32 `(images, len(rows), len(columns), channels)`.

        Args:
            params: The change; `None` for none.
            rows: Positions `(images, height)` in pixels.
            columns: Positions `(images, width)`.
            shape: `(height, width, channels)` of the image.
            start: What `start` returned, as tensors with an axis of images first.
        """
        field = sampling.interpolate(start[0], rows, columns, shape)
        if params is not None:
            field = field + self.change.field(params, rows, columns, shape)
        return ops.sigmoid(field)

    def project(self, params, shape: tuple, start: tuple = ()):
        """Bound the change, or give each frequency the magnitude that it has in the start."""
        if not isinstance(self.change, FixedMagnitude):
            return self.change.project(params, shape)
        return self.change.with_magnitudes_of(start[1] + params, start[1], shape) - start[1]


def accentuated(parameterization: object, shape: tuple, by_default: bool) -> Accentuation:
    """Return the parameterization of a change of a given image.

    An automatic window is none: the features of a given image are anywhere in it.

    Args:
        parameterization: Any parameterization, as `parameterizations.get` returns it.
        shape: `(height, width, channels)` of the image.
        by_default: Whether the default optimisation moves the parameters.

    Raises:
        ValueError: If the parameterization cannot render a change.
    """
    if not hasattr(parameterization, "field"):
        raise ValueError(
            "Invalid value for argument `start`. Expected a parameterization that renders a "
            "change: 'fourier', 'fixed_magnitude', 'pixel', or an object with a method "
            f"`field(params, rows, columns, shape)`. Received: {parameterization!r}"
        )
    if by_default:
        parameterization = for_default_optimization(parameterization, (0.0, 1.0), shape, True)
    return Accentuation(parameterization)
