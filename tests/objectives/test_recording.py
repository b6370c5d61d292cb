"""Outputs of layers from one real call, which leaves no trace in the model."""

import tempfile
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.dtype_policies.dtype_policy import QUANTIZATION_MODES

from featviz_callback import Objective, optimize
from featviz_callback.objectives.recording import Tap, record
from featviz_callback.objectives.shapes import layer_calls, output_shapes
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
from tests.objectives.conftest import TAPS, belongings, channels_first_model, spec


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


class Meanwhile(layers.Layer):
    """While it is called, another thread calls another layer with zeros."""

    def __init__(self, other):
        super().__init__()
        self._calls_other = lambda: seen_elsewhere(other)

    def call(self, inputs):
        with ThreadPoolExecutor(1) as thread:
            self.seen = thread.submit(self._calls_other).result()
        return inputs


def seen_elsewhere(layer):
    return to_numpy(layer(tensor(np.zeros((1, 12, 10, 1)))))


def test_calls_in_other_threads_are_not_recorded(images):
    conv = layers.Conv2D(2, 3, name="conv")
    conv.build((None, 12, 10, 1))
    meanwhile = Meanwhile(conv)
    model = sequential(meanwhile, conv)
    [found] = recorded(model, images, Tap("conv"))
    np.testing.assert_array_equal(found, to_numpy(conv(tensor(images))))
    np.testing.assert_array_equal(meanwhile.seen, seen_elsewhere(conv))


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


def test_of_a_shared_layer_any_call_can_be_had_the_first_by_default(shared_model, images):
    shared = shared_model.get_layer("shared")
    second, first = recorded(shared_model, images, Tap("shared", call=1), Tap("shared"))
    np.testing.assert_allclose(first, to_numpy(shared(images)), atol=1e-6)
    np.testing.assert_allclose(second, to_numpy(shared(shared(images))), atol=1e-6)


def test_calls_that_there_are_not_are_refused_with_those_there_are(shared_model, images):
    message = r"2 times. Expected one of \['shared:0', 'shared:1'\]. Received: layer='shared:2'"
    with pytest.raises(ValueError, match=message):
        recorded(shared_model, images, Tap("shared", call=2))


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
    with pytest.raises(ValueError, match="does not reach the layer 'unused'"):
        recorded(model, images, Tap("unused"))


def test_the_call_is_that_of_inference(images):
    model = sequential(layers.Dropout(0.5, name="dropout"), layers.Conv2D(1, 3))
    np.testing.assert_array_equal(recorded(model, images, Tap("dropout"))[0], images)


def test_a_layer_of_several_tensors_is_refused():
    class Twice(layers.Layer):
        def call(self, inputs):
            return inputs, inputs

    inputs = keras.Input((4, 4, 1))
    model = keras.Model(inputs, Twice(name="twice")(inputs)[0])
    outputs = r"returns a tuple. Expected one of its outputs \['twice\[0\]', 'twice\[1\]'\]. "
    with pytest.raises(ValueError, match=outputs):
        output_shapes(model, spec(4, 4, 1), [Tap("twice")])


def test_a_layer_that_returns_nothing_is_refused(images):
    class Nothing(layers.Layer):
        def call(self, inputs):
            return None

        def compute_output_spec(self, inputs):
            return None

    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.nothing = Nothing(name="nothing")

        def call(self, inputs):
            self.nothing(inputs)
            return inputs

    model = Around()
    model(images)
    with pytest.raises(ValueError, match="returns nothing. Expected a layer that returns tensors"):
        output_shapes(model, spec(*IMAGE_SHAPE), [Tap("nothing")])


def test_what_has_channels_first_is_returned_with_channels_last():
    model = channels_first_model()
    images = random_images(2, 3, 6, 5)
    first, last = recorded(model, images, Tap("relu", channels_first=True), Tap("last"))
    np.testing.assert_allclose(first, last, atol=1e-6)
    assert output_shapes(model, spec(3, 6, 5), [Tap("conv", channels_first=True)]) == [(4, 3, 4)]


