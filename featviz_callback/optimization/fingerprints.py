"""Tell whether a model is still the one that a step was compiled for.

A compiled step reads variables anew at each call. All else that a layer computes with is a
constant in it: numbers, strings, arrays, tensors, functions and objects of the user's classes
that are attributes of the layer or of its class. `fingerprint` compares these by value where
it can, so that a layer that gets an equal value again compiles nothing.

Nothing in a fingerprint keeps a layer, a function or a model alive.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import hashlib
import math
import sys
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain, islice
from types import FunctionType, MemberDescriptorType, MethodType, SimpleNamespace

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
    *("stop_training", "stop_evaluating", "stop_predicting", "optimizer", "history"),
    *("_compile_config", "_compiled_trainable_state", "_eval_epoch_iterator"),
}
_OF_COMPUTING = {"autocast", "activity_regularizer"}

_FRAMEWORKS = {"keras", "builtins", "tensorflow", "torch"}
# Objects of a framework or of Python, such as a log, have more than their attributes tell, but
# for those made of these.
_FOR_USERS = {"abc", "typing", "collections"}
_NOT_OF_USERS = (_FRAMEWORKS | {"jax", "jaxlib"} | sys.stdlib_module_names) - _FOR_USERS
_NAMESPACES = (SimpleNamespace, argparse.Namespace)


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
    of_keras, bases = names_of_keras(), classes_of_users(type(layer))
    # What Keras' own layers compute with is public.
    hidden = "_self_" if bases else "_"
    found = [
        (name, _known(value))
        for name, value in vars(layer).items()
        if name not in of_keras and not name.startswith(hidden)
    ]
    for base in bases:
        found += [
            (base.__qualname__, name, _known(function_of(value)))
            for name, value in vars(base).items()
            if not name.startswith("__") or name == "__call__"
        ]
    return frozenset(found)


def function_of(value: object) -> object:
    """Return the function of a property, or of a method of a class."""
    if isinstance(value, property):
        return value.fget
    if isinstance(value, functools.cached_property):
        return value.func
    return getattr(value, "__func__", value)


def classes_of_users(kind: type) -> list[type]:
    """Return those of a layer's classes that are neither Keras' nor TensorFlow's."""
    return [one for one in kind.__mro__ if one.__module__.partition(".")[0] not in _FRAMEWORKS]


@functools.cache
def names_of_keras() -> set[str]:
    """Return the attributes in which Keras keeps what is no setting of a user."""
    # With a name, since Keras counts the names that it makes.
    return {*vars(keras.Model(name="empty")), *_OF_TRAINING} - _OF_COMPUTING


def _known(value, above=()):
    """Return what tells a value from others; `above` holds the objects that it is a part of."""
    if value is None or isinstance(value, (bool, int, str, bytes)):
        if isinstance(value, enum.Enum):
            return _same(type(value)), value.name, repr(value.value)
        # 1 is not True.
        return type(value), value
    if isinstance(value, (float, complex, np.generic)):
        # NaN is equal to itself.
        return type(value), repr(value)
    if isinstance(value, (FunctionType, keras.layers.Layer)):
        return _same(value)
    if isinstance(value, np.ndarray):
        return _of_array(value)
    if hasattr(value, "assign"):
        # A step reads variables anew.
        return _same(value)
    # Keras' own check takes long.
    if hasattr(value, "dtype") and ops.is_tensor(value):
        return _of_tensor(value)
    own = _same(value) if callable(value) else _UNKNOWN
    if len(above) == _DEEPEST or any(one is value for one in above):
        return own
    found = _parts(value)
    if found is None:
        is_compared = own is _UNKNOWN and type(value).__eq__ is not object.__eq__
        return (type(value).__qualname__, repr(value)) if is_compared else own
    kind, count, parts = found
    known = [_known(one, (*above, value)) for one in islice(parts, _MOST_ITEMS)]
    if isinstance(value, (set, frozenset)):
        return kind, count, frozenset(known)
    if own is _UNKNOWN or isinstance(value, (functools.partial, MethodType)):
        return kind, count, *known
    # What is called may do more than its attributes tell.
    return own, count, *known


def _parts(value):
    """Return the kind of a value, how many parts it has, and these; `None` if nobody knows."""
    kind = type(value)
    if isinstance(value, (list, tuple, deque, set, frozenset)):
        return kind.__name__, len(value), value
    if isinstance(value, dict):
        return kind.__name__, len(value), chain.from_iterable(value.items())
    if isinstance(value, functools.partial):
        return "partial", 3, (value.func, value.args, value.keywords)
    if isinstance(value, MethodType):
        return "method", 2, (value.__func__, value.__self__)
    if isinstance(value, enum.Enum):
        return _same(kind), 2, (value.name, value.value)
    if isinstance(value, (slice, range)):
        return kind.__name__, 3, (value.start, value.stop, value.step)
    is_plain = dataclasses.is_dataclass(kind) or isinstance(value, _NAMESPACES)
    if not (is_plain or _is_of_user(kind)):
        return None
    slots = [
        (name, getattr(value, name, None))
        for base in kind.__mro__
        for name, slot in vars(base).items()
        if isinstance(slot, MemberDescriptorType)
    ]
    own = [*getattr(value, "__dict__", {}).items(), *slots]
    return _same(kind), len(own), chain.from_iterable(own)


def _is_of_user(kind):
    """Whether nothing but a user's classes makes a class, so that attributes are all it has."""
    bases = kind.__mro__[:-1]
    return all(one.__module__.partition(".")[0] not in _NOT_OF_USERS for one in bases)


def _of_tensor(tensor):
    try:
        if math.prod(tensor.shape) > _MOST_BYTES // 4:
            # Each read of a tensor makes another array.
            return _same(tensor)
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
