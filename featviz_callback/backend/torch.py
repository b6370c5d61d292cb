"""Torch: eager steps, with gradients to the parameters and to nothing else.

The model sees detached weights, so no memory is kept for their gradients. Neither
`requires_grad` nor the training mode of a module changes.
"""

from contextlib import contextmanager

import keras
import torch

from featviz_callback.backend import variables

build_optimizer = variables.build_optimizer
apply_optimizer = variables.apply_to_variables
without_gradients = torch.no_grad
# Calls of Keras are eager anyway.
compile_pass = None
to_numpy = keras.ops.convert_to_numpy


def compile_step(score, update, model):
    """See `featviz_callback.backend`."""

    def step(params, state, data):
        params = params.detach().requires_grad_(True)
        weights = [(v, v.value.detach()) for v in model().variables]
        with torch.enable_grad(), keras.StatelessScope(weights):
            target, scores = score(params, data)
            # The zero gives a gradient to scores that do not depend on the image at all.
            total = target.sum() + 0.0 * params.sum()
            (gradient,) = torch.autograd.grad(total, params)
        with torch.no_grad():
            found = update(params.detach(), gradient, state, data, target.detach())
            return *found, scores.detach()

    return step


def product_or_zero(array, factors):
    """See `featviz_callback.backend`."""
    return torch.where(factors == 0, 0.0, array * factors)


def to_tensors(array):
    """See `featviz_callback.backend`."""
    return keras.ops.convert_to_tensor(array).unbind()


def shared(tensor):
    """See `featviz_callback.backend`."""
    return tensor.detach().numpy() if tensor.device.type == "cpu" else None


def copied(variables):
    """See `featviz_callback.backend`."""
    return [to_numpy(variable.value.detach().to("cpu", copy=True)) for variable in variables]


def current_trace():
    """See `featviz_callback.backend`."""
    # Torch traces nothing, but a tensor inside of `vmap` cannot be used outside of it.
    is_mapped = torch._C._functorch.peek_interpreter_stack() is not None
    return is_mapped, torch.is_grad_enabled()


@contextmanager
def framework_state_preserved(model):
    """See `featviz_callback.backend`.

    Restores modules of torch's own, since a Keras layer sets their mode at each call.
    """
    modes = [(module, module.training) for module in _modules([model])]
    buffers = [(buffer, buffer.clone()) for buffer in _buffers([model])]
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.data.copy_(before)


def framework_state(models):
    """See `featviz_callback.backend`."""
    return [to_numpy(one.detach().to("cpu", copy=True)) for one in _buffers(models)]


def assign_framework_state(models, arrays):
    """See `featviz_callback.backend`."""
    for buffer, array in zip(_buffers(models), arrays, strict=True):
        buffer.data.copy_(torch.as_tensor(array))


def _modules(models):
    """Return all modules, each once, in an order that copies of models share."""
    # Torch does not know all layers of a Keras model.
    layers = (layer for model in models for layer in model._flatten_layers())
    return dict.fromkeys(module for layer in layers for module in layer.modules())


def _buffers(models):
    """Return the buffers of all modules, each once, in the order of `_modules`."""
    found = (one for module in _modules(models) for one in module.buffers(recurse=False))
    return {id(one): one for one in found}.values()


def writes(model):
    """See `featviz_callback.backend`."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_rank() == 0


def agreed(decision):
    """See `featviz_callback.backend`: each process has all weights, and computes alone."""
    return decision


def is_together():
    """See `featviz_callback.backend`."""
    return False
