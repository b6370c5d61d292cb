"""Pictures of arrays: colours, files, grids, and plots of signals."""

import io
import tracemalloc
import weakref

import numpy as np
import pytest
from PIL import Image

from featviz_callback.records.pictures import (
    captions,
    decode_png,
    encode_gif,
    encode_png,
    from_uint8,
    grid,
    of_importance,
    of_targets,
    plot,
    save,
    to_pillow,
    to_uint8,
)


def solid(color, height=70, width=80):
    return np.full((height, width, len(color)), color, "uint8")


@pytest.mark.parametrize(
    ("values_range", "values"),
    [((0, 1), [0, 0.5, 1]), ((-1, 1), [-1, 0, 1]), ((0, 255), [0, 127.5, 255])],
)
def test_the_ends_of_the_range_are_black_and_white(values_range, values):
    image = np.array(values).reshape(1, 3, 1)
    assert to_uint8(image, values_range).ravel().tolist() == [0, 128, 255]


def test_each_channel_may_have_a_range_of_its_own():
    values_range = ((0, -1, 0), (1, 1, 255))
    image = np.array([[[0, -1, 0], [0.5, 0, 127.5], [1, 1, 255]]])
    picture = to_uint8(image, values_range)
    assert picture.tolist() == [[[0, 0, 0], [128, 128, 128], [255, 255, 255]]]
    spans = np.subtract(values_range[1], values_range[0])
    assert (abs(from_uint8(picture, values_range) - image) <= 0.5 / 255 * spans + 1e-6).all()


def test_values_outside_the_range_are_clipped_and_nan_is_black():
    image = np.array([-3.0, 7.0, np.nan]).reshape(3, 1, 1)
    assert to_uint8(image, (0, 1)).ravel().tolist() == [0, 255, 0]


def test_the_contrast_of_an_image_is_not_stretched():
    assert (to_uint8(np.full((4, 4, 1), 0.2), (0, 1)) == 51).all()


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 3), (3, 3), (4, 3), (5, 3), (13, 3)])
def test_any_number_of_channels_can_be_shown(channels, shown):
    image = np.random.default_rng(0).random((2, 5, 4, channels))
    assert to_uint8(image, (0, 1)).shape == (2, 5, 4, shown)


def test_four_channels_show_their_first_three():
    image = np.array([0.0, 0.2, 0.4, 0.6]).reshape(1, 1, 4)
    assert to_uint8(image, (0, 1)).ravel().tolist() == [0, 51, 102]


def test_many_channels_show_the_means_of_thirds():
    image = np.arange(6.0).reshape(1, 1, 6) / 10
    assert to_uint8(image, (0, 1)).ravel().tolist() == [13, 64, 115]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_the_picture(channels):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(picture))))
    np.testing.assert_array_equal(decoded.reshape(picture.shape), picture)


