"""The contract of all parameterizations, and the choice of the default."""

from dataclasses import replace

import numpy as np
import pytest

from featviz_callback import parameterizations
from featviz_callback.images.parameterizations import Fourier, Pixel
from tests.conftest import random_images, tensor, to_numpy
from tests.images.conftest import (
    KINDS,
    SHAPES,
    field,
    parameters,
    plain,
    render,
    root_mean_squares,
)
from tests.reference import pixel_image


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_start_is_drawn_on_the_host_from_the_generator_alone(kind, shape):
    first, again, other = (
        kind(noise=0.5).init(np.random.default_rng(seed), shape) for seed in (1, 1, 2)
    )
    assert isinstance(first, np.ndarray)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("make", [plain, Pixel])
def test_noise_is_the_deviation_of_the_fields_start(make):
    shape = (32, 32, 1)
    one = make(noise=0.3, contrast=np.inf)
    starts = np.stack([one.init(np.random.default_rng(i), shape) for i in range(20)])
    deviation = np.sqrt((root_mean_squares(field(one, starts, shape)) ** 2).mean())
    np.testing.assert_allclose(deviation, 0.3, rtol=0.15)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pixel_image_is_the_sigmoid_of_its_parameters(shape):
    params = parameters(shape)
    expected = [pixel_image(one) for one in params]
    np.testing.assert_allclose(render(Pixel(mean=0.5), params, shape), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 64, 3)])
def test_content_that_fills_its_frame_has_more_contrast_than_a_photograph(shape):
    assert parameterizations.standard(shape).contrasts(shape) == (2, 8)
    photograph = (224, 224, 3)
    assert parameterizations.standard(photograph).contrasts(photograph) == (1, 8)


@pytest.mark.parametrize("shape", [(28, 28, 1), (224, 224, 3)])
def test_a_given_contrast_is_kept(shape):
    assert Fourier(contrast=0.7).contrasts(shape) == (0.7, 0.7)
    assert Fourier().contrasts(shape) == (1, 1)


def test_the_start_of_the_default_is_faint():
    start = parameterizations.standard((8, 6, 3)).init(np.random.default_rng(0), (8, 6, 3))
    faint = Fourier(detail=1.0, noise=0.05).init(np.random.default_rng(0), (8, 6, 3))
    np.testing.assert_array_equal(start, faint)


def bound_of(one):
    """Return the largest contrast during the optimisation."""
    return one.contrast * (1.2 if isinstance(one, Fourier) else 1.0)


@pytest.mark.parametrize("make", [plain, Pixel])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("deviation", [0.1, 1.0, 10.0])
def test_projection_keeps_the_contrast_under_its_bound(make, channels, deviation):
    shape = (7, 6, channels)
    one = make(contrast=0.8)
    params = parameters(shape, deviation, images=4)
    projected = to_numpy(one.project(tensor(params), shape))
    before = root_mean_squares(field(one, params / 100, shape)) * 100
    after = root_mean_squares(field(one, projected, shape))
    assert (after <= bound_of(one) * 1.001).all()
    assert (after <= before * 1.001).all()


@pytest.mark.parametrize("make", [plain, Pixel])
@pytest.mark.parametrize("color", [0, 1, 2])
def test_contrast_is_bounded_whatever_the_colour(make, color):
    shape = (6, 6, 3)
    one = make(contrast=0.8)
    params = np.zeros((1, 3, 6, 6))
    params[:, color] = parameters(shape, 100.0, images=1)[:, color]
    projected = to_numpy(one.project(tensor(params), shape))
    found = root_mean_squares(field(one, projected, shape))
    np.testing.assert_allclose(found, bound_of(one), rtol=1e-3)


@pytest.mark.parametrize("make", [plain, Pixel])
@pytest.mark.parametrize("contrast", [3.0, np.inf])
def test_projection_preserves_allowed_parameters(make, contrast):
    params = tensor(parameters((7, 6, 2), 0.1))
    projected = make(contrast=contrast).project(params, (7, 6, 2))
    np.testing.assert_array_equal(to_numpy(projected), to_numpy(params))


@pytest.mark.parametrize("make", [plain, Pixel])
def test_projection_preserves_faint_images_if_little_contrast_is_allowed(make):
    params = tensor(parameters((7, 6, 2), 1e-4))
    projected = make(contrast=1e-3).project(params, (7, 6, 2))
    np.testing.assert_array_equal(to_numpy(projected), to_numpy(params))


@pytest.mark.parametrize("make", [plain, Pixel])
def test_projection_scales_each_image_by_itself(make):
    shape = (6, 6, 1)
    params = np.concatenate([parameters(shape, 0.01), parameters(shape, 50.0)])
    projected = to_numpy(make(contrast=1.0).project(tensor(params), shape))
    np.testing.assert_allclose(projected[:2], params[:2], rtol=1e-6)
    ratios = projected[2:] / params[2:]
    assert (ratios < 0.5).all()
    np.testing.assert_allclose(ratios, ratios[:, :1, :1, :1] * np.ones_like(ratios), rtol=1e-4)


