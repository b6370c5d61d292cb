"""TensorFlow: a graph, compiled by XLA on accelerators only.

On a CPU, XLA's depthwise convolutions are an order of magnitude slower.
"""

import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python import pywrap_tfe

from featviz_callback.backend import variables

apply_optimizer = variables.apply_to_variables
product_or_zero = tf.math.multiply_no_nan
without_gradients = nullcontext
to_numpy = keras.ops.convert_to_numpy

# Operations that are long enough to be worth running side by side.
_LONG = ("Conv", "MatMul", "Einsum")


def compile_step(score, update, model):
    """See `featviz_callback.backend`."""

    # Keras itself never converts a model's code with AutoGraph.
    @tf.function(autograph=False, jit_compile=_can_use_xla(model()))
    def step(params, state, data):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(params)
            with keras.StatelessScope():
                target, scores = score(params, data)
            total = tf.reduce_sum(target)
        gradient = tape.gradient(total, params, unconnected_gradients="zero")
        return *update(params, gradient, state, data, target), scores

    return _without_tracing(step)


def compile_pass(read):
    """See `featviz_callback.backend`."""
    return _without_tracing(tf.function(read, autograph=False))


def _without_tracing(function):
    """Return a call of a function that is traced once.

    A concrete function cannot trace again, and TensorFlow does not take the steps of different
    objectives for one function that is traced too often.
    """
    call = None

    def call_without_tracing(*arguments):
        nonlocal call
        if call is None:
            call = _quickest_call(_outside_strategies(function.get_concrete_function, *arguments))
        return call(*arguments)

    return call_without_tracing


def build_optimizer(make, zeros):
    """See `featviz_callback.backend`."""
    return _outside_strategies(variables.build_optimizer, make, zeros)


def _outside_strategies(function, *arguments):
    """Call a function outside of any `tf.distribute.Strategy`, in a thread of its own.

    There, variables are plain ones and an optimizer asks no other replica. The scope of a
    strategy cannot be left, but it belongs to one thread.
    """
    if not tf.distribute.has_strategy():
        return function(*arguments)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def _quickest_call(compiled):
    """Return a call of a concrete function with the least overhead.

    Checking each argument in Python costs a small network a twentieth of its step.
    Scheduling operations that can only run one after the other costs another twentieth.
    """
    if tf.config.list_logical_devices("GPU"):
        return compiled
    # With several devices, one part of a graph waits for what another has yet to send.
    one_device = len(tf.config.list_logical_devices()) == 1
    one_path = one_device and _is_one_path(compiled.graph)
    executor = "SINGLE_THREADED_EXECUTOR" if one_path else "DEFAULT"

    def call(*arguments):
        nonlocal executor
        try:
            return _call(compiled, arguments, executor)
        except tf.errors.OpError as error:
            # TensorFlow raises this before anything runs. That executor knows no loops, nor
            # the variables by which TensorFlow saves memory.
            if "Single-threaded executor does not support" not in str(error):
                raise
            executor = "DEFAULT"
            return _call(compiled, arguments, executor)

    return call


def _call(compiled, arguments, executor):
    results = tf.raw_ops.StatefulPartitionedCall(
        args=[*keras.tree.flatten(arguments), *compiled.captured_inputs],
        Tout=[output.dtype for output in compiled.outputs],
        f=compiled,
        executor_type=executor,
    )
    return keras.tree.pack_sequence_as(compiled.structured_outputs, results)


def _is_one_path(graph):
    """Whether at least four in five long operations of a graph lie on one path."""
    # An operation that no output needs never runs.
    needed, found = set(), [tensor.op for tensor in graph.outputs]
    while found:
        operation = found.pop()
        if operation not in needed:
            needed.add(operation)
            found += [tensor.op for tensor in operation.inputs]
    # Operations are listed after their inputs, except for some of a loop's gradient.
    longest, count = {}, 0
    for operation in filter(needed.__contains__, graph.get_operations()):
        is_long = any(name in operation.type for name in _LONG)
        before = max((longest.get(tensor.op, 0) for tensor in operation.inputs), default=0)
        longest[operation] = before + is_long
        count += is_long
    return max(longest.values(), default=0) >= 0.8 * count


def _can_use_xla(model):
    layers = model._flatten_layers()
    on_accelerator = bool(tf.config.list_logical_devices("GPU"))
    return on_accelerator and all(getattr(layer, "supports_jit", True) for layer in layers)


def to_tensors(array):
    """See `featviz_callback.backend`."""
    # This is one transfer and one operation.
    return tf.unstack(tf.convert_to_tensor(array))


def shared(tensor):
    """See `featviz_callback.backend`."""
    # `Tensor.numpy` copies, and this does not.
    is_on_host = isinstance(tensor, tf.Tensor) and "CPU" in tensor.device
    return np.asarray(tensor) if is_on_host else None


def copied(variables):
    """See `featviz_callback.backend`."""
    # Reading copies nothing, and `numpy` copies once. A variable's own `numpy` reads it twice.
    return [variable.value.value().numpy() for variable in variables]


def current_trace():
    """See `featviz_callback.backend`."""
    # Inside a function that is computed twice, the tape sees nothing.
    return tf.compat.v1.get_default_graph(), pywrap_tfe.TFE_Py_TapeSetIsStopped()


@contextmanager
def framework_state_preserved(model):
    """See `featviz_callback.backend`; restores variables that are TensorFlow's, not Keras'."""
    kept = [(one, tf.identity(one)) for one in _own_variables([model])]
    try:
        yield
    finally:
        for variable, before in kept:
            variable.assign(before)


def framework_state(models):
    """See `featviz_callback.backend`."""
    return [one.numpy() for one in _own_variables(models)]


def assign_framework_state(models, arrays):
    """See `featviz_callback.backend`."""
    for variable, array in zip(_own_variables(models), arrays, strict=True):
        variable.assign(array)


def _own_variables(models):
    """Return TensorFlow's own variables in attributes of layers, each once."""
    found: dict = {}
    for model in models:
        for layer in model._flatten_layers():
            _find_variables(vars(layer), found)
    return [one for one in found.values() if one is not None]


def _find_variables(container, found):
    """Collect TensorFlow's own variables in a container, by their identity."""
    # A copy, since another thread may train.
    for one in list(container.values() if isinstance(container, dict) else container):
        kind = _kind(type(one))
        if kind is None or id(one) in found:
            continue
        if kind is tf.Variable:
            found[id(one)] = one
        elif kind is tf.random.Generator:
            found[id(one.state)] = one.state
        elif kind is tf.Module:
            _find_variables(one.variables, found)
        else:
            # Containers may hold each other.
            found[id(one)] = None
            _find_variables(one, found)


@functools.lru_cache(maxsize=1000)
def _kind(of_value):
    """Return which class of values that may hold variables a class belongs to, or `None`."""
    # TensorFlow takes long to tell, and layers have thousands of attributes.
    kinds = (tf.Variable, tf.random.Generator, tf.Module, (list, tuple, set, dict))
    return next((kind for kind in kinds if issubclass(of_value, kind)), None)


def writes(model):
    """See `featviz_callback.backend`."""
    return model.distribute_strategy.extended.should_save_summary


def agreed(decision):
    """See `featviz_callback.backend`: each process has all weights, and computes alone."""
    return decision


def is_together():
    """See `featviz_callback.backend`."""
    return False
