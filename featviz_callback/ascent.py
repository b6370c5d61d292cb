"""The ascent: images that maximise an objective, compiled once and run many times.

One step is a pure function `(params, state, data) -> (params, state, ...)`:
parameters to images, images to random views, views through the model, the
layers' outputs to one score an image, the gradient to the parameters, and an
update. Ids, vectors, multipliers, views, rates and the model's weights are data;
only what kind of thing is read where, and the shapes, are program.

Programs are kept as long as their model lives. A second epoch, another channel
of the same layer or another seed compiles nothing.
"""

from __future__ import annotations

import copy
import math
import weakref
import zlib
from collections import Counter, OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np
from keras import ops

from featviz_callback import activations, backend, inputs, sampling
from featviz_callback import transformations as transformations_module
from featviz_callback.objectives import Objective
from featviz_callback.reads import read_scores
from featviz_callback.result import Result
from featviz_callback.untouched import untouched

# A look at many layers needs one for each, and again for units that seem dead; with fewer
# kept than that, every look would compile them all.
_PROGRAMS_KEPT_PER_MODEL = 64

# Steps whose views are drawn together.
_STEPS_AT_ONCE = 64

_MOMENTUM = 0.8
# Parameters shrink by this share of the rate at each step, towards the quiet ground.
_SHRINKAGE = 0.3


def recipe(steps: int, number: int) -> dict[str, float]:
    """The default ascent: everything that follows from the number of steps.

    It works coarse to fine: at first on a steep spectrum of weak hues, which finds
    shapes, and from its first third on a flatter one of strong hues, which gives them
    detail and colour. Longer ascents take shorter steps and their views come closer
    (`transformations.standard`); from 64 steps to 128 they begin with ever smaller
    things. Measured in `benchmarks/`.

    Args:
        steps: Steps of the whole ascent.
        number: The step, from 0.

    Returns:
        `rate`, how far a step moves the field, as a root mean square; `decay`, the
        exponent of the spectrum that the step works on; `lowest`, the frequency in
        cycles per image below which that spectrum is flat; and `hues`, how strong
        hues are in it, as a multiple of what they are in real images.
    """
    fine = min(1.0, 3 * number / steps)
    small = min(max(steps / 64 - 1, 0.0), 1.0)
    return {
        "rate": 0.06 * math.sqrt(16 / max(steps, 8)),
        "decay": 1.4 - 0.8 * fine,
        "lowest": 1.5 + 1.5 * small * (1 - fine),
        "hues": 0.5 + 0.75 * fine,
    }


@dataclass(frozen=True)
class Plan:
    """Everything that a compiled program depends on, but the model itself."""

    reads: tuple
    image_input: inputs.ImageInput
    batch: int
    image_shape: tuple[int, int, int]
    view_shape: tuple[int, int, int]
    parameterization: Any
    changes: tuple
    regularizers: tuple
    values_range: tuple[float, float]
    optimizer: Optimizer | None
    relaxed: bool = False


@dataclass(frozen=True)
class Optimizer:
    """A Keras optimizer by value: copies are made of it, and none is changed.

    Equal ones share a compiled program; the learning rate, a variable, is not
    part of what is compared.
    """

    kind: type[keras.optimizers.Optimizer]
    settings: str
    config: dict = field(compare=False)

    def make(self) -> keras.optimizers.Optimizer:
        """Returns a new copy."""
        return self.kind.from_config(copy.deepcopy(self.config))


@dataclass(frozen=True)
class Ascent:
    """An ascent whose arguments have been checked. Made by `prepare`."""

    objective: Objective
    plan: Plan
    moves: tuple
    schedule: Schedule
    seed: int
    held: tuple[np.ndarray, ...] = ()

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


