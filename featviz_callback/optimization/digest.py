"""Name settings and weights by a hash of their values.

Two processes that mean the same get the same name, where a pickle may differ. Nothing here
computes on a model.
"""

from __future__ import annotations

import argparse
import dataclasses
import dis
import enum
import functools
import hashlib
import inspect
import os
import re
import sysconfig
from collections.abc import Iterator, Mapping
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)

import keras
import numpy as np

from featviz_callback.objectives import walk
from featviz_callback.optimization.fingerprints import (
    classes_of_users,
    function_of,
    names_of_keras,
)
from featviz_callback.optimization.optimizer import Optimizer
from featviz_callback.optimization.task import Task

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
# What code reads of modules, as instructions of Python.
_READS = ("LOAD_GLOBAL", "LOAD_NAME")
_CODE = (FunctionType, BuiltinFunctionType, type)
_NAMESPACES = (SimpleNamespace, argparse.Namespace)
# Installed code changes with its version alone. Frozen modules are Python's own.
_LIBRARIES = ("featviz_callback", "keras")
_INSTALLED = (os.path.join(sysconfig.get_path("stdlib"), ""), "<frozen ")
_PACKAGES = re.compile(r"[\\/](site|dist)-packages[\\/]")
# Methods that compute no picture.
_OF_TRAINING = (
    *("compile", "compute_loss", "compute_metrics", "fit", "reset_metrics", "metrics"),
    *("train_step", "test_step", "predict_step", "get_config", "from_config"),
)
# Where settings of a model name its layers in keys, too.
_OF_A_GRAPH = ("input_layers", "output_layers")


def digest(*values: object) -> str:
    """Return a hash of values of any kind: numbers, arrays, dataclasses, functions.

    A function counts by its code, its defaults, what it closes over, and the functions and
    plain values that it reads of modules; installed ones by their names. Another object counts
    by its attributes.

    Example:
    >>> digest(1, np.zeros(2)) == digest(1, np.zeros(2))
    True
    >>> digest(lambda x: x + 1) == digest(lambda x: x + 2)
    False
    """
    hasher = hashlib.sha256()
    _feed(hasher, values, set())
    return hasher.hexdigest()


def digest_task(task: Task) -> str:
    """Return a hash of all that an optimisation depends on, except the weights."""
    parts = {one.name: getattr(task, one.name) for one in dataclasses.fields(task)}
    del parts["targets"]
    targets = task.targets
    return digest(parts, targets.names, task.data, targets.facet_count, targets.facet_strength)


def digest_targets(task: Task) -> list[str]:
    """Return a hash of all that the picture of each target depends on, except the weights.

    Which others are optimised beside a target changes no picture, and so does how many.
    """
    parts = {one.name: getattr(task, one.name) for one in dataclasses.fields(task)}
    del parts["targets"], parts["start"]
    parts["plan"] = dataclasses.replace(task.plan, batch=1)
    targets = task.targets
    shared = digest(parts, targets.facet_count, targets.facet_strength)
    return [
        digest(shared, name, [[column[i] for column in term] for term in (*task.data, task.start)])
        for i, name in enumerate(targets.names)
    ]


def digest_weights(model: keras.Model) -> str:
    """Return a hash of a model's weights, without random states and metrics."""
    return digest([keras.ops.convert_to_numpy(one.value) for one in model.weights])


def digest_architecture(model: keras.Model) -> str:
    """Return a hash of what a model computes, except its weights.

    Layers count by their kind, their settings, the code of their classes' functions and of
    functions of their own, and how they are connected. Their names do not count, since Keras
    numbers them through.
    """
    layers = [model, *(layer for _, layer in walk(model))]
    numbers = {layer.name: f"layer {i}" for i, layer in reversed(list(enumerate(layers)))}
    kinds = {type(layer) for layer in layers}
    code = {kind: digest(_parts_of_class(kind)) for kind in kinds}
    parts = [[*_parts_of_layer(layer), code[type(layer)]] for layer in layers]
    return digest([_without_names(one, numbers) for one in parts])


