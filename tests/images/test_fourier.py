"""Fourier images, against an independent inverse transform."""

import numpy as np
import pytest

from featviz_callback import parameterizations
from featviz_callback.images.parameterizations import FixedMagnitude, Fourier
from featviz_callback.images.statistics import Spectrum
from tests.conftest import tensor, to_numpy
from tests.images.conftest import (
    SHAPES,
    SPECTRA,
    field,
    parameters,
    plain,
    render,
    root_mean_squares,
)
from tests.reference import fourier_image, fourier_scale


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


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(
    ("steepness", "lowest"), [(1.4, 1.0), (1.0, 1.0), (0.6, 1.5), (1.0, 0.5), (0.0, 1.0)]
)
def test_an_optimisation_can_follow_a_multiple_of_its_own_decay(decay, steepness, lowest):
    (squares,) = plain(decay=decay).precondition(steepness, lowest, 1.0, (8, 6, 1))
    expected = fourier_scale(8, 6, decay * steepness, lowest) / fourier_scale(8, 6, decay)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("steepness", [0.0, 1.0, 1.4])
def test_a_measured_spectrum_is_tilted_by_the_decay(steepness, channels):
    amplitudes = np.random.default_rng(0).uniform(0.1, 1.0, (channels, 8, 6))
    amplitudes /= np.sqrt((amplitudes**2).sum((1, 2), keepdims=True))
    one = plain(decay=0.7, spectrum=Spectrum(amplitudes.astype("float32")))
    expected = amplitudes * fourier_scale(8, 6, 0.7 * (steepness - 1))
    expected /= np.sqrt((expected**2).sum((1, 2), keepdims=True))
    found = one.scale_of(steepness, 1.5, (8, 6, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    (squares,) = one.precondition(steepness, 1.5, 1.0, (8, 6, 3))
    ratios = np.broadcast_to(expected / amplitudes, (3, 8, 6))
    np.testing.assert_allclose(np.broadcast_to(squares**0.5, (3, 8, 6)), ratios, rtol=1e-4)


def test_spectra_of_signals_fall_half_as_steeply():
    signal = plain(decay=0.5)
    (squares,) = signal.precondition(1.4, 1.5, 0.5, (1, 64, 3))
    expected = fourier_scale(1, 64, 0.7, 1.5) / fourier_scale(1, 64, 0.5)
    np.testing.assert_allclose(squares**0.5, expected, rtol=1e-4)


def test_an_optimisation_can_follow_weaker_chroma():
    ((light, *others),) = Fourier().precondition(1.0, 1.5, 0.5, (8, 6, 3))
    for other in others:
        np.testing.assert_allclose(other, 0.5**2 * light)
    np.testing.assert_allclose(light, Fourier().precondition(1.0, 1.5, 1.0, (8, 6, 3))[0][0])
    # Without decorrelated colours there is no chroma to weaken.
    (apart,) = Fourier(colors=None).precondition(1.0, 1.5, 0.5, (8, 6, 3))
    np.testing.assert_allclose(np.broadcast_to(apart, (3, *light.shape)), [light] * 3)


@pytest.mark.parametrize("deviation", [1.0, 10.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_finished_image_has_its_full_contrast(deviation, channels):
    shape = (7, 6, channels)
    one = plain(contrast=1.2)
    finished = to_numpy(one.finish(tensor(parameters(shape, deviation)), shape))
    np.testing.assert_allclose(root_mean_squares(field(one, finished, shape)), 1.2, rtol=1e-3)


def test_an_image_that_has_hardly_left_its_start_stays_faint():
    shape = (7, 6, 1)
    one = plain(contrast=1.2)
    finished = to_numpy(one.finish(tensor(parameters(shape, 1e-4)), shape))
    assert (root_mean_squares(field(one, finished, shape)) < 0.1).all()
    assert not to_numpy(one.finish(tensor(np.zeros((1, 1, 7, 6))), shape)).any()


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_finished_image_has_at_most_three_times_its_contrast(share):
    shape = (7, 6, 1)
    one = plain(contrast=1.2)
    faint = share * to_numpy(one.finish(tensor(parameters(shape)), shape))
    finished = to_numpy(one.finish(tensor(faint), shape))
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


def test_rows_and_columns_of_a_square_image_are_read_at_their_positions():
    shape = (8, 8, 1)
    params, plain_rows = parameters(shape), np.tile(np.arange(8), (2, 1))
    expected = np.roll(render(plain(), params, shape), -3, axis=1)
    moved = plain().image(tensor(params), tensor(plain_rows + 3), tensor(plain_rows), shape)
    np.testing.assert_allclose(to_numpy(moved), expected, atol=1e-4)


def test_a_window_fades_to_the_background_at_the_border():
    shape = (16, 16, 1)
    unfaded, faded = (render(plain(window=w), parameters(shape), shape) for w in (None, 0.3))
    assert np.abs(unfaded[:, 0] - 0.5).max() > 0.05
    np.testing.assert_allclose(faded[:, 0], 0.5, atol=1e-3)
    np.testing.assert_allclose(faded[:, 7:9, 7:9], unfaded[:, 7:9, 7:9], atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 13])
def test_only_three_channels_are_mixed_as_colours(channels):
    shape = (4, 4, channels)
    params = np.zeros((1, channels, 4, 4))
    params[:, 0] = 1.0
    moved = (np.abs(field(plain(), params, shape)).max((0, 1, 2)) > 1e-4).tolist()
    # The first natural colour is light, so it moves red, green and blue alike.
    assert moved == [True] * 3 if channels == 3 else [True] + [False] * (channels - 1)


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


def test_a_signal_has_no_colours_no_window_and_a_spectrum_of_one_dimension():
    signal = parameterizations.standard((1, 64, 3))
    assert (signal.detail, signal.decay) == (1.0, 0.5)
    # Without a window, all parts of a long series of equal waves are equally strong.
    params = np.zeros((1, 3, 1, 64))
    params[..., 8] = 4.0
    waves = render(signal, params, (1, 64, 3)).reshape(8, 8, 3)
    assert np.ptp(waves) > 0.2
    np.testing.assert_allclose(waves, waves[:1] * np.ones((8, 1, 1)), atol=1e-5)
    assert signal.color_matrix((1, 64, 3)) is None
    powers = signal.scale((1, 64, 3))[0] ** 2
    frequencies = np.concatenate([np.arange(33), np.arange(1, 32)])
    octaves = [powers[(frequencies >= f) & (frequencies < 2 * f)].sum() for f in (4, 8, 16)]
    np.testing.assert_allclose(octaves, octaves[0], rtol=0.1)


def test_an_oblong_image_is_read_at_a_square_input():
    one, shape = plain(), (8, 12, 1)
    params = parameters(shape)
    whole = render(one, params, shape)
    rows, columns = np.arange(2, 7), np.arange(4, 9)
    grid = (tensor(np.tile(axis, (2, 1))) for axis in (rows, columns))
    read = to_numpy(one.image(tensor(params), *grid, shape))
    np.testing.assert_allclose(read, whole[:, 2:7, 4:9], atol=1e-5)
