"""Snapshots in other processes: equal to local ones to the bit, and what becomes of faults."""

import contextlib
import copy
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective, replay
from featviz_callback.monitoring import accentuation, remote, wire
from featviz_callback.objectives import forget_warnings, walk
from tests.conftest import (
    LABELS,
    PIXELS,
    compiled,
    mixed,
    python,
    read_events,
    sequential,
    to_numpy,
    train,
)
from tests.monitoring.conftest import neurons

SPAWN = multiprocessing.get_context("spawn")
TIMES = ("seconds", "compile_seconds", "share")


def run(callback, *others, make=compiled, epochs=3, **settings):
    """Train from the same seed; return the weights."""
    keras.utils.set_random_seed(1)
    model = make()
    train(model, callback, *others, epochs=epochs, **settings)
    return [np.array(one) for one in model.get_weights()]


def assert_same(local, elsewhere):
    """Require equal histories and event files of two callbacks, but for times."""
    for name in (
        *("epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "starts"),
        *("functional_drift", "top_overlap", "selectivity", "best_class", "active_share"),
        *("importance", "settled", "skipped"),
    ):
        ours, theirs = (getattr(one.history, name) for one in (elsewhere, local))
        np.testing.assert_array_equal(ours, theirs, name)
    expected, health = local.health.arrays(), elsewhere.health.arrays()
    assert health.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(health[name], values, name)
    (images, scalars), (other_images, other_scalars) = (
        read_events(one.log_dir / "feature_vis") for one in (local, elsewhere)
    )
    assert images
    assert images.keys() == other_images.keys()
    for tag, rows in images.items():
        assert [step for step, _ in rows] == [step for step, _ in other_images[tag]], tag
        for (_, picture), (_, other) in zip(rows, other_images[tag], strict=True):
            np.testing.assert_array_equal(picture, other, tag)
    for kept in (scalars, other_scalars):
        for name in TIMES:
            kept.pop(f"feature_vis/{name}", None)
    assert scalars.keys() == other_scalars.keys()
    for tag, rows in scalars.items():
        np.testing.assert_array_equal(rows, other_scalars[tag], tag)


def assert_same_training(watch_apart, pool, make=compiled, objectives=neurons, **settings):
    """Require the same results with an executor, and the weights of the undisturbed training."""
    undisturbed = run(keras.callbacks.Callback(), make=make)
    found = []
    for executor in (None, pool):
        found.append(watch_apart(objectives, executor=executor, on_error="raise", **settings))
        for one, other in zip(run(found[-1], make=make), undisturbed, strict=True):
            np.testing.assert_array_equal(one, other)
    assert_same(*found)
    return found[1]


@contextlib.contextmanager
def logged():
    """Collect what the package logs."""
    logger, found = logging.getLogger("featviz_callback"), []

    class Handler(logging.Handler):
        def emit(self, record):
            found.append(record.getMessage())

    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


# --- what needs no other process -----------------------------------------------------------


def test_executors_that_would_disturb_training_are_refused():
    for executor in (ThreadPoolExecutor(1), 3):
        with pytest.raises(ValueError, match="executor of processes"):
            FeatureVisCallback(executor=executor)
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as forks,
        pytest.raises(ValueError, match="forks this process"),
    ):
        FeatureVisCallback(executor=forks)
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as unused,
        pytest.raises(ValueError, match="warm_start"),
    ):
        FeatureVisCallback(executor=unused, warm_start=True)


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Layer):
    """A layer whose argument is in its configuration."""

    def __init__(self, factor=1.0, activation=None, **settings):
        super().__init__(**settings)
        self.factor, self.activation = factor, keras.activations.get(activation)

    def build(self, shape):
        self.bias = self.add_weight(shape=(shape[-1],), name="bias")

    def call(self, inputs):
        return self.activation(inputs * self.factor + self.bias)

    def get_config(self):
        activation = keras.activations.serialize(self.activation)
        return {**super().get_config(), "factor": self.factor, "activation": activation}


