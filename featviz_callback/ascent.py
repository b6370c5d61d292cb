"""The ascent of an objective's targets: in chunks, step by step.

What is random about an image, its start and its views, is drawn here, on the host,
from one generator an image. With the recipe's numbers it is the data of a compiled
step (`featviz_callback.programs`), which is the same for all of them.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby

import keras
import numpy as np
from keras import ops

from featviz_callback import backend, inputs, programs, sampling, transformations
from featviz_callback.objectives import Objective
from featviz_callback.programs import MOMENTUM, Plan, tensor
from featviz_callback.result import Result
from featviz_callback.untouched import untouched

# Steps whose views are drawn together.
_STEPS_AT_ONCE = 64

# Parameters shrink by this share of the rate at each step, towards the quiet ground.
_SHRINKAGE = 0.3


def recipe(steps: int, number: int, shape: tuple) -> dict[str, float]:
    """The default ascent: everything that follows from the number of steps.

    It works coarse to fine: at first on a steep spectrum of weak hues, which finds
    shapes, and after its first quarter on a flatter one of strong hues, which gives them
    detail and colour. Longer ascents take shorter steps. Of photographs, those of more
    than 32 steps begin with smaller things, for up to a third of the steps, in views that
    come closer and are seen through noise (`transformations.standard`), against which
    they take longer steps. They end on a steeper spectrum, and come to rest: their last
    steps are ever shorter, so that what single views have left behind averages out. From
    128 steps on they do so in full. Measured in `benchmarks/`.

    Args:
        steps: Steps of the whole ascent.
        number: The step, from 0.
        shape: `(height, width, channels)` of the image.

    Returns:
        `rate`, how far a step moves the field, as a root mean square; `decay`, the
        exponent of the spectrum that the step works on; `lowest`, the frequency in
        cycles per image below which that spectrum is flat; and `hues`, how strong
        hues are in it, as a multiple of what they are in real images.
    """
    patience = transformations.patience(shape, steps)
    fine = min(1.0, (4 - patience) * number / steps)
    rate = 0.06 * (1 + 2.5 * patience) * math.sqrt(16 / max(steps, 8))
    return {
        "rate": rate * _easing(number / steps, 0.5 * patience),
        "decay": 1.4 - (0.8 - 0.15 * patience) * fine,
        "lowest": 1.5 + 6.5 * patience * (1 - fine),
        "hues": 0.5 + 0.75 * fine,
    }


def _easing(progress, last):
    """1, and in that share of the steps at the end down to 0 along half a cosine."""
    over = max(0.0, progress - (1 - last))
    return 0.5 + 0.5 * math.cos(math.pi * over / last) if over else 1.0


@dataclass(frozen=True)
class Ascent:
    """An ascent whose arguments have been checked, see `featviz_callback.optimization.prepare`.

    Attributes:
        objective: What to maximise.
        plan: What its program depends on.
        moves: The transformations at the head that only move where images are read.
        changes: The others, with the numbers of which the plan has only the kind.
        schedule: How many steps there are.
        seed: Seed of all that is random.
        held: One example of each other input of the model.
    """

    objective: Objective
    plan: Plan
    moves: tuple
    changes: tuple
    schedule: Schedule
    seed: int
    held: tuple[np.ndarray, ...] = ()

    @cached_property
    def data(self) -> tuple:
        """What a program gets of each term, one row a target, see `Objective.data`."""
        return self.objective.data()

    @cached_property
    def keys(self) -> list[tuple[int, int, int]]:
        """What each target's generator is made from: the seed, its name, its count among equals."""
        seen: Counter[str] = Counter()
        keys = []
        for name in self.objective.names:
            keys.append((self.seed, zlib.crc32(name.encode()), seen[name]))
            seen[name] += 1
        return keys

    def run(self, verbose: int = 0, start: np.ndarray | None = None) -> tuple[Result, np.ndarray]:
        """Runs every step, on the weights that the model has now.

        Args:
            verbose: 1 shows a progress bar.
            start: Parameters to start from, as an earlier run returned them.

        Returns:
            The result, and the final parameters, one row a target.
        """
        count, batch = len(self.objective), self.plan.batch
        firsts = range(0, count, batch)
        progress_bar = keras.utils.Progbar(self.schedule.steps * len(firsts), verbose=verbose)
        joined: dict[str, np.ndarray] = {}
        with untouched(self.objective.model):
            for first in firsts:
                targets = np.arange(first, first + batch)
                part = _ascend(self, targets % count, start, progress_bar)
                _keep(joined, part, targets[targets < count], count)
            self._wake(joined, start)
        return _result(joined, self), joined["params"][0]

    def _wake(self, joined, start):
        """Tries once more, with relaxed ReLUs for most steps, where nothing ever moved.

        A unit that is off on every view of the start need not be dead.
        """
        asleep = np.flatnonzero((joined["gradients"] == 0).all(0))
        warmup_steps = self.schedule.steps * 3 // 4
        if self.schedule.warmup_steps or not warmup_steps:
            return
        second = replace(self, schedule=replace(self.schedule, warmup_steps=warmup_steps))
        for first in range(0, len(asleep), self.plan.batch):
            some = asleep[first : first + self.plan.batch]
            part = _ascend(second, np.resize(some, self.plan.batch), start, None)
            part["gradients"][:warmup_steps] = 0
            _keep(joined, part, some, len(self.objective))


