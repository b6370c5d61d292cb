"""Take single tensors out of what a layer returns: a tensor, or tuples, lists and dicts of them.

The index of a tensor is a tuple of strings: positions in tuples and lists, keys in dicts. A
single tensor has the index `()`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def flat(returned: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Return `(index, leaf)` for all that a layer returns, in the order of `keras.tree.flatten`.

    Example:
    >>> flat(([1, 2], {"key": 3}))
    [(('0', '0'), 1), (('0', '1'), 2), (('1', 'key'), 3)]
    """
    leaves = keras.tree.flatten_with_path(returned)
    return [(tuple(map(str, index)), leaf) for index, leaf in leaves]


def pick(returned: Any, index: tuple[str, ...]) -> Any:
    """Return the tensor at an index, or `None` if there is none. It may be one of a graph."""
    found = (leaf for own, leaf in flat(returned) if own == index)
    return next((leaf for leaf in found if is_tensor(leaf)), None)


def is_tensor(value: Any) -> bool:
    """Whether a value is a tensor with values, or one of a graph."""
    return isinstance(value, keras.KerasTensor) or ops.is_tensor(value)


def suffix(index: tuple[str, ...]) -> str:
    """Return an index as a user writes it behind a layer's name.

    Example:
    >>> suffix(("0", "key"))
    '[0][key]'
    """
    return "".join(f"[{key}]" for key in index)


def kind(returned: Any) -> str:
    """Say in words what a layer returns."""
    if returned is None:
        return "nothing"
    return "one tensor" if ops.is_tensor(returned) else f"a {type(returned).__name__}"