def _parts_of_class(kind):
    """Return the functions and plain values of a layer's classes that are the user's."""
    return [
        (base.__qualname__, {name: _computes(value) for name, value in _named_of_class(base)})
        for base in classes_of_users(kind)
    ]


def _named_of_class(kind):
    for name, value in vars(kind).items():
        if name not in _OF_TRAINING and (name == "__call__" or not name.startswith("__")):
            yield name, value


def _computes(value):
    """Return a function, without what decorates it, or a plain value; `None` for all else."""
    function = function_of(value)
    function = function if isinstance(function, FunctionType) else inspect.unwrap(function)
    return function if isinstance(function, FunctionType) or _is_known(value) else None


def _parts_of_layer(layer):
    """Return what a layer is made of: its kind, its settings, and its own values and functions."""
    try:
        settings = layer.get_config()
    except Exception:
        # A layer of a user need have none, and then its attributes tell it apart.
        settings = None
    own = {}
    if classes_of_users(type(layer)):
        hidden = names_of_keras()
        own = {
            name: value
            for name, value in vars(layer).items()
            if name not in hidden and not name.startswith("_self_") and _is_known(value)
        }
    functions = {
        name: value
        for name, value in vars(layer).items()
        # Keras puts wrappers around methods.
        if isinstance(value, FunctionType) and not hasattr(type(layer), name)
        if not value.__module__.startswith("keras.")
    }
    if isinstance(layer, keras.layers.Lambda) and settings is not None:
        # Its function is in there as bytes that tell the line where it was written.
        settings.pop("function", None)
    return [type(layer), settings, own, functions]


def _is_plain(value):
    is_sequence = isinstance(value, (list, tuple))
    return all(map(_is_plain, value)) if is_sequence else isinstance(value, _PLAIN)


def _is_known(value, above=frozenset()):
    """Whether a value has nothing but plain values that no training changes."""
    if isinstance(value, (*_PLAIN, enum.Enum, slice, range)):
        return True
    parts, above = _inner(value), above | {id(value)}
    if parts is None:
        return False
    return all(id(one) not in above and _is_known(one, above) for one in parts)


def _inner(value):
    """Return what is in a container, or in an object of attributes alone; `None` for all else."""
    if isinstance(value, Mapping):
        # Other keys have no order that is the same in every process.
        return value.values() if all(map(_is_plain, value)) else None
    if isinstance(value, (list, tuple, set, frozenset)):
        return value
    if dataclasses.is_dataclass(value) or isinstance(value, _NAMESPACES):
        return getattr(value, "__dict__", {}).values()
    return None


def _without_names(value, numbers, key=""):
    """Replace each name of a layer in settings by its number."""
    if isinstance(value, str):
        # Their order tells layers apart, and two of several models may have one name.
        if key == "name" and value in numbers:
            return "its own"
        # Keras calls its first layer `Softmax` as an activation, and its second one not.
        return value if key.endswith("activation") else numbers.get(value, value)
    if isinstance(value, Mapping):
        numbers = {**numbers, **_numbers_in_graph(value)}
        keys = numbers if key in _OF_A_GRAPH else {}
        return {keys.get(k, k): _without_names(v, numbers, str(k)) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_names(one, numbers, key) for one in value]
    return value


def _numbers_in_graph(settings):
    """Return the place of each layer and operation in the graph of a model, by its name."""
    found = settings.get("layers")
    parts = found if isinstance(found, (list, tuple)) else ()
    configs = [one.get("config") for one in parts if isinstance(one, Mapping)]
    names = [one.get("name") for one in configs if isinstance(one, Mapping)]
    return {name: f"layer {i}" for i, name in enumerate(names) if isinstance(name, str)}


def _feed(hasher, value, above):
    """Add a value to a hash; `above` holds the objects that it is a part of."""
    if isinstance(value, _PLAIN):
        hasher.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, type):
        hasher.update(f"{value.__module__}.{value.__qualname__};".encode())
    elif isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        hasher.update(f"array:{value.dtype}{value.shape};".encode())
        hasher.update(np.ascontiguousarray(value).tobytes())
    elif id(value) in above:
        hasher.update(b"itself;")
    else:
        kind, parts = _parts(value)
        hasher.update(f"{kind}({len(parts)};".encode())
        for part in parts:
            _feed(hasher, part, above | {id(value)})
        hasher.update(b")")


