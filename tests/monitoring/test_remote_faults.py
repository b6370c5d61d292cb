"""Faults of workers and pools, each for real: training never notices."""

import copy
import gc
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback
from featviz_callback.monitoring import life, remote, workers
from tests.conftest import PIXELS, compiled, read_events, train
from tests.monitoring.test_remote import SPAWN, Forgetful, assert_same, logged, neurons, run

pytestmark = pytest.mark.acceptance


class Once(keras.callbacks.Callback):
    """Calls a function at the end of one epoch, after the snapshot has been handed over."""

    def __init__(self, epoch, function):
        super().__init__()
        self._epoch, self._function = epoch, function

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self._epoch:
            self._function()


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
    images, _ = read_events(callback.log_dir / "feature_vis")
    assert [step for step, _ in images["feature_vis/Neuron#logits_0"]] == expected


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_worker_is_killed_in_the_middle_of_a_snapshot(watch_apart):
    # A step takes 20 ms on torch, and a snapshot has to take longer than the wait below.
    steps = 30 if keras.backend.backend() == "torch" else 600
    with ProcessPoolExecutor(1, mp_context=SPAWN) as own:
        callback = watch_apart(executor=own, steps=steps)

        def kill():
            # A worker that starts beside others may take long.
            until(lambda: sum(not one.is_done for one in callback._pending) == 1, seconds=180)
            time.sleep(0.1)
            assert not callback._pending[-1].is_done
            [worker] = own._processes
            os.kill(worker, signal.SIGKILL)

        with logged() as messages:
            weights = run(callback, Once(2, kill), epochs=5)
    assert_disturbed(callback, weights, messages, lost=[2])
    local = watch_apart(steps=steps)
    run(local, epochs=5)
    kept = local.history.images[local.history.epochs != 2]
    np.testing.assert_array_equal(callback.history.images, kept)


def test_a_pool_is_broken_before_training(watch_apart):
    with ProcessPoolExecutor(1, mp_context=SPAWN) as own:
        assert own.submit(os._exit, 1).exception() is not None
        callback = watch_apart(executor=own)
        with logged() as messages:
            weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])


def test_a_pool_is_shut_down_by_its_owner(watch_apart):
    own = ProcessPoolExecutor(1, mp_context=SPAWN)
    callback = watch_apart(executor=own)
    with logged() as messages:
        shut = Once(1, lambda: own.shutdown(wait=True, cancel_futures=True))
        weights = run(callback, shut, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])


def test_a_busy_pool_is_shut_down_by_its_owner(watch_apart):
    own = ProcessPoolExecutor(1, mp_context=SPAWN)
    callback = watch_apart(executor=own)

    def occupy():
        until(lambda: all(one.is_done for one in callback._pending))
        # A pool takes two more than its worker runs, which nobody can cancel.
        for _ in range(4):
            own.submit(time.sleep, 1)

    def shut():
        until(lambda: len(own._pending_work_items) >= 4)
        own.shutdown(wait=False, cancel_futures=True)

    with logged() as messages:
        weights = run(callback, Once(0, occupy), Once(1, shut), epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])


def pretend(version):
    """Make a worker one of another version."""
    import featviz_callback

    featviz_callback.__version__ = version


def test_a_worker_of_another_version(watch_apart):
    with ProcessPoolExecutor(1, SPAWN, pretend, ("0.0.1",)) as own:
        callback = watch_apart(executor=own)
        with logged() as messages:
            weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])
    assert any("0.0.1" in one for one in messages)


class Mixed:
    """An executor of two workers, the second of which gets all snapshots."""

    def __init__(self, greeting, taking):
        self._greeting, self._taking = greeting, taking

    def submit(self, function, *arguments):
        pool = self._greeting if function is workers.greet else self._taking
        return pool.submit(function, *arguments)


def test_one_of_several_workers_is_of_another_version(watch_apart, pool):
    with ProcessPoolExecutor(1, SPAWN, pretend, ("0.0.1",)) as old:
        callback = watch_apart(executor=Mixed(pool, old))
        with logged() as messages:
            weights = run(callback, epochs=2)
    assert_disturbed(callback, weights, messages, lost=[], epochs=2)
    assert any("{'featviz_callback': '0.0.1'}" in one for one in messages)