class Forgetful(layers.Layer):
    """A layer whose argument is in no configuration."""

    def __init__(self, factor=1.0, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return super().get_config()


class Secretive(Forgetful):
    def __init__(self, factor):
        super().__init__(factor)


def own_activation(inputs):
    return ops.tanh(inputs) + 0.1 * inputs


def twice(inputs):
    return 2 * inputs


class Subclass(keras.Model):
    def __init__(self, units=10):
        super().__init__()
        self.first = layers.Conv2D(3, 3, activation=own_activation, name="first")
        self.flatten = layers.Flatten()
        self.logits = layers.Dense(units, name="logits")

    def call(self, inputs):
        return self.logits(self.flatten(self.first(inputs)))


class Pair(keras.Model):
    """A wrapper without a `call` of its own."""

    def __init__(self, encoder, decoder, **settings):
        super().__init__(**settings)
        self.encoder, self.decoder = encoder, decoder


def own_code():
    """A model with layers, activations and lambdas of its own, one of which reads a global."""
    return compiled(
        sequential(
            layers.Conv2D(4, 3, activation=own_activation, name="conv1"),
            Scaled(0.5, own_activation, name="scaled"),
            layers.Lambda(lambda x: ops.tanh(twice(x)), name="lambda"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="logits"),
        )
    )


def subclassed():
    model = Subclass()
    model(PIXELS[:1])
    return compiled(model)


def with_state_of_framework():
    """A model that learns something beside Keras' variables, where a framework can."""
    if keras.backend.backend() == "torch":
        import torch

        first = layers.TorchModuleWrapper(
            torch.nn.BatchNorm2d(12), name="first", output_shape=(None, 12, 10, 1)
        )
    else:
        first = Counting(name="first")
    return compiled(sequential(first, layers.Flatten(), layers.Dense(10, name="logits")))


class Counting(layers.Layer):
    """Counts its calls in a variable of TensorFlow's own."""

    def build(self, shape):
        import tensorflow as tf

        self.count = tf.Variable(1.0, trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(0.1)
        return inputs * self.count


NO_STATE = keras.backend.backend() == "jax"


@pytest.mark.skipif(NO_STATE, reason="JAX keeps nothing of a model beside its variables")
def test_what_the_framework_keeps_of_a_model_crosses_with_its_weights():
    model = with_state_of_framework()
    before = to_numpy(model(PIXELS, training=False))
    weights = model.get_weights()
    train(model, epochs=2)
    model.set_weights(weights)
    trained = to_numpy(model(PIXELS, training=False))
    assert np.abs(trained - before).max() > 1e-3
    again = wire.build_apart([model])
    wire.assign(again, wire.weights_of([model]))
    np.testing.assert_array_equal(to_numpy(again[0](PIXELS, training=False)), trained)


@pytest.mark.acceptance
@pytest.mark.skipif(NO_STATE, reason="JAX keeps nothing of a model beside its variables")
def test_snapshots_elsewhere_see_what_the_framework_keeps(watch_apart, pool):
    assert_same_training(watch_apart, pool, make=with_state_of_framework, values_range=(0, 1))


def half():
    return compiled(
        sequential(
            layers.Conv2D(4, 3, activation="tanh", dtype="float16", name="conv1"),
            layers.Flatten(dtype="float16"),
            layers.Dense(10, dtype="float16", name="logits"),
        )
    )


def nested():
    inner = sequential(layers.Conv2D(3, 3, name="conv"), layers.Flatten())
    inner.name = "inner"
    return compiled(sequential(inner, layers.Dense(10, name="logits")))


def quantised():
    model = sequential(
        layers.Flatten(), layers.Dense(8, name="hidden"), layers.Dense(10, name="logits")
    )
    model.quantize("int8")
    return model


def normalised():
    """A model of raw values, in several layers of which Keras keeps constants."""
    norm = layers.Normalization(axis=-1, name="norm")
    norm.adapt(100 + 50 * PIXELS)
    inner = keras.Sequential([keras.Input((12, 10, 1)), norm], name="inner")
    return compiled(
        keras.Sequential(
            [
                keras.Input((12, 10, 1)),
                layers.Rescaling(255),
                inner,
                layers.Conv2D(4, 3, activation="tanh", name="conv1"),
                layers.Flatten(),
                layers.Dense(10, name="logits"),
            ]
        )
    )


@pytest.mark.parametrize(
    "make",
    [own_code, subclassed, half, nested, quantised, normalised, lambda: lambdas_of_equal_names()],
)
def test_a_model_is_made_again_from_its_description(make):
    model = make()
    names = [keras.layers.Dense(1).name, keras.layers.Dense(1).name]
    states = np.random.get_state()[1].tolist(), keras.random.SeedGenerator(1).state.name
    again = wire.build_apart([model])
    assert np.random.get_state()[1].tolist() == states[0]
    number = int(names[1].rpartition("_")[2])
    assert keras.layers.Dense(1).name == f"dense_{number + 1}"
    wire.require_same([model], again)
    wire.assign(again, wire.weights_of([model]))
    np.testing.assert_array_equal(to_numpy(again[0](PIXELS)), to_numpy(model(PIXELS)))
    assert not again[0].compiled


def test_models_that_share_layers_get_the_same_weights():
    model = compiled()
    head = keras.Model(model.inputs, model.get_layer("conv2").output)
    assert len(wire.outermost([model, head, model.get_layer("conv1")])) == 2
    again = wire.build_apart([model, head])
    wire.require_same([model, head], again)
    weights = wire.weights_of([model, head])
    assert len(weights.values) == len(model.variables)
    wire.assign(again, weights)
    for one, other in zip([model, head], again, strict=True):
        np.testing.assert_array_equal(to_numpy(other(PIXELS)), to_numpy(one(PIXELS)))


def test_a_wrapper_of_two_models_is_made_again():
    pair = Pair(sequential(layers.Flatten(), layers.Dense(2)), sequential(layers.Dense(1)))
    pair.compile("adam")
    [again] = wire.build_apart([pair])
    wire.require_same([pair], [again])
    paths = [path for path, _ in walk(pair)]
    assert [path for path, _ in walk(again)] == paths


def test_what_is_pickled_names_parts_of_the_model():
    model = compiled()
    value = {"layer": model.layers[1], "variable": model.layers[1].kernel, "model": model}
    content = wire.dump_beside(value, [model])
    assert len(content) < 500
    other = compiled()
    found = wire.load_beside(content, [other])
    assert found["model"] is other
    assert found["layer"] is other.layers[1]
    assert found["variable"] is other.layers[1].kernel


@pytest.mark.parametrize(("layer", "said"), [(Forgetful, "something else"), (Secretive, "factor")])
def test_a_model_that_cannot_be_made_again_is_refused_before_the_first_batch(
    watch_apart, layer, said
):
    model = compiled(sequential(layer(3.0), layers.Flatten(), layers.Dense(10, name="logits")))
    before = [np.array(one) for one in model.get_weights()]
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as unused,
        pytest.raises(ValueError, match=f"(?s)`replay`.*{said}"),
    ):
        train(model, watch_apart(executor=unused))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_behind_the_first_target_counts_too(watch_apart):
    def targets(model):
        return [Objective.channel(model, "conv1", 0), Objective.neuron(model, "logits", 0)]

    forgetful = [layers.Flatten(), Forgetful(3.0), layers.Dense(10, name="logits")]
    model = compiled(sequential(layers.Conv2D(2, 3, name="conv1"), *forgetful))
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as unused,
        pytest.raises(ValueError, match="(?s)`replay`.*something else"),
    ):
        train(model, watch_apart(targets, executor=unused))