def _keep(joined, part, targets, count):
    """Puts what one chunk gave where it belongs: targets are axis 1."""
    for name, values in part.items():
        if name not in joined:
            joined[name] = np.empty((len(values), count, *values.shape[2:]), values.dtype)
        joined[name][:, targets] = values[:, : len(targets)]


@dataclass(frozen=True)
class Schedule:
    """How many steps there are, and which of them are special.

    Attributes:
        steps: Steps of the whole ascent.
        warmup_steps: For so many first ones ReLUs let a gradient through.
        save_every: Keep the images every so many; `None` keeps the last ones only.
    """

    steps: int
    warmup_steps: int
    save_every: int | None

    @property
    def frame_steps(self) -> list[int]:
        """After which steps the images are kept, the last one among them."""
        every = self.save_every or self.steps
        return sorted({*range(every, self.steps + 1, every), self.steps})


# --- one chunk of images -------------------------------------------------------------


class Chunk:
    """The ascent of some of an objective's targets at once, step by step.

    Args:
        ascent: What to do.
        targets: Indices of the targets, as many as the plan's batch.
        start: Parameters to start from, one row a target of the objective.
    """

    def __init__(self, ascent: Ascent, targets: np.ndarray, start: np.ndarray | None = None):
        model, plan = ascent.objective.model, ascent.plan
        self.ascent = ascent
        self.program = programs.get(model, plan)
        self.relaxed = None
        if ascent.schedule.warmup_steps:
            self.relaxed = programs.get(model, replace(plan, relaxed=True))
        self.generators = [np.random.default_rng(ascent.keys[i]) for i in targets]
        terms = keras.tree.map_structure(lambda rows: rows[targets], ascent.data)
        multipliers = [abs(term.multiplier) for term in ascent.objective.terms]
        drawn = [plan.parameterization.init(g, plan.image_shape) for g in self.generators]
        self.params = ops.convert_to_tensor(np.stack(drawn) if start is None else start[targets])
        self.state = self.program.initial_state(self.params, plan.optimizer)
        self.terms = keras.tree.map_structure(ops.convert_to_tensor, terms)
        self.held = inputs.repeat(ascent.held, plan.batch)
        self.values = _stacked(
            transformations.sample_values(ascent.changes, g, self._seen) for g in self.generators
        )
        self.scale = max(multipliers) or 1.0
        self.steps = self._prepare_steps()

    def step(self) -> tuple:
        """Takes the next step; returns the scores before it, and the gradients' sizes."""
        program, data = next(self.steps)
        self.params, self.state, sizes, scores = program.step(self.params, self.state, data)
        return scores, sizes

    def _prepare_steps(self):
        """Yields the program and the data of each step."""
        schedule = self.ascent.schedule
        for first in range(0, schedule.steps, _STEPS_AT_ONCE):
            numbers = range(first, min(first + _STEPS_AT_ONCE, schedule.steps))
            grids = self._draw_grids(numbers)
            settings, preconditioners = zip(
                *(self._move(self.ascent.plan, n) for n in numbers), strict=True
            )
            parts = (*grids, settings, *zip(*preconditioners, strict=True))
            for number, *prepared in zip(numbers, *map(_tensors, parts), strict=True):
                program = self.relaxed if number < schedule.warmup_steps else self.program
                yield program, self._data(self.values, self._draw(number), *prepared)

    def _draw_grids(self, numbers):
        """Where the images are read at these steps: rows and columns `(steps, images, size)`."""
        steps = self.ascent.schedule.steps
        parts = []
        for moves, some in groupby(
            numbers, lambda n: transformations.at(self.ascent.moves, n / steps)
        ):
            views = len(list(some))
            drawn = [self._draw_one_grid(moves, g, views) for g in self.generators]
            parts.append([np.stack(grids, 1) for grids in zip(*drawn, strict=True)])
        return [np.concatenate(grids) for grids in zip(*parts, strict=True)]

    def _draw_one_grid(self, moves, generator, views):
        plan = self.ascent.plan
        sizes = zip(plan.image_shape[:2], plan.view_shape[:2], strict=True)
        still = (_still_grid(generator, views, *size) for size in sizes)
        return transformations.move(moves, generator, *still)

    def _draw(self, number):
        """Whatever else is random about one view of each image."""
        if not self.ascent.changes:
            return ()
        progress, shape = number / self.ascent.schedule.steps, self._seen
        changes = transformations.at(self.ascent.changes, progress)
        return _stacked(transformations.sample(changes, g, shape) for g in self.generators)

    @property
    def _seen(self):
        """The shape of what is changed in a view."""
        plan = self.ascent.plan
        return *plan.view_shape[:2], plan.image_shape[2]

    def _move(self, plan, number):
        """The numbers of a step, and what makes a direction of its gradient."""
        settings = recipe(self.ascent.schedule.steps, number, plan.image_shape)
        rate, preconditioner = settings["rate"], ()
        if plan.optimizer is None and hasattr(plan.parameterization, "precondition"):
            spectrum = (settings[name] for name in ("decay", "lowest", "hues"))
            preconditioner = _preconditioner(plan.parameterization, plan.image_shape, *spectrum)
        # The bias that momentum has at its start is taken out.
        pace = rate * (1 - MOMENTUM) / (1 - MOMENTUM ** (number + 1))
        first = transformations.first_value(number)
        return np.array([self.scale, pace, 1 - _SHRINKAGE * rate, first]), preconditioner

    def _data(self, values, draws, rows, columns, numbers, *preconditioner):
        return {
            "terms": self.terms,
            "held": self.held,
            "values": values,
            "view": {"rows": rows, "columns": columns, "draws": draws},
            "numbers": numbers,
            "preconditioner": preconditioner,
        }

    def images(self) -> np.ndarray:
        """The images as they are now."""
        return ops.convert_to_numpy(self.program.images(self._finished()))

    def clean_scores(self) -> np.ndarray:
        """The scores of the images as they are now, with no random view."""
        plan, program, state = self.ascent.plan, self.program, self.state
        still = transformations.still(self.ascent.changes, self._seen)
        values = self.values
        # A still view is just another grid for the program at hand, unless it has
        # transformations that cannot be told to do nothing.
        if still is None:
            still = values = ()
            plan = replace(plan, changes=(), optimizer=None)
            program = programs.get(self.ascent.objective.model, plan)
            state = program.initial_state(self.params, None)
        numbers, preconditioner = self._move(plan, 0)
        move = map(tensor, (numbers, *preconditioner))
        draws = _stacked([still] * plan.batch)
        data = self._data(values, draws, *program.still_views(), *move)
        *_, scores = program.step(self._finished(), state, data)
        return ops.convert_to_numpy(scores)

    def _finished(self):
        parameterization, shape = self.ascent.plan.parameterization, self.ascent.plan.image_shape
        if not hasattr(parameterization, "finish"):
            return self.params
        return parameterization.finish(self.params, shape)


