"""`optimize`: what the documentation shows, its arguments and its refusals."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Pixel
from featviz_callback.optimization import step
from tests.conftest import make_small_model, sequential, to_numpy

# --- what the documentation shows -----------------------------------------------------


@pytest.fixture
def documented_model():
    """A network with the layer names of the documentation."""
    return sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv2d_1"),
        layers.Conv2D(6, 3, activation="relu", name="mixed4_2"),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
        shape=(10, 9, 3),
    )


def test_ten_logits_give_ten_images(documented_model):
    objective = Objective.neuron(documented_model, "logits", list(range(10)))
    images, names = optimize(objective, steps=2)
    assert images.shape == (10, 10, 9, 3)
    assert images.dtype == np.float32
    assert names == [f"Neuron#logits_{i}" for i in range(10)]


def test_a_weighted_sum_of_single_targets_gives_one_image(documented_model):
    logits_obj = Objective.neuron(documented_model, "logits", 1)
    layer_obj = Objective.layer(documented_model, "mixed4_2")
    channel_obj = Objective.channel(documented_model, "conv2d_1", 2)
    total = logits_obj * 1.0 + layer_obj * 3.0 + channel_obj * (-5.0)
    images, names = optimize(total, steps=2)
    assert images.shape == (1, 10, 9, 3)
    assert names == ["Neuron#logits_1 & Layer#mixed4_2 & Channel#conv2d_1_2"]


# --- optimizers -----------------------------------------------------------------------


def test_an_optimizer_is_copied_and_can_be_used_again(neurons, small_model, images):
    adam = keras.optimizers.Adam(0.1)
    config = adam.get_config()
    first = optimize(neurons, steps=3, optimizer=adam).images
    np.testing.assert_array_equal(optimize(neurons, steps=3, optimizer=adam).images, first)
    assert adam.get_config() == config
    assert not adam.built
    assert int(to_numpy(adam.iterations)) == 0
    small_model.compile(adam, "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    assert int(to_numpy(adam.iterations)) == 1


def test_an_optimizer_in_use_is_not_touched(neurons, small_model, images):
    small_model.compile(keras.optimizers.Adam(0.01), "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    before = [to_numpy(v).copy() for v in small_model.optimizer.variables]
    optimize(neurons, steps=2, optimizer=small_model.optimizer)
    for variable, value in zip(small_model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_an_optimizer_can_be_named(neurons):
    named, given = (
        optimize(neurons, steps=2, optimizer=optimizer).images
        for optimizer in ("adam", keras.optimizers.Adam())
    )
    np.testing.assert_array_equal(named, given)


def test_an_optimizer_may_hold_another(small_model):
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    objective = Objective.neuron(small_model, "logits", 0)
    first, second = (optimize(objective, steps=2, optimizer=inner) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw", "nadam", "lion", "adafactor"])
def test_any_optimizer_of_keras_ascends(name, neurons):
    settings = {"parameterization": "pixel", "transformations": None}
    result = optimize(neurons, steps=3, optimizer=name, **settings)
    assert (result.scores >= result.history[0]).all()
    assert (result.scores > result.history[0]).any()


# --- sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [
        ((24, 20), (24, 20, 1)),
        ((24, 20, 1), (24, 20, 1)),
        ((6, 5), (6, 5, 1)),
        ((7, 30), (7, 30, 1)),
    ],
)
def test_an_image_can_be_larger_or_smaller_than_the_models(neurons, image_shape, expected):
    result = optimize(neurons, steps=3, image_shape=image_shape)
    assert result.images.shape == (4, *expected)
    assert result.status == ["ok"] * 4
    assert np.isfinite(result.scores).all()


def test_a_smaller_image_is_seen_enlarged(neurons):
    """Each pixel of a flat image is the same however it is enlarged."""
    flat = {"parameterization": Pixel(noise=0.0, mean=0.3), "optimizer": keras.optimizers.SGD(0.0)}
    result = optimize(neurons, steps=1, image_shape=(6, 5), transformations=None, **flat)
    expected = neurons.score(np.full((4, 12, 10, 1), 0.3))
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def any_size():
    """A fully convolutional model."""
    return sequential(
        layers.Conv2D(3, 3, activation="tanh", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="logits"),
        shape=(None, None, 3),
    )


@pytest.mark.parametrize("image_shape", [(9, 7), (9, 7, 3), (16, 16)])
def test_a_model_of_any_size_takes_the_size_that_is_asked_for(any_size, image_shape):
    objective = Objective.neuron(any_size, "logits", [0, 1]) + Objective.channel(
        any_size, "conv", 0
    )
    result = optimize(objective, steps=2, image_shape=image_shape)
    assert result.images.shape == (2, *image_shape[:2], 3)
    np.testing.assert_allclose(result.scores, objective.score(result.images), rtol=1e-4, atol=1e-5)


def test_a_model_of_any_size_needs_to_be_told_one(any_size):
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(any_size, "conv", 0))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_any_number_of_channels_can_be_seen(channels):
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(7, 6, channels))
    images, _ = optimize(Objective.channel(model, "conv", [0, 1]), steps=2)
    assert images.shape == (2, 7, 6, channels)


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
        {"image_shape": (0, 4)},
        {"image_shape": (4,)},
        {"image_shape": (4, 4, 3)},
        {"image_shape": (4.5, 4)},
        {"image_shape": (1, 4, 4, 1)},
        {"image_shape": 12},
        {"optimizer": "no such optimizer"},
        {"optimizer": 3},
        {"transformations": "jitter"},
        {"transformations": [None]},
        {"transformations": 3},
        {"regularizers": ["l2"]},
        {"regularizers": 3},
        {"parameterization": "wavelet"},
        {"parameterization": None},
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(settings, neurons, small_model):
    [name] = settings
    with pytest.raises(ValueError, match=f"`{name}`"):
        optimize(neurons, **settings)
    assert small_model not in step.compiled_steps


@pytest.mark.parametrize("objective", [None, "logits", make_small_model], ids=str)
def test_what_is_no_objective_is_refused(objective):
    with pytest.raises(ValueError, match="`objective`"):
        optimize(objective)


def test_a_size_that_the_model_cannot_take_is_refused():
    model = sequential(layers.Conv2D(2, 5, name="conv"), shape=(None, None, 1))
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(model, "conv", 0), image_shape=(3, 3))


class Unhashable(Pixel):
    __hash__ = None


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"regularizers": [lambda x: keras.ops.sum(x)]}, "one penalty an image"),
        ({"parameterization": Unhashable()}, "comparable by value"),
        ({"values_range": "01"}, "`values_range`"),
    ],
)
def test_parts_of_the_wrong_kind_are_refused(settings, argument, small_model):
    with pytest.raises(ValueError, match=argument):
        optimize(Objective.neuron(small_model, "logits", 0), steps=1, **settings)
