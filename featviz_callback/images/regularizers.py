"""Penalise images: R(x), subtracted from the score.

A regularizer is a function of the parameterised images, before any random transformation,
`(images, height, width, channels) -> (images,)`. The weight of a regularizer must not
depend on the image's size, and its gradient must be finite everywhere.

A `weight` is in units of the score: a penalty of 1 costs as much as 1 of the score gains.

Example:
>>> from featviz_callback import regularizers
>>> penalties = (regularizers.TotalVariation(0.1), regularizers.L2(0.01))
"""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

from keras import ops

_AXES = (1, 2, 3)
# Keeps the gradient of a square root finite where an image is zero.
_TINY = 1e-12


@dataclass(frozen=True)
class L1:
    """Mean absolute value.

    Args:
        weight: Factor of the penalty, finite, in units of the score. Below 0 it is a reward.

    Raises:
        ValueError: If the weight is not a finite number.

    Example:
    >>> float(L1(2.0)(ops.full((1, 4, 4, 3), -0.5))[0])
    1.0
    """

    weight: float = 1.0

    def __post_init__(self):
        _require_finite(self.weight)

    def __call__(self, images: Any) -> Any:
        """Return one penalty an image, `(images,)`."""
        return self.weight * ops.mean(ops.abs(images), axis=_AXES)


@dataclass(frozen=True)
class L2:
    """Root mean square, which draws values towards 0: images in `(0, 1)` become darker.

    Args:
        weight: Factor of the penalty, finite, in units of the score. Below 0 it is a reward.

    Raises:
        ValueError: If the weight is not a finite number.

    Example:
    >>> round(float(L2()(ops.full((1, 4, 4, 3), -0.5))[0]), 3)
    0.5
    """

    weight: float = 1.0

    def __post_init__(self):
        _require_finite(self.weight)

    def __call__(self, images: Any) -> Any:
        """Return one penalty an image, `(images,)`."""
        return self.weight * ops.sqrt(ops.mean(ops.square(images), axis=_AXES) + _TINY)


@dataclass(frozen=True)
class LInfinity:
    """Largest absolute value of each channel, as a mean over the channels.

    Args:
        weight: Factor of the penalty, finite, in units of the score. Below 0 it is a reward.

    Raises:
        ValueError: If the weight is not a finite number.

    Example:
    >>> float(LInfinity()(ops.reshape(ops.arange(-3.0, 3.0), (1, 2, 3, 1)))[0])
    3.0
    """

    weight: float = 1.0

    def __post_init__(self):
        _require_finite(self.weight)

    def __call__(self, images: Any) -> Any:
        """Return one penalty an image, `(images,)`."""
        largest = ops.max(ops.abs(images), axis=(1, 2))
        return self.weight * ops.mean(largest, axis=1)


@dataclass(frozen=True)
class TotalVariation:
    """Mean absolute difference of neighbours, down plus across.

    Args:
        weight: Factor of the penalty, finite, in units of the score. Below 0 it is a reward.

    Raises:
        ValueError: If the weight is not a finite number.

    Reference:
        Mahendran, Vedaldi, "Understanding Deep Image Representations by
        Inverting Them", CVPR 2015, section 2 (there with exponent 2).

    Example:
    >>> float(TotalVariation()(ops.reshape(ops.arange(6.0), (1, 2, 3, 1)))[0])
    4.0
    """

    weight: float = 1.0

    def __post_init__(self):
        _require_finite(self.weight)

    def __call__(self, images: Any) -> Any:
        """Return one penalty an image, `(images,)`."""
        down = _mean_difference(images[:, 1:], images[:, :-1])
        across = _mean_difference(images[:, :, 1:], images[:, :, :-1])
        return self.weight * (down + across)


def _require_finite(weight):
    if not (isinstance(weight, Real) and math.isfinite(weight)):
        raise ValueError(
            "Invalid value for argument `weight`. Expected a finite number. "
            f"Received: weight={weight!r}"
        )


def _mean_difference(later, earlier):
    # An axis of one pixel has no neighbours, and the mean of an empty array is NaN.
    if 0 in later.shape[1:]:
        return ops.zeros(later.shape[:1], dtype=later.dtype)
    return ops.mean(ops.abs(later - earlier), axis=_AXES)
