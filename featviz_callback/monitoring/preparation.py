"""Prepare an observer of a model from the user's arguments.

Targets of another model, equal names and images of several shapes are refused here, before
the first batch if the model is built by then. No image is optimised here, and nothing is
written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import keras
import numpy as np

from featviz_callback.monitoring.accentuation import Accentuations
from featviz_callback.monitoring.behaviour import find_classes
from featviz_callback.monitoring.observer import Observer
from featviz_callback.objectives import (
    Objective,
    Scaling,
    as_taken,
    calls_part,
    choose_by_default,
    has_own_step,
    image_place,
    inputs,
    join_alike,
    range_as_text,
    received_by_part,
    require_images,
    scaling_layers,
    scaling_on_the_way,
    scaling_outside,
    takes_whole_numbers,
    walk,
    warn_once,
)
from featviz_callback.optimization import Settings, prepare, with_parameterization
from featviz_callback.optimization.completion import (
    complete,
    resolve_input,
    scaled_as_before,
)
from featviz_callback.optimization.probe_data import ProbeImages, images_of
from featviz_callback.optimization.values_range import scaled_range
from featviz_callback.records import spread
from featviz_callback.tensorboard import summaries

# The brightest value of an input of whole numbers is that of a byte, but for these.
_BRIGHTEST = {"uint16": 65535.0}
# Bytes that are darker than this may be a mask, or a label for each pixel.
_DARK = 127


def choose_objectives(
    objectives: Objective | Sequence[Objective] | Callable | None,
    model: keras.Model,
    fixed_inputs: Mapping | None = None,
    shape: tuple | None = None,
) -> list[Objective]:
    """Return the objectives for a model, checked.

    Args:
        objectives: The argument of the callback.
        model: The model that is trained.
        fixed_inputs: Values of inputs that are not optimised, by their names.
        shape: Shape of one real image or signal, if it is known.

    Raises:
        NothingToShow: If none are given, and nothing is found in the model.
        ValueError: If they are no objectives, have equal names or are of another model.
    """
    chosen = _as_list(objectives, model, fixed_inputs, shape)
    _require_names(chosen)
    _require_model(chosen, model)
    return chosen


def prepare_observer(
    objectives: Sequence[Objective],
    settings: Settings,
    real_images: ProbeImages | None,
    warm_start: bool,
    trained: keras.Model | None = None,
    accentuate: int = 0,
) -> Observer:
    """Check all settings against the model, and return the observer that takes snapshots.

    Args:
        objectives: As `choose_objectives` returns them.
        settings: The settings of every optimisation.
        real_images: The images of `probe_data`, or `None` without any.
        warm_start: Whether each snapshot starts where the last one ended.
        trained: The model that is trained. Its own `train_step` may make images of what
            `fit` takes. Then real images of another shape are left out, with a warning.
        accentuate: How many real images are accentuated for each target.

    Raises:
        NothingToShow: If the model takes images of any size, and none is known.
        ValueError: If an argument is invalid.
    """
    models = {id(one.model): one.model for one in objectives}
    model = objectives[0].model
    found, are_received = _read(real_images, models, settings, trained)
    if trained is not None and id(model) not in found and not settings.image_shape:
        require_images(trained, model, settings.fixed_inputs)
    before = None
    is_inside = trained is not None and id(trained) not in models and calls_part(trained, model)
    if is_inside and settings.values_range is None:
        settings, before = _measured_before(trained, models, settings, real_images, are_received)
    if before is None and not are_received:
        before = _scaling_before(trained, models, settings)
        if before is not None:
            found = _scaled(trained, models, settings, found, before)
    settings, images = complete(settings, model, found.get(id(model)), before)
    tasks = [
        prepare(joined, settings, found.get(id(joined.model))) for joined in join_alike(objectives)
    ]
    _require_one_shape(tasks)
    if real_images is None or images is None:
        return Observer(objectives, tasks, None, warm_start, trained=trained)
    # The model of each task has to take the real images.
    for task in tasks:
        model = task.targets.model
        images_of(found[id(model)], model, task.plan.image_input)
    # Those of the data, where the user named none.
    own: list = [None] * len(tasks)
    if settings.parameterization in ("fourier", "fixed_magnitude"):
        name = str(settings.parameterization)
        own = [real_images.parameterization(name, task.plan, images) for task in tasks]
        tasks = [with_parameterization(*pair) for pair in zip(tasks, own, strict=True)]
    first = tasks[0]
    taken = as_taken(first.targets, images, first.plan.image_input, first.fixed_inputs)
    accentuations = None
    if accentuate:
        chosen = _images_to_accentuate(images, accentuate, first.plan)
        begun = [
            [_beginning_at(image, task.targets, settings, found, one) for image in chosen]
            for task, one in zip(tasks, own, strict=True)
        ]
        accentuations = Accentuations(chosen, begun)
    classes = None if real_images.labels is None else find_classes(real_images.labels)
    if classes is not None and len(classes.of_images) != len(taken):
        classes = None
    return Observer(objectives, tasks, taken, warm_start, accentuations, trained, classes)


def _images_to_accentuate(images, count, plan):
    """Return some images, spread evenly, as a user gives them, of the size of a picture."""
    some = images[spread(len(images), count)].astype("float32")
    if some.shape[1:3] != plan.image_shape[:2]:
        resized = keras.ops.image.resize(some, plan.image_shape[:2], data_format="channels_last")
        some = keras.ops.convert_to_numpy(resized)
    low, high = np.asarray(plan.values_range, "float32")
    return plan.image_input.to_given(np.clip(some, low, high))


def _beginning_at(image, targets, settings, found, parameterization):
    """Return the task that begins at an image, with a parameterization if it is not `None`."""
    task = prepare(targets, replace(settings, start=image), found.get(id(targets.model)))
    return task if parameterization is None else with_parameterization(task, parameterization)


def _read(real_images, models, settings, trained):
    """Return examples of the inputs of each model, by its identity; none without real images.

    Returns:
        `(examples, are_received)`: whether some are what a call of the trained model gives
        to its parts.
    """
    if real_images is None:
        return {}, False
    # Beside the trained model itself, parts are shown the same images as it.
    is_inside = trained is not None and id(trained) not in models
    received = {
        key: _received(real_images, model, settings, trained) if is_inside else None
        for key, model in models.items()
    }
    are_received = any(one is not None for one in received.values())
    if are_received:
        _warn_if_different(trained, models, list(received.values()))
    if trained is None or not has_own_step(trained) or are_received:
        found = {
            key: real_images.of_inputs(model) if received[key] is None else received[key]
            for key, model in models.items()
        }
        return found, are_received
    try:
        found = {key: real_images.of_inputs(model) for key, model in models.items()}
        for key, model in models.items():
            images_of(found[key], model, resolve_input(settings, model, found[key])[0])
    except ValueError as error:
        warn_once(
            trained,
            "`probe_data` are left out, since the `train_step` of the model '%s' makes other "
            "images of them. Give images as the watched model takes them. %s",
            *(trained.name, error),
        )
        return {}, False
    return found, False


def _received(real_images, model, settings, trained):
    """Return what a part gets of real images in the trained model's call, `None` if unknown."""
    if trained is None or not calls_part(trained, model):
        return None
    given = _of_inputs(real_images, trained)
    if given is None:
        warn_once(
            trained,
            "`probe_data` are no inputs of the model '%s', so they are taken for images as the "
            "model '%s' inside it takes them.",
            *(trained.name, model.name),
        )
        return None
    received = received_by_part(trained, model, given)
    if received is None:
        warn_once(
            trained,
            "What the model '%s' makes of `probe_data` before the model '%s' inside it gets them "
            "cannot be told: give `probe_data` and `values_range` as that one takes images.",
            *(trained.name, model.name),
        )
        return None
    place = resolve_input(settings, model, received)[0].position or 0
    before, after = (_ends(one) for one in (given[image_place(trained)], received[place]))
    if settings.values_range is not None:
        # Those that a user scaled already are nearer to the range that the user gave.
        wanted = np.asarray(settings.values_range).reshape(2, -1)
        if np.abs(before - wanted).sum() < np.abs(after - wanted).sum():
            return None
    if not np.array_equal(before, after):
        warn_once(
            trained,
            "Of `probe_data` from %g to %g the model '%s' inside the model '%s' receives images "
            "from %.3g to %.3g, which are ranked.",
            *(*before.ravel(), model.name, trained.name, *after.ravel()),
        )
    return received


