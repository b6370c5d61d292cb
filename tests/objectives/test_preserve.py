"""Attributes of layers and random states are as before, however a block ends."""

import random
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.backend import random_states_preserved
from featviz_callback.objectives.preserve import preserved
from featviz_callback.optimization.reading import read
from tests.conftest import random_images, sequential, set_random_seed, to_numpy


class Busy(layers.Layer):
    """Does at each call what layers should not, but do."""

    def __init__(self):
        super().__init__()
        self.number = 1
        self.seen = ["first"]
        self.by_name = {"first": 1}
        self.names = {"first"}
        self.nested = {"lists": [["first"]], "pair": (["first"], {})}
        self.queue = deque(["first"])

    def call(self, inputs):
        self.number += 1
        self.late = self.number
        self.seen.append("second")
        self.by_name["first"] = 2
        self.by_name["second"] = 2
        self.names.add("second")
        self.nested["lists"][0].append("second")
        self.nested["pair"][0].append("second")
        self.nested["pair"][1]["second"] = 2
        self.queue.append("second")
        self.add_loss(ops.mean(inputs))
        return inputs


@pytest.fixture
def busy():
    """The layer, inside a model two levels deep."""
    layer = Busy()
    inner = sequential(layer, shape=(4, 4, 1))
    return layer, sequential(inner, layers.Flatten(), shape=(4, 4, 1))


def values(layer):
    """What the layer keeps."""
    kept = layer.number, list(layer.seen), dict(layer.by_name), set(layer.names)
    lists, (pair, by_name) = layer.nested["lists"][0], layer.nested["pair"]
    nested = list(lists), list(pair), list(by_name), list(layer.queue)
    return *kept, nested, hasattr(layer, "late"), len(layer.losses)


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_what_layers_keep_is_put_back(error, busy):
    layer, model = busy
    images = random_images(1, 4, 4, 1)
    model(images)
    before, objects = values(layer), (layer.seen, layer.by_name, layer.names)
    with pytest.raises(error) if error else nullcontext(), preserved(model):
        model(images)
        model(images)
        assert values(layer) != before
        if error:
            raise error
    assert values(layer) == before
    assert all(
        now is then
        for now, then in zip((layer.seen, layer.by_name, layer.names), objects, strict=True)
    )


def test_a_first_call_leaves_no_trace(busy):
    layer, model = busy
    before = values(layer)
    with preserved(model):
        model(random_images(1, 4, 4, 1))
    assert values(layer) == before


class Unbuilt(keras.Model):
    """Has no `build` of its own, so that Keras' `build` builds no layer."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3, name="conv")
        self.logits = layers.Dense(2, name="logits")

    def call(self, images):
        return self.logits(ops.mean(self.conv(images), axis=(1, 2)))


def unbuilt():
    model = Unbuilt()
    with pytest.warns(UserWarning, match="does not have a `build"):
        model.build((None, 6, 6, 1))
    return model


def test_layers_that_a_call_builds_can_be_built_again():
    model = unbuilt()
    with preserved(model):
        model(random_images(1, 6, 6, 1))
    assert not model.weights
    model(random_images(1, 6, 6, 1))
    assert [weight.shape for weight in model.weights] == [(3, 3, 1, 2), (2,), (2, 2), (2,)]


def test_a_model_that_only_says_that_it_is_built_trains_the_same_and_is_seen_later(tmp_path):
    x, y = random_images(8, 6, 6, 1), np.zeros((8, 2))

    def trained(*callbacks):
        set_random_seed(0)
        model = unbuilt()
        model.compile("sgd", "mse")
        model.fit(x, y, epochs=2, verbose=0, callbacks=list(callbacks))
        return model.get_weights()

    alone = trained()
    callback = FeatureVisCallback(log_dir=tmp_path, steps=1, on_error="raise")
    for one, other in zip(trained(callback), alone, strict=True):
        np.testing.assert_array_equal(one, other)
    # Others than TensorFlow build a model before training begins.
    first = [] if keras.backend.backend() == "tensorflow" else [-1]
    assert callback.history.epochs.tolist() == [*first, 0, 1]


# --- what the framework keeps beside Keras -----------------------------------------------


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="modules of torch's")
def test_modes_and_buffers_of_modules_inside_a_layer_are_put_back():
    import torch

    class Counting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, inputs):
            self.calls += 1
            return inputs

    inner = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout(0.5), Counting())
    layer = layers.TorchModuleWrapper(inner, output_shape=(4, 4, 2), name="wrapped")
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    model(random_images(1, 4, 4, 3), training=True)
    inner[1].eval()
    modes, calls = [module.training for module in layer.modules()], float(inner[2].calls)
    assert set(modes) == {True, False}
    optimize(Objective.channel(model, "wrapped", 0), steps=2)
    assert [module.training for module in layer.modules()] == modes
    assert float(inner[2].calls) == calls > 0


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="variables of TensorFlow's")
def test_variables_that_keras_does_not_know_are_put_back():
    import tensorflow as tf

    class Counting(layers.Layer):
        def __init__(self):
            super().__init__(name="counting")
            self.calls = tf.Variable(0.0, trainable=False)

        def call(self, inputs):
            self.calls.assign_add(1.0)
            return inputs

    model = sequential(layers.Conv2D(2, 3), Counting(), shape=(4, 4, 1))
    model(random_images(1, 4, 4, 1))
    calls = float(model.layers[1].calls)
    optimize(Objective.channel(model, "counting", 0), steps=2)
    assert float(model.layers[1].calls) == calls > 0


def fitted(make, tmp_path, is_watched, run_eagerly):
    """Train, and return the weights and what a shuffled data set gives afterwards."""
    import tensorflow as tf

    keras.utils.set_random_seed(1)
    model = sequential(make(), layers.Conv2D(2, 3, name="conv"), shape=(6, 5, 1))
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    images = np.random.default_rng(0).random((16, 6, 5, 1), dtype="float32")
    callbacks = []
    if is_watched:
        settings = {"log_dir": tmp_path, "steps": 2, "probe_data": images, "on_error": "raise"}
        callbacks = [FeatureVisCallback(**settings)]
    model.fit(images, np.ones((16, 4, 3, 2)), 8, epochs=2, verbose=0, callbacks=callbacks)
    later = tf.data.Dataset.range(20).shuffle(20)
    return [*map(to_numpy, model.get_weights()), np.array(list(later.as_numpy_iterator()))]


def noise_of(kind):
    """Return a layer that draws from a generator of its own, or of TensorFlow's."""
    import tensorflow as tf

    class Noise(layers.Layer):
        def __init__(self):
            super().__init__(name="noise")
            self.own = {
                "NumPy": lambda: np.random.default_rng(4),
                "NumPy, old": lambda: np.random.RandomState(4),
                "Python": lambda: random.Random(4),
                "TensorFlow": lambda: tf.random.Generator.from_seed(4),
                "a variable": lambda: {"calls": [tf.Variable(0.0, trainable=False)]},
                "eager": lambda: None,
            }[kind]()

        def call(self, inputs):
            if kind == "TensorFlow":
                return inputs * self.own.uniform(())
            if kind == "a variable":
                self.own["calls"][0].assign_add(0.25)
                return inputs * self.own["calls"][0]
            if kind == "eager":
                return inputs * tf.random.uniform(())
            return inputs * float(self.own.uniform(0.5, 1.5))

    return Noise


