"""Choose the units of a network that are watched if nobody names any.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.inputs import fits
from featviz_callback.objectives.layers import graph
from featviz_callback.objectives.notices import NothingToShow, warn_once
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.reachability import Reach
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import layer_calls
from featviz_callback.objectives.wrappers import image_parts, is_wrapper, not_watchable
from featviz_callback.records import spread

# The layers from which channels are taken.
_CONVOLUTIONS = (
    *(keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.SeparableConv1D, keras.layers.Conv1DTranspose),
)
# So many convolutions are taken, and so many channels of each.
_LAYERS, _CHANNELS = 4, 4
# The most outputs, and the most units of all outputs together, that are taken.
_MOST_UNITS = 16


def default_objectives(
    model: keras.Model, fixed_inputs: Mapping | None = None, shape: tuple | None = None
) -> list[Objective]:
    """Choose what is worth watching in any image classifier, or in the parts of a wrapper.

    Args:
        model: A built Keras model, or a wrapper such as a GAN: a model with a `train_step`
            of its own and no `call`, whose models inside are built.
        fixed_inputs: See `optimize`.
        shape: Shape of one real image or signal, if some are known. Of a wrapper, only
            parts that take such images are chosen. Default: the shape that the first part
            takes.

    Returns:
        Up to 16 output units, shared among the outputs (or among 16 of them, spread
        evenly), and four channels of each of four convolutions spread over the depth.
        A model without one of these gives the other. Layers that never receive the image
        are left out. If an output comes from a plain operation, the layer before it is
        taken. The parts of a wrapper that take images share these numbers, and one warning
        names them.

    Raises:
        NothingToShow: If nothing is found.

    Example:
    >>> from keras import Input, Sequential
    >>> from keras.layers import Conv2D
    >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
    >>> [objective.names for objective in default_objectives(model)]
    [['Channel#conv_0', 'Channel#conv_1', 'Channel#conv_2', 'Channel#conv_3']]
    """
    parts = dict(image_parts(model, fixed_inputs))
    if "" in parts or not parts:
        if is_wrapper(model) and not parts:
            raise NothingToShow(not_watchable(model))
        return _objectives(model, "", _layers(model, fixed_inputs), 1)
    found = {path: _layers(part, fixed_inputs) for path, part in _alike(parts, fixed_inputs, shape)}
    found = {path: layers for path, layers in found.items() if any(layers)}
    chosen = [
        one
        for path, layers in found.items()
        for one in _objectives(model, f"{path}/", layers, len(found))
    ]
    if not chosen:
        raise NothingToShow(not_watchable(model))
    warn_once(
        model,
        "The model '%s' is not called as a whole, so the parts that take images are watched: %s. "
        "`objectives` chooses others, such as `lambda model: default_objectives(part)`.",
        *(model.name, ", ".join(map(repr, found))),
    )
    return chosen


def _alike(parts, fixed_inputs, shape):
    """Return the parts that take images of one shape, as `(path, part)`."""
    shapes = {}
    for path, part in parts.items():
        taken = inputs.resolve(part, fixed_inputs, announce=False)[0]
        shapes[path] = tuple(taken.shape["hwc".index(axis)] for axis in taken.axes)
    # Sequences of tokens have the shape of a signal.
    wanted = shape or max(shapes.values(), key=len)
    fitting = [(path, parts[path]) for path, own in shapes.items() if fits(wanted, own)]
    return fitting or list(parts.items())[:1]


def _layers(model, fixed_inputs):
    """Return the channels of convolutions and the units of heads, each by the layer's path."""
    reach = Reach(model, [inputs.image_position(model, fixed_inputs)])
    calls = [
        call
        for call in layer_calls(model, inputs.specs(model))
        if reach.includes(Tap(call.path)) is not False
    ]
    convolutions = {c.path: c.shape[-1] for c in calls if isinstance(c.layer, _CONVOLUTIONS)}
    return convolutions, {c.path: c.shape[0] for c in _heads(model, calls) if len(c.shape) == 1}


def _objectives(model, prefix, layers, parts):
    """Return the objectives of one of so many parts, whose layers' paths have a prefix."""
    convolutions, sizes = layers
    chosen = [
        Objective.channel(model, prefix + path, range(min(_CHANNELS, convolutions[path])))
        for path in _some(convolutions, max(1, _LAYERS // parts))
    ]
    vectors = _some(sizes, _MOST_UNITS)
    most = max(1, _MOST_UNITS // max(1, len(vectors)) // parts)
    chosen += [
        Objective.neuron(model, prefix + path, range(min(most, sizes[path]))) for path in vectors
    ]
    if not chosen:
        raise NothingToShow(
            f"Nothing to watch was found in the model '{model.name}': it has no "
            "convolution and its last layer is not a vector. Expected `objectives` to "
            "be given."
        )
    return chosen


def _some(paths, most):
    return [list(paths)[i] for i in spread(len(paths), most)]


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
