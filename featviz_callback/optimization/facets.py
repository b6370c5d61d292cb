"""Optimise the facets of each target one after the other, each unlike those before it.

The first facet is a picture as a target has it without any other. A facet never depends on
what other targets there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import SomeTargets, inputs, record
from featviz_callback.optimization.chunk import of_unit_length
from featviz_callback.optimization.likeness import describe, likeness
from featviz_callback.optimization.starts import Starts
from featviz_callback.optimization.task import Apart, Task
from featviz_callback.records import Result

# A facet scores at least such a share of the first one's score. It is made again with another
# share in mind if it ends farther than the margin from the goal.
_ENOUGH, _GOAL, _MARGIN = 0.86, 0.875, 0.015

# While it is made, it differs as long as it scores such a share of the first one's score at
# the same step, give or take this much of the first one's gain.
_AFFORDED = 0.85
_TOLERANCE = 0.03
_TINY = 1e-6

# An image that equals an earlier one loses such a share of its score, times the strength. Since
# it does so only while it can afford to, the share may be large.
_SHARE = 3.0

# By no more than this does that share change at once.
_LONGEST = 0.2

# A facet may have so many times the least contrast, or that of the first one if it is higher.
# At equal contrast, a unit that is nearly linear has but one image of such a score.
_CONTRAST = 2.5

# So often is a facet made again at most.
MOST_TRIES = 4


def split_facets(task: Task) -> list[Task]:
    """Return one task a facet; the task itself if its targets have but one."""
    count = task.targets.facet_count
    if count == 1:
        return [task]
    return [
        replace(
            task,
            targets=SomeTargets.of(task.targets, range(k, len(task.targets), count)),
            start=tuple(rows[k::count] for rows in task.start),
        )
        for k in range(count)
    ]


def apart_from(
    task: Task,
    found: Sequence[Result],
    known: Starts | None,
    finals: Sequence[np.ndarray],
    contrasts: np.ndarray | None,
) -> Task:
    """Return the task of a facet whose images must differ from those of earlier ones.

    An image that equals an earlier one loses a share of what the first facet scores above a
    plain background. It gets more contrast as long as it scores less than the first facet.

    Args:
        task: The task of the facet.
        found: The results of the earlier facets.
        known: The starts of the task, which tell the score of a plain background.
        finals: The final parameters of the earlier facets.
        contrasts: The contrast of each image of the first facet, `None` if it is fixed.
    """
    count, steps = len(task.targets), task.schedule.steps
    to_images = task.plan.image_input.to_images
    if not found:
        # The first facet shares its compiled step with the others.
        blank = np.zeros((count, *task.plan.image_shape), "float32")
        others = [tuple(np.zeros_like(one) for one in _described(task, blank))]
        weights, enough, tolerance = np.zeros(count), np.zeros((steps, count)), np.ones(count)
        goal, ceiling = np.full(count, -np.inf), np.full(count, np.inf)
        behind = np.zeros((count, *_parameters(task.plan)))
    else:
        others = [_described(task, to_images(one.images)) for one in found]
        floor = 0.0 if known is None else known.scores[:, 0]
        with np.errstate(invalid="ignore"):
            gain = np.nan_to_num(np.abs(found[0].scores - floor))
        weights = _SHARE * task.targets.facet_strength * gain
        enough = _enough(found[0].history, _AFFORDED)
        tolerance = np.maximum(_TOLERANCE * gain, _TINY)
        goal = np.where(weights > 0, found[0].scores, -np.inf)
        # Without strength a facet is a picture like any other.
        ceiling = np.where(weights > 0, _ceiling(task.plan, contrasts, count), np.inf)
        behind = _behind(finals, weights)
    most = task.plan.facets - 1
    stacked = (np.stack(parts, 1) for parts in zip(*others, strict=True))
    padded = tuple(np.pad(one, [(0, 0), (0, most - one.shape[1]), (0, 0)]) for one in stacked)
    apart = Apart(
        weights=np.nan_to_num(weights).astype("float32"),
        enough=np.nan_to_num(enough).astype("float32"),
        tolerance=np.nan_to_num(tolerance).astype("float32"),
        goal=goal.astype("float32"),
        ceiling=ceiling.astype("float32"),
        behind=behind.astype("float32"),
        described=padded,
    )
    return replace(task, apart=apart)


def _surplus(scores, first, share):
    """Return what scores have above such a share of the first facet's, as a share of it."""
    with np.errstate(invalid="ignore"):
        above = scores - _enough(first.scores, share)
        return above / np.maximum(np.abs(first.scores), _TINY)


