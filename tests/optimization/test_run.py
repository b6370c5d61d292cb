"""A whole optimisation: what it depends on, its scores, history, frames and status."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import FixedMagnitude, Fourier, Pixel
from featviz_callback.images.regularizers import L2, TotalVariation
from featviz_callback.images.transformations import Blur, Flip, Jitter, Noise, Rotate, Scale
from featviz_callback.optimization import run, starts
from tests import reference
from tests.conftest import (
    IMAGE_SHAPE,
    ascend,
    fill,
    make_small_model,
    prepare,
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


@pytest.mark.acceptance
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


def test_a_unit_that_no_gradient_reaches_from_any_start_has_none():
    result = optimize(Objective.channel(rarely_active(-100.0), "conv", 0), steps=3)
    assert result.status == ["no_gradient"]
    assert result.scores.tolist() == [0.0]


def test_the_same_unit_has_a_gradient_before_its_activation():
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
    assert result.status == ["ok"]
    assert result.scores[0] > 0.1
    assert result.starts == ["faint noise, relaxed" if warmup_steps == 0 else "faint noise"]


@pytest.mark.parametrize("activation", [layers.ReLU(6.0), "relu6", "hard_sigmoid"], ids=str)
def test_a_unit_at_its_highest_value_can_be_left(activation):
    """Grey is beyond the flat end, and only images that are darker lower the unit."""
    activation = keras.activations.get(activation)
    model = sequential(
        layers.Conv2D(1, 1),
        layers.Activation(activation, name="high"),
        shape=(6, 6, 1),
    )
    end = 3.0 if activation is keras.activations.hard_sigmoid else 6.0
    model.set_weights([np.full((1, 1, 1, 1), 4.0), np.array([end - 1.4])])
    settings = {"steps": 30, "transformations": None, "parameterization": Pixel(noise=0.0)}
    result = optimize(-Objective.channel(model, "high", 0), **settings)
    assert result.starts == ["faint noise, relaxed"]
    assert result.status == ["ok"]
    highest, found = model.predict(np.stack([np.full((6, 6, 1), 0.5), *result.images]), verbose=0)
    assert found.mean() < 0.98 * highest.mean()
    assert highest.min() == highest.max() >= found.max()


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


def test_a_unit_that_is_off_at_the_start_has_a_gradient_in_the_end():
    # The unit is off on plain grey, and on if a bright pixel has a dark one beside it.
    model = sequential(layers.Conv2D(1, (1, 2), activation="relu", name="edge"))
    model.get_layer("edge").set_weights(
        [np.array([3.0, -3.0]).reshape(1, 2, 1, 1), np.array([-0.5])]
    )
    result = optimize(Objective.channel(model, "edge", 0), steps=16)
    assert result.status == ["ok"]
    assert result.scores[0] > 0.01


def test_an_objective_times_zero_has_no_gradient(small_model):
    result = optimize(0 * Objective.neuron(small_model, "logits", 0), steps=2)
    assert np.isfinite(result.images).all()
    assert result.scores.tolist() == [0]
    assert result.status == ["no_gradient"]


def test_weights_that_are_nan_show_in_the_status(neurons, small_model):
    kernel, bias = small_model.get_layer("logits").get_weights()
    kernel[0] = np.nan
    small_model.get_layer("logits").set_weights([kernel, bias])
    result = optimize(neurons, steps=2)
    assert result.status == ["nan"] * 4
    assert np.isnan(result.scores).all()
    assert np.isfinite(result.images).all()


# --- saturated ------------------------------------------------------------------------


class Clipped(layers.Layer):
    """Three channels: a pixel, a pixel that is clipped early, and one that is late."""

    def call(self, images):
        clipped = [keras.ops.clip(images, 0.5 - d, 0.5 + d) for d in (1.0, 0.2, 0.4)]
        return keras.ops.concatenate(clipped, axis=-1)


def thrown(model, steps=2, **settings):
    """Images that one huge step has thrown to an end of the range."""
    return optimize(
        Objective.channel(model, "clipped", range(3)),
        steps=steps,
        parameterization=Pixel(contrast=math.inf),
        optimizer=keras.optimizers.SGD(1e6),
        transformations=None,
        **settings,
    )


@pytest.mark.parametrize("image_shape", [(8, 6), (4, 3)])
def test_an_image_at_the_ends_is_saturated_if_half_the_contrast_scores_as_much(image_shape):
    result = thrown(sequential(Clipped(name="clipped"), shape=(8, 6, 1)), image_shape=image_shape)
    images = result.images
    at_an_end = ((images < 0.01) | (images > 0.99)).mean((1, 2, 3))
    assert (at_an_end == 1).all()
    limits = np.array([1.0, 0.2, 0.4]).reshape(3, 1, 1, 1)
    half = 0.5 + (images - 0.5) / 2
    whole, halved = (
        np.clip(some, 0.5 - limits, 0.5 + limits).mean((1, 2, 3)) for some in (images, half)
    )
    is_saturated = whole <= halved + 1e-6
    assert is_saturated.tolist() == [False, True, False]
    assert result.status == ["ok", "saturated", "ok"]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("size", [8, 100])
def test_a_range_of_each_channel_gives_the_same_pictures_in_other_units(size, symmetric):
    """A model of scaled images has the pictures of the model behind the scaling, scaled."""
    shape, usual = (size, size, 3), (-1.0, 1.0) if symmetric else (0.0, 1.0)
    high = np.array([1.0, 2.0, 30.0])
    low = -high if symmetric else np.array([0.0, -1.0, 10.0])
    span = (usual[1] - usual[0]) / (high - low)
    conv = layers.Conv2D(2, 3, strides=3, activation="tanh", name="conv")
    plain = sequential(conv, shape=shape)
    before = layers.Normalization(mean=low - usual[0] / span, variance=span**-2)
    scaled = keras.Sequential([keras.Input(shape), before, conv])
    # So many steps add noise to large images.
    settings = {"steps": 40 if size > 96 else 4}
    own, expected = (
        optimize(Objective.channel(model, "conv", [0, 1]), values_range=range_, **settings)
        for model, range_ in ((scaled, (tuple(low), tuple(high))), (plain, usual))
    )
    shares = (own.images - low) / (high - low)
    others = (expected.images - usual[0]) / (usual[1] - usual[0])
    assert np.corrcoef(shares.ravel(), others.ravel())[0, 1] > 0.999
    np.testing.assert_allclose(own.scores, expected.scores, atol=0.02)
    assert own.status == expected.status
    assert own.values_range == (tuple(low), tuple(high))


def test_a_picture_at_the_ends_of_the_range_of_each_channel_is_saturated():
    low, high = np.array([0.0, -1.0]), np.array([1.0, 30.0])
    to_shares = layers.Normalization(mean=low, variance=(high - low) ** 2)
    model = sequential(to_shares, Clipped(name="clipped"), shape=(8, 6, 2))
    free, clipped = (
        Objective.channel(model, "clipped", i) + Objective.channel(model, "clipped", i + 1)
        for i in (0, 2)
    )
    for objective, status in ((free, "ok"), (clipped, "saturated")):
        result = optimize(
            objective,
            steps=2,
            values_range=(tuple(low), tuple(high)),
            parameterization=Pixel(contrast=math.inf),
            optimizer=keras.optimizers.SGD(1e6),
            transformations=None,
        )
        shares = (result.images - low) / (high - low)
        assert (np.abs(shares - np.round(shares)) < 1e-3).all()
        assert result.status == [status]


@pytest.mark.parametrize("values_range", [(-1.0, 1.0), (0.0, 255.0), (-3.0, -2.0)])
def test_half_the_contrast_is_half_way_to_the_middle_of_the_range(values_range):
    low, high = values_range
    to_shares = layers.Rescaling(1 / (high - low), offset=-low / (high - low))
    model = sequential(to_shares, Clipped(name="clipped"), shape=(8, 6, 1))
    result = thrown(model, values_range=values_range)
    assert result.status == ["ok", "saturated", "ok"]


class Half(layers.Layer):
    """The clipped values of a share of the columns."""

    def __init__(self, columns, **settings):
        super().__init__(**settings)
        self.columns = columns

    def call(self, images):
        return keras.ops.clip(images[:, :, : self.columns], 0.3, 0.7)


@pytest.mark.parametrize(("columns", "expected"), [(4, "ok"), (5, "saturated"), (10, "saturated")])
def test_half_of_the_values_of_a_saturated_image_are_at_the_ends(columns, expected):
    model = sequential(Half(columns, name="half"), shape=(8, 10, 1))
    result = optimize(
        Objective.channel(model, "half", 0),
        steps=2,
        parameterization=Pixel(contrast=math.inf),
        optimizer=keras.optimizers.SGD(1e6),
        transformations=None,
    )
    at_an_end = ((result.images < 0.01) | (result.images > 0.99)).mean()
    assert at_an_end == columns / 10
    assert result.status == [expected]


# --- starts ---------------------------------------------------------------------------


def starts_of(task):
    [found] = starts.find_starts([task])
    return found


def needs_bright(bias):
    """A logit that no gradient reaches unless some pixels are bright."""
    model = sequential(
        layers.Conv2D(1, 1, activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(1, use_bias=False, name="logits"),
        shape=(6, 6, 1),
    )
    model.set_weights([np.full((1, 1, 1, 1), 4.0), np.array([bias]), np.ones((1, 1))])
    return model


def test_a_unit_without_a_gradient_finds_one_from_another_start():
    task = prepare(Objective.neuron(needs_bright(-3.2), "logits", 0), steps=8, transformations=None)
    # The unit is on from 0.8, far above faint noise around 0.5.
    result, _ = run(task)
    # White has the most of what it likes.
    assert result.starts == ["plain 1"]
    assert result.status == ["ok"]
    assert result.scores[0] > 4 * 0.98 - 3.2


def ascend_from(task, start, **settings):
    """The result of one target from one start, whatever its image is like."""
    return run(task, starts=[start], **settings)[0]


def test_a_start_that_is_kept_is_kept_although_another_is_better(small_model):
    task = prepare(Objective.channel(small_model, "conv1", [0, 1]), steps=4, transformations=None)
    result, _ = run(task)
    other = ["plain 0", "noise 1 0 2"]
    kept, _ = run(task, starts=other)
    assert kept.starts == other
    assert result.starts != other
    again, _ = run(task, starts=result.starts)
    assert again.starts == result.starts
    np.testing.assert_array_equal(again.images, result.images)


@pytest.mark.parametrize("batch_size", [3, 10])
def test_a_start_finds_the_same_image_whatever_was_tried_before_it(small_model, batch_size):
    """To the bit, also on torch, where a row of a product rounds by its place."""
    objective = Objective.neuron(small_model, "logits", range(10))
    task = prepare(objective, steps=4, batch_size=batch_size)
    # Real images that score more let other starts be tried.
    best_known = np.tile([1e3, -1e3], 5).astype("float32")
    result, _ = run(task, best_known=best_known)
    assert len(set(result.starts)) > 2
    again, _ = run(task, starts=result.starts, best_known=best_known)
    assert again.starts == result.starts
    np.testing.assert_array_equal(again.images, result.images)
    np.testing.assert_array_equal(again.scores, result.scores)


def test_a_start_whose_gradient_is_gone_is_not_kept():
    model = needs_bright(-3.2)
    task = prepare(Objective.neuron(model, "logits", 0), steps=4, transformations=None)
    result, _ = run(task, starts=["plain 0"], status=["ok"])
    assert result.starts[0].startswith("noise")
    assert result.status == ["ok"]
    model.set_weights([np.full((1, 1, 1, 1), 4.0), np.zeros(1), np.ones((1, 1))])
    assert ascend_from(task, "plain 0").starts == ["plain 0"]


def test_only_targets_that_are_newly_weak_change_their_start(small_model):
    task = prepare(Objective.channel(small_model, "conv1", range(4)), steps=4, transformations=None)
    kept = ["noise 1 1.5 0"] * 4
    first, _ = run(task, starts=kept)
    best_known = first.scores + [1.0, 1.0, -0.1, -0.1]
    status = ["ok", "weak", "ok", "weak"]
    result, _ = run(task, starts=kept, status=status, best_known=best_known)
    plain = starts_of(task).scores[:, 0]
    assert (first.scores > plain).all()
    assert result.starts[0] != kept[0]
    assert result.scores[0] > first.scores[0]
    assert result.starts[1:] == kept[1:]
    # Contrast follows another aim now.
    told, _ = run(task, starts=kept, best_known=best_known)
    np.testing.assert_array_equal(result.images[1:], told.images[1:])


@pytest.mark.acceptance
@pytest.mark.parametrize("unit", range(4))
@pytest.mark.parametrize("start", ["faint noise", "noise 3 1 0", "plain 1"])
def test_the_best_of_all_tries_is_the_result(unit, start, small_model):
    task = prepare(Objective.channel(small_model, "conv1", unit), steps=4, transformations=None)
    best_known = np.full(1, 1e9, "float32")
    settings = {"status": ["ok"], "best_known": best_known}
    result, params = run(task, starts=[start], with_params=True, **settings)

    found = starts_of(task)
    gains = dict(zip(found.names, found.scores[0] - found.scores[0, 0], strict=True))
    tries = [ascend_from(task, start, best_known=best_known)]
    # The best start of now, then the best one of another kind.
    noise, plain = (
        max((n for n in gains if n.startswith(kind)), key=gains.get) for kind in ("noise", "plain")
    )
    now = plain if gains[plain] > 1.5 * gains[noise] else noise
    tries.append(ascend_from(task, now, best_known=best_known))
    best = max(tries, key=lambda one: one.scores[0])
    other = {"faint": max(gains, key=gains.get), "noise": plain, "plain": noise}
    other = other[best.starts[0].split()[0]]
    tries.append(ascend_from(task, other, best_known=best_known))
    best = max(tries, key=lambda one: one.scores[0])
    relaxed = ascend_from(task, best.starts[0] + ", relaxed", best_known=best_known)
    tries.append(relaxed)
    best = max(tries, key=lambda one: one.scores[0])
    np.testing.assert_allclose(result.scores, best.scores, rtol=1e-5)
    assert result.starts == best.starts
    np.testing.assert_allclose(result.images, best.images, atol=1e-5)
    np.testing.assert_allclose(result.history, best.history, rtol=1e-4, atol=1e-5)
    del settings["status"]
    _, expected = run(task, starts=result.starts, with_params=True, **settings)
    np.testing.assert_allclose(params, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["noise 3 0 0", "noise 3 1 1", "plain 0"])
def test_pictures_lose_the_noise_that_they_began_with(start, small_model):
    """Only noise fades, since a plain colour is what its unit likes."""
    task = prepare(Objective.channel(small_model, "conv1", 0), steps=32, transformations=None)
    found = starts_of(task)
    began = found.params[found.names.index(start) - 1]
    _, [ended] = run(task, starts=[start], with_params=True)

    def along(params):
        return np.sum(params * began) / np.sum(began**2)

    assert (abs(along(ended)) < 0.3) == start.startswith("noise")
    # Parameters that an earlier run returned are a picture, not noise.
    _, [went_on] = run(task, params=ended[None], starts=[start], with_params=True)
    assert np.sum(went_on * ended) > 0.8 * np.sum(ended**2)


def likes_stripes():
    """A ReLU that is on at the right positions of stripes of one pixel, so never if moved."""
    model = sequential(layers.Flatten(), layers.Dense(1, activation="relu", name="unit"))
    stripes = np.broadcast_to(np.where(np.arange(10) % 2, 1.0, -1.0), (12, 10)).reshape(120, 1)
    model.set_weights([stripes, np.full(1, -30.0)])
    return model


def test_what_is_finer_than_the_transformations_is_made_without_them_at_last():
    """They are off wherever an image is moved, so even a relaxed try needs this."""
    objective = Objective.neuron(likes_stripes(), "unit", 0)
    best_known = np.array([29.0], "float32")  # of 30 that the stripes have
    moved = ascend_from(prepare(objective, steps=32, transformations="standard"), "faint noise")
    task = prepare(objective, steps=32, transformations="standard")
    result, _ = run(task, best_known=best_known)
    assert result.starts[0].endswith(", still")
    assert result.scores[0] > moved.scores[0]
    again, _ = run(task, best_known=best_known, starts=result.starts)
    np.testing.assert_allclose(again.images, result.images, atol=1e-5)
    # Transformations that the user has chosen are never left out.
    given = prepare(objective, steps=32, transformations=[Jitter(1)])
    assert not run(given, best_known=best_known)[0].starts[0].endswith(", still")


def test_a_start_that_is_not_known_is_faint_noise(small_model):
    task = prepare(Objective.channel(small_model, "conv1", [0, 1]), steps=2)
    unknown, _ = run(task, starts=["plain 0, of another version", "spiral"])
    expected, _ = run(task, starts=["faint noise"] * 2)
    np.testing.assert_array_equal(unknown.images, expected.images)


def demanding(share):
    """A ReLU of all pixels that is on only near its favourite image, which is its weights."""
    model = sequential(layers.Flatten(), layers.Dense(1, activation="relu", name="unit"))
    weights, _ = model.get_weights()
    # The most that it can receive, less what a grey image gives it.
    most = 0.5 * np.abs(weights).sum()
    model.set_weights([weights, np.array([-share * most - 0.5 * weights.sum()])])
    return model, weights


def test_a_unit_that_is_off_at_all_starts_is_found_with_relaxed_activations():
    model, weights = demanding(0.6)
    task = prepare(Objective.neuron(model, "unit", 0), steps=64, transformations=None)
    assert not starts_of(task).scores.any()
    result, _ = run(task)
    assert result.starts[0].endswith(", relaxed")
    assert result.scores[0] > 0
    assert result.status == ["ok"]
    cosine = np.corrcoef(result.images.ravel(), weights.ravel())[0, 1]
    assert cosine > 0.8
    # The next run goes on so at once.
    again, _ = run(task, starts=result.starts)
    assert again.starts == result.starts
    np.testing.assert_array_equal(again.images, result.images)


@pytest.mark.parametrize("settings", [{"steps": 1}, {"steps": 32, "warmup_steps": 1}], ids=str)
def test_activations_are_not_relaxed_again_if_it_is_asked_for_or_there_are_no_steps(settings):
    model, _ = demanding(0.6)
    result = optimize(Objective.neuron(model, "unit", 0), transformations=None, **settings)
    assert not result.starts[0].endswith("relaxed")
    assert result.scores.tolist() == [0]


def test_a_gradient_that_only_relaxed_activations_let_through_is_none():
    model, _ = demanding(1.5)
    result = optimize(Objective.neuron(model, "unit", 0), steps=8, transformations=None)
    assert result.scores.tolist() == [0]
    assert result.status == ["no_gradient"]


def test_other_tries_of_a_unit_do_not_depend_on_the_other_units():
    model = sequential(
        layers.Conv2D(5, 1, activation="relu", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, use_bias=False, name="logits"),
        shape=(6, 6, 1),
    )
    bias = np.array([0.0, -3.2, 3.3, -100.0, -3.5])
    weights = [np.array([4.0, 4.0, -4.0, 4.0, 4.0]).reshape(1, 1, 1, 5), bias - [0, 0, 3, 0, 0]]
    model.set_weights([*weights, np.eye(5)])
    objective = Objective.neuron(model, "logits", range(5))
    together = optimize(objective, steps=8)
    assert len(set(together.starts)) > 1
    assert together.status[3] == "no_gradient"
    parts = optimize(objective, steps=8, batch_size=2)
    assert parts.starts == together.starts
    np.testing.assert_allclose(parts.images, together.images, atol=1e-5)
    for i in range(5):
        alone = optimize(Objective.neuron(model, "logits", i), steps=8)
        assert alone.starts == [together.starts[i]]
        np.testing.assert_allclose(alone.images[0], together.images[i], atol=1e-5)
        np.testing.assert_allclose(alone.history[:, 0], together.history[:, i], atol=1e-4)


@pytest.mark.acceptance
@pytest.mark.parametrize("weight", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("layer", ["conv1", "logits"])
def test_an_image_with_a_penalty_is_no_worse_than_one_that_was_made_without(
    layer, weight, small_model
):
    objective = Objective.channel(small_model, layer, range(3))
    settings = {"steps": 8, "transformations": None}
    free = optimize(objective, **settings)
    bound = optimize(objective, regularizers=[L2(weight)], **settings)
    free_value, value = (
        one.scores - weight * np.sqrt((one.images**2).mean((1, 2, 3))) for one in (free, bound)
    )
    assert (value >= free_value - 1e-5).all()
    # The scores are without the penalty.
    expected = [
        Objective.channel(small_model, layer, i).score(bound.images[i : i + 1])[0] for i in range(3)
    ]
    np.testing.assert_allclose(bound.scores, expected, rtol=1e-3, atol=1e-5)


def hardly_active():
    """A network many of whose last channels only other starts and relaxed ReLUs activate."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters, bias in ((8, 0.0), (8, -0.15), (16, -0.1)):
        initializer = keras.initializers.Constant(bias)
        model.add(layers.Conv2D(filters, 3, activation="relu", bias_initializer=initializer))
        model.add(layers.MaxPooling2D() if filters == 8 else layers.Identity(name="last"))
    return model


