"""Measure what the health of layers costs, and what functional drift tells.

* `snapshot`: a snapshot of the clothes example without real images, and with them;
* `training`: the share of a long training that health takes;
* `warnings`: how many units die in healthy trainings, and at a rate that is too high;
* `drift`: the rank correlation of functional drift and picture drift, of three networks.

    python benchmarks/health.py [--only drift] [--epochs 12]
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import keras
import monitor
import numpy as np
from common import write_table
from keras import layers

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.monitoring.behaviour import UnitMeter, functional_drift
from featviz_callback.monitoring.checkup import HealthMeter
from featviz_callback.monitoring.health import LayerMeter
from featviz_callback.objectives import inputs, score_all
from featviz_callback.tensorboard import summaries

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist
import photographs

# All that health does, where it is called.
PARTS_OF_HEALTH = (
    (LayerMeter, "see"),
    (HealthMeter, "watch"),
    (HealthMeter, "checkup"),
    (UnitMeter, "measure"),
    (summaries, "write_health"),
)


@contextmanager
def timed_health():
    """Yield a list that gets the seconds of every part of health."""
    seconds = []

    def timed(function):
        def call(*args, **kwargs):
            began = time.perf_counter()
            result = function(*args, **kwargs)
            seconds.append(time.perf_counter() - began)
            return result

        return call

    with ExitStack() as stack:
        for owner, name in PARTS_OF_HEALTH:
            stack.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name))))
        yield seconds


class WithoutHealth(FeatureVisCallback):
    """Measure no layer."""

    def on_epoch_begin(self, epoch, logs=None):
        """Take the first snapshot without it, too."""
        self._observer._is_unwatchable = True
        super().on_epoch_begin(epoch, logs)


def measure_snapshot(data, epochs):
    """Write the seconds of a snapshot with and without real images, in turn in one training."""
    images, labels = data
    real = {"probe_data": (images[:1000], labels[:1000])}
    kinds = {
        "no probe_data": monitor.watcher(images),
        "probe_data, no health of layers": monitor.watcher(images, WithoutHealth, **real),
        "probe_data and health": monitor.watcher(images, **real),
    }
    monitor.fit_example(images[:640], labels[:640], epochs, *kinds.values())
    # The first and the last measure the noise floor too.
    found = {kind: one.history.seconds[1:-1] for kind, one in kinds.items()}
    plain = found["no probe_data"]
    rows = [
        (kind, f"{1000 * np.median(one):.0f} ms", f"{np.median(one / plain) - 1:+.0%}",
         ", ".join(f"{r - 1:+.0%}" for r in one / plain))
        for kind, one in found.items()
    ]  # fmt: skip
    columns = ("", "a snapshot, median", "more, median", "at each epoch")
    title = f"A snapshot of the clothes example, load of the machine {os.getloadavg()[0]:.0f}"
    write_table("health_snapshot", title, columns, rows)


def measure_training(data, epochs):
    """Write the share of a training on 60,000 images that health takes."""
    images, labels = (np.concatenate([one] * 6) for one in data)
    probe = data[0][:1000], data[1][:1000]
    callback = monitor.watcher(images, probe_data=probe)
    with timed_health() as seconds:
        whole = monitor.fit_example(images, labels, epochs, callback)
    # What the snapshots themselves take is no part of training.
    training = whole - callback.history.seconds.sum() - callback.history.compile_seconds
    rows = [
        ("training alone", f"{training:.0f} s", ""),
        ("snapshots", f"{callback.history.seconds.sum():.1f} s",
         f"{callback.history.seconds.sum() / training:.1%}"),
        ("of which health", f"{sum(seconds):.2f} s", f"{sum(seconds) / training:.2%}"),
    ]  # fmt: skip
    count = len(callback.history)
    title = f"{epochs} epochs of the clothes example on 60,000 images, {count} snapshots"
    write_table("health_training", title, ("", "seconds", "of training alone"), rows)


class Meter(keras.callbacks.Callback):
    """The largest share of dead and of duplicate units of any layer, after each epoch."""

    def __init__(self, images):
        super().__init__()
        self.images = images
        self.dead, self.duplicate = [], []

    def on_epoch_end(self, epoch, logs=None):
        """Measure all layers, without any picture."""
        meter, image_input = HealthMeter({"": self.model}), inputs.resolve(self.model, None, 3)[0]
        watch = meter.watch("", self.images, image_input)
        score_all([Objective.layer(self.model, -1)], self.images, watch=watch)
        found, _ = meter.checkup()
        self.dead.append(np.nanmax(found.dead))
        self.duplicate.append(np.nanmax(found.duplicate))


def of_layers(*inner):
    """Build a network of clothes that ends in ten logits."""
    return keras.Sequential([keras.Input((28, 28, 1)), *inner, layers.Dense(10, name="logits")])


def mlp():
    """Build three hidden layers."""
    hidden = (layers.Dense(128, activation="relu") for _ in range(3))
    return of_layers(layers.Flatten(), *hidden)


def wide():
    """Build two convolutions and a hidden layer, with dropout."""
    maps = (layers.Conv2D(64, size, strides=2, activation="relu") for size in (5, 3))
    hidden = layers.Dense(256, activation="relu")
    return of_layers(*maps, layers.Flatten(), layers.Dropout(0.5), hidden)


def six_convolutions():
    """Build six convolutions and a pooling."""
    convolutions = (
        layers.Conv2D(width, 3, strides=strides, padding="same", activation="relu")
        for width in (16, 32, 64)
        for strides in (1, 2)
    )
    return of_layers(*convolutions, layers.GlobalAveragePooling2D())


def measure_warnings(data):
    """Write how many units die in healthy trainings, and at a learning rate that is too high."""
    images, labels = data
    clothes = fashion_mnist.build_model
    kinds = (
        ("clothes example", 1e-2, 0, clothes, 9000, 3),
        ("clothes example", 1e-2, 1, clothes, 9000, 3),
        ("clothes example", 1e-3, 0, clothes, 9000, 4),
        ("three hidden layers", 1e-3, 0, mlp, 4000, 6),
        ("wide, with dropout", 1e-3, 0, wide, 3000, 3),
        ("six convolutions", 1e-3, 0, six_convolutions, 3000, 3),
        ("batch normalisation", 1e-3, 0, normalised_model, 3000, 3),
    )
    rows = []
    for name, rate, seed, build, count, epochs in kinds:
        keras.utils.set_random_seed(seed)
        model, meter = build(), Meter(images[:1000])
        monitor.compile_model(model, keras.optimizers.Adam(rate))
        model.fit(images[:count], labels[:count], epochs=epochs, batch_size=64, verbose=0,
                  callbacks=[meter])  # fmt: skip
        rows.append(warnings_row(name, rate, seed, meter.dead, meter.duplicate))
    keras.utils.set_random_seed(0)
    pieces = photographs.load_photographs()
    (x, y), _ = photographs.load_data(pieces, each=1000)
    model, meter = photographs.build_model(len(pieces)), Meter(x[:1000])
    monitor.compile_model(model)
    model.fit(x, y, epochs=3, batch_size=64, verbose=0, callbacks=[meter])
    rows.append(warnings_row("photographs example", 1e-3, 0, meter.dead, meter.duplicate))
    write_warnings(rows)


def warnings_row(name, rate, seed, dead, duplicate):
    """Return a row of the table."""
    return (name, f"{rate:g}", seed, *(", ".join(f"{s:.0%}" for s in one) for one in
                                       (dead, duplicate)))  # fmt: skip


def write_warnings(rows):
    """Write the table."""
    columns = ("network", "learning rate of Adam", "seed", "dead, after each epoch",
               "duplicate, after each epoch")  # fmt: skip
    title = "The largest share of a layer, where 25 % dead or 75 % duplicate give a warning"
    write_table("health_warnings", title, columns, rows)


def normalised_model():
    """Build a network of other layers: batch normalisation, ReLU6, pooling."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for i, width in enumerate((16, 32, 32), 1):
        model.add(
            layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False, name=f"conv{i}")
        )
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU(6.0, name=f"relu{i}"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10, name="logits"))
    monitor.compile_model(model)
    return model


