"""Several trainings with one `log_dir`, copies of the callback, and a changing directory."""

import copy
import os
import pickle
import re

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective
from tests.conftest import PIXELS, compiled, make_small_model, read_events, train
from tests.monitoring.conftest import neurons

TAG = "feature_vis_score/Neuron#logits_0"


@pytest.fixture
def watch(tmp_path):
    def make(objectives=neurons, **settings):
        settings = {"log_dir": tmp_path, "steps": 1, "on_error": "raise", **settings}
        return FeatureVisCallback(objectives, **settings)

    return make


def logged(folder, tag=TAG):
    """Return the steps of a series in each run, by TensorBoard's reader."""
    return {
        str(path.parent.relative_to(folder)): [step for step, _ in read_events(path)[1][tag]]
        for path in sorted(folder.rglob("feature_vis"))
    }


def said_of(caplog):
    return [r.getMessage() for r in caplog.records if "log_dir" in r.getMessage()]


def test_a_second_fit_from_epoch_0_is_a_run_of_its_own(model, watch, tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch()
    train(model, callback, epochs=2)
    assert said_of(caplog) == []
    train(model, callback, epochs=1)
    [said] = said_of(caplog)
    assert str(tmp_path / "run 2" / "feature_vis") in said
    assert repr(str(tmp_path)) in said
    train(model, callback, epochs=3, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0, 1], "run 2": [0, 1, 2]}
    # The history of one model goes on, and the strip is of one training.
    assert callback.history.epochs.tolist() == [-1, 0, 1, 0, 1, 2]
    strips = read_events(tmp_path / "run 2/feature_vis")[0]["feature_vis/evolution"]
    widths = [picture.shape[1] for _, picture in strips]
    whole = callback.history.strip().shape[1]
    assert widths[0] < widths[-1] < whole


@pytest.mark.acceptance
def test_a_resumed_training_goes_on_with_the_run_of_its_weights_and_targets(model, watch, tmp_path):
    def other(model):
        return Objective.neuron(model, "logits", [0, 1])

    for objectives in (neurons, neurons, other):
        train(model, watch(objectives), epochs=1)
        if objectives is neurons:
            weights = model.get_weights()
    model.set_weights(weights)
    again = watch()
    train(model, again, epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0], "run 2": [-1, 0, 1], "run 3": [-1, 0]}
    assert again.history.epochs.tolist() == [-1, 0, 1]
    unknown = watch(lambda model: Objective.neuron(model, "logits", [0, 5]))
    train(model, unknown, epochs=2, initial_epoch=1)
    assert logged(tmp_path)["run 4"] == [0, 1]


def two_networks():
    return [compiled(make_small_model(seed)) for seed in (1, 2)]


@pytest.mark.parametrize("backwards", [False, True])
def test_copies_that_go_on_find_the_runs_of_their_networks(backwards, watch, tmp_path, caplog):
    """As Hyperband does: each trial goes on with a new copy, one after the other."""
    callback, networks = watch(), two_networks()
    for network in networks:
        train(network, copy.deepcopy(callback), epochs=2)
    caplog.set_level("WARNING", logger="featviz_callback")
    histories = {}
    for i in (1, 0) if backwards else (0, 1):
        twin = copy.deepcopy(callback)
        train(networks[i], twin, epochs=4, initial_epoch=2)
        histories[i] = twin.history
    whole = [-1, 0, 1, 2, 3]
    assert logged(tmp_path) == {".": whole, "run 2": whole}
    assert "Training begins at" not in caplog.text
    for i, run in enumerate((tmp_path, tmp_path / "run 2")):
        assert histories[i].epochs.tolist() == whole
        # What stands in each run is of one network.
        written = [score for _, score in read_events(run / "feature_vis")[1][TAG]]
        np.testing.assert_allclose(written, histories[i].scores[:, 0], rtol=1e-5)


def test_one_callback_of_two_networks_in_turn_goes_on_with_the_run_of_each(watch, tmp_path):
    callback, (first, second) = watch(), two_networks()
    train(first, callback, epochs=1)
    before = callback.history.images
    train(second, callback, epochs=1)
    train(first, callback, epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0, 1], "run 2": [-1, 0]}
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    # Pictures are read back, and have 256 levels.
    np.testing.assert_allclose(callback.history.images[:2], before, atol=0.51 / 255)