def _stacked(drawn):
    """Tensors of what was drawn for each image, images first."""
    return keras.tree.map_structure(lambda *some: ops.convert_to_tensor(np.stack(some)), *drawn)


def _tensors(arrays):
    """One float32 tensor for each array, in one transfer: small networks feel each.

    Most steps work on the same spectrum, whose preconditioner is sent once.
    """
    arrays = list(arrays)
    distinct = {id(array): array for array in arrays}
    sent = backend.load().to_tensors(np.stack(list(distinct.values())).astype("float32"))
    tensors = dict(zip(distinct, sent, strict=True))
    return [tensors[id(array)] for array in arrays]


@lru_cache(maxsize=2)
def _preconditioner(parameterization, shape, *spectrum):
    found = parameterization.precondition(*spectrum, shape)
    if not isinstance(found, tuple) or len(found) not in (1, 2):
        raise ValueError(
            "A parameterization's `precondition` must return a tuple of weights, and of a matrix "
            f"of channels where they are mixed. Received: {found!r} from {parameterization!r}"
        )
    return found


def _ascend(ascent, targets, start, progress_bar):
    """Runs all steps for some targets; everything returned has targets as axis 1."""
    chunk = Chunk(ascent, targets, start)
    frame_steps = set(ascent.schedule.frame_steps)
    frames, seen = [], []
    # A generator at rest and its chunk would keep each other, and their tensors, in memory.
    with closing(chunk.steps):
        for number in range(ascent.schedule.steps):
            seen.append(chunk.step())
            if number + 1 in frame_steps:
                frames.append(chunk.images())
            if progress_bar is not None:
                progress_bar.add(1)
    history, gradients = (
        np.stack(list(map(ops.convert_to_numpy, s))) for s in zip(*seen, strict=True)
    )
    return {
        "frames": np.stack(frames),
        "history": history,
        "gradients": gradients,
        "scores": chunk.clean_scores()[None],
        "params": ops.convert_to_numpy(chunk.params)[None],
    }


def _result(joined, ascent):
    images, scores = joined["frames"][-1], joined["scores"][0]
    to_given = ascent.plan.image_input.to_given
    values_range, frames_wanted = ascent.plan.values_range, ascent.schedule.save_every
    return Result(
        images=to_given(images),
        names=ascent.objective.names,
        scores=scores,
        history=joined["history"],
        status=_status(images, scores, joined["gradients"], values_range),
        values_range=values_range,
        frames=to_given(joined["frames"]) if frames_wanted else None,
        frame_steps=np.array(ascent.schedule.frame_steps) if frames_wanted else None,
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


def _still_grid(generator, views, image_size, view_size):
    """Before any transformation: the whole image, or a random crop of a larger one."""
    if image_size <= view_size:
        return np.tile(sampling.whole_grid(image_size, view_size), (views, 1))
    corners = generator.integers(0, image_size - view_size + 1, (views, 1))
    return np.arange(view_size) + corners.astype("float64")
