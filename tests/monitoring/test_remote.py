"""Snapshots in other processes: equal to local ones to the bit, and what becomes of faults."""

import contextlib
import copy
import logging
import multiprocessing
import os
import pickle
import signal
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
from featviz_callback.monitoring import remote, wire
from featviz_callback.objectives import walk
from tests.conftest import LABELS, PIXELS, compiled, mixed, read_events, sequential, train

SPAWN = multiprocessing.get_context("spawn")
TIMES = ("seconds", "compile_seconds", "share")


@pytest.fixture(scope="module")
def pool():
    """One worker, for all tests that do not break it."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as workers_of_tests:
        yield workers_of_tests


@pytest.fixture
def watch(tmp_path):
    """Make callbacks of few steps, each with a folder of its own."""
    count = iter(range(100))

    def make(objectives=neurons, **settings):
        folder = tmp_path / f"logs {next(count)}"
        return FeatureVisCallback(objectives, **{"steps": 2, "log_dir": folder, **settings})

    return make


def neurons(model):
    return Objective.neuron(model, "logits", range(3))


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
        read_events(one.log_dir) for one in (local, elsewhere)
    )
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


def assert_same_training(watch, pool, make=compiled, objectives=neurons, **settings):
    """Require the same results with an executor, and the weights of the undisturbed training."""
    undisturbed = run(keras.callbacks.Callback(), make=make)
    found = []
    for executor in (None, pool):
        found.append(watch(objectives, executor=executor, on_error="raise", **settings))
        for one, other in zip(run(found[-1], make=make), undisturbed, strict=True):
            np.testing.assert_array_equal(one, other)
    assert_same(*found)
    return found[1]


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
    return compiled(sequential(inner, layers.Dense(10, name="logits")))


def quantised():
    model = sequential(
        layers.Flatten(), layers.Dense(8, name="hidden"), layers.Dense(10, name="logits")
    )
    model.quantize("int8")
    return model


@pytest.mark.parametrize("make", [own_code, subclassed, half, nested, quantised])
def test_a_model_is_made_again_from_its_description(make):
    model = make()
    names = [keras.layers.Dense(1).name, keras.layers.Dense(1).name]
    states = np.random.get_state()[1].tolist(), keras.random.SeedGenerator(1).state.name
    again = wire.build_apart(wire.describe([model]))
    assert np.random.get_state()[1].tolist() == states[0]
    number = int(names[1].rpartition("_")[2])
    assert keras.layers.Dense(1).name == f"dense_{number + 1}"
    wire.require_same([model], again)
    wire.assign(again, wire.weights_of([model]))
    np.testing.assert_array_equal(again[0](PIXELS), model(PIXELS))
    assert not again[0].compiled


def test_models_that_share_layers_get_the_same_weights():
    model = compiled()
    head = keras.Model(model.inputs, model.get_layer("conv2").output)
    assert len(wire.outermost([model, head, model.get_layer("conv1")])) == 2
    again = wire.build_apart(wire.describe([model, head]))
    wire.require_same([model, head], again)
    weights = wire.weights_of([model, head])
    assert len(weights.values) == len(model.variables)
    wire.assign(again, weights)
    for one, other in zip([model, head], again, strict=True):
        np.testing.assert_array_equal(other(PIXELS), one(PIXELS))


def test_a_wrapper_of_two_models_is_made_again():
    pair = Pair(sequential(layers.Flatten(), layers.Dense(2)), sequential(layers.Dense(1)))
    pair.compile("adam")
    [again] = wire.build_apart(wire.describe([pair]))
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
def test_a_model_that_cannot_be_made_again_is_refused_before_the_first_batch(watch, layer, said):
    model = compiled(sequential(layer(3.0), layers.Flatten(), layers.Dense(10, name="logits")))
    before = [np.array(one) for one in model.get_weights()]
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as unused,
        pytest.raises(ValueError, match=f"(?s)`replay`.*{said}"),
    ):
        train(model, watch(executor=unused))
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_share_the_executor_and_pickles_have_none():
    with ProcessPoolExecutor(1, mp_context=SPAWN) as unused:
        callback = FeatureVisCallback(executor=unused)
        assert copy.copy(callback)._executor is unused
        assert copy.deepcopy(callback)._executor is unused
        assert pickle.loads(pickle.dumps(callback))._executor is None


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
def test_results_are_those_of_local_snapshots(watch, pool):
    callback = assert_same_training(watch, pool)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert (callback.history.seconds > 0).all()


@pytest.mark.acceptance
def test_so_are_real_images_places_health_and_floors(watch, pool):
    settings = {"probe_data": (PIXELS, LABELS), "accentuate": 1, "log_importance": True}
    callback = assert_same_training(watch, pool, objectives=mixed, **settings)
    images, _ = read_events(callback.log_dir)
    assert any(tag.startswith("feature_vis_place/") for tag in images)


def freezing():
    model = compiled()
    model.get_layer("conv1").trainable = False
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    return model


@pytest.mark.acceptance
@pytest.mark.parametrize("make", [own_code, subclassed, half, nested, freezing])
def test_so_are_those_of_other_networks(watch, pool, make):
    assert_same_training(watch, pool, make=make, probe_data=PIXELS)


@pytest.mark.acceptance
def test_so_are_those_of_functions_of_a_test(watch, pool):
    weights = np.linspace(0, 1, 10, dtype="float32")

    def objectives(model):
        score = lambda outputs: ops.mean(outputs * weights, axis=-1)  # noqa: E731
        return [Objective.custom(model, "logits", score), Objective.channel(model, "conv1", 2)]

    assert_same_training(
        watch, pool, objectives=objectives, regularizers=[lambda x: ops.mean(x, axis=(1, 2, 3))]
    )


def two_inputs():
    image, time_step = keras.Input((12, 10, 1), name="image"), keras.Input((4,), name="time")
    flat = layers.Concatenate()([layers.Flatten()(image), layers.Dense(5)(time_step)])
    model = keras.Model([image, time_step], layers.Dense(10, name="logits")(flat))
    return compiled(model)


@pytest.mark.acceptance
def test_so_are_those_with_fixed_inputs(watch, pool):
    times = np.ones((16, 4), "float32")
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        model, fixed = two_inputs(), {"time": np.arange(4.0)}
        callback = watch(executor=executor, fixed_inputs=fixed, on_error="raise")
        model.fit([PIXELS, times], LABELS, epochs=2, verbose=0, callbacks=[callback])
        found.append(callback)
    assert_same(*found)


@pytest.mark.acceptance
def test_so_are_those_of_a_quantised_network(watch, pool):
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        callback, model = watch(executor=executor, on_error="raise"), quantised()
        callback.set_model(model)
        callback.set_params({"epochs": 1})
        callback.on_train_begin()
        callback.on_epoch_begin(0)
        callback.on_epoch_end(0)
        callback.on_train_end()
        found.append(callback)
    assert_same(*found)


@pytest.mark.acceptance
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a strategy of TensorFlow's")
def test_so_are_those_of_a_mirrored_training(watch, pool):
    import tensorflow as tf

    def make():
        with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
            return compiled()

    assert_same_training(watch, pool, make=make)


@pytest.mark.acceptance
def test_any_worker_can_take_any_snapshot(watch):
    local = watch(probe_data=PIXELS)
    run(local, epochs=4)
    with ProcessPoolExecutor(2, mp_context=SPAWN) as both:
        # Both are there, and a large setup crosses only where it is asked for.
        list(both.map(time.sleep, [5, 5]))
        elsewhere = watch(probe_data=PIXELS, executor=both)
        small, remote._SMALL = remote._SMALL, 0
        try:
            run(elsewhere, Slow(), epochs=4)
        finally:
            remote._SMALL = small
    assert_same(local, elsewhere)


@pytest.mark.acceptance
def test_training_waits_once_too_many_bytes_wait(watch, pool):
    most, remote.MOST_WAITING = remote.MOST_WAITING, 1
    waiting = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            waiting.append(sum(not one.is_done for one in callback._pending))

    callback = watch(executor=pool)
    try:
        run(callback, Count(), epochs=4)
    finally:
        remote.MOST_WAITING = most
    assert max(waiting) <= 1
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]


@pytest.mark.acceptance
def test_a_listener_gets_arrays_and_a_replay_makes_no_use_of_it(watch, pool, tmp_path):
    told = []
    callback = watch(executor=pool, probe_data=PIXELS, on_snapshot=told.append)
    run(callback)
    assert [one.epoch for one in told] == [-1, 0, 1, 2]
    assert told[0].real_pictures[0].dtype == "uint8"
    model = compiled()
    model.save_weights(tmp_path / "1.weights.h5")
    pattern = str(tmp_path / "{epoch}.weights.h5")
    assert replay(watch(executor=pool), model, pattern, verbose=0).epochs.tolist() == [0]


# --- faults, each for real ---------------------------------------------------------------------


class Slow(keras.callbacks.Callback):
    """Waits at each epoch until the snapshots before are recorded or done."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(1)


