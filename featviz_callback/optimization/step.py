"""The compiled optimisation step, reused for every epoch.

A step is a pure function `(params, state, data) -> (params, state, sizes, gradient, scores)`.
It makes images from parameters, augments them by the random draws in the data and calls the
model on them. Then it makes one score an image from the layers' outputs, and moves the
parameters along the gradient.

Ids, vectors, multipliers, random draws, rates and the model's weights are data of the
step. Only shapes, and which kind of readout reads which layer, are compiled in. So a second
epoch, another channel of the same layer or another seed compiles nothing. Compiled steps
are kept for as long as their model lives.

A step never draws a random number and never changes the model.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.images import (
    Accentuation,
    Coefficients,
    apply_preconditioner,
    augmentation,
    lowest_value,
    sampling,
)
from featviz_callback.objectives import (
    ImageInput,
    Tap,
    read_scores_and,
    record,
    relaxed_activations,
)
from featviz_callback.optimization.fingerprints import fingerprint
from featviz_callback.optimization.likeness import describe, likeness
from featviz_callback.optimization.optimizer import Optimizer

# A snapshot of many layers needs a compiled step for each layer, and another one for units
# without a gradient. If fewer were kept, every snapshot would compile all of them again.
_STEPS_KEPT_PER_MODEL = 64

MOMENTUM = 0.8

# How fast contrast changes: at full speed if a score is this share of the way behind or ahead.
_EAGERNESS = 4.0

# Features that are all zero have no length.
_TINY = 1e-12


@dataclass(frozen=True)
class Plan:
    """All that a compiled step depends on, except the model itself.

    Attributes:
        readouts: How layers' outputs become scores, see `Targets.readouts`.
        image_input: The input that is optimised.
        fixed_specs: Shape and dtype of one example of each other input.
        batch: Images in one call of the model.
        image_shape: `(height, width, channels)` of an image.
        input_shape: `(height, width, channels)` of the augmented image, which the model
            receives.
        parameterization: How parameters become images.
        changes: The transformations that change values.
        regularizers: Functions of the images, subtracted from the score.
        values_range: Lowest and highest value of an image, two floats or two tuples of one
            float a channel.
        optimizer: A Keras optimizer by value, or `None` for the default update.
        relaxed: Whether ReLUs that are off let a gradient through.
        anchor: The feature map in which an image stays near the given one that it begins
            at, or its Gram matrix unlike that of earlier facets; `None` compares the
            images alone.
        facets: How many facets a target has.
    """

    readouts: tuple
    image_input: ImageInput
    fixed_specs: tuple[tuple, ...]
    batch: int
    image_shape: tuple[int, int, int]
    input_shape: tuple[int, int, int]
    parameterization: Any
    changes: tuple
    regularizers: tuple
    values_range: tuple
    optimizer: Optimizer | None
    relaxed: bool = False
    anchor: Tap | None = None
    facets: int = 1

    @property
    def is_change(self) -> bool:
        """Whether images are changes of given ones."""
        return isinstance(self.parameterization, Accentuation)


def render(plan: Plan, params, rows=None, columns=None, start: tuple = ()):
    """Render the images of some parameters: whole images, or at positions in pixels.

    `start` is that of an `Accentuation`, and no parameters then render the given images.
    """
    if rows is None:
        rows, columns = sampling.every_pixel(params.shape[0], plan.image_shape)
    given = (start,) if plan.is_change else ()
    images = plan.parameterization.image(params, rows, columns, plan.image_shape, *given)
    lowest = lowest_value(plan.parameterization)
    low, high = np.asarray(plan.values_range)
    factor = (high - low) / (1.0 - lowest)
    # Even a multiplication by one would read and write every value.
    images = images if (factor == 1).all() else images * sampling.to_tensor(factor)
    shift = low - factor * lowest
    return images + sampling.to_tensor(shift) if shift.any() else images


class CompiledStep:
    """One step, compiled for one model and plan.

    Attributes:
        step: `(params, state, data) -> (params, state, sizes, gradient, scores)`: new
            parameters and state, each image's root mean square gradient, its gradient, and
            its score before.
        traces: How often the step was traced. Torch traces nothing, so its calls count.
        contrasts: The lowest and the highest contrast of an image, if it follows from the
            score; `None` if it is fixed.
        averages: Whether the last of the state is a running average of the parameters.
    """

    def __init__(self, model, plan):
        # Compiled steps are kept for as long as the model lives, so they must not keep the
        # model alive.
        self.model = weakref.ref(model)
        self.plan = plan
        self.traces = 0
        self._seconds: list[float] = []
        self._backend = backend.load()
        self._optimizer = self._variable = None
        self.contrasts = _contrasts(plan)
        moved = plan.parameterization.change if plan.is_change else plan.parameterization
        self.averages = plan.optimizer is None and isinstance(moved, Coefficients)
        if plan.optimizer is not None:
            self._optimizer, self._variable = self._build(plan.optimizer)
        self.step = self._backend.compile_step(self._score, self._update, self.model)

    def note_call(self, seconds: float) -> None:
        """Note how long a call took; the first one compiles."""
        if len(self._seconds) < 2:
            self._seconds.append(seconds)

    @property
    def compile_seconds(self) -> float:
        """About how long compiling took: by how much the first call took longer than the second."""
        return max(0.0, self._seconds[0] - self._seconds[1]) if len(self._seconds) == 2 else 0.0

    def initial_state(self, params, optimizer: Optimizer | None) -> list:
        """Return the state of an update before the first step."""
        if optimizer is None:
            state = [ops.zeros_like(params)]
            if self.contrasts is not None:
                plan = self.plan
                own = plan.parameterization.contrast_of(params, plan.image_shape)
                state.append(ops.clip(own, *self.contrasts))
            return [*state, params] if self.averages else state
        # A new copy, since its learning rate is data and may differ.
        fresh, _ = self._build(optimizer)
        return [ops.convert_to_tensor(ops.convert_to_numpy(v.value)) for v in fresh.variables]

    def _build(self, optimizer):
        one = self.plan.parameterization.init(np.random.default_rng(0), self.plan.image_shape)
        zeros = np.zeros((self.plan.batch, *one.shape))
        return self._backend.build_optimizer(optimizer.make, zeros)

    def images(self, params, rows=None, columns=None, start=()):
        """Render the images of some parameters, see `render`."""
        return render(self.plan, params, rows, columns, start)

    def whole_image_grid(self):
        """Return the positions of the whole of each image, at the model's input size."""
        rows, columns = map(
            sampling.whole_grid, self.plan.image_shape[:2], self.plan.input_shape[:2]
        )
        return [sampling.to_tensor(np.tile(axis, (self.plan.batch, 1))) for axis in (rows, columns)]

    def _score(self, params, data):
        """Return the scores to maximise and the scores to report, one of each an image."""
        self.traces += 1
        plan, model = self.plan, self.model()
        images, arguments = self._augmented(params, data)
        others = () if plan.anchor is None else (plan.anchor,)
        with self._relaxed(model):
            scores, features = read_scores_and(
                model, plan.readouts, arguments, data["terms"], others
            )
        target = scores
        if plan.regularizers:
            target = scores - penalty(plan, self.images(params, start=data["start"]))
        # Half precision has few exponents. So the model's gradient has to be that of a score
        # near one, whatever the multipliers.
        target = target / data["numbers"][0]
        if plan.is_change:
            given = self._of_start(data)
            weights = data["pull"] * data["unit"]
            target = target - weights * _distance((features or [images])[0], given)
        if plan.facets > 1:
            weights, enough, tolerance, _, *others = data["apart"]
            whole = self.images(params, start=data["start"])
            described = describe(whole, features[0] if features else None)
            # An image that scores too little climbs alone, and differs once it can afford to.
            affords = ops.stop_gradient(ops.sigmoid((scores - enough) / tolerance))
            alike = affords * likeness(described, others)
            target = target - weights * alike / data["numbers"][0]
        return target, scores

    def _augmented(self, params, data):
        """Return augmented images, and the argument of the model's call on them."""
        plan = self.plan
        images = self.images(params, data["rows"], data["columns"], data["start"])
        first, size = data["numbers"][3], plan.image_input.shape[:2]
        images = augmentation.apply(
            plan.changes, images, data["draws"], data["values"], first, size
        )
        arguments = plan.image_input.call_arguments(self.model(), images, data["fixed_inputs"])
        return images, arguments

    def _relaxed(self, model):
        return relaxed_activations(model) if self.plan.relaxed else nullcontext()

    def _of_start(self, data):
        """Return the features of the given images under the same random transformations."""
        images, arguments = self._augmented(None, data)
        if self.plan.anchor is None:
            return images
        model = self.model()
        with self._relaxed(model):
            [features] = record(model, arguments, [self.plan.anchor])
        return ops.stop_gradient(ops.cast(features, "float32"))

    def finished(self, params, state):
        """Return the parameters of images at their full contrast."""
        parameterization, shape = self.plan.parameterization, self.plan.image_shape
        if not hasattr(parameterization, "finish"):
            return params
        contrast = () if self.contrasts is None else (state[1],)
        return parameterization.finish(params, shape, *contrast)

    def _update(self, params, gradient, state, data, target):
        """Return new parameters and state, each image's root mean square gradient, and it."""
        raw = gradient
        scale, pace, shrinkage, _, due, growth, fade, newest = ops.unstack(data["numbers"])
        if self.averages:
            *state, average = state
        if isinstance(self.plan.parameterization, Coefficients):
            along = ops.sum(params * data["fading"], axis=(1, 2, 3), keepdims=True)
            params = params - fade * along * data["fading"]
        contrast = ()
        if self.contrasts is not None:
            # Steps as long as the contrast is high would make pictures hard to compare.
            pace = pace * ops.sqrt(state[1] / self.contrasts[0])
            contrast = (self._raised(state[1], target * scale, data, due, growth),)
            state = state[:1]
        direction = apply_preconditioner(gradient, data["preconditioner"])
        sizes = _root_mean_squares(gradient, direction)
        if self._optimizer is None:
            # One division an image is cheaper than one a parameter.
            lengths = sizes
            if self.plan.is_change:
                # Steps get shorter where the way on is as far as the way back.
                lengths = ops.maximum(sizes, ops.reshape(data["unit"], sizes.shape))
            usable = ops.logical_and(ops.isfinite(sizes), sizes > 0)
            inverses = ops.where(usable, 1.0 / ops.where(usable, lengths, 1.0), 0.0)
            move, state = _nesterov(self._backend.product_or_zero(direction, inverses), state)
            params = (params + pace * move) * shrinkage
        else:
            gradient = ops.where(ops.isfinite(sizes), gradient, 0.0)
            params, state = self._backend.apply_optimizer(
                self._optimizer, self._variable, params, -gradient * scale, state
            )
        given = (data["start"],) if self.plan.is_change else contrast
        params = self.plan.parameterization.project(params, self.plan.image_shape, *given)
        state = [*state, *contrast]
        if self.averages:
            state.append(average + newest * (params - average))
        # Slices and new axes in place of `reshape`, which takes torch several times as long.
        return params, state, sizes[(slice(None), *(0,) * (len(sizes.shape) - 1))], raw

    def _raised(self, contrast, scores, data, due, growth):
        """Return each image's contrast: higher if its score is behind, lower if it is ahead."""
        floor, goal, is_faint = ops.unstack(data["aims"], axis=1)
        due = 1 - is_faint * (1 - due)
        behind = due - (scores - floor) / (goal - floor)
        change = growth * ops.clip(_EAGERNESS * behind, -1.0, 1.0)
        change = ops.where(ops.isfinite(change), change, 0.0)
        factors = ops.expand_dims(ops.exp(change), (1, 2, 3))
        raised = ops.clip(contrast * factors, *self.contrasts)
        if self.plan.facets > 1:
            raised = ops.minimum(raised, ops.reshape(data["apart"][3], raised.shape))
        return raised