class Inline:
    """An executor that runs everything in this process, as some do in threads."""

    def __init__(self):
        self._threads = ThreadPoolExecutor(1)

    def submit(self, function, *arguments):
        return self._threads.submit(function, *arguments)


def test_a_worker_that_is_a_thread_of_this_process(watch_apart):
    callback = watch_apart(executor=Inline())
    with logged() as messages:
        weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[])
    assert any("threads of this process" in one for one in messages)


class Refusing:
    """An executor that takes nothing."""

    def submit(self, *arguments):
        raise RuntimeError("there is no worker")


def test_what_other_threads_log_while_a_snapshot_is_taken_here_is_not_held_back(watch_apart):
    calls = []

    def penalty(images):
        calls.append(1)
        for _ in range(2):
            logger = logging.getLogger("featviz_callback")
            thread = threading.Thread(target=logger.warning, args=["of another thread"])
            thread.start()
            thread.join()
        return ops.mean(images, axis=(1, 2, 3))

    callback = watch_apart(executor=Refusing(), regularizers=[penalty], on_error="raise")
    with logged() as messages:
        run(callback, epochs=1)
    assert callback.history.epochs.tolist() == [-1, 0]
    assert len(calls) > 0
    assert messages.count("of another thread") == 2 * len(calls)


class Never:
    """An executor whose worker never comes, as in the queue of a cluster."""

    def submit(self, *arguments):
        return Future()


def test_a_worker_that_never_comes_is_waited_for_in_vain_once(watch_apart, monkeypatch):
    monkeypatch.setattr(remote, "TOLD_AFTER", 0.2)
    monkeypatch.setattr(remote, "PATIENCE", 1.0)
    callback = watch_apart(executor=Never())
    with logged() as messages:
        weights = run(callback, epochs=3)
    assert_disturbed(callback, weights, messages, lost=[], epochs=3)
    assert sum("waits for 4 snapshots" in one and "Never" in one for one in messages) == 1
    assert any("none has begun within 1.2 seconds" in one for one in messages)


def test_a_worker_that_never_comes_is_told_while_training_goes_on(watch_apart, monkeypatch):
    monkeypatch.setattr(remote, "TOLD_AFTER", 0.2)
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    callback, said = watch_apart(executor=Never()), []
    with logged() as messages:
        slow = [Once(epoch, lambda: time.sleep(0.5)) for epoch in range(3)]
        run(callback, *slow, Once(3, lambda: said.extend(messages)), epochs=4)
    assert sum("No worker of `executor`, a Never, has begun" in one for one in said) == 1


@pytest.fixture
def impatient(monkeypatch):
    """Wait two seconds for a sign of life."""
    monkeypatch.setattr(life, "LEAST", 2.0)
    monkeypatch.setattr(life, "TIMES", 0)
    monkeypatch.setattr(life, "_EVERY", 0.2)


def test_a_pool_that_has_greeted_and_never_answers_is_given_up(watch_apart, pool, impatient):
    callback = watch_apart(executor=Mixed(pool, Never()))
    with logged() as messages:
        weights = run(callback, epochs=3)
    assert_disturbed(callback, weights, messages, lost=[-1], epochs=3)
    assert sum("no worker shows a sign of life" in one for one in messages) == 1


def slowly(wait, seconds, function, *arguments):
    """Let a worker take longer."""
    if function is remote.work:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            wait()
    return function(*arguments)


def busily():
    """Use the processor."""
    sum(range(10**5))


def idly():
    time.sleep(0.1)


class SlowPool(ProcessPoolExecutor):
    """A pool whose worker takes at least some seconds for each snapshot."""

    seconds = 0

    def submit(self, function, *arguments):
        return super().submit(slowly, busily, self.seconds, function, *arguments)


