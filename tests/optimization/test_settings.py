"""The settings: their defaults in both signatures, and which values are refused."""

import inspect
import math
from dataclasses import fields

import numpy as np
import pytest

from featviz_callback import (
    FeatureVisCallback,
    optimize,
    parameterizations,
    regularizers,
    transformations,
)
from featviz_callback.optimization import Settings, step

# --- defaults -------------------------------------------------------------------------

DEFAULTS = {field.name: field.default for field in fields(Settings)}


@pytest.mark.parametrize(
    ("function", "own"),
    [
        (optimize, {"steps": 64, "values_range": (0.0, 1.0)}),
        (FeatureVisCallback, {"steps": 32, "values_range": None}),
    ],
    ids=["optimize", "callback"],
)
def test_signatures_have_the_defaults_of_the_settings(function, own):
    """Each function has two defaults of its own, and takes all others from `Settings`."""
    arguments = inspect.signature(function).parameters
    expected = {name: value for name, value in {**DEFAULTS, **own}.items() if name in arguments}
    assert {name: arguments[name].default for name in expected} == expected
    assert own.keys() <= expected.keys()


def test_every_setting_is_an_argument_of_optimize():
    assert DEFAULTS.keys() <= inspect.signature(optimize).parameters.keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((0, 1), (0.0, 1.0)),
        (np.array([0, 1]), (0.0, 1.0)),
        (((0, 0, 0), (1, 2, 3)), ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))),
        ((0, (1, 2)), ((0.0, 0.0), (1.0, 2.0))),
        (([-1, -2], 1), ((-1.0, -2.0), (1.0, 1.0))),
        (np.array([[0, 0], [1, 2]]), ((0.0, 0.0), (1.0, 2.0))),
        (((0, 0), (1, 1)), (0.0, 1.0)),
        (((0,), (1,)), (0.0, 1.0)),
    ],
    ids=str,
)
def test_a_range_is_one_pair_where_the_channels_agree(given, expected):
    found = Settings(values_range=given).values_range
    assert found == expected
    assert repr(found) == repr(expected)


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 2.5},
        {"steps": True},
        {"steps": None},
        {"warmup_steps": -1},
        {"save_every": 0},
        {"save_every": (0, 4)},
        {"save_every": (1, 65)},
        {"save_every": (1.5,)},
        {"save_every": ()},
        {"batch_size": 0},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
        {"values_range": (1, 1)},
        {"values_range": (1, 0)},
        {"values_range": (0, math.inf)},
        {"values_range": (0, math.nan)},
        {"values_range": 1},
        {"values_range": (0, 1, 2)},
        {"values_range": "01"},
        {"values_range": ((0, 0), (1, 0))},
        {"values_range": ((0, 0), (1, 2, 3))},
        {"values_range": ((0, 1), (0, 1), (0, 1))},
        {"values_range": (((0,),), ((1,),))},
        {"values_range": ((), ())},
        {"values_range": (0, (1, math.inf))},
        # The model has one channel.
        {"values_range": ((0, 0, 0), (1, 2, 3))},
        {"transformations": "jitter"},
        {"transformations": [None]},
        {"transformations": 3},
        {"regularizers": ["l2"]},
        {"regularizers": 3},
        {"parameterization": "wavelet"},
        {"parameterization": None},
        {"transformations": [transformations.Jitter]},
        {"regularizers": [regularizers.L1]},
        {"regularizers": regularizers.L1},
        {"parameterization": parameterizations.Fourier},
    ],
    ids=str,
)
def test_an_invalid_setting_is_named(settings, neurons, small_model):
    [(name, value)] = settings.items()
    [one] = value if isinstance(value, list) else [value]
    called = rf".*Call it: `{one.__name__}\(\)`" if isinstance(one, type) else ""
    with pytest.raises(ValueError, match=f"`{name}`{called}"):
        optimize(neurons, **settings)
    assert small_model not in step.compiled_steps