def _distance(features, others):
    """Return the squared distance of features, as a share of the squared length of others."""
    axes = tuple(range(1, len(features.shape)))
    squares = ops.sum(ops.square(others), axes)
    return ops.sum(ops.square(features - others), axes) / ops.maximum(squares, _TINY)


def _contrasts(plan):
    """Return the bounds of an image's contrast, if it may follow from the score."""
    if plan.optimizer or not isinstance(plan.parameterization, Coefficients):
        return None
    lowest, highest = plan.parameterization.contrasts(plan.image_shape)
    return (lowest, highest) if lowest < highest else None


def penalty(plan: Plan, images):
    """Return the sum of all penalties of each image, `(images,)`."""
    return sum(_penalty(regularizer, images) for regularizer in plan.regularizers)


def _penalty(regularizer, images):
    penalty = regularizer(images)
    if tuple(penalty.shape) != (images.shape[0],):
        raise ValueError(
            "A regularizer must return one penalty an image. Expected shape "
            f"({images.shape[0]},). Received: {tuple(penalty.shape)} from {regularizer!r}"
        )
    return penalty


def _root_mean_squares(gradient, direction):
    """Return the size of each gradient in the preconditioned space, `(images, 1, ...)`."""
    axes = tuple(range(1, len(gradient.shape)))
    squares = ops.mean(gradient * direction, axes, keepdims=True)
    # Rounding may leave a number a little below zero.
    return ops.sqrt(ops.maximum(squares, 0.0))


