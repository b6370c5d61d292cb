"""Find the softmax or sigmoid that a layer ends in, and what it receives.

The search records a call on shapes alone. Nothing is computed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import keras

from featviz_callback.objectives.layers import has_own_call, squashing
from featviz_callback.objectives.outputs import pick
from featviz_callback.objectives.paths import lineage, walk
from featviz_callback.objectives.preserve import overridden
from featviz_callback.objectives.recording import CALLS, Tap, tap_before_activation
from featviz_callback.objectives.shapes import Recording


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
    applies_last = not (has_own_call(layer) or isinstance(layer, keras.layers.RNN))
    if squashing(layer) and applies_last and not tap.index:
        # Keras applies the activation last. No call has to show it.
        return replace(tap_before_activation(tap.path, layer), call=tap.call)
    inside = [
        tap_before_activation(path, layer)
        for path, layer in [(tap.path, layer), *walk(layer, f"{tap.path}/")]
        if squashing(layer)
    ]
    if not inside:
        return None
    recording = _SquashingRecording(model, tap, inside)
    recording.shapes(arguments)
    return recording.found


class _SquashingRecording(Recording):
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
            target = self.taps[0]
            self._override(
                *(stack, target.path, CALLS),
                lambda output: self._find(returned, pick(output, target.index)),
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
