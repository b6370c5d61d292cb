"""Rank real images by how much they activate each target.

Scores are of the images as they are. Ranking never changes the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featviz_callback.objectives import ImageInput, Objective, score_all

# A score below this share of the largest of all targets is zero but for rounding.
_ROUNDING = 1e-7

# Scores that differ by no more than this share are equal but for rounding.
_EQUAL = 1e-6


@dataclass(frozen=True)
class Ranking:
    """The top activating images of each target, best first.

    Attributes:
        indices: Int array `(targets, best)`: their positions among all images.
        scores: Float32 array `(targets, best)`. NaN is ranked last.
        is_silent: Bool array `(targets,)`: whether no image activates the target, so that
            all scores are zero.
        is_constant: Bool array `(targets,)`: whether all scores are equal, and not zero.
            A single image tells nothing of this.
    """

    indices: np.ndarray
    scores: np.ndarray
    is_silent: np.ndarray
    is_constant: np.ndarray


def rank(
    objectives: Sequence[Objective],
    images: np.ndarray,
    most: int,
    image_input: ImageInput | None = None,
    fixed_inputs: tuple[np.ndarray, ...] = (),
) -> list[Ranking]:
    """Rank images by their scores for each target, without random transformation.

    Each image goes through the model once, however many objectives there are.

    Args:
        objectives: What to score, all of one model.
        images: Float32 array `(images, height, width, channels)` in the units and
            the size of the model's input.
        most: How many images to keep for each target.
        image_input: The model's input that takes the images, as `inputs.resolve`
            returns it. Default: its only input.
        fixed_inputs: One example of each other input.

    Returns:
        One ranking an objective.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat")])
    >>> images = np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 1))
    >>> [ranking] = rank([Objective.neuron(model, "flat", 0)], images, most=2)
    >>> ranking.indices
    array([[2, 1]])
    """
    return [
        _rank(scores, most) for scores in score_all(objectives, images, image_input, fixed_inputs)
    ]


def _rank(scores, most):
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")[:, :most]
    best = np.take_along_axis(scores, order, axis=1)
    strongest = np.abs(scores).max(1)
    # One broken unit says nothing about the others.
    largest = strongest.max(initial=0.0, where=np.isfinite(strongest))
    is_silent = strongest <= _ROUNDING * largest
    # The mean over a map adds up in another order in a batch of another size.
    with np.errstate(invalid="ignore"):
        is_constant = np.ptp(scores, axis=1) <= _EQUAL * strongest
    is_constant &= ~is_silent & (scores.shape[1] > 1)
    return Ranking(order, best, is_silent, is_constant)
