"""The callback in real trainings: its snapshots, what it writes, and what it preserves."""

import copy
import gc
import inspect
import os
import random
import re
import time
import warnings
import weakref

import keras
import numpy as np
import pytest
from keras import layers
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.images.fourier import Fourier
from featviz_callback.images.transformations import Jitter
from featviz_callback.optimization import run, step
from featviz_callback.records import History
from featviz_callback.records.drift import drift
from featviz_callback.tensorboard import summaries
from tests.conftest import (
    LABELS,
    PIXELS,
    compiled,
    fill,
    layer_output,
    make_small_model,
    prepare,
    read_events,
    sequential,
    set_random_seed,
    to_numpy,
    train,
)
from tests.monitoring.conftest import neurons

# --- twelve epochs of twenty objectives -----------------------------------------------

NAMES = [*[f"Neuron#logits_{i}" for i in range(10)]] + [
    *[f"Channel#conv1_{i}" for i in range(4)],
    *[f"Channel#conv2_{i}" for i in range(6)],
]


@pytest.fixture(scope="module")
def long_run(tmp_path_factory):
    """`(callback, images, scalars)` of one long training."""
    folder = tmp_path_factory.mktemp("logs")
    model = compiled()
    callback = FeatureVisCallback(
        [
            Objective.neuron(model, "logits", range(10)),
            Objective.channel(model, "conv1", range(4)),
            Objective.channel(model, "conv2", range(6)),
        ],
        log_dir=folder,
        steps=2,
        on_error="raise",
    )
    train(model, callback, epochs=12)
    assert os.listdir(folder) == ["feature_vis"]
    return callback, *read_events(folder / "feature_vis")


def test_every_tag_of_the_layout_is_there_and_no_other(long_run):
    _, images, scalars = long_run
    film = {"feature_vis/evolution", "feature_vis/animation"}
    assert set(images) == {f"feature_vis/{name}" for name in NAMES} | film
    kinds = ("score", "drift", "drift_floor", "status")
    # On a backend that compiles nothing, the seconds of compiling are not written.
    found = set(scalars) - {"feature_vis/compile_seconds"}
    # All that is known of a layer without real images.
    layers = {f"feature_vis_layer_update_ratio/{name}" for name in ("conv1", "conv2", "logits")}
    assert found == layers | {f"feature_vis_{kind}/{name}" for kind in kinds for name in NAMES} | {
        f"feature_vis/{name}" for name in ("seconds", "share")
    }


def test_every_epoch_is_written_beginning_with_the_untrained_network(long_run):
    _, images, scalars = long_run
    for name in NAMES:
        assert [s for s, _ in images[f"feature_vis/{name}"]] == list(range(-1, 12))
        assert [s for s, _ in scalars[f"feature_vis_score/{name}"]] == list(range(-1, 12))
    assert [s for s, _ in scalars["feature_vis/seconds"]] == list(range(-1, 12))


def test_drift_begins_with_the_second_snapshot(long_run):
    callback, _, scalars = long_run
    for i, name in enumerate(NAMES):
        steps, values = zip(*scalars[f"feature_vis_drift/{name}"], strict=True)
        assert list(steps) == list(range(12))
        np.testing.assert_allclose(values, callback.history.drift[1:, i], rtol=1e-6)
    assert np.isnan(callback.history.drift[0]).all()


def test_pictures_are_those_of_the_history_at_their_own_size(long_run):
    callback, images, _ = long_run
    for i, name in enumerate(NAMES):
        for number, (_, picture) in enumerate(images[f"feature_vis/{name}"]):
            expected = callback.history.images[number, i, ..., 0] * 255
            assert picture.shape == (12, 10)
            np.testing.assert_allclose(picture, expected, atol=0.501)


def test_the_evolution_is_the_strip_written_at_the_end(long_run):
    callback, images, _ = long_run
    [(step, picture)] = images["feature_vis/evolution"]
    assert step == 11
    np.testing.assert_array_equal(picture, callback.history.strip())


def test_the_history_has_every_snapshot(long_run):
    history, _, scalars = long_run[0].history, *long_run[1:]
    assert history.names == NAMES
    assert history.epochs.tolist() == list(range(-1, 12))
    assert history.images.shape == (13, 20, 12, 10, 1)
    assert history.status.shape == history.scores.shape == (13, 20)
    for i, name in enumerate(NAMES):
        written = [value for _, value in scalars[f"feature_vis_score/{name}"]]
        np.testing.assert_allclose(written, history.scores[:, i], rtol=1e-6)


def test_a_network_that_learns_has_drift(long_run):
    history = long_run[0].history
    assert (history.drift[1:] > 0).any(1).all()


# --- many objectives ------------------------------------------------------------------


@pytest.fixture
def traces():
    """How often each compiled step has been traced."""
    step.compiled_steps.clear()
    return lambda: [
        compiled_step.traces
        for kept in step.compiled_steps.values()
        for compiled_step in kept.values()
    ]


@pytest.mark.slow
@pytest.mark.acceptance
def test_hundreds_of_separate_objectives_are_as_few(model, watch, traces):
    """They share compiled steps and chunks, and give the same as alone, in their own order."""
    vectors = np.random.default_rng(0).normal(size=(75, 4))
    kinds = [
        [Objective.neuron(model, "conv2", i) for i in range(50)],
        [Objective.neuron(model, "conv1", i, multiplier=2.0) for i in range(70)],
        [Objective.direction(model, "conv1", v, names=f"d{i}") for i, v in enumerate(vectors)],
        [
            Objective.neuron(model, "conv2", i) - 2 * Objective.channel(model, "conv1", 1)
            for i in range(45)
        ],
        [Objective.neuron(model, "logits", range(10))],
    ]
    many = sum(kinds, [])
    np.random.default_rng(1).shuffle(many)
    callback = watch(many, steps=1)
    train(model, callback, epochs=1)
    names = [name for one in many for name in one.names]
    assert len(names) == 250
    assert callback.history.names == names
    assert len(traces()) == len(kinds)
    if keras.backend.backend() != "torch":  # where every step counts as one
        assert max(traces()) == 1
    history = callback.history
    for one in (one for kind in kinds for one in kind[::15]):
        places = [names.index(name) for name in one.names]
        starts = history.starts[-1, places].tolist()
        alone, _ = run(prepare(one, steps=1), starts=starts)
        np.testing.assert_allclose(history.images[-1, places], alone.images, atol=1e-4)
        np.testing.assert_allclose(history.scores[-1, places], alone.scores, rtol=1e-3, atol=1e-4)


