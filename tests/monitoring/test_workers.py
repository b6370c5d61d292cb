"""What crosses to a worker: a task without its model, and the model as a file."""

import os
import threading
from concurrent.futures import Future

import keras
import numpy as np
import pytest

from featviz_callback import Objective
from featviz_callback.monitoring import wire, workers
from featviz_callback.monitoring.chunks import Chunk
from featviz_callback.objectives import join_alike
from featviz_callback.optimization import run
from tests.conftest import compiled, fill, make_small_model, prepare, sequential


def make_task(model, layer="logits"):
    [joined] = join_alike([Objective.neuron(model, layer, [4, 0])])
    return prepare(joined)


def test_a_task_crosses_without_its_model():
    task = make_task(make_small_model())
    packed = workers._pack(task)
    other = make_small_model()
    found = wire.load(packed, lambda _: other)
    assert found.targets.model is other
    assert len(packed) < 20_000
    np.testing.assert_array_equal(run(found)[0].images, run(task)[0].images)


def test_a_model_crosses_as_a_file_without_its_optimizer(tmp_path):
    model = compiled()
    model.compile(keras.optimizers.Adam(0.1), "mse")
    bare = make_small_model()
    path, found = workers._save(bare, tmp_path)
    model.fit(np.zeros((2, 12, 10, 1)), np.zeros((2, 10)), verbose=0)
    drawn = np.random.get_state()[1].tolist()
    before = [np.array(one) for one in model.get_weights()]
    trained, _ = workers._save(model, tmp_path)
    for one, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, expected)
    assert np.random.get_state()[1].tolist() == drawn
    sizes = [os.path.getsize(one) for one in (path, trained)]
    assert sizes[1] < 1.2 * sizes[0]
    again = workers._load(path, found)
    for one, expected in zip(again.get_weights(), bare.get_weights(), strict=True):
        np.testing.assert_array_equal(one, expected)
    with pytest.raises(ValueError, match="not the one that was sent"):
        workers._load(trained, found)


@pytest.mark.parametrize("delay", [None, 0.2])
def test_a_worker_that_is_late_is_told_once(tmp_path, monkeypatch, caplog, delay):
    class Late:
        def submit(self, function):
            future = Future()
            told = {**function(), "unique": "of another process"}
            if delay is None:
                future.set_result(told)
            else:
                threading.Timer(delay, future.set_result, [told]).start()
            return future

    caplog.set_level("WARNING", logger="featviz_callback")
    monkeypatch.setattr(workers, "_PATIENCE", 0.05)
    found = workers.Workers(Late(), [], tmp_path)
    assert not found._is_broken
    expected = "No worker of the executor, a Late, has answered"
    assert caplog.text.count(expected) == (delay is not None)
    assert len(caplog.messages) == (delay is not None)


def convolution(activation="tanh", name="conv", model="model"):
    inputs = keras.Input((8, 8, 1), name="image")
    outputs = keras.layers.Conv2D(2, 3, activation=activation, name=name)(inputs)
    return fill(keras.Model(inputs, outputs, name=model))


def test_a_model_that_is_there_stays_for_the_workers_of_an_earlier_call(tmp_path):
    first = workers._save(convolution(), tmp_path)
    with open(first[0], "rb") as file:
        before = file.read()
    os.utime(first[0], (1, 1))
    assert workers._save(convolution(), tmp_path) == first
    assert os.path.getmtime(first[0]) == 1
    for other in (convolution("relu"), convolution(name="other"), convolution(model="other")):
        path, _ = workers._save(other, tmp_path)
        assert path != first[0]
        assert workers._load(path, first[1]).layers[1].name == other.layers[1].name
    with open(first[0], "rb") as file:
        assert file.read() == before


@pytest.mark.parametrize("content", ["half", "of other weights"])
def test_a_damaged_model_is_written_again(tmp_path, content):
    model = convolution()
    path, weights = workers._save(model, tmp_path)
    if content == "half":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        fill(convolution(), seed=1).save(path)
    assert workers._save(model, tmp_path) == (path, weights)
    again = workers._load(path, weights)
    for one, expected in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, expected)
    assert [one.name for one in (tmp_path / "models").iterdir()] == [os.path.basename(path)]


def test_a_lambda_layer_crosses(tmp_path):
    model = sequential(keras.layers.Flatten(), keras.layers.Lambda(lambda x: 2 * x, name="twice"))
    again = workers._load(*workers._save(model, tmp_path))
    inputs = np.ones((1, 12, 10, 1), "float32")
    np.testing.assert_array_equal(again.predict(inputs, verbose=0), np.full((1, 120), 2.0))


def test_a_process_of_the_same_number_in_another_container_is_no_thread_of_this_one():
    told = workers.introduce()
    with pytest.raises(ValueError, match="threads of this process"):
        workers.require_alike(told, told)
    workers.require_alike({**told, "unique": "of another process"}, told)
    # A fork has all that its parent drew.
    workers.require_alike({**told, "process": told["process"] + 1}, told)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, ["d0 d1", "d2 d3", "b0 b1", "d4", "a0", "c0"]),
        (2, ["d0", "d1", "d2", "d3", "d4", "a0", "b0", "b1", "c0"]),
        (None, ["d0", "d1", "d2", "d3", "d4", "a0", "b0", "b1", "c0"]),
    ],
)
def test_few_workers_get_several_chunks_of_a_layer_at_once(count, expected, monkeypatch):
    # Nine chunks are two for each of four groups of one worker.
    monkeypatch.setattr(workers, "_GROUPS", 4)
    sizes = {"a": [96], "b": [96, 40], "c": [8], "d": [128, 128, 128, 128, 100]}
    tasks = {name: object() for name in sizes}
    chunks = [
        (Chunk(tasks[name], tuple(range(size)), f"{name}{i}", name), None)
        for name, some in sizes.items()
        for i, size in enumerate(some)
    ]
    found = workers.grouped(chunks, count)
    assert [" ".join(one.path for one, _ in group) for group in found] == expected
