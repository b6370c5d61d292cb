"""Write event files for TensorBoard, without TensorFlow and without Keras.

Records are appended whole, and the file is closed again, so that nothing is lost or left
open however training ends. `summaries` defines what the records mean.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata

from featviz_callback.records import pictures
from featviz_callback.tensorboard import checksums
from featviz_callback.tensorboard.run_folders import claim, folder_of, require_folder

logger = logging.getLogger("featviz_callback")

# The module of TensorBoard's own writer, which some trackers replace to learn of folders.
_WRITERS = "tensorboard.summary.writer.event_file_writer"

# Later than every step.
_NO_STEP = 2**62
# Records of more bytes do not wait for others.
_MOST_HELD = 4 * 1024 * 1024


class EventFile:
    """One event file, on a local disk or any file system that TensorBoard knows.

    The first record creates the folder and the file. A record may fail because the disk is
    full or the folder is gone. The record is then tried once more, in a new folder and file
    if needed. If the second try fails too, the half-written record is cut off and `OSError`
    is raised. Later records are tried as usual.

    Args:
        log_dir: The folder that TensorBoard shows. The file goes into its sub-folder
            `feature_vis`. `None` writes nothing.
        is_new: Whether a new training begins. Its first record claims a run that has no
            event file yet: `log_dir` itself, or else `<log_dir>/run 2` and so on, which
            is logged.

    Attributes:
        run: The log directory of the run, from the first record on; `None` before.

    Raises:
        ValueError: If something other than a folder is at that path.
    """

    def __init__(self, log_dir: str | os.PathLike | None, is_new: bool = False):
        self.run: str | None = None
        self.path = self._file = None
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._log_dir, self._is_new = log_dir, is_new
        if log_dir is not None:
            require_folder(log_dir)

    def resume(self, run: str, step: int) -> None:
        """Go on with an earlier run from a step on.

        Args:
            run: The log directory of that run.
            step: The records of that step and later become void.
        """
        if self._log_dir is not None:
            self._log_dir, self._is_new = run, False
            self.restart(step)

    def restart(self, step: int) -> None:
        """Record that training goes on at a step, which voids records of that step and later."""
        # TensorBoard takes the first of these records for a beginning, which voids nothing.
        for number in (_NO_STEP, step):
            self._write(Event(step=number, session_log=SessionLog(status=SessionLog.START)))

    def image(self, tag: str, step: int, picture: pictures.Picture, description: str = "") -> None:
        """Add a uint8 picture `(height, width, 1 or 3 or 4)`, or one that is encoded already.

        Args:
            tag: TensorBoard's name for the series.
            step: Epoch.
            picture: The picture.
            description: Markdown.
        """
        png = pictures.as_png(picture)
        self.encoded_image(tag, step, png.content, png.size, description)

    def encoded_image(
        self, tag: str, step: int, encoded: bytes, size: tuple[int, int], description: str = ""
    ) -> None:
        """Add a picture that is already a PNG or GIF, `(height, width)` pixels large."""
        height, width = size
        tensor = _strings([str(width).encode(), str(height).encode(), encoded])
        metadata = image_metadata.create_summary_metadata(
            display_name=None, description=description
        )
        metadata.data_class = DATA_CLASS_BLOB_SEQUENCE
        self._add(tag, step, tensor, metadata)

    def scalar(self, tag: str, step: int, value: float) -> None:
        """Add a number."""
        metadata = scalar_metadata.create_summary_metadata(display_name=None, description=None)
        metadata.data_class = DATA_CLASS_SCALAR
        self._add(tag, step, _number(value), metadata)

    def many(
        self,
        step: int,
        scalars: Mapping[str, float],
        histograms: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Add many numbers and histograms in one record, which is quicker than a record each.

        Args:
            step: Epoch.
            scalars: Numbers, by their tags.
            histograms: Float arrays `(buckets, 3)` by their tags: left edge, right edge, count.
        """
        about = scalar_metadata.create_summary_metadata(display_name=None, description=None)
        about.data_class = DATA_CLASS_SCALAR
        values = [
            Summary.Value(tag=tag, tensor=_number(value), metadata=about)
            for tag, value in scalars.items()
        ]
        about = histogram_metadata.create_summary_metadata(display_name=None, description=None)
        about.data_class = DATA_CLASS_TENSOR
        values += [
            Summary.Value(tag=tag, tensor=_table(buckets), metadata=about)
            for tag, buckets in (histograms or {}).items()
        ]
        if values:
            self._write(Event(step=step, summary=Summary(value=values)))

    def text(self, tag: str, step: int, text: str, plugin: str) -> None:
        """Add a string that the TensorBoard plugin of that name reads."""
        metadata = SummaryMetadata(data_class=DATA_CLASS_TENSOR)
        metadata.plugin_data.plugin_name = plugin
        self._add(tag, step, _strings([text.encode()]), metadata)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Append the records of a block at its end, which is quicker than one by one.

        Those before an error in the block are appended too. Many megabytes do not wait.
        """
        self._held, self._held_bytes = [], 0
        try:
            yield
        finally:
            held, self._held = self._held, None
            self._append(held)

    def _add(self, tag, step, tensor, metadata):
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def _write(self, event):
        if self._log_dir is None:
            return
        event.wall_time = time.time()
        content = event.SerializeToString()
        if self._held is None:
            self._append([content])
            return
        self._held.append(content)
        self._held_bytes += len(content)
        if self._held_bytes > _MOST_HELD:
            held, self._held, self._held_bytes = self._held, [], 0
            self._append(held)

    def _append(self, contents):
        if not contents:
            return
        try:
            self._append_once(contents)
        except OSError:
            # The second try makes a new folder and file, if the old ones are gone. Of many
            # records the first ones may still find room.
            for content in contents:
                self._append_once([content])

    def _append_once(self, contents):
        if self._file is None:
            self._open()
        try:
            self._file.write(_records(contents))
            self._size = _size(self.path)
        except BaseException:
            self._cut_off()
            raise

    def _open(self):
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}.v2"
        if self.run is None:
            self._choose_run(name)
        folder = folder_of(self.run)
        gfile.makedirs(folder)
        self.path, self._size = os.path.join(folder, name), 0
        self._file = gfile.GFile(self.path, "wb")
        first = Event(file_version="brain.Event:2", wall_time=time.time())
        self._append_once([first.SerializeToString()])
        _announce(folder)

    def _choose_run(self, name):
        log_dir = os.fspath(self._log_dir)
        self.run = claim(log_dir, name) if self._is_new else log_dir
        if self.run != log_dir:
            logger.warning(
                "log_dir=%r has the event files of another training already. So this training "
                "is a run of its own, in %r.",
                log_dir,
                folder_of(self.run),
            )

    def _cut_off(self):
        """Cut off half a record, at which readers would stop for ever."""
        try:
            os.truncate(self.path, self._size)
        except OSError:
            self._size = 0
        if self._size == 0:
            self._file = None
            with contextlib.suppress(OSError):
                os.remove(self.path)


def _announce(folder):
    """Tell of a folder to a tracker that has put a class of its own for TensorBoard's writer.

    Weights & Biases does so with `sync_tensorboard=True`, and follows all event files of a
    folder that a writer was made for. Such a writer leaves an event file without records.
    """
    writer = getattr(sys.modules.get(_WRITERS), "EventFileWriter", None)
    if writer is None or writer.__module__ == _WRITERS:
        return
    try:
        writer(folder).close()
    except Exception as error:
        # The tracker's own trouble costs no record.
        logger.warning(
            "Event files in %r are written, and %s does not follow them. %s: %s",
            *(folder, writer.__module__, type(error).__name__, error),
        )


def _records(contents):
    """Return events as their file has them, each as length, checksum, content, checksum."""
    lengths = [struct.pack("<Q", len(content)) for content in contents]
    # TensorBoard's own writer takes longer for the checksum than a picture takes to be drawn.
    checked = list(map(struct.Struct("<I").pack, checksums.of_each([*lengths, *contents]).tolist()))
    parts = lengths, checked[: len(lengths)], contents, checked[len(lengths) :]
    return b"".join(itertools.chain.from_iterable(zip(*parts, strict=True)))


def _size(path):
    # Only local files can be cut off. On other file systems the next record begins a new file.
    return os.path.getsize(path) if os.path.exists(path) else 0


def _number(value):
    return TensorProto(dtype=DT_FLOAT, float_val=[float(value)], tensor_shape=TensorShapeProto())


def _table(numbers):
    """Pack an array of two axes in float32, which a histogram needs no more of."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in numbers.shape])
    content = np.asarray(numbers, "<f4").tobytes()
    return TensorProto(dtype=DT_FLOAT, tensor_content=content, tensor_shape=shape)


def _strings(strings):
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))])
    return TensorProto(dtype=DT_STRING, string_val=strings, tensor_shape=shape)
