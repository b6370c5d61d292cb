"""Compute the checksums of records (CRC-32C, masked), many at a time.

TensorBoard computes them byte by byte in Python, which takes longer than to read a log, or
to draw what is written.
Castagnoli, Bräuer, Herrmann, "Optimization of Cyclic Redundancy-Check Codes", 1993.
"""

from __future__ import annotations

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
_INVERTED = bytes(range(255, -1, -1))
_BITS = np.uint32(1) << np.arange(32, dtype="uint32")
# Bytes that the first state is mixed with.
_FIRST = 4
# Bytes of a row, of the longest string that is computed with others, and of all those at once.
_ROW, _LONGEST_TOGETHER, _BYTES_TOGETHER = 64, 64 * 1024, 8 * 1024 * 1024


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

    Strings of up to 64 kB are computed together, as rows of a few bytes: all rows at once,
    then the rows of each string joined.

    Example:
    >>> [hex(one) for one in of_each([b"123456789", b"12345678"])] == [
    ...     hex(of(b"123456789")), hex(of(b"12345678"))]
    True
    """
    found = np.zeros(len(parts), "uint32")
    together = []
    for i, part in enumerate(parts):
        if _FIRST <= len(part) <= _LONGEST_TOGETHER:
            together.append(i)
        else:
            found[i] = of_long(part)
    # From the longest on, so that those that still have rows are the first ones.
    together.sort(key=lambda i: -len(parts[i]))
    while together:
        count = max(1, _BYTES_TOGETHER // len(parts[together[0]]))
        some, together = together[:count], together[count:]
        found[some] = _of_rows([parts[i] for i in some])
    return found


def _of_rows(parts):
    """Return the masked checksums of strings, of which none is longer than the one before."""
    counts = np.array([-(-len(part) // _ROW) for part in parts])
    padded = [
        _begun(part).rjust(count * _ROW, b"\0")
        for part, count in zip(parts, counts.tolist(), strict=True)
    ]
    rows = np.frombuffer(b"".join(padded), "uint8").reshape(-1, _ROW)
    of_rows = _states(rows, np.zeros(len(rows), "uint32"))
    ends, most = counts.cumsum(), counts[0]
    states = np.zeros(len(parts), "uint32")
    for left in range(most, 0, -1):
        active = int(np.searchsorted(-counts, -left, side="right"))
        some = states[:active]
        moved = _MOVED[0][some & 0xFF]
        for place in (1, 2, 3):
            moved ^= _MOVED[place][(some >> (8 * place)) & 0xFF]
        states[:active] = moved ^ of_rows[ends[:active] - left]
    return _masked(states ^ np.uint32(_ALL))


def _begun(part):
    """Invert the first bytes, as if the first state were 0, which zeros in front leave as it is."""
    return part[:_FIRST].translate(_INVERTED) + part[_FIRST:]


def _states(rows, states):
    """Return the states after the bytes of each row, uint8 `(n, bytes)`."""
    for column in np.ascontiguousarray(rows.T):
        states = _TABLE[(states ^ column) & 0xFF] ^ (states >> 8)
    return states


def _make_moved():
    """Return what a row of zeros makes of each value of each byte of a state, `(4, 256)`."""
    states = np.arange(256, dtype="uint32") << (8 * np.arange(4, dtype="uint32")[:, None])
    return _states(np.zeros((1024, _ROW), "uint8"), states.ravel()).reshape(4, 256)


_MOVED = _make_moved()


def of_long(data: bytes) -> int:
    """Return the masked checksum of one long byte string, as rows that are joined in the end.

    Example:
    >>> of_long(b"123456789" * 1000) == of(b"123456789" * 1000)
    True
    """
    if len(data) < _FIRST:
        return of(data)
    # Few steps over many rows: a step costs the same for a thousand rows as for ten.
    count = 1 << (len(data).bit_length() // 2 + 2)
    width = -(-len(data) // count)
    padded = _begun(data).rjust(count * width, b"\0")
    rows = np.frombuffer(padded, "uint8").reshape(count, width)
    # What a row of zeros makes of each bit of a state tells what it makes of any state.
    found = _states(rows, np.zeros(count, "uint32"))
    moved = _states(np.zeros((32, width), "uint8"), _BITS)
    while len(found) > 1:
        found = _apply(moved, found[::2]) ^ found[1::2]
        moved = _apply(moved, moved)
    return int(_masked(found ^ np.uint32(_ALL))[0])


def _apply(moved, states):
    """Return the XOR of `moved` at the bits that are set, for each state."""
    is_set = ((states[:, None] & _BITS) != 0).astype("uint32")
    return np.bitwise_xor.reduce(is_set * moved, axis=1)


def _masked(checksums):
    return ((checksums >> 15) | (checksums << 17)) + np.uint32(0xA282EAD8)


def find_header(data: bytes, most: int) -> int | None:
    """Return the place of the first header of a record in some bytes, or `None`.

    A header is eight bytes, a length from 1 to `most`, and four bytes, their checksum.
    """
    values = np.frombuffer(data, "uint8")
    count = len(values) - 11
    if count <= 0:
        return None
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
