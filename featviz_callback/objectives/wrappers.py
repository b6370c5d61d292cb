"""Find the parts of a wrapper model that take images.

A GAN, a VAE or a diffusion model is often a model with a `train_step` of its own and no
`call`: nothing can be read of it as a whole. Its parts can, the models that it keeps as
attributes, in lists or in dicts. Where none of these takes images, layers that have layers
inside are its parts.

This module reads the structure of a model. It never calls the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.paths import find_call, lineage, walk


def is_wrapper(model: keras.Model) -> bool:
    """Whether a model is read by its parts: it has no `call`, or trains without having used it."""
    owner = next(kind for kind in type(model).__mro__ if "call" in vars(kind))
    return owner in (keras.Model, keras.Layer) or has_own_step(model) and not model.built


def has_own_step(model: keras.Model) -> bool:
    """Whether a model trains by a `train_step` of its own."""
    # Keras' own NumPy backend trains no model, and a layer never trains by itself.
    usual = getattr(keras.Model, "train_step", None)
    return getattr(type(model), "train_step", usual) is not usual


def is_known(model: keras.Model) -> bool:
    """Whether a model is built; for a wrapper, whether all parts inside it are."""
    if not is_wrapper(model):
        # Keras' own `build` says that a subclassed model is built, and builds no layer.
        is_empty = not model.weights and any(map(_gets_weights, sublayers(model)))
        return model.built and not is_empty
    models = [layer for layer in sublayers(model) if isinstance(layer, keras.Model)]
    if not all(is_known(one) or not _gets_weights(one) for one in models):
        return False
    layers = _layers_of_layers(model)
    if any(_takes_images(part, None) for part in models):
        return True
    return bool(models or layers) and all(layer.built for layer in layers)


def _gets_weights(layer):
    """Whether a call may build weights; augmentations and the like have none to show."""
    if layer.built:
        return False
    usual = (keras.Layer.build, keras.Model.build, keras.Sequential.build)
    return type(layer).build not in usual or any(map(_gets_weights, sublayers(layer)))


def _layers_of_layers(model):
    """The layers directly inside a wrapper that are no models, and have layers inside."""
    layers = (layer for layer in sublayers(model) if not isinstance(layer, keras.Model))
    return [layer for layer in layers if sublayers(layer)]


def image_parts(
    model: keras.Model, fixed_inputs: Mapping | None = None
) -> Iterator[tuple[str, keras.Model]]:
    """Yield `(path, part)` for every part that takes images, each once.

    Args:
        model: A model. One that takes images itself is its only part, at the path `""`.
        fixed_inputs: See `optimize`.
    """
    paths = {id(layer): path for path, layer in reversed(list(walk(model)))}
    models = list(_models_that_take_images(model, fixed_inputs))
    layers = _layers_of_layers(model) if is_wrapper(model) and not models else []
    for part in models or [one for one in layers if _takes_images(one, fixed_inputs)]:
        yield paths.get(id(part), ""), part


def _models_that_take_images(model, fixed_inputs):
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if _takes_images(part, fixed_inputs):
            yield part
        else:
            waiting += [layer for layer in sublayers(part) if isinstance(layer, keras.Model)]


def _takes_images(model, fixed_inputs):
    is_model = isinstance(model, keras.Model)
    if is_wrapper(model) or not model.built or not (is_model or model.weights):
        return False
    try:
        taken, _ = inputs.resolve(model, fixed_inputs, announce=False)
    except ValueError:
        return False
    # Many layers take tokens, which have the shape of a signal.
    return is_model or not taken.is_signal


def enter(model: keras.Model, layer: str | int | keras.Layer) -> tuple:
    """Return the part of a wrapper that a layer is in, and the layer's name there.

    Args:
        model: Any model.
        layer: As for `find_layer`.

    Returns:
        `(part, layer, prefix)`: `prefix` is what stands before the layer's path inside the
        part. A model that is no wrapper is returned as it is, with the prefix `""`.

    Raises:
        ValueError: If the layer is in no part that takes images.
    """
    if not is_wrapper(model):
        return model, layer, ""
    path, _, call = find_call(model, layer)
    names = path.split("/")
    for depth, part in enumerate(lineage(model, path)[1:-1], 1):
        if (isinstance(part, keras.Model) or sublayers(part)) and _takes_images(part, None):
            inside = "/".join(names[depth:]) + (f":{call}" if call else "")
            return part, inside, "/".join(names[:depth]) + "/"
    raise ValueError(not_watchable(model, path))


def not_watchable(model: keras.Model, received: object = None) -> str:
    """Return the message for a wrapper of which nothing can be read."""
    found = [path for path, _ in image_parts(model)]
    parts = [layer for layer in sublayers(model) if isinstance(layer, keras.Model)]
    inside = [part.name for part in [*parts, *_layers_of_layers(model)]]
    expected = (
        f"a layer inside one of {found}, which take images"
        if found
        else (
            "a part that takes images and is built, but none of its parts is one: "
            f"{inside or 'it has no model inside'}"
        )
    )
    what = f" Received: layer={received!r}" if received is not None else ""
    return (
        f"The model '{model.name}' has no `call` that was used, so its parts are watched. "
        f"Expected {expected}.{what}"
    )
