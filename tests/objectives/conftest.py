"""What the tests of objectives share."""

import keras
import pytest
from keras import layers

from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.recording import Tap
from tests.conftest import (
    IMAGE_SHAPE,
    fill,
    sequential,
)

TAPS = [Tap("conv1"), Tap("conv2", "pre_activation"), Tap("flatten", "input")]


def belongings(model):
    """What each layer's instance dictionary holds."""
    return {path: dict(vars(layer)) for path, layer in walk(model)}


def spec(*shape):
    """Any number of images of that shape."""
    return keras.KerasTensor((None, *shape))


@pytest.fixture
def shared_model():
    """One convolution, called twice."""
    shared = layers.Conv2D(1, 3, padding="same", name="shared")
    inputs = keras.Input(IMAGE_SHAPE)
    return fill(keras.Model(inputs, shared(shared(inputs))))


def channels_first_model():
    """Rescaled, convolved with channels first, and then laid out anew."""
    return sequential(
        layers.Rescaling(2.0, name="rescaling"),
        layers.Conv2D(4, 3, name="conv", data_format="channels_first"),
        layers.ReLU(name="relu"),
        layers.Permute((2, 3, 1), name="permute"),
        layers.ReLU(name="last"),
        layers.Flatten(name="flatten"),
        layers.Dense(2, name="logits"),
        shape=(3, 6, 5),
    )
