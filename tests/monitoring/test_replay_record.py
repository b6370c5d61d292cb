"""The record of a replay is read back as it was written."""

import pytest

from featviz_callback.monitoring.replay_record import Record
from featviz_callback.tensorboard import EventFile


@pytest.fixture
def run(tmp_path):
    EventFile(tmp_path).scalar("loss", 0, 1.0)
    return str(tmp_path)


def test_a_record_is_read_back(run):
    record = Record("settings", {-1: "a", 3: "b"}, [2])
    record.write(run)
    assert Record.read(run) == record
    assert record.last == 3


@pytest.mark.parametrize("text", [None, "", "{", "[1]", '{"settings": "x"}', '{"weights": 1}'])
def test_a_run_without_a_record_has_none(run, tmp_path, text):
    if text is not None:
        (tmp_path / "feature_vis" / "replay.json").write_text(text)
    assert Record.read(run) is None
