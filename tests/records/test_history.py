"""The history of a training: its snapshots, film strips, animations and archives."""

import io
import pickle
import traceback
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featviz_callback.records import pictures
from featviz_callback.records.drift import drift
from featviz_callback.records.history import History
from featviz_callback.records.result import Result
from tests.conftest import random_images

NAMES = ["one", "two <b>", "drei ö"]


def make_result(seed=0, names=NAMES, shape=(6, 5, 1), status="ok", values_range=(0.0, 1.0)):
    count = len(names)
    return Result(
        images=random_images(count, *shape, seed=seed),
        names=list(names),
        scores=np.arange(count, dtype="float32") + seed,
        history=np.zeros((2, count), "float32"),
        status=[status] * count,
        values_range=values_range,
    )


@pytest.fixture
def history():
    """A history of four snapshots: the untrained network, and three epochs."""
    filled = History()
    for i in range(4):
        filled.add(i - 1, make_result(i), seconds=0.5 * i)
    return filled


def test_a_history_of_signals_can_be_shown(tmp_path):
    history = History()
    for seed in range(3):
        history.add(seed, make_result(seed, shape=(9, 2)), 0.1)
    assert history.images.shape[-2:] == (9, 2)
    assert history.strip().shape[0] > 120 * len(NAMES)
    history.gif(tmp_path / "signals.gif")
    assert (tmp_path / "signals.gif").stat().st_size > 0


def test_snapshots_are_kept_in_order(history):
    assert len(history) == 4
    assert history.names == NAMES
    assert history.epochs.tolist() == [-1, 0, 1, 2]
    assert history.seconds.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert history.status.tolist() == [["ok"] * 3] * 4
    np.testing.assert_array_equal(history.images, [make_result(i).images for i in range(4)])
    np.testing.assert_array_equal(history.scores, np.arange(3) + np.arange(4)[:, None])


def test_drift_compares_each_snapshot_with_the_one_before(history):
    assert np.isnan(history.drift[0]).all()
    for i in (1, 2, 3):
        np.testing.assert_array_equal(
            history.drift[i], drift(make_result(i - 1).images, make_result(i).images)
        )


@pytest.mark.parametrize("other", [{"names": ["a", "b", "c"]}, {"shape": (7, 5, 1)}])
def test_other_targets_or_sizes_begin_a_new_history(history, other):
    drifts = history.add(0, make_result(9, **other), 1.0).drift
    assert np.isnan(drifts).all()
    assert history.epochs.tolist() == [0]
    assert history.names == list(make_result(**other).names)


def test_a_history_that_starts_again_forgets_skipped_epochs_and_compile_seconds(history):
    history.skip(3)
    history.compile_seconds = 1.5
    history.add(4, make_result(4))
    assert (history.skipped.tolist(), history.compile_seconds) == ([3], 1.5)
    history.add(0, make_result(names=["a", "b", "c"]))
    assert (history.skipped.tolist(), history.compile_seconds) == ([], 0.0)


def test_epochs_skipped_before_the_first_snapshot_are_kept():
    history = History()
    history.skip(0)
    history.add(1, make_result())
    assert history.skipped.tolist() == [0]


def test_noise_floor_and_score_ratio_are_kept_and_nan_if_not_given():
    history = History()
    floor, ratio = np.array([0.1, 0.2, 0.3], "float32"), np.array([1, 2, np.nan], "float32")
    history.add(-1, make_result(0), 0.5, floor, ratio)
    history.add(0, make_result(1))
    np.testing.assert_array_equal(history.noise_floor, [floor, [np.nan] * 3])
    np.testing.assert_array_equal(history.score_ratio, [ratio, [np.nan] * 3])
    history.skip(1)
    history.skip(2)
    assert history.skipped.tolist() == [1, 2]


def test_starts_are_kept_and_empty_if_not_given():
    history = History()
    starts = [["faint noise", "plain 3", "noise 3 1.5 0"], ["plain 11", "plain 3", "noise 1 0 2"]]
    for epoch, some in enumerate(starts):
        history.add(epoch, replace(make_result(epoch), starts=some))
    assert history.starts.tolist() == starts
    assert history.last.starts == starts[-1]
    history.add(2, make_result(2))
    assert history.starts.tolist() == [*starts, ["", "", ""]]


def test_the_seconds_of_the_last_snapshot_can_be_set_later(history):
    history.set_seconds(9.0)
    assert history.seconds.tolist() == [0.0, 0.5, 1.0, 9.0]
    assert history.last.seconds == 9.0