def test_objectives_whose_order_is_mixed_keep_it_beside_real_images(model, watch):
    """Objectives of one layer are joined, and each target keeps its own place."""
    first, second = (Objective.neuron(model, "logits", i) for i in (3, 1))
    between = Objective.channel(model, "conv1", [2, 0])
    callback = watch([first, between, second], probe_data=PIXELS, seed=2)
    train(model, callback, epochs=1)
    history = callback.history
    assert history.names == [*first.names, *between.names, *second.names]
    best = np.concatenate(
        [
            layer_output(model, "logits", PIXELS)[:, [3]].max(0),
            layer_output(model, "conv1", PIXELS).mean((1, 2))[:, [2, 0]].max(0),
            layer_output(model, "logits", PIXELS)[:, [1]].max(0),
        ]
    )
    expected = np.where(best > 0, history.scores[-1] / best, np.nan)
    np.testing.assert_allclose(history.score_ratio[-1], expected, rtol=1e-4)
    scores = [one.score(history.images[-1, [i]]) for i, one in ((0, first), (3, second))]
    np.testing.assert_allclose(history.scores[-1, [0, 3]], np.ravel(scores), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.acceptance
def test_many_layers_are_compiled_for_the_first_snapshot_only(watch, traces):
    names = [f"dense{i}" for i in range(12)]
    inner = [layers.Dense(3, activation="tanh", name=name) for name in names]
    model = compiled(sequential(layers.Flatten(), *inner, layers.Dense(10, name="logits")))
    callback = watch([Objective.neuron(model, name, 0) for name in names], steps=1)
    made = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            made.append(traces())

    train(model, callback, Count(), epochs=3)
    assert len(made[0]) == len(names)
    if keras.backend.backend() != "torch":  # where every step counts as one
        assert made[0] == made[1] == made[2]


# --- when snapshots are taken ---------------------------------------------------------


def test_a_model_that_fit_builds_is_watched_by_default(watch):
    model = keras.Sequential(
        [
            layers.Conv2D(2, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = watch()
    train(model, callback, epochs=1)
    assert callback.history.names == [
        *[f"Channel#conv_{i}" for i in range(2)],
        *[f"Neuron#probabilities_{i}" for i in range(10)],
    ]


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("freq", "epochs", "expected"),
    [
        (1, 3, [-1, 0, 1, 2]),
        (2, 4, [-1, 0, 2, 3]),
        (3, 4, [-1, 0, 3]),
        (100, 3, [-1, 0, 2]),
    ],
)
def test_freq_counts_epochs_and_the_last_epoch_always_has_a_snapshot(
    freq, epochs, expected, model, watch, tmp_path
):
    callback = watch(neurons(model), freq=freq)
    train(model, callback, epochs=epochs)
    assert callback.history.epochs.tolist() == expected
    images, _ = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in images["feature_vis/Neuron#logits_0"]] == expected


def test_a_training_that_stops_early_has_a_snapshot_of_its_last_epoch(model, watch):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = epoch == 2

    callback = watch(neurons(model), freq=100)
    train(model, Stop(), callback, epochs=10)
    assert callback.history.epochs[-1] == 2


# --- trainings that go on from an earlier one -------------------------------------------


def test_a_second_fit_goes_on_where_the_first_ended(model, watch, tmp_path):
    callback = watch(neurons(model))
    train(model, callback, epochs=2)
    train(model, callback, epochs=4, initial_epoch=2)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert np.isfinite(callback.history.drift[1:]).all()
    assert len(list((tmp_path / "feature_vis").glob("*tfevents*"))) == 2


def test_a_new_process_goes_on_where_the_last_one_ended(model, watch, tmp_path):
    """A new callback, as a new process would make it."""
    first, second = watch(neurons(model)), watch(neurons(model))
    train(model, first, epochs=3)
    train(model, second, epochs=5, initial_epoch=3)
    assert second.history.epochs.tolist() == [-1, 0, 1, 2, 3, 4]
    np.testing.assert_allclose(second.history.images[:4], first.history.images, atol=0.51 / 255)
    assert np.isfinite(second.history.drift[1:]).all()
    images, scalars = read_events(tmp_path / "feature_vis")
    for series in (images["feature_vis/Neuron#logits_0"], scalars["feature_vis/seconds"]):
        assert [step for step, _ in series] == [-1, 0, 1, 2, 3, 4]


def test_another_range_of_values_begins_another_run(model, watch, tmp_path, caplog):
    """Pictures of the first run would be read back as 255 times as bright."""
    caplog.set_level("WARNING", logger="featviz_callback")
    first = watch(neurons(model), values_range=(0, 1))
    train(model, first, epochs=2)
    second = watch(neurons(model), values_range=(0, 255))
    train(model, second, epochs=3, initial_epoch=2)
    assert second.history.epochs.tolist() == [1, 2]
    assert "images in another `values_range` than" in caplog.text
    assert (tmp_path / "run 2" / "feature_vis").is_dir()
    images, _ = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in images["feature_vis/Neuron#logits_0"]] == [-1, 0, 1]


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("inner", "shape"),
    [
        ((layers.Conv1D(2, 5), layers.Flatten()), (40, 2)),
        ((layers.Conv2D(2, 3), layers.Flatten()), (8, 6, 4)),
        ((layers.Conv2D(2, 3), layers.Flatten()), (8, 6, 2)),
    ],
    ids=["signals", "4 channels", "2 channels"],
)
def test_a_history_that_cannot_be_read_back_begins_where_training_goes_on(
    inner, shape, watch, tmp_path, caplog
):
    model = compiled(sequential(*inner, layers.Dense(10, name="logits"), shape=shape))
    inputs = np.random.default_rng(0).random((16, *shape), "float32")
    # After so many steps, no picture needs another start, which a new history would choose.
    first, second = (watch(neurons(model), steps=16) for _ in range(2))
    model.fit(inputs, LABELS, epochs=3, verbose=0, callbacks=[first])
    with caplog.at_level("WARNING", "featviz_callback"):
        model.fit(inputs, LABELS, epochs=5, initial_epoch=3, verbose=0, callbacks=[second])
    assert second.history.epochs.tolist() == [2, 3, 4]
    assert np.isfinite(second.history.drift[1:]).all()
    np.testing.assert_allclose(second.history.images[0], first.history.images[-1], atol=1e-4)
    [message] = [one.getMessage() for one in caplog.records if "read back" in one.getMessage()]
    assert "-1, 0, 1, 2" in message
    assert str(shape) in message
    images, scalars = read_events(tmp_path / "feature_vis")
    for series in (images["feature_vis/Neuron#logits_0"], scalars["feature_vis/seconds"]):
        assert [step for step, _ in series] == [-1, 0, 1, 2, 3, 4]


