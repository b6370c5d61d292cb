"""What a wrapper does to images before its parts get them."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives.outside import (
    calls_part,
    received_by_part,
    scaling_layers,
    scaling_on_the_way,
    scaling_outside,
    takes_whole_numbers,
)

MEANS, VARIANCES = np.array([0.4, 0.5, 0.6]), np.array([0.04, 0.09, 0.01])


class Wrapper(keras.Model):
    """A model of parts and no `call`."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)


def chain(*inside):
    return keras.Sequential([keras.Input((8, 8, 3)), *inside])


def found(**parts):
    encoder = chain(layers.Rescaling(3.0), layers.Conv2D(4, 3))
    return scaling_outside(Wrapper(encoder=encoder, **parts), [encoder], 3)


def statistics():
    return layers.Normalization(mean=MEANS, variance=VARIANCES)


@pytest.mark.parametrize(
    ("parts", "slope", "offset"),
    [
        ({"augmenter": chain(layers.RandomFlip(), layers.Rescaling(1 / 255))}, 1 / 255, 0),
        ({"rescale": layers.Rescaling(1 / 127.5, -1)}, 1 / 127.5, -1),
        (
            {"one": chain(layers.Rescaling(0.5)), "other": chain(layers.Rescaling(0.5))},
            0.5,
            0,
        ),
        ({"augmenter": chain(layers.Rescaling(0.5, 1), layers.Rescaling(4, -2))}, 2, 2),
        (
            {"augmenter": chain(statistics())},
            1 / np.sqrt(VARIANCES),
            -MEANS / np.sqrt(VARIANCES),
        ),
    ],
    ids=["a model", "an attribute", "twice alike", "one after the other", "statistics"],
)
def test_a_scaling_before_a_part_is_measured(parts, slope, offset):
    scaling = found(**parts)
    np.testing.assert_allclose(np.broadcast_to(scaling.slopes, 3), slope * np.ones(3), rtol=1e-5)
    expected = offset * np.ones(3)
    np.testing.assert_allclose(np.broadcast_to(scaling.offsets, 3), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"one": layers.Rescaling(1 / 255), "other": chain(layers.Rescaling(1 / 127.5, -1))},
        {"one": chain(layers.Rescaling(1 / 255)), "other": chain(statistics())},
        {"decoder": chain(layers.Conv2D(3, 3), layers.Rescaling(255))},
        {"normalizer": layers.Normalization()},
        {
            "pixels": chain(
                layers.Normalization(
                    (1, 2, 3), mean=np.ones((8, 8, 3)), variance=np.ones((8, 8, 3))
                )
            )
        },
    ],
    ids=["none", "two that differ", "of other shapes", "a decoder", "no statistics", "pixels"],
)
def test_a_scaling_that_nobody_knows_is_none(parts):
    assert found(**parts) is None


def test_a_normalization_without_statistics_is_not_built_by_asking():
    normalizer = layers.Normalization()
    found(normalizer=normalizer)
    assert not normalizer.built


def test_a_frozen_teacher_keeps_its_scaling_to_itself():
    teacher = chain(layers.Rescaling(1 / 255), layers.Conv2D(4, 3))
    teacher.trainable = False
    assert found(teacher=teacher) is None


def test_only_layers_outside_of_the_watched_parts_count():
    encoder, rescale = chain(layers.Rescaling(3.0), layers.Conv2D(4, 3)), layers.Rescaling(2.0)
    model = Wrapper(encoder=encoder, again=encoder, rescale=rescale)
    assert scaling_layers(model, [encoder]) == [rescale.name]
    assert scaling_layers(model, [model]) == []


# --- a model with a `call` around the part ---------------------------------------------------


def core():
    return keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Conv2D(2, 3), layers.Flatten()], name="core"
    )


def around(before, shape=(8, 8, 3), dtype=None, batch=None):
    part, given = core(), keras.Input(shape, batch, dtype=dtype)
    return keras.Model(given, part(before(given)), name="whole"), part


def as_floats(x):
    return keras.ops.cast(x, "float32")


