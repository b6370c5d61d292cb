"""Measure what a step of the optimisation costs, as a multiple of the bare model.

The limit is one compiled forward pass and gradient to the input of the bare
model at the same batch. Limit and step run in turn in one process. The result is
the median of the ratios within a round.

    python benchmarks/step_cost.py [--model FILE.keras --layer logits] [--rounds 40]
"""

import argparse

import keras
import numpy as np
from common import WARM_UP, in_turn, small_model, write_table
from keras import ops

from featviz_callback import Objective, backend
from featviz_callback.optimization import Settings, prepare
from featviz_callback.optimization.chunk import Chunk
from featviz_callback.optimization.starts import find_starts


def bare_step(model, ids):
    """Return one forward pass and gradient to the input, compiled by the same backend file."""

    def score(images, data):
        outputs = ops.cast(model(images, training=False), "float32")
        scores = ops.sum(ops.where(data, outputs, 0.0), axis=1)
        return scores, scores

    def update(images, gradient, state, data, target):
        return images, state, gradient

    step = backend.load().compile_step(score, update, lambda: model)
    low_noise = np.random.default_rng(0).uniform(-1, 1, (len(ids), *model.input_shape[1:]))
    images = ops.convert_to_tensor(low_noise.astype("float32"))
    chosen = ops.convert_to_tensor(np.eye(model.output_shape[-1], dtype=bool)[ids])

    def run():
        *_, gradient, scores = step(images, [], chosen)
        return ops.convert_to_numpy(gradient), ops.convert_to_numpy(scores)

    return run


def optimization_step(model, layer, ids, steps, kind=Objective.neuron, **settings):
    """Return one step of an optimisation of `steps` steps, its work on the host included."""
    settings = Settings(steps=steps, values_range=(-1.0, 1.0), **settings)
    task = prepare(kind(model, layer, ids), settings)
    (known,) = find_starts([task])
    aims = None
    if known is not None:
        # From faint noise, towards the score of the best start.
        aims = np.column_stack([known.aims(None), np.ones(len(ids))]).astype("float32")
    chunk = Chunk(task, np.arange(len(ids)), aims=aims)
    return lambda: ops.convert_to_numpy(chunk.step()[0])


def main():
    """Measure a small network, and a model from a file if one is given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a .keras file of a classifier of images in [-1, 1]")
    parser.add_argument("--layer", default="logits")
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    cases = [("three convolutions, 32 pixels", small_model(), "logits", 16)]
    if arguments.model:
        model = keras.saving.load_model(arguments.model, compile=False)
        cases.append((f"{model.name}, {model.input_shape[1]} pixels", model, arguments.layer, 8))
    rows, steps = [], arguments.rounds + WARM_UP
    for name, model, layer, batch in cases:
        ids = np.arange(batch) % model.output_shape[-1]
        functions = {
            "the bare model": bare_step(model, ids),
            "default settings": optimization_step(model, layer, ids, steps),
            "pixel": optimization_step(model, layer, ids, steps, parameterization="pixel"),
            "Adam": optimization_step(model, layer, ids, steps, optimizer="adam"),
        }
        seconds = in_turn(functions, arguments.rounds)
        for label, times in seconds.items():
            ratio = np.median(times / seconds["the bare model"])
            rows.append((name, batch, label, f"{np.median(times) * 1e3:.1f}", f"{ratio:.2f}"))
    columns = ("model", "batch", "step", "median ms", "ratio to the bare model")
    name = keras.backend.backend()
    # A table of each backend, since one process has one.
    table = "step_cost" if name == "tensorflow" else f"step_cost_{name}"
    write_table(table, "Cost of a step", columns, rows)


if __name__ == "__main__":
    main()
