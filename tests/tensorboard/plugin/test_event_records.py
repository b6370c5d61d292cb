"""Event files, read record by record."""

from featviz_callback.tensorboard.plugin import event_records
from tests.tensorboard.plugin.conftest import NAMES, event_file_of, write_run


def test_a_file_cut_at_any_byte_gives_the_records_before_the_cut(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0], size=40))
    whole = path.read_bytes()
    ends = [record.end for record in event_records.scan(str(path), 0)]
    assert ends[-1] == len(whole)
    cut = tmp_path / "cut"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        assert [r.end for r in event_records.scan(str(cut), 0)] == [
            end for end in ends if end <= length
        ]


def test_step_and_tag_are_read_only_in_the_usual_order_of_fields(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[4], names=NAMES[:1], size=60))
    [record] = (r for r in event_records.scan(str(path), 0) if not r.whole)
    assert event_records.step_and_tag(record.head) == (4, f"feature_vis/{NAMES[0]}")
    assert event_records.step_and_tag(b"\x10\x04" + record.head) is None
    untrained = write_run(tmp_path / "other", steps=[-1], names=NAMES[:1], size=60)
    [record] = (r for r in event_records.scan(untrained.path, 0) if not r.whole)
    assert event_records.step_and_tag(record.head) == (-1, f"feature_vis/{NAMES[0]}")
