"""Outputs of named layers, taken from one real call of any Keras model.

No second model is built. For the time of one call, the layers of interest carry
a recorder in place of their own `call`, and are restored whatever happens. What
is recorded is what training computes, in nested, subclassed and shared models
alike. The call is cut short as soon as everything asked for has been seen, so
a layer early in a network does not cost the rest of it.
"""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from numbers import Integral

import keras
from keras import ops

from featviz_callback import backend
from featviz_callback.untouched import untouched

# Keras calls the second of a quantised layer.
_CALLS = ("call", "quantized_call")
_ACTIVATION_LAYERS = (
    *(keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU),
    keras.layers.Softmax,
)
# What comes out of these is laid out anew.
_LAYOUT_LAYERS = (keras.layers.Permute, keras.layers.Reshape)


@dataclass(frozen=True)
class Tap:
    """One tensor of a model's call.

    Args:
        path: Names of the nested layers that lead to the layer, joined by `/`.
        point: `"output"`, `"input"`, or `"pre_activation"`: what the layer's
            own activation function receives.
        call: Which of the layer's calls, from 0.
        channels_first: Whether the tensor must be turned to have channels last.
    """

    path: str
    point: str = "output"
    call: int = 0
    channels_first: bool = False

    @property
    def name(self) -> str:
        """The path, with the number of the call if it is not the first."""
        return f"{self.path}:{self.call}" if self.call else self.path


class _EverythingRecorded(BaseException):
    """Ends a model's call early. Not an `Exception`: no layer may swallow it."""


def sublayers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers directly inside a model or layer, in lists and dicts too."""
    return layer._flatten_layers(include_self=False, recursive=False)


def walk(model: keras.Layer, prefix: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yields `(path, layer)` for every layer inside `model`, nested ones too."""
    for layer in sublayers(model):
        yield prefix + layer.name, layer
        yield from walk(layer, f"{prefix}{layer.name}/")


def find_layer(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer]:
    """Returns a layer's path inside the model, and the layer.

    Args:
        model: Any Keras model.
        layer: A name, a path such as `"backbone/conv3"`, an index into
            `model.layers` (negative ones count from the end), or a layer.

    Returns:
        `(path, layer)`.

    Raises:
        ValueError: If there is no such layer in the model. For a name, the
            message lists those like it.
    """
    if isinstance(layer, keras.Layer):
        for path, found in walk(model):
            if found is layer:
                return find_layer(model, path)
        raise ValueError(
            f"Invalid value for argument `layer`. Expected a layer of the model "
            f"'{model.name}'. Received: layer={layer.name!r}, which is not part of it."
        )
    if isinstance(layer, Integral) and not isinstance(layer, bool):
        layers, index = model.layers, int(layer)
        if not -len(layers) <= index < len(layers):
            raise ValueError(
                f"Invalid value for argument `layer`. Expected an index from "
                f"{-len(layers)} to {len(layers) - 1}. Received: layer={layer}"
            )
        return find_layer(model, layers[index])
    if not isinstance(layer, str):
        raise ValueError(
            "Invalid value for argument `layer`. Expected a name, an index or a "
            f"Keras layer. Received: layer={layer!r}"
        )
    return layer, _lineage(model, layer)[-1]


def _lineage(model, path):
    """The layers that a path leads through, from the model to the layer itself."""
    found = [model]
    for name in path.split("/"):
        same_name = [one for one in sublayers(found[-1]) if one.name == name]
        if not same_name:
            raise ValueError(_no_such_layer(model, path))
        if len(same_name) > 1:
            raise ValueError(
                f"The model '{model.name}' has {len(same_name)} layers at the path {path!r}. "
                "Expected every layer to be found by its path: give them different names."
            )
        found.append(same_name[0])
    return found


def find_call(model: keras.Model, layer: str | int | keras.Layer) -> tuple[str, keras.Layer, int]:
    """As `find_layer`, for a name that may say which call of the layer is meant.

    Args:
        model: Any Keras model.
        layer: As for `find_layer`. `"conv:1"` is the second call of `"conv"`,
            unless that is a layer's own name.

    Returns:
        `(path, layer, call)`, the first call being 0.
    """
    numbered = re.fullmatch("(.+):([0-9]+)", layer) if isinstance(layer, str) else None
    if numbered is None or layer in dict(walk(model)):
        return *find_layer(model, layer), 0
    return *find_layer(model, numbered[1]), int(numbered[2])


