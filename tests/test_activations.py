"""Outputs of layers from one real call, which leaves no trace in the model."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.activations import (
    Tap,
    input_shape,
    layers_in_order,
    output_shapes,
    record,
    relaxed_activations,
    walk,
)
from tests.conftest import (
    IMAGE_SHAPE,
    fill,
    gradient,
    layer_output,
    random_images,
    sequential,
    tensor,
    to_numpy,
)

TAPS = [Tap("conv1"), Tap("conv2", "pre_activation"), Tap("flatten", "input")]


def belongings(model):
    """What each layer's instance dictionary holds."""
    return {path: dict(vars(layer)) for path, layer in walk(model)}


def recorded(model, images, *taps):
    return [to_numpy(output) for output in record(model, tensor(images), taps)]


class Counting(layers.Layer):
    """Counts its calls, and fails where it is told to."""

    def __init__(self, calls, fails=False):
        super().__init__(name="counting")
        self._calls = lambda: calls.append(1)
        self._fails = lambda: fails

    def call(self, inputs):
        self._calls()
        if self._fails():
            raise FloatingPointError
        return inputs

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


def test_every_point_of_a_layer_is_what_keras_computes(small_model, images):
    output, before, after = recorded(small_model, images, *TAPS)
    np.testing.assert_allclose(output, layer_output(small_model, "conv1", images), atol=1e-6)
    np.testing.assert_allclose(
        np.tanh(before), layer_output(small_model, "conv2", images), atol=1e-5
    )
    np.testing.assert_allclose(np.tanh(before), after, atol=1e-6)


def test_one_layer_can_be_read_at_several_points(images):
    model = sequential(layers.Conv2D(2, 3), layers.ReLU(name="relu"))
    before, after = recorded(model, images, Tap("relu", "input"), Tap("relu"))
    assert (before < 0).any()
    np.testing.assert_array_equal(np.maximum(before, 0), after)


def test_layers_are_restored(small_model, images):
    before = belongings(small_model)
    recorded(small_model, images, *TAPS)
    assert belongings(small_model) == before


def test_layers_are_restored_where_the_call_raises(images):
    model = sequential(layers.Conv2D(2, 3, name="conv"), Counting([], fails=True), layers.ReLU())
    before = belongings(model)
    with pytest.raises(FloatingPointError):
        recorded(model, images, Tap("conv"), Tap("counting"))
    assert belongings(model) == before


def test_layers_after_the_last_one_asked_for_are_not_called(images):
    calls = []
    model = sequential(
        layers.Conv2D(2, 3, name="conv"), Counting(calls), layers.Conv2D(2, 3, name="last")
    )
    calls.clear()
    recorded(model, images, Tap("conv"))
    assert calls == []
    recorded(model, images, Tap("conv"), Tap("last"))
    assert calls == [1]


def test_of_a_shared_layer_the_first_call_counts(images):
    shared = layers.Conv2D(1, 3, padding="same", name="shared")
    inputs = keras.Input(IMAGE_SHAPE)
    model = fill(keras.Model(inputs, shared(shared(inputs))))
    np.testing.assert_allclose(
        recorded(model, images, Tap("shared"))[0], to_numpy(shared(images)), atol=1e-6
    )


def test_a_layer_that_the_call_does_not_reach_is_named(images):
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.used = layers.Conv2D(1, 3, name="used")
            self.unused = layers.Dense(1, name="unused")

        def call(self, x):
            return self.used(x)

    model = Idle()
    model(images)
    with pytest.raises(ValueError, match="does not reach the layers .'unused'"):
        recorded(model, images, Tap("unused"))


def test_the_call_is_that_of_inference(images):
    model = sequential(layers.Dropout(0.5, name="dropout"), layers.Conv2D(1, 3))
    np.testing.assert_array_equal(recorded(model, images, Tap("dropout"))[0], images)


# --- shapes -------------------------------------------------------------------------


def test_shapes_are_known_without_computing(small_model):
    assert output_shapes(small_model, IMAGE_SHAPE, TAPS) == [(10, 8, 4), (8, 6, 6), (8, 6, 6)]


def test_sizes_that_vary_stay_open():
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(None, None, 3))
    assert output_shapes(model, (None, None, 3), [Tap("conv")]) == [(None, None, 2)]


