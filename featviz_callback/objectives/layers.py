"""Find layers inside any Keras model, by name, index, object or path.

A path joins the names of nested layers by `/`, such as `"backbone/conv3"`. Everything else
in this room finds a layer by its path.

This module reads the structure of a model. It never calls the model.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from numbers import Integral

import keras

# Layers that return what they receive, in the same flat order, when nothing is trained.
_PASSING = (
    *(keras.layers.Activation, keras.layers.Dropout, keras.layers.GaussianDropout),
    *(keras.layers.GaussianNoise, keras.layers.ActivityRegularization),
    *(keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
)

# Whose functions named "sigmoid" are the sigmoid.
_LIBRARIES = ("keras", "tensorflow", "jax", "torch")


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers directly inside a model or layer, in lists and dicts too."""
    return layer._flatten_layers(include_self=False, recursive=False)


def walk(model: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yield `(path, layer)` for every layer inside `model`, nested ones too."""
    for layer in sublayers(model):
        yield prefix + layer.name, layer
        yield from walk(layer, f"{prefix}{layer.name}/")


def find_layer(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer]:
    """Return a layer's path inside the model, and the layer.

    Args:
        model: Any Keras model.
        layer: A name, a path such as `"backbone/conv3"`, an index into
            `model.layers` (negative ones count from the end), or a layer.

    Returns:
        `(path, layer)`.

    Raises:
        ValueError: If there is no such layer in the model. For a name, the
            message lists those like it.
    """
    if isinstance(layer, keras.Layer):
        for path, found in walk(model):
            if found is layer:
                return find_layer(model, path)
        raise ValueError(
            f"Invalid value for argument `layer`. Expected a layer of the model "
            f"'{model.name}'. Received: layer={layer.name!r}, which is not part of it."
        )
    if isinstance(layer, Integral) and not isinstance(layer, bool):
        layers, index = model.layers, int(layer)
        if not -len(layers) <= index < len(layers):
            raise ValueError(
                f"Invalid value for argument `layer`. Expected an index from "
                f"{-len(layers)} to {len(layers) - 1}. Received: layer={layer}"
            )
        return find_layer(model, layers[index])
    if not isinstance(layer, str):
        raise ValueError(
            "Invalid value for argument `layer`. Expected a name, an index or a "
            f"Keras layer. Received: layer={layer!r}"
        )
    return layer, lineage(model, layer)[-1]


def lineage(model, path):
    """Return the layers along a path, from the model to the layer itself."""
    found = [model]
    for name in path.split("/"):
        same_name = [one for one in sublayers(found[-1]) if one.name == name]
        if not same_name:
            raise ValueError(_no_such_layer(model, path))
        if len(same_name) > 1:
            raise ValueError(
                f"The model '{model.name}' has {len(same_name)} layers at the path {path!r}. "
                "Expected every layer to be found by its path: give them different names."
            )
        found.append(same_name[0])
    return found


def find_call(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer, int]:
    """Return what `find_layer` does, and which call of the layer a name means.

    Args:
        model: Any Keras model.
        layer: As for `find_layer`. `"conv:1"` is the second call of `"conv"`,
            unless that is a layer's own name.

    Returns:
        `(path, layer, call)`, the first call being 0.
    """
    numbered = re.fullmatch("(.+):([0-9]+)", layer) if isinstance(layer, str) else None
    if numbered is None or layer in dict(walk(model)):
        return *find_layer(model, layer), 0
    return *find_layer(model, numbered[1]), int(numbered[2])


def _no_such_layer(model, name):
    paths = [path for path, _ in walk(model)]
    near = [path for path in paths if path.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(name, paths, n=5, cutoff=0.5)
    near = list(dict.fromkeys(near))
    hint = f"Near it are {near}" if near else f"The model has {paths[:20]}"
    return (
        f"Invalid value for argument `layer`. Expected a layer of the model "
        f"'{model.name}'. {hint}. Received: layer={name!r}"
    )


def squashing(operation: keras.Operation) -> str | None:
    """Return `"softmax"` or `"sigmoid"` if an operation applies one last, else `None`.

    Args:
        operation: A layer, or another operation of a functional model. A layer with a
            `call` of its own may do more than apply its `activation`.
    """
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    name: str | None = type(operation).__name__.lower()
    if isinstance(operation, keras.Layer):
        activation = getattr(operation, "activation", None)
        if isinstance(activation, keras.Layer):
            return squashing(activation)
        # TensorFlow, JAX, torch and Keras each have functions of these names, and users may.
        owner = (getattr(activation, "__module__", None) or "").partition(".")[0]
        name = getattr(activation, "__name__", None) if owner in _LIBRARIES else None
    return name if name in ("softmax", "sigmoid") else None


def has_own_call(layer: keras.Operation) -> bool:
    """Whether it is not Keras that defines what a layer's call does."""
    owner = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return not owner.__module__.startswith("keras.")


def graph(layer: keras.Operation) -> keras.Operation | None:
    """Return what holds the graph of a functional or sequential model, else `None`.

    A model with a `call` of its own may run something else than its graph.
    """
    if has_own_call(layer):
        return None
    functional = getattr(layer, "_functional", None)
    found = layer if functional is None else functional
    return found if hasattr(found, "_nodes_by_depth") else None


def graph_nodes(found: keras.Operation) -> Iterator:
    """Yield the calls in a graph, in the order in which Keras runs them."""
    for depth in sorted(found._nodes_by_depth, reverse=True):
        yield from (node for node in found._nodes_by_depth[depth] if not node.is_input)


def passes_on(layer: keras.Operation) -> bool:
    """Whether a layer returns, at inference, the values that it receives in their flat order."""
    if not isinstance(layer, _PASSING) or has_own_call(layer):
        return False
    if isinstance(layer, keras.layers.Flatten):
        return layer.data_format == "channels_last"
    is_activation = isinstance(layer, keras.layers.Activation)
    return not is_activation or getattr(layer.activation, "__name__", None) == "linear"


def origin_of(model: keras.Model, path: str) -> tuple[str, str | None]:
    """Find where the values come from that a layer passes on.

    The search follows the graphs of functional and sequential models: from a nested model
    to its last layer, and from a layer such as `Dropout` to the one before it.

    Args:
        model: Any built Keras model.
        path: The path of a layer.

    Returns:
        The path of the first layer that computes the values, and `None`. If the values are
        those of a softmax or sigmoid that is no layer: the path of the layer whose output
        it receives, and its name. A layer that a graph calls several times is not followed.
    """
    while (made := _made_from(model, path)) is not None:
        holder, prefix, tensor = made
        last = tensor._keras_history.operation
        name = None if last in sublayers(holder) else squashing(last)
        if name is not None:
            last = last._inbound_nodes[tensor._keras_history.node_index].input_tensors[0]
            last = last._keras_history.operation
        if last not in sublayers(holder) or len(_calls(holder, last)) != 1:
            return path, None
        path = prefix + last.name
        if name is not None:
            return path, name
    return path, None


def _made_from(model, path):
    """The model whose graph has the values of a layer, its prefix, and their tensor, or `None`."""
    *_, holder, layer = lineage(model, path)
    found = graph(layer)
    if found is not None:
        return (layer, f"{path}/", found.outputs[0]) if len(found.outputs) == 1 else None
    if not passes_on(layer) or graph(holder) is None:
        return None
    calls = _calls(holder, layer)
    if len(calls) != 1:
        return None
    return holder, path[: len(path) - len(layer.name)], calls[0].input_tensors[0]


def _calls(holder, layer):
    return [node for node in graph_nodes(graph(holder)) if node.operation is layer]


def has_channels_first(model: keras.Model) -> bool:
    """Whether any layer of the model has the channels first."""
    return any(getattr(layer, "data_format", None) == "channels_first" for _, layer in walk(model))
