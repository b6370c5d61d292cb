"""Restore every global random generator, whoever draws from it.

Torch's generator is restored wherever torch is imported, whichever backend Keras has,
because a `DataLoader` draws a seed from it for each iteration. TensorFlow draws a seed for each
operation that it runs eagerly and for each `tf.data` that shuffles. Meanwhile another
generator takes that one's place: kernels with equal seeds would share their states.
"""

import random
import sys
from contextlib import contextmanager, nullcontext

import keras
import numpy as np
from keras.src.backend.common import global_state

# Keras makes this generator at its first use, which must not be the callback's.
_OF_KERAS = "global_seed_generator"

# Any number: seeds of ours should be no one's.
_SEED = 0x5EED_F0A7


@contextmanager
def random_states_preserved():
    """Restore the states of Python, NumPy, Keras, torch and TensorFlow's eager operations."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    of_keras = global_state.get_global_attribute(_OF_KERAS)
    drawn = of_keras and keras.ops.convert_to_numpy(of_keras.state)
    torch = sys.modules.get("torch")
    of_torch = torch and torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else []
    try:
        with _other_seeds_of_tensorflow():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        global_state.set_global_attribute(_OF_KERAS, of_keras)
        if of_keras and (keras.ops.convert_to_numpy(of_keras.state) != drawn).any():
            of_keras.state.assign(drawn)
        if torch:
            torch.set_rng_state(of_torch)
        if on_devices:
            torch.cuda.set_rng_state_all(on_devices)


def _other_seeds_of_tensorflow():
    """Let TensorFlow draw the seeds of eager operations from another generator in a block."""
    context = getattr(sys.modules.get("tensorflow.python.eager.context"), "_context", None)
    # Without `tf.random.set_seed` there is none, and nothing could be repeated.
    current = getattr(context, "_rng", None)
    return nullcontext() if current is None else _replaced(context, current)


@contextmanager
def _replaced(context, generator):
    context._rng = random.Random(_SEED)
    try:
        yield
    finally:
        context._rng = generator
