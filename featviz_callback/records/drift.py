"""How far the pictures of one snapshot are from those of another."""

from __future__ import annotations

import numpy as np


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far pictures have moved: one minus the correlation of their values.

    0 is the same picture, whatever its contrast and brightness; 1 is an unrelated
    one; 2 would be its negative. It is Pearson's correlation over all pixels and
    channels, with each channel's mean taken out, which has no units and does not
    depend on how many pixels there are. It says how far apart two pictures are, not
    what has changed in them; a picture that shows the same thing elsewhere is
    unrelated, which is why start and views are the same at each snapshot.

    That features settle, those of early layers first, was seen in such pictures
    by Zeiler and Fergus 2014, section 4.1.

    Args:
        before: Array `(targets, height, width, channels)`, or `(targets, time, channels)`.
        after: Array of the same shape.

    Returns:
        Float32 array `(targets,)`. Of two pictures without any contrast the drift
        is 0, of one without and one with it is 1. NaN where a picture has one.

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
