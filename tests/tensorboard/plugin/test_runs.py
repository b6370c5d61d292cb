"""The runs that the tab finds below a log directory."""

import json
import os
import shutil
from pathlib import Path

import pytest

from featviz_callback.tensorboard import EventFile
from featviz_callback.tensorboard.plugin import runs
from tests.tensorboard.conftest import event_file_in
from tests.tensorboard.plugin.conftest import Browser, write_run, write_step


def test_runs_are_listed_by_name(tmp_path):
    for run in ("b", "a/1", "."):
        write_run(tmp_path / run, steps=[0])
    assert [run["name"] for run in Browser(tmp_path).json("index")["runs"]] == [".", "a/1", "b"]


def test_a_run_has_the_time_it_began(browser, tmp_path):
    [run] = browser.json("index")["runs"]
    file = event_file_in(tmp_path / "run")
    assert run["began"] == pytest.approx(file.stat().st_mtime, abs=60)
    later = run["began"] + 3600
    os.utime(file, (later, later))
    [run] = browser.json("index")["runs"]
    assert run["written"] == pytest.approx(later)
    assert run["began"] < later - 3000


def test_folders_without_events_of_the_callback_are_no_runs(tmp_path):
    (tmp_path / "run/feature_vis").mkdir(parents=True)
    (tmp_path / "events.out.tfevents.1.other").write_bytes(b"")
    browser = Browser(tmp_path)
    assert browser.json("index") == {"runs": []}
    assert not browser.plugin.is_active()


def test_a_new_run_is_found_while_tensorboard_runs(browser, tmp_path):
    write_run(tmp_path / "second", steps=[0])
    assert [run["name"] for run in browser.json("index")["runs"]] == ["run", "second"]


def test_the_log_directory_may_be_the_folder_of_a_run(tmp_path):
    write_run(tmp_path, steps=[0])
    [(name, folder, [file])] = runs.find_runs(str(tmp_path / "feature_vis"))
    assert (name, Path(folder) / file) == (".", event_file_in(tmp_path))


def test_a_link_beside_a_run_neither_hides_it_nor_is_another_run(tmp_path):
    for run in ("run5", "run6"):
        write_run(tmp_path / run, steps=[0])
    (tmp_path / "latest").symlink_to(tmp_path / "run5")
    assert [run["name"] for run in Browser(tmp_path).json("index")["runs"]] == ["run5", "run6"]


def test_a_run_that_is_replaced_by_one_as_long_has_another_stamp(browser, tmp_path):
    [before] = browser.json("index")["runs"]
    size = event_file_in(tmp_path / "run").stat().st_size
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run")
    assert event_file_in(tmp_path / "run").stat().st_size == size
    [after] = browser.json("index")["runs"]
    assert after["stamp"] != before["stamp"]


def test_links_are_followed_but_rings_of_links_are_not(tmp_path):
    write_run(tmp_path / "elsewhere/run", steps=[0])
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/link").symlink_to(tmp_path / "elsewhere/run")
    (tmp_path / "logs/ring").symlink_to(tmp_path / "logs")
    assert [name for name, *_ in runs.find_runs(str(tmp_path / "logs"))] == ["link"]


def test_runs_of_a_group_have_its_name(tmp_path):
    write_run(tmp_path / "x/run", steps=[0])
    write_run(tmp_path / "y", steps=[0])
    roots = runs.parse_roots("", f"first:{tmp_path}/x,second:{tmp_path}/y")
    assert set(runs.Runs(roots).found()) == {"first/run", "second"}


def test_the_newest_runs_are_read_while_tensorboard_starts(tmp_path):
    write_run(tmp_path / "old", steps=[0])
    write_run(tmp_path / "new", steps=[0])

    def read(some):
        found = some.found().items()
        return {name for name, run in found if json.loads(run.frames())["targets"]}

    assert read(Browser(tmp_path).plugin._runs) == {"new", "old"}
    # In no time, or beside an open page, the newest one is read all the same.
    for is_watched, seconds in ((False, 0), (True, 100)):
        hurried = runs.Runs({str(tmp_path): ""})
        hurried.is_watched = is_watched
        hurried.read_newest(seconds)
        assert read(hurried) == {"new"}


def test_without_a_log_directory_there_are_no_runs():
    assert runs.Runs(runs.parse_roots(None, None)).found() == {}


def test_a_deleted_run_is_not_listed(browser, tmp_path):
    shutil.rmtree(tmp_path / "run")
    assert browser.json("index") == {"runs": []}
    assert browser.get("frames", run="run").status_code == 404


def test_two_trainings_in_one_folder_are_two_runs(tmp_path):
    write_run(tmp_path / "logs", steps=range(-1, 5))
    write_run(tmp_path / "logs", steps=[-1, 0])
    browser = Browser(tmp_path / "logs")
    listed = browser.json("index")["runs"]
    assert [run["name"] for run in listed] == [".", ". (training 2)"]
    assert [run["label"] for run in listed] == ["logs", "logs (training 2)"]
    steps = [browser.json("frames", run=run["name"])["steps"] for run in listed]
    assert steps == [[-1, 0, 1, 2, 3, 4], [-1, 0]]


def test_a_resumed_training_stays_one_run(tmp_path):
    write_run(tmp_path / "run", steps=range(-1, 5))
    events = EventFile(tmp_path / "run")
    events.restart(-1)
    write_step(events, -1)
    browser = Browser(tmp_path)
    assert [run["name"] for run in browser.json("index")["runs"]] == ["run"]
    assert browser.json("frames", run="run")["steps"] == [-1]


def test_a_stamp_tells_that_files_have_grown(browser, tmp_path):
    [before] = browser.json("index")["runs"]
    assert browser.json("index")["runs"] == [before]
    write_run(tmp_path / "run", steps=[2])
    [after] = browser.json("index")["runs"]
    assert after["stamp"] > before["stamp"]
