"""The only code that differs by Keras backend: how to differentiate and compile.

`tensorflow.py`, `jax.py` and `torch.py` name one framework each. Only the file of Keras'
current backend is ever imported. Each file exports these functions:

`compile_step(score, update, model)` returns
`step(params, state, data) -> (params, state, sizes, scores)`, which reads the
model's current weights at every call. `score(params, data)` is differentiable and
returns what is maximised and what is reported, one number an image each;
`update(params, gradient, state, data, target)`, where `target` is what is maximised, returns
the first three of the results;
`model()` returns the model that `score` calls, since a compiled step must not keep it alive;

`compile_pass(read)` returns a function of tensors that returns what `read` returns, in one
graph; `compile_pass` is `None` where that gains nothing;

`build_optimizer(make, zeros)` makes an optimizer for one variable of that shape, and
returns both;

`apply_optimizer(optimizer, variable, params, gradient, state)` is one pure
update of a Keras optimizer that was built for the one variable;

`product_or_zero(array, factors)` multiplies, and is zero where a factor is zero, even if
the array is infinite or NaN there;

`without_gradients()` is a context in which calls keep nothing for gradients;

`to_tensors(array)` returns one tensor for each row of an array, in the cheapest way that
the framework has;

`to_numpy(tensor)` returns an array of a whole tensor, which may be spread over processes;

`shared(tensor)` returns an array that shares the memory of a tensor and is never written to,
or `None` if that is not the host's memory;

`copied(variables)` returns the values of variables as arrays that training does not change,
with one copy of each;

`current_trace()` identifies the function that is being traced, and whether it keeps
gradients, since a tensor of one trace cannot be used in another;

`framework_state_preserved(model)` is a context that restores, at its end, what the
framework keeps of a model beside Keras' variables and the layers' attributes;

`framework_state(models)` returns that state as arrays, and
`assign_framework_state(models, arrays)` sets it in models of the same architecture;

`writes(model)` tells whether this process is the one that writes, if several train the
model;

`agreed(decision)` returns the decision of the first process, if all processes must
compute together or not at all;

`is_together()` tells whether they must, since the weights are spread over processes.
"""

from importlib import import_module

import keras

from featviz_callback.backend.random_states import random_states_preserved

__all__ = ["is_out_of_memory", "load", "random_states_preserved"]

_SUPPORTED = ("tensorflow", "jax", "torch")


def load():
    """Return the module of Keras' current backend.

    Raises:
        RuntimeError: If the backend cannot differentiate.
    """
    name = keras.backend.backend()
    if name not in _SUPPORTED:
        raise RuntimeError(
            f"Feature visualisation needs gradients. Expected one of {_SUPPORTED} as Keras' "
            f"backend (environment variable KERAS_BACKEND). Received: {name!r}"
        )
    return import_module(f"{__name__}.{name}")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory.

    The frameworks have no common class for it, and torch has none at all on a CPU.
    """
    said = f"{type(error).__name__} {error}".lower()
    words = ("resourceexhausted", "resource_exhausted", "out of memory", "outofmemory")
    return isinstance(error, MemoryError) or any(
        word in said for word in (*words, "can't allocate memory", "oom when allocating")
    )
