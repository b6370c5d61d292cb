"""Tests of faults in long runs: each fault is real.

Every test asserts that training ends with the weights of an undisturbed training, and
that TensorBoard still reads what was logged before.
"""

import contextlib
import copy
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.backend import is_out_of_memory
from featviz_callback.images.parameterizations import Fourier
from featviz_callback.images.transformations import Jitter
from featviz_callback.monitoring import messages
from tests.conftest import (
    accumulator,
    compiled,
    read_events,
    sequential,
    train,
)

pytestmark = pytest.mark.acceptance


def neurons(model):
    return Objective.neuron(model, "logits", range(3))


NAMES = [f"Neuron#logits_{i}" for i in range(3)]


@pytest.fixture
def watch(tmp_path):
    """Make callbacks of few steps with the default `on_error`."""

    def make(objectives=neurons, **settings):
        settings = {"steps": 2, "log_dir": tmp_path / "logs", **settings}
        return FeatureVisCallback(objectives, **settings)

    return make


@functools.cache
def undisturbed(epochs, *others):
    """Return the weights of a training without the callback."""
    keras.utils.set_random_seed(1)
    model = compiled()
    train(model, *(other() for other in others), epochs=epochs)
    return [np.array(weights) for weights in model.get_weights()]


def run(*callbacks, epochs=4, others=()):
    """Train, and assert that the weights are those of the undisturbed training."""
    expected = undisturbed(epochs, *others)
    keras.utils.set_random_seed(1)
    model = compiled()
    train(model, *(other() for other in others), *callbacks, epochs=epochs)
    assert_weights(model, expected)
    return model


def assert_weights(model, expected):
    for one, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def logged(folder, name=NAMES[0], run="."):
    """Return the steps of a target's pictures, after decoding each picture."""
    images, _ = read_events(folder / "logs" / run / "feature_vis")
    return [step for step, _ in images[f"feature_vis/{name}"]]


@contextlib.contextmanager
def failures():
    """Collect the callback's own warnings."""
    warned = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield warned
    warned += [str(w.message) for w in caught if "FeatureVisCallback" in str(w.message)]


class At(keras.callbacks.Callback):
    """A callback that runs an action at the beginning of some epochs."""

    def __init__(self, **actions):
        super().__init__()
        self.actions = {int(epoch[1:]): action for epoch, action in actions.items()}

    def on_epoch_begin(self, epoch, logs=None):
        self.actions.get(epoch, lambda: None)()


# --- the disk ---------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A separate file system of 256 KiB, if the machine allows one."""
    folder = tmp_path / "logs"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a file system needs root, and a container that allows it")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    with contextlib.suppress(OSError), open(folder / "others", "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def test_a_full_disk(small_disk, watch, tmp_path):
    others = At(_2=lambda: fill(small_disk), _4=lambda: (small_disk / "others").unlink())
    callback = watch(on_error="warn")
    with failures() as warned:
        run(callback, others, epochs=6)
    [message] = warned
    assert "No space left" in message
    assert callback.history.epochs.tolist() == list(range(-1, 6))
    for name in NAMES:
        assert {-1, 0, 1, 4, 5} <= set(logged(tmp_path, name))
    assert logged(tmp_path, "evolution") == [5]


def test_a_quota_reached(watch, tmp_path):
    """Stand in for a full disk where none can be mounted: files cannot grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit():
        [path] = (tmp_path / "logs/feature_vis").glob("*tfevents*")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))

    def lift():
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    try:
        with failures() as warned:
            run(watch(), At(_2=limit, _4=lift), epochs=6)
    finally:
        lift()
    [message] = warned
    assert "File too large" in message
    for name in NAMES:
        assert logged(tmp_path, name) == [-1, 0, 1, 4, 5]


def test_a_log_directory_removed_in_the_middle(watch, tmp_path):
    callback = watch(on_error="raise")
    run(callback, At(_2=lambda: shutil.rmtree(tmp_path / "logs")))
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert logged(tmp_path) == [2, 3]
    assert logged(tmp_path, "evolution") == [3]


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a folder that not even root may use")
def test_a_directory_that_cannot_be_written(watch):
    callback = watch(log_dir="/sys/logs")
    with failures() as warned:
        run(callback)
    assert len(warned) == 1
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert callback.history.strip().size


# --- the process ------------------------------------------------------------------------


def start(code, *arguments):
    """Start a process with the same backend, in the root of the repository."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


