"""Settings that every parameterization checks."""

import numpy as np
import pytest

from featviz_callback.images.parameterizations import FixedMagnitude, Fourier, Pixel
from tests.images.conftest import KINDS, render


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


@pytest.mark.parametrize("name", ["window", "contrast", "noise"])
def test_what_follows_from_the_image_is_called_auto(name):
    assert getattr(Fourier(**{name: "auto"}), name) == "auto"
    for other in ("automatic", [1.0]):
        with pytest.raises(ValueError, match=f"`{name}`"):
            Fourier(**{name: other})


@pytest.mark.parametrize("name", ["decay", "detail"])
@pytest.mark.parametrize("value", ["x", None, np.nan, [1.0]], ids=str)
def test_decay_and_detail_are_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        Fourier(**{name: value})


@pytest.mark.parametrize("name", ["contrast", "noise"])
def test_contrast_and_noise_are_numbers_where_nothing_follows_from_the_image(name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        Fourier(**{name: None})
    with pytest.raises(ValueError, match=f"`{name}`"):
        Pixel(**{name: "auto"})
