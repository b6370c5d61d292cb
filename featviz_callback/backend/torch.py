"""Torch: eager, with gradients to the parameters and to nothing else.

The weights are seen detached, so no memory is kept for their gradients, and
neither `requires_grad` nor a module's training mode is touched.
"""

import keras
import torch
from torch import no_grad as without_gradients

from featviz_callback.backend.variables import apply_to_variables as apply_optimizer

__all__ = [
    "agreed",
    "apply_optimizer",
    "compile_step",
    "current_trace",
    "to_tensors",
    "without_gradients",
    "writes",
]


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


def to_tensors(array):
    """See `featviz_callback.backend`."""
    return keras.ops.convert_to_tensor(array).unbind()


def current_trace():
    """See `featviz_callback.backend`."""
    # Nothing is traced: what is computed can be used anywhere.
    return None


def writes(model):
    """See `featviz_callback.backend`."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_rank() == 0


def agreed(decision):
    """See `featviz_callback.backend`: each process has all weights, and computes alone."""
    return decision