def example_model():
    """Build and compile the network of the example."""
    keras.utils.set_random_seed(0)
    model = fashion_mnist.build_model()
    monitor.compile_model(model)
    return model


NETWORKS = {
    "example": (example_model, ("conv1", "conv2")),
    "three convolutions": (lambda: monitor.build_model(0), ("conv1", "conv2", "conv3")),
    "batch normalisation": (normalised_model, ("relu1", "relu2", "relu3")),
}


def ranks(values):
    """Return mean ranks of a row of numbers."""
    values = np.asarray(values, "float64")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]


def spearman(one, other):
    """Return the rank correlation of two arrays, where both are known."""
    known = np.isfinite(one) & np.isfinite(other)
    return 1 - functional_drift(ranks(one[known]), ranks(other[known]))


def measure_drift(data, epochs):
    """Write rank correlations of functional and picture drift, over units and epochs."""
    images, labels = data
    rows = []
    for name, (build, hidden) in NETWORKS.items():
        model = build()
        targets = [Objective.channel(model, layer, range(8)) for layer in hidden]
        targets.append(Objective.neuron(model, "logits", range(10)))
        callback = FeatureVisCallback(
            targets, tempfile.mkdtemp(), probe_data=images[:1000], on_error="raise"
        )
        model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=[callback])
        history = callback.history
        picture, functional = history.drift[1:], history.functional_drift[1:]
        each = [spearman(picture[i], functional[i]) for i in range(len(picture))]
        of_units = [spearman(picture[:, i], functional[:, i]) for i in range(picture.shape[1])]
        rows.append(
            (name, picture.size, f"{spearman(picture, functional):.2f}",
             f"{np.nanmedian(each):.2f}", f"{np.nanmedian(of_units):.2f}",
             f"{np.nanmean(functional[0]):.2f}", f"{np.nanmean(functional[-1]):.3f}",
             int((history.settled != -2).sum()))
        )  # fmt: skip
    columns = ("network", "pairs", "over units and epochs", "over units, median epoch",
               "over epochs, median unit", "functional drift, first", "last",
               "settled")  # fmt: skip
    title = f"Spearman's correlation of functional drift and picture drift, {epochs} epochs"
    write_table("functional_drift", title, columns, rows)


PARTS = {
    "snapshot": lambda data, given: measure_snapshot(data, given.epochs or 12),
    "training": lambda data, given: measure_training(data, given.epochs or 20),
    "warnings": lambda data, given: measure_warnings(data),
    "drift": lambda data, given: measure_drift(data, given.epochs or 12),
}


def main():
    """Measure everything, or one part of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="default: as many as each part needs")
    parser.add_argument("--only", choices=list(PARTS))
    arguments = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    data = fashion_mnist.load_data()
    for name, measure in PARTS.items():
        if arguments.only in (None, name):
            measure(data, arguments)


if __name__ == "__main__":
    main()
