"""Make animations of a target's pictures, two at a time, and keep those last made.

Many that are asked for at once would keep an answer, and its thread, for seconds. After a while
each asker is sent away, to ask again for what is made meanwhile.
"""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from PIL import Image

from featviz_callback.records import pictures, spread
from featviz_callback.records.history import epoch_label
from featviz_callback.tensorboard.plugin.places import Place

# Values of all frames of one animation, as they are shown, and pixels that are decoded for them.
_MOST_VALUES, _MOST_DECODED = 8 * 1024 * 1024, 32 * 1024 * 1024
_LARGEST_SIDE, _SMALLEST_SIDE = 512, 128
_AT_ONCE, _MOST_WAITING = 2, 32
_KEPT_BYTES = 64 * 1024 * 1024
# Seconds that an asker waits.
_PATIENCE = 1.5


class BusyError(Exception):
    """The animation is not ready yet."""


class Animations:
    """Makes GIFs, and keeps them while there is room."""

    def __init__(self):
        # Of many threads that take turns, each would keep the memory that its turn took.
        self._workers = ThreadPoolExecutor(_AT_ONCE)
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], bytes] = OrderedDict()
        self._waiting: dict[tuple[str, ...], Future[bytes]] = {}

    def get(self, film: Sequence[tuple[int, Place]]) -> bytes:
        """Return a GIF of some pictures.

        Args:
            film: Each picture's step and place, in order.

        Raises:
            ValueError: If the last picture cannot be decoded.
            places.TooLargeError: If it is too large.
            BusyError: If others come first. It is made meanwhile; ask again.
        """
        keys = tuple(place.key for _, place in film)
        with self._lock:
            if keys in self._kept:
                self._kept.move_to_end(keys)
                return self._kept[keys]
            if keys not in self._waiting:
                if len(self._waiting) >= _MOST_WAITING:
                    raise BusyError
                self._waiting[keys] = self._workers.submit(self._make, keys, film)
            waiting = self._waiting[keys]
        try:
            return waiting.result(_PATIENCE)
        except TimeoutError as error:
            raise BusyError from error

    def _make(self, keys, film):
        try:
            gif = encode_film(film)
            with self._lock:
                self._kept[keys] = gif
                while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
            return gif
        finally:
            with self._lock:
                del self._waiting[keys]


def encode_film(film: Sequence[tuple[int, Place]]) -> bytes:
    """Encode `(step, place)` pairs as a GIF, or evenly chosen ones if they are many and large."""
    last, size = _decode(film[-1][1])
    values = last.size * max(1, -(-_least(last) // min(last.shape[:2]))) ** 2
    most = max(2, min(_MOST_VALUES // values, _MOST_DECODED // (size[0] * size[1])))
    chosen = [film[i] for i in spread(len(film), most)]
    decoded = [
        (step, last if place is film[-1][1] else _decoded(place, size)) for step, place in chosen
    ]
    frames = [_labelled(step, one) for step, one in decoded if one is not None]
    return pictures.encode_gif(frames)


def _labelled(step, picture):
    return pictures.grid([[picture]], column_labels=[epoch_label(step)], smallest=_least(picture))


def _least(picture):
    """Return the pixels to which a picture's shorter side is enlarged, if it has fewer."""
    # A picture of a few rows is not enlarged until it is a wall.
    shorter, longer = sorted(picture.shape[:2])
    return min(_SMALLEST_SIDE, max(shorter, shorter * (2 * _LARGEST_SIDE // longer)))


def _decoded(place, size):
    """Decode a picture; `None` for a damaged one, or one of another size in a resumed run."""
    try:
        return _decode(place, size)[0]
    except ValueError:
        return None


def _decode(place, expected=None):
    """Return a picture, reduced, and its own size."""
    try:
        image = Image.open(io.BytesIO(place.read()))
        size = image.size
        # Before its pixels are decoded, which takes most of the time.
        if expected not in (None, size):
            raise ValueError("The picture has another size.")
        if image.mode.startswith("I"):
            # Pillow would clip 16 bits to 8, not scale them.
            image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
        if image.mode not in ("L", "RGB"):
            image = image.convert("RGB")
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("The picture cannot be decoded.") from error
    image.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.BOX)
    return np.asarray(image.convert("RGB")), size
