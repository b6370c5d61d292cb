"""Find the runs below TensorBoard's log directory.

Folders are searched again on request, and less often if a search takes long. Nothing in
them is ever written.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
import time
import zlib
from collections.abc import Iterator

from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.io import gfile

from featviz_callback.tensorboard.plugin import event_records
from featviz_callback.tensorboard.plugin.logs import RunLog
from featviz_callback.tensorboard.plugin.places import MOST_BYTES, file_key
from featviz_callback.tensorboard.run_folders import FOLDER

# Seconds to wait for another search of the log directory.
_PATIENCE = 1.0


class Runs:
    """The runs under TensorBoard's log directory, by name.

    Args:
        roots: Folders to search; each maps to the name of its runs' group, or to "".

    Attributes:
        is_watched: Whether a page is open; set it once one asks.
    """

    def __init__(self, roots: dict[str, str]):
        self._roots = roots
        self._lock = threading.Lock()
        self._found: dict[str, RunLog] = {}
        self._searched = float("-inf")
        self._search_seconds = 0.0
        self._beginnings: dict[str, tuple[bool, int | None]] = {}
        self.is_watched = False

    def found(self) -> dict[str, RunLog]:
        """Return every run, or those found last if a search takes long."""
        if self._lock.acquire(timeout=_PATIENCE):
            try:
                # A huge or remote folder is not searched all the time.
                if time.monotonic() - self._searched > max(1.0, 20 * self._search_seconds):
                    self._search()
            finally:
                self._lock.release()
        return self._found

    def _search(self):
        began = time.monotonic()
        found = {}
        for root, group in self._roots.items():
            for name, folder, files in find_runs(root, group):
                paths = [gfile.get_filesystem(folder).join(folder, file) for file in sorted(files)]
                for number, part in enumerate(self._split(paths), start=1):
                    later = f" (training {number})" if number > 1 else ""
                    run = found[name + later] = self._kept(name + later, part)
                    run.label = (_folder_name(root) if name == "." else name) + later
        self._found = found
        self._searched = time.monotonic()
        self._search_seconds = self._searched - began

    def read_newest(self, seconds: float = 3.0) -> None:
        """Read the newest run, then others for so many seconds, or until a page is open.

        An open page says itself which runs it needs, and two readers would be slower than one.
        """
        deadline = time.monotonic() + seconds
        runs = sorted(self.found().values(), key=lambda run: -run.began)
        for run in runs[:1]:
            run.read_all()
        for run in runs[1:]:
            while not (self.is_watched or time.monotonic() > deadline):
                run.update(patience=0.2)
                if run.is_read:
                    break

    def paths_by_key(self) -> dict[str, str]:
        """Return every event file, by the part of a picture's key that tells it."""
        return {file_key(path): path for run in self.found().values() for path in run.paths}

    def _kept(self, name, paths):
        run = self._found.get(name)
        if run is None or run.paths[0] not in paths:
            run = RunLog(paths)
        run.paths = paths
        run.began = max(map(_time_in, paths))
        run.written = max(run.began, *map(_written, paths))
        # A run that was replaced may be as long as the old one.
        names = "-".join(map(file_key, paths))
        run.stamp = f"{sum(map(_size, paths))}-{zlib.crc32(names.encode()):x}"
        return run

    def _split(self, paths):
        """Give each training its files: one that begins where the first one began is another."""
        parts, begun = [], None
        for path in paths:
            resumed, step = self._beginning(path)
            if parts and (resumed or begun is None or step is None or step > begun):
                parts[-1].append(path)
                begun = step if begun is None else begun
            else:
                parts.append([path])
                begun = step
        return parts

    def _beginning(self, path):
        """Return whether a file resumes a training, and its first step, or `None` for now."""
        if path not in self._beginnings:
            found = _read_beginning(path)
            if found[1] is None:
                return found
            self._beginnings[path] = found
        return self._beginnings[path]


def _read_beginning(path):
    try:
        for item in itertools.islice(event_records.scan(path, 0), 8):
            if isinstance(item, event_records.Record) and item.length <= MOST_BYTES:
                event = event_records.read_event(path, item.offset, item.length)
                if event.session_log.status == SessionLog.START:
                    return True, event.step
                if event.summary.value:
                    return False, event.step
    except (errors.OpError, OSError, ValueError):
        pass
    return False, None


def _size(path):
    try:
        return event_records.size(path)
    except (errors.OpError, OSError):
        return 0


def _written(path):
    """Return when a local file was written last, in seconds since 1970; of others 0."""
    try:
        return os.path.getmtime(path)
    except OSError:
        return 0.0


def _folder_name(root):
    """Return the name of the folder that is the root, for a run that has no other."""
    path = root.rstrip("/") if "://" in root else os.path.abspath(root)
    name = os.path.basename(path)
    return (os.path.basename(os.path.dirname(path)) if name == FOLDER else name) or path


def parse_roots(logdir: str | None, logdir_spec: str | None) -> dict[str, str]:
    """Return folders to search, and the group of each, from TensorBoard's two flags.

    Example:
    >>> parse_roots("/logs", "")
    {'/logs': ''}
    >>> parse_roots("", "a:/logs/1,/logs/2,s3://logs/3")
    {'/logs/1': 'a', '/logs/2': '/logs/2', 's3://logs/3': 's3://logs/3'}
    """
    if logdir:
        return {os.path.expanduser(logdir): ""}
    roots = {}
    for part in filter(None, (logdir_spec or "").split(",")):
        [(group, path)] = re.findall(r"\A(?:([^/:]+):(?!//))?(.*)\Z", part, re.DOTALL)
        roots[os.path.expanduser(path)] = group or path
    return roots


def find_runs(root: str, group: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Yield the name, the folder and the event files of every run below a folder.

    A run is a folder `feature_vis` with event files. Its name is the path from the
    root to the folder that holds it, or "." for the root itself.
    """
    for folder, files in _walk(root):
        is_ours = os.path.basename(folder.rstrip("/")) == FOLDER
        events = [file for file in files if "tfevents" in file]
        if is_ours and events and _is_text(folder):
            below = os.path.dirname(folder[len(root) :].strip("/"))
            name = "/".join(filter(None, (group, below)))
            yield name or ".", folder, events


def _is_text(path):
    """Return whether a path is UTF-8, as TensorBoard's file layer expects."""
    try:
        return bool(path.encode())
    except UnicodeEncodeError:
        return False


def _walk(root):
    if "://" in root:
        yield from ((folder, files) for folder, _, files in gfile.walk(root))
        return
    seen = set()
    for folder, below, files in os.walk(root, followlinks=True):
        # Links may form a ring.
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        # A folder has its own name, not that of a link to it.
        below.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))
        yield folder, files


def _time_in(file):
    """Return the time in an event file's name, written in seconds or in nanoseconds."""
    match = re.search(r"tfevents\.(\d+)", file)
    digits = match[1] if match else "0"
    return int(digits) / (1e9 if len(digits) > 12 else 1)
