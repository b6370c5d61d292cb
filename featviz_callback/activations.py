"""Outputs of named layers, taken from one real call of any Keras model.

No second model is built. For the time of one call, the layers of interest carry
a recorder in place of their own `call`, and are restored whatever happens. What
is recorded is what training computes, in nested, subclassed and shared models
alike. The call is cut short as soon as everything asked for has been seen, so
a layer early in a network does not cost the rest of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from numbers import Integral

import keras
from keras import ops

from featviz_callback.untouched import untouched

# Keras calls the second of a quantised layer.
_CALLS = ("call", "quantized_call")
_ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax")


@dataclass(frozen=True)
class Tap:
    """One tensor of a model's call.

    Args:
        path: Names of the nested layers that lead to the layer, joined by `/`.
        point: `"output"`, `"input"`, or `"pre_activation"`: what the layer's
            own activation function receives.
    """

    path: str
    point: str = "output"


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
        layers = model.layers
        if not -len(layers) <= layer < len(layers):
            raise ValueError(
                f"Invalid value for argument `layer`. Expected an index from "
                f"{-len(layers)} to {len(layers) - 1}. Received: layer={layer}"
            )
        return find_layer(model, layers[layer])
    if not isinstance(layer, str):
        raise ValueError(
            "Invalid value for argument `layer`. Expected a name, an index or a "
            f"Keras layer. Received: layer={layer!r}"
        )
    found = model
    for name in layer.split("/"):
        same_name = [one for one in sublayers(found) if one.name == name]
        if not same_name:
            raise ValueError(_no_such_layer(model, layer))
        if len(same_name) > 1:
            raise ValueError(
                f"The model '{model.name}' has {len(same_name)} layers at the path {layer!r}. "
                "Expected every layer to be found by its path: give them different names."
            )
        found = same_name[0]
    return layer, found


def _no_such_layer(model, name):
    paths = [path for path, _ in walk(model)]
    near = [path for path in paths if path.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(name, paths, n=5, cutoff=0.5)
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
    if type(layer).__name__ in _ACTIVATION_LAYERS:
        return Tap(path, "input")
    if callable(getattr(layer, "activation", None)):
        return Tap(path, "pre_activation")
    raise ValueError(
        "Invalid value for argument `pre_activation`. Expected a layer with an "
        f"activation. Received: pre_activation=True with layer={path!r}, a "
        f"{type(layer).__name__} without one."
    )


def record(model: keras.Model, images, taps: Sequence[Tap]) -> list:
    """Calls the model on images, for inference, and returns what passed the taps.

    Args:
        model: Any built Keras model with one input.
        images: Tensor `(images, height, width, channels)`.
        taps: What to record.

    Returns:
        One tensor a tap, images first and channels last. Of a layer that is
        called several times, the first call counts.

    Raises:
        ValueError: If the model's call does not reach a layer.
    """
    recorded: dict[Tap, object] = {}
    with ExitStack() as stack:
        for tap in dict.fromkeys(taps):
            layer = find_layer(model, tap.path)[1]
            stack.enter_context(_recording(layer, tap, recorded, len(set(taps))))
        with suppress(_EverythingRecorded):
            model(images, training=False)
    missing = [tap.path for tap in taps if tap not in recorded]
    if missing:
        raise ValueError(f"The model's call does not reach the layers {missing}.")
    return [recorded[tap] for tap in taps]


@contextmanager
def _recording(layer, tap, recorded, wanted):
    def keep(tensor):
        recorded.setdefault(tap, tensor)
        if len(recorded) == wanted:
            raise _EverythingRecorded

    def record_output(call):
        def recorder(*args, **kwargs):
            output = call(*args, **kwargs)
            keep(output)
            return output

        return recorder

    def record_input(call):
        def recorder(inputs, *args, **kwargs):
            keep(inputs)
            return call(inputs, *args, **kwargs)

        return recorder

    if tap.point == "output":
        wrap, names = record_output, _CALLS
    elif tap.point == "input":
        wrap, names = record_input, _CALLS
    else:
        wrap, names = record_input, ("activation",)
    with overridden(layer, {name: wrap(getattr(layer, name)) for name in names}):
        yield


@contextmanager
def overridden(layer: keras.Layer, methods: dict[str, Callable]):
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

    def call(self, images):
        return record(self.model, images, self.taps)


def output_shapes(model: keras.Model, image_shape: tuple, taps: Sequence[Tap]) -> list[tuple]:
    """Shapes of what passes the taps, without the images' axis.

    Nothing is computed: the call runs on shapes alone.

    Args:
        model: Any built Keras model with one input.
        image_shape: `(height, width, channels)`, `None` where it may vary.
        taps: What to look at.

    Raises:
        ValueError: If a tap yields more than one tensor.
    """
    spec = keras.KerasTensor((None, *image_shape), dtype="float32")
    with untouched(model):
        outputs = _Recording(model, taps).compute_output_spec(spec)
    for tap, output in zip(taps, outputs, strict=True):
        if not isinstance(output, keras.KerasTensor):
            raise ValueError(
                f"The layer {tap.path!r} returns {type(output).__name__} of tensors. "
                "Expected a layer that returns one tensor."
            )
    return [tuple(output.shape[1:]) for output in outputs]


def input_shape(model: keras.Model) -> tuple:
    """The shape of one image, `(height, width, channels)`, `None` where it varies.

    Raises:
        ValueError: If the model is not built, or has not one image as input.
    """
    shape = getattr(model, "input_shape", None) if model.built else None
    if shape is None and model.built:
        shape = (model._build_shapes_dict or {}).get("input_shape")
    if shape is None:
        raise ValueError(
            f"The model '{model.name}' is not built, so the shape of its input is not "
            "known. Expected a built model: call `model.build((None, height, width, "
            "channels))` first, or give the callback a function of the model."
        )
    if isinstance(shape, (list, dict)) or len(shape) != 4:
        raise ValueError(
            "Expected a model with one input of shape (images, height, width, "
            f"channels). Received: model '{model.name}' with input_shape={shape}"
        )
    inputs = getattr(model, "inputs", None)
    if inputs and not keras.backend.is_float_dtype(inputs[0].dtype):
        raise ValueError(
            f"The input of the model '{model.name}' is {inputs[0].dtype}, through which there "
            "is no gradient. Expected an input of floats: name the model behind the cast."
        )
    return tuple(shape[1:])


def layers_in_order(model: keras.Model, image_shape: tuple) -> list[tuple[str, keras.Layer, tuple]]:
    """Every layer that a call reaches: path, layer and output shape, in order.

    Layers that return several tensors are left out.
    """
    found: list[tuple[str, keras.Layer]] = []

    class Order(keras.Operation):
        def call(self, images):
            # Shape inference may call more than once.
            found.clear()
            outputs = []
            with ExitStack() as stack:
                for path, layer in walk(model):
                    methods = {
                        name: _order_recorder(path, layer, getattr(layer, name), found, outputs)
                        for name in _CALLS
                    }
                    stack.enter_context(overridden(layer, methods))
                model(images, training=False)
            return outputs

    with untouched(model):
        shapes = Order().compute_output_spec(keras.KerasTensor((None, *image_shape)))
    return [
        (path, layer, tuple(output.shape[1:]))
        for (path, layer), output in zip(found, shapes, strict=True)
    ]


def _order_recorder(path, layer, call, found, outputs):
    def recorder(*args, **kwargs):
        output = call(*args, **kwargs)
        if ops.is_tensor(output):
            found.append((path, layer))
            outputs.append(output)
        return output

    return recorder


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
