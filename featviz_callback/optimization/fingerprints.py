"""Tell whether a model is still the one that a step was compiled for.

A compiled step reads variables anew at each call. All else that a layer computes with is a
constant in it: numbers, strings, arrays, tensors and functions that are attributes of the
layer or of its class. `fingerprint` compares these by value where it can, so that a layer
that gets an equal value again compiles nothing.

Nothing in a fingerprint keeps a layer, a function or a model alive.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FunctionType, MethodType

import keras
import numpy as np
from keras import ops

from featviz_callback.objectives import walk

# Arrays of more bytes are compared by identity, and longer containers are cut.
_MOST_BYTES, _MOST_ITEMS, _DEEPEST = 4 * 1024 * 1024, 1000, 4

# What does not tell two values apart.
_UNKNOWN = "unknown"

# Attributes in which Keras keeps how a model is trained, beside those of an empty model.
_OF_TRAINING = {
    *("stop_training", "optimizer", "history"),
    *("_compile_config", "_compiled_trainable_state", "_eval_epoch_iterator"),
}
_OF_COMPUTING = {"autocast", "activity_regularizer"}


@dataclass(frozen=True)
class _Same:
    """An object compared by identity, by a reference of its own that Python makes once."""

    reference: object

    def __eq__(self, other):
        return isinstance(other, _Same) and self.reference is other.reference

    def __hash__(self):
        return id(self.reference)


# The fingerprints of a block in which no model changes, by the model's identity.
_known_in_block: ContextVar[dict | None] = ContextVar("known_in_block", default=None)


@contextmanager
def models_unchanged() -> Iterator[None]:
    """Take it that no model changes within a block, where each is read once."""
    if _known_in_block.get() is not None:
        yield
        return
    token = _known_in_block.set({})
    try:
        yield
    finally:
        _known_in_block.reset(token)


def fingerprint(model: keras.Model) -> tuple:
    """Return a key that changes with the model's layers, variables and other attributes.

    What was compiled for one key must not be used for another.
    """
    known = _known_in_block.get()
    if known is None:
        return _fingerprint(model)
    if id(model) not in known:
        # With the model, so that no other one gets its identity.
        known[id(model)] = model, _fingerprint(model)
    return known[id(model)][1]


def _fingerprint(model):
    layers = [
        (path, _same(layer), _settings(layer), layer.dtype_policy.name)
        for path, layer in walk(model)
    ]
    return tuple(layers), tuple(_same(variable) for variable in model.variables)


def _settings(layer):
    """Return a layer's own values and functions, which a compiled step fixes."""
    of_keras, bases = _names_of_keras(), _classes_of_users(type(layer))
    # What Keras' own layers compute with is public.
    hidden = "_self_" if bases else "_"
    found = [
        (name, _known(value))
        for name, value in vars(layer).items()
        if name not in of_keras and not name.startswith(hidden)
    ]
    for base in bases:
        found += [
            (base.__qualname__, name, _known(value))
            for name, value in vars(base).items()
            if not name.startswith("__") and not isinstance(value, FunctionType)
        ]
    return frozenset(found)


def _classes_of_users(kind):
    """Return those of a layer's classes that are neither Keras' nor TensorFlow's."""
    frameworks = ("keras", "builtins", "tensorflow", "torch")
    return [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in frameworks]


@functools.cache
def _names_of_keras():
    # With a name, since Keras counts the names that it makes.
    return {*vars(keras.Model(name="empty")), *_OF_TRAINING} - _OF_COMPUTING


def _known(value, depth=0):
    """Return what tells a value from others: itself if it is plain, else `_UNKNOWN`."""
    if value is None or isinstance(value, (bool, int, str, bytes)):
        # 1 is not True.
        return type(value), value
    if isinstance(value, (float, np.generic)):
        # NaN is equal to itself.
        return type(value), repr(value)
    if isinstance(value, (FunctionType, MethodType, keras.layers.Layer)):
        return _same(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if hasattr(value, "assign"):
        # A step reads variables anew.
        return _same(value)
    if depth < _DEEPEST:
        if isinstance(value, functools.partial):
            parts = (value.func, value.args, value.keywords)
            return "partial", *(_known(part, depth + 1) for part in parts)
        if isinstance(value, (list, tuple)):
            return type(value).__name__, *(_known(one, depth + 1) for one in value[:_MOST_ITEMS])
        if isinstance(value, dict):
            items = list(value.items())[:_MOST_ITEMS]
            return "dict", *((repr(key), _known(one, depth + 1)) for key, one in items)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return type(value).__qualname__, _known(vars(value), depth + 1)
    # Keras' own check takes long.
    if hasattr(value, "dtype") and ops.is_tensor(value):
        return _of_tensor(value)
    return _same(value) if callable(value) else _UNKNOWN


def _of_tensor(tensor):
    try:
        return _of_array(np.asarray(ops.convert_to_numpy(tensor)))
    except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError):
        # It is symbolic, of a call that is over, and no later call can read it.
        return _UNKNOWN


def _of_array(array):
    if array.dtype.hasobject or array.nbytes > _MOST_BYTES:
        return _same(array)
    content = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=16).digest()
    return array.dtype.str, array.shape, content


def _same(value):
    if isinstance(value, MethodType):
        return _same(value.__self__), _same(value.__func__)
    try:
        return _Same(weakref.ref(value))
    except TypeError:
        return _Same(value)