WRITE_FOR_EVER = """
    import itertools, sys
    import numpy as np
    from featviz_callback.records.history import History
    from featviz_callback.records.result import Result
    from featviz_callback.tensorboard.summaries import EventFile, write_snapshot

    events, history = EventFile(sys.argv[1]), History(most_bytes=1)
    for epoch in itertools.count():
        images = np.random.default_rng(epoch).random((1, 300, 300, 3), "float32")
        result = Result(images, ["a"], np.ones(1), np.ones((1, 1)), ["ok"], (0.0, 1.0))
        write_snapshot(events, history.add(epoch, result))
"""


def test_a_kill_while_writing(tmp_path):
    """Kill a process that spends nearly all its time writing."""
    writer = start(WRITE_FOR_EVER, tmp_path / "logs")
    while writer.poll() is None and size_of(tmp_path) < 3_000_000:
        time.sleep(0.01)
    writer.kill()
    writer.wait()
    assert size_of(tmp_path) >= 3_000_000, writer.stdout.read()
    images, _ = read_events(tmp_path / "logs/feature_vis")
    steps = [step for step, _ in images["feature_vis/a"]]
    assert steps == list(range(len(steps)))
    assert len(steps) >= 8
    for step, picture in images["feature_vis/a"]:
        expected = np.random.default_rng(step).random((1, 300, 300, 3), "float32")[0] * 255
        np.testing.assert_allclose(picture, expected, atol=0.501)


def size_of(folder):
    return sum(path.stat().st_size for path in (folder / "logs").rglob("*tfevents*"))


TRAIN = """
    import logging, os, signal, sys
    import keras
    from featviz_callback import FeatureVisCallback, Objective
    from tests.conftest import compiled, train

    logging.getLogger("featviz_callback").setLevel("WARNING")
    folder, die_after = sys.argv[1], int(sys.argv[2])

    class Die(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == die_after:
                os.kill(os.getpid(), signal.SIGKILL)

    model = compiled()
    watch = FeatureVisCallback(
        Objective.neuron(model, "logits", range(3)), folder + "/logs", steps=2, on_error="raise"
    )
    backup = keras.callbacks.BackupAndRestore(folder + "/backup")
    train(model, watch, Die(), backup, epochs=5, shuffle=False)
    model.save_weights(folder + "/end.weights.h5")
    watch.history.save(folder + "/history.npz")
"""


def test_a_killed_run_resumed(tmp_path):
    """Die after a snapshot and before the backup of its epoch, so that the epoch is run again."""
    first = start(TRAIN, tmp_path, 2)
    first.wait()
    assert first.returncode == -signal.SIGKILL, first.stdout.read()
    assert logged(tmp_path) == [-1, 0, 1, 2]
    second = start(TRAIN, tmp_path, -1)
    second.wait()
    said = second.stdout.read()
    assert second.returncode == 0, said
    assert "Images for the model" in said
    assert logged(tmp_path) == [-1, 0, 1, 2, 3, 4]
    # The weights of the backup tell the run.
    assert "Training begins at" not in said
    with np.load(tmp_path / "history.npz") as history:
        assert history["epochs"].tolist() == [-1, 0, 1, 2, 3, 4]
        assert np.isfinite(history["drift"][1:]).all()
    whole, resumed = compiled(), compiled()
    train(whole, epochs=5, shuffle=False)
    resumed.load_weights(tmp_path / "end.weights.h5")
    assert_weights(resumed, whole.get_weights())


class Use(Jitter):
    """A random transformation that runs an action at its n-th use."""

    def __init__(self, number, action):
        super().__init__()
        object.__setattr__(self, "number", number)
        object.__setattr__(self, "action", action)
        object.__setattr__(self, "uses", [])

    def move(self, rng, rows, columns):
        self.uses.append(1)
        if len(self.uses) == self.number:
            self.action()
        return super().move(rng, rows, columns)


def one_neuron(model):
    return Objective.neuron(model, "logits", 0)


@pytest.fixture
def interruptible():
    """Restore Ctrl-C, which processes ignore that a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_during_a_snapshot(watch, tmp_path):
    """Raise the user's Ctrl-C during the snapshot after epoch 1."""
    callback = watch(one_neuron, transformations=[Use(4, lambda: signal.raise_signal(2))])
    model = compiled()
    keras.utils.set_random_seed(1)
    with pytest.raises(KeyboardInterrupt):
        train(model, callback, epochs=9)
    assert_weights(model, undisturbed(2))
    assert callback.history.epochs.tolist() == [-1, 0]
    assert logged(tmp_path) == [-1, 0]
    assert logged(tmp_path, "evolution") == [1]
    if Path("/proc/self/fd").is_dir():
        opened = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        assert not [path for path in opened if str(tmp_path) in path]


