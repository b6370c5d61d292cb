"""Choose the units of a network that are watched if nobody names any.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.layers import graph
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.reachability import Reach
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import layer_calls
from featviz_callback.records import spread

# The layers from which channels are taken.
_CONVOLUTIONS = (
    *(keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.SeparableConv1D, keras.layers.Conv1DTranspose),
)
# The most outputs, and the most units of all outputs together, that are taken.
_MOST_UNITS = 16


def default_objectives(model: keras.Model, fixed_inputs: Mapping | None = None) -> list[Objective]:
    """Choose what is worth watching in any image classifier.

    Args:
        model: A built Keras model.
        fixed_inputs: See `optimize`. Default: every input of the shape of an image is
            taken for the optimised one.

    Returns:
        Up to 16 output units, shared among the outputs (or among 16 of them, spread
        evenly), and four channels of each of four convolutions spread over the depth.
        A model without one of these gives the other. Layers that never receive the image
        are left out. If an output comes from a plain operation, the layer before it is
        taken.

    Raises:
        ValueError: If the model has neither.
    """
    reach = Reach(model, inputs.image_positions(model, fixed_inputs))
    calls = [
        call
        for call in layer_calls(model, inputs.specs(model))
        if reach.includes(Tap(call.path)) is not False
    ]
    convolutions = [
        (call.path, call.shape[-1]) for call in calls if isinstance(call.layer, _CONVOLUTIONS)
    ]
    convolutions = [convolutions[i] for i in spread(len(convolutions), 4)]
    chosen = [
        Objective.channel(model, path, range(min(4, channels)))
        for path, channels in dict(convolutions).items()
    ]
    sizes = {c.path: c.shape[0] for c in _heads(model, calls) if len(c.shape) == 1}
    vectors = [list(sizes)[i] for i in spread(len(sizes), _MOST_UNITS)]
    chosen += [
        Objective.neuron(model, path, range(min(_MOST_UNITS // len(vectors), sizes[path])))
        for path in vectors
    ]
    if not chosen:
        raise ValueError(
            f"Nothing to watch was found in the model '{model.name}': it has no "
            "convolution and its last layer is not a vector. Expected `objectives` to "
            "be given."
        )
    return chosen


def _heads(model, calls):
    """The calls that return a model's outputs; the last call where the model does not say."""
    layers = [_source(output) for output in getattr(model, "outputs", None) or []]
    return [c for c in calls if any(c.layer is layer for layer in layers)] or calls[-1:]


def _source(output):
    """The layer that returns an output, or whose output the operations at the end receive."""
    operation, call, index = output._keras_history
    nested = graph(operation)
    if nested is not None and len(nested.outputs) > 1:
        return _source(nested.outputs[index])
    received = operation._inbound_nodes[call].input_tensors
    if isinstance(operation, keras.Layer) or len(received) != 1:
        return operation
    return _source(received[0])
