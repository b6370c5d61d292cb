"""Take one snapshot of a network: run every optimisation, and compare with real images.

A snapshot runs the same compiled steps each time, on the weights that the model has now.
It never changes the model and writes no file. The callback decides when to take a
snapshot, and where to write it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring import ranking
from featviz_callback.objectives import JoinedTargets, Objective, require_units, walk
from featviz_callback.optimization import Task, run
from featviz_callback.records import Result, drift, pictures

logger = logging.getLogger("featviz_callback")

_REAL_IMAGES_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Observation:
    """The outcome of one snapshot.

    Attributes:
        result: Images, scores and status of all targets.
        noise_floor: Float32 array `(targets,)`: the drift to the pictures of another
            seed; `None` if it was not measured.
        score_ratio: Float32 array `(targets,)`: scores divided by those of the top
            activating real images; `None` without real images.
        examples: Uint8 pictures `(height, width, 3)`, one a target: the optimised
            image, then the top activating real images. Empty without real images.
        floor_seconds: How long the optimisations with the other seed took.
        compile_seconds: About how long compiling took.
    """

    result: Result
    noise_floor: np.ndarray | None
    score_ratio: np.ndarray | None
    examples: list[np.ndarray]
    floor_seconds: float
    compile_seconds: float


class Observer:
    """All optimisations of one network, which run at every snapshot.

    Args:
        objectives: What to maximise, in the order of the targets in a result.
        tasks: One task for each of `join_alike(objectives)`.
        real_images: Float32 array `(images, height, width, channels)` as the model
            takes them, or `None`.
        warm_start: Whether each snapshot starts where the last one ended.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        tasks: Sequence[Task],
        real_images: np.ndarray | None,
        warm_start: bool,
    ):
        self._objectives = list(objectives)
        self._tasks = list(tasks)
        joined = [cast(JoinedTargets, task.targets) for task in tasks]
        self._order = _order(objectives, [part for one in joined for part in one.parts])
        self._real_images = real_images
        self._warm_start = warm_start
        self._params = [None] * len(self._tasks)
        self._compiled = self._checked = False

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for name, _, _ in self.targets]

    @property
    def values_range(self) -> tuple[float, float]:
        """Lowest and highest value of an image."""
        return self._tasks[0].plan.values_range

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of an image, `(time, channels)` of a signal."""
        return self._tasks[0].result_shape

    @property
    def targets(self) -> list[tuple[str, str, int | None]]:
        """Name, first layer and position of that layer in the model, for each target."""
        rows = []
        for objective in self._objectives:
            layer = objective.terms[0].taps[0].path
            paths = [path for path, _ in walk(objective.model)]
            order = paths.index(layer) if layer in paths else None
            rows += [(name, layer, order) for name in objective.names]
        return rows

    def take_snapshot(self, with_floor: bool) -> Observation:
        """Run every optimisation on the weights that the model has now.

        Args:
            with_floor: Whether to run every optimisation with another seed too, for the
                noise floor of drift.

        Raises:
            ValueError: If the model no longer has a unit that an objective reads.
        """
        self._check()
        began = time.perf_counter()
        result, params = self._run(self._params)
        ran = time.perf_counter()
        floor = self._floor(result) if with_floor else None
        floored = time.perf_counter()
        if self._warm_start:
            self._params = params
        # The second run of the same compiled steps compiles nothing.
        compiling = 0.0 if self._compiled or not with_floor else (ran - began) - (floored - ran)
        self._compiled = True
        ratio, examples = self._compare_with_real(result)
        return Observation(result, floor, ratio, examples, floored - ran, max(0.0, compiling))

    def _check(self):
        if not self._checked:
            for objectives in self._by_model():
                require_units(objectives)
            self._checked = True

    def _by_model(self):
        models = {id(one.model): one.model for one in self._objectives}.values()
        return [[one for one in self._objectives if one.model is model] for model in models]

    def _run(self, starts):
        runs = [self._run_one(i, start) for i, start in enumerate(starts)]
        result = _join([result for result, _ in runs], self._order)
        return result, [params for _, params in runs]

    def _floor(self, result):
        runs = [run(replace(task, seed=task.seed + 1))[0] for task in self._tasks]
        return drift(result.images, _join(runs, self._order).images)

    def _run_one(self, i, start):
        try:
            return run(self._tasks[i], start=start)
        except Exception as error:
            plan = self._tasks[i].plan
            fixed = plan.batch == 1 or plan.image_input.batch is not None
            if fixed or not backend.is_out_of_memory(error):
                raise
        # Outside of the handler, since the error keeps the first try's tensors in memory.
        plan = replace(plan, batch=math.ceil(plan.batch / 2))
        self._tasks[i] = replace(self._tasks[i], plan=plan)
        logger.warning(
            "Out of memory in the optimisation: from now on it takes %d images at a time. "
            "`batch_size` sets the number.",
            plan.batch,
        )
        return run(self._tasks[i], start=start)

    def _compare_with_real(self, result):
        if self._real_images is None:
            return None, []
        rankings = self._rank()
        indices = np.concatenate([one.indices for one in rankings])
        scores = np.concatenate([one.scores for one in rankings])
        best = np.where(scores[:, 0] > 0, scores[:, 0], np.nan)
        examples = [
            self._example(image, result, indices[i], [result.scores[i], *scores[i]])
            for i, image in enumerate(result.images)
        ]
        return (result.scores / best).astype("float32"), examples

    def _rank(self):
        """Return the top activating real images of each objective, in order."""
        ranked = {}
        for objectives in self._by_model():
            model = objectives[0].model
            task = next(one for one in self._tasks if one.targets.model is model)
            rankings = ranking.rank(
                objectives,
                self._real_images,
                _REAL_IMAGES_SHOWN,
                task.plan.image_input,
                task.fixed_inputs,
            )
            ranked |= dict(zip(map(id, objectives), rankings, strict=True))
        return [ranked[id(one)] for one in self._objectives]

    def _example(self, image, result, indices, scores):
        real = self._tasks[0].plan.image_input.to_given(self._real_images[indices])
        shown = [pictures.of_targets(some, result.values_range) for some in (image[None], real)]
        return pictures.grid(
            [[*shown[0], *shown[1]]],
            column_labels=["optimised"],
            captions=[[f"{score:.3g}" for score in scores]],
            smallest=96,
            most_pixels=200_000,
        )


def _order(objectives, placed):
    """Return the index of each target of `objectives` among the targets of `placed`."""
    firsts = np.cumsum([0, *map(len, placed)])
    first = dict(zip(map(id, placed), firsts, strict=False))
    return np.concatenate([first[id(one)] + np.arange(len(one)) for one in objectives])


def _join(results, order):
    names = [name for r in results for name in r.names]
    status = [status for r in results for status in r.status]
    return Result(
        images=np.concatenate([r.images for r in results])[order],
        names=[names[i] for i in order],
        scores=np.concatenate([r.scores for r in results])[order],
        history=np.concatenate([r.history for r in results], axis=1)[:, order],
        status=[status[i] for i in order],
        values_range=results[0].values_range,
    )