def channels(model):
    """Channels of two layers, the units of one layer apart from each other."""
    return [
        Objective.channel(model, "conv1", 2),
        Objective.neuron(model, "logits", [4, 0]),
        Objective.channel(model, "conv1", [0, 3]),
        Objective.channel(model, "conv2", [1, 5]),
    ]


def starts_written_in(folder):
    """What the descriptions in the event files say, `{(step, name): start}`."""
    found = {}
    for path in sorted((folder / "feature_vis").glob("*tfevents*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                kind, _, name = value.tag.partition("/")
                if kind == "feature_vis" and name in NAMES:
                    text = value.metadata.summary_description
                    [start] = re.findall(r"Begun from (.+?)\. Its", text) or [""]
                    found[event.step, name] = start
    return found


@pytest.mark.acceptance
def test_starts_are_written_and_gone_on_from_by_a_new_process(watch, tmp_path):
    model = compiled(rate=0.5)
    first, second = watch(channels(model), steps=4), watch(channels(model), steps=4)
    unaware = watch(channels(model), steps=4, log_dir=tmp_path / "other")
    train(model, first, epochs=2)
    weights = model.get_weights()
    assert len(set(first.history.starts[-1])) > 2
    train(model, second, epochs=3, initial_epoch=2, shuffle=False)
    assert second.history.starts[:3].tolist() == first.history.starts.tolist()
    history = second.history
    written = {
        (int(epoch), name): history.starts[i, j]
        for i, epoch in enumerate(history.epochs)
        for j, name in enumerate(history.names)
    }
    assert written.items() <= starts_written_in(tmp_path).items()
    # The same weights as an undisturbed training would have, with the starts of its last snapshot.
    model.set_weights(weights)
    train(model, first, unaware, epochs=3, initial_epoch=2, shuffle=False)
    assert history.starts[-1].tolist() == first.history.starts[-1].tolist()
    assert history.starts[-1].tolist() != unaware.history.starts[-1].tolist()
    np.testing.assert_allclose(history.images[-1], first.history.images[-1], atol=1e-4)


@pytest.mark.acceptance
def test_logs_without_starts_are_gone_on_from(model, watch, tmp_path, monkeypatch):
    """The first version wrote none."""
    with monkeypatch.context() as older:
        older.setattr(summaries, "_description", lambda snapshot, i: f"{snapshot.names[i]}: ok")
        train(model, watch(channels(model)), epochs=2)
    assert set(starts_written_in(tmp_path).values()) == {""}
    again = watch(channels(model))
    train(model, again, epochs=3, initial_epoch=2)
    assert again.history.epochs.tolist() == [-1, 0, 1, 2]
    assert again.history.starts[:3].tolist() == [[""] * 7] * 3
    assert all(again.history.starts[3])


@pytest.mark.acceptance
def test_starts_are_kept_by_a_second_fit(watch):
    frozen = compiled(rate=0.0)
    callback = watch(channels(frozen), steps=4)
    train(frozen, callback, epochs=2)
    first = callback.history.starts
    train(frozen, callback, epochs=4, initial_epoch=2)
    history = callback.history
    assert len(set(first[0])) > 2
    assert (history.starts[2:] == first[-1]).all()
    for images in history.images[3:]:
        np.testing.assert_array_equal(images, history.images[2])


def test_a_change_of_start_is_visible_in_the_history(watch, tmp_path):
    model = compiled(
        sequential(
            layers.Conv2D(1, 1, activation="relu", name="conv1"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ),
        rate=0.0,
    )

    class TurnRound(keras.callbacks.Callback):
        """On for bright pixels only until the second epoch, then for dark ones only."""

        def on_epoch_begin(self, epoch, logs=None):
            sign = 1.0 if epoch < 2 else -1.0
            kernel, bias = np.full((1, 1, 1, 1), 4 * sign), np.array([-2.4 if sign > 0 else 1.6])
            self.model.get_layer("conv1").set_weights([kernel, bias])

    callback = watch(Objective.channel(model, "conv1", 0), steps=4)
    train(model, TurnRound(), callback, epochs=4)
    history = callback.history
    (first,), (before,), (after,) = history.starts[[0, 2, 3]]
    assert first == before != after
    assert (history.images.mean((1, 2, 3, 4)) > 0.5).tolist() == [True, True, True, False, False]
    assert history.status.tolist() == [["ok"]] * 5
    written = starts_written_in(tmp_path)
    expected = history.starts[:, 0].tolist()
    assert [written[epoch, "Channel#conv1_0"] for epoch in range(-1, 4)] == expected


def test_images_of_another_size_are_not_read_back(model, watch):
    train(model, watch(neurons(model), image_shape=(24, 20)), epochs=2)
    again = watch(neurons(model))
    train(model, again, epochs=3, initial_epoch=2)
    assert again.history.epochs.tolist() == [1, 2]
    assert np.isfinite(again.history.drift[1]).all()


def test_a_process_that_repeats_an_epoch_takes_its_place(model, watch, tmp_path):
    train(model, watch(neurons(model)), epochs=3)
    again = watch(neurons(model))
    train(model, again, epochs=3, initial_epoch=1)
    assert again.history.epochs.tolist() == [-1, 0, 1, 2]
    images, _ = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in images["feature_vis/Neuron#logits_0"]] == [-1, 0, 1, 2]


def test_a_training_that_begins_anew_does_not_go_on_with_an_old_one(model, watch):
    train(model, watch(neurons(model)), epochs=3)
    again = watch(neurons(model))
    train(model, again, epochs=2)
    assert again.history.epochs.tolist() == [-1, 0, 1]


def test_a_second_model_begins_a_new_history(model, watch):
    callback = watch(lambda model: Objective.neuron(model, -1, 0))
    train(model, callback)
    other = sequential(layers.Flatten(), layers.Dense(10, name="other"))
    train(compiled(other), callback, epochs=1)
    assert callback.history.names == ["Neuron#other_0"]
    assert callback.history.epochs.tolist()[-1] == 0


# --- what one snapshot is, and what it costs -------------------------------------------


def test_snapshots_of_an_unchanged_network_are_the_same_to_the_bit(watch):
    frozen = compiled(rate=0.0)
    callback = watch(neurons(frozen))
    train(frozen, callback, epochs=3)
    for images in callback.history.images[1:]:
        np.testing.assert_array_equal(images, callback.history.images[0])
    np.testing.assert_allclose(callback.history.drift[1:], 0, atol=1e-6)


def test_a_warm_start_goes_on_from_the_last_snapshot(watch):
    frozen = compiled(rate=0.0)
    settings = {"transformations": None, "parameterization": "pixel"}
    callback = watch(neurons(frozen), warm_start=True, **settings)
    train(frozen, callback, epochs=4)
    assert (np.diff(callback.history.scores, axis=0) > 0).all()


def test_beyond_the_overhead_only_the_snapshots_on_credit_are_taken(model, watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch(neurons(model), max_overhead=1e-7, freq=2)
    train(model, callback, epochs=8)
    assert callback.history.epochs.tolist() == [-1, 0, 2, 7]
    assert callback.history.skipped.tolist() == [4, 6]
    skipped, above = [r.getMessage() for r in caplog.records if "max_overhead" in r.getMessage()]
    assert "epoch 4 is skipped" in skipped
    assert "above max_overhead=1e-07" in above


def test_an_early_stop_that_leaves_the_share_above_is_logged(model, watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 2)
    )
    train(model, stop, watch(neurons(model), max_overhead=0.01), epochs=9)
    [line] = [r.getMessage() for r in caplog.records if "above max_overhead" in r.getMessage()]
    assert "after 3 of 9 epochs" in line


def test_a_share_that_holds_is_not_mentioned(model, watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch(neurons(model), max_overhead=0.999999)
    train(model, callback, epochs=3)
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2]
    assert not [r for r in caplog.records if "max_overhead" in r.getMessage()]


@pytest.mark.parametrize("freq", [(0, 3, 99), {3, 0}, np.array([-1, 0, 3]), range(0, 6, 3)])
@pytest.mark.acceptance
def test_freq_may_be_the_epochs(freq, model, watch):
    callback = watch(neurons(model), freq=freq)
    train(model, callback, epochs=6)
    assert callback.history.epochs.tolist() == [-1, 0, 3, 5]


def test_the_first_two_of_given_epochs_are_taken_on_credit(model, watch):
    callback = watch(neurons(model), freq=(2, 4, 5, 6), max_overhead=1e-7)
    train(model, callback, epochs=8)
    assert callback.history.epochs.tolist() == [-1, 2, 4, 7]
    assert callback.history.skipped.tolist() == [5, 6]


def test_a_training_that_goes_on_takes_the_first_epochs_for_done(model, watch):
    callback = watch(neurons(model), max_overhead=1e-7)
    train(model, callback)
    train(model, callback, epochs=6, initial_epoch=2)
    # The first due epoch of each `fit` tells what a snapshot costs.
    assert callback.history.epochs.tolist() == [-1, 0, 1, 2, 5]
    assert callback.history.skipped.tolist() == [3, 4]


def test_a_loop_that_does_not_tell_its_epochs_takes_snapshots_as_time_pays_for_them(model, watch):
    callback = watch(neurons(model), max_overhead=1e-7)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch)
    callback.on_train_end()
    assert callback.history.epochs.tolist() == [-1, 0, 1, 3]
    assert callback.history.skipped.tolist() == [2]


def test_what_snapshots_cost_is_written(model, watch, tmp_path):
    callback = watch(neurons(model))
    train(model, callback, epochs=3)
    _, scalars = read_events(tmp_path / "feature_vis")
    shares = [value for _, value in scalars["feature_vis/share"]]
    assert len(shares) == 4
    assert all(0 < share <= 1 for share in shares)
    written = [value for _, value in scalars["feature_vis/seconds"]]
    np.testing.assert_allclose(written, callback.history.seconds, rtol=1e-6)
    # On torch there is nothing to compile.
    if keras.backend.backend() != "torch":
        [(step, compiling)] = scalars["feature_vis/compile_seconds"]
        assert step == -1
        assert compiling == pytest.approx(callback.history.compile_seconds)
        assert compiling > 0


def test_the_noise_floor_is_measured_at_the_first_snapshot_that_succeeds(model, watch):
    fails = iter([True])

    class Once(Jitter):
        def move(self, rng, rows, columns):
            if next(fails, False):
                raise ZeroDivisionError
            return super().move(rng, rows, columns)

    callback = watch(transformations=[Once()], on_error="warn")
    train(model, callback, epochs=3)
    assert callback.history.epochs.tolist() == [0, 1, 2]
    known = np.isfinite(callback.history.noise_floor).all(axis=1)
    assert known.tolist() == [True, False, True]


def test_the_noise_floor_of_drift_is_measured_first_and_last(model, watch):
    # Without other starts to choose from, another seed is another callback.
    callback, other = (
        watch(neurons(model), seed=seed, parameterization=Fourier()) for seed in (4, 5)
    )
    train(model, callback, other, epochs=3)
    floor = callback.history.noise_floor
    assert np.isnan(floor[[1, 2]]).all()
    for i in (0, 3):
        expected = drift(callback.history.images[i], other.history.images[i])
        np.testing.assert_allclose(floor[i], expected, atol=1e-5)


class Stop(keras.callbacks.Callback):
    """Ends training after epoch 1."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


class Restore(keras.callbacks.Callback):
    """Restores the weights of the beginning when training ends."""

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()

    def on_train_end(self, logs=None):
        self.model.set_weights(self.weights)


@pytest.mark.parametrize(
    ("before", "settings"),
    [([], {}), ([Restore()], {}), ([], {"warm_start": True})],
    ids=["trained", "restored", "warm"],
)
def test_the_last_snapshot_has_a_noise_floor_whoever_ends_training(
    before, settings, model, watch, tmp_path
):
    callback = watch(neurons(model), seed=4, parameterization=Fourier(), **settings)
    train(model, *before, callback, Stop(), epochs=9)
    floor = callback.history.noise_floor
    assert np.isfinite(floor).all(1).tolist() == [True, False, True]
    found = [
        optimize(neurons(model), steps=2, seed=seed, parameterization=Fourier()) for seed in (4, 5)
    ]
    expected = drift(*(one.images for one in found))
    np.testing.assert_allclose(floor[-1], expected, atol=1e-5)
    _, scalars = read_events(tmp_path / "feature_vis")
    for i, name in enumerate(callback.history.names):
        assert scalars[f"feature_vis_drift_floor/{name}"] == [(-1, floor[0, i]), (1, floor[-1, i])]
    later = watch(neurons(model), seed=4, parameterization=Fourier(), **settings)
    train(model, later, epochs=3, initial_epoch=2)
    np.testing.assert_array_equal(later.history.noise_floor[:3], floor)


class Slow(keras.callbacks.Callback):
    """Makes every batch take a while, and tells how long all of them took."""

    seconds = 0.0

    def __init__(self, pause=0.4):
        super().__init__()
        self.pause = pause

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.pause)
        self.seconds += time.perf_counter() - self.began


def test_the_share_is_of_training_and_not_of_what_precedes_it(model, watch, tmp_path):
    class Images:
        def __iter__(self):
            time.sleep(5)
            yield PIXELS, LABELS

    callback, slow = watch(neurons(model), probe_data=Images()), Slow()
    # Keras compiles its step.
    train(model, epochs=1)
    train(model, slow, callback, epochs=3)
    shares = dict(read_events(tmp_path / "feature_vis")[1]["feature_vis/share"])
    spent = callback.history.seconds.sum()
    expected = spent / (spent + slow.seconds)
    assert shares[2] == pytest.approx(expected, rel=0.2)
    assert spent / (spent + slow.seconds + 5) < 0.75 * expected


def test_the_film_counts_as_time_of_snapshots(model, watch, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    write = summaries.write_animation
    monkeypatch.setattr(summaries, "write_animation", lambda *a: (time.sleep(3), write(*a)))
    slow = Slow()
    train(model, epochs=1)
    callback = watch(neurons(model), max_overhead=1e-6)
    train(model, slow, callback, epochs=3)
    [said] = [one for one in caplog.messages if "above max_overhead" in one]
    spent = callback.history.seconds.sum() + 3
    # Two digits are said.
    expected = spent / (spent + slow.seconds)
    assert float(said.split()[2]) == pytest.approx(expected, rel=0.15)
    assert (spent - 3) / (spent - 3 + slow.seconds) < 0.75 * expected


@pytest.mark.slow
@pytest.mark.acceptance
def test_time_is_kept_for_a_film_that_is_longer_with_each_snapshot(
    model, watch, monkeypatch, caplog
):
    caplog.set_level("WARNING", logger="featviz_callback")
    draw = History.gif
    monkeypatch.setattr(History, "gif", lambda film: (time.sleep(0.15 * len(film)), draw(film))[1])
    callback, began = watch(neurons(model), max_overhead=0.4), time.perf_counter()
    train(model, Slow(0.1), callback, epochs=30)
    elapsed = time.perf_counter() - began - callback.history.compile_seconds
    assert not any("above max_overhead" in one for one in caplog.messages)
    spent = callback.history.seconds.sum() + 0.15 * len(callback.history)
    assert 0.2 < spent / elapsed < 0.42


def test_snapshots_within_one_long_epoch_leave_the_same_result(watch):
    """If you cut the epoch, training goes on through the same data in the same order."""
    whole, cut = compiled(), compiled()
    settings = {"batch_size": 2, "shuffle": True}
    keras.utils.set_random_seed(1)
    train(whole, epochs=1, **settings)
    keras.utils.set_random_seed(1)
    callback = watch(neurons(cut))
    train(cut, callback, epochs=4, steps_per_epoch=2, **settings)
    assert callback.history.epochs.tolist() == list(range(-1, 4))
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_hook_makes_keras_wait_for_batches():
    """Keras calls only the hooks that a callback overrides."""
    hooks = {name for name in dir(keras.callbacks.Callback) if "batch" in name}
    assert not hooks & set(vars(FeatureVisCallback))


def test_settings_reach_the_optimisation(model, watch):
    callback = watch(neurons(model), values_range=(-1.0, 1.0), image_shape=(6, 5), seed=3)
    other = watch(neurons(model), values_range=(-1.0, 1.0), image_shape=(6, 5), seed=4)
    train(model, callback, other, epochs=1)
    assert callback.history.images.shape == (2, 3, 6, 5, 1)
    assert callback.history.images.min() < 0
    assert callback.history.values_range == (-1.0, 1.0)
    assert not np.allclose(callback.history.images, other.history.images, atol=1e-3)


def test_one_line_a_snapshot_is_printed_on_request(model, watch, capsys):
    train(model, watch(neurons(model), verbose=1), epochs=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "feature_vis" in line]
    assert len(lines) == 3
    assert all("3 images" in line for line in lines)


# --- copies -----------------------------------------------------------------------------


def test_a_copy_made_before_training_watches_the_same(model, watch):
    callback = copy.deepcopy(watch(neurons(model)))
    train(model, callback, epochs=1)
    assert callback.history.epochs.tolist() == [-1, 0]
    assert callback.history.names == NAMES[:3]


def test_a_copy_made_after_training_has_a_history_of_its_own(model, watch):
    callback = watch(neurons)
    train(model, callback, epochs=1)
    twin = copy.deepcopy(callback)
    assert twin.model is None
    assert twin.history.epochs.tolist() == [-1, 0]
    train(model, twin, epochs=2, initial_epoch=1)
    assert twin.history.epochs.tolist() == [-1, 0, 1]
    train(compiled(make_small_model(seed=1)), twin, epochs=1)
    assert twin.history.epochs.tolist() == [-1, 0]
    assert np.isnan(twin.history.drift[0]).all()
    assert callback.history.epochs.tolist() == [-1, 0]


def test_a_copy_can_write_elsewhere(model, watch, tmp_path):
    callback = copy.deepcopy(watch(neurons(model), log_dir=tmp_path / "first"))
    callback.log_dir = tmp_path / "second"
    train(model, callback, epochs=1)
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


def test_what_is_public_is_documented(watch):
    own = set(vars(watch())) - set(vars(keras.callbacks.Callback()))
    own |= {name for name, one in vars(FeatureVisCallback).items() if isinstance(one, property)}
    public = {name for name in own if not name.startswith("_")}
    # Python 3.13 takes the indentation off by itself.
    text = inspect.getdoc(FeatureVisCallback)
    attributes = text.partition("Attributes:")[2].partition("Raises:")[0]
    assert public == set(re.findall(r"^ {4}(\w+):", attributes, re.MULTILINE))


def test_a_model_is_not_kept_alive_by_a_copy(watch):
    model = compiled()
    callback = watch(neurons)
    train(model, callback, epochs=1)
    twin, model = copy.deepcopy(callback), weakref.ref(model)
    keras.backend.clear_session()
    del callback
    gc.collect()
    assert model() is None
    assert len(twin.history) == 2


@pytest.mark.acceptance
@pytest.mark.parametrize("freq", [1, 100])
@pytest.mark.parametrize("order", [1, -1], ids=["after", "before"])
def test_the_last_snapshot_is_of_the_last_epoch_whatever_weights_are_restored(freq, order, watch):
    """EarlyStopping restores the best weights when training ends."""
    model = compiled()
    kept = {}

    class Rate(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = [np.array(weights) for weights in self.model.get_weights()]
            logs["quality"] = [1, 3, 2, 2][epoch]

    stop = keras.callbacks.EarlyStopping(
        "quality", mode="max", patience=2, restore_best_weights=True
    )
    callback = watch(neurons(model), freq=freq, steps=16)
    train(model, Rate(), *[stop, callback][::order], epochs=9)
    assert sorted(kept) == [0, 1, 2, 3]
    np.testing.assert_array_equal(model.get_weights()[0], kept[1][0])
    assert callback.history.epochs[-1] == 3
    model.set_weights(kept[3])
    expected = optimize(neurons(model), steps=16).images
    np.testing.assert_allclose(callback.history.images[-1], expected, atol=1e-5)


def test_an_objective_of_a_part_of_the_model_follows_its_training(watch):
    model = compiled()
    part = keras.Model(model.inputs[0], model.get_layer("conv2").output)
    callback = watch(Objective.channel(part, "conv2", [0, 1]))
    train(model, callback, epochs=2)
    assert (callback.history.drift[1:] > 0).any()


# --- training is the same with the callback -------------------------------------------


def trained(*callbacks):
    """Weights, losses and next random numbers of a training that draws many."""
    set_random_seed(3)
    model = sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv1"),
        layers.BatchNormalization(),
        layers.Dropout(0.3),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
    )
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([np.ones(4), np.zeros(4), np.zeros(4), np.ones(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    history = train(model, *callbacks, epochs=3, shuffle=True, validation_data=(PIXELS, LABELS))
    values = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    values = [to_numpy(v).tolist() for v in values]
    drawn = to_numpy(keras.random.uniform((3,))).tolist(), np.random.random(), random.random()
    return values, history.history, drawn


def test_training_is_the_same_to_the_bit_with_the_callback(tmp_path):
    everything = {
        "steps": 3,
        "transformations": [Jitter(), lambda images: images * 0.9],
        "optimizer": "adam",
        "probe_data": (PIXELS, LABELS),
        "log_dir": tmp_path,
        "on_error": "raise",
    }
    plain, watched = trained(), trained(FeatureVisCallback(**everything))
    assert watched[1] == plain[1]
    assert watched[2] == plain[2]
    assert watched[0] == plain[0]


# --- arguments of the callback alone --------------------------------------------------


def test_a_log_dir_that_is_a_file_is_refused(model, watch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="`log_dir`"):
        train(model, watch(neurons(model), log_dir=tmp_path / "file"))
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]


@pytest.mark.parametrize(
    "settings",
    [
        {"freq": 0},
        {"freq": 1.5},
        {"freq": ()},
        {"freq": (0, 1.5)},
        {"freq": [0, True]},
        {"freq": [-2, 0]},
        {"freq": "12"},
        {"freq": np.array(2.0)},
        {"on_error": "ignore"},
        {"max_overhead": 0},
        {"max_overhead": 1.5},
    ],
    ids=str,
)
def test_a_wrong_setting_is_refused_at_once(settings):
    [name] = settings
    with pytest.raises(ValueError, match=f"`{name}`"):
        FeatureVisCallback(**settings)


@pytest.mark.parametrize(
    "settings", [{"log_dir": None}, {"freq": True}, {"max_overhead": "a"}, {"steps": 1.5}]
)
def test_what_is_wrong_for_every_model_is_refused_when_the_callback_is_made(settings):
    with pytest.raises(ValueError, match="Invalid value for argument"):
        FeatureVisCallback(**settings)


def test_freq_may_be_a_number_of_numpys(model, watch):
    callback = watch(neurons(model), freq=np.int64(2))
    train(model, callback, epochs=3)
    assert callback.history.epochs.tolist() == [-1, 0, 2]


# --- what fails later -----------------------------------------------------------------


class FailingLater(Jitter):
    """A random transformation that fails from its fourth use on."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "uses", [])

    def move(self, rng, rows, columns):
        self.uses.append(1)
        if len(self.uses) > 3:
            raise FloatingPointError("no fourth draw")
        return super().move(rng, rows, columns)


def one_neuron(model):
    return Objective.neuron(model, "logits", 0)


def test_a_later_failure_gives_one_warning_and_training_goes_on(model, watch):
    callback = watch(one_neuron, transformations=[FailingLater()], on_error="warn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = train(model, callback, epochs=5)
    found = [str(w.message) for w in caught if "FeatureVisCallback" in str(w.message)]
    assert len(found) == 1
    assert "FloatingPointError: no fourth draw" in found[0]
    assert len(history.history["loss"]) == 5
    assert callback.history.epochs.tolist() == [-1, 0]


def test_a_later_failure_can_be_raised(model, watch):
    callback = watch(one_neuron, transformations=[FailingLater()], on_error="raise")
    with pytest.raises(FloatingPointError, match="no fourth draw"):
        train(model, callback, epochs=5)


def test_a_folder_that_vanishes_does_not_end_training(model, watch, tmp_path):
    class Vanish(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                folder = tmp_path / "feature_vis"
                for path in folder.iterdir():
                    path.unlink()
                folder.rmdir()
                folder.write_text("in the way")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = train(model, watch(one_neuron, on_error="warn"), Vanish(), epochs=4)
    assert len(history.history["loss"]) == 4
    assert len([w for w in caught if "FeatureVisCallback" in str(w.message)]) == 1


# --- several trainings with one callback ------------------------------------------------


def test_the_last_epoch_of_each_fit_has_a_snapshot(model, watch):
    callback = watch(neurons(model), freq=5)
    train(model, callback, epochs=3)
    train(model, callback, epochs=3)
    assert callback.history.epochs.tolist() == [-1, 0, 2, 0, 2]


def test_another_model_of_the_same_names_begins_a_new_history(model, watch):
    callback = watch(neurons)
    train(model, callback, epochs=2)
    train(compiled(make_small_model(seed=1)), callback, epochs=1)
    assert callback.history.epochs.tolist() == [-1, 0]
    assert np.isnan(callback.history.drift[0]).all()


def test_the_history_that_was_there_before_training_is_the_one_that_is_filled(model, watch):
    callback = watch(neurons)
    history = callback.history
    history.most_bytes = 1
    train(model, callback, epochs=3)
    assert callback.history is history
    assert history.epochs.tolist() == [-1, 2]
    other = compiled(make_small_model(seed=1))
    train(other, callback, epochs=3)
    assert callback.history is not history
    assert callback.history.most_bytes == 1


# --- real images ------------------------------------------------------------------------


def test_scores_are_compared_with_the_best_real_image(model, watch, tmp_path):
    callback = watch(neurons(model), probe_data=(PIXELS, LABELS))
    train(model, callback, epochs=2)
    best = layer_output(model, "logits", PIXELS)[:, :3].max(0)
    expected = np.where(best > 0, callback.history.scores[-1] / best, np.nan)
    np.testing.assert_allclose(callback.history.score_ratio[-1], expected, rtol=1e-4)
    _, scalars = read_events(tmp_path / "feature_vis")
    for i, name in enumerate(NAMES[:3]):
        written = dict(scalars.get(f"feature_vis_score_ratio/{name}", []))
        known = [
            (e, r)
            for e, r in zip((-1, 0, 1), callback.history.score_ratio[:, i], strict=True)
            if np.isfinite(r)
        ]
        assert written == pytest.approx(dict(known))


class Kill(keras.callbacks.Callback):
    """Silences a channel for good, and notes what share of channels `predict` finds silent."""

    def __init__(self, images):
        super().__init__()
        self.images, self.shares = images, {}

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:
            self.note(-1)
        if epoch == 1:
            kernel, bias = self.model.get_layer("conv").get_weights()
            bias[2] = -100
            self.model.get_layer("conv").set_weights([kernel, bias])

    def on_epoch_end(self, epoch, logs=None):
        self.note(epoch)

    def note(self, epoch):
        inner = keras.Model(self.model.inputs[0], self.model.get_layer("conv").output)
        found = inner.predict(self.images, verbose=0)
        self.shares[epoch] = (found == 0).all((0, 1, 2)).mean()


def relus():
    """Four channels with a ReLU, of which the second is silent."""
    model = sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
    )
    kernel, bias = model.get_layer("conv").get_weights()
    bias[1] = -100
    model.get_layer("conv").set_weights([kernel, bias])
    return compiled(model)


def test_the_share_of_the_dead_is_that_of_channels_that_real_images_leave_silent(watch, tmp_path):
    model, kill = relus(), Kill(PIXELS)
    callback = watch(Objective.channel(model, "conv", range(4)), probe_data=PIXELS)
    train(model, kill, callback, epochs=3)
    assert kill.shares == {-1: 0.25, 0: 0.25, 1: 0.5, 2: 0.5}
    _, scalars = read_events(tmp_path / "feature_vis")
    assert dict(scalars["feature_vis/dead"]) == kill.shares


def test_without_real_images_nobody_says_what_is_dead(watch, tmp_path):
    model = relus()
    callback = watch(Objective.channel(model, "conv", range(4)))
    train(model, callback, epochs=1)
    assert callback.history.status.tolist() == [["ok", "no_gradient", "ok", "ok"]] * 2
    _, scalars = read_events(tmp_path / "feature_vis")
    assert "feature_vis/dead" not in scalars


def test_the_share_of_the_dead_is_zero_where_no_score_is_above_zero(watch, tmp_path):
    model = compiled(rate=0.0)
    kernel, _ = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, np.full(10, -50.0)])
    callback = watch(neurons(model), probe_data=PIXELS, steps=16)
    train(model, callback, epochs=1)
    assert (layer_output(model, "logits", PIXELS) < 0).all()
    assert callback.history.status.tolist() == [["ok"] * 3] * 2
    _, scalars = read_events(tmp_path / "feature_vis")
    assert scalars["feature_vis/dead"] == [(-1, 0.0), (0, 0.0)]


