"""An atlas: the images of every channel, in files, here and in other processes."""

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, Result, atlas, optimize
from featviz_callback.monitoring import chunks, life, workers
from featviz_callback.optimization import step
from featviz_callback.tensorboard import EventFile
from featviz_callback.tensorboard.plugin.runs import Runs
from tests.conftest import (
    PIXELS,
    accumulator,
    fill,
    make_small_model,
    random_images,
    read_events,
    sequential,
)

RANGE = (0.0, 1.0)
# The package has the function under the name of the module.
atlas_room = importlib.import_module("featviz_callback.monitoring.atlas")


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of one batch, so that small models have several."""
    monkeypatch.setattr(chunks, "_TARGETS", 1)


def make(folder, model=None, objectives=None, **settings):
    settings = {"steps": 2, "values_range": RANGE, "batch_size": 2, "verbose": 0} | settings
    if objectives is None:
        settings["model"] = model or make_small_model()
    return atlas(objectives, folder, **settings)


def files(folder):
    """The chunks of a folder: when each was written, by its name."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "chunks").iterdir()}


def assert_equal(found: Result, expected: Result):
    assert found.names == expected.names
    assert found.status == expected.status
    assert found.starts == expected.starts
    for name in ("images", "scores", "history"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def assert_equal_atlases(found, expected):
    assert list(found) == list(expected)
    for layer in expected:
        assert_equal(found[layer], expected[layer])


def test_every_channel_is_that_of_optimize(tmp_path):
    model = make_small_model()
    found = make(tmp_path, model)
    assert list(found) == ["conv1", "conv2"]
    assert [len(found[layer]) for layer in found] == [4, 6]
    expected = optimize(
        Objective.channel(model, "conv2", range(6)), steps=2, values_range=RANGE, batch_size=2
    )
    assert_equal(found["conv2"], expected)
    assert found.units("conv2") is None
    with pytest.raises(KeyError, match="'conv3'. The atlas has conv1, conv2"):
        found["conv3"]


def test_units_of_an_earlier_call_are_not_computed_again(tmp_path):
    model = make_small_model()
    logits = {
        count: Objective.neuron(model, "logits", ids)
        for count, ids in ((2, [1, 2]), (4, range(4)), (1, 2))
    }
    earlier = make(tmp_path, objectives=logits[2], probe_data=PIXELS)
    before = files(tmp_path)
    found = make(tmp_path, objectives=logits[4], probe_data=PIXELS)
    after = files(tmp_path)
    assert before.items() < after.items()
    assert len(after) == 2
    expected = make(tmp_path / "new", objectives=logits[4], probe_data=PIXELS)
    assert found["logits"].names == expected["logits"].names
    # In company of others, a picture is the same but for rounding.
    np.testing.assert_allclose(found["logits"].images, expected["logits"].images, atol=1e-5)
    np.testing.assert_array_equal(
        found.units("logits").top_images, expected.units("logits").top_images
    )
    # What was computed is all found again, and one unit of a file too.
    assert_equal(make(tmp_path, objectives=logits[4], probe_data=PIXELS)["logits"], found["logits"])
    assert make(tmp_path, objectives=logits[1], probe_data=PIXELS)["logits"].names == [
        "Neuron#logits_2"
    ]
    assert files(tmp_path) == after
    opened = atlas(folder=tmp_path)["logits"]
    assert sorted(opened.names) == sorted(found["logits"].names)
    assert earlier["logits"].names == ["Neuron#logits_1", "Neuron#logits_2"]


@pytest.mark.acceptance
def test_facets_inversions_and_caricatures_are_those_of_optimize(tmp_path, small_chunks):
    model = make_small_model()
    chosen = [
        Objective.neuron(model, "logits", [0, 1]).facets(2),
        Objective.inversion(model, "conv1", PIXELS[:2]),
        Objective.caricature(model, "conv2", PIXELS[2:4]),
    ]
    found = make(tmp_path, objectives=chosen)
    assert list(found) == ["logits", "conv1", "conv2"]
    for one, layer in zip(chosen, found, strict=True):
        expected = optimize(one, steps=2, values_range=RANGE, batch_size=2)
        assert_equal(found[layer], expected)
    opened = atlas(folder=tmp_path)
    assert_equal(opened["logits"], found["logits"])


def test_a_second_call_computes_what_is_missing_and_nothing_else(tmp_path, small_chunks, caplog):
    expected = make(tmp_path / "whole")
    make(tmp_path / "some")
    before = files(tmp_path / "some")
    assert len(before) == 5
    assert files(tmp_path / "whole").keys() == before.keys()
    lost = sorted(before)[3]
    (tmp_path / "some" / "chunks" / lost).unlink()
    found = make(tmp_path / "some")
    after = files(tmp_path / "some")
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] != before[name]} == {lost}
    assert_equal_atlases(found, expected)
    make(tmp_path / "some")
    assert files(tmp_path / "some") == after


