import io

import numpy as np
from PIL import Image

from featviz_callback.monitoring.places import Place
from featviz_callback.monitoring.real_images import ShownImage, drawn_before


def shown(index, score, place=None):
    image = np.random.default_rng(index).random((8, 8, 1), "float32")
    return ShownImage(index, score, image, (0.0, 1.0), place)


def place(top):
    return Place(((top, top + 4), (0, 4)), np.eye(8, dtype="uint8") * 255, (0.0, 0.0))


def test_a_logged_image_is_the_image():
    one = shown(3, 0.5)
    png, beside = one.to_log
    assert beside is None
    decoded = np.asarray(Image.open(io.BytesIO(png.content)))
    np.testing.assert_array_equal(decoded, np.round(255 * one.image[..., 0]).astype("uint8"))


def test_what_is_drawn_already_is_taken_over_with_the_new_score():
    before = [shown(1, 0.5, place(0)), shown(2, 0.4, place(0))]
    logged = [one.to_log for one in before]
    after = drawn_before([shown(2, 0.9, place(0)), shown(1, 0.8, place(0))], before)
    assert [(one.index, one.score) for one in after] == [(2, 0.9), (1, 0.8)]
    assert after[0].to_log is logged[1]
    assert after[1].to_log is logged[0]


def test_another_image_or_another_place_is_drawn_anew():
    before = [shown(1, 0.5, place(0))]
    old = before[0].to_log
    moved, other = drawn_before([shown(1, 0.5, place(3)), shown(2, 0.5, place(0))], before)
    assert moved.to_log[0].content == old[0].content
    assert moved.to_log[1].content != old[1].content
    assert other.to_log[0].content != old[0].content


def test_an_encoded_image_needs_no_pixels():
    one = shown(1, 0.5, place(0))
    encoded = one.encoded()
    assert encoded.image.size == 0
    assert encoded.with_score(0.7).to_log == one.to_log
