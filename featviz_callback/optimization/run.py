"""Run an optimisation: all chunks and all steps, joined into one result.

Targets without any gradient, and those whose image scores below one of the starts, are
optimised a second time from a better start. A run never changes the model, and restores
all random generators.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from featviz_callback.objectives import preserved
from featviz_callback.optimization.chunk import Chunk
from featviz_callback.optimization.starts import FAINT, Starts, find_starts, score_images
from featviz_callback.optimization.task import Task
from featviz_callback.records import Result

# The share of the steps of a second try that relax the activations.
_RELAXED = 0.75
_RELAXED_NAME = ", relaxed"


def run(
    task: Task,
    verbose: int = 0,
    params: np.ndarray | None = None,
    starts: list[str] | None = None,
    may_change: np.ndarray | None = None,
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
            start is tried, and only activations may be relaxed.
        starts: The starts that an earlier run chose, and that targets keep for as long as
            they have a gradient there. Chosen anew if `None`.
        may_change: Bool array `(targets,)`: which targets may also change their start if
            their image scores below the best known one.
        best_known: Float32 array `(targets,)`: the score of the best real image.
        with_params: Whether to return the final parameters.
        known: The starts of the task, if `find_starts` has found them already.

    Returns:
        The result, and the final parameters, one row a target, if they were asked for.
    """
    count = len(task.targets)
    with preserved(task.targets.model):
        if known is None:
            (known,) = find_starts([task])
        found = _Found(task, known, best_known, params, with_params, verbose)
        chosen = found.first_choice() if starts is None else found.kept_choice(starts)
        found.optimise(np.arange(count), chosen)
        if starts is None:
            may_change = np.ones(count, bool)
            wanted = found.is_weak | found.is_below_a_start
        else:
            may_change = np.zeros(count, bool) if may_change is None else may_change
            # The network may have changed since a start was chosen.
            found.retry(found.is_weak & may_change, found.first_choice())
            wanted = found.is_weak & may_change
        found.retry(wanted | found.is_without_gradient, found.second_choice())
        wanted = found.is_weak & may_change | found.is_without_gradient
        found.retry(wanted, found.chosen, is_relaxed=True)
        if task.plan.regularizers:
            found.optimise_without_penalties()
    return found.result(), found.arrays["params"][0] if with_params else None


def _first_choice(task, known):
    # Units of feature maps have many maxima, and the highest is seldom next to faint noise.
    # A logit's picture from faint noise is the more natural one.
    if known is None or not task.targets.reads_maps:
        return np.zeros(len(task.targets), int)
    return known.first_choice()


