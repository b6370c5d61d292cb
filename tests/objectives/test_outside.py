"""What a wrapper does to images before its parts get them."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives.outside import scaling_layers, scaling_outside

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
