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
import json
import math
import weakref
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Integral, Real
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np
from keras import ops

from featviz_callback import activations, backend, inputs, parameterizations, sampling
from featviz_callback import transformations as transformations_module
from featviz_callback.objectives import Objective
from featviz_callback.reads import read_scores
from featviz_callback.result import Result
from featviz_callback.untouched import untouched

# Images in one call of the model, where `batch_size` does not say.
_LARGEST_BATCH = 64
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
class _Plan:
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
    optimizer: _Optimizer | None
    relaxed: bool = False


def optimize(
    objective: Objective,
    steps: int = 64,
    optimizer: keras.optimizers.Optimizer | str | None = None,
    parameterization: str | object = "fourier",
    transformations: str | Sequence | None = "standard",
    regularizers: Sequence[Callable] = (),
    values_range: tuple[float, float] = (0.0, 1.0),
    image_shape: tuple[int, ...] | None = None,
    save_every: int | None = None,
    warmup_steps: int = 0,
    batch_size: int | None = None,
    seed: int = 0,
    verbose: int = 0,
    held_inputs: Mapping | None = None,
) -> Result:
    """Finds the images that maximise an objective, by gradient ascent.

    Solves `argmax_x f(x) - R(x)` over the parameters of each image, each step on
    a new random view of it. The result depends on the weights, the arguments and
    the seed, and on nothing else: the start and the views of an image are drawn
    for its target's name, so it is the same whatever else is asked for.

    Args:
        objective: What to maximise. One image is made for each of its targets.
        steps: Steps of the ascent, 1 or more. 16 to 32 show what a unit wants, 128
            or more give a picture to consider.
        optimizer: A Keras optimizer or its name. It is copied, never changed, and
            can be used again. One that looks at all parameters together, as
            `clipnorm` does, makes images depend on each other. Default: the
            gradient of each image divided by its root mean square, with momentum,
            at a rate that follows from `steps`.
        parameterization: `"fourier"`, `"fixed_magnitude"`, `"pixel"`, or an object
            with the methods described in `featviz_callback.parameterizations`.
        transformations: `"standard"`, which comes closer the more `steps` there are
            between 32 and 128; `None`; or a sequence of what is described in
            `featviz_callback.transformations`.
        regularizers: Functions of the images, before any transformation,
            `(images, height, width, channels) -> (images,)`, subtracted from the
            score. See `featviz_callback.regularizers`.
        values_range: Lowest and highest value of an image, in the units of the
            model's input.
        image_shape: `(height, width)` or `(height, width, channels)`, whatever the
            model's own order; of signals `(time,)` or `(time, channels)`. Defaults
            to the model's. Of a larger image each view is a random crop, a smaller
            one is enlarged, unless the model takes any size. An input of two axes
            is a signal, unless this has three numbers: `(28, 28, 1)` for grey images.
        save_every: Keep the images every so many steps, and after the last, as
            `result.frames`.
        warmup_steps: For so many first steps ReLUs let a gradient through where
            they are off, which wakes dead units.
        batch_size: Images in one call of the model; bounds the memory. Defaults to
            all of them, or equal parts of at most 64.
        seed: Seed of all that is random, an int.
        verbose: 1 shows a progress bar.
        held_inputs: For a model with several inputs, the values of all but the one
            that is optimised: a mapping from their names (or places in a list) to
            one example each, without the axis of the batch, or a number.

    Returns:
        A `Result`: float32 images `(targets, height, width, channels)`, or signals
        `(targets, time, channels)`, within `values_range`, names, scores, history
        and status.

    Raises:
        ValueError: If an argument is invalid.

    Example:
    >>> import keras
    >>> from featviz_callback import Objective, optimize
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(10, name="logits"),
    ... ])
    >>> images, names = optimize(Objective.neuron(model, "logits", [0, 1]), steps=2)
    >>> images.shape, names
    ((2, 8, 8, 1), ['Neuron#logits_0', 'Neuron#logits_1'])

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017.
    """
    return prepare(
        objective,
        steps=steps,
        optimizer=optimizer,
        parameterization=parameterization,
        transformations=transformations,
        regularizers=regularizers,
        values_range=values_range,
        image_shape=image_shape,
        save_every=save_every,
        warmup_steps=warmup_steps,
        batch_size=batch_size,
        seed=seed,
        held_inputs=held_inputs,
    ).run(verbose=verbose)[0]


def prepare(
    objective: Objective,
    *,
    steps,
    optimizer,
    parameterization,
    transformations,
    regularizers,
    values_range,
    image_shape,
    save_every,
    warmup_steps,
    batch_size,
    seed,
    held_inputs=None,
) -> Ascent:
    """Checks the arguments of `optimize` and computes nothing.

    Raises:
        ValueError: If an argument is invalid.
    """
    if not isinstance(objective, Objective):
        raise ValueError(
            "Invalid value for argument `objective`. Expected an Objective, such as "
            f"Objective.neuron(model, layer, ids). Received: objective={objective!r}"
        )
    check_numbers(steps, save_every, warmup_steps, batch_size, seed)
    given_shape = _as_tuple(image_shape)
    image_input, held = inputs.resolve(objective.model, held_inputs, len(given_shape))
    image_shape, view_shape = _shapes(objective, image_input, given_shape)
    views = transformations_module.get(transformations, image_shape, steps)
    moves, changes = transformations_module.split(views)
    limit = batch_size or _LARGEST_BATCH
    plan = _Plan(
        reads=objective.program,
        image_input=image_input,
        # Equal chunks: the last one is padded the least.
        batch=image_input.batch or math.ceil(len(objective) / math.ceil(len(objective) / limit)),
        image_shape=image_shape,
        view_shape=view_shape,
        parameterization=parameterizations.get(parameterization, image_shape),
        changes=changes,
        regularizers=_get_regularizers(regularizers),
        values_range=get_values_range(values_range),
        optimizer=_get_optimizer(optimizer),
    )
    _require_hashable(plan)
    schedule = _Schedule(steps, warmup_steps, save_every)
    return Ascent(objective, plan, moves, schedule, seed, held)


