"""Optimise targets from several starts and in several manners, and keep what scores the most.

Targets without any gradient, and those whose image scores below a real image or below one
of the starts, are optimised again: from another start, with relaxed activations, and at
last without the standard transformations.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import keras
import numpy as np
from keras import ops

from featviz_callback.optimization.chunk import Chunk
from featviz_callback.optimization.starts import FAINT, GIVEN, Starts
from featviz_callback.optimization.step import penalty
from featviz_callback.optimization.task import Task

# The share of the steps that relax the activations, where a manner does.
_RELAXED = 0.75

# How a target is optimised, by what follows the name of its start in `Result.starts`.
_USUAL = ""
_WITH_RELAXED = ", relaxed"
_STILL = ", still"
_MANNERS = (_USUAL, _WITH_RELAXED, _STILL, _WITH_RELAXED + _STILL)

# Scores that differ by no more than this share are equal but for rounding.
_ROUNDING = 1e-6

# A target of such a status has tried what there is, if it is weak, or has no gradient.
_TRIED_IF_WEAK = ("weak", "no_gradient")
_TRIED_WITHOUT_GRADIENT = ("no_gradient", "dead", "constant")


class Tries:
    """What the optimisations of a task have found so far.

    Args:
        task: The task.
        known: Its starts; `None` if it has but one.
        best_known: Float32 array `(targets,)`: the score to beat. `None` without any.
        params: Parameters to start from in place of any start.
        with_params: Whether `arrays` has the final parameters.
        verbose: 1 shows a progress bar.

    Attributes:
        arrays: What `Chunk` gives of each target, by name; axis 1 is the targets.
        names: The names of the starts.
        chosen: The index of the start of each target.
        manners: How each target was optimised.
        is_without_gradient: Whether no try of a target had a gradient of its own.
    """

    def __init__(
        self,
        task: Task,
        known: Starts | None,
        best_known: np.ndarray | None,
        params: np.ndarray | None,
        with_params: bool,
        verbose: int,
    ):
        count = len(task.targets)
        self.task, self.known, self.best_known = task, known, best_known
        self.params, self.with_params = params, with_params
        self.aims = np.array([[0.0, 1.0]] * count) if known is None else known.aims(best_known)
        if task.apart is not None:
            self.aims[:, 1] = np.fmax(self.aims[:, 1], task.apart.goal)
        only = GIVEN if task.plan.is_change else FAINT
        self.names = [only] if known is None else known.names
        self.chosen, self.manners = np.zeros(count, int), np.full(count, _USUAL, object)
        self.arrays: dict[str, np.ndarray] = {}
        self.is_without_gradient = np.ones(count, bool)
        self._is_done = np.zeros(count, bool)
        parts = -(-count // task.plan.batch)
        self._progress_bar = keras.utils.Progbar(
            task.schedule.steps * parts, verbose=verbose, stateful_metrics=["score"]
        )

    @property
    def starts(self) -> list[str]:
        """What the optimisation of each target began from, see `Result.starts`."""
        pairs = zip(self.chosen, self.manners, strict=True)
        return [self.names[i] + manner for i, manner in pairs]

    @property
    def scores(self) -> np.ndarray:
        """The score of each image."""
        return self.arrays["scores"][0]

    @property
    def values(self) -> np.ndarray:
        """Scores less penalties."""
        return self.arrays["values"][0]

    @property
    def _is_weak(self):
        """Whether an image scores below the best real one."""
        if self.best_known is None:
            return np.zeros(len(self.scores), bool)
        return self.scores < self.best_known

    @property
    def _is_plain(self):
        """Whether an image is no better than a plain background."""
        if self.known is None:
            return np.zeros(len(self.scores), bool)
        return self._gain_over_images(np.zeros_like(self.chosen)) >= 0

    def _gain_over_images(self, chosen):
        """Return how much more than its image a start of each target scores."""
        if self.known is None:
            return np.zeros(len(self.scores))
        return self.known.scores[np.arange(len(chosen)), chosen] - self.values

    def run(self) -> None:
        """Choose the starts, and try others where they lead to little."""
        self._optimise(np.arange(len(self.chosen)), self._first_choice())

        def is_in_vain():
            return self._is_weak | self.is_without_gradient | self._is_plain

        best = np.zeros_like(self.chosen) if self.known is None else self.known.best()
        is_below_a_start = self._gain_over_images(best) > 0
        self._retry(is_in_vain() | is_below_a_start, self._second_choice())
        self._retry_in_other_manners(is_in_vain)

    def run_again(self, starts: list[str], status: list[str] | None) -> None:
        """Begin from the starts of an earlier run, and try others for what has changed.

        Args:
            starts: The starts of each target, as `starts` returned them.
            status: The status of each target in that run. Nothing else is tried if `None`.
        """
        known = {
            name + manner: (i, manner) for i, name in enumerate(self.names) for manner in _MANNERS
        }
        chosen, manners = zip(*(known.get(one, (0, _USUAL)) for one in starts), strict=True)
        for manner in _MANNERS:
            some = np.flatnonzero(np.array(manners) == manner)
            self._optimise(some, np.array(chosen), manner)
        if status is None:
            return
        # A target that was not a number, and is one now, has tried nothing yet.
        is_number = np.isfinite(self.scores)
        may_beat = ~np.isin(status, _TRIED_IF_WEAK) & is_number
        may_wake = ~np.isin(status, _TRIED_WITHOUT_GRADIENT) & is_number
        if self.best_known is not None:
            # Real images show that there is something to find.
            may_wake |= (np.array(status) == "no_gradient") & self._is_weak
        # At the highest value of a bounded unit, a gradient is zero too.
        is_at_top = self.is_without_gradient & ~self._is_weak & ~self._is_plain & may_wake
        self.is_without_gradient &= ~is_at_top | (self.known is None)

        def is_new():
            return self._is_weak & may_beat | self.is_without_gradient & may_wake

        # The network may have changed since a start was chosen.
        first = self._first_choice()
        is_better = (self._is_weak | self.is_without_gradient) & (self._gain_over_images(first) > 0)
        self._retry(is_new() | is_better, first)
        self._retry(is_new(), self._second_choice())
        self._retry_in_other_manners(is_new)

    def keep_better_of(self, other: Tries) -> None:
        """Take over the images of a run without penalties that are better even with them.

        A penalty pulls an optimisation aside, and a few steps may not make up for it. It may
        also find another maximum, which has more of what it penalises. A target has a
        gradient only if it has one without the penalty's.
        """
        plan, batch = self.task.plan, self.task.plan.batch
        images = other.arrays["frames"][-1]
        penalties = [
            ops.convert_to_numpy(penalty(plan, ops.convert_to_tensor(some)))
            for some in np.split(images, range(batch, len(images), batch))
        ]
        most = np.concatenate(penalties)
        other.arrays["values"] = other.scores[None] - most
        self.is_without_gradient |= other.is_without_gradient
        own = self.scores - self.values
        is_lower = own <= most + _ROUNDING * np.maximum(np.abs(most), np.abs(self.scores))
        is_better = (
            (other.values > self.values)
            | (np.isfinite(other.values) & ~is_lower)
            | (np.isnan(self.values) & np.isfinite(other.values))
        )
        self.take_over(other, is_better)

    def take_over(self, other: Tries, chosen: np.ndarray) -> None:
        """Take over what another run has found for these targets."""
        for name, values in other.arrays.items():
            self.arrays[name][:, chosen] = values[:, chosen]
        self.chosen[chosen] = other.chosen[chosen]
        self.manners[chosen] = other.manners[chosen]

    def _first_choice(self):
        """Return the index of the best start of each target."""
        # Units of feature maps have many maxima, and the highest is seldom next to faint
        # noise. A logit's picture from faint noise is the more natural one.
        if self.known is None or self.params is not None or not self.task.targets.reads_maps:
            return np.zeros_like(self.chosen)
        return self.known.first_choice()

    def _second_choice(self):
        """Return the index of a start of another kind for each target."""
        if self.known is None or self.params is not None:
            return self.chosen
        return self.known.second_choice(self.chosen)

    def _retry_in_other_manners(self, is_wanted):
        schedule = self.task.schedule
        if schedule.warmup_steps == 0 and schedule.steps > 1:
            self._retry(is_wanted(), self.chosen, _WITH_RELAXED)
        if self.task.may_be_still:
            # What is finer than the random transformations move it is seen without them.
            for manner in (_USUAL, _WITH_RELAXED):
                self._retry(is_wanted() & (self.manners == manner), self.chosen, manner + _STILL)

    def _retry(self, is_wanted, chosen, manner=_USUAL):
        """Optimise these targets again, if it is from other starts or in another manner."""
        if self.params is not None:
            chosen = self.chosen
        is_other = (chosen != self.chosen) | (self.manners != manner)
        self._progress_bar = None
        self._optimise(np.flatnonzero(is_wanted & is_other), chosen, manner)

    def _optimise(self, targets, chosen, manner=_USUAL):
        """Run all steps for some targets from these starts, and keep what is better."""
        task, batch = self.task, self.task.plan.batch
        if manner.endswith(_STILL):
            task = replace(task, moves=())
        if manner.startswith(_WITH_RELAXED):
            steps = int(task.schedule.steps * _RELAXED)
            task = replace(task, schedule=replace(task.schedule, warmup_steps=steps))
        is_faint = (chosen == 0) & (self.params is None)
        aims = np.column_stack([self.aims, is_faint]).astype("float32")
        for some in _in_chunks(targets, batch):
            # A chunk is always whole, since a compiled step takes one number of images.
            rows = np.resize(some, batch)
            rows[some % batch] = some
            start, fading = self._start(rows, chosen)
            # A unit that hardly anything activates may need even the noise of its start.
            fading = fading if manner == _USUAL else None
            part = _run_chunk(Chunk(task, rows, start, aims[rows], fading), self._progress_bar)
            # A gradient that only relaxed activations let through is not the unit's own, unless
            # it has led to more than a plain background.
            floor = part["history"][0] if self.known is None else self.aims[rows, 0]
            part["gradients"][: task.schedule.warmup_steps, part["scores"][0] <= floor] = 0
            if not self.with_params:
                del part["params"]
            part = {name: values[:, some % batch] for name, values in part.items()}
            self._keep(part, some, chosen[some], manner)

    def _start(self, rows, chosen):
        """Return the parameters that targets start from, and the noise among them."""
        if self.params is not None:
            return self.params[rows], None
        if self.known is None:
            return None, None
        return self.known.of(chosen[rows]), self.known.noise_of(chosen[rows])

    def _keep(self, part, some, chosen, manner):
        """Keep what a part has found, where it is better than what was found before."""
        for name, values in part.items():
            if name not in self.arrays:
                shape = (len(values), len(self.chosen), *values.shape[2:])
                self.arrays[name] = np.full(shape, np.nan, values.dtype)
        had_gradient = (part["gradients"] != 0).any(0)
        self.is_without_gradient[some] &= ~had_gradient
        values, before = part["values"][0], self.values[some]
        is_better = ~self._is_done[some] | (values > before)
        is_better |= np.isnan(before) & np.isfinite(values)
        for name, values in part.items():
            self.arrays[name][:, some[is_better]] = values[:, is_better]
        self.chosen[some[is_better]] = chosen[is_better]
        self.manners[some[is_better]] = manner
        self._is_done[some] = True


def _in_chunks(targets, batch):
    """Yield targets, each with others that have another row of a chunk.

    On torch a row of a product rounds by its place. So a target has the same row in every chunk,
    and its image does not tell what else was tried.
    """
    rows = targets % batch
    # How many targets before it have the same row.
    rank = np.array([np.sum(rows[:i] == row) for i, row in enumerate(rows)], int)
    for number in range(rank.max(initial=-1) + 1):
        yield targets[rank == number]


def _run_chunk(chunk, progress_bar):
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
            if progress_bar is not None and progress_bar.verbose:
                # Only who looks waits for the score of each step.
                score = np.mean(ops.convert_to_numpy(recorded[-1][0]))
                progress_bar.add(1, [("score", score)])
    history, gradients = (
        np.stack(list(map(ops.convert_to_numpy, s))) for s in zip(*recorded, strict=True)
    )
    last, scores, values = chunk.end()
    importance, contrasts = chunk.importance(), chunk.contrasts()
    return {
        **({} if importance is None else {"importance": importance[None]}),
        **({} if contrasts is None else {"contrasts": contrasts[None]}),
        "frames": np.stack([*frames, last]),
        "history": history,
        "gradients": gradients,
        "scores": scores[None],
        "values": values[None],
        "params": ops.convert_to_numpy(chunk.average)[None],
    }
