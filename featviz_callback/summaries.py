"""Event files for TensorBoard, written without TensorFlow and without Keras.

Each look writes, with the epoch as its step:

* images `feature_vis/<name>`, one tag an objective;
* scalars `feature_vis_score/<name>` and `feature_vis_drift/<name>`;
* the scalar `feature_vis/seconds`;

and the end of training the image `feature_vis/evolution`, the film strip.
"""

from __future__ import annotations

import html
import os
import socket
import time

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import (
    DATA_CLASS_BLOB_SEQUENCE,
    DATA_CLASS_SCALAR,
    Summary,
)
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from featviz_callback import pictures
from featviz_callback.result import Result

FOLDER = "feature_vis"
IMAGE_TAG = "feature_vis/{}"
SCORE_TAG = "feature_vis_score/{}"
DRIFT_TAG = "feature_vis_drift/{}"
SECONDS_TAG = "feature_vis/seconds"
EVOLUTION_TAG = "feature_vis/evolution"
# An objective of such a name would share a tag with one of the above.
RESERVED_NAMES = ("seconds", "evolution")


class EventFile:
    """One event file, on a local disk or any file system that TensorBoard knows.

    Each record is appended whole and the file is closed again, so that nothing
    is lost or left open however training ends. The file is made by the first
    record.

    Args:
        log_dir: The folder that TensorBoard is pointed at; the file goes into its
            sub-folder `feature_vis`, which is made if need be. `None` writes nothing.

    Raises:
        ValueError: If the folder cannot be made.
    """

    def __init__(self, log_dir: str | os.PathLike | None):
        self.path = self._records = None
        if log_dir is None:
            return
        folder = os.path.join(os.fspath(log_dir), FOLDER)
        try:
            gfile.makedirs(folder)
        except OSError as error:
            raise ValueError(
                "Invalid value for argument `log_dir`. Expected a folder, or a path where one "
                f"can be made. Received: log_dir={os.fspath(log_dir)!r} ({error})"
            ) from error
        name = f"events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}.v2"
        self.path = os.path.join(folder, name)

    def image(self, tag: str, step: int, picture: np.ndarray, description: str = "") -> None:
        """Adds a uint8 picture `(height, width, 1 or 3 or 4)`.

        Args:
            tag: TensorBoard's name for the series.
            step: Epoch.
            picture: What to show.
            description: Markdown.
        """
        height, width = picture.shape[:2]
        strings = [str(width).encode(), str(height).encode(), pictures.encode_png(picture)]
        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=strings,
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))]),
        )
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

    def _add(self, tag, step, tensor, metadata):
        value = Summary.Value(tag=tag, tensor=tensor, metadata=metadata)
        self._write(Event(step=step, summary=Summary(value=[value])))

    def _write(self, event):
        if self.path is None:
            return
        if self._records is None:
            self._records = RecordWriter(gfile.GFile(self.path, "wb"))
            self._write(Event(file_version="brain.Event:2"))
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())


def write_look(
    events: EventFile, epoch: int, result: Result, drift: np.ndarray, seconds: float
) -> None:
    """Writes all that is known of one look.

    Args:
        events: Where to.
        epoch: The step.
        result: Images, scores and status.
        drift: One number a target; NaN where there is nothing to compare with.
        seconds: How long the look took.
    """
    shown = pictures.of_targets(result.images, result.values_range)
    for i, name in enumerate(result.names):
        # TensorBoard keeps the first description of a tag, hence the epoch in it.
        description = (
            f"{html.escape(name)}: {result.status[i]}, score {result.scores[i]:.4g} at step {epoch}"
        )
        events.image(IMAGE_TAG.format(name), epoch, shown[i], description)
        events.scalar(SCORE_TAG.format(name), epoch, result.scores[i])
        if np.isfinite(drift[i]):
            events.scalar(DRIFT_TAG.format(name), epoch, drift[i])
    events.scalar(SECONDS_TAG, epoch, seconds)


def write_evolution(events: EventFile, epoch: int, strip: np.ndarray) -> None:
    """Writes the film strip, uint8 `(height, width, 3)`."""
    events.image(EVOLUTION_TAG, epoch, strip, "Targets down, epochs across.")
