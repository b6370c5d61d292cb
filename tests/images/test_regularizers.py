"""Penalties on images: their values, and gradients that are always finite."""

import keras
import numpy as np
import pytest

from featviz_callback.images.regularizers import L1, L2, LInfinity, TotalVariation
from tests.conftest import gradient, tensor, to_numpy
from tests.reference import total_variation

BATCH = np.random.default_rng(0).normal(size=(3, 5, 7, 2)).astype("float32")

VALUES = {
    L1: lambda x: np.abs(x).mean(),
    L2: lambda x: np.sqrt((x**2).mean()),
    LInfinity: lambda x: np.abs(x).max((0, 1)).mean(),
    TotalVariation: total_variation,
}


def penalties(regularizer, images):
    return to_numpy(regularizer(tensor(images)))


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("kind", VALUES)
def test_each_image_has_the_penalty_that_numpy_computes(kind, weight):
    expected = [weight * VALUES[kind](image.astype("float64")) for image in BATCH]
    np.testing.assert_allclose(penalties(kind(weight), BATCH), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", VALUES)
def test_a_penalty_does_not_depend_on_the_other_images(kind):
    alone = np.concatenate([penalties(kind(), image[None]) for image in BATCH])
    np.testing.assert_allclose(penalties(kind(), BATCH), alone, rtol=1e-6)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_the_gradient_of_a_flat_image_is_finite(kind, value):
    flat = np.full((2, 4, 3, 1), value)
    assert np.isfinite(gradient(lambda x: keras.ops.sum(kind()(x)), flat)).all()


@pytest.mark.parametrize("kind", [L1, L2, LInfinity])
def test_a_penalty_is_a_mean_whatever_the_size(kind):
    four_times = np.tile(BATCH, (1, 2, 2, 1))
    np.testing.assert_allclose(penalties(kind(), four_times), penalties(kind(), BATCH), rtol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (9, 4), (30, 21)])
def test_total_variation_is_the_slope_whatever_the_size(height, width):
    ramp = 0.25 * np.arange(height)[:, None, None] + 0.5 * np.arange(width)[None, :, None]
    np.testing.assert_allclose(penalties(TotalVariation(), ramp[None]), [0.75], rtol=1e-5)


@pytest.mark.parametrize(("shape", "expected"), [((1, 3), 1.0), ((3, 1), 2.0), ((1, 1), 0.0)])
def test_an_axis_of_one_pixel_does_not_vary(shape, expected):
    image = np.add.outer(2.0 * np.arange(shape[0]), np.arange(shape[1]))[None, ..., None]
    assert penalties(TotalVariation(), image).tolist() == [expected]


def test_an_axis_of_one_pixel_has_the_precision_of_the_image():
    floatx = keras.config.floatx()
    image = keras.ops.ones((2, 1, 3, 1), dtype="float32")
    try:
        keras.config.set_floatx("float64")
        found = TotalVariation()(image)
    finally:
        keras.config.set_floatx(floatx)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"


@pytest.mark.parametrize("kind", VALUES)
def test_regularizers_are_equal_by_value(kind):
    assert kind(0.5) == kind(0.5) != kind(0.25)
    assert hash(kind(0.5)) == hash(kind(0.5))


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf, "1", None, [1.0], 1j])
@pytest.mark.parametrize("kind", VALUES)
def test_a_weight_is_a_finite_number(kind, weight):
    with pytest.raises(ValueError, match="`weight`"):
        kind(weight)


@pytest.mark.parametrize("kind", VALUES)
def test_a_negative_weight_rewards(kind):
    np.testing.assert_allclose(penalties(kind(-2.0), BATCH), -2 * penalties(kind(), BATCH))