def test_a_layer_is_compiled_once_however_many_chunks_it_has(tmp_path, monkeypatch):
    counts = []
    for size in (128, 1):
        monkeypatch.setattr(chunks, "_TARGETS", size)
        model = make_small_model()
        make(tmp_path / str(size), model)
        counts.append(len(step.compiled_steps[model]))
    assert counts[0] == counts[1]


def test_other_objectives_are_added(tmp_path):
    model = make_small_model()
    make(tmp_path, objectives=Objective.channel(model, "conv1", range(4)))
    before = files(tmp_path)
    both = [Objective.channel(model, "conv1", range(4)), Objective.neuron(model, "logits", [3, 1])]
    found = make(tmp_path, objectives=both)
    assert found["logits"].names == ["Neuron#logits_3", "Neuron#logits_1"]
    assert files(tmp_path).items() > before.items()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 3}, "steps"),
        ({"seed": 1}, "seed"),
        ({"values_range": (0, 2)}, "values_range"),
        ({"optimizer": keras.optimizers.Adam(0.1)}, "optimizer"),
        ({"regularizers": [lambda images: 0 * images[:, 0, 0, 0]]}, "regularizers"),
        ({"probe_data": PIXELS}, "probe_data"),
        ({"model": make_small_model(seed=1)}, "weights"),
    ],
)
def test_other_settings_or_weights_in_the_same_folder_are_refused(tmp_path, change, named):
    objective = Objective.channel(make_small_model(), "conv1", range(2))
    make(tmp_path, objectives=[objective])
    before = files(tmp_path)
    if "model" in change:
        objective = Objective.channel(change["model"], "conv1", range(2))
    with pytest.raises(ValueError, match=f"Received other values of: {named}$"):
        make(tmp_path, objectives=[objective], **change)
    assert files(tmp_path) == before


def test_settings_are_compared_by_value(tmp_path):
    """An equal optimizer, and the same function written again."""
    objective = Objective.channel(make_small_model(), "conv1", range(2))
    for _ in range(2):
        settings = {
            "optimizer": keras.optimizers.Adam(0.1),
            "regularizers": [lambda images: 0 * images[:, 0, 0, 0]],
        }
        make(tmp_path, objectives=[objective], **settings)


STRENGTH = 0.0


def dimmed(images):
    return STRENGTH * keras.ops.mean(images, axis=(1, 2, 3))


def test_a_value_that_a_function_reads_is_a_setting(tmp_path, monkeypatch):
    objective = Objective.channel(make_small_model(), "conv1", range(2))
    make(tmp_path, objectives=[objective], regularizers=[dimmed])
    before = files(tmp_path)
    monkeypatch.setitem(globals(), "STRENGTH", 1.0)
    with pytest.raises(ValueError, match="Received other values of: regularizers$"):
        make(tmp_path, objectives=[objective], regularizers=[dimmed])
    monkeypatch.setitem(globals(), "STRENGTH", 0.0)
    make(tmp_path, objectives=[objective], regularizers=[dimmed])
    assert files(tmp_path) == before


