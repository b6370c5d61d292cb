"""Models without a `call`: which parts are watched, and how their layers are named."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, default_objectives
from featviz_callback.objectives.notices import NothingToShow
from featviz_callback.objectives.wrappers import (
    image_parts,
    is_known,
    is_wrapper,
    parts_to_name,
    require_images,
)


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")


def classifier(name, shape=(8, 8, 1)):
    parts = [layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(2, name="score")]
    return keras.Sequential([keras.Input(shape), *parts], name=name)


def decoder(name="generator"):
    parts = [
        layers.Dense(64),
        layers.Reshape((8, 8, 1)),
        layers.Conv2D(1, 3, padding="same", name="paint"),
    ]
    return keras.Sequential([keras.Input((5,)), *parts], name=name)


class Wrapper(keras.Model):
    """A model of parts, with a `train_step` of its own and no `call`."""

    def __init__(self, **parts):
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)

    def train_step(self, data):
        return {}


def test_parts_that_take_images_are_found_once_each():
    shared = classifier("shared")
    model = Wrapper(
        generator=decoder(), first=shared, again=shared, more=[classifier("a"), classifier("b")]
    )
    assert [part.name for _, part in image_parts(model)] == ["shared", "a", "b"]


def test_a_wrapper_inside_a_wrapper_is_searched():
    model = Wrapper(inner=Wrapper(net=classifier("net")), generator=decoder())
    [(path, part)] = image_parts(model)
    assert part is model.inner.net
    assert path.endswith("/net")


def test_the_default_shares_its_targets_among_the_parts(caplog):
    model = Wrapper(one=classifier("one"), two=classifier("two"), generator=decoder())
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert len(set(names)) == len(names)
    for part in ("one", "two"):
        assert f"Channel#{part}/conv_0" in names
        assert f"Neuron#{part}/score_0" in names
    assert "'one', 'two'" in caplog.text


def test_parts_of_the_shape_of_real_images_are_chosen():
    model = Wrapper(small=classifier("small"), large=classifier("large", (12, 12, 3)))
    for part, shape in (("small", (8, 8, 1)), ("large", (12, 12, 3))):
        chosen = default_objectives(model, shape=shape)
        assert {objective.model.name for objective in chosen} == {part}


def test_a_layer_is_reached_by_its_path_and_scores_as_its_part_does():
    model = Wrapper(critic=classifier("critic"), generator=decoder())
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    by_path = Objective.neuron(model, "critic/score", 1)
    assert by_path.names == ["Neuron#critic/score_1"]
    expected = model.critic.predict(images, verbose=0)[:, 1]
    np.testing.assert_allclose(by_path.score(images), expected, rtol=1e-5)
    by_object = Objective.channel(model, model.critic.layers[0], 2)
    assert by_object.names == ["Channel#critic/conv_2"]


def test_a_layer_in_no_such_part_is_refused_and_the_parts_are_named():
    model = Wrapper(critic=classifier("critic"), generator=decoder())
    with pytest.raises(ValueError, match=r"inside one of \['critic'\].*Received"):
        Objective.channel(model, "generator/paint", 0)


def test_a_wrapper_of_nothing_that_takes_images_is_refused():
    with pytest.raises(NothingToShow, match="generator"):
        default_objectives(Wrapper(generator=decoder()))


@pytest.mark.parametrize("how", ["as it is", "build", "built"])
def test_a_wrapper_is_known_when_its_parts_are_built(how):
    model = Wrapper(critic=classifier("critic"))
    if how == "build":
        model.build((None, 8, 8, 1))
    model.built = how == "built" or model.built
    assert is_wrapper(model)
    assert is_known(model)


def test_a_wrapper_of_a_part_that_is_not_built_is_not_known():
    late = keras.Sequential([layers.Conv2D(2, 3)])
    assert not is_known(Wrapper(critic=classifier("critic"), late=late))


class Encoder(layers.Layer):
    """A layer with layers inside, as people write the parts of a wrapper too."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.conv = layers.Conv2D(4, 3, activation="relu", name="conv")
        self.pool = layers.GlobalAveragePooling2D()
        self.code = layers.Dense(5, name="code")

    def call(self, images):
        return self.code(self.pool(self.conv(images)))


def test_layers_that_take_images_are_parts_where_no_model_does():
    encoder = Encoder(name="encoder")
    model = Wrapper(encoder=encoder, generator=decoder(), flip=layers.RandomFlip())
    assert not is_known(model)
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    codes = keras.ops.convert_to_numpy(encoder(images))
    assert is_known(model)
    assert list(image_parts(model)) == [("encoder", encoder)]
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert names[:4] == [f"Channel#encoder/conv_{i}" for i in range(4)]
    assert names[4:] == [f"Neuron#encoder/code_{i}" for i in range(5)]
    by_path = Objective.neuron(model, "encoder/code", 2)
    np.testing.assert_allclose(by_path.score(images), codes[:, 2], rtol=1e-5)