def test_a_worker_that_is_slow_is_waited_for_and_one_that_stands_still_is_not(
    watch_apart, impatient
):
    with SlowPool(1, mp_context=SPAWN) as own:
        callback = watch_apart(executor=own)

        def wait_for_all():
            until(lambda: all(one.is_done for one in callback._pending))

        def be_slow():
            wait_for_all()
            own.seconds = 6

        def stop():
            began = time.monotonic()
            wait_for_all()
            assert time.monotonic() - began > 2 * life.LEAST
            assert callback.history.skipped.tolist() == []
            own.seconds = 0

        def stand_still():
            wait_for_all()
            [worker] = own._processes
            os.kill(worker, signal.SIGSTOP)

        with logged() as messages:
            steps = [Once(0, be_slow), Once(1, stop), Once(2, stand_still)]
            weights = run(callback, *steps, epochs=5)
        [worker] = own._processes
        os.kill(worker, signal.SIGKILL)
    assert_disturbed(callback, weights, messages, lost=[3])


class Pruned(Exception):
    pass


def prune():
    raise Pruned


def hold(path):
    """Keep a worker busy until a file is there."""
    until(lambda: os.path.exists(path))


def interrupt_soon():
    """Press Ctrl-C while training waits."""
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()


@pytest.mark.parametrize(
    ("end", "error", "epochs"), [(prune, Pruned, 4), (interrupt_soon, KeyboardInterrupt, 3)]
)
def test_training_ends_before_results_are_in(watch_apart, tmp_path, end, error, epochs):
    release = tmp_path / "release"
    # A process in the background begins without it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def train_twice(callback, end, occupy=lambda: None):
        keras.utils.set_random_seed(1)
        model = compiled()

        def fit():
            train(model, callback, Once(0, occupy), Once(2, end), epochs=epochs)
            # Where nothing waits, Ctrl-C comes after the end.
            time.sleep(60)

        with pytest.raises(error):
            fit()
        yield model
        # It would take the last one again, if that was lost.
        train(model, callback, initial_epoch=3, epochs=4)
        yield model

    try:
        undisturbed, local = keras.callbacks.Callback(), watch_apart()
        [expected, _], [_, _] = (list(train_twice(one, end)) for one in (undisturbed, local))
        with ProcessPoolExecutor(1, mp_context=SPAWN) as own:
            callback = watch_apart(executor=own)

            def occupy():
                until(lambda: all(one.is_done for one in callback._pending))
                own.submit(hold, release)

            fits = train_twice(callback, end, occupy)
            next(fits)
            assert callback.history.epochs.tolist() == [-1, 0]
            release.touch()
            model = next(fits)
    finally:
        signal.signal(signal.SIGINT, before)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert callback.history.skipped.tolist() == []
    np.testing.assert_array_equal(callback.history.images, local.history.images)
    np.testing.assert_array_equal(callback.history.drift, local.history.drift)
    for one, other in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "executor", [lambda _: Refusing(), lambda _: Never(), lambda pool: Mixed(pool, Never())]
)
def test_a_training_that_an_error_ends_leaves_neither_thread_nor_model(watch_apart, pool, executor):
    def threads():
        return sum(one.name == "featviz_callback" for one in threading.enumerate())

    before = threads()

    def fit():
        model, callback = compiled(), watch_apart(executor=executor(pool))
        with pytest.raises(Pruned):
            train(model, callback, Once(1, prune), epochs=4)
        assert threads() == before + 1
        return weakref.ref(model)

    model = fit()
    # The thread ends as soon as the callback is gone.
    until(lambda: gc.collect() >= 0 and threads() == before)
    assert model() is None


def interrupt(*_):
    raise KeyboardInterrupt


class Interrupting:
    """An executor whose worker gets Ctrl-C at one snapshot."""

    def __init__(self, pool, at):
        self._pool, self._left = pool, at

    def submit(self, function, *arguments):
        self._left -= function is remote.work
        return self._pool.submit(function if self._left >= 0 else interrupt, *arguments)


def test_ctrl_c_in_a_worker_does_not_end_training(watch_apart, pool):
    callback = watch_apart(executor=Interrupting(pool, at=2))
    with logged() as messages:
        weights = run(callback, epochs=5)
    assert_disturbed(callback, weights, messages, lost=[1])


def test_the_noise_floor_is_measured_again_if_the_first_snapshot_is_lost(watch_apart, pool):
    callback = watch_apart(executor=Interrupting(pool, at=0))
    with logged() as messages:
        weights = run(callback, epochs=3)
    assert_disturbed(callback, weights, messages, lost=[-1], epochs=3)
    known = np.isfinite(callback.history.noise_floor).all(axis=1)
    assert known.tolist() == [True, False, True]