def unit_model():
    """Four channels of 1x1 kernels: the pixel, nothing, twice the pixel, dark pixels alone."""
    model = sequential(layers.Conv2D(4, 1, activation="relu", name="conv"))
    kernel = np.reshape([1.0, 1.0, 2.0, -1.0], (1, 1, 1, 4))
    model.set_weights([kernel, np.array([0.0, -9.0, 0.0, 0.05])])
    return model


def area_under_roc(scores, is_class):
    """The share of pairs of an image of a class and another one in the right order."""
    pairs = scores[is_class][:, None] - scores[~is_class][None]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def test_real_images_tell_of_each_unit(tmp_path):
    model, labels = unit_model(), np.arange(16) % 3
    found = make(tmp_path, model, probe_data=(PIXELS, labels), batch_size=None)
    maps = np.maximum(PIXELS * [1.0, 1.0, 2.0, -1.0] + [0.0, -9.0, 0.0, 0.05], 0)
    scores, units = maps.mean((1, 2)).T, found.units("conv")
    assert units.names == found["conv"].names
    for unit in (0, 2, 3):
        order = np.argsort(-scores[unit], kind="stable")[:6]
        np.testing.assert_array_equal(units.top_images[unit], order)
        np.testing.assert_allclose(units.top_scores[unit], scores[unit][order], rtol=1e-4)
        expected = found["conv"].scores[unit] / scores[unit].max()
        np.testing.assert_allclose(units.score_ratio[unit], expected, rtol=1e-4)
        areas = [area_under_roc(scores[unit], labels == one) for one in range(3)]
        np.testing.assert_allclose(units.selectivity[unit], max(areas), rtol=1e-5)
        assert units.best_class[unit] == str(np.argmax(areas))
        for image, place in zip(order, units.places[unit], strict=True):
            row, column = np.unravel_index(maps[image, ..., unit].argmax(), (12, 10))
            assert place.activation[row, column] == 255
            assert place.box == ((row, row + 1), (column, column + 1))
    np.testing.assert_allclose(units.active_share, (scores > 0).mean(1))
    assert units.dead.tolist() == [0, 1, 0, 0]
    assert units.duplicate.tolist() == [0, 0, 1, 0]
    assert found["conv"].status[1] == "dead"
    assert units.places[1] == [None] * 6
    assert np.isnan(units.score_ratio[1])


def test_what_real_images_tell_is_in_the_log_once(tmp_path, small_chunks):
    settings = {"probe_data": (PIXELS, np.arange(16) % 3)}
    found = make(tmp_path, unit_model(), **settings)
    os.remove(tmp_path / "chunks" / sorted(files(tmp_path))[0])
    make(tmp_path, unit_model(), **settings)
    units = found.units("conv")
    images, scalars = read_events(tmp_path / "feature_vis")
    for name, area, share in zip(units.names, units.selectivity, units.active_share, strict=True):
        assert f"feature_vis_examples/{name}" in images
        assert scalars[f"feature_vis_active_share/{name}"] == [(0, pytest.approx(share))]
        logged = scalars.get(f"feature_vis_selectivity/{name}", [(0, np.nan)])
        assert logged == [(0, pytest.approx(area, nan_ok=True))]
    assert scalars["feature_vis_layer_dead/conv"] == [(0, 0.25)]
    contents = [
        json.loads(one) for one in texts(tmp_path, "feature_vis_real_scores/Channel#conv_0")
    ]
    assert [one["indices"] for one in contents] == [units.top_images[0].tolist()]


def texts(folder, tag):
    events = accumulator(folder / "feature_vis").Tensors(tag)
    return [event.tensor_proto.string_val[0] for event in events]


