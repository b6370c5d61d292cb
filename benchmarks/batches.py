"""Measure time and memory of an optimisation, by the images in one call of the model.

Memory grows with the pixels of all images in a call, and time hardly depends on their
number. The default number of images is chosen by this table.

Steps of all numbers run in turn in one process; the result is the median of the ratios
within a round. Memory is the peak of a process that makes 16 images, less its memory
just before.

    python benchmarks/batches.py [--model FILE.keras --layer logits] [--rounds 8]
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
from common import WARM_UP, in_turn, write_table
from keras import layers
from step_cost import optimization_step

from featviz_callback import Objective, optimize

BATCHES = (16, 8, 4, 2, 1)
TARGETS = 16


def large_model():
    """Build two convolutions on 512 pixels, with random weights."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((512, 512, 3)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(TARGETS, name="logits"),
        ]
    )


def load(path):
    """Load a model, or build the one of 512 pixels if there is no path."""
    return keras.saving.load_model(path, compile=False) if path else large_model()


def time_per_image(model, layer, rounds):
    """Return each number's time of a step and image, as a multiple of the largest number's."""
    steps = {
        batch: optimization_step(
            model, layer, list(range(batch)), rounds + WARM_UP, batch_size=batch
        )
        for batch in BATCHES
    }
    seconds = {batch: found / batch for batch, found in in_turn(steps, rounds).items()}
    return {batch: np.median(found / seconds[BATCHES[0]]) for batch, found in seconds.items()}


def megabytes(name):
    """Return this process's memory now, `VmRSS`, or its peak, `VmHWM`, on Linux."""
    # A child's `ru_maxrss` is at least that of its parent.
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) // 1024


def print_peak(path, layer, batch):
    """Print the megabytes by which one optimisation raises this process's peak."""
    objective = Objective.neuron(load(path), layer, range(TARGETS))
    before = megabytes("VmRSS")
    optimize(objective, steps=2, values_range=(-1.0, 1.0), batch_size=batch)
    print(megabytes("VmHWM") - before)


def peak(path, layer, batch):
    """Return what `print_peak` prints in a process of its own."""
    command = [sys.executable, __file__, "--layer", layer, "--peak", str(batch)]
    command += ["--model", path] if path else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def main():
    """Measure a network of 512 pixels, and a model from a file if one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a .keras file of a classifier of images in [-1, 1]")
    parser.add_argument("--layer", default="logits")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.model, arguments.layer, arguments.peak)
        return
    cases = [(None, "logits")]
    if arguments.model:
        cases.append((arguments.model, arguments.layer))
    rows = []
    for path, layer in cases:
        model = load(path)
        name = model.name if path else "two convolutions of 16 filters"
        ratios = time_per_image(model, layer, arguments.rounds)
        size = model.input_shape[1]
        for batch in BATCHES:
            row = [name, size, batch, f"{ratios[batch]:.2f}", peak(path, layer, batch)]
            rows.append(row)
    write_table(
        "batches",
        "Time and memory by the images in one call of the model",
        ["model", "pixels", "images", "time an image, relative to 16", "peak, MB more"],
        rows,
    )


if __name__ == "__main__":
    main()