def test_a_png_is_compressed_at_the_fastest_level(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), "uint8")
    encoded = encode_png(picture)
    # Two bits of a zlib stream's second byte name the level: 0 the fastest, 2 the default
    # (RFC 1950, section 2.2).
    second = encoded[encoded.index(b"IDAT") + len(b"IDAT") + 1]
    assert second >> 6 == 0
    save(picture, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes() == encoded


@pytest.mark.parametrize("ending", ["bmp", "tiff", "gif", "jpg", "webp"])
def test_a_picture_is_saved_in_the_format_of_its_ending(ending, tmp_path):
    save(solid((200, 30, 60)), tmp_path / f"picture.{ending}")
    saved = np.asarray(Image.open(tmp_path / f"picture.{ending}").convert("RGB"), int)
    assert saved.shape == (70, 80, 3)
    # JPEG and WebP change colours a little.
    assert np.abs(saved - (200, 30, 60)).max() < 8


@pytest.mark.parametrize("name", ["picture.abc", "picture", "picture.fits"])
def test_an_ending_that_pillow_does_not_write_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"`path`.*ends in .png, .*path='.*{name}'"):
        save(solid((0,)), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_pillow_image_is_as_wide_as_the_array():
    assert to_pillow(np.zeros((5, 7, 1), "uint8")).size == (7, 5)


def test_a_gif_has_every_frame_and_shows_the_last_one_longer():
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    gif = Image.open(io.BytesIO(encode_gif([solid(c, 6, 8) for c in colors], seconds=0.1)))
    assert (gif.n_frames, gif.size, gif.info["loop"]) == (3, (8, 6), 0)
    durations = []
    for i, color in enumerate(colors):
        gif.seek(i)
        durations.append(gif.info["duration"])
        assert np.asarray(gif.convert("RGB"))[3, 3].tolist() == list(color)
    assert durations == [100, 100, 400]


def bounds(picture, color):
    """Return the bounds of a colour: top, bottom, left, right."""
    rows, columns = np.nonzero((picture == color).all(-1))
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def test_a_grid_has_rows_down_and_columns_across():
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    sheet = grid([[solid(red), solid(green)], [solid(blue), None]])
    assert sheet.dtype == np.uint8
    at = {color: bounds(sheet, color) for color in (red, green, blue)}
    for top, bottom, left, right in at.values():
        assert (bottom - top, right - left) == (70, 80)
    assert at[red][:2] == at[green][:2]
    assert at[red][2:] == at[blue][2:]
    assert at[red][3] < at[green][2]
    assert at[red][1] < at[blue][0]


def test_a_grid_draws_one_picture_at_a_time():
    """Also where the first ones are grey and a later one is not."""
    shades = [[(10,), (20,)], [(30, 40, 50), None]]
    drawn = []

    def draw(shade):
        assert all(one() is None for one in drawn[:-1])
        picture = solid(shade)
        drawn.append(weakref.ref(picture))
        return picture

    expected = grid([[None if one is None else solid(one) for one in row] for row in shades])
    np.testing.assert_array_equal(grid(shades, draw=draw), expected)
    assert [(expected == shade).all(-1).any() for row in shades for shade in row if shade] == [
        True
    ] * 3


def test_small_pictures_are_enlarged_by_a_whole_factor():
    red = (255, 0, 0)
    top, bottom, left, right = bounds(grid([[solid(red, 10, 12)]], smallest=64), red)
    assert (bottom - top, right - left) == (70, 84)


def test_grey_pictures_stay_grey():
    sheet = grid([[np.full((70, 70, 1), 90, "uint8")]])
    assert sheet.shape[-1] == 3
    assert (sheet == 90).all(-1).sum() == 70 * 70


def test_a_sheet_of_grey_pictures_is_that_of_three_equal_channels():
    grey = np.random.default_rng(0).integers(0, 256, (20, 30, 1), "uint8")
    texts = {"row_labels": ["row"], "column_labels": ["column"], "captions": [["0.5", ""]]}
    sheets = [grid([[one, None]], **texts) for one in (grey, np.repeat(grey, 3, axis=-1))]
    np.testing.assert_array_equal(*sheets)


def test_a_label_has_smaller_letters_before_it_is_cut():
    """Letters in the middle, which a cut would take, are seen."""
    narrow = solid((9, 9, 9), 56, 56)
    one, other = (
        grid([[narrow]], column_labels=[label], smallest=56) for label in ("optimised", "optiimsed")
    )
    assert one.shape == other.shape
    assert (one != other).any()


@pytest.mark.parametrize(
    "labels",
    [{"row_labels": ["<conv> & é"]}, {"column_labels": ["epoch 3"]}, {"captions": [["dead"]]}],
)
def test_labels_are_drawn_beside_the_picture(labels):
    color = (250, 120, 10)
    plain, labelled = (grid([[solid(color)]], **more) for more in ({}, labels))
    assert (labelled == color).all(-1).sum() == (plain == color).all(-1).sum() == 70 * 80
    assert (labelled < 200).all(-1).any()
    assert not (plain < 200).all(-1).any()
    assert labelled.size > plain.size


def test_a_cut_text_keeps_its_beginning_and_its_end():
    """Labels that differ only in their middle give the same pixels."""

    def drawn(label):
        return grid([[solid((9, 9, 9))]], row_labels=[label])

    middle = "x" * 300
    assert (drawn(f"Channel#{middle}_1") == drawn(f"Channel#{middle}x_1")).all()
    for other in (f"Channel#{middle}_2", f"Neurons#{middle}_1"):
        assert drawn(other).shape[0] == drawn(f"Channel#{middle}_1").shape[0]
        assert drawn(other).tobytes() != drawn(f"Channel#{middle}_1").tobytes()


@pytest.mark.parametrize("label", ["a\nb", "\t\x00", "🦊" * 40, "שלום", "<b>&amp;", "e" * 300])
def test_any_text_can_be_a_label(label):
    sheet = grid([[solid((9, 9, 9))]], [label], [label], [[label]])
    assert sheet.shape[1] < 80 + 14 * 13 + 20


def test_text_grows_with_the_pictures():
    heights = []
    for size in (64, 224):
        plain = grid([[solid((9, 9, 9), size, size)]])
        named = grid([[solid((9, 9, 9), size, size)]], column_labels=["epoch 1"])
        heights.append(named.shape[0] - plain.shape[0])
    assert heights[1] > 1.5 * heights[0]


def test_many_large_pictures_are_made_smaller():
    row = [np.full((200, 100, 3), 70, "uint8")] * 10
    assert grid([row] * 4, most_pixels=10**6).shape == grid([row] * 4).shape
    shrunk = grid([row] * 4, smallest=40, most_pixels=200_000)
    assert 0.7 * 200_000 < (shrunk == 70).all(-1).sum() < 1.1 * 200_000
    smallest = grid([row] * 4, smallest=40, most_pixels=1)
    assert (smallest == 70).all(-1).sum() == 40 * 40 * 80


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_is_decoded_as_it_was_encoded(channels):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, channels), "uint8")
    np.testing.assert_array_equal(decode_png(encode_png(picture)), picture)


