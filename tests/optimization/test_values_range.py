"""The range that images are made in, and what is logged of it."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives import Scaling, inputs
from featviz_callback.optimization.values_range import choose_values_range, range_before

SHAPE = (6, 5, 3)
IMAGES = np.random.default_rng(0).random((20, *SHAPE), "float32")


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")


def chosen(images=None, *first):
    model = keras.Sequential([keras.Input(SHAPE), *first, layers.Conv2D(2, 3, name="conv")])
    return choose_values_range(model, inputs.resolve(model)[0], (), SHAPE, images)


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [
        (1 / 255, 0, (0, 255)),
        (1 / 127.5, -1, (0, 255)),
        (1 / 58, -123 / 58, (0, 255)),
        (1, -117, (0, 255)),
        (2, -1, (0, 1)),
        (1 / 0.225, -0.45 / 0.225, (0, 1)),
        (0.5, -2.5, (-1, 11)),
        (1, 0, None),
        (3, 0, None),
    ],
    ids=[
        "255", "127.5", "mean and deviation of bytes", "mean of bytes", "to -1..1",
        "mean and deviation", "other data", "none", "a factor",
    ],
)  # fmt: skip
def test_a_scaling_tells_what_it_is_made_for(slope, offset, expected):
    found = range_before(Scaling("conv", slope, offset))
    assert found == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("images", "first", "expected"),
    [
        (None, (), (0, 1)),
        (None, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 255, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 60, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 4 - 2, (layers.Rescaling(1 / 255),), (-2, 2)),
        (IMAGES * 2 - 1, (), (-1, 1)),
        (IMAGES * 0.2 - 0.1, (), (-0.1, 0.1)),
    ],
    ids=["nothing", "layer", "both", "dark", "contradiction", "data", "narrow"],
)
def test_the_model_tells_the_range_and_else_the_data(images, first, expected, caplog):
    found = chosen(images, *first)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert caplog.text.count("values_range=") == 1


def test_it_is_logged_once_a_model(caplog):
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3)])
    for _ in range(2):
        choose_values_range(model, inputs.resolve(model)[0], (), SHAPE, None)
    assert caplog.text.count("values_range=") == 1
