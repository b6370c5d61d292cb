"""Record the outputs of named layers in one real call of any Keras model.

For the time of one call, each layer of interest has a recorder in place of its own
`call`, and gets its method back whatever happens. The recorded tensors are therefore
those that training computes, in nested, subclassed and shared models alike. The call
ends as soon as all of them are recorded, so an early layer costs no later one.

This module never builds a second model and never rewires a graph.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace

import keras
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives.layers import operation_at
from featviz_callback.objectives.outputs import flat, kind, pick, suffix
from featviz_callback.objectives.paths import inside_names, lineage
from featviz_callback.objectives.preserve import overridden

# The methods that compute a layer's output; Keras calls the second of a quantised layer.
CALLS = ("call", "quantized_call")
_ACTIVATION_LAYERS = (
    *(keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU, keras.layers.ELU),
    keras.layers.Softmax,
)


@dataclass(frozen=True)
class Tap:
    """One tensor of a model's call.

    Args:
        path: Names of the nested layers that lead to the layer, joined by `/`.
        point: `"output"`, `"input"`, or `"pre_activation"`: what the layer's
            own activation function receives.
        call: Which of the layer's calls, from 0.
        channels_first: Whether the tensor must be turned to have channels last.
        sizes: The shape that the values of one image get, or `None` for their own.
        index: Which of the tensors that the layer returns, see `outputs`; `()` if it
            returns one.
        prefix: What stands before the path in names: the path of the part of a wrapper
            that is read. It ends in `/`.
    """

    path: str
    point: str = "output"
    call: int = 0
    channels_first: bool = False
    sizes: tuple | None = None
    index: tuple[str, ...] = ()
    prefix: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The path, the number of the call if it is not the first, and the output's index."""
        call = f":{self.call}" if self.call else ""
        return self.prefix + self.path + call + suffix(self.index)


class _EverythingRecorded(BaseException):
    """End a model's call early. Not an `Exception`, so that no layer can swallow it."""


def tap_before_activation(path: str, layer: keras.Layer) -> Tap:
    """Return the tap of what the layer's activation receives.

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


def record(model: keras.Model, arguments, taps: Sequence[Tap], to_the_end: bool = False) -> list:
    """Call the model for inference, and return the tensors at the taps.

    Args:
        model: Any built Keras model.
        arguments: Its one argument: a tensor, or a list or dict of tensors.
        taps: The tensors to record.
        to_the_end: Whether the call goes on when all of them are recorded.

    Returns:
        One tensor a tap, images first and channels last.

    Raises:
        ValueError: If the model's call does not reach a layer, or does not call
            it so often.
    """
    return collect(model, arguments, taps, to_the_end).outputs(model)


def collect(
    model: keras.Model, arguments, taps: Sequence[Tap], to_the_end: bool = False
) -> Recorder:
    """Call the model for inference, see `record`, and return what was recorded.

    Whatever is raised here is raised by the model.
    """
    recorder = Recorder(taps, to_the_end)
    with ExitStack() as stack:
        for layer in model._flatten_layers():
            if getattr(layer, "_remat_mode", None):
                # A layer that is computed twice would be a function of its own, out of which
                # no tensor can be taken.
                stack.enter_context(overridden(layer, {"_remat_mode": None}))
        for tap in recorder.calls:
            stack.enter_context(_recording(model, tap, recorder))
        with suppress(_EverythingRecorded):
            model(arguments, training=False)
    return recorder


def origin():
    """Return the thread and the trace in which a layer is called."""
    return threading.get_ident(), backend.load().current_trace()


class Recorder:
    """The tensors at some taps, collected during one call of a model."""

    def __init__(self, taps: Sequence[Tap], to_the_end: bool = False):
        self.taps = taps
        self._to_the_end = to_the_end
        self.calls = dict.fromkeys(taps, 0)
        self.tensors: dict = {}
        # What a layer returns that has no tensor at the tap's index.
        self.others: dict = {}
        self.lost: set = set()
        self._thread, self._trace = origin()

    def keep(self, tap, returned):
        """Note what a call of the tap's layer returns or receives."""
        thread, trace = origin()
        if thread != self._thread:
            # Another thread calls the same layer.
            return
        is_wanted = self.calls[tap] == tap.call
        self.calls[tap] += 1
        if not is_wanted:
            return
        tensor = pick(returned, tap.index)
        if tensor is None:
            self.others[tap] = returned
        else:
            self.tensors[tap] = tensor
        if trace != self._trace:
            self.lost.add(tap)
        is_complete = len(self.tensors) + len(self.others) == len(self.calls)
        if is_complete and not self._to_the_end:
            raise _EverythingRecorded
        if tensor is not None:
            # On torch, a later layer may write into the tensor.
            self.tensors[tap] = ops.copy(tensor)

    def outputs(self, model: keras.Model) -> list:
        """Return one tensor a tap, images first and channels last.

        Raises:
            ValueError: See `record`.
        """
        for tap in self.taps:
            if tap in self.others:
                raise ValueError(_no_tensor(model, tap, self.others[tap]))
            if tap not in self.tensors:
                raise ValueError(_not_reached(tap, self.calls[tap]))
            if tap in self.lost:
                raise ValueError(
                    f"The layer {tap.path!r} is called inside a function that is compiled, "
                    "mapped, looped or computed twice on its own, or where no gradient is kept: "
                    "no tensor can be taken out of that. Expected a layer around it."
                )
        return [channels_last(self.tensors[tap], tap) for tap in self.taps]


