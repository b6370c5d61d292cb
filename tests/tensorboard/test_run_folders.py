"""Each training has a run of its own, of several processes too."""

import importlib.util
import multiprocessing
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featviz_callback.tensorboard import EventFile, run_folders, summaries
from tests.conftest import read_events


def write_runs(folder, process, barrier):
    barrier.wait()
    for i in range(5):
        EventFile(folder, is_new=True).scalar("process", i, process)


@pytest.mark.acceptance
def test_several_processes_at_once_write_runs_of_their_own(tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    started = [
        context.Process(target=write_runs, args=(str(tmp_path / "logs"), i, barrier))
        for i in range(3)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(120)
        assert one.exitcode == 0
    runs = run_folders.find_runs(tmp_path / "logs")
    assert len(runs) == 15
    found = []
    for run in runs:
        [path] = (Path(run) / "feature_vis").iterdir()
        found += read_events(path)[1]["process"]
    assert sorted(found) == [(i, float(process)) for i in range(5) for process in range(3)]


def test_an_empty_folder_that_a_process_left_is_used(tmp_path):
    (tmp_path / "feature_vis").mkdir()
    EventFile(tmp_path, is_new=True).scalar("loss", 0, 1.0)
    assert run_folders.find_runs(tmp_path) == [str(tmp_path)]


def test_runs_are_ordered_by_their_numbers(tmp_path):
    for name in (".", "run 2", "run 10", "run 1", "run x", "other"):
        EventFile(tmp_path / name).scalar("loss", 0, 1.0)
    (tmp_path / "run 11").mkdir()
    found = run_folders.find_runs(tmp_path)
    assert found == [str(tmp_path / name) for name in ("run 10", "run 2", ".")]
    assert run_folders.claim(tmp_path, "tfevents") == str(tmp_path / "run 11")


def test_paths_are_absolute_and_addresses_stay(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert run_folders.absolute("logs") == str(tmp_path / "logs")
    assert run_folders.absolute("~/logs") == "/home/me/logs"
    assert run_folders.absolute("gs://bucket/~/logs") == "gs://bucket/~/logs"


def test_an_address_that_nothing_can_open_is_refused():
    with pytest.raises(ValueError, match="`log_dir`.*nowhere://logs"):
        EventFile("nowhere://logs")


@pytest.mark.skipif(not importlib.util.find_spec("fsspec"), reason="needs fsspec")
def test_remote_runs_are_found_and_told_apart():
    log_dir = "memory://test_run_folders"
    for names in (["a"], ["b"], ["a"]):
        events = EventFile(log_dir, is_new=True)
        summaries.write_objectives(events, -1, [(name, "layer", 0) for name in names])
    assert run_folders.find_runs(log_dir) == [f"{log_dir}/run 3", f"{log_dir}/run 2", log_dir]
    first, second, third = log_dir, f"{log_dir}/run 2", f"{log_dir}/run 3"
    assert summaries.find_runs_of(log_dir, ["b"], (0, 1)) == ([second], [])
    assert summaries.find_runs_of(log_dir, ["a"], (0, 1)) == ([third, first], [])
    assert summaries.find_runs_of(log_dir, ["a", "b"], (0, 1)) == ([], [])


def test_a_run_of_another_range_of_values_is_not_gone_on_with(tmp_path):
    for values_range in ((0.0, 1.0), (0.0, 255.0)):
        events = EventFile(tmp_path, is_new=True)
        summaries.write_objectives(events, -1, [("a", "layer", 0)], values_range)
    first, second = str(tmp_path), f"{tmp_path}/run 2"
    assert summaries.find_runs_of(tmp_path, ["a"], (0, 1)) == ([first], [second])
    assert summaries.find_runs_of(tmp_path, ["a"], (0.0, 250.0)) == ([second], [first])
    for other in ((-1, 1), ((0, 0), (1, 1))):
        assert summaries.find_runs_of(tmp_path, ["a"], other) == ([], [second, first])


def test_a_note_is_read_back_from_the_folder_of_its_run(tmp_path):
    EventFile(tmp_path).scalar("loss", 0, 1.0)
    assert run_folders.read_note(tmp_path, "note.json") is None
    for text in ("longer than the next", "ä"):
        run_folders.write_note(tmp_path, "note.json", text)
        assert run_folders.read_note(tmp_path, "note.json") == text
    names = [path.name for path in (tmp_path / "feature_vis").iterdir()]
    assert sorted("tfevents" in name for name in names) == [False, True]


def test_notes_of_several_writers_of_one_process_number_are_whole(tmp_path):
    """Threads have one number, as the processes of containers often do."""
    EventFile(tmp_path).scalar("loss", 0, 1.0)
    texts = [letter * 10 ** (1 + i % 5) for i, letter in enumerate(string.ascii_letters * 4)]
    found = []
    with ThreadPoolExecutor(4) as threads:
        writing = [
            threads.submit(run_folders.write_note, tmp_path, "note.json", text) for text in texts
        ]
        while not all(one.done() for one in writing):
            found.append(run_folders.read_note(tmp_path, "note.json"))
    for one in writing:
        one.result()
    assert set(found) <= {None, *texts}
    assert sorted(path.name for path in (tmp_path / "feature_vis").iterdir())[1:] == ["note.json"]
