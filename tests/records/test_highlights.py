"""Pictures of where an image activates a unit."""

import numpy as np
import pytest

from featviz_callback.records import highlights


def test_an_image_fades_to_grey_where_the_unit_is_not_activated():
    image = np.zeros((60, 60, 1))
    image[30:] = 1
    shares = np.zeros((60, 60))
    shares[:, 30:] = 1
    whole, _ = highlights.of_image(image, (0, 1), shares, ((0, 1), (0, 1)))
    assert whole.shape == (60, 60, 1)
    assert (whole[10, 45], whole[50, 45]) == (0, 255)
    # A fifth of the contrast is left.
    assert whole[10, 15] == pytest.approx(128 - 0.2 * 128, abs=1)
    assert whole[50, 15] == pytest.approx(128 + 0.2 * 127, abs=1)


def test_the_box_is_outlined_and_cut_out():
    image = np.random.default_rng(0).uniform(0.2, 0.8, (64, 64, 3))
    box = ((10, 26), (30, 46))
    whole, part = highlights.of_image(image, (0, 1), np.ones((64, 64)), box)
    expected = np.round(255 * image).astype("uint8")
    changed = (whole != expected).any(-1)
    assert (whole[10, 30:46] == 255).all()
    assert (whole[25, 30:46] == 255).all()
    assert (whole[11:25, [31, 44]] == 0).all()
    assert changed[10:26, 30:46].sum() == changed.sum() == 4 * 15 + 4 * 13
    # Each of 16 pixels becomes four.
    np.testing.assert_array_equal(part[::4, ::4], expected[10:26, 30:46])


@pytest.mark.parametrize("box", [((0, 2), (0, 8)), ((14, 16), (24, 32)), ((4, 5), (10, 18))])
def test_the_crop_has_the_proportions_of_the_image_and_holds_the_box(box):
    image = np.zeros((16, 32, 1))
    image[slice(*box[0]), slice(*box[1])] = 1
    whole, part = highlights.of_image(image, (0, 1), np.ones((16, 32)), box)
    # A quarter of each side.
    assert part.shape == whole.shape == (64, 128, 1)
    count = (part == 255).sum() / (64 * 128)
    assert count == pytest.approx(image.sum() / (4 * 8))


def test_large_images_are_reduced_and_their_crop_is_not():
    image = np.zeros((256, 512, 3))
    image[::2, ::2] = 1
    box = ((64, 192), (256, 512))
    whole, part = highlights.of_image(image, (0, 1), np.ones((256, 512)), box)
    assert whole.shape == part.shape == (128, 256, 3)
    # A mean of four pixels, but for the outline.
    assert np.abs(whole[:30].astype(int) - 255 / 4).max() <= 1
    assert (whole[32, 128:] == 255).all()
    assert set(np.unique(part)) == {0, 255}


def test_a_signal_fades_outside_of_its_stretch_and_the_stretch_is_drawn_large():
    signal = np.linspace(0, 1, 100)[:, None]
    shares = np.zeros((1, 100))
    shares[0, 40:60] = 1
    whole, part = highlights.of_image(signal, (0, 1), shares, ((0, 1), (40, 60)))
    assert whole.shape == part.shape == (120, 240, 3)
    # The line is blue in the stretch, and almost grey elsewhere.
    contrast = whole.astype(int).max(-1) - whole.min(-1)
    assert contrast[:, 105:138].max() > 100
    assert contrast[:, :90].max() < 50
    white = (whole == 255).all(-1).all(0)
    assert np.flatnonzero(white)[0] == pytest.approx(39.5 / 99 * 239, abs=1)


def test_two_pictures_stand_side_by_side():
    one, other = np.zeros((8, 5, 3), "uint8"), np.full((8, 5, 3), 9, "uint8")
    both = highlights.beside(one, other)
    assert both.shape == (8, 14, 3)
    assert (both[:, 5:9] == 255).all()
    assert (both[:, 9:] == 9).all()
