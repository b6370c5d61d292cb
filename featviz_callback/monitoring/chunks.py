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
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from featviz_callback import backend
from featviz_callback.objectives import SomeTargets
from featviz_callback.optimization import Task, run
from featviz_callback.optimization.comparison import score_ratio, verdict
from featviz_callback.records import Result, as_range

logger = logging.getLogger("featviz_callback")

# Enough for a task to outlast the compilation of its layer, and few to lose.
_TARGETS = 128


@dataclass(frozen=True, eq=False)
class TopImages:
    """The real images that activate each target the most.

    Attributes:
        indices: Int array `(targets, best)`: their places among the images of `probe_data`,
            best first.
        scores: Float32 array `(targets, best)`: their scores.
        ratio: Float32 array `(targets,)`: the score of the optimised image divided by that
            of the best real one; NaN where that is not above 0.
    """

    indices: np.ndarray
    scores: np.ndarray
    ratio: np.ndarray


@dataclass(frozen=True, eq=False)
class Ranked:
    """What real images tell of some targets, before any optimisation.

    Attributes:
        indices: See `TopImages`.
        scores: See `TopImages`.
        is_silent: Bool array `(targets,)`: no real image activates it.
        is_constant: Bool array `(targets,)`: all real images have one score.
        best_known: Float32 array `(targets,)`: the score to reach.
    """

    indices: np.ndarray
    scores: np.ndarray
    is_silent: np.ndarray
    is_constant: np.ndarray
    best_known: np.ndarray

    def rows(self, chosen: Sequence[int]) -> Ranked:
        """Return what is told of some of the targets."""
        return Ranked(*(values[list(chosen)] for values in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some targets of a task, and the file for their images.

    Attributes:
        task: The optimisation of all targets of a layer.
        rows: Which of its targets.
        path: The file.
        layer: The path of the layer that the targets read first.
    """

    task: Task
    rows: tuple[int, ...]
    path: str
    layer: str

    @property
    def is_done(self) -> bool:
        """Whether its file is there."""
        return zipfile.is_zipfile(self.path)

    def __len__(self) -> int:
        return len(self.rows)


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
        real = {"real_indices": ranked.indices, "real_scores": ranked.scores}
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


def _write(path, arrays):
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            np.savez(file, **arrays)
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


def read(paths: Sequence[str]) -> Result:
    """Return the images of some files as one result."""
    found = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            found.append(
                {name: arrays[name] for name in arrays.files if not name.startswith("real")}
            )
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


def read_top_images(paths: Sequence[str]) -> TopImages | None:
    """Return the top real images of some files; `None` if there were no real images."""
    names = {"indices": "real_indices", "scores": "real_scores", "ratio": "score_ratio"}
    found = []
    for path in paths:
        with np.load(path, allow_pickle=False) as arrays:
            if names["indices"] not in arrays.files:
                return None
            found.append([arrays[name] for name in names.values()])
    return TopImages(*map(np.concatenate, zip(*found, strict=True)))
