"""Which layers are shown in a call that is made anyway, and what is left behind."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import Objective
from featviz_callback.objectives import Watch, feature_taps, inputs, score_all
from featviz_callback.objectives.layers import Ending, ending
from featviz_callback.objectives.recording import CALLS
from featviz_callback.objectives.watching import weights_by_layer
from tests.conftest import fill, layer_output, make_small_model, random_images, sequential

IMAGES = random_images(9, 12, 10, 1)


def taps_of(model):
    return feature_taps(model, inputs.specs(model))


def names(model):
    return [tap.name for tap in taps_of(model)]


def seen_by(model, images=IMAGES, taps=None):
    """Return what is shown of each layer, and the scores of a layer in the same pass."""
    seen = {}

    def see(tap, tensor, count):
        seen.setdefault(tap.name, []).append((ops.convert_to_numpy(tensor), count))

    taps = taps_of(model) if taps is None else taps
    target = Objective.layer(model, list(taps)[-1].name)
    scores = score_all([target], images, watch=Watch(taps, see))[0]
    np.testing.assert_array_equal(scores, score_all([target], images)[0])
    return seen


def test_layers_that_compute_features_are_shown_and_no_other():
    model = sequential(
        layers.Rescaling(2.0),
        layers.RandomFlip(),
        layers.Conv2D(4, 3, name="conv"),
        layers.BatchNormalization(name="norm"),
        layers.ReLU(name="relu"),
        layers.Activation("linear"),
        layers.MaxPooling2D(),
        layers.Dropout(0.5),
        layers.Flatten(),
        layers.Dense(3, name="logits"),
        layers.Softmax(),
    )
    assert names(model) == ["conv", "norm", "relu", "logits"]
    assert list(taps_of(model).values()) == [4, 4, 4, 3]


def test_a_preprocessing_layer_has_no_features():
    model = sequential(layers.Normalization(mean=0.5, variance=1.0), layers.Conv2D(2, 3, name="c"))
    assert names(model) == ["c"]
    assert list(weights_by_layer(model)) == ["c"]


def test_an_attention_and_a_recurrent_layer_are_one_each():
    image = keras.Input((6, 4))
    mixed = layers.MultiHeadAttention(2, 3, name="attention")(image, image)
    outputs = layers.LSTM(5, name="lstm")(mixed)
    model = keras.Model(image, outputs)
    assert names(model) == ["attention", "lstm"]
    assert {path: len(own) for path, own in weights_by_layer(model).items()} == {
        "attention": 8,
        "lstm": 3,
    }


def test_what_is_shown_is_what_the_layer_returns():
    model = make_small_model()
    seen = seen_by(model)
    assert list(seen) == ["conv1", "conv2", "logits"]
    for name, [(outputs, count)] in seen.items():
        assert count == 9
        np.testing.assert_allclose(outputs, layer_output(model, name, IMAGES), atol=1e-5)


def test_each_image_is_shown_once_if_there_are_several_batches(monkeypatch):
    model = make_small_model()
    monkeypatch.setattr(inputs, "_PIXELS_AT_ONCE", 4 * 120)
    seen = seen_by(model)["logits"]
    assert [count for _, count in seen] == [4, 4, 1]
    joined = np.concatenate([outputs for outputs, _ in seen])
    np.testing.assert_allclose(joined, layer_output(model, "logits", IMAGES), atol=1e-5)


def test_a_shared_layer_is_shown_once_a_call():
    image = keras.Input((12, 10, 1))
    shared = layers.Conv2D(1, 3, padding="same", activation="tanh", name="shared")
    once = shared(image)
    model = fill(keras.Model(image, layers.Flatten()(shared(once))))
    seen = seen_by(model)
    assert list(seen) == ["shared", "shared:1"]
    first = ops.convert_to_numpy(shared(IMAGES))
    np.testing.assert_allclose(seen["shared"][0][0], first, atol=1e-6)
    np.testing.assert_allclose(
        seen["shared:1"][0][0], ops.convert_to_numpy(shared(first)), atol=1e-6
    )


def functional():
    """Return a model whose activations are operations, and one in it that it calls twice."""
    maps = keras.Input((12, 10, 2))
    block = layers.Conv2D(2, 3, padding="same", name="inner")(maps)
    block = keras.Model(maps, ops.silu(block), name="block")
    image = keras.Input((12, 10, 1))
    conv = layers.Conv2D(2, 3, padding="same", name="conv")(image)
    first = ops.relu(conv)
    second = keras.activations.relu(first + conv, max_value=0.1)
    third = block(block(second))
    end = layers.Dense(3, name="logits")(layers.Flatten()(third))
    outputs = {"conv": conv, "first": first, "second": second, "third": third, "end": end}
    return fill(keras.Model(image, outputs)), block


def test_an_activation_that_is_an_operation_of_a_graph_is_shown_as_a_layer_is():
    model, block = functional()
    [silu] = [one for one in block.operations if type(one).__name__ == "Silu"]
    relu, bounded = (one for one in model.operations if type(one).__name__.lower() == "relu")
    seen = seen_by(model)
    assert list(seen) == [
        *("conv", relu.name, bounded.name, "block/inner", f"block/{silu.name}"),
        *("block/inner:1", f"block/{silu.name}:1", "logits"),
    ]
    predicted = model.predict(IMAGES, verbose=0)
    names = {"conv": "conv", relu.name: "first", bounded.name: "second"}
    for name, output in {**names, f"block/{silu.name}:1": "third", "logits": "end"}.items():
        np.testing.assert_allclose(seen[name][0][0], predicted[output], atol=1e-6)
    once = ops.convert_to_numpy(block(predicted["second"]))
    np.testing.assert_allclose(seen[f"block/{silu.name}"][0][0], once, atol=1e-6)
    assert ending(relu) == Ending(True)
    assert ending(bounded) == Ending(True, None, 0.1)
    assert ending(silu) == Ending()
    assert not any(name in vars(one) for one in (relu, silu) for name in CALLS)


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (ops.relu6, Ending(True, None, 6.0)),
        (ops.tanh, Ending(False, -1.0, 1.0)),
        (ops.hard_sigmoid, Ending(False, 0.0, 1.0)),
        (lambda x: keras.activations.relu(x, negative_slope=0.1), Ending()),
        (lambda x: keras.activations.relu(x, threshold=-1.0), Ending()),
        (ops.leaky_relu, Ending()),
        (ops.gelu, Ending()),
    ],
)
def test_the_ending_of_an_operation_is_that_of_its_activation(activation, expected):
    image = keras.Input((12, 10, 1))
    model = keras.Model(image, activation(layers.Conv2D(2, 3, name="conv")(image)))
    assert len(taps_of(model)) == 2
    assert ending(model.operations[-1]) == expected


def test_a_softmax_that_is_an_operation_has_no_units():
    image = keras.Input((12, 10, 1))
    logits = layers.Dense(2, name="logits")(layers.Flatten()(image))
    assert names(keras.Model(image, ops.softmax(logits))) == ["logits"]


class Windows(keras.Model):
    """A model that folds two halves of each image into the batch."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")
        self.end = layers.Dense(2, name="end")

    def call(self, images):
        halves = ops.reshape(images, (-1, 60))
        return self.end(ops.reshape(self.dense(halves), (-1, 6)))