def test_of_what_is_no_unit_no_health_is_told(tmp_path):
    model = make_small_model()
    objectives = [
        Objective.direction(model, "conv1", np.eye(4)[:2]),
        Objective.neuron(model, "logits", 0) + Objective.channel(model, "conv2", 0),
        Objective.neuron(model, "conv2", [(1, 1, 0)]),
    ]
    found = make(tmp_path, objectives=objectives, probe_data=PIXELS)
    assert list(found) == ["conv1", "logits", "conv2"]
    assert np.isnan(found.units("conv1").dead).all()
    assert np.isnan(found.units("logits").duplicate).all()
    assert found.units("conv2").dead.tolist() == [0]
    assert np.isnan(found.units("conv2").selectivity).all()
    assert found.units("logits").places == [[None] * 6]


def test_the_folder_can_be_browsed_in_tensorboard(tmp_path, small_chunks):
    found = make(tmp_path)
    os.remove(tmp_path / "chunks" / sorted(files(tmp_path))[0])
    make(tmp_path)
    # Two calls have written one run.
    assert len(Runs({str(tmp_path): ""}).found()) == 1
    images, scalars = read_events(tmp_path / "feature_vis")
    for layer in found:
        for name, image, score in zip(
            found[layer].names, found[layer].images, found[layer].scores, strict=True
        ):
            [(step, picture)] = images[f"feature_vis/{name}"]
            assert step == 0
            shown = picture.reshape(picture.shape[0], picture.shape[1], -1)[..., :1] / 255
            np.testing.assert_allclose(shown, image, atol=1 / 255)
            assert scalars[f"feature_vis_score/{name}"] == [(0, pytest.approx(score, rel=1e-5))]


