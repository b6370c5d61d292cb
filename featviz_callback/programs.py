"""One step of an ascent, compiled once and run many times.

It is a pure function `(params, state, data) -> (params, state, ...)`:
parameters to images, images to random views, views through the model, the
layers' outputs to one score an image, the gradient to the parameters, and an
update. Ids, vectors, multipliers, views, rates and the model's weights are data;
only what kind of thing is read where, and the shapes, are program.

Programs are kept as long as their model lives. A second epoch, another channel
of the same layer or another seed compiles nothing.
"""

from __future__ import annotations

import copy
import weakref
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from featviz_callback import activations, backend, inputs, sampling, transformations
from featviz_callback.parameterizations import lowest_value, steepest
from featviz_callback.reads import read_scores

# A look at many layers needs one for each, and again for units that seem dead; with fewer
# kept than that, every look would compile them all.
_PROGRAMS_KEPT_PER_MODEL = 64

MOMENTUM = 0.8


@dataclass(frozen=True)
class Plan:
    """Everything that a compiled program depends on, but the model itself.

    Attributes:
        reads: What is read where, see `Objective.reads`.
        image_input: The input that is optimised, and what the model does with it.
        held: Shape and dtype of one example of each other input.
        batch: Images in one call of the model.
        image_shape: `(height, width, channels)` of an image.
        view_shape: The same of what the model gets of it.
        parameterization: What makes images of parameters.
        changes: The transformations that change the values of a view.
        regularizers: Functions of the images, subtracted from the score.
        values_range: Lowest and highest value of an image.
        optimizer: A Keras optimizer by value, or `None` for the default update.
        relaxed: Whether ReLUs let a gradient through where they are off.
    """

    reads: tuple
    image_input: inputs.ImageInput
    held: tuple[tuple, ...]
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

    Attributes:
        kind: Its class.
        settings: What is compared, as text.
        config: All it is made from.
    """

    kind: type[keras.optimizers.Optimizer]
    settings: str
    config: dict = field(compare=False)

    def make(self) -> keras.optimizers.Optimizer:
        """Returns a new copy."""
        return self.kind.from_config(copy.deepcopy(self.config))


class Program:
    """One compiled step, for one model and plan.

    Attributes:
        step: `(params, state, data) -> (params, state, sizes, scores)`: new parameters
            and state, each image's root mean square gradient, and its score before.
        traces: How often it has been traced; on torch, which traces nothing, how
            often it has been called.
    """

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

    def initial_state(self, params, optimizer: Optimizer | None) -> list:
        """What an update remembers, before the first one."""
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
        """The images of these parameters, or views of them: where to read, in pixels."""
        height, width, _ = self.plan.image_shape
        if rows is None:
            batch = params.shape[0]
            rows = tensor(np.tile(np.arange(height), (batch, 1)))
            columns = tensor(np.tile(np.arange(width), (batch, 1)))
        images = self.plan.parameterization.image(params, rows, columns, self.plan.image_shape)
        lowest, (low, high) = lowest_value(self.plan.parameterization), self.plan.values_range
        factor = (high - low) / (1.0 - lowest)
        # What would change nothing still reads and writes every value.
        images = images if factor == 1 else factor * images
        shift = low - factor * lowest
        return images + shift if shift else images

    def still_views(self):
        """The whole image at the size of a view, for every image."""
        rows, columns = map(
            sampling.whole_grid, self.plan.image_shape[:2], self.plan.view_shape[:2]
        )
        return [tensor(np.tile(axis, (self.plan.batch, 1))) for axis in (rows, columns)]

    def _score(self, params, data):
        """What is maximised and what is reported: one number an image each."""
        self.traces += 1
        view = data["view"]
        images = self.images(params, view["rows"], view["columns"])
        first = data["numbers"][3]
        images = transformations.apply(
            self.plan.changes, images, view["draws"], data["values"], first
        )
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
        scale, pace, shrinkage, _ = ops.unstack(data["numbers"])
        direction = steepest(gradient, data["preconditioner"])
        sizes = _root_mean_squares(gradient, direction)
        if self._optimizer is None:
            # One division an image, where dividing the direction would be one a parameter.
            usable = ops.logical_and(ops.isfinite(sizes), sizes > 0)
            inverses = ops.where(usable, 1.0 / ops.where(usable, sizes, 1.0), 0.0)
            move, state = _nesterov(self._backend.product_or_zero(direction, inverses), state)
            params = (params + pace * move) * shrinkage
        else:
            gradient = ops.where(ops.isfinite(sizes), gradient, 0.0)
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


def _root_mean_squares(gradient, direction):
    """Of each image's gradient, measured as its direction was made; `(images, 1, ...)`."""
    images, *one = gradient.shape
    squares = ops.mean(ops.reshape(gradient * direction, (images, -1)), axis=1)
    # Rounding may leave a little less than nothing.
    return ops.reshape(ops.sqrt(ops.maximum(squares, 0.0)), (images, *(1,) * len(one)))


def _nesterov(step, state):
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
    left = MOMENTUM * (state[0] + step)
    return left + step, [left]


# For each model, its programs by plan and fingerprint, the last used one last.
kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def get(model: keras.Model, plan: Plan) -> Program:
    """The program of that plan, as long as the model is what it was."""
    of_model = kept.setdefault(model, OrderedDict())
    key = (plan, _fingerprint(model))
    if key not in of_model:
        of_model[key] = Program(model, plan)
        if len(of_model) > _PROGRAMS_KEPT_PER_MODEL:
            of_model.popitem(last=False)
    of_model.move_to_end(key)
    return of_model[key]


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


def tensor(array: ArrayLike):
    """An array as a float32 tensor."""
    return ops.convert_to_tensor(np.asarray(array, "float32"))
