"""Shapes of layers' outputs, inferred without computing."""

import keras
import numpy as np
from keras import layers

from featviz_callback.objectives.layers import has_channels_first
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.shapes import layer_calls, output_shapes, shared_calls
from tests.conftest import (
    IMAGE_SHAPE,
    sequential,
    to_numpy,
)
from tests.objectives.conftest import TAPS, channels_first_model, spec


def test_shapes_are_known_without_computing(small_model):
    assert output_shapes(small_model, spec(*IMAGE_SHAPE), TAPS) == [
        (10, 8, 4),
        (8, 6, 6),
        (8, 6, 6),
    ]


def test_sizes_that_vary_stay_open():
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(None, None, 3))
    assert output_shapes(model, spec(None, None, 3), [Tap("conv")]) == [(None, None, 2)]


def test_inferring_shapes_changes_no_graph(small_model, images, tmp_path):
    def graph():
        return [len(layer._inbound_nodes) for layer in small_model.layers]

    before, config = graph(), small_model.get_config()
    output_shapes(small_model, spec(*IMAGE_SHAPE), TAPS)
    layer_calls(small_model, spec(*IMAGE_SHAPE))
    assert graph() == before
    assert small_model.get_config() == config
    small_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        to_numpy(loaded(images)), to_numpy(small_model(images)), rtol=1e-5, atol=1e-6
    )


def test_layers_come_in_the_order_of_the_call():
    a, b = layers.Conv2D(2, 3, name="a"), layers.Conv2D(4, 3, name="b")
    inner = keras.Sequential([layers.ReLU(name="relu")], name="inner")
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, a(inner(b(inputs))))
    order = [(call.path, call.shape) for call in layer_calls(model, spec(8, 8, 1))]
    assert [one for one in order if one[0] != "inner"] == [
        ("b", (6, 6, 4)),
        ("inner/relu", (6, 6, 4)),
        ("a", (4, 4, 2)),
    ]


def test_a_layer_that_does_not_say_has_its_channels_where_they_were_before():
    model = channels_first_model()
    calls = layer_calls(model, spec(3, 6, 5))
    assert [call.path for call in calls if call.channels_first] == ["rescaling", "conv", "relu"]
    assert {call.path: call.shape for call in calls} == {
        "rescaling": (6, 5, 3),
        "conv": (4, 3, 4),
        "relu": (4, 3, 4),
        "permute": (4, 3, 4),
        "last": (4, 3, 4),
        "flatten": (48,),
        "logits": (2,),
    }
    assert has_channels_first(model)
    assert not has_channels_first(sequential(layers.Conv2D(2, 3)))


def test_a_call_that_was_followed_tells_the_shape_at_each_layer():
    for model, size in (
        (channels_first_model(), (3, 6, 5)),
        (sequential(layers.Conv2D(2, 3, name="conv"), layers.Flatten()), IMAGE_SHAPE),
    ):
        taps = [
            Tap(one.path, channels_first=one.channels_first)
            for one in layer_calls(model, spec(*size))
        ]
        alone = output_shapes(model, spec(*size), taps)
        with shared_calls():
            layer_calls(model, spec(*size))
            assert output_shapes(model, spec(*size), taps) == alone


class Counting(keras.Model):
    """A model that counts how often its call is followed."""

    def __init__(self):
        super().__init__()
        self.conv, self.times = layers.Conv2D(2, 3, name="conv"), 0

    def call(self, images):
        self.times += 1
        return self.conv(images)


def test_shared_calls_are_followed_once_for_each_shape_and_model():
    models = [Counting(), Counting()]
    for model in models:
        model(np.zeros((1, 8, 8, 3), "float32"))
        model.times = 0
    alone = [layer_calls(models[0], spec(size, size, 3)) for size in (8, 6)]
    each = models[0].times // 2
    models[0].times = 0
    with shared_calls(), shared_calls():
        for _ in range(3):
            shared = [layer_calls(models[0], spec(size, size, 3)) for size in (8, 6)]
            assert shared == alone
            shared[0].clear()
        layer_calls(models[1], spec(8, 8, 3))
        assert output_shapes(models[1], spec(8, 8, 3), [Tap("conv")]) == [(6, 6, 2)]
    assert models[0].times == 2 * each
    assert models[1].times == each
    layer_calls(models[0], spec(8, 8, 3))
    assert models[0].times == 3 * each
