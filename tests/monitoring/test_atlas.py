"""An atlas: the images of every channel, in files, here and in other processes."""

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
from featviz_callback.monitoring import chunks, workers
from featviz_callback.optimization import step
from tests.conftest import PIXELS, layer_output, make_small_model, read_events, sequential

RANGE = (0.0, 1.0)


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
    assert found.top_images("conv2") is None
    with pytest.raises(KeyError, match="'conv3'. The atlas has conv1, conv2"):
        found["conv3"]


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


def test_real_images_tell_what_is_dead_and_what_activates_most(tmp_path):
    model = sequential(layers.Conv2D(3, 3, activation="relu", name="conv"))
    kernel, bias = model.get_weights()
    bias[1] = -1e3
    model.set_weights([kernel, bias])
    found = make(tmp_path, model, probe_data=PIXELS, batch_size=None)
    scores = layer_output(model, "conv", PIXELS).mean((1, 2)).T
    top = found.top_images("conv")
    for unit in (0, 2):
        np.testing.assert_array_equal(top.indices[unit], np.argsort(-scores[unit])[:6])
        np.testing.assert_allclose(top.scores[unit], np.sort(scores[unit])[::-1][:6], rtol=1e-5)
        expected = found["conv"].scores[unit] / scores[unit].max()
        np.testing.assert_allclose(top.ratio[unit], expected, rtol=1e-5)
    assert found["conv"].status[1] == "dead"
    assert np.isnan(top.ratio[1])
    images, _ = read_events(tmp_path / "feature_vis")
    assert "feature_vis_examples/Channel#conv_0" in images


def test_the_folder_can_be_browsed_in_tensorboard(tmp_path, small_chunks):
    found = make(tmp_path)
    os.remove(tmp_path / "chunks" / sorted(files(tmp_path))[0])
    make(tmp_path)
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
    np.testing.assert_array_equal(there.top_images("conv2").ratio, here.top_images("conv2").ratio)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path, pool, small_chunks, monkeypatch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
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


class Broken:
    """An executor whose first worker introduces itself, and all others die."""

    def __init__(self, pool):
        self.pool = pool

    def submit(self, function, *arguments):
        if function is workers.introduce:
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
