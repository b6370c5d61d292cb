"""Let a gradient through activations where they are flat, so that an optimisation can start.

A unit that is off on the whole start image gets no gradient, though it need not be dead.
Neither does one at the highest value of a ReLU6. Values stay as they are, up to rounding;
only gradients change.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import keras
from keras import ops

from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.preserve import overridden


@contextmanager
def relaxed_activations(model: keras.Model):
    """Let a gradient through activations where they are flat, for the time of a `with` block.

    To ReLUs, with or without a highest value, the gradient of a softplus is added. Below
    zero it is the larger the nearer a unit is to its threshold; above a highest value it is
    about one. A constant slope would not help units that are off: the gradient of an edge
    filter cancels over space. A hard sigmoid or tanh, flat at both ends, gets the gradient
    of the smooth function in addition, and a hard SiLU that of a softplus. Sigmoid, tanh and
    other smooth activations are not relaxed, since they are flat nowhere but for rounding.
    Neither are activations that are plain functions in the model's own `call`, and not layers.
    """
    with ExitStack() as stack:
        for _, layer in walk(model):
            name = "call" if isinstance(layer, keras.layers.ReLU) else "activation"
            function = getattr(layer, name, None)
            smooth = ops.softplus if name == "call" else _smooth_version(function)
            if smooth is not None:
                stack.enter_context(overridden(layer, {name: _relaxed(function, smooth)}))
        yield


def _smooth_version(function):
    """Return what is flat nowhere, for an activation that is flat somewhere, else `None`."""
    pairs = (
        (keras.activations.relu, ops.softplus),
        (keras.activations.relu6, ops.softplus),
        (keras.activations.hard_silu, ops.softplus),
        (keras.activations.hard_sigmoid, ops.sigmoid),
        (keras.activations.hard_tanh, ops.tanh),
    )
    # An activation may be an object of any kind, that cannot be the key of a dictionary.
    return next((smooth for flat, smooth in pairs if function is flat), None)


def _relaxed(function, smooth):
    def relaxed(inputs, *args, **kwargs):
        leak = smooth(inputs)
        return function(inputs, *args, **kwargs) + leak - ops.stop_gradient(leak)

    return relaxed