def _warn_if_different(trained, models, found):
    """Warn if models inside the trained one do not receive the same, since one range is used."""
    if any(not _is_same(one, found[0]) for one in found):
        warn_once(
            trained,
            "The models %s inside the model '%s' receive images that differ, and all are shown "
            "those of the first one: give the others to a callback of their own.",
            *([model.name for model in models.values()], trained.name),
        )


def _is_same(one, other):
    if one is None or other is None:
        return one is other
    if isinstance(one, Scaling):
        return np.allclose((one.slopes, one.offsets), (other.slopes, other.offsets), rtol=1e-3)
    return one.keys() == other.keys() and all(np.array_equal(one[i], other[i]) for i in one)


def _ends(images):
    return np.asarray([[np.min(images)], [np.max(images)]], "float64")


def _of_inputs(real_images, trained):
    """Return examples of a model's inputs, `None` if real images are none of its largest one."""
    try:
        found = real_images.of_inputs(trained)
    except ValueError:
        return None
    place = image_place(trained)
    own = found.get(place)
    fits = own is not None and inputs.fits(own.shape[1:], inputs.shapes(trained)[place])
    return found if fits and len(own) and own.dtype.kind in "fiu" else None


def _measured_before(trained, models, settings, real_images, are_received):
    """Return settings, and how a call of the trained model scales images for a part of it.

    An input of bytes tells the range, unless real images are much darker.
    """
    if real_images is not None and not are_received:
        return settings, None
    whole = takes_whole_numbers(trained)
    if are_received and whole is None:
        return settings, None
    inside = [model for model in models.values() if calls_part(trained, model)]
    model, scalings = inside[0], [scaling_on_the_way(trained, one) for one in inside]
    scaling = scalings[0]
    if not are_received:
        _warn_if_different(trained, models, scalings)
    if scaling is None and real_images is None:
        warn_once(
            trained,
            "How the model '%s' changes images before the model '%s' inside it gets them cannot be "
            "told: give `probe_data`, or `values_range` as that one takes images.",
            *(trained.name, model.name),
        )
    if whole is None or scaling is None:
        return settings, scaling
    if are_received and _of_inputs(real_images, trained)[image_place(trained)].max() <= _DARK:
        return settings, None
    usual = 0.0, _BRIGHTEST.get(whole, 255.0)
    values_range = scaled_range(usual, scaling)
    warn_once(
        trained,
        "Images for the model '%s' are made in values_range=%s: the model '%s' makes %s of %s "
        "values x in %s. `values_range` sets another one.",
        *(model.name, range_as_text(values_range), trained.name, scaling, whole),
        range_as_text(usual),
    )
    return replace(settings, values_range=values_range), None


