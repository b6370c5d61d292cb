"""What a step of the ascent costs, as a multiple of the bare model.

The limit is one compiled forward pass and gradient to the input of the bare
model at the same batch. Limit and step run in turn in one process; the ratio of
their medians is what counts.

    python benchmarks/step_cost.py [--model FILE.keras --layer logits] [--rounds 40]
"""

import argparse
import time

import keras
import numpy as np
from common import small_model, write_table
from keras import ops

from featviz_callback import Objective, backend, optimization
from featviz_callback.optimization import prepare


def bare_step(model, layer, ids, images):
    """One forward pass and gradient to the input, compiled by our own backend file."""
    target = model.get_layer(layer).output if layer else model.output
    cut = keras.Model(model.input, target)

    def score(params, data):
        output = ops.reshape(cut(params, training=False), (params.shape[0], -1))
        scores = ops.squeeze(ops.take_along_axis(output, data, axis=1), 1)
        return scores, scores

    step = backend.load().compile_step(score, lambda p, g, s, d: (g, s, d), lambda: cut)
    images, ids = ops.convert_to_tensor(images), ops.convert_to_tensor(ids[:, None])
    return lambda: step(images, (), ids)


def ascent_step(model, layer, ids, **settings):
    """One step of the default recipe, with everything that a real step does."""
    objective = Objective.neuron(model, layer, ids)
    ascent = prepare(objective, **(DEFAULTS | settings))
    program = optimization._program(model, ascent.plan)
    generators = optimization._generators(objective.names, 0)
    data = optimization._settings(ascent, np.arange(len(ids)))
    start = optimization._start(ascent.plan, generators)
    state = [start, program.initial_state(start, ascent.plan.optimizer)]

    def step():
        view = {"view": program.draw_views(generators, 0.5)}
        params, inner, *_, scores = program.step(*state, data | view)
        state[:] = params, inner
        return scores

    return step


def in_turn(functions, rounds):
    """Median seconds of each function, run one after the other, round by round."""
    seconds = {name: [] for name in functions}
    for round_ in range(rounds + 3):
        for name, function in functions.items():
            began = time.perf_counter()
            keras.tree.map_structure(ops.convert_to_numpy, function())
            if round_ >= 3:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(s)) for name, s in seconds.items()}
