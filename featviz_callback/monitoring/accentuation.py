"""Show through the epochs what each target would have more of in real images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any

import numpy as np

from featviz_callback.optimization import Task, run
from featviz_callback.records import pictures


class Accentuations:
    """Optimisations that begin at some real images, the same ones at each snapshot.

    Args:
        images: For each optimisation, float32 array `(images, height, width, channels)`: the
            real images as its model takes them, signals without the axis of rows.
        tasks: For each optimisation, one task an image, which begins there.

    Attributes:
        before: Starts and status of each run at the snapshot before.
    """

    def __init__(self, images: Sequence[np.ndarray], tasks: Sequence[Sequence[Task]]):
        self._images = list(images)
        self._tasks = list(tasks)
        self.before: list[list[dict[str, Any]]] = _nothing_of(self._tasks)

    def keep(self, is_kept: Sequence[bool]) -> None:
        """Leave out the optimisations that are not to be kept."""
        self._tasks = list(compress(self._tasks, is_kept))
        self._images = list(compress(self._images, is_kept))
        self.before = _nothing_of(self._tasks)

    def forget(self) -> None:
        """Let every target try all starts and manners again at the next snapshot."""
        self.before = _nothing_of(self._tasks)

    def draw(self, order: np.ndarray) -> list[np.ndarray]:
        """Accentuate the images on the weights of the moment, and draw one picture a target.

        A target without any gradient has tried all manners at an earlier snapshot, and is not
        tried in vain at each, see `run`.

        Args:
            order: The index of each target among those of all tasks.

        Returns:
            Uint8 pictures `(height, width, 3)`: the given images, and below each one what it
            becomes.
        """
        found = [
            [run(task, **given)[0] for task, given in zip(*pair, strict=True)]
            for pair in zip(self._tasks, self.before, strict=True)
        ]
        self.before = [
            [{"starts": one.starts, "status": one.status} for one in results] for results in found
        ]
        values_range = self._tasks[0][0].plan.values_range
        drawn = [
            _drawn(given, [(one.images[i], one.scores[i]) for one in results], values_range)
            for given, results in zip(self._images, found, strict=True)
            for i in range(len(results[0]))
        ]
        return [drawn[i] for i in order]


def _nothing_of(tasks):
    return [[{} for _ in some] for some in tasks]


def _drawn(given, accentuated, values_range):
    rows = [given, [image for image, _ in accentuated]]
    return pictures.grid(
        [list(pictures.of_targets(row, values_range)) for row in rows],
        row_labels=["real", "accentuated"],
        captions=[[""] * len(given), [f"{score:.3g}" for _, score in accentuated]],
        smallest=96,
        most_pixels=200_000,
    )
