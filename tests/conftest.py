"""Helpers for all tests: small real models, and TensorBoard's own reader."""

import gc
import io
import logging
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Convolutions with channels first need oneDNN on a CPU. TensorFlow turns it on by itself on
# newer processors only.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.backend.common import global_state
from PIL import Image

from featviz_callback import Objective, optimization

logging.getLogger("featviz_callback").setLevel(logging.ERROR)

# Tracing makes many objects that stay, and to look through them took a tenth of the time.
gc.set_threshold(100_000, 10, 10)

if keras.backend.backend() == "jax":
    import jax

    # Many tests compile the same small steps, which takes most of their time.
    if not jax.config.jax_compilation_cache_dir:
        _compiled = tempfile.TemporaryDirectory(prefix="compiled-")
        jax.config.update("jax_compilation_cache_dir", _compiled.name)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

if os.environ.get("FEATVIZ_PLAIN_GRAPHS") and keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # In trainings of moments, optimising graphs takes a fifth of the time. Once this was set, a
    # process never computes to the bit what others do.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

if keras.backend.backend() == "torch":
    import torch

    _as_array = torch.Tensor.__array__

    def _on_host_only(self, *arguments, **others):
        """Refuse, in the package, what works on a CPU only: NumPy cannot read a GPU's tensors."""
        if sys._getframe(1).f_globals.get("__name__", "").startswith("featviz_callback."):
            raise TypeError("can't convert a tensor of a device to numpy")
        return _as_array(self, *arguments, **others)

    torch.Tensor.__array__ = _on_host_only

IMAGE_SHAPE = (12, 10, 1)


def python(code, backend, *arguments):
    """Run code in a fresh interpreter with that backend of Keras; return the printed lines."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def set_random_seed(seed):
    """Seed every generator, and the global one that Keras 3.8 would leave as it was."""
    global_state.set_global_attribute("global_seed_generator", None)
    keras.utils.set_random_seed(seed)


def fill(model, seed=0):
    """Give a model the same weights on every backend: unit gain, small biases."""
    rng = np.random.default_rng(seed)
    weights = []
    for old in model.get_weights():
        deviation = np.prod(old.shape[:-1]) ** -0.5 if old.ndim > 1 else 0.1
        weights.append(rng.normal(0, deviation, old.shape))
    model.set_weights(weights)
    return model


def sequential(*inner, shape=IMAGE_SHAPE, seed=0):
    """Return a `Sequential` for images of that shape, with weights by `fill`."""
    return fill(keras.Sequential([keras.Input(shape), *inner]), seed)


def make_small_model(seed=0):
    """Return a model of grey 12x10 images: two convolutions, ten logits, smooth activations."""
    return sequential(
        layers.Conv2D(4, 3, activation="tanh", name="conv1"),
        layers.Conv2D(6, 3, activation="tanh", name="conv2"),
        layers.Flatten(name="flatten"),
        layers.Dense(10, name="logits"),
        seed=seed,
    )


@pytest.fixture
def small_model():
    """A small model, made anew for each test."""
    return make_small_model()


@pytest.fixture
def neurons(small_model):
    """Four of the small model's logits."""
    return Objective.neuron(small_model, "logits", range(4))


@pytest.fixture
def images():
    """Three images for the small model."""
    return random_images(3, *IMAGE_SHAPE)


def random_images(*shape, seed=0):
    """Return uniform float32 values in [0, 1)."""
    return np.random.default_rng(seed).random(shape, "float32")


PIXELS = random_images(16, 12, 10, 1)
LABELS = np.arange(16) % 10


def compiled(model=None, rate=0.1):
    """Return the small model, or another one, ready to be trained."""
    model = model or make_small_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def train(model, *callbacks, epochs=2, **settings):
    """Train for a short time, on sixteen images."""
    settings = {"batch_size": 8, "verbose": 0, **settings}
    return model.fit(PIXELS, LABELS, epochs=epochs, callbacks=list(callbacks), **settings)


def prepare(objective, **settings):
    """Return a task of two steps in the range (0, 1), unless settings say otherwise."""
    chosen = {"steps": 2, "values_range": (0.0, 1.0), **settings}
    return optimization.prepare(objective, optimization.Settings(**chosen))


def ascend(objective, start=None, **settings):
    """Run an optimisation; return the result and the final parameters."""
    return optimization.run(prepare(objective, **settings), params=start, with_params=True)


def mixed(model):
    """Five objectives. The first and the fourth are read in the same way."""
    return [
        Objective.neuron(model, "logits", [3, 1]),
        Objective.channel(model, "conv1", 2),
        Objective.neuron(model, "logits", 0, multiplier=2.0),
        Objective.neuron(model, "logits", 9),
        Objective.neuron(model, "logits", 0) - Objective.channel(model, "conv1", 0),
    ]


def layer_output(model, layer, images):
    """Return a layer's output by Keras' own functional slicing, as float64."""
    inner = keras.Model(model.inputs[0], model.get_layer(layer).output)
    return to_numpy(inner(images)).astype("float64")


def to_numpy(tensor):
    """Return a tensor of any backend as an array."""
    return keras.ops.convert_to_numpy(tensor)


def tensor(array):
    """Return an array as a float32 tensor of the backend."""
    array = to_numpy(array) if keras.ops.is_tensor(array) else array
    return keras.ops.convert_to_tensor(np.asarray(array, "float32"))


def gradient(function, array):
    """Return the gradient of a scalar function of one tensor, by the backend's own means."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            inputs = tensor(array)
            tape.watch(inputs)
            value = function(inputs)
        return tape.gradient(value, inputs).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(tensor(array)))
    import torch

    inputs = tensor(array).detach().requires_grad_(True)
    (result,) = torch.autograd.grad(function(inputs), inputs)
    return to_numpy(result)


def accumulator(folder):
    """Return TensorBoard's reader of all events under a folder, which drops none."""
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    reader.Reload()
    return reader


def read_events(folder):
    """Return every image and scalar under a folder, as TensorBoard reads them.

    Returns:
        `(images, scalars)`: tag to `[(step, array)]` and tag to `[(step, value)]`.
    """
    from tensorboard.util.tensor_util import make_ndarray

    reader = accumulator(folder)
    images, scalars = {}, {}
    for tag in reader.Tags()["tensors"]:
        plugin = reader.SummaryMetadata(tag).plugin_data.plugin_name
        for event in reader.Tensors(tag):
            value = make_ndarray(event.tensor_proto)
            if plugin == "images":
                width, height, *pngs = value.tolist()
                decoded = [np.asarray(Image.open(io.BytesIO(png))) for png in pngs]
                assert all(d.shape[:2] == (int(height), int(width)) for d in decoded)
                images.setdefault(tag, []).append((event.step, decoded[0]))
            elif plugin == "scalars":
                scalars.setdefault(tag, []).append((event.step, float(value)))
    return images, scalars
