"""What the callback tells and what it costs, in trainings on the clothes shipped here.

* drift of each layer, epoch by epoch, its floor, and between unrelated networks;
* a training with the callback and without, in turn, and with `max_overhead`;
* a training with a hook for batches, and without;
* memory, open files and seconds over many looks.

    python benchmarks/monitor.py [--epochs 12] [--looks 200] [--rounds 3]
"""

import argparse
import gc
import logging
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from common import write_table
from keras import layers

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.history import drift
from featviz_callback.optimization import _programs

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

LAYERS = ("conv1", "conv2", "conv3", "logits")


def build_model(seed):
    """Three convolutions and ten logits."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv2"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv3"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )
    compile_model(model)
    return model


def compile_model(model):
    """Ready to be trained."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)


def all_layers(model):
    """Eight channels of each convolution, and the logits."""
    channels = [Objective.channel(model, name, range(8)) for name in LAYERS[:-1]]
    return [*channels, Objective.neuron(model, "logits", range(10))]


def of_layer(names, layer):
    """Indices of the targets in a layer."""
    return [i for i, name in enumerate(names) if f"#{layer}_" in name]


def watched_training(seed, images, labels, epochs):
    """A history with every target of four layers."""
    model = build_model(seed)
    callback = FeatureVisCallback(
        all_layers, tempfile.mkdtemp(), probe_data=images[:500], on_error="raise"
    )
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=[callback])
    return callback.history


def measure_drift(images, labels, epochs):
    """Rows: one an epoch, of two networks, then floors and unrelated networks."""
    seen = [watched_training(seed, images, labels, epochs) for seed in (0, 1)]
    columns = [of_layer(seen[0].names, layer) for layer in LAYERS]

    def row(what, values):
        return (what, *(f"{np.nanmean(values[..., column]):.2f}" for column in columns))

    one, other = seen[0].images[-1], seen[1].images[-1]
    untrained = seen[1].images[0]
    since = np.stack([history.drift for history in seen])
    to_last = np.stack([[drift(i, h.images[-1]) for i in h.images] for h in seen])
    floors = np.stack([history.drift_floor for history in seen])
    epochs = seen[0].epochs
    rows = [row(f"epoch {epoch}", since[:, i]) for i, epoch in enumerate(epochs) if i]
    rows += [row(f"from epoch {e} to the last", to_last[:, i]) for i, e in enumerate(epochs[:-1])]
    rows += [
        row("floor, untrained (two seeds)", floors[:, 0]),
        row("floor, at the end (two seeds)", floors[:, -1]),
        row("swapped for an untrained network", drift(one, untrained)),
        row("swapped for one trained from another seed", drift(one, other)),
        row("the same, each target against the next one", drift(one, np.roll(other, 1, 0))),
    ]
    title = "Drift since the look before, mean of each layer and of two networks"
    write_table("drift", title, ("", *LAYERS), rows)


def fit_example(images, labels, epochs, *callbacks):
    """Seconds of the training of `examples/fashion_mnist.py`, without tracing it."""
    keras.utils.set_random_seed(0)
    model = fashion_mnist.build_model()
    compile_model(model)
    model.fit(images[:640], labels[:640], batch_size=64, verbose=0)
    began = time.perf_counter()
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=list(callbacks))
    return time.perf_counter() - began


def watcher(images, **settings):
    """The callback of that example."""
    return FeatureVisCallback(
        lambda model: [
            Objective.neuron(model, "logits", range(10)),
            Objective.channel(model, "conv2", [1, 2, 3]),
            Objective.channel(model, "conv1", [1, 4, 5]),
        ],
        tempfile.mkdtemp(),
        on_error="raise",
        **settings,
    )


class OnBatch(keras.callbacks.Callback):
    """Does nothing, for every batch."""

    def on_train_batch_end(self, batch, logs=None):
        """Nothing."""


