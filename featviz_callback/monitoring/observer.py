"""Take one snapshot of a network: run every optimisation, and compare with real images.

A snapshot runs the same compiled steps each time, on the weights that the model has now.
It never changes the model and writes no file. The callback decides when to take a
snapshot, and where to write it.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring.accentuation import Accentuations
from featviz_callback.monitoring.behaviour import Classes, UnitMeter
from featviz_callback.monitoring.checkup import HealthMeter, prefixes
from featviz_callback.monitoring.health import UNIT_KINDS
from featviz_callback.monitoring.places import Places
from featviz_callback.monitoring.real_images import ShownImage, draw_beside, drawn_before
from featviz_callback.objectives import (
    JoinedTargets,
    Objective,
    Tap,
    require_units,
    score_all,
    walk,
    warn_once,
)
from featviz_callback.optimization import (
    Task,
    compile_seconds,
    digest,
    digest_architecture,
    digest_task,
    find_starts,
    models_unchanged,
    pass_seconds,
    ranking,
    run,
)
from featviz_callback.optimization.comparison import best_known, score_ratio, verdict
from featviz_callback.records import Behaviour, Checkup, Result, Snapshot, drift, pictures
from featviz_callback.records.pictures import Picture, Png

logger = logging.getLogger("featviz_callback")

_REAL_IMAGES_SHOWN = 6

_NAMES_LISTED = 10

# Drawings of larger images would take tens of megabytes between snapshots.
_LARGEST_KEPT = 3 * 64 * 64


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
            image, then the top activating real images, and where these activate the
            target. Empty without real images.
        shown: The top activating real images of each target, best first. Empty without
            real images.
        accentuated: Uint8 pictures `(height, width, 3)`, one a target: real images, and what
            the target makes of them. Empty unless asked for.
        behaviour: What the units do on the real images; `None` without any.
        checkup: The numbers of every layer.
        histograms: Of the activations of each layer, see `LayerMeter`.
        floor_seconds: How long the optimisations with the other seed took.
        compile_seconds: About how long compiling took.
        pictures: The optimised images as PNGs, one a target; `None` where nobody has encoded
            them yet.
    """

    result: Result
    noise_floor: np.ndarray | None
    score_ratio: np.ndarray | None
    examples: Sequence[Picture]
    shown: list[list[ShownImage]]
    accentuated: Sequence[Picture]
    behaviour: Behaviour | None
    checkup: Checkup
    histograms: dict[str, np.ndarray]
    floor_seconds: float
    compile_seconds: float
    pictures: list[Png] | None = None


