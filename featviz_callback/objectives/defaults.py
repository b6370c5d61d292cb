"""Choose the units of a network that are watched if nobody names any.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.shapes import layer_calls
from featviz_callback.records import spread

# The layers from which channels are taken.
_CONVOLUTIONS = (
    *(keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.SeparableConv1D, keras.layers.Conv1DTranspose),
)
# The most outputs, and the most units of all outputs together, that are taken.
_MOST_UNITS = 16


def default_objectives(model: keras.Model) -> list[Objective]:
    """Choose what is worth watching in any image classifier.

    Returns:
        Up to 16 output units, shared among the outputs (or among 16 of them, spread
        evenly), and four channels of each of four convolutions spread over the depth.
        A model without one of these gives the other.

    Raises:
        ValueError: If the model has neither.
    """
    calls = layer_calls(model, inputs.specs(model))
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
    outputs = getattr(model, "outputs", None) or []
    layers = [output._keras_history.operation for output in outputs]
    return [c for c in calls if any(c.layer is layer for layer in layers)] or calls[-1:]