def caffe(x):
    return keras.applications.resnet50.preprocess_input(as_floats(x))


BYTES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype("uint8")


@pytest.mark.parametrize("batch", [None, 2])
def test_what_a_part_receives_is_what_stands_before_it_makes_of_examples(batch):
    model, part = around(lambda x: as_floats(x) / 127.5 - 1, dtype="uint8", batch=batch)
    assert calls_part(model, part)
    assert takes_whole_numbers(model) == "uint8"
    [got] = received_by_part(model, part, {0: BYTES}).values()
    np.testing.assert_allclose(got, BYTES / 127.5 - 1, atol=1e-6)


def test_of_two_inputs_the_other_may_be_unknown():
    part, meta = core(), keras.Input((4,), name="meta")
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    code = layers.Concatenate()([part(as_floats(image) * 2), meta])
    model = keras.Model({"meta": meta, "image": image}, code)
    position = keras.tree.flatten({"meta": 0, "image": 1}).index(1)
    [got] = received_by_part(model, part, {position: BYTES}).values()
    np.testing.assert_allclose(got, BYTES * 2.0)
    assert scaling_on_the_way(model, part).slopes == pytest.approx((2.0,))


@pytest.mark.parametrize(
    ("before", "slopes", "offsets"),
    [
        (lambda x: as_floats(x) / 127.5 - 1, (1 / 127.5,), (-1,)),
        (lambda x: keras.ops.cast(x, "float16") / 255, (1 / 255,), (0,)),
        (caffe, (1, 1, 1), (-103.939, -116.779, -123.68)),
        (lambda x: 255 - as_floats(x), (-1,), (255,)),
        (lambda x: layers.ZeroPadding2D(1)(as_floats(x)[:, 1:7, 1:7] / 5), (0.2,), (0,)),
        (as_floats, (1,), (0,)),
    ],
    ids=["arithmetic", "half", "means of channels", "negative", "padded", "a cast"],
)
@pytest.mark.parametrize("dtype", ["uint8", None])
def test_a_straight_line_before_a_part_is_measured(before, slopes, offsets, dtype):
    scaling = scaling_on_the_way(*around(before, dtype=dtype))
    assert scaling.path == "whole"
    np.testing.assert_allclose(scaling.slopes, slopes, rtol=2e-3)
    np.testing.assert_allclose(scaling.offsets, offsets, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    "before",
    [
        lambda x: (as_floats(x) / 255) ** 2.2,
        lambda x: keras.ops.log1p(as_floats(x)),
        lambda x: as_floats(x) - keras.ops.mean(as_floats(x), (1, 2, 3), keepdims=True),
        lambda x: as_floats(x) * np.linspace(0, 1, 8, dtype="float32")[:, None],
    ],
    ids=["gamma", "logarithm", "mean of an image", "other from place to place"],
)
def test_what_is_no_straight_line_is_not_known(before):
    assert scaling_on_the_way(*around(before)) is None


class Fails(layers.Layer):
    """A layer that breaks after the model was made."""

    is_broken = False

    def call(self, images):
        if self.is_broken:
            raise RuntimeError("no file of that name")
        return images


def test_a_model_that_cannot_be_called_tells_nothing():
    fails = Fails()
    model, part = around(fails)
    fails.is_broken = True
    assert received_by_part(model, part, {0: BYTES}) is None
    assert scaling_on_the_way(model, part) is None


class Own(keras.Model):
    """A functional model with a training step of its own, and whatever it keeps beside."""

    def train_step(self, data):
        return {}


def test_a_training_step_of_its_own_may_scale_images_before_the_call():
    part, given = core(), keras.Input((8, 8, 3))
    model = Own(given, part(layers.Rescaling(1 / 255)(given)))
    assert calls_part(model, part)
    model.before = layers.Rescaling(0.5)
    assert not calls_part(model, part)
    assert not calls_part(Wrapper(part=part), part)
    assert not calls_part(part, part)
    assert not calls_part(keras.Sequential([keras.Input((3,)), layers.Dense(2)]), part)
