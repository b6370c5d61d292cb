"""Tests that training is the same to the bit with the callback and without it.

The tests compare everything that a training leaves behind: weights, moving statistics,
random states, metrics, the optimizer's variables and the history.
"""

import os
import random
import re
import shutil
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.backend import load
from featviz_callback.images.transformations import Jitter, Noise
from tests import test_distribution
from tests.conftest import python, random_images, sequential, set_random_seed, to_numpy

BACKEND = keras.backend.backend()
SHAPE = (8, 7, 1)
PIXELS = random_images(24, *SHAPE)
LABELS = np.arange(24) % 5


# --- a training with everything in play -----------------------------------------------


class Keeping(layers.Layer):
    """A layer with attributes that change in each call, and with a loss."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.latest = None
        self.calls = []

    def call(self, inputs):
        self.latest = ops.mean(inputs)
        self.calls.append(1)
        self.add_loss(0.01 * ops.mean(ops.square(inputs)))
        return inputs


def make_model(**compiling):
    """Build a model with random layers, moving statistics, layer losses, EMA and a schedule."""
    model = sequential(
        layers.RandomFlip(seed=1),
        layers.GaussianNoise(0.1, seed=2),
        layers.Conv2D(4, 3, activation="relu", activity_regularizer="l2", name="conv"),
        layers.BatchNormalization(),
        Keeping(name="keeping"),
        layers.Flatten(),
        layers.Dropout(0.3, seed=3),
        layers.Dense(5, kernel_regularizer="l2", name="logits"),
        shape=SHAPE,
    )
    norm = model.layers[3]
    norm.set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)])
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(0.02, 2, 0.9),
            use_ema=True,
            ema_momentum=0.9,
            ema_overwrite_frequency=4,
            gradient_accumulation_steps=2,
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
        **compiling,
    )
    return model


class Augmented(keras.utils.PyDataset):
    """Batches augmented by a Keras layer, NumPy and Python."""

    def __init__(self):
        super().__init__()
        self.augment = layers.RandomTranslation(0.2, 0.2, seed=4)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        chosen = np.random.permutation(24)[:6]
        images = to_numpy(self.augment(PIXELS[chosen], training=True))
        return images * random.uniform(0.8, 1.2), LABELS[chosen]


def fit(model, *callbacks, x=PIXELS, y=LABELS, **settings):
    """Train shortly; return losses and metrics."""
    settings = {"epochs": 2, "batch_size": 8, "verbose": 0, **settings}
    try:
        return model.fit(x, y, callbacks=list(callbacks), **settings).history
    finally:
        # Keras 3.15 on JAX leaves a weight and its average in one buffer, and later frees it.
        model.set_weights(model.get_weights())


def train(callbacks=(), fits=2, **compiling):
    """Fit twice, the second time on augmented data, and evaluate; return all that remains."""
    seed_everything()
    model = make_model(**compiling)
    histories = [fit(model, *callbacks, validation_split=0.3, shuffle=True)]
    second = {"x": Augmented(), "y": None, "batch_size": None}
    second |= {"initial_epoch": 2, "epochs": 4, "validation_data": (PIXELS, LABELS)}
    if fits == 2:
        histories.append(fit(model, *callbacks, **second))
    histories.append(model.evaluate(PIXELS, LABELS, callbacks=list(callbacks), verbose=0))
    return left_behind(model, histories)


def seed_everything():
    """Seed all random states, and create Keras' global generator by a first use."""
    set_random_seed(3)
    keras.random.uniform(())


def left_behind(model, histories):
    """Return every variable, the histories and all random states."""
    kinds = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    values = {
        f"{kind} {i}": to_numpy(variable).tobytes()
        for kind, variables in kinds.items()
        for i, variable in enumerate(variables)
    }
    return values | {"histories": histories} | random_states()


def random_states():
    """Return the states of Python, NumPy, Keras' global generator and the framework."""
    _, keys, *rest = np.random.get_state()
    states = {
        "python": random.getstate(),
        "numpy": (keys.tobytes(), *rest),
        "keras": to_numpy(keras.src.random.seed_generator.global_seed_generator().state).tolist(),
    }
    if BACKEND == "tensorflow":
        import tensorflow as tf
        from tensorflow.python.eager import context

        states["framework"] = (
            tf.random.get_global_generator().state.numpy().tolist(),
            context.context()._rng.getstate(),
        )
    elif BACKEND == "torch":
        import torch

        states["framework"] = torch.get_rng_state().tolist()
    return states


