"""Tests of which models work: each is trained with the callback, and visualised.

The site has the same table as text.
"""

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.optimization import run
from tests.conftest import prepare, random_images, read_events, to_numpy

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "torch"}
PAGE = Path(__file__).parents[1] / "docs" / "compatibility.md"
SHAPE = (8, 7, 1)


def sliced(model, arguments, layer="conv"):
    """Return the layer's output, by Keras' own slicing of the graph."""
    inner = keras.Model(model.inputs, model.get_layer(layer).output)
    return inner(keras.tree.flatten(arguments), training=False)


@dataclass(frozen=True)
class Case:
    """One kind of model.

    Attributes:
        name: The name in the table of the site.
        build: Function that builds the model.
        layer: The layer whose first channel is visualised.
        reach: Function `(model, arguments of the model) -> tensor` that returns the
            layer's output with channels last, by other means than the package's.
        shape: Shape of one image as the model takes it.
        image: Shape of one image in the result; by default that of the model.
        fixed: Values of the fixed inputs.
        arguments: Function `images -> arguments of the model`.
        settings: Arguments of `optimize` and of the callback.
        channel: Arguments of the objective.
        tolerance: Relative tolerance of scores.
    """

    name: str
    build: Callable
    layer: str = "conv"
    reach: Callable = sliced
    shape: tuple = SHAPE
    image: tuple | None = None
    fixed: dict | None = None
    arguments: Callable = lambda images: images
    settings: dict = field(default_factory=dict)
    channel: dict = field(default_factory=dict)
    tolerance: float = 1e-3


def stack(*inner, shape=SHAPE, **settings):
    return keras.Sequential([keras.Input(shape), *inner], **settings)


def conv(*arguments, name="conv", **settings):
    return layers.Conv2D(*(arguments or (3, 3)), name=name, **settings)


def head(units=4):
    return layers.Flatten(), layers.Dense(units, name="logits")


def small(shape=SHAPE, **settings):
    return stack(conv(activation="tanh"), *head(), shape=shape, **settings)


# --- how models are built -------------------------------------------------------------


def unbuilt():
    return keras.Sequential([conv(), *head()])


def branches():
    inputs = keras.Input(SHAPE)
    both = conv(3, 3, padding="same")(inputs) + layers.Conv2D(3, 1)(inputs)
    flat, logits = head()
    return keras.Model(inputs, logits(flat(ops.tanh(both))))


