"""Event files, as TensorBoard reads them back, on disks that fail too."""

import contextlib
import resource
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.summary.writer import event_file_writer

from featviz_callback.tensorboard.event_file import EventFile
from tests.conftest import read_events
from tests.tensorboard.conftest import event_file_in


def limited(path, more):
    """Stop files from growing beyond the size of one file and a few bytes more."""

    @contextlib.contextmanager
    def limit():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit()


def test_every_record_can_be_read_as_soon_as_it_is_written(tmp_path):
    events = EventFile(tmp_path)
    for step in range(3):
        events.scalar("loss", step, step / 2)
        assert read_events(tmp_path / "feature_vis")[1]["loss"][-1] == (step, step / 2)


def test_records_together_are_those_of_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (1500, 1500, 1), "uint8")
    events = [EventFile(tmp_path / name) for name in ("apart", "together")]
    with events[1].together():
        for one in events:
            one.image("a", 0, np.zeros((4, 4, 1), "uint8"))
            one.scalar("loss", 0, 0.5)
        assert not (tmp_path / "together").exists()
        for one in events:
            # More than what waits.
            for step in range(3):
                one.image("large", step, large)
            one.scalar("loss", 1, 0.25)
        assert len(read_events(tmp_path / "together/feature_vis")[0]["large"]) == 2
    (images, scalars), expected = (
        read_events(tmp_path / name / "feature_vis") for name in ("together", "apart")
    )
    assert scalars == expected[1]
    for tag, rows in expected[0].items():
        np.testing.assert_equal(images[tag], rows)


def test_records_before_an_error_are_written(tmp_path):
    events = EventFile(tmp_path)
    with contextlib.suppress(ZeroDivisionError), events.together():
        events.scalar("loss", 0, 1.0)
        raise ZeroDivisionError
    events.scalar("loss", 1, 2.0)
    assert read_events(tmp_path / "feature_vis")[1]["loss"] == [(0, 1.0), (1, 2.0)]


def test_of_records_together_the_first_ones_fill_the_disk(tmp_path):
    events = EventFile(tmp_path)
    events.scalar("loss", 0, 1.0)

    def write_many():
        with events.together():
            for step in range(1, 30):
                events.scalar("loss", step, 1.0)

    with limited(event_file_in(tmp_path), 300), pytest.raises(OSError, match="large"):
        write_many()
    events.scalar("loss", 50, 1.0)
    steps = [step for step, _ in read_events(tmp_path / "feature_vis")[1]["loss"]]
    assert steps[:2] == [0, 1]
    assert steps[-1] == 50
    assert 3 <= len(steps) < 10


def test_two_files_of_one_folder_are_both_read(tmp_path):
    for step in (0, 1):
        EventFile(tmp_path).scalar("loss", step, 1.0)
    assert len(list((tmp_path / "feature_vis").iterdir())) == 2
    reader = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(tmp_path))
    reader.Reload()
    assert {event.step for event in reader.Tensors("feature_vis", "loss")} <= {0, 1}


@pytest.mark.parametrize("is_new", [False, True])
def test_nothing_is_created_before_the_first_record(tmp_path, is_new):
    EventFile(tmp_path / "logs", is_new)
    assert not list(tmp_path.iterdir())


def test_a_new_training_is_a_run_of_its_own_and_says_so(tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    for step in range(3):
        EventFile(tmp_path, is_new=True).scalar("loss", step, 1.0)
    for step, run in enumerate((".", "run 2", "run 3")):
        assert read_events(tmp_path / run / "feature_vis")[1]["loss"] == [(step, 1.0)]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert str(tmp_path / "run 2/feature_vis") in said[0]
    assert str(tmp_path / "run 3/feature_vis") in said[1]
    assert all(f"log_dir={str(tmp_path)!r}" in text for text in said)


def test_a_folder_that_cannot_be_created_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="`log_dir`"):
        EventFile(tmp_path / "file")


@pytest.mark.parametrize("more", [0, 5, 40])
def test_an_incomplete_record_is_cut_off_so_that_later_ones_can_be_read(tmp_path, more):
    events = EventFile(tmp_path)
    events.scalar("loss", 0, 1.0)
    with limited(event_file_in(tmp_path), more), pytest.raises(OSError, match="large"):
        events.scalar("loss", 1, 1.0)
    events.scalar("loss", 2, 1.0)
    assert [step for step, _ in read_events(tmp_path / "feature_vis")[1]["loss"]] == [0, 2]
    assert event_file_in(tmp_path)


def test_a_file_whose_first_record_fails_is_removed(tmp_path):
    events = EventFile(tmp_path)
    (tmp_path / "none").touch()
    with limited(tmp_path / "none", 3), pytest.raises(OSError, match="large"):
        events.scalar("loss", 0, 1.0)
    assert not list((tmp_path / "feature_vis").iterdir())
    events.scalar("loss", 1, 1.0)
    assert read_events(tmp_path / "feature_vis")[1]["loss"] == [(1, 1.0)]


def test_a_deleted_folder_is_created_again(tmp_path):
    events = EventFile(tmp_path / "logs")
    events.scalar("loss", 0, 1.0)
    shutil.rmtree(tmp_path / "logs")
    events.scalar("loss", 1, 1.0)
    assert read_events(tmp_path / "logs/feature_vis")[1]["loss"] == [(1, 1.0)]


def test_a_restart_voids_the_records_of_its_step_and_later(tmp_path):
    earlier = EventFile(tmp_path)
    for step in (-1, 0, 1, 2):
        earlier.scalar("feature_vis/seconds", step, 0.25)
    events = EventFile(tmp_path)
    events.restart(1)
    events.scalar("feature_vis/seconds", 1, 7.0)
    _, scalars = read_events(tmp_path / "feature_vis")
    assert scalars["feature_vis/seconds"] == [(-1, 0.25), (0, 0.25), (1, 7.0)]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = EventFile(None)
    events.scalar("a", 0, 1.0)
    events.image("b", 0, np.zeros((2, 2, 1), "uint8"))
    assert events.path is None
    assert list(tmp_path.iterdir()) == []


def test_a_class_in_place_of_tensorboard_s_writer_is_told_of_each_folder(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level("WARNING", logger="featviz_callback")
    told = []

    class Follower(event_file_writer.EventFileWriter):
        def __init__(self, logdir):
            told.append(logdir)
            super().__init__(logdir)

    EventFile(tmp_path / "alone").scalar("loss", 0, 1.0)
    monkeypatch.setattr(event_file_writer, "EventFileWriter", Follower)
    events = EventFile(tmp_path, is_new=True)
    assert told == []
    for step in range(3):
        events.scalar("loss", step, 1.0)
    assert told == [str(tmp_path / "feature_vis")]
    assert [step for step, _ in read_events(tmp_path / "feature_vis")[1]["loss"]] == [0, 1, 2]

    def refuse(logdir):
        raise RuntimeError("no network")

    monkeypatch.setattr(event_file_writer, "EventFileWriter", refuse)
    EventFile(tmp_path / "other").scalar("loss", 0, 1.0)
    assert "RuntimeError: no network" in caplog.text
    assert read_events(tmp_path / "other" / "feature_vis")[1]["loss"] == [(0, 1.0)]