@pytest.mark.acceptance
@pytest.mark.parametrize("weight", [0.03, 0.3])
def test_a_penalty_takes_no_try_and_no_verdict_from_a_unit(weight):
    """A penalty has a gradient of its own, which is not the unit's."""
    model = hardly_active()
    objective = Objective.channel(model, "last", range(16))
    free = optimize(objective, steps=16)
    bound = optimize(objective, steps=16, regularizers=[TotalVariation(weight)])
    reader = keras.Model(model.inputs, model.get_layer("last").output)
    free_value, value = (
        np.diag(reader.predict(images, verbose=0).mean((1, 2)))
        - weight * np.array([reference.total_variation(image) for image in images])
        for images in (free.images, bound.images)
    )
    assert (value >= free_value - 1e-5).all()
    assert "no_gradient" in free.status
    assert [s == "no_gradient" for s in bound.status] == [s == "no_gradient" for s in free.status]


@pytest.mark.acceptance
@pytest.mark.parametrize("weight", [0.1, 0.5, 1.0])
def test_a_penalty_never_raises_what_it_penalises(weight):
    model = sequential(layers.Conv2D(6, 3, activation="tanh", name="conv"), shape=(16, 16, 3))
    objective = Objective.channel(model, "conv", range(6))
    free = optimize(objective, steps=16)
    bound = optimize(objective, steps=16, regularizers=[TotalVariation(weight)])
    free_penalty, penalty = (
        np.array([reference.total_variation(image) for image in one.images])
        for one in (free, bound)
    )
    assert (penalty <= free_penalty * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("regularizers", [(), [L2(5.0)]])
def test_a_bounded_unit_that_reaches_its_bound_has_had_a_gradient(regularizers):
    model = sequential(layers.Conv2D(1, 3, activation="relu6", name="conv"), shape=(12, 12, 1))
    model.set_weights([np.ones((3, 3, 1, 1)), np.zeros(1)])
    result = optimize(Objective.channel(model, "conv", 0), steps=16, regularizers=regularizers)
    assert result.status[0] in ("ok", "saturated")
    assert result.scores[0] > 0


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_relaxing_all_steps_takes_no_gradient_from_units_that_are_on(steps):
    model = sequential(layers.Conv2D(8, 3), layers.Conv2D(8, 3, name="conv"), shape=(16, 16, 3))
    result = optimize(Objective.channel(model, "conv", range(8)), steps=steps, warmup_steps=steps)
    assert "no_gradient" not in result.status


def test_an_image_that_a_penalty_keeps_dark_is_not_saturated():
    model = sequential(layers.Flatten(), layers.Dense(3, name="units"), shape=(8, 8, 1))
    result = optimize(Objective.neuron(model, "units", range(3)), steps=16, regularizers=[L2(5.0)])
    halves = result.images / 2 + 0.25
    kernel, bias = model.get_weights()
    values = [
        np.diag(images.reshape(3, -1) @ kernel + bias) - 5 * np.sqrt((images**2).mean((1, 2, 3)))
        for images in (result.images, halves)
    ]
    assert (values[0] > values[1]).all()
    assert result.status == ["ok"] * 3


class Bright(Pixel):
    """Pixels whose field is one or more, so that no image is darker than 0.73."""

    def project(self, params, shape):
        return keras.ops.maximum(params, 1.0)


def test_an_image_that_is_kept_is_one_that_the_parameterization_allows(small_model):
    objective = Objective.channel(small_model, "conv1", range(4))
    result = optimize(objective, steps=4, parameterization=Bright(), regularizers=[L2(10.0)])
    assert result.images.min() > 0.73


def test_an_optimisation_that_goes_on_keeps_the_names_of_its_starts(small_model):
    objective = Objective.channel(small_model, "conv1", range(4))
    task = prepare(objective, steps=4, transformations=None)
    first, params = run(task, with_params=True)
    assert len(set(first.starts)) > 1
    second, _ = run(task, params=params, starts=first.starts)
    assert second.starts == first.starts
    assert (second.scores > first.scores).all()


def test_only_the_parameters_that_are_asked_for_are_returned(neurons):
    task = prepare(neurons)
    assert run(task)[1] is None
    assert run(task, with_params=True)[1].shape == (4, 1, 12, 10)


# --- importance -----------------------------------------------------------------------

LINEAR = (12, 10, 3)


def linear_unit(corner=(12, 10)):
    """Return a unit that reads the upper left corner of an image, and its weights."""
    weights = np.random.default_rng(0).normal(size=LINEAR)
    weights[corner[0] :] = weights[:, corner[1] :] = 0
    model = sequential(layers.Flatten(), layers.Dense(1, name="unit"), shape=LINEAR)
    model.layers[-1].set_weights([weights.reshape(-1, 1), np.zeros(1)])
    return Objective.neuron(model, "unit", 0), weights


@pytest.mark.acceptance
@pytest.mark.parametrize("start", [None, np.full(LINEAR, 0.4)], ids=["noise", "image"])
@pytest.mark.parametrize(
    "settings",
    [
        {"parameterization": "pixel"},
        {"parameterization": Fourier(detail=1.0, window=None)},
        {"parameterization": Fourier(detail=1.0, window=None), "optimizer": "adam"},
        {"parameterization": FixedMagnitude(Fourier(detail=1.0, window=None))},
        {"parameterization": "pixel", "transformations": [Rotate(), lambda x: x]},
    ],
    ids=["pixel", "fourier", "adam", "fixed magnitude", "transformed"],
)
def test_importance_is_the_mean_absolute_gradient_by_the_values_before_the_sigmoid(settings, start):
    unit, weights = linear_unit()
    result = optimize(unit, steps=3, start=start, **settings)
    image = result.images[0].astype("float64")
    expected = np.abs(weights * image * (1 - image)).mean(-1)
    np.testing.assert_allclose(result.importance[0], expected / expected.max(), atol=2e-3)


@pytest.mark.parametrize("start", [None, np.full(LINEAR, 0.4)], ids=["noise", "image"])
@pytest.mark.parametrize("parameterization", ["fourier", "fixed_magnitude", "pixel"])
def test_a_unit_that_reads_one_corner_has_its_importance_there(parameterization, start):
    unit, _ = linear_unit(corner=(6, 5))
    result = optimize(unit, steps=16, start=start, parameterization=parameterization)
    [importance] = result.importance
    assert importance[:6, :5].sum() > 0.95 * importance.sum()
    assert importance.min() >= 0
    assert importance.max() == 1


def test_importance_of_a_signal_is_one_number_a_time():
    model = sequential(layers.Conv1D(3, 3, name="conv"), shape=(16, 2))
    result = optimize(Objective.neuron(model, "conv", (4, 0)), steps=2, parameterization="pixel")
    assert result.importance.shape == (1, 16)
    assert set(np.flatnonzero(result.importance[0] > 1e-6)) == {4, 5, 6}


def test_a_parameterization_that_tells_no_gradient_has_no_importance(neurons):
    class Own:
        init, image, project = Pixel().init, Pixel().image, Pixel().project

    assert optimize(neurons, steps=1, parameterization=Own()).importance is None


# --- chosen steps, and the progress bar -------------------------------------------------


def test_chosen_steps_are_kept(neurons):
    every = optimize(neurons, steps=6, save_every=1)
    chosen = optimize(neurons, steps=6, save_every=[4, 1])
    assert chosen.frame_steps.tolist() == [1, 4, 6]
    np.testing.assert_array_equal(chosen.frames, every.frames[[0, 3, 5]])


def test_the_progress_bar_tells_the_score(neurons, capsys):
    result = optimize(neurons, steps=3, verbose=1)
    shown = capsys.readouterr().out
    assert f"score: {result.history[-1].mean():.4f}" in shown
