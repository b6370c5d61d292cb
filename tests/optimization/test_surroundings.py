"""`optimize` on a part of a model: what the model around it does to images is found out."""

import copy
import logging
import pickle

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.objectives import model_around
from featviz_callback.optimization import Settings
from featviz_callback.optimization.probe_data import ProbeImages
from featviz_callback.optimization.surroundings import (
    are_as_outer_takes,
    complete_inside,
    is_range_doubtful,
)
from tests.conftest import fill, sequential

SHAPE = (6, 5, 3)
BYTES = np.random.default_rng(0).integers(0, 256, (9, *SHAPE)).astype("float32")


@pytest.fixture(autouse=True)
def _logs_warnings(caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")


def make_part():
    part = sequential(layers.Conv2D(2, 3, name="conv"), layers.Flatten(), shape=SHAPE)
    part.name = "part"
    return part


class Contrastive(keras.Model):
    """A wrapper without `call`, whose `train_step` would call one part after the other."""

    def __init__(self, part):
        super().__init__()
        flipped = [keras.Input(SHAPE), layers.Rescaling(1 / 127.5, -1.0), layers.RandomFlip()]
        self.augmenter = keras.Sequential(flipped, name="augmenter")
        self.part = part


def around_sequential(part):
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(1 / 127.5, -1.0), part])


def around_by_ops(part):
    images, other = keras.Input(SHAPE, dtype="uint8"), keras.Input((2,))
    features = part(keras.ops.cast(images, "float32") / 127.5 - 1.0)
    return keras.Model([other, images], layers.Concatenate()([features, other]))


# What stands around a part, and what a user names of it.
CASES = {
    "sequential": (around_sequential, lambda whole, part: (part, "conv")),
    "operations": (around_by_ops, lambda whole, part: (part, "conv")),
    "wrapper": (Contrastive, lambda whole, part: (whole, "part/conv")),
}


def objective(kind):
    around, named = CASES[kind]
    part = make_part()
    # The part alone leaves no trace of what is around it where that is a wrapper.
    whole = around(part)
    return Objective.channel(*named(whole, part), [0, 1]), part, whole


# One picture is enough, since what is found out is known before.
SHORT = {"steps": 1, "parameterization": "pixel", "transformations": None, "values_range": None}


@pytest.mark.parametrize("kind", CASES)
def test_the_range_is_what_the_model_around_makes_of_bytes(kind, caplog):
    asked, part, _ = objective(kind)
    around = asked.outer or model_around(part)
    settings, _, _ = complete_inside(Settings(), {id(part): part}, None, around)
    np.testing.assert_allclose(settings.values_range, (-1, 1), atol=1e-5)
    assert caplog.text.count("values_range=(-1, 1)") == 1