class Once(keras.callbacks.Callback):
    """Calls a function at the end of one epoch, after the snapshot has been handed over."""

    def __init__(self, epoch, function):
        super().__init__()
        self._epoch, self._function = epoch, function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self._epoch:
            self._function()


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


def assert_disturbed(callback, weights, messages, lost, epochs=5):
    """Require undisturbed weights, every snapshot but the lost ones, and one message."""
    undisturbed = run(keras.callbacks.Callback(), epochs=epochs)
    for one, other in zip(weights, undisturbed, strict=True):
        np.testing.assert_array_equal(one, other)
    assert callback.history.skipped.tolist() == lost
    expected = [epoch for epoch in range(-1, epochs) if epoch not in lost]
    assert callback.history.epochs.tolist() == expected
    said = [one for one in messages if "taken here" in one]
    assert len(said) == 1, messages
    images, _ = read_events(callback.log_dir)
    assert [step for step, _ in images["feature_vis/Neuron#logits_0"]] == expected


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.acceptance
def test_a_worker_is_killed_in_the_middle_of_a_snapshot(watch):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as own:
        callback = watch(executor=own, steps=300)

        def kill():
            until(lambda: sum(not one.is_done for one in callback._pending) == 1)
            time.sleep(0.3)
            assert not callback._pending[-1].is_done
            [worker] = own._processes
            os.kill(worker, signal.SIGKILL)

        with logged() as messages:
            weights = run(callback, Once(2, kill), epochs=5)
    assert_disturbed(callback, weights, messages, lost=[2])
    local = watch(steps=300)
    run(local, epochs=5)
    np.testing.assert_array_equal(callback.history.images[:3], local.history.images[:3])


