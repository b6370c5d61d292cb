"""From arguments and a model to an observer: objectives, refusals, and real images."""

import contextlib

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, Objective, default_objectives, parameterizations
from featviz_callback.objectives import score_all
from featviz_callback.optimization import Settings, run
from featviz_callback.optimization.probe_data import ProbeImages
from featviz_callback.optimization.surroundings import complete_inside
from tests.conftest import (
    PIXELS,
    compiled,
    fill,
    layer_output,
    make_small_model,
    prepare,
    random_images,
    sequential,
    to_numpy,
    train,
)
from tests.monitoring.conftest import neurons

LOGITS = [f"Neuron#logits_{i}" for i in range(10)]
CONV1 = [f"Channel#conv1_{i}" for i in range(4)]
CONV2 = [f"Channel#conv2_{i}" for i in range(6)]

# --- objectives -------------------------------------------------------------------------


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("objectives", "names"),
    [
        (lambda m: neurons(m), LOGITS[:3]),
        (lambda m: [neurons(m), Objective.layer(m, "conv1")], [*LOGITS[:3], "Layer#conv1"]),
        (lambda m: lambda model: neurons(model), LOGITS[:3]),
        (lambda m: lambda model: (neurons(model),), LOGITS[:3]),
        (lambda m: None, [*CONV1, *[CONV2[i] for i in (0, 2, 3, 5)], *LOGITS]),
    ],
    ids=["one", "list", "function", "function of a list", "none"],
)
def test_objectives_are_given_made_or_chosen(objectives, names, model, watch):
    callback = watch(objectives(model))
    train(model, callback, epochs=1)
    assert callback.history.names == names


# --- what is refused, before anything is trained or written ---------------------------


@pytest.mark.parametrize(
    ("objectives", "settings", "message"),
    [
        (lambda m: Objective.channel(m, "conv9", 0), {}, "conv1"),
        (lambda m: Objective.neuron(m, "logits", 10), {}, "-10 to 9"),
        (lambda m: Objective.neuron(m, "logits", 0, multiplier=float("nan")), {}, "multiplier"),
        (lambda m: [], {}, "objectives"),
        (lambda m: [neurons(m), neurons(m)], {}, "different name"),
        (lambda m: Objective.neuron(m, "logits", [1, 1]), {}, "different name"),
        (neurons, {"steps": 0}, "steps"),
        (neurons, {"values_range": (1, 1)}, "values_range"),
        (neurons, {"image_shape": (12, 10, 3)}, "image_shape"),
        (neurons, {"seed": -1}, "seed"),
        (neurons, {"optimizer": "nobody"}, "optimizer"),
        (neurons, {"transformations": "nothing"}, "transformations"),
        (neurons, {"parameterization": "nothing"}, "parameterization"),
    ],
)
@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_wrong_argument_stops_training_before_it_begins(
    objectives, settings, message, on_error, model, watch, tmp_path
):
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        train(model, watch(objectives, on_error=on_error, **settings))
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
    assert not list(tmp_path.rglob("*tfevents*"))


@pytest.mark.parametrize("part", [lambda m: m, lambda m: m.layers[-1]], ids=["model", "part"])
def test_a_model_without_variables_is_watched(part, watch):
    inner = sequential(layers.AveragePooling2D(2), layers.GlobalAveragePooling2D(), shape=(8, 8, 1))
    model = sequential(layers.MaxPooling2D(2), inner, shape=(16, 16, 1))
    callback = watch(Objective.neuron(part(model), -1, 0))
    callback.set_model(model)
    callback.on_train_begin()
    # `fit` would set this, but has no loss to differentiate here.
    model.stop_training = False
    callback.on_epoch_end(0)
    assert callback.history.status[-1] == ["ok"]

    callback = watch(Objective.neuron(sequential(layers.Flatten()), -1, 0))
    callback.set_model(model)
    with pytest.raises(ValueError, match="`objectives`.*Expected objectives of one model"):
        callback.on_train_begin()


@pytest.mark.parametrize("objectives", [5, ["logits"], [], make_small_model()])
def test_what_is_no_objective_is_refused(objectives, model, watch):
    with pytest.raises(ValueError, match="`objectives`"):
        train(model, watch(objectives))


def test_objectives_of_a_model_that_is_not_trained_are_refused(model, watch):
    with pytest.raises(ValueError, match="Expected objectives of one model"):
        train(model, watch(neurons(make_small_model())))


