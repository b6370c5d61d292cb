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

from featviz_callback.monitoring.observer import Observer
from featviz_callback.monitoring.probe_data import ProbeImages
from featviz_callback.objectives import Objective, default_objectives, join_alike, walk
from featviz_callback.optimization import Settings, prepare, with_parameterization
from featviz_callback.tensorboard import summaries

_USUAL_RANGE = (0.0, 1.0)


def choose_objectives(
    objectives: Objective | Sequence[Objective] | Callable | None,
    model: keras.Model,
    fixed_inputs: Mapping | None = None,
) -> list[Objective]:
    """Return the objectives for a model, checked.

    Args:
        objectives: The argument of the callback.
        model: The model that is trained.
        fixed_inputs: Values of inputs that are not optimised, by their names.

    Raises:
        ValueError: If they are no objectives, have equal names or are of another model.
    """
    chosen = _as_list(objectives, model, fixed_inputs)
    _require_names(chosen)
    _require_model(chosen, model)
    return chosen


def prepare_observer(
    objectives: Sequence[Objective],
    settings: Settings,
    real_images: ProbeImages | None,
    warm_start: bool,
) -> Observer:
    """Check all settings against the model, and return the observer that takes snapshots.

    Args:
        objectives: As `choose_objectives` returns them.
        settings: The settings of every optimisation.
        real_images: The images of `probe_data`, or `None` without any.
        warm_start: Whether each snapshot starts where the last one ended.

    Raises:
        ValueError: If an argument is invalid.
    """
    settings = _with_values_range(settings, real_images)
    tasks = [prepare(joined, settings) for joined in join_alike(objectives)]
    _require_one_shape(tasks)
    if real_images is None:
        return Observer(objectives, tasks, None, warm_start)
    # The model of each task has to take the real images.
    images, *_ = (real_images.as_images(task.plan.image_input) for task in tasks)
    if settings.parameterization in ("fourier", "fixed_magnitude"):
        name = str(settings.parameterization)
        tasks = [
            with_parameterization(task, real_images.parameterization(name, task.plan))
            for task in tasks
        ]
    return Observer(objectives, tasks, images, warm_start)


def _with_values_range(settings, real_images):
    if settings.values_range is not None:
        return settings
    found = _USUAL_RANGE if real_images is None else real_images.find_values_range()
    return replace(settings, values_range=found)


def _as_list(objectives, model, fixed_inputs):
    if objectives is None:
        return default_objectives(model, fixed_inputs)
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
                "Invalid value for argument `objectives`. Expected objectives of the model that "
                f"is trained, '{model.name}', or of a part of it. Received: {objective!r}"
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
