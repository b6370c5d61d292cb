"""Simulate an atlas of 10,000 units on 100 GPU workers: how long it takes, and what decides.

    python benchmarks/many_units.py

No GPU runs here. Times of a task are arguments; `docs/many_units.md` says where each comes from.
A pool hands tasks out in their order. A worker starts once, compiles each layer that it meets
for the first time, and then makes its units one after the other. The process that asked for the
atlas logs finished tasks one by one. Only NumPy is needed.
"""

import argparse
import heapq
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

# Channels of the convolutions of MobileNetV2 (1.0), in order, without the last one: block by
# block those that expand, that are depthwise, and that project.
_BLOCKS = (
    *((96, 24), (144, 24), (144, 32), (192, 32), (192, 32), (192, 64), (384, 64), (384, 64)),
    *((384, 64), (384, 96), (576, 96), (576, 96), (576, 160), (960, 160), (960, 160), (960, 320)),
)
_UNITS, _SEEDS = 10_000, 20


@dataclass(frozen=True)
class Costs:
    """Seconds of each part, and how much starts differ.

    Attributes:
        workers: How many.
        start: Median until a worker has imported all and has the model.
        start_spread: Standard deviation of the logarithm of that.
        compilation: To compile a layer, once a worker and layer.
        unit: One unit's optimisation.
        log: To log one unit, in the process that asked for it.
        begin: Until that process has checked all and sends the first task.
    """

    workers: int = 100
    start: float = 30.0
    start_spread: float = 0.3
    compilation: float = 5.0
    unit: float = 0.05
    log: float = 0.003
    begin: float = 15.0


def layers():
    """Return the units of each layer: those of MobileNetV2, in proportion to 10,000 in all."""
    channels = [32, 32, 16, *(c for wide, narrow in _BLOCKS for c in (wide, wide, narrow))]
    edges = np.round(np.cumsum([0, *channels]) * _UNITS / sum(channels))
    return np.diff(edges).astype(int)


def tasks(size):
    """Return `(layer, units)` of each task of at most so many units, in order."""
    return [
        (layer, min(size, units - first))
        for layer, units in enumerate(layers())
        for first in range(0, units, size)
    ]


def simulate(costs, size, rng, at_random=False):
    """Return seconds to the last picture, seconds to the end of the log, and busy shares.

    Args:
        costs: What everything takes.
        size: Units of a task.
        rng: A `numpy.random.Generator`.
        at_random: Whether tasks are dealt at random, and not layer by layer.

    Returns:
        `(made, logged, units, compilation)`: the last two are the mean seconds of a worker.
    """
    queue = tasks(size)
    if at_random:
        queue = [queue[i] for i in rng.permutation(len(queue))]
    starts = costs.start * np.exp(costs.start_spread * rng.standard_normal(costs.workers))
    free = [(costs.begin + start, worker) for worker, start in enumerate(starts)]
    heapq.heapify(free)
    known = [set() for _ in range(costs.workers)]
    finished, computing, compiling = [], 0.0, 0.0
    for layer, units in queue:
        now, worker = heapq.heappop(free)
        if layer not in known[worker]:
            known[worker].add(layer)
            compiling += costs.compilation
            now += costs.compilation
        computing += units * costs.unit
        now += units * costs.unit
        finished.append((now, units))
        heapq.heappush(free, (now, worker))
    logged = 0.0
    for now, units in sorted(finished):
        logged = max(now, logged) + units * costs.log
    return max(finished)[0], logged, computing / costs.workers, compiling / costs.workers


def median(costs, size, at_random=False):
    """Return the medians of `simulate` over some seeds."""
    runs = [simulate(costs, size, np.random.default_rng(i), at_random) for i in range(_SEEDS)]
    return np.median(runs, axis=0)


def main():
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in vars(Costs()).items():
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default)
    costs = Costs(**vars(parser.parse_args()))
    text = "\n\n".join(
        [f"# {_UNITS:,} units on {costs.workers} workers, simulated", *report(costs)]
    )
    print(text)
    (Path(__file__).parent / "results/many_units.md").write_text(text + "\n")


def report(costs):
    """Yield the parts of the page."""
    told = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in vars(costs).items())
    yield f"Medians of {_SEEDS} seeds, of `python benchmarks/many_units.py`. Assumed: {told}."
    rows = []
    for size in (16, 32, 64, 128, 256, 1000):
        for at_random in (False, True):
            made, logged, computing, compiling = median(costs, size, at_random)
            dealt = "at random" if at_random else "layer by layer"
            figures = (made, logged, compiling, computing)
            rows.append((size, len(tasks(size)), dealt, *(f"{one:.0f}" for one in figures)))
    yield _table(
        ("units a task", "tasks", "dealt", "all pictures, s", "all logged, s",
         "compiling a worker, s", "optimising a worker, s"), rows,
    )  # fmt: skip
    yield "## What decides, with 128 units a task, layer by layer"
    changes = {
        "as above": {},
        "start in no time": {"start": 0.0},
        "no compilation": {"compilation": 0.0},
        "GPUs twice as fast": {"unit": costs.unit / 2},
        "a log ten times as slow": {"log": 10 * costs.log},
        "starts that differ twice as much": {"start_spread": 2 * costs.start_spread},
        "50 workers": {"workers": 50},
        "200 workers": {"workers": 200},
        "a worker": {"workers": 1},
    }
    rows = []
    for name, change in changes.items():
        made, logged, _, _ = median(replace(costs, **change), 128)
        rows.append((name, f"{made:.0f}", f"{logged:.0f}"))
    yield _table(("what is other", "all pictures, s", "all logged, s"), rows)


def _table(columns, rows):
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


if __name__ == "__main__":
    main()
