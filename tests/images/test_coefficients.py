"""`Coefficients`, against the parameters of the `Fourier` that they replace."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from featviz_callback import parameterizations
from featviz_callback.images import coefficients
from featviz_callback.images.coefficients import Coefficients
from featviz_callback.images.parameterizations import FixedMagnitude, Fourier, Pixel
from tests.conftest import tensor, to_numpy
from tests.images.conftest import SHAPES, SPECTRA, parameters, plain, render, root_mean_squares
from tests.reference import (
    COLORS,
    fourier_coefficients,
    fourier_image,
    logit,
)


def coefficients_of(params, shape, signed, **settings):
    """Return the coefficients of a batch, of half the field if values are signed."""
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
def test_contrast_is_that_of_the_field_if_colours_vary_together(make):
    shape, colors = (7, 6, 2), ((1.0, 0.9), (0.2, 1.0))
    fourier = plain(contrast=0.5, colors=colors)
    one = fourier if make is Fourier else Coefficients(fourier)
    for bound, expected in (("project", 0.6), ("finish", 0.5)):
        bounded = to_numpy(getattr(one, bound)(tensor(parameters(shape)), shape))
        found = root_mean_squares(logit(render(one, bounded, shape).astype("float64")))
        np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize("signed", [False, True])
def test_faint_coefficients_are_preserved_and_finished_three_times_as_strong(signed):
    shape = (7, 6, 3)
    one = Coefficients(plain(contrast=0.5), signed)
    params = coefficients_of(parameters(shape, 1e-3), shape, signed).astype("float32")
    np.testing.assert_array_equal(to_numpy(one.project(tensor(params), shape)), params)
    np.testing.assert_allclose(to_numpy(one.finish(tensor(params), shape)), 3 * params, rtol=1e-5)


def test_only_plain_fourier_images_are_optimised_by_their_coefficients():
    class Other(Fourier):
        pass

    for values_range, signed in (((0.0, 1.0), False), ((-2.0, 2.0), True), ((-1.0, 2.0), False)):
        found = coefficients.for_default_optimization(plain(), values_range, (8, 6, 3), False)
        assert found == Coefficients(plain(), signed)
    for other in (Pixel(), Other(), FixedMagnitude()):
        assert coefficients.for_default_optimization(other, (-1.0, 1.0), (8, 6, 3), True) is other


@pytest.mark.parametrize(
    ("window", "shape", "is_everywhere", "expected"),
    [
        ("auto", (224, 224, 3), False, "auto"),
        ("auto", (224, 224, 3), True, None),
        ("auto", (28, 28, 1), False, None),
        ("auto", (1, 500, 1), False, None),
        (0.4, (224, 224, 3), True, 0.4),
        (0.4, (28, 28, 1), False, 0.4),
        (None, (224, 224, 3), False, None),
    ],
)
def test_only_a_photograph_of_a_logit_has_a_window_unless_it_is_asked_for(
    window, shape, is_everywhere, expected
):
    one = Fourier(window=window, decay=0.7)
    found = coefficients.for_default_optimization(one, (0.0, 1.0), shape, is_everywhere)
    assert found == Coefficients(Fourier(window=expected, decay=0.7))


# --- contrast -------------------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_can_have_a_contrast_of_its_own(channels, signed):
    shape = (7, 6, channels)
    one = Coefficients(plain(contrast="auto"), signed)
    params = coefficients_of(parameters(shape, 3.0), shape, signed)
    wanted = np.array([0.5, 2.0])
    for bound, factor in (("project", 1.2), ("finish", 1.0)):
        given = tensor(wanted.reshape(2, 1, 1, 1))
        bounded = to_numpy(getattr(one, bound)(tensor(params), shape, given))
        images = render(one, bounded, shape).astype("float64")
        fields = 2 * np.arctanh(images) if signed else logit(images)
        np.testing.assert_allclose(root_mean_squares(fields), factor * wanted, rtol=1e-3)
        measured = to_numpy(one.contrast_of(tensor(bounded), shape))
        np.testing.assert_allclose(measured.ravel(), factor * wanted, rtol=1e-4)


# --- starts ---------------------------------------------------------------------------


def default(shape, **settings):
    return Coefficients(replace(parameterizations.standard(shape), window=None, **settings))


def starts_of(one, shape, seed=0):
    return one.starts(np.random.default_rng(seed), shape)


def plain_values(one, shape):
    """The images of the plain starts, as shares of the range."""
    named = starts_of(one, shape)
    some = np.stack([params for name, params in named.items() if name.startswith("plain")])
    assert some.dtype == np.float32
    images = render(one, some, shape)
    return (images + 1) / 2 if one.signed else images


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("settings", [{}, {"mean": 0.2}, {"decay": 2.0}], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_plain_starts_are_all_corners_of_the_colours(channels, settings, signed):
    shape = (6, 8, channels)
    values = plain_values(replace(default(shape, **settings), signed=signed), shape)
    corners = np.array(list(itertools.product([0.02, 0.98], repeat=channels)))
    expected = np.broadcast_to(corners[:, None, None], (2**channels, *shape))
    np.testing.assert_allclose(values, expected, atol=1e-4)


def test_images_of_many_channels_have_a_dark_and_a_bright_plain_start():
    shape = (4, 5, 13)
    values = plain_values(default(shape), shape)
    expected = np.array([0.02, 0.98]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(values, np.broadcast_to(expected, (2, *shape)), atol=1e-4)


@pytest.mark.parametrize("shape", [(24, 24, 1), (20, 24, 3), (1, 400, 2)])
def test_noise_has_the_strength_and_the_spectrum_of_its_name(shape):
    one = default(shape)
    found = {}
    for seed in range(8):
        for name, params in starts_of(one, shape, seed).items():
            if name.startswith("noise"):
                strength, steepness = map(float, name.split()[1:3])
                found.setdefault((strength, steepness), []).append(params)
    assert set(found) == set(itertools.product((1.0, 3.0), (0.0, 1.0, 1.5)))
    rows, columns = (np.minimum(np.arange(n), n - np.arange(n)) / n for n in shape[:2])
    cycles = max(shape[:2]) * np.hypot(rows[:, None], columns[None])
    coarse, fine = ((cycles >= first) & (cycles < first + 2) for first in (2, 8))
    octaves = np.log(cycles[fine].mean() / cycles[coarse].mean())
    for (strength, steepness), drawn in found.items():
        assert len(drawn) == 8 * 4
        fields = logit(render(one, np.stack(drawn), shape).astype("float64"))
        np.testing.assert_allclose((fields**2).mean() ** 0.5, strength, rtol=0.15)
        powers = (np.abs(np.fft.fft2(fields, axes=(1, 2))) ** 2).mean((0, 3))
        slope = np.log(powers[coarse].mean() / powers[fine].mean()) / octaves
        np.testing.assert_allclose(slope, 2 * one.fourier.decay * steepness, atol=0.35)


def test_noise_has_the_colours_of_real_images_or_independent_ones():
    shape = (24, 24, 3)
    one = default(shape)
    named = [params for name, params in starts_of(one, shape).items() if "noise 1 0 " in name]
    assert len(named) == 4
    fields = logit(render(one, np.stack(named), shape).astype("float64")).reshape(4, -1, 3)
    found = [np.corrcoef(field.T)[0, 2] for field in fields]
    covariance = COLORS @ COLORS.T
    natural = covariance[0, 2] / np.sqrt(covariance[0, 0] * covariance[2, 2])
    np.testing.assert_allclose(found[::2], natural, atol=0.05)
    np.testing.assert_allclose(found[1::2], 0, atol=0.15)


def test_starts_follow_from_the_generator_alone():
    shape = (6, 5, 3)
    first, again, other = (starts_of(default(shape), shape, seed) for seed in (1, 1, 2))
    assert first.keys() == again.keys() == other.keys()
    for name, params in first.items():
        np.testing.assert_array_equal(params, again[name])
        assert np.array_equal(params, other[name]) == name.startswith("plain")


@pytest.mark.parametrize(("shape", "draws"), [((256, 256, 1), 4), ((260, 256, 1), 1)])
def test_large_images_have_fewer_starts(shape, draws):
    named = starts_of(default(shape), shape)
    assert sum(name.startswith("noise 3 1.5 ") for name in named) == draws
    assert len(named) == 2 + 6 * draws


def test_a_given_noise_leaves_no_other_start():
    assert starts_of(Coefficients(Fourier()), (6, 5, 3)) == {}
    assert starts_of(Coefficients(Fourier(contrast="auto", noise=0.0)), (6, 5, 3)) == {}
    assert starts_of(Coefficients(Fourier(noise="auto")), (6, 5, 3))