@keras.saving.register_keras_serializable("featviz_callback_tests")
class Subclassed(keras.Model):
    """Layers in a list and in a dict."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.convolutions = [conv(3, 3, name="first"), conv()]
        self.rest = dict(zip(("flat", "logits"), head(), strict=True))

    def call(self, inputs):
        maps = self.convolutions[1](ops.tanh(self.convolutions[0](inputs)))
        return self.rest["logits"](self.rest["flat"](maps))


def subclassed():
    model = Subclassed()
    model(np.zeros((1, *SHAPE), "float32"))
    return model


def in_subclassed(model, images):
    first, second = model.convolutions
    return second(ops.tanh(first(images)))


def nested(frozen=False):
    block = stack(conv(), name="block", shape=(8, 7, 2))
    inputs = keras.Input(SHAPE)
    backbone = keras.Model(inputs, block(conv(2, 1, name="stem")(inputs)), name="backbone")
    backbone.trainable = not frozen
    return stack(backbone, layers.ReLU(), *head())


def in_nested(model, images):
    return model.get_layer("backbone")(images)


def shared():
    inputs = keras.Input(SHAPE)
    twice = conv(1, 3, padding="same", activation="tanh")
    flat, logits = head()
    return keras.Model(inputs, logits(flat(twice(twice(inputs)))))


def second_call(model, images):
    return model.get_layer("conv")(model.get_layer("conv")(images))


def two_inputs(as_dict=False):
    image, more = keras.Input(SHAPE, name="image"), keras.Input((3,), name="more")
    scaled = layers.Multiply(name="scaled")([conv()(image), layers.Reshape((1, 1, 3))(more)])
    flat, logits = head()
    inputs = {"image": image, "more": more} if as_dict else [image, more]
    return keras.Model(inputs, logits(flat(scaled)))


class Named(keras.Model):
    """Two inputs by name, without a graph that names them."""

    def __init__(self):
        super().__init__()
        self.conv, self.scaled = conv(), layers.Multiply(name="scaled")
        self.flat, self.logits = head()

    def call(self, inputs):
        more = ops.reshape(inputs["more"], (-1, 1, 1, 3))
        return self.logits(self.flat(self.scaled([self.conv(inputs["image"]), more])))


def named():
    model = Named()
    model(as_dict(np.zeros((1, *SHAPE), "float32")))
    return model


def in_named(model, inputs):
    return model.conv(inputs["image"]) * ops.reshape(inputs["more"], (-1, 1, 1, 3))


FIXED = {"more": np.array([1.0, -2.0, 3.0])}


def as_list(images):
    return [images, np.tile(FIXED["more"].astype("float32"), (len(images), 1))]


def as_dict(images):
    return dict(zip(("image", "more"), as_list(images), strict=True))


def several_outputs():
    inputs = keras.Input(SHAPE)
    flat = layers.Flatten()(conv()(inputs))
    return keras.Model(inputs, {name: layers.Dense(2, name=name)(flat) for name in "ab"})


# --- layers that differ in training, softmax and dead units -----------------------------


def augmenting():
    return stack(
        layers.Rescaling(2.0, offset=-1.0),
        layers.Normalization(mean=[0.1], variance=[0.5]),
        layers.RandomFlip(),
        layers.GaussianNoise(0.5),
        conv(name="inner"),
        layers.BatchNormalization(),
        layers.Dropout(0.5, name="conv"),
        *head(),
    )


def softmax(*last):
    return stack(conv(name="maps"), layers.GlobalMaxPooling2D(), *last)


def logits_of(model, images):
    logits = model.layers[2]
    return ops.matmul(sliced(model, images, model.layers[1].name), logits.kernel) + logits.bias


def dead():
    model = stack(conv(3, 3, activation="relu"), *head())
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel, bias - 100])
    return model


def before_relu(model, images):
    layer = model.get_layer("conv")
    return ops.conv(ops.convert_to_tensor(images), layer.kernel) + layer.bias


# --- shapes of inputs -------------------------------------------------------------------


def any_size():
    return stack(conv(), layers.GlobalAveragePooling2D(), layers.Dense(4), shape=(None, None, 3))


def channels_first(kind="2D", shape=(3, 8, 7)):
    keras.config.set_image_data_format("channels_first")
    try:
        return stack(
            getattr(layers, "Conv" + kind)(5, 3),
            layers.BatchNormalization(axis=1),
            layers.Activation("tanh", name="conv"),
            getattr(layers, "MaxPooling" + kind)(2),
            getattr(layers, "GlobalAveragePooling" + kind)(),
            layers.Dense(4),
            shape=shape,
        )
    finally:
        keras.config.set_image_data_format("channels_last")


def channels_last(model, images):
    """Return the output with channels last, since TensorFlow's eager bias is wrong otherwise."""
    convolution, norm = model.layers[:2]
    images = ops.convert_to_tensor(np.moveaxis(images, 1, -1))
    maps = ops.conv(images, convolution.kernel, data_format="channels_last") + convolution.bias
    scale = norm.gamma / ops.sqrt(norm.moving_variance + norm.epsilon)
    return ops.tanh((maps - norm.moving_mean) * scale + norm.beta)


def signals():
    return stack(
        layers.Conv1D(3, 5, activation="tanh", name="conv"),
        layers.MaxPooling1D(2),
        *head(),
        shape=(20, 3),
    )


