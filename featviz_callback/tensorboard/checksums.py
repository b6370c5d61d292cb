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
_BITS = np.uint32(1) << np.arange(32, dtype="uint32")


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
    """Return the masked checksum of each of many short byte strings, uint32 `(n,)`."""
    found = np.zeros(len(parts), "uint32")
    lengths = np.array([len(part) for part in parts], "int64")
    order = np.argsort(lengths, kind="stable")
    # Strings of similar lengths go together, so that little is computed for nothing.
    for places in np.array_split(order, max(1, len(parts) // 512)):
        found[places] = _of_rows([parts[i] for i in places], lengths[places])
    return found


def _of_rows(parts, lengths):
    width = int(lengths.max(initial=0))
    padded = b"".join(part.ljust(width, b"\0") for part in parts)
    columns = np.frombuffer(padded, "uint8").reshape(len(parts), width).T
    checksums = np.full(len(parts), _ALL, "uint32")
    for i, column in enumerate(columns):
        step = _TABLE[(checksums ^ column) & 0xFF] ^ (checksums >> 8)
        checksums = np.where(i < lengths, step, checksums)
    return _masked(checksums ^ np.uint32(_ALL))


def of_long(data: bytes) -> int:
    """Return the masked checksum of one long byte string, as rows that are joined in the end.

    Example:
    >>> of_long(b"123456789" * 1000) == of(b"123456789" * 1000)
    True
    """
    if len(data) < 4:
        return of(data)
    # Zeros in front change nothing if the first state is 0, and so are the first bytes inverted.
    inverted = bytes(255 - byte for byte in data[:4]) + data[4:]
    # Few steps over many rows: a step costs the same for a thousand rows as for ten.
    count = 1 << (len(data).bit_length() // 2 + 2)
    width = -(-len(data) // count)
    rows = np.frombuffer(inverted.rjust(count * width, b"\0"), "uint8").reshape(count, width)
    # What a row of zeros makes of each bit of a state tells what it makes of any state.
    states = np.concatenate([np.zeros(count, "uint32"), _BITS])
    padded = np.zeros((width, count + 32), "uint8")
    padded[:, :count] = rows.T
    for column in padded:
        states = _TABLE[(states ^ column) & 0xFF] ^ (states >> 8)
    found, moved = states[:count], states[count:]
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
