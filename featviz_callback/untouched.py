"""Leaves a model and all random states as they were, however a block of code ends.

A call for inference is not without effects: Keras forgets the losses that layers
collected, a layer may keep what it computed last, which would be a symbolic
tensor, and what is random in a user's function is drawn from the states that
training draws from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from featviz_callback import backend


@contextmanager
def untouched(model: keras.Model) -> Iterator[None]:
    """Puts the attributes of every layer and every random state back at its end.

    Args:
        model: Any Keras model. Its variables are not looked at.
    """
    kept = [(vars(layer), _copy(vars(layer))) for layer in model._flatten_layers()]
    try:
        with backend.random_states_kept():
            yield
    finally:
        for attributes, before in kept:
            _restore(attributes, before)


def _copy(attributes):
    """Each value with what it holds, where it is a container and no proxy of one."""
    copies = {}
    for name, value in attributes.items():
        content = None
        if issubclass(type(value), (list, dict, set)):
            content = dict(value) if isinstance(value, dict) else list(value)
        copies[name] = value, content
    return copies


def _restore(attributes, before):
    for value, content in before.values():
        if content is not None and _held(value) != _held(content):
            _refill(value, content)
    values = {name: value for name, (value, _) in before.items()}
    if _held(attributes) != _held(values):
        _refill(attributes, values)


def _held(container):
    """The identities of what a container holds, in order."""
    if isinstance(container, dict):
        return [id(one) for pair in container.items() for one in pair]
    return [id(one) for one in container]


def _refill(container, content):
    # Not by the container's own methods: those of Keras' keep track of every change.
    kind = _standard(container)
    kind.clear(container)
    (kind.extend if issubclass(kind, list) else kind.update)(container, content)


def _standard(container):
    """The class of Python's own that a container is of."""
    return next(c for c in type(container).__mro__ if c.__module__ in ("builtins", "collections"))
