"""A chunk of an atlas: its file is whole or not there, and says what the run said."""

import numpy as np
import pytest

from featviz_callback import Objective
from featviz_callback.monitoring import chunks
from featviz_callback.objectives import join_alike
from featviz_callback.optimization import run
from tests.conftest import make_small_model, prepare


@pytest.fixture
def task():
    """Five logits in two batches of three."""
    [joined] = join_alike([Objective.neuron(make_small_model(), "logits", [4, 0, 7, 2, 9])])
    return prepare(joined, batch_size=3)


def test_chunks_are_whole_batches(task, monkeypatch):
    assert chunks.split(task) == [(0, 1, 2, 3, 4)]
    monkeypatch.setattr(chunks, "_TARGETS", 4)
    assert chunks.split(task) == [(0, 1, 2), (3, 4)]
    monkeypatch.setattr(chunks, "_TARGETS", 2)
    assert chunks.split(task) == [(0, 1, 2), (3, 4)]


def test_chunks_read_together_are_the_whole(task, tmp_path):
    expected, _ = run(task)
    paths = [str(tmp_path / name) for name in "ab"]
    for path, rows in zip(paths, [(0, 1, 2), (3, 4)], strict=True):
        chunks.compute(task, rows, path)
    found = chunks.read([(path, None) for path in paths])
    assert (found.names, found.status) == (expected.names, expected.status)
    assert (found.starts, found.values_range) == (expected.starts, expected.values_range)
    for name in ("images", "scores", "history"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert chunks.read_units([(path, None) for path in paths]) is None


def test_a_file_that_cannot_be_written_leaves_nothing(task, tmp_path, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="No space"):
        chunks.compute(task, [0], str(tmp_path / "a.npz"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_of_a_chunk_goes_with_it(task, tmp_path):
    left, other = tmp_path / "a.npz.999999.part", tmp_path / "b.npz.999999.part"
    left.write_bytes(b"half")
    other.write_bytes(b"half")
    chunks.compute(task, (0, 1, 2), str(tmp_path / "a.npz"))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.npz", other.name]


def test_two_processes_may_finish_one_chunk_at_once(task, tmp_path, monkeypatch):
    path, savez = tmp_path / "a.npz", np.savez

    def save_while_another_finishes(file, **arrays):
        savez(file, **arrays)
        savez(path, **arrays)
        for part in tmp_path.glob("*.part"):
            part.unlink()

    monkeypatch.setattr(np, "savez", save_while_another_finishes)
    chunks.compute(task, (0, 1, 2), str(path))
    assert [one.name for one in tmp_path.iterdir()] == ["a.npz"]
    assert chunks.read([(str(path), None)]).names == task.targets.names[:3]


def test_two_machines_whose_processes_have_one_number_write_whole_files(tmp_path):
    """As in two containers, one call here writes while another one does, of the same number."""
    path = str(tmp_path / "a")

    def slowly(file):
        file.write(b"slow" * 10)
        file.flush()
        chunks._write_whole(path, lambda other: other.write(b"fast"))
        file.write(b"slow" * 10)

    chunks._write_whole(path, slowly)
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() in (b"slow" * 20, b"fast")


def test_half_a_file_is_not_done(task, tmp_path):
    path = tmp_path / "a.npz"
    chunk = chunks.Chunk(task, (0,), str(path), "logits")
    assert not chunk.is_done
    chunks.compute(task, [0], str(path))
    assert chunk.is_done
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert not chunk.is_done


def test_less_memory_takes_smaller_batches(task, tmp_path, monkeypatch):
    batches = []

    def run_in_little_memory(task, **settings):
        batches.append(task.plan.batch)
        if task.plan.batch > 1:
            raise MemoryError
        return run(task, **settings)

    monkeypatch.setattr(chunks, "run", run_in_little_memory)
    chunks.compute(task, [0, 1], str(tmp_path / "a.npz"))
    assert batches == [3, 2, 1]