def _scaling_before(trained, models, settings):
    """Return how the trained model scales images before the watched ones get them."""
    if trained is None or id(trained) in models or settings.values_range is not None:
        return None
    parts = list(models.values())
    outside = scaling_layers(trained, parts)
    if not outside:
        return None
    channels = resolve_input(settings, parts[0], None)[0].shape[2]
    found = scaling_outside(trained, parts, channels) if channels else None
    if found is None:
        warn_once(
            trained,
            "The layer %r of the model '%s' may change images before the watched parts get them: "
            "give `values_range` and `probe_data` as the parts take them.",
            *(outside[0], trained.name),
        )
    return found


def _scaled(trained, models, settings, found, before):
    """Return examples as the watched parts get them, and log if that changes them."""
    scaled = {
        key: scaled_as_before(settings, models[key], own, before) for key, own in found.items()
    }
    if any(one is not None for one in scaled.values()):
        warn_once(
            trained,
            "`probe_data` are scaled as the layer %r of the model '%s' scales images x before "
            "the watched parts get them: %s. `values_range` says that `probe_data` are as the "
            "parts take them.",
            *(before.path, trained.name, before),
        )
    return {key: found[key] if one is None else one for key, one in scaled.items()}


def _as_list(objectives, model, fixed_inputs, shape):
    if objectives is None:
        return choose_by_default(model, fixed_inputs, shape)
    is_function = callable(objectives) and not isinstance(objectives, keras.Layer)
    if not isinstance(objectives, (Objective, list, tuple)) and is_function:
        objectives = objectives(model)
    if isinstance(objectives, Objective):
        objectives = [objectives]
    is_list = isinstance(objectives, (list, tuple)) and len(objectives) > 0
    if not is_list or not all(isinstance(one, Objective) for one in objectives):
        raise ValueError(
            "Invalid value for argument `objectives`. Expected an Objective, a list of at least "
            "one, or a function of the model that returns them. "
            f"Received: objectives={objectives!r}"
        )
    return list(objectives)


def _require_names(objectives):
    names = Counter(name for objective in objectives for name in objective.names)
    wrong = sorted(n for n, count in names.items() if count > 1 or n in summaries.RESERVED_NAMES)
    if wrong:
        raise ValueError(
            "Invalid value for argument `objectives`. Expected a different name for each "
            "target, since TensorBoard tells them apart by it, and none of "
            f"{summaries.RESERVED_NAMES}. Received twice, or reserved: {wrong}. Give `names`."
        )


def _require_model(objectives, model):
    trained = {id(variable) for variable in model.variables}
    # A model without variables is known by itself.
    parts = {id(model), *(id(layer) for _, layer in walk(model))}
    for objective in objectives:
        shared = not trained.isdisjoint(id(variable) for variable in objective.model.variables)
        if not shared and id(objective.model) not in parts:
            raise ValueError(
                "Invalid value for argument `objectives`. Expected objectives of one model, "
                f"'{model.name}', or of a part of it. Received: {objective!r}"
            )


def _require_one_shape(tasks):
    """Refuse images of several shapes, since a history and its real images have one shape."""
    names = {task.result_shape: task.targets.names[0] for task in reversed(tasks)}
    if len(names) > 1:
        found = ", ".join(f"{name!r} of {shape}" for shape, name in reversed(names.items()))
        raise ValueError(
            "Invalid value for argument `objectives`. Expected targets whose images are all of "
            "one shape: give those of a part of the model with another input to a callback of "
            f"their own. Received: {found}"
        )
