"""Write event files for TensorBoard, without TensorFlow and without Keras.

Every record is appended whole, and the file is closed again, so that nothing is lost or
left open however training ends. What the records mean is said in `summaries`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time

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
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from featviz_callback.records import pictures

logger = logging.getLogger("featviz_callback")

# The sub-folder of `log_dir` that holds the event files.
FOLDER = "feature_vis"
# Later than every step.
_NO_STEP = 2**62


class EventFile:
    """One event file, on a local disk or any file system that TensorBoard knows.

    Each record is appended whole and the file is closed again, so that nothing
    is lost or left open however training ends. The file is made by the first
    record. Where one cannot be written, because the disk is full or the folder is
    gone, it is tried once more in a folder and file made anew; then that raises
    `OSError`, what there is of it is cut off again, and the next one is tried.

    Args:
        log_dir: The folder that TensorBoard is pointed at; the file goes into its
            sub-folder `feature_vis`, which is made if need be. `None` writes nothing.

    Raises:
        ValueError: If something else than a folder is in its place.
    """

    def __init__(self, log_dir: str | os.PathLike | None):
        self.folder = self.path = self._records = None
        if log_dir is None:
            return
        self.folder = folder_of(log_dir)
        try:
            gfile.makedirs(self.folder)
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(
                "Invalid value for argument `log_dir`. Expected a folder, or a path where one "
                f"can be made. Received: log_dir={os.fspath(log_dir)!r} ({error})"
            ) from error
        except OSError as error:
            # A disk that cannot be written to now may be mounted by the first look.
            logger.warning("The folder %r cannot be made yet: %s", self.folder, error)

    def restart(self, step: int) -> None:
        """Says that training goes on at a step: records of it and later are void."""
        # TensorBoard takes the first of these for a beginning, with nothing to void.
        for number in (_NO_STEP, step):
            self._write(Event(step=number, session_log=SessionLog(status=SessionLog.START)))

    def image(self, tag: str, step: int, picture: np.ndarray, description: str = "") -> None:
        """Adds a uint8 picture `(height, width, 1 or 3 or 4)`.

        Args:
            tag: TensorBoard's name for the series.
            step: Epoch.
            picture: What to show.
            description: Markdown.
        """
        encoded = pictures.encode_png(picture)
        self.encoded_image(tag, step, encoded, picture.shape[:2], description)

    def encoded_image(
        self, tag: str, step: int, encoded: bytes, size: tuple[int, int], description: str = ""
    ) -> None:
        """Adds a picture that is already a PNG or GIF, `(height, width)` pixels large."""
        height, width = size
        tensor = _strings([str(width).encode(), str(height).encode(), encoded])
        metadata = image_metadata.create_summary_metadata(
            display_name=None, description=description
        )
        metadata.data_class = DATA_CLASS_BLOB_SEQUENCE
        self._add(tag, step, tensor, metadata)

    def scalar(self, tag: str, step: int, value: float) -> None:
        """Adds a number."""
        tensor = TensorProto(
            dtype=DT_FLOAT, float_val=[float(value)], tensor_shape=TensorShapeProto()
        )
        metadata = scalar_metadata.create_summary_metadata(display_name=None, description=None)
        metadata.data_class = DATA_CLASS_SCALAR
        self._add(tag, step, tensor, metadata)

    def text(self, tag: str, step: int, text: str, plugin: str) -> None:
        """Adds a string that the TensorBoard plugin of that name reads."""
        metadata = SummaryMetadata(data_class=DATA_CLASS_TENSOR)
        metadata.plugin_data.plugin_name = plugin
        self._add(tag, step, _strings([text.encode()]), metadata)

    def _add(self, tag, step, tensor, metadata):
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def _write(self, event):
        if self.folder is None:
            return
        try:
            self._append(event)
        except OSError:
            # In a folder and file made anew, if those before are gone.
            self._append(event)

    def _append(self, event):
        if self._records is None:
            self._open()
        event.wall_time = time.time()
        try:
            self._records.write(event.SerializeToString())
            self._size = _size(self.path)
        except BaseException:
            self._cut_off()
            raise

    def _open(self):
        gfile.makedirs(self.folder)
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}.v2"
        self.path, self._size = os.path.join(self.folder, name), 0
        self._records = RecordWriter(gfile.GFile(self.path, "wb"))
        self._append(Event(file_version="brain.Event:2"))

    def _cut_off(self):
        """Readers stop at half a record for ever, so none may be left in the way."""
        try:
            os.truncate(self.path, self._size)
        except OSError:
            self._size = 0
        if self._size == 0:
            self._records = None
            with contextlib.suppress(OSError):
                os.remove(self.path)


def folder_of(log_dir: str | os.PathLike) -> str:
    """Return the folder of the event files of a log directory."""
    return os.path.join(os.fspath(log_dir), FOLDER)


def _size(path):
    # Only local files are ever cut off; of others, a new one is begun.
    return os.path.getsize(path) if os.path.exists(path) else 0


def _strings(strings):
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))])
    return TensorProto(dtype=DT_STRING, string_val=strings, tensor_shape=shape)
