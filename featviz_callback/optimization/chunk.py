"""Optimise some targets together, step by step.

The start of an image and its random transformations are drawn here, on the host, from one
generator an image. Together with the schedule's numbers they are the data of a compiled
step, and that step is the same for every chunk. No global random generator is ever used.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from functools import lru_cache
from itertools import groupby

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.images import Coefficients, augmentation, parameterizations, sampling
from featviz_callback.objectives import inputs
from featviz_callback.optimization.schedule import settings_at
from featviz_callback.optimization.step import MOMENTUM, get_compiled, penalty
from featviz_callback.optimization.task import Task

# The positions of this many steps are drawn at once, and sent in one transfer.
_STEPS_AT_ONCE = 64

# With penalties, images of these shares of their contrast are compared in the end.
_SHARES = (0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.0)

# Parameterizations whose contrast is in proportion to the parameters.
_LINEAR = (Coefficients, parameterizations.Fourier, parameterizations.Pixel)

# The weight of the distance from a given image, as a share of what the image would gain on a
# straight line if it changed by its whole contrast. So it fits scores of any unit.
_PULL = 0.1

# Parameters shrink by this share of the rate at each step, towards the plain background.
_SHRINKAGE = 0.3


class Chunk:
    """Some of a task's targets, as many as the plan's batch.

    Args:
        task: The optimisation.
        targets: Indices of the targets.
        start: Parameters to start from, one row for each of these targets; NaN where the
            start is drawn. All are drawn if `None`.
        aims: Float32 array `(targets, 3)`: for each of these targets a score without any
            merit, the score to reach, and 1 if its start is faint, else 0.
        fading: Coefficients that are faded out from each image, of the shape of `start`:
            noise, which a picture should not show. None are if `None`.
    """

    def __init__(
        self,
        task: Task,
        targets: np.ndarray,
        start: np.ndarray | None = None,
        aims: np.ndarray | None = None,
        fading: np.ndarray | None = None,
    ):
        model, plan = task.targets.model, task.plan
        self.task = task
        self.compiled = get_compiled(model, plan)
        self.relaxed = None
        if task.schedule.warmup_steps:
            self.relaxed = get_compiled(model, replace(plan, relaxed=True))
        self.generators = [np.random.default_rng(task.keys[i]) for i in targets]
        terms = keras.tree.map_structure(lambda rows: rows[targets], task.data)
        drawn = np.stack([plan.parameterization.init(g, plan.image_shape) for g in self.generators])
        if task.apart is not None:
            lengths = np.sqrt(np.sum(drawn**2, tuple(range(1, drawn.ndim)), keepdims=True))
            drawn = drawn - lengths * task.apart.behind[targets]
        if start is not None:
            drawn = np.where(np.isnan(start), drawn, start)
        self.params = ops.convert_to_tensor(drawn)
        self.state = self.compiled.initial_state(self.params, plan.optimizer)
        self.terms = keras.tree.map_structure(ops.convert_to_tensor, terms)
        self.fixed_inputs = inputs.repeat(task.fixed_inputs, plan.batch)
        self.values = _stacked(
            augmentation.sample_values(task.changes, g, self._shape) for g in self.generators
        )
        self.scale = task.targets.scale or 1.0
        self.aims = () if self.compiled.contrasts is None else ops.convert_to_tensor(aims)
        self.start = tuple(ops.convert_to_tensor(rows[targets]) for rows in task.start)
        self.enough = None if task.apart is None else task.apart.enough[:, targets]
        self.apart = () if task.apart is None else _tensors_of(task.apart, targets)
        self.unit = self.pull = ()
        if plan.is_change:
            # The size of the gradient at the given image, which the first step finds.
            self.unit = ops.zeros(len(targets), dtype="float32")
            pull = _PULL * task.start_strength * math.prod(drawn.shape[1:])
            self.pull = ops.convert_to_tensor(np.float32(pull))
        self.fading = ()
        if isinstance(plan.parameterization, Coefficients):
            fading = np.zeros_like(drawn) if fading is None else of_unit_length(fading)
            self.fading = ops.convert_to_tensor(fading)
        self.steps = self._prepare_steps()

    def step(self) -> tuple:
        """Take the next step; return the scores before it, and the gradients' sizes."""
        compiled, data = next(self.steps)
        began = time.perf_counter()
        self.params, self.state, sizes, _, scores = compiled.step(self.params, self.state, data)
        compiled.note_call(time.perf_counter() - began)
        self._last_scores = scores
        if self.task.plan.is_change:
            is_new = ops.logical_and(ops.isfinite(sizes), ops.equal(self.unit, 0))
            self.unit = ops.where(is_new, sizes, self.unit)
        return scores, sizes

    @property
    def average(self):
        """The parameters of the images so far: a running average, if the step has one."""
        return self.state[-1] if self.compiled.averages else self.params

    def contrasts(self) -> np.ndarray | None:
        """Return the contrast of each image; `None` if it is fixed."""
        if self.compiled.contrasts is None:
            return None
        return ops.convert_to_numpy(self.state[1]).reshape(-1)

    def images(self) -> np.ndarray:
        """Return the images as they are now, at their full contrast."""
        finished = self.compiled.finished(self.average, self.state)
        return ops.convert_to_numpy(self.compiled.images(finished, start=self.start))

    def end(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the final images, their scores, and their scores less their penalties.

        Scores are without random transformation. An image gets its full contrast, unless
        it scores higher as it is, with less. With penalties, even less contrast may be
        better.
        """
        params = self.compiled.finished(self.average, self.state)
        found = self._compared(None, params)
        if type(self.task.plan.parameterization) in _LINEAR:
            # Without random transformation, full contrast seldom scores below the last step.
            is_behind = found[1] < ops.convert_to_numpy(self._last_scores)
            if is_behind.any():
                # What other images of the chunk need changes nothing.
                is_behind &= ops.convert_to_numpy(self._is_fainter_than(params)).reshape(-1)
            if is_behind.any():
                found = self._compared(found, _choose(is_behind, self.average, params))
            if self.task.plan.regularizers:
                # Steps of a fixed length end beside a maximum, and a weaker image may be nearer.
                for share in _SHARES:
                    found = self._compared(found, params * share)
        params, scores, values, gradient = found
        self._gradient = gradient
        images = self.compiled.images(params, start=self.start)
        return ops.convert_to_numpy(images), scores, values

    def importance(self) -> np.ndarray | None:
        """Return how much each pixel of the final images matters; `None` if that is not known."""
        plan, gradient = self.task.plan, self._gradient
        if not hasattr(plan.parameterization, "field_gradient"):
            return None
        by_value = plan.parameterization.field_gradient(gradient, plan.image_shape)
        if by_value is None:
            return None
        sizes = np.nan_to_num(np.abs(ops.convert_to_numpy(by_value)).mean(-1))
        largest = sizes.max((1, 2), keepdims=True)
        return sizes / np.where(largest > 0, largest, 1)

    def _is_fainter_than(self, params):
        """Return whether each image has less contrast as it is, `(images, 1, ...)`."""
        axes = tuple(range(1, len(params.shape)))
        own, other = (
            ops.sum(ops.square(one), axes, keepdims=True) for one in (self.average, params)
        )
        return own < other

    def _compared(self, found, params):
        """Return the better of what was found and of these parameters, for each image."""
        plan = self.task.plan
        scores, gradient = self._clean_scores(params)
        values = scores
        if plan.regularizers:
            penalties = penalty(plan, self.compiled.images(params, start=self.start))
            values = scores - ops.convert_to_numpy(penalties)
        if found is None:
            return params, scores, values, gradient
        is_better = values > found[2]
        return (
            _choose(is_better, params, found[0]),
            np.where(is_better, scores, found[1]),
            np.where(is_better, values, found[2]),
            _choose(is_better, gradient, found[3]),
        )

    def _clean_scores(self, params):
        """Return the scores of whole images, and the gradient of what is maximised."""
        plan, compiled, state = self.task.plan, self.compiled, self.state
        draw = augmentation.identity(self.task.changes, self._shape)
        values = self.values
        # The compiled step of the optimisation also scores the whole image, which is just
        # another grid. It cannot if one of its transformations has no identity.
        if draw is None:
            draw = values = ()
            plan = replace(plan, changes=(), optimizer=None)
            compiled = get_compiled(self.task.targets.model, plan)
            state = compiled.initial_state(params, None)
        numbers, preconditioner = self._numbers(plan, 0)
        draws = _stacked([draw] * plan.batch)
        arrays = map(sampling.to_tensor, (numbers, *preconditioner))
        data = self._data(values, draws, *compiled.whole_image_grid(), *arrays)
        if self.task.plan.is_change:
            # The score alone is what the importance is of.
            data["pull"] = ops.zeros_like(self.pull)
        if self.apart:
            data["apart"] = (ops.zeros_like(self.apart[0]), *data["apart"][1:])
        *_, gradient, scores = compiled.step(params, state, data)
        return ops.convert_to_numpy(scores), gradient

    def _apart_at(self, number):
        """Return what facets need at a step: weights, the scores that are enough, and others."""
        if not self.apart:
            return ()
        enough = ops.convert_to_tensor(self.enough[number])
        return self.apart[0], enough, *self.apart[1:]

    @property
    def _shape(self):
        """The shape of an augmented image before its values are changed."""
        plan = self.task.plan
        return *plan.input_shape[:2], plan.image_shape[2]

    def _prepare_steps(self):
        """Yield the compiled step and the data of each step."""
        schedule = self.task.schedule
        for first in range(0, schedule.steps, _STEPS_AT_ONCE):
            numbers = range(first, min(first + _STEPS_AT_ONCE, schedule.steps))
            grids = self._draw_grids(numbers)
            settings, preconditioners = zip(
                *(self._numbers(self.task.plan, n) for n in numbers), strict=True
            )
            parts = (*grids, settings, *zip(*preconditioners, strict=True))
            for number, *prepared in zip(numbers, *map(_tensors, parts), strict=True):
                compiled = self.relaxed if number < schedule.warmup_steps else self.compiled
                yield compiled, self._data(self.values, self._draw(number), *prepared, at=number)

    def _draw_grids(self, numbers):
        """Draw the positions of these steps: rows and columns `(steps, images, size)`."""
        steps = self.task.schedule.steps
        parts = []
        for moves, some in groupby(numbers, lambda n: augmentation.at(self.task.moves, n / steps)):
            count = len(list(some))
            drawn = [self._draw_grid(moves, g, count) for g in self.generators]
            parts.append([np.stack(grids, 1) for grids in zip(*drawn, strict=True)])
        return [np.concatenate(grids) for grids in zip(*parts, strict=True)]

    def _draw_grid(self, moves, generator, count):
        plan = self.task.plan
        sizes = zip(plan.image_shape[:2], plan.input_shape[:2], strict=True)
        axes = (_plain_axis(generator, count, *size) for size in sizes)
        return augmentation.move(moves, generator, *axes)

    def _draw(self, number):
        """Draw what the other transformations need at one step, for each image."""
        if not self.task.changes:
            return ()
        changes = augmentation.at(self.task.changes, number / self.task.schedule.steps)
        return _stacked(augmentation.sample(changes, g, self._shape) for g in self.generators)

    def _numbers(self, plan, number):
        """Return the numbers of a step, and the preconditioner of its gradient."""
        settings = settings_at(number, self.task.schedule.steps, plan.image_shape)
        rate, preconditioner = settings.rate, ()
        if plan.is_change:
            # A change ends where the way on is as far as the way back, beside which steps of
            # one length would go to and fro.
            rate *= 0.5 * (1 - number / self.task.schedule.steps)
        if plan.optimizer is None and hasattr(plan.parameterization, "precondition"):
            spectrum = (settings.steepness, settings.lowest, settings.chroma)
            preconditioner = _preconditioner(plan.parameterization, plan.image_shape, *spectrum)
        # The division removes the bias that momentum has at its start.
        pace = rate * (1 - MOMENTUM) / (1 - MOMENTUM ** (number + 1))
        first = augmentation.first_value(number)
        shrinkage = 1 - _SHRINKAGE * rate
        if self.task.targets.compares_places:
            # What a given image has is all to be there, not what a score gains most by.
            shrinkage = 1.0
        # A unit that is still off says nothing about contrast.
        growth = settings.growth * (number >= self.task.schedule.warmup_steps)
        numbers = (self.scale, pace, shrinkage, first, settings.due, growth)
        return np.array([*numbers, settings.fade, settings.newest]), preconditioner

    def _data(self, values, draws, rows, columns, numbers, *preconditioner, at=0):
        return {
            "terms": self.terms,
            "aims": self.aims,
            "fading": self.fading,
            "start": self.start,
            "pull": self.pull,
            "unit": self.unit,
            "apart": self._apart_at(at),
            "fixed_inputs": self.fixed_inputs,
            "rows": rows,
            "columns": columns,
            "draws": draws,
            "values": values,
            "numbers": numbers,
            "preconditioner": preconditioner,
        }


def _choose(is_first, first, second):
    """Return the parameters of the first for some images, and of the second for others."""
    is_first = np.reshape(is_first, (-1, *(1,) * (len(first.shape) - 1)))
    return ops.where(ops.convert_to_tensor(is_first), first, second)


def of_unit_length(directions: np.ndarray) -> np.ndarray:
    """Return directions, one an image, of length one; those without a length stay zero."""
    axes = tuple(range(1, directions.ndim))
    squares = np.sum(directions**2, axis=axes, keepdims=True, dtype="float64")
    lengths = np.where(squares > 0, np.sqrt(squares), 1.0)
    return (directions / lengths).astype(directions.dtype)


def _tensors_of(apart, targets):
    arrays = (apart.weights, apart.tolerance, apart.ceiling, *apart.described)
    return tuple(ops.convert_to_tensor(rows[targets]) for rows in arrays)


def _stacked(drawn):
    """Return what was drawn for each image as tensors, with the images as axis 0."""
    return keras.tree.map_structure(lambda *some: ops.convert_to_tensor(np.stack(some)), *drawn)


def _tensors(arrays):
    """Return one float32 tensor for each array, sent in a single transfer.

    For small networks, one transfer an array takes a noticeable time. Most steps follow
    the same spectrum, so its preconditioner is sent once.
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


def _plain_axis(generator, count, image_size, input_size):
    """Return positions before any transformation: the whole image, or a crop of a larger one."""
    if image_size <= input_size:
        return np.tile(sampling.whole_grid(image_size, input_size), (count, 1))
    corners = generator.integers(0, image_size - input_size + 1, (count, 1))
    return np.arange(input_size) + corners.astype("float64")
