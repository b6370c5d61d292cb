"""Measure what the health of layers costs, and what functional drift tells.

* `snapshot`: a snapshot of the clothes example without real images, and with them;
* `training`: the share of a long training that health takes;
* `dying`: a learning rate that is too high, and what is said of it;
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
from featviz_callback.tensorboard import summaries

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

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


def measure_dying(data, epochs):
    """Write the share of dead units of each layer at a learning rate that is too high."""
    images, labels = data
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("featviz_callback")
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    rows = []
    for rate in (1e-3, 1e-2):
        said.clear()
        keras.utils.set_random_seed(0)
        model = fashion_mnist.build_model()
        monitor.compile_model(model, keras.optimizers.Adam(rate))
        callback = monitor.watcher(images, probe_data=images[:1000])
        model.fit(images, labels, epochs=epochs, batch_size=64, verbose=0, callbacks=[callback])
        health = callback.health
        rows += [
            (f"{rate:g}", layer, *(f"{share:.0%}" for share in shares))
            for layer, shares in zip(health.layers, health.dead.T, strict=True)
        ]
        rows.append((f"{rate:g}", "said", " / ".join(s for s in said if "dead since" in s)))
    logger.removeHandler(handler)
    logger.setLevel(logging.ERROR)
    width = 2 + len(health.epochs)
    rows = [row + ("",) * (width - len(row)) for row in rows]
    columns = ("rate", "layer", *(f"epoch {e}" for e in health.epochs))
    write_table("health_dying", "Dead units of the clothes example", columns, rows)


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
    "dying": lambda data, given: measure_dying(data, 3),
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
