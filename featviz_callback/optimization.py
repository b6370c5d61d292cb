"""`optimize`: images that maximise an objective, and all that may be asked of them.

What is wrong with an argument is said here, before anything is computed. What is
right becomes an `Ascent`, which asks nothing further.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real

import keras
import numpy as np

from featviz_callback import activations, inputs, parameterizations
from featviz_callback import transformations as transformations_module
from featviz_callback.ascent import Ascent, Schedule
from featviz_callback.objectives import Objective
from featviz_callback.programs import Optimizer, Plan
from featviz_callback.result import Result

# Images in one call of the model, where `batch_size` does not say.
_LARGEST_BATCH = 64


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
    for its target's name, so it is the same whatever else is asked for. Threads that
    call it take turns.

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
        transformations: `"standard"`, whose first views come closer and are seen through
            the more noise the more `steps` there are between 32 and 128; `None`; or a
            sequence of what is described in `featviz_callback.transformations`.
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
            all of them, or equal parts of at most 64. A model whose input has a
            fixed number of images is called with that.
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
    values_range = get_values_range(values_range)
    views = transformations_module.get(transformations, image_shape, steps, values_range)
    moves, changes = transformations_module.split(views)
    limit = batch_size or _LARGEST_BATCH
    optimizer = _get_optimizer(optimizer)
    parameterization = parameterizations.get(parameterization, image_shape)
    if optimizer is None:
        parameterization = parameterizations.for_default_ascent(parameterization, values_range)
    plan = Plan(
        reads=objective.reads,
        image_input=image_input,
        held=tuple((one.shape, one.dtype) for one in held),
        # Equal chunks: the last one is padded the least.
        batch=image_input.batch or math.ceil(len(objective) / math.ceil(len(objective) / limit)),
        image_shape=image_shape,
        view_shape=view_shape,
        parameterization=parameterization,
        changes=transformations_module.kinds(changes),
        regularizers=_get_regularizers(regularizers),
        values_range=values_range,
        optimizer=optimizer,
    )
    _require_hashable(plan)
    schedule = Schedule(steps, warmup_steps, save_every)
    return Ascent(objective, plan, moves, changes, schedule, seed, held)


# --- checking arguments ----------------------------------------------------------------


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
    return Optimizer(kind, json.dumps(fixed, sort_keys=True, default=str), config)


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
    taps = [tap for _, taps, _ in objective.reads for tap in taps]
    arguments = image_input.specs(objective.model, view_shape)
    try:
        activations.output_shapes(objective.model, arguments, taps)
    except Exception as error:
        raise ValueError(
            "Invalid value for argument `image_shape`. Expected a shape that the model "
            f"'{objective.model.name}' can take. Received: image_shape={given_shape!r}. "
            f"The model says: {error}"
        ) from error
