"""The feature map in which images are compared."""

import keras
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives import find_anchor, inputs, last_features
from tests.conftest import fill, make_small_model, sequential


def anchor(objective, shape, **settings):
    image_input = inputs.resolve(objective.model)[0]
    found = find_anchor(objective, image_input, shape, **settings)
    return None if found is None else found.path


@pytest.mark.parametrize(
    ("layer", "depth", "expected"),
    [
        ("logits", 0.5, "conv1"),
        ("logits", 1.0, "conv2"),
        ("conv2", 1.0, "conv2"),
        ("conv1", 1.0, "conv1"),
        ("conv1", 0.5, "conv1"),
    ],
)
def test_the_map_is_on_the_way_to_the_target(layer, depth, expected):
    unit = Objective.neuron(make_small_model(), layer, 0)
    assert anchor(unit, (12, 10, 1), depth=depth) == expected


def test_a_sum_is_compared_before_the_earlier_of_its_layers():
    model = make_small_model()
    both = Objective.neuron(model, "logits", 0) + Objective.channel(model, "conv1", 0)
    assert anchor(both, (12, 10, 1), depth=1.0) == "conv1"


def test_a_model_without_maps_has_none():
    model = sequential(layers.Flatten(), layers.Dense(3, name="hidden"), layers.Dense(2))
    assert anchor(Objective.neuron(model, "hidden", 0), (12, 10, 1)) is None


def test_the_last_features_may_be_a_vector_but_not_the_one_that_is_read():
    def last(objective):
        image_input = inputs.resolve(objective.model)[0]
        return last_features(objective, image_input, (12, 10, 1))

    model = sequential(layers.Flatten(), layers.Dense(3, name="hidden"), layers.Dense(2))
    assert last(Objective.neuron(model, -1, 0)).path == "hidden"
    assert last(Objective.neuron(model, "hidden", 0)) is None
    assert last(Objective.neuron(make_small_model(), "logits", 0)).path == "conv2"
    assert last(Objective.channel(make_small_model(), "conv2", 0)).path == "conv2"


def test_a_map_that_the_image_never_reaches_is_none():
    image, other = keras.Input((8, 8, 1), name="image"), keras.Input((8, 8, 1), name="other")
    ours = layers.Conv2D(2, 3, name="ours")(image)
    theirs = layers.Conv2D(2, 3, name="theirs")(other)
    joined = layers.Concatenate()([layers.Flatten()(ours), layers.Flatten()(theirs)])
    model = fill(keras.Model([image, other], layers.Dense(2, name="logits")(joined)))
    assert anchor(Objective.neuron(model, "logits", 0), (8, 8, 1), depth=1.0) == "ours"


class Own(keras.Model):
    """A subclassed model, of whose graph nothing is known."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, name="conv")
        self.flatten = layers.Flatten()
        self.out = layers.Dense(2, name="out")

    def call(self, images):
        return self.out(self.flatten(self.conv(images)))


def test_maps_of_subclassed_models_are_found():
    model = Own()
    model(keras.ops.zeros((1, 8, 8, 1)))
    assert anchor(Objective.neuron(model, "out", 0), (8, 8, 1)) == "conv"
