"""Find the order of the layers: the one that is logged, or one of which each number names some."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence

from tensorboard.compat.proto.tensor_pb2 import TensorProto

# Names beyond so many are not merged, which takes the square of their number.
_MOST = 20_000
_MOST_JSON = 8 * 1024 * 1024


def merged(lists: Sequence[Collection[str]]) -> list[str]:
    """Merge lists that are parts of one order, each new name behind the one before it.

    >>> merged([["a", "c"], ["a", "b", "c", "d"], ["b", "e"]])
    ['a', 'b', 'e', 'c', 'd']
    """
    if sum(map(len, lists)) > _MOST:
        return list(dict.fromkeys(name for names in lists for name in names))
    ordered: list[str] = []
    for names in sorted(lists, key=len, reverse=True):
        known = set(ordered)
        place = 0 if known.intersection(names) else len(ordered)
        for name in names:
            if name in known:
                place = ordered.index(name) + 1
            else:
                ordered.insert(place, name)
                place += 1
    return ordered


def parse_objectives(tensor: TensorProto) -> Iterator[tuple[str, tuple[str, int | None]]]:
    """Yield the name, the layer and the layer's place of each well-formed entry."""
    try:
        text = tensor.string_val[0]
        entries = json.loads(text)["objectives"] if len(text) <= _MOST_JSON else ()
        for entry in entries:
            name, layer, order = entry["name"], entry["layer"], entry["order"]
            if isinstance(name, str) and isinstance(layer, str):
                yield name, (layer, order if isinstance(order, int) else None)
    except (IndexError, KeyError, RecursionError, TypeError, ValueError):
        return
