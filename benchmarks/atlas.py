"""An atlas of MobileNetV2: its pace, what its process holds in memory, and what kills cost.

    python benchmarks/atlas.py [--part whole] [--folder FOLDER]

Every channel of every convolution: 7,040 units of 64 pixels, 16 steps.

"whole" makes all of it with two workers. On the way it kills one worker, then the process that
asked for the atlas, each by `kill -9`, and goes on. It notes each finished file and whether
anything wrote it again. "pace" makes every eighth layer with two workers of one thread each
and with none, and measures what `many_units.py` needs. State the load of the machine beside
the numbers.
"""

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path

# Every so many layers are enough for the pace: 824 units of narrow and wide ones.
_EVERY = 8
# A worker and the driver are killed when these shares of all chunks are done.
_KILLS = (("a worker", 0.4), ("the driver", 0.5))


def main():
    """Run both parts, and write a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("whole", "pace"))
    parser.add_argument("--folder", help="where the whole atlas stays (default: nowhere)")
    parser.add_argument("--drive", metavar="WORKERS", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--some", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.drive is not None:
        drive(chosen.folder, chosen.drive, chosen.some)
        return
    if chosen.part != "pace":
        with tempfile.TemporaryDirectory() as folder:
            whole(Path(chosen.folder or folder))
    if chosen.part != "whole":
        pace()


def drive(folder, workers, is_some):
    """Make the atlas in this process, and print what it took."""
    import keras

    from featviz_callback import atlas
    from featviz_callback.monitoring.workers import greet
    from featviz_callback.objectives import every_channel
    from featviz_callback.optimization import compile_seconds

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)
    objectives = every_channel(model)
    if is_some:
        objectives = objectives[::_EVERY]
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context) if workers else nullcontext()

    def make(executor=None):
        began = time.perf_counter()
        atlas(objectives, folder, executor, steps=16, verbose=0)
        return time.perf_counter() - began

    with pool as executor:
        began = time.perf_counter()
        if workers:
            executor.submit(greet).result()
        start = time.perf_counter() - began
        seconds = make(executor)
    checking = logging = 0.0
    if is_some and not workers:
        checking = make()
        shutil.rmtree(Path(folder) / "feature_vis")
        logging = make() - checking
    compiling = compile_seconds(model) / len(objectives)
    print(sum(map(len, objectives)), start, seconds, checking, compiling, logging)


def whole(folder):
    """Make the whole atlas, with two kills on the way."""
    from common import write_table

    rows, known = [], {}
    began, load, kills = time.perf_counter(), _load(), list(_KILLS)
    total = _count_chunks()
    driver, memory = _start(folder, 2), []

    def note(event):
        lost = sum(_files(folder).get(name) != file for name, file in known.items())
        known.update(_files(folder))
        seconds = f"{time.perf_counter() - began:.0f}"
        spread = f"{memory[0]:.0f} to {max(memory):.0f}" if memory else ""
        rows.append((event, seconds, f"{len(known)} of {total}", lost, spread))
        print(*rows[-1], flush=True)

    while driver.poll() is None:
        time.sleep(0.5)
        done = len(_files(folder))
        if done:
            memory.append(_memory(driver.pid))
        if kills and done >= kills[0][1] * total:
            who, _ = kills.pop(0)
            workers = _workers(driver.pid)
            note(f"kill -9 of {who}")
            memory.clear()
            os.kill(workers[0] if who == "a worker" else driver.pid, signal.SIGKILL)
            if who == "the driver":
                driver.wait()
                time.sleep(10)
                note(f"ten seconds later; workers left: {sum(map(_is_running, workers))}")
                driver = _start(folder, 2)
    note("the end" if driver.returncode == 0 else f"failed: {driver.returncode}")
    title = f"An atlas of 7,040 units of MobileNetV2, two workers, killed twice; load {load}"
    columns = ("when", "seconds", "chunks", "lost or written again", "driver's memory, MB")
    write_table("atlas", title, columns, rows)


def pace():
    """Make some layers with two workers and with none."""
    from common import write_table

    found = {}
    for workers in (2, 0):
        load = _load()
        with tempfile.TemporaryDirectory() as folder:
            printed = _start(folder, workers, "--some").communicate()[0]
        found[workers] = load, *map(float, printed.split())
    # Both check the same first.
    checking = found[0][4]
    rows = [
        (
            "two workers, a thread each" if workers else "one process that has both cores",
            *(f"{units:.0f}", load, f"{start:.1f}" if workers else "", f"{seconds:.1f}"),
            *(f"{checking:.1f}", f"{1e3 * (seconds - checking) / units:.1f}"),
            *(("", "") if workers else (f"{compiling:.1f}", f"{1e3 * logging / units:.1f}")),
        )
        for workers, (load, units, start, seconds, _, compiling, logging) in found.items()
    ]
    columns = (
        *("who computes", "units", "load before", "s until a worker answers", "seconds"),
        *("of it checking", "ms a unit without", "s to compile a layer", "ms to log a unit"),
    )
    write_table("atlas_pace", "The pace of an atlas of MobileNetV2", columns, rows)


def _start(folder, workers, *more):
    command = [sys.executable, __file__, "--drive", str(workers), "--folder", str(folder)]
    # TensorFlow's threads are as many as there are cores, in each worker.
    threads = {"TF_NUM_INTRAOP_THREADS": "1"} if workers else {}
    environment = {**os.environ, **threads}
    return subprocess.Popen([*command, *more], stdout=subprocess.PIPE, text=True, env=environment)


def _count_chunks():
    """Return how many files the atlas has: one for each 128 units of a layer."""
    import keras

    from featviz_callback.objectives import every_channel

    model = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None)
    return sum(-(-len(one) // 128) for one in every_channel(model))


def _files(folder):
    """Return the inode and time of each finished chunk."""
    paths = (Path(folder) / "chunks").glob("*.npz")
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def _workers(driver):
    children = Path(f"/proc/{driver}/task/{driver}/children").read_text().split()
    return [int(one) for one in children if "spawn_main" in _command(one)]


def _command(process):
    return Path(f"/proc/{process}/cmdline").read_text()


def _is_running(process):
    return Path(f"/proc/{process}").exists() and "spawn_main" in _command(process)


def _memory(process):
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.startswith("VmRSS")]
    return found[0] / 1024 if found else 0.0


def _load():
    return f"{os.getloadavg()[0]:.2f}"


if __name__ == "__main__":
    main()