class Observer:
    """All optimisations of one network, which run at every snapshot.

    Args:
        objectives: What to maximise, in the order of the targets in a result.
        tasks: One task for each of `join_alike(objectives)`.
        real_images: Array `(images, height, width, channels)` as the model takes them, or
            `None`.
        warm_start: Whether each snapshot starts where the last one ended.
        accentuations: The optimisations that begin at real images, one a task.
        trained: The model that is trained, if it has more layers than that of the objectives.
        classes: The class of each real image, if it is known.
        others: The real images of models that get others than the first one, by the identity
            of the model; as many.

    Attributes:
        is_range_doubtful: Whether training may scale the real images before the models get them.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        tasks: Sequence[Task],
        real_images: np.ndarray | None,
        warm_start: bool,
        accentuations: Accentuations | None = None,
        trained: keras.Model | None = None,
        classes: Classes | None = None,
        others: Mapping[int, np.ndarray] | None = None,
    ):
        self._objectives = list(objectives)
        self._tasks = list(tasks)
        joined = [cast(JoinedTargets, task.targets) for task in tasks]
        self._order = _order(objectives, [part for one in joined for part in one.parts])
        self._real_images = real_images
        self.is_range_doubtful = False
        self._warm_start = warm_start
        self._accentuations = accentuations
        self._accentuates = accentuations is not None
        self._units = UnitMeter(classes)
        models = list({id(one.model): one.model for one in objectives}.values())
        found = prefixes(models, trained)
        self._prefixes = list(zip(models, found, strict=True))
        self._health = HealthMeter(dict(zip(found, models, strict=True)), trained)
        self._params: list[np.ndarray | None] = [None] * len(self._tasks)
        self._starts: list[str] = []
        self._status: list[str] = []
        # In the order of the models, since another process has models of its own.
        self._others = [(others or {}).get(id(model)) for model in models]
        self._places = (
            [] if real_images is None else [Places(self.real_images_of(one)) for one in models]
        )
        # The real images of each target in the last snapshot, with what is drawn of them.
        self._shown: list[list[ShownImage]] = []
        self._checked = False
        # The prefixes of the models whose layers cannot be measured.
        self._unwatchable: frozenset[str] = frozenset()
        # What to go on from, once it is known which targets are left.
        self._earlier: tuple[Snapshot, list] | None = None

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for name, _, _ in self.targets]

    @property
    def models(self) -> list[keras.Model]:
        """The models of all objectives, also of those that were left out."""
        return [model for model, _ in self._prefixes]

    @property
    def tasks(self) -> list[Task]:
        """The optimisations."""
        return list(self._tasks)

    @property
    def real_images(self) -> list[np.ndarray]:
        """The real images as each of the models takes them; none without any."""
        if self._real_images is None:
            return []
        return [self._real_images if own is None else own for own in self._others]

    def real_images_of(self, model: keras.Model) -> np.ndarray:
        """Return the real images as a model takes them."""
        return self.real_images[self._number_of(model)]

    def _number_of(self, model):
        return next(i for i, one in enumerate(self.models) if one is model)

    @property
    def values_range(self) -> tuple:
        """Lowest and highest value of an image, as `Result.values_range`."""
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
            tap = objective.terms[0].taps[0]
            paths = [path for path, _ in walk(objective.model)]
            order = paths.index(tap.path) if tap.path in paths else None
            rows += [(name, tap.prefix + tap.path, order) for name in objective.names]
        return rows

    @property
    def digest(self) -> str:
        """A hash of all that pictures depend on, except the weights."""
        networks = list(map(digest_architecture, self.models))
        tasks = list(map(digest_task, self._tasks))
        return digest(tasks, networks, self.real_images, self._warm_start)

    @models_unchanged()
    def take_snapshot(self, with_floor: bool) -> Observation:
        """Run every optimisation on the weights that the model has now.

        Args:
            with_floor: Whether to run every optimisation with another seed too, for the
                noise floor of drift.

        Raises:
            ValueError: If the model no longer has a unit that an objective reads.
        """
        self.check()
        compiled_before = self._compile_seconds()
        rankings = self.rank()
        best = [self.best_of(task, rankings) for task in self._tasks]
        is_warm = any(params is not None for params in self._params)
        if with_floor:
            # What has found nothing for long gets another chance.
            self._status = ["" if one == "no_gradient" else one for one in self._status]
            if self._accentuations is not None:
                self._accentuations.forget()
        result = self._run(best)
        ran = time.perf_counter()
        floor = self._floor(result, best, is_warm) if with_floor else None
        floored = time.perf_counter()
        accentuated = self._accentuated()
        result, ratio, shown = self._compare_with_real(result, rankings, best)
        compiling = max(0.0, self._compile_seconds() - compiled_before)
        examples = [draw_beside(result, i, one) for i, one in enumerate(shown)]
        self._starts, self._status = result.starts, result.status
        checkup, histograms = self._health.checkup()
        return Observation(
            result=result,
            noise_floor=floor,
            score_ratio=ratio,
            examples=examples,
            shown=shown,
            accentuated=accentuated,
            behaviour=self._behaviour(rankings),
            checkup=checkup,
            histograms=histograms,
            floor_seconds=floored - ran,
            compile_seconds=compiling,
        )

    @models_unchanged()
    def measure_floor(self, snapshot: Snapshot) -> tuple[np.ndarray, float]:
        """Return the noise floor of drift on the weights that the model has now.

        Args:
            snapshot: The last snapshot, from whose starts both seeds begin.

        Returns:
            Float32 array `(targets,)`, and the seconds that compiling took.
        """
        compiled_before = self._compile_seconds()
        rankings = self.rank(with_health=False)
        best = [self.best_of(task, rankings) for task in self._tasks]
        # Its pictures are of the first seed, unless they went on from others, or another
        # callback has restored weights since.
        is_another = self._warm_start or self._health.has_moved()
        floor = self._floor(snapshot, best, is_another)
        return floor, max(0.0, self._compile_seconds() - compiled_before)

    def _accentuated(self):
        if not self._accentuates:
            return []
        try:
            return self._accentuations.draw(self._order)
        except Exception as error:
            # What the snapshot has already is worth more.
            self._accentuates = False
            logger.warning(
                "No more real images are accentuated. %s: %s", type(error).__name__, error
            )
            return []

    def _compile_seconds(self):
        models = [objectives[0].model for objectives in self._by_model()]
        of_models = (compile_seconds(one) + pass_seconds(one) for one in models)
        return sum(of_models) + sum(one.compile_seconds for one in self._places)

    def check(self) -> None:
        """Leave out targets that cannot be read, with a warning, and require all others.

        Raises:
            ValueError: If no target is left, or the model no longer has a unit that an
                objective reads.
        """
        if self._checked:
            return
        refused = refused_tasks(self._tasks)
        if len(refused) == len(self._tasks):
            raise ValueError(" ".join(dict.fromkeys(refused.values())))
        for task in self._tasks:
            if id(task) in refused:
                names = ", ".join(task.targets.names)
                logger.warning(
                    "Left out, since it cannot be read: %s. %s", names, refused[id(task)]
                )
        if self._accentuations is not None:
            self._accentuations.keep([id(task) not in refused for task in self._tasks])
        self._tasks = [task for task in self._tasks if id(task) not in refused]
        parts = [part for task in self._tasks for part in cast(JoinedTargets, task.targets).parts]
        kept = set(map(id, parts))
        self._objectives = [one for one in self._objectives if id(one) in kept]
        self._order = _order(self._objectives, parts)
        if refused:
            self._params = [None] * len(self._tasks)
        self._checked = True
        if self._earlier is not None:
            earlier, self._earlier = self._earlier, None
            self.go_on_from(*earlier)

    def _by_model(self):
        models = {id(one.model): one.model for one in self._objectives}.values()
        return [[one for one in self._objectives if one.model is model] for model in models]

    @property
    def params(self) -> list[np.ndarray | None]:
        """The parameters at which a warm start goes on, one array a task."""
        return list(self._params if self._earlier is None else self._earlier[1])

    @property
    def kept(self) -> tuple:
        """What the next snapshot is compared with: the ranks of real images, and weights."""
        return self._units.kept, self._health.kept

    def compare_with_none(self) -> None:
        """Compare the next snapshot with none, since the last one is gone."""
        self._units.go_on_from(([], np.empty((0, 0), "float32")))
        self._health.go_on_from({})

    @property
    def state(self) -> dict[str, Any]:
        """All that later snapshots depend on beside the weights, to be set in another process."""
        drawn = self._accentuations if self._accentuates else None
        return {
            "starts": self._starts,
            "status": self._status,
            "kept": self.kept,
            "places": [one.kept for one in self._places],
            "accentuated": None if drawn is None else drawn.before,
            "batches": [task.plan.batch for task in self._tasks],
            "unwatchable": self._unwatchable,
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        self._starts, self._status = state["starts"], state["status"]
        self._units.go_on_from(state["kept"][0])
        self._health.go_on_from(state["kept"][1])
        for one, kept in zip(self._places, state["places"], strict=True):
            one.kept = kept
        # A worker may have ended them in another training of the same targets.
        before, self._accentuates = state["accentuated"], False
        if self._accentuations is not None and before is not None:
            self._accentuations.before, self._accentuates = before, True
        for i, (task, batch) in enumerate(zip(self._tasks, state["batches"], strict=True)):
            if batch != task.plan.batch:
                self._tasks[i] = replace(task, plan=replace(task.plan, batch=batch))
        self._unwatchable = state["unwatchable"]

    def go_on_from(
        self, snapshot: Snapshot, params: Sequence = (), kept: tuple | None = None
    ) -> None:
        """Keep the starts of an earlier snapshot of the same targets.

        Args:
            snapshot: The snapshot.
            params: The parameters of an observer of the same targets. Without them, a warm
                start begins anew.
            kept: What that observer has kept, to compare the next snapshot with.
        """
        if kept is not None:
            self._units.go_on_from(kept[0])
            self._health.go_on_from(kept[1])
        if not self._checked:
            # An observer of the same targets has left out those that cannot be read.
            self._earlier = snapshot, list(params)
        elif snapshot.names == self.names and all(snapshot.starts):
            self._starts, self._status = snapshot.starts, snapshot.status
            if self._warm_start and len(params) == len(self._tasks):
                self._params = list(params)

    def _run(self, best_known):
        results, images = [], None
        known, places = find_starts(self._tasks), np.argsort(self._order)
        for i, best in enumerate(best_known):
            result, self._params[i] = self._run_one(
                i,
                params=self._params[i],
                starts=self._of_task(i, self._starts),
                status=self._of_task(i, self._status),
                best_known=best,
                with_params=self._warm_start,
                known=known[i],
            )
            if images is None:
                shape = len(places), *result.images.shape[1:]
                images = np.empty(shape, result.images.dtype)
            rows, places = np.split(places, [len(result)])
            images[rows] = result.images
            # The images of all tasks would take as much memory again.
            results.append(replace(result, images=images[:0], importance=_reduced(result)))
            del result
        return _join(results, images, self._order)

    def _of_task(self, i, values):
        """Return the values of one task's targets, from those of all targets in their order."""
        if not len(values):
            return None
        first = sum(len(task.targets) for task in self._tasks[:i])
        places = np.argsort(self._order)
        return [values[j] for j in places[first : first + len(self._tasks[i].targets)]]

    def _floor(self, result, best_known, is_warm):
        """Return the drift between two seeds, neither of which goes on from earlier images."""
        first = functools.partial(self._of_task, values=result.images)
        if is_warm:
            first = self._cold(result, best_known, 0)
        other = self._cold(result, best_known, 1)
        # No name holds the images of one task while those of the next are made.
        parts = [_drift_of_each(first(i), other(i)) for i in range(len(self._tasks))]
        return np.concatenate(parts)[self._order]

    def _cold(self, result, best_known, added):
        """Return a function from a task's number to its images by another seed.

        The optimisations begin at the starts of a result.
        """
        tasks = [replace(task, seed=task.seed + added) for task in self._tasks]
        known = find_starts(tasks)

        def images_of(i):
            given = {"starts": self._of_task(i, result.starts), "best_known": best_known[i]}
            return run(tasks[i], known=known[i], **given)[0].images

        return images_of

    def _run_one(self, i, **settings):
        try:
            return run(self._tasks[i], **settings)
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
        return run(self._tasks[i], **settings)

    def best_of(self, task: Task, rankings: dict) -> np.ndarray | None:
        """Return the score of the best real image for each target of a task, but for rounding."""
        if not rankings:
            return None
        parts = cast(JoinedTargets, task.targets).parts
        return best_known([rankings[id(part)] for part in parts])

    def _compare_with_real(self, result, rankings, best_known):
        if not rankings:
            return result, None, []
        ordered = [rankings[id(one)] for one in self._objectives]
        indices, scores, is_silent, is_constant = (
            np.concatenate([getattr(one, name) for one in ordered])
            for name in ("indices", "scores", "is_silent", "is_constant")
        )
        best = scores[:, 0]
        is_weak = result.scores < np.concatenate(best_known)[self._order]
        status = [
            verdict(status, *conditions)
            for status, *conditions in zip(
                result.status, is_silent, is_constant, is_weak, strict=True
            )
        ]
        # The top images of a unit that tells no image from another would be any six.
        shown = np.where(is_silent | is_constant, 0, indices.shape[1])
        top = [row[:count] for row, count in zip(indices, shown, strict=True)]
        images = [
            self.show(result, *row)
            for row in zip(self._owners, top, scores, self._find_places(top), strict=True)
        ]
        if self._shown:
            pairs = zip(images, self._shown, strict=True)
            images = [drawn_before(some, before) for some, before in pairs]
        self._shown = images if math.prod(self.image_shape) <= _LARGEST_KEPT else []
        ratio = score_ratio(result.scores, best, is_silent)
        return replace(result, status=status), ratio, images

    @property
    def _owners(self):
        """The model of each target."""
        return [one.model for one in self._objectives for _ in one.names]

    def show(
        self,
        result: Result,
        model: keras.Model,
        indices: Sequence[int],
        scores: Sequence[float],
        places: Sequence,
    ) -> list[ShownImage]:
        """Return real images of these indices, scores and places, to be drawn beside a result."""
        images = self._as_given(model, indices)
        return [
            ShownImage(int(index), float(score), image, result.values_range, place)
            for index, score, image, place in zip(indices, scores, images, places, strict=False)
        ]

    def with_images(self, name: str, shown: Sequence[ShownImage]) -> list[ShownImage]:
        """Add the real images of a target where a worker has sent neither them nor a picture."""
        model = self._owners[self.names.index(name)]
        return [
            one
            if one.image.size or one.pngs is not None
            else replace(one, image=self._as_given(model, [one.index])[0])
            for one in shown
        ]

    def _as_given(self, model, indices):
        real = self.real_images_of(model)[np.asarray(indices, int)]
        [image_input, *_] = [
            one.plan.image_input for one in self._tasks if one.targets.model is model
        ]
        return image_input.to_given(real.astype("float32", copy=False))

    def _find_places(self, top):
        """Return the place of each of the top images, in the order of the targets."""
        placed: list = []
        for i, task in enumerate(self._tasks):
            wanted = self._of_task(i, top)
            try:
                found = self._places[self._number_of(task.targets.model)].of_task(task, wanted)
            except Exception as error:
                # Pictures can do without.
                warn_once(
                    task.targets.model,
                    "Where real images activate %s could not be found. %s: %s",
                    *(", ".join(task.targets.names[:_NAMES_LISTED]), type(error).__name__, error),
                )
                found = [[None] * len(row) for row in wanted]
            placed += found
        return [placed[i] for i in self._order]

    def rank(self, with_health: bool = True) -> dict[int, ranking.Ranking]:
        """Return the top activating real images of each objective, by its identity.

        Args:
            with_health: Whether all layers are measured on the way.
        """
        ranked: dict[int, ranking.Ranking] = {}
        for objectives in self._by_model() if self._real_images is not None else []:
            model = objectives[0].model
            task = next(one for one in self._tasks if one.targets.model is model)
            rankings = self._rank_of_model(objectives, task, with_health)
            ranked |= dict(zip(map(id, objectives), rankings, strict=True))
        unknown = [
            n
            for one in self._objectives
            if id(one) in ranked
            for n, is_partly in zip(one.names, ranked[id(one)].is_partly_known, strict=True)
            if is_partly
        ]
        if unknown:
            warn_once(
                self._objectives[0].model,
                "Some images of `probe_data` have a score that is not a finite number, and are "
                "left out of what is compared with them: %s.",
                ", ".join(unknown[:_NAMES_LISTED]),
            )
        return ranked

    def behaviour_of(self, objective: Objective, ranked: ranking.Ranking) -> Behaviour:
        """Return what an objective's units do on the real images, compared with no snapshot."""
        return UnitMeter(self._units.classes).measure(objective.names, ranked.all_scores)

    def health_of(self, objective: Objective) -> dict[str, np.ndarray]:
        """Return whether each target is a unit that is dead, dormant or a duplicate.

        It is known from a call of `rank` to that of `checkup`.

        Returns:
            Float32 arrays `(targets,)` of 1 and 0; NaN for what is no single unit of a layer.
        """
        found = {kind: np.full(len(objective), np.nan, "float32") for kind in UNIT_KINDS}
        term = objective.terms[0]
        if len(objective.terms) == 1 and hasattr(term.readout, "units"):
            flags = self._health.units(objective.model, term.taps[0])
            [(rows, _)] = objective.data()
            for kind, values in flags.items():
                # A neuron of a map is at some position of its channel.
                found[kind] = values[rows % len(values)].astype("float32")
        return found

    def checkup(self) -> tuple[Checkup, dict[str, np.ndarray]]:
        """Return the numbers of every layer and histograms, see `HealthMeter.checkup`."""
        return self._health.checkup()

    def measured(self, task: Task) -> dict[Tap, int]:
        """Return the outputs of layers that snapshots measure in the model of a task."""
        model = task.targets.model
        [prefix] = [found for one, found in self._prefixes if one is model]
        if self._real_images is None or prefix in self._unwatchable:
            return {}
        shape = self.real_images_of(model).shape[1:]
        return self._health.taps(prefix, shape, task.plan.image_input)

    def _rank_of_model(self, objectives, task, with_health):
        model, image_input = objectives[0].model, task.plan.image_input
        real = self.real_images_of(model)
        given = objectives, real, _REAL_IMAGES_SHOWN, image_input, task.fixed_inputs
        [prefix] = [found for one, found in self._prefixes if one is model]
        if with_health and prefix not in self._unwatchable:
            try:
                watch = self._health.watch(prefix, real, image_input)
                return ranking.rank(*given, watch)
            except Exception as error:
                # The whole model is called for health, and part of it for scores.
                self._unwatchable |= {prefix}
                warn_once(
                    model,
                    "The layers of the model '%s' are not measured. %s: %s",
                    *(model.name, type(error).__name__, error),
                )
        return ranking.rank(*given)

    def _behaviour(self, rankings):
        if not rankings:
            return None
        scores = [rankings[id(one)].all_scores for one in self._objectives]
        return self._units.measure(self.names, np.concatenate(scores))


