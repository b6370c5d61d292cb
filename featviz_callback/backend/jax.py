"""JAX: the weights are arguments of the compiled step.

If the step closed over them, they would be constants of the compiled step, and no picture
would ever change.
"""

from contextlib import nullcontext

import jax
import keras
import numpy as np
from jax.experimental import multihost_utils

try:
    from jax.extend.core import get_opaque_trace_state
except ImportError:  # where older versions of JAX have it
    from jax.core import get_opaque_trace_state

from featviz_callback.backend import variables

build_optimizer = variables.build_optimizer
framework_state_preserved = without_gradients = nullcontext
# Compiling a whole network takes as long as many passes of real images.
compile_pass = None


def compile_step(score, update, model):
    """See `featviz_callback.backend`."""

    @jax.jit
    def step(weights, params, state, data):
        def total(params):
            mapping = list(zip(model().variables, weights, strict=True))
            with keras.StatelessScope(mapping):
                target, scores = score(params, data)
            return target.sum(), (target, scores)

        (_, (target, scores)), gradient = jax.value_and_grad(total, has_aux=True)(params)
        return *update(params, gradient, state, data, target), scores

    def step_with_current_weights(*arguments):
        return step([variable.value for variable in model().variables], *arguments)

    return step_with_current_weights


def apply_optimizer(optimizer, variable, params, gradient, state):
    """See `featviz_callback.backend`."""
    (params,), state = optimizer.stateless_apply(state, [gradient], [params])
    return params, state


def product_or_zero(array, factors):
    """See `featviz_callback.backend`."""
    return jax.numpy.where(factors == 0, 0.0, array * factors)


def to_tensors(array):
    """See `featviz_callback.backend`."""
    # A slice of an array on the device would be compiled anew for each place.
    return [keras.ops.convert_to_tensor(row) for row in array]


def to_numpy(tensor):
    """See `featviz_callback.backend`."""
    if isinstance(tensor, jax.Array) and not tensor.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(tensor, tiled=True))
    return keras.ops.convert_to_numpy(tensor)


def shared(tensor):
    """See `featviz_callback.backend`."""
    devices = tensor.devices()
    is_on_host = len(devices) == 1 and {one.platform for one in devices} == {"cpu"}
    return np.asarray(tensor) if is_on_host and tensor.is_fully_addressable else None


def copied(variables):
    """See `featviz_callback.backend`."""
    # Training gives its arrays away, and may overwrite them.
    return [np.array(to_numpy(variable.value)) for variable in variables]


def current_trace():
    """See `featviz_callback.backend`."""
    return get_opaque_trace_state(convention="flax")


def framework_state(models):
    """See `featviz_callback.backend`: JAX keeps nothing of a model."""
    return []


def assign_framework_state(models, arrays):
    """See `featviz_callback.backend`."""


def writes(model):
    """See `featviz_callback.backend`."""
    return jax.process_index() == 0


def agreed(decision):
    """See `featviz_callback.backend`.

    Weights may be spread over processes, which then compute every step together.
    """
    if not is_together():
        return decision
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(decision)))


def is_together():
    """See `featviz_callback.backend`."""
    return jax.process_count() > 1
