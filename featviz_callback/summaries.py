"""Event files for TensorBoard, written without TensorFlow and without Keras.

Each look writes, with the epoch as its step:

* images `feature_vis/<name>`, one tag a target;
* scalars `feature_vis_score/<name>`, `feature_vis_drift/<name>` and
  `feature_vis_status/<name>`, the place of the status in `STATUSES`;
* where it was measured, the scalar `feature_vis_drift_floor/<name>`;
* scalars `feature_vis/dead`, the share of dead targets, `feature_vis/seconds`, and
  `feature_vis/share`, the share of the time since training began that looks took;
* where something was compiled, the scalar `feature_vis/compile_seconds`;
* with real images, scalars `feature_vis_score_ratio/<name>` and images
  `feature_vis_examples/<name>`;

the first look of a run `feature_vis/objectives`, what the targets are, as JSON; and
the end of training the images `feature_vis/evolution`, the film strip, and
`feature_vis/animation`, a GIF.
"""

from __future__ import annotations

import contextlib
import glob
import html
import itertools
import json
import logging
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence

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
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from featviz_callback import pictures
from featviz_callback.result import Look

logger = logging.getLogger("featviz_callback")

FOLDER = "feature_vis"
IMAGE_TAG = "feature_vis/{}"
SCORE_TAG = "feature_vis_score/{}"
DRIFT_TAG = "feature_vis_drift/{}"
STATUS_TAG = "feature_vis_status/{}"
SCORE_RATIO_TAG = "feature_vis_score_ratio/{}"
EXAMPLES_TAG = "feature_vis_examples/{}"
DRIFT_FLOOR_TAG = "feature_vis_drift_floor/{}"
SECONDS_TAG = "feature_vis/seconds"
SHARE_TAG = "feature_vis/share"
COMPILE_SECONDS_TAG = "feature_vis/compile_seconds"
DEAD_TAG = "feature_vis/dead"
OBJECTIVES_TAG = "feature_vis/objectives"
EVOLUTION_TAG = "feature_vis/evolution"
ANIMATION_TAG = "feature_vis/animation"
# A target of such a name would share a tag with one of the above.
RESERVED_NAMES = (
    "animation", "compile_seconds", "dead", "evolution", "objectives", "seconds", "share",
)  # fmt: skip

STATUSES = ("ok", "dead", "saturated", "nan")
OBJECTIVES_PLUGIN = "feature_vis"
# Later than all.
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
        self.folder = _folder(log_dir)
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


def _folder(log_dir):
    return os.path.join(os.fspath(log_dir), FOLDER)


def _size(path):
    # Only local files are ever cut off; of others, a new one is begun.
    return os.path.getsize(path) if os.path.exists(path) else 0


def _strings(strings):
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=len(strings))])
    return TensorProto(dtype=DT_STRING, string_val=strings, tensor_shape=shape)


def write_objectives(
    events: EventFile, epoch: int, targets: Sequence[tuple[str, str, int | None]]
) -> None:
    """Writes what each target is, so that they can be grouped by layer.

    Args:
        events: Where to.
        epoch: The step.
        targets: For each its name, the path of the layer that it reads first, and
            that layer's place in the network, from 0, where that is known.
    """
    rows = [{"name": name, "layer": layer, "order": order} for name, layer, order in targets]
    text = json.dumps({"version": 1, "objectives": rows})
    events.text(OBJECTIVES_TAG, epoch, text, OBJECTIVES_PLUGIN)


def write_look(events: EventFile, look: Look) -> None:
    """Writes all that is known of one look, except for what it cost.

    Raises:
        OSError: If it cannot be written; all whole records before are.
    """
    shown = pictures.of_targets(look.images, look.values_range)
    for i, name in enumerate(look.names):
        events.image(IMAGE_TAG.format(name), look.epoch, shown[i], _description(look, i))
        events.scalar(STATUS_TAG.format(name), look.epoch, STATUSES.index(look.status[i]))
        _scalar_if_known(events, SCORE_TAG.format(name), look.epoch, look.scores[i])
        _scalar_if_known(events, DRIFT_TAG.format(name), look.epoch, look.drift[i])
        _scalar_if_known(events, DRIFT_FLOOR_TAG.format(name), look.epoch, look.drift_floor[i])
        _scalar_if_known(events, SCORE_RATIO_TAG.format(name), look.epoch, look.score_ratio[i])
    events.scalar(DEAD_TAG, look.epoch, look.status.count("dead") / len(look.status))


