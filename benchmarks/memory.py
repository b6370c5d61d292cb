"""Measure the most memory that training on images of 512 pixels needs, with and without.

Each training is a process of its own, one batch of one image after the other. On a CPU its
memory is the most that Linux says of the process; on a GPU the most of the device that the
backend says of its tensors.

    python benchmarks/memory.py [--rounds 3]
"""

import argparse
import subprocess
import sys
import tempfile

import keras
import numpy as np
from accelerator import peak_mebibytes
from batches import large_model, megabytes
from common import write_table
from keras import layers

from featviz_callback import FeatureVisCallback

SIZE = 512
WAYS = ("alone", "callback", "callback, 16 real images")


def plain():
    """Build three convolutions, each with half the pixels of the one before."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            *(layers.Conv2D(n, 3, strides=2, activation="relu") for n in (32, 64, 64)),
            layers.GlobalAveragePooling2D(),
            layers.Dense(100),
        ]
    )


NETS = {"three strided convolutions": plain, "two convolutions of all pixels": large_model}


def most_memory():
    """Return the most MiB of the device, or of this process where there is no device."""
    has_device = keras.backend.backend() in ("jax", "torch")
    return (peak_mebibytes() if has_device else 0) or megabytes("VmHWM")


def train(net, way):
    """Train one epoch of two images, and print the most memory."""
    keras.utils.set_random_seed(0)
    model = NETS[net]()
    model.compile("adam", "mse")
    images = np.random.default_rng(0).random((16, SIZE, SIZE, 3), "float32")
    labels = np.zeros((2, model.output_shape[-1]), "float32")
    callbacks = []
    if way != "alone":
        data = images if "real" in way else None
        # Memory does not depend on the number of steps.
        callbacks = [
            FeatureVisCallback(log_dir=tempfile.mkdtemp(), probe_data=data, steps=1, verbose=0)
        ]
    model.fit(images[:2], labels, batch_size=1, callbacks=callbacks, verbose=0)
    print(f"{most_memory():.0f}")


def measured(net, way):
    """Return what `train` prints in a process of its own, in MiB."""
    command = [sys.executable, __file__, "--net", net, "--way", way]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return int(done.stdout.split()[-1])


def main():
    """Measure each way of each network in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--net")
    parser.add_argument("--way")
    given = parser.parse_args()
    if given.net:
        train(given.net, given.way)
        return
    rows = []
    for net in NETS:
        taken = {way: [] for way in WAYS}
        for _ in range(given.rounds):
            for way in WAYS:
                taken[way].append(measured(net, way))
        medians = {way: np.median(found) for way, found in taken.items()}
        for way in WAYS:
            ratio = f"{medians[way] / medians['alone']:.2f}"
            rows.append((net, way, f"{medians[way]:.0f} MiB", ratio))
            print(rows[-1], flush=True)
    columns = ("network", "training", "most memory", "multiple of training alone")
    write_table("memory", f"Memory of training on images of {SIZE} pixels", columns, rows)


if __name__ == "__main__":
    main()
