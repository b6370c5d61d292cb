"""Choose the layer in which an image is compared with another one.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

import math

from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.reachability import Reach
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import layer_calls
from featviz_callback.objectives.terms import Targets

# A layer sees shapes and textures about so far on the way from the image to the target.
_DEPTH = 0.5


def find_anchor(
    targets: Targets, image_input: ImageInput, input_shape: tuple, depth: float = _DEPTH
) -> Tap | None:
    """Return a feature map on the way to what the targets read.

    Args:
        targets: What is maximised.
        image_input: The model's input that takes the images.
        input_shape: `(height, width, channels)` that the model receives.
        depth: How far on the way, from 0 to 1.

    Returns:
        The tap of the map; `None` if no map is on the way.
    """
    maps = [tap for tap, is_map, _ in _on_the_way(targets, image_input, input_shape) if is_map]
    return maps[round(depth * (len(maps) - 1))] if maps else None


def last_features(targets: Targets, image_input: ImageInput, input_shape: tuple) -> Tap | None:
    """Return the last features on the way to what the targets read, vectors too.

    A vector that the targets read themselves does not count, since it has what they have in
    common.

    Args:
        targets: What is maximised.
        image_input: The model's input that takes the images.
        input_shape: `(height, width, channels)` that the model receives.

    Returns:
        Their tap; `None` if there are none.
    """
    found = _on_the_way(targets, image_input, input_shape)
    return next((tap for tap, is_map, is_read in reversed(found) if is_map or not is_read), None)


def _on_the_way(targets, image_input, input_shape):
    """Return taps of what layers with weights return, whether it is a map, and is read itself."""
    model = targets.model
    calls = layer_calls(model, image_input.specs(model, input_shape))
    read = {tap.path for term in targets.terms for tap in term.taps}
    last = min((i for i, call in enumerate(calls) if call.path in read), default=len(calls) - 1)
    reach = Reach(model, [image_input.position or 0])
    # A tap is the first call of a layer.
    found = {
        Tap(call.path, channels_first=call.channels_first, index=call.index): call
        for call in reversed(calls[: last + 1])
        if call.layer.weights and call.shape
    }
    return [
        (tap, _is_map(call), call.path in read)
        for tap, call in reversed(found.items())
        if reach.includes(tap) is not False
    ]


def _is_map(call):
    """Whether a call returns features at several positions."""
    return len(call.shape) > 1 and math.prod(n or 2 for n in call.shape[:-1]) > 1
