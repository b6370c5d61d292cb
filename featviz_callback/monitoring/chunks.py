"""The chunks of an atlas: one is computed, written to a file and read back.

A chunk is some targets of one layer. Its file appears whole or not at all. Whoever computes
a chunk gets the same file, so it does not matter who does.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring.health import UNIT_KINDS
from featviz_callback.monitoring.places import Place, Places
from featviz_callback.objectives import SomeTargets, warn_once
from featviz_callback.optimization import Task, run
from featviz_callback.optimization.comparison import score_ratio, verdict
from featviz_callback.records import Result, as_range
from featviz_callback.tensorboard import unique

logger = logging.getLogger("featviz_callback")

# Enough for a task to outlast the compilation of its layer, and few to lose.
_TARGETS = 128


# What begins so in a file tells of real images.
_REAL = "real_"


@dataclass(frozen=True, eq=False)
class Units:
    """What real images tell of each unit of a layer.

    Attributes:
        names: One name a unit, as in the `Result`.
        top_images: Int array `(units, best)`: the real images that activate a unit most, as
            places among the images of `probe_data`, best first. Of a unit that is dead or
            constant they are any, since all have one score.
        top_scores: Float32 array `(units, best)`: their scores.
        places: For each unit, where each of its top images activates it: `box`, the rows and
            columns of about the receptive field, and `activation`, at each position of the
            layer. `None` where that cannot be told, as for a unit that is dead.
        score_ratio: Float32 array `(units,)`: the score of the optimised image divided by that
            of the best real one; NaN where that is not above 0.
        selectivity: Float32 array `(units,)`: area under the ROC curve that tells the unit's
            best class from all others by its score; NaN without labels.
        best_class: The name of that class, one a unit; empty where it is not known.
        active_share: Float32 array `(units,)`: share of real images with a score above 0.
        dead: Float32 array `(units,)`: 1 for a unit that is the same for all images, else 0; NaN
            for what is no single unit of a layer, such as a direction.
        dormant: The same for one that hardly any image activates, see `callback.health`.
        duplicate: The same for one that does what a unit before it in the layer does.
    """

    names: list[str]
    top_images: np.ndarray
    top_scores: np.ndarray
    places: list[list[Place | None]]
    score_ratio: np.ndarray
    selectivity: np.ndarray
    best_class: list[str]
    active_share: np.ndarray
    dead: np.ndarray
    dormant: np.ndarray
    duplicate: np.ndarray


@dataclass(frozen=True, eq=False)
class RealImages:
    """Real images, which cross to another process as the path of their file.

    Attributes:
        images: Array `(images, height, width, channels)`, as the model takes them.
        path: Their file, if another process may need them.
    """

    images: np.ndarray
    path: str | None = None

    @classmethod
    def read(cls, path: str) -> RealImages:
        """Return those of a file, of which only what is used is read."""
        return cls(np.load(path, mmap_mode="r", allow_pickle=False), path)

    def save(self) -> None:
        """Write the file, if it is not there."""
        if self.path is not None and not os.path.exists(self.path):
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            _write_whole(self.path, lambda file: np.save(file, self.images, allow_pickle=False))

    def __reduce__(self):
        return RealImages.read, (self.path,)


@dataclass(frozen=True, eq=False)
class Ranked:
    """What real images tell of some targets, before any optimisation.

    Attributes:
        images: The real images.
        indices: The top images of each target, see `Units`.
        scores: Their scores.
        is_silent: Bool array `(targets,)`: no real image activates it.
        is_constant: Bool array `(targets,)`: all real images have one score.
        best_known: Float32 array `(targets,)`: the score to reach.
        selectivity: See `Units`, as for all below.
        best_class: Array of strings.
        active_share: Float32 array.
        dead: Float32 array.
        dormant: Float32 array.
        duplicate: Float32 array.
    """

    images: RealImages
    indices: np.ndarray
    scores: np.ndarray
    is_silent: np.ndarray
    is_constant: np.ndarray
    best_known: np.ndarray
    selectivity: np.ndarray
    best_class: np.ndarray
    active_share: np.ndarray
    dead: np.ndarray
    dormant: np.ndarray
    duplicate: np.ndarray

    def rows(self, chosen: Sequence[int]) -> Ranked:
        """Return what is told of some of the targets."""
        arrays = [getattr(self, one.name) for one in fields(self)[1:]]
        return Ranked(self.images, *(values[list(chosen)] for values in arrays))


# What real images tell of a target without any other snapshot.
BEHAVIOUR = ("selectivity", "best_class", "active_share")
# What is told of a target before its optimisation, and is kept as it is.
_TOLD = (*BEHAVIOUR, *UNIT_KINDS)


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some targets of a task, and the file for their images.

    Attributes:
        task: The optimisation of all targets of a layer.
        rows: Which of its targets.
        path: The file. That of an earlier call may have other targets too.
        layer: The path of the layer that the targets read first.
        keys: What tells each of its targets from all others, see `digest_targets`.
    """

    task: Task
    rows: tuple[int, ...]
    path: str
    layer: str
    keys: tuple[str, ...] = ()

    @property
    def is_done(self) -> bool:
        """Whether its file is there."""
        return is_done(self.path)

    def __len__(self) -> int:
        return len(self.rows)


