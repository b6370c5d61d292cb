"""The command line, as real processes."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.conftest import PIXELS, compiled, read_events, train


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "featviz_callback", *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its real images, and the checkpoints of a training of two epochs."""
    folder = tmp_path_factory.mktemp("training")
    model = compiled()
    model.save(folder / "model.keras")
    np.save(folder / "x.npy", PIXELS)
    path = folder / "checkpoints" / "small-v2-{epoch:02d}.weights.h5"
    train(model, keras.callbacks.ModelCheckpoint(path, save_weights_only=True), epochs=2)
    model.save(folder / "checkpoints" / "final.keras")
    return folder


@pytest.mark.acceptance
def test_replay_makes_event_files_of_a_folder_and_goes_on(folder, tmp_path):
    arguments = (
        *("replay", folder / "model.keras", folder / "checkpoints", "--steps", 1),
        *("--probe-data", folder / "x.npy", "--log-dir", tmp_path, "--values-range", 0, 2),
    )
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "is epoch 1 of the callback" in done.stderr
    images, scalars = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in scalars["feature_vis_score/Neuron#logits_0"]] == [0, 1]
    assert "feature_vis_examples/Neuron#logits_0" in images
    # Another process finds all of it done, by the weights.
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "goes on after epoch 1" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["feature_vis"]


@pytest.mark.acceptance
@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_sentence(folder, tmp_path):
    done = command("replay", folder / "model.keras", tmp_path)
    assert done.returncode == 2
    [said] = [line for line in done.stderr.splitlines() if "featviz_callback:" in line]
    assert f"no file of {str(tmp_path)!r}" in said
    assert "Traceback" not in done.stderr


def test_arguments_are_refused_before_keras_is_imported(tmp_path):
    done = command("replay", "model.keras")
    assert done.returncode == 2
    assert "FOLDER" in done.stderr
    assert command("replay", "--help").returncode == 0
