"""Infer what a call of a model would return, on shapes alone.

Nothing is computed. Keras' own shape inference runs over a recorded call, so that
nested, subclassed and shared models need no rule of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from featviz_callback.objectives.layers import activations_in
from featviz_callback.objectives.notices import NothingToShow
from featviz_callback.objectives.outputs import flat, suffix
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.preserve import overridden, preserved
from featviz_callback.objectives.recording import CALLS, Tap, collect, origin

# These layers return their axes in another order than they receive them.
_LAYOUT_LAYERS = (keras.layers.Permute, keras.layers.Reshape)
# So many characters of another's error are repeated.
_LONGEST_REASON = 300

# The calls that were followed, where they are shared.
_shared: ContextVar[dict | None] = ContextVar("_shared", default=None)


class Recording(keras.Operation):
    """An operation for Keras' own shape inference over a recorded call."""

    def __init__(self, model: keras.Model, taps: Sequence[Tap]):
        super().__init__()
        self.model = model
        self.taps = taps
        self.refusal: Exception | None = None

    def call(self, arguments):
        """Return the tensors at the taps, or keep the reason why there are none."""
        # Keras would wrap the error in advice on shape inference.
        try:
            recorder = collect(self.model, arguments, self.taps)
        except Exception as error:
            self.refusal = _failure(self.model, error)
            raise
        try:
            return recorder.outputs(self.model)
        except ValueError as error:
            self.refusal = error
            raise

    def shapes(self, arguments) -> list[tuple]:
        """Return the shapes of the tensors, without the images' axis.

        Raises:
            ValueError: See `output_shapes`.
        """
        try:
            with preserved(self.model):
                outputs = self.compute_output_spec(arguments)
        except Exception as error:
            refusal = self.refusal or _failure(self.model, error)
            raise refusal from refusal.__cause__
        return [tuple(output.shape[1:]) for output in outputs]


def _failure(model, error):
    """The error that says in one sentence which model cannot be called, and why."""
    text = str(error)
    # Keras sets the reason in bold, between the layer's name and its arguments.
    bold = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", text, flags=re.DOTALL)
    reason = " ".join((bold[-1] if bold else text).split()).rstrip(".")
    reason = reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "..."
    place = re.search(r"Exception encountered when calling (\S+?)[. ]", text)
    where = f" in {place[1]}" if place else ""
    is_of_shapes = isinstance(error, ValueError)
    advice = (
        ". If it needs values, as `.numpy()` and a Python `if` on a tensor do, use `keras.ops` in "
        "their place, such as `keras.ops.where`; `run_eagerly` makes no difference."
    )
    failure = NothingToShow(
        f"The call of the model '{model.name}' fails on tensors without values, as a compiled "
        f"step has them{where}: {type(error).__name__}: {reason}" + ("" if is_of_shapes else advice)
    )
    failure.__cause__ = error
    return failure


def output_shapes(model: keras.Model, arguments, taps: Sequence[Tap]) -> list[tuple]:
    """Return the shapes of the tensors at the taps, without the images' axis, channels last.

    Nothing is computed: the call runs on shapes alone.

    Args:
        model: Any built Keras model.
        arguments: The model's argument, as `keras.KerasTensor`s; a size that may vary
            is `None`.
        taps: The tensors whose shapes are wanted.

    Raises:
        ValueError: If a tap has no tensor, several tensors, or one that cannot be read.
    """
    calls = _followed_before(model, arguments)
    known = [_shape_in(calls, tap) for tap in taps]
    return Recording(model, taps).shapes(arguments) if None in known else known


def _followed_before(model, arguments):
    """Return what `layer_calls` has found already, or nothing, also where a size may vary."""
    sizes = [size for one in keras.tree.flatten(arguments) for size in one.shape[1:]]
    found = (_shared.get() or {}).get(_key(model, arguments))
    return found[1][0] if found and None not in sizes else []


def _shape_in(calls, tap):
    """Return the shape at a tap by the calls of a model's layers, or `None`."""
    if tap.point != "output" or tap.sizes is not None:
        return None
    own = [one for one in calls if one.path == tap.path and one.index == tap.index][tap.call :]
    is_known = own and own[0].channels_first == tap.channels_first
    return own[0].shape if is_known else None


def _key(model, arguments):
    """Return what tells a call of a model on such arguments from others."""
    described = [
        (*path, one.shape, one.dtype) for path, one in keras.tree.flatten_with_path(arguments)
    ]
    return id(model), repr(described)