def test_the_status_is_a_number_in_the_log(watch, tmp_path):
    model = sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv"),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
    )
    kernel, bias = model.get_layer("conv").get_weights()
    bias[1], kernel[..., 2], bias[2] = -100, 0, 1
    model.get_layer("conv").set_weights([kernel, bias])
    compiled(model, rate=0.0)

    def floor(images):
        return keras.ops.floor(8.0 * keras.ops.mean(images, (1, 2, 3)))

    objectives = [
        Objective.channel(model, "conv", range(4)),
        Objective.custom(model, "conv", floor, names="steps"),
        Objective.custom(
            model,
            "conv",
            lambda x: keras.ops.sqrt(-1.0 - keras.ops.mean(x, (1, 2, 3))),
            names="root",
        ),
    ]
    callback = watch(
        objectives, probe_data=PIXELS, steps=1, parameterization=Fourier(contrast=0.01)
    )
    train(model, callback, epochs=1)
    [status, again] = callback.history.status.tolist()
    assert status == again
    assert {*status} == {"weak", "dead", "constant", "no_gradient", "nan"}
    numbers = {
        "ok": 0,
        "dead": 1,
        "saturated": 2,
        "nan": 3,
        "weak": 4,
        "no_gradient": 5,
        "constant": 6,
    }
    _, scalars = read_events(tmp_path / "feature_vis")
    for name, word in zip(callback.history.names, status, strict=True):
        assert [v for _, v in scalars[f"feature_vis_status/{name}"]] == [numbers[word]] * 2


