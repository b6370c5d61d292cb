"""Measure the bytes of the event files of a training with `probe_data`, by kind of record.

    python benchmarks/event_files.py [--epochs 50] [--against FOLDER]

`--against` names a folder with another release of the package, which trains the same.
"""

import argparse
import collections
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
from common import write_table
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from featviz_callback import FeatureVisCallback, Objective

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

# Few steps give pictures of about the size of those of many.
IMAGES, STEPS = 640, 8


def train(epochs):
    """Train the clothes example with 34 targets; return the bytes of each kind of record."""
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    images, labels = fashion_mnist.load_data()
    keras.utils.set_random_seed(0)
    model = fashion_mnist.build_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    targets = [
        Objective.neuron(model, "logits", range(10)),
        Objective.channel(model, "conv1", range(12)),
        Objective.channel(model, "conv2", range(12)),
    ]
    folder = tempfile.mkdtemp()
    callback = FeatureVisCallback(
        targets, folder, steps=STEPS, probe_data=(images[:1000], labels[:1000]),
        values_range=(0, 1), on_error="raise",
    )  # fmt: skip
    model.fit(images[:IMAGES], labels[:IMAGES], batch_size=64, epochs=epochs, verbose=0,
              callbacks=[callback])  # fmt: skip
    files = list(Path(folder, "feature_vis").glob("*tfevents*"))
    found = collections.Counter()
    for path in files:
        for record in RawEventFileLoader(str(path)).Load():
            for value in Event.FromString(record).summary.value:
                found[value.tag.partition("/")[0]] += value.ByteSize()
    return {"in all": sum(path.stat().st_size for path in files), **found}


def of_release(folder, epochs):
    """Return what `train` measures with the package of a folder."""
    command = [sys.executable, __file__, "--epochs", str(epochs), "--print"]
    environment = {**os.environ, "PYTHONPATH": str(Path(folder).resolve())}
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(output.stdout.splitlines()[-1])


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--against", help="folder of another release")
    parser.add_argument("--print", action="store_true", help="print numbers in place of a table")
    given = parser.parse_args()
    found = train(given.epochs)
    if given.print:
        print(json.dumps(found))
        return
    other = of_release(given.against, given.epochs) if given.against else {}
    write(found, other, given.epochs)


def write(found, other, epochs):
    """Write the table of two measured trainings."""
    kinds = sorted({*found, *other}, key=lambda kind: -found.get(kind, 0))
    rows = [
        (kind, f"{found.get(kind, 0) / 1e6:.2f} MB",
         f"{other.get(kind, 0) / 1e6:.2f} MB" if other else "")
        for kind in kinds
        if max(found.get(kind, 0), other.get(kind, 0)) >= 1e5
    ]  # fmt: skip
    title = f"Event files of 34 targets and {epochs} epochs of {IMAGES} images, {STEPS} steps"
    if other:
        title += f": {found['in all'] / other['in all']:.2f} times those of the other release"
    write_table("event_files", title, ("records", "this release", "the other"), rows)


if __name__ == "__main__":
    main()