def test_the_folder_alone_opens_what_is_there(tmp_path, small_chunks, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    made = make(tmp_path)
    caplog.clear()
    assert_equal_atlases(atlas(folder=tmp_path), made)
    assert not caplog.messages
    for name in files(tmp_path):
        if name.startswith("conv1"):
            os.remove(tmp_path / "chunks" / name)
    assert list(atlas(folder=tmp_path)) == ["conv2"]
    assert "has 6 of 10 units so far" in caplog.text


def test_another_architecture_with_equal_weights_is_refused(tmp_path):
    def convolution(activation):
        return sequential(layers.Conv2D(2, 3, activation=activation, name="conv"))

    make(tmp_path, convolution("tanh"))
    before = files(tmp_path)
    make(tmp_path, convolution("tanh"))
    with pytest.raises(ValueError, match="Received other values of: architecture$"):
        make(tmp_path, convolution("relu"))
    assert files(tmp_path) == before


@pytest.mark.parametrize("settings", [{"transformations": [], "seed": 0}, {"regularizers": None}])
def test_settings_that_mean_the_same_are_equal(tmp_path, settings):
    same = {"transformations": None, "seed": np.int64(0)} if "seed" in settings else {}
    objective = Objective.channel(make_small_model(), "conv1", range(2))
    make(tmp_path, objectives=[objective], **settings)
    before = files(tmp_path)
    make(tmp_path, objectives=[objective], **same)
    assert files(tmp_path) == before


def test_real_images_beyond_the_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`probe_data`.*values_range=.*, and images from .* to 2"):
        make(tmp_path, probe_data=random_images(4, 12, 10, 1) * 250)


def test_the_plan_of_another_version_is_refused(tmp_path, small_chunks):
    make(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps([row[:3] for row in plan]))
    with pytest.raises(ValueError, match=r"in another folder. Received: rows of \[3\] values"):
        atlas(folder=tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    file, training, damaged = (tmp_path / name for name in ("file", "training", "damaged"))
    file.write_text("")
    with pytest.raises(ValueError, match="`folder`.*that can be written to"):
        make(file)
    EventFile(training).scalar("feature_vis/seconds", 0, 1.0)
    with pytest.raises(ValueError, match="`folder`.*event files of a training"):
        make(training)
    make(damaged)
    (damaged / "atlas.json").write_text("{")
    with pytest.raises(ValueError, match="Expected JSON that `atlas` wrote"):
        make(damaged)


def test_foreign_files_and_parts_of_files_do_no_harm(tmp_path, small_chunks):
    folder = tmp_path / "chunks"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    expected = make(tmp_path)
    first, second, *_ = sorted(folder.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:-40])
    assert_equal_atlases(make(tmp_path), expected)
    # The same length, with other content.
    content = bytearray(second.read_bytes())
    at = len(content) // 2
    content[at : at + 300] = bytes(300)
    second.write_bytes(content)
    with pytest.raises(ValueError, match="Delete the file, and the next call"):
        make(tmp_path)["conv1"]
    second.unlink()
    assert_equal_atlases(make(tmp_path), expected)
    assert (folder / "notes.txt").read_text() == "mine"


def test_drivers_of_one_process_number_write_whole_plans(tmp_path):
    """Threads have one number, as the processes of containers often do."""
    plans = [[i] * 10 ** (i % 4) for i in range(40)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(atlas_room._write_json, [str(tmp_path / "plan.json")] * 40, plans))
    assert json.loads((tmp_path / "plan.json").read_text()) in plans
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_a_relative_folder_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = make("here")
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    assert len(found["conv1"]) == 4


def test_objectives_of_two_models_are_refused(tmp_path):
    one, other = make_small_model(), make_small_model(seed=1)
    objectives = [Objective.channel(one, "conv1", 0), Objective.channel(other, "conv2", 0)]
    with pytest.raises(ValueError, match="`objectives`.*Expected objectives of one model"):
        make(tmp_path, objectives=objectives)


def test_names_that_are_no_names_of_files(tmp_path):
    # Torch takes no dot in the name of a layer.
    name = ("a_b" if keras.backend.backend() == "torch" else "a.b") + "c" * 200
    model = sequential(layers.Conv2D(2, 1, name=name))
    objective = Objective.channel(model, name, [0, 1], names=["../a/b.", ".."])
    made = make(tmp_path / "in", objectives=objective)
    assert made[name].names == ["../a/b.", ".."]
    assert_equal_atlases(atlas(folder=tmp_path / "in"), made)
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


def test_several_inputs_and_a_layer_that_is_called_twice(tmp_path):
    shared = layers.Conv2D(2, 3, activation="tanh", name="shared")
    inputs = [
        keras.Input((12, 10, 1), name="image"),
        keras.Input((12, 10, 1), name="mask"),
        keras.Input((3,), name="vector"),
    ]
    maps = [layers.GlobalAveragePooling2D()(shared(one)) for one in inputs[:2]]
    model = fill(keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([*maps, inputs[2]]))))
    fixed = {"mask": np.ones((12, 10, 1)), "vector": np.zeros(3)}
    found = make(tmp_path, model, fixed_inputs=fixed)
    # One of the two calls receives the image.
    [name] = {name.rpartition("_")[0] for name in found["shared"].names}
    assert name in ("Channel#shared", "Channel#shared:1")
    assert found["shared"].images.std() > 0


def test_signals_have_places(tmp_path):
    model = fill(keras.Sequential([keras.Input((20, 2)), layers.Conv1D(3, 3, name="conv")]))
    signals = random_images(8, 20, 2)
    found = make(tmp_path, model, probe_data=signals)
    place = found.units("conv").places[0][0]
    assert place.activation.shape == (1, 18)
    assert found["conv"].images.shape == (3, 20, 2)


def test_the_bar_shows_units_a_second(tmp_path, capsys, small_chunks):
    make(tmp_path, verbose=1)
    printed = capsys.readouterr().out
    assert "0/10 units" in printed
    assert "units/s, 0:0" in printed
    assert printed.rstrip(" \n").split("\r")[-1].startswith("10/10 units")
    make(tmp_path, verbose=1)
    assert capsys.readouterr().out.startswith("\r10/10 units")


