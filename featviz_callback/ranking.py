"""Which real images excite a target most.

People tell what a unit does better from real images than from optimised ones:
92 % against 82 % (Borowski et al., "Exemplary Natural Images Explain CNN
Activations Better than State-of-the-Art Feature Visualization", ICLR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from featviz_callback import backend, inputs
from featviz_callback.activations import record
from featviz_callback.inputs import ImageInput
from featviz_callback.objectives import Objective
from featviz_callback.untouched import untouched

# In one call of the model: 32 photographs, or a thousand small images.
_PIXELS_AT_ONCE = 32 * 224 * 224


@dataclass(frozen=True)
class Ranking:
    """The best real images of each target, best first.

    Attributes:
        indices: Int array `(targets, best)`, which of the images they are.
        scores: Float32 array `(targets, best)`. NaN is ranked last.
    """

    indices: np.ndarray
    scores: np.ndarray


def rank(
    objective: Objective,
    images: np.ndarray,
    most: int,
    image_input: ImageInput | None = None,
    held: tuple[np.ndarray, ...] = (),
) -> Ranking:
    """Ranks images by the score that they have, as they are, for each target.

    Each image goes through the model once, however many targets there are.

    Args:
        objective: What to score.
        images: Float32 array `(images, height, width, channels)` in the units and
            the size of the model's input.
        most: How many to keep for each target.
        image_input: Which of the model's inputs takes the images, as
            `inputs.resolve` gives it. Default: its only one.
        held: What the others are held at.

    Example:
    >>> import keras
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat")])
    >>> images = np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 1))
    >>> rank(Objective.neuron(model, "flat", 0), images, most=2).indices
    array([[2, 1]])
    """
    scores = score_all(objective, images, image_input, held)
    order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")[:, :most]
    return Ranking(order, np.take_along_axis(scores, order, axis=1))


def score_all(
    objective: Objective,
    images: np.ndarray,
    image_input: ImageInput | None = None,
    held: tuple[np.ndarray, ...] = (),
) -> np.ndarray:
    """Scores every image for every target: float32 `(targets, images)`; see `rank`."""
    if image_input is None:
        image_input, held = inputs.resolve(objective.model)
    most = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    batch = image_input.batch or min(most, len(images))
    chunks = (np.arange(first, first + batch) for first in range(0, len(images), batch))
    with untouched(objective.model):
        # The last chunk is as long as the others: a model may take no other number.
        scores = [
            _score_chunk(objective, images[chunk % len(images)], image_input, held)
            for chunk in chunks
        ]
    return np.concatenate(scores, axis=1)[:, : len(images)]


def _score_chunk(objective, images, image_input, held):
    """Reads each term's alternatives once, and adds up what each target combines."""
    taps = [tap for term in objective.terms for tap in term.taps]
    held = inputs.repeat(held, len(images))
    with backend.load().without_gradients(), keras.StatelessScope():
        arguments = image_input.call_arguments(objective.model, ops.convert_to_tensor(images), held)
        recorded = record(objective.model, arguments, taps)
        outputs = iter([ops.cast(output, "float32") for output in recorded])
        readings = [
            _readings(term, [next(outputs) for _ in term.taps], len(images))
            for term in objective.terms
        ]
    counts = [len(term.names) for term in objective.terms]
    chosen = np.unravel_index(np.arange(len(objective)), counts)
    return sum(
        np.float32(term.multiplier) * values[rows]
        for term, values, rows in zip(objective.terms, readings, chosen, strict=True)
    )


def _readings(term, outputs, count):
    rows = (np.repeat(row[None], count, axis=0) for row in term.data)
    scores = (term.read(outputs, ops.convert_to_tensor(row)) for row in rows)
    return np.stack([ops.convert_to_numpy(score) for score in scores])
