"""Torch: eager, with gradients to the parameters and to nothing else.

The weights are seen detached, so no memory is kept for their gradients, and
neither `requires_grad` nor a module's training mode is touched.
"""

import keras
import torch

from featviz_callback.backend.variables import apply_to_variables as apply_optimizer

__all__ = ["apply_optimizer", "compile_step", "random_state", "set_random_state"]


def compile_step(score, update, model):
    """See `featviz_callback.backend`."""

    def step(params, state, data):
        params = params.detach().requires_grad_(True)
        weights = [(v, v.value.detach()) for v in model().variables]
        with torch.enable_grad(), keras.StatelessScope(weights):
            target, scores = score(params, data)
            # The zero is for scores that do not depend on the image at all.
            total = target.sum() + 0.0 * params.sum()
            (gradient,) = torch.autograd.grad(total, params)
        with torch.no_grad():
            return *update(params.detach(), gradient, state, data), scores.detach()

    return step


def random_state():
    """See `featviz_callback.backend`."""
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), on_devices


def set_random_state(state):
    """See `featviz_callback.backend`."""
    on_host, on_devices = state
    torch.set_rng_state(on_host)
    if on_devices:
        torch.cuda.set_rng_state_all(on_devices)
