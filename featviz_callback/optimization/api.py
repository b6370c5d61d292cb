"""`optimize`: from an objective to the images that maximise it.

`Settings` checks most arguments that depend on no model. `prepare` checks the others against
the model and returns a `Task`, which `run` runs. Nothing is computed before all arguments
are checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import cast

import keras
import numpy as np
from numpy.typing import ArrayLike

from featviz_callback import backend
from featviz_callback.images import (
    AUTO,
    Accentuation,
    accentuated,
    augmentation,
    for_default_optimization,
    parameterizations,
)
from featviz_callback.objectives import (
    NothingToShow,
    Objective,
    Tap,
    Targets,
    as_taken,
    find_anchor,
    inputs,
    last_features,
    model_around,
    output_shapes,
    range_as_text,
    require_path,
    warn_if_flat,
    warn_once,
)
from featviz_callback.optimization.comparison import best_known, compared
from featviz_callback.optimization.completion import unknown_size
from featviz_callback.optimization.optimizer import get_optimizer
from featviz_callback.optimization.probe_data import ProbeImages, beyond_range, is_within
from featviz_callback.optimization.ranking import rank
from featviz_callback.optimization.run import run
from featviz_callback.optimization.schedule import Schedule
from featviz_callback.optimization.settings import Settings, as_regularizers, as_values_range
from featviz_callback.optimization.step import Plan
from featviz_callback.optimization.surroundings import are_as_outer_takes, complete_inside
from featviz_callback.optimization.task import Task
from featviz_callback.records import Result

# Told from an equal range that a user gives, since a range that nobody chose is logged.
_USUAL_RANGE = (0.0, 1.0)

# Images in one call of the model, unless `batch_size` says otherwise. Large ones are fewer,
# since memory grows with the pixels: 10 of 224 pixels, 1 of 512 (`benchmarks/batches.py`).
_LARGEST_BATCH = 64
_MOST_PIXELS = 2 * 512 * 512

# Augmented or resized images may be beyond their range by such a share.
_BEYOND = 0.05

# About the contrast of photographs, see `Fourier`.
_LIKE_PHOTOGRAPHS = 2.0

# So many top activating real images are in a result.
_REAL_IMAGES = 6


def optimize(
    objective: Objective,
    steps: int = Settings.steps,
    optimizer: keras.optimizers.Optimizer | str | None = Settings.optimizer,
    parameterization: str | object = Settings.parameterization,
    transformations: str | Sequence | None = Settings.transformations,
    regularizers: Sequence[Callable] = Settings.regularizers,
    values_range: tuple[float | Sequence[float], float | Sequence[float]] | None = _USUAL_RANGE,
    image_shape: tuple[int, ...] | None = Settings.image_shape,
    save_every: int | Sequence[int] | None = Settings.save_every,
    warmup_steps: int = Settings.warmup_steps,
    batch_size: int | None = Settings.batch_size,
    seed: int = Settings.seed,
    verbose: int = 0,
    fixed_inputs: Mapping | None = Settings.fixed_inputs,
    start: ArrayLike | None = Settings.start,
    start_strength: float = Settings.start_strength,
    probe_data: object | None = None,
) -> Result:
    """Find the images that maximise an objective, by gradient ascent.

    Solves `argmax_x f(x) - R(x)` over the parameters of each image. Each step sees new
    random transformations of the image. By default, targets of feature maps begin from the
    best of several starts, noise and plain colours, and others from faint noise. An image
    that scores below one of these starts is made again from another one. So is one that
    gets no gradient or scores no more than a plain background, also with relaxed
    activations, and at last without the standard transformations. The contrast of an image
    rises while its score is low. `result.starts` names the starts. The result depends on
    the weights, the arguments and the seed, and on nothing else. Start and random
    transformations are drawn for the name of each target, so an image is the same whatever
    other targets there are. Threads that call `optimize` take turns.

    Args:
        objective: What to maximise. One image is made for each of its targets.
        steps: Steps of the optimisation, 1 or more. 16 to 32 show what a unit
            responds to, 128 or more give a picture to study.
        optimizer: A Keras optimizer or its name. It is copied, never changed, and can
            be used again. An optimizer that combines all parameters, as `clipnorm`
            does, makes images depend on each other. Default: the gradient of each
            image divided by its root mean square, with momentum, at a rate that
            follows from `steps`. The picture of `"fourier"` is then a running average,
            in which the marks of single random transformations cancel out.
        parameterization: `"fourier"`, `"fixed_magnitude"`, `"pixel"`, or an object
            with the methods described in `featviz_callback.parameterizations`.
        transformations: `"standard"`, `None`, or a sequence as described in
            `featviz_callback.transformations`. The standard ones depend on `steps`:
            from 32 to 128 steps they zoom in further at first, and add more noise.
        regularizers: Functions of the images, before any transformation,
            `(images, height, width, channels) -> (images,)`, subtracted from the
            score. They double the cost: images are also made without, and the better one
            by score minus penalty is kept, or the one without where it has the lower
            penalty. See `featviz_callback.regularizers`.
        values_range: Lowest and highest value of an image, in the units of the
            model's input. Each is a number, or a sequence of one number a channel:
            `(0, 255)`, `((-2.1, -2.0, -1.8), (2.2, 2.4, 2.6))`. `None` is found out from
            the model and from `probe_data`, and logged, as `FeatureVisCallback` does. For a
            part of a model it follows from what the model around it does to images, if that
            is a wrapper that was named, or a functional or sequential model. The default is
            logged too, once a model.
        image_shape: `(height, width)` or `(height, width, channels)`, whatever the
            model's own order; for signals `(time,)` or `(time, channels)`. Defaults
            to the model's. Unless the model takes any size, a larger image is
            cropped at random at each step, and a smaller one is enlarged. An input
            with two axes is a signal, unless `image_shape` has three numbers, such as
            `(28, 28, 1)` for grey images.
        save_every: Keep the images every so many steps, or after chosen steps such as
            `[1, 8, 64]`, and after the last, as `result.frames`. `result.save("a.gif")` then
            shows how they came about.
        warmup_steps: In so many first steps, ReLUs that are off or at their highest value
            let a gradient through, and so do hard sigmoids where they are flat. This can
            start a unit that gets none.
        batch_size: Images in one call of the model, which bounds the memory. Defaults
            to all of them, or to equal parts of at most 64 images and half a million
            pixels: 10 images of 224 x 224, 1 of 512 x 512. A model whose input has a
            fixed number of images is called with that number.
        seed: Seed of all that is random, an int, 0 or more.
        verbose: 1 shows a progress bar, with the mean score of the images of that step.
        fixed_inputs: For a model with several inputs, the values of all but the
            optimised one: a mapping from their names (or places in a list) to one
            example each, without the axis of the batch, or to a number or a string.
            Default: 0, 1 for whole numbers, and empty strings, for all inputs but the
            first of images, which a warning names.
        start: Images to begin at, in place of noise: one `(height, width, channels)` for all
            targets, or one for each, `(targets, height, width, channels)`, in
            `values_range`. The result shows what of the image a target would have more
            of (feature accentuation). Detail, window and contrast of the parameterization
            are then those of the change, and `"fixed_magnitude"` keeps the magnitudes of
            the given image. A model that takes images of any size takes those of this one.
            Values within 1 % of an end of the range move to that distance.
        start_strength: How much images stay near those of `start`, 0 or more: the weight
            of the squared distance in a feature map half way to the target, as a share of
            that of the given image under the same random transformation. The unit follows from
            the target's gradient at that image, and so fits any target. It costs a
            call of the model up to that map.
        probe_data: Real inputs as `fit` takes them, see `FeatureVisCallback`. The result then
            has the top activating real images, and scores and status in comparison
            with them. Pictures take over their mean and colours, with `"fixed_magnitude"`
            also their spectrum. They have to be in `values_range`, or that is `None`. For a
            part of a model they are given as the model around it takes them, if that is known,
            or as the part does.

    Returns:
        A `Result`: float32 images `(targets, height, width, channels)`, or signals
        `(targets, time, channels)`, within `values_range`, with names, scores, history
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

    References:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017. For `start`,
        Hamblin, Fel, Saha, Konkle, Alvarez, "Feature Accentuation: Revealing 'What'
        Features Respond to in Natural Images", 2024 (arXiv:2402.10039).
    """
    _require_targets(objective)
    settings = Settings(
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
        fixed_inputs=fixed_inputs,
        start=start,
        start_strength=start_strength,
    )
    if values_range is _USUAL_RANGE:
        warn_once(
            objective.model,
            "Images for the model '%s' are made in values_range=%s, the default of `optimize`. "
            "`values_range` sets another one, and None finds it out.",
            *(objective.model.name, range_as_text(values_range)),
        )
    if probe_data is None and values_range is not None:
        return run(prepare(objective, settings), verbose=verbose)[0]
    real = None
    if probe_data is not None:
        with backend.random_states_preserved():
            real = ProbeImages(probe_data)
    return _optimize_beside(objective, settings, real, verbose)


def _optimize_beside(objective, settings, real, verbose):
    """Optimise in comparison with real images, if there are any, in a range found out."""
    model, outer = objective.model, objective.outer
    with backend.random_states_preserved():
        if outer is None:
            outer = model_around(model)
            if outer is not None and real is not None:
                outer = outer if are_as_outer_takes(real, model, outer) else None
        settings, found, images = complete_inside(
            settings, {id(model): model}, real, outer, leaves_out=False
        )
    if images is None:
        return run(prepare(objective, settings), verbose=verbose)[0]
    if not is_within(images, settings.values_range):
        raise beyond_range(images, settings.values_range)
    task = prepare(objective, settings, found[id(model)])
    if settings.parameterization in ("fourier", "fixed_magnitude"):
        name = str(settings.parameterization)
        task = with_parameterization(task, real.parameterization(name, task.plan, images))
    taken = as_taken([objective], images, task.plan.image_input, task.fixed_inputs)
    [ranking] = rank([objective], taken, _REAL_IMAGES, task.plan.image_input, task.fixed_inputs)
    result = run(task, verbose=verbose, best_known=best_known([ranking]))[0]
    return compared(result, ranking, task.plan.image_input.to_given(taken))


def prepare(
    objective: Targets, settings: Settings, found: Mapping[int, np.ndarray] | None = None
) -> Task:
    """Check the arguments of `optimize` against a model, and optimise nothing.

    A warning tells if the lowest and the highest value of an image are nearly the same to
    the model.

    Args:
        objective: An `Objective`, or several of them joined.
        settings: The other arguments. `values_range` must not be `None`.
        found: Real values of inputs, see `inputs.resolve`.

    Returns:
        What `run` needs.

    Raises:
        NothingToShow: If the size of an image is not known.
        ValueError: If an argument is invalid.
    """
    _require_targets(objective)
    values_range = as_values_range(settings.values_range)
    given_shape = settings.image_shape or ()
    image_input, fixed_inputs = inputs.resolve(
        objective.model, settings.fixed_inputs, len(given_shape), found
    )
    require_path(objective, image_input)
    given = _given_images(settings.start, objective, image_input)
    if given is not None and not given_shape and None in image_input.shape:
        given_shape = given.shape[1 + image_input.is_signal :]
    image_shape, input_shape = _shapes(objective, image_input, given_shape)
    is_still = objective.compares_places and isinstance(settings.transformations, str)
    _require_channels(values_range, image_shape[2])
    warn_if_flat(objective.model, image_input, fixed_inputs, input_shape, values_range)
    transformations = augmentation.get(
        None if is_still else settings.transformations, image_shape, settings.steps, values_range
    )
    moves, changes = augmentation.split(transformations)
    limit = settings.batch_size or _largest_batch(image_shape, input_shape)
    at_once = len(objective) // objective.facet_count
    optimizer = get_optimizer(settings.optimizer)
    parameterization = parameterizations.get(settings.parameterization, image_shape)
    anchor: Tap | None = None
    start: tuple[np.ndarray, ...] = ()
    if given is not None:
        anchor = find_anchor(objective, image_input, input_shape)
        parameterization = accentuated(parameterization, image_shape, optimizer is None)
        shares = _as_shares(given, image_shape, values_range)
        fields = zip(*map(parameterization.start, shares), strict=True)
        start = tuple(np.resize(one, (len(objective), *one[0].shape)) for one in fields)
    if objective.facet_count > 1:
        anchor = last_features(objective, image_input, input_shape)
    plan = Plan(
        readouts=objective.readouts,
        image_input=image_input,
        fixed_specs=tuple((one.shape, one.dtype) for one in fixed_inputs),
        # Chunks are equal, so that the last one is padded the least.
        batch=image_input.batch or math.ceil(at_once / math.ceil(at_once / limit)),
        image_shape=image_shape,
        input_shape=input_shape,
        parameterization=_optimised(
            parameterization, optimizer, values_range, image_shape, objective
        ),
        changes=augmentation.kinds(changes),
        regularizers=as_regularizers(settings.regularizers),
        values_range=values_range,
        optimizer=optimizer,
        anchor=anchor,
        facets=objective.facet_count,
    )
    _require_hashable(plan)
    saved = cast("int | tuple[int, ...] | None", settings.save_every)
    schedule = Schedule(settings.steps, settings.warmup_steps, saved)
    may_be_still = isinstance(settings.transformations, str) and not is_still
    return Task(
        objective,
        plan,
        moves,
        changes,
        schedule,
        settings.seed,
        may_be_still,
        fixed_inputs,
        start,
        settings.start_strength,
    )


def _given_images(start, objective, image_input):
    """Return the images of `start`, `(images, height, width, channels)`; `None` without any."""
    if start is None:
        return None
    rank = 2 if image_input.is_signal else 3
    images = start[None] if start.ndim == rank else start
    if images.ndim != rank + 1 or len(images) not in (1, len(objective)):
        one = "(time, channels)" if image_input.is_signal else "(height, width, channels)"
        raise ValueError(
            f"Invalid value for argument `start`. Expected one image {one}, or {len(objective)} of "
            f"them, one a target. Received: an array of shape {start.shape}"
        )
    return image_input.to_images(images)


def _as_shares(images, image_shape, values_range):
    """Return given images on a scale from 0 to 1, if they have that shape and range."""
    if images.shape[1:] != image_shape:
        raise ValueError(
            f"Invalid value for argument `start`. Expected images of shape {image_shape}: "
            "resize them, or set `image_shape`. Received: images of shape "
            f"{images.shape[1:]}"
        )
    low, high = np.asarray(values_range, "float32")
    shares = (images - low) / (high - low)
    if shares.min() < -_BEYOND or shares.max() > 1 + _BEYOND:
        raise ValueError(
            f"Invalid value for argument `start`. Expected images in values_range={values_range}: "
            "scale them, or set `values_range`. Received: values from "
            f"{images.min():g} to {images.max():g}"
        )
    return shares


def _largest_batch(image_shape, input_shape):
    pixels = max(math.prod(shape[:2]) for shape in (image_shape, input_shape))
    return min(_LARGEST_BATCH, inputs.at_once(pixels, _MOST_PIXELS))


def with_parameterization(task: Task, parameterization: object) -> Task:
    """Return a task with another parameterization."""
    plan, start = task.plan, task.start
    if plan.is_change:
        parameterization = accentuated(parameterization, plan.image_shape, plan.optimizer is None)
        given = zip(*map(parameterization.start_of, start[0]), strict=True)
        start = tuple(np.stack(one) for one in given)
    optimised = _optimised(
        parameterization, plan.optimizer, plan.values_range, plan.image_shape, task.targets
    )
    return replace(task, plan=replace(plan, parameterization=optimised), start=start)


def _optimised(parameterization, optimizer, values_range, shape, targets):
    """What the optimisation moves in place of a parameterization."""
    if optimizer is not None or isinstance(parameterization, Accentuation):
        return parameterization
    is_auto = (
        isinstance(parameterization, parameterizations.Fourier)
        and parameterization.contrast == AUTO
    )
    if is_auto and targets.highest is not None:
        # A score that no picture reaches would raise the contrast for ever.
        parameterization = replace(parameterization, contrast=_LIKE_PHOTOGRAPHS)
    return for_default_optimization(parameterization, values_range, shape, targets.reads_maps)


# --- checking arguments against a model ------------------------------------------------


def _require_hashable(plan):
    for part in (plan.parameterization, *plan.changes, *plan.regularizers, *plan.readouts):
        try:
            hash(part)
        except TypeError as error:
            raise ValueError(
                "The parts of an optimisation must be comparable by value, so that it is compiled "
                "once. Expected a function or a frozen dataclass of numbers and tuples. "
                f"Received: {part!r} ({error})"
            ) from error


def _require_channels(values_range, channels):
    if len(np.atleast_1d(values_range[0])) not in (1, channels):
        raise ValueError(
            f"Invalid value for argument `values_range`. Expected two numbers, or {channels} a "
            f"channel. Received: values_range={values_range!r}"
        )


def _require_targets(objective):
    if not isinstance(objective, Targets):
        raise ValueError(
            "Invalid value for argument `objective`. Expected an Objective, such as "
            f"Objective.neuron(model, layer, ids). Received: objective={objective!r}"
        )


def _shapes(objective, image_input, given_shape):
    """Return the shapes of the optimised image and of the augmented image, the model's input."""
    expected = image_input.shape
    if not given_shape and None in expected:
        raise NothingToShow(unknown_size(objective.model, image_input))
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
    input_shape = tuple(n or given[i] for i, n in enumerate(expected))
    if None in expected:
        _check_call(objective, image_input, input_shape, given_shape)
    return given, input_shape


def _check_call(objective, image_input, input_shape, given_shape):
    taps = [tap for _, taps, _ in objective.readouts for tap in taps]
    arguments = image_input.specs(objective.model, input_shape)
    try:
        output_shapes(objective.model, arguments, taps)
    except Exception as error:
        raise ValueError(
            "Invalid value for argument `image_shape`. Expected a shape that the model "
            f"'{objective.model.name}' can take. Received: image_shape={given_shape!r}. "
            f"The model says: {error}"
        ) from error
