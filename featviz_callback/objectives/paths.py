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

from featviz_callback.objectives.parts import aliases, parts, sublayers

# So many names are listed in a message.
_LISTED = 8


def walk(model: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yield `(path, layer)` once for every layer inside `model`, nested ones too.

    Of several paths to a layer it is the shortest, and of those the first in the model's
    order. A part of a path is the layer's name; where several layers side by side have that
    name, it is the attribute that holds the layer, see `find_layer`.
    """
    yield from _walk(model, _owned(model), prefix)


def _walk(parent, owned, prefix):
    for part, layer in owned[id(parent)]:
        yield prefix + part, layer
        yield from _walk(layer, owned, f"{prefix}{part}/")


def _owned(model):
    """For each layer, the layers inside that have no shorter path, with their parts."""
    seen, owned, level = {id(model)}, {}, [model]
    while level:
        parents, level = level, []
        for parent in parents:
            own = [(part, layer) for part, layer in parts(parent) if id(layer) not in seen]
            seen.update(id(layer) for _, layer in own)
            owned[id(parent)] = own
            level += [layer for _, layer in own]
    return owned


def find_layer(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer]:
    """Return a layer's path inside the model, and the layer.

    A part of a path is the name of a layer. If no layer there has the name, it is the
    attribute that holds the layer: `"left"`, an item of a list or dict such as
    `"blocks[0]"` or `"heads[box]"`, or a place in the parent's `layers`, `"layers[2]"`.
    A layer's own name wins.

    Args:
        model: Any Keras model.
        layer: A name, a path such as `"backbone/conv3"`, an index into
            `model.layers` (negative ones count from the end), or a layer, which is
            found whatever its name.

    Returns:
        `(path, layer)`.

    Raises:
        ValueError: If there is no such layer in the model, or several. For a name, the
            message lists those like it.

    Example:
    >>> class Two(keras.Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.left, self.right = (keras.layers.ReLU(name="relu") for _ in range(2))
    >>> model = Two()
    >>> find_layer(model, "right") == find_layer(model, model.right) == ("right", model.right)
    True
    """
    if isinstance(layer, keras.Layer):
        return _find_object(model, layer)
    if isinstance(layer, Integral) and not isinstance(layer, bool):
        layers, index = model.layers, int(layer)
        if not -len(layers) <= index < len(layers):
            raise ValueError(
                f"Invalid value for argument `layer`. Expected an index from "
                f"{-len(layers)} to {len(layers) - 1}. Received: layer={layer}"
            )
        return _find_object(model, layers[index])
    if not isinstance(layer, str):
        raise ValueError(
            "Invalid value for argument `layer`. Expected a name, an index or a "
            f"Keras layer. Received: layer={layer!r}"
        )
    return layer, lineage(model, layer)[-1]


def _find_object(model, layer):
    for path, found in walk(model):
        if found is layer:
            return path, layer
    raise ValueError(
        f"Invalid value for argument `layer`. Expected a layer of the model "
        f"'{model.name}'. Received: layer={layer.name!r}, which is not part of it."
    )


def lineage(model, path):
    """Return the layers along a path, from the model to the layer itself."""
    found = [model]
    for part in path.split("/"):
        matching = _matching(found[-1], part)
        if not matching:
            raise ValueError(_no_such_layer(model, path))
        if len(matching) > 1:
            raise ValueError(_several_layers(model, path, found, matching))
        found.append(matching[0])
    return found


def _matching(parent, part):
    """The layers directly inside that a part of a path means."""
    named = [layer for layer in sublayers(parent) if layer.name == part]
    alias = None if named else aliases(parent).get(part)
    return named if alias is None else [alias]


def _leads_to_any(model, path):
    layer = model
    for part in path.split("/"):
        matching = _matching(layer, part)
        if len(matching) != 1:
            return bool(matching)
        layer = matching[0]
    return True


def find_call(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer, int]:
    """Return what `find_layer` does, and which call of the layer a name means.

    Args:
        model: Any Keras model.
        layer: As for `find_layer`. `"conv:1"` is the second call of `"conv"`,
            unless that is a layer's own name.

    Returns:
        `(path, layer, call)`, the first call being 0.
    """
    numbered = _numbered(layer) if isinstance(layer, str) else None
    if numbered is None or _leads_to_any(model, layer):
        return *find_layer(model, layer), 0
    return *find_layer(model, numbered[1]), int(numbered[2])


def _numbered(name):
    return re.fullmatch("(.+):([0-9]+)", name)


def split_index(model: keras.Model, layer: str | int | keras.Layer) -> tuple:
    """Split a name such as `"layer[0]"` into the layer and the index of its output.

    Args:
        model: Any Keras model.
        layer: As for `find_call`, or with an index behind: `"layer[0]"`, `"layer:1[key]"`,
            `"layer[0][key]"`. A layer's own name that contains brackets wins.

    Returns:
        `(layer, index)`, `index` being a tuple of strings.
    """
    name, index = layer, tuple[str, ...]()
    while isinstance(name, str):
        numbered = _numbered(name)
        if _leads_to_any(model, name) or (numbered and _leads_to_any(model, numbered[1])):
            return name, index
        indexed = re.fullmatch(r"(.+)\[([^\[\]]*)\]", name)
        if indexed is None:
            break
        name, index = indexed[1], (indexed[2].strip("'\""), *index)
    return layer, ()


def _several_layers(model, path, found, matching):
    prefix = "/".join(path.split("/")[: len(found) - 1])
    names = [part for part, one in parts(found[-1]) if any(one is same for same in matching)]
    names = [f"{prefix}/{name}" if prefix else name for name in names]
    return (
        f"Invalid value for argument `layer`. Expected a layer that is the only one of its name "
        f"in the model '{model.name}'. There are {len(matching)} layers of the name "
        f"{matching[0].name!r}: name one of {names[:_LISTED]}, or give the layer itself. "
        f"Received: layer={path!r}"
    )


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


def inside_names(layer: keras.Layer, path: str) -> list[str]:
    """Return the paths of the first layers inside a layer, for a message."""
    return [inner for inner, _ in walk(layer, f"{path}/")][:_LISTED]
