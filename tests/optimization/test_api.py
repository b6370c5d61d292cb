"""`optimize`: what the documentation shows, its arguments and its refusals."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Pixel
from featviz_callback.optimization import Settings, prepare, step
from tests.conftest import make_small_model, sequential

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


def test_a_smaller_image_is_enlarged_for_the_model(neurons):
    """An image of one value has that value however it is enlarged."""
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
def test_a_model_of_any_size_takes_the_given_size(any_size, image_shape):
    objective = Objective.neuron(any_size, "logits", [0, 1]) + Objective.channel(
        any_size, "conv", 0
    )
    result = optimize(objective, steps=2, image_shape=image_shape)
    assert result.images.shape == (2, *image_shape[:2], 3)
    np.testing.assert_allclose(result.scores, objective.score(result.images), rtol=1e-4, atol=1e-5)


def test_a_model_of_any_size_needs_a_given_size(any_size):
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(any_size, "conv", 0))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_any_number_of_channels_can_be_optimised(channels):
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(7, 6, channels))
    images, _ = optimize(Objective.channel(model, "conv", [0, 1]), steps=2)
    assert images.shape == (2, 7, 6, channels)


@pytest.mark.parametrize(
    ("image_shape", "input_shape", "batch_size", "expected"),
    [
        ((28, 28), (28, 28, 1), None, 50),
        ((90, 90), (90, 90, 1), None, 50),
        ((224, 224), (224, 224, 1), None, 10),
        ((512, 512), (None, None, 1), None, 1),
        ((2048, 512), (None, None, 1), None, 1),
        # The augmented image counts, if it is larger.
        ((28, 28), (512, 512, 1), None, 1),
        ((512, 512), (28, 28, 1), None, 1),
        ((512, 512), (None, None, 1), 25, 25),
    ],
)
def test_few_large_images_are_optimised_at_once(image_shape, input_shape, batch_size, expected):
    model = sequential(layers.Conv2D(100, 3, name="conv"), shape=input_shape)
    settings = Settings(image_shape=image_shape, values_range=(0, 1), batch_size=batch_size)
    task = prepare(Objective.channel(model, "conv", range(100)), settings)
    assert task.plan.batch == expected


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image_shape", [(0, 4), (4,), (4, 4, 3), (4.5, 4), (1, 4, 4, 1), 12], ids=str
)
def test_an_image_shape_that_does_not_fit_the_model_is_refused(image_shape, neurons, small_model):
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(neurons, image_shape=image_shape)
    assert small_model not in step.compiled_steps


@pytest.mark.parametrize(
    "objective", [None, "logits", make_small_model], ids=["None", "a name", "a function"]
)
def test_what_is_no_objective_is_refused(objective):
    with pytest.raises(ValueError, match="`objective`"):
        optimize(objective)


def test_a_size_that_the_model_cannot_take_is_refused():
    model = sequential(layers.Conv2D(2, 5, name="conv"), shape=(None, None, 1))
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(model, "conv", 0), image_shape=(3, 3))


class Unhashable(Pixel):
    __hash__ = None


def test_parts_that_cannot_be_compared_by_value_are_refused(small_model):
    with pytest.raises(ValueError, match="comparable by value"):
        optimize(Objective.neuron(small_model, "logits", 0), steps=1, parameterization=Unhashable())