@pytest.mark.acceptance
def test_a_pool_is_broken_before_training(watch):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as own:
        assert own.submit(os._exit, 1).exception() is not None
        callback = watch(executor=own)
        with logged() as messages:
            weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])


@pytest.mark.acceptance
def test_a_pool_is_shut_down_by_its_owner(watch):
    own = ProcessPoolExecutor(1, mp_context=SPAWN)
    callback = watch(executor=own)
    with logged() as messages:
        shut = Once(1, lambda: own.shutdown(wait=True, cancel_futures=True))
        weights = run(callback, shut, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])


def pretend(version):
    """Make a worker one of another version."""
    import featviz_callback

    featviz_callback.__version__ = version


@pytest.mark.acceptance
def test_a_worker_of_another_version(watch):
    with ProcessPoolExecutor(1, SPAWN, pretend, ("0.0.1",)) as own:
        callback = watch(executor=own)
        with logged() as messages:
            weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])
    assert any("0.0.1" in one for one in messages)


class Inline:
    """An executor that runs everything in this process, as some do in threads."""

    def __init__(self):
        self._threads = ThreadPoolExecutor(1)

    def submit(self, function, *arguments):
        return self._threads.submit(function, *arguments)


@pytest.mark.acceptance
def test_a_worker_that_is_a_thread_of_this_process(watch):
    callback = watch(executor=Inline())
    with logged() as messages:
        weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])
    assert any("threads of this process" in one for one in messages)


def interrupt(*_):
    raise KeyboardInterrupt


class Interrupting:
    """An executor whose worker gets Ctrl-C at one snapshot."""

    def __init__(self, pool, at):
        self._pool, self._left = pool, at

    def submit(self, function, *arguments):
        self._left -= function is remote.work
        return self._pool.submit(function if self._left >= 0 else interrupt, *arguments)