@pytest.mark.parametrize("kind", ["operations", "wrapper"])
def test_real_images_are_ranked_as_the_model_around_gives_them(kind):
    asked, part, _ = objective(kind)
    found = optimize(asked, **SHORT, probe_data=BYTES)
    inner = keras.Model(part.inputs[0], part.get_layer("conv").output)
    scores = inner.predict(BYTES / 127.5 - 1, verbose=0).mean((1, 2))
    np.testing.assert_allclose(found.real_scores[:, 0], scores.max(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.values_range, (-1, 1), atol=1e-5)


@pytest.mark.parametrize("kind", ["sequential", "operations"])
def test_images_as_the_part_takes_them_are_told_from_raw_ones(kind):
    _, part, _ = objective(kind)
    for images, are_raw in ((BYTES, True), (BYTES / 127.5 - 1, False)):
        around = model_around(part)
        assert are_as_outer_takes(ProbeImages(images), part, around) == are_raw


def test_a_part_that_nothing_scales_tells_no_model_around_it():
    part = make_part()
    assert model_around(part) is None
    keras.Sequential([keras.Input(SHAPE), part])
    assert model_around(part) is None
    # A tensor of no model.
    part(keras.KerasTensor((None, *SHAPE)))
    assert model_around(part) is None


def test_the_latest_model_around_counts_and_stays_the_same_one():
    part = make_part()
    whole = around_sequential(part)
    assert model_around(part) is model_around(part) is not None
    del whole
    images = keras.Input(SHAPE)
    keras.Model(images, part(images))
    assert model_around(part) is None


def test_what_a_generator_makes_tells_nothing_of_images():
    part = make_part()
    noise = keras.Input((4,))
    made = layers.Reshape(SHAPE)(layers.Dense(90)(noise))
    keras.Model(noise, part(made))
    assert model_around(part) is None


def test_the_order_of_terms_does_not_decide_which_model_is_around():
    whole = CASES["wrapper"][0](make_part())
    named = Objective.channel(whole, "part/conv", 0)
    other = Objective.channel(whole.part, "conv", 1)
    assert named.outer is (named + other).outer is (other + named).outer is whole
    assert copy.copy(named).outer is whole
    assert pickle.loads(pickle.dumps(other)).outer is None


def test_a_layer_of_the_whole_model_is_read_in_the_whole():
    whole = around_sequential(make_part())
    asked = Objective.channel(whole, "part/conv", 0)
    assert asked.model is whole
    assert asked.outer is None


def test_a_worker_gets_the_part_alone():
    asked, *alive = objective("wrapper")
    assert asked.outer is alive[1]
    assert (2 * asked + asked).outer is alive[1]
    assert asked.__getstate__()["outer"] is None


def test_a_range_that_nobody_chose_is_logged_once_a_model(caplog):
    model = fill(keras.Sequential([keras.Input(SHAPE), layers.Conv2D(2, 3, name="conv")]))
    asked = Objective.channel(model, "conv", 0)
    optimize(asked, **{**SHORT, "values_range": (0.0, 1.0)})
    assert "values_range" not in caplog.text
    for _ in range(2):
        optimize(asked, steps=1, parameterization="pixel", transformations=None)
    assert caplog.text.count("values_range=(0, 1), the default of `optimize`") == 1


# --- a `train_step` that may scale images by arithmetic -----------------------------------------


class Stepping(keras.Model):
    """Has a `train_step` of its own, into which nobody can look."""

    def train_step(self, *given):
        return {}


class Calling(keras.Model):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def call(self, images):
        return self.part(images)

    train_step = Stepping.train_step


class Parts(keras.Model):
    def __init__(self, part, **others):
        super().__init__()
        self.part = part
        for name, other in others.items():
            setattr(self, name, other)

    train_step = Stepping.train_step


def called(part):
    model = Calling(part)
    model(BYTES[:1])
    return model


def functional(part):
    image = keras.Input(SHAPE)
    return Stepping(image, part(image))


def scaled_part():
    return sequential(
        layers.Rescaling(1 / 127.5, -1.0), layers.Conv2D(2, 3, name="conv"), shape=SHAPE
    )


@pytest.mark.parametrize(
    ("around", "make", "images", "values_range", "doubtful"),
    [
        (Parts, make_part, BYTES, None, True),
        (called, make_part, BYTES, None, True),
        (functional, make_part, BYTES, None, True),
        (Parts, make_part, BYTES / 255, None, False),
        (Parts, make_part, BYTES, (0, 255), False),
        (Parts, scaled_part, BYTES, None, False),
        (Contrastive, make_part, BYTES, None, False),
        (around_sequential, make_part, BYTES, None, False),
        (lambda part: Parts(part, flip=layers.Rescaling(1 / 255)), make_part, BYTES, None, False),
    ],
    ids=[
        "a wrapper", "a call", "functional", "scaled", "given", "the part scales", "no step of its "
        "own", "no step, a layer", "a layer beside",
    ],
)  # fmt: skip
@pytest.mark.parametrize("whole", [False, True])
def test_a_train_step_that_may_scale_is_named_once(
    around, make, images, values_range, doubtful, whole, caplog
):
    part = make()
    outer = around(part)
    watched = outer if whole and around in (called, functional) else part
    models, asked = {id(watched): watched}, Settings(values_range=values_range)
    for _ in range(2):
        found = complete_inside(asked, models, ProbeImages(images), outer)
        assert is_range_doubtful(asked, models, *found[1:], outer) == doubtful
    assert caplog.text.count("may scale images before the model") == doubtful
