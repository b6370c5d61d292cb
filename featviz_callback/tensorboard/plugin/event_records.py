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

The last checksum is not checked. TensorBoard computes it in Python, which takes longer than
to read a picture, and a PNG has checksums of its own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = 4
# Bytes that are read of a long record: enough for its step and its tag.
_HEAD = 1024
_SHORTEST_READ, _LONGEST_READ = 4 * _HEAD, 1024 * _HEAD

# The first fields of an event with a summary, in the order that every writer uses: wall
# time, step, summary, first value of the summary, tag of that value.
_VARINT = rb"([\x80-\xff]*[\x00-\x7f])"
_SKIPPED = rb"[\x80-\xff]*[\x00-\x7f]"
_STEP_AND_TAG = re.compile(
    rb"\x09.{8}(?:\x10%s)?\x2a%s\x0a%s\x0a%s" % (_VARINT, _SKIPPED, _SKIPPED, _VARINT), re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record's place, and its data; a long record has only its first bytes."""

    offset: int
    length: int
    head: bytes

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return self.offset + _HEADER.size + self.length + _FOOTER

    @property
    def whole(self) -> bool:
        """Whether `head` is all of the data."""
        return len(self.head) == self.length


def size(path: str) -> int:
    """Return a file's length in bytes."""
    return gfile.stat(path).length


def scan(path: str, offset: int) -> Iterator[Record]:
    """Yield every complete record from an offset on.

    The iterator ends before a record that is incomplete, perhaps because it is being
    written, and before one whose length is damaged, since nothing after that can be
    found. Begin again at that record's offset to see whether it has grown.

    Args:
        path: An event file.
        offset: The byte at which a record begins.
    """
    end_of_file = size(path)
    if offset + _HEADER.size + _FOOTER > end_of_file:
        return
    with _opened(path) as read:
        chunk, start, count = b"", offset, _SHORTEST_READ
        while True:
            at = offset - start
            if at + _HEADER.size + _HEAD > len(chunk) and start + len(chunk) < end_of_file:
                # Short records that follow each other are read many at a time.
                count = min(2 * count, _LONGEST_READ) if at <= len(chunk) else _SHORTEST_READ
                chunk, start, at = read(offset, count), offset, 0
            length = _length(chunk[at : at + _HEADER.size])
            if length is None or offset + _HEADER.size + length + _FOOTER > end_of_file:
                return
            data = at + _HEADER.size
            yield Record(offset, length, chunk[data : data + min(length, _HEAD)])
            offset += _HEADER.size + length + _FOOTER


def read_event(path: str, offset: int, length: int) -> Event:
    """Read one event whole.

    Raises:
        ValueError: If there is no record of that length at that offset.
    """
    with _opened(path) as read:
        data = read(offset, _HEADER.size + length)
    if _length(data[: _HEADER.size]) != length or len(data) != _HEADER.size + length:
        raise ValueError(f"No record of {length} bytes at {offset}.")
    try:
        return Event.FromString(data[_HEADER.size :])
    except DecodeError as error:
        raise ValueError(f"The record at {offset} is damaged.") from error


def step_and_tag(head: bytes) -> tuple[int, str] | None:
    """Return the step and the first tag of an event, from its first bytes.

    Returns:
        The pair, or `None` if it is not in its usual place among those bytes.
    """
    match = _STEP_AND_TAG.match(head)
    if match is None:
        return None
    step, length = (_varint(digits or b"\0") for digits in match.groups())
    tag = head[match.end() : match.end() + length]
    if len(tag) < length:
        return None
    return step - (1 << 64) if step >> 63 else step, tag.decode(errors="replace")


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


def _length(header):
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    return length if masked_crc32c(header[:8]) == checksum else None


def _varint(digits):
    return sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits))