def test_parts_of_an_image_in_the_batch_are_positions(monkeypatch):
    model = Windows()
    model(IMAGES[:1])
    monkeypatch.setattr(inputs, "_PIXELS_AT_ONCE", 4 * 120)
    seen = seen_by(model)["dense"]
    expected = ops.convert_to_numpy(model.dense(IMAGES.reshape(18, 60)))
    assert [count for _, count in seen] == [4, 4, 1]
    np.testing.assert_allclose(np.concatenate([one for one, _ in seen]), expected, atol=1e-6)


def test_channels_come_last():
    model = sequential(
        layers.Conv2D(4, 3, data_format="channels_first", name="conv"),
        layers.Flatten(),
        shape=(1, 12, 10),
    )
    assert list(taps_of(model).values()) == [4]


class Broken(Exception):
    pass


@pytest.mark.parametrize("fails", [False, True], ids=["", "after an exception"])
def test_nothing_is_left_behind(fails):
    image = keras.Input((12, 10, 1))
    inner = sequential(layers.Conv2D(2, 3, name="conv"), layers.ReLU())
    model = keras.Model(image, layers.Dense(2, name="logits")(layers.Flatten()(inner(image))))
    before = [dict(vars(layer)) for layer in model._flatten_layers()]
    taps = taps_of(model)

    def see(tap, tensor, count):
        if fails and tap.path == "logits":
            raise Broken

    target = Objective.layer(model, next(iter(taps)).name)
    if fails:
        with pytest.raises(Broken):
            score_all([target], IMAGES, watch=Watch(taps, see))
    else:
        score_all([target], IMAGES, watch=Watch(taps, see))
    for layer, attributes in zip(model._flatten_layers(), before, strict=True):
        assert not {*CALLS, "activation"} & (set(vars(layer)) - set(attributes))
        assert {name: id(one) for name, one in vars(layer).items()} == {
            name: id(one) for name, one in attributes.items()
        }


