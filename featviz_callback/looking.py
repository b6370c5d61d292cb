"""One look at a network: every ascent, and what puts its pictures in proportion."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from featviz_callback import backend, inputs, pictures, ranking
from featviz_callback.activations import output_shapes, walk
from featviz_callback.ascent import Ascent
from featviz_callback.history import drift
from featviz_callback.objectives import Objective
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


@dataclass(frozen=True, eq=False, repr=False)
class Together(Objective):
    """Objectives that are read in the same way, with the targets of all of them.

    A list of a thousand is one ascent in a few chunks, not a thousand ascents. Its
    targets are alternatives, where those of a sum are combinations: it is run, and
    never added to.

    Attributes:
        model: The model of all of them.
        terms: Those of all of them.
        parts: The objectives.
    """

    parts: tuple[Objective, ...]

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for part in self.parts for name in part.names]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """What the compiled program gets of each term, see `Objective.data`."""
        columns = zip(*(part.data() for part in self.parts), strict=True)
        halves = (map(np.concatenate, zip(*column, strict=True)) for column in columns)
        return tuple((rows, multipliers) for rows, multipliers in halves)

    @property
    def reads(self) -> tuple:
        """What a program is made from, see `Objective.reads`."""
        return self.parts[0].reads


def image_shape(ascent: Ascent) -> tuple[int, ...]:
    """`(height, width, channels)` of an image that it gives, `(time, channels)` of a signal."""
    plan = ascent.plan
    return plan.image_input.to_given(np.empty(plan.image_shape)).shape


def join_alike(objectives: Sequence[Objective]) -> list[Together]:
    """Puts those together that read the same layers in the same way, in order."""
    kinds: list[list[Objective]] = []
    for one in objectives:
        found = next((kind for kind in kinds if _are_alike(kind[0], one)), None)
        if found is None:
            kinds.append([one])
        else:
            found.append(one)
    return [
        Together(kind[0].model, tuple(t for part in kind for t in part.terms), tuple(kind))
        for kind in kinds
    ]


def _are_alike(one, other):
    # Scores of one ascent are scaled by its largest multiplier, for half precision.
    return one.model is other.model and one.reads == other.reads and _scale(one) == _scale(other)


def _scale(objective):
    return max(abs(term.multiplier) for term in objective.terms)


def _require_units(objectives: Sequence[Objective]) -> None:
    """A program reads zeros, or another unit, where one is gone from a changed layer.

    Raises:
        ValueError: If a unit is not there, naming the targets.
    """
    model = objectives[0].model
    taps = list({tap: None for one in objectives for term in one.terms for tap in term.taps})
    shapes = dict(zip(taps, output_shapes(model, inputs.specs(model), taps), strict=True))
    gone = [
        name
        for objective in objectives
        for term in objective.terms
        for name, row in zip(term.names, term.data, strict=True)
        if not term.read.fits(shapes[term.taps[0]], row)
    ]
    if gone:
        more = f" and {len(gone) - 5} more" * (len(gone) > 5)
        raise ValueError(
            f"The model '{model.name}' was changed after its objectives were made, and has no "
            f"longer what these read: {', '.join(gone[:5])}{more}. Make them anew, or give a "
            "function of the model that does."
        )


class Observer:
    """Looks at one network, again and again.

    Args:
        objectives: What to look at, in the order in which it is shown.
        ascents: Those of `join_alike(objectives)`.
        real_images: Float32 array `(images, height, width, channels)` as the model
            takes them, or `None`.
        warm_start: Whether each look starts where the last one ended.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        ascents: Sequence[Ascent],
        real_images: np.ndarray | None,
        warm_start: bool,
    ):
        self._objectives = list(objectives)
        self._ascents = list(ascents)
        together = [cast(Together, ascent.objective) for ascent in ascents]
        self._order = _order(objectives, [part for one in together for part in one.parts])
        self._real_images = real_images
        self._warm_start = warm_start
        self._params = [None] * len(self._ascents)
        self._compiled = self._checked = False

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for name, _, _ in self.targets]

    @property
    def values_range(self) -> tuple[float, float]:
        """Lowest and highest value of an image."""
        return self._ascents[0].plan.values_range

    @property
    def image_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of an image, `(time, channels)` of a signal."""
        return image_shape(self._ascents[0])

    @property
    def targets(self) -> list[tuple[str, str, int | None]]:
        """Each target's name, the layer that it reads first, and that layer's place."""
        rows = []
        for objective in self._objectives:
            layer = objective.terms[0].taps[0].path
            paths = [path for path, _ in walk(objective.model)]
            order = paths.index(layer) if layer in paths else None
            rows += [(name, layer, order) for name in objective.names]
        return rows

    def look(self, with_floor: bool) -> Seen:
        """Runs every ascent on the weights that the model has now.

        Args:
            with_floor: Whether to run them with another seed too.

        Raises:
            ValueError: If the model no longer has what an objective reads.
        """
        self._check()
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

    def _check(self):
        if not self._checked:
            for objectives in self._by_model():
                _require_units(objectives)
            self._checked = True

    def _by_model(self):
        models = {id(one.model): one.model for one in self._objectives}.values()
        return [[one for one in self._objectives if one.model is model] for model in models]

    def _run(self, starts):
        runs = [self._run_one(i, start) for i, start in enumerate(starts)]
        result = _join([result for result, _ in runs], self._order)
        return result, [params for _, params in runs]

    def _floor(self, result):
        runs = [replace(ascent, seed=ascent.seed + 1).run()[0] for ascent in self._ascents]
        return drift(result.images, _join(runs, self._order).images)

    def _run_one(self, i, start):
        try:
            return self._ascents[i].run(start=start)
        except Exception as error:
            plan = self._ascents[i].plan
            fixed = plan.batch == 1 or plan.image_input.batch is not None
            if fixed or not backend.is_out_of_memory(error):
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
        """The best real images of each objective, in order."""
        ranked = {}
        for objectives in self._by_model():
            model = objectives[0].model
            ascent = next(one for one in self._ascents if one.objective.model is model)
            rankings = ranking.rank(
                objectives,
                self._real_images,
                _REAL_IMAGES_SHOWN,
                ascent.plan.image_input,
                ascent.held,
            )
            ranked |= dict(zip(map(id, objectives), rankings, strict=True))
        return [ranked[id(one)] for one in self._objectives]

    def _example(self, image, result, indices, scores):
        real = self._ascents[0].plan.image_input.to_given(self._real_images[indices])
        shown = [pictures.of_targets(some, result.values_range) for some in (image[None], real)]
        return pictures.grid(
            [[*shown[0], *shown[1]]],
            column_labels=["optimised"],
            captions=[[f"{score:.3g}" for score in scores]],
            smallest=96,
            most_pixels=200_000,
        )


def _order(objectives, placed):
    """Where each target of the objectives is among those of the same in another order."""
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
