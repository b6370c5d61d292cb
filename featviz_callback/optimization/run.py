"""Run an optimisation: all chunks, all steps and all tries, joined into one result.

A run never changes the model, and restores all random generators.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from keras import ops

from featviz_callback.objectives import preserved
from featviz_callback.optimization.facets import (
    MOST_TRIES,
    apart_from,
    join_facets,
    merit,
    split_facets,
    with_other_share,
)
from featviz_callback.optimization.fingerprints import models_unchanged
from featviz_callback.optimization.starts import Starts, find_starts, score_images
from featviz_callback.optimization.step import penalty
from featviz_callback.optimization.task import Task
from featviz_callback.optimization.tries import Tries
from featviz_callback.records import Result


def run(
    task: Task,
    verbose: int = 0,
    params: np.ndarray | None = None,
    starts: list[str] | None = None,
    status: list[str] | None = None,
    best_known: np.ndarray | None = None,
    with_params: bool = False,
    known: Starts | None = None,
) -> tuple[Result, np.ndarray | None]:
    """Run every step of an optimisation, on the weights that the model has now.

    The model and all random generators are restored afterwards.

    Args:
        task: A task that `prepare` returned.
        verbose: 1 shows a progress bar.
        params: Parameters to start from, which an earlier run returned. Then no other
            start is tried.
        starts: The starts that an earlier run chose, and that targets keep for as long as
            they have a gradient there. Chosen anew if `None`.
        status: The status of each target in that earlier run. A target that is newly weak
            or newly without a gradient tries other starts. One that still is tries a
            start that activates it more than its image does. None does if `None`.
        best_known: Float32 array `(targets,)`: the score of the best real image.
        with_params: Whether to return the final parameters.
        known: The starts of the task, if `find_starts` has found them already.

    Returns:
        The result, and the final parameters, one row a target, if they were asked for.
    """
    # Activations of given images follow the weights.
    task = replace(task)
    with preserved(task.targets.model), models_unchanged():
        known = find_starts([task])[0] if known is None else known
        given = {"params": params, "starts": starts, "status": status, "best_known": best_known}
        count = task.targets.facet_count
        results: list[Result] = []
        finals: list[np.ndarray] = []
        contrasts, keeps_params = None, with_params or count > 1
        for k, one in enumerate(split_facets(task)):
            own = None if known is None else replace(known, scores=known.scores[k::count])
            own_given = {n: None if v is None else v[k::count] for n, v in given.items()}
            if count > 1:
                one = apart_from(one, results, own, finals, contrasts)
            if results:
                # Of several starts, the one that scores the most is seldom another facet.
                own_given |= {"starts": results[0].starts, "status": None}
            found = _tried(one, own, verbose, keeps_params, **own_given)
            if results:
                _search(one, own, found, results[0], own_given)
            else:
                contrasts = found.arrays.get("contrasts", [None])[0]
            results.append(_result(one, found))
            if keeps_params:
                finals.append(found.arrays["params"][0])
    result = join_facets(results, task.targets.names)
    if not with_params:
        return result, None
    return result, np.stack(finals, 1).reshape(-1, *finals[0].shape[1:])


def _tried(task, known, verbose, with_params, params, starts, status, best_known):
    """Run all tries of a task, with penalties and without."""

    def tries(task, known, verbose):
        found = Tries(task, known, best_known, params, with_params, verbose)
        found.run() if starts is None else found.run_again(starts, status)
        return found

    found = tries(task, known, verbose)
    if task.plan.regularizers:
        plain = replace(task, plan=replace(task.plan, regularizers=()))
        found.keep_better_of(tries(plain, find_starts([plain])[0], verbose=0))
    return found


def _search(task, known, found, first, given):
    """Make a facet again that scores more than it has to, or too little; keep the best."""
    best, scores = merit(task, found.arrays["frames"][-1], found.scores, first), found.scores
    for number in range(MOST_TRIES):
        # Once is worth it for the difference, more often for the score alone.
        is_open = (best < 0) | (number == 0)
        changed, is_changed = with_other_share(task, scores, first, is_open)
        if not is_changed.any():
            break
        task = changed
        other = _tried(task, known, 0, with_params=True, **given)
        scores = other.scores
        own = merit(task, other.arrays["frames"][-1], scores, first)
        # What another target needs changes nothing.
        found.take_over(other, (own > best) & is_changed)
        best = np.where(is_changed, np.maximum(own, best), best)


def _result(task, found):
    arrays, has_frames = found.arrays, task.schedule.save_every
    to_given = task.plan.image_input.to_given
    return Result(
        images=to_given(arrays["frames"][-1]),
        names=task.targets.names,
        scores=found.scores,
        history=arrays["history"],
        status=_status(task, found),
        values_range=task.plan.values_range,
        frames=to_given(arrays["frames"]) if has_frames else None,
        frame_steps=np.array(task.schedule.frame_steps) if has_frames else None,
        starts=found.starts,
        importance=_importance(task, arrays),
    )


def _importance(task, arrays):
    if "importance" not in arrays:
        return None
    return task.plan.image_input.to_given(arrays["importance"][0][..., None])[..., 0]


def _status(task, found):
    images, gradients = found.arrays["frames"][-1], found.arrays["gradients"]
    is_finite = (
        np.isfinite(found.scores)
        & np.isfinite(gradients).all(0)
        & [np.isfinite(image).all() for image in images]
    )
    conditions = [~is_finite, found.is_without_gradient, _are_saturated(task, found)]
    return np.select(conditions, ["nan", "no_gradient", "saturated"], "ok").tolist()


def _are_saturated(task, found):
    """Return whether images are at the ends of the range, to no avail."""
    images = found.arrays["frames"][-1]
    low, high = np.asarray(task.plan.values_range, "float32")
    margin = 0.01 * (high - low)
    # One by one, since what is computed of all would take as much memory as they do.
    shares = [((one < low + margin) | (one > high - margin)).mean() for one in images]
    at_an_end = np.array(shares) >= 0.5
    everywhere, batch = np.flatnonzero(at_an_end), task.plan.batch
    for first in range(0, len(everywhere), batch):
        targets = everywhere[first : first + batch]
        whole = images[targets]
        half = (low + high) / 4 + whole / 2
        values = found.values[targets]
        if task.plan.image_shape != task.plan.input_shape:
            # Resized in the same way as the others.
            values = _values_of(task, whole, targets)
        at_an_end[targets] = values <= _values_of(task, half, targets)
    return at_an_end


def _values_of(task, images, targets):
    """Return the score less penalties of one image for each of these targets."""
    scores = score_images(task, images)[targets, np.arange(len(targets))]
    if not task.plan.regularizers:
        return scores
    return scores - ops.convert_to_numpy(penalty(task.plan, ops.convert_to_tensor(images)))
