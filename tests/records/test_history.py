"""Looks at a network, one after another: drift, strips, animations, archives."""

import io
import pickle
import traceback

import numpy as np
import pytest
from PIL import Image

from featviz_callback.records.history import History, drift
from featviz_callback.records.result import Result
from tests.conftest import random_images

NAMES = ["one", "two <b>", "drei ö"]


def look(seed=0, names=NAMES, shape=(6, 5, 1), status="ok", values_range=(0.0, 1.0)):
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
    """Four looks: the untrained network, and three epochs."""
    filled = History()
    for i in range(4):
        filled.add(i - 1, look(i), seconds=0.5 * i)
    return filled


# --- drift ----------------------------------------------------------------------------

PICTURE = np.random.default_rng(0).normal(size=(1, 40, 40, 3))
OTHER = np.random.default_rng(1).normal(size=(1, 40, 40, 3))
WAVES = np.arange(8) * np.pi / 4


def wave(function):
    return np.tile(function(WAVES)[None, :, None, None], (1, 1, 4, 1))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (PICTURE, PICTURE, 0),
        (PICTURE, 0.3 * PICTURE, 0),
        (PICTURE, PICTURE + 5, 0),
        (PICTURE, PICTURE + np.array([1, -2, 3]), 0),
        (PICTURE, -2 * PICTURE, 2),
        (wave(np.sin), wave(np.cos), 1),
        (wave(np.sin), wave(lambda x: np.sin(x + np.pi / 3)), 0.5),
        (wave(np.sin), wave(np.sin) + wave(np.cos), 1 - 0.5**0.5),
        (0 * PICTURE, 0 * PICTURE + 1, 0),
        (0 * PICTURE, PICTURE, 1),
        (PICTURE, 0 * PICTURE + 0.5, 1),
    ],
)
def test_drift_is_one_minus_the_correlation(before, after, expected):
    np.testing.assert_allclose(drift(before, after), [expected], atol=1e-6)


def test_the_drift_of_signals_is_that_of_images_of_height_one():
    np.testing.assert_allclose(
        drift(PICTURE[:, :1], OTHER[:, :1]), drift(PICTURE[:, 0], OTHER[:, 0])
    )


def test_a_history_of_signals_can_be_shown(tmp_path):
    history = History()
    for seed in range(3):
        history.add(seed, look(seed, shape=(9, 2)), 0.1)
    assert history.images.shape[-2:] == (9, 2)
    assert history.strip().shape[0] > 120 * len(NAMES)
    history.gif(tmp_path / "signals.gif")
    assert (tmp_path / "signals.gif").stat().st_size > 0


def test_drift_of_unrelated_pictures_is_about_one():
    assert abs(drift(PICTURE, OTHER)[0] - 1) < 0.05


def test_drift_is_numpys_correlation_image_by_image():
    before, after = random_images(4, 7, 5, 1), random_images(4, 7, 5, 1, seed=9)
    after[2] += before[2]
    expected = [
        1 - np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(before, after, strict=True)
    ]
    np.testing.assert_allclose(drift(before, after), expected, atol=1e-6)
    np.testing.assert_allclose(drift(after, before), expected, atol=1e-6)


@pytest.mark.parametrize("brightness", [0.1, 0.3, 0.7])
def test_pictures_of_one_colour_have_no_contrast_however_they_round(brightness):
    one_colour = np.full(PICTURE.shape, brightness)
    np.testing.assert_array_equal(drift(one_colour, 0 * PICTURE + 0.9), [0])
    np.testing.assert_array_equal(drift(one_colour, 1e9 * PICTURE), [1])
    np.testing.assert_array_equal(drift(1e9 * PICTURE, one_colour), [1])


@pytest.mark.parametrize(("contrast", "expected"), [(1e-8, 0), (1e-10, 1)])
def test_what_is_no_contrast_does_not_depend_on_the_number_of_pixels(contrast, expected):
    for picture in (PICTURE, PICTURE[:, :4, :5]):
        faint = contrast * picture
        np.testing.assert_allclose(drift(faint, 1e9 * picture), [expected], atol=1e-6)
        np.testing.assert_allclose(drift(1e9 * picture, faint), [expected], atol=1e-6)


def test_drift_is_from_0_to_2_however_it_rounds():
    pictures = np.random.default_rng(0).normal(size=(200, 7, 5, 2))
    assert drift(pictures, pictures).min() == 0
    assert drift(pictures, -pictures).max() == 2


def test_drift_of_faint_contrast_on_a_bright_ground_is_exact():
    before, after = (250 + 0.01 * random_images(3, 40, 40, 1, seed=i) for i in range(2))
    after = (before + after) / 2
    expected = [
        1 - np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(before.astype("float64"), after.astype("float64"), strict=True)
    ]
    np.testing.assert_allclose(drift(before, after), expected, atol=1e-6)