@pytest.mark.parametrize("settings", [{}, {"probe_data": PIXELS}], ids=["alone", "real images"])
def test_parts_of_a_model_with_other_inputs_are_refused_together(settings, watch):
    part = sequential(layers.Conv2D(2, 3, name="conv2"), shape=(10, 8, 4))
    inner = layers.Conv2D(4, 3, name="conv"), part, layers.Flatten(), layers.Dense(10)
    model = compiled(sequential(*inner))
    both = [Objective.channel(model, "conv", 0), Objective.channel(part, "conv2", 0)]
    message = r"`objectives`.*'Channel#conv_0' of \(12, 10, 1\), 'Channel#conv2_0' of \(10, 8, 4\)"
    with pytest.raises(ValueError, match=message):
        train(model, watch(both, **settings))


@pytest.mark.parametrize("name", ["seconds", "evolution"])
def test_names_that_are_other_tags_are_refused(name, model, watch):
    with pytest.raises(ValueError, match="reserved"):
        train(model, watch(Objective.neuron(model, "logits", 0, names=name)))


# --- real images ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "given", "expected"),
    [
        (lambda x: 255 * x, None, (0.0, 255.0)),
        (lambda x: x, (-3.0, 3.0), (-3.0, 3.0)),
    ],
)
def test_the_range_of_values_is_that_of_the_real_images(scale, given, expected, model, watch):
    callback = watch(neurons(model), probe_data=scale(PIXELS), values_range=given)
    train(model, callback, epochs=1)
    assert callback.history.values_range == expected


def test_real_images_of_one_value_need_a_range(model, watch):
    data = np.full_like(PIXELS, 5.0)
    with pytest.raises(ValueError, match="`probe_data`.*`values_range` beside them"):
        train(model, watch(neurons(model), probe_data=data))
    callback = watch(neurons(model), probe_data=data, values_range=(0, 10))
    train(model, callback, epochs=1)
    assert np.isfinite(callback.history.images).all()


@pytest.mark.parametrize("shape", [(3, 12, 10), (3, 12, 10, 3), (3, 10, 12, 1)])
def test_real_images_of_another_shape_are_refused(shape, model, watch):
    with pytest.raises(ValueError, match="`probe_data`"):
        train(model, watch(neurons(model), probe_data=np.zeros(shape)))


def test_the_plain_background_is_the_mean_of_real_images(model, watch):
    dead = Objective.custom(model, "conv1", lambda x: 0.0 * keras.ops.mean(x, (1, 2, 3)))
    callback = watch(dead, probe_data=np.full((3, 12, 10, 1), 0.2))
    train(model, callback, epochs=1)
    np.testing.assert_allclose(callback.history.images.mean(), 0.2, atol=0.03)


@pytest.mark.acceptance
@pytest.mark.parametrize("kind", ["fourier", "fixed_magnitude"])
@pytest.mark.parametrize("scale", [lambda x: x, lambda x: 2 * x - 1])
def test_images_beside_real_ones_are_those_of_a_parameterization_like_them(kind, scale, watch):
    model = compiled(rate=0.0)
    real = scale(PIXELS)
    callback = watch(neurons(model), probe_data=real, parameterization=kind)
    train(model, callback, epochs=1)
    values_range = callback.history.values_range
    like = parameterizations.like_data(real, values_range, (12, 10, 1), kind)
    task = prepare(neurons(model), values_range=values_range, parameterization=like)
    # The contrast that an image may have follows from the score that it should reach.
    [scores] = score_all([neurons(model)], real)
    expected, _ = run(task, best_known=scores.max(1))
    # The score to beat is a ten-thousandth less, for rounding.
    np.testing.assert_allclose(callback.history.images[0], expected.images, atol=1e-4)


def test_real_images_that_lack_frequencies_can_be_taken_over(watch):
    model = compiled(rate=0.0)
    coarse = np.random.default_rng(0).random((20, 6, 5, 1), "float32")
    real = np.kron(coarse, np.ones((1, 2, 2, 1), "float32"))
    callback = watch(neurons(model), probe_data=real, parameterization="fixed_magnitude")
    train(model, callback, epochs=1)
    best = layer_output(model, "logits", real)[:, :3].max(0)
    for images, status in zip(callback.history.images, callback.history.status, strict=True):
        scores = np.diag(layer_output(model, "logits", images)[:, :3])
        assert status.tolist() == np.where(scores < best, "weak", "ok").tolist()
        assert (images.std((1, 2, 3)) > 0.01).all()


def test_any_parameterization_can_be_compared_with_real_images(model, watch):
    callback = watch(neurons(model), probe_data=PIXELS, parameterization="pixel")
    train(model, callback, epochs=1)
    assert callback.history.score_ratio.shape == (2, 3)


