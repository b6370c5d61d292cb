"""Give each training a folder of its own below `log_dir`.

The first training writes to `<log_dir>/feature_vis`, and the second one to
`<log_dir>/run 2/feature_vis`. So each run has a log directory: `log_dir` itself, then
`<log_dir>/run 2` and so on. TensorBoard shows each as a run.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid

from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.io import gfile

# The folder that holds the event files of a run.
FOLDER = "feature_vis"
_LATER = "run {}"
# Exists only while a process looks whether a folder is free.
_LOCK = ".claim"


def folder_of(log_dir: str | os.PathLike) -> str:
    """Return the folder of the event files of a log directory."""
    return os.path.join(os.fspath(log_dir), FOLDER)


def absolute(log_dir: str | os.PathLike) -> str:
    """Return a local path as an absolute one with `~` expanded, and an address as it is.

    Example:
    >>> absolute("gs://bucket/logs"), absolute("/tmp/../logs")
    ('gs://bucket/logs', '/logs')
    """
    path = os.fspath(log_dir)
    return path if _is_remote(path) else os.path.abspath(os.path.expanduser(path))


def require_folder(log_dir: str | os.PathLike) -> None:
    """Refuse a path at which no folder can be made, and make none.

    Raises:
        ValueError: If a file is in the way, or nothing can open that address.
    """
    path, wrong = folder_of(log_dir), None
    if _is_remote(path):
        try:
            gfile.get_filesystem(path)
        except (ImportError, ValueError) as error:
            wrong = str(error)
    else:
        while not os.path.lexists(path) and path != os.path.dirname(path):
            path = os.path.dirname(path)
        # A relative path ends in no name at all.
        wrong = f"{path!r} is not a folder" if path and not os.path.isdir(path) else None
    if wrong is not None:
        raise ValueError(
            "Invalid value for argument `log_dir`. Expected a folder, or a path where one "
            f"can be made. Received: log_dir={os.fspath(log_dir)!r} ({wrong})"
        )


def find_runs(log_dir: str | os.PathLike) -> list[str]:
    """Return the log directory of each run that has event files, the newest run first."""
    return [_run(log_dir, number) for number in reversed(_numbers(log_dir))]


def claim(log_dir: str | os.PathLike, file: str) -> str:
    """Make an empty file in a new run, which then belongs to the caller alone.

    On local disks no two processes get the same run. Remote file systems cannot
    promise this.

    Args:
        log_dir: The log directory of all runs.
        file: Name of an event file.

    Returns:
        The log directory of the new run.

    Raises:
        OSError: If the file cannot be made.
    """
    number = max(_numbers(log_dir), default=0) + 1
    while not _reserve(folder_of(_run(log_dir, number)), file):
        number += 1
    return _run(log_dir, number)


def write_note(run: str | os.PathLike, name: str, text: str) -> None:
    """Write a small file beside the event files of a run, whole or not at all.

    Args:
        run: The log directory of the run.
        name: Name of the file.
        text: Its content.
    """
    path = os.path.join(folder_of(run), name)
    # A remote file appears whole when it is closed.
    written = path if _is_remote(path) else f"{path}.{unique()}.part"
    try:
        with gfile.GFile(written, "w") as file:
            file.write(text)
        if written != path:
            os.replace(written, path)
    except BaseException:
        if written != path:
            with contextlib.suppress(OSError):
                os.remove(written)
        raise


def unique() -> str:
    """Return a part of a file's name that no other call gets, on any machine.

    Containers that share a folder often have one process number, and even one host name.
    """
    return uuid.uuid4().hex


def read_note(run: str | os.PathLike, name: str) -> str | None:
    """Return what `write_note` wrote, or `None` if there is nothing."""
    path = os.path.join(folder_of(run), name)
    if not gfile.exists(path):
        return None
    with gfile.GFile(path, "r") as file:
        return file.read()


def _is_remote(path):
    return "://" in path


def _run(log_dir, number):
    path = os.fspath(log_dir)
    return path if number == 1 else os.path.join(path, _LATER.format(number))


def _numbers(log_dir):
    """Return the numbers of the runs that have event files, in order."""
    later = (re.fullmatch(_LATER.format(r"([1-9]\d*)"), name) for name in _names(log_dir))
    numbers = {1, *(int(match[1]) for match in later if match)}
    return sorted(n for n in numbers if _has_events(folder_of(_run(log_dir, n))))


def _has_events(folder):
    return any("tfevents" in name for name in _names(folder))


def _names(folder):
    try:
        return [name.strip("/") for name in gfile.listdir(os.fspath(folder))]
    except (errors.NotFoundError, FileNotFoundError, NotADirectoryError):
        return []


def _reserve(folder, file):
    """Make a file in a folder that has no event file; return whether the folder was free."""
    if _is_remote(folder):
        return True
    os.makedirs(folder, exist_ok=True)
    lock = os.path.join(folder, _LOCK)
    try:
        # Of several processes, one can make it. An empty folder may be what a process left.
        os.mkdir(lock)
    except FileExistsError:
        return False
    try:
        if _has_events(folder):
            return False
        with open(os.path.join(folder, file), "xb"):
            return True
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(lock)