# --- one chunk of images -------------------------------------------------------------


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
        self.program = _program(model, plan)
        self.relaxed = None
        if ascent.schedule.warmup_steps:
            self.relaxed = _program(model, replace(plan, relaxed=True))
        generators = _generators(ascent.objective.names, ascent.seed)
        self.generators = [generators[i] for i in targets]
        terms = keras.tree.map_structure(lambda rows: rows[targets], ascent.objective.data())
        multipliers = [abs(term.multiplier) for term in ascent.objective.terms]
        drawn = [plan.parameterization.init(g, plan.image_shape) for g in self.generators]
        self.params = ops.convert_to_tensor(np.stack(drawn) if start is None else start[targets])
        self.state = self.program.initial_state(self.params, plan.optimizer)
        self.terms = keras.tree.map_structure(ops.convert_to_tensor, terms)
        self.held = inputs.repeat(ascent.held, plan.batch)
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
            grids = self._draw_grids(len(numbers))
            factors, settings = zip(
                *(self._move(self.ascent.plan, n) for n in numbers), strict=True
            )
            prepared = map(_tensors, (*grids, factors, settings))
            for number, rows, columns, *move in zip(numbers, *prepared, strict=True):
                program = self.relaxed if number < schedule.warmup_steps else self.program
                yield program, self._data(rows, columns, self._draw_values(), move)

    def _draw_grids(self, views):
        """Where the images are read: rows and columns `(views, images, size)`."""
        drawn = [self._draw_one_grid(generator, views) for generator in self.generators]
        return [np.stack(grids, 1) for grids in zip(*drawn, strict=True)]

    def _draw_one_grid(self, generator, views):
        plan = self.ascent.plan
        sizes = zip(plan.image_shape[:2], plan.view_shape[:2], strict=True)
        still = (_still_grid(generator, views, *size) for size in sizes)
        return transformations_module.move(self.ascent.moves, generator, *still)

    def _draw_values(self):
        """Whatever else is random about one view of each image."""
        plan = self.ascent.plan
        if not plan.changes:
            return ()
        shape = (*plan.view_shape[:2], plan.image_shape[2])
        drawn = [transformations_module.sample(plan.changes, g, shape) for g in self.generators]
        return tuple(_tensor(np.stack(arrays)) for arrays in zip(*drawn, strict=True))

    def _move(self, plan, number):
        """How much farther step `number` moves some parameters, squared; and its numbers."""
        settings = recipe(self.ascent.schedule.steps, number)
        rate, factors = settings["rate"], np.ones(())
        if plan.optimizer is None and hasattr(plan.parameterization, "precondition"):
            factors = _squared_factors(
                plan.parameterization,
                plan.image_shape,
                *(settings[name] for name in ("decay", "lowest", "hues")),
            )
        # The bias that momentum has at its start is taken out.
        pace = rate * (1 - _MOMENTUM) / (1 - _MOMENTUM ** (number + 1))
        return factors, np.array([self.scale, pace, 1 - _SHRINKAGE * rate])

    def _data(self, rows, columns, values, move):
        factors, numbers = move
        return {
            "terms": self.terms,
            "held": self.held,
            "view": {"rows": rows, "columns": columns, "values": values},
            "factors": factors,
            "numbers": numbers,
        }

    def images(self) -> np.ndarray:
        """The images as they are now."""
        return ops.convert_to_numpy(self.program.images(self._finished()))

    def clean_scores(self) -> np.ndarray:
        """The scores of the images as they are now, with no random view."""
        plan, program, state = self.ascent.plan, self.program, self.state
        # A still view is just another grid for the program at hand, unless it has
        # transformations that cannot be told to do nothing.
        if plan.changes:
            plan = replace(plan, changes=(), optimizer=None)
            program = _program(self.ascent.objective.model, plan)
            state = program.initial_state(self.params, None)
        move = map(_tensor, self._move(plan, 0))
        rows, columns = program.still_views()
        data = self._data(rows, columns, (), move)
        *_, scores = program.step(self._finished(), state, data)
        return ops.convert_to_numpy(scores)

    def _finished(self):
        parameterization, shape = self.ascent.plan.parameterization, self.ascent.plan.image_shape
        if not hasattr(parameterization, "finish"):
            return self.params
        return parameterization.finish(self.params, shape)