def at_once(orders):
    """Take snapshots in several threads of one worker."""
    with ThreadPoolExecutor(len(orders)) as threads:
        return list(threads.map(remote.work, orders))


def test_threads_of_one_worker_take_snapshots_one_after_the_other(watch_apart, pool):
    orders, submit = [], pool.submit

    class Noting:
        def submit(self, function, *arguments):
            if function is remote.work:
                orders.append(arguments[0])
            return submit(function, *arguments)

    callback = watch_apart(executor=Noting())
    run(callback)
    found = pool.submit(at_once, orders).result()
    for taken, images in zip(found, callback.history.images, strict=True):
        np.testing.assert_array_equal(taken.observation.result.images, images)


def test_a_training_that_goes_on_later(watch_apart, pool, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    found = []
    for executor in (None, pool):
        keras.utils.set_random_seed(1)
        model, callback = compiled(), watch_apart(executor=executor, probe_data=PIXELS)
        train(model, callback, epochs=2)
        # Another process has only the event files.
        later = FeatureVisCallback(
            neurons, steps=2, log_dir=callback.log_dir, probe_data=PIXELS, executor=executor
        )
        train(model, later, epochs=4, initial_epoch=2)
        found.append(later)
    assert found[1].history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert_same(*found)
    # Its run is known by its weights.
    assert "Training begins at" not in caplog.text


def test_deep_copies_train_with_one_executor(watch_apart, pool):
    callback, local = watch_apart(executor=pool), watch_apart()
    run(local)
    for twin in (copy.deepcopy(callback), copy.deepcopy(callback)):
        run(twin)
        np.testing.assert_array_equal(twin.history.images, local.history.images)
    assert len(callback.history) == 0


def test_a_model_that_is_built_late_and_cannot_be_made_again(watch_apart):
    def make():
        return compiled(
            keras.Sequential([Forgetful(3.0), layers.Flatten(), layers.Dense(10, name="logits")])
        )

    with ProcessPoolExecutor(1, mp_context=SPAWN) as unused:
        callback = watch_apart(executor=unused)
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

    # A process in the background begins without it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

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


class Cluster:
    """Dask's scheduler and one worker, each a process of its own, and an executor.

    A worker that is killed here has no nanny that would start another one.
    """

    def __init__(self, folder):
        from distributed import Client

        self.seconds, self._children = 0, []
        self.scheduler = self._start("scheduler", folder, "--host", "127.0.0.1", "--port", "0")
        until((folder / "dask.json").exists)
        self.worker = self._start("worker", folder, "--nthreads", "1", "--no-nanny")
        self._client = Client(scheduler_file=str(folder / "dask.json"))
        self._executor = self._client.get_executor(pure=False)

    def _start(self, kind, folder, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        command += ["--scheduler-file", str(folder / "dask.json"), *arguments]
        with (folder / f"{kind}.txt").open("w") as log:
            self._children.append(subprocess.Popen(command, stdout=log, stderr=log))
        return self._children[-1]

    def submit(self, function, *arguments):
        return self._executor.submit(slowly, idly, self.seconds, function, *arguments)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self._children:
            child.kill()
            child.wait()
        self._client.close(timeout=1)


@pytest.mark.parametrize("of", ["scheduler", "worker"])
def test_dask_is_killed_in_the_middle(watch_apart, tmp_path, impatient, of):
    pytest.importorskip("distributed", reason="Dask is not installed")
    with Cluster(tmp_path) as cluster:
        callback = watch_apart(executor=cluster)

        def wait_for_all():
            until(lambda: all(one.is_done for one in callback._pending))

        def be_slow():
            wait_for_all()
            # A worker that sleeps has a heart.
            cluster.seconds = 5

        def kill():
            # Of the slow one nobody says that it is lost.
            until(lambda: len(callback._pending) == 1)
            assert callback.history.skipped.tolist() == []
            getattr(cluster, of).kill()

        with logged() as messages:
            weights = run(
                callback, Once(0, be_slow), Once(1, wait_for_all), Once(2, kill), epochs=5
            )
    # Dask cancels what its scheduler had, and then it is taken here. For a worker it waits.
    assert_disturbed(callback, weights, messages, lost=[2] if of == "worker" else [])
