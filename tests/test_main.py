"""The command line, as real processes and by its function."""

import importlib
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import featviz_callback
from featviz_callback.__main__ import main
from tests.conftest import IMAGE_SHAPE, LABELS, PIXELS, compiled, read_events, sequential, train


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
    np.savez(folder / "data.npz", y=LABELS // 5, x=PIXELS)
    saving = [
        keras.callbacks.ModelCheckpoint(
            folder / "checkpoints" / "small-v2-{epoch:02d}.weights.h5", save_weights_only=True
        ),
        keras.callbacks.ModelCheckpoint(folder / "whole modèls" / "{epoch:02d}-{loss:.2f}.keras"),
    ]
    train(model, *saving, epochs=2)
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


@pytest.mark.parametrize("checkpoints", ["whole modèls", "whole modèls/{epoch:02d}-{loss}.keras"])
def test_whole_models_and_patterns_are_replayed(folder, tmp_path, capsys, checkpoints):
    """Both with labels, which a `.npz` file has beside the images."""
    log_dir = tmp_path / "my logs"
    given = ("--probe-data", folder / "data.npz", "--log-dir", log_dir, "--steps", 1)
    code = run(folder / "model.keras", folder / checkpoints, *given)
    assert code == 0
    assert f"tensorboard --logdir '{log_dir}' shows" in capsys.readouterr().out
    _, scalars = read_events(log_dir / "feature_vis")
    assert [step for step, _ in scalars["feature_vis_score/Neuron#logits_0"]] == [0, 1]
    assert [step for step, _ in scalars["feature_vis_selectivity/Neuron#logits_0"]] == [0, 1]


def run(*arguments):
    return main(["replay", *map(str, arguments)])


def sentence(capsys):
    """Return the one sentence of this package on standard error."""
    [said] = capsys.readouterr().err.splitlines()
    return said.removeprefix("featviz_callback: ")


def damaged(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\x01\x00")
    path.write_bytes(path.read_bytes()[:-30])


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("x.npy", lambda path: path.touch(), "cannot be read, .*: EOFError"),
        ("x.npy", lambda path: path.write_text("text"), "cannot be read, .*: ValueError"),
        ("x.npy", lambda path: None, "cannot be read, .*: FileNotFoundError"),
        ("x.npz", damaged, "cannot be read, .*: BadZipFile"),
        ("x.npz", np.savez, "with no array"),
        ("x.npz", lambda path: np.savez(path, PIXELS, LABELS), "np.savez.* with arr_0, arr_1"),
    ],
)
def test_what_is_wrong_with_probe_data_is_said(folder, tmp_path, capsys, name, make, said):
    make(tmp_path / name)
    given = ("--probe-data", tmp_path / name, "--log-dir", tmp_path / "logs")
    assert run(folder / "model.keras", folder / "checkpoints", *given) == 2
    assert re.search(said, sentence(capsys))
    assert not (tmp_path / "logs").exists()


def test_a_single_array_of_any_name_is_the_images(folder, tmp_path):
    np.savez(tmp_path / "x.npz", pictures=PIXELS)
    given = ("--probe-data", tmp_path / "x.npz", "--log-dir", tmp_path / "logs", "--steps", 1)
    assert run(folder / "model.keras", folder / "checkpoints", *given, "--freq", 9) == 0
    images, _ = read_events(tmp_path / "logs" / "feature_vis")
    assert "feature_vis_examples/Neuron#logits_0" in images


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a folder that not even root may use")
def test_a_snapshot_that_cannot_be_written_is_no_success(folder, capsys):
    given = ("--log-dir", "/sys/logs", "--steps", 1)
    assert run(folder / "model.keras", folder / "checkpoints", *given) == 2
    printed = capsys.readouterr()
    assert printed.err.splitlines()[-1].endswith("'/sys/logs'")
    assert "shows the tab" not in printed.out


def test_nothing_to_show_is_no_success(tmp_path, capsys):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "1.weights.h5")
    given = (tmp_path / "{epoch}.weights.h5", "--log-dir", tmp_path / "logs")
    assert run(tmp_path / "model.keras", *given) == 2
    assert "Expected a model with one input of images" in sentence(capsys)
    assert not (tmp_path / "logs").exists()


def test_any_other_failure_is_a_sentence_too(folder, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no device\nleft")

    monkeypatch.setattr(featviz_callback, "replay", fail)
    assert run(folder / "model.keras", folder / "checkpoints") == 1
    said = "a snapshot failed, and the same command tries it again. RuntimeError: no device left"
    assert sentence(capsys) == said


OWN_LAYERS = """
import keras

@keras.saving.register_keras_serializable()
class Registered(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs

class Plain(keras.layers.Layer):
    def call(self, inputs):
        return 3 * inputs
"""


def save(tmp_path, layer):
    model = sequential(layer, layers.Flatten(), layers.Dense(3, name="logits"), shape=IMAGE_SHAPE)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "1.weights.h5")
    given = ("--log-dir", tmp_path / "logs", "--steps", 1)
    return tmp_path / "model.keras", tmp_path / "{epoch}.weights.h5", *given


@pytest.mark.parametrize("name", ["Registered", "Plain"])
@pytest.mark.parametrize("is_file", [True, False])
def test_import_finds_classes_of_your_own(tmp_path, monkeypatch, capsys, name, is_file):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "own_layers.py").write_text(OWN_LAYERS)
    arguments = save(tmp_path, getattr(importlib.import_module("own_layers"), name)())
    forget_own_layers()
    assert run(*arguments) == 2
    assert f"Could not locate class '{name}'" in (said := sentence(capsys))
    assert said.endswith("--import MODULE imports your classes.")
    given = tmp_path / "own_layers.py" if is_file else "own_layers"
    assert run(*arguments, "--import", given) == 0
    forget_own_layers()


def forget_own_layers():
    """Make Keras and Python forget the classes, as another process has never known them."""
    sys.modules.pop("own_layers", None)
    keras.saving.get_custom_objects().pop("Custom>Registered", None)


def test_a_module_that_cannot_be_imported_is_said(folder, capsys):
    arguments = (folder / "model.keras", folder / "checkpoints", "--import")
    assert run(*arguments, "no_such_module") == 2
    assert "--import MODULE cannot be imported, 'no_such_module': ModuleNotFound" in sentence(
        capsys
    )
    assert run(*arguments, "missing.py") == 2
    assert "'missing.py': FileNotFoundError" in sentence(capsys)


def test_lambdas_are_loaded_if_the_file_is_trusted(tmp_path, capsys):
    arguments = save(tmp_path, layers.Lambda(lambda one: 2 * one, output_shape=IMAGE_SHAPE))
    assert run(*arguments) == 2
    assert sentence(capsys).endswith("On the command line it is --unsafe that does so.")
    assert run(*arguments, "--unsafe") == 0


def test_arguments_are_refused_before_keras_is_imported(tmp_path):
    done = command("replay", "model.keras")
    assert done.returncode == 2
    assert "FOLDER" in done.stderr
    assert command("replay", "--help").returncode == 0