# --- what is kept ---------------------------------------------------------------------


def test_looks_are_kept_in_order(history):
    assert len(history) == 4
    assert history.names == NAMES
    assert history.epochs.tolist() == [-1, 0, 1, 2]
    assert history.seconds.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert history.status.tolist() == [["ok"] * 3] * 4
    np.testing.assert_array_equal(history.images, [look(i).images for i in range(4)])
    np.testing.assert_array_equal(history.scores, np.arange(3) + np.arange(4)[:, None])


def test_drift_compares_each_look_with_the_one_before(history):
    assert np.isnan(history.drift[0]).all()
    for i in (1, 2, 3):
        np.testing.assert_array_equal(history.drift[i], drift(look(i - 1).images, look(i).images))


@pytest.mark.parametrize("other", [{"names": ["a", "b", "c"]}, {"shape": (7, 5, 1)}])
def test_other_targets_or_sizes_begin_a_new_history(history, other):
    moved = history.add(0, look(9, **other), 1.0).drift
    assert np.isnan(moved).all()
    assert history.epochs.tolist() == [0]
    assert history.names == list(look(**other).names)


def test_a_history_that_begins_again_has_nothing_of_the_one_before(history):
    history.skip(3)
    history.compile_seconds = 1.5
    history.add(4, look(4))
    assert (history.skipped.tolist(), history.compile_seconds) == ([3], 1.5)
    history.add(0, look(names=["a", "b", "c"]))
    assert (history.skipped.tolist(), history.compile_seconds) == ([], 0.0)


def test_what_was_skipped_before_the_first_look_is_kept():
    history = History()
    history.skip(0)
    history.add(1, look())
    assert history.skipped.tolist() == [0]


# --- what is kept ---------------------------------------------------------------------


def test_what_was_measured_beside_the_pictures_is_kept_and_the_rest_is_nan():
    history = History()
    floor, ratio = np.array([0.1, 0.2, 0.3], "float32"), np.array([1, 2, np.nan], "float32")
    history.add(-1, look(0), 0.5, floor, ratio)
    history.add(0, look(1))
    np.testing.assert_array_equal(history.noise_floor, [floor, [np.nan] * 3])
    np.testing.assert_array_equal(history.score_ratio, [ratio, [np.nan] * 3])
    history.skip(1)
    history.skip(2)
    assert history.skipped.tolist() == [1, 2]


def test_how_long_a_look_took_can_be_said_later(history):
    history.set_seconds(9.0)
    assert history.seconds.tolist() == [0.0, 0.5, 1.0, 9.0]
    assert history.last.seconds == 9.0


def test_memory_is_bounded_and_what_remains_is_spread_evenly():
    size = look(0).images.nbytes
    history = History(most_bytes=9 * size)
    moved = [history.add(epoch, look(epoch + 1)).drift for epoch in range(-1, 200)]
    epochs = history.epochs
    assert len(epochs) == 9
    assert (epochs[0], epochs[-1]) == (-1, 199)
    gaps = np.diff(epochs)
    assert gaps.max() <= 4 * gaps.min()
    np.testing.assert_array_equal(history.drift, [moved[epoch + 1] for epoch in epochs])


def test_two_looks_are_kept_however_large():
    history = History(most_bytes=1)
    for epoch in range(5):
        history.add(epoch, look(epoch))
    assert history.epochs.tolist() == [0, 4]


def test_a_look_of_an_earlier_process_takes_the_place_of_its_epoch_and_later(history):
    other = History()
    other.add(1, look(7))
    history.restore(other.last)
    assert history.epochs.tolist() == [-1, 0, 1]
    np.testing.assert_array_equal(history.images[-1], look(7).images)


# --- what is shown --------------------------------------------------------------------


def test_a_strip_has_targets_down_and_looks_across():
    levels = np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 0.125]])
    history = History()
    for epoch, column in enumerate(levels.T):
        one = look(names=["a", "b"], shape=(64, 64, 1))
        one.images[:] = column[:, None, None, None]
        history.add(epoch, one, 0.0)
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


def test_a_strip_shows_looks_evenly_spread_with_the_first_and_the_last():
    history = History()
    for i in range(21):
        one = look(names=["a"], shape=(64, 64, 1))
        one.images[:] = (i + 40) / 255
        history.add(i - 1, one, 0.0)
    strip = history.strip(columns=5)
    solid = [v for v in range(40, 61) if (strip == v).all(-1).sum() >= 64 * 64]
    assert solid == [40, 45, 50, 55, 60]


def test_a_dead_target_is_marked(history):
    dead = History()
    dead.add(-1, look(status="dead"), 0.0)
    fine = History()
    fine.add(-1, look(), 0.0)
    assert dead.strip().shape[0] > fine.strip().shape[0]


