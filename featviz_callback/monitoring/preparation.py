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
from featviz_callback.monitoring.behaviour import find_classes, may_be_classes
from featviz_callback.monitoring.observer import Observer
from featviz_callback.objectives import (
    Objective,
    as_taken,
    choose_by_default,
    join_alike,
    range_as_text,
    walk,
    warn_once,
)
from featviz_callback.optimization import Settings, prepare, with_parameterization
from featviz_callback.optimization.probe_data import (
    ProbeImages,
    beyond_range,
    images_of,
    is_within,
)
from featviz_callback.optimization.surroundings import complete_inside, is_range_doubtful
from featviz_callback.records import spread
from featviz_callback.tensorboard import summaries


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
    is_strict: bool = False,
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
        is_strict: Whether real images beyond the range are refused. Else a warning says so.

    Raises:
        NothingToShow: If the model takes images of any size, and none is known.
        ValueError: If an argument is invalid.
    """
    models = {id(one.model): one.model for one in objectives}
    asked = settings
    settings, found, images = complete_inside(asked, models, real_images, trained)
    is_doubtful = is_range_doubtful(asked, models, found, images, trained)
    tasks = [
        prepare(joined, settings, found.get(id(joined.model))) for joined in join_alike(objectives)
    ]
    _require_one_shape(tasks)
    if real_images is None or images is None:
        return Observer(objectives, tasks, None, warm_start, trained=trained)
    given = {
        key: images_of(found[key], model, _first_of(tasks, model).plan.image_input)
        for key, model in models.items()
    }
    tell_beyond = _refuse_beyond if is_strict else _warn_beyond
    for key, model in models.items():
        if not is_within(given[key], _first_of(tasks, model).plan.values_range):
            tell_beyond(model, given[key], _first_of(tasks, model).plan.values_range)
    # Those of the data, where the user named none.
    own: dict[int, object | None] = dict.fromkeys(models)
    if settings.parameterization in ("fourier", "fixed_magnitude"):
        name = str(settings.parameterization)
        for key, model in models.items():
            plan = _first_of(tasks, model).plan
            own[key] = real_images.parameterization(name, plan, given[key])
        tasks = [with_parameterization(task, own[id(task.targets.model)]) for task in tasks]
    taken = {key: _as_taken(tasks, model, given[key]) for key, model in models.items()}
    accentuations = None
    if accentuate:
        chosen = {
            key: _images_to_accentuate(given[key], accentuate, _first_of(tasks, model).plan)
            for key, model in models.items()
        }
        keys = [id(task.targets.model) for task in tasks]
        begun = [
            [_beginning_at(image, task.targets, settings, found, own[key]) for image in chosen[key]]
            for key, task in zip(keys, tasks, strict=True)
        ]
        accentuations = Accentuations([chosen[key] for key in keys], begun)
    first, *_ = taken.values()
    labels = real_images.labels
    classes = None if labels is None else find_classes(labels)
    if classes is not None and len(classes.members) != len(first):
        classes = None
    elif labels is not None and classes is None and may_be_classes(labels):
        warn_once(
            tasks[0].targets.model if trained is None else trained,
            "The labels of `probe_data`, of shape %s, tell no classes, so `selectivity` is not "
            "known. Expected whole numbers or strings, rows with a single 1, or 0 and 1 for "
            "each of several labels.",
            labels.shape,
        )
    others = {key: one for key, one in taken.items() if not _is_same(one, first)}
    observed = Observer(
        objectives, tasks, first, warm_start, accentuations, trained, classes, others
    )
    observed.is_range_doubtful = is_doubtful
    return observed


def _first_of(tasks, model):
    return next(task for task in tasks if task.targets.model is model)


def _as_taken(tasks, model, images):
    """Return real images as `as_taken` does, for all that is read of a model."""
    own = [task for task in tasks if task.targets.model is model]
    first = own[0]
    targets = [task.targets for task in own]
    return as_taken(targets, images, first.plan.image_input, first.fixed_inputs)


def _is_same(one, other):
    return one is other or one.dtype == other.dtype and np.array_equal(one, other)


def _warn_beyond(model, images, values_range):
    warn_once(
        model,
        "`probe_data` of the model '%s' are from %g to %g, and images are made in "
        "values_range=%s, so scores of both cannot be compared: give `probe_data` in that range, "
        "or another `values_range`. None finds it out.",
        *(model.name, images.min(), images.max(), range_as_text(values_range)),
    )


def _refuse_beyond(model, images, values_range):
    raise beyond_range(images, values_range)


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