def _behind(finals, weights):
    """Return the direction of earlier facets, since a start decides where a climb ends."""
    total = sum(np.nan_to_num(of_unit_length(one)) for one in finals)
    wanted = (weights > 0).reshape(-1, *(1,) * (total.ndim - 1))
    return of_unit_length(total) * wanted


def _parameters(plan):
    """Return the shape of the parameters of one image."""
    return plan.parameterization.init(np.random.default_rng(0), plan.image_shape).shape


def _ceiling(plan, contrasts, count):
    if contrasts is None:
        return np.full(count, np.inf)
    return np.fmax(_CONTRAST * plan.parameterization.contrasts(plan.image_shape)[0], contrasts)


def _enough(scores, share):
    """Return scores that are such a share of others, which may be negative."""
    with np.errstate(invalid="ignore"):
        return scores - (1 - share) * np.abs(scores)


def with_other_share(
    task: Task, scores: np.ndarray, first: Result, is_open: np.ndarray
) -> tuple[Task, np.ndarray]:
    """Let images of a facet pay more for their difference, or less if they paid too much.

    Args:
        task: The task, as `apart_from` returned it.
        scores: The scores of its images.
        first: The result of the first facet, which tells what is too little.
        is_open: Which targets may change.

    Returns:
        The task, and which targets have changed: those whose score is far from the goal.
    """
    apart = cast(Apart, task.apart)
    surplus = _surplus(scores, first, _GOAL)
    surplus = np.clip(np.nan_to_num(surplus), -_LONGEST, _LONGEST)
    # Without strength there is nothing to pay for.
    surplus = np.where((np.abs(surplus) > _MARGIN) & (apart.weights > 0) & is_open, surplus, 0)
    weights = apart.weights * np.exp2(np.sign(surplus))
    enough = apart.enough - surplus * np.nan_to_num(np.abs(first.history))
    changed = replace(apart, weights=weights.astype("float32"), enough=enough.astype("float32"))
    return replace(task, apart=changed), surplus != 0


def merit(task: Task, images: np.ndarray, scores: np.ndarray, first: Result) -> np.ndarray:
    """Return how good each image is as a facet: above 0 where it scores enough.

    It is the better, the less alike earlier facets it is, or the less its score lacks.

    Args:
        task: The task, as `apart_from` returned it.
        images: The images, one a target.
        scores: Their scores.
        first: The result of the first facet.
    """
    described = map(ops.convert_to_tensor, _described(task, images))
    others = tuple(map(ops.convert_to_tensor, cast(Apart, task.apart).described))
    alike = ops.convert_to_numpy(likeness(tuple(described), others))
    lacking = _surplus(scores, first, _ENOUGH)
    found = np.where(lacking >= 0, task.plan.facets - alike, lacking)
    return np.nan_to_num(found, nan=-np.inf)


def _described(task, images):
    """Describe final images, see `likeness.describe`, as arrays."""
    plan, size = task.plan, task.plan.input_shape[:2]
    parts = []
    for first in range(0, len(images), plan.batch):
        # A model may take no other number of images than that of a batch.
        some = images[np.arange(first, first + plan.batch) % len(images)]
        tensor = ops.convert_to_tensor(some)
        features = None if plan.anchor is None else _features(task, _resized(tensor, size))
        parts.append([ops.convert_to_numpy(one) for one in describe(tensor, features)])
    return tuple(np.concatenate(one)[: len(images)] for one in zip(*parts, strict=True))


def _resized(images, size):
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    return ops.image.resize(images, size, data_format="channels_last")


def _features(task, images):
    model, plan = task.targets.model, task.plan
    fixed = inputs.repeat(task.fixed_inputs, len(images))
    with backend.load().without_gradients(), keras.StatelessScope():
        arguments = plan.image_input.call_arguments(model, images, fixed)
        [features] = record(model, arguments, [plan.anchor])
    return ops.cast(features, "float32")


def join_facets(found: Sequence[Result], names: list[str]) -> Result:
    """Join the results of facets, so that those of one target follow each other."""
    if len(found) == 1:
        return found[0]

    def joined(attribute, axis=0):
        parts = [getattr(one, attribute) for one in found]
        if parts[0] is None:
            return None
        stacked = np.stack([np.asarray(one) for one in parts], axis + 1)
        shape = stacked.shape
        return stacked.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])

    return replace(
        found[0],
        names=names,
        images=joined("images"),
        scores=joined("scores"),
        history=joined("history", axis=1),
        frames=joined("frames", axis=1),
        importance=joined("importance"),
        status=joined("status").tolist(),
        starts=joined("starts").tolist(),
    )