@pytest.mark.parametrize("parameterization", ["fourier", "pixel"])
def test_real_images_that_a_part_of_the_model_cannot_take_are_refused(parameterization, watch):
    inner = sequential(
        layers.Conv2D(2, 3, name="conv"), layers.GlobalAveragePooling2D(), shape=(8, 8, 1)
    )
    outer = sequential(layers.AveragePooling2D(2), inner, layers.Dense(10), shape=(16, 16, 1))
    callback = watch(
        [Objective.neuron(outer, -1, 0), Objective.channel(inner, "conv", 0)],
        image_shape=(16, 16),
        probe_data=np.random.default_rng(0).random((4, 16, 16, 1)),
        parameterization=parameterization,
    )
    compiled(outer)
    with pytest.raises(ValueError, match=r"`probe_data`.*shape \(8, 8, 1\)"):
        outer.fit(np.zeros((2, 16, 16, 1)), np.zeros(2), verbose=0, callbacks=[callback])


def test_a_model_that_cannot_be_prepared_begins_a_new_history_too(model, watch):
    callback = watch(lambda one: Objective.neuron(one, "logits", 0), probe_data=PIXELS)
    train(model, callback, epochs=1)
    kept = callback.history
    other = compiled(sequential(layers.Flatten(), layers.Dense(10, name="logits"), shape=(4, 4, 3)))
    with pytest.raises(ValueError, match="`probe_data`"):
        other.fit(np.zeros((2, 4, 4, 3)), np.zeros(2), verbose=0, callbacks=[callback])
    assert len(kept) == 2
    assert len(callback.history) == 0


def test_volumes_are_refused_with_a_recipe_that_works(tmp_path, caplog):
    """The slices of a volume are the channels of an image."""
    caplog.set_level("WARNING", logger="featviz_callback")
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4, 1)),
            layers.Conv3D(2, 3, name="conv"),
            layers.Flatten(),
            layers.Dense(2, name="out"),
        ]
    )
    model.compile("sgd", "mse")
    volumes, targets = random_images(4, 6, 6, 4)[..., None], np.zeros((4, 2))
    refused = FeatureVisCallback(log_dir=tmp_path / "volumes", steps=1)
    model.fit(volumes, targets, verbose=0, callbacks=[refused])
    assert not len(refused.history)
    recipe = "keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Reshape((6, 6, 4, 1)), model])"
    assert caplog.text.count(recipe) == 1
    flat = eval(recipe, {"keras": keras, "model": model})
    name = f"{model.name}/out"
    callback = FeatureVisCallback(
        Objective.neuron(flat, name, [0, 1]), log_dir=tmp_path, steps=2, on_error="raise"
    )
    model.fit(volumes, targets, verbose=0, callbacks=[callback])
    images = callback.history.images[-1]
    assert images.shape == (2, 6, 6, 4)
    expected = np.diag(model.predict(images[..., None], verbose=0))
    np.testing.assert_allclose(callback.history.scores[-1], expected, rtol=1e-3, atol=1e-5)


# --- a wrapper that scales images before its parts get them ----------------------------------


class Contrastive(keras.Model):
    """An encoder behind a model of augmentations that divides by 255, and a `train_step`."""

    def __init__(self, encoder, **scaling):
        super().__init__()
        self.encoder = encoder
        for name, layer in scaling.items():
            setattr(self, name, layer)

    def train_step(self, data):
        return {"loss": keras.ops.zeros(())}


def contrastive(**scaling):
    # Where a score is nearly zero, rounding would decide the ratios.
    kernels = keras.initializers.GlorotUniform(seed=0)
    conv = layers.Conv2D(4, 3, kernel_initializer=kernels, bias_initializer="ones", name="conv")
    encoder = keras.Sequential([keras.Input((8, 8, 3)), conv], name="encoder")
    model = Contrastive(encoder, **scaling)
    model.compile()
    return model


def augmenter(scale):
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Rescaling(scale), layers.RandomFlip()])


RAW = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3)).astype("float32")


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")


def history_of(callback, model):
    """Return what a callback shows of a network before any training."""
    callback.set_model(model)
    callback.set_params({"epochs": 1})
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback.history


@pytest.mark.parametrize("probe_data", [RAW, (RAW.astype("uint8"), np.arange(12))])
def test_raw_probe_data_are_scaled_as_the_wrapper_does(probe_data, watch, caplog):
    model = contrastive(augmenter=augmenter(1 / 255))
    history = history_of(watch(probe_data=probe_data), model)
    assert history.values_range == (0, 1)
    # The encoder's own answer to images that are divided.
    best = to_numpy(model.encoder(RAW / 255)).mean((1, 2)).max(0)
    ratios = history.score_ratio[-1]
    known = best > 0.1
    assert known.any()
    np.testing.assert_allclose(ratios[known], (history.scores[-1] / best)[known], rtol=1e-3)
    assert caplog.text.count("are scaled as the layer") == 1


def test_without_probe_data_a_part_s_range_is_what_the_wrapper_makes_of_the_usual_one(watch):
    model = contrastive(rescale=layers.Rescaling(1 / 127.5, -1))
    assert history_of(watch(), model).values_range == (-1, 1)