def test_a_caption_begins_with_a_status_that_is_not_ok():
    assert captions(["a", "b"], ["ok", "dead"]) == ["a", "dead: b"]


def test_long_texts_are_cut_to_the_width_of_a_picture():
    one = [[solid((9, 9, 9))]]
    short = grid(one, column_labels=["a"], captions=[["a"]])
    long = grid(one, column_labels=["a" * 200], captions=[["b" * 200]])
    assert short.shape == long.shape


BLUE, VERMILION = (0, 114, 178), (213, 94, 0)


def height_of(picture, color, column):
    """Return the height of a line of that colour, as a share of the frame."""
    near = np.abs(picture[:, column].astype(int) - color).sum(-1) < 60
    assert near.any()
    return 1 - np.flatnonzero(near).mean() / (len(picture) - 1)


def test_a_signal_is_drawn_as_one_line_a_channel():
    rising = np.linspace(-1, 1, 50)
    picture = plot(np.stack([rising, np.full(50, 0.5)], axis=1), (-1, 1))
    assert picture.shape == (120, 240, 3)
    for column in (60, 220):
        expected = 0.02 + 0.96 * column / 239
        np.testing.assert_allclose(height_of(picture, BLUE, column), expected, atol=0.02)
        np.testing.assert_allclose(height_of(picture, VERMILION, column), 0.74, atol=0.02)


def test_the_scale_of_a_plot_is_fixed_and_written_on_it():
    signal = np.full((9, 1), 0.25)
    assert abs(height_of(plot(signal, (0, 1)), BLUE, 120) - 0.26) < 0.02
    assert abs(height_of(plot(signal, (0, 2)), BLUE, 120) - 0.14) < 0.02
    one, two = (plot(np.full((9, 1), high / 2), (0, high)) for high in (1, 2))
    assert (one[:15, :15] != two[:15, :15]).any()
    np.testing.assert_array_equal(one[:, 30:], two[:, 30:])


