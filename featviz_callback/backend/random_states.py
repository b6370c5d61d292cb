"""Restore every global random generator, whoever draws from it.

Torch's generator is restored wherever torch is imported, whichever backend Keras has,
because a `DataLoader` draws a seed from it for each iteration. TensorFlow's generators are
not restored, because Keras draws from none of them.
"""

import random
import sys
from contextlib import contextmanager

import keras
import numpy as np
from keras.src.backend.common import global_state

# Keras makes this generator at its first use, which must not be the callback's.
_OF_KERAS = "global_seed_generator"


@contextmanager
def random_states_preserved():
    """Restore the states of Python, NumPy, Keras and torch at the end of a `with` block."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    of_keras = global_state.get_global_attribute(_OF_KERAS)
    drawn = of_keras and keras.ops.convert_to_numpy(of_keras.state)
    torch = sys.modules.get("torch")
    of_torch = torch and torch.get_rng_state()
    on_devices = torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else []
    try:
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