@dataclass(frozen=True)
class Ascent:
    """An ascent whose arguments have been checked. Made by `prepare`."""

    objective: Objective
    plan: _Plan
    moves: tuple
    schedule: _Schedule
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
class _Schedule:
    steps: int
    warmup_steps: int
    save_every: int | None

    @property
    def frame_steps(self):
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


def _tensor(array):
    return ops.convert_to_tensor(np.asarray(array, "float32"))


# --- checking arguments ----------------------------------------------------------------


@dataclass(frozen=True)
class _Optimizer:
    """A Keras optimizer by value: copies are made of it, and none is changed.

    Equal ones share a compiled program; the learning rate, a variable, is not
    part of what is compared.
    """

    kind: type
    settings: str
    config: dict = field(compare=False)

    def make(self):
        return self.kind.from_config(copy.deepcopy(self.config))


def _get_optimizer(optimizer):
    if optimizer is None:
        return None
    try:
        config = keras.optimizers.get(optimizer).get_config()
        kind = type(keras.optimizers.get(optimizer))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            "Invalid value for argument `optimizer`. Expected None, a Keras optimizer or "
            f"its name. Received: optimizer={optimizer!r}"
        ) from error
    fixed = {k: v for k, v in config.items() if k != "name"}
    if isinstance(config.get("learning_rate"), Real):
        fixed.pop("learning_rate")
    return _Optimizer(kind, json.dumps(fixed, sort_keys=True, default=str), config)


def _whole(name, value, lowest, or_none=False):
    if value is None and or_none:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a whole number, {lowest} or more"
            f"{', or None' if or_none else ''}. Received: {name}={value!r}"
        )


def _require_hashable(plan):
    for part in (plan.parameterization, *plan.changes, *plan.regularizers, *plan.reads):
        try:
            hash(part)
        except TypeError as error:
            raise ValueError(
                "What an ascent is made of must be comparable by value, so that it is compiled "
                "once. Expected a function or a frozen dataclass of numbers and tuples. "
                f"Received: {part!r} ({error})"
            ) from error


def check_numbers(
    steps: int, save_every: int | None, warmup_steps: int, batch_size: int | None, seed: int
) -> None:
    """Checks those arguments of `optimize` that are whole numbers.

    Raises:
        ValueError: If one of them is not, or too low.
    """
    _whole("steps", steps, 1)
    _whole("save_every", save_every, 1, or_none=True)
    _whole("warmup_steps", warmup_steps, 0)
    _whole("batch_size", batch_size, 1, or_none=True)
    _whole("seed", seed, 0)


def get_values_range(values_range: tuple[float, float]) -> tuple[float, float]:
    """Returns the range as two floats.

    Raises:
        ValueError: If it is not two finite numbers in order.
    """
    try:
        low, high = (
            float(value) if isinstance(value, Real) else math.nan for value in values_range
        )
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(
            "Invalid value for argument `values_range`. Expected two finite numbers, the "
            f"lower one first. Received: values_range={values_range!r}"
        )
    return low, high


def _get_regularizers(regularizers):
    if regularizers is None:
        regularizers = ()
    if not isinstance(regularizers, (list, tuple)):
        regularizers = (regularizers,)
    for one in regularizers:
        if not callable(one):
            raise ValueError(
                "Invalid value for argument `regularizers`. Expected functions of images "
                f"(images, height, width, channels) -> (images,). Received: {one!r}"
            )
    return tuple(regularizers)


def _as_tuple(image_shape):
    if isinstance(image_shape, (list, tuple, np.ndarray)):
        return tuple(image_shape)
    return () if image_shape is None else (image_shape,)


def _shapes(objective, image_input, given_shape):
    """Shapes of the image that is optimised and of the view that the model sees."""
    expected = image_input.shape
    given = image_input.complete(given_shape) if given_shape else expected
    whole = all(isinstance(n, Integral) and n > 0 for n in given)
    if len(given) != 3 or not whole or expected[2] not in (None, given[2]):
        space = "time" if image_input.is_signal else "height, width"
        raise ValueError(
            f"Invalid value for argument `image_shape`. Expected ({space}) or ({space}, channels) "
            f"for the model '{objective.model.name}' with inputs of shape {expected}. "
            f"Received: image_shape={given_shape or None!r}"
        )
    given = tuple(map(int, given))
    view = tuple(n or given[i] for i, n in enumerate(expected))
    if None in expected:
        _check_call(objective, image_input, view, given_shape)
    return given, view


def _check_call(objective, image_input, view_shape, given_shape):
    taps = [tap for _, taps, _ in objective.program for tap in taps]
    arguments = image_input.specs(objective.model, view_shape)
    try:
        activations.output_shapes(objective.model, arguments, taps)
    except Exception as error:
        raise ValueError(
            "Invalid value for argument `image_shape`. Expected a shape that the model "
            f"'{objective.model.name}' can take. Received: image_shape={given_shape!r}. "
            f"The model says: {error}"
        ) from error
