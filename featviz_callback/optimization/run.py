"""Run an optimisation: all chunks and all steps, joined into one result.

Targets without any gradient are optimised a second time, with relaxed ReLUs. A run never
changes the model, and restores all random generators.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from featviz_callback.objectives import preserved
from featviz_callback.optimization.chunk import Chunk
from featviz_callback.optimization.task import Task
from featviz_callback.records import Result


def run(task: Task, verbose: int = 0, start: np.ndarray | None = None) -> tuple[Result, np.ndarray]:
    """Run every step of an optimisation, on the weights that the model has now.

    The model and all random generators are restored afterwards.

    Args:
        task: A task that `prepare` returned.
        verbose: 1 shows a progress bar.
        start: Parameters to start from, which an earlier run returned.

    Returns:
        The result, and the final parameters, one row a target.
    """
    count, batch = len(task.targets), task.plan.batch
    firsts = range(0, count, batch)
    progress_bar = keras.utils.Progbar(task.schedule.steps * len(firsts), verbose=verbose)
    joined: dict[str, np.ndarray] = {}
    with preserved(task.targets.model):
        for first in firsts:
            indices = np.arange(first, first + batch)
            part = _run_chunk(task, indices % count, start, progress_bar)
            _keep(joined, part, indices[indices < count], count)
        _retry_relaxed(task, joined, start)
    return _result(joined, task), joined["params"][0]


def _retry_relaxed(task, joined, start):
    """Optimise targets without any gradient once more, with ReLUs relaxed for most steps.

    A unit that is off on every augmented start image need not be dead.
    """
    without_gradient = np.flatnonzero((joined["gradients"] == 0).all(0))
    warmup_steps = task.schedule.steps * 3 // 4
    if task.schedule.warmup_steps or not warmup_steps:
        return
    relaxed = replace(task, schedule=replace(task.schedule, warmup_steps=warmup_steps))
    for first in range(0, len(without_gradient), task.plan.batch):
        some = without_gradient[first : first + task.plan.batch]
        part = _run_chunk(relaxed, np.resize(some, task.plan.batch), start, None)
        part["gradients"][:warmup_steps] = 0
        _keep(joined, part, some, len(task.targets))


def _keep(joined, part, indices, count):
    """Put the arrays of one chunk into those of all targets, which are axis 1."""
    for name, values in part.items():
        if name not in joined:
            joined[name] = np.empty((len(values), count, *values.shape[2:]), values.dtype)
        joined[name][:, indices] = values[:, : len(indices)]


def _run_chunk(task, indices, start, progress_bar):
    """Run all steps for some targets; axis 1 of every returned array is the targets."""
    chunk = Chunk(task, indices, start)
    frame_steps = set(task.schedule.frame_steps)
    frames, recorded = [], []
    # A suspended generator and its chunk would keep each other, and their tensors, in memory.
    with closing(chunk.steps):
        for number in range(task.schedule.steps):
            recorded.append(chunk.step())
            if number + 1 in frame_steps:
                frames.append(chunk.images())
            if progress_bar is not None:
                progress_bar.add(1)
    history, gradients = (
        np.stack(list(map(ops.convert_to_numpy, s))) for s in zip(*recorded, strict=True)
    )
    return {
        "frames": np.stack(frames),
        "history": history,
        "gradients": gradients,
        "scores": chunk.clean_scores()[None],
        "params": ops.convert_to_numpy(chunk.params)[None],
    }


def _result(joined, task):
    images, scores = joined["frames"][-1], joined["scores"][0]
    to_given = task.plan.image_input.to_given
    values_range, has_frames = task.plan.values_range, task.schedule.save_every
    return Result(
        images=to_given(images),
        names=task.targets.names,
        scores=scores,
        history=joined["history"],
        status=_status(images, scores, joined["gradients"], values_range),
        values_range=values_range,
        frames=to_given(joined["frames"]) if has_frames else None,
        frame_steps=np.array(task.schedule.frame_steps) if has_frames else None,
    )


def _status(images, scores, gradients, values_range):
    low, high = values_range
    margin = 0.01 * (high - low)
    at_an_end = (images < low + margin) | (images > high - margin)
    finite = (
        np.isfinite(scores) & np.isfinite(gradients).all(0) & np.isfinite(images).all((1, 2, 3))
    )
    conditions = [~finite, (gradients == 0).all(0), at_an_end.mean((1, 2, 3)) >= 0.5]
    return np.select(conditions, ["nan", "dead", "saturated"], "ok").tolist()