@pytest.mark.parametrize("signal", [np.full((5, 1), np.nan), np.full((1, 1), 0.0)])
def test_nan_and_a_single_value_are_drawn_at_the_bottom(signal):
    assert height_of(plot(signal, (0, 1)), BLUE, 120) < 0.05


def test_many_channels_are_rows_of_grey():
    signal = np.zeros((4, 8))
    signal[:, 3] = 1
    picture = plot(signal, (0, 1))
    assert picture.shape == (120, 240, 3)
    assert (picture[45:60] == 255).all()
    assert not picture[:45].any()
    assert not picture[60:].any()


@pytest.mark.parametrize("channels", [2, 8])
def test_each_line_or_row_of_a_plot_may_have_a_range_of_its_own(channels):
    high = 1.0 + np.arange(channels)
    shares = np.random.default_rng(0).random((9, channels))
    own, usual = plot(shares * high, (0 * high, high)), plot(shares, (0, 1))
    # The numbers in the corners differ.
    np.testing.assert_array_equal(own[16:-16], usual[16:-16])


def test_targets_are_shown_as_images_or_as_plots_of_signals():
    images = np.random.default_rng(0).random((3, 6, 5, 2))
    np.testing.assert_array_equal(of_targets(images, (0, 1)), to_uint8(images, (0, 1)))
    signals = images[:, :, 0]
    np.testing.assert_array_equal(of_targets(list(images), (0, 1)), of_targets(images, (0, 1)))
    assert of_targets(signals, (0, 1)).shape == (3, 120, 240, 3)
    np.testing.assert_array_equal(of_targets(signals, (0, 1))[1], plot(signals[1], (0, 1)))


def test_pictures_of_many_images_take_little_more_memory_than_the_pictures():
    images = np.zeros((40, 64, 64, 3), "float32")
    tracemalloc.start()
    shown = of_targets(images, (0, 1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The float64 values of all images alone would take eight times as much as the pictures.
    assert peak < 4 * shown.nbytes


def test_importance_is_a_small_picture_of_the_means_of_blocks():
    importance = np.random.default_rng(0).random((2, 224, 112)).astype("float32")
    found = of_importance(importance)
    blocks = importance.reshape(2, 56, 4, 28, 4).mean((2, 4))
    expected = 255 * blocks / blocks.max((1, 2), keepdims=True)
    assert found.dtype == "uint8"
    np.testing.assert_allclose(found, expected, atol=0.51)
    small = of_importance(np.eye(5)[None])
    np.testing.assert_array_equal(small[0], 255 * np.eye(5))
    assert not of_importance(np.zeros((1, 3, 4))).any()


def test_a_gif_of_grey_frames_is_exact_and_one_of_colours_nearly_so():
    ramp = np.tile(np.arange(64, dtype="uint8") * 4, (64, 1))
    grey, colours = ramp[..., None], np.stack([ramp, ramp.T, 255 - ramp], axis=-1)
    encoded = encode_gif([np.repeat(grey, 3, axis=-1), colours, grey[::-1, ::-1]])
    frames = []
    with Image.open(io.BytesIO(encoded)) as film:
        for i in range(film.n_frames):
            film.seek(i)
            frames.append(np.asarray(film.convert("RGB")).astype(int))
    np.testing.assert_array_equal(frames[0], np.repeat(grey, 3, axis=-1))
    np.testing.assert_array_equal(frames[2], np.repeat(grey[::-1, ::-1], 3, axis=-1))
    # 256 colours of a cube are 40 apart at most.
    assert np.abs(frames[1] - colours).max() <= 40
    assert np.abs(frames[1] - colours).mean() < 12
