"""Layers found by name, path, attribute and call."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.objectives import default_objectives, walk
from featviz_callback.objectives.paths import find_call, find_layer
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import layer_calls
from tests.conftest import fill, random_images, sequential, to_numpy
from tests.objectives.conftest import spec


def test_a_call_is_given_behind_a_colon(shared_model):
    shared = shared_model.get_layer("shared")
    assert find_call(shared_model, "shared") == ("shared", shared, 0)
    assert find_call(shared_model, "shared:1") == ("shared", shared, 1)
    assert find_call(shared_model, shared) == ("shared", shared, 0)
    assert (Tap("shared").name, Tap("shared", call=1).name) == ("shared", "shared:1")


def test_a_colon_may_be_part_of_a_name():
    model = sequential(layers.ReLU(name="relu"), layers.ReLU(name="relu:1"))
    assert find_call(model, "relu:1") == ("relu:1", model.layers[1], 0)


# --- one layer, several paths -----------------------------------------------------------


def encoder(name="encoder"):
    parts = [layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D(name="pool")]
    return keras.Sequential([keras.Input((8, 8, 1)), *parts], name=name)


class Keeps(keras.Model):
    """A functional model that keeps its encoder."""

    def __init__(self):
        body = encoder()
        super().__init__(body.inputs[0], layers.Dense(2, name="out")(body.outputs[0]))
        self.encoder = body


class Shares(keras.Model):
    """A model whose blocks share a layer, and which has a layer of a block itself."""

    def __init__(self):
        super().__init__()
        shared = layers.Conv2D(4, 3, padding="same", name="shared")
        self.one = keras.Sequential([shared, layers.ReLU(name="relu")], name="one")
        self.other = keras.Sequential([shared], name="other")
        self.relu, self.pool = self.one.layers[1], layers.GlobalAveragePooling2D(name="pool")

    def call(self, inputs):
        return self.pool(self.other(layers.Concatenate()([self.one(inputs)] * 1)))


class Cycle(keras.Model):
    """A model whose layer knows the model."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, name="conv")
        self.conv.owner = self

    def call(self, inputs):
        return self.conv(inputs)


def test_a_layer_is_there_once_by_its_shortest_path():
    assert [p for p, _ in walk(Keeps())][1:] == ["conv", "pool", "out", "encoder"]
    assert [path for path, _ in walk(Shares())] == ["one", "one/shared", "other", "relu", "pool"]
    assert [path for path, _ in walk(Cycle())] == ["conv"]


def test_of_a_layer_with_two_paths_each_call_is_seen_once():
    model = Keeps()
    paths = [call.path for call in layer_calls(model, spec(8, 8, 1))]
    assert paths == ["conv", "pool", "out"]
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert names == [*(f"Channel#conv_{i}" for i in range(4)), "Neuron#out_0", "Neuron#out_1"]


def test_any_path_to_a_layer_reads_it():
    model = fill(Keeps())
    images = random_images(2, 8, 8, 1)
    expected = to_numpy(model.encoder(images))[:, 1]
    for path in ("conv", "encoder/conv"):
        objective = Objective.channel(model, path, 1)
        assert objective.names == [f"Channel#{path}_1"]
        np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


def test_a_sigmoid_inside_is_found_by_a_path_that_is_not_the_shortest():
    image = keras.Input((4, 4, 1))
    share = layers.Dense(2, activation="sigmoid", name="share")(layers.Flatten()(image))
    inner = keras.Model(image, share, name="inner")

    class Outer(keras.Model):
        def __init__(self):
            super().__init__(image, layers.Identity(name="end")(share))
            self.inner = inner

        def call(self, inputs):
            return self.inner(inputs)

    model = fill(Outer())
    images = random_images(3, 4, 4, 1)
    shares = to_numpy(model(images))
    scores = Objective.neuron(model, "inner", 1).score(images)
    np.testing.assert_allclose(scores, np.log(shares / (1 - shares))[:, 1], rtol=1e-3, atol=1e-4)


# --- equal names ------------------------------------------------------------------------


class Two(keras.Model):
    """Two encoders of one name, and layers of one name in a list, a dict and a tuple."""

    def __init__(self):
        super().__init__()
        self.left, self.right = encoder(), encoder()
        self.blocks = [layers.Dense(4, name="same"), [layers.Dense(4, name="same")]]
        self.towers = {"box": layers.Dense(2, name="same"), "a/b": layers.Dense(2, name="same")}
        self._hidden = (layers.Dense(2, name="same"),)
        self.out = layers.Dense(2, name="left")

    def call(self, inputs):
        features = self.left(inputs) + 2 * self.right(inputs)
        features = self.blocks[0](features) * self.blocks[1][0](features)
        ends = [self.towers["box"](features), self.towers["a/b"](features)]
        return self.out(ends[0] + ends[1] + self._hidden[0](features))


@pytest.fixture
def two():
    model = Two()
    model(random_images(1, 8, 8, 1))
    return fill(model)


def test_equal_names_are_told_apart_by_attributes(two):
    by_path = dict(walk(two))
    assert len(by_path) == len(list(walk(two))) == len({id(one) for one in by_path.values()})
    assert {path: by_path[path] for path in by_path if "/" not in path} == {
        # Another layer has the name that is the attribute's.
        "layers[0]": two.left,
        "right": two.right,
        "blocks[0]": two.blocks[0],
        "blocks[1][0]": two.blocks[1][0],
        "towers[box]": two.towers["box"],
        "layers[5]": two.towers["a/b"],
        "_hidden[0]": two._hidden[0],
        "left": two.out,
    }
    for path, layer in by_path.items():
        assert find_layer(two, path) == find_layer(two, layer) == (path, layer)


def test_each_of_two_layers_of_one_path_is_read(two):
    images = random_images(2, 8, 8, 1)
    for path, part in (("layers[0]/conv", two.left), ("right/conv", two.right)):
        expected = to_numpy(part(images))[:, 1]
        for way in (path, part.layers[0]):
            objective = Objective.channel(two, way, 1)
            assert objective.names == [f"Channel#{path}_1"]
            np.testing.assert_allclose(objective.score(images), expected, rtol=1e-4, atol=1e-6)


def test_default_objectives_of_equal_names_have_names_of_their_own(two):
    names = [name for objective in default_objectives(two) for name in objective.names]
    assert len(set(names)) == len(names)
    assert {"Channel#layers[0]/conv_0", "Channel#right/conv_0", "Neuron#left_1"} <= set(names)


def test_a_path_with_a_name_of_two_layers_lists_both(two):
    with pytest.raises(ValueError, match=r"name one of \['layers\[0\]', 'right'\].*'encoder/conv'"):
        Objective.channel(two, "encoder/conv", 0)


def test_a_layer_can_be_named_by_its_attribute(small_model):
    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.net = small_model

        def call(self, inputs):
            return self.net(inputs)

    model = Around()
    model(random_images(1, 12, 10, 1))
    assert find_layer(model, "net/conv1")[1] is small_model.layers[0]