def recurrent():
    return stack(
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(4, name="conv"),
        layers.Dense(4),
        shape=(9, 2),
    )


def transformer():
    inputs = keras.Input((8, 8, 3))
    patches = conv(6, 4, strides=4, name="patches")(inputs)
    tokens = layers.Reshape((4, 6))(patches)
    normed = layers.LayerNormalization()(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 3)(normed, normed)])
    tokens = layers.Add(name="conv")([tokens, layers.Dense(6, activation="gelu")(tokens)])
    pooled = layers.GlobalAveragePooling1D()(tokens)
    return keras.Model(inputs, layers.Dense(4)(pooled))


# --- dtypes, saving and loading -------------------------------------------------------


def typed(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return small()
    finally:
        keras.config.set_dtype_policy(before)


def quantized():
    model = stack(conv(name="first"), layers.Flatten(), layers.Dense(4, name="conv"))
    model.quantize("int8")
    return model


def loaded(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        return keras.models.load_model(Path(folder) / "model.keras")


CASES = [
    Case("`Sequential`", small),
    Case("`Sequential` that `fit` builds", unbuilt),
    Case("Functional, with branches", branches),
    Case("Subclassed, layers in lists and dicts", subclassed, reach=in_subclassed),
    Case("Nested, two levels deep, by path", nested, "backbone/block/conv", in_nested),
    Case("Frozen backbone", lambda: nested(frozen=True), "backbone/block/conv", in_nested),
    Case("Layer called twice, the second call", shared, "conv:1", second_call),
    Case(
        "Several inputs, as a list",
        *(two_inputs, "scaled", lambda m, x: sliced(m, x, "scaled")),
        fixed=FIXED,
        arguments=as_list,
    ),
    Case(
        "Several inputs, as a dict",
        *(lambda: two_inputs(as_dict=True), "scaled", lambda m, x: sliced(m, x, "scaled")),
        fixed=FIXED,
        arguments=as_dict,
    ),
    Case(
        "Several inputs of a subclassed model",
        *(named, "scaled", in_named),
        fixed=FIXED,
        arguments=as_dict,
    ),
    Case("Several outputs", several_outputs),
    Case("Layers that scale, augment or drop out", augmenting),
    Case(
        "Softmax as activation: the logit",
        lambda: softmax(layers.Dense(4, activation="softmax", name="conv")),
        reach=logits_of,
    ),
    Case(
        "Softmax as layer: the logit",
        lambda: softmax(layers.Dense(4), layers.Softmax(name="conv")),
        reach=logits_of,
    ),
    Case(
        "Dead ReLU, with `pre_activation=True`",
        dead,
        reach=before_relu,
        channel={"pre_activation": True},
    ),
    *(
        Case(name, lambda shape=shape: small(shape), shape=shape)
        for name, shape in {
            "Colour": (8, 7, 3),
            "Two channels": (8, 7, 2),
            "RGBA": (8, 7, 4),
            "13 channels": (8, 7, 13),
            "Odd sizes, not square": (11, 5, 3),
        }.items()
    ),
    Case(
        "Images of any size",
        any_size,
        shape=(9, 6, 3),
        settings={"image_shape": (9, 6)},
    ),
    Case("`channels_first`", channels_first, "conv", channels_last, (3, 8, 7), (8, 7, 3)),
    Case(
        "Grey images without an axis of channels, given `image_shape`",
        lambda: stack(layers.Reshape((8, 7, 1)), conv(), *head(), shape=(8, 7)),
        shape=(8, 7),
        image=(8, 7, 1),
        settings={"image_shape": (8, 7, 1)},
    ),
    Case("Signals `(time, channels)`", signals, shape=(20, 3)),
    Case(
        "Signals `(channels, time)`",
        *(lambda: channels_first("1D", (2, 20)), "conv", channels_last, (2, 20), (20, 2)),
    ),
    Case("Recurrent, on signals", recurrent, shape=(9, 2)),
    Case("Transformer `(tokens, features)`", transformer, shape=(8, 8, 3)),
    Case("`mixed_float16`", lambda: typed("mixed_float16"), tolerance=1e-2),
    Case("`mixed_bfloat16`", lambda: typed("mixed_bfloat16"), tolerance=1e-1),
    Case("`float64`", lambda: typed("float64")),
    Case('Quantised, `model.quantize("int8")`', quantized),
    Case("Saved and loaded", lambda: loaded(small())),
    Case("Subclassed, saved and loaded", lambda: loaded(subclassed()), reach=in_subclassed),
    Case("Rebuilt from its config", lambda: keras.Sequential.from_config(small().get_config())),
]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    keras.utils.set_random_seed(0)
    return request.param


def objective_of(case, model):
    return Objective.channel(model, case.layer, 0, **case.channel)


def score_of(case, model, images):
    """Return the mean over space of the first channel."""
    if case.image and len(case.image) > len(case.shape):
        images = images[..., 0]
    elif case.image:
        images = np.moveaxis(images, -1, 1)
    output = to_numpy(case.reach(model, case.arguments(images)))
    return output.astype("float64").reshape(len(images), -1, output.shape[-1]).mean(1)[:, 0]


@pytest.mark.acceptance
def test_a_model_is_trained_and_visualised(case, tmp_path):
    model = case.build()
    model.compile("sgd", "mse")
    settings = {"steps": 2, "fixed_inputs": case.fixed, **case.settings}
    callback = FeatureVisCallback(
        lambda model: objective_of(case, model), log_dir=tmp_path, on_error="raise", **settings
    )
    arguments = case.arguments(random_images(4, *case.shape))
    targets = targets_of(case)
    model.fit(arguments, targets, batch_size=2, verbose=0, callbacks=[callback])
    assert callback.history.epochs.tolist()[-1] == 0

    before = [to_numpy(v).copy() for v in model.variables]
    result = optimize(objective_of(case, model), **settings)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)

    assert result.images.shape == (1, *(case.image or case.shape))
    assert result.status == ["ok"]
    # A snapshot keeps the start that the untrained network chose.
    starts = callback.history.starts[-1].tolist()
    kept, _ = run(prepare(objective_of(case, model), **settings), starts=starts)
    np.testing.assert_array_equal(kept.images, callback.history.images[-1])
    np.testing.assert_allclose(
        result.scores,
        score_of(case, model, result.images),
        rtol=case.tolerance,
        atol=case.tolerance / 10,
    )
    [*_, (_, picture)] = read_events(tmp_path / "feature_vis")[0][f"feature_vis/{result.names[0]}"]
    assert picture.ndim in (2, 3)
    # A plain colour may be the best, but not the grey of an optimisation that found nothing.
    assert picture.std() > 0 or abs(picture.mean() - 127.5) > 100


def targets_of(case):
    if case.build is several_outputs:
        return {name: np.zeros((4, 2)) for name in "ab"}
    return np.zeros((4, 4))


def test_a_channel_without_gradient_has_that_status():
    result = optimize(Objective.channel(dead(), "conv", [0, 1]), steps=2)
    assert result.status == ["no_gradient"] * 2
    assert result.scores.tolist() == [0, 0]


@pytest.mark.parametrize("image_shape", [None, (30,), (30, 3)])
def test_a_signal_may_be_of_another_length(image_shape):
    model = stack(layers.Conv1D(2, 5, name="conv"), shape=(None, 3))
    objective = Objective.channel(model, "conv", [0, 1])
    if image_shape is None:
        with pytest.raises(ValueError, match=r"\(time\) or \(time, channels\)"):
            optimize(objective, steps=1)
    else:
        assert optimize(objective, steps=1, image_shape=image_shape).images.shape == (2, 30, 3)


def test_a_signal_matches_its_filter():
    filters = np.zeros((8, 2, 1), "float32")
    filters[:, 0, 0] = np.sin(np.arange(8) * np.pi / 4)
    filters[:, 1, 0] = -filters[:, 0, 0]
    model = stack(layers.Conv1D(1, 8, use_bias=False, name="conv"), shape=(64, 2))
    model.set_weights([filters])
    objective = Objective.layer(model, "conv")
    result = optimize(objective, steps=256, values_range=(-1.0, 1.0))
    wave = np.sin(np.arange(64) * np.pi / 4)
    assert result.scores > 0.8 * objective.score(np.stack([wave, -wave], 1)[None])
    assert np.corrcoef(result.images[0].T)[0, 1] < -0.9


@pytest.fixture
def with_words():
    """A model of an image and a word, whose code is the word's place in a vocabulary."""
    image = keras.Input(SHAPE, name="image")
    word = keras.Input((1,), dtype="string", name="word")
    codes = layers.StringLookup(vocabulary=["cat", "dog", "bird"], name="lookup")(word)
    signs = layers.Embedding(4, 3, embeddings_initializer="ones", name="signs")
    signs = layers.Flatten()(signs(codes))
    maps = layers.Conv2D(3, 3, activation="tanh", bias_initializer="ones", name="conv")(image)
    logits = layers.Multiply(name="logits")([layers.GlobalAveragePooling2D()(maps), signs])
    model = keras.Model({"image": image, "word": word}, logits)
    model.get_layer("signs").set_weights([np.array([[1.0] * 3, [2, 3, 4], [5, 6, 7], [8, 9, 10]])])
    model.compile("sgd", "mse")
    return model


needs_strings = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tensors of strings are TensorFlow's"
)