def test_probe_data_that_are_scaled_already_stay_as_they_are(watch, caplog):
    model = contrastive(augmenter=augmenter(1 / 255))
    assert history_of(watch(probe_data=RAW / 255), model).values_range == (0, 1)
    assert "are scaled as" not in caplog.text


@pytest.mark.parametrize("values_range", [(0, 1), (0, 255)])
def test_a_range_that_is_given_says_that_probe_data_are_in_it(values_range, watch, caplog):
    model = contrastive(augmenter=augmenter(1 / 255))
    callback = watch(probe_data=RAW / 255 * values_range[1], values_range=values_range)
    assert history_of(callback, model).values_range == values_range
    assert "are scaled as" not in caplog.text


def test_a_scaling_that_nobody_knows_is_named(watch, caplog):
    model = contrastive(one=augmenter(1 / 255), rescale=layers.Rescaling(1 / 127.5, -1))
    assert history_of(watch(probe_data=RAW), model).values_range == (0, 255)
    assert caplog.text.count("may change images before the watched parts get them") == 1


class Decaying(keras.Model):
    """A wrapper without a `call`, whose `train_step` shrinks the weights of its critic."""

    def __init__(self, critic):
        super().__init__()
        self.critic = critic

    def train_step(self, *given):
        images = given[-1][0] if isinstance(given[-1], tuple) else given[-1]
        logs = {"loss": keras.ops.mean(images)}
        if len(given) == 1:
            for one in self.critic.trainable_variables:
                one.assign(0.5 * one)
            return logs
        # JAX gives the state too.
        trainable, *others = given[0]
        return logs, ([0.5 * one for one in trainable], *others)


@pytest.mark.parametrize("named", [False, True], ids=["default", "a layer"])
def test_a_wrapper_that_was_built_by_hand_is_trained_and_its_parts_are_watched(named, watch):
    conv, pool = layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D()
    critic = sequential(conv, pool, layers.Dense(2, name="score"), shape=(8, 8, 1))
    critic.name = "critic"
    model = Decaying(critic)
    model.build((None, 8, 8, 1))
    assert model.built
    model.compile("sgd")
    images, before = random_images(6, 8, 8, 1), critic.get_weights()
    score = (lambda one: Objective.neuron(one, "critic/score", [0, 1])) if named else None
    callback = watch(score, probe_data=images)
    model.fit(images, epochs=2, batch_size=3, verbose=0, callbacks=[callback])
    for now, then in zip(critic.get_weights(), before, strict=True):
        np.testing.assert_allclose(now, then / 16, rtol=1e-6)
    history = callback.history
    assert history.epochs.tolist() == [-1, 0, 1]
    assert history.names[-2:] == ["Neuron#critic/score_0", "Neuron#critic/score_1"]
    assert len(history.names) == (2 if named else 6)
    own = critic.predict(history.images[-1, -2:], verbose=0)
    np.testing.assert_allclose(history.scores[-1, -2:], np.diag(own), rtol=1e-4)


def _raises(self, images):
    raise NotImplementedError("Train it.")


def _does_nothing(self, images):
    pass


def _draws_samples(self, count):
    return self.critic(keras.random.normal((count, 8, 8, 1)))


def _takes_a_time_too(self, images, time):
    return self.critic(images) + time


@pytest.mark.parametrize("is_by_flag", [True, False], ids=["built", "build"])
@pytest.mark.parametrize("call", [_raises, _does_nothing, _draws_samples, _takes_a_time_too])
def test_the_parts_of_a_wrapper_are_watched_if_its_call_is_of_no_use(call, is_by_flag, watch):
    conv, pool = layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D()
    critic = sequential(conv, pool, layers.Dense(2, name="score"), shape=(8, 8, 1))
    model = type("OfNoUse", (Decaying,), {"call": call})(critic)
    if is_by_flag:
        model.built = True
    else:
        with contextlib.suppress(Exception):
            model.build((None, 8, 8, 1))
    model.compile("sgd")
    callback = watch(lambda one: Objective.neuron(one, "critic/score", [0, 1]))
    model.fit(random_images(6, 8, 8, 1), batch_size=3, verbose=0, callbacks=[callback])
    history = callback.history
    assert history.epochs.tolist() == [-1, 0]
    own = critic.predict(history.images[-1], verbose=0)
    np.testing.assert_allclose(history.scores[-1], np.diag(own), rtol=1e-4)


# --- a wrapper of parts whose images have no known size ---------------------------------------


class OfParts(Decaying):
    """A wrapper of a critic and of other parts."""

    def __init__(self, critic, **parts):
        super().__init__(critic)
        for name, part in parts.items():
            setattr(self, name, part)
        # Else Keras would call it to build it, but on TensorFlow.
        self.built = True
        self.compile("sgd")


