"""Find the parts of a wrapper model that take images.

A GAN, a VAE or a diffusion model is often a model with a `train_step` of its own and no
`call`: nothing can be read of it as a whole. Its parts can, the models that it keeps as
attributes, in lists or in dicts. Where none of these takes images, layers that have layers
inside are its parts.

A `call` beside such a `train_step` may be of no use: it raises an error, takes a number of
images to make, or several arguments. Then the parts are read too.

A model with a `call` whose own input is no image of floats, such as bytes or a flat vector,
is read by the models inside it that take images.

This module reads the structure of a model. It computes nothing: a call is followed on shapes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.layers import graph, graph_nodes
from featviz_callback.objectives.notices import NothingToShow, warn_once
from featviz_callback.objectives.parts import models_in, sublayers
from featviz_callback.objectives.paths import find_call, lineage, walk
from featviz_callback.objectives.shapes import layer_calls

# A model inside a `call` takes images if it takes no more channels.
_MOST_COLOURS = 4

# What builds nothing but the layers inside.
_USUAL_BUILDS = (keras.Layer.build, keras.Model.build, keras.Sequential.build)

# Whether the call of each model can be followed, with the number of variables that it had.
_followed: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def is_wrapper(model: keras.Model) -> bool:
    """Whether a model is read by its parts.

    It has no `call`, trains without having used it, or trains by a `train_step` of its own
    beside a `call` that fails on images, where parts take them.
    """
    owner = next(kind for kind in type(model).__mro__ if "call" in vars(kind))
    if owner in (keras.Model, keras.Layer):
        return True
    return has_own_step(model) and not (model.built and _is_read_as_a_whole(model))


def _is_read_as_a_whole(model):
    if inputs.is_declared(model):
        return True
    known, count = _followed.get(model, (True, None)), len(model.variables)
    if known[1] != count:
        known = _followed[model] = _can_be_followed(model), count
    if known[0]:
        return True
    inside = [layer for _, layer in walk(model) if isinstance(layer, keras.Model)]
    inside += _layers_of_layers(model)
    return not any(_gets_weights(one) or _takes_images(one, None) for one in inside)


def _can_be_followed(model):
    """Whether the call of a built model runs on its input, and calls a layer with weights."""
    try:
        calls = layer_calls(model, inputs.specs(model))
    except ValueError:
        return False
    return any(call.layer.weights for call in calls) or not sublayers(model)


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
    if not models and not layers:
        # Nothing will be seen later, unless something is made when it is built.
        makes = type(model).build not in _USUAL_BUILDS
        return model.built or not (makes or any(map(_may_make_layers, sublayers(model))))
    return all(layer.built for layer in layers)


def _may_make_layers(layer):
    return not layer.built and not type(layer).__module__.startswith("keras.")


def parts_to_name(model: keras.Model) -> tuple[list[str], dict[str, str]]:
    """Return how to name the models inside a wrapper, before the first batch builds them.

    Args:
        model: A wrapper.

    Returns:
        Python of each behind `model.`, such as `"nets['critic']"`; and the same of those that
        no image alone is enough to call, with the arguments that they take.
    """
    taken = {name: inputs.needed(part) for name, part in models_in(model).items()}
    several = {name: ", ".join(own) for name, own in taken.items() if len(own) > 1}
    return [name for name in taken if name not in several], several


def _gets_weights(layer):
    """Whether a call may build weights; augmentations and the like have none to show."""
    if layer.built:
        return False
    return type(layer).build not in _USUAL_BUILDS or any(map(_gets_weights, sublayers(layer)))


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
            Inside one that is no wrapper, signals do not count: they are tokens more often.
        fixed_inputs: See `optimize`.
    """
    paths = {id(layer): path for path, layer in reversed(list(walk(model)))}
    models = list(_models_that_take_images(model, fixed_inputs))
    if is_wrapper(model):
        # Augmentations take images too, and have nothing to show.
        learning = [one for one in models if one.weights]
        layers = [] if learning else _layers_of_layers(model)
        models = learning or [one for one in layers if _takes_images(one, fixed_inputs)] or models
    for part in models:
        yield paths.get(id(part), ""), part


def require_images(model: keras.Model, part: keras.Model, fixed_inputs: Mapping | None) -> None:
    """Refuse a part that takes sequences of any length, in a wrapper of no other parts.

    A signal has the shape of a sequence of tokens, which somebody else makes of images.

    Raises:
        NothingToShow: If that is so.
    """
    if not is_wrapper(model):
        return
    parts = [part, *(one for _, one in image_parts(model, fixed_inputs))]
    taken = [inputs.resolve(one, fixed_inputs, announce=False)[0] for one in parts]
    if None in taken[0].shape and all(one.is_signal for one in taken):
        raise NothingToShow(
            f"No part of the model '{model.name}' takes images: the part '{part.name}' takes "
            f"sequences {inputs.shapes(part)[taken[0].position or 0]}, of any length. To see it, "
            "give `objectives` of a model around it that takes images, "
            "keras.Model(images, part(...)), or, if it takes signals, `image_shape`, such as "
            "image_shape=(128,)."
        )