def refused_tasks(tasks: Sequence[Task]) -> dict[int, str]:
    """Return why tasks cannot be scored, as text, by the identity of each such task."""
    refused: dict[int, str] = {}
    for model in {id(task.targets.model): None for task in tasks}:
        own = [task for task in tasks if id(task.targets.model) == model]
        # A call of a large model takes a second, and an atlas reads a hundred layers.
        if _refusal(own) is not None:
            refused |= {id(task): error for task in own if (error := _refusal([task]))}
    return refused


def _refusal(tasks):
    """Return why the targets of tasks of one model cannot be scored, as text, or `None`."""
    plan, targets = tasks[0].plan, [task.targets for task in tasks]
    try:
        require_units([part for one in targets for part in one.parts])
    except ValueError as error:
        return str(error)
    blank = np.full((plan.batch, *plan.input_shape), np.mean(plan.values_range, axis=0), "float32")
    try:
        score_all(targets, blank, plan.image_input, tasks[0].fixed_inputs)
    except Exception as error:
        # Memory may suffice for fewer images, which the optimisation finds out.
        return None if backend.is_out_of_memory(error) else f"{type(error).__name__}: {error}"
    return None


def _order(objectives, placed):
    """Return the index of each target of `objectives` among the targets of `placed`."""
    firsts = np.cumsum([0, *map(len, placed)])
    first = dict(zip(map(id, placed), firsts, strict=False))
    return np.concatenate([first[id(one)] + np.arange(len(one)) for one in objectives])


def _drift_of_each(before, after):
    """Return the drift of each image, one after the other, since copies may take much memory."""
    return np.concatenate(
        [drift(first[None], other[None]) for first, other in zip(before, after, strict=True)]
    )


def _reduced(result):
    """Return the importance of images as a history keeps it."""
    found = result.importance
    return pictures.of_importance(found) if found is not None and found.ndim == 3 else found


def _join(results, images, order):
    names = [name for r in results for name in r.names]
    status = [status for r in results for status in r.status]
    starts = [start for r in results for start in r.starts or [""] * len(r)]
    importance = [r.importance for r in results]
    return Result(
        images=images,
        names=[names[i] for i in order],
        scores=np.concatenate([r.scores for r in results])[order],
        history=np.concatenate([r.history for r in results], axis=1)[:, order],
        status=[status[i] for i in order],
        values_range=results[0].values_range,
        starts=[starts[i] for i in order],
        importance=None
        if any(one is None for one in importance)
        else np.concatenate(importance)[order],
    )