@pytest.mark.parametrize("kind", ["layers", "tokens"])
def test_augmentations_hide_no_other_part(kind):
    """They are built once the wrapper was trained, and take images then."""
    flip = keras.Sequential([keras.Input((8, 8, 1)), layers.RandomFlip()], name="flip")
    part = Encoder(name="encoder")
    if kind == "layers":
        part(np.zeros((1, 8, 8, 1)))
    else:
        part = keras.Sequential([keras.Input((None, 4)), layers.Dense(3)], name="encoder")
    model = Wrapper(flip=flip, encoder=part)
    assert list(image_parts(model)) == [("encoder", part)]
    if kind == "tokens":
        with pytest.raises(NothingToShow, match="No part of.*takes sequences"):
            require_images(model, part, None)


def test_layers_that_take_tokens_or_are_inside_of_a_model_are_no_parts():
    attention = layers.MultiHeadAttention(1, 2)
    attention(np.zeros((1, 4, 3), "float32"), np.zeros((1, 4, 3), "float32"))
    assert list(image_parts(Wrapper(attention=attention, generator=decoder()))) == []
    model = Wrapper(encoder=Encoder(), critic=classifier("critic"))
    model.encoder(np.zeros((1, 8, 8, 1), "float32"))
    assert [part.name for _, part in image_parts(model)] == ["critic"]


def test_a_model_with_a_call_is_none():
    assert not is_wrapper(classifier("plain"))


class Augmenter(keras.Model):
    """Augmentations with a `call`, which nobody has called, and a variable of their own."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside
        self.probability = keras.Variable(0.5, trainable=False)

    def call(self, images, training=None):
        return self.inside(images, training=training)


@pytest.mark.parametrize(
    ("inside", "known"),
    [
        (lambda: layers.RandomFlip(), True),
        (lambda: keras.Sequential([layers.Rescaling(2.0), layers.RandomFlip()]), True),
        (lambda: layers.Conv2D(3, 3), False),
        (lambda: keras.Sequential([layers.RandomFlip(), layers.Conv2D(3, 3)]), False),
    ],
    ids=["one layer", "several", "a convolution", "a convolution among them"],
)
def test_augmentations_without_weights_keep_nobody_waiting(inside, known):
    """A GAN with adaptive augmentation shows its discriminator untrained."""
    model = Wrapper(augmenter=Augmenter(inside()), discriminator=classifier("discriminator"))
    assert is_known(model) == known


def test_a_part_that_makes_its_own_weights_is_waited_for():
    class Late(keras.Model):
        def build(self, shape):
            self.weight = self.add_weight(shape=(shape[-1],))

    assert not is_known(Wrapper(late=Late(), net=classifier("net")))


def test_a_model_with_its_own_dunder_call_is_told_to_name_it_call():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def __call__(self, images, training=None, **others):
            return self.dense(keras.ops.mean(images, axis=(1, 2)))

    model = Own()
    model(np.zeros((1, 6, 6, 1)))
    with pytest.raises(NothingToShow, match="has a `__call__` of its own.*method `call`"):
        default_objectives(model)


# --- parts of which not all can be watched --------------------------------------------------


class Denoiser(keras.Model):
    """The usual network of a diffusion model: noisy images, and a time for each of them."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.conv = layers.Conv2D(4, 3, padding="same", name="conv")
        self.time = layers.Dense(4, name="time")

    def call(self, images, t):
        return self.conv(images) + self.time(t)[:, None, None, :]


def denoiser():
    model = Denoiser(name="unet")
    model(np.zeros((1, 8, 8, 1), "float32"), np.zeros((1, 1), "float32"))
    return model


@pytest.mark.parametrize("order", [("net", "unet"), ("unet", "net")])
def test_a_part_that_takes_several_arguments_does_not_take_the_others_with_it(order, caplog):
    parts = {"net": classifier("net"), "unet": denoiser()}
    model = Wrapper(**{name: parts[name] for name in order})
    assert {objective.model.name for objective in default_objectives(model)} == {"net"}
    assert caplog.text.count("The part 'unet'") == 1
    assert "call(images, t)" in caplog.text


