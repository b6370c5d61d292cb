"""Read event files record by record, without the pictures in them.

This module reads only the first bytes of a long record, and the rest when a picture is
requested. TensorBoard's messages parse the bytes, and its file layer reads remote files.
TensorBoard's own readers check every byte of a file and do not tell the place of a record.
They need many seconds for a log of 20,000 pictures, which would have to stay in memory.

The format is that of TFRecord files. Each record is

    8 bytes  length of the data, little-endian
    4 bytes  checksum of the length
    n bytes  the data, a serialised `Event`
    4 bytes  checksum of the data

The last checksum is checked for short records, and for long ones of many numbers. That of a
picture is checked when the picture is requested. After a header that is
damaged, the next sound header is looked for.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.io import gfile

from featviz_callback.tensorboard import checksums

_HEADER = struct.Struct("<QI")
_FOOTER = 4
# Bytes that are read of a long record: enough for its step and its tag.
_HEAD = 1024
_WHOLE = _HEADER.size + _HEAD + _FOOTER
_EMPTY = _HEADER.size + _FOOTER
_SHORTEST_READ, _LONGEST_READ = 4 * _HEAD, 1024 * _HEAD


class Record(NamedTuple):
    """A record's place, and its data; a long record has only its first bytes.

    Attributes:
        offset: Where it begins.
        length: Bytes of its data.
        head: The data, or their first bytes.
        end: The offset of the next record.
        checksum: Of the data, as it was written; 0 for a long record.
    """

    offset: int
    length: int
    head: bytes
    end: int
    checksum: int = 0

    @property
    def whole(self) -> bool:
        """Whether `head` is all of the data."""
        return len(self.head) == self.length


class Gap(NamedTuple):
    """Bytes in which no record was found, from `offset` to `end`."""

    offset: int
    end: int


def size(path: str) -> int:
    """Return a file's length in bytes."""
    return gfile.stat(path).length


def scan(path: str, offset: int) -> Iterator[Record | Gap]:
    """Yield every complete record from an offset on, and gaps where a header is damaged.

    The iterator ends before a record that is incomplete, perhaps because it is being
    written. Begin again at its end to see whether the file has grown. Gaps that follow
    each other are one. Empty records that follow each other are given as one.

    Args:
        path: An event file.
        offset: The byte at which a record begins.
    """
    end_of_file = size(path)
    if offset + _HEADER.size + _FOOTER > end_of_file:
        return
    with _opened(path) as read:
        chunk, start, count = b"", offset, _SHORTEST_READ
        while offset + _HEADER.size + _FOOTER <= end_of_file:
            at = offset - start
            if at + _WHOLE > len(chunk) and start + len(chunk) < end_of_file:
                # Short records that follow each other are read many at a time.
                count = min(2 * count, _LONGEST_READ) if at <= len(chunk) else _SHORTEST_READ
                chunk, start, at = read(offset, count), offset, 0
            length = _length(chunk[at : at + _HEADER.size])
            if length is None:
                found = checksums.find_header(chunk, end_of_file - offset, at + 1)
                # What was read may end within a header.
                end = max(offset + 1, start + len(chunk) - _HEADER.size + 1)
                end = _next_header(read, end, end_of_file) if found is None else start + found
                item = Gap(offset, end)
            elif offset + _HEADER.size + length + _FOOTER > end_of_file:
                return
            else:
                item = _record(chunk, at, offset, length)
            yield item
            offset = item.end


def _record(chunk, at, offset, length):
    data = at + _HEADER.size
    head = chunk[data : data + min(length, _HEAD)]
    end = offset + _HEADER.size + length + _FOOTER
    if length == 0:
        end += _EMPTY * _count_repeats(chunk, at)
    footer = chunk[data + length : data + length + _FOOTER]
    return Record(offset, length, head, end, int.from_bytes(footer, "little"))


def _count_repeats(chunk, at):
    """Count how often an empty record is repeated behind itself."""
    whole = (len(chunk) - at) // _EMPTY
    rows = np.frombuffer(chunk, "uint8", whole * _EMPTY, at).reshape(whole, _EMPTY)
    same = (rows == rows[:1]).all(axis=1)
    return (whole if same.all() else int(np.argmin(same))) - 1


def _next_header(read, offset, end_of_file):
    """Return where the next record begins, or where the search for it is to go on."""
    data = b""
    # The next record is near, as a rule, and there may be many damaged ones.
    for count in (_SHORTEST_READ, _LONGEST_READ):
        data = read(offset, count)
        found = checksums.find_header(data, end_of_file - offset)
        if found is not None:
            return offset + found
    return max(offset, offset + len(data) - 11)


def damaged(records: Sequence[Record]) -> list[Record]:
    """Return those of some whole records whose data are not what was written."""
    found = checksums.of_each([record.head for record in records])
    return [r for r, one in zip(records, found.tolist(), strict=True) if one != r.checksum]


def read_data(path: str, offset: int, most: int) -> tuple[bytes, int]:
    """Read the data of the record at an offset, and the checksum that was written of them.

    Args:
        path: An event file.
        offset: The byte at which its record begins.
        most: The most bytes to read.

    Raises:
        ValueError: If there is no record, or a longer one.
    """
    with _opened(path) as read:
        length = _length(read(offset, _HEADER.size))
        if length is None or length > most:
            raise ValueError(f"No record of up to {most} bytes at {offset}.")
        data = read(offset + _HEADER.size, length + _FOOTER)
    if len(data) < length + _FOOTER:
        raise ValueError(f"No record of {length} bytes at {offset}.")
    return data[:length], int.from_bytes(data[length:], "little")


def parse(data: bytes) -> Event:
    """Return the event of a record's data; raise `ValueError` if there is none."""
    try:
        return Event.FromString(data)
    except DecodeError as error:
        raise ValueError("The record is damaged.") from error


def read_event(path: str, offset: int, length: int, is_checked: bool = False) -> Event:
    """Read one event whole.

    Args:
        path: An event file.
        offset: The byte at which its record begins.
        length: Bytes of its data.
        is_checked: Whether to compare the data with their checksum; PNGs have their own.

    Raises:
        ValueError: If there is no record of that length at that offset, or it is damaged.
    """
    with _opened(path) as read:
        record = read(offset, _HEADER.size + length + _FOOTER)
    if _length(record[: _HEADER.size]) != length or len(record) < _HEADER.size + length:
        raise ValueError(f"No record of {length} bytes at {offset}.")
    data = record[_HEADER.size : _HEADER.size + length]
    checksum = int.from_bytes(record[_HEADER.size + length :], "little")
    if is_checked and checksums.of_each([data])[0] != checksum:
        raise ValueError(f"The record at {offset} is damaged.")
    return parse(data)


@contextmanager
def _opened(path):
    """Yield a function that reads so many bytes from an offset on."""
    if "://" in path:
        read = gfile.get_filesystem(path).read
        # TensorBoard's file systems read these two names for an offset.
        yield lambda offset, count: read(
            path, True, count, {"byte_offset": offset, "opaque_offset": offset}
        )[0]
        return
    with open(path, "rb", buffering=0) as file:

        def read_local(offset, count):
            file.seek(offset)
            return file.read(count)

        yield read_local


# Most records of a log have one of a few lengths.
@lru_cache(4096)
def _length(header):
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    return length if checksums.of(header[:8]) == checksum else None
