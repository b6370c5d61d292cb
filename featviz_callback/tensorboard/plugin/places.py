"""Know where pictures are in event files, and read them from there.

No picture is decoded here. A PNG tells its size in its first bytes, and pictures that
would take too much memory are refused by that.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.tensorflow_stub import errors

from featviz_callback.tensorboard import checksums
from featviz_callback.tensorboard.plugin import event_records

# A longer record is no picture that anyone looks at.
MOST_BYTES = 64 * 1024 * 1024
# So many bytes of records are read together.
_BYTES_TOGETHER = 8 * 1024 * 1024
# A longer list of real images is none that the package wrote.
_MOST_LISTED = 1024 * 1024
# So many pixels take 64 MB once they are decoded.
MOST_PIXELS = 4096 * 4096
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD = struct.Struct(">8sI4sII")


class TooLargeError(ValueError):
    """A picture has too many pixels to be decoded."""


class Picture(NamedTuple):
    """A picture as it was logged, and what the log says of it."""

    png: bytes
    description: str


class Place(NamedTuple):
    """The place of a picture: its file and its record."""

    path: str
    offset: int
    length: int

    @property
    def key(self) -> str:
        """A key for this picture alone; another one, even of the same step, has another key."""
        return f"{file_key(self.path)}-{self.offset:x}"

    def read(self) -> bytes:
        """Read the picture, as the file that was logged.

        Raises:
            ValueError: If the record is gone or damaged, or no PNG.
            TooLargeError: If it has too many pixels.
        """
        return picture_in(self.read_event()).png

    def read_tensor(self) -> TensorProto:
        """Read the record's tensor.

        Raises:
            ValueError: If the record is gone or damaged.
        """
        values = self.read_event().summary.value
        if not values:
            raise ValueError("The record has no value.")
        return values[0].tensor

    def read_event(self, is_checked: bool = False) -> Event:
        """Read the record.

        Args:
            is_checked: Whether to compare it with its checksum.

        Raises:
            ValueError: If the record is gone or damaged, or far too long.
        """
        if self.length > MOST_BYTES:
            raise TooLargeError(f"The record has more than {MOST_BYTES} bytes.")
        try:
            return event_records.read_event(self.path, self.offset, self.length, is_checked)
        except (errors.OpError, OSError) as error:
            raise ValueError("The record is no longer there.") from error


def file_key(path: str) -> str:
    """Return the part of a picture's key that tells its file."""
    return f"{zlib.crc32(path.encode(errors='surrogateescape')):x}"


def read_by_keys(keys: Sequence[str], paths: dict[str, str]) -> list[Picture | ValueError]:
    """Read pictures, and compare their records with their checksums.

    Args:
        keys: See `Place.key`.
        paths: Event files, by `file_key`.

    Returns:
        For the first keys, at least one and as many as are read together, the picture, or why
        there is none: a `TooLargeError` if it has too many pixels.
    """
    read: list[tuple[bytes, int] | ValueError] = []
    size = 0
    for key in keys:
        if size > _BYTES_TOGETHER:
            break
        try:
            data, written = _read_data(key, paths)
            read.append((data, written))
            size += len(data)
        except ValueError as error:
            read.append(error)
    # Many at a time, which is far quicker.
    sums = iter(checksums.of_each([one[0] for one in read if isinstance(one, tuple)]).tolist())
    return [one if isinstance(one, ValueError) else _picture(*one, next(sums)) for one in read]


def read_by_key(key: str, paths: dict[str, str]) -> Picture:
    """Read the picture of a key; see `read_by_keys`.

    Raises:
        ValueError: If there is no such picture.
        TooLargeError: If it has too many pixels.
    """
    [found] = read_by_keys([key], paths)
    if isinstance(found, ValueError):
        raise found
    return found


def _read_data(key, paths):
    file, _, offset = key.partition("-")
    if file not in paths or not re.fullmatch("[0-9a-f]{1,12}", offset):
        raise ValueError("No such picture.")
    try:
        return event_records.read_data(paths[file], int(offset, 16), MOST_BYTES)
    except (errors.OpError, OSError) as error:
        raise ValueError("The record is no longer there.") from error


def _picture(data, written, computed):
    try:
        picture = picture_in(event_records.parse(data))
    except ValueError as error:
        return error
    return picture if computed == written else ValueError("The record is damaged.")


def where(key: str, paths: dict[str, str]) -> str:
    """Return the file and the place of a key's record, in brackets, or nothing for no such file."""
    file, _, offset = key.partition("-")
    if file not in paths or not re.fullmatch("[0-9a-f]{1,12}", offset):
        return ""
    return f" ({os.path.basename(paths[file])}, record at byte {int(offset, 16)})"


def picture_in(event: Event) -> Picture:
    """Return the picture in an event.

    Raises:
        ValueError: If there is none, or no sound PNG.
        TooLargeError: If it has too many pixels.
    """
    values = event.summary.value
    strings: Sequence[bytes] = values[0].tensor.string_val if values else ()
    if len(strings) < 3:
        raise ValueError("That is not a picture.")
    require_sound(strings[2])
    return Picture(strings[2], values[0].metadata.summary_description)


def require_sound(png: bytes) -> None:
    """Refuse what is no PNG, or one too large, or one whose checksums are wrong.

    Raises:
        ValueError: If it is no sound PNG.
        TooLargeError: If it has too many pixels.
    """
    if len(png) < _PNG_HEAD.size:
        raise ValueError("The picture is no PNG.")
    signature, _, kind, width, height = _PNG_HEAD.unpack_from(png)
    if signature != _SIGNATURE or kind != b"IHDR":
        raise ValueError("The picture is no PNG.")
    if width * height > MOST_PIXELS:
        raise TooLargeError(
            f"The picture has {width} x {height} pixels; the most are {MOST_PIXELS}."
        )
    at, last = len(_SIGNATURE), b""
    while at + 12 <= len(png) and last != b"IEND":
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        checksum = int.from_bytes(png[end - 4 : end], "big")
        if end > len(png) or zlib.crc32(memoryview(png)[at + 4 : end - 4]) != checksum:
            raise ValueError("The picture is damaged.")
        at, last = end, png[at + 4 : at + 8]
    if last != b"IEND":
        raise ValueError("The picture is cut off.")


def read_real_scores(place: Place) -> list[dict[str, Any]]:
    """Return the position and the score, or `None`, of each real image that a record lists."""
    if place.length > _MOST_LISTED:
        return []
    with contextlib.suppress(IndexError, KeyError, RecursionError, TypeError, ValueError):
        listed = json.loads(place.read_tensor().string_val[0])
        pairs = zip(listed["indices"], listed["scores"], strict=True)
        return [
            {"index": int(index), "score": float(score) if _is_number(score) else None}
            for index, score in list(pairs)[:64]
        ]
    return []


def _is_number(value):
    return isinstance(value, int | float) and math.isfinite(value)
