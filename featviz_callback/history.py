"""What a callback has seen, look by look; film strips, animations, archives."""

from __future__ import annotations

import os

import numpy as np

from featviz_callback import pictures
from featviz_callback.result import Result

UNTRAINED = -1


class History:
    """Every look at a network during its training, in order.

    All images are kept, as float32: looks x targets x pixels x 4 bytes.

    Attributes:
        epochs: Int array `(looks,)`: the epoch that had just ended, from 0; -1 is
            the network before any training.
        names: One name a target.
        images: Float32 array `(looks, targets, height, width, channels)`, of signals
            `(looks, targets, time, channels)`.
        scores: Float32 array `(looks, targets)`: scores of the images, with no
            random view.
        status: Array of strings `(looks, targets)`, as `Result.status`.
        drift: Float32 array `(looks, targets)`: how far each picture is from the
            one of the look before, see `drift`. NaN at the first look.
        seconds: Float array `(looks,)`: how long each look took.
        values_range: Lowest and highest value of an image.
    """

    def __init__(self):
        self.names: list[str] = []
        self.values_range = (0.0, 1.0)
        self._looks: list[tuple] = []

    def add(self, epoch: int, result: Result, seconds: float) -> np.ndarray:
        """Keeps one look, and returns its drift `(targets,)`.

        A history is of one set of targets and one size: where those change,
        because another model is being trained, it starts again.
        """
        comparable = self.names == result.names and (
            not self._looks or self._looks[-1][1].shape == result.images.shape
        )
        if not comparable:
            self._looks.clear()
        self.names, self.values_range = list(result.names), result.values_range
        moved = np.full(len(result.names), np.nan, "float32")
        if self._looks:
            moved = drift(self._looks[-1][1], result.images)
        self._looks.append((epoch, result.images, result.scores, result.status, moved, seconds))
        return moved

    def __len__(self) -> int:
        return len(self._looks)

    def _column(self, i, dtype):
        return np.array([look[i] for look in self._looks], dtype)

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each look."""
        return self._column(0, "int64")

    @property
    def images(self) -> np.ndarray:
        """Every image of every look."""
        return self._column(1, "float32")

    @property
    def scores(self) -> np.ndarray:
        """Every score."""
        return self._column(2, "float32")

    @property
    def status(self) -> np.ndarray:
        """Every status."""
        return self._column(3, str)

    @property
    def drift(self) -> np.ndarray:
        """How far each picture moved since the look before."""
        return self._column(4, "float32")

    @property
    def seconds(self) -> np.ndarray:
        """How long each look took."""
        return self._column(5, "float64")

    def save(self, path: str | os.PathLike) -> None:
        """Writes every attribute as an array of a `.npz` file, without pickle."""
        names = ("epochs", "images", "scores", "status", "drift", "seconds")
        arrays = {name: getattr(self, name) for name in names}
        np.savez_compressed(path, names=self.names, values_range=self.values_range, **arrays)

    def strip(self, path: str | os.PathLike | None = None, columns: int = 16) -> np.ndarray:
        """The film strip: targets down, epochs across, the untrained network first.

        Args:
            path: Where to write it as a picture, if anywhere.
            columns: At most so many looks are shown, evenly spread, the first and
                the last among them.

        Returns:
            Uint8 array `(height, width, 3)`.

        Raises:
            ValueError: If nothing has been seen yet, or `columns` is below 2.
        """
        self._require_looks()
        if columns < 2:
            raise ValueError(
                "Invalid value for argument `columns`. Expected 2 or more, for the first and the "
                f"last look. Received: columns={columns!r}"
            )
        looks = np.unique(
            np.linspace(0, len(self) - 1, min(columns, len(self))).round().astype(int)
        )
        shown = [pictures.of_targets(look, self.values_range) for look in self.images[looks]]
        status = self.status[looks]
        picture = pictures.grid(
            [[look[i] for look in shown] for i in range(len(self.names))],
            row_labels=self.names,
            column_labels=[_label(epoch) for epoch in self.epochs[looks]],
            captions=np.where(status == "ok", "", status).T.tolist(),
        )
        if path is not None:
            pictures.to_pillow(picture).save(path)
        return picture

    def gif(self, path: str | os.PathLike, seconds: float = 0.25) -> None:
        """Writes an animation of all targets, one frame a look.

        Args:
            path: Where to write it.
            seconds: How long a frame is shown.

        Raises:
            ValueError: If nothing has been seen yet.
        """
        self._require_looks()
        shown = [pictures.of_targets(look, self.values_range) for look in self.images]
        columns = int(np.ceil(np.sqrt(len(self.names))))
        frames = []
        for epoch, images in zip(self.epochs, shown, strict=True):
            cells = [*images, *[None] * (-len(images) % columns)]
            rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
            frames.append(pictures.grid(rows, column_labels=[_label(epoch)]))
        with open(path, "wb") as file:
            file.write(pictures.encode_gif(frames, seconds))

    def _repr_png_(self) -> bytes:
        return pictures.encode_png(self.strip())

    def _require_looks(self):
        if not self._looks:
            raise ValueError("Nothing to show: no epoch has been looked at yet.")


def drift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far pictures have moved: one minus the correlation of their values.

    0 is the same picture, whatever its contrast and brightness; 1 is an unrelated
    one; 2 would be its negative. Each channel's mean is taken out first.

    Args:
        before: Array `(targets, height, width, channels)`, or `(targets, time, channels)`.
        after: Array of the same shape.

    Returns:
        Float32 array `(targets,)`. Of two pictures without any contrast the drift
        is 0, of one without and one with it is 1.
    """
    space = tuple(range(1, np.ndim(before) - 1))
    before, after = (
        (a - a.mean(space, keepdims=True)).reshape(len(a), -1)
        for a in (np.asarray(before, "float64"), np.asarray(after, "float64"))
    )
    lengths = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    flat = [length <= 1e-9 * np.sqrt(before.shape[1]) for length in lengths]
    products = (before * after).sum(1)
    correlation = products / np.where(flat[0] | flat[1], 1.0, lengths[0] * lengths[1])
    correlation = np.where(flat[0] & flat[1], 1.0, np.where(flat[0] | flat[1], 0.0, correlation))
    return np.clip(1 - correlation, 0, 2).astype("float32")


def _label(epoch):
    return "untrained" if epoch == UNTRAINED else f"epoch {epoch}"
