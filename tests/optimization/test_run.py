"""A whole optimisation: what it depends on, its scores, history, frames and status."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Pixel
from featviz_callback.images.transformations import Blur, Flip, Jitter, Noise, Rotate, Scale
from tests.conftest import (
    IMAGE_SHAPE,
    ascend,
    fill,
    make_small_model,
    random_images,
    sequential,
    to_numpy,
)

# --- what an image depends on ---------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_an_image_does_not_depend_on_the_size_of_the_batch(batch_size, small_model):
    five = Objective.neuron(small_model, "logits", range(5))
    whole = optimize(five, steps=3, save_every=2)
    parts = optimize(five, steps=3, save_every=2, batch_size=batch_size)
    assert parts.names == whole.names
    for name in ("images", "scores", "history", "frames"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-4)


def test_an_image_follows_the_weights_and_nothing_else(neurons, small_model):
    first = optimize(neurons, steps=2).images
    np.testing.assert_array_equal(optimize(neurons, steps=2).images, first)
    weights = small_model.get_weights()
    fill(small_model, seed=1)
    assert not np.allclose(optimize(neurons, steps=2).images, first, atol=1e-3)
    small_model.set_weights(weights)
    np.testing.assert_array_equal(optimize(neurons, steps=2).images, first)


def test_the_model_is_restored():
    model = sequential(layers.Conv2D(2, 3), layers.Dropout(0.5), layers.Flatten(), layers.Dense(2))
    before = [to_numpy(v).copy() for v in model.variables]
    trainable = [v.trainable for v in model.variables]
    optimize(Objective.neuron(model, -1, [0, 1]), steps=2)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    assert [v.trainable for v in model.variables] == trainable


# --- scores, history, frames ----------------------------------------------------------


@pytest.mark.parametrize(
    "transformations",
    [
        "standard",
        None,
        [Jitter(), Noise(0.3)],
        [Rotate(20), Blur(1), Scale(0.5, 2), Flip()],
        lambda images: images * 0.5,
    ],
)
def test_scores_are_those_of_the_clean_final_images(neurons, transformations):
    result = optimize(neurons, steps=3, transformations=transformations)
    expected = neurons.score(result.images)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [None, 3])
def test_the_history_is_the_score_at_every_step(neurons, batch_size):
    settings = {"optimizer": keras.optimizers.SGD(0.5), "transformations": None}
    settings["parameterization"] = "pixel"
    result = optimize(neurons, steps=5, save_every=1, batch_size=batch_size, **settings)
    assert result.history.shape == (5, 4)
    for frame, scores in zip(result.frames, result.history[1:], strict=False):
        np.testing.assert_allclose(neurons.score(frame), scores, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [(5, 2, [2, 4, 5]), (4, 2, [2, 4]), (3, 1, [1, 2, 3]), (2, 7, [2])],
)
def test_frames_are_kept_every_so_many_steps_and_at_the_end(neurons, steps, every, expected):
    settings = {"optimizer": keras.optimizers.SGD(0.5), "transformations": None}
    result = optimize(neurons, steps=steps, save_every=every, **settings)
    assert result.frame_steps.tolist() == expected
    assert result.frames.shape == (len(expected), 4, 12, 10, 1)
    np.testing.assert_array_equal(result.frames[-1], result.images)
    shorter = optimize(neurons, steps=expected[0], **settings)
    np.testing.assert_array_equal(result.frames[0], shorter.images)
    assert shorter.frames is None
    assert shorter.frame_steps is None


def test_an_optimisation_can_be_continued(neurons):
    settings = {"optimizer": keras.optimizers.SGD(0.5), "transformations": None}
    _, middle = ascend(neurons, steps=2, **settings)
    continued, _ = ascend(neurons, start=middle, steps=3, **settings)
    whole, _ = ascend(neurons, steps=5, **settings)
    np.testing.assert_allclose(continued.images, whole.images, atol=1e-5)


def test_an_optimisation_raises_the_scores(neurons):
    result = optimize(neurons, steps=16, transformations=None)
    assert (result.scores > result.history[0] + 0.1).all()


def test_an_optimisation_finds_more_than_random_images_do(neurons):
    """None of a hundred random images of the same range has a higher score."""
    result = optimize(neurons, steps=24, transformations=None)
    for i in range(4):
        one = Objective.neuron(neurons.model, "logits", i)
        assert result.scores[i] > one.score(random_images(100, 12, 10, 1)).max()


@pytest.mark.parametrize("optimizer", [None, keras.optimizers.SGD(1.0)], ids=["default", "SGD"])
def test_the_image_of_a_linear_unit_is_its_weights(optimizer):
    model = sequential(layers.Flatten(), layers.Dense(1, use_bias=False), shape=(6, 6, 1))
    images, _ = optimize(
        Objective.neuron(model, model.layers[-1], 0),
        steps=32,
        optimizer=optimizer,
        parameterization="pixel",
        transformations=None,
        values_range=(-1.0, 1.0),
    )
    image, weights = images.ravel(), model.get_weights()[0].ravel()
    assert image @ weights / np.linalg.norm(image) / np.linalg.norm(weights) > 0.9


@pytest.mark.parametrize("parameterization", ["fourier", "pixel"])
@pytest.mark.parametrize("values_range", [(-1.0, 1.0), (0.0, 255.0), (-3, -2)])
def test_a_model_of_another_range_gets_the_same_picture_in_it(values_range, parameterization):
    low, high = values_range
    small = make_small_model()
    to_shares = layers.Rescaling(1 / (high - low), offset=-low / (high - low))
    scaled = keras.Sequential([keras.Input(IMAGE_SHAPE), to_shares, *small.layers])
    settings = {"steps": 3, "parameterization": parameterization}
    plain = optimize(Objective.neuron(small, "logits", [0, 1]), **settings)
    result = optimize(
        Objective.neuron(scaled, "logits", [0, 1]), values_range=values_range, **settings
    )
    assert result.values_range == values_range
    assert result.images.min() >= low
    assert result.images.max() <= high
    np.testing.assert_allclose((result.images - low) / (high - low), plain.images, atol=1e-3)
    np.testing.assert_allclose(result.scores, plain.scores, atol=1e-3)


# --- status and warm-up ---------------------------------------------------------------


def rarely_active(bias):
    """A model with one unit, which only bright images activate."""
    model = sequential(
        layers.Conv2D(1, 1, activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        shape=(6, 6, 1),
    )
    model.set_weights([np.full((1, 1, 1, 1), 4.0), np.array([bias])])
    return model


def test_a_unit_that_no_gradient_reaches_is_dead():
    result = optimize(Objective.channel(rarely_active(-100.0), "conv", 0), steps=3)
    assert result.status == ["dead"]
    assert result.scores.tolist() == [0.0]


def test_the_same_unit_is_not_dead_before_its_activation():
    objective = Objective.channel(rarely_active(-100.0), "conv", 0, pre_activation=True)
    result = optimize(objective, steps=3)
    assert result.status == ["ok"]
    assert result.scores[0] > result.history[0, 0]


@pytest.mark.parametrize("warmup_steps", [0, 10], ids=["second try", "warm-up"])
def test_a_unit_that_is_off_at_the_start_is_activated(warmup_steps):
    result = optimize(
        Objective.channel(rarely_active(-2.6), "conv", 0),
        steps=30,
        transformations=None,
        optimizer=keras.optimizers.SGD(30.0),
        parameterization=Pixel(noise=0.0, contrast=math.inf, mean=0.5),
        warmup_steps=warmup_steps,
    )
    assert result.status[0] != "dead"
    assert result.scores[0] > 0.1


def test_the_second_try_of_a_unit_does_not_depend_on_the_other_units():
    model = sequential(layers.Conv2D(3, 1, activation="relu", name="conv"), shape=(6, 6, 1))
    model.set_weights([np.full((1, 1, 1, 3), 4.0), np.array([0.0, -2.6, -2.6])])
    settings = {
        "steps": 30,
        "optimizer": keras.optimizers.SGD(30.0),
        "parameterization": Pixel(noise=0.01, contrast=math.inf, mean=0.5),
    }
    together = optimize(Objective.channel(model, "conv", range(3)), **settings)
    alone = optimize(Objective.channel(model, "conv", 1), **settings)
    assert alone.scores[0] > 0.1
    assert not together.history[0, 1:].any()
    np.testing.assert_allclose(together.images[1], alone.images[0], atol=1e-5)


def test_a_unit_that_is_off_at_the_start_is_not_called_dead():
    # The unit is off on plain grey, and on if a bright pixel has a dark one beside it.
    model = sequential(layers.Conv2D(1, (1, 2), activation="relu", name="edge"))
    model.get_layer("edge").set_weights(
        [np.array([3.0, -3.0]).reshape(1, 2, 1, 1), np.array([-0.5])]
    )
    result = optimize(Objective.channel(model, "edge", 0), steps=16)
    assert result.status == ["ok"]
    assert result.scores[0] > 0.01


def test_an_objective_times_zero_is_dead(small_model):
    result = optimize(0 * Objective.neuron(small_model, "logits", 0), steps=2)
    assert np.isfinite(result.images).all()
    assert result.scores.tolist() == [0]
    assert result.status == ["dead"]


def test_weights_that_are_nan_show_in_the_status(neurons, small_model):
    kernel, bias = small_model.get_layer("logits").get_weights()
    kernel[0] = np.nan
    small_model.get_layer("logits").set_weights([kernel, bias])
    result = optimize(neurons, steps=2)
    assert result.status == ["nan"] * 4
    assert np.isnan(result.scores).all()
    assert np.isfinite(result.images).all()


def test_an_image_at_the_ends_of_its_range_is_saturated(neurons):
    result = optimize(
        neurons,
        steps=3,
        parameterization=Pixel(contrast=math.inf),
        optimizer=keras.optimizers.SGD(1e6),
        transformations=None,
    )
    assert result.status == ["saturated"] * 4
