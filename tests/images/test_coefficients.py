"""`Coefficients`, against the parameters of the `Fourier` that they replace."""

import numpy as np
import pytest

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
        found = coefficients.for_default_optimization(plain(), values_range)
        assert found == Coefficients(plain(), signed)
    for other in (Pixel(), Other(), FixedMagnitude()):
        assert coefficients.for_default_optimization(other, (-1.0, 1.0)) is other