def _models_that_take_images(model, fixed_inputs):
    seen: set[int] = set()
    wraps, waiting = is_wrapper(model), [model]
    while waiting:
        part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if _takes_images(part, fixed_inputs, signals=wraps or part is model):
            yield part
        else:
            inside = sublayers(part) if wraps else _before_weights(part)
            waiting += [layer for layer in inside if isinstance(layer, keras.Model)]


def _before_weights(model):
    """The layers directly inside a model that no layer with weights comes before.

    Behind one, a nested model gets features in place of images. Nobody knows the order inside
    a `call`, so there a model of few channels is taken for one of images.
    """
    if not model.built or refusal(model) is not None:
        return []
    found = graph(model)
    if found is None:
        return [layer for layer in sublayers(model) if _takes_few_channels(layer)]
    learned: set[int] = set()
    behind: set[int] = set()
    for node in graph_nodes(found):
        layer = node.operation
        is_behind = any(id(tensor) in learned for tensor in node.input_tensors)
        if is_behind:
            behind.add(id(layer))
        is_statistics = isinstance(layer, keras.layers.Normalization)
        if is_behind or getattr(layer, "weights", None) and not is_statistics:
            learned.update(map(id, node.outputs))
    return [layer for layer in sublayers(model) if id(layer) not in behind]


def _takes_few_channels(model):
    if not isinstance(model, keras.Model) or not _takes_images(model, None):
        return isinstance(model, keras.Model)
    return inputs.resolve(model, announce=False)[0].shape[2] in range(1, _MOST_COLOURS + 1)


def refusal(model: keras.Model) -> NothingToShow | None:
    """Return why nobody can call a built model with images alone, `None` if one can."""
    try:
        inputs.specs(model)
    except NothingToShow as error:
        return error
    return None


def refused_parts(model: keras.Model) -> Iterator[tuple[str, NothingToShow]]:
    """Yield `(path, reason)` for each part of a wrapper that cannot be called with images alone."""
    for path, part in walk(model):
        is_part = isinstance(part, keras.Model) and part.built and not is_wrapper(part)
        reason = refusal(part) if is_part and "/" not in path else None
        if reason is not None:
            yield path, reason


def _takes_images(model, fixed_inputs, signals=True):
    is_model = isinstance(model, keras.Model)
    if is_wrapper(model) or not model.built or not (is_model or model.weights):
        return False
    try:
        taken, _ = inputs.resolve(model, fixed_inputs, announce=False)
    except ValueError:
        return False
    # Many layers take tokens, which have the shape of a signal.
    return not taken.is_signal or is_model and signals


def enter(model: keras.Model, layer: str | int | keras.Layer) -> tuple:
    """Return the part of a model that is read for a layer, and the layer's name there.

    Args:
        model: Any model.
        layer: As for `find_layer`.

    Returns:
        `(part, layer, prefix)`: `prefix` is what stands before the layer's path inside the
        part. A model that is read as a whole is returned as it is, with the prefix `""`.
        So is one that is no wrapper, if the layer is in no part of it that takes images.

    Raises:
        ValueError: If the layer of a wrapper is in no part that takes images.
    """
    wraps = is_wrapper(model)
    if not wraps and (not model.built or _takes_images(model, None)):
        return model, layer, ""
    path, _, call = find_call(model, layer)
    names, holders = path.split("/"), lineage(model, path)[1:-1]
    known = set() if wraps else {id(part) for _, part in image_parts(model)}
    for depth, part in enumerate(holders, 1):
        has_layers = isinstance(part, keras.Model) or sublayers(part)
        if id(part) in known or wraps and has_layers and _takes_images(part, None):
            inside, prefix = "/".join(names[depth:]), "/".join(names[:depth])
            if not wraps:
                _announce(model, prefix)
            return part, inside + (f":{call}" if call else ""), prefix + "/"
    if not wraps:
        return model, layer, ""
    for part in holders:
        reason = refusal(part) if isinstance(part, keras.Model) and part.built else None
        if reason is not None:
            raise reason
    raise ValueError(not_watchable(model, path))


def _announce(model, path):
    warn_once(
        model,
        "The model '%s' takes no images of floats, so the model %r inside it is watched, and "
        "images are made as that one takes them. The callback finds out how; `optimize` wants "
        "`probe_data` and `values_range` so.",
        *(model.name, path),
    )


def not_watchable(model: keras.Model, received: object = None) -> str:
    """Return the message for a wrapper of which nothing can be read."""
    if type(model).__call__ is not keras.Model.__call__:
        return (
            f"The model '{model.name}' has a `__call__` of its own, past which Keras knows nothing "
            "of its call. Expected a method `call`: name it so."
        )
    found = [path for path, _ in image_parts(model)]
    parts = [layer for layer in sublayers(model) if isinstance(layer, keras.Model)]
    inside: object = [part.name for part in [*parts, *_layers_of_layers(model)]]
    if not inside:
        inside = "it has no model inside. Put its layers into one, such as a keras.Sequential"
    expected = (
        f"a layer inside one of {found}, which take images"
        if found
        else (f"a part that takes images and is built, but none of its parts is one: {inside}")
    )
    what = f" Received: layer={received!r}" if received is not None else ""
    return (
        f"The model '{model.name}' has no `call` of images that was used, so its parts are "
        "watched. "
        f"Expected {expected}.{what}"
    )