def assert_same(now, then):
    """Compare two dictionaries, and name the entries that differ."""
    assert now.keys() == then.keys()
    assert [name for name in then if now[name] != then[name]] == []


def watch(folder, kind=FeatureVisCallback, **settings):
    """Make a callback with random transformations, noise and several steps."""
    settings = {
        "objectives": lambda model: [
            Objective.neuron(model, "logits", [0, 3]),
            Objective.channel(model, "conv", 1) - Objective.layer(model, "keeping"),
        ],
        "steps": 3,
        "transformations": [Jitter(), Noise()],
        "log_dir": folder,
        "on_error": "raise",
        **settings,
    }
    return kind(**settings)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
    """Let JAX reuse compiled steps from one training to the next, which saves minutes."""
    if BACKEND != "jax":
        yield
        return
    import jax

    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("cache")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def plain():
    """All that the training leaves behind without the callback."""
    return train()


# --- to the bit -----------------------------------------------------------------------


class DrawOne(keras.callbacks.Callback):
    """A careless callback, which draws from a random state of others."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def on_epoch_end(self, epoch, logs=None):
        self.draw()


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(np.random.random, marks=pytest.mark.acceptance, id="NumPy"),
        pytest.param(random.random, marks=pytest.mark.acceptance, id="Python"),
        pytest.param(lambda: keras.random.uniform(()), marks=pytest.mark.acceptance, id="Keras"),
    ],
)
def test_one_number_drawn_by_a_callback_would_be_seen(draw, plain):
    drawn = train([DrawOne(draw)])
    assert drawn.keys() == plain.keys()
    assert drawn != plain


def test_training_leaves_the_same_behind(plain, tmp_path):
    callback = watch(tmp_path)
    assert_same(train([callback]), plain)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adam", "warm_start": True, "parameterization": "pixel"},
        {"objectives": None, "transformations": "standard", "probe_data": PIXELS},
    ],
    ids=["an optimizer", "the defaults"],
)
def test_training_leaves_the_same_behind_with_other_settings(settings, plain, tmp_path):
    assert_same(train([watch(tmp_path, **settings)]), plain)


# `torch.compile` takes minutes for this model, so a smaller one has a test below.
COMPILING = {
    "run_eagerly": ["tensorflow", "jax", "torch"],
    "jit_compile": ["tensorflow", "jax"],
    "steps_per_execution": ["tensorflow", "jax"],
}


# XLA takes long to compile each step.
WAYS = [
    pytest.param(way, marks=() if way == "run_eagerly" else pytest.mark.acceptance)
    for way, where in COMPILING.items()
    if BACKEND in where
]


@pytest.mark.acceptance
@pytest.mark.parametrize("way", WAYS)
def test_training_leaves_the_same_behind_however_it_is_compiled(way, tmp_path):
    compiling = {way: 2 if way == "steps_per_execution" else True, "fits": 1}
    assert_same(train([watch(tmp_path)], **compiling), train(**compiling))


@pytest.mark.skipif(BACKEND != "torch", reason="a refusal of Keras' on torch")
def test_keras_itself_takes_one_step_an_execution_on_torch():
    """Notice when Keras itself begins to support it; no callback is used."""
    with pytest.raises(ValueError, match="steps_per_execution"):
        fit(make_model(steps_per_execution=2))


def train_compiled_by_torch(callbacks=()):
    """Fit a network so small that `torch.compile` takes seconds."""
    seed_everything()
    model = sequential(
        layers.Conv2D(2, 3, activation="tanh", name="conv"),
        layers.Dropout(0.3, seed=1),
        layers.Flatten(),
        layers.Dense(5, name="logits"),
        shape=SHAPE,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], jit_compile=True)
    return left_behind(model, [fit(model, *callbacks)])


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="the others compile a whole training, above")
@pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))),
    reason="torch.compile needs a C++ compiler",
)
def test_training_compiled_by_torch_leaves_the_same_behind(tmp_path):
    callback = watch(tmp_path, objectives=None)
    assert_same(train_compiled_by_torch([callback]), train_compiled_by_torch())
    assert callback.history.epochs.tolist() == [-1, 0, 1]


def train_by_hand(callbacks=()):
    """Train by a custom loop over `train_on_batch`."""
    seed_everything()
    model = make_model()
    callbacks = keras.callbacks.CallbackList(list(callbacks), model=model)
    losses = []
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for i in range(0, 24, 8):
            callbacks.on_train_batch_begin(i)
            losses.append(float(model.train_on_batch(PIXELS[i : i + 8], LABELS[i : i + 8])[0]))
            callbacks.on_train_batch_end(i)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    return left_behind(model, losses)


@pytest.mark.acceptance
def test_a_custom_loop_leaves_the_same_behind(tmp_path):
    callback = watch(tmp_path)
    assert_same(train_by_hand([callback]), train_by_hand())
    assert callback.history.epochs.tolist() == [-1, 0, 1]


def test_a_custom_loop_needs_no_compiled_model(tmp_path):
    model = sequential(layers.Flatten(), layers.Dense(2, name="logits"), shape=SHAPE)
    callback = FeatureVisCallback(log_dir=tmp_path, steps=2, on_error="raise")
    callbacks = keras.callbacks.CallbackList([callback], model=model)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    assert callback.history.epochs.tolist() == [-1, 0, 1]


# --- nothing is changed by one call ------------------------------------------------------


def comparable(thing):
    """Return containers by content, plain values by value, all else by identity."""
    if isinstance(thing, dict):
        return {name: comparable(value) for name, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [comparable(value) for value in thing]
    if isinstance(thing, (set, frozenset)):
        return {id(value) for value in thing}
    if isinstance(thing, (bool, int, float, str, bytes, type(None))):
        return thing
    return id(thing), thing


def state_of(model):
    """Return every attribute of every layer, every variable and all random states."""
    state = random_states()
    for i, layer in enumerate(model._flatten_layers()):
        # On JAX, Keras writes these back to the model whenever a callback reads it.
        kept = {k: v for k, v in vars(layer).items() if not k.startswith("_jax_state")}
        state[f"{i} {layer.name}"] = comparable(kept)
        state[f"{i} {layer.name} trainable"] = layer.trainable
    for i, variable in enumerate([*model.variables, *model.optimizer.variables]):
        state[f"{i} {variable.path}"] = to_numpy(variable).tobytes()
        if BACKEND == "torch":
            state[f"{i} {variable.path} grad"] = (
                variable.value.requires_grad,
                None if variable.value.grad is None else variable.value.grad.tolist(),
            )
    return state


class Checked(FeatureVisCallback):
    """A callback that compares the model before and after each of its hooks."""

    def checked(self, hook, *arguments):
        then = state_of(self.model)
        hook(*arguments)
        assert_same(state_of(self.model), then)

    def on_train_begin(self, logs=None):
        self.checked(super().on_train_begin, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.checked(super().on_epoch_begin, epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.checked(super().on_epoch_end, epoch, logs)

    def on_train_end(self, logs=None):
        self.checked(super().on_train_end, logs)


# On JAX layers keep no value of a batch, and torch always runs eagerly.
@pytest.mark.acceptance
@pytest.mark.parametrize("run_eagerly", [False, True] if BACKEND == "tensorflow" else [False])
def test_no_hook_changes_the_model_or_a_random_state(run_eagerly, tmp_path):
    seed_everything()
    model = make_model(run_eagerly=run_eagerly)
    model.get_layer("conv").trainable = False
    fit(model, watch(tmp_path, Checked, freq=2), epochs=4)
    fit(model, watch(tmp_path, Checked, objectives=None), epochs=1)


@pytest.mark.parametrize("called", [False, True])
def test_optimize_changes_nothing(called):
    seed_everything()
    model = make_model()
    if called:
        model(PIXELS, training=True)
    then = state_of(model)
    optimize(Objective.neuron(model, "logits", [0, 1]), steps=2, warmup_steps=1)
    optimize(Objective.channel(model, "conv", 0), steps=1, optimizer="adam")
    assert_same(state_of(model), then)


@pytest.mark.skipif(BACKEND != "torch", reason="modes of torch's modules")
@pytest.mark.parametrize("training", [True, False])
def test_modules_keep_their_mode(training):
    model = make_model().train(training)
    model.get_layer("conv").train(not training)
    modes = [module.training for module in model.modules()]
    optimize(Objective.neuron(model, "logits", 0), steps=1)
    assert [module.training for module in model.modules()] == modes


# --- exceptions in the middle of an optimisation --------------------------------------------


class Broken(BaseException):
    """An error that is no `Exception`, as `KeyboardInterrupt` is none."""


class FailingTransformation(Noise):
    """A random transformation that fails at its second draw; equal to no other."""

    __eq__, __hash__ = object.__eq__, object.__hash__

    def __init__(self, error):
        super().__init__()
        object.__setattr__(self, "error", error)
        object.__setattr__(self, "uses", [])

    def sample(self, rng, shape):
        self.uses.append(1)
        if len(self.uses) > 1:
            raise self.error
        return super().sample(rng, shape)


def failing_objective(model, error, calls=1):
    """Make an objective whose function fails at its `calls`-th call."""
    seen = []

    def function(outputs):
        seen.append(1)
        if len(seen) >= calls:
            raise error
        return ops.mean(outputs, (1, 2, 3))

    return Objective.custom(model, "conv", function)


ERRORS = [ValueError("broken"), KeyboardInterrupt(), Broken()]


@pytest.fixture(scope="module")
def fitted():
    """A model that has been trained."""
    seed_everything()
    model = make_model()
    fit(model, epochs=1)
    return model


PLACES = ["while it is traced", "between two steps"]


# Only torch runs a user's Python at every step.
@pytest.mark.parametrize("where", [*PLACES, *["in a later step"] * (BACKEND == "torch")])
@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_exception_restores_everything(where, error, fitted):
    model = fitted
    settings = {"steps": 4, "optimizer": "adam"}
    objective = Objective.neuron(model, "logits", 0)
    if where == "between two steps":
        settings["transformations"] = [FailingTransformation(error)]
    else:
        objective = failing_objective(model, error, calls=3 if "later" in where else 1)
    then = state_of(model)
    with pytest.raises(type(error)):
        optimize(objective, **settings)
    assert_same(state_of(model), then)


class FailInside(layers.Layer):
    """A layer whose call fails, while the layers before it are recorded."""

    failing = None

    def call(self, inputs):
        if FailInside.failing is not None:
            raise FailInside.failing
        return inputs


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_an_exception_inside_the_model_restores_everything(error, monkeypatch):
    seed_everything()
    model = sequential(
        layers.Conv2D(2, 3, activation="relu", name="conv"),
        FailInside(),
        layers.Flatten(),
        layers.Dense(3, name="logits"),
        shape=SHAPE,
    )
    model.compile("sgd", "mse")
    objective = Objective.channel(model, "conv", 0) + Objective.neuron(model, "logits", 0)
    then = state_of(model)
    monkeypatch.setattr(FailInside, "failing", error)
    with pytest.raises(type(error)):
        optimize(objective, steps=2, warmup_steps=1)
    assert_same(state_of(model), then)
    monkeypatch.setattr(FailInside, "failing", None)
    assert np.isfinite(optimize(objective, steps=2).scores).all()


@pytest.mark.acceptance
def test_training_goes_on_the_same_after_a_snapshot_that_failed(plain, tmp_path):
    callback = watch(
        tmp_path, transformations=[FailingTransformation(ValueError("broken"))], on_error="warn"
    )
    with pytest.warns(UserWarning, match="broken"):
        assert_same(train([callback]), plain)


class Interrupt(keras.callbacks.Callback):
    """A callback that interrupts training as early as Ctrl-C in the first snapshot does."""

    def on_epoch_begin(self, epoch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.acceptance
def test_training_goes_on_the_same_after_an_interrupted_snapshot(tmp_path):
    def interrupted_by(callback):
        seed_everything()
        model = make_model()
        with pytest.raises(KeyboardInterrupt):
            fit(model, callback)
        return left_behind(model, [fit(model, epochs=1)])

    failing = watch(tmp_path, transformations=[FailingTransformation(KeyboardInterrupt())])
    assert_same(interrupted_by(failing), interrupted_by(Interrupt()))


# --- weights receive no gradient -----------------------------------------------------------


def shapes_in_graph(run):
    """Return the shapes of all that the TensorFlow graph of an optimisation computes."""
    import tensorflow as tf

    graphs = []

    def keep_graph(images):
        graphs.append(tf.compat.v1.get_default_graph())
        return 0.0 * ops.mean(images, (1, 2, 3))

    run(regularizers=[keep_graph])
    # TensorFlow computes only what an output needs, and reading a weight takes no memory.
    needed, found = [o.op for graph in graphs for o in getattr(graph, "outputs", ())], set()
    while needed:
        operation = needed.pop()
        if operation not in found and operation.type not in ("ReadVariableOp", "Const"):
            found.add(operation)
            needed += [one.op for one in operation.inputs] + list(operation.control_inputs)
    return [output.shape for operation in found for output in operation.outputs]


def shapes_in_jaxpr(run):
    """Return the shapes of all that JAX's compiled step computes."""
    import jax

    shapes = []
    compile_step = load().compile_step

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            shapes.extend(variable.aval.shape for variable in equation.outvars)
            for inner in jax.core.jaxprs_in_params(equation.params):
                walk(inner)

    def compile_and_record(*arguments):
        step = compile_step(*arguments)

        def record_and_step(*arguments):
            walk(jax.make_jaxpr(step)(*arguments).jaxpr)
            return step(*arguments)

        return record_and_step

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load(), "compile_step", compile_and_record)
        run()
    return shapes