def test_memory_is_bounded_and_the_remaining_snapshots_are_spread_evenly():
    size = make_result(0).images.nbytes
    history = History(most_bytes=9 * size)
    drifts = [history.add(epoch, make_result(epoch + 1)).drift for epoch in range(-1, 200)]
    epochs = history.epochs
    assert len(epochs) == 9
    assert (epochs[0], epochs[-1]) == (-1, 199)
    gaps = np.diff(epochs)
    assert gaps.max() <= 4 * gaps.min()
    np.testing.assert_array_equal(history.drift, [drifts[epoch + 1] for epoch in epochs])


def test_two_snapshots_are_kept_however_large():
    history = History(most_bytes=1)
    for epoch in range(5):
        history.add(epoch, make_result(epoch))
    assert history.epochs.tolist() == [0, 4]


def test_the_first_snapshot_that_is_removed_is_logged_once(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    history = History(most_bytes=3 * make_result(0).images.nbytes)
    for epoch in range(3):
        history.add(epoch, make_result(epoch))
    assert caplog.messages == []
    history.add(3, make_result(3))
    [message] = caplog.messages
    assert f"limit of {history.most_bytes / 2**20:.4g} MiB" in message
    assert "`callback.history.most_bytes`" in message
    history.most_bytes *= 2
    for epoch in range(4, 12):
        history.add(epoch, make_result(epoch))
    assert len(history) == 6
    assert caplog.messages == [message]


def test_a_history_keeps_256_mebibytes_of_images(history):
    # 64 MiB a snapshot, which take no memory since they repeat one number.
    large = np.broadcast_to(np.float32(0), (4, 2048, 2048, 1))
    names = ["a", "b", "c", "d"]
    found = History()
    for epoch in range(6):
        found.restore(replace(history.last, epoch=epoch, names=names, images=large))
    assert len(found) == 4


def test_a_restored_snapshot_replaces_those_of_its_epoch_and_later(history):
    other = History()
    other.add(1, make_result(7))
    history.restore(other.last)
    assert history.epochs.tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(history.images[-1], make_result(7).images)


def test_a_strip_has_targets_down_and_snapshots_across():
    levels = np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.125]])
    history = History()
    for epoch, column in enumerate(levels.T):
        result = make_result(names=["a", "b"], shape=(64, 64, 1))
        result.images[:] = column[:, None, None, None]
        history.add(epoch, result, 0.0)
    strip = history.strip()
    centres = {}
    for level in np.unique(levels)[:-1]:
        shown = round(level * 255)
        rows, columns = np.nonzero((strip == shown).all(-1))
        centres[level] = np.median(rows), np.median(columns)
    (a0, a1, a2), (b0, b2) = levels[0], levels[1, [0, 2]]
    assert centres[a0][0] == pytest.approx(centres[a1][0], abs=2)
    assert centres[a0][0] < centres[b0][0]
    assert centres[b0][1] < centres[b2][1]
    assert centres[a1][1] < centres[a2][1]
    assert centres[a1][0] == pytest.approx(centres[a2][0], abs=2)
    assert centres[b0][0] == pytest.approx(centres[b2][0], abs=2)


def test_a_strip_shows_evenly_spread_snapshots_with_the_first_and_the_last():
    history = History()
    for i in range(21):
        result = make_result(names=["a"], shape=(64, 64, 1))
        result.images[:] = (i + 40) / 255
        history.add(i - 1, result, 0.0)
    strip = history.strip(columns=5)
    solid = [v for v in range(40, 61) if (strip == v).all(-1).sum() >= 64 * 64]
    assert solid == [40, 45, 50, 55, 60]


STATUSES = ("ok", "dead", "saturated", "nan", "weak", "no_gradient", "constant")


@pytest.mark.parametrize(
    ("status", "ratio", "caption"),
    [
        ("ok", np.nan, ""),
        ("ok", 1.4, "1.4x"),
        ("weak", 0.8, "weak 0.8x"),
        ("weak", 0.0123, "weak 0.012x"),
        ("weak", 0.996, "weak 0.99x"),
        ("weak", 0.9999999, "weak 0.99x"),
        ("no_gradient", 0.996, "no_gradient 0.99x"),
        ("ok", 0.99999, "1x"),
        ("constant", 1.0, "constant 1x"),
        ("saturated", 12.3, "saturated 12x"),
        ("ok", -0.5, "-0.5x"),
        *((status, np.nan, status) for status in STATUSES[1:]),
    ],
)
def test_below_a_picture_are_its_status_and_its_ratio(status, ratio, caption):
    result = make_result(names=["one", "two"], shape=(128, 128, 1))
    result = replace(result, status=["ok", status])
    history = History()
    history.add(0, result, score_ratio=np.array([np.nan, ratio], "float32"))
    expected = pictures.grid(
        [[picture] for picture in pictures.of_targets(result.images, (0.0, 1.0))],
        row_labels=["one", "two"],
        column_labels=["epoch 0"],
        captions=[[""], [caption]],
    )
    np.testing.assert_array_equal(history.strip(), expected)