@pytest.mark.acceptance
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="generators of TensorFlow's")
@pytest.mark.parametrize("run_eagerly", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize(
    "kind", ["NumPy", "NumPy, old", "Python", "TensorFlow", "a variable", "eager"]
)
def test_random_states_of_layers_are_put_back(kind, run_eagerly, tmp_path):
    make = noise_of(kind)
    alone, again, watched = (
        fitted(make, tmp_path, is_watched, run_eagerly) for is_watched in (False, False, True)
    )
    for one, other, ours in zip(alone, again, watched, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, ours)


class Augmented(keras.utils.PyDataset):
    """Batches that count how often they were read, and draw from a generator of their own."""

    def __init__(self):
        super().__init__()
        self.rng, self.read = np.random.default_rng(3), 0

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.read += 1
        return self.rng.random((4, 6, 5, 1), dtype="float32")


def test_reading_data_leaves_their_counters_and_generators():
    data, unread = Augmented(), Augmented()
    assert len(read(data, most=7)) == 7
    assert data.read == 0
    np.testing.assert_array_equal(data[0], unread[0])


@pytest.mark.parametrize("optimizer", [None, "adam"])
def test_threads_take_turns(optimizer, small_model):
    before = [dict(vars(layer)) for layer in small_model._flatten_layers()]
    objectives = [Objective.neuron(small_model, "logits", i) for i in range(4)]

    def images(objective):
        return optimize(objective, steps=10, optimizer=optimizer).images

    alone = list(map(images, objectives))
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(images, objectives))
    np.testing.assert_array_equal(together, alone)
    assert [dict(vars(layer)) for layer in small_model._flatten_layers()] == before


# --- random states -------------------------------------------------------------------------


def draw():
    """One number from each generator that training may draw from."""
    return [random.random(), np.random.random(), to_numpy(keras.random.uniform(())).item()]


@pytest.mark.parametrize("seeded", [False, True])
def test_random_states_are_put_back(seeded):
    keras.utils.set_random_seed(4)
    if seeded:
        # Keras makes its generator at the first use, and its seed from Python's.
        draw()
    with random_states_preserved():
        first = draw()
    assert draw() == first
    assert draw() != first


def test_the_random_state_of_torch_is_put_back():
    torch = pytest.importorskip("torch")
    with random_states_preserved():
        first = torch.rand(())
    assert torch.rand(()) == first


def test_keras_generator_is_not_made_by_us():
    set_random_seed(4)
    plain = draw()
    set_random_seed(4)
    with random_states_preserved():
        random.random()
        keras.random.uniform(())
    assert draw() == plain