def of_tokens():
    """A masked autoencoder, whose encoder takes the embedded patches that are not hidden."""

    def of_length(name, length):
        inner = layers.Dense(6, activation="relu", name="mlp"), layers.Dense(4)
        return keras.Sequential([keras.Input((length, 4)), *inner], name=name)

    return OfParts(of_length("encoder", None), decoder=of_length("decoder", 9))


IMAGES = random_images(6, 8, 8, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"values_range": (0, 1)},
        {"probe_data": IMAGES},
        {"probe_data": (IMAGES, np.zeros(6)), "values_range": (0, 1)},
    ],
    ids=["alone", "a range", "images", "images and labels"],
)
def test_a_wrapper_whose_parts_take_tokens_is_refused_as_one(settings, watch, caplog):
    model = of_tokens()
    callback = watch(on_error="warn", **settings)
    model.fit(IMAGES, verbose=0, callbacks=[callback])
    assert not len(callback.history)
    said = [one.getMessage() for one in caplog.records if one.name == "featviz_callback"]
    [refusal] = [one for one in said if "makes no pictures" in one]
    assert f"No part of the model '{model.name}' takes images" in refusal
    assert "'encoder' takes sequences (None, 4), of any length" in refusal
    assert "`objectives` of a model around it" in refusal
    assert all("`probe_data` are left out" in one for one in said[:-1])
    assert len(said) == 1 + ("probe_data" in settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"image_shape": (9,)},
        {"probe_data": random_images(6, 9, 4)},
        {"probe_data": (random_images(6, 9, 4), np.zeros(6))},
    ],
)
def test_sequences_of_a_known_length_are_drawn_as_signals(settings, watch, caplog):
    history = history_of(watch(**settings), of_tokens())
    assert history.images.shape[2:] == (9, 4)
    assert caplog.text.count("the parts that take images are watched: 'encoder'") == 1


def test_parts_of_any_size_are_not_said_to_be_watched_where_no_size_is_known(watch, caplog):
    def of_any_size():
        inner = layers.Conv2D(4, 3, name="conv"), layers.GlobalAveragePooling2D()
        given = keras.Input((None, None, 3))
        return OfParts(keras.Sequential([given, *inner], name="critic"))

    of_any_size().fit(IMAGES, verbose=0, callbacks=[watch(on_error="warn")])
    [refusal] = [one.getMessage() for one in caplog.records if one.name == "featviz_callback"]
    assert "images of any size, (None, None, 3). Expected `image_shape`" in refusal
    history = history_of(watch(probe_data=(IMAGES, np.zeros(6))), of_any_size())
    assert history.images.shape[2:] == (8, 8, 3)
    assert caplog.text.count("the parts that take images are watched: 'critic'") == 1


# --- a model that calls the watched one, behind a cast and arithmetic --------------------------

COLOURS = np.random.default_rng(1).integers(0, 256, (12, 8, 8, 3)).astype("uint8")


def core():
    # Where a score is nearly zero, rounding would decide the ratios.
    settings = {"kernel_initializer": keras.initializers.GlorotUniform(seed=0)}
    parts = [
        layers.Conv2D(4, 3, bias_initializer="ones", activation="relu", name="c1", **settings),
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, bias_initializer="ones", name="logits", **settings),
    ]
    return keras.Sequential([keras.Input((8, 8, 3)), *parts], name="core")


def as_mobilenet(x):
    return keras.applications.mobilenet.preprocess_input(keras.ops.cast(x, "float32"))


def calling(before, shape=(8, 8, 3), dtype="uint8"):
    given = keras.Input(shape, dtype=dtype)
    model = keras.Model(given, core()(before(given)), name="whole")
    return compiled(model)


def logits_of_core(model):
    return Objective.neuron(model.get_layer("core"), "logits", [0, 1, 2])


def core_s_best(model, images):
    return model.get_layer("core").predict(images, verbose=0).max(0)


