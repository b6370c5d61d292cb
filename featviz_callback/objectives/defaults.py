"""Choose the units of a network that are watched if nobody names any.

The choice depends on the layers of the model alone, never on its weights.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import keras

from featviz_callback.objectives import inputs
from featviz_callback.objectives.features import MOST_LAYERS, feature_calls
from featviz_callback.objectives.heads import heads
from featviz_callback.objectives.inputs import fits
from featviz_callback.objectives.notices import NothingToShow, warn_once
from featviz_callback.objectives.objective import Objective, all_channels
from featviz_callback.objectives.reachability import Reach
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import calls_and_outputs
from featviz_callback.objectives.wrappers import (
    image_parts,
    is_wrapper,
    not_watchable,
    refused_parts,
)
from featviz_callback.records import spread

# Every kind of convolution, also of signals and with a kernel for each channel.
_CONVOLUTIONS = (
    *(keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.SeparableConv1D),
    *(keras.layers.SeparableConv2D, keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose),
    *(keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D),
)

# The most outputs, and the most units of all outputs together, that are taken.
_MOST_UNITS = 16
# So many features of a layer are taken.
_FEATURES = 4


def default_objectives(
    model: keras.Model, fixed_inputs: Mapping | None = None, shape: tuple | None = None
) -> list[Objective]:
    """Choose what is worth watching in any image classifier, or in the parts of a wrapper.

    Args:
        model: A built Keras model, or a wrapper such as a GAN: a model with a `train_step`
            of its own and no `call`, whose parts inside are built: models, or layers with
            layers inside where no model takes images.
        fixed_inputs: See `optimize`.
        shape: Shape of one image or signal, if it is known. Of a wrapper, only parts that
            take such images are chosen. Default: the shape that the first part of a fixed
            size takes, and else parts of any size.

    Returns:
        Up to 16 output units, shared among the outputs (or among 16 of them, spread
        evenly), and four channels, spread evenly over a layer, of each of four layers with
        features, spread over the depth. These are convolutions. In a vision transformer or
        token mixer they are the dense layers on tokens that widen or have an activation, in a
        hybrid both. In a network without any of these they are own layers of feature maps
        with a kernel, depthwise convolutions, or recurrent layers and hidden dense ones, four
        units of each of four. A model without features gives its outputs, and one without
        outputs its features. Layers that never receive the image are left out. If an output
        comes from plain operations, the layers before them are taken. The parts of a wrapper
        that take images share these numbers, and one warning names them.

    Raises:
        NothingToShow: If nothing is found, or the model's call fails.

    Example:
    >>> from keras import Input, Sequential
    >>> from keras.layers import Conv2D
    >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
    >>> [objective.names for objective in default_objectives(model)]
    [['Channel#conv_0', 'Channel#conv_1', 'Channel#conv_2', 'Channel#conv_3']]
    """
    chosen = choose_by_default(model, fixed_inputs, shape)
    announce_parts(model, chosen)
    return chosen


def choose_by_default(
    model: keras.Model, fixed_inputs: Mapping | None = None, shape: tuple | None = None
) -> list[Objective]:
    """Return what `default_objectives` does, without naming the parts of a wrapper."""
    parts = dict(image_parts(model, fixed_inputs))
    if "" in parts or not parts:
        if is_wrapper(model) and not parts:
            reasons = [str(reason) for _, reason in refused_parts(model)]
            raise NothingToShow(" ".join([not_watchable(model), *reasons]))
        chosen = _objectives(model, "", _layers(model, fixed_inputs, MOST_LAYERS), 1)
        if not chosen:
            raise NothingToShow(
                f"Nothing to watch was found in the model '{model.name}': it has no convolution, "
                "no dense layer with features and no output that is a vector. Expected "
                "`objectives` to be given."
            )
        return chosen
    fitting = _alike(model, parts, fixed_inputs, shape)
    most = max(1, MOST_LAYERS // len(fitting))
    left_out = dict(refused_parts(model)) if is_wrapper(model) else {}
    found = {}
    for path, part in fitting:
        try:
            layers = _layers(part, fixed_inputs, most)
        except NothingToShow as error:
            left_out[path] = error
            continue
        if any(layers):
            found[path] = layers
    if not found:
        raise next(iter(left_out.values()), NothingToShow(not_watchable(model)))
    for path, reason in left_out.items():
        warn_once(model, "The part %r of the model '%s' is left out. %s", path, model.name, reason)
    return [
        objective
        for path, layers in found.items()
        for objective in _objectives(model, f"{path}/", layers, len(found))
    ]


def announce_parts(model: keras.Model, objectives: Sequence[Objective]) -> None:
    """Log once which parts of a wrapper are watched; nothing of any other model."""
    prefixes = (one.terms[0].taps[0].prefix for one in objectives)
    parts = list(dict.fromkeys(prefix.removesuffix("/") for prefix in prefixes if prefix))
    if is_wrapper(model) and parts:
        warn_once(
            model,
            "The model '%s' is not called as a whole, so the parts that take images are watched: "
            "%s. `objectives` chooses others, such as `lambda model: default_objectives(part)`.",
            *(model.name, ", ".join(map(repr, parts))),
        )


def every_channel(
    model: keras.Model, fixed_inputs: Mapping | None = None, shape: tuple | None = None
) -> list[Objective]:
    """Return every channel of every convolution that receives the image, in their order.

    Args:
        model: See `default_objectives`.
        fixed_inputs: See `optimize`.
        shape: See `default_objectives`.

    Returns:
        One objective a layer.

    Raises:
        NothingToShow: If there is no convolution.

    Example:
    >>> from keras import Input, Sequential
    >>> from keras.layers import Conv2D
    >>> model = Sequential([Input((8, 8, 1)), Conv2D(2, 3, name="conv")])
    >>> [objective.names for objective in every_channel(model)]
    [['Channel#conv_0', 'Channel#conv_1']]
    """
    parts = dict(image_parts(model, fixed_inputs))
    fitting = _alike(model, parts, fixed_inputs, shape) if parts else [("", model)]
    chosen = []
    for path, part in fitting:
        names = _convolutions(part, fixed_inputs)
        if names:
            chosen += all_channels(model, [f"{path}/" * bool(path) + name for name in names])
    if not chosen:
        raise NothingToShow(
            f"Nothing was found in the model '{model.name}': no convolution receives the image. "
            "Expected `objectives` to be given."
        )
    return chosen


def _convolutions(model, fixed_inputs):
    """Return the name of the first call of each convolution that receives the image."""
    reach = Reach(model, [inputs.image_position(model, fixed_inputs)])
    calls, _ = calls_and_outputs(model, inputs.specs(model))
    numbers: Counter = Counter()
    found: dict[str, str] = {}
    for call in calls:
        tap = Tap(call.path, call=numbers[call.path])
        numbers[call.path] += 1
        if isinstance(call.layer, _CONVOLUTIONS) and reach.includes(tap) is not False:
            found.setdefault(call.path, tap.name)
    return list(found.values())


def _alike(model, parts, fixed_inputs, shape):
    """Return the parts that take images of one shape, as `(path, part)`.

    Those of any size need one that is known, so another part of a fixed size goes first.
    """
    taken = {
        path: inputs.resolve(part, fixed_inputs, announce=False)[0] for path, part in parts.items()
    }
    shapes = {
        path: tuple(one.shape["hwc".index(axis)] for axis in one.axes)
        for path, one in taken.items()
    }
    if shape is not None and is_wrapper(model):
        fitting = [
            (path, parts[path])
            for path, own in shapes.items()
            if fits(shape, own) or fits(taken[path].complete(shape), taken[path].shape)
        ]
        return fitting or list(parts.items())[:1]
    # Sequences of tokens have the shape of a signal, and a fixed length makes them no better.
    sizes = [*shapes.values()]
    wanted = max(sizes, key=lambda own: (len(own), len(own) == 3 and None not in own))
    fitting = [(path, parts[path]) for path, own in shapes.items() if fits(wanted, own)]
    sized = [(path, part) for path, part in fitting if None not in shapes[path]]
    sized = sized if len(wanted) == 3 else []
    for path, _ in fitting if sized else []:
        if None in shapes[path]:
            known = taken[sized[0][0]]
            warn_once(
                model,
                "The part %r of the model '%s' is left out, since it takes images of any size. To "
                "see it, give `image_shape`, such as image_shape=%s.",
                *(path, model.name, known.shape[:2]),
            )
    return sized or fitting


def _layers(model, fixed_inputs, most):
    """Return the calls of so many layers with features, and the units of each output."""
    reach = Reach(model, [inputs.image_position(model, fixed_inputs)])
    calls, outputs = calls_and_outputs(model, inputs.specs(model))
    calls = [call for call in calls if reach.includes(Tap(call.path)) is not False]
    ends = heads(model, calls, outputs)
    units = {call.name: call.shape[0] for call in ends if len(call.shape) == 1 and call.shape[0]}
    return feature_calls(calls, ends, most), units


def _objectives(model, prefix, layers, parts):
    """Return the objectives of one of so many parts, whose layers' names have a prefix."""
    features, units = layers
    chosen = [_features(model, prefix, call) for call in features]
    vectors = [list(units)[i] for i in spread(len(units), _MOST_UNITS)]
    most = max(1, _MOST_UNITS // max(1, len(vectors)) // parts)
    return chosen + [
        Objective.neuron(model, prefix + name, range(min(most, units[name]))) for name in vectors
    ]


def _features(model, prefix, call):
    """Some features of a layer: channels of a map, or single units.

    They are the middles of equal parts of the layer, since neighbours may be alike: in
    branches that are joined, groups, or heads.
    """
    make = Objective.neuron if len(call.shape) == 1 else Objective.channel
    size = call.shape[-1]
    count = min(_FEATURES, size)
    return make(
        model, prefix + call.name, [(2 * i + 1) * size // (2 * count) for i in range(count)]
    )