def test_a_strip_is_written_as_a_picture(history, tmp_path):
    strip = history.strip(tmp_path / "strip.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "strip.png")), strip)


def test_an_animation_has_a_frame_a_look(history, tmp_path):
    history.gif(tmp_path / "looks.gif", seconds=0.2)
    gif = Image.open(tmp_path / "looks.gif")
    assert gif.n_frames == 4
    assert gif.info["duration"] == 200
    assert history.gif(seconds=0.2) == (tmp_path / "looks.gif").read_bytes()


def test_an_animation_says_what_each_picture_is():
    plain, named, dead = (History() for _ in range(3))
    plain.add(0, look(names=[" ", "  "]))
    named.add(0, look(names=["one", "two"]))
    dead.add(0, look(names=["one", "two"], status="dead"))
    frames = [np.asarray(Image.open(io.BytesIO(h.gif()))) for h in (plain, named, dead)]
    assert frames[0].shape == frames[1].shape == frames[2].shape
    assert (frames[0] != frames[1]).any()
    assert (frames[1] != frames[2]).any()


def test_a_thousand_targets_and_looks_make_a_film_of_bounded_size():
    many = History()
    for epoch in range(100):
        many.add(epoch, look(names=[f"target {i}" for i in range(1000)], shape=(8, 8, 1)))
    gif = Image.open(io.BytesIO(many.gif()))
    assert gif.n_frames == 64
    assert gif.width * gif.height < 1_500_000
    assert many.strip().shape[0] < 64 * 90


@pytest.mark.parametrize("size", [28, 224])
def test_a_strip_is_of_a_bounded_size_and_as_wide_as_its_pictures(size):
    history = History()
    names = [f"Channel#backbone/a_long_name_of_a_block_{i}/conv_{i}" for i in range(20)]
    for epoch in range(-1, 20):
        history.add(epoch, look(names=names, shape=(size, size, 3)))
    height, width, _ = history.strip().shape
    assert height * width < 15_000_000
    shown = 3 * 28 if size == 28 else (12_000_000 / (16 * 20)) ** 0.5
    assert 16 * shown < width < 16 * shown + 500


COLUMNS = (
    "epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "seconds",
    "skipped",
)  # fmt: skip


def test_an_archive_is_loaded_as_it_was_saved(history, tmp_path):
    history.skip(3)
    history.compile_seconds = 1.5
    history.save(tmp_path / "looks.npz")
    loaded = History.load(tmp_path / "looks.npz")
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
        assert getattr(loaded, name).dtype == getattr(history, name).dtype
    assert (loaded.names, loaded.values_range) == (history.names, history.values_range)
    assert loaded.compile_seconds == 1.5
    np.testing.assert_array_equal(loaded.strip(), history.strip())


def test_a_loaded_history_goes_on(history, tmp_path):
    history.save(tmp_path / "looks.npz")
    loaded = History.load(tmp_path / "looks.npz")
    again = loaded.add(3, look(9)).drift
    np.testing.assert_array_equal(again, history.add(3, look(9)).drift)
    assert loaded.epochs.tolist() == [-1, 0, 1, 2, 3]


def test_the_archive_opens_without_pickle(history, tmp_path):
    history.save(tmp_path / "looks.npz")
    with np.load(tmp_path / "looks.npz", allow_pickle=False) as archive:
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
        lambda path: look().save(path),
        cut_short,
    ],
    ids=["text", "empty", "pickle", "array", "result", "cut short"],
)
def test_a_file_of_something_else_is_not_loaded(write, tmp_path):
    path = tmp_path / "looks.npz"
    write(path)
    with pytest.raises(ValueError, match="a file that History.save wrote.*looks.npz") as said:
        History.load(path)
    assert "pickle" not in "".join(traceback.format_exception(said.value))


def test_a_file_that_is_not_there_is_not_loaded(tmp_path):
    with pytest.raises(FileNotFoundError):
        History.load(tmp_path / "nothing.npz")


def test_a_notebook_shows_the_strip(history):
    shown = Image.open(io.BytesIO(history._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), history.strip())


def test_a_history_says_how_much_it_holds(history):
    snapshots, targets = history.scores.shape
    assert repr(history) == f"<History of {snapshots} snapshots of {targets} targets>"
    assert repr(History()) == "<History of 0 snapshots of 0 targets>"


def test_a_notebook_shows_nothing_of_nothing():
    assert History()._repr_png_() is None


@pytest.mark.parametrize("show", [lambda h, p: h.strip(p), lambda h, p: h.gif(p)])
def test_an_empty_history_has_nothing_to_show(show, tmp_path):
    with pytest.raises(ValueError, match="no epoch"):
        show(History(), tmp_path / "nothing")
    assert len(History()) == 0
    assert History().epochs.tolist() == []