def _tensors(arrays):
    """One float32 tensor for each array, in one transfer: small networks feel each.

    Most steps work on the same spectrum, whose factors are sent once.
    """
    arrays = list(arrays)
    distinct = {id(array): array for array in arrays}
    sent = backend.load().to_tensors(np.stack(list(distinct.values())).astype("float32"))
    tensors = dict(zip(distinct, sent, strict=True))
    return [tensors[id(array)] for array in arrays]


@lru_cache(maxsize=2)
def _squared_factors(parameterization, shape, *spectrum):
    return parameterization.precondition(*spectrum, shape) ** 2


def _ascend(ascent, targets, start, progress_bar):
    """Runs all steps for some targets; everything returned has targets as axis 1."""
    chunk = Chunk(ascent, targets, start)
    frame_steps = set(ascent.schedule.frame_steps)
    frames, seen = [], []
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


def _generators(names, seed):
    """One generator an image: of the seed, its name, and its count among equals."""
    seen = Counter()
    generators = []
    for name in names:
        generators.append(np.random.default_rng([seed, zlib.crc32(name.encode()), seen[name]]))
        seen[name] += 1
    return generators


# --- compiled programs ----------------------------------------------------------------


class _Program:
    """One compiled step, for one model and plan."""

    def __init__(self, model, plan):
        # Programs are kept for as long as the model lives, so they must not be
        # what keeps it alive.
        self.model = weakref.ref(model)
        self.plan = plan
        self.traces = 0
        self._backend = backend.load()
        self._optimizer = self._variable = None
        if plan.optimizer is not None:
            self._optimizer, self._variable = self._build(plan.optimizer)
        self.step = self._backend.compile_step(self._score, self._update, self.model)

    def initial_state(self, params, optimizer):
        if optimizer is None:
            return [ops.zeros_like(params)]
        # A new copy, since its learning rate is data and may be another.
        fresh, _ = self._build(optimizer)
        return [ops.convert_to_tensor(ops.convert_to_numpy(v.value)) for v in fresh.variables]

    def _build(self, optimizer):
        one = self.plan.parameterization.init(np.random.default_rng(0), self.plan.image_shape)
        zeros = np.zeros((self.plan.batch, *one.shape))
        return self._backend.build_optimizer(optimizer.make, zeros)

    def images(self, params, rows=None, columns=None):
        height, width, _ = self.plan.image_shape
        if rows is None:
            batch = params.shape[0]
            rows = _tensor(np.tile(np.arange(height), (batch, 1)))
            columns = _tensor(np.tile(np.arange(width), (batch, 1)))
        low, high = self.plan.values_range
        shares = self.plan.parameterization.image(params, rows, columns, self.plan.image_shape)
        return low + (high - low) * shares

    def still_views(self):
        """The whole image at the size of a view, for every image."""
        rows, columns = map(
            sampling.whole_grid, self.plan.image_shape[:2], self.plan.view_shape[:2]
        )
        return [_tensor(np.tile(axis, (self.plan.batch, 1))) for axis in (rows, columns)]

    def _score(self, params, data):
        """What is maximised and what is reported: one number an image each."""
        self.traces += 1
        view = data["view"]
        images = self.images(params, view["rows"], view["columns"])
        images = transformations_module.apply(self.plan.changes, images, view["values"])
        relax = activations.relaxed_activations if self.plan.relaxed else nullcontext
        model = self.model()
        arguments = self.plan.image_input.call_arguments(model, images, data["held"])
        with relax(model):
            scores = read_scores(model, self.plan.reads, arguments, data["terms"])
        target = scores
        if self.plan.regularizers:
            whole = self.images(params)
            target = scores - sum(_penalty(r, whole) for r in self.plan.regularizers)
        # The gradient that goes through the model is that of a score near one,
        # whatever the multipliers: half precision has few exponents.
        return target / data["numbers"][0], scores

    def _update(self, params, gradient, state, data):
        """New parameters and state, and each image's root mean square gradient."""
        scale, pace, shrinkage = ops.unstack(data["numbers"])
        sizes = _root_mean_squares(gradient, data["factors"])
        gradient = ops.where(ops.isfinite(sizes), gradient, 0.0)
        if self._optimizer is None:
            # One division an image, where dividing the gradient would be one a parameter.
            inverses = 1.0 / ops.where(sizes > 0, sizes, 1.0)
            move, state = _nesterov(gradient * inverses, state)
            params = (params + pace * data["factors"] * move) * shrinkage
        else:
            params, state = self._backend.apply_optimizer(
                self._optimizer, self._variable, params, -gradient * scale, state
            )
        params = self.plan.parameterization.project(params, self.plan.image_shape)
        return params, state, ops.reshape(sizes, (-1,))


