"""Tell what a layer does to the values that it receives, and which graph it has.

This module reads the structure of a model. It never calls the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from featviz_callback.objectives.outputs import flat, pick
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.paths import lineage, walk

# Layers that return what they receive, in the same flat order, when nothing is trained.
_PASSING = (
    *(keras.layers.Activation, keras.layers.Dropout, keras.layers.GaussianDropout),
    *(keras.layers.GaussianNoise, keras.layers.ActivityRegularization),
    *(keras.layers.Identity, keras.layers.Flatten, keras.layers.Reshape),
)

_SQUASHING = ("softmax", "sigmoid")

# Others that are told by their names.
_OTHERS = ("log_softmax", "linear")

# Whose functions of these names compute what the name says.
_LIBRARIES = ("keras", "tensorflow", "jax", "torch")


def squashing(operation: keras.Operation) -> str | None:
    """Return `"softmax"` or `"sigmoid"` if an operation applies one last, else `None`.

    Args:
        operation: A layer, or another operation of a functional model. A layer with a
            `call` of its own may do more than apply its `activation`.
    """
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    name: str | None = type(operation).__name__.lower()
    if isinstance(operation, keras.Layer):
        activation = getattr(operation, "activation", None)
        if isinstance(activation, keras.Layer):
            return squashing(activation)
        name = named_activation(activation)
    return name if name in _SQUASHING else None


def named_activation(activation: object) -> str | None:
    """Return the name of a function that computes what Keras' activation of that name does.

    TensorFlow, JAX, torch and Keras each have functions of these names, and users may have.
    """
    name = getattr(activation, "__name__", None)
    is_known = isinstance(name, str) and name in (*_SQUASHING, *_ENDINGS, *_OTHERS)
    return name if is_known and _is_function(activation, name) else None


def _is_function(activation, name):
    """Whether a function computes what Keras' activation of that name does."""
    owner = (getattr(activation, "__module__", None) or "").partition(".")[0]
    if owner in _LIBRARIES:
        return True
    values = ops.convert_to_tensor([[-8.0, -2.0, 0.5, 3.0, 8.0]])
    try:
        found, expected = (
            ops.convert_to_numpy(function(values))
            for function in (activation, keras.activations.get(name))
        )
        return np.allclose(found, expected, atol=1e-4)
    except Exception:
        # A function of other tensors, or one that is only called in a graph.
        return False


@dataclass(frozen=True)
class Ending:
    """The values that a layer can return, as far as its activation tells.

    Attributes:
        is_rectifier: Whether they are never below zero, and zero where the layer is off.
        lowest: The lowest value, at which a unit is saturated, if there is one.
        highest: The highest value, in the same way.
    """

    is_rectifier: bool = False
    lowest: float | None = None
    highest: float | None = None


# Of Keras' activations that have an end.
_ENDINGS = {
    "relu": Ending(True),
    "relu6": Ending(True, None, 6.0),
    "sigmoid": Ending(False, 0.0, 1.0),
    "hard_sigmoid": Ending(False, 0.0, 1.0),
    "tanh": Ending(False, -1.0, 1.0),
    "hard_tanh": Ending(False, -1.0, 1.0),
}


# Operations that apply an activation to what a layer computed, by their class. A softmax has no
# units.
_OPERATIONS = (
    "celu", "elu", "gelu", "glu", "hardshrink", "hardsigmoid", "hardsilu", "hardtanh",
    "leakyrelu", "logsigmoid", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softplus",
    "softshrink", "softsign", "sparseplus", "sparsesigmoid", "squareplus", "tanh", "tanhshrink",
    "threshold",
)  # fmt: skip


def ending(layer: keras.Operation) -> Ending:
    """Return which values a layer or operation can return, as far as its activation tells.

    Example:
    >>> ending(keras.layers.Conv2D(4, 3, activation="relu6"))
    Ending(is_rectifier=True, lowest=None, highest=6.0)
    """
    if isinstance(layer, keras.layers.ReLU):
        return Ending(not layer.negative_slope, None, layer.max_value)
    if not isinstance(layer, keras.Layer):
        name = type(layer).__name__.lower().replace("_", "")
        if getattr(layer, "negative_slope", 0) or getattr(layer, "threshold", 0) < 0:
            return Ending()
        found = {known.replace("_", ""): end for known, end in _ENDINGS.items()}.get(name, Ending())
        return replace(found, highest=getattr(layer, "max_value", found.highest))
    activation = getattr(layer, "activation", None)
    if isinstance(activation, keras.Layer):
        return ending(activation)
    # Recurrent layers multiply what they activate. What a user's layer does, only it knows.
    if not hasattr(layer, "activation") or has_own_call(layer):
        return Ending()
    if isinstance(layer, keras.layers.RNN):
        return Ending()
    return _ENDINGS.get(named_activation(activation) or "", Ending())


