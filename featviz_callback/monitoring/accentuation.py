"""Show through the epochs what each target would have more of in real images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from featviz_callback.objectives import Targets
from featviz_callback.optimization import Settings, prepare, run
from featviz_callback.records import pictures, spread


class Accentuations:
    """Optimisations that begin at some real images, the same ones at each snapshot.

    Args:
        targets: What is maximised, one element a task.
        settings: The settings of every optimisation.
        images: Array `(images, height, width, channels)`: real images as the model takes them.
        count: How many of them, spread evenly.
        to_given: Turns images into what a user gives, signals without the axis of rows.
    """

    def __init__(
        self,
        targets: Sequence[Targets],
        settings: Settings,
        images: np.ndarray,
        count: int,
        to_given: Callable,
    ):
        low, high = np.asarray(settings.values_range or (0.0, 1.0), "float32")
        chosen = np.clip(images[spread(len(images), count)].astype("float32"), low, high)
        self._images = to_given(chosen)
        self._tasks = [
            [prepare(one, replace(settings, start=image)) for image in self._images]
            for one in targets
        ]

    def draw(self, order: np.ndarray) -> list[np.ndarray]:
        """Accentuate the images on the weights of the moment, and draw one picture a target.

        Args:
            order: The index of each target among those of all tasks.

        Returns:
            Uint8 pictures `(height, width, 3)`: the given images, and below each one what it
            becomes.
        """
        found = [[run(task)[0] for task in tasks] for tasks in self._tasks]
        rows = [
            [(one.images[i], one.scores[i]) for one in results]
            for results in found
            for i in range(len(results[0]))
        ]
        values_range = self._tasks[0][0].plan.values_range
        return [_drawn(self._images, rows[i], values_range) for i in order]


def _drawn(given, accentuated, values_range):
    rows = [given, [image for image, _ in accentuated]]
    return pictures.grid(
        [list(pictures.of_targets(row, values_range)) for row in rows],
        row_labels=["real", "accentuated"],
        captions=[[""] * len(given), [f"{score:.3g}" for _, score in accentuated]],
        smallest=96,
        most_pixels=200_000,
    )