class _Found:
    """The arrays of all targets, as the parts of a run fill them; axis 1 is the targets."""

    def __init__(self, task, known, best_known, params, with_params, verbose):
        count = len(task.targets)
        self.task, self.known, self.params, self.with_params = task, known, params, with_params
        self.aims = np.array([[0.0, 1.0]] * count) if known is None else known.aims(best_known)
        self.best_known = best_known
        self.names = [FAINT] if known is None else known.names
        self.chosen, self.is_relaxed = np.zeros(count, int), np.zeros(count, bool)
        self.arrays: dict[str, np.ndarray] = {}
        parts = -(-count // task.plan.batch)
        self._progress_bar = keras.utils.Progbar(task.schedule.steps * parts, verbose=verbose)

    @property
    def scores(self):
        return self.arrays["scores"][0]

    @property
    def values(self):
        """Scores less penalties."""
        return self.arrays["values"][0]

    @property
    def is_without_gradient(self):
        return (self.arrays["gradients"] == 0).all(0)

    @property
    def is_below_a_start(self):
        """Whether an image scores below one of the starts."""
        if self.known is None:
            return np.zeros(len(self.scores), bool)
        return self.values < np.fmax.reduce(self.known.scores, axis=1)

    @property
    def is_weak(self):
        """Whether an image scores no better than a plain one, or below the best real one."""
        weak = np.zeros(len(self.scores), bool)
        if self.known is not None:
            weak |= self.values <= self.known.scores[:, 0]
        if self.best_known is not None:
            weak |= self.scores < self.best_known
        return weak

    def kept_choice(self, starts):
        """Return the index of the start of each target in an earlier run."""
        self.is_relaxed = np.array([one.endswith(_RELAXED_NAME) for one in starts])
        known = {name: i for i, name in enumerate(self.names)}
        return np.array([known.get(one.removesuffix(_RELAXED_NAME), 0) for one in starts])

    def first_choice(self):
        """Return the index of the best start for each target."""
        if self.params is not None:
            return self.chosen
        return _first_choice(self.task, self.known)

    def second_choice(self):
        """Return the index of a start of another kind for each target."""
        if self.known is None or self.params is not None:
            return self.chosen
        return self.known.second_choice(self.chosen)

    def optimise(self, targets, chosen, task=None):
        """Run all steps for some targets from these starts, and keep what is better."""
        for is_relaxed in (False, True):
            some = targets[self.is_relaxed[targets] == is_relaxed]
            self._optimise(some, chosen, is_relaxed, task)

    def optimise_without_penalties(self):
        """Optimise all targets without penalties, and keep images that are better even so.

        A penalty pulls an optimisation aside, and a few steps may not make up for it. An
        image that was made without, perhaps with less contrast, may then have a higher
        score minus penalty.
        """
        task = replace(self.task, plan=replace(self.task.plan, regularizers=()))
        known = None if self.known is None else find_starts([task])[0]
        if known is not None:
            self.aims = known.aims(self.best_known)
        chosen = _first_choice(task, known)
        self._progress_bar = None
        everything = np.arange(len(self.chosen))
        self._optimise(everything, chosen, False, task)
        is_other = self.is_relaxed | (chosen != self.chosen)
        self.optimise(everything[is_other], self.chosen, task)

    def _optimise(self, targets, chosen, is_relaxed, task=None):
        task, batch = task or self.task, self.task.plan.batch
        if is_relaxed:
            steps = int(task.schedule.steps * _RELAXED)
            task = replace(task, schedule=replace(task.schedule, warmup_steps=steps))
        for first in range(0, len(targets), batch):
            some = targets[first : first + batch]
            # A chunk is always whole, since a compiled step takes one number of images.
            rows = np.resize(some, batch)
            is_faint = (chosen == 0) & (self.params is None)
            aims = np.column_stack([self.aims, is_faint]).astype("float32")[rows]
            start = self._start(rows, chosen)
            # A unit that hardly anything activates may need even the noise of its start.
            fading = None if is_relaxed else self._noise(rows, chosen)
            chunk = Chunk(task, rows, start, aims, fading)
            part = _run_chunk(chunk, self._progress_bar, self.task.plan)
            # A gradient that only relaxed activations let through is not the unit's own, unless
            # it has led to a higher score.
            is_in_vain = part["scores"][0] <= part["history"][0]
            part["gradients"][: task.schedule.warmup_steps, is_in_vain] = 0
            if not self.with_params:
                del part["params"]
            self._keep(part, some, chosen[some], is_relaxed)

    def _start(self, rows, chosen):
        if self.params is not None:
            return self.params[rows]
        return None if self.known is None else self.known.of(chosen[rows])

    def _noise(self, rows, chosen):
        """Return the noise of the starts, which plain colours have not; `None` without any."""
        if self.params is not None or self.known is None:
            return None
        return self.known.noise_of(chosen[rows])

    def _keep(self, part, some, chosen, is_relaxed):
        """Keep what a part has found, where it is not worse than what was found before."""
        is_first = "scores" not in self.arrays or np.isnan(self.scores[some]).all()
        for name, values in part.items():
            if name not in self.arrays:
                shape = (len(values), len(self.chosen), *values.shape[2:])
                self.arrays[name] = np.full(shape, np.nan, values.dtype)
        values = part["values"][0, : len(some)]
        is_better = is_first | (values > self.values[some])
        if not is_first:
            # The next run then begins there at once, and tries nothing in vain.
            is_better |= (values == self.values[some]) & self.is_without_gradient[some]
        for name, values in part.items():
            self.arrays[name][:, some[is_better]] = values[:, : len(some)][:, is_better]
        self.chosen[some[is_better]] = chosen[is_better]
        self.is_relaxed[some[is_better]] = is_relaxed

    def retry(self, is_wanted, chosen, is_relaxed=False):
        """Optimise these targets again, if it is from other starts."""
        if is_relaxed and (self.task.schedule.warmup_steps or self.task.schedule.steps < 2):
            return
        is_new = (chosen != self.chosen) | (self.is_relaxed != is_relaxed)
        self._progress_bar = None
        self._optimise(np.flatnonzero(is_wanted & is_new), chosen, is_relaxed)

    def result(self):
        task, arrays = self.task, self.arrays
        images, has_frames = arrays["frames"][-1], task.schedule.save_every
        gradients = arrays["gradients"]
        values_range, to_given = task.plan.values_range, task.plan.image_input.to_given
        return Result(
            images=to_given(images),
            names=task.targets.names,
            scores=self.scores,
            history=arrays["history"],
            status=_status(task, images, self.scores, gradients),
            values_range=values_range,
            frames=to_given(arrays["frames"]) if has_frames else None,
            frame_steps=np.array(task.schedule.frame_steps) if has_frames else None,
            starts=[
                self.names[i] + _RELAXED_NAME * bool(is_relaxed)
                for i, is_relaxed in zip(self.chosen, self.is_relaxed, strict=True)
            ],
        )


def _run_chunk(chunk, progress_bar, penalized):
    """Run all steps of a chunk; axis 1 of every returned array is the targets."""
    schedule = chunk.task.schedule
    frame_steps = set(schedule.frame_steps)
    frames, recorded = [], []
    # A suspended generator and its chunk would keep each other, and their tensors, in memory.
    with closing(chunk.steps):
        for number in range(schedule.steps):
            recorded.append(chunk.step())
            if number + 1 in frame_steps and number + 1 < schedule.steps:
                frames.append(chunk.images())
            if progress_bar is not None:
                progress_bar.add(1)
    history, gradients = (
        np.stack(list(map(ops.convert_to_numpy, s))) for s in zip(*recorded, strict=True)
    )
    last, scores, values = chunk.end(penalized)
    return {
        "frames": np.stack([*frames, last]),
        "history": history,
        "gradients": gradients,
        "scores": scores[None],
        "values": values[None],
        "params": ops.convert_to_numpy(chunk.params)[None],
    }


def _status(task, images, scores, gradients):
    finite = (
        np.isfinite(scores) & np.isfinite(gradients).all(0) & np.isfinite(images).all((1, 2, 3))
    )
    conditions = [~finite, (gradients == 0).all(0), _are_saturated(task, images, scores)]
    return np.select(conditions, ["nan", "no_gradient", "saturated"], "ok").tolist()


def _are_saturated(task, images, scores):
    """Return whether images are at the ends of the range, to no avail."""
    low, high = task.plan.values_range
    margin = 0.01 * (high - low)
    at_an_end = ((images < low + margin) | (images > high - margin)).mean((1, 2, 3)) >= 0.5
    targets = np.flatnonzero(at_an_end)
    if len(targets):
        half = (low + high) / 4 + images[targets] / 2
        halves = score_images(task, half)[targets, np.arange(len(targets))]
        at_an_end[targets] = scores[targets] <= halves
    return at_an_end
