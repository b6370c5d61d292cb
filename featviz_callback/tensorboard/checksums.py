"""Compute the checksums of records (CRC-32C, masked), many at a time.

TensorBoard computes them byte by byte in Python, which takes longer than to read a log, or
to draw what is written.
Castagnoli, Bräuer, Herrmann, "Optimization of Cyclic Redundancy-Check Codes", 1993.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

_ALL = 0xFFFFFFFF


def _make_table():
    values = np.arange(256, dtype="uint32")
    for _ in range(8):
        values = (values >> 1) ^ np.where(values & 1, np.uint32(0x82F63B78), np.uint32(0))
    return values


_TABLE = _make_table()
_LIST = _TABLE.tolist()
# Bytes of a row, and of all strings that are computed together.
_ROW, _BYTES_TOGETHER = 32, 8 * 1024 * 1024
_INVERTED = bytes(range(255, -1, -1))
# Bytes that the first state is mixed with.
_FIRST = 4
# In Python, so many bytes take as long as any few rows do.
_FEW = 1024
# Bytes of a record's length and its checksum. Near headers are looked for one by one, others in
# more and more bytes at once.
_HEADER, _ZEROS = 12, bytes(4)
_TRIES, _FIRST_SEARCH, _LONGEST_SEARCH = 8, 4096, 1024 * 1024


def of(data: bytes) -> int:
    """Return the masked checksum of a few bytes.

    Example:
    >>> hex(of(b"123456789") - 0xA282EAD8)  # the check value e3069283, rotated by 15 bits
    '0x2507c60d'
    """
    checksum = _ALL
    for byte in data:
        checksum = _LIST[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    checksum ^= _ALL
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & _ALL


def of_each(parts: Sequence[bytes]) -> np.ndarray:
    """Return the masked checksum of each of many byte strings, uint32 `(n,)`.

    All of them are rows of a few bytes, which are computed at once, then joined two by two.

    Example:
    >>> [hex(one) for one in of_each([b"123456789", b"12345678"])] == [
    ...     hex(of(b"123456789")), hex(of(b"12345678"))]
    True
    """
    if sum(map(len, parts)) < _FEW:
        return np.array([of(part) for part in parts], "uint32")
    found = np.zeros(len(parts), "uint32")
    together = [i for i, part in enumerate(parts) if len(part) >= _FIRST]
    for i in set(range(len(parts))).difference(together):
        found[i] = of(parts[i])
    # From the longest on, so that those that still have rows are the first ones.
    together.sort(key=lambda i: -len(parts[i]))
    while together:
        count = max(1, _BYTES_TOGETHER // len(parts[together[0]]))
        some, together = together[:count], together[count:]
        found[some] = _masked(_joined(*_rows([parts[i] for i in some])) ^ np.uint32(_ALL))
    return found


def _rows(parts):
    """Return the state after each row of each string, and how many rows each has.

    Each begins with rows of zeros, up to a power of two.
    """
    counts = np.array([-(-len(part) // _ROW) for part in parts])
    padded = [
        _begun(part).rjust(count * _ROW, b"\0")
        for part, count in zip(parts, counts.tolist(), strict=True)
    ]
    words = np.frombuffer(b"".join(padded), "<u4").reshape(-1, _ROW // 4)
    of_rows = np.zeros(len(words), "<u4")
    for column in np.ascontiguousarray(words.T):
        of_rows = _moved(of_rows ^ column, 0)
    sizes = np.array([1 << (count - 1).bit_length() for count in counts.tolist()])
    states = np.zeros(sizes.sum(), "<u4")
    states[np.arange(len(words)) + np.repeat((sizes - counts).cumsum(), counts)] = of_rows
    return states, sizes


def _begun(part):
    """Invert the first bytes, as if the first state were 0, which zeros in front leave as it is."""
    return part[:_FIRST].translate(_INVERTED) + part[_FIRST:]


def _joined(states, sizes):
    """Return the state after each string, of which none has more rows than the one before."""
    found, doublings = np.zeros(len(sizes), "uint32"), (_ROW // 4).bit_length() - 1
    while len(sizes):
        longer = int(np.searchsorted(-sizes, -1, side="left"))
        end = sizes[:longer].sum()
        found[longer : len(sizes)] = states[end:]
        pairs, sizes = states[:end].reshape(-1, 2), sizes[:longer] // 2
        states = _moved(np.ascontiguousarray(pairs[:, 0]), doublings) ^ pairs[:, 1]
        doublings += 1
    return found


def _moved(states, doublings):
    """Return the states after `4 * 2**doublings` bytes of zeros."""
    table, values = _of_bytes(doublings), states.view("uint8").reshape(-1, 4)
    moved = table[0][values[:, 0]]
    for place in (1, 2, 3):
        moved ^= table[place][values[:, place]]
    return moved


@functools.cache
def _of_bytes(doublings):
    """Return what `_moved` makes of each value of each byte of a state, `(4, 256)`."""
    states = np.arange(256, dtype="<u4") << (8 * np.arange(4, dtype="<u4")[:, None])
    if doublings:
        twice = _moved(_moved(states.ravel(), doublings - 1), doublings - 1)
        return twice.reshape(4, 256)
    for _ in range(4):
        states = _TABLE[states & 0xFF] ^ (states >> 8)
    return states


def _masked(checksums):
    return ((checksums >> 15) | (checksums << 17)) + np.uint32(0xA282EAD8)


def find_header(data: bytes, most: int, start: int = 0) -> int | None:
    """Return the place of the first header of a record in some bytes, or `None`.

    A header is eight bytes, a length from 1 to `most`, and four bytes, their checksum. The
    search takes as long as it is far to the header, not as there are bytes.

    Args:
        data: The bytes.
        most: The longest record that may be there.
        start: Where the search begins.
    """
    for _ in range(_TRIES):
        # No record has so many bytes that the others of its length are not 0.
        start = data.find(_ZEROS, start + _FIRST) - _FIRST
        if start < 0:
            return None
        header = data[start : start + _HEADER]
        if 0 < int.from_bytes(header[:_FIRST], "little") <= most and _is_header(header):
            return start
        start += 1
    count = _FIRST_SEARCH
    while start + _HEADER <= len(data):
        found = _first_header(np.frombuffer(data, "uint8")[start : start + count + 11], most)
        if found is not None:
            return start + found
        start, count = start + count, min(4 * count, _LONGEST_SEARCH)
    return None


def _is_header(header):
    return len(header) == _HEADER and of(header[:8]) == int.from_bytes(header[8:], "little")


def _first_header(values, most):
    count = len(values) - 11
    ends = [values[i : i + count] for i in range(8)]
    is_short = (ends[4] | ends[5] | ends[6] | ends[7]) == 0
    is_long_enough = (ends[0] | ends[1] | ends[2] | ends[3]) != 0
    places = np.flatnonzero(is_short & is_long_enough)
    headers = values[places[:, None] + np.arange(12)]
    lengths = headers[:, :8].copy().view("<u8")[:, 0]
    checksums = np.full(len(places), _ALL, "uint32")
    for column in headers[:, :8].T:
        checksums = _TABLE[(checksums ^ column) & 0xFF] ^ (checksums >> 8)
    right = _masked(checksums ^ np.uint32(_ALL)) == headers[:, 8:].copy().view("<u4")[:, 0]
    found = places[right & (lengths <= most)]
    return int(found[0]) if len(found) else None