def forgetful_behind_all_targets():
    forgetful = [layers.Flatten(), Forgetful(3.0), layers.Dense(10, name="logits")]
    return compiled(sequential(layers.Conv2D(2, 3, name="conv1"), *forgetful))


def test_so_does_a_layer_that_is_only_measured(watch_apart):
    def target(model):
        return Objective.channel(model, "conv1", 0)

    with ProcessPoolExecutor(1, mp_context=SPAWN) as unused:
        with pytest.raises(ValueError, match="(?s)`replay`.*something else then, in 'logits'"):
            train(
                forgetful_behind_all_targets(),
                watch_apart(target, executor=unused, probe_data=PIXELS),
            )
        # Nothing depends on it then.
        callback = watch_apart(target, executor=unused, values_range=(0, 1))
        callback.set_model(forgetful_behind_all_targets())
        callback.on_train_begin()


def test_values_may_differ_by_the_order_of_sums_and_by_nothing_else():
    values = np.array([[1.0, -2.0, np.nan], [1e-3, 1e-3, np.inf]], "float32")
    rounded = values * np.float32(1 + 1e-6)
    assert remote._is_equal(values, rounded)
    # A row may be small beside the others.
    for i in range(2):
        other = rounded.copy()
        other[i, 0] *= 1.01
        assert not remote._is_equal(values, other)
    assert not remote._is_equal(values, np.nan_to_num(values))


