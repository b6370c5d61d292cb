"""Choose the layers whose hidden features are worth watching.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from featviz_callback.objectives.layers import has_own_call, named_activation, squashing
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.shapes import LayerCall
from featviz_callback.records import spread

# So many layers are chosen.
MOST_LAYERS = 4
_CONVOLUTIONS = (
    *(keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.SeparableConv1D, keras.layers.Conv1DTranspose),
)
_DEPTHWISE = (keras.layers.DepthwiseConv2D, keras.layers.DepthwiseConv1D)
_DENSE = (keras.layers.Dense, keras.layers.EinsumDense)
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def feature_calls(
    calls: Sequence[LayerCall], ends: Sequence[LayerCall], most: int = MOST_LAYERS
) -> list[LayerCall]:
    """Return calls of some layers, spread over the depth.

    Args:
        calls: All calls that may be chosen, as `layer_calls` returns them.
        ends: Those of them that make the model's outputs.
        most: The most layers.
    """
    first = list({id(call.layer): call for call in reversed(calls)}.values())[::-1]
    found = _candidates(first, {id(call.layer) for call in _before(calls, ends)})
    return [found[i] for i in spread(len(found), most)]


def _candidates(calls, heads):
    """The layers among which to choose, in the order of the call."""
    attention = _inside_attention(calls, is_own=False)
    hidden = [call for call in calls if id(call.layer) not in heads | attention]
    tokens = _of_tokens(hidden)
    convolutions = [call for call in calls if isinstance(call.layer, _CONVOLUTIONS)]
    convolutions = _without_gates(convolutions, heads)
    if len(convolutions) == 1 and len(tokens) >= MOST_LAYERS:
        # The convolution cuts the image into patches.
        return tokens
    if convolutions:
        return _in_order(calls, [*convolutions, *tokens])
    kernels = [call for call in hidden if _has_kernel(call)]
    depthwise = [call for call in calls if isinstance(call.layer, _DEPTHWISE)]
    dense = [c for c in hidden if isinstance(c.layer, keras.layers.Dense) and len(c.shape) == 1]
    rest = _in_order(calls, [*_recurrent(hidden), *dense])
    return _in_order(calls, [*tokens, *kernels]) or depthwise or rest


def _recurrent(calls):
    """The layers that read a sequence step by step, both directions as one."""
    found = [call for call in calls if isinstance(call.layer, _RECURRENT) and not call.place]
    both = [call.layer for call in found if isinstance(call.layer, keras.layers.Bidirectional)]
    inside = {id(layer) for one in both for _, layer in walk(one)}
    return [call for call in found if id(call.layer) not in inside]


def _in_order(calls, chosen):
    return [call for call in calls if any(call is one for one in chosen)]


def _of_tokens(calls):
    """The hidden layers of MLPs on tokens, which show most (Ghiasi et al. 2022).

    Queries, keys and values come from layers that widen too: inside of attention, or one
    layer without activation that returns all three. They count if there is nothing else.
    """
    inside = _inside_attention(calls, is_own=True)
    found = [call for call in calls if _makes_features(call)]
    likely = [c for c in found if id(c.layer) not in inside and not _makes_three(c)]
    wide = [call for call in likely if _widens(call)]
    # The other layer of an MLP may have an activation too.
    return wide if wide and 2 * len(wide) >= len(likely) else likely or found


def _without_gates(convolutions, heads):
    """Leave out those that weigh the channels of other layers, as squeeze and excitation do."""
    # They see a single place, and maps of several places come after them.
    several = [i for i, call in enumerate(convolutions) if not _has_one_place(call)]
    last = max(several, default=-1)
    return [
        call
        for i, call in enumerate(convolutions)
        if not _has_one_place(call)
        or (i > last and not squashing(call.layer) and id(call.layer) not in heads)
    ]


def _has_one_place(call):
    places = [*call.shape[:-1], *(call.received or (None,))[:-1]]
    return all(size == 1 for size in places)


def _inside_attention(calls, *, is_own):
    """The ids of the layers inside attention, of the user's own or of Keras."""
    attentions = (call.layer for call in calls if _is_attention(call.layer, is_own))
    return {id(layer) for attention in attentions for _, layer in walk(attention)}


def _is_attention(layer, is_own):
    return "attention" in type(layer).__name__.lower() and has_own_call(layer) == is_own


def _makes_features(call):
    """Whether a dense layer on several positions widens, or has an activation that bends."""
    layer, places = call.layer, call.shape[:-1]
    if not isinstance(layer, _DENSE) or not places or not call.received:
        return False
    if math.prod(size or 2 for size in places) < 2 or squashing(layer):
        # One place is no map, and a sigmoid or softmax makes weights of other features.
        return False
    return _widens(call) or not _is_linear(layer)


def _widens(call):
    return (call.shape[-1] or 0) > (call.received[-1] or math.inf)


def _is_linear(layer):
    return named_activation(layer.activation) == "linear"


def _makes_three(call):
    return _is_linear(call.layer) and call.shape[-1] == 3 * (call.received[-1] or 0)


def _has_kernel(call):
    """Whether a layer of the user's, or an einsum, turns maps into maps by a kernel of its own."""
    layer = call.layer
    is_own = isinstance(layer, keras.layers.EinsumDense) or has_own_call(layer)
    if not is_own or len(call.shape) < 3 or sublayers(layer):
        return False
    # A weight for each place of the map is no kernel.
    shapes = (tuple(v.shape) for v in layer._trainable_variables)
    return any(len(shape) >= 2 and shape[-len(call.shape) :] != call.shape for shape in shapes)


def _before(calls, ends):
    """The given calls, and for each without weights the last call with weights of its size."""
    before = list(ends)
    for end in ends:
        if not end.layer.weights:
            place = next(i for i, call in enumerate(calls) if call is end)
            size = _size(end)
            before += [c for c in calls[:place] if _size(c) == size and c.layer.weights][-1:]
    return before


def _size(call):
    """The number of values, those that vary left out."""
    return math.prod(size or 1 for size in call.shape)
