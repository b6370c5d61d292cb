"""Several trainings with one `log_dir`, copies of the callback, and a changing directory."""

import copy
import os
import pickle
import re

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective
from tests.conftest import PIXELS, read_events, train
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
def test_a_resumed_training_goes_on_with_the_newest_run_of_its_targets(model, watch, tmp_path):
    def other(model):
        return Objective.neuron(model, "logits", [0, 1])

    for objectives in (neurons, neurons, other):
        train(model, watch(objectives), epochs=1)
    again = watch()
    train(model, again, epochs=2, initial_epoch=1)
    assert logged(tmp_path) == {".": [-1, 0], "run 2": [-1, 0, 1], "run 3": [-1, 0]}
    assert again.history.epochs.tolist() == [-1, 0, 1]
    unknown = watch(lambda model: Objective.neuron(model, "logits", [0, 5]))
    train(model, unknown, epochs=2, initial_epoch=1)
    assert logged(tmp_path)["run 4"] == [0, 1]


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