def test_a_lack_of_memory_is_called_so(watch_apart, monkeypatch):
    def fail(*_):
        raise MemoryError("no memory")

    monkeypatch.setattr(wire, "build_apart", fail)
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as unused,
        pytest.raises(ValueError, match="(?s)Expected memory for a copy.*out of memory"),
    ):
        train(compiled(), watch_apart(executor=unused))


def lambdas_of_equal_names():
    """A model of two models, each of which has a lambda in a layer of the same name."""

    def part(name, function):
        inner = keras.Sequential([layers.Lambda(function, name="change")], name=name)
        inner.build((None, 12, 10, 1))
        return inner

    return compiled(
        sequential(
            part("one", lambda x: 2 * x),
            part("other", lambda x: ops.tanh(x - 1)),
            layers.Flatten(),
            layers.Dense(10, activation=lambda x: 3 * x, name="logits"),
        )
    )


def named_alike(factor):
    """A class of a name that others have too."""

    class Alike(layers.Layer):
        def call(self, inputs):
            return factor * inputs

    return Alike()


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes or functions of the name 'Alike'"):
        wire.build_apart([sequential(named_alike(2.0), named_alike(3.0), layers.Flatten())])
    twice = named_alike(2.0)
    [again] = wire.build_apart([sequential(twice, type(twice)(name="second"), layers.Flatten())])
    np.testing.assert_allclose(to_numpy(again(PIXELS)).ravel(), 4 * PIXELS.ravel(), rtol=1e-6)


def test_copies_share_the_executor_and_pickles_have_none():
    with ProcessPoolExecutor(1, mp_context=SPAWN) as unused:
        callback = FeatureVisCallback(executor=unused)
        assert copy.copy(callback)._executor is unused
        assert copy.deepcopy(callback)._executor is unused
        assert pickle.loads(pickle.dumps(callback))._executor is None


def test_a_worker_forgets_what_was_used_longest_ago():
    made, kept = [], {}

    def use(name):
        return remote._kept(kept, name, lambda: made.append(name) or name)

    assert [use(name) for name in "abacab"] == list("abacab")
    assert made == ["a", "b", "c", "b"]