@dataclass(frozen=True)
class LayerCall:
    """One tensor that one call of a layer returned, seen in the call of a model.

    Attributes:
        path: As `Tap.path`.
        layer: The layer, or an operation that applies an activation.
        received: Shape of the layer's first input, without the images' axis.
        shape: Shape of the tensor, without the images' axis, channels last.
            A size that may vary is that of some image.
        channels_first: Whether the layer itself has the channels first.
        index: As `Tap.index`.
        place: The tensor's place among all that the call returned.
        returned: Its place among all that the model returns, if it is the very tensor.
    """

    path: str
    layer: Any
    received: tuple
    shape: tuple
    channels_first: bool
    index: tuple[str, ...] = ()
    place: int = 0
    returned: int | None = None

    @property
    def name(self) -> str:
        """What names the layer's output."""
        return self.path + suffix(self.index)


def layer_calls(model: keras.Model, arguments, with_activations: bool = False) -> list[LayerCall]:
    """Return every call of a layer in a model's call, in the order in which calls end.

    Nothing is computed. A call that returns several tensors is there once for each. Calls
    whose output cannot be taken out of a function inside the model are left out.

    Args:
        model: Any built Keras model.
        arguments: As for `output_shapes`.
        with_activations: Whether those of `activations_in` are among them.

    Raises:
        ValueError: If the model's call fails, saying why.
    """
    calls, _ = _all_calls(model, arguments)
    return list(calls) if with_activations else _of_layers(calls)


def _of_layers(calls):
    return [call for call in calls if isinstance(call.layer, keras.Layer)]


@contextmanager
def shared_calls() -> Iterator[None]:
    """Follow the call of each model once, however often its calls are asked for inside.

    Following a call may take a second. No model may be changed inside.
    """
    if _shared.get() is not None:
        yield
        return
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def calls_and_outputs(model: keras.Model, arguments) -> tuple[list[LayerCall], list[tuple]]:
    """Return what `layer_calls` does, and the shape of each tensor that the model returns."""
    calls, outputs = _all_calls(model, arguments)
    return _of_layers(calls), list(outputs)


def _all_calls(model, arguments):
    known = _shared.get()
    if known is None:
        return _followed(model, arguments)
    # The model is kept, so that no other one gets its identity.
    key = _key(model, arguments)
    if key not in known:
        known[key] = model, _followed(model, arguments)
    return known[key][1]


def _followed(model, arguments):
    order = _Order(model)
    try:
        with preserved(model):
            outputs = order.compute_output_spec(arguments)
    except Exception as error:
        refusal = order.refusal or _failure(model, error)
        raise refusal from refusal.__cause__
    shapes = [tuple(getattr(output, "shape", ()))[1:] for output in keras.tree.flatten(outputs)]
    return list(_with_layouts(order.found)), shapes


class _Order(keras.Operation):
    """An operation for Keras' own shape inference, which notes the calls of layers."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.found: list[LayerCall] = []
        self.refusal: Exception | None = None

    def call(self, arguments):
        # Shape inference may call more than once.
        noted: list[tuple] = []
        started = origin()
        with ExitStack() as stack:
            for path, layer in [*walk(self.model), *activations_in(self.model)]:
                methods = {
                    name: _noting(path, layer, getattr(layer, name), noted, started)
                    for name in CALLS
                }
                stack.enter_context(overridden(layer, methods))
            try:
                outputs = self.model(arguments, training=False)
            except Exception as error:
                self.refusal = _failure(self.model, error)
                raise
        places = {id(one): place for place, one in enumerate(keras.tree.flatten(outputs))}
        self.found = [replace(call, returned=places.get(id(one))) for call, one in noted]
        return outputs


def _noting(path, layer, call, noted, started):
    def noting(*args, **kwargs):
        output = call(*args, **kwargs)
        if origin() == started:
            tensors = [(i, *one) for i, one in enumerate(flat(output)) if ops.is_tensor(one[1])]
            first = next(filter(ops.is_tensor, (*args, *kwargs.values())), None)
            for place, index, tensor in tensors:
                received = tuple((tensor if first is None else first).shape)[1:]
                shape = tuple(tensor.shape)[1:]
                found = LayerCall(path, layer, received, shape, False, index, place)
                noted.append((found, tensor))
        return output

    return noting


def _with_layouts(found):
    """Add the place of the channels; a layer that does not say it takes that of the last one."""
    said = [getattr(call.layer, "data_format", None) for call in found]
    layout = next(filter(None, said), None)
    for call, own in zip(found, said, strict=True):
        layout = None if isinstance(call.layer, _LAYOUT_LAYERS) else own or layout
        shape, first = call.shape, layout == "channels_first" and len(call.shape) > 1
        shape = (*shape[1:], shape[0]) if first else shape
        yield replace(call, shape=shape, channels_first=first)