def test_what_is_no_folder_or_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`folder`.*gs://bucket"):
        make("gs://bucket/atlas")
    with pytest.raises(ValueError, match="`model`.*model=None, objectives=None"):
        atlas(folder=tmp_path)
    model = sequential(layers.Flatten(), layers.Dense(3))
    with pytest.raises(ValueError, match="no convolution receives the image"):
        make(tmp_path, model)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_call_keeps_what_is_finished(tmp_path, small_chunks, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return chunks.compute(*arguments)

    monkeypatch.setattr(workers, "compute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert len(files(tmp_path)) == 2
    monkeypatch.undo()
    chunks._TARGETS = 1
    try:
        found = make(tmp_path)
    finally:
        chunks._TARGETS = 128
    assert_equal_atlases(found, make(tmp_path / "other"))


DRIVER = """
import sys
from pathlib import Path
from featviz_callback.monitoring import chunks
from tests.monitoring.test_atlas import make, wide_model
chunks._TARGETS = 1
make(Path(sys.argv[1]), wide_model())
"""


def wide_model():
    return sequential(layers.Conv2D(40, 3, activation="tanh", name="conv"))


@pytest.mark.acceptance
def test_a_killed_driver_loses_nothing(tmp_path, small_chunks):
    folder = tmp_path / "chunks"
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], env=environment)
    while not folder.exists() or len(list(folder.glob("*.npz"))) < 3:
        assert driver.poll() is None
        time.sleep(0.005)
    driver.kill()
    driver.wait()
    before = {name: when for name, when in files(tmp_path).items() if name.endswith(".npz")}
    assert 3 <= len(before) < 20
    found = make(tmp_path, wide_model())
    assert len(found["conv"]) == 40
    assert before.items() < files(tmp_path).items()
    assert_equal_atlases(found, make(tmp_path / "whole", wide_model()))


@pytest.mark.acceptance
def test_two_drivers_at_once_make_one_atlas(tmp_path, small_chunks):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    drivers = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [driver.wait() for driver in drivers] == [0, 0]
    before = files(tmp_path)
    assert len(before) == 20
    found = make(tmp_path, wide_model())
    assert files(tmp_path) == before
    assert_equal_atlases(found, make(tmp_path / "whole", wide_model()))


DRIVER_WITH_WORKERS = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tests.monitoring.test_atlas import make, wide_model
if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(abs, 0).result()
        print(*pool._processes, flush=True)
        make(Path(sys.argv[1]), wide_model(), executor=pool, steps=10_000)
