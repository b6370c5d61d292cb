"""An optimisation whose arguments have been checked: all that a run needs.

A task is immutable, and holds what compiled steps, random generators and results are made
from. A task never computes anything on a model.
"""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from featviz_callback.objectives import Targets
from featviz_callback.optimization.schedule import Schedule
from featviz_callback.optimization.step import Plan


@dataclass(frozen=True, eq=False)
class Apart:
    """From which images others must differ, and how much.

    Attributes:
        weights: Float32 array `(targets,)`: what an image of likeness 1 loses of its score.
        enough: Float32 array `(steps, targets)`: the score at each step from which on an image
            loses it, so that it never differs at the cost of more.
        tolerance: Float32 array `(targets,)`: how far around that score.
        goal: Float32 array `(targets,)`: a score below which an image gains contrast.
        ceiling: Float32 array `(targets,)`: the contrast up to which it does.
        behind: Float32 array `(targets, ...)`: parameters of unit length, that of the others,
            to whose other side a start of faint noise is moved; zeros for none.
        described: How the other images are described, arrays with one row a target, see
            `likeness`.
    """

    weights: np.ndarray
    enough: np.ndarray
    tolerance: np.ndarray
    goal: np.ndarray
    ceiling: np.ndarray
    behind: np.ndarray
    described: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Task:
    """An optimisation as `prepare` returns it.

    Attributes:
        targets: What to maximise. One image is made for each target.
        plan: All that the compiled step depends on.
        moves: The transformations at the head of the sequence, which move the grid.
        changes: The other transformations with their numbers. The plan has their kinds only.
        schedule: How many steps there are.
        seed: Seed of all random draws.
        may_be_still: Whether a target may be optimised without the moves at last, since
            the user asked for the standard transformations.
        fixed_inputs: One example of each other input of the model.
        start: The data of given images to begin at, see `Accentuation.start`: arrays with
            one row a target, or none.
        start_strength: How much images stay near these.
        apart: For facets, from which images they must differ.
    """

    targets: Targets
    plan: Plan
    moves: tuple
    changes: tuple
    schedule: Schedule
    seed: int
    may_be_still: bool = False
    fixed_inputs: tuple[np.ndarray, ...] = ()
    start: tuple[np.ndarray, ...] = ()
    start_strength: float = 1.0
    apart: Apart | None = None

    @cached_property
    def data(self) -> tuple:
        """The data of each term for a compiled step, one row a target, see `Targets.data`."""
        return self.targets.data()

    @cached_property
    def keys(self) -> list[tuple[int, int, int]]:
        """The seed of each target's generator: `seed`, a name, its count among equal names."""
        seen: Counter[str] = Counter()
        keys = []
        for name in self.targets.drawn_for:
            keys.append((self.seed, zlib.crc32(name.encode()), seen[name]))
            seen[name] += 1
        return keys

    @property
    def result_shape(self) -> tuple[int, ...]:
        """`(height, width, channels)` of an image, `(time, channels)` of a signal."""
        plan = self.plan
        return plan.image_input.to_given(np.empty(plan.image_shape)).shape
