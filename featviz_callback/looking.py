"""One look at a network: every ascent, and what puts its pictures in proportion."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featviz_callback import backend, pictures, ranking
from featviz_callback.activations import walk
from featviz_callback.history import drift
from featviz_callback.optimization import Ascent
from featviz_callback.result import Result

logger = logging.getLogger("featviz_callback")

_REAL_IMAGES_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Seen:
    """What one look gave.

    Attributes:
        result: Images, scores and status of all targets.
        drift_floor: Float32 array `(targets,)`: the drift to the pictures of another
            seed; `None` where it was not measured.
        score_ratio: Float32 array `(targets,)`: scores divided by those of the best
            real images; `None` without these.
        examples: Uint8 pictures `(height, width, 3)`, one a target: the optimised
            image, then the best real ones. Empty without these.
        floor_seconds: How long the ascents of the other seed took.
        compile_seconds: About how long compiling took.
    """

    result: Result
    drift_floor: np.ndarray | None
    score_ratio: np.ndarray | None
    examples: list[np.ndarray]
    floor_seconds: float
    compile_seconds: float


class Observer:
    """Looks at one network, again and again.

    Args:
        ascents: What to look at.
        real_images: Float32 array `(images, height, width, channels)` as the model
            takes them, or `None`.
        warm_start: Whether each look starts where the last one ended.
    """

    def __init__(self, ascents: Sequence[Ascent], real_images: np.ndarray | None, warm_start: bool):
        self._ascents = list(ascents)
        self._real_images = real_images
        self._warm_start = warm_start
        self._params = [None] * len(self._ascents)
        self._compiled = False

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for name, _, _ in self.targets]

    @property
    def values_range(self) -> tuple[float, float]:
        """Lowest and highest value of an image."""
        return self._ascents[0].plan.values_range

    @property
    def targets(self) -> list[tuple[str, str, int | None]]:
        """Each target's name, the layer that it reads first, and that layer's place."""
        rows = []
        for objective in (ascent.objective for ascent in self._ascents):
            layer = objective.terms[0].taps[0].path
            paths = [path for path, _ in walk(objective.model)]
            order = paths.index(layer) if layer in paths else None
            rows += [(name, layer, order) for name in objective.names]
        return rows

    def look(self, with_floor: bool) -> Seen:
        """Runs every ascent on the weights that the model has now.

        Args:
            with_floor: Whether to run them with another seed too.
        """
        began = time.perf_counter()
        result, params = self._run(self._params)
        ran = time.perf_counter()
        floor = self._floor(result) if with_floor else None
        floored = time.perf_counter()
        if self._warm_start:
            self._params = params
        # The second run of the same programs had nothing to compile.
        compiling = 0.0 if self._compiled or not with_floor else (ran - began) - (floored - ran)
        self._compiled = True
        ratio, examples = self._compare_with_real(result)
        return Seen(result, floor, ratio, examples, floored - ran, max(0.0, compiling))

    def _run(self, starts):
        runs = [self._run_one(i, start) for i, start in enumerate(starts)]
        return _join([result for result, _ in runs]), [params for _, params in runs]

    def _floor(self, result):
        runs = [replace(ascent, seed=ascent.seed + 1).run() for ascent in self._ascents]
        return drift(result.images, np.concatenate([run.images for run, _ in runs]))

    def _run_one(self, i, start):
        try:
            return self._ascents[i].run(start=start)
        except Exception as error:
            plan = self._ascents[i].plan
            if plan.batch == 1 or not backend.is_out_of_memory(error):
                raise
        # Outside of the handler, where nothing of the first try is alive any more.
        plan = replace(plan, batch=math.ceil(plan.batch / 2))
        self._ascents[i] = replace(self._ascents[i], plan=plan)
        logger.warning(
            "Out of memory in the ascent: from now on %d images at a time. `batch_size` sets it.",
            plan.batch,
        )
        return self._ascents[i].run(start=start)

    def _compare_with_real(self, result):
        if self._real_images is None:
            return None, []
        rankings = [
            ranking.rank(
                ascent.objective,
                self._real_images,
                _REAL_IMAGES_SHOWN,
                ascent.plan.image_input,
                ascent.held,
            )
            for ascent in self._ascents
        ]
        indices = np.concatenate([one.indices for one in rankings])
        scores = np.concatenate([one.scores for one in rankings])
        best = np.where(scores[:, 0] > 0, scores[:, 0], np.nan)
        examples = [
            self._example(image, result, indices[i], [result.scores[i], *scores[i]])
            for i, image in enumerate(result.images)
        ]
        return (result.scores / best).astype("float32"), examples

    def _example(self, image, result, indices, scores):
        optimised = pictures.to_uint8(image, result.values_range)
        real = pictures.to_uint8(self._real_images[indices], result.values_range)
        return pictures.grid(
            [[optimised, *real]],
            column_labels=["optimised"],
            captions=[[f"{score:.3g}" for score in scores]],
            smallest=96,
            most_pixels=200_000,
        )


def _join(results):
    return Result(
        images=np.concatenate([r.images for r in results]),
        names=[name for r in results for name in r.names],
        scores=np.concatenate([r.scores for r in results]),
        history=np.concatenate([r.history for r in results], axis=1),
        status=[status for r in results for status in r.status],
        values_range=results[0].values_range,
    )