def has_own_call(layer: keras.Operation) -> bool:
    """Whether it is not Keras that defines what a layer's call does."""
    owner = next(kind for kind in type(layer).__mro__ if "call" in vars(kind))
    return not owner.__module__.startswith("keras.")


def graph(layer: keras.Operation) -> keras.Operation | None:
    """Return what holds the graph of a functional or sequential model, else `None`.

    A model with a `call` of its own may run something else than its graph.
    """
    if has_own_call(layer):
        return None
    functional = getattr(layer, "_functional", None)
    found = layer if functional is None else functional
    return found if hasattr(found, "_nodes_by_depth") else None


def graph_nodes(found: keras.Operation) -> Iterator:
    """Yield the calls in a graph, in the order in which Keras runs them."""
    for depth in sorted(found._nodes_by_depth, reverse=True):
        yield from (node for node in found._nodes_by_depth[depth] if not node.is_input)


def activations_in(model: keras.Layer) -> Iterator[tuple[str, keras.Operation]]:
    """Yield `(path, operation)` of activations that are no layers in the graphs of a model.

    `keras.ops.relu(maps)` is one. The path ends in the operation's name, of which a graph has
    no other one.
    """
    for prefix, holder in [("", model), *((f"{path}/", layer) for path, layer in walk(model))]:
        found = graph(holder)
        operations = () if found is None else (node.operation for node in graph_nodes(found))
        for one in operations:
            if not isinstance(one, keras.Layer) and type(one).__name__.lower() in _OPERATIONS:
                yield prefix + one.name, one


def operation_at(model: keras.Model, path: str) -> keras.Operation:
    """Return the layer of a path, or an operation of a graph, see `activations_in`.

    Raises:
        ValueError: If there is neither.
    """
    inside, _, name = path.rpartition("/")
    try:
        found = graph(lineage(model, inside)[-1] if inside else model)
    except ValueError:
        # What it says is of all of the path.
        found = None
    for one in getattr(found, "operations", ()):
        if one.name == name and not isinstance(one, keras.Layer):
            return one
    return lineage(model, path)[-1]


def passes_on(layer: keras.Operation) -> bool:
    """Whether a layer returns, at inference, the values that it receives in their flat order."""
    if not isinstance(layer, _PASSING) or has_own_call(layer):
        return False
    if isinstance(layer, keras.layers.Flatten):
        return layer.data_format == "channels_last"
    is_activation = isinstance(layer, keras.layers.Activation)
    return not is_activation or named_activation(layer.activation) == "linear"


def origin_of(model: keras.Model, path: str, index: tuple[str, ...] = ()) -> tuple:
    """Find where the values come from that a layer passes on.

    The search follows the graphs of functional and sequential models: from a nested model
    to its last layer, and from a layer such as `Dropout` to the one before it.

    Args:
        model: Any built Keras model.
        path: The path of a layer.
        index: Which tensor of those that the layer returns, see `outputs`.

    Returns:
        `(path, index, name)`: the first layer that computes the values, and `None`. If the
        values are those of a softmax or sigmoid that is no layer: the layer whose output it
        receives, and its name. A layer that a graph calls several times is not followed.
    """
    while (made := _made_from(model, path, index)) is not None:
        holder, prefix, tensor = made
        name = None
        last = tensor._keras_history.operation
        if last not in sublayers(holder):
            name = squashing(last)
        if name is not None:
            tensor = _node_of(tensor).input_tensors[0]
            last = tensor._keras_history.operation
        if last not in sublayers(holder) or len(_calls(holder, last)) != 1:
            break
        followed = _index_of(tensor)
        if followed is None:
            break
        path, index = prefix + last.name, followed
        if name is not None:
            return path, index, name
    return path, index, None


def _node_of(tensor):
    """The call in a graph that returns a tensor."""
    operation, place, _ = tensor._keras_history
    return operation._inbound_nodes[place]


def _index_of(tensor):
    """The index of a tensor among those that its layer returns, or `None` if nobody knows."""
    operation, _, place = tensor._keras_history
    nested = graph(operation)
    if nested is not None:
        return flat(nested._outputs_struct)[place][0]
    return () if len(_node_of(tensor).outputs) == 1 else None


def _made_from(model, path, index):
    """The model whose graph has the values of a layer, its prefix, and their tensor, or `None`."""
    *_, holder, layer = lineage(model, path)
    found = graph(layer)
    if found is not None:
        tensor = pick(found._outputs_struct, index)
        return None if tensor is None else (layer, f"{path}/", tensor)
    if not passes_on(layer) or graph(holder) is None:
        return None
    calls = _calls(holder, layer)
    if len(calls) != 1:
        return None
    return holder, path[: path.rfind("/") + 1], calls[0].input_tensors[0]


def _calls(holder, layer):
    return [node for node in graph_nodes(graph(holder)) if node.operation is layer]


def has_channels_first(model: keras.Model) -> bool:
    """Whether any layer of the model has the channels first."""
    return any(getattr(layer, "data_format", None) == "channels_first" for _, layer in walk(model))
