"""Event files, record by record, without reading the pictures in them.

TensorBoard's own readers read and check every byte of a file and say nothing of
where a record stands. A log of 20,000 pictures then takes them many seconds, and
would have to be kept in memory. Here what is read is parsed by TensorBoard's
messages, and files elsewhere are read through its file layer, but a long record is
skipped after its first bytes, and read again when it is asked for.

The format is that of TFRecord files, each record being

    8 bytes  length of the data, little-endian
    4 bytes  checksum of the length
    n bytes  the data, a serialised `Event`
    4 bytes  checksum of the data

The last one is not checked: TensorBoard computes it in Python, which takes longer than
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
# What is read of a long record: enough for its step and its tag.
_HEAD = 1024
_SHORTEST_READ, _LONGEST_READ = 4 * _HEAD, 1024 * _HEAD

# The first fields of an event with a summary, in the order in which every writer
# puts them: wall time, step, summary, its first value, that one's tag.
_VARINT = rb"([\x80-\xff]*[\x00-\x7f])"
_SKIPPED = rb"[\x80-\xff]*[\x00-\x7f]"
_STEP_AND_TAG = re.compile(
    rb"\x09.{8}(?:\x10%s)?\x2a%s\x0a%s\x0a%s" % (_VARINT, _SKIPPED, _SKIPPED, _VARINT), re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Record:
    """A record's place, and its data, cut to the first bytes where it is long."""

    offset: int
    length: int
    head: bytes

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + _HEADER.size + self.length + _FOOTER

    @property
    def whole(self) -> bool:
        """Whether `head` is all of the data."""
        return len(self.head) == self.length


def size(path: str) -> int:
    """A file's length in bytes."""
    return gfile.stat(path).length


def scan(path: str, offset: int) -> Iterator[Record]:
    """Yields every complete record from an offset on.

    It ends before a record that is not all there, which may be because it is
    being written, and before one whose length is damaged: what follows that
    cannot be found. Begin again at its offset to see whether it has grown.

    Args:
        path: An event file.
        offset: Where a record begins.
    """
    end_of_file = size(path)
    if offset + _HEADER.size + _FOOTER > end_of_file:
        return
    with _opened(path) as read:
        chunk, start, count = b"", offset, _SHORTEST_READ
        while True:
            at = offset - start
            if at + _HEADER.size + _HEAD > len(chunk) and start + len(chunk) < end_of_file:
                # Short records in a row are read many at a time.
                count = min(2 * count, _LONGEST_READ) if at <= len(chunk) else _SHORTEST_READ
                chunk, start, at = read(offset, count), offset, 0
            length = _length(chunk[at : at + _HEADER.size])
            if length is None or offset + _HEADER.size + length + _FOOTER > end_of_file:
                return
            data = at + _HEADER.size
            yield Record(offset, length, chunk[data : data + min(length, _HEAD)])
            offset += _HEADER.size + length + _FOOTER


def read_event(path: str, offset: int, length: int) -> Event:
    """Reads one event whole.

    Raises:
        ValueError: If there is none of that length at that offset.
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
    """The step and the first tag of an event of which only the first bytes are known.

    Returns:
        `None` where they are not among those bytes, or not where they usually are.
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
    """Gives a function that reads so many bytes from an offset on."""
    if "://" in path:
        read = gfile.get_filesystem(path).read
        # These are the names of TensorBoard's S3 file system, and of its others.
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
