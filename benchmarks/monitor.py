"""Measure what the callback reports and costs, in trainings on the clothes shipped here.

* `drift`: drift of each layer, epoch by epoch, its noise floor, and drift between
  unrelated networks;
* `settling`: drift in a longer training at a falling rate, and which layer settles first;
* `cost`: a training with the callback and without, in turn;
* `hook`: a training with a hook for batches and without, in turn;
* `bound`: trainings with `max_overhead`;
* `snapshots`: memory, open files and seconds over many snapshots.

    python benchmarks/monitor.py [--only drift] [--epochs 12]
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
from featviz_callback.optimization import step
from featviz_callback.records.drift import drift

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist
import photographs

LAYERS = ("conv1", "conv2", "conv3", "logits")


def build_model(seed):
    """Build and compile three convolutions and ten logits."""
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


def compile_model(model, optimizer="adam"):
    """Compile a model of ten logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss)


def all_layers(model):
    """Return eight channels of each convolution, and the logits."""
    channels = [Objective.channel(model, name, range(8)) for name in LAYERS[:-1]]
    return [*channels, Objective.neuron(model, "logits", range(10))]


def of_layer(names, layer):
    """Return the indices of the targets in a layer."""
    return [i for i, name in enumerate(names) if f"#{layer}_" in name]


def watched_training(seed, images, labels, epochs, optimizer="adam"):
    """Train with the callback; return a history with every target of four layers."""
    model = build_model(seed)
    compile_model(model, optimizer)
    callback = FeatureVisCallback(
        all_layers, tempfile.mkdtemp(), probe_data=images[:500], on_error="raise"
    )
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=[callback])
    return callback.history


def measure_drift(images, labels, epochs):
    """Write rows of drift by epoch, to the last epoch, of noise floors and unrelated networks."""
    seen = [watched_training(seed, images, labels, epochs) for seed in (0, 1)]
    columns = [of_layer(seen[0].names, layer) for layer in LAYERS]

    def row(what, values):
        return (what, *(f"{np.nanmean(values[..., column]):.2f}" for column in columns))

    one, other = seen[0].images[-1], seen[1].images[-1]
    untrained = seen[1].images[0]
    since = np.stack([history.drift for history in seen])
    to_last = np.stack([[drift(i, h.images[-1]) for i in h.images] for h in seen])
    floors = np.stack([history.noise_floor for history in seen])
    epochs = seen[0].epochs
    rows = [row(f"epoch {epoch}", since[:, i]) for i, epoch in enumerate(epochs) if i]
    rows += [row(f"from epoch {e} to the last", to_last[:, i]) for i, e in enumerate(epochs[:-1])]
    rows += [
        row("noise floor, untrained (two seeds)", floors[:, 0]),
        row("noise floor, at the end (two seeds)", floors[:, -1]),
        row("swapped for an untrained network", drift(one, untrained)),
        row("swapped for one trained from another seed", drift(one, other)),
        row("the same, each target against the next one", drift(one, np.roll(other, 1, 0))),
    ]
    title = "Drift since the snapshot before, mean of each layer and of two networks"
    write_table("drift", title, ("", *LAYERS), rows)


def measure_settling(images, labels, epochs):
    """Write rows that show how soon the pictures of each layer come close to the last ones."""
    batches = epochs * -(-len(images) // 64)

    def history(seed):
        rate = keras.optimizers.schedules.CosineDecay(0.05, batches)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9)
        return watched_training(seed, images, labels, epochs, optimizer)

    seen = [history(seed) for seed in (0, 1, 2)]
    columns = [of_layer(seen[0].names, layer) for layer in LAYERS]

    def row(what, values):
        return (what, *(f"{np.nanmean(values[..., column]):.2f}" for column in columns))

    def first_epoch(what, moved, limits):
        """Return the first epoch from which the mean of a layer stays at its limit or below."""
        found = []
        for column in columns:
            means = np.nanmean(moved[..., column], axis=(0, 2))
            above = np.flatnonzero(means > np.nanmean(limits[..., column]))
            found.append(int(seen[0].epochs[above[-1] + 1]) if len(above) else -1)
        return (what, *found)

    since = np.stack([one.drift[1:] for one in seen])
    to_last = np.stack([[drift(i, one.images[-1]) for i in one.images] for one in seen])
    floors = np.stack([one.noise_floor[-1] for one in seen])
    start = to_last[:, 0]
    chosen = sorted({0, 1, 2, 4, 9, *range(19, epochs, 20), epochs - 1})
    rows = [row(f"moved in epoch {e}", since[:, e]) for e in chosen]
    rows += [row(f"from epoch {e} to the last", to_last[:, e + 1]) for e in (-1, *chosen[:-1])]
    rows += [
        row("noise floor, at the end (two seeds)", floors),
        first_epoch("first epoch after which the last is nearer than half of the start's distance",
                    to_last[:, :-1], start / 2),
        first_epoch("first epoch after which the last is nearer than the noise floor",
                    to_last[:, :-1], floors),
        first_epoch("first epoch from which on each moves less than the noise floor",
                    np.concatenate([np.full_like(since[:, :1], np.inf), since], 1), floors),
    ]  # fmt: skip
    title = f"{epochs} epochs of SGD at a rate that falls to 0, mean of each layer and 3 networks"
    write_table("settling", title, ("drift", *LAYERS), rows)


