"""Measure how far the pictures of one snapshot are from those of another."""

from __future__ import annotations

import numpy as np

_VALUES_TOGETHER = 2**13


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return how far pictures have moved: one minus the correlation of their values.

    A drift of 0 means the same picture, whatever its contrast and brightness. A drift of
    1 means an unrelated picture, and 2 means the negative. The correlation is Pearson's,
    over all pixels and channels, with the mean of each channel removed. It has no units
    and does not depend on the number of pixels. Drift says how far apart two pictures are,
    not what has changed in them. A picture that shows the same thing elsewhere counts as
    unrelated, so start and random transformations are the same at each snapshot.

    Zeiler and Fergus (2014, section 4.1) saw in such pictures that features settle, and
    that those of early layers settle first.

    Args:
        before: Array `(targets, height, width, channels)`, or `(targets, time, channels)`.
        after: Array of the same shape.

    Returns:
        Float32 array `(targets,)`. The drift is 0 between two pictures without any
        contrast, and 1 if only one of them has contrast. NaN where a picture has NaN.

    Example:
    >>> picture = np.arange(48.0).reshape(1, 4, 4, 3)
    >>> for other in (2 * picture + 1, -picture):
    ...     print(f"{drift(picture, other)[0]:.3f}")
    0.000
    2.000

    Reference:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV
        2014.
    """
    # A few at a time, since the float64 values of all of them would take much memory.
    size = max(1, _VALUES_TOGETHER // max(1, before[0].size))
    parts = [slice(first, first + size) for first in range(0, len(before), size)]
    return np.concatenate([_drift(before[part], after[part]) for part in parts])


def _drift(before, after):
    space = tuple(range(1, np.ndim(before) - 1))
    before, after = (
        (a - a.mean(space, keepdims=True)).reshape(len(a), -1)
        for a in (np.asarray(before, "float64"), np.asarray(after, "float64"))
    )
    lengths = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    flat = [length <= 1e-9 * np.sqrt(before.shape[1]) for length in lengths]
    products = (before * after).sum(1)
    correlation = products / np.where(flat[0] | flat[1], 1.0, lengths[0] * lengths[1])
    correlation = np.where(flat[0] & flat[1], 1.0, np.where(flat[0] | flat[1], 0.0, correlation))
    return np.clip(1 - correlation, 0, 2).astype("float32")
