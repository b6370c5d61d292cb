"""Read the log of a run, as far as it has been written.

Memory holds the place of each picture in its event file, not the picture. A run of 200
epochs of 100 targets takes about ten megabytes, whatever the size of a picture.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub import errors

from featviz_callback.tensorboard.plugin import event_heads, event_records
from featviz_callback.tensorboard.plugin.contents import Contents, is_of_one_picture
from featviz_callback.tensorboard.plugin.event_records import Gap, Record
from featviz_callback.tensorboard.plugin.places import Place

_T = TypeVar("_T")

# A request reads for so many seconds at most, and the next one goes on from there.
PATIENCE = 1.2
_BATCH = 2048
_MOST_DAMAGES = 100
# A record of the numbers of ten thousand targets has about five megabytes.
_MOST_NUMBERS_BYTES, _MOST_VALUES = 16 * 1024 * 1024, 200_000


class RunLog:
    """The event files of one run, read as far as they have been written.

    A resumed training may write a second record of the same tag and step. The later record
    counts. If the log tells the step at which training was resumed, all earlier records of
    that step and of later steps are void.

    Args:
        paths: The event files, in order.

    Attributes:
        paths: The same; assign others if files came or went.
        began: When the run was last begun or resumed, in seconds since 1970; 0 if
            not known.
        written: When a file of it was written last, as far as that can be told.
        label: What the page calls the run.
        stamp: What changes when the files do, when they were last looked at.
    """

    def __init__(self, paths: list[str]):
        self.paths = paths
        self.began = 0.0
        self.written = 0.0
        self.label = ""
        self.stamp = ""
        self._lock = threading.Lock()
        # Versions start at the time, so that none repeats one of an earlier log of this name.
        self._version = time.time_ns() // 1000
        self._forget()

    def _forget(self) -> None:
        self._ends: dict[str, int] = {}
        self._damages: list[tuple[str, int, int]] = []
        self._contents = Contents()
        self._answer: bytes | None = None
        self.is_read = False

    def update(self, patience: float = PATIENCE) -> None:
        """Read the records written since the last call, for so many seconds at most."""
        deadline = time.monotonic() + patience
        with self._lock:
            files = list(self.paths)
            if any(path not in files or _is_cut(path, end) for path, end in self._ends.items()):
                self._forget()
                self._version += 1
            was_read, self.is_read = self.is_read, True
            for path in files:
                # A file that cannot be read now must not hide the others, and is tried again later.
                with contextlib.suppress(errors.OpError, OSError):
                    self.is_read = self._read(path, deadline)
                # A later file may void records of an earlier one, so it waits.
                if not self.is_read:
                    break
            if was_read != self.is_read:
                self._changed()

    def read_all(self) -> None:
        """Read what there is, and let others read between two parts of it."""
        while True:
            self.update(patience=0.2)
            if self.is_read:
                return

    def _changed(self):
        self._version += 1
        self._answer = None

    def _read(self, path, deadline):
        """Read a file until the deadline; return whether that was all of it."""
        items = event_records.scan(path, self._ends.get(path, 0))
        while batch := list(_until(itertools.islice(items, _BATCH), deadline)):
            short = [item for item in batch if isinstance(item, Record) and item.whole]
            damaged = {record.offset for record in event_records.damaged(short)}
            for item in batch:
                if isinstance(item, Gap) or item.offset in damaged:
                    self._note_damage(path, item)
                else:
                    self._add(path, item)
                self._ends[path] = item.end
                if time.monotonic() > deadline:
                    break
            self._changed()
            if time.monotonic() > deadline:
                return False
        return True

    def _note_damage(self, path, item):
        last = self._damages[-1] if self._damages else None
        if last is not None and last[0] == path and last[2] == item.offset:
            self._damages[-1] = (path, last[1], item.end)
        elif len(self._damages) < _MOST_DAMAGES:
            self._damages.append((path, item.offset, item.end))

    def _add(self, path, record):
        number = event_heads.one_number(record.head) if record.whole else None
        if number is not None and self._contents.add_number(*number):
            return
        place = Place(path, record.offset, record.length)
        step_and_tag = None if record.whole else event_heads.step_and_tag(record.head)
        try:
            if step_and_tag is not None and is_of_one_picture(step_and_tag[1]):
                # Its tag tells which, and the picture is read when it is asked for.
                self._contents.add(*step_and_tag, place.read_tensor, place, True)
                return
            event = Event.FromString(record.head) if record.whole else self._read_long(place)
            step, values = event.step, event.summary.value
            # An event is the one or the other.
            if not values and event.session_log.status == SessionLog.START:
                self._contents.restart(step)
            # One record may have the numbers of all targets, or of all layers.
            for value in itertools.islice(values, _MOST_VALUES):
                tensor = value.tensor
                is_picture = len(tensor.string_val) > 2
                self._contents.add(step, value.tag, lambda tensor=tensor: tensor, place, is_picture)
        except (DecodeError, ValueError):
            self._note_damage(path, record)

    def _read_long(self, place):
        if place.length > _MOST_NUMBERS_BYTES:
            raise ValueError("No record of numbers is that long.")
        return place.read_event(is_checked=True)

    def find(self, kind: str, name: str, step: int) -> Place | None:
        """Return the place of a picture, or `None` if there is none."""
        place = self._contents.film(kind, name).get(step)
        if place is None:
            # TensorBoard may have restarted under an open page, and not have read this run yet.
            self.update()
            place = self._contents.film(kind, name).get(step)
        return place

    def look(self, find: Callable[[Contents], _T]) -> _T:
        """Read what is new, and return what a function finds in the contents."""
        self.update()
        with self._lock:
            return find(self._contents)

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
        damaged = [
            {"file": os.path.basename(path), "offset": offset, "bytes": end - offset}
            for path, offset, end in self._damages
        ]
        described = self._contents.describe()
        return {
            "version": self._version,
            "read": self.is_read,
            **described,
            "damaged": damaged,
        }


def _until(items, deadline):
    for item in items:
        yield item
        if time.monotonic() > deadline:
            return


def _is_cut(path, end):
    try:
        return event_records.size(path) < end
    except (errors.OpError, OSError):
        return True