# --- the network ------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_numbers(value, watch, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")

    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                kernel = self.model.get_layer("conv1").kernel
                kernel.assign(kernel * 0 + value)

    callback = watch(on_error="raise")
    run(callback, others=(Spoil,))
    assert callback.history.status[:3].tolist() == [["ok"] * 3] * 3
    assert callback.history.status[3:].tolist() == [["nan"] * 3] * 2
    messages = [r.getMessage() for r in caplog.records if "values_range" not in r.getMessage()]
    assert messages == [
        "Epoch 2: these have a score or a gradient that is not a finite number (nan): "
        + ", ".join(NAMES)
    ]
    assert np.isfinite(callback.history.images).all()
    assert logged(tmp_path) == [-1, 0, 1, 2, 3]
    _, scalars = read_events(tmp_path / "logs/feature_vis")
    # Infinite weights saturate the activation: it has a score, but no gradient.
    steps = [-1, 0, 1] if np.isnan(value) else [-1, 0, 1, 2, 3]
    assert [s for s, _ in scalars[f"feature_vis_score/{NAMES[0]}"]] == steps
    assert [v for _, v in scalars[f"feature_vis_status/{NAMES[0]}"]] == [0, 0, 0, 3, 3]


def rename(model):
    model.get_layer("logits").name = "other"


def replace_layers(model):
    model.pop()
    model.add(layers.Dense(10, name="other", kernel_initializer="zeros"))
    compiled(model)


@pytest.mark.parametrize("change", [rename, replace_layers])
@pytest.mark.parametrize("made_anew", [True, False], ids=["a function", "an objective"])
def test_a_network_changed_between_two_fits(change, made_anew, watch, tmp_path):
    def twice(*callbacks):
        keras.utils.set_random_seed(1)
        model = compiled()
        train(model, *(make(model) for make in callbacks), epochs=2)
        change(model)
        train(model, *(make(model) for make in callbacks), epochs=2)
        return model

    kept = []

    def make(model):
        if not kept:
            objectives = (lambda m: Objective.neuron(m, -1, range(3))) if made_anew else neurons
            kept.append(watch(objectives if made_anew else objectives(model)))
        return kept[0]

    with failures() as warned:
        watched = twice(make)
    assert_weights(watched, twice().get_weights())
    assert logged(tmp_path)[:3] == [-1, 0, 1]
    if made_anew:
        assert not warned
        assert logged(tmp_path, "Neuron#other_0", run="run 2") == [0, 1]
    else:
        [message] = warned
        assert "'logits'" in message
        assert kept[0].history.epochs.tolist() == [-1, 0, 1]


def shrink(model):
    """Replace the last convolution by one of two channels, and the logits to fit."""
    for _ in range(3):
        model.pop()
    model.add(layers.Conv2D(2, 3, name="conv2", kernel_initializer="zeros"))
    model.add(layers.Flatten(name="flatten"))
    model.add(layers.Dense(10, name="logits", kernel_initializer="zeros"))
    compiled(model)


@pytest.mark.parametrize(
    ("make", "gone"),
    [
        (
            lambda m: Objective.channel(m, "conv2", [1, 2, 5]),
            ["Channel#conv2_2", "Channel#conv2_5"],
        ),
        (lambda m: Objective.neuron(m, "conv2", [(0, 0, 0), (7, 5, 5)]), ["Neuron#conv2_7_5_5"]),
        # The flat index of (0, 0, 3) still exists, at (0, 1, 1).
        (lambda m: Objective.neuron(m, "conv2", [(0, 0, 1), (0, 0, 3)]), ["Neuron#conv2_0_0_3"]),
        (lambda m: Objective.direction(m, "conv2", np.ones(6)), ["Direction#conv2_0"]),
    ],
    ids=["channel", "neuron", "neuron of a smaller index", "direction"],
)
def test_a_layer_that_shrank_between_two_fits(make, gone, watch, tmp_path):
    """A warning names the units that are gone, and nothing is drawn of them."""

    def twice(*callbacks):
        keras.utils.set_random_seed(1)
        model = compiled()
        made = [one(model) for one in callbacks]
        train(model, *made, epochs=2)
        shrink(model)
        train(model, *made, epochs=2)
        return model, made

    with failures() as warned:
        model, [callback] = twice(lambda model: watch(make(model)))
    assert_weights(model, twice()[0].get_weights())
    [message] = warned
    assert ", ".join(gone) in message
    assert "was changed after its objectives were made" in message
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    assert logged(tmp_path, callback.history.names[0]) == [-1, 0, 1]


