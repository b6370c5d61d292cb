"""Make animations of a target's pictures, two at a time, and keep those last made."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from PIL import Image

from featviz_callback.records import pictures, spread
from featviz_callback.tensorboard.plugin.places import Place

# Values of all frames that are decoded for one animation.
_MOST_VALUES = 8 * 1024 * 1024
_LARGEST_SIDE = 512
_AT_ONCE = 2
_KEPT_BYTES = 32 * 1024 * 1024


class Animations:
    """Makes GIFs, and keeps them while there is room."""

    def __init__(self):
        self._turns = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], bytes] = OrderedDict()

    def get(self, film: Sequence[tuple[int, Place]]) -> bytes:
        """Return a GIF of some pictures.

        Args:
            film: Each picture's step and place, in order.

        Raises:
            ValueError: If the last picture cannot be decoded.
            places.TooLargeError: If it is too large.
        """
        keys = tuple(place.key for _, place in film)
        with self._turns:
            with self._lock:
                if keys in self._kept:
                    self._kept.move_to_end(keys)
                    return self._kept[keys]
            gif = encode_film(film)
            with self._lock:
                self._kept[keys] = gif
                while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
            return gif


def encode_film(film: Sequence[tuple[int, Place]]) -> bytes:
    """Encode `(step, place)` pairs as a GIF, or evenly chosen ones if they are many and large."""
    last = _decode(film[-1][1])
    most = max(2, _MOST_VALUES // last.size)
    chosen = [film[i] for i in spread(len(film), most)]
    decoded = [(step, last if place is film[-1][1] else _decoded(place)) for step, place in chosen]
    # A resumed run may have pictures of another size, and a damaged one is left out.
    frames = [
        _labelled(step, one) for step, one in decoded if one is not None and one.shape == last.shape
    ]
    return pictures.encode_gif(frames)


def _labelled(step, picture):
    label = "untrained" if step < 0 else f"epoch {step}"
    return pictures.grid([[picture]], column_labels=[label], smallest=128)


def _decoded(place):
    try:
        return _decode(place)
    except ValueError:
        return None


def _decode(place):
    try:
        image = Image.open(io.BytesIO(place.read())).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("The picture cannot be decoded.") from error
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image)