@pytest.mark.skipif(not hasattr(keras, "RematScope"), reason="an older Keras has no such scope")
@pytest.mark.parametrize("mode", ["full", "activations", "larger_than", "list_of_layers"])
def test_what_training_would_compute_twice_is_recorded_all_the_same(mode, images):
    settings = {"output_size_threshold": 1, "layer_names": ["conv1", "inner"]}
    with keras.RematScope(mode=mode, **settings):
        conv = layers.Conv2D(2, 3, activation="relu", name="conv1")
        inner = keras.Sequential([conv, layers.Conv2D(2, 3, name="conv2")], name="inner")
        model = sequential(inner, layers.ReLU())
    taps = [Tap("inner/conv1", "pre_activation"), Tap("inner/conv2")]
    before, output = recorded(model, images, *taps)
    first = np.maximum(before, 0)
    np.testing.assert_allclose(to_numpy(conv(images)), first, atol=1e-5)
    np.testing.assert_allclose(to_numpy(inner(images)), output, atol=1e-5)

    def total(x):
        return keras.ops.sum(record(model, x, taps)[1])

    def plain(x):
        return keras.ops.sum(inner(x))

    np.testing.assert_allclose(gradient(total, images), gradient(plain, images), atol=1e-5)
    assert conv._remat_mode.mode == mode


@pytest.mark.skipif(not hasattr(keras, "RematScope"), reason="an older Keras has no such scope")
def test_what_training_would_compute_twice_is_computed_once_around_a_layer_too(images):
    """Torch cannot compute it twice without its weights, nor TensorFlow in a graph."""
    with keras.RematScope(mode="full"):
        block = keras.Sequential(
            [layers.Conv2D(2, 3, activation="tanh"), layers.Dropout(0.5), layers.Conv2D(2, 3)]
        )
    model = sequential(block, layers.Conv2D(2, 1, name="last"))
    result = optimize(Objective.channel(model, "last", 0), steps=2)
    first, _, second = block.layers
    maps = second(ops.tanh(ops.conv(tensor(result.images), first.kernel) + first.bias))
    expected = to_numpy(model.layers[1](maps))[..., 0].mean()
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-6)
    assert result.status == ["ok"]


class Inside(layers.Layer):
    """Calls its layer in a function of Keras' own, in the way it is told."""

    def __init__(self, way):
        super().__init__(name="outer")
        self.inner = layers.Dense(2, name="inner")
        self.way = way

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.way(self.inner, inputs)


# TensorFlow maps inside one graph, and torch keeps what it computes twice.
WAYS = {}


if keras.backend.backend() != "tensorflow":
    WAYS["mapped"] = ops.vectorized_map


if keras.backend.backend() != "torch" and hasattr(keras, "remat"):
    WAYS["computed twice"] = lambda layer, inputs: keras.remat(layer)(inputs)


@pytest.mark.parametrize("way", WAYS)
def test_a_layer_from_which_no_gradient_would_come_is_refused(way, images):
    model = sequential(Inside(WAYS[way]), layers.ReLU())
    with pytest.raises(ValueError, match="'outer/inner' is called inside a function"):
        recorded(model, images, Tap("outer/inner"))
    paths = [call.path for call in layer_calls(model, spec(*IMAGE_SHAPE))]
    assert "outer" in paths
    assert "outer/inner" not in paths
    output = to_numpy(model.layers[0].inner(images))
    np.testing.assert_allclose(recorded(model, images, Tap("outer"))[0], output, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="others write into nothing")
def test_what_a_later_layer_writes_over_is_recorded_as_it_was(images):
    class InPlace(layers.Layer):
        def call(self, inputs):
            return inputs.relu_()

    model = sequential(
        layers.Conv2D(2, 3, name="conv"), InPlace(name="relu"), layers.Conv2D(2, 1, name="last")
    )
    conv, last = model.layers[0](images), model.layers[2]
    before, after = recorded(model, images, Tap("conv"), Tap("last"))
    np.testing.assert_allclose(before, to_numpy(conv), atol=1e-6)
    np.testing.assert_allclose(after, to_numpy(last(ops.relu(conv))), atol=1e-6)
    assert (before < 0).any()


class Compiled(layers.Layer):
    """Calls its layer in a function that the framework traces on its own."""

    def __init__(self):
        super().__init__(name="compiled")
        self.conv = layers.Conv2D(2, 3, name="conv")

    def build(self, shape):
        self.conv.build(shape)

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            return tf.function(self.conv)(inputs)
        if keras.backend.backend() == "jax":
            import jax

            return jax.jit(lambda x: self.conv(x))(inputs)
        return self.conv(inputs)


def test_what_cannot_be_taken_out_of_a_function_is_refused_and_what_is_around_it_is_not(images):
    model = sequential(Compiled(), layers.ReLU())
    np.testing.assert_allclose(
        recorded(model, images, Tap("compiled"))[0],
        to_numpy(model.layers[0].conv(images)),
        atol=1e-6,
    )
    if keras.backend.backend() != "torch":  # which traces nothing
        with pytest.raises(ValueError, match="'compiled/conv' is called inside a function"):
            recorded(model, images, Tap("compiled/conv"))
        with pytest.raises(ValueError, match="'compiled/conv' is called inside a function"):
            output_shapes(model, spec(*IMAGE_SHAPE), [Tap("compiled/conv")])
        paths = [call.path for call in layer_calls(model, spec(*IMAGE_SHAPE))]
        assert "compiled/conv" not in paths
        assert "compiled" in paths


