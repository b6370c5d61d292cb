"""Damage logs, and make files that are small and stand for something large."""

import io
from pathlib import Path

from PIL import Image


def record_starts(data):
    """Return where each record of an event file begins, and where the last one ends."""
    starts = [0]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 16 + int.from_bytes(data[starts[-1] : starts[-1] + 8], "little"))
    return starts


def damage(folder, at=8):
    """Turn round one bit of a record in the middle of the only event file of a run."""
    [path] = (Path(folder) / "feature_vis").glob("*tfevents*")
    data = bytearray(path.read_bytes())
    starts = record_starts(data)
    place = starts[len(starts) // 2]
    data[place + at] ^= 1
    path.write_bytes(data)
    return place


def huge_png(side=13_000):
    """Return a PNG that is small as a file, and large as a picture."""
    packed = io.BytesIO()
    Image.new("L", (side, side)).save(packed, "PNG")
    return packed.getvalue()
