"""Hold a Keras optimizer by value, so that the user's own is copied and never changed."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from numbers import Real

import keras


@dataclass(frozen=True)
class Optimizer:
    """A Keras optimizer by value.

    Equal optimizers share a compiled step. The learning rate is a variable of the step,
    so it is not compared.

    Attributes:
        kind: The class of the optimizer.
        settings: The settings that are compared, as text.
        config: All settings, from which a copy is made.
    """

    kind: type[keras.optimizers.Optimizer]
    settings: str
    config: dict = field(compare=False)

    def make(self) -> keras.optimizers.Optimizer:
        """Return a new copy."""
        return self.kind.from_config(copy.deepcopy(self.config))


def get_optimizer(optimizer: keras.optimizers.Optimizer | str | None) -> Optimizer | None:
    """Return a Keras optimizer by value; `None` is the default update.

    Raises:
        ValueError: If `optimizer` is neither an optimizer nor the name of one.
    """
    if optimizer is None:
        return None
    try:
        config = keras.optimizers.get(optimizer).get_config()
        kind = type(keras.optimizers.get(optimizer))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            "Invalid value for argument `optimizer`. Expected None, a Keras optimizer or "
            f"its name. Received: optimizer={optimizer!r}"
        ) from error
    compared = {k: v for k, v in config.items() if k != "name"}
    if isinstance(config.get("learning_rate"), Real):
        compared.pop("learning_rate")
    return Optimizer(kind, json.dumps(compared, sort_keys=True, default=str), config)
