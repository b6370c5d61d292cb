"""Small images and signals, told by their shape."""

import pytest

from featviz_callback.images import shapes


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((95, 95, 3), True),
        ((96, 95, 3), False),
        ((20, 96, 3), False),
        ((2, 400, 1), False),
        ((1, 400, 1), True),
    ],
)
def test_an_image_is_small_by_its_longer_side_and_a_signal_at_any_length(shape, small):
    assert shapes.is_small(shape) == small