def test_copied_weights_do_not_change():
    model = compiled()
    found = wire.weights_of([model])
    weights, before = found.values, [one.copy() for one in found.values]
    train(model, epochs=1)
    for one, other in zip(weights, before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(
        (one != other).any() for one, other in zip(weights, model.get_weights(), strict=True)
    )
    assert found.is_trainable == [True] * len(weights)


# --- equal to local snapshots ----------------------------------------------------------------


@pytest.mark.slow
def test_results_are_those_of_local_snapshots(watch_apart, pool):
    callback = assert_same_training(watch_apart, pool)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert (callback.history.seconds > 0).all()


class Noting:
    """An executor that keeps what its workers return for snapshots."""

    def __init__(self, pool):
        self._pool, self.futures = pool, []

    def submit(self, function, *arguments):
        future = self._pool.submit(function, *arguments)
        if function is remote.work:
            self.futures.append(future)
        return future


@pytest.mark.acceptance
def test_so_are_real_images_places_health_and_floors(watch_apart, pool):
    settings = {"probe_data": (PIXELS, LABELS), "accentuate": 1, "log_importance": True}
    noting = Noting(pool)
    callback = assert_same_training(watch_apart, noting, objectives=mixed, **settings)
    assert len(noting.futures) == 4
    for future in noting.futures:
        found = future.result().observation
        for pictures in (found.pictures, found.examples, found.accentuated):
            # Training has none of them to encode.
            assert len(pictures) == 6
            assert all(one.content.startswith(b"\x89PNG") for one in pictures)
    images, _ = read_events(callback.log_dir / "feature_vis")
    assert any(tag.startswith("feature_vis_place/") for tag in images)


def freezing():
    model = compiled()
    model.get_layer("conv1").trainable = False
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    return model


@pytest.mark.acceptance
@pytest.mark.parametrize("make", [own_code, subclassed, half, nested, freezing, normalised])
def test_so_are_those_of_other_networks(watch_apart, pool, make):
    assert_same_training(watch_apart, pool, make=make, probe_data=PIXELS)


@pytest.mark.acceptance
def test_so_are_those_of_functions_of_a_test(watch_apart, pool):
    weights = np.linspace(0, 1, 10, dtype="float32")

    def objectives(model):
        score = lambda outputs: ops.mean(outputs * ops.convert_to_tensor(weights), axis=-1)  # noqa: E731
        return [Objective.custom(model, "logits", score), Objective.channel(model, "conv1", 2)]

    assert_same_training(
        watch_apart,
        pool,
        objectives=objectives,
        regularizers=[lambda x: ops.mean(x, axis=(1, 2, 3))],
    )


def two_inputs():
    image, time_step = keras.Input((12, 10, 1), name="image"), keras.Input((4,), name="time")
    flat = layers.Concatenate()(
        [layers.Flatten()(image), layers.Dense(5, name="of_time")(time_step)]
    )
    model = keras.Model([image, time_step], layers.Dense(10, name="logits")(flat))
    return compiled(model)


@pytest.mark.acceptance
def test_so_are_those_with_fixed_inputs(watch_apart, pool):
    times = np.ones((16, 4), "float32")
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        model, fixed = two_inputs(), {"time": np.arange(4.0)}
        callback = watch_apart(executor=executor, fixed_inputs=fixed, on_error="raise")
        model.fit([PIXELS, times], LABELS, epochs=2, verbose=0, callbacks=[callback])
        found.append(callback)
    assert_same(*found)


@pytest.mark.acceptance
def test_so_are_those_of_a_quantised_network(watch_apart, pool):
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        callback, model = watch_apart(executor=executor, on_error="raise"), quantised()
        callback.set_model(model)
        callback.set_params({"epochs": 1})
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_epoch_end(0)
        callback.on_train_end()
        found.append(callback)
    assert_same(*found)


MIRRORED = """
    import itertools
    import multiprocessing
    import sys
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    import keras
    import tensorflow as tf
    from keras import layers

    from featviz_callback import FeatureVisCallback
    from tests.conftest import PIXELS, compiled, sequential
    from tests.monitoring.test_remote import assert_same_training

    def make():
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            return compiled(
                sequential(
                    layers.Conv2D(4, 3, name="conv1"),
                    layers.BatchNormalization(name="norm"),
                    layers.ReLU(name="relu"),
                    layers.Flatten(),
                    layers.Dense(10, name="logits"),
                )
            )

    if __name__ == "__main__":
        [cpu] = tf.config.list_physical_devices("CPU")
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, two)
        count = itertools.count()

        def watch(objectives, **settings):
            folder = f"{sys.argv[1]}/{next(count)}"
            return FeatureVisCallback(objectives, log_dir=Path(folder), steps=2, **settings)

        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = assert_same_training(watch, pool, make=make, probe_data=PIXELS)
        print(make().distribute_strategy.num_replicas_in_sync, found.history.epochs.tolist())
"""


@pytest.mark.acceptance
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's")
def test_so_are_those_of_a_mirrored_training(tmp_path):
    # How many devices there are is told before the first use.
    assert python(textwrap.dedent(MIRRORED), "tensorflow", tmp_path) == ["2 [-1, 0, 1, 2]"]


def break_accentuations(is_broken=True):
    """Let the next accentuations of a worker fail, or not any more; let it log as others do."""
    logging.getLogger("featviz_callback").setLevel(logging.WARNING)
    draw = accentuation.Accentuations.__dict__.get("_draw", accentuation.Accentuations.draw)

    def fail(self, order):
        raise MemoryError("no memory at this moment")

    accentuation.Accentuations._draw = draw
    accentuation.Accentuations.draw = fail if is_broken else draw


def partly_known(model):
    """Objectives, one of which has no finite score for some real images."""
    score = lambda outputs: ops.sqrt(outputs[:, 0])  # noqa: E731
    return [Objective.custom(model, "logits", score), neurons(model)]


@pytest.mark.acceptance
def test_a_worker_that_other_trainings_have_used_is_as_good_as_a_new_one(watch_apart, pool):
    settings = {
        "objectives": partly_known,
        "probe_data": PIXELS,
        "accentuate": 1,
        "on_error": "raise",
    }
    model = compiled()
    weights = model.get_weights()

    def again():
        model.set_weights(weights)
        # What was logged about it belongs to another training.
        forget_warnings([model])
        return compiled(model)

    local = watch_apart(**settings)
    run(local, make=again, epochs=1)
    pool.submit(break_accentuations).result()
    with logged() as messages:
        run(watch_apart(executor=pool, **settings), make=again, epochs=1)
    assert sum("No more real images are accentuated" in one for one in messages) == 1
    assert sum("Some images of" in one for one in messages) == 1
    pool.submit(break_accentuations, False).result()
    # The other model of this training has other settings of Keras.
    floatx, epsilon = keras.config.floatx(), keras.config.epsilon()
    try:
        keras.config.set_floatx("float16")
        keras.config.set_epsilon(1e-3)
        run(watch_apart(executor=pool), make=half, epochs=1)
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_epsilon(epsilon)
    elsewhere = watch_apart(executor=pool, **settings)
    with logged() as messages:
        run(elsewhere, make=again, epochs=1)
    assert_same(local, elsewhere)
    assert sum("Some images of" in one for one in messages) == 1
    assert pool.submit(keras.config.floatx).result() == floatx
    assert pool.submit(keras.config.epsilon).result() == epsilon


class Slow(keras.callbacks.Callback):
    """Gives a worker time for a snapshot an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(1)


@pytest.mark.acceptance
def test_any_worker_can_take_any_snapshot(watch_apart):
    local = watch_apart(probe_data=PIXELS)
    run(local, epochs=4)
    with ProcessPoolExecutor(2, mp_context=SPAWN) as both:
        # Both are there, and a large setup crosses only where it is asked for.
        list(both.map(time.sleep, [5, 5]))
        elsewhere = watch_apart(probe_data=PIXELS, executor=both)
        small, remote._SMALL = remote._SMALL, 0
        try:
            run(elsewhere, Slow(), epochs=4)
        finally:
            remote._SMALL = small
    assert_same(local, elsewhere)


@pytest.mark.acceptance
def test_training_waits_once_too_many_bytes_wait(watch_apart, pool):
    most, remote.MOST_WAITING = remote.MOST_WAITING, 1
    waiting = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            waiting.append(sum(not one.is_done for one in callback._pending))

    callback = watch_apart(executor=pool)
    try:
        run(callback, Count(), epochs=4)
    finally:
        remote.MOST_WAITING = most
    assert max(waiting) <= 1
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]


@pytest.mark.acceptance
def test_a_listener_gets_arrays_and_a_replay_makes_no_use_of_it(watch_apart, pool, tmp_path):
    told = []
    callback = watch_apart(executor=pool, probe_data=PIXELS, on_snapshot=told.append)
    run(callback)
    assert [one.epoch for one in told] == [-1, 0, 1, 2]
    assert told[0].real_pictures[0].dtype == "uint8"
    model = compiled()
    model.save_weights(tmp_path / "1.weights.h5")
    pattern = str(tmp_path / "{epoch}.weights.h5")
    assert replay(watch_apart(executor=pool), model, pattern, verbose=0).epochs.tolist() == [0]


# --- classes of a script ---------------------------------------------------------------------

SCRIPT = """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    import keras
    import numpy as np
    from keras import layers

    from featviz_callback import FeatureVisCallback, Objective

    FACTOR = 1.0
    PIXELS = np.random.default_rng(0).random((32, 8, 8, 1), "float32")
    LABELS = np.arange(32) % 2


    class Scale(layers.Layer):
        factor = 1.0
        seen = []

        def call(self, inputs):
            return inputs * FACTOR * self.factor


    class Anneal(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            global FACTOR
            FACTOR = 1.0 - 0.3 * epoch


    class Refusing:
        def submit(self, *arguments):
            raise RuntimeError("there is no worker")


    def objective(model):
        return Objective.neuron(model, "logits", [0])


    def make(*first):
        inner = [*first, Scale(name="scale"), layers.Flatten(), layers.Dense(2, name="logits")]
        return keras.Sequential([keras.Input((8, 8, 1)), *inner], name="model")


    def fit(model, rate, *callbacks, **settings):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate), loss, run_eagerly=True)
        given = {"epochs": 3, "verbose": 0, "shuffle": False, "callbacks": list(callbacks)}
        model.fit(PIXELS, LABELS, **{**given, **settings})


    def watch(**settings):
        return FeatureVisCallback(
            objective, steps=2, values_range=(0, 1), on_error="raise", **settings
        )


    def main(pool):
        global FACTOR
        call, seen = Scale.call, Scale.seen
        for name, some in (
            ("alone", []),
            ("local", [watch()]),
            ("refused", [watch(executor=Refusing())]),
            ("pool", [watch(executor=pool)]),
        ):
            FACTOR = 1.0
            keras.utils.set_random_seed(1)
            model = make()
            fit(model, 0.1, *some, Anneal())
            found = keras.ops.convert_to_numpy(model.get_weights()[0]).tobytes().hex()
            is_same = Scale.call is call and Scale.seen is seen
            print("trained", name, is_same and call.__globals__ is globals(), found, flush=True)
        FACTOR = 1.0
        norm = layers.Normalization(axis=-1)
        model = make(norm)
        # Of scores below zero there is no ratio, whatever weights a backend draws.
        logits = model.layers[-1]
        logits.set_weights([-np.abs(one) for one in logits.get_weights()])
        for factor in (1.0, 3.0, 1.0):
            # A class attribute, and a constant that Keras makes of variables.
            Scale.factor = factor
            norm.adapt(factor * PIXELS)
            callback = watch(executor=pool, probe_data=PIXELS)
            fit(model, 0.0, callback, epochs=1)
            history = callback.history
            [truth], real = (
                keras.ops.convert_to_numpy(model(some))[:, 0]
                for some in (history.images[-1], PIXELS)
            )
            found = history.scores[-1][0], history.score_ratio[-1][0]
            print("scored", len(history.skipped), *found, truth, truth / real.max(), flush=True)


    if __name__ == "__main__":
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            main(pool)
"""


@pytest.mark.acceptance
def test_classes_of_a_script_stay_its_own_and_workers_keep_those_of_each_setup_apart(tmp_path):
    pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    trained = [line[1:] for line in lines if line[0] == "trained"]
    assert [name for name, _, _ in trained] == ["alone", "local", "refused", "pool"]
    for name, is_same, weights in trained:
        assert is_same == "True", name
        assert weights == trained[0][2], name
    scored = [line[1:] for line in lines if line[0] == "scored"]
    assert len(scored) == 3
    for skipped, *found in scored:
        assert int(skipped) == 0
        score, ratio, *truth = map(float, found)
        assert [score, ratio] == pytest.approx(truth, rel=1e-4)


# --- Dask ------------------------------------------------------------------------------------


@pytest.mark.acceptance
def test_dask_takes_snapshots(watch_apart):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    local = watch_apart(probe_data=PIXELS)
    run(local)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        elsewhere = watch_apart(probe_data=PIXELS, executor=client.get_executor(pure=False))
        run(elsewhere)
    assert_same(local, elsewhere)
