"""Measure what the first call of `optimize` costs, and what later calls save.

* The first call, less its steps, against tracing and compiling the bare forward pass
  and gradient.
* Traces over calls that differ in ids, multipliers, seed and steps.
* An objective early in the network against a network cut there.
* Many channels against few.

    python benchmarks/reuse.py --model FILE.keras [--layer logits] [--early LAYER]
"""

import argparse
import resource
import time

import keras
import numpy as np
from common import in_turn, write_table
from step_cost import bare_step, optimization_step

from featviz_callback import Objective, optimize
from featviz_callback.optimization import step


def seconds_of(function):
    """Return the wall time of one call."""
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def first_call(model, layer):
    """Return seconds of compiling: a first call less a second one."""
    ids = np.arange(8)
    bare = bare_step(model, ids)
    limit = seconds_of(bare) - seconds_of(bare)
    objective = Objective.neuron(model, layer, ids)

    def run():
        optimize(objective, steps=1, values_range=(-1, 1))

    ours = seconds_of(run) - seconds_of(run)
    return limit, ours


def traces(model, layer):
    """Count traces after calls that differ in everything that is data."""
    one, two = (Objective.neuron(model, layer, ids) for ids in (range(8), range(8, 16)))
    optimize(one, steps=1)
    before = _count(model)
    for objective, settings in (
        (two, {}),
        (3 * one, {"seed": 1}),
        (one / 2, {"steps": 3}),
    ):
        optimize(objective, **({"steps": 2} | settings))
    return _count(model) - before


def _count(model):
    return sum(one.traces for one in step.compiled_steps[model].values())


def peak_mebibytes():
    """Return the largest resident size of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Print and write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--layer", default="logits")
    parser.add_argument("--early", default="block3a_bn")
    parser.add_argument("--channels-layer", default="block2a_bn")
    arguments = parser.parse_args()
    model = keras.saving.load_model(arguments.model, compile=False)
    limit, ours = first_call(model, arguments.layer)
    rows = [
        ("compiling the bare step", f"{limit:.2f} s", ""),
        ("compiling the optimisation, first call", f"{ours:.2f} s", f"{ours / limit:.2f} times"),
        ("traces of three further calls", traces(model, arguments.layer), "0 expected"),
    ]

    early = model.get_layer(arguments.early).output
    cut = keras.Model(model.input, keras.layers.GlobalAveragePooling2D(name="mean")(early))
    ids = np.arange(8)
    times = in_turn(
        {
            "cut": optimization_step(cut, "mean", ids, 100),
            "whole": optimization_step(model, arguments.early, ids, 100, kind=Objective.channel),
            "logits": optimization_step(model, arguments.layer, ids, 100),
        },
        20,
    )
    ratio = np.median(times["whole"] / times["cut"])
    rows += [
        ("a step on a network cut at " + arguments.early, f"{np.median(times['cut']):.3f} s", ""),
        (
            "a step on that layer of the whole",
            f"{np.median(times['whole']):.3f} s",
            f"{ratio:.2f} times",
        ),
        ("a step on " + arguments.layer, f"{np.median(times['logits']):.3f} s", ""),
    ]

    channels = model.get_layer(arguments.channels_layer).output.shape[-1]
    few, many = (
        Objective.channel(model, arguments.channels_layer, np.arange(count) % channels)
        for count in (64, 512)
    )
    optimize(few, steps=4, batch_size=64)
    few_seconds = seconds_of(lambda: optimize(few, steps=4, batch_size=64))
    few_peak = peak_mebibytes()
    many_seconds = seconds_of(lambda: optimize(many, steps=4, batch_size=64))
    rows += [
        ("64 channels, 4 steps", f"{few_seconds:.1f} s", f"peak {few_peak:.0f} MiB"),
        (
            "512 channels, 4 steps",
            f"{many_seconds:.1f} s, {many_seconds / few_seconds / 8:.2f} times 8 of the former",
            f"peak {peak_mebibytes():.0f} MiB, {peak_mebibytes() / few_peak:.2f} times",
        ),
    ]
    write_table("reuse", f"Compiled once, run many: {model.name}", ("what", "cost", "ratio"), rows)


if __name__ == "__main__":
    main()
