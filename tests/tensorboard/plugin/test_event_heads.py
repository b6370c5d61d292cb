"""What the first bytes of a record tell."""

import struct

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT

from featviz_callback.tensorboard import EventFile
from featviz_callback.tensorboard.plugin import event_heads, event_records
from tests.tensorboard.plugin.conftest import NAMES, event_file_of, write_run


def test_step_and_tag_are_read_only_in_the_usual_order_of_fields(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[4], names=NAMES[:1], size=60))
    [record] = (r for r in event_records.scan(str(path), 0) if not r.whole)
    assert event_heads.step_and_tag(record.head) == (4, f"feature_vis/{NAMES[0]}")
    assert event_heads.step_and_tag(b"\x10\x04" + record.head) is None
    untrained = write_run(tmp_path / "other", steps=[-1], names=NAMES[:1], size=60)
    [record] = (r for r in event_records.scan(untrained.path, 0) if not r.whole)
    assert event_heads.step_and_tag(record.head) == (-1, f"feature_vis/{NAMES[0]}")


@pytest.mark.parametrize("step", [-1, 0, 7, 300, 1 << 40])
@pytest.mark.parametrize("tag", ["a/b", "feature_vis_score/" + "字" * 90])
@pytest.mark.parametrize("value", [0.0, -2.5, float("inf")])
def test_the_number_of_an_event_is_what_the_message_says(tmp_path, step, tag, value):
    events = EventFile(tmp_path / "run")
    events.scalar(tag, step, value)
    *_, record = event_records.scan(events.path, 0)
    event = event_records.parse(record.head)
    [said] = event.summary.value
    assert (event.step, said.tag, said.tensor.float_val[0]) == (step, tag, value)
    assert event_heads.one_number(record.head) == (step, tag, value)


def _event(*values, **more):
    return Event(wall_time=1.0, step=3, summary=Summary(value=values), **more).SerializeToString()


def _value(**tensor):
    value = Summary.Value(tag="a/b", tensor=TensorProto(**tensor))
    value.metadata.plugin_data.plugin_name = "scalars"
    return value


def test_an_event_that_is_not_one_number_is_left_to_the_message():
    one = _value(dtype=DT_FLOAT, float_val=[1.5])
    assert event_heads.one_number(_event(one)) == (3, "a/b", 1.5)
    for other in (
        _event(one, one),
        _event(),
        _event(_value(dtype=DT_DOUBLE, double_val=[1.5])),
        _event(_value(dtype=DT_FLOAT, float_val=[1.5, 2.5])),
        _event(_value(dtype=DT_FLOAT, tensor_content=struct.pack("<f", 1.5))),
        Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString(),
        *(_event(one)[:end] for end in range(len(_event(one)))),
    ):
        assert event_heads.one_number(other) is None


def _crafted(tag_length=b"\x03", step=b"\x03", tag=b"a/b", behind=b"", tensor_length=b"\x08"):
    """Return an event whose outer lengths are right, whatever is inside."""
    tensor = b"\x42" + tensor_length + b"\x08\x01\x2a\x04" + struct.pack("<f", 1.5)
    value = b"\x0a" + tag_length + tag + tensor + b"\x4a\x00" + behind
    summary = b"\x0a" + bytes([len(value)]) + value
    return b"\x09" + bytes(8) + b"\x10" + step + b"\x2a" + bytes([len(summary)]) + summary


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"tag_length": b"\xff" * 9 + b"\x7f"},
        {"tag_length": b"\xff" * 8 + b"\x7f"},
        {"step": b"\xff" * 9 + b"\x01"},
        {"step": b"\xff" * 9 + b"\x7f"},
        {"step": b"\x83" + b"\x80" * 40 + b"\x00"},
        {"behind": b"\x0a\x03a/c"},
        {"behind": b"\x42\x08\x08\x01\x2a\x04" + struct.pack("<f", 2.5)},
        {"behind": b"\xff\xff"},
        {"tensor_length": b"\x7f"},
        {"tensor_length": b"\x02"},
    ],
    ids=str,
)
def test_hostile_events_are_what_the_message_says_or_left_to_it(other):
    data = _crafted(**other)
    found = event_heads.one_number(data)
    assert (found is not None) == (not other or set(other) == {"step"} and len(other["step"]) < 11)
    if found is not None:
        event = Event.FromString(data)
        [value] = event.summary.value
        assert found == (event.step, value.tag, value.tensor.float_val[0])