def shapes_dispatched(run):
    """Return the shapes of all that torch computes.

    Aliases take no memory, and Keras finds the shapes of a graph with tensors of no device.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    shapes = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            results = function(*args, **(kwargs or {}))
            if not any(one.alias_info for one in function._schema.returns):
                tensors = keras.tree.flatten(results)
                tensors = [one for one in tensors if isinstance(one, torch.Tensor)]
                shapes.extend(one.shape for one in tensors if one.device.type != "meta")
            return results

    with Watching():
        run()
    return shapes


SHAPES_COMPUTED = {
    "tensorflow": shapes_in_graph,
    "jax": shapes_in_jaxpr,
    "torch": shapes_dispatched,
}


@pytest.mark.parametrize("trainable", [True, False])
def test_no_gradient_of_a_weight_is_computed(trainable):
    model = sequential(
        layers.Flatten(),
        layers.Dense(37, activation="tanh"),
        layers.Dense(41, activation="tanh"),
        layers.Dense(43, name="logits"),
        shape=SHAPE,
    )
    model.trainable = trainable
    objective = Objective.neuron(model, "logits", 0)

    def run(**settings):
        optimize(objective, steps=1, **settings)

    shapes = {tuple(shape) for shape in SHAPES_COMPUTED[BACKEND](run)}
    # The gradients of the layers' outputs are computed, so the measure must find them.
    assert {(1, 37), (1, 41)} <= shapes
    weights = {tuple(weight.shape) for weight in model.weights}
    assert shapes.isdisjoint(weights | {shape[::-1] for shape in weights if len(shape) == 2})


# Runs in a process of its own, whose peak memory the kernel records.
MEASURED = """
import ctypes, gc, re
import keras
from keras import layers
from featviz_callback import Objective, optimize

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