class Fuse(layers.Layer):
    """A layer that fails while it is blown."""

    def call(self, values):
        if FUSE["is_blown"]:
            raise Broken
        return values


FUSE = {"is_blown": False}


def test_nothing_is_left_behind_by_a_layer_that_fails(monkeypatch):
    model = sequential(layers.Conv2D(2, 3, name="conv"), Fuse(), layers.Dense(2, name="end"))
    taps = taps_of(model)
    before = [list(vars(layer)) for layer in model._flatten_layers()]
    expected = ops.convert_to_numpy(model(IMAGES))
    seen = []
    monkeypatch.setitem(FUSE, "is_blown", True)
    watch = Watch(taps, lambda tap, tensor, count: seen.append(tap.path))
    with pytest.raises(Broken):
        score_all([Objective.channel(model, "conv", 0)], IMAGES, watch=watch)
    monkeypatch.setitem(FUSE, "is_blown", False)
    assert seen == ["conv"]
    after = [[*vars(one)] for one in model._flatten_layers()]
    assert after == before
    np.testing.assert_array_equal(ops.convert_to_numpy(model(IMAGES)), expected)
    # Nobody watches any more.
    assert seen == ["conv"]


def relu(x):
    """A function of a user that is off nowhere."""
    return keras.ops.leaky_relu(x, 0.2)


def tanh(x):
    return 4 * keras.ops.tanh(x)


def own_rectifier(x):
    return keras.ops.maximum(x, 0)


own_rectifier.__name__ = "relu"


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        (relu, Ending()),
        (tanh, Ending()),
        (own_rectifier, Ending(True)),
        ("relu", Ending(True)),
        (keras.ops.relu6, Ending(True, None, 6.0)),
        ("hard_tanh", Ending(False, -1.0, 1.0)),
        ("hard_sigmoid", Ending(False, 0.0, 1.0)),
    ],
)
def test_a_function_ends_where_it_computes_what_its_name_says(activation, expected):
    for layer in (layers.Dense(2, activation=activation), layers.Activation(activation)):
        assert ending(layer) == expected


def linear(x):
    return keras.ops.maximum(x, 0)


@pytest.mark.parametrize(("activation", "expected"), [(linear, {"act": 2}), ("linear", {})])
def test_a_function_that_is_only_named_linear_computes_features(activation, expected):
    model = sequential(layers.Activation(activation, name="act"), shape=(2,))
    found = feature_taps(model, inputs.specs(model))
    assert {tap.path: units for tap, units in found.items()} == expected