def _no_such_layer(model, name):
    paths = [path for path, _ in walk(model)]
    near = [path for path in paths if path.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(name, paths, n=5, cutoff=0.5)
    near = list(dict.fromkeys(near))
    hint = f"Near it are {near}" if near else f"The model has {paths[:20]}"
    return (
        f"Invalid value for argument `layer`. Expected a layer of the model "
        f"'{model.name}'. {hint}. Received: layer={name!r}"
    )


def is_softmax(layer: keras.Layer) -> bool:
    """Whether what a layer returns has gone through a softmax."""
    activation = getattr(layer, "activation", None)
    is_layer = isinstance(layer, keras.layers.Softmax) or isinstance(
        activation, keras.layers.Softmax
    )
    # TensorFlow, JAX, torch and Keras each have a function of that name.
    return is_layer or getattr(activation, "__name__", None) == "softmax"


def output_layer(path: str, layer: keras.Layer) -> tuple[str, keras.Layer]:
    """The innermost layer that gives a nested model's one output, with its path."""
    while isinstance(layer, keras.Model) and len(getattr(layer, "outputs", None) or ()) == 1:
        last = layer.outputs[0]._keras_history.operation
        if last not in sublayers(layer):
            break
        path, layer = f"{path}/{last.name}", last
    return path, layer


def tap_before_activation(path: str, layer: keras.Layer) -> Tap:
    """The tap of what the layer's activation receives.

    Raises:
        ValueError: If the layer has no activation.
    """
    if isinstance(layer, _ACTIVATION_LAYERS):
        return Tap(path, "input")
    if callable(getattr(layer, "activation", None)):
        return Tap(path, "pre_activation")
    raise ValueError(
        "Invalid value for argument `pre_activation`. Expected a layer with an "
        f"activation. Received: pre_activation=True with layer={path!r}, a "
        f"{type(layer).__name__} without one."
    )


def record(model: keras.Model, arguments, taps: Sequence[Tap]) -> list:
    """Calls the model for inference, and returns what passed the taps.

    Args:
        model: Any built Keras model.
        arguments: What it is called with: a tensor, or a list or dict of tensors.
        taps: What to record.

    Returns:
        One tensor a tap, images first and channels last.

    Raises:
        ValueError: If the model's call does not reach a layer, or does not call
            it so often.
    """
    seen = _Seen(taps)
    with ExitStack() as stack:
        for layer in model._flatten_layers():
            if getattr(layer, "_remat_mode", None):
                # What is computed twice is a function of its own, and keeps its tensors.
                stack.enter_context(overridden(layer, {"_remat_mode": None}))
        for tap in seen.calls:
            stack.enter_context(_recording(model, tap, seen))
        with suppress(_EverythingRecorded):
            model(arguments, training=False)
    for tap in taps:
        if tap not in seen.tensors:
            raise ValueError(_not_reached(tap, seen.calls[tap]))
        if tap in seen.lost:
            raise ValueError(
                f"The layer {tap.path!r} is called inside a function that is compiled, mapped, "
                "looped or computed twice on its own, or where no gradient is kept: no tensor can "
                "be taken out of that. Expected a layer around it."
            )
    return [_channels_last(seen.tensors[tap], tap) for tap in taps]


def _origin():
    """Where a layer is called: in which thread, and in which trace."""
    return threading.get_ident(), backend.load().current_trace()


class _Seen:
    """What passes some taps in one call of a model."""

    def __init__(self, taps):
        self.calls = dict.fromkeys(taps, 0)
        self.tensors = {}
        self.lost = set()
        self._thread, self._trace = _origin()

    def keep(self, tap, tensor):
        thread, trace = _origin()
        if thread != self._thread:
            # Somebody else calls the same layer.
            return
        is_wanted = self.calls[tap] == tap.call
        self.calls[tap] += 1
        if not is_wanted:
            return
        self.tensors[tap] = tensor
        if trace != self._trace:
            self.lost.add(tap)
        if len(self.tensors) == len(self.calls):
            raise _EverythingRecorded
        if ops.is_tensor(tensor):
            # On torch, what comes later may write into it.
            self.tensors[tap] = ops.copy(tensor)


def _not_reached(tap, calls):
    if not calls:
        what = "apply the activation of" if tap.point == "pre_activation" else "reach"
        return f"The model's call does not {what} the layer {tap.path!r}."
    names = [f"{tap.path}:{i}" for i in range(calls)]
    return (
        f"Invalid value for argument `layer`. The model calls the layer {tap.path!r} {calls} "
        f"times. Expected one of {names[:8]}. Received: layer={tap.name!r}"
    )


def _channels_last(tensor, tap):
    if tap.channels_first and len(tensor.shape) > 2:
        return ops.moveaxis(tensor, 1, -1)
    return tensor


@contextmanager
def _recording(model, tap, seen):
    def record_output(call):
        def recorder(*args, **kwargs):
            output = call(*args, **kwargs)
            seen.keep(tap, output)
            return output

        return recorder

    def record_input(call):
        def recorder(inputs, *args, **kwargs):
            seen.keep(tap, inputs)
            return call(inputs, *args, **kwargs)

        return recorder

    layer = _lineage(model, tap.path)[-1]
    if tap.point == "output":
        wrap, names = record_output, _CALLS
    elif tap.point == "input":
        wrap, names = record_input, _CALLS
    else:
        wrap, names = record_input, ("activation",)
    with overridden(layer, {name: wrap(getattr(layer, name)) for name in names}):
        yield


@contextmanager
def overridden(layer: keras.Layer, methods: dict[str, Callable | None]):
    """Gives one layer instance other methods, for the time of a `with` block.

    The instance's dictionary is written directly: Keras' own attribute tracking
    neither sees the change nor has to forget it.
    """
    before = {name: layer.__dict__[name] for name in methods if name in layer.__dict__}
    layer.__dict__.update(methods)
    try:
        yield
    finally:
        for name in methods:
            del layer.__dict__[name]
        layer.__dict__.update(before)


class _Recording(keras.Operation):
    """Keras' own shape inference over a recorded call: no graph is changed."""

    def __init__(self, model, taps):
        super().__init__()
        self.model = model
        self.taps = taps
        self.refusal = None

    def call(self, arguments):
        try:
            outputs = record(self.model, arguments, self.taps)
            _require_tensors(self.taps, outputs)
            return outputs
        except ValueError as error:
            # Keras would wrap it in advice on shape inference.
            self.refusal = error
            raise


def output_shapes(model: keras.Model, arguments, taps: Sequence[Tap]) -> list[tuple]:
    """Shapes of what passes the taps, without the images' axis, channels last.

    Nothing is computed: the call runs on shapes alone.

    Args:
        model: Any built Keras model.
        arguments: What it is called with, as `keras.KerasTensor`s, sizes `None`
            where they may vary.
        taps: What to look at.

    Raises:
        ValueError: If a tap yields none, several, or one that cannot be read here.
    """
    recording = _Recording(model, taps)
    try:
        with untouched(model):
            outputs = recording.compute_output_spec(arguments)
    except ValueError as error:
        raise (recording.refusal or error) from None
    return [tuple(output.shape[1:]) for output in outputs]


def _require_tensors(taps, outputs):
    for tap, output in zip(taps, outputs, strict=True):
        if not ops.is_tensor(output):
            kind = "nothing" if output is None else f"a {type(output).__name__}"
            raise ValueError(
                f"The layer {tap.path!r} returns {kind}. Expected a layer that returns one tensor."
            )


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, seen in the call of a model.

    Attributes:
        path: As `Tap.path`.
        layer: The layer.
        received: Shape of the first tensor that it gets, without the images' axis.
        shape: Shape of what it returns, without the images' axis, channels last.
            Sizes that may vary are those of some image.
        channels_first: Whether the layer itself has the channels first.
    """

    path: str
    layer: keras.Layer
    received: tuple
    shape: tuple
    channels_first: bool


def layer_calls(model: keras.Model, arguments) -> list[LayerCall]:
    """Every call of a layer in a model's call, in the order in which they end.

    Nothing is computed. Layers that return several tensors are left out, and so
    are those whose output cannot be taken out of a function inside the model.

    Args:
        model: Any built Keras model.
        arguments: As for `output_shapes`.
    """
    found: list[tuple] = []

    class Order(keras.Operation):
        def call(self, arguments):
            # Shape inference may call more than once.
            found.clear()
            origin = _origin()
            with ExitStack() as stack:
                for path, layer in walk(model):
                    methods = {
                        name: _order_recorder(path, layer, getattr(layer, name), found, origin)
                        for name in _CALLS
                    }
                    stack.enter_context(overridden(layer, methods))
                return model(arguments, training=False)

    with untouched(model):
        Order().compute_output_spec(arguments)
    return list(_with_layouts(found))


def _order_recorder(path, layer, call, found, origin):
    def recorder(*args, **kwargs):
        output = call(*args, **kwargs)
        if ops.is_tensor(output) and _origin() == origin:
            first = next(filter(ops.is_tensor, (*args, *kwargs.values())), output)
            found.append((path, layer, tuple(first.shape)[1:], tuple(output.shape)[1:]))
        return output

    return recorder


def _with_layouts(found):
    """Where the channels are, for layers that do not say: where they were before."""
    said = [getattr(layer, "data_format", None) for _, layer, *_ in found]
    layout = next(filter(None, said), None)
    for (path, layer, received, shape), own in zip(found, said, strict=True):
        layout = None if isinstance(layer, _LAYOUT_LAYERS) else own or layout
        first = layout == "channels_first" and len(shape) > 1
        shape = (*shape[1:], shape[0]) if first else shape
        yield LayerCall(path, layer, received, shape, first)


def has_channels_first(model: keras.Model) -> bool:
    """Whether any layer of the model has the channels first."""
    return any(getattr(layer, "data_format", None) == "channels_first" for _, layer in walk(model))


@contextmanager
def relaxed_activations(model: keras.Model):
    """Lets a gradient through ReLUs where they are off, values unchanged.

    The gradient gains that of a softplus: the nearer to its threshold, the more.
    A constant slope would not do, since that of a filter for edges cancels over
    space. Used to wake units. Activations given as functions of the model's own
    `call`, rather than as layers, are not seen.
    """
    with ExitStack() as stack:
        for _, layer in walk(model):
            name = "call" if isinstance(layer, keras.layers.ReLU) else "activation"
            function = getattr(layer, name, None)
            is_relu = function in (keras.activations.relu, keras.activations.relu6)
            if name == "call" or is_relu:
                stack.enter_context(overridden(layer, {name: _relaxed(function)}))
        yield


def _relaxed(function):
    def relaxed(inputs, *args, **kwargs):
        leak = ops.softplus(inputs)
        return function(inputs, *args, **kwargs) + leak - ops.stop_gradient(leak)

    return relaxed
