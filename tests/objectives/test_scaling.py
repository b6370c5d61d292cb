"""What the first layer with weights receives, against the scaling that was built in."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives import inputs
from featviz_callback.objectives.scaling import measure_scaling, warn_if_flat

SHAPE = (8, 6, 3)


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")


def scale_by_hand(images):
    return images / 127.5 - 1.0


class InCall(keras.Model):
    """A model that scales its images in its own `call`."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, name="conv")

    def call(self, images):
        return self.conv(images * 0.25)


def sequential(*first):
    return keras.Sequential([keras.Input(SHAPE), *first, layers.Conv2D(2, 3, name="conv")])


def functional():
    image = keras.Input(SHAPE)
    scaled = keras.applications.mobilenet_v2.preprocess_input(image)
    return keras.Model(image, layers.Conv2D(2, 3, name="conv")(scaled))


def subclassed():
    model = InCall()
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def nested():
    backbone = sequential(layers.RandomFlip(), layers.Rescaling(1 / 255))
    return keras.Sequential([keras.Input(SHAPE), backbone])


@pytest.mark.parametrize(
    ("make", "slope", "offset"),
    [
        (sequential, 1, 0),
        (lambda: sequential(layers.Rescaling(1 / 255)), 1 / 255, 0),
        (lambda: sequential(layers.Rescaling(2.0, -1.0)), 2, -1),
        (lambda: sequential(layers.Normalization(mean=[4] * 3, variance=[4] * 3)), 0.5, -2),
        (lambda: sequential(layers.Lambda(scale_by_hand)), 1 / 127.5, -1),
        (functional, 1 / 127.5, -1),
        (subclassed, 0.25, 0),
        (nested, 1 / 255, 0),
        (lambda: sequential(layers.BatchNormalization()), 1, 0),
    ],
    ids=[
        "none", "rescaling", "with offset", "normalization", "lambda", "operations", "call",
        "nested", "batch norm",
    ],
)  # fmt: skip
def test_the_scaling_is_that_of_what_comes_first(make, slope, offset):
    model = make()
    found = measure_scaling(model, inputs.resolve(model)[0], (), SHAPE)
    np.testing.assert_allclose(
        (found.slopes, found.offsets), ((slope,), (offset,)), rtol=1e-4, atol=1e-6
    )


MEANS, DEVIATIONS = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def preprocessed(mode, shape=SHAPE):
    """A model that begins with the usual arithmetic of `keras.applications`."""
    image = keras.Input(shape)
    apply = {
        "torch": keras.applications.densenet.preprocess_input,
        "caffe": keras.applications.resnet.preprocess_input,
    }[mode]
    padded = layers.ZeroPadding2D(3)(apply(image))
    return keras.Model(image, layers.Conv2D(2, 3, name="conv")(padded))


@pytest.mark.parametrize(
    ("make", "slopes", "offsets"),
    [
        (
            lambda: sequential(layers.Normalization(mean=[1, 2, 3], variance=[1, 4, 16])),
            (1, 1 / 2, 1 / 4),
            (-1, -1, -3 / 4),
        ),
        (lambda: preprocessed("torch"), 1 / 255 / DEVIATIONS, -MEANS / DEVIATIONS),
        # It subtracts the means of blue, green and red, and turns the order of the channels.
        (lambda: preprocessed("caffe"), (1, 1, 1), (-123.68, -116.779, -103.939)),
    ],
    ids=["normalization", "torch", "caffe"],
)
def test_each_channel_may_have_a_scaling_of_its_own(make, slopes, offsets):
    model = make()
    found = measure_scaling(model, inputs.resolve(model)[0], (), SHAPE)
    np.testing.assert_allclose((found.slopes, found.offsets), (slopes, offsets), rtol=1e-3)


def test_many_channels_are_told_apart():
    means = np.arange(20.0)
    own = layers.Normalization(mean=means, variance=np.ones(20))
    model = keras.Sequential([keras.Input((4, 4, 20)), own, layers.Conv2D(2, 3)])
    found = measure_scaling(model, inputs.resolve(model)[0], (), (4, 4, 20))
    np.testing.assert_allclose(found.offsets, -means, rtol=1e-3, atol=1e-6)


def test_mixed_channels_have_one_scaling():
    def mix(images):
        grey = keras.ops.sum(images, axis=-1, keepdims=True)
        return keras.ops.concatenate([grey, 2 * images[..., :1]], axis=-1)

    model = sequential(layers.Lambda(mix))
    found = measure_scaling(model, inputs.resolve(model)[0], (), SHAPE)
    assert len(found.slopes) == len(found.offsets) == 1


def test_what_is_no_straight_line_has_no_scaling():
    model = sequential(layers.Lambda(keras.ops.square))
    assert measure_scaling(model, inputs.resolve(model)[0], (), SHAPE) is None


def test_the_layer_behind_the_image_is_meant_and_not_one_of_another_input():
    image, number = keras.Input(SHAPE, name="image"), keras.Input((1,), name="number")
    first = layers.Dense(1, name="of_number")(number)
    seen = layers.Conv2D(2, 3, name="conv")(layers.Rescaling(0.5)(image))
    model = keras.Model([number, image], [first, seen])
    image_input, fixed = inputs.resolve(model)
    assert measure_scaling(model, image_input, fixed, SHAPE).path == "conv"


def test_the_statistics_of_images_are_told_from_a_scaling():
    image, number = keras.Input(SHAPE, name="image"), keras.Input((1,), name="number")
    own = layers.Normalization(mean=[4.0], variance=[4.0])(number)
    seen = layers.Conv2D(2, 3, name="conv")(layers.Rescaling(0.5)(image))
    of_other = keras.Model([number, image], [own, seen])
    of_images = sequential(layers.Normalization(mean=[4] * 3, variance=[4] * 3))
    for model, expected in ((of_images, True), (of_other, False)):
        image_input, fixed = inputs.resolve(model)
        assert measure_scaling(model, image_input, fixed, SHAPE).is_statistics == expected


@pytest.mark.parametrize(
    ("apply", "advice"),
    [
        (lambda images: images / 65535, "such as (0, 65535), at whose ends they differ by 1."),
        (lambda images: (images / 65535) ** 2, "as the model takes it."),
    ],
    ids=["straight", "no straight line"],
)
def test_the_advice_is_the_range_that_the_model_would_tell_apart(apply, advice, caplog):
    model = sequential(layers.Lambda(apply))
    warn_if_flat(model, inputs.resolve(model)[0], (), SHAPE, (0.0, 255.0))
    assert advice in caplog.text


@pytest.mark.parametrize(("high", "warns"), [(1, True), (255, False)])
def test_a_range_in_which_images_hardly_differ_is_warned_of_once(high, warns, caplog):
    model = sequential(layers.Lambda(lambda images: images / 255))
    image_input, _ = inputs.resolve(model)
    for _ in range(2):
        warn_if_flat(model, image_input, (), SHAPE, (0.0, high))
    assert caplog.text.count("hardly differ") == warns


def test_small_values_that_nothing_scales_are_no_reason_to_warn(caplog):
    model = sequential()
    warn_if_flat(model, inputs.resolve(model)[0], (), SHAPE, (-0.01, 0.01))
    assert not caplog.text
