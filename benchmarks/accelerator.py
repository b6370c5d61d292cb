"""Measure on an accelerator: steps, whole optimisations, memory, repeatability, training.

Needs JAX or torch with a device of theirs. Each row is one line of JSON at once, and all
are one table at the end, `results/accelerator_BACKEND.md`.

    KERAS_BACKEND=jax python benchmarks/accelerator.py --model A.keras [--rounds 30]

`A.keras` is an ImageNet classifier of images in [-1, 1] with a layer `logits`. With
`--deterministic`, torch uses only algorithms that repeat themselves, so that trainings with
and without the callback can be compared.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
from common import WARM_UP, in_turn, small_model, write_table
from step_cost import bare_step, optimization_step

from featviz_callback import FeatureVisCallback, Objective, optimize

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

ROWS = []


def row(what, value):
    """Keep a row, and print it at once, since the machine may be taken away."""
    ROWS.append((what, value))
    print("row", json.dumps([keras.backend.backend(), what, value]), flush=True)


def device():
    """Return the name of the device that Keras computes on."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.devices()[0].device_kind
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def _repeatable():
    """Let torch use only algorithms that repeat themselves."""
    import torch

    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def peak_mebibytes():
    """Return the most memory of the device that was in use so far, in MiB, if it is known."""
    if keras.backend.backend() == "jax":
        import jax

        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0


def steps(model, rounds):
    """Measure steps as multiples of the bare model."""
    cases = [("three convolutions, 32 pixels", small_model(), 16)]
    cases += [(f"{model.name}, {model.input_shape[1]} pixels", model, 64)]
    for name, net, batch in cases:
        ids = np.arange(batch) % net.output_shape[-1]
        found = in_turn(
            {
                "bare": bare_step(net, ids),
                "default": optimization_step(net, "logits", ids, rounds + WARM_UP),
            },
            rounds,
        )
        ratio = np.median(found["default"] / found["bare"])
        bare, ours = (1e3 * np.median(found[one]) for one in ("bare", "default"))
        row(f"a step, {name}, batch {batch}", f"{ours:.1f} ms, {ratio:.2f} × the bare {bare:.1f}")


def whole(model):
    """Measure whole optimisations, after one that compiles, and check their scores."""
    before = peak_mebibytes()
    for layer, kind, count in [
        ("logits", Objective.neuron, 64),
        ("logits", Objective.neuron, 256),
        (_middle(model), Objective.channel, 64),
    ]:
        last = model.get_layer(layer).output.shape[-1] - 1
        units = np.unique(np.linspace(0, last, count).astype(int)).tolist()
        objective = kind(model, layer, units)
        found, taken = [], []
        for _ in range(2):
            began = time.perf_counter()
            found.append(optimize(objective, steps=64, values_range=(-1, 1), batch_size=64))
            taken.append(time.perf_counter() - began)
        images = len(found[1].names)
        row(
            f"{images} images of {layer}, {model.input_shape[1]} pixels, 64 steps",
            f"{taken[1]:.1f} s, {taken[1] / images:.3f} a unit; the first time {taken[0]:.1f} s",
        )
        same = np.array_equal(found[0].images, found[1].images)
        row(f"{layer}, {images} images: the same twice to the bit", str(same))
        if layer == "logits":
            # By Keras' own prediction, which shares no code with the optimisation.
            predicted = keras.Model(model.inputs, model.get_layer(layer).output).predict(
                found[1].images, verbose=0
            )
            picked = predicted[np.arange(images), units]
            off = np.abs(picked - found[1].scores) / np.maximum(1, np.abs(picked))
            row(f"{images} scores against `predict`, largest difference", f"{off.max():.1e}")
    row("most memory of the device at once", f"{peak_mebibytes():.0f} MiB ({before:.0f} before)")


def _middle(model):
    """Return the name of a layer of feature maps in the middle of a model."""
    maps = [one.name for one in model.layers if len(getattr(one.output, "shape", ())) == 4]
    return maps[len(maps) // 2]


def training():
    """Train with and without the callback: are the weights equal, and what does it cost?"""
    images, labels = fashion_mnist.load_data()

    def trained(callbacks):
        keras.utils.set_random_seed(3)
        model = fashion_mnist.build_model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, metrics=["accuracy"])
        began = time.perf_counter()
        model.fit(images, labels, epochs=3, batch_size=128, callbacks=callbacks, verbose=0)
        return model.get_weights(), time.perf_counter() - began

    first, _ = trained([])
    second, alone = trained([])
    repeats = all(map(np.array_equal, first, second))
    for name, data in (("without data", None), ("with 1,000 images", images[:1000])):
        callback = FeatureVisCallback(
            log_dir=tempfile.mkdtemp(), probe_data=data, max_overhead=None, verbose=0
        )
        watched, taken = trained([callback])
        same = all(map(np.array_equal, first, watched))
        row(
            f"training three epochs, {name}",
            f"weights equal to the bit: {same} (without the callback twice: {repeats}); "
            f"{taken:.1f} s beside {alone:.1f} s; statuses {_counts(callback.history.status[-1])}",
        )
        seconds = np.asarray(callback.history.seconds)
        row(f"seconds of each snapshot, {name}", str(np.round(seconds, 2).tolist()))


def _counts(statuses):
    names, counts = np.unique(np.asarray(statuses).astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def main():
    """Measure what there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--deterministic", action="store_true")
    given = parser.parse_args()
    if given.deterministic:
        _repeatable()
    row("device", device())
    model = keras.saving.load_model(given.model, compile=False)
    training()
    steps(model, given.rounds)
    whole(model)
    columns = ("what", "measured")
    write_table(f"accelerator_{keras.backend.backend()}", "On an accelerator", columns, ROWS)


if __name__ == "__main__":
    main()
