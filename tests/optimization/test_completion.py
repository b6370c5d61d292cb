"""Real examples, as a part of a wrapper gets them."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives import Scaling
from featviz_callback.optimization.completion import scaled_as_before
from featviz_callback.optimization.settings import Settings

RAW = np.random.default_rng(0).integers(0, 256, (10, 6, 5, 3)).astype("uint8")
SLOPES, OFFSETS = np.array([0.01, 0.02, 0.03], "float32"), np.array([-1, -2, -3], "float32")
BEFORE = Scaling("norm", tuple(map(float, SLOPES)), tuple(map(float, OFFSETS)))


def test_channels_are_scaled_each_by_its_own_numbers():
    model = keras.Sequential([keras.Input((6, 5, 3)), layers.Conv2D(2, 3)])
    found = scaled_as_before(Settings(), model, {0: RAW}, BEFORE)
    np.testing.assert_allclose(found[0], RAW * SLOPES + OFFSETS, rtol=1e-5)
    assert found[0].dtype == "float32"


def test_only_the_optimised_input_is_scaled():
    photo, age = keras.Input((6, 5, 3), name="photo"), keras.Input((2,), name="age")
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(photo))
    model = keras.Model([age, photo], layers.Dense(1)(layers.Concatenate()([pooled, age])))
    ages = np.ones((10, 2), "float32")
    found = scaled_as_before(Settings(), model, {0: ages, 1: RAW}, BEFORE)
    np.testing.assert_array_equal(found[0], ages)
    np.testing.assert_allclose(found[1], RAW * SLOPES + OFFSETS, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 5), (None, None, 3)])
def test_grey_images_and_images_of_any_size_are_scaled_too(shape):
    inside = [layers.Reshape((6, 5, 1))] if len(shape) == 2 else []
    model = keras.Sequential([keras.Input(shape), *inside, layers.Conv2D(2, 3)])
    raw = RAW[..., 0] if len(shape) == 2 else RAW
    settings = Settings(image_shape=(6, 5, 1) if len(shape) == 2 else None)
    found = scaled_as_before(settings, model, {0: raw}, Scaling("r", (1 / 255,), (0.0,)))
    np.testing.assert_allclose(found[0], raw / 255, rtol=1e-5)


def test_examples_that_are_scaled_already_are_left_alone():
    model = keras.Sequential([keras.Input((6, 5, 3)), layers.Conv2D(2, 3)])
    scaled = (RAW / 255).astype("float32")
    assert (
        scaled_as_before(Settings(), model, {0: scaled}, Scaling("r", (1 / 255,), (0.0,))) is None
    )
