"""Parameters to images: starts, values, spectra, colours and bounds."""

from dataclasses import replace

import numpy as np
import pytest

from featviz_callback import parameterizations
from featviz_callback.images import coefficients
from featviz_callback.images.coefficients import Coefficients
from featviz_callback.images.parameterizations import FixedMagnitude, Fourier, Pixel
from featviz_callback.images.statistics import Spectrum
from tests.conftest import random_images, tensor, to_numpy
from tests.reference import (
    COLORS,
    fourier_coefficients,
    fourier_image,
    fourier_scale,
    logit,
    pixel_image,
)

SHAPES = [(8, 8, 1), (7, 6, 3), (5, 9, 2), (4, 4, 13)]
KINDS = [Fourier, Pixel]


def plain(decay=1.0, detail=1.0, window=None, **others):
    """A Fourier parameterization with nothing left to its defaults."""
    others = {"mean": 0.5, "contrast": np.inf} | others
    return Fourier(decay=decay, detail=detail, window=window, **others)


def parameters(shape, deviation=1.0, images=2):
    height, width, channels = shape
    draw = np.random.default_rng(0).normal
    return draw(0, deviation, (images, channels, height, width))


def render(parameterization, params, shape):
    """The whole images, pixel by pixel."""
    grid = (tensor(np.tile(np.arange(size), (len(params), 1))) for size in shape[:2])
    return to_numpy(parameterization.image(tensor(params), *grid, shape))


def field(parameterization, params, shape):
    """What is inside the sigmoid, without the mean."""
    images = render(parameterization, params, shape).astype("float64")
    return logit(images) - logit(parameterization.mean)


def root_mean_squares(fields):
    return np.sqrt((fields**2).mean((1, 2, 3)))


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
def test_start_is_the_deviation_of_the_fields_start(make):
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


SPECTRA = [
    {"decay": 1.0},
    {"decay": 0.0},
    {"decay": 1.5},
    {"window": 0.4},
    {"mean": 0.2, "detail": 0.6},
]


