"""Find one order of the layers, of which each number in a log names some."""

from __future__ import annotations

from collections.abc import Collection, Sequence

# Names beyond so many are not merged, which takes the square of their number.
_MOST = 20_000


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
