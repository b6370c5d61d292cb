"""The range that images are made in, and what is logged of it."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, History, Objective
from featviz_callback.objectives import Scaling, inputs
from featviz_callback.optimization import Settings
from featviz_callback.optimization.completion import complete
from featviz_callback.optimization.values_range import (
    choose_values_range,
    is_scaled_before,
    range_before,
)

SHAPE = (6, 5, 3)
IMAGES = np.random.default_rng(0).random((20, *SHAPE), "float32")


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")


def chosen(images=None, *first):
    model = keras.Sequential([keras.Input(SHAPE), *first, layers.Conv2D(2, 3, name="conv")])
    return choose_values_range(model, inputs.resolve(model)[0], (), SHAPE, images)


@pytest.mark.parametrize(
    ("slope", "offset", "expected"),
    [
        (1 / 58, -123 / 58, (0, 255)),
        (1 / 128, 0, (0, 255)),
        (1 / 128, -1, (0, 255)),
        (1, -117, (0, 255)),
        (1 / 0.225, -0.45 / 0.225, (0, 1)),
        (1 / 255 / 0.225, -0.45 / 0.225, (0, 255)),
        (0.5, -2.5, (-1, 11)),
        (1 / 15, 40 / 15, (-85, 5)),
        (1 / 32768, 0, (-32768, 32767)),
        (1, 0, None),
        (3, 0, None),
        (0.2, 0, None),
        (255, 0, None),
        (-1, 1, (0, 1)),
        (127.5, 127.5, None),
    ],
    ids=[
        "mean and deviation of bytes", "half", "half, to -1..1", "mean of bytes",
        "mean and deviation", "mean and deviation of shares", "other data", "decibels",
        "sound", "none", "a factor", "a small factor", "to bytes", "inverted", "from -1..1",
    ],
)  # fmt: skip
def test_a_scaling_tells_what_it_is_made_for(slope, offset, expected):
    found = range_before(Scaling("conv", (slope,), (offset,)))
    assert found == (None if expected is None else pytest.approx(expected))


UNIT, SIGNED, CENTRED = (0, 1), (-1, 1), (-0.5, 0.5)

# The range of the images, and to what it is mapped.
MAPPED = {
    "digits": ((0, 16), UNIT),
    "bytes": ((0, 255), UNIT),
    "bytes to -1..1": ((0, 255), SIGNED),
    "bytes to -0.5..0.5": ((0, 255), CENTRED),
    "bytes upside down": ((0, 255), (1, 0)),
    "shares to -1..1": ((0, 1), SIGNED),
    "-1..1 to shares": ((-1, 1), UNIT),
    "10 bits": ((0, 1023), UNIT),
    "12 bits": ((0, 4095), UNIT),
    "12 bits to -1..1": ((0, 4095), SIGNED),
    "14 bits to -0.5..0.5": ((0, 16383), CENTRED),
    "16 bits": ((0, 65535), UNIT),
    "16 bits to -1..1": ((0, 65535), SIGNED),
    "reflectances": ((0, 10000), UNIT),
    "thousand": ((0, 1000), SIGNED),
    "CT": ((-1000, 1000), UNIT),
    "all of CT": ((-1024, 3071), UNIT),
    "lung": ((-1350, 150), UNIT),
    "soft tissue": ((-160, 240), UNIT),
    "bone": ((300, 1500), UNIT),
    "decibels": ((-80, 0), UNIT),
}


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("case", MAPPED)
def test_a_range_is_told_by_what_it_is_mapped_to(case, policy):
    """The straight line through both ends, in a model, leads back to them."""
    (low, high), (first, last) = MAPPED[case]
    slope = (last - first) / (high - low)
    scaled = layers.Rescaling(slope, first - slope * low, dtype=policy)
    # Half precision knows a share of 1 / 2048.
    bound = (high - low) * (1e-6 if policy == "float32" else 2e-3)
    np.testing.assert_allclose(chosen(None, scaled), (low, high), rtol=0, atol=bound)


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [
        (0.13, 0.31, (0, 1)),
        (0.5, 0.1, (0, 1)),
        (33, 78, (0, 255)),
        (0.3, 5, (-14.7, 15.3)),
        (0, 100, (-300, 300)),
        (-20, 400, (-1220, 1180)),
        (5, 400, (-1195, 1205)),
        (0, 1, (0, 1)),
        (0, 0, (0, 1)),
    ],
)
def test_the_statistics_of_data_tell_their_range(mean, deviation, expected):
    """No data between 0 and 1, or 0 and 255, have the others: three deviations are theirs."""
    found = chosen(None, layers.Normalization(mean=[mean] * 3, variance=[deviation**2] * 3))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (None, "'conv' receives images as they are"),
        (layers.Rescaling(255.0), "receives 255 * x +0, which tells no range"),
        (layers.Lambda(lambda x: (x / 255) ** 2.2), "no straight line, or could not be measured"),
        (
            layers.Lambda(lambda x: x - keras.ops.mean(x, axis=(1, 2, 3), keepdims=True)),
            "no straight line, or could not be measured",
        ),
    ],
    ids=["nothing", "factor", "gamma", "mean of the image"],
)
def test_why_a_model_tells_no_range_is_logged(first, reason, caplog):
    assert chosen(None, *filter(None, [first])) == (0, 1)
    assert reason in caplog.text


@pytest.mark.parametrize(
    ("images", "first", "expected"),
    [
        (None, (), (0, 1)),
        (None, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 255, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 60, (layers.Rescaling(1 / 255),), (0, 255)),
        (IMAGES * 4 - 2, (layers.Rescaling(1 / 255),), (-2, 2)),
        (IMAGES * 2 - 1, (), (-1, 1)),
        (IMAGES * 0.2 - 0.1, (), (-0.1, 0.1)),
    ],
    ids=["nothing", "layer", "both", "dark", "contradiction", "data", "narrow"],
)
def test_the_model_tells_the_range_and_else_the_data(images, first, expected, caplog):
    found = chosen(images, *first)
    np.testing.assert_allclose(found, expected, atol=0.02)
    assert caplog.text.count("values_range=") == 1


OWN = layers.Normalization, {"mean": [1000, 0.5, 3000], "variance": [100, 0.01, 10000]}


def test_a_normalization_tells_a_range_of_each_channel(caplog):
    kind, settings = OWN
    low, high = chosen(None, kind(**settings))
    np.testing.assert_allclose(low, (970, 0, 2700), rtol=1e-6, atol=1e-3)
    np.testing.assert_allclose(high, (1030, 1, 3300), rtol=1e-6)
    assert "values_range=((970, 0, 2700), (1030, 1, 3300))" in caplog.text
    real = low + (np.array(high) - low) * IMAGES
    np.testing.assert_allclose(chosen(real, kind(**settings)), (low, high))
    # Others than the model was made for.
    np.testing.assert_allclose(chosen(IMAGES * 5000, kind(**settings)), (0, 5000), atol=10)


@pytest.mark.parametrize("name", ["densenet", "resnet", "mobilenet"])
def test_the_usual_preprocessing_takes_bytes_of_every_channel(name):
    preprocess = getattr(keras.applications, name).preprocess_input
    assert chosen(None, layers.Lambda(preprocess)) == (0.0, 255.0)


def test_a_range_of_each_channel_lives_through_a_training(tmp_path, caplog):
    kind, settings = OWN
    model = keras.Sequential([
        keras.Input(SHAPE), kind(**settings), layers.Conv2D(2, 3, name="conv"), layers.Flatten()
    ])  # fmt: skip
    model.compile("sgd", "mse")
    low, high = (np.array(end) for end in ((970, 0, 2700), (1030, 1, 3300)))
    x = (low + (high - low) * IMAGES).astype("float32")
    target = model.predict(x, verbose=0)

    def watch(**others):
        return FeatureVisCallback(
            lambda model: Objective.channel(model, "conv", [0, 1]),
            log_dir=tmp_path, steps=2, on_error="raise", **others,
        )  # fmt: skip

    first = watch(probe_data=x)
    model.fit(x, target, epochs=1, verbose=0, callbacks=[first])
    np.testing.assert_allclose(first.history.values_range, (low, high), rtol=1e-4)
    images = first.history.images
    assert ((images >= low - 1e-2) & (images <= high + 1e-2)).all()
    again = watch(values_range=(tuple(low), tuple(high)))
    model.fit(x, target, epochs=2, initial_epoch=1, verbose=0, callbacks=[again])
    assert again.history.epochs.tolist() == [-1, 0, 1]
    assert (abs(again.history.images[:2] - images) <= (high - low) / 255).all()
    again.history.save(tmp_path / "history.npz")
    loaded = History.load(tmp_path / "history.npz")
    assert loaded.values_range == (tuple(low), tuple(high))
    np.testing.assert_array_equal(loaded.strip(), again.history.strip())
    assert "hardly differ" not in caplog.text


def test_it_is_logged_once_a_model(caplog):
    model = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3)])
    for _ in range(2):
        choose_values_range(model, inputs.resolve(model)[0], (), SHAPE, None)
    assert caplog.text.count("values_range=") == 1


# --- a wrapper that scales images before the model gets them ---------------------------------

BEFORE = Scaling("augmenter/rescaling", (1 / 127.5,), (-1.0,))


def part(*first):
    model = keras.Sequential([keras.Input(SHAPE), *first, layers.Conv2D(2, 3, name="conv")])
    return model, inputs.resolve(model)[0], ()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (BEFORE, (-1, 1)),
        (Scaling("rescaling", (1 / 255,), (0.0,)), (0, 1)),
        (Scaling("normalization", (4.0,), (-2.0,)), (-2, 2)),
        (Scaling("tensor", (-2.0,), (1.0,)), (-1, 1)),
        (
            Scaling("normalization", (0.02, 0.01, 0.02), (-2.0, -1.0, -3.0)),
            ((-2, -1, -3), (3.1, 1.55, 2.1)),
        ),
        (Scaling("output", (127.5,), (127.5,)), (0, 1)),
    ],
)
def test_without_data_a_part_gets_what_the_wrapper_makes(before, expected):
    found = choose_values_range(*part(), SHAPE, None, before)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_scaling_of_the_part_itself_comes_first():
    model = part(layers.Rescaling(1 / 255))
    assert choose_values_range(*model, SHAPE, None, BEFORE) == (0, 255)


@pytest.mark.parametrize(
    ("first", "images", "before", "expected"),
    [
        ((), 255 * IMAGES, BEFORE, True),
        ((), IMAGES, BEFORE, False),
        ((), 2 * IMAGES - 1, BEFORE, False),
        ((), IMAGES, Scaling("normalization", (4.0,), (-2.0,)), True),
        ((), 4 * IMAGES - 2, Scaling("normalization", (4.0,), (-2.0,)), False),
        ((layers.Rescaling(1 / 255),), 255 * IMAGES, BEFORE, False),
        ((), 255 * IMAGES, Scaling("output", (127.5,), (127.5,)), False),
    ],
)
def test_raw_images_are_told_from_those_that_are_scaled(first, images, before, expected):
    assert is_scaled_before(*part(*first), images, before) == expected


class Prepared(keras.Sequential):
    """A model of any size, which is trained on what its `preprocessor` makes of bytes."""

    made = None

    def preprocessor(self, x, y=None, sample_weight=None):
        return x if self.made is None else self.made(keras.ops.cast(x, "float32"))


def to_size(x):
    return keras.ops.image.resize(x, (12, 14), data_format="channels_last")


SLOPES, OFFSETS = np.array([0.02, 0.01, 0.015], "float32"), np.array([-2, -1, -1.5], "float32")


@pytest.mark.parametrize(
    ("made", "expected", "shape"),
    [
        (lambda x: to_size(x) / 127.5 - 1, (-1, 1), (12, 14)),
        (lambda x: x / 255, (0, 1), None),
        (lambda x: to_size(x * SLOPES + OFFSETS), (OFFSETS, 255 * SLOPES + OFFSETS), (12, 14)),
        (lambda x: to_size(keras.ops.sqrt(x)), (0, 1), (12, 14)),
        (lambda x: {"images": x, "texts": x}, (0, 1), None),
        (lambda x: 1 / 0, (0, 1), None),
    ],
    ids=["size and range", "range", "channels", "no straight line", "a dict", "fails"],
)
def test_a_preprocessor_tells_size_and_range_without_data(made, expected, shape, caplog):
    model = Prepared([keras.Input((None, None, 3)), layers.Conv2D(2, 3, name="conv")])
    model.made = made
    settings = Settings(values_range=None, image_shape=None if shape else (8, 8))
    settings, images = complete(settings, model, None)
    assert images is None
    np.testing.assert_allclose(
        np.broadcast_arrays(*settings.values_range), np.broadcast_arrays(*expected), atol=1e-5
    )
    assert settings.image_shape == (shape or (8, 8))
    assert ("that its `preprocessor` makes" in caplog.text) == (shape is not None)
    if shape:
        # Its own images of bytes are such images.
        own = keras.ops.convert_to_numpy(made(np.full((1, 40, 30, 3), 255.0, "float32")))
        assert own.shape[1:3] == shape


def test_a_size_that_is_given_comes_before_that_of_a_preprocessor():
    model = Prepared([keras.Input((None, None, 3)), layers.Conv2D(2, 3, name="conv")])
    model.made = lambda x: to_size(x) / 127.5 - 1
    settings, _ = complete(Settings(values_range=None, image_shape=(8, 8)), model, None)
    assert settings.image_shape == (8, 8)
    assert settings.values_range == (-1, 1)