def _description(look, i):
    # TensorBoard keeps the first description of a tag, hence the step in it.
    status = ", ".join(f"{number} {status}" for number, status in enumerate(STATUSES))
    return (
        f"{html.escape(look.names[i])}: {look.status[i]}, score {look.scores[i]:.4g} at step "
        f"{look.epoch}. Its status at each step is the scalar "
        f"{html.escape(STATUS_TAG.format(look.names[i]))}: {status}."
    )


def _scalar_if_known(events, tag, step, value):
    if np.isfinite(value):
        events.scalar(tag, step, value)


def write_costs(
    events: EventFile, epoch: int, seconds: float, share: float, compiling: float
) -> None:
    """Writes what a look cost.

    Args:
        events: Where to.
        epoch: The step.
        seconds: Without compiling.
        share: Of the time since training began, that looks took, in `[0, 1]`.
        compiling: Seconds; written where there are any.
    """
    events.scalar(SECONDS_TAG, epoch, seconds)
    events.scalar(SHARE_TAG, epoch, share)
    if compiling:
        events.scalar(COMPILE_SECONDS_TAG, epoch, compiling)


def write_examples(events: EventFile, epoch: int, name: str, picture: np.ndarray) -> None:
    """Writes a target's picture beside real ones, uint8 `(height, width, 3)`."""
    description = f"{html.escape(name)}: the optimised image, then real ones by their score."
    events.image(EXAMPLES_TAG.format(name), epoch, picture, description)


def write_evolution(events: EventFile, epoch: int, strip: np.ndarray) -> None:
    """Writes the film strip, uint8 `(height, width, 3)`."""
    events.image(EVOLUTION_TAG, epoch, strip, "Targets down, epochs across.")


def write_animation(events: EventFile, epoch: int, gif: bytes) -> None:
    """Writes the animation, the content of a GIF file."""
    width, height = struct.unpack("<HH", gif[6:10])
    events.encoded_image(ANIMATION_TAG, epoch, gif, (height, width), "One frame a look.")


def read_looks(
    log_dir: str | os.PathLike, names: Sequence[str], values_range: tuple[float, float]
) -> Iterator[Look]:
    """Yields the looks at these targets that earlier processes have written, in order.

    Of the images there is what PNG keeps, 256 levels. A file that ends within a
    record is read up to there, a look that is not whole is left out.

    Args:
        log_dir: As for `EventFile`.
        names: The targets; looks that have others, or fewer, are left out.
        values_range: Lowest and highest value of an image.
    """
    for path in sorted(gfile.glob(os.path.join(glob.escape(_folder(log_dir)), "*tfevents*"))):
        by_step = itertools.groupby(_read_values(path), key=lambda pair: pair[0])
        for step, pairs in by_step:
            values = {value.tag: value.tensor for _, value in pairs}
            if all(IMAGE_TAG.format(name) in values for name in names):
                yield _as_look(step, names, values, values_range)


def _read_values(path):
    """Yields `(step, value)` for every value of every whole record."""
    records = PyRecordReader_New(path)
    with contextlib.suppress(errors.OutOfRangeError, errors.DataLossError):
        while True:
            records.GetNext()
            event = Event.FromString(records.record())
            for value in event.summary.value:
                yield event.step, value


def _as_look(step, names, values, values_range):
    def scalars(tag):
        tensors = [values.get(tag.format(name)) for name in names]
        return np.array([t.float_val[0] if t else np.nan for t in tensors], "float32")

    low, high = values_range
    pngs = [values[IMAGE_TAG.format(name)].string_val[2] for name in names]
    shares = np.stack([pictures.decode_png(png) for png in pngs]) / np.float32(255)
    seconds = values.get(SECONDS_TAG)
    return Look(
        epoch=step,
        names=list(names),
        images=(low + (high - low) * shares).astype("float32"),
        scores=scalars(SCORE_TAG),
        status=[STATUSES[int(i)] for i in np.nan_to_num(scalars(STATUS_TAG))],
        drift=scalars(DRIFT_TAG),
        drift_floor=scalars(DRIFT_FLOOR_TAG),
        score_ratio=scalars(SCORE_RATIO_TAG),
        seconds=seconds.float_val[0] if seconds else np.nan,
        values_range=values_range,
    )