"""


@pytest.mark.acceptance
def test_a_killed_driver_leaves_no_worker_behind(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", DRIVER_WITH_WORKERS, str(tmp_path)]
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    worker = int(driver.stdout.readline())
    time.sleep(1)
    # It has the model once it computes.
    while not list(tmp_path.glob("models/*.keras")):
        assert driver.poll() is None
        time.sleep(0.1)
    time.sleep(3)
    driver.kill()
    driver.wait()
    for _ in range(600):
        if not is_running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("The worker has outlived its driver.")


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- other processes ---------------------------------------------------------------------


@keras.saving.register_keras_serializable("atlas")
class Own(keras.layers.Layer):
    def __init__(self, factor, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(keras.layers.Layer):
    """A layer whose constructor needs what its config does not have."""

    def __init__(self, factor, **settings):
        super().__init__(**settings)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor


def own_model(layer=None):
    return sequential(
        layers.Conv2D(4, 3, activation="tanh", name="conv1"),
        layer or Own(1.5, name="own"),
        layers.Conv2D(6, 3, activation="tanh", name="conv2"),
    )


def noisy(images):
    return 0.1 * keras.ops.mean(images**2, (1, 2, 3))


@pytest.fixture
def pool():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.acceptance
@pytest.mark.slow
def test_workers_compute_the_same_to_the_bit(tmp_path, pool):
    model, settings = own_model(), {"probe_data": PIXELS, "regularizers": [noisy]}
    model.compile("adam", "mse")
    before = model.get_weights()
    here = make(tmp_path / "here", model, **settings)
    there = make(tmp_path / "there", model, executor=pool, **settings)
    assert_equal_atlases(there, here)
    assert files(tmp_path / "there").keys() == files(tmp_path / "here").keys()
    for name, told in vars(here.units("conv2")).items():
        if name != "places":
            np.testing.assert_array_equal(getattr(there.units("conv2"), name), told, name)
    for rows in zip(there.units("conv2").places, here.units("conv2").places, strict=True):
        for one, other in zip(*rows, strict=True):
            assert (one.box, one.offsets) == (other.box, other.offsets)
            np.testing.assert_array_equal(one.activation, other.activation)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, pool, small_chunks, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    # It has more than one chunk then, and finishes some of them.
    monkeypatch.setattr(workers, "_GROUPS", 1)
    expected = make(tmp_path / "here")
    pool.submit(time.sleep, 0).result()
    [worker] = pool._processes
    folder = tmp_path / "there" / "chunks"

    def kill():
        while not folder.exists() or not list(folder.iterdir()):
            time.sleep(0.01)
        os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    found = make(tmp_path / "there", executor=pool, steps=2)
    killer.join()
    assert_equal_atlases(found, expected)
    assert not [name for name in files(tmp_path / "there") if name.endswith(".part")]


class Pausing(ProcessPoolExecutor):
    """A pool whose worker stands still for a while at each task."""

    def submit(self, function, *arguments):
        future = super().submit(function, *arguments)
        if function is workers.work:
            [worker] = self._processes
            os.kill(worker, signal.SIGSTOP)
            threading.Timer(4, os.kill, [worker, signal.SIGCONT]).start()
        return future


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_worker_that_stands_still_is_told_once_and_waited_for(tmp_path, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    monkeypatch.setattr(life, "LEAST", 2.0)
    monkeypatch.setattr(life, "TIMES", 0)
    monkeypatch.setattr(life, "_EVERY", 0.2)
    with Pausing(1, mp_context=get_context("spawn")) as own:
        found = make(tmp_path / "there", executor=own)
    assert caplog.text.count("a Pausing: nothing has come back for") == 1
    assert "is computed here" not in caplog.text
    assert_equal_atlases(found, make(tmp_path / "here"))


class Broken:
    """An executor whose first worker introduces itself, and all others die."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function, *arguments):
        if function is workers.greet:
            return self.pool.submit(function)
        future = Future()
        future.set_exception(KeyboardInterrupt())
        return future


