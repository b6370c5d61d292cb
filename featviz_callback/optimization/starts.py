"""Choose where each optimisation starts, and which score it should reach.

Gradient ascent ends near its start. A unit that is silent on faint noise gets no gradient
there, and one that likes a plain colour seldom finds it. So plain colours and strong noise
of several spectra are scored in one forward pass, for all targets at once.

A real image is never a start, since a copy of it would beat it by definition.
"""

from __future__ import annotations

import math
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.images import Coefficients, sampling
from featviz_callback.objectives import preserved, score_all
from featviz_callback.optimization.step import penalty, render
from featviz_callback.optimization.task import Task

# The start of a target that has no better one: faint noise, drawn for its name.
FAINT = "faint noise"

# The only start, where images are given to begin at.
GIVEN = "given image"

# A picture of a feature map's unit should score so much above the best image that is known,
# as a share. A logit's need not so much, since its greys tell more than its score does.
_MARGIN, _LOGIT_MARGIN = 0.6, 0.2

# A goal is at least so much above the floor, as a share of the largest score.
_LEAST = 1e-6

# The least distance of all, far below any score, and a normal number in float32.
_SMALLEST = 1e-30

_FLOAT32 = np.finfo("float32").min, np.finfo("float32").max

# A plain colour is preferred to noise if it gains this many times as much score.
_LEAD = 1.5

# So many pixels are rendered at once.
_MOST_PIXELS = 8 * 224 * 224

# The starts of images of more values would take tens of megabytes between snapshots.
_LARGEST_KEPT = 3 * 224 * 224


# How many starts of a plan at once have fitted in memory, for models where all have not.
_allowed_by_memory: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Starts:
    """The starts that a task has, and what each target scores on them.

    Attributes:
        names: One name a start. The first is `FAINT`.
        params: The parameters of each start, those of a plain background for the first.
        scores: Float32 array `(targets, starts)`, less penalties. The first column is of a
            plain background, since the faint noise is another one for each target.
        margin: How far above the best known image a picture should score, as a share.
    """

    names: list[str]
    params: Sequence[np.ndarray]
    scores: np.ndarray
    margin: float

    def first_choice(self) -> np.ndarray:
        """Return the index of each target's start, 0 if none is better than faint noise.

        Noise becomes a picture with more to see than a plain colour does. So a plain colour
        has to be better by far.
        """
        noise, plain = self._best("noise"), self._best("plain")
        gains = self._gains()
        rows = np.arange(len(gains))
        is_plain = gains[rows, plain] > _LEAD * gains[rows, noise]
        chosen = np.where(is_plain, plain, noise)
        return np.where(gains[rows, chosen] > 0, chosen, 0)

    def best(self) -> np.ndarray:
        """Return the index of the start that scores the most for each target."""
        return self._gains().argmax(1)

    def second_choice(self, first: np.ndarray) -> np.ndarray:
        """Return the index of the best start of another kind than the first one."""
        is_noise = np.array([self.names[i].startswith("noise") for i in first])
        other = np.where(is_noise, self._best("plain"), self._best("noise"))
        return np.where(first == 0, self.best(), other)

    def _gains(self):
        scores = np.nan_to_num(self.scores, nan=-np.inf)
        with np.errstate(over="ignore", invalid="ignore"):
            return scores - np.nan_to_num(scores[:, :1], neginf=0.0)

    def _best(self, kind):
        is_kind = np.array([name.startswith(kind) for name in self.names])
        return np.where(is_kind, self._gains(), -np.inf).argmax(1)

    def of(self, chosen: np.ndarray) -> np.ndarray | None:
        """Return the parameters of these starts, NaN for `FAINT`; `None` without any other."""
        if not chosen.any():
            return None
        drawn = [self.params[i] if i else None for i in chosen]
        faint = np.full_like(next(one for one in drawn if one is not None), np.nan)
        return np.stack([faint if one is None else one for one in drawn])

    def noise_of(self, chosen: np.ndarray) -> np.ndarray | None:
        """Return what these starts have beside a plain colour, 0 for `FAINT`."""
        start = self.of(chosen)
        if start is None:
            return None
        start = np.nan_to_num(start)
        start[..., 0, 0] = 0
        return start

    def aims(self, best_known: np.ndarray | None) -> np.ndarray:
        """Return the score of a plain background, and the one to reach, `(targets, 2)`.

        Args:
            best_known: The score of the best real image for each target. Default: that of
                the best start.
        """
        floor = np.nan_to_num(self.scores[:, 0]).astype("float64")
        # In proportion to the target's own scores, whose unit may be anything. A target that
        # all starts leave silent is behind for as long as it is.
        largest = np.nan_to_num(np.fmax.reduce(np.abs(self.scores), axis=1)).astype("float64")
        tiny = np.maximum(_LEAST * largest, _SMALLEST)
        best = np.fmax.reduce(self.scores, axis=1) if best_known is None else best_known
        best = np.nan_to_num(best).astype("float64")
        goal = best + self.margin * np.abs(best)
        least = floor + self.margin * np.abs(floor) + tiny
        aims = np.stack([floor, np.fmax(goal, least)], axis=1)
        return np.clip(aims, *_FLOAT32).astype("float32")