def test_top_images_are_shown_of_no_target_that_is_dead_or_constant(watch, tmp_path):
    model = relus()
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 3], bias[3] = 0, 1
    model.get_layer("conv").set_weights([kernel, bias])
    callback = watch(Objective.channel(model, "conv", range(4)), probe_data=PIXELS)
    train(compiled(model, rate=0.0), callback, epochs=1)
    images, _ = read_events(tmp_path / "feature_vis")
    widths = [images[f"feature_vis_examples/Channel#conv_{i}"][0][1].shape[1] for i in range(4)]
    assert widths[1] == widths[3]
    assert min(widths[0], widths[2]) > 6 * widths[1]


def test_a_ratio_to_a_score_that_is_not_above_zero_is_left_out(model, watch, tmp_path):
    negative = Objective.custom(model, "conv1", lambda x: -keras.ops.mean(x * x, (1, 2, 3)))
    callback = watch(negative, probe_data=PIXELS)
    train(model, callback, epochs=1)
    assert np.isnan(callback.history.score_ratio).all()
    _, scalars = read_events(tmp_path / "feature_vis")
    assert not [tag for tag in scalars if "score_ratio" in tag]


def test_real_images_are_shown_beside_the_optimised_one(watch, tmp_path):
    """The brightness of each real image tells which one it is."""
    model = compiled(sequential(layers.Flatten(), layers.Dense(10, name="logits")))
    model.set_weights([np.ones((120, 10)), np.zeros(10)])
    levels = np.arange(25, 250, 25) / 255
    real = np.ones((9, 12, 10, 1)) * levels[:, None, None, None]
    callback = watch(Objective.neuron(model, "logits", [0]), probe_data=real, freq=5)
    train(model, callback, epochs=1)
    images, _ = read_events(tmp_path / "feature_vis")
    [(first, picture), (last, _)] = images["feature_vis_examples/Neuron#logits_0"]
    assert (first, last) == (-1, 0)
    at = {}
    for level in levels:
        # Grey pictures have one channel.
        _, columns = np.nonzero(picture == round(level * 255))
        if len(columns) > 3000:  # of 72 times 60
            at[level] = np.median(columns)
    assert list(at) == list(levels[3:])
    assert list(at.values()) == sorted(at.values(), reverse=True)


