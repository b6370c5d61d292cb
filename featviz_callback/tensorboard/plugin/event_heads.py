"""Read what an event says first, without parsing the rest of it.

TensorBoard's messages would parse all of it, which for a log of fifty thousand numbers takes
longer than to read it.
"""

from __future__ import annotations

import re
import struct

# The first fields of an event with a summary, in the order that every writer uses: wall
# time, step, summary, first value of the summary, tag of that value.
# A varint has ten bytes at most.
_VARINT = rb"([\x80-\xff]{0,9}[\x00-\x7f])"
_BEGINNING = re.compile(rb"\x09.{8}(?:\x10%s)?\x2a%s\x0a%s\x0a%s" % (4 * (_VARINT,)), re.DOTALL)
# Behind that, the length of the tensor of one float32, the tensor, and the length of the
# metadata, which are the last.
_ONE_FLOAT = re.compile(
    rb"\x42([\x00-\x7f])(\x08\x01(?:\x12\x00)?\x2a\x04(.{4}))\x4a([\x00-\x7f])", re.DOTALL
)
_FLOAT = struct.Struct("<f")
_ALL_BITS = (1 << 64) - 1


def step_and_tag(head: bytes) -> tuple[int, str] | None:
    """Return the step and the first tag of an event, from its first bytes.

    Returns:
        The pair, or `None` if it is not in its usual place among those bytes.
    """
    match = _BEGINNING.match(head)
    if match is None:
        return None
    end = match.end() + _varint(match[4])
    return None if end > len(head) else (_step(match[1]), _tag(head[match.end() : end]))


def one_number(data: bytes) -> tuple[int, str, float] | None:
    """Return step, tag and value of an event of one number, as most are, or `None` for another.

    It finds what `parse` would, in a third of the time.
    """
    match = _BEGINNING.match(data)
    if match is None:
        return None
    # The event has one value, and nothing else.
    of_event, of_value = (match.end(i) + _varint(match[i]) for i in (2, 3))
    if not of_event == of_value == len(data):
        return None
    end = match.end() + _varint(match[4])
    number = _ONE_FLOAT.match(data, end) if end < len(data) else None
    if number is None or number[1][0] != len(number[2]):
        return None
    if number.end() + number[4][0] != len(data):
        return None
    return _step(match[1]), _tag(data[match.end() : end]), _FLOAT.unpack(number[3])[0]


def _step(digits):
    step = _varint(digits) & _ALL_BITS if digits else 0
    return step - (1 << 64) if step >> 63 else step


def _tag(data):
    return data.decode(errors="replace")


def _varint(digits):
    if len(digits) == 1:
        return digits[0]
    return sum((digit & 0x7F) << 7 * place for place, digit in enumerate(digits))