@pytest.mark.parametrize("settings", SPECTRA, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fourier_image_is_the_sigmoid_of_its_scaled_spectrum(shape, settings):
    one = plain(**settings)
    starts = [one.init(np.random.default_rng(i), shape) for i in range(2)]
    params = np.stack(starts) / np.std(starts)
    expected = [fourier_image(p, shape, **settings) for p in params]
    np.testing.assert_allclose(render(one, params, shape), expected, atol=1e-5)


@pytest.mark.parametrize("settings", SPECTRA, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_spectrum_falls_as_documented(shape, settings):
    spectral = {k: v for k, v in settings.items() if k in ("decay", "detail")}
    scale = plain(**settings).scale(shape)
    np.testing.assert_allclose(scale, fourier_scale(*shape[:2], **spectral), rtol=1e-5)


@pytest.mark.parametrize(("decay", "lowest"), [(1.4, 1.0), (1.0, 1.0), (0.6, 1.5), (1.0, 0.5)])
def test_an_ascent_can_work_on_another_spectrum(decay, lowest):
    (squares,) = plain().precondition(decay, lowest, 1.0, (8, 6, 1))
    # No frequency but the constant's lies below one.
    lowest = max(lowest, 1e-3)
    expected = fourier_scale(8, 6, decay, lowest) / fourier_scale(8, 6, 1.0)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


def test_spectra_of_signals_fall_half_as_steeply():
    signal = plain(decay=0.5)
    (squares,) = signal.precondition(1.4, 1.5, 0.5, (1, 64, 3))
    expected = fourier_scale(1, 64, 0.7, 1.5) / fourier_scale(1, 64, 0.5)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


def test_an_ascent_can_work_on_weaker_chroma():
    ((light, *others),) = Fourier().precondition(1.0, 1.5, 0.5, (8, 6, 3))
    for other in others:
        np.testing.assert_allclose(other, 0.5**2 * light)
    np.testing.assert_allclose(light, Fourier().precondition(1.0, 1.5, 1.0, (8, 6, 3))[0][0])
    # Where colours are not decorrelated, none of them is a other.
    (apart,) = Fourier(colors=None).precondition(1.0, 1.5, 0.5, (8, 6, 3))
    np.testing.assert_allclose(np.broadcast_to(apart, (3, *light.shape)), [light] * 3)


@pytest.mark.parametrize("deviation", [1.0, 10.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_finished_image_has_its_full_contrast(deviation, channels):
    shape = (7, 6, channels)
    one = plain(contrast=1.2)
    finished = to_numpy(one.finish(tensor(parameters(shape, deviation)), shape))
    np.testing.assert_allclose(root_mean_squares(field(one, finished, shape)), 1.2, rtol=1e-3)


def test_an_image_that_has_hardly_left_its_start_stays_quiet():
    shape = (7, 6, 1)
    one = plain(contrast=1.2)
    finished = to_numpy(one.finish(tensor(parameters(shape, 1e-4)), shape))
    assert (root_mean_squares(field(one, finished, shape)) < 0.1).all()
    assert not to_numpy(one.finish(tensor(np.zeros((1, 1, 7, 6))), shape)).any()


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_finished_image_has_at_most_three_times_its_contrast(share):
    shape = (7, 6, 1)
    one = plain(contrast=1.2)
    quiet = share * to_numpy(one.finish(tensor(parameters(shape)), shape))
    finished = to_numpy(one.finish(tensor(quiet), shape))
    found = root_mean_squares(field(one, finished, shape))
    np.testing.assert_allclose(found, 1.2 * min(3 * share, 1), rtol=1e-3)


def test_less_detail_is_a_smoother_image_of_fewer_parameters():
    shape = (16, 16, 1)
    one = plain(detail=0.25)
    params = one.init(np.random.default_rng(0), shape)[None] * 10
    assert params.shape == (1, 1, 5, 5)
    spectrum = np.abs(np.fft.fft2(field(one, params, shape)[0, ..., 0]))
    assert spectrum[:3, :3].max() > 1
    np.testing.assert_allclose(spectrum[3:-2], 0, atol=1e-3)
    np.testing.assert_allclose(spectrum[:, 3:-2], 0, atol=1e-3)


def test_rows_and_columns_of_a_square_image_are_read_where_asked():
    shape = (8, 8, 1)
    params, still = parameters(shape), np.tile(np.arange(8), (2, 1))
    expected = np.roll(render(plain(), params, shape), -3, axis=1)
    moved = plain().image(tensor(params), tensor(still + 3), tensor(still), shape)
    np.testing.assert_allclose(to_numpy(moved), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(28, 28, 1), (1, 64, 3)])
def test_what_fills_its_frame_has_more_contrast_than_a_photograph(shape):
    photograph = parameterizations.standard((224, 224, 3))
    assert parameterizations.standard(shape).contrast > photograph.contrast


def test_a_window_fades_to_the_ground_at_the_border():
    shape = (16, 16, 1)
    still, faded = (render(plain(window=w), parameters(shape), shape) for w in (None, 0.3))
    assert np.abs(still[:, 0] - 0.5).max() > 0.05
    np.testing.assert_allclose(faded[:, 0], 0.5, atol=1e-3)
    np.testing.assert_allclose(faded[:, 7:9, 7:9], still[:, 7:9, 7:9], atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_only_three_channels_are_mixed_as_colours(channels):
    shape = (4, 4, channels)
    params = np.zeros((1, channels, 4, 4))
    params[:, 0] = 1.0
    moved = (np.abs(field(plain(), params, shape)).max((0, 1, 2)) > 1e-4).tolist()
    # The first natural colour is light, so it moves red, green and blue alike.
    assert moved == [True] * 3 if channels == 3 else [True] + [False] * (channels - 1)


def bound_of(one):
    """What the contrast may reach on the way."""
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
def test_projection_leaves_what_is_allowed(make, contrast):
    params = tensor(parameters((7, 6, 2), 0.1))
    projected = make(contrast=contrast).project(params, (7, 6, 2))
    np.testing.assert_array_equal(to_numpy(projected), to_numpy(params))


@pytest.mark.parametrize("make", [plain, Pixel])
def test_projection_leaves_faint_images_where_little_contrast_is_allowed(make):
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


def test_photographs_get_a_quiet_ground_and_small_images_do_not():
    assert parameterizations.get("fourier", (224, 200, 3)).window is not None
    assert parameterizations.get("fourier", (28, 28, 1)).window is None


@pytest.mark.parametrize(
    "settings", [{"mean": 0.0}, {"mean": (0.5, 1.0)}, {"contrast": -1}, {"noise": -0.1}]
)
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_settings_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`"):
        kind(**settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_for_each_channel_may_be_a_list(kind):
    assert kind(mean=[0.2, 0.4]) == kind(mean=np.array([0.2, 0.4])) == kind(mean=(0.2, 0.4))


@pytest.mark.parametrize("kind", [*KINDS, lambda **s: FixedMagnitude(Fourier(**s))])
@pytest.mark.parametrize("mean", [(0.2, 0.8), (0.5,), (0.2, 0.4, 0.6, 0.8), ()])
def test_a_mean_for_other_channels_is_refused(mean, kind):
    one, shape = kind(mean=mean), (8, 6, 3)
    with pytest.raises(ValueError, match="`mean`.*one number, or 3 .*mean="):
        render(one, one.init(np.random.default_rng(0), shape)[None], shape)


@pytest.mark.parametrize("kind", KINDS)
def test_a_grey_image_has_one_mean(kind):
    one, shape = kind(mean=(0.2, 0.5, 0.8)), (8, 6, 1)
    with pytest.raises(ValueError, match="`mean`.*one number, or 1 "):
        render(one, one.init(np.random.default_rng(0), shape)[None], shape)


@pytest.mark.parametrize("mean", ["grey", [[0.2, 0.4, 0.6]], None])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mean_is_of_numbers(kind, mean):
    with pytest.raises(ValueError, match="`mean`"):
        kind(mean=mean)


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


def test_only_what_is_drawn_in_fourier_space_can_be_like_data():
    with pytest.raises(ValueError, match="`parameterization`.*'fourier' or 'fixed_magnitude'"):
        parameterizations.like_data(random_images(2, 8, 8, 1), (0, 1), (8, 8, 1), "pixel")


def test_like_data_needs_images_of_the_channels_to_be_made():
    with pytest.raises(ValueError, match=r"`images`.*width, 3\)"):
        parameterizations.like_data(random_images(2, 8, 8, 1), (0, 1), (8, 8, 3))


@pytest.mark.parametrize("size", [(8, 8), (7, 6), (5, 9), (1, 12), (2, 3)])
def test_of_fixed_magnitude_every_frequency_keeps_its_own(size):
    shape = (*size, 1)
    one = FixedMagnitude(plain(decay=0.7, contrast=0.8))
    params = one.project(tensor(parameters(shape, 3.0)), shape)
    expected = 0.8 * fourier_scale(*size, 0.7)
    # Cosines come first: the frequencies 0, 1, 2... and their mirror images.
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) for n in size)
    for image in field(one.fourier, params, shape):
        found = np.abs(np.fft.fft2(image[..., 0])) / np.prod(size)
        np.testing.assert_allclose(found, expected[np.ix_(down, across)], rtol=2e-3, atol=2e-5)


def test_phases_are_moved_twenty_times_as_far_as_free_coefficients():
    fixed = FixedMagnitude(plain(decay=0.7, contrast=1.0))
    (squares,) = fixed.precondition(1.4, 1.5, 1.0, (8, 6, 1))
    expected = 20 * fourier_scale(8, 6, 1.4, 1.5) / fourier_scale(8, 6, 0.7)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


def test_fixed_magnitude_keeps_the_phases():
    shape = (7, 6, 2)
    free = parameters(shape)
    one = FixedMagnitude(plain(contrast=0.5))
    before, after = (
        np.fft.fft2(field(one.fourier, params, shape), axes=(1, 2))
        for params in (free * 0.1, to_numpy(one.project(tensor(free), shape)))
    )
    # The sine of the constant and of the highest frequency has no phase to keep.
    np.testing.assert_allclose(np.angle(after / before)[:, 1:3, 1:3], 0, atol=1e-3)


def test_a_start_of_fixed_magnitude_already_has_it():
    one, shape = FixedMagnitude(plain(contrast=1.0)), (8, 6, 3)
    start = one.init(np.random.default_rng(0), shape)
    again = to_numpy(one.project(tensor(start[None]), shape))[0]
    assert start.dtype == np.float32
    np.testing.assert_allclose(start, again, rtol=1e-4, atol=1e-5)


def test_any_channels_can_vary_together():
    colors = np.array([[1.0, 0.0], [1.0, 0.0]])
    shape = (8, 6, 2)
    images = render(plain(colors=colors), parameters(shape), shape)
    np.testing.assert_allclose(images[..., 0], images[..., 1], atol=1e-6)
    alone = render(plain(colors=None), parameters(shape), shape)
    assert np.abs(alone[..., 0] - alone[..., 1]).max() > 0.1


def test_colours_and_spectra_of_other_images_are_refused():
    grid = [tensor(np.zeros((1, 4)))] * 2
    params = tensor(parameters((8, 6, 2), images=1))
    with pytest.raises(ValueError, match="matrix of 2 rows"):
        plain(colors=np.eye(3)).image(params, *grid, (8, 6, 2))
    spectrum = Spectrum(np.ones((1, 5, 5), "float32"))
    with pytest.raises(ValueError, match=r"functions for images of shape \(8, 6, 2\)"):
        plain(spectrum=spectrum).image(params, *grid, (8, 6, 2))
    spectrum = Spectrum(np.ones((3, 8, 6), "float32"))
    with pytest.raises(ValueError, match="for 3 channels"):
        plain(spectrum=spectrum).image(params, *grid, (8, 6, 2))
    with pytest.raises(ValueError, match="a square matrix"):
        plain(colors=[[1.0, 2.0]])
    with pytest.raises(ValueError, match="'natural' or a matrix"):
        plain(colors="rgb")
    with pytest.raises(ValueError, match="a finite number"):
        FixedMagnitude(plain(contrast=np.inf))


# --- signals --------------------------------------------------------------------------


def test_a_signal_has_no_colours_no_quiet_ends_and_a_spectrum_of_one_dimension():
    signal = parameterizations.standard((1, 64, 3))
    assert (signal.window, signal.detail, signal.decay) == (None, 1.0, 0.5)
    assert signal.color_matrix((1, 64, 3)) is None
    powers = signal.scale((1, 64, 3))[0] ** 2
    frequencies = np.concatenate([np.arange(33), np.arange(1, 32)])
    octaves = [powers[(frequencies >= f) & (frequencies < 2 * f)].sum() for f in (4, 8, 16)]
    np.testing.assert_allclose(octaves, octaves[0], rtol=0.1)


def test_the_basis_of_a_long_signal_is_bounded():
    assert parameterizations.standard((1, 16000, 1)).scale((1, 16000, 1)).size <= 1025
    assert parameterizations.standard((1, 1000, 1)).scale((1, 1000, 1)).size == 1000


def test_an_oblong_image_is_read_at_a_square_view():
    one, shape = plain(), (8, 12, 1)
    params = parameters(shape)
    whole = render(one, params, shape)
    rows, columns = np.arange(2, 7), np.arange(4, 9)
    grid = (tensor(np.tile(axis, (2, 1))) for axis in (rows, columns))
    view = to_numpy(one.image(tensor(params), *grid, shape))
    np.testing.assert_allclose(view, whole[:, 2:7, 4:9], atol=1e-5)


def test_phases_are_random_whatever_the_start():
    loud, silent = (
        FixedMagnitude(plain(contrast=1.0, noise=noise)).init(np.random.default_rng(0), (8, 6, 1))
        for noise in (1.0, 0.0)
    )
    np.testing.assert_allclose(silent, loud)


def test_a_frequency_without_a_phase_stays_finite():
    projected = FixedMagnitude(plain(contrast=1.0)).project(
        tensor(np.zeros((1, 1, 8, 6))), (8, 6, 1)
    )
    assert np.isfinite(to_numpy(projected)).all()


def test_small_images_have_all_frequencies():
    assert parameterizations.standard((28, 28, 1)).detail == 1
    assert parameterizations.standard((224, 224, 3)).detail < 1


# --- the coefficients themselves ------------------------------------------------------------


def coefficients_of(params, shape, signed, **settings):
    """Of a batch, those of half the field where values are signed."""
    return np.stack([fourier_coefficients(p, shape, **settings) for p in params]) / (1 + signed)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("settings", [*SPECTRA, {"mean": (0.2, 0.5, 0.7)}], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_coefficients_make_the_image_that_their_parameters_make(shape, settings, signed):
    if isinstance(settings.get("mean"), tuple) and shape[2] != 3:
        settings = {"mean": settings["mean"][:1] * shape[2]}
    one = plain(**settings)
    spectral = {k: v for k, v in settings.items() if k in ("decay", "detail")}
    params = parameters(one.init(np.random.default_rng(0), shape).shape[1:] + shape[2:])
    given = coefficients_of(params, shape, signed, **spectral)
    expected = np.stack([fourier_image(p, shape, **settings) for p in params])
    expected = 2 * expected - 1 if signed else expected
    np.testing.assert_allclose(render(Coefficients(one, signed), given, shape), expected, atol=2e-5)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_coefficients_start_where_their_parameters_do(channels, signed):
    shape = (8, 6, channels)
    params = plain().init(np.random.default_rng(5), shape)
    start = Coefficients(plain(), signed).init(np.random.default_rng(5), shape)
    assert start.dtype == np.float32
    expected = coefficients_of(params[None], shape, signed)[0]
    np.testing.assert_allclose(start, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_direction_of_coefficients_is_that_of_their_parameters(channels, signed):
    shape, spectrum = (8, 6, channels), (1.4, 1.5, 0.5)
    gradient = parameters(shape)
    found = coefficients.apply_preconditioner(
        tensor(gradient),
        tuple(map(tensor, Coefficients(plain(), signed).precondition(*spectrum, shape))),
    )
    # A gradient goes back through the transposed map, a direction forward through the map.
    units = fourier_coefficients(np.ones((1, 8, 6)), (8, 6, 1))[0] / (1 + signed)
    colors = COLORS if channels == 3 else np.eye(channels)
    back = np.einsum("dc,ndij->ncij", colors, gradient) * units
    (squares,) = plain().precondition(*spectrum, shape)
    expected = coefficients_of(squares * back, shape, signed)
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("bound", ["project", "finish"])
def test_coefficients_have_the_contrast_of_their_field(channels, signed, bound):
    shape = (7, 6, channels)
    one = Coefficients(plain(contrast=0.5), signed)
    params = coefficients_of(parameters(shape), shape, signed)
    bounded = to_numpy(getattr(one, bound)(tensor(params), shape))
    images = render(one, bounded, shape).astype("float64")
    fields = 2 * np.arctanh(images) if signed else logit(images)
    expected = 0.5 * (1.2 if bound == "project" else 1.0)
    np.testing.assert_allclose(root_mean_squares(fields), expected, rtol=1e-3)


@pytest.mark.parametrize("make", [Fourier, Coefficients])
def test_contrast_is_that_of_the_field_where_colours_vary_together(make):
    shape, colors = (7, 6, 2), ((1.0, 0.9), (0.2, 1.0))
    fourier = plain(contrast=0.5, colors=colors)
    one = fourier if make is Fourier else Coefficients(fourier)
    for bound, expected in (("project", 0.6), ("finish", 0.5)):
        bounded = to_numpy(getattr(one, bound)(tensor(parameters(shape)), shape))
        found = root_mean_squares(logit(render(one, bounded, shape).astype("float64")))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("signed", [False, True])
def test_faint_coefficients_are_left_as_they_are_and_finished_three_times_as_strong(signed):
    shape = (7, 6, 3)
    one = Coefficients(plain(contrast=0.5), signed)
    params = coefficients_of(parameters(shape, 1e-3), shape, signed).astype("float32")
    np.testing.assert_array_equal(to_numpy(one.project(tensor(params), shape)), params)
    np.testing.assert_allclose(to_numpy(one.finish(tensor(params), shape)), 3 * params, rtol=1e-5)


def test_only_plain_fourier_images_are_ascended_by_their_coefficients():
    class Other(Fourier):
        pass

    for values_range, signed in (((0.0, 1.0), False), ((-2.0, 2.0), True), ((-1.0, 2.0), False)):
        found = coefficients.for_default_optimization(plain(), values_range)
        assert found == Coefficients(plain(), signed)
    for other in (Pixel(), Other(), FixedMagnitude()):
        assert coefficients.for_default_optimization(other, (-1.0, 1.0)) is other
