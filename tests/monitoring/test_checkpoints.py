"""Checkpoints are found by patterns, folders, lists, mappings and functions."""

import pytest

from featviz_callback.monitoring.checkpoints import find


@pytest.fixture
def make(tmp_path):
    """Make empty files, and return what is found, as `{epoch: name}`."""

    def make(names, checkpoints):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        if isinstance(checkpoints, str):
            checkpoints = str(tmp_path / checkpoints)
        return {one.epoch: one.weights.removeprefix(f"{tmp_path}/") for one in find(checkpoints)}

    return make


@pytest.mark.parametrize(
    ("pattern", "names", "others"),
    [
        ("{epoch:02d}.weights.h5", {0: "01.weights.h5", 99: "100.weights.h5"}, ["x.weights.h5"]),
        ("{epoch}-{val_loss:.2f}.keras", {-1: "0-2.30.keras", 0: "1-0.25.keras"}, ["2.keras"]),
        ("run/{epoch}/w.keras", {4: "run/5/w.keras"}, ["run/a/w.keras", "run/5/6/w.keras"]),
        ("[a] {{x}} {epoch}.keras", {1: "[a] {x} 2.keras"}, ["a {x} 1.keras"]),
        ("{epoch}-{epoch:03d}.keras", {2: "3-003.keras"}, ["3.keras"]),
    ],
)
def test_numbers_of_a_pattern_count_from_1(make, pattern, names, others):
    assert make([*names.values(), *others], pattern) == names


def test_numbers_in_a_folder_are_those_that_vary(make):
    names = {0: "net2-v1_01.weights.h5", 9: "net2-v1_10.weights.h5"}
    assert make([*names.values(), "final.keras", "log7.txt"], "") == names


@pytest.mark.parametrize("names", [["01-2.30", "10-1.25", "11-1.25"], ["02-2.30"]])
def test_a_loss_in_a_name_counts_no_epochs(make, names):
    files = {int(name[:2]) - 1: f"{name}.weights.h5" for name in names}
    assert make(files.values(), "") == files


def test_a_version_before_a_point_is_told_from_a_loss(make):
    assert make(["v2.01.keras", "v2.02.keras"], "") == {0: "v2.01.keras", 1: "v2.02.keras"}


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["latest.weights.h5", "meta.json"], "It has 'latest.weights.h5', 'meta.json'$"),
        (["1-5.keras", "2-6.keras"], "names with several numbers"),
        (["a1.keras", "b2.keras"], "names of several kinds"),
        (["a1.keras", "a2.weights.h5"], "names of several kinds"),
        (["a1.keras", "a01.keras"], "two files of number 1.* A list of paths takes both"),
        (["final.keras"], "no file of"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused(make, names, said):
    with pytest.raises(ValueError, match=said):
        make(names, "")


def test_gaps_are_said(make, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    make(["05.keras", "10.keras"], "{epoch:02d}.keras")
    assert "10.keras' is epoch 9 of the callback. Epochs without a checkpoint: 8." in caplog.text


def test_none_of_a_function_is_a_gap_and_a_hundred_of_them_the_end():
    called = []

    def path_of(epoch):
        called.append(epoch)
        return f"{epoch}.keras" if epoch in (99, 199, 200) else None

    found = find(path_of)
    assert [(one.epoch, one.weights) for one in found] == [
        (99, "99.keras"),
        (199, "199.keras"),
        (200, "200.keras"),
    ]
    assert called == list(range(-1, 301))
    assert found.count is None
    assert [one.epoch for one in found.after(99)] == [199, 200]


def test_later_checkpoints_come_from_the_last_one_back(tmp_path):
    paths = {epoch: tmp_path / f"{epoch}.keras" for epoch in (-1, 0, 4)}
    for path in paths.values():
        path.touch()
    assert [one.epoch for one in find(paths).after(-1)] == [4, 0]