def test_a_model_of_several_arguments_is_refused_with_a_recipe_that_works():
    unet = denoiser()
    for refused in (unet, Wrapper(unet=unet)):
        with pytest.raises(NothingToShow, match=r"call\(images, t\).*keras\.Model\(given, model"):
            default_objectives(refused)
    with pytest.raises(NothingToShow, match=r"call\(images, t\)"):
        Objective.channel(Wrapper(net=classifier("net"), unet=unet), "unet/conv", 0)
    given = [keras.Input((8, 8, 1)), keras.Input((1,))]
    around = keras.Model(given, unet(*given))
    assert [one.names[0] for one in default_objectives(around)] == ["Channel#unet/conv_0"]


class Fails(keras.Model):
    """A network that needs the values of its images, which no compiled step has."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.conv = layers.Conv2D(4, 3, name="conv")

    def call(self, images):
        return self.conv(images) * float(keras.ops.convert_to_numpy(images).max())


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch has the values, and draws the part"
)
def test_a_part_whose_call_fails_does_not_take_the_others_with_it(caplog):
    fails = Fails(name="fails")
    fails(np.ones((1, 8, 8, 1), "float32"))
    chosen = default_objectives(Wrapper(fails=fails, net=classifier("net")))
    assert {objective.model.name for objective in chosen} == {"net"}
    assert "The part 'fails'" in caplog.text
    with pytest.raises(NothingToShow, match="'fails' fails on tensors without values"):
        default_objectives(Wrapper(fails=fails))


def upscaler():
    parts = [keras.Input((None, None, 1)), layers.Conv2D(4, 3, padding="same", name="conv")]
    return keras.Sequential(parts, name="upscaler")


@pytest.mark.parametrize("order", [("upscaler", "critic"), ("critic", "upscaler")])
def test_a_part_of_any_size_is_left_out_beside_one_of_a_fixed_size(order, caplog):
    parts = {"upscaler": upscaler(), "critic": classifier("critic")}
    model = Wrapper(**{name: parts[name] for name in order})
    assert {objective.model.name for objective in default_objectives(model)} == {"critic"}
    assert caplog.text.count("image_shape=(8, 8)") == 1
    for shape, fitting in (
        ((8, 8), {"critic", "upscaler"}),
        ((8, 8, 1), {"critic", "upscaler"}),
        ((12, 12), {"upscaler"}),
    ):
        chosen = default_objectives(model, shape=shape)
        assert {objective.model.name for objective in chosen} == fitting


def test_tokens_of_a_fixed_number_are_not_preferred_to_those_of_any():
    """A masked autoencoder: the decoder of tokens is no better to see than the encoder."""
    encoder, decoder = (
        keras.Sequential([keras.Input((count, 8)), layers.Conv1D(4, 3)], name=name)
        for count, name in ((None, "encoder"), (6, "decoder"))
    )
    chosen = default_objectives(Wrapper(encoder=encoder, decoder=decoder))
    assert {objective.model.name for objective in chosen} == {"encoder"}


def test_parts_of_any_size_alone_are_all_chosen():
    model = Wrapper(one=upscaler(), other=Wrapper(two=upscaler()))
    assert len({id(objective.model) for objective in default_objectives(model)}) == 2


# --- models that take no images of floats themselves -----------------------------------------


def around(before, shape, dtype=None, core=None):
    """A functional model of something else than images, with a network of images inside."""
    given = keras.Input(shape, dtype=dtype)
    return keras.Model(given, (core or classifier("core"))(before(given)), name="whole")


NO_IMAGES = {
    "bytes": (lambda x: keras.ops.cast(x, "float32") / 255, (8, 8, 1), "uint8"),
    "a flat vector": (layers.Reshape((8, 8, 1)), (64,), None),
    "a film": (lambda x: keras.ops.reshape(x, (-1, 8, 8, 1)), (5, 8, 8, 1), None),
}


@pytest.mark.parametrize("kind", NO_IMAGES)
def test_the_model_of_images_inside_is_watched_and_scores_as_it_does(kind, caplog):
    model = around(*NO_IMAGES[kind])
    assert default_objectives(model)[0].names[0] == "Channel#core/conv_0"
    assert "not called as a whole" not in caplog.text
    assert caplog.text.count("the model 'core' inside it is watched") == 1
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    expected = model.get_layer("core").predict(images, verbose=0)[:, 1]
    scores = Objective.neuron(model, "core/score", 1).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_a_model_that_gets_features_in_place_of_images_is_no_part():
    stage = keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 3, name="conv")])
    scale, stem = layers.Rescaling(1 / 255), layers.Conv2D(3, 3)
    model = around(lambda x: stem(scale(x)), (8, 8, 1), "uint8", core=stage)
    assert list(image_parts(model)) == []
    assert all(objective.model is model for objective in default_objectives(model))


def test_tokens_inside_a_model_of_words_are_no_images():
    mixer = keras.Sequential([keras.Input((6, 8)), layers.Conv1D(4, 3)], name="mixer")
    model = around(layers.Embedding(10, 8), (6,), "int32", core=mixer)
    assert list(image_parts(model)) == []


class Reads(keras.Model):
    """A model of flat vectors with a `call`, and a network inside of so many channels."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.core = classifier("core", (8, 8, channels))

    def call(self, vectors):
        return self.core(keras.ops.reshape(vectors, (-1, 8, 8, self.channels)))


