"""Restore a model and all random generators after running extra code on it.

A call for inference has effects. Keras forgets the losses that layers collected. A layer
may keep what it computed last, which would then be a symbolic tensor. A user's function
draws random numbers from the generators that training draws from.

`preserved` undoes all of that, however the block of code ends. It never reads or writes
variables of the model: no code in this package changes one.
"""

from __future__ import annotations

import copy
import random
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from operator import is_

import keras
import numpy as np

from featviz_callback import backend

# All threads share layers and random states.
_one_at_a_time = threading.RLock()


@contextmanager
def preserved(model: keras.Model) -> Iterator[None]:
    """Restore the attributes of every layer and every random state at the block's end.

    Blocks of several threads run one after the other.

    Attributes are restored together with the content of lists, dicts, sets, tuples and
    deques in them, however deep, and the states of Python's and NumPy's random generators. So
    is what the framework keeps beside them: modes and buffers of torch's modules, and
    variables that are TensorFlow's own.

    Args:
        model: Any Keras model. Its variables are neither read nor written.
    """
    with (
        _one_at_a_time,
        attributes_preserved(_with_trackers(model._flatten_layers())),
        backend.random_states_preserved(),
        backend.load().framework_state_preserved(model),
    ):
        yield


@contextmanager
def attributes_preserved(objects: Iterable[object], is_deep: bool = True) -> Iterator[None]:
    """Restore attributes of objects, as `preserved` does those of layers.

    Args:
        objects: The objects.
        is_deep: Whether to restore the content of lists, dicts and so on too.
    """
    kept: dict[int, tuple] = {}
    for one in objects:
        own = getattr(one, "__dict__", {})
        if is_deep:
            _keep(own, kept)
        else:
            kept[id(own)] = own, dict(own)
            for value in own.values():
                _keep_state(value, kept)
    try:
        yield
    finally:
        for container, content in kept.values():
            if type(container) in _STATES:
                _STATES[type(container)][1](container, content)
            elif not _is_as_kept(container, content):
                _refill(container, content)


def _with_trackers(layers):
    # A call builds layers that a training has not built yet, and Keras then locks them.
    for layer in layers:
        yield layer
        yield getattr(layer, "_tracker", None)


_CONTAINERS = (list, dict, set, tuple, deque)

# How the state of a random generator is read, and how it is set.
_STATES: dict[type, tuple[Callable, Callable]] = {
    random.Random: (random.Random.getstate, random.Random.setstate),
    np.random.RandomState: (np.random.RandomState.get_state, np.random.RandomState.set_state),
    np.random.Generator: (
        lambda generator: copy.deepcopy(generator.bit_generator.state),
        lambda generator, state: setattr(generator.bit_generator, "state", state),
    ),
}


@lru_cache(maxsize=1000)
def _has_state(kind):
    """Return whether values of a class are containers or random generators."""
    # By its class, since a proxy claims to be an instance of what it stands for.
    return issubclass(kind, _CONTAINERS) or kind in _STATES


def _keep(container, kept):
    """Note the content of a container, and of the containers and random generators in it."""
    content = dict(container) if isinstance(container, dict) else list(container)
    kept[id(container)] = container, content
    # Each snapshot looks at thousands of values, of which hardly any has a state.
    for one in content.values() if isinstance(content, dict) else content:
        kind = type(one)
        if not _has_state(kind) or id(one) in kept:
            continue
        if kind in _STATES:
            _keep_state(one, kept)
        else:
            _keep(one, kept)


def _keep_state(value, kept):
    if type(value) in _STATES:
        kept[id(value)] = value, _STATES[type(value)][0](value)


def _is_as_kept(container, content):
    """Return whether a container holds the same objects in the same order."""
    if len(container) != len(content) or not all(map(is_, container, content)):
        return False
    is_dict = isinstance(container, dict)
    return not is_dict or all(map(is_, container.values(), content.values()))


def _refill(container, content):
    # Not by the container's own methods, since Keras' containers track every change.
    kind = _standard(container)
    kind.clear(container)
    (kind.extend if issubclass(kind, (list, deque)) else kind.update)(container, content)


def _standard(container):
    """The built-in class from which a container's class derives."""
    return next(c for c in type(container).__mro__ if c.__module__ in ("builtins", "collections"))


@contextmanager
def overridden(layer: keras.Layer, methods: dict[str, Callable | None]):
    """Give one layer instance other methods for the time of a `with` block.

    The instance's dictionary is written directly, so that Keras' attribute tracking
    does not see the change.
    """
    before = {name: layer.__dict__[name] for name in methods if name in layer.__dict__}
    layer.__dict__.update(methods)
    try:
        yield
    finally:
        for name in methods:
            del layer.__dict__[name]
        layer.__dict__.update(before)
