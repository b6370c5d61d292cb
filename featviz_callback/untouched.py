"""Leaves a model and all random states as they were, however a block of code ends.

A call for inference is not without effects: Keras forgets the losses that layers
collected, a layer may keep what it computed last, which would be a symbolic
tensor, and what is random in a user's function is drawn from the states that
training draws from.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from featviz_callback import backend

# Layers and random states are of all threads.
_one_at_a_time = threading.RLock()


@contextmanager
def untouched(model: keras.Model) -> Iterator[None]:
    """Puts the attributes of every layer and every random state back at its end.

    Blocks of several threads run one after the other.

    Attributes are put back with what they hold in lists, dicts, sets, tuples and
    deques, however deep; and with what the framework keeps beside them: modes and
    buffers of torch's modules, variables of TensorFlow's own.

    Args:
        model: Any Keras model. Its variables are not looked at.
    """
    with _one_at_a_time:
        kept: dict[int, tuple] = {}
        for layer in model._flatten_layers():
            _keep(vars(layer), kept)
        try:
            with backend.random_states_kept(), backend.load().framework_state_kept(model):
                yield
        finally:
            for container, content in kept.values():
                if _held(container) != _held(content):
                    _refill(container, content)


def _keep(container, kept):
    """Notes what a container holds, and what the containers in it do."""
    # By its type: a proxy says that it is what it stands for.
    is_container = issubclass(type(container), (list, dict, set, tuple, deque))
    if not is_container or id(container) in kept:
        return
    content = dict(container) if isinstance(container, dict) else list(container)
    kept[id(container)] = container, content
    for one in content.values() if isinstance(content, dict) else content:
        _keep(one, kept)


def _held(container):
    """The identities of what a container holds, in order."""
    if isinstance(container, dict):
        return [id(one) for pair in container.items() for one in pair]
    return [id(one) for one in container]


def _refill(container, content):
    # Not by the container's own methods: those of Keras' keep track of every change.
    kind = _standard(container)
    kind.clear(container)
    (kind.extend if issubclass(kind, (list, deque)) else kind.update)(container, content)


def _standard(container):
    """The class of Python's own that a container is of."""
    return next(c for c in type(container).__mro__ if c.__module__ in ("builtins", "collections"))
