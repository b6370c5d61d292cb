"""Models without a `call`: which parts are watched, and how their layers are named."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, default_objectives
from featviz_callback.objectives.notices import NothingToShow
from featviz_callback.objectives.wrappers import image_parts, is_known, is_wrapper


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