# --- memory -----------------------------------------------------------------------------


def greedy(limit, allocates=True):
    """Make a score that allocates 256 TiB for more images than the limit, or fails as that does.

    TensorFlow waits ten seconds for memory before it fails.
    """

    def score(outputs):
        if not allocates and outputs.shape[0] > limit:
            raise MemoryError
        size = 2**46 if outputs.shape[0] > limit else 1
        large = ops.sort(ops.broadcast_to(outputs[0, 0, 0, 0], (size,)))
        return outputs[:, 0, 0, 0] + 1e-30 * ops.max(large)

    return lambda model: (
        Objective.custom(model, "conv1", score) + Objective.channel(model, "conv2", range(6))
    )


def test_out_of_memory_halves_the_number_of_images_at_once(watch, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    # Of one start, which spares what scoring many would take.
    of_another = watch(log_dir=tmp_path / "before", parameterization=Fourier())
    run(of_another)
    callback = watch(greedy(limit=3), on_error="raise", parameterization=Fourier())
    run(callback)
    warned = [r.getMessage() for r in caplog.records if "memory" in r.getMessage()]
    assert len(warned) == 1
    assert "3 images at a time" in warned[0]
    assert "`batch_size`" in warned[0]
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert logged(tmp_path, callback.history.names[0]) == [-1, 0, 1, 2, 3]
    # Another model of the same shape has all the memory that it had.
    later = watch(log_dir=tmp_path / "after", parameterization=Fourier())
    run(later)
    np.testing.assert_array_equal(later.history.images, of_another.history.images)


def test_out_of_memory_skips_a_snapshot_that_half_does_not_cure(watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    # Of one start, which spares what scoring many would take.
    callback = watch(greedy(limit=2, allocates=False), parameterization=Fourier())
    with failures() as warned:
        run(callback)
    [message] = warned
    assert "Training goes on" in message
    # The next snapshot halves again, and succeeds.
    assert callback.history.epochs.tolist() == [0, 1, 2, 3]


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(ValueError("no such layer: memory"))


# --- functions and names of users -------------------------------------------------------


def failing(*_):
    raise ZeroDivisionError("of the user's own")


@pytest.mark.parametrize(
    "settings",
    [
        {"objectives": lambda m: Objective.custom(m, "conv1", failing)},
        {"transformations": [failing]},
        {"regularizers": [failing]},
    ],
    ids=["objective", "transformation", "regularizer"],
)
def test_an_exception_in_a_function_of_the_user(settings, watch):
    callback = watch(**settings)
    with failures() as warned:
        run(callback)
    [message] = warned
    assert "ZeroDivisionError: of the user's own" in message
    assert len(callback.history) == 0


@pytest.mark.parametrize("number", [1, 3])
def test_an_exception_that_comes_later(number, watch, tmp_path):
    callback = watch(one_neuron, transformations=[Use(number, failing)])
    with failures() as warned:
        run(callback)
    assert len(warned) == 1
    expected = {1: [0, 1, 2, 3], 3: [-1, 1, 2, 3]}[number]
    assert callback.history.epochs.tolist() == expected
    assert logged(tmp_path) == expected


STRANGE = [
    "a/b//c/../d",
    " two  words ",
    "🦊 fox",
    "<script>alert('&')</script>",
    "x" * 300,
    "tab\tand\nline",
    "größe:?*|\\\"'",
    "{0} %s $HOME",
]


def test_strange_names_of_objectives(watch, tmp_path):
    def named(model):
        return Objective.neuron(model, "logits", range(len(STRANGE)), names=STRANGE)

    callback = watch(named, on_error="raise")
    run(callback)
    assert callback.history.names == STRANGE
    for name in STRANGE:
        assert logged(tmp_path, name) == [-1, 0, 1, 2, 3]
    reader = accumulator(tmp_path / "logs/feature_vis")
    texts = [reader.SummaryMetadata(f"feature_vis/{n}").summary_description for n in STRANGE]
    assert not [text for text in texts if "<" in text]
    callback.history.save(tmp_path / "history.npz")
    with np.load(tmp_path / "history.npz") as archive:
        assert archive["names"].tolist() == STRANGE


def test_strange_names_of_layers(watch, tmp_path):
    names = ["y" * 300, "a-b>c"]
    if keras.backend.backend() != "tensorflow":  # TensorFlow refuses such names
        names += [" two  words ", "🦊<b>&"]

    def build():
        convolutions = [layers.Conv2D(2, 3, activation="tanh", name=name) for name in names]
        return compiled(sequential(*convolutions, layers.Flatten(), layers.Dense(10)))

    model, plain = build(), build()
    train(plain, shuffle=False)
    train(model, watch(None, on_error="raise"), shuffle=False)
    assert_weights(model, plain.get_weights())
    for name in names:
        assert logged(tmp_path, f"Channel#{name}_0") == [-1, 0, 1]


@pytest.mark.parametrize(("count", "apart"), [(1000, False), (300, True)])
def test_many_targets(watch, tmp_path, count, apart):
    vectors = np.random.default_rng(0).normal(size=(count, 4))
    names = [f"Direction#conv1_{i}" for i in range(count)]

    def many(model):
        if not apart:
            return Objective.direction(model, "conv1", vectors)
        each = zip(vectors, names, strict=True)
        return [Objective.direction(model, "conv1", v, names=name) for v, name in each]

    callback = watch(many, steps=1, on_error="raise", parameterization=Fourier())
    run(callback, epochs=1)
    assert callback.history.images.shape == (2, count, 12, 10, 1)
    images, _ = read_events(tmp_path / "logs/feature_vis")
    assert len(images) == count + 2
    assert logged(tmp_path, names[-1]) == [-1, 0]


# --- several callbacks ------------------------------------------------------------------


def test_two_callbacks_in_one_fit(watch, tmp_path):
    first = watch(on_error="raise")
    second = watch(lambda m: Objective.channel(m, "conv1", 1), on_error="raise", freq=2)
    run(first, second)
    assert logged(tmp_path) == [-1, 0, 1, 2, 3]
    assert logged(tmp_path, "Channel#conv1_1", run="run 2") == [-1, 0, 2, 3]


def test_two_runs_into_one_directory(watch, tmp_path):
    """Each is a run of its own, with nothing of the other."""
    first, second = watch(on_error="raise"), watch(on_error="raise")
    run(first)
    run(second)
    for name, callback in zip((".", "run 2"), (first, second), strict=True):
        images, scalars = read_events(tmp_path / "logs" / name / "feature_vis")
        written = scalars[f"feature_vis_score/{NAMES[0]}"]
        assert [step for step, _ in images[f"feature_vis/{NAMES[0]}"]] == [-1, 0, 1, 2, 3]
        np.testing.assert_allclose([v for _, v in written], callback.history.scores[:, 0])


def test_a_deep_copy_before_and_after(watch, tmp_path):
    """Copy the same callback for every trial, as tuners do."""
    original = watch(on_error="raise")
    before = copy.deepcopy(original)
    run(before, epochs=2)
    assert logged(tmp_path) == [-1, 0, 1]
    after = copy.deepcopy(before)
    run(after, epochs=2)
    assert len(original.history) == 0
    assert before.history.epochs.tolist() == after.history.epochs.tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(before.history.images, after.history.images)


def test_a_snapshot_that_outlives_its_epoch_by_a_minute(watch, caplog, monkeypatch, tmp_path):
    assert messages.PATIENCE == 60
    monkeypatch.setattr(messages, "PATIENCE", 1.0)
    caplog.set_level("WARNING", logger="featviz_callback")
    seconds = iter([2])

    class Slow(Jitter):
        def move(self, rng, rows, columns):
            # The first snapshot, before training, outlives no epoch.
            time.sleep(next(seconds, 0) if len(callback.history) else 0)
            return super().move(rng, rows, columns)

    callback = watch(one_neuron, transformations=[Slow()], on_error="raise")
    run(callback, epochs=3)
    assert callback.history.seconds[1] >= 2
    warned = [r.getMessage() for r in caplog.records if "for a snapshot" in r.getMessage()]
    assert len(warned) == 1
    assert "`max_overhead`" in warned[0]
    assert logged(tmp_path) == [-1, 0, 1, 2]
