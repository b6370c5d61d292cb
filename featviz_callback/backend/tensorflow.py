"""TensorFlow: a graph, compiled by XLA on accelerators only.

On a CPU, XLA's depthwise convolutions are an order of magnitude slower.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import keras
import tensorflow as tf
from tensorflow.python import pywrap_tfe

from featviz_callback.backend import variables

apply_optimizer = variables.apply_to_variables
without_gradients = nullcontext


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
        return *update(params, gradient, state, data), scores

    compiled = None
    only_cpu = not tf.config.list_logical_devices("GPU")

    def step_without_tracing(*arguments):
        # A concrete function cannot trace again, and does not take the programs
        # of different objectives for one that is traced too often.
        nonlocal compiled
        if compiled is None:
            compiled = _outside_strategies(step.get_concrete_function, *arguments)
        return _call(compiled, arguments) if only_cpu else compiled(*arguments)

    return step_without_tracing


def build_optimizer(make, zeros):
    """See `featviz_callback.backend`."""
    return _outside_strategies(variables.build_optimizer, make, zeros)


def _outside_strategies(function, *arguments):
    """Calls it where variables are plain ones, and an optimizer asks no other replica.

    The scope of a `tf.distribute.Strategy` cannot be left, but is of one thread.
    """
    if not tf.distribute.has_strategy():
        return function(*arguments)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()


def _call(compiled, arguments):
    """Calls a concrete function without its checks of each argument.

    They are done in Python, and take a small network a twentieth of its step.
    """
    results = tf.raw_ops.StatefulPartitionedCall(
        args=[*keras.tree.flatten(arguments), *compiled.captured_inputs],
        Tout=[output.dtype for output in compiled.outputs],
        f=compiled,
        # Else the operations of one call never run side by side.
        executor_type="DEFAULT",
    )
    return keras.tree.pack_sequence_as(compiled.structured_outputs, results)


def _can_use_xla(model):
    layers = model._flatten_layers()
    on_accelerator = bool(tf.config.list_logical_devices("GPU"))
    return on_accelerator and all(getattr(layer, "supports_jit", True) for layer in layers)


def to_tensors(array):
    """See `featviz_callback.backend`."""
    # One transfer, and one operation.
    return tf.unstack(tf.convert_to_tensor(array))


def current_trace():
    """See `featviz_callback.backend`."""
    # A function that is to be computed twice keeps the tape from seeing its inside.
    return tf.compat.v1.get_default_graph(), pywrap_tfe.TFE_Py_TapeSetIsStopped()


@contextmanager
def framework_state_kept(model):
    """See `featviz_callback.backend`: variables that are TensorFlow's, not Keras'."""
    attributes = (one for layer in model._flatten_layers() for one in vars(layer).values())
    own = [(one, tf.identity(one)) for one in attributes if isinstance(one, tf.Variable)]
    try:
        yield
    finally:
        for variable, before in own:
            variable.assign(before)


def writes(model):
    """See `featviz_callback.backend`."""
    return model.distribute_strategy.extended.should_save_summary


def agreed(decision):
    """See `featviz_callback.backend`: each process has all weights, and computes alone."""
    return decision
