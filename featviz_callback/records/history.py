"""What a callback has seen, snapshot by snapshot; film strips, animations, archives."""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import replace

import numpy as np

from featviz_callback.records import pictures
from featviz_callback.records.drift import drift
from featviz_callback.records.result import Result
from featviz_callback.records.snapshot import Snapshot
from featviz_callback.records.spread import spread

UNTRAINED = -1


class History:
    """Every snapshot at a network during its training, in order.

    Images are kept as float32: snapshots x targets x pixels x 4 bytes, and at most
    `most_bytes` of them. Beyond that, whenever a snapshot comes in, that one is let go
    which is closest to its neighbours, never the first or the last: what remains is
    spread evenly. Event files keep everything.

    Args:
        most_bytes: Memory for images, in bytes. Two snapshots are always kept.

    Attributes:
        epochs: Int array `(snapshots,)`: the epoch that had just ended, from 0; -1 is
            the network before any training.
        names: One name a target.
        images: Float32 array `(snapshots, targets, height, width, channels)`, of signals
            `(snapshots, targets, time, channels)`; a copy.
        scores: Float32 array `(snapshots, targets)`: scores of the images, with no
            random view.
        status: Array of strings `(snapshots, targets)`, as `Result.status`.
        drift: Float32 array `(snapshots, targets)`: how far each picture is from the
            one of the snapshot before, see `drift`. NaN at the first snapshot.
        noise_floor: Float32 array `(snapshots, targets)`: the drift between two seeds on
            the weights of that snapshot; what moves less than this between two snapshots
            has moved less than the choice of a seed would have moved it. It
            takes a second ascent, so the callback measures it at the first and the
            last snapshot of each `fit` only; NaN at the others.
        score_ratio: Float32 array `(snapshots, targets)`: the score divided by that of
            the best real image; NaN without `probe_data`, and where no real image
            scores above 0.
        seconds: Float array `(snapshots,)`: how long each snapshot took, without compiling.
        compile_seconds: How long compiling took, about: how much longer the first
            ascent took than the second one.
        skipped: Int array: epochs whose snapshot was skipped to keep within
            `max_overhead`.
        values_range: Lowest and highest value of an image.

    Example:
    >>> image, score = np.zeros((1, 8, 8, 1)), np.zeros(1)
    >>> result = Result(image, ["a"], score, score[None], ["ok"], (0.0, 1.0))
    >>> history = History()
    >>> for epoch in (-1, 0):
    ...     _ = history.add(epoch, result)
    >>> history.epochs, history.images.shape, history.drift.tolist()
    (array([-1,  0]), (2, 1, 8, 8, 1), [[nan], [0.0]])
    """

    def __init__(self, most_bytes: int = 2**30):
        self.most_bytes = most_bytes
        self.names: list[str] = []
        self.values_range = (0.0, 1.0)
        self.compile_seconds = 0.0
        self._skipped: list[int] = []
        self._snapshots: list[Snapshot] = []

    def add(
        self,
        epoch: int,
        result: Result,
        seconds: float = 0.0,
        noise_floor: np.ndarray | None = None,
        score_ratio: np.ndarray | None = None,
    ) -> Snapshot:
        """Keeps one snapshot, and returns it with its drift.

        A history is of one set of targets and one size: where those change,
        because another model is being trained, it starts again.

        Args:
            epoch: The epoch that has just ended; -1 before any.
            result: What `optimize` returned.
            seconds: How long it took.
            noise_floor: Float32 array `(targets,)`; NaN where it is not given.
            score_ratio: Float32 array `(targets,)`; NaN where it is not given.

        Returns:
            The snapshot that is kept.
        """
        unknown = np.full(len(result.names), np.nan, "float32")
        moved = unknown
        if self._is_comparable(result):
            moved = drift(self._snapshots[-1].images, result.images)
        snapshot = Snapshot(
            epoch=int(epoch),
            names=list(result.names),
            images=result.images,
            scores=result.scores,
            status=list(result.status),
            drift=moved,
            noise_floor=unknown if noise_floor is None else noise_floor,
            score_ratio=unknown if score_ratio is None else score_ratio,
            seconds=seconds,
            values_range=result.values_range,
        )
        self._append(snapshot)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Keeps a snapshot of an earlier process; those of its epoch and later make way."""
        while self._snapshots and self._snapshots[-1].epoch >= snapshot.epoch:
            self._snapshots.pop()
        self._append(snapshot)

    def skip(self, epoch: int) -> None:
        """Notes that an epoch was not looked at."""
        self._skipped.append(int(epoch))

    def set_seconds(self, seconds: float) -> None:
        """Sets how long the last snapshot took, which is known once all is written."""
        self._snapshots[-1] = replace(self._snapshots[-1], seconds=seconds)

    @property
    def last(self) -> Snapshot:
        """The last snapshot."""
        return self._snapshots[-1]

    def _is_comparable(self, snapshot):
        return (
            bool(self._snapshots)
            and self.names == list(snapshot.names)
            and self._snapshots[-1].images.shape == snapshot.images.shape
        )

    def _append(self, snapshot):
        if self._snapshots and not self._is_comparable(snapshot):
            self._snapshots.clear()
            self._skipped.clear()
            self.compile_seconds = 0.0
        self.names, self.values_range = snapshot.names, snapshot.values_range
        self._snapshots.append(snapshot)
        while len(self) > 2 and len(self) * snapshot.images.nbytes > self.most_bytes:
            gaps = np.abs(self.epochs[2:] - self.epochs[:-2])
            del self._snapshots[int(gaps.argmin()) + 1]

    def __len__(self) -> int:
        return len(self._snapshots)

    def __repr__(self) -> str:
        return f"<History of {len(self)} snapshots of {len(self.names)} targets>"

    def _column(self, name, dtype):
        return np.array([getattr(snapshot, name) for snapshot in self._snapshots], dtype)

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each snapshot."""
        return self._column("epoch", "int64")

    @property
    def images(self) -> np.ndarray:
        """Every image of every snapshot."""
        return self._column("images", "float32")

    @property
    def scores(self) -> np.ndarray:
        """Every score."""
        return self._column("scores", "float32")

    @property
    def status(self) -> np.ndarray:
        """Every status."""
        return self._column("status", str)

    @property
    def drift(self) -> np.ndarray:
        """How far each picture moved since the snapshot before."""
        return self._column("drift", "float32")

    @property
    def noise_floor(self) -> np.ndarray:
        """How far each picture moves with another seed."""
        return self._column("noise_floor", "float32")

    @property
    def score_ratio(self) -> np.ndarray:
        """Every score, divided by that of the best real image."""
        return self._column("score_ratio", "float32")

    @property
    def seconds(self) -> np.ndarray:
        """How long each snapshot took."""
        return self._column("seconds", "float64")

    @property
    def skipped(self) -> np.ndarray:
        """Epochs that were not looked at."""
        return np.array(self._skipped, "int64")

    def save(self, path: str | os.PathLike) -> None:
        """Writes every attribute as an array of a `.npz` file, without pickle."""
        arrays = {name: getattr(self, name) for name in (*_COLUMNS, *_REST)}
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Reads what `save` wrote, without pickle.

        Raises:
            OSError: If there is no such file.
            ValueError: If something else wrote it.

        Example:
        >>> History().save(tmp_path / "history.npz")
        >>> len(History.load(tmp_path / "history.npz"))
        0
        """
        history = cls()
        arrays = _read(path)
        history.names = arrays["names"].tolist()
        history.values_range = tuple(arrays["values_range"].tolist())
        history.compile_seconds = float(arrays["compile_seconds"])
        history._skipped = arrays["skipped"].tolist()
        for i, epoch in enumerate(arrays.pop("epochs").tolist()):
            columns = {name: arrays[name][i] for name in _COLUMNS if name in arrays}
            columns |= {"status": columns["status"].tolist(), "seconds": float(columns["seconds"])}
            history._snapshots.append(
                Snapshot(epoch, history.names, **columns, values_range=history.values_range)
            )
        return history

    def strip(
        self, path: str | os.PathLike | None = None, columns: int = 16, rows: int = 64
    ) -> np.ndarray:
        """The film strip: targets down, epochs across, the untrained network first.

        Pictures below 64 pixels are enlarged; large ones are made smaller where the
        strip would have more than twelve million pixels.

        Args:
            path: Where to write it as a picture, if anywhere.
            columns: At most so many snapshots are shown, evenly spread, the first and
                the last among them.
            rows: At most so many targets are shown, evenly spread in the same way.

        Returns:
            Uint8 array `(height, width, 3)`.

        Raises:
            ValueError: If nothing has been seen yet, or `columns` or `rows` is below 2.
        """
        self._require_snapshots()
        targets = _spread(len(self.names), rows, "rows")
        snapshots = [self._snapshots[i] for i in _spread(len(self), columns, "columns")]
        status = [[snapshot.status[i] for snapshot in snapshots] for i in targets]
        shown = [
            pictures.of_targets(snapshot.images[targets], self.values_range)
            for snapshot in snapshots
        ]
        picture = pictures.grid(
            [list(row) for row in zip(*shown, strict=True)],
            row_labels=[self.names[i] for i in targets],
            column_labels=[_label(snapshot.epoch) for snapshot in snapshots],
            captions=[["" if one == "ok" else one for one in row] for row in status],
            most_pixels=12_000_000,
        )
        if path is not None:
            pictures.to_pillow(picture).save(path)
        return picture

    def gif(self, path: str | os.PathLike | None = None, seconds: float = 0.25) -> bytes:
        """An animation of all targets with their names, one frame a snapshot.

        At most 64 targets and 64 snapshots are shown, evenly spread, the first and the
        last among them, in frames of about a million pixels at most.

        Args:
            path: Where to write it, if anywhere.
            seconds: How long a frame is shown.

        Returns:
            The file's content.

        Raises:
            ValueError: If nothing has been seen yet.
        """
        self._require_snapshots()
        targets = _spread(len(self.names), 64, "rows")
        snapshots = [self._snapshots[i] for i in _spread(len(self), 64, "columns")]
        encoded = pictures.encode_gif(
            [self._frame(snapshot, targets) for snapshot in snapshots], seconds
        )
        if path is not None:
            with open(path, "wb") as file:
                file.write(encoded)
        return encoded

    def _frame(self, snapshot, targets):
        shown = pictures.of_targets(snapshot.images[targets], self.values_range)
        texts = pictures.captions(
            [snapshot.names[i] for i in targets], np.take(snapshot.status, targets)
        )
        return pictures.sheet(
            shown, texts, title=_label(snapshot.epoch), smallest=96, most_pixels=1_000_000
        )

    def _repr_png_(self) -> bytes | None:
        return pictures.encode_png(self.strip()) if len(self) else None

    def _require_snapshots(self):
        if not self._snapshots:
            raise ValueError("Nothing to show: no epoch has been looked at yet.")


_COLUMNS = (
    "epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "seconds",
)  # fmt: skip
_REST = ("names", "values_range", "compile_seconds", "skipped")


# All that NumPy, or what it reads with, raises about a file of something else.
_NOT_OURS = (
    EOFError, KeyError, NotImplementedError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _read(path):
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in (*_COLUMNS, *_REST)}
    except _NOT_OURS:
        # Without NumPy's own advice, which may be to allow pickles, that run what is in them.
        raise ValueError(
            f"Expected a file that History.save wrote. Received: path={os.fspath(path)!r}"
        ) from None


def _spread(count, most, argument):
    if most < 2:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected 2 or more, for the first and the "
            f"last one. Received: {argument}={most!r}"
        )
    return spread(count, most)


def _label(epoch):
    return "untrained" if epoch == UNTRAINED else f"epoch {epoch}"
