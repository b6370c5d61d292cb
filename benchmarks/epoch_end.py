"""Measure the parts of a whole epoch end: real images, health, optimisation, PNG, writing.

A callback watches each of four models, on each backend, in a process of its own. The
first snapshot compiles and is not measured. Then the weights move by 1 % before each
epoch end, as in training. The seconds of a part leave out those of the parts inside it.

    python benchmarks/epoch_end.py [--model A.keras] [--backends tensorflow jax torch]
        [--only clothes MobileNetV2] [--rounds 3] [--check]

`A.keras` is an ImageNet classifier of images in [-1, 1]; it is left out on JAX, whose
compiler for CPUs takes minutes for depthwise convolutions. `--check` tests the clock.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

# The order of the columns.
PARTS = ("optimisation", "real images", "health", "places", "drawing", "PNG", "writing", "rest")


class Clock:
    """Sums up the seconds of parts, each without the parts inside it."""

    def __init__(self):
        self.seconds = defaultdict(float)
        self._running = []

    @contextmanager
    def part(self, name):
        """Count the time within as that of a part."""
        began = time.perf_counter()
        self._running.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self.seconds[name] += spent - self._running.pop()
            if self._running:
                self._running[-1] += spent

    def timed(self, name, function):
        """Return the function, counted as a part."""

        def call(*args, **kwargs):
            with self.part(name):
                return function(*args, **kwargs)

        return call


def clocked(clock, stack):
    """Count every call of the functions that are a part."""
    from featviz_callback import FeatureVisCallback
    from featviz_callback.monitoring import observer
    from featviz_callback.monitoring.behaviour import UnitMeter
    from featviz_callback.monitoring.checkup import HealthMeter
    from featviz_callback.monitoring.health import LayerMeter
    from featviz_callback.monitoring.places import Places
    from featviz_callback.records import pictures

    for name, owner, function in (
        ("optimisation", observer.Observer, "_run"),
        ("real images", observer.Observer, "rank"),
        ("health", LayerMeter, "see"),
        ("health", HealthMeter, "watch"),
        ("health", HealthMeter, "checkup"),
        ("health", UnitMeter, "measure"),
        ("places", Places, "of_task"),
        ("drawing", observer, "draw_beside"),
        ("PNG", pictures, "encode_png"),
        ("writing", FeatureVisCallback, "_write_snapshot"),
        ("rest", FeatureVisCallback, "on_epoch_end"),
    ):
        replaced = clock.timed(name, getattr(owner, function))
        if isinstance(owner, type):
            # A function of a class takes the object that it is called on.
            stack.enter_context(mock.patch.object(owner, function, _as_method(replaced)))
        else:
            stack.enter_context(mock.patch.object(owner, function, replaced))


def _as_method(function):
    return lambda self, *args, **kwargs: function(self, *args, **kwargs)


def models(path, only):
    """Yield `(name, model, real images, settings)` for each model whose name has such a part."""
    for one in all_models(path):
        if any(part in one[0] for part in only):
            yield one


def all_models(path):
    """Yield `(name, model, real images, settings)` for each model."""
    import keras
    import numpy as np
    from common import small_model

    from featviz_callback import Objective

    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    import fashion_mnist

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)

    def noise(size):
        return rng.uniform(size=(100, size, size, 3)).astype("float32")

    images = fashion_mnist.load_data()[0][:1000]
    yield "clothes example, 28 pixels", fashion_mnist.build_model(), images, {}
    yield "three convolutions, 32 pixels", small_model(), noise(32), {}
    mobile = keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=10)
    few = [
        Objective.neuron(mobile, -1, range(4)),
        Objective.channel(mobile, "block_6_expand_relu", range(4)),
    ]
    yield "MobileNetV2, 96 pixels", mobile, noise(96), {"objectives": few, "steps": 16}
    if path and keras.backend.backend() != "jax":
        large = keras.saving.load_model(path, compile=False)
        few = [Objective.neuron(large, "logits", range(8))]
        settings = {"objectives": few, "steps": 8, "values_range": (-1, 1)}
        yield f"{large.name}, {large.input_shape[1]} pixels", large, 2 * noise(224) - 1, settings


def measure(name, model, images, settings, rounds):
    """Return medians of the seconds of each part, and what the snapshots had to do."""
    import numpy as np

    from featviz_callback import FeatureVisCallback

    callback = FeatureVisCallback(
        log_dir=tempfile.mkdtemp(), probe_data=images, on_error="raise", **settings
    )
    callback.set_model(model)
    # The last epoch would measure the noise floor too.
    callback.set_params({"epochs": 10**6, "verbose": 0})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    rng, found = np.random.default_rng(0), []
    for epoch in range(rounds + 1):
        model.set_weights(
            [w * (1 + 0.01 * rng.standard_normal(w.shape)) for w in model.get_weights()]
        )
        clock = Clock()
        with ExitStack() as stack:
            clocked(clock, stack)
            callback.on_epoch_end(epoch)
        found.append([clock.seconds[part] for part in PARTS])
    targets, steps = len(callback.history.names), settings.get("steps", 32)
    # What is compiled at the second snapshot is not measured either.
    return [name, targets, steps, len(images)], np.median(found[1:], axis=0).tolist()


def in_this_process(path, only, rounds):
    """Print the rows of this backend as JSON, each as soon as it is measured."""
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    for one in models(path, only):
        print("row " + json.dumps(measure(*one, rounds)), flush=True)


def check():
    """Test the clock on planted parts."""
    clock = Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.2))
    with clock.part("outer"):
        time.sleep(0.1)
        inner()
    assert abs(clock.seconds["inner"] - 0.2) < 0.05, clock.seconds
    assert abs(clock.seconds["outer"] - 0.1) < 0.05, clock.seconds
    print("All planted checks hold.")


def main():
    """Measure every backend in a process of its own, and write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--backends", nargs="+", default=["tensorflow", "jax", "torch"])
    parser.add_argument("--only", nargs="+", default=[""], help="parts of models' names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--here", action="store_true", help="this backend, in this process")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.check:
        check()
        return
    if given.here:
        in_this_process(given.model, given.only, given.rounds)
        return
    from common import RESULTS, write_table

    kept = RESULTS / "epoch_end.json"
    found = json.loads(kept.read_text()) if kept.exists() else {}
    for backend in given.backends:
        command = [sys.executable, __file__, "--here", "--rounds", str(given.rounds)]
        command += ["--only", *given.only]
        command += ["--model", given.model] if given.model else []
        settings, began = os.environ | {"KERAS_BACKEND": backend}, time.perf_counter()
        with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                if line.startswith("row "):
                    row = json.loads(line[4:])
                    # The rows of earlier runs stay, but for that of the same model.
                    kept_rows = [one for one in found.get(backend, []) if one[0][0] != row[0][0]]
                    found[backend] = [*kept_rows, row]
                    kept.write_text(json.dumps(found))
                    print(backend, line.strip(), flush=True)
        print(f"{backend}: ended with {run.returncode} after {time.perf_counter() - began:.0f} s")
    rows = []
    for backend, each in found.items():
        for about, seconds in each:
            total = sum(seconds)
            cells = [f"{1000 * one:.0f} ({one / total:.0%})" for one in seconds]
            rows.append((backend, *about, f"{1000 * total:.0f}", *cells))
    columns = ("backend", "model", "targets", "steps", "real images", "epoch end, ms", *PARTS)
    title = "An epoch end and its parts in ms (share), medians of one to three"
    write_table("epoch_end", title, columns, rows)


if __name__ == "__main__":
    main()