def fit_example(images, labels, epochs, *callbacks):
    """Return the seconds of the training of `examples/fashion_mnist.py`, without tracing."""
    keras.utils.set_random_seed(0)
    model = fashion_mnist.build_model()
    compile_model(model)
    model.fit(images[:640], labels[:640], batch_size=64, verbose=0)
    began = time.perf_counter()
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=list(callbacks))
    return time.perf_counter() - began


def watcher(images, kind=FeatureVisCallback, **settings):
    """Return the callback of `examples/fashion_mnist.py`."""
    return kind(
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
    """A batch hook that does nothing."""

    def on_train_batch_end(self, batch, logs=None):
        """Do nothing."""


def in_turn(kinds, images, labels, epochs, rounds):
    """Return the seconds of each kind of training, and the last callback of each."""
    seconds, made = {kind: [] for kind in kinds}, {}
    for _ in range(rounds):
        for kind, make in kinds.items():
            made[kind] = make()
            seconds[kind].append(fit_example(images, labels, epochs, *filter(None, [made[kind]])))
    return seconds, made


def more(seconds, kind):
    """Format the median ratio to a training without the callback, and that of each round."""
    ratios = np.array(seconds[kind]) / np.array(seconds["no callback"])
    return f"{np.median(ratios) - 1:+.1%} ({', '.join(f'{r - 1:+.1%}' for r in ratios)})"


def measure_cost(images, labels, epochs, rounds):
    """Write a row for each kind of callback, run in turn with a training that has none."""
    kinds = {
        "no callback": lambda: None,
        "every epoch": lambda: watcher(images),
        "every epoch, with probe_data": lambda: watcher(images, probe_data=images[:1000]),
    }
    seconds, made = in_turn(kinds, images, labels, epochs, rounds)
    rows = [("no callback", f"{np.median(seconds['no callback']):.1f} s", "", "", "", "", "")]
    rows += [_cost_row(kind, seconds, made[kind]) for kind in list(kinds)[1:]]
    columns = ("callback", "training", "more than without (each round)", "snapshots", "a snapshot",
               "first and last", "compiling")  # fmt: skip
    title = f"Training the Fashion-MNIST example for {epochs} epochs, {rounds} rounds in turn"
    write_table("overhead", title, columns, rows)


def _cost_row(kind, seconds, callback):
    spent, compiling = callback.history.seconds, callback.history.compile_seconds
    return (
        kind, f"{np.median(seconds[kind]):.1f} s", more(seconds, kind), len(spent),
        f"{np.median(spent[1:-1]):.2f} s", f"{spent[0]:.2f} and {spent[-1]:.2f} s",
        f"{compiling:.1f} s",
    )  # fmt: skip


class Epochs(keras.callbacks.Callback):
    """A clock of each epoch, its hooks for batches included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Note the seconds of the epoch."""
        self.seconds.append(time.perf_counter() - self.began)


def measure_hook(images, labels, epochs, rounds):
    """Write rows of epochs with a hook for batches, and without.

    The fastest quarter of the epochs is disturbed least by other processes.
    """
    kinds = {"no hook": (), "a batch hook that does nothing": (OnBatch,)}
    seconds = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, hooks in kinds.items():
            clock = Epochs()
            fit_example(images, labels, epochs, clock, *(hook() for hook in hooks))
            seconds[kind] += clock.seconds[1:]
    fastest = {kind: np.sort(each)[: len(each) // 4 or 1] for kind, each in seconds.items()}
    without = np.mean(fastest["no hook"])
    rows = [
        (kind, len(seconds[kind]), f"{np.mean(fastest[kind]):.3f} s",
         f"{np.mean(fastest[kind]) / without - 1:+.1%}", f"{np.median(seconds[kind]):.3f} s")
        for kind in kinds
    ]  # fmt: skip
    columns = ("callback", "epochs", "the fastest quarter", "more than without", "the median")
    title = f"A hook for batches of a network of {without / -(-len(images) // 64) * 1000:.1f} ms"
    write_table("batch_hook", title + " a batch", columns, rows)


class Shares(keras.callbacks.Callback):
    """The share of the time that snapshots have taken, by a clock of its own."""

    def __init__(self, watched):
        super().__init__()
        self.watched = watched
        self.seen = []

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Note the share."""
        history = self.watched.history
        elapsed = time.perf_counter() - self.began - history.compile_seconds
        self.seen.append((elapsed, history.seconds.sum() / elapsed))


def photographs_example(most):
    """Return the model, data and callback of `examples/photographs.py`."""
    pieces = photographs.load_photographs()
    train, test = photographs.load_data(pieces, each=1000)
    model = photographs.build_model(len(pieces))
    callback = FeatureVisCallback(
        [
            Objective.neuron(model, "logits", range(len(pieces)), names=list(pieces)),
            *[Objective.channel(model, name, range(4)) for name in ("conv3", "conv2", "conv1")],
        ],
        tempfile.mkdtemp(),
        probe_data=train,
        max_overhead=most,
        on_error="raise",
    )
    return model, train, test, callback


def clothes_example(most):
    """Return the model, data and callback of `examples/fashion_mnist.py`."""
    images, labels = fashion_mnist.load_data()
    callback = watcher(images, probe_data=images[:1000], max_overhead=most)
    train, test = (images[:9000], labels[:9000]), (images[9000:], labels[9000:])
    return fashion_mnist.build_model(), train, test, callback


def measure_bound(epochs):
    """Write a row for each training with `max_overhead`."""
    kinds = (("photographs", photographs_example, 0.2, epochs or 30),
             ("clothes", clothes_example, 0.15, epochs or 30),
             ("clothes", clothes_example, 0.05, epochs or 80))  # fmt: skip
    rows = [_bound_row(*kind) for kind in kinds]
    columns = ("example", "epochs", "`max_overhead`", "snapshots after epochs", "an epoch",
               "a snapshot", "first and last", "share after epochs 1 and 9",
               "share at the end")  # fmt: skip
    write_table("bound", "The examples with `max_overhead`", columns, rows)


def _bound_row(name, example, most, epochs):
    keras.utils.set_random_seed(0)
    model, train, test, callback = example(most)
    compile_model(model)
    shares = Shares(callback)
    model.fit(*train, validation_data=test, epochs=epochs, batch_size=64, verbose=0,
              callbacks=[callback, shares])  # fmt: skip
    history, seconds = callback.history, callback.history.seconds
    elapsed, share = np.array(shares.seen).T
    epoch = (elapsed[-1] - seconds.sum()) / epochs
    return (
        name, epochs, most, ", ".join(map(str, history.epochs)), f"{epoch:.2f} s",
        f"{np.median(seconds[1:-1]):.2f} s", f"{seconds[0]:.2f} and {seconds[-1]:.2f} s",
        f"{share[1]:.0%} and {share[9]:.0%}", f"{share[-1]:.1%}",
    )  # fmt: skip


class Watch(keras.callbacks.Callback):
    """Memory, open files and traces after each epoch."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        """Note them."""
        gc.collect()
        compiled = [one for kept in step.compiled_steps.values() for one in kept.values()]
        self.seen.append(
            (
                resident(),
                len(os.listdir("/proc/self/fd")),
                sum(one.traces for one in compiled),
                len(compiled),
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
            )
        )


def resident():
    """Return the MiB that this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def measure_many_snapshots(images, labels, count):
    """Write rows of memory, files, traces and seconds, early and late in a training."""
    model = build_model(0)
    watch, callback = (
        Watch(),
        FeatureVisCallback(
            all_layers, tempfile.mkdtemp(), steps=4, probe_data=images[:64], on_error="raise"
        ),
    )
    model.fit(images[:64], labels[:64], epochs=count, verbose=0, callbacks=[callback, watch])
    seen, quarter = np.array(watch.seen), count // 4
    kept = callback.history.images.nbytes / 2**20
    early, late = seen[quarter], seen[-2]
    per_snapshot = (late[0] - early[0]) / (count - quarter - 2)
    seconds = callback.history.seconds[2:-1]
    rows = [
        ("resident memory", f"{early[0]:.0f} MiB", f"{late[0]:.0f} MiB"),
        ("its peak so far", f"{early[4]:.0f} MiB", f"{late[4]:.0f} MiB"),
        ("of which a snapshot adds", "", f"{1024 * per_snapshot:.0f} KiB"),
        ("of which the history keeps", "", f"{1024 * kept / len(callback.history):.0f} KiB"),
        ("open files", int(early[1]), int(late[1])),
        ("traces", int(early[2]), int(late[2])),
        ("compiled steps", int(early[3]), int(late[3])),
        ("seconds a snapshot (median of a quarter)",
         f"{np.median(seconds[:quarter]):.3f}", f"{np.median(seconds[-quarter:]):.3f}"),
    ]  # fmt: skip
    columns = ("", f"after {quarter} snapshots", f"after {count}")
    write_table("many_snapshots", f"{count} snapshots of 34 targets", columns, rows)


PARTS = {
    "drift": lambda data, given: measure_drift(*data, given.epochs or 12),
    "settling": lambda data, given: measure_settling(*data, given.epochs or 40),
    "cost": lambda data, given: measure_cost(*data, given.epochs or 4, given.rounds),
    "hook": lambda data, given: measure_hook(*data, given.epochs or 5, given.rounds),
    "bound": lambda data, given: measure_bound(given.epochs),
    "snapshots": lambda data, given: measure_many_snapshots(*data, given.snapshots),
}


def main():
    """Measure everything, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="default: as many as each part needs")
    parser.add_argument("--snapshots", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=list(PARTS))
    arguments = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    data = fashion_mnist.load_data()
    for name, measure in PARTS.items():
        if arguments.only in (None, name):
            measure(data, arguments)


if __name__ == "__main__":
    main()
