"""Find the targets whose pictures are most alike, by the correlation of small copies."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping

import numpy as np
from PIL import Image

from featviz_callback.tensorboard.plugin.places import Place

_SIDE = 16
_PATIENCE = 1.5
_KEPT = 20_000


class Nearest:
    """Compares pictures, and keeps their small copies."""

    def __init__(self):
        self._kept: dict[str, np.ndarray | None] = {}

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

    def _copy(self, place):
        key = place.key
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = _small_copy(place)
        return self._kept[key]


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
