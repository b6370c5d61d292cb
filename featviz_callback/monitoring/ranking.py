"""Find the top activating images of a target among real ones.

People predict what activates a unit better from real images than from optimised ones:
92 % against 82 % (Borowski et al., "Exemplary Natural Images Explain CNN Activations
Better than State-of-the-Art Feature Visualization", ICLR 2021).

All objectives are scored in the same calls of the model. Scoring never changes the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import ImageInput, Objective, inputs, preserved, record

# One call of the model takes 32 photographs, or a thousand small images.
_PIXELS_AT_ONCE = 32 * 224 * 224


@dataclass(frozen=True)
class Ranking:
    """The top activating images of each target, best first.

    Attributes:
        indices: Int array `(targets, best)`: their positions among all images.
        scores: Float32 array `(targets, best)`. NaN is ranked last.
    """

    indices: np.ndarray
    scores: np.ndarray


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
    return Ranking(order, np.take_along_axis(scores, order, axis=1))


def score_all(
    objectives: Sequence[Objective],
    images: np.ndarray,
    image_input: ImageInput | None = None,
    fixed_inputs: tuple[np.ndarray, ...] = (),
) -> list[np.ndarray]:
    """Score every image for every target, see `rank`.

    Returns:
        One float32 array `(targets, images)` an objective.
    """
    model = objectives[0].model
    if image_input is None:
        image_input, fixed_inputs = inputs.resolve(model)
    most = max(1, _PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    batch = image_input.batch or min(most, len(images))
    chunks = (np.arange(first, first + batch) for first in range(0, len(images), batch))
    with preserved(model):
        # The last chunk is as long as the others, since a model may take no other number.
        scores = [
            _score_chunk(objectives, images[chunk % len(images)], image_input, fixed_inputs)
            for chunk in chunks
        ]
    joined = (np.concatenate(parts, axis=1) for parts in zip(*scores, strict=True))
    return [one[:, : len(images)] for one in joined]


def _score_chunk(objectives, images, image_input, fixed_inputs):
    """Return scores `(targets, images)` of each objective, from one call of the model."""
    model = objectives[0].model
    taps = {tap: None for one in objectives for term in one.terms for tap in term.taps}
    fixed_inputs = inputs.repeat(fixed_inputs, len(images))
    with backend.load().without_gradients(), keras.StatelessScope():
        arguments = image_input.call_arguments(model, ops.convert_to_tensor(images), fixed_inputs)
        recorded = record(model, arguments, list(taps))
        outputs = {
            tap: ops.cast(output, "float32") for tap, output in zip(taps, recorded, strict=True)
        }
        # All units of a layer at once, since a thousand of them may be read.
        values = cache(lambda readout, tap: ops.convert_to_numpy(readout.units(outputs[tap])).T)
        return [_scores(one, outputs, values, len(images)) for one in objectives]


def _scores(objective, outputs, values, count):
    """Read each term's alternatives once, and add up what each target combines."""
    readings = [_readings(term, outputs, values, count) for term in objective.terms]
    counts = [len(term.names) for term in objective.terms]
    chosen = np.unravel_index(np.arange(len(objective)), counts)
    return sum(
        np.float32(term.multiplier) * reading[rows]
        for term, reading, rows in zip(objective.terms, readings, chosen, strict=True)
    )


def _readings(term, outputs, values, count):
    if hasattr(term.readout, "units"):
        return values(term.readout, term.taps[0])[term.data]
    rows = (np.repeat(row[None], count, axis=0) for row in term.data)
    outputs = [outputs[tap] for tap in term.taps]
    scores = (term.readout(outputs, ops.convert_to_tensor(row)) for row in rows)
    return np.stack([ops.convert_to_numpy(score) for score in scores])
