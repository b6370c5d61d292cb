"""How long an atlas of MobileNetV2 takes, here and with workers, and what it holds in memory.

    python benchmarks/atlas.py --layers 6 --workers 2 1 0

Every channel of the first layers, 64 pixels, 16 steps. The peak is that of the driver so far, so
that the run without workers comes last. State the load of the machine beside the
numbers: workers share its cores with TensorFlow's own threads.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

import keras
from common import write_table

from featviz_callback import atlas
from featviz_callback.objectives import every_channel


def main():
    """Run an atlas with each number of workers, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, help="how many layers (default: all)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 1, 0])
    parser.add_argument("--steps", type=int, default=16)
    chosen = parser.parse_args()
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)
    objectives = every_channel(model)[: chosen.layers]
    units = sum(map(len, objectives))
    rows = []
    for count in chosen.workers:
        seconds, peak = _time(objectives, count, chosen.steps)
        numbers = (seconds, 1e3 * seconds / units, peak, os.getloadavg()[0])
        rows.append((count, units, *(f"{number:.3g}" for number in numbers)))
    columns = ("workers", "units", "seconds", "ms a unit", "driver's peak, MB", "load")
    write_table("atlas", "An atlas of MobileNetV2 (0.35, 64 pixels)", columns, rows)


def _time(objectives, count, steps):
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, mp_context=context) if count else nullcontext()
    with tempfile.TemporaryDirectory() as folder, pool as executor:
        began = time.perf_counter()
        atlas(objectives, folder, executor, steps=steps)
        seconds = time.perf_counter() - began
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
