"""Find the targets that are most alike.

Pictures are compared by the correlation of small copies, and functions by the real images
that activate both targets most.
"""

from __future__ import annotations

import io
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from featviz_callback.tensorboard.plugin.places import Place, read_real_scores

_SIDE = 16
_PATIENCE = 1.5
_KEPT = 20_000


class Nearest:
    """Compares pictures, and keeps their small copies."""

    def __init__(self):
        self._kept: dict[str, Any] = {}

    def find(
        self, name: str, places: Mapping[str, Place], first: set[str], count: int
    ) -> tuple[list[tuple[str, float]], int]:
        """Find the targets nearest to one.

        Args:
            name: The target.
            places: The places of all pictures, by name.
            first: Names to compare first, since there may be no time for all of them.
            count: How many to find.

        Returns:
            Names and correlations in `[-1, 1]`, the nearest first; and how many were compared.

        Raises:
            ValueError: If the target's own picture cannot be read.
        """
        deadline = time.monotonic() + _PATIENCE
        own = self._copy(places[name])
        if own is None:
            raise ValueError("The picture cannot be decoded.")
        others = sorted((one for one in places if one != name), key=lambda one: one not in first)
        found = []
        for other in others:
            if time.monotonic() > deadline:
                break
            copy = self._copy(places[other])
            if copy is not None:
                found.append((other, float(own @ copy)))
        return sorted(found, key=lambda pair: -pair[1])[:count], len(found)

    def find_by_function(
        self, name: str, tops: Mapping[str, Sequence[Place]], first: set[str], count: int
    ) -> tuple[list[tuple[str, float]], int]:
        """Find the targets that the same real images activate most.

        Args:
            name: The target.
            tops: For each name, the records of its top real images, or one that lists them.
            first: Names to compare first.
            count: How many to find.

        Returns:
            Names and the share of their top real images that are `name`'s too, the nearest
            first, without those that have none; and how many were compared.
        """
        deadline = time.monotonic() + _PATIENCE
        own = self._top(tops[name])
        found, compared = [], 0
        for other in sorted((one for one in tops if one != name), key=lambda one: one not in first):
            if time.monotonic() > deadline:
                break
            top, compared = self._top(tops[other]), compared + 1
            if own & top:
                found.append((other, len(own & top) / max(len(own), len(top))))
        return sorted(found, key=lambda pair: -pair[1])[:count], compared

    def _top(self, places):
        return frozenset().union(*(self._keep(place, _identities) for place in places))

    def _copy(self, place):
        return self._keep(place, _small_copy)

    def _keep(self, place, read):
        key = place.key
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = read(place)
        return self._kept[key]


def _identities(place):
    """Return what tells the real images of a record from others."""
    try:
        return frozenset([zlib.crc32(place.read())])
    except ValueError:
        return frozenset(one["index"] for one in read_real_scores(place))


def _small_copy(place):
    """Return a picture's values, small, with mean 0 and length 1, or `None`."""
    try:
        image = Image.open(io.BytesIO(place.read())).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), "float32").ravel()
    small = small - small.mean()
    length = np.linalg.norm(small)
    return small / length if length > 0 else small
