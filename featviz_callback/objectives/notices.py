"""Log what was guessed about a model, once for each model."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import keras

logger = logging.getLogger("featviz_callback")

_logged: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# What was logged inside of `each_once`.
_said: ContextVar[set | None] = ContextVar("_said", default=None)


class NothingToShow(ValueError):
    """No pictures can be made of a model, and no argument is to blame for it.

    The callback logs it, and training goes on without pictures.
    """


def forget_warnings(layers: Iterable[keras.Layer]) -> None:
    """Let `warn_once` log again what it has logged about some models and layers."""
    for layer in layers:
        _logged.pop(layer, None)


def warn_once(layer: keras.Layer, message: str, *values: object) -> None:
    """Log a warning, unless the same one was logged about this model or layer.

    Args:
        layer: What the warning is about.
        message: Text with places for values, as `logging` takes it.
        values: The values.
    """
    text = message % values
    before, said = _logged.setdefault(layer, set()), _said.get()
    if text not in before:
        before.add(text)
        if said is None or text not in said:
            logger.warning("%s", text)
        if said is not None:
            said.add(text)


@contextmanager
def each_once() -> Iterator[None]:
    """Log the same words once inside, though several models have the same name.

    A copy of a network, of which training keeps the average, has that of the network.
    """
    token = _said.set(set())
    try:
        yield
    finally:
        _said.reset(token)
