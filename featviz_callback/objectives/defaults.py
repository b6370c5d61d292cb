"""Choose the units of a network that are watched if nobody names any.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.features import feature_calls
from featviz_callback.objectives.heads import heads
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.reachability import Reach
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import calls_and_outputs
from featviz_callback.records import spread

# The most outputs, and the most units of all outputs together, that are taken.
_MOST_UNITS = 16
# So many features of a layer are taken.
_FEATURES = 4


def default_objectives(model: keras.Model, fixed_inputs: Mapping | None = None) -> list[Objective]:
    """Choose what is worth watching in any image classifier.

    Args:
        model: A built Keras model.
        fixed_inputs: See `optimize`. Default: every input of the shape of an image is
            taken for the optimised one.

    Returns:
        Up to 16 output units, shared among the outputs (or among 16 of them, spread
        evenly), and four channels of each of four layers with features, spread over the
        depth. These are convolutions. In a vision transformer or token mixer they are
        the dense layers on tokens that widen or have an activation, in a hybrid both. In
        a network without any of these they are own layers of feature maps with a kernel,
        depthwise convolutions, or four units of each of four hidden dense layers. A
        model without features gives its outputs, and one without outputs its features.
        Layers that never receive the image are left out. If an output comes from plain
        operations, the layers before them are taken.

    Raises:
        ValueError: If the model has neither, or its call fails.
    """
    reach = Reach(model, inputs.image_positions(model, fixed_inputs))
    calls, outputs = calls_and_outputs(model, inputs.specs(model))
    calls = [call for call in calls if reach.includes(Tap(call.path)) is not False]
    ends = heads(model, calls, outputs)
    chosen = [_features(model, call) for call in feature_calls(calls, ends)]
    sizes = {call.name: call.shape[0] for call in ends if len(call.shape) == 1 and call.shape[0]}
    vectors = [list(sizes)[i] for i in spread(len(sizes), _MOST_UNITS)]
    chosen += [
        Objective.neuron(model, name, range(min(_MOST_UNITS // len(vectors), sizes[name])))
        for name in vectors
    ]
    if not chosen:
        raise ValueError(
            f"Nothing to watch was found in the model '{model.name}': it has no convolution, no "
            "dense layer with features and no output that is a vector. Expected `objectives` to "
            "be given."
        )
    return chosen


def _features(model, call):
    """The first features of a layer: channels of a map, or single units."""
    make = Objective.neuron if len(call.shape) == 1 else Objective.channel
    return make(model, call.name, range(min(_FEATURES, call.shape[-1])))
