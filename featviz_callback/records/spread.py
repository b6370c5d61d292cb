"""Choose some of many places, evenly spread."""

import numpy as np


def spread(count: int, most: int) -> np.ndarray:
    """Pick places evenly, the first and the last among them.

    Args:
        count: The number of places.
        most: The most places to pick.

    Returns:
        Int array of places from 0 to `count - 1`, in order.

    Example:
    >>> spread(10, most=4), spread(2, most=4)
    (array([0, 3, 6, 9]), array([0, 1]))
    """
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
