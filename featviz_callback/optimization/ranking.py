"""Rank real images by how much they activate each target.

Scores are of the images as they are. Ranking never changes the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import ImageInput, Objective, Watch, score_all
from featviz_callback.optimization.whole_pass import find_pass

# Scores that differ by no more than this share, 16 units in the last place of float32, are
# equal but for rounding.
_EQUAL = 2e-6


@dataclass(frozen=True)
class Ranking:
    """The top activating images of each target, best first.

    Attributes:
        indices: Int array `(targets, best)`: their positions among all images.
        scores: Float32 array `(targets, best)`. What is no finite number is ranked last.
        spread: Float32 array `(targets,)`: the difference of the highest and the lowest
            score, or the score's size if there is but one image.
        is_silent: Bool array `(targets,)`: whether no image activates the target, so that
            all scores are zero.
        is_constant: Bool array `(targets,)`: whether all scores are equal, and not zero.
            A single image tells nothing of this.
        is_partly_known: Bool array `(targets,)`: whether the score of some image is no
            finite number.
        all_scores: Float32 array `(targets, images)`: the score of every image, in their
            order.
    """

    indices: np.ndarray
    scores: np.ndarray
    spread: np.ndarray
    is_silent: np.ndarray
    is_constant: np.ndarray
    is_partly_known: np.ndarray
    all_scores: np.ndarray


def rank(
    objectives: Sequence[Objective],
    images: np.ndarray,
    most: int,
    image_input: ImageInput | None = None,
    fixed_inputs: tuple[np.ndarray, ...] = (),
    watch: Watch | None = None,
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
        watch: To whom the outputs of which layers are shown on the way, if to anybody.

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
    compiled = None
    if (
        watch is not None
        and backend.load().compile_pass
        and _has_finite_weights(objectives[0].model)
    ):
        # In a graph, TensorFlow's ReLU makes 0 of what is no number.
        compiled = find_pass
    scored = score_all(objectives, images, image_input, fixed_inputs, watch, compiled)
    return [_rank(scores, most) for scores in scored]


def _has_finite_weights(model):
    floats = (one for one in model.weights if keras.backend.is_float_dtype(one.dtype))
    return all(bool(np.isfinite(ops.sum(ops.cast(one, "float32")))) for one in floats)


def _rank(scores, most):
    sortable = np.where(np.isfinite(scores), scores, -np.inf)
    order = np.argsort(-sortable, axis=1, kind="stable")[:, :most]
    best = np.take_along_axis(scores, order, axis=1)
    # An image may be too much for a unit that the others activate.
    is_known = np.isfinite(scores)
    known = np.where(is_known, scores, 0)
    strongest = np.abs(known).max(1)
    # What other units score says nothing about this one.
    is_silent = (strongest == 0) & is_known.any(1)
    # The mean over a map adds up in another order in a batch of another size.
    highest = np.where(is_known, scores, -np.inf).max(1)
    lowest = np.where(is_known, scores, np.inf).min(1)
    has_several = is_known.sum(1) > 1
    with np.errstate(invalid="ignore"):
        spread = np.where(has_several, highest - lowest, strongest)
    is_constant = ~is_silent & has_several & (spread <= _EQUAL * strongest)
    return Ranking(order, best, spread, is_silent, is_constant, ~is_known.all(1), scores)
