"""Event files, read record by record."""

from featviz_callback.tensorboard import checksums
from featviz_callback.tensorboard.plugin import event_records
from tests.tensorboard.plugin.conftest import event_file_of, write_run


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


def test_after_a_damaged_header_the_next_record_is_found(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0], size=40))
    whole = list(event_records.scan(str(path), 0))
    for at in (0, 8):
        data = bytearray(path.read_bytes())
        data[whole[3].offset + at] ^= 1
        (tmp_path / "damaged").write_bytes(data)
        found = list(event_records.scan(str(tmp_path / "damaged"), 0))
        assert found[3] == event_records.Gap(whole[3].offset, whole[3].end)
        assert found[:3] + found[4:] == whole[:3] + whole[4:]


def test_records_whose_data_are_damaged_are_told(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0]))
    data = bytearray(path.read_bytes())
    whole = list(event_records.scan(str(path), 0))
    data[whole[2].offset + 20] ^= 1
    path.write_bytes(data)
    short = [record for record in event_records.scan(str(path), 0) if record.whole]
    assert [record.offset for record in event_records.damaged(short)] == [whole[2].offset]


def test_empty_records_are_passed_over_together(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0]))
    records = path.read_bytes()
    empty = bytes(8) + (checksums.of(bytes(8))).to_bytes(4, "little") + bytes(4)
    path.write_bytes(empty * 200_000 + records)
    found = list(event_records.scan(str(path), 0))
    assert len(found) < 100
    assert found[-1].end == 200_000 * 16 + len(records)
    assert sum(record.length > 0 for record in found) == len(
        list(event_records.scan(str(path), 200_000 * 16))
    )


def test_searches_for_headers_that_follow_each_other_are_short(tmp_path, monkeypatch):
    """Each tells a record that ends within another header, so that a search follows each."""
    search, searched = checksums._first_header, []

    def counted(data, most):
        searched.append(len(data))
        return search(data, most)

    monkeypatch.setattr(checksums, "_first_header", counted)
    length = (7).to_bytes(8, "little")
    header = length + checksums.of(length).to_bytes(4, "little")
    path = tmp_path / "events"
    path.write_bytes(header * 32_000)
    found = list(event_records.scan(str(path), 0))
    # Four kilobytes for each of them would be 64 million bytes.
    assert sum(searched) < 4e6
    records = [item for item in found if isinstance(item, event_records.Record)]
    assert len(records) == 16_000
    assert [item.offset for item in found[:3]] == [0, 23, 24]