CALLING = {
    "bytes": (lambda: calling(as_mobilenet), COLOURS, COLOURS / 127.5 - 1, (-1, 1)),
    "floats": (
        *(lambda: calling(as_mobilenet, dtype=None), COLOURS.astype("float32")),
        *(COLOURS / 127.5 - 1, (-1, 1)),
    ),
    "a curve": (
        *(lambda: calling(lambda x: (keras.ops.cast(x, "float32") / 255) ** 2.2), COLOURS),
        *((COLOURS / 255) ** 2.2, (0, 1)),
    ),
    "flat vectors": (
        *(lambda: calling(layers.Reshape((8, 8, 3)), (192,), None),),
        *(COLOURS.reshape(12, 192) / 255, COLOURS / 255, (0, 1)),
    ),
    "a film": (
        lambda: calling(lambda x: keras.ops.reshape(x, (-1, 8, 8, 3)), (4, 8, 8, 3), None),
        *(COLOURS.reshape(3, 4, 8, 8, 3) / 255, COLOURS / 255, (0, 1)),
    ),
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", CALLING)
@pytest.mark.acceptance
def test_real_images_reach_a_model_inside_as_training_gives_them(kind, named, watch, caplog):
    build, given, as_trained, values_range = CALLING[kind]
    model = build()
    # A model of images that are floats is watched as a whole, unless another one is named.
    chosen = logits_of_core if named or kind == "floats" else None
    history = history_of(watch(chosen, probe_data=given), model)
    assert history.values_range == values_range
    best = core_s_best(model, as_trained.astype("float32"))
    ratios, scores = history.score_ratio[-1, -3:], history.scores[-1, -3:]
    known = best > 0.05
    assert known.any()
    np.testing.assert_allclose(ratios[known], (scores / best)[known], rtol=1e-3)
    assert "cannot be told" not in caplog.text


def as_caffe(x):
    return keras.applications.resnet50.preprocess_input(keras.ops.cast(x, "float32"))


MEANS = np.array([103.939, 116.779, 123.68])


@pytest.mark.parametrize(
    ("before", "dtype", "expected"),
    [
        (as_mobilenet, "uint8", (-1, 1)),
        (as_mobilenet, None, (-1, 1)),
        (lambda x: keras.ops.cast(x, "float32"), "uint8", (0, 255)),
        (as_caffe, "uint8", (-MEANS, 255 - MEANS)),
        (lambda x: keras.ops.cast(x, "float32") / 65535, "uint16", (0, 1)),
    ],
    ids=["bytes", "floats", "a cast", "means", "two bytes"],
)
def test_without_real_images_the_range_is_what_the_call_makes_of_bytes(before, dtype, expected):
    model = calling(before, dtype=dtype)
    settings, _, _ = inside(model, [model.get_layer("core")])
    low, high = (
        np.broadcast_to(end, np.shape(want))
        for end, want in zip(settings.values_range, expected, strict=True)
    )
    np.testing.assert_allclose((low, high), expected, atol=1e-4)


def inside(model, parts, real_images=None):
    return complete_inside(Settings(), {id(one): one for one in parts}, real_images, model)


def test_real_images_in_the_range_that_is_given_are_as_the_model_inside_takes_them(watch):
    scaled = (COLOURS / 127.5 - 1).astype("float32")
    for given in (scaled, COLOURS):
        model = calling(as_mobilenet)
        history = history_of(watch(probe_data=given, values_range=(-1, 1)), model)
        best = core_s_best(model, scaled)
        ratios, scores = history.score_ratio[-1, -3:], history.scores[-1, -3:]
        known = best > 0.05
        np.testing.assert_allclose(ratios[known], (scores / best)[known], rtol=1e-3)


def test_a_curve_before_a_model_inside_is_said_to_be_unknown(watch, caplog):
    model = calling(lambda x: (keras.ops.cast(x, "float32") / 255) ** 2.2)
    history_of(watch(), model)
    assert caplog.text.count("cannot be told") == 1


@pytest.mark.parametrize("probe_data", [None, COLOURS])
@pytest.mark.parametrize(("scales", "told"), [((1.0, 1.0), 0), ((1.0, 0.5), 1)])
def test_models_inside_that_receive_other_images_are_told(scales, told, probe_data, caplog):
    given = keras.Input((8, 8, 3), dtype="uint8")
    parts = [core(), core()]
    for part, name in zip(parts, ("one", "two"), strict=True):
        part.name = name
    floats = keras.ops.cast(given, "float32")
    pairs = zip(parts, scales, strict=True)
    model = keras.Model(given, layers.Add()([part(floats * scale) for part, scale in pairs]))
    watched = {id(one.model) for one in default_objectives(model)}
    assert watched == set(map(id, parts))
    real_images = None if probe_data is None else ProbeImages(probe_data)
    _, found, _ = inside(model, parts, real_images)
    for part, scale in zip(parts, scales, strict=True):
        if probe_data is not None:
            np.testing.assert_allclose(found[id(part)][0], COLOURS * scale, rtol=1e-6)
    assert caplog.text.count("receive images that differ") == told


class NeverCalls(keras.Model):
    """A model with a `call` that leaves out a network which it keeps."""

    def __init__(self):
        super().__init__()
        self.core, self.dense = core(), layers.Dense(3)

    def call(self, images):
        return self.dense(layers.Flatten()(images))


def test_a_model_inside_that_no_call_reaches_is_told(watch, caplog):
    model = compiled(NeverCalls())
    model(np.zeros((1, 8, 8, 3), "float32"))
    history = history_of(watch(logits_of_core, probe_data=COLOURS / np.float32(255)), model)
    assert history.values_range == (0, 1)
    assert caplog.text.count("makes of `probe_data`") == 1


def test_training_behind_a_cast_is_the_same_to_the_bit(watch):
    weights = []
    for watched in (False, True):
        keras.utils.set_random_seed(0)
        model = calling(as_mobilenet)
        callbacks = [watch(probe_data=COLOURS)] * watched
        model.fit(COLOURS, np.zeros(12), verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for ours, plain in zip(*reversed(weights), strict=True):
        np.testing.assert_array_equal(ours, plain)


def test_what_waits_for_the_first_batch_is_told_with_the_parts_to_name(tmp_path, caplog):
    def unbuilt(name):
        return keras.Sequential([layers.Conv2D(3, 3), layers.Flatten()], name=name)

    class Painters(keras.Model):
        def __init__(self):
            super().__init__()
            self.critic, self.painter = unbuilt("critic"), unbuilt("painter")

        def train_step(self, data):
            return {}

    model = Painters()
    callback = FeatureVisCallback(log_dir=tmp_path)
    callback.set_model(model)
    callback.on_train_begin()
    assert caplog.text.count("is not built yet") == 1
    assert "one of these: critic, painter" in caplog.text
    assert "lambda model: default_objectives(model.critic)" in caplog.text


# --- real images of bytes, which a model may tell from floats ---------------------------------


class Scaling(keras.Model):
    """A model that divides whole numbers itself, and leaves floats as they are."""

    def __init__(self, divisor):
        super().__init__()
        self.divisor = divisor
        self.conv = layers.Conv2D(4, 3, activation="tanh", name="conv")
        self.flatten = layers.Flatten()
        self.logits = layers.Dense(3, name="logits")

    def call(self, images):
        is_whole = not keras.backend.is_float_dtype(keras.backend.standardize_dtype(images.dtype))
        images = keras.ops.cast(images, "float32")
        return self.logits(self.flatten(self.conv(images / self.divisor if is_whole else images)))


def scaling(divisor):
    model = Scaling(divisor)
    model(COLOURS[:1])
    fill(model)
    # Ratios are of scores above zero.
    model.logits.bias.assign([9.0, 9.0, 9.0])
    return model


def test_bytes_are_ranked_as_a_model_gets_them_that_tells_them_from_floats(watch, caplog):
    model = compiled(scaling(255), rate=0.0)
    callback = watch(lambda one: Objective.neuron(one, "logits", [0, 1, 2]), probe_data=COLOURS)
    model.fit(COLOURS, np.zeros(12), epochs=2, verbose=0, callbacks=[callback])
    history = callback.history
    of_bytes = model.predict(COLOURS, verbose=0).max(0)
    of_floats = model.predict(COLOURS.astype("float32"), verbose=0).max(0)
    # Else nobody could tell which ones were ranked.
    assert (np.abs(of_bytes / of_floats - 1) > 0.02).all()
    assert (of_bytes > 0).all()
    best = history.scores / history.score_ratio
    np.testing.assert_allclose(best, [of_bytes] * 3, rtol=1e-3)
    # Pictures are made of floats, and so are their scores.
    expected = np.diag(model.predict(history.images[-1], verbose=0))
    np.testing.assert_allclose(history.scores[-1], expected, rtol=1e-3)
    assert caplog.text.count("of uint8 other scores than the same values as floats") == 1
    # Pictures are floats that the model takes for bytes, and nothing else is doubted.
    assert history.values_range == (0, 1)
    assert "cannot be compared" not in caplog.text
    assert "hardly differ" not in caplog.text


@pytest.mark.parametrize("divisor", [255, 127.5, 1000])
def test_the_range_is_what_bytes_are_to_a_model_that_tells_them_from_floats(divisor, watch):
    model = scaling(divisor)
    low, high = (COLOURS.min() / divisor, COLOURS.max() / divisor)
    chosen = Objective.neuron(model, "logits", [0, 1, 2])
    history = history_of(watch(chosen, probe_data=COLOURS, accentuate=1), compiled(model))
    found = history.values_range
    assert found[0] <= low < high <= found[1] * 1.001
    assert found[1] - found[0] <= 2.1 * (high - low)
    floats = COLOURS.astype("float32") / divisor
    np.testing.assert_allclose(
        model.predict(COLOURS, verbose=0), model.predict(floats, verbose=0), rtol=1e-4
    )


def test_nothing_is_said_of_bytes_that_a_model_takes_for_floats(watch, caplog):
    model = scaling(1)
    chosen = Objective.neuron(model, "logits", [0, 1, 2])
    history = history_of(watch(chosen, probe_data=COLOURS), compiled(model))
    expected = model.predict(COLOURS.astype("float32"), verbose=0).max(0)
    np.testing.assert_allclose(history.scores[-1] / history.score_ratio[-1], expected, rtol=1e-3)
    assert "other scores" not in caplog.text


class Half(Scaling):
    """A model of two parts, the first of which is given the same by bytes and by floats."""

    def __init__(self):
        super().__init__(255)
        self.thumb = layers.Conv2D(2, 3, name="thumb", bias_initializer="ones")

    def call(self, images):
        _ = self.thumb(keras.ops.cast(images, "float32"))
        return super().call(images)


def test_all_that_is_read_of_a_model_tells_bytes_from_floats(watch, caplog):
    model = Half()
    model(COLOURS[:1])
    fill(model)
    model.logits.bias.assign([9.0, 9.0, 9.0])
    chosen = [Objective.channel(model, "thumb", 0), Objective.neuron(model, "logits", [0, 1, 2])]
    history = history_of(watch(chosen, probe_data=COLOURS), compiled(model))
    expected = model.predict(COLOURS, verbose=0).max(0)
    best = (history.scores[-1] / history.score_ratio[-1])[1:]
    np.testing.assert_allclose(best, expected, rtol=1e-3)
    assert caplog.text.count("other scores") == 1


# --- models that get other images ---------------------------------------------------------


class Pair(keras.Model):
    """Two encoders, each of images of its own."""

    def __init__(self):
        super().__init__()
        self.left, self.right = self.encoder("left"), self.encoder("right")

    @staticmethod
    def encoder(name):
        image = keras.Input((8, 8, 1), name=name)
        # Where a score is nearly zero, rounding would decide the ratios.
        conv = layers.Conv2D(2, 3, bias_initializer="ones", name=f"conv_of_{name}")
        return keras.Model(image, conv(image), name=name)

    def train_step(self, data):
        return {"loss": keras.ops.zeros(())}


def of_both(pair):
    return [
        Objective.channel(one, f"conv_of_{one.name}", [0, 1]) for one in (pair.left, pair.right)
    ]


@pytest.mark.parametrize("settings", [{}, {"accentuate": 2}])
def test_each_model_is_ranked_on_its_own_images(settings, watch):
    pair = Pair()
    pair.compile()
    left = random_images(12, 8, 8, 1)
    right = np.stack([np.full((8, 8, 1), i / 12, "float32") for i in range(12)])
    callback = watch(of_both, probe_data={"left": left, "right": right}, **settings)
    pictures = []
    callback._on_snapshot = lambda snapshot: pictures.extend(snapshot.real_pictures)
    history = history_of(callback, pair)
    best = history.scores[-1] / history.score_ratio[-1]
    expected = [
        layer_output(one, f"conv_of_{one.name}", images).mean((1, 2)).max(0)
        for one, images in ((pair.left, left), (pair.right, right))
    ]
    np.testing.assert_allclose(best, np.concatenate(expected), rtol=1e-3)
    assert len(pictures) == 4


# --- real images beyond the range -----------------------------------------------------------


def test_real_images_beyond_the_range_are_told_and_end_no_training(watch, model, caplog):
    callback = watch(neurons, probe_data=255 * PIXELS, values_range=(0, 1))
    train(model, callback, epochs=1)
    assert callback.history.epochs.tolist() == [-1, 0]
    assert caplog.text.count("images are made in values_range=(0, 1)") == 1
    assert f"from {255 * PIXELS.min():g} to {255 * PIXELS.max():g}" in caplog.text


def test_the_overshoot_of_a_filter_is_within_the_range(watch, model, caplog):
    history_of(watch(neurons, probe_data=1.04 * PIXELS, values_range=(0, 1)), model)
    assert "images are made in values_range" not in caplog.text


# --- a copy of a network, of the same name ------------------------------------------------


class Averaged(keras.Model):
    """A network of two inputs, and the average of it, as diffusion models have."""

    def __init__(self):
        super().__init__()
        image, time = keras.Input((8, 8, 1), name="image"), keras.Input((4,), name="time")
        maps = layers.Conv2D(4, 3, name="conv")(image)
        out = maps + layers.Reshape((1, 1, 4))(layers.Dense(4)(time))
        self.network = keras.Model([image, time], out, name="unet")
        self.average = keras.models.clone_model(self.network)

    def train_step(self, *given):
        return {}


def test_the_same_words_of_two_models_of_one_name_are_logged_once(watch, caplog):
    callback = watch()
    model = Averaged()
    model.compile()
    callback.set_model(model)
    callback.on_train_begin()
    assert {one.model for one in callback._observer._objectives} == {model.network, model.average}
    assert caplog.text.count("The input 'image' of the model 'unet' is optimised") == 1
    assert len(caplog.messages) == len(set(caplog.messages))
    # Another model of the same name is another matter.
    again = watch()
    model = Averaged()
    model.compile()
    again.set_model(model)
    again.on_train_begin()
    assert caplog.text.count("The input 'image' of the model 'unet' is optimised") == 2
