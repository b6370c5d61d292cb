"""Find the layers that make a model's outputs.

A model may end in plain operations, such as a softmax of `keras.ops`. A unit of an output is
then one of the layers whose values the operations receive.

This module reads structure and recorded calls. It never calls the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from featviz_callback.objectives.layers import graph, has_own_call
from featviz_callback.objectives.shapes import LayerCall


def heads(
    model: keras.Model, calls: Sequence[LayerCall], outputs: Sequence[tuple]
) -> list[LayerCall]:
    """Return the calls that make a model's outputs, in the order of the call.

    The graph of a functional model tells them. Of any other model, a call is one if the
    model returns its very tensor. For every other vector that such a model returns, it is
    the last call of that shape; if all that fails, the last call that returns a vector.

    Args:
        model: Any built Keras model.
        calls: Its calls, as `calls_and_outputs` returns them, or some of them.
        outputs: The shapes of all that it returns, as `calls_and_outputs` returns them.
    """
    found = graph(model)
    if found is None:
        chosen = _returned(calls, outputs)
    else:
        ends = {end for output in found.outputs for end in _ends(output)}
        chosen = [c for c in calls if (id(c.layer), c.place) in ends] or list(calls[-1:])
    # What is drawn at random shows nothing that its parameters would not.
    return [call for call in chosen if not _draws(call.layer)] or chosen


def _draws(layer):
    """Whether a layer of the user's draws random numbers."""
    generators = (
        one for one in vars(layer).values() if isinstance(one, keras.random.SeedGenerator)
    )
    return has_own_call(layer) and any(generators)


def _returned(calls, outputs):
    """The calls that return each output of a model without a graph, as far as can be told."""
    told = {i: _of_output(calls, i) for i in range(len(outputs))}
    chosen = [call for call in told.values() if call is not None]
    for place, shape in enumerate(outputs):
        if told[place] is None and len(shape) == 1:
            rest = [c for c in calls if c.shape == shape and not any(c is o for o in chosen)]
            chosen += rest[-1:]
    vectors = [call for call in calls if len(call.shape) == 1]
    return [c for c in calls if any(c is one for one in chosen)] or vectors[-1:]


def _of_output(calls, place):
    """The outermost layer that returns the very tensor; better one that returns no other."""
    same = [call for call in calls if call.returned == place]
    return next(reversed([c for c in same if not c.index] or same), None)


def _ends(output) -> Iterator[tuple[int, int]]:
    """Yield the ids of layers, with the places of their tensors, that an output is made of."""
    seen: set[int] = set()
    # A tensor, and for each model around it what the model's inputs are outside.
    waiting: list[tuple[Any, tuple[dict, ...]]] = [(output, ())]
    while waiting:
        tensor, outside = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if outside and id(tensor) in outside[-1]:
            waiting.append((outside[-1][id(tensor)], outside[:-1]))
            continue
        operation, call, place = tensor._keras_history
        node, nested = operation._inbound_nodes[call], graph(operation)
        if nested is not None and len(nested.outputs) > 1:
            given = dict(zip(map(id, nested.inputs), node.input_tensors, strict=False))
            waiting.append((nested.outputs[place], (*outside, given)))
        elif isinstance(operation, keras.Layer):
            yield id(operation), place
        else:
            waiting += [(received, outside) for received in node.input_tensors]