def is_done(path: str) -> bool:
    """Whether the file of a chunk is there, and whole."""
    return zipfile.is_zipfile(path)


def split(task: Task) -> list[tuple[int, ...]]:
    """Return the targets of each chunk of a task: whole batches, so that none is padded."""
    # The facets of a unit are found one after the other, in one chunk.
    whole = math.lcm(task.plan.batch, task.targets.facet_count)
    size = max(1, _TARGETS // whole) * whole
    count = len(task.targets)
    return [tuple(range(first, min(first + size, count))) for first in range(0, count, size)]


def compute(task: Task, rows: Sequence[int], path: str, ranked: Ranked | None = None) -> None:
    """Optimise some targets of a task, and write their images.

    Args:
        task: The task.
        rows: Which of its targets.
        path: The file to write.
        ranked: What real images tell of these targets.
    """
    task = replace(task, targets=SomeTargets.of(task.targets, rows, task.targets.facet_count))
    result = _run(task, None if ranked is None else ranked.best_known)
    real = {}
    if ranked is not None:
        real = {_REAL + name: getattr(ranked, name) for name in ("indices", "scores", *_TOLD)}
        real |= _places_as_arrays(_find_places(task, ranked))
        real["score_ratio"] = score_ratio(result.scores, ranked.scores[:, 0], ranked.is_silent)
        is_weak = result.scores < ranked.best_known
        told = zip(result.status, ranked.is_silent, ranked.is_constant, is_weak, strict=True)
        result = replace(result, status=[verdict(*one) for one in told])
    known = {name: value for name, value in vars(result).items() if value is not None}
    _write(path, {**known, **real})


def _run(task, best_known):
    """Run a task, in smaller batches if memory runs out."""
    while True:
        try:
            return run(task, best_known=best_known)[0]
        except Exception as error:
            fixed = task.plan.batch == 1 or task.plan.image_input.batch is not None
            if fixed or not backend.is_out_of_memory(error):
                raise
        task = replace(task, plan=replace(task.plan, batch=math.ceil(task.plan.batch / 2)))
        logger.warning("Out of memory: %d images at a time.", task.plan.batch)


def _find_places(task, ranked):
    """Return the place of each top image of each target, `None` where it is not known."""
    # The top images of a unit that tells no image from another would be any.
    shows_none = ranked.is_silent | ranked.is_constant
    top = [
        row[: 0 if is_none else None]
        for row, is_none in zip(ranked.indices, shows_none, strict=True)
    ]
    try:
        found = Places(ranked.images.images).of_task(task, top)
    except Exception as error:
        # Pictures can do without.
        warn_once(
            task.targets.model,
            "Where real images activate %s and others could not be found. %s: %s",
            *(task.targets.names[0], type(error).__name__, error),
        )
        found = [[] for _ in top]
    best = ranked.indices.shape[1]
    return [[*places, *[None] * (best - len(places))] for places in found]


def _places_as_arrays(places):
    """Return places as arrays; a box that is not known has no pixel."""
    shape = len(places), len(places[0])
    known = {(i, j): one for i, row in enumerate(places) for j, one in enumerate(row) if one}
    boxes = np.zeros((*shape, 2, 2), "int32")
    offsets = np.zeros((*shape, 2))
    for at, place in known.items():
        boxes[at], offsets[at] = place.box, place.offsets
    found = {_REAL + "boxes": boxes, _REAL + "offsets": offsets}
    maps = {at: place.activation for at, place in known.items() if place.activation is not None}
    if maps:
        all_maps = np.zeros((*shape, *next(iter(maps.values())).shape), "uint8")
        for at, one in maps.items():
            all_maps[at] = one
        found[_REAL + "maps"] = all_maps
    return found


def _places_from(arrays):
    """Return the places in the arrays of a file."""
    boxes, offsets = arrays[_REAL + "boxes"], arrays[_REAL + "offsets"]
    maps = arrays.get(_REAL + "maps")
    return [
        [
            Place(
                tuple(map(tuple, box)),
                None if maps is None else maps[i, j],
                tuple(offsets[i, j].tolist()),
            )
            if box[0][1]
            else None
            for j, box in enumerate(row)
        ]
        for i, row in enumerate(boxes.tolist())
    ]


def _write(path, arrays):
    _write_whole(path, lambda file: np.savez(file, **arrays))


def _write_whole(path, write):
    """Write a file that appears whole or not at all."""
    part = f"{path}.{unique()}.part"
    try:
        with open(part, "wb") as file:
            write(file)
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(part)
        # Another process has finished the same chunk, and taken this one's file for a leftover.
        if isinstance(error, FileNotFoundError) and os.path.exists(path):
            return
        raise
    # A process that was killed leaves what it had written of the same chunk.
    for left in glob.glob(f"{glob.escape(path)}.*.part"):
        with contextlib.suppress(OSError):
            os.remove(left)


# The images of some files: which of them, or `None` for all.
Part = tuple[str, "Sequence[int] | None"]


def read(parts: Sequence[Part]) -> Result:
    """Return some images of some files as one result.

    Raises:
        ValueError: If a file is damaged.
    """
    found = list(_read(parts, lambda name: not name.startswith(_REAL)))
    joined = {name: np.concatenate([one[name] for one in found]) for name in ("images", "scores")}
    several = [name for name in ("importance", "score_ratio") if name in found[0]]
    joined |= {name: np.concatenate([one[name] for one in found]) for name in several}
    return Result(
        **joined,
        history=np.concatenate([one["history"] for one in found], axis=1),
        names=[name for one in found for name in one["names"].tolist()],
        status=[status for one in found for status in one["status"].tolist()],
        starts=[start for one in found for start in one["starts"].tolist()],
        values_range=as_range(found[0]["values_range"]),
    )


def read_units(parts: Sequence[Part]) -> Units | None:
    """Return what real images tell of some units of some files; `None` if there were none.

    Raises:
        ValueError: If a file is damaged.
    """
    found = list(_read(parts, lambda n: n.startswith(_REAL) or n in ("names", "score_ratio")))
    if any(_REAL + "indices" not in one for one in found):
        return None

    def joined(name):
        return np.concatenate([one[name] for one in found])

    return Units(
        names=joined("names").tolist(),
        top_images=joined(_REAL + "indices"),
        top_scores=joined(_REAL + "scores"),
        places=[row for one in found for row in _places_from(one)],
        score_ratio=joined("score_ratio"),
        best_class=joined(_REAL + "best_class").tolist(),
        **{name: joined(_REAL + name) for name in _TOLD if name != "best_class"},
    )


def _read(parts, is_wanted) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of some names, of each file."""
    for path, rows in parts:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in arrays.files if is_wanted(name)}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(
                f"Expected a part of an atlas in {path!r}. Delete the file, and the next call of "
                f"`atlas` makes it again. Received: {type(error).__name__}: {error}"
            ) from error
        if "names" not in found:
            raise ValueError(
                f"Expected a part of an atlas in {path!r}. Delete the file, and the next call of "
                f"`atlas` makes it again. Received: arrays {sorted(found)}"
            )
        yield found if rows is None else _rows_of(found, list(rows))


def _rows_of(arrays, rows):
    """Return the arrays of some targets."""
    return {
        name: values
        if name == "values_range"
        else values[:, rows]
        if name == "history"
        else values[rows]
        for name, values in arrays.items()
    }