@pytest.mark.acceptance
@pytest.mark.slow
def test_what_a_worker_does_not_finish_is_computed_here(tmp_path, pool, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    found = make(tmp_path / "there", executor=Broken(pool))
    assert caplog.text.count("is computed here. KeyboardInterrupt") == 1
    assert_equal_atlases(found, make(tmp_path / "here"))


@pytest.mark.acceptance
def test_a_worker_that_is_interrupted_while_it_starts_does_not_end_an_atlas(tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")

    class Interrupted:
        def submit(self, function, *arguments):
            future = Future()
            future.set_exception(KeyboardInterrupt())
            return future

    found = make(tmp_path / "there", executor=Interrupted())
    assert caplog.text.count("is computed here. KeyboardInterrupt") == 1
    assert_equal_atlases(found, make(tmp_path / "here"))


class Elsewhere:
    """An executor that greets with one pool, and has another one compute."""

    def __init__(self, greeting, computing):
        self.greeting, self.computing = greeting, computing

    def submit(self, function, *arguments):
        pool = self.greeting if function is workers.greet else self.computing
        return pool.submit(function, *arguments)


def pretend(version):
    """Make a worker one of another version."""
    import featviz_callback

    featviz_callback.__version__ = version


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_worker_of_another_version_than_the_first_computes_nothing(tmp_path, pool, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    with ProcessPoolExecutor(1, get_context("spawn"), pretend, ("0.0.1",)) as old:
        make(tmp_path / "there", executor=Elsewhere(pool, old))
    assert caplog.text.count("is computed here. UnfitWorker") == 1
    assert "{'featviz_callback': '0.0.1'}" in caplog.text


@pytest.mark.acceptance
def test_an_owner_who_shuts_a_busy_pool_down_does_not_stop_an_atlas(tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))

    class Closing:
        def submit(self, function, *arguments):
            if function is workers.greet:
                return pool.submit(function, *arguments)
            # A pool takes two more than its worker runs, which nobody can cancel.
            for _ in range(4):
                pool.submit(time.sleep, 1)
            future = pool.submit(function, *arguments)
            pool.shutdown(wait=False, cancel_futures=True)
            return future

    found = make(tmp_path, executor=Closing())
    assert np.isfinite(found["conv1"].scores).all()
    assert caplog.text.count("is computed here") == 1


def set_settings(floatx, epsilon):
    """Give a process other settings of Keras."""
    keras.config.set_floatx(floatx)
    keras.config.set_epsilon(epsilon)


class Normalise:
    """A penalty that depends on Keras' settings."""

    def __call__(self, images):
        size = keras.ops.sqrt(keras.ops.mean(images**2, axis=(1, 2, 3)))
        return 0.1 * size / (size + 1e6 * keras.config.epsilon())


@pytest.mark.acceptance
@pytest.mark.slow
def test_workers_use_the_settings_of_keras_and_then_their_own(tmp_path):
    settings = {"regularizers": [Normalise()]}
    here = make(tmp_path / "here", **settings)
    given = "float32", 1e-3
    with ProcessPoolExecutor(1, get_context("spawn"), set_settings, given) as pool:
        there = make(tmp_path / "there", executor=pool, **settings)
        found = pool.submit(keras.config.epsilon).result()
    assert_equal_atlases(there, here)
    assert found == 1e-3


class LostOnce:
    """A penalty that fails the first time that it is called, and notes who called it."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "calls.txt")

    def __call__(self, images):
        is_first = not os.path.exists(self.path)
        with open(self.path, "a") as file:
            file.write(f"{os.getpid()}\n")
        if is_first:
            raise RuntimeError("lost once")
        return keras.ops.mean(images, axis=(1, 2, 3)) * 0


@pytest.mark.acceptance
def test_a_lost_chunk_is_sent_to_a_worker_once_more(tmp_path, pool, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    penalty = LostOnce(str(tmp_path))
    made = make(tmp_path / "there", executor=pool, regularizers=[penalty])
    assert np.isfinite(made["conv1"].scores).all()
    with open(penalty.path) as file:
        callers = file.read().split()
    assert len(callers) > 1
    assert str(os.getpid()) not in callers
    assert "did not finish" not in caplog.text


def test_threads_are_refused(tmp_path):
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(ValueError, match="threads of this process"):
            make(tmp_path, executor=pool)

        class Disguised:
            submit = staticmethod(pool.submit)

        with pytest.raises(ValueError, match="threads of this process"):
            make(tmp_path, executor=Disguised())
    with pytest.raises(ValueError, match="`executor`.*executor=3"):
        make(tmp_path, executor=3)
    assert not (tmp_path / "chunks").exists() or files(tmp_path) == {}


def test_workers_of_another_version_are_refused(tmp_path):
    class Old:
        def submit(self, function):
            future = Future()
            future.set_result({**function(), "process": 0, "keras": "3.0.0"})
            return future

    with pytest.raises(ValueError, match="other versions, {'keras': '3.0.0'}"):
        make(tmp_path, executor=Old())


def test_a_model_that_cannot_be_made_again_is_refused_before_anything(tmp_path, pool):
    with pytest.raises(ValueError, match="cannot be made again in another process"):
        make(tmp_path, own_model(Forgetful(2.0)), executor=pool)
    assert files(tmp_path) == {}


def test_the_manifest_has_no_values_of_the_user(tmp_path):
    make(tmp_path)
    manifest = json.loads((tmp_path / "atlas.json").read_text())
    assert all(len(value) == 64 for value in manifest.values())