@pytest.mark.acceptance
def test_ctrl_c_in_a_worker_does_not_end_training(watch, pool):
    callback = watch(executor=Interrupting(pool, at=2))
    with logged() as messages:
        weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[1])


def at_once(orders):
    """Take snapshots in several threads of one worker."""
    with ThreadPoolExecutor(len(orders)) as threads:
        return list(threads.map(remote.work, orders))


@pytest.mark.acceptance
def test_threads_of_one_worker_take_snapshots_one_after_the_other(watch, pool):
    orders, submit = [], pool.submit

    class Noting:
        def submit(self, function, *arguments):
            if function is remote.work:
                orders.append(arguments[0])
            return submit(function, *arguments)

    callback = watch(executor=Noting())
    run(callback)
    found = pool.submit(at_once, orders).result()
    for taken, images in zip(found, callback.history.images, strict=True):
        np.testing.assert_array_equal(taken.observation.result.images, images)


@pytest.mark.acceptance
def test_a_training_that_goes_on_later(watch, pool):
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        model, callback = compiled(), watch(executor=executor, probe_data=PIXELS)
        train(model, callback, epochs=2)
        # Another process has only the event files.
        later = FeatureVisCallback(
            neurons, steps=2, log_dir=callback.log_dir, probe_data=PIXELS, executor=executor
        )
        train(model, later, epochs=4, initial_epoch=2)
        found.append(later)
    assert found[1].history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert_same(*found)


@pytest.mark.acceptance
def test_deep_copies_train_with_one_executor(watch, pool):
    callback, local = watch(executor=pool), watch()
    run(local)
    for twin in (copy.deepcopy(callback), copy.deepcopy(callback)):
        run(twin)
        np.testing.assert_array_equal(twin.history.images, local.history.images)
    assert len(callback.history) == 0


@pytest.mark.acceptance
def test_a_model_that_is_built_late_and_cannot_be_made_again(watch):
    def make():
        return compiled(
            keras.Sequential([Forgetful(3.0), layers.Flatten(), layers.Dense(10, name="logits")])
        )

    with ProcessPoolExecutor(1, mp_context=SPAWN) as unused:
        callback = watch(executor=unused)
        with logged() as messages:
            run(callback, make=make)
    assert sum("taken here" in one for one in messages) == 1
    assert callback.history.epochs[-1] == 2


CTRL_C = """
    import multiprocessing, signal, sys, time
    from concurrent.futures import ProcessPoolExecutor
    import keras
    from featviz_callback import FeatureVisCallback
    from tests.conftest import compiled, train
    from tests.monitoring.test_remote import neurons

    class Tell(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            print("epoch", epoch, flush=True)
            time.sleep(float(sys.argv[2]))

    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        if sys.argv[3] == "started":
            pool.submit(abs, 1).result()
            from featviz_callback.monitoring.workers import introduce
            pool.submit(introduce).result()
        callback = FeatureVisCallback(neurons, sys.argv[1], steps=2, executor=pool)
        try:
            train(compiled(), callback, Tell(), epochs=100)
        except KeyboardInterrupt:
            print("interrupted", len(callback.history), flush=True)
    print("over", flush=True)
"""


@pytest.mark.acceptance
@pytest.mark.parametrize("moment", ["starting", "started"])
def test_ctrl_c_ends_fit_also_while_a_worker_starts(tmp_path, moment):
    arguments = [tmp_path / "logs", "0.5", moment]
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CTRL_C), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wanted = "epoch 0\n" if moment == "starting" else "epoch 12\n"
    while child.stdout.readline() != wanted:
        assert child.poll() is None, child.stderr.read()[-3000:]
    # As a terminal does: to the process and to its workers.
    os.killpg(child.pid, signal.SIGINT)
    rest, errors = child.communicate(timeout=120)
    assert "interrupted" in rest, errors[-3000:]
    assert "over" in rest, errors[-3000:]
    if moment == "started":
        assert int(rest.split("interrupted ")[1].split()[0]) > 2


# --- Dask ------------------------------------------------------------------------------------


@pytest.mark.acceptance
def test_dask_takes_snapshots(watch):
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    local = watch(probe_data=PIXELS)
    run(local)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        elsewhere = watch(probe_data=PIXELS, executor=client.get_executor(pure=False))
        run(elsewhere)
    assert_same(local, elsewhere)
