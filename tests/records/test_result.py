"""Results: unpacking, contact sheets, archives."""

import io

import numpy as np
import pytest
from PIL import Image

from featviz_callback.records.pictures import encode_png
from featviz_callback.records.result import Result
from tests.conftest import random_images


def make_result(count=5, channels=3, status=None, frames=False):
    images = random_images(count, 8, 6, channels)
    return Result(
        images=images,
        names=[f"Neuron#<logits>_{i}" for i in range(count)],
        scores=np.arange(count, dtype="float32"),
        history=np.zeros((4, count), "float32"),
        status=status or ["ok"] * count,
        values_range=(0.0, 1.0),
        frames=np.stack([images * 0, images]) if frames else None,
        frame_steps=np.array([2, 4]) if frames else None,
        starts=["faint noise"] * (count - 1) + ["noise 3 1.5 0"] if frames else None,
        importance=random_images(count, 8, 6) if frames else None,
        score_ratio=np.ones(count, "float32") if frames else None,
        real_images=random_images(count, 2, 8, 6, channels) if frames else None,
        real_scores=np.ones((count, 2), "float32") if frames else None,
    )


def test_a_result_unpacks_into_images_and_names():
    result = make_result()
    images, names = result
    assert images is result.images
    assert names is result.names
    assert len(result) == 5


def test_the_repr_tells_count_size_and_best_score():
    assert repr(make_result()) == "<Result of 5 images 8x6x3, best score 4>"


def test_the_archive_holds_every_array_without_pickle(tmp_path):
    result = make_result(frames=True)
    result.save(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as archive:
        assert set(archive) == set(vars(result))
        for name, value in vars(result).items():
            np.testing.assert_array_equal(archive[name], value)


def test_the_archive_omits_attributes_that_are_none(tmp_path):
    make_result().save(str(tmp_path / "all.npz"))
    with np.load(tmp_path / "all.npz", allow_pickle=False) as archive:
        assert not {"frames", "frame_steps", "starts", "importance"} & set(archive)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_the_sheet_shows_every_image(count, channels, tmp_path):
    result = make_result(count, channels)
    result.images[:] = (np.arange(count) + 60)[:, None, None, None] / 255
    if channels == 4:
        result.images[..., 3] = 1.0
    result.save(tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    np.testing.assert_array_equal(sheet, result.sheet())
    assert (tmp_path / "sheet.png").read_bytes() == encode_png(result.sheet())
    # Eight by six pixels are enlarged sixteen times, to at least 96.
    areas = [(sheet == value).all(-1).sum() for value in range(60, 60 + count)]
    # Some more pixels of the letters may have the same grey.
    assert all(128 * 96 <= area < 128 * 96 + 100 for area in areas)


def test_a_status_that_is_not_ok_is_written_below_its_image():
    plain, dead = make_result(1).sheet(), make_result(1, status=["dead"]).sheet()
    assert plain.shape == dead.shape
    assert (plain != dead).any()


def test_a_notebook_shows_the_sheet():
    shown = Image.open(io.BytesIO(make_result()._repr_png_()))
    np.testing.assert_array_equal(np.asarray(shown), make_result().sheet())


def test_a_gif_shows_the_frames_and_how_many_steps_they_took(tmp_path):
    result = make_result(2, frames=True)
    result.save(tmp_path / "a.GIF")
    with Image.open(tmp_path / "a.GIF") as animation:
        assert animation.n_frames == 2
        first = np.asarray(animation.convert("RGB"))
        animation.seek(1)
        last = np.asarray(animation.convert("RGB"))
    # The first frame is black, and its title tells another step.
    assert (first == 0).all(-1).mean() > 0.5 > (last == 0).all(-1).mean()
    assert (first[:16] != last[:16]).any()


def test_a_gif_without_frames_is_a_still_picture(tmp_path):
    make_result(2).save(tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as animation:
        assert animation.n_frames == 1


def test_pictures_fade_to_white_where_they_do_not_matter(tmp_path):
    result = make_result(1, frames=True)
    result.images[:] = 0.2
    result.importance[:] = 0.0
    result.importance[0, :4, :3] = 1.0
    result.importance[0, 4:, 3:] = 0.5
    result.save(tmp_path / "a.png", importance=True)
    sheet = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(sheet, result.sheet(importance=True))
    # Eight by six pixels are enlarged sixteen times, and a quarter of them is opaque.
    quarter = 8 * 6 // 4 * 16**2
    opaque, half = round(0.2 * 255), round(0.6 * 255)
    areas = [(sheet == value).all(-1).sum() for value in (opaque, half)]
    assert all(quarter <= area < quarter + 100 for area in areas)


def test_importance_that_is_not_known_is_not_shown(tmp_path):
    with pytest.raises(ValueError, match="`importance`"):
        make_result(2).save(tmp_path / "a.png", importance=True)