def find_starts(tasks: Sequence[Task]) -> list[Starts | None]:
    """Return the starts of each task with their scores; `None` if nothing follows from them.

    The model is called without a gradient, once on the starts that several of its tasks have
    in common.
    """
    alike: dict[tuple, list[int]] = {}
    for i, task in enumerate(tasks):
        if isinstance(task.plan.parameterization, Coefficients):
            key = (id(task.targets.model), _as_drawn(task.plan), task.seed)
            alike.setdefault(key, []).append(i)
    found: list[Starts | None] = [None] * len(tasks)
    for (_, plan, seed), members in alike.items():
        names, everything = _drawn(plan, seed)
        lowest, highest = plan.parameterization.contrasts(plan.image_shape)
        if len(names) == 1 and lowest == highest:
            continue
        some = [tasks[i] for i in members]
        # Penalties are functions of the user's, which may draw random numbers.
        with preserved(some[0].targets.model):
            found_scores = _score(plan, seed, some, everything)
        for i, scores in zip(members, found_scores, strict=True):
            margin = _MARGIN if tasks[i].targets.reads_maps else _LOGIT_MARGIN
            found[i] = Starts(names, everything, scores, margin)
    return found


def _as_drawn(plan):
    """Return a plan with only what starts depend on."""
    return replace(
        plan,
        readouts=(),
        fixed_specs=(),
        batch=1,
        changes=(),
        regularizers=(),
        relaxed=False,
        anchor=None,
        facets=1,
    )


def _drawn(plan, seed):
    """Return the names of the starts and their parameters, of which the first are plain."""
    if math.prod(plan.image_shape) <= _LARGEST_KEPT:
        return _kept(plan, seed)
    drawn = _Drawn(plan, seed)
    return drawn.names, drawn


@lru_cache(maxsize=4)
def _kept(plan, seed):
    """Draw the starts of small images, which are the same at each snapshot."""
    drawn = _Drawn(plan, seed)
    return drawn.names, list(drawn)


class _Drawn(Sequence):
    """The parameters of all starts, each of which is drawn whenever it is asked for.

    All of large images would take tens of megabytes while pictures are made.
    """

    def __init__(self, plan, seed):
        named = plan.parameterization.draws(plan.image_shape)
        self.names = [FAINT, *named]
        self._draws = [partial(_blank, plan=plan), *named.values()]
        generator = np.random.default_rng((seed, zlib.crc32(b"starts")))
        # The state of the generator before each draw, as far as it is known.
        self._states = [generator.bit_generator.state]

    def __len__(self):
        return len(self._draws)

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(i)
        generator = np.random.default_rng()
        for k in range(min(i, len(self._states) - 1), i + 1):
            generator.bit_generator.state = self._states[k]
            drawn = self._draws[k](generator)
            if k + 1 == len(self._states):
                self._states.append(generator.bit_generator.state)
        return drawn


def _blank(_, plan):
    return np.zeros_like(plan.parameterization.init(np.random.default_rng(0), plan.image_shape))


def _score(plan, seed, tasks, everything):
    """Return the scores of a plain background and of the starts, less penalties, for each task."""
    count = max(1, _MOST_PIXELS // math.prod(plan.input_shape[:2]))
    allowed = _allowed_by_memory.setdefault(tasks[0].targets.model, {})
    count = min(count, allowed.get(plan, count))
    is_kept, first, parts = count >= len(everything), 0, []
    while first < len(everything):
        some = range(first, min(first + count, len(everything)))
        images = _cached(plan, seed, some) if is_kept else _render(plan, everything, some)
        scores = _score_if_memory_suffices(tasks, images, plan.image_input)
        if scores is None:
            count = allowed[plan] = math.ceil(len(some) / 8)
        else:
            parts.append(scores)
            first += len(some)
    joined = [np.concatenate(own, axis=1) for own in zip(*parts, strict=True)]
    return [
        # Of whole images, in the size at which they are penalised.
        own - _penalties(task.plan, everything) if task.plan.regularizers else own
        for task, own in zip(tasks, joined, strict=True)
    ]


def _score_if_memory_suffices(tasks, images, image_input):
    targets = [task.targets for task in tasks]
    try:
        return score_all(targets, images, image_input, tasks[0].fixed_inputs)
    except Exception as error:
        if len(images) == 1 or not backend.is_out_of_memory(error):
            raise
    return None


@lru_cache(maxsize=4)
def _cached(plan, seed, some):
    """Render the starts of small images, which are the same at each snapshot."""
    return _render(plan, _drawn(plan, seed)[1], some)


def _render(plan, params, some):
    """Return whole images of some of the parameters, at the model's input size."""
    axes = [
        sampling.to_tensor(np.tile(sampling.whole_grid(*sizes), (len(some), 1)))
        for sizes in zip(plan.image_shape[:2], plan.input_shape[:2], strict=True)
    ]
    chosen = ops.convert_to_tensor(np.stack([params[i] for i in some]))
    return ops.convert_to_numpy(render(plan, chosen, *axes))


def score_images(task: Task, images: np.ndarray) -> np.ndarray:
    """Return the score of each image for each target, `(targets, images)`.

    Args:
        task: The targets, and the model's other inputs.
        images: Float32 array `(images, height, width, channels)`, resized to the model's
            input.
    """
    size = task.plan.input_shape[:2]
    if images.shape[1:3] != size:
        images = ops.image.resize(images, size, data_format="channels_last")
        images = ops.convert_to_numpy(images)
    # As many at once as the optimisation takes, which fit in memory.
    parts = [
        score_all([task.targets], some, task.plan.image_input, task.fixed_inputs)[0]
        for some in np.split(images, range(task.plan.batch, len(images), task.plan.batch))
    ]
    return np.concatenate(parts, axis=1)


def _penalties(plan, params):
    images = (render(plan, ops.convert_to_tensor(one[None])) for one in params)
    return np.concatenate([ops.convert_to_numpy(penalty(plan, image)) for image in images])