@pytest.mark.parametrize("freq", [1, 10])
def test_a_checkpoint_of_an_earlier_epoch_tells_its_run(freq, watch, tmp_path, caplog):
    """Early stopping restores the best weights; those of other epochs were saved to disk."""
    networks, weights = two_networks(), {}
    for i, network in enumerate(networks):
        keep = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, i=i: weights.update(
                {(i, epoch): networks[i].get_weights()}
            )
        )
        train(network, watch(freq=freq), keep, epochs=3)
    caplog.set_level("WARNING", logger="featviz_callback")
    fresh = compiled()
    fresh.set_weights(weights[0, 1])
    train(fresh, watch(freq=freq), epochs=4, initial_epoch=3)
    assert logged(tmp_path)["."][-1] == 3
    assert logged(tmp_path)["run 2"][-1] == 2
    assert "Training begins at" not in caplog.text


def test_averages_that_the_optimizer_leaves_tell_their_run(watch, tmp_path):
    for seed in (1, 2):
        model = make_small_model(seed)
        optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        train(model, watch(), epochs=2)
        if seed == 1:
            averages = model.get_weights()
    fresh = compiled()
    fresh.set_weights(averages)
    train(fresh, watch(), epochs=3, initial_epoch=2)
    assert logged(tmp_path) == {".": [-1, 0, 1, 2], "run 2": [-1, 0, 1]}


def test_unknown_weights_go_on_with_no_run_of_several(watch, tmp_path, caplog):
    for network in two_networks():
        train(network, watch(), epochs=1)
    caplog.set_level("WARNING", logger="featviz_callback")
    stranger = watch()
    train(compiled(make_small_model(3)), stranger, epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0], "run 2": [-1, 0], "run 3": [0, 1]}
    assert stranger.history.epochs.tolist() == [0, 1]
    [said] = [one for one in caplog.messages if "in a run of its own: no run" in one]
    assert str(tmp_path / "run 2") in said


def test_unknown_weights_go_on_with_the_only_run_once_and_it_is_said(watch, tmp_path, caplog):
    """A backup in the middle of an epoch is of weights that no epoch ended with."""
    caplog.set_level("WARNING", logger="featviz_callback")
    train(compiled(), watch(), epochs=1)
    for seed in (3, 4):
        train(compiled(make_small_model(seed)), watch(), epochs=3, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0, 1, 2], "run 2": [0, 1, 2]}
    said = [one for one in caplog.messages if "Training begins at epoch 1" in one]
    assert [("the only run" in one, "in a run of its own" in one) for one in said] == [
        (True, False), (False, True)
    ]  # fmt: skip


def test_a_run_without_a_record_is_gone_on_with_if_it_is_the_only_one(watch, tmp_path, caplog):
    train(compiled(), watch(), epochs=1)
    note = tmp_path / "feature_vis" / "training.json"
    for text in (None, "{", '{"weights": 1}'):
        note.unlink() if text is None else note.write_text(text)
        train(compiled(), watch(), epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0, 1]}


def test_an_epoch_that_the_same_callback_repeats_replaces_the_first_try(model, watch, tmp_path):
    """`initial_epoch=history.epoch[-1]`, as in Keras' tutorial of transfer learning."""
    callback = watch(probe_data=PIXELS)
    done = train(model, callback, epochs=2)
    train(model, callback, epochs=3, initial_epoch=done.epoch[-1])
    history = callback.history
    assert history.epochs.tolist() == callback.health.epochs.tolist() == [-1, 0, 1, 2]
    assert logged(tmp_path) == {".": [-1, 0, 1, 2]}
    written = [score for _, score in read_events(tmp_path / "feature_vis")[1][TAG]]
    np.testing.assert_allclose(written, history.scores[:, 0], rtol=1e-5)
    # What units did at the end of epoch 0 is not kept, and what they did later is no epoch 0.
    assert np.isnan(history.functional_drift[2]).all()
    assert np.isfinite(history.functional_drift[3]).all()