def with_word(images, word):
    return {"image": images, "word": ops.convert_to_tensor([[word]] * len(images))}


@needs_strings
@pytest.mark.parametrize("word", ["bird", None])
def test_a_word_beside_the_image_is_fixed(word, with_words, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    units = Objective.neuron(with_words, "logits", range(3))
    fixed = None if word is None else {"word": word}
    images, scores = (
        getattr(optimize(units, steps=2, fixed_inputs=fixed, values_range=(0, 1)), name)
        for name in ("images", "scores")
    )
    # A word that nobody gave is empty, and in no vocabulary.
    expected = np.diag(with_words.predict(with_word(images, word or ""), verbose=0))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert caplog.text.count("'word' at an empty string") == (word is None)


@needs_strings
def test_training_beside_words_takes_the_first_word_of_the_real_examples(
    with_words, tmp_path, caplog
):
    caplog.set_level("WARNING", logger="featviz_callback")
    import tensorflow as tf

    images = random_images(6, *SHAPE)
    words = np.array([["dog"], ["cat"]] * 3)
    given = {"image": images, "word": words}
    data = tf.data.Dataset.from_tensor_slices((given, np.zeros((6, 3)))).batch(3)
    callback = FeatureVisCallback(log_dir=tmp_path, steps=2, probe_data=data, on_error="raise")
    with_words.fit(data, epochs=1, verbose=0, callbacks=[callback])
    history = callback.history
    assert history.epochs.tolist() == [-1, 0]
    assert history.names[-3:] == [f"Neuron#logits_{i}" for i in range(3)]
    assert caplog.text.count("'word' at its first example in `probe_data`") == 1
    own = with_words.predict(with_word(history.images[-1, -3:], "dog"), verbose=0)
    np.testing.assert_allclose(history.scores[-1, -3:], np.diag(own), rtol=1e-4)
    best = with_words.predict(with_word(images, "dog"), verbose=0).max(0)
    ratios = history.score_ratio[-1, -3:]
    np.testing.assert_allclose(history.scores[-1, -3:] / ratios, best, rtol=1e-3)


def test_a_model_of_a_fixed_batch_gets_one_of_that_size():
    model = keras.Sequential(
        [keras.Input(batch_shape=(2, 9, 3)), layers.LSTM(4, stateful=True, name="conv")]
    )
    result = optimize(Objective.channel(model, "conv", [0, 1, 2]), steps=2)
    assert result.status == ["ok"] * 3
    assert not any(to_numpy(state).any() for state in model.layers[0].states)


# --- whole networks -------------------------------------------------------------------

APPLICATIONS = {
    "MobileNetV2": 32,
    "ResNet50V2": 32,
    "EfficientNetV2B0": 32,
    "InceptionV3": 75,
    "DenseNet121": 32,
}


# Each of these takes a minute or more, so TensorFlow alone sees them.
ON_TENSORFLOW = [name for name in APPLICATIONS if name != "MobileNetV2"]
IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
HERE = [name for name in APPLICATIONS if IS_TENSORFLOW or name not in ON_TENSORFLOW]


@pytest.mark.acceptance
@pytest.mark.parametrize("name", HERE)
def test_a_whole_network_is_trained_and_visualised(name, tmp_path):
    keras.utils.set_random_seed(0)
    shape = (APPLICATIONS[name], APPLICATIONS[name], 3)
    model = getattr(keras.applications, name)(weights=None, input_shape=shape, classes=4)
    convolutions = [one.name for one in model.layers if isinstance(one, layers.Conv2D)]
    middle = convolutions[len(convolutions) // 2]
    objective = Objective.channel(model, middle, [0, 1]) + Objective.neuron(model, -1, 0)
    # Training the whole network would take long, and is not tested here.
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.compile("sgd", "mse")
    callback = FeatureVisCallback(objective, log_dir=tmp_path, steps=5, on_error="raise")
    x = random_images(2, *shape)
    model.fit(x, np.zeros((2, 4)), verbose=0, callbacks=[callback])
    assert callback.history.status.tolist() == [["ok", "ok"]] * 2

    images = callback.history.images[-1]
    head = model.layers[-1]
    inner = keras.Model(model.inputs, [model.get_layer(middle).output, head.input])
    maps, features = map(to_numpy, inner(images, training=False))
    logits = features @ to_numpy(head.kernel) + to_numpy(head.bias)
    expected = maps.mean((1, 2))[:, :2].diagonal() + logits[:, 0]
    np.testing.assert_allclose(callback.history.scores[-1], expected, rtol=1e-2, atol=1e-3)


# --- models that are not supported ----------------------------------------------------


def whole_numbers():
    return keras.Sequential(
        [keras.Input((8, 7, 1), dtype="uint8"), layers.Rescaling(1 / 255), conv(), *head()]
    )


REFUSED = {
    "Inputs of whole numbers": (
        *(whole_numbers, "through which there is no gradient"),
        "no gradient passes; a model inside, behind the cast, is watched",
    ),
    "Volumes": (
        *(lambda: stack(layers.Conv3D(2, 3, name="conv"), shape=(5, 5, 5, 1)), "Expected a model"),
        "a picture of a volume is not defined",
    ),
    "Vectors": (
        *(lambda: stack(layers.Dense(2, name="conv"), shape=(5,)), "Expected a model"),
        "a vector is no image",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unsupported_model_is_refused(name):
    build, message, _ = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        optimize(Objective.channel(build(), "conv", 0), steps=1)


# --- the matrix -------------------------------------------------------------------------


def table():
    """Return the site's matrix."""
    rows = [["model", *BACKENDS.values()], ["---"] * 4]
    rows += [[case.name, *["works"] * 3] for case in CASES]
    for name in APPLICATIONS:
        elsewhere = "not tested" if name in ON_TENSORFLOW else "works"
        rows.append([f"`keras.applications.{name}`", "works", elsewhere, elsewhere])
    rows += [[name, *[f"not supported: {reason}"] * 3] for name, (*_, reason) in REFUSED.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_the_readme_has_this_table():
    block = re.search("<!-- models -->\n(.*?)<!-- /models -->", PAGE.read_text(), re.DOTALL)
    assert block.group(1) == table()