@pytest.mark.parametrize("make", [plain, Pixel])
def test_projection_of_zero_is_zero(make):
    assert not to_numpy(make().project(tensor(np.zeros((1, 1, 4, 4))), (4, 4, 1))).any()


@pytest.mark.parametrize("make", [plain, Pixel])
@pytest.mark.parametrize("mean", [0.5, 0.1, (0.2, 0.5, 0.9)])
def test_without_a_field_the_image_is_its_mean(make, mean):
    images = render(make(mean=mean), np.zeros((1, 3, 4, 5)), (4, 5, 3))
    np.testing.assert_allclose(images, np.broadcast_to(mean, (1, 4, 5, 3)), rtol=1e-5)


@pytest.mark.parametrize("make", [plain, Pixel])
def test_values_stay_between_zero_and_one(make):
    images = render(make(), parameters((6, 6, 1), 1000.0), (6, 6, 1))
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_parameterizations_are_equal_by_value(kind):
    assert kind(noise=0.5) == kind(noise=0.5) != kind(noise=0.25)
    assert hash(kind(noise=0.5)) == hash(kind(noise=0.5))


def test_a_parameterization_is_named_or_given():
    assert isinstance(parameterizations.get("fourier", (8, 8, 3)), Fourier)
    assert isinstance(parameterizations.get("pixel", (8, 8, 3)), Pixel)
    own = Pixel(noise=0.7)
    assert parameterizations.get(own, (8, 8, 3)) is own


@pytest.mark.parametrize("unknown", ["wavelet", None, 3, np.zeros(2)])
def test_an_unknown_parameterization_is_refused_with_the_known_ones(unknown):
    with pytest.raises(ValueError, match="'fourier', 'fixed_magnitude', 'pixel'"):
        parameterizations.get(unknown, (8, 8, 3))


@pytest.mark.parametrize("kind", [*KINDS, parameterizations.FixedMagnitude])
def test_a_class_of_parameterizations_has_to_be_called(kind):
    with pytest.raises(ValueError, match=rf"`parameterization`.*Call it: `{kind.__name__}\(\)`"):
        parameterizations.get(kind, (8, 8, 3))


def test_photographs_get_a_plain_background_and_small_images_do_not():
    for shape, window in (((96, 100, 1), 0.4), ((95, 90, 1), None)):
        default = parameterizations.get("fourier", shape)
        params = default.init(np.random.default_rng(0), shape)[None]
        expected = render(replace(default, window=window), params, shape)
        np.testing.assert_array_equal(render(default, params, shape), expected)
        # The background is plain if there is any.
        corner, middle = expected[0, :5, :5].std(), expected[0, 45:50, 45:50].std()
        assert (corner < 0.05 * middle) == (window is not None)


def test_like_data_takes_over_mean_and_colours():
    real = random_images(5, 6, 4, 2) * [1.0, 3.0]
    like = parameterizations.like_data(real, (-8.0, 8.0), (28, 28, 2))
    np.testing.assert_allclose(like.mean, (real.mean((0, 1, 2)) + 8) / 16, rtol=1e-6)
    covariance = np.cov(real.reshape(-1, 2).T)
    found = np.array(like.colors) @ np.array(like.colors).T
    np.testing.assert_allclose(found, covariance * 2 / np.trace(covariance), rtol=1e-6, atol=1e-6)
    assert replace(like, mean=0.5, colors="natural") == parameterizations.standard((28, 28, 2))


def test_images_of_fixed_magnitude_vary_as_much_as_real_ones():
    real = random_images(40, 28, 28, 1) * 0.15 + 0.4
    like = parameterizations.like_data(real, (0.0, 1.0), (28, 28, 1), "fixed_magnitude")
    drawn = [like.init(np.random.default_rng(i), (28, 28, 1)) for i in range(20)]
    made = render(like, np.stack(drawn), (28, 28, 1))
    np.testing.assert_allclose(made.std(), real.std(), rtol=0.05)


def test_only_fourier_parameterizations_can_be_like_data():
    with pytest.raises(ValueError, match="`parameterization`.*'fourier' or 'fixed_magnitude'"):
        parameterizations.like_data(random_images(2, 8, 8, 1), (0, 1), (8, 8, 1), "pixel")


def test_like_data_needs_images_of_the_channels_to_be_made():
    with pytest.raises(ValueError, match=r"`images`.*width, 3\)"):
        parameterizations.like_data(random_images(2, 8, 8, 1), (0, 1), (8, 8, 3))


def test_the_basis_of_a_long_signal_is_bounded():
    assert parameterizations.standard((1, 16000, 1)).scale((1, 16000, 1)).size <= 1025
    assert parameterizations.standard((1, 1000, 1)).scale((1, 1000, 1)).size == 1000


def test_small_images_have_all_frequencies():
    assert parameterizations.standard((28, 28, 1)).detail == 1
    assert parameterizations.standard((224, 224, 3)).detail < 1