def _nesterov(step, state):
    """Return the move to the point of the next gradient, by Nesterov's momentum.

    A second moment is left out. It would scale each coefficient separately, and so undo
    the spectrum of the parameterization.

    References:
        Nesterov 1983; in this form, Sutskever et al., "On the importance of
        initialization and momentum in deep learning", ICML 2013, section 2, and
        Bengio et al., "Advances in optimizing recurrent networks", ICASSP 2013,
        section 3.5.
    """
    # The state is the decayed velocity, which saves a product.
    decayed = MOMENTUM * (state[0] + step)
    return decayed + step, [decayed]


# The compiled steps of each model by plan and fingerprint, the most recently used one last.
compiled_steps: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def get_compiled(model: keras.Model, plan: Plan) -> CompiledStep:
    """Return the compiled step of a plan, as long as the model has not changed."""
    of_model = compiled_steps.setdefault(model, OrderedDict())
    key = (plan, fingerprint(model))
    if key not in of_model:
        of_model[key] = CompiledStep(model, plan)
        if len(of_model) > _STEPS_KEPT_PER_MODEL:
            of_model.popitem(last=False)
    of_model.move_to_end(key)
    return of_model[key]


def compile_seconds(model: keras.Model) -> float:
    """Return about how long compiling all steps of a model has taken that are kept."""
    return sum(one.compile_seconds for one in compiled_steps.get(model, {}).values())