def test_a_callback_goes_on_with_its_own_run_beside_newer_ones(model, watch, tmp_path):
    first, second = watch(), watch()
    train(model, first, epochs=1)
    train(model, second, epochs=1)
    train(model, first, epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0, 1], "run 2": [-1, 0]}


def test_the_run_is_found_of_a_model_that_the_first_batch_builds(watch, tmp_path):
    def build():
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10, name="logits")])
        model.compile("sgd", "sparse_categorical_crossentropy")
        return model

    train(build(), watch(), epochs=1)
    again = watch()
    train(build(), again, epochs=2, initial_epoch=1)
    assert list(logged(tmp_path)) == ["."]
    assert again.history.epochs.tolist()[-2:] == [0, 1]


@pytest.mark.acceptance
def test_copies_write_runs_of_their_own(model, watch, tmp_path):
    original = watch(None)
    train(model, copy.deepcopy(original), epochs=1)
    train(model, pickle.loads(pickle.dumps(original)), epochs=1)
    train(model, original, epochs=1)
    assert list(logged(tmp_path)) == [".", "run 2", "run 3"]


def test_a_pickled_callback_keeps_its_history_and_trains_again(model, watch, tmp_path):
    callback = watch(probe_data=PIXELS)
    train(model, callback, epochs=1)
    twin = pickle.loads(pickle.dumps(callback))
    assert twin.model is None
    assert twin.log_dir == tmp_path
    np.testing.assert_array_equal(twin.history.images, callback.history.images)
    train(model, twin, epochs=2, initial_epoch=1)
    assert twin.history.epochs.tolist() == [-1, 0, 1]
    assert logged(tmp_path) == {".": [-1, 0, 1]}


def test_a_fit_of_no_epoch_writes_nothing(model, watch, tmp_path):
    callback = watch()
    train(model, callback, epochs=2, initial_epoch=2)
    assert not list(tmp_path.iterdir())
    train(model, callback, epochs=1)
    before = {p: p.stat().st_size for p in tmp_path.rglob("*")}
    train(model, callback, epochs=1, initial_epoch=1)
    assert {p: p.stat().st_size for p in tmp_path.rglob("*")} == before


class Move(keras.callbacks.Callback):
    """Change the working directory after the first epoch."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        os.chdir(self.folder)


def test_the_path_is_fixed_when_training_begins(model, watch, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    callback = watch(log_dir="logs")
    train(model, Move(tmp_path / "elsewhere"), callback, epochs=2)
    assert logged(tmp_path) == {"logs": [-1, 0, 1]}
    assert callback.log_dir == "logs"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    callback.log_dir = "~/logs"
    train(model, callback, epochs=1)
    assert list(logged(tmp_path)) == ["home/logs", "logs"]
    callback.log_dir = None
    with pytest.raises(ValueError, match="`log_dir`"):
        train(model, callback, epochs=1)


@pytest.mark.acceptance
@pytest.mark.parametrize("verbose", [0, 1, 2])
def test_a_line_under_the_progress_bar_is_a_line_of_its_own(verbose, model, watch, capsys):
    train(model, watch(verbose=1), epochs=2, verbose=verbose)
    text = capsys.readouterr().out
    assert len(re.findall(r"^feature_vis: epoch", text, re.MULTILINE)) == 3
    assert "\n\n" not in text


def test_a_progress_bar_is_left_alone_if_nothing_is_said(model, watch, capsys):
    def lines(*callbacks):
        train(model, *callbacks, epochs=2, verbose=1)
        return capsys.readouterr().out.count("\n")

    assert lines() == lines(watch())


def test_a_model_of_another_library_is_refused(watch):
    class Foreign:
        built = True

    with pytest.raises(ValueError, match=r"`model`.*Keras 3.*Received: a .*Foreign.*tf_keras"):
        watch().set_model(Foreign())


@pytest.mark.acceptance
def test_a_copy_compares_with_the_weights_that_training_left(model, watch):
    callback = watch(probe_data=PIXELS)
    for _ in range(2):
        train(model, callback, epochs=1)
    twin = copy.deepcopy(callback)
    model.optimizer.learning_rate = 0.0
    train(model, twin, epochs=2, initial_epoch=1)
    assert (twin.health.update_ratio[-1] == 0).all()
    np.testing.assert_allclose(twin.history.functional_drift[-1], 0, atol=1e-7)