def _penalty(regularizer, images):
    penalty = regularizer(images)
    if tuple(penalty.shape) != (images.shape[0],):
        raise ValueError(
            "A regularizer must return one penalty an image. Expected shape "
            f"({images.shape[0]},). Received: {tuple(penalty.shape)} from {regularizer!r}"
        )
    return penalty


def _root_mean_squares(gradient, squared_factors):
    """Of the gradient times its factors, for each image; shaped to broadcast against it."""
    images, *one = gradient.shape
    shared_by_channels = list(squared_factors.shape) == one[1:]
    weights = squared_factors if shared_by_channels else ops.broadcast_to(squared_factors, one)
    # A product with a vector reads the squares once, and writes nothing large.
    weights = ops.reshape(weights, (-1, 1))
    squares = ops.reshape(ops.square(gradient), (images, -1, weights.shape[0]))
    sums = ops.sum(ops.matmul(squares, weights), axis=(1, 2))
    return ops.reshape(ops.sqrt(sums / math.prod(one)), (images, *(1,) * len(one)))


def _nesterov(gradient, state):
    """Where to move the point at which the next gradient is taken, by Nesterov's momentum.

    No second moment: it would scale each coefficient by itself, and undo the
    spectrum that the parameterization has given them.

    References:
        Nesterov 1983; in this form, Sutskever et al., "On the importance of
        initialization and momentum in deep learning", ICML 2013, section 2, and
        Bengio et al., "Advances in optimizing recurrent networks", ICASSP 2013,
        section 3.5.
    """
    # The state is what is left of the velocity, which saves a product.
    left = _MOMENTUM * (state[0] + gradient)
    return left + gradient, [left]


_programs: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _program(model, plan):
    """The program of that plan, as long as the model is what it was."""
    kept = _programs.setdefault(model, OrderedDict())
    key = (plan, _fingerprint(model))
    if key not in kept:
        kept[key] = _Program(model, plan)
        if len(kept) > _PROGRAMS_KEPT_PER_MODEL:
            kept.popitem(last=False)
    kept.move_to_end(key)
    return kept[key]


@dataclass(frozen=True)
class _Same:
    """Something compared by identity, and kept so that no other takes its identity."""

    thing: object

    def __eq__(self, other):
        return self.thing is other.thing

    def __hash__(self):
        return id(self.thing)


def _fingerprint(model):
    """Changes with the model's layers, variables, and what Python knows of them."""
    layers = [
        (path, _Same(layer), _settings(layer), layer.dtype_policy.name)
        for path, layer in activations.walk(model)
    ]
    return tuple(layers), tuple(_Same(variable) for variable in model.variables)


def _settings(layer):
    """A layer's own numbers, words and functions, which a program takes for fixed."""
    plain = (bool, int, float, str, tuple, FunctionType, MethodType, keras.layers.Layer)
    return frozenset(
        (name, repr(value) if isinstance(value, (float, tuple)) else value)
        for name, value in vars(layer).items()
        if not name.startswith("_") and isinstance(value, plain)
    )


def _tensor(array):
    return ops.convert_to_tensor(np.asarray(array, "float32"))