def test_looking_at_shapes_changes_no_graph(small_model, images, tmp_path):
    def graph():
        return [len(layer._inbound_nodes) for layer in small_model.layers]

    before, config = graph(), small_model.get_config()
    output_shapes(small_model, IMAGE_SHAPE, TAPS)
    layers_in_order(small_model, IMAGE_SHAPE)
    assert graph() == before
    assert small_model.get_config() == config
    small_model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        to_numpy(loaded(images)), to_numpy(small_model(images)), rtol=1e-5, atol=1e-6
    )


def test_a_layer_of_several_tensors_is_refused():
    class Twice(layers.Layer):
        def call(self, inputs):
            return inputs, inputs

    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, Twice(name="twice")(inputs)[0])
    with pytest.raises(ValueError, match="one tensor"):
        output_shapes(model, (4, 4, 1), [Tap("twice")])


def test_layers_come_in_the_order_of_the_call():
    a, b = layers.Conv2D(2, 3, name="a"), layers.Conv2D(4, 3, name="b")
    inner = keras.Sequential([layers.ReLU(name="relu")], name="inner")
    inputs = keras.Input((8, 8, 1))
    model = keras.Model(inputs, a(inner(b(inputs))))
    order = [(path, shape) for path, _, shape in layers_in_order(model, (8, 8, 1))]
    assert [one for one in order if one[0] != "inner"] == [
        ("b", (6, 6, 4)),
        ("inner/relu", (6, 6, 4)),
        ("a", (4, 4, 2)),
    ]


def test_the_shape_of_an_image_is_the_models():
    assert input_shape(sequential(layers.ReLU(), shape=(5, 7, 2))) == (5, 7, 2)


@pytest.mark.parametrize(
    "model",
    [
        lambda: keras.Sequential([layers.Dense(2)]),
        lambda: sequential(layers.Dense(2), shape=(5,)),
        lambda: keras.Model([a := keras.Input((4, 4, 1)), b := keras.Input((4, 4, 1))], a + b),
    ],
    ids=["unbuilt", "vectors", "two inputs"],
)
def test_a_model_of_anything_but_one_image_is_refused(model):
    with pytest.raises(ValueError, match=r"not built|Expected a model with one input"):
        input_shape(model())


# --- warm-up ------------------------------------------------------------------------

RELUS = {
    "argument": lambda: [layers.Conv2D(2, 1, activation="relu")],
    "relu6": lambda: [layers.Conv2D(2, 1, activation="relu6")],
    "layer": lambda: [layers.Conv2D(2, 1), layers.ReLU()],
    "activation layer": lambda: [layers.Conv2D(2, 1), layers.Activation("relu")],
    "inside a model": lambda: [keras.Sequential([layers.Conv2D(2, 1, activation="relu")])],
}


@pytest.mark.parametrize("case", RELUS)
def test_relaxed_relus_keep_their_values_and_let_a_gradient_through(case):
    model = sequential(*RELUS[case](), shape=(3, 3, 1))
    kernel, bias = model.get_weights()
    model.set_weights([kernel, np.array([-10.0, 0.0])])
    threes = random_images(2, 3, 3, 1)

    def first_channel(x):
        return keras.ops.sum(model(x)[..., 0])

    plain, before = to_numpy(model(threes)), belongings(model)
    assert not gradient(first_channel, threes).any()
    with relaxed_activations(model):
        np.testing.assert_allclose(to_numpy(model(threes)), plain, atol=1e-6)
        # The slope of a softplus is the logistic function of what comes in.
        slope = 1 / (1 + np.exp(10 - kernel[0, 0, 0, 0] * threes.astype("float64")))
        expected = slope * kernel[0, 0, 0, 0]
        np.testing.assert_allclose(gradient(first_channel, threes), expected, rtol=1e-5)
    assert belongings(model) == before


def test_other_activations_are_not_relaxed():
    model = sequential(layers.Conv2D(1, 1, activation="tanh"), shape=(3, 3, 1))
    threes = random_images(1, 3, 3, 1)

    def total(x):
        return keras.ops.sum(model(x))

    plain = gradient(total, threes)
    with relaxed_activations(model):
        np.testing.assert_array_equal(gradient(total, threes), plain)