SIGNAL = (6, 3)


WRAPPED = {
    "each step in time": (
        layers.TimeDistributed(layers.Dense(2, name="inner"), name="outer"),
        Tap("outer/inner", call=2),
        lambda layer, x: layer.layer(x[:, 2]),
    ),
    "both ways": (
        layers.Bidirectional(layers.LSTM(2, name="inner"), name="outer"),
        Tap("outer/backward_inner"),
        lambda layer, x: layer.backward_layer(x),
    ),
    "of a bounded norm": (
        layers.SpectralNormalization(layers.Dense(2, name="inner"), name="outer"),
        Tap("outer/inner"),
        lambda layer, x: layer.layer(x),
    ),
    "after a mask": (
        keras.Sequential([layers.Masking(0.5), layers.LSTM(2, name="inner")], name="outer"),
        Tap("outer/inner"),
        lambda layer, x: layer(x),
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_a_layer_inside_another_is_recorded(case):
    outer, tap, expected = WRAPPED[case]
    signals = random_images(2, *SIGNAL)
    signals[:, 4:] = 0.5
    model = keras.Sequential([keras.Input(SIGNAL), outer])
    np.testing.assert_allclose(
        recorded(model, signals, tap)[0], to_numpy(expected(outer, tensor(signals))), atol=1e-6
    )


def lora():
    """A convolution and what was learnt beside it."""
    conv = layers.Conv2D(4, 3, name="target")
    model = sequential(conv, layers.ReLU())
    conv.enable_lora(2)
    return fill(model)


def with_lora(model, images):
    conv = model.get_layer("target")
    kernel = conv._kernel + ops.matmul(conv.lora_kernel_a, conv.lora_kernel_b)
    return ops.conv(images, kernel) + conv.bias


def batch_statistics():
    """A layer told to use the statistics of the batch, whatever the model does."""

    class Forced(keras.Model):
        def __init__(self):
            super().__init__()
            self.target = layers.BatchNormalization(name="target")

        def call(self, inputs):
            return self.target(inputs, training=True)

    model = Forced()
    model(random_images(2, *IMAGE_SHAPE))
    return model


def of_the_batch(model, images):
    mean, variance = ops.moments(images, (0, 1, 2))
    return (images - mean) / ops.sqrt(variance + model.target.epsilon)


class OwnArgument(keras.Model):
    """Calls by a name of its own what Keras calls `training`."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3)
        self.target = layers.Dropout(0.5, name="target")

    def call(self, inputs, is_training=False):
        return self.target(self.conv(inputs), training=is_training)


def own_argument():
    model = OwnArgument()
    model(random_images(2, *IMAGE_SHAPE))
    return model


def with_operations():
    """Plain operations and a lambda, between layers."""
    inputs = keras.Input(IMAGE_SHAPE)
    maps = ops.tanh(layers.Conv2D(2, 3, name="conv")(inputs)) * 2 + 1
    return keras.Model(inputs, layers.Lambda(lambda t: 3 * t, name="target")(maps))


def of_several_types():
    """Each layer in numbers of its own kind."""
    return sequential(
        layers.Conv2D(4, 3, dtype="mixed_bfloat16"),
        layers.Conv2D(3, 1, dtype="float32", name="target"),
        layers.ReLU(dtype="float16"),
    )


def set_on_the_instance():
    """A layer whose call was replaced by its user."""
    conv = layers.Conv2D(2, 3, name="target")
    model = sequential(conv)
    own = conv.call
    conv.call = lambda inputs: 5 * own(inputs)
    return model


UNUSUAL = {
    "LoRA": (lora, with_lora),
    "statistics of the batch": (batch_statistics, of_the_batch),
    "a training argument of another name": (own_argument, lambda m, x: m.conv(x)),
    "operations between layers": (
        with_operations,
        lambda m, x: 3 * (ops.tanh(m.get_layer("conv")(x)) * 2 + 1),
    ),
    "layers of several types": (
        of_several_types,
        lambda m, x: m.layers[1](ops.cast(m.layers[0](x), "float32")),
    ),
    "a call set on the instance": (
        set_on_the_instance,
        lambda m, x: 5 * (ops.conv(x, m.layers[0].kernel) + m.layers[0].bias),
    ),
    "a norm bounded as a whole": (
        lambda: sequential(layers.SpectralNormalization(layers.Conv2D(2, 3), name="target")),
        lambda m, x: m.layers[0](x, training=False),
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_what_an_unusual_layer_computes_is_what_is_optimised(case):
    build, expected = UNUSUAL[case]
    model = build()
    variables = [to_numpy(variable).copy() for variable in model.variables]
    result = optimize(Objective.channel(model, "target", 0), steps=2)
    for variable, value in zip(model.variables, variables, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)
    output = to_numpy(expected(model, tensor(result.images))).astype("float64")
    # Numbers of 16 bits are rounded elsewhere in a compiled step.
    np.testing.assert_allclose(result.scores, output[..., 0].mean((1, 2)), rtol=5e-3, atol=1e-4)


def in_jax():
    """A function of JAX's."""
    import jax

    def dense(params, inputs):
        return inputs @ params["kernel"]

    def start(rng, inputs):
        return {"kernel": jax.random.normal(rng, (1, 4))}

    return layers.JaxLayer(dense, init_fn=start, name="target")


def in_torch():
    """Modules of torch's."""
    import torch

    modules = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Tanh(), torch.nn.Dropout(0.5))
    return layers.TorchModuleWrapper(modules, name="target", output_shape=(12, 10, 4))


def in_tensorflow():
    """A function that TensorFlow saved."""
    with tempfile.TemporaryDirectory() as folder:
        sequential(layers.Dense(4, activation="tanh")).export(folder, verbose=False)
        return layers.TFSMLayer(folder, call_endpoint="serve", name="target")


FROM_OUTSIDE = {"jax": in_jax, "torch": in_torch, "tensorflow": in_tensorflow}


def test_what_the_framework_computes_inside_a_layer_is_recorded():
    layer = FROM_OUTSIDE[keras.backend.backend()]()
    model = keras.Sequential([keras.Input(IMAGE_SHAPE), layer])
    result = optimize(Objective.channel(model, "target", 0), steps=2)
    output = to_numpy(layer(tensor(result.images), training=False))
    assert result.status == ["ok"]
    np.testing.assert_allclose(result.scores, output[..., 0].mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_a_layer_called_by_keyword_is_recorded(images):
    class Keyword(layers.Layer):
        def __init__(self):
            super().__init__(name="outer")
            self.relu = layers.ReLU(name="relu")

        def call(self, inputs):
            return self.relu(inputs=inputs - 0.5)

    model = sequential(Keyword())
    before, after = recorded(model, images, Tap("outer/relu", "input"), Tap("outer/relu"))
    np.testing.assert_allclose(before, images - 0.5, atol=1e-6)
    np.testing.assert_allclose(after, np.maximum(images - 0.5, 0), atol=1e-6)


def test_a_layer_that_calls_itself_in_a_way_of_its_own_is_refused(images):
    class Own(layers.Layer):
        def __call__(self, inputs):
            return inputs * 2

    class Around(keras.Model):
        def __init__(self):
            super().__init__()
            self.own = Own(name="own")

        def call(self, inputs):
            return self.own(inputs)

    model = Around()
    model(images)
    with pytest.raises(ValueError, match="does not reach the layer 'own'"):
        recorded(model, images, Tap("own"))


def test_an_activation_that_a_layer_leaves_to_its_cell_is_refused():
    model = keras.Sequential([keras.Input(SIGNAL), layers.LSTM(2, name="lstm")])
    with pytest.raises(ValueError, match="does not apply the activation of the layer 'lstm'"):
        recorded(model, random_images(2, *SIGNAL), Tap("lstm", "pre_activation"))


def test_recording_adds_no_loss(images):
    model = sequential(layers.Conv2D(2, 3, name="conv", activity_regularizer="l2"), layers.ReLU())
    with keras.StatelessScope():
        recorded(model, images, Tap("conv"))
    output_shapes(model, spec(*IMAGE_SHAPE), [Tap("conv")])
    assert model.losses == []


@pytest.mark.acceptance
@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_what_a_quantised_layer_computes_is_recorded(mode):
    if mode not in QUANTIZATION_MODES:
        pytest.skip("an older Keras does not know this mode")
    model = sequential(layers.Flatten(), layers.Dense(4, name="dense"), layers.ReLU())
    model.quantize(mode)
    images = random_images(2, *IMAGE_SHAPE)
    expected = to_numpy(model.layers[1](model.layers[0](images)))
    np.testing.assert_allclose(recorded(model, images, Tap("dense"))[0], expected, atol=1e-5)
