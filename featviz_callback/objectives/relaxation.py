"""Let a gradient through ReLUs that are off, so that an optimisation can start.

A unit that is off on the whole start image gets no gradient, though it need not be dead.
Values stay as they are, up to rounding; only gradients change.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import keras
from keras import ops

from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.preserve import overridden


@contextmanager
def relaxed_activations(model: keras.Model):
    """Let a gradient through ReLUs where they are off, for the time of a `with` block.

    The gradient of a softplus is added, which is the larger the nearer a unit is to its
    threshold. A constant slope would not help: the gradient of an edge filter cancels over
    space. Activations that are plain functions in the model's own `call`, and not layers,
    are not relaxed.
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