def _no_tensor(model, tap, returned):
    """What to say of a layer that returns no tensor there: what else can be named."""
    places = [index for index, leaf in flat(returned) if ops.is_tensor(leaf)]
    named = [replace(tap, index=index).name for index in places[:8]]
    inside = inside_names(lineage(model, tap.path)[-1], tap.path)
    expected = [f"one of its outputs {named}"] * bool(named)
    expected += [f"a layer inside it {inside}"] * bool(inside)
    instead = ", or ".join(expected) or "a layer that returns tensors"
    return (
        f"Invalid value for argument `layer`. The layer {tap.path!r} returns {kind(returned)}. "
        f"Expected {instead}. Received: layer={tap.name!r}"
    )


def _not_reached(tap, calls):
    if not calls:
        what = "apply the activation of" if tap.point == "pre_activation" else "reach"
        return f"The model's call does not {what} the layer {tap.path!r}."
    names = [f"{tap.path}:{i}" for i in range(calls)]
    return (
        f"Invalid value for argument `layer`. The model calls the layer {tap.path!r} {calls} "
        f"times. Expected one of {names[:8]}. Received: layer={tap.name!r}"
    )


def channels_last(tensor, tap: Tap):
    """Return a tensor as its tap wants it, with the channels last."""
    if tap.sizes is not None:
        return ops.reshape(tensor, (-1, *tap.sizes))
    if tap.channels_first and len(tensor.shape) > 2:
        return ops.moveaxis(tensor, 1, -1)
    return tensor


@contextmanager
def _recording(model, tap, recorder):
    def record_output(call):
        def recording_call(*args, **kwargs):
            output = call(*args, **kwargs)
            recorder.keep(tap, output)
            return output

        return recording_call

    def record_input(call):
        def recording_call(inputs, *args, **kwargs):
            recorder.keep(tap, inputs)
            return call(inputs, *args, **kwargs)

        return recording_call

    layer = operation_at(model, tap.path)
    if tap.point == "output":
        wrap, names = record_output, CALLS
    elif tap.point == "input":
        wrap, names = record_input, CALLS
    else:
        wrap, names = record_input, ("activation",)
    with overridden(layer, {name: wrap(getattr(layer, name)) for name in names}):
        yield