def _parts(value):
    """Return what kind of thing a value is, as text, and the values that it is made of."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Mapping):
        return kind, [part for pair in sorted(value.items(), key=repr) for part in pair]
    if isinstance(value, (set, frozenset)):
        return kind, sorted(map(digest, value))
    if isinstance(value, (list, tuple)):
        return kind, list(value)
    if isinstance(value, enum.Enum):
        return kind, [value.name, value.value]
    if isinstance(value, Optimizer):
        # Keras counts its optimizers in their names.
        return kind, [value.kind, {k: v for k, v in value.config.items() if k != "name"}]
    if dataclasses.is_dataclass(value):
        return kind, [getattr(value, one.name) for one in dataclasses.fields(value)]
    return kind, _parts_of_object(value)


def _parts_of_object(value):
    if isinstance(value, FunctionType):
        read = _read_of_modules(value)
        return [*_parts_of_function(value), *([read] if read else [])]
    if isinstance(value, CodeType):
        return [value.co_code, value.co_consts, value.co_names, value.co_varnames]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, keras.Layer):
        return [type(value), value.name, *map(keras.ops.convert_to_numpy, value.weights)]
    if hasattr(value, "__array__") or keras.ops.is_tensor(value):
        return [keras.ops.convert_to_numpy(value)]
    if hasattr(value, "__dict__") and not callable(getattr(value, "__next__", None)):
        return [vars(value)]
    # An address differs from process to process.
    return [re.sub(r" at 0x[0-9a-f]+", "", repr(value))]


def _parts_of_function(function):
    cells = [_content(cell) for cell in function.__closure__ or ()]
    own = [function.__qualname__, function.__code__, function.__defaults__]
    return [*own, function.__kwdefaults__, cells]


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        # Nothing is in it yet.
        return None


def _read_of_modules(function):
    """Return each name and value that a function reads of modules, and those it calls in turn."""
    found, functions = [], [function]
    # It grows on the way, and has each function once.
    for one in functions if _is_own(function) else ():
        for name, value in _named_in(one):
            if not isinstance(value, FunctionType):
                found += [name, value] if _is_setting(value) else []
            elif not _is_own(value):
                found += [name, f"{value.__module__}.{value.__qualname__}"]
            elif value not in functions:
                functions.append(value)
                found += [name, _parts_of_function(value)]
    return found


def _named_in(function) -> Iterator[tuple[str, object]]:
    """Yield each name and value that a function reads of its module, and of other own ones."""
    names, attributes = _names_in(function.__code__)
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        yield name, value
        if isinstance(value, ModuleType) and not _is_installed(vars(value).get("__file__")):
            yield from ((key, vars(value)[key]) for key in sorted(attributes & vars(value).keys()))


def _names_in(code):
    """Return the global names that code reads, and all its names; inner functions included."""
    # Names of attributes alone may be those of other things in the module.
    reads = (one for one in dis.get_instructions(code) if one.opname in _READS)
    names, attributes = {one.argval for one in reads}, set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            inner_names, inner_attributes = _names_in(inner)
            names |= inner_names
            attributes |= inner_attributes
    return names, attributes


def _is_setting(value, above=frozenset()):
    """Whether a value has nothing but numbers, texts, arrays, functions and classes."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.dtype != object
    if isinstance(value, (*_PLAIN, *_CODE, keras.Variable)) or keras.ops.is_tensor(value):
        return True
    if isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    else:
        parts = _inner(value)
    if parts is None:
        return False
    above |= {id(value)}
    return all(id(one) not in above and _is_setting(one, above) for one in parts)


def _is_own(function):
    """Whether a function is of the user's code."""
    library = (function.__module__ or "").partition(".")[0]
    return library not in _LIBRARIES and not _is_installed(function.__code__.co_filename)


def _is_installed(path):
    # Modules without a file are those of Python itself.
    return path is None or path.startswith(_INSTALLED) or bool(_PACKAGES.search(path))
