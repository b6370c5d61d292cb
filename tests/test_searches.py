"""Searches and cross-validation by the libraries themselves: each training is a run of its own."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback
from tests.conftest import random_images, read_events

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="one backend suffices"),
]

X, Y = random_images(18, 8, 8, 1), np.arange(18) % 3


def build(filters=2):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(filters, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(3, name="logits"),
        ]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def logged(folder):
    """Return the epochs and the targets of each run, by TensorBoard's reader."""
    found = {}
    for path in sorted(folder.rglob("feature_vis")):
        scores = {
            tag: [step for step, _ in series]
            for tag, series in read_events(path)[1].items()
            if tag.startswith("feature_vis_score/")
        }
        found[str(path.parent.relative_to(folder))] = scores
    return found


def tags_of(filters):
    names = [f"Channel#conv_{i}" for i in range(filters)]
    names += [f"Neuron#logits_{i}" for i in range(3)]
    return {f"feature_vis_score/{name}" for name in names}


def test_each_training_of_a_search_of_keras_tuner_is_a_run(tmp_path):
    """Two trials, each of which trains twice, with copies of one callback."""
    keras_tuner = pytest.importorskip("keras_tuner")
    tuner = keras_tuner.GridSearch(
        lambda choices: build(choices.Choice("filters", [2, 3])),
        objective="val_loss",
        executions_per_trial=2,
        directory=str(tmp_path / "search"),
    )
    callback = FeatureVisCallback(log_dir=tmp_path / "logs", steps=1, on_error="raise")
    tuner.search(X, Y, epochs=1, validation_data=(X, Y), verbose=0, callbacks=[callback])
    runs = logged(tmp_path / "logs")
    assert list(runs) == [".", "run 2", "run 3", "run 4"]
    counts = [2, 2, 3, 3]
    for filters, scores in zip(counts, runs.values(), strict=True):
        assert scores.keys() == tags_of(filters)
        assert all(steps == [-1, 0] for steps in scores.values())
    # The callback that was given has watched none of them.
    assert not len(callback.history)


def test_trials_that_hyperband_goes_on_with_stay_runs_of_their_own(tmp_path):
    keras_tuner = pytest.importorskip("keras_tuner")

    class Kept(keras.callbacks.Callback):
        """Keeps the weights that each training begins with and that each epoch ends with."""

        kept = []

        def on_epoch_begin(self, epoch, logs=None):
            if not hasattr(self, "own"):
                self.own = {"first": epoch, "begun": self.model.get_weights(), "ended": {}}
                self.kept.append(self.own)

        def on_epoch_end(self, epoch, logs=None):
            self.own["ended"][epoch] = self.model.get_weights()

    def make(choices):
        model = build(2)
        model.optimizer.learning_rate = choices.Float("rate", 1e-4, 1e-1, sampling="log")
        return model

    tuner = keras_tuner.Hyperband(
        make, objective="val_loss", max_epochs=4, factor=2, directory=str(tmp_path / "search")
    )
    callback = FeatureVisCallback(log_dir=tmp_path / "logs", steps=1, on_error="raise")
    tuner.search(X, Y, validation_data=(X, Y), verbose=0, callbacks=[callback, Kept()])
    # What a trial writes goes behind the epochs of the trial that its weights come from.
    runs = []
    for own in Kept.kept:
        new = {-1: None, **own["ended"]}
        if own["first"] == 0:
            runs.append(new)
            continue
        [run] = [
            run for run in runs
            if any(same(own["begun"], ended) for epoch, ended in run.items() if epoch >= 0)
        ]  # fmt: skip
        run.update(own["ended"])
    assert len(runs) < len(Kept.kept)
    found = [
        next(iter(scores.values()))
        for _, scores in sorted(logged(tmp_path / "logs").items(), key=number)
    ]
    assert found == [sorted(run) for run in runs]


def same(weights, others):
    return all(map(np.array_equal, weights, others))


def number(run):
    return int((run[0].split() + ["1"])[1])


def test_each_fold_of_a_cross_validation_is_a_run(tmp_path):
    model_selection = pytest.importorskip("sklearn.model_selection")
    callback = FeatureVisCallback(log_dir=tmp_path, steps=1, on_error="raise")
    last = []
    for chosen, left in model_selection.KFold(3).split(X):
        model = build()
        model.fit(
            *(X[chosen], Y[chosen]),
            validation_data=(X[left], Y[left]),
            verbose=0,
            callbacks=[callback],
        )
        # The same callback begins anew with each model.
        assert callback.history.epochs.tolist() == [-1, 0]
        last.append(callback.history.scores[-1])
    runs = logged(tmp_path)
    assert list(runs) == [".", "run 2", "run 3"]
    assert all(steps == [-1, 0] for one in runs.values() for steps in one.values())
    for path, scores in zip(runs, last, strict=True):
        _, scalars = read_events(tmp_path / path / "feature_vis")
        written = [scalars[f"feature_vis_score/{name}"][-1][1] for name in callback.history.names]
        np.testing.assert_allclose(written, scores, rtol=1e-5)


LEGACY = """
import numpy as np
import tf_keras
from featviz_callback import FeatureVisCallback

model = tf_keras.Sequential([tf_keras.layers.Input((8, 8, 1)), tf_keras.layers.Flatten()])
model.compile("sgd", "mse")
callback = FeatureVisCallback()
try:
    model.fit(np.zeros((2, 8, 8, 1)), np.zeros((2, 64)), verbose=0, callbacks=[callback])
except ValueError as error:
    print(error)
"""


def test_a_legacy_model_gets_one_clear_sentence(tmp_path):
    pytest.importorskip("tf_keras")
    # In a process of its own, since its layers are registered with TensorFlow once.
    done = subprocess.run(
        [sys.executable, "-c", LEGACY],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [said] = done.stdout.splitlines()
    assert "Expected a model of Keras 3" in said
    assert "not with `tf_keras`" in said
    assert not list(tmp_path.rglob("*tfevents*"))