def test_a_strip_is_written_as_a_picture(history, tmp_path):
    strip = history.strip(tmp_path / "strip.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "strip.png")), strip)
    assert (tmp_path / "strip.png").read_bytes() == pictures.encode_png(strip)


def test_an_animation_has_one_frame_per_snapshot(history, tmp_path):
    history.gif(tmp_path / "history.gif", seconds=0.2)
    gif = Image.open(tmp_path / "history.gif")
    assert gif.n_frames == 4
    assert gif.info["duration"] == 200
    assert history.gif(seconds=0.2) == (tmp_path / "history.gif").read_bytes()


def test_an_animation_shows_names_and_status():
    plain, named, dead = (History() for _ in range(3))
    plain.add(0, make_result(names=[" ", "  "]))
    named.add(0, make_result(names=["one", "two"]))
    dead.add(0, make_result(names=["one", "two"], status="dead"))
    frames = [np.asarray(Image.open(io.BytesIO(h.gif()))) for h in (plain, named, dead)]
    assert frames[0].shape == frames[1].shape == frames[2].shape
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


@pytest.mark.acceptance
def test_pictures_of_many_targets_and_snapshots_have_a_bounded_size():
    many = History()
    for epoch in range(70):
        many.add(epoch, make_result(names=[f"target {i}" for i in range(300)], shape=(8, 8, 1)))
    gif = Image.open(io.BytesIO(many.gif()))
    assert gif.n_frames == 64
    assert gif.width * gif.height < 1_500_000
    assert many.strip().shape[0] < 64 * 90


@pytest.mark.parametrize("size", [28, 224])
def test_a_strip_has_a_bounded_size_and_the_width_of_its_pictures(size):
    history = History()
    names = [f"Channel#backbone/a_long_name_of_a_block_{i}/conv_{i}" for i in range(20)]
    for epoch in range(-1, 20):
        history.add(epoch, make_result(names=names, shape=(size, size, 3)))
    height, width, _ = history.strip().shape
    assert height * width < 15_000_000
    shown = 3 * 28 if size == 28 else (12_000_000 / (16 * 20)) ** 0.5
    assert 16 * shown < width < 16 * shown + 500


COLUMNS = (
    "epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "starts",
    "seconds", "skipped",
)  # fmt: skip


def test_an_archive_is_loaded_as_it_was_saved(history, tmp_path):
    history.add(3, replace(make_result(4), starts=["faint noise", "plain 3, relaxed", "plain 7"]))
    history.skip(4)
    history.compile_seconds = 1.5
    history.save(tmp_path / "history.npz")
    loaded = History.load(tmp_path / "history.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
        assert getattr(loaded, name).dtype == getattr(history, name).dtype
    assert (loaded.names, loaded.values_range) == (history.names, history.values_range)
    assert loaded.compile_seconds == 1.5
    np.testing.assert_array_equal(loaded.strip(), history.strip())


@pytest.mark.parametrize("values_range", [(0.0, 1.0), ((0.0, 0.0, -1.0), (1.0, 2.0, 3.0))])
def test_an_archive_keeps_a_range_of_each_channel(values_range, tmp_path):
    history = History()
    history.add(0, make_result(shape=(6, 5, 3), values_range=values_range))
    history.save(tmp_path / "history.npz")
    assert History.load(tmp_path / "history.npz").values_range == values_range
    assert history.strip().shape == History.load(tmp_path / "history.npz").strip().shape


def test_an_archive_that_has_the_first_name_of_the_noise_floor_is_loaded(history, tmp_path):
    history.save(tmp_path / "history.npz")
    with np.load(tmp_path / "history.npz") as archive:
        arrays = {name.replace("noise_floor", "drift_floor"): archive[name] for name in archive}
    assert "drift_floor" in arrays
    np.savez(tmp_path / "first.npz", **arrays)
    loaded = History.load(tmp_path / "first.npz")
    np.testing.assert_array_equal(loaded.noise_floor, history.noise_floor)


def test_an_archive_of_the_time_before_starts_is_loaded(history, tmp_path):
    history.save(tmp_path / "history.npz")
    with np.load(tmp_path / "history.npz") as archive:
        first = {*COLUMNS, "names", "values_range", "compile_seconds"} - {"starts"}
        arrays = {name: archive[name] for name in archive if name in first}
    assert len(arrays) == len(first)
    np.savez(tmp_path / "first.npz", **arrays)
    loaded = History.load(tmp_path / "first.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
    assert loaded.starts.tolist() == [[""] * 3] * 4
    np.testing.assert_array_equal(loaded.strip(), history.strip())
    loaded.add(3, replace(make_result(9), starts=["plain 0"] * 3))
    assert loaded.starts[-1].tolist() == ["plain 0"] * 3


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_drawn_and_archived(status, tmp_path):
    history = History()
    history.add(0, make_result(status=status))
    history.save(tmp_path / "history.npz")
    assert History.load(tmp_path / "history.npz").status.tolist() == [[status] * 3]
    fine = History()
    fine.add(0, make_result())
    frames = [np.asarray(Image.open(io.BytesIO(one.gif()))) for one in (history, fine)]
    assert np.array_equal(*frames) == (status == "ok")


def test_snapshots_can_be_added_to_a_loaded_history(history, tmp_path):
    history.save(tmp_path / "history.npz")
    loaded = History.load(tmp_path / "history.npz")
    again = loaded.add(3, make_result(9)).drift
    np.testing.assert_array_equal(again, history.add(3, make_result(9)).drift)
    assert loaded.epochs.tolist() == [-1, 0, 1, 2, 3]


def test_the_archive_opens_without_pickle(history, tmp_path):
    history.save(tmp_path / "history.npz")
    with np.load(tmp_path / "history.npz", allow_pickle=False) as archive:
        assert archive["names"].tolist() == NAMES
        assert archive["values_range"].tolist() == [0.0, 1.0]
        for name in COLUMNS:
            np.testing.assert_array_equal(archive[name], getattr(history, name))


def save_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def cut_short(path):
    full = path.with_suffix(".whole")
    History().save(full)
    path.write_bytes(full.read_bytes()[: full.stat().st_size // 2])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("epoch 1"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(pickle.dumps([1, 2])),
        save_array,
        lambda path: make_result().save(path),
        cut_short,
    ],
    ids=["text", "empty", "pickle", "array", "result", "cut short"],
)
def test_a_file_that_save_did_not_write_is_refused(write, tmp_path):
    path = tmp_path / "history.npz"
    write(path)
    with pytest.raises(ValueError, match="a file that History.save wrote.*history.npz") as caught:
        History.load(path)
    assert "pickle" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "nothing.npz")


def test_a_notebook_shows_the_strip(history):
    shown = Image.open(io.BytesIO(history._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), history.strip())


def test_the_repr_counts_snapshots_and_targets(history):
    snapshots, targets = history.scores.shape
    assert repr(history) == f"<History of {snapshots} snapshots of {targets} targets>"
    assert repr(History()) == "<History of 0 snapshots of 0 targets>"


def test_a_notebook_shows_nothing_for_an_empty_history():
    assert History()._repr_png_() is None


@pytest.mark.parametrize("show", [lambda h, p: h.strip(p), lambda h, p: h.gif(p)])
def test_an_empty_history_cannot_be_drawn(show, tmp_path):
    with pytest.raises(ValueError, match="there is no snapshot yet"):
        show(History(), tmp_path / "nothing")
    assert len(History()) == 0
    assert History().epochs.tolist() == []


def test_the_last_snapshots_can_be_forgotten(history):
    epochs = history.epochs.tolist()
    history.forget(epochs[-2])
    assert history.epochs.tolist() == epochs[:-2]
    history.forget(epochs[0])
    assert len(history) == 0


def important(place, shape=(6, 5)):
    """Return results whose importance is all in one place."""
    result = make_result(shape=(*shape, 1))
    importance = np.zeros((len(NAMES), *shape), "float32")
    importance[:, *place] = 1.0
    return replace(result, importance=importance)


def test_importance_is_kept_saved_and_loaded(tmp_path):
    history = History()
    for epoch, place in enumerate([(0, 0), (5, 4)]):
        history.add(epoch, important(place))
    expected = np.zeros((2, len(NAMES), 6, 5), "uint8")
    expected[0, :, 0, 0] = expected[1, :, 5, 4] = 255
    history.save(tmp_path / "history.npz")
    for one in (history, History.load(tmp_path / "history.npz")):
        np.testing.assert_array_equal(one.importance, expected)


def test_pictures_of_a_strip_fade_where_the_score_depends_little_on_them():
    history = History()
    black = important((slice(None), slice(0, 8)), (16, 16))
    history.add(0, replace(black, images=np.zeros_like(black.images)))
    plain, faded = history.strip(), history.strip(importance=True)
    assert plain.shape == faded.shape
    # Half of each black picture turns white; the text beside it stays.
    was_black = (plain == 0).all(-1).sum()
    assert (faded == 0).all(-1).sum() == pytest.approx(was_black / 2, rel=0.2)


def test_a_history_without_importance_says_so(history):
    assert history.importance is None
    with pytest.raises(ValueError, match="`importance`.*none at epoch -1"):
        history.strip(importance=True)
