"""Read the log of a run, frame by frame.

Memory holds the place of each picture in its event file, not the picture. A run of 200
epochs of 100 targets takes about ten megabytes, whatever the size of a picture.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
import zlib
from typing import NamedTuple

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.util import tensor_util

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.plugin import event_records

PICTURES, EXAMPLES = "pictures", "examples"
# Kinds of pictures and of numbers, by the part of a tag before the slash.
_PICTURES = {
    summaries.IMAGE_TAG.format("").rstrip("/"): PICTURES,
    summaries.EXAMPLES_TAG.format("").rstrip("/"): EXAMPLES,
}
_SCALARS = {
    summaries.SCORE_TAG.format("").rstrip("/"): "score",
    summaries.DRIFT_TAG.format("").rstrip("/"): "drift",
    summaries.STATUS_TAG.format("").rstrip("/"): "status",
    summaries.SCORE_RATIO_TAG.format("").rstrip("/"): "ratio",
}
_OTHER_PICTURES = {summaries.IMAGE_TAG.format(name) for name in summaries.RESERVED_NAMES}
# The layer in a target's name, if the log does not tell it.
_LAYER_IN_NAME = re.compile(r"Layer#(.+)|(?:Neuron|Channel|Direction)#(.+)_[^_]+")


class Place(NamedTuple):
    """The place of a picture: its file and its record."""

    path: str
    offset: int
    length: int

    @property
    def key(self) -> str:
        """A key for this picture alone; another one, even of the same step, has another key."""
        return f"{zlib.crc32(self.path.encode()):x}-{self.offset:x}"

    def read(self) -> bytes:
        """Read the picture, as the file that was logged.

        Raises:
            ValueError: If the record is gone or damaged.
        """
        strings = self.read_tensor().string_val
        if len(strings) < 3:
            raise ValueError("That is not a picture.")
        return strings[2]

    def read_tensor(self) -> TensorProto:
        """Read the record's tensor.

        Raises:
            ValueError: If the record is gone or damaged.
        """
        values = self.read_event().summary.value
        if not values:
            raise ValueError("The record has no value.")
        return values[0].tensor

    def read_event(self) -> Event:
        """Read the record.

        Raises:
            ValueError: If the record is gone or damaged.
        """
        try:
            return event_records.read_event(self.path, self.offset, self.length)
        except (errors.OpError, OSError) as error:
            raise ValueError("The record is no longer there.") from error


class RunLog:
    """The event files of one run, read as far as they have been written.

    A resumed training may write a second record of the same tag and step. The later record
    counts. If the log tells the step at which training was resumed, all earlier records of
    that step and of later steps are void.

    Args:
        folder: The folder of the event files, `<log_dir>/feature_vis`.

    Attributes:
        began: When the run was last begun or resumed, in seconds since 1970; 0 if
            not known.
    """

    def __init__(self, folder: str):
        self.folder = folder
        self.began = 0.0
        self._lock = threading.Lock()
        # Versions start at the time, so that none repeats one of an earlier log of this name.
        self._version = time.time_ns() // 1000
        self._forget()

    def _forget(self) -> None:
        self._ends: dict[str, int] = {}
        self._places: dict[str, dict[str, dict[int, Place]]] = {PICTURES: {}, EXAMPLES: {}}
        self._scalars: dict[str, dict] = {kind: {} for kind in _SCALARS.values()}
        self._layers: dict[str, tuple[str, int | None]] = {}
        self._answer: bytes | None = None

    def update(self) -> None:
        """Read the records written since the last call."""
        with self._lock:
            files = _event_files(self.folder)
            if any(path not in files or _is_cut(path, end) for path, end in self._ends.items()):
                self._forget()
                self._version += 1
            for path in files:
                # A file that cannot be read now must not hide the others, and is tried again later.
                with contextlib.suppress(errors.OpError, OSError):
                    self._read(path)

    def _read(self, path):
        for record in event_records.scan(path, self._ends.get(path, 0)):
            self._ends[path] = record.end
            self._add(path, record)
            self._version += 1
            self._answer = None

    def _add(self, path, record):
        place = Place(path, record.offset, record.length)
        step_and_tag = None if record.whole else event_records.step_and_tag(record.head)
        try:
            if step_and_tag is not None:
                # A record this long is a picture, and its tag tells which.
                self._add_value(*step_and_tag, place.read_tensor, place, True)
                return
            event = Event.FromString(record.head) if record.whole else place.read_event()
            if event.session_log.status == SessionLog.START:
                self._restart(event.step)
            if event.summary.value:
                value = event.summary.value[0]
                is_picture = len(value.tensor.string_val) > 2
                self._add_value(event.step, value.tag, lambda: value.tensor, place, is_picture)
        except (DecodeError, ValueError):
            return  # This record is damaged, and the next may not be.

    def _restart(self, step):
        """Forget the records of a step and of later steps, since the run was resumed there."""
        for films in (*self._places.values(), *self._scalars.values()):
            for film in films.values():
                for void in [known for known in film if known >= step]:
                    del film[void]

    def _add_value(self, step, tag, read_tensor, place, is_picture):
        prefix, _, name = tag.partition("/")
        if prefix in _SCALARS:
            self._scalars[_SCALARS[prefix]].setdefault(name, {})[step] = _number(read_tensor())
        elif tag == summaries.OBJECTIVES_TAG:
            self._layers.update(_parse_objectives(read_tensor()))
        elif prefix in _PICTURES and tag not in _OTHER_PICTURES and is_picture:
            self._places[_PICTURES[prefix]].setdefault(name, {})[step] = place

    def find(self, kind: str, name: str, step: int) -> Place | None:
        """Return the place of a picture, or `None` if there is none."""
        place = self._places[kind].get(name, {}).get(step)
        if place is None:
            # TensorBoard may have restarted under an open page, and not have read this run yet.
            self.update()
            place = self._places[kind].get(name, {}).get(step)
        return place

    def film(self, name: str) -> list[tuple[int, Place]]:
        """Return the steps of a target and the places of its pictures, in order."""
        self.update()
        with self._lock:
            return sorted(self._places[PICTURES].get(name, {}).items())

    def frames(self, known_version: int | None = None) -> bytes | None:
        """Return every frame as JSON; `plugin` describes its form.

        Args:
            known_version: The `version` of the reader's last answer.

        Returns:
            `None` if there is nothing newer.
        """
        with self._lock:
            if known_version == self._version:
                return None
            if self._answer is None:
                self._answer = json.dumps(self._describe(), separators=(",", ":")).encode()
            return self._answer

    def _describe(self):
        pictures = self._places[PICTURES]
        steps = sorted({step for film in pictures.values() for step in film})
        return {
            "version": self._version,
            "steps": steps,
            "targets": [
                self._describe_target(name, steps) for name, film in pictures.items() if film
            ],
        }

    def _describe_target(self, name, steps):
        layer, order = self._layers.get(name) or (_layer_in_name(name), None)
        target = {"name": name, "layer": layer, "order": order}
        for kind, key in ((PICTURES, "key"), (EXAMPLES, "examples")):
            if film := self._places[kind].get(name):
                target[key] = [film[step].key if step in film else None for step in steps]
        for kind, series in self._scalars.items():
            if numbers := series.get(name):
                target[kind] = [_short(numbers.get(step)) for step in steps]
        return target


def _event_files(folder):
    try:
        names = gfile.listdir(folder)
    except (errors.OpError, OSError):
        return []
    join = gfile.get_filesystem(folder).join
    return [join(folder, name) for name in sorted(names) if "tfevents" in name]


def _is_cut(path, end):
    try:
        return event_records.size(path) < end
    except (errors.OpError, OSError):
        return True


def _parse_objectives(tensor):
    """Yield the name, the layer and the layer's place of each well-formed entry."""
    try:
        entries = json.loads(tensor.string_val[0])["objectives"]
        for entry in entries:
            name, layer, order = entry["name"], entry["layer"], entry["order"]
            if isinstance(name, str) and isinstance(layer, str):
                yield name, (layer, order if isinstance(order, int) else None)
    except (IndexError, KeyError, TypeError, ValueError):
        return


def _layer_in_name(name):
    match = _LAYER_IN_NAME.fullmatch(name.split(" & ")[0])
    return (match[1] or match[2]) if match else ""


def _number(tensor):
    if len(tensor.float_val) == 1:
        return tensor.float_val[0]
    try:
        return float(tensor_util.make_ndarray(tensor))
    except (TypeError, ValueError):
        return float("nan")


def _short(number):
    """Round a number to float32's precision; return `None` if JSON cannot hold it."""
    if number is None or number - number != 0:
        return None
    return float(f"{number:.6g}")