def measure_cost(images, labels, epochs, rounds):
    """Rows: one a kind of callback, run in turn with a training that has none."""
    kinds = {
        "no callback": lambda: None,
        "every epoch": lambda: watcher(images),
        "every epoch, with probe_data": lambda: watcher(images, probe_data=images[:1000]),
        "max_overhead=0.05": lambda: watcher(images, max_overhead=0.05),
        "a batch hook that does nothing": OnBatch,
    }
    seconds, made = {kind: [] for kind in kinds}, {}
    for _ in range(rounds):
        for kind, make in kinds.items():
            made[kind] = make()
            seconds[kind].append(fit_example(images, labels, epochs, *filter(None, [made[kind]])))
    rows = [_cost_row(kind, seconds, made[kind]) for kind in kinds]
    columns = ("callback", "training", "more than without", "looks", "their share", "compiling")
    title = f"Training the Fashion-MNIST example for {epochs} epochs, {rounds} rounds in turn"
    write_table("overhead", title, columns, rows)


def _cost_row(kind, seconds, callback):
    more = np.median(np.array(seconds[kind]) / np.array(seconds["no callback"])) - 1
    row = (kind, f"{np.median(seconds[kind]):.1f} s", f"{more:+.1%}")
    if not isinstance(callback, FeatureVisCallback):
        return (*row, "", "", "")
    history = callback.history
    looked = f"{len(history)} of {len(history) + len(history.skipped)}"
    share = history.seconds.sum() / (seconds[kind][-1] - history.compile_seconds)
    return (*row, looked, f"{share:.1%}", f"{history.compile_seconds:.1f} s")


class Watch(keras.callbacks.Callback):
    """Notes memory, open files and traces after each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        """Notes them."""
        gc.collect()
        programs = [program for kept in _programs.values() for program in kept.values()]
        self.seen.append(
            (resident(), len(os.listdir("/proc/self/fd")), sum(one.traces for one in programs))
        )


def resident():
    """MiB that this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure_many_looks(images, labels, looks):
    """Rows: what there was early and late."""
    model = build_model(0)
    watch, callback = (
        Watch(),
        FeatureVisCallback(
            all_layers, tempfile.mkdtemp(), steps=4, probe_data=images[:64], on_error="raise"
        ),
    )
    model.fit(images[:64], labels[:64], epochs=looks, verbose=0, callbacks=[callback, watch])
    seen, quarter = np.array(watch.seen), looks // 4
    kept = callback.history.images.nbytes / 2**20
    early, late = seen[quarter], seen[-2]
    per_look = (late[0] - early[0]) / (looks - quarter - 2)
    seconds = callback.history.seconds[2:-1]
    rows = [
        ("resident memory", f"{early[0]:.0f} MiB", f"{late[0]:.0f} MiB"),
        ("of which a look adds", "", f"{1024 * per_look:.0f} KiB"),
        ("of which the history keeps", "", f"{1024 * kept / len(callback.history):.0f} KiB"),
        ("open files", int(early[1]), int(late[1])),
        ("traces", int(early[2]), int(late[2])),
        ("seconds a look (median of a quarter)",
         f"{np.median(seconds[:quarter]):.3f}", f"{np.median(seconds[-quarter:]):.3f}"),
    ]  # fmt: skip
    columns = ("", f"after {quarter} looks", f"after {looks}")
    write_table("many_looks", f"{looks} looks at 34 targets", columns, rows)


def main():
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--looks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["drift", "cost", "looks"])
    arguments = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    images, labels = fashion_mnist.load_data()
    if arguments.only in (None, "drift"):
        measure_drift(images, labels, arguments.epochs)
    if arguments.only in (None, "cost"):
        measure_cost(images, labels, arguments.epochs, arguments.rounds)
    if arguments.only in (None, "looks"):
        measure_many_looks(images, labels, arguments.looks)


if __name__ == "__main__":
    main()
