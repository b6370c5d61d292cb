"""Name the layers directly inside a model or layer, so that no two have the same name.

This module reads the structure of a model. It never calls the model.
"""

from __future__ import annotations

from collections import Counter

import keras

# Where Keras and torch keep all layers of a layer, whatever attribute holds them. TensorFlow
# keeps them in attributes that begin with `_self_`.
_LISTS_OF_ALL = ("_layers", "_operations", "_operations_by_depth", "_modules")


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers directly inside a model or layer, in lists and dicts too."""
    return layer._flatten_layers(include_self=False, recursive=False)


def attributes(layer: keras.Layer) -> dict[str, object]:
    """Return the attributes of a layer. Torch keeps those that are layers apart."""
    return {**vars(layer), **vars(layer).get("_modules", {})}


def models_in(layer: keras.Layer) -> dict[str, keras.Model]:
    """Return the models that public attributes of a layer hold, also in lists and dicts.

    Each is there once, by what reaches it in Python: `"critic"`, `"nets['critic'][0]"`.
    """
    found: dict[str, keras.Model] = {}
    for name, value in attributes(layer).items():
        if name.startswith("_") or name in _LISTS_OF_ALL:
            continue
        for alias, model in _held_by(name, value, as_code=True):
            if isinstance(model, keras.Model) and all(model is not one for one in found.values()):
                found[alias] = model
    return found


def parts(parent: keras.Layer) -> list[tuple[str, keras.Layer]]:
    """Return the layers directly inside, each with what names it there and no other.

    It is the layer's name, or one of its `aliases` where several layers have that name.
    """
    inside = sublayers(parent)
    counts = Counter(layer.name for layer in inside)
    own = {id(layer): layer.name for layer in inside if counts[layer.name] == 1}
    if len(own) < len(inside):
        for alias, layer in aliases(parent).items():
            own.setdefault(id(layer), alias)
    return [(own[id(layer)], layer) for layer in inside]


def aliases(parent: keras.Layer) -> dict[str, keras.Layer]:
    """Return the layers directly inside by the attributes that hold them, and by index.

    A layer in a list or dict has its place or key in brackets behind the attribute. The
    index in `layers` comes last, and is there for each layer.
    """
    inside = sublayers(parent)
    counts = Counter(layer.name for layer in inside)
    known = {id(layer) for layer in inside}
    found: dict = {}
    for alias, layer in sorted(_held(parent), key=lambda one: _rank(one[0])):
        # A layer's own name wins. Behind the name of one layer, brackets mean its output.
        holder = alias.partition("[")[0]
        taken = counts[alias] or ("[" in alias and counts[holder] == 1)
        if id(layer) in known and not taken and "/" not in alias:
            found.setdefault(alias, layer)
    for i, layer in enumerate(inside):
        found.setdefault(f"layers[{i}]", layer)
    return found


def _rank(alias):
    """Public attributes come first, and then those that hold a layer itself."""
    return alias.startswith("_"), "[" in alias


def _held(parent):
    """Yield `(alias, layer)` for all that a layer's attributes hold."""
    for name, value in attributes(parent).items():
        if name not in _LISTS_OF_ALL and not name.startswith("_self_"):
            yield from _held_by(name, value)


def _held_by(alias, value, as_code=False):
    if isinstance(value, keras.Layer):
        yield alias, value
    elif isinstance(value, (list, tuple, dict)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            inside = repr(key) if as_code else key
            yield from _held_by(f"{alias}[{inside}]", item, as_code)