def growth(function):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    open("/proc/self/clear_refs", "w").write("5")
    before = megabytes("VmRSS")
    function()
    return megabytes("VmHWM") - before

def make_model(units):
    return keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Flatten(),
        layers.Dense(units, activation="tanh"),
        layers.Dense(units, activation="tanh"),
        layers.Dense(3, name="logits"),
    ])

def visualise(model):
    optimize(Objective.neuron(model, "logits", 0), steps=2)

visualise(make_model(8))
model = make_model(7000)
copies = []

def copy():
    copies.append([weight + 1 for weight in model.weights])
    # Some backends compute only when a value is read.
    for one in copies[-1]:
        float(keras.ops.sum(one))

# Memory that the framework has freed but kept would hide what it uses.
while len(copies) < 8 and growth(copy) < 180:
    pass
print(growth(lambda: visualise(model)))
model.trainable = False
print(growth(lambda: visualise(model)))
print(growth(copy))
"""


@pytest.mark.slow
@pytest.mark.acceptance
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own measure")
def test_memory_does_not_grow_with_the_weights():
    """Neither a gradient nor a copy of 189 MB of weights is held, even while compiling."""
    trainable, frozen, copied = map(float, python(MEASURED, BACKEND))
    assert copied > 180
    assert trainable < 60
    assert frozen < 60


# --- the matrix -----------------------------------------------------------------------------

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"


def table():
    """Return the site's matrix: ways that the tests run, and ways that Keras refuses."""
    always = dict.fromkeys(BACKENDS, "works")
    rows = {
        "`fit`, twice, `initial_epoch`, `validation_split`, `evaluate`": always,
        "`train_on_batch` in a loop of your own, with a `CallbackList`": always,
    }
    refused = "not supported by Keras"
    for way, where in COMPILING.items():
        setting = f"`{way} > 1`" if way == "steps_per_execution" else f"`{way}=True`"
        rows[setting] = {name: "works" if name in where else refused for name in BACKENDS}
    rows["`jit_compile=True`"]["torch"] = "works"
    rows |= test_distribution.table(BACKENDS)
    lines = [["", *BACKENDS.values()], ["---"] * 4]
    lines += [[row, *(cells[name] for name in BACKENDS)] for row, cells in rows.items()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines).replace("|  |", "| |")


def test_the_readme_has_this_table():
    block = re.search("<!-- training -->\n(.*?)<!-- /training -->", PAGE.read_text(), re.DOTALL)
    assert block.group(1) == table()