def test_real_images_and_their_places_are_written_when_they_change(watch, tmp_path):
    model = compiled(sequential(layers.Conv2D(3, 3, name="conv"), layers.Flatten(),
                                layers.Dense(10)), rate=0.0)  # fmt: skip
    kernel, bias = model.get_layer("conv").get_weights()

    class Turn(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            # After epoch 1, channel 0 is what channel 1 was.
            if epoch == 1:
                turned = np.roll(kernel, -1, axis=-1)
                model.get_layer("conv").set_weights([turned, np.roll(bias, -1)])

    callback = watch(Objective.channel(model, "conv", [0, 1]), probe_data=PIXELS)
    train(model, Turn(), callback, epochs=4)
    images, _ = read_events(tmp_path / "feature_vis")
    scores = layer_output(model, "conv", PIXELS).mean((1, 2))
    before, after = (np.argsort(-scores[:, i], kind="stable")[:6] for i in (2, 0))
    assert set(before) != set(after)
    for rank, pair in enumerate(zip(before, after, strict=True)):
        written = images[f"feature_vis_real/Channel#conv_0/{rank}"]
        assert [step for step, _ in written] == [-1, 1]
        for (_, picture), index in zip(written, pair, strict=True):
            np.testing.assert_allclose(picture, 255 * PIXELS[index, ..., 0], atol=0.51)
        places = images[f"feature_vis_place/Channel#conv_0/{rank}"]
        assert [step for step, _ in places] == [-1, 1]
    # Beside the picture, two rows of six: under the activation, and a crop.
    [(_, picture), *_] = images["feature_vis_examples/Channel#conv_0"]
    height, width = picture.shape[:2]
    assert 0.9 < (height / 3) / (width / 7) / (12 / 10) < 1.3


def test_units_of_a_vector_have_real_images_without_a_place(model, watch, tmp_path):
    train(model, watch(neurons(model), probe_data=PIXELS), epochs=1)
    images, _ = read_events(tmp_path / "feature_vis")
    assert len([tag for tag in images if tag.startswith("feature_vis_real/")]) == 18
    assert not [tag for tag in images if tag.startswith("feature_vis_place/")]


@pytest.mark.acceptance
def test_real_images_are_read_once_for_several_trainings(model, watch):
    def stream():
        yield PIXELS

    callback = watch(neurons(model), probe_data=stream())
    train(model, callback, epochs=1)
    train(model, copy.deepcopy(callback), epochs=1)
    train(model, callback, epochs=1)
    assert len(callback.history) == 3


def first_channels(model):
    return Objective.channel(model, "conv", [0, 1])


def watched(model, data, watch, tmp_path, **settings):
    """The history and the written examples of a short training on a few real inputs."""
    compiled(model)
    callback = watch(first_channels, probe_data=data, **settings)
    model.fit(data, np.arange(len(data)) % 10, epochs=1, verbose=0, callbacks=[callback])
    images, _ = read_events(tmp_path / "feature_vis")
    return callback.history, images


@pytest.mark.acceptance
def test_real_images_of_a_model_with_channels_first(watch, tmp_path):
    """Real images are given as `fit` takes them, with the same result as channels last."""
    found = []
    colours = np.random.default_rng(0).random((9, 12, 10, 3), "float32")
    for data_format in ("channels_last", "channels_first"):
        first = data_format == "channels_first"
        model = keras.Sequential(
            [
                keras.Input((3, 12, 10) if first else (12, 10, 3)),
                layers.Conv2D(4, 3, name="conv", data_format=data_format),
                layers.GlobalAveragePooling2D(data_format=data_format),
                layers.Dense(10),
            ]
        )
        fill(model)
        data = colours.transpose(0, 3, 1, 2) if first else colours
        log_dir = tmp_path / data_format
        found.append(watched(model, data, watch, log_dir, log_dir=log_dir))
    (last, _), (first, pictures) = found
    np.testing.assert_allclose(first.images[0], last.images[0], atol=1e-3)
    np.testing.assert_allclose(first.score_ratio[0], last.score_ratio[0], rtol=1e-3)
    assert pictures["feature_vis_examples/Channel#conv_1"]


@pytest.mark.acceptance
@pytest.mark.parametrize("parameterization", ["fourier", "fixed_magnitude", "pixel"])
def test_real_signals_are_drawn_beside_the_optimised_one(parameterization, watch, tmp_path):
    inner = layers.Conv1D(4, 5, name="conv"), layers.Flatten(), layers.Dense(10)
    model = sequential(*inner, shape=(32, 2))
    signals = np.random.default_rng(0).normal(0.5, 1.0, (9, 32, 2)).astype("float32")
    history, images = watched(model, signals, watch, tmp_path, parameterization=parameterization)
    assert history.images.shape == (2, 2, 32, 2)
    assert history.values_range == (signals.min(), signals.max())
    best = layer_output(model, "conv", signals).mean(1)[:, :2].max(0)
    expected = np.where(best > 0, history.scores[-1] / best, np.nan)
    np.testing.assert_allclose(history.score_ratio[-1], expected, rtol=1e-3)
    [*_, (step, picture)] = images["feature_vis_examples/Channel#conv_0"]
    assert step == 0
    # Seven plots of twice their height in a row, over two rows of where the signals activate.
    assert 6 < 3 * picture.shape[1] / picture.shape[0] < 14
    [(_, whole), *_] = images["feature_vis_real/Channel#conv_0/0"]
    [(_, place), *_] = images["feature_vis_place/Channel#conv_0/0"]
    assert place.shape[:2] == (whole.shape[0], 2 * whole.shape[1] + 4)


def test_real_grey_images_without_an_axis_of_channels(watch, tmp_path):
    inner = layers.Reshape((12, 10, 1)), layers.Conv2D(4, 3, name="conv"), layers.Flatten()
    model = sequential(*inner, layers.Dense(10), shape=(12, 10))
    history, images = watched(model, PIXELS[..., 0], watch, tmp_path, image_shape=(12, 10, 1))
    assert history.images.shape == (2, 2, 12, 10, 1)
    best = layer_output(model, "conv", PIXELS[..., 0]).mean((1, 2))[:, :2].max(0)
    expected = np.where(best > 0, history.scores[-1] / best, np.nan)
    np.testing.assert_allclose(history.score_ratio[-1], expected, rtol=1e-3)
    assert len(images["feature_vis_examples/Channel#conv_0"]) == 2