@pytest.mark.parametrize(("channels", "found"), [(3, ["core"]), (32, [])])
def test_inside_a_call_a_model_of_few_channels_takes_images(channels, found):
    model = Reads(channels)
    model(np.zeros((1, 64 * channels), "float32"))
    assert [path for path, _ in image_parts(model)] == found


# --- a `call` that is of no use beside a `train_step` ---------------------------------------


class Raises(Wrapper):
    def call(self, images):
        raise NotImplementedError("use train_step")


class Empty(Wrapper):
    def call(self, images):
        pass


class Makes(Wrapper):
    """A `call` of how many images to make."""

    def call(self, count):
        return self.critic(keras.random.normal((count, 8, 8, 1)))


class TakesTwo(Wrapper):
    def call(self, images, t):
        return self.critic(images) + t


class Useful(Wrapper):
    def call(self, images):
        return self.critic(images)


@pytest.mark.parametrize("how", ["built", "build"])
@pytest.mark.parametrize("kind", [Raises, Empty, Makes, TakesTwo])
def test_a_call_that_fails_on_images_hides_no_part(kind, how, caplog):
    model = kind(critic=classifier("critic"), generator=decoder())
    if how == "built":
        model.built = True
    else:
        try:
            model.build((None, 8, 8, 1))
        except Exception:
            model.built = True
    assert model.built
    assert is_known(model)
    names = [name for objective in default_objectives(model) for name in objective.names]
    assert names[:4] == [f"Channel#critic/conv_{i}" for i in range(4)]
    assert "'critic'" in caplog.text
    images = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    expected = model.critic.predict(images, verbose=0)[:, 1]
    by_path = Objective.neuron(model, "critic/score", 1)
    np.testing.assert_allclose(by_path.score(images), expected, rtol=1e-5)


def test_a_call_that_fails_before_its_parts_are_built_is_waited_for():
    model = Raises(critic=keras.Sequential([layers.Conv2D(2, 3)]))
    model.built = True
    assert is_wrapper(model)
    assert not is_known(model)
    model.critic(np.zeros((1, 8, 8, 1), "float32"))
    assert is_known(model)
    assert [path for path, _ in image_parts(model)] == [model.critic.name]


def test_a_call_that_works_is_read_as_a_whole():
    model = Useful(critic=classifier("critic"))
    model(np.zeros((1, 8, 8, 1), "float32"))
    assert not is_wrapper(model)
    assert {one.model for one in default_objectives(model)} == {model}


# --- what is said before the first batch builds the parts -----------------------------------


def test_parts_are_named_as_python_reaches_them():
    shared = keras.Sequential([layers.Conv2D(2, 3)])
    model = Wrapper(
        nets={"critic": [shared], "unet": Denoiser()}, net=keras.Sequential([layers.Dense(2)]),
        again=shared, flip=layers.RandomFlip(),
    )  # fmt: skip
    names, several = parts_to_name(model)
    assert several == {"nets['unet']": "images, t"}
    found = [eval(f"model.{name}", {"model": model}) for name in names]
    assert sorted(map(id, found)) == sorted([id(shared), id(model.net)])


def test_a_wrapper_of_plain_layers_is_known_to_have_no_part():
    model = Wrapper(conv=layers.Conv2D(2, 3), dense=layers.Dense(2))
    assert is_known(model)
    with pytest.raises(NothingToShow, match=r"no model inside\. Put its layers into one"):
        default_objectives(model)


def test_a_layer_that_makes_layers_when_it_is_built_is_waited_for():
    class Late(layers.Layer):
        def build(self, shape):
            self.conv = layers.Conv2D(2, 3)
            self.conv.build(shape)

        def call(self, images):
            return self.conv(images)

    model = Wrapper(late=Late(name="late"))
    assert not is_known(model)
    model.late(np.zeros((1, 8, 8, 1), "float32"))
    assert is_known(model)
    assert [path for path, _ in image_parts(model)] == ["late"]
