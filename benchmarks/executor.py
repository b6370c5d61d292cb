"""Measure how long training waits for a snapshot, with an executor and without.

Two networks, each trained with snapshots here and in a worker, in turn in one process:

* `28 px`: three small convolutions, 34 targets of 32 steps;
* `10 M`: ten million weights, 10 targets of 4 steps.

Beside the waits stands the time of one copy of the weights: after training, and right after
each wait, while the worker uses the same cores and memory.

    python benchmarks/executor.py [--rounds 3] [--epochs 5]
"""

import argparse
import logging
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor

import keras
import numpy as np
from common import write_table
from keras import layers
from monitor import build_model, compile_model

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.monitoring.workers import introduce

logging.getLogger("featviz_callback").setLevel(logging.ERROR)


class Timed(FeatureVisCallback):
    """The callback, which notes how long Keras waits for each of its hooks."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.waits, self.copies = [], []

    def on_epoch_begin(self, epoch, logs=None):
        """Note the wait."""
        self._timed(super().on_epoch_begin, epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Note the wait."""
        self._timed(super().on_epoch_end, epoch, logs)
        self.copies.append(copy_seconds(self.model, times=1))

    def on_train_end(self, logs=None):
        """Note the wait."""
        self._timed(super().on_train_end, logs)

    def _timed(self, hook, *arguments):
        began = time.perf_counter()
        hook(*arguments)
        self.waits.append(time.perf_counter() - began)


def small():
    """Three convolutions and ten logits, and 34 objectives."""
    model = build_model(seed=0)
    return model, [
        Objective.neuron(model, "logits", range(10)),
        *(Objective.channel(model, f"conv{i}", range(8)) for i in (1, 2, 3)),
    ]


def large():
    """Ten million weights, and ten objectives."""
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(3000, activation="relu", name="first"),
            layers.Dense(2500, activation="relu", name="second"),
            layers.Dense(10, name="logits"),
        ]
    )
    return model, [Objective.neuron(model, "logits", range(10))]


def train(make, steps, executor, epochs, batches):
    """Train with the callback; return the callback and the seconds of `fit`."""
    keras.utils.set_random_seed(0)
    model, objectives = make()
    compile_model(model, "sgd")
    rng = np.random.default_rng(0)
    x, y = rng.random((32 * batches, 28, 28, 1), "float32"), rng.integers(0, 10, 32 * batches)
    with tempfile.TemporaryDirectory() as folder:
        callback = Timed(objectives, folder, steps=steps, executor=executor, values_range=(0, 1))
        began = time.perf_counter()
        model.fit(x, y, epochs=epochs, verbose=0, callbacks=[callback])
        seconds = time.perf_counter() - began
    return callback, seconds, model


def copy_seconds(model, times=9):
    """Return how long one copy of all weights takes, the median of some."""
    found, weights = [], model.get_weights()
    for _ in range(times):
        began = time.perf_counter()
        copies = [one.copy() for one in weights]
        found.append(time.perf_counter() - began)
        del copies
    return float(np.median(found))


def row(name, where, found, copies):
    """Return a row of the table from the callbacks and seconds of all rounds."""
    # At the beginning of an epoch after the first nothing is done.
    middle = np.concatenate([callback.waits[1:-2:2] for callback, _ in found])
    first, last, end = (np.median([c.waits[i] for c, _ in found]) for i in (0, -2, -1))
    copies = [np.median(copies), np.median([callback.copies for callback, _ in found])]
    return (
        name,
        where,
        "{:.0f} ms ({:.0f} to {:.0f})".format(
            *(1000 * number(middle) for number in (np.median, np.min, np.max))
        ),
        f"{1000 * first:.0f}, {1000 * last:.0f} ms",
        f"{end:.2f} s",
        f"{np.median([seconds for _, seconds in found]):.1f} s",
        "{:.0f}, {:.0f} ms".format(*(1000 * one for one in copies)),
    )


def main():
    """Train in turn, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(introduce).result()
        for name, make, steps, batches in (
            ("28 px, 34 targets, 32 steps", small, 32, 150),
            ("10 M weights, 10 targets, 4 steps", large, 4, 15),
        ):
            found, copies = {None: [], pool: []}, []
            for _ in range(given.rounds):
                for executor, results in found.items():
                    callback, seconds, model = train(make, steps, executor, given.epochs, batches)
                    results.append((callback, seconds))
                    print(name, executor and "worker", np.round(callback.waits, 3), seconds)
                copies.append(copy_seconds(model))
            rows.append(row(name, "here", found[None], copies))
            rows.append(row(name, "in a worker", found[pool], copies))
    write_table(
        "executor",
        f"How long training waits for a snapshot, {given.rounds} rounds in turn",
        (
            *("training", "snapshots", "waits at an epoch's end", "first, last"),
            *(
                "at the end of `fit`",
                "the whole `fit`",
                "a copy of the weights, after training, after a wait",
            ),
        ),
        rows,
    )


if __name__ == "__main__":
    main()
