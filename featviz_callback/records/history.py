"""The history of a training: its snapshots, and their film strips, animations and archives.

`History` is a list of snapshots with a limit on its memory. It reads and writes archives
without pickle, and never runs a model.
"""

from __future__ import annotations

import logging
import os
import zipfile
import zlib
from dataclasses import replace
from functools import partial

import numpy as np

from featviz_callback.records import pictures
from featviz_callback.records.behaviour import Behaviour, settled
from featviz_callback.records.drift import drift
from featviz_callback.records.health import Health
from featviz_callback.records.result import Result, as_range
from featviz_callback.records.snapshot import Snapshot
from featviz_callback.records.spread import spread

logger = logging.getLogger("featviz_callback")

UNTRAINED = -1


class History:
    """All snapshots of a network during its training, in order.

    Images are float32 and take snapshots x targets x pixels x 4 bytes, at most
    `most_bytes`. Beyond this limit, each new snapshot removes the one that is closest to
    its neighbours, so that the remaining snapshots are spread evenly. The first and the
    last are never removed. The first removal is logged. Event files keep every snapshot.

    Args:
        most_bytes: Memory for images, in bytes, by default 256 MiB. Two snapshots are
            always kept.

    Attributes:
        most_bytes: The limit, which you may set at any time.
        epochs: Int array `(snapshots,)`: the epoch that had just ended, from 0; -1 is
            the network before any training.
        names: One name a target.
        images: Float32 array `(snapshots, targets, height, width, channels)`, of signals
            `(snapshots, targets, time, channels)`; a copy.
        scores: Float32 array `(snapshots, targets)`: scores of the images, without
            random transformation.
        status: Array of strings `(snapshots, targets)`, as `Result.status`.
        drift: Float32 array `(snapshots, targets)`: how far each picture is from the
            one of the snapshot before, see `drift`. NaN at the first snapshot. It stays as it
            was measured: once the snapshot before is removed for lack of room, it is still the
            drift since that one, and the drift up to the removed one is gone with it.
        noise_floor: Float32 array `(snapshots, targets)`: the drift between two seeds on
            the weights of that snapshot. A picture whose drift is below this floor has
            moved less than another seed would have moved it. The floor takes a second
            optimisation, so the callback measures it only at the first and the last
            snapshot of each `fit`; NaN at the others.
        score_ratio: Float32 array `(snapshots, targets)`: the score divided by that of
            the best real image; NaN without `probe_data`, and where no real image
            scores above 0.
        starts: Array of strings `(snapshots, targets)`, as `Result.starts`. A target keeps
            its start for as long as it has a gradient there and is not weak, so that
            pictures can be compared.
        seconds: Float array `(snapshots,)`: how long each snapshot took, without compiling; of
            one that a worker took, the seconds that it took there.
        compile_seconds: About how long compiling took: by how much the first call of each
            compiled step took longer than the second one.
        functional_drift: Float32 array `(snapshots, targets)`: how much has changed what
            the unit does, where `drift` says how much its picture has. It is one minus
            Spearman's correlation of its scores of the real images with those at the
            snapshot before: 0 on equal weights, 1 if they have nothing in common. NaN at
            the first snapshot, at the first one of a resumed training, and without
            `probe_data`, as are the four below.
        top_overlap: Float32 array `(snapshots, targets)`: of the nine top activating images
            of this snapshot and the one before, the share that is in both. Images that
            score the same as the tenth are not among them. NaN with fewer than 18 images.
        selectivity: Float32 array `(snapshots, targets)`: area under the ROC curve that
            tells the unit's best class from all others by its score; 1 is perfect, and 0.5
            is chance. Classes of fewer than 5 images are never the best one, so it may be
            below 0.5. NaN if `probe_data` has no class labels, as `(x, y)` has: whole
            numbers or strings, rows with a single 1 (smoothed or not), or 0 and 1 for each
            of several labels, of which the best one counts. The label -1 leaves an image
            out, unless all others are 1.
        best_class: Array of strings `(snapshots, targets)`: the name of that class.
        active_share: Float32 array `(snapshots, targets)`: the share of real images that
            score above 0.
        importance: Uint8 array `(snapshots, targets, height, width)`: where the score of each
            picture comes from, see `Result.importance`, as 255 times a share of the largest,
            at most 56 pixels a side. `None` where a snapshot has none: for signals, for
            a parameterization that cannot tell, and for logs and archives without it.
        settled: Int array `(targets,)`: the first epoch from which on, to the end, all
            later snapshots have a drift below the noise floor (the larger one of the first
            and the last snapshot) and a functional drift below 0.05. There must be three
            such snapshots at least. -2 for a target that has not settled. Snapshots that were
            removed for lack of room say nothing any more, so a drift of theirs above the floor
            is forgotten: `most_bytes` keeps more.
        health: The numbers of every layer, a `Health`.
        skipped: Int array: epochs whose snapshot was skipped to keep within
            `max_overhead`, or lost with a worker.
        values_range: As `Result.values_range`.

    Example:
    >>> image, score = np.zeros((1, 8, 8, 1)), np.zeros(1)
    >>> result = Result(image, ["a"], score, score[None], ["ok"], (0.0, 1.0))
    >>> history = History()
    >>> for epoch in (-1, 0):
    ...     _ = history.add(epoch, result)
    >>> history.epochs, history.images.shape, history.drift.tolist()
    (array([-1,  0]), (2, 1, 8, 8, 1), [[nan], [0.0]])
    """

    def __init__(self, most_bytes: int = 2**28):
        self.most_bytes = most_bytes
        self.names: list[str] = []
        self.values_range: tuple = (0.0, 1.0)
        self.compile_seconds = 0.0
        self.health = Health()
        self._skipped: list[int] = []
        self._snapshots: list[Snapshot] = []
        self._has_warned = False

    def add(
        self,
        epoch: int,
        result: Result,
        seconds: float = 0.0,
        noise_floor: np.ndarray | None = None,
        score_ratio: np.ndarray | None = None,
        behaviour: Behaviour | None = None,
    ) -> Snapshot:
        """Add one snapshot, and return it with its drift.

        A history has one set of targets and one size of images. If either changes,
        because another model is being trained, the history starts again.

        Args:
            epoch: The epoch that has just ended; -1 before any.
            result: What `optimize` returned.
            seconds: How long the snapshot took.
            noise_floor: Float32 array `(targets,)`; NaN where it is not given.
            score_ratio: Float32 array `(targets,)`; NaN where it is not given.
            behaviour: What the units do on real images; NaN where it is not given.

        Returns:
            The snapshot that was added.
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
            starts=list(result.starts or [""] * len(result.names)),
            **vars(behaviour or Behaviour.unknown(len(result.names))),
            importance=_importance_of(result),
        )
        self._append(snapshot)
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Add a snapshot of an earlier process, and remove those of its epoch and later."""
        self.forget(snapshot.epoch)
        self._append(snapshot)

    def forget(self, epoch: int) -> None:
        """Remove the snapshots at the end that are of that epoch or later."""
        while self._snapshots and self._snapshots[-1].epoch >= epoch:
            self._snapshots.pop()
        self.health.forget(epoch)

    def skip(self, epoch: int) -> None:
        """Note that an epoch has no snapshot."""
        self._skipped.append(int(epoch))

    def set_seconds(self, seconds: float) -> None:
        """Set how long the last snapshot took, once all of it is written."""
        self._snapshots[-1] = replace(self._snapshots[-1], seconds=seconds)

    def set_noise_floor(self, noise_floor: np.ndarray) -> None:
        """Set the noise floor of the last snapshot, once it is known to be the last one."""
        self._snapshots[-1] = replace(self._snapshots[-1], noise_floor=noise_floor)

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
            self.health = Health()
        self.names, self.values_range = snapshot.names, snapshot.values_range
        # A loop of the user's own ends without notice, after an epoch that was skipped.
        self._skipped = [epoch for epoch in self._skipped if epoch != snapshot.epoch]
        self._snapshots.append(snapshot)
        while len(self) > 2 and len(self) * snapshot.images.nbytes > self.most_bytes:
            self._warn()
            gaps = np.abs(self.epochs[2:] - self.epochs[:-2])
            del self._snapshots[int(gaps.argmin()) + 1]

    def _warn(self):
        """Log, at the first removal only, that snapshots are removed from now on."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "The images of the history have reached its limit of %.4g MiB, so each new "
                "snapshot now removes an older one from memory; to keep more, set "
                "`callback.history.most_bytes` to more bytes.",
                self.most_bytes / 2**20,
            )

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
        """The drift of each picture since the snapshot before."""
        return self._column("drift", "float32")

    @property
    def noise_floor(self) -> np.ndarray:
        """The drift of each picture between two seeds."""
        return self._column("noise_floor", "float32")

    @property
    def score_ratio(self) -> np.ndarray:
        """Every score, divided by that of the best real image."""
        return self._column("score_ratio", "float32")

    @property
    def starts(self) -> np.ndarray:
        """What every optimisation began from."""
        return self._column("starts", str)

    @property
    def functional_drift(self) -> np.ndarray:
        """How much has changed, since the snapshot before, what each unit does."""
        return self._column("functional_drift", "float32")

    @property
    def top_overlap(self) -> np.ndarray:
        """The share of top activating images that are those of the snapshot before."""
        return self._column("top_overlap", "float32")

    @property
    def selectivity(self) -> np.ndarray:
        """How well each unit tells its best class from all others."""
        return self._column("selectivity", "float32")

    @property
    def best_class(self) -> np.ndarray:
        """The class that each unit tells best from all others."""
        return self._column("best_class", str)

    @property
    def active_share(self) -> np.ndarray:
        """The share of real images that activate each unit."""
        return self._column("active_share", "float32")

    @property
    def importance(self) -> np.ndarray | None:
        """Where the score of each picture comes from."""
        found = [snapshot.importance for snapshot in self._snapshots]
        known = [one for one in found if one is not None]
        return np.stack(known) if known and len(known) == len(found) else None

    @property
    def settled(self) -> np.ndarray:
        """The epoch at which each target has settled, -2 if it has not."""
        numbers = self.drift, self.noise_floor, self.functional_drift
        return settled(self.epochs, *(one.reshape(len(self), len(self.names)) for one in numbers))

    @property
    def seconds(self) -> np.ndarray:
        """The seconds that each snapshot took."""
        return self._column("seconds", "float64")

    @property
    def skipped(self) -> np.ndarray:
        """The epochs whose snapshot was skipped."""
        return np.array(self._skipped, "int64")

    def save(self, path: str | os.PathLike) -> None:
        """Write every attribute as an array of a `.npz` file, without pickle."""
        arrays = {name: getattr(self, name) for name in (*_COLUMNS, *_REST)}
        arrays |= self.health.arrays()
        if self.importance is not None:
            arrays["importance"] = self.importance
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Read what `save` wrote, without pickle.

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
        history.values_range = as_range(arrays["values_range"])
        history.compile_seconds = float(arrays["compile_seconds"])
        history._skipped = arrays["skipped"].tolist()
        history.health = Health.from_arrays(arrays)
        for i, epoch in enumerate(arrays.pop("epochs").tolist()):
            columns = {name: arrays[name][i] for name in _COLUMNS if name in arrays}
            columns |= {name: columns[name].tolist() for name in ("status", *_LISTS)}
            columns["seconds"] = float(columns["seconds"])
            columns["importance"] = arrays["importance"][i] if "importance" in arrays else None
            history._snapshots.append(
                Snapshot(epoch, history.names, **columns, values_range=history.values_range)
            )
        return history

    def strip(
        self,
        path: str | os.PathLike | None = None,
        columns: int = 16,
        rows: int = 64,
        importance: bool = False,
    ) -> np.ndarray:
        """Draw the film strip: targets down, epochs across, the untrained network first.

        Below a picture stand its status, if it is not "ok", and its score as a multiple of
        the best real image's, if there are real images. Pictures below 64 pixels are
        enlarged. Large pictures are reduced if the strip would have more than twelve million
        pixels.

        Args:
            path: The picture file to write, if any.
            columns: The most snapshots to show. They are evenly spread, the first and
                the last among them.
            rows: The most targets to show, evenly spread in the same way.
            importance: Whether pictures fade where the score depends little on them.

        Returns:
            Uint8 array `(height, width, 3)`.

        Raises:
            ValueError: If there is no snapshot yet, if `columns` or `rows` is below 2, or if
                there is no importance to show.
        """
        picture = pictures.grid(**self._strip(columns, rows, importance))
        if path is not None:
            pictures.save(picture, path)
        return picture

    def encoded_strip(self) -> pictures.Png:
        """Return the film strip as a PNG, which takes less memory than its array."""
        drawn = pictures.draw_grid(**self._strip())
        drawn = drawn if drawn.mode == "RGB" else drawn.convert("RGB")
        return pictures.Png(pictures.encode_png(drawn), drawn.size[::-1])

    def _strip(self, columns=16, rows=64, importance=False):
        """Return the arguments of `pictures.grid`."""
        self._require_snapshots()
        targets = _spread(len(self.names), rows, "rows")
        snapshots = [self._snapshots[i] for i in _spread(len(self), columns, "columns")]
        for snapshot in snapshots:
            if importance and snapshot.importance is None:
                raise ValueError(
                    "Invalid value for argument `importance`. Expected a history of images whose "
                    f"importance is known. Received: importance=True, and none at epoch "
                    f"{snapshot.epoch}"
                )

        def draw(place):
            snapshot, i = place
            picture = self._picture(snapshot, i)
            return pictures.faded(picture, snapshot.importance[i]) if importance else picture

        return {
            "pictures": [[(snapshot, i) for snapshot in snapshots] for i in targets],
            "row_labels": [self.names[i] for i in targets],
            "column_labels": [epoch_label(snapshot.epoch) for snapshot in snapshots],
            "captions": [[_caption(snapshot, i) for snapshot in snapshots] for i in targets],
            "most_pixels": 12_000_000,
            "draw": draw,
        }

    def _picture(self, snapshot, i):
        [picture] = pictures.of_targets([snapshot.images[i]], self.values_range)
        return picture

    def gif(self, path: str | os.PathLike | None = None, seconds: float = 0.25) -> bytes:
        """Draw an animation of all targets with their names, one frame a snapshot.

        The animation shows at most 64 targets and 64 snapshots, evenly spread, the first
        and the last among them. A frame has at most about a million pixels.

        Args:
            path: The file to write, if any.
            seconds: How long a frame is shown.

        Returns:
            The file's content.

        Raises:
            ValueError: If there is no snapshot yet.
        """
        self._require_snapshots()
        targets = _spread(len(self.names), 64, "rows")
        snapshots = [self._snapshots[i] for i in _spread(len(self), 64, "columns")]
        encoded = pictures.encode_gif(
            (self._frame(snapshot, targets) for snapshot in snapshots), seconds
        )
        if path is not None:
            with open(path, "wb") as file:
                file.write(encoded)
        return encoded

    def _frame(self, snapshot, targets):
        texts = pictures.captions(
            [snapshot.names[i] for i in targets], np.take(snapshot.status, targets)
        )
        return pictures.sheet(
            targets,
            texts,
            title=epoch_label(snapshot.epoch),
            smallest=96,
            most_pixels=1_000_000,
            draw=partial(self._picture, snapshot),
        )

    def _repr_png_(self) -> bytes | None:
        return self.encoded_strip().content if len(self) else None

    def _require_snapshots(self):
        if not self._snapshots:
            raise ValueError("Nothing to show: there is no snapshot yet.")


_COLUMNS = (
    "epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "starts",
    "functional_drift", "top_overlap", "selectivity", "best_class", "active_share", "seconds",
)  # fmt: skip
_LISTS = ("starts", "best_class")
# The first archives have none of these.
_LATER = ("functional_drift", "top_overlap", "selectivity", "active_share")
_REST = ("names", "values_range", "compile_seconds", "skipped")


# The errors that NumPy and its readers raise about a file that something else wrote.
_NOT_OURS = (
    EOFError, KeyError, NotImplementedError, TypeError, ValueError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _name_in(archive, name):
    """The name of an array in an archive; the noise floor had another one at first."""
    return "drift_floor" if name == "noise_floor" and "drift_floor" in archive else name


def _unknown(status):
    """Return what the first archives do not have, as not known."""
    numbers = dict.fromkeys(_LATER, np.full(status.shape, np.nan, "float32"))
    return {**numbers, **dict.fromkeys(_LISTS, np.full(status.shape, "")), **Health().arrays()}


def _importance_of(result):
    found = result.importance
    return pictures.of_importance(found) if found is not None and found.ndim == 3 else None


def _read(path):
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = _unknown(archive["status"])
            for name in (*_COLUMNS, *_REST, *arrays):
                if name not in arrays or name in archive:
                    arrays[name] = archive[_name_in(archive, name)]
            if "importance" in archive:
                arrays["importance"] = archive["importance"]
            return arrays
    except _NOT_OURS:
        # NumPy's own advice may be to allow pickles, which run the code in them.
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


def epoch_label(epoch: int) -> str:
    """Return what a snapshot of an epoch is called."""
    return "untrained" if epoch == UNTRAINED else f"epoch {epoch}"


def _caption(snapshot, i):
    """Return a status other than "ok", and how the score compares with real images."""
    status, ratio = snapshot.status[i], snapshot.shown_ratio(i, digits=2)
    parts = ["" if status == "ok" else status, f"{ratio:.2g}x" if np.isfinite(ratio) else ""]
    return " ".join(filter(None, parts))
