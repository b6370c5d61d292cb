"""Make a pure update of an optimizer that can only change variables."""

import keras


def build_optimizer(make, zeros):
    """See `featviz_callback.backend`."""
    variable, optimizer = keras.Variable(zeros, dtype="float32"), make()
    optimizer.build([variable])
    return optimizer, variable


def apply_to_variables(optimizer, variable, params, gradient, state):
    """Set the variables, apply the optimizer, and read the variables back.

    Keras offers `stateless_apply` on JAX alone.
    """
    variable.assign(params)
    for slot, value in zip(optimizer.variables, state, strict=True):
        slot.assign(value)
    optimizer.apply([gradient], [variable])
    return variable.value + 0, [slot.value + 0 for slot in optimizer.variables]
