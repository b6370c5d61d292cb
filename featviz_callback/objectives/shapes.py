"""Infer what a call of a model would return, on shapes alone.

Nothing is computed. Keras' own shape inference runs over a recorded call, so that
nested, subclassed and shared models need no rule of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import keras
from keras import ops

from featviz_callback.objectives.layers import has_own_call, lineage, squashing, walk
from featviz_callback.objectives.notices import NothingToShow
from featviz_callback.objectives.preserve import overridden, preserved
from featviz_callback.objectives.recording import (
    CALLS,
    Tap,
    origin,
    record,
    tap_before_activation,
)

# So many characters of another library's message are quoted.
_LONGEST = 200

# These layers return their axes in another order than they receive them.
_LAYOUT_LAYERS = (keras.layers.Permute, keras.layers.Reshape)


class _Recording(keras.Operation):
    """An operation for Keras' own shape inference over a recorded call."""

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
            # Keras would wrap the error in advice on shape inference.
            self.refusal = error
            raise


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
    return _infer(_Recording(model, taps), arguments)


def _infer(recording, arguments):
    """The shapes of the tensors that a recorded call returns, without the images' axis."""
    outputs = _on_shapes(recording, recording.model, arguments)
    return [tuple(output.shape[1:]) for output in outputs]


def _on_shapes(operation, model, arguments):
    """Run an operation that calls a model on shapes alone."""
    try:
        with preserved(model):
            return operation.compute_output_spec(arguments)
    except Exception as error:
        refusal = getattr(operation, "refusal", None)
        if refusal is not None:
            raise refusal from None
        cause = str(error).partition("Error encountered:")[2] or str(error)
        reason = f"{type(error).__name__}: {' '.join(cause.split())[:_LONGEST]}"
        raise NothingToShow(
            f"The call of the model '{model.name}' cannot be compiled: a `call` that reads the "
            "values of tensors, by `.numpy()` or by Python's `if`, runs eagerly only. Expected "
            "`keras.ops.cond` or `keras.ops.where` in its place, or `objectives` of a part of the "
            f"model. Received: {reason}"
        ) from error


def _require_tensors(taps, outputs):
    for tap, output in zip(taps, outputs, strict=True):
        if not ops.is_tensor(output):
            kind = "nothing" if output is None else f"a {type(output).__name__}"
            raise ValueError(
                f"The layer {tap.path!r} returns {kind}. Expected a layer that returns one tensor."
            )


def tap_before_squashing(model: keras.Model, arguments, tap: Tap) -> Tap | None:
    """Return the tap of what a softmax or sigmoid at the end of a layer receives.

    It is at the end if the layer returns the very tensor that it returns, which a layer
    that multiplies by a sigmoid does not. The softmax or sigmoid may belong to a layer
    inside, however deep.

    Args:
        model: Any built Keras model.
        arguments: As for `output_shapes`.
        tap: The output of the layer.

    Returns:
        The tap, or `None` if the layer does not end in a softmax or sigmoid.
    """
    layer = lineage(model, tap.path)[-1]
    if squashing(layer) and not (has_own_call(layer) or isinstance(layer, keras.layers.RNN)):
        # Keras applies the activation last. No call has to show it.
        return replace(tap_before_activation(tap.path, layer), call=tap.call)
    inside = [
        tap_before_activation(path, layer)
        for path, layer in walk(model)
        if f"{path}/".startswith(f"{tap.path}/") and squashing(layer)
    ]
    if not inside:
        return None
    recording = _SquashingRecording(model, tap, inside)
    _infer(recording, arguments)
    return recording.found


class _SquashingRecording(_Recording):
    """A recorded call that finds which of some activations returned the output of a tap."""

    def __init__(self, model, tap, inside):
        super().__init__(model, [tap])
        self.inside = inside
        self.found = None

    def call(self, arguments):
        # Shape inference may call more than once.
        returned = {tap: [] for tap in self.inside}
        with ExitStack() as stack:
            for tap in self.inside:
                names = CALLS if tap.point == "input" else ("activation",)
                self._override(stack, tap.path, names, returned[tap].append)
            self._override(
                stack, self.taps[0].path, CALLS, lambda output: self._find(returned, output)
            )
            return super().call(arguments)

    def _override(self, stack, path, names, keep):
        layer = lineage(self.model, path)[-1]
        methods = {name: _kept(getattr(layer, name), keep) for name in names}
        stack.enter_context(overridden(layer, methods))

    def _find(self, returned, output):
        # The last call that is made is the one that the tap means.
        same = (
            replace(tap, call=call)
            for tap, results in returned.items()
            for call, result in enumerate(results)
            if result is output
        )
        self.found = next(same, None)


def _kept(function, keep):
    def keeping(*args, **kwargs):
        output = function(*args, **kwargs)
        keep(output)
        return output

    return keeping


@dataclass(frozen=True)
class LayerCall:
    """One call of a layer, seen in the call of a model.

    Attributes:
        path: As `Tap.path`.
        layer: The layer.
        received: Shape of the layer's first input, without the images' axis.
        shape: Shape of the layer's output, without the images' axis, channels last.
            A size that may vary is that of some image.
        channels_first: Whether the layer itself has the channels first.
    """

    path: str
    layer: keras.Layer
    received: tuple
    shape: tuple
    channels_first: bool


def layer_calls(model: keras.Model, arguments) -> list[LayerCall]:
    """Return every call of a layer in a model's call, in the order in which calls end.

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
            started = origin()
            with ExitStack() as stack:
                for path, layer in walk(model):
                    methods = {
                        name: _order_recorder(path, layer, getattr(layer, name), found, started)
                        for name in CALLS
                    }
                    stack.enter_context(overridden(layer, methods))
                return model(arguments, training=False)

    _on_shapes(Order(), model, arguments)
    return list(_with_layouts(found))


def _order_recorder(path, layer, call, found, started):
    def recorder(*args, **kwargs):
        output = call(*args, **kwargs)
        if ops.is_tensor(output) and origin() == started:
            first = next(filter(ops.is_tensor, (*args, *kwargs.values())), output)
            found.append((path, layer, tuple(first.shape)[1:], tuple(output.shape)[1:]))
        return output

    return recorder


def _with_layouts(found):
    """Add the place of the channels; a layer that does not say it takes that of the last one."""
    said = [getattr(layer, "data_format", None) for _, layer, *_ in found]
    layout = next(filter(None, said), None)
    for (path, layer, received, shape), own in zip(found, said, strict=True):
        layout = None if isinstance(layer, _LAYOUT_LAYERS) else own or layout
        first = layout == "channels_first" and len(shape) > 1
        shape = (*shape[1:], shape[0]) if first else shape
        yield LayerCall(path, layer, received, shape, first)
