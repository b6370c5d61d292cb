import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import Objective
from featviz_callback.objectives import Watch, inputs, score_all
from featviz_callback.objectives.watching import feature_taps
from featviz_callback.optimization.ranking import rank
from featviz_callback.optimization.whole_pass import find_pass, pass_seconds

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="Only TensorFlow compiles a whole pass."
)


class Eager(layers.Layer):
    """A layer that takes a number of images that is known, only with their values."""

    def call(self, x):
        return x if x.shape[0] is None else x * float(np.mean(x.numpy()) > -1e9)


def build(*extra):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            *extra,
            layers.Flatten(),
            layers.Dense(3, name="logits"),
        ]
    )
    return model


def seen_by(model, images, **settings):
    """Return the scores of a logit, and the outputs of all layers that were shown."""
    image_input, _ = inputs.resolve(model, None, 3)
    shown = {}

    def see(tap, output, count):
        shown.setdefault(tap.path, []).append(ops.convert_to_numpy(output))

    watch = Watch(feature_taps(model, image_input.specs(model, images.shape[1:])), see)
    [scores] = score_all([Objective.neuron(model, "logits", 1)], images, watch=watch, **settings)
    return scores[0], {path: np.concatenate(parts) for path, parts in shown.items()}


IMAGES = np.random.default_rng(0).random((150, 8, 8, 1), "float32")


def test_what_is_shown_is_what_keras_predicts():
    model = build()
    scores, shown = seen_by(model, IMAGES, find_pass=find_pass)
    np.testing.assert_allclose(scores, model.predict(IMAGES, verbose=0)[:, 1], atol=1e-5)
    for path in ("conv", "logits"):
        part = keras.Model(model.inputs, model.get_layer(path).output)
        np.testing.assert_allclose(shown[path], part.predict(IMAGES, verbose=0), atol=1e-5)
    assert pass_seconds(model) > 0


def test_an_activation_that_is_an_operation_is_shown():
    image = keras.Input((8, 8, 1))
    maps = layers.Conv2D(4, 3, name="conv")(image)
    logits = layers.Dense(3, name="logits")(layers.Flatten()(ops.relu(maps)))
    model = keras.Model(image, logits)
    _, shown = seen_by(model, IMAGES, find_pass=find_pass)
    expected = np.maximum(keras.Model(image, maps).predict(IMAGES, verbose=0), 0)
    assert pass_seconds(model) > 0
    conv, relu, _ = shown.values()
    assert (conv < 0).any()
    np.testing.assert_allclose(relu, expected, atol=1e-5)


def test_new_weights_are_seen_and_compile_nothing():
    model = build()
    seen_by(model, IMAGES, find_pass=find_pass)
    before = pass_seconds(model)
    model.set_weights([2 * one for one in model.get_weights()])
    scores, _ = seen_by(model, IMAGES, find_pass=find_pass)
    np.testing.assert_allclose(scores, model.predict(IMAGES, verbose=0)[:, 1], atol=1e-5)
    assert pass_seconds(model) == before


def test_a_model_that_no_graph_can_have_is_called_as_it_is():
    model = build(Eager())
    scores, shown = seen_by(model, IMAGES, find_pass=find_pass)
    expected, whole = seen_by(model, IMAGES)
    np.testing.assert_array_equal(scores, expected)
    for path, output in whole.items():
        np.testing.assert_array_equal(shown[path], output)


def test_outputs_of_many_bytes_are_shown_layer_by_layer():
    """Else all of them would be in memory at once."""
    asked = []

    def never(*arguments):
        asked.append(arguments)
        return find_pass(*arguments)

    model = keras.Sequential([keras.Input((256, 256, 1)), layers.Conv2D(64, 1, name="logits")])
    model = keras.Sequential([model, layers.GlobalAveragePooling2D(), layers.Dense(2, name="out")])
    image_input, _ = inputs.resolve(model, None, 3)
    images = np.zeros((2, 256, 256, 1), "float32")
    taps = feature_taps(model, image_input.specs(model, images.shape[1:]))
    watch = Watch(dict.fromkeys(taps, 2**12), lambda *_: None)
    score_all([Objective.neuron(model, "out", 0)], images, watch=watch, find_pass=never)
    assert not asked


def test_weights_that_are_no_numbers_are_seen_behind_a_relu():
    """A graph would make 0 of them."""
    model = build()
    model.set_weights([np.full_like(one, np.nan) for one in model.get_weights()])
    image_input, _ = inputs.resolve(model, None, 3)
    seen = {}
    taps = feature_taps(model, image_input.specs(model, IMAGES.shape[1:]))
    watch = Watch(
        taps, lambda tap, output, _: seen.update({tap.path: ops.convert_to_numpy(output)})
    )
    rank([Objective.neuron(model, "logits", 1)], IMAGES, 3, image_input, watch=watch)
    assert np.isnan(seen["conv"]).all()
    assert np.isnan(seen["logits"]).all()
