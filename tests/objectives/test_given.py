"""Objectives that compare with given images: inversion and caricature."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.optimization import step
from tests import reference
from tests.conftest import fill, layer_output, random_images, sequential

GIVEN = random_images(3, 12, 10, 1, seed=8)
OTHERS = random_images(3, 12, 10, 1, seed=9)


def likeness(a, b):
    return 1 - ((a - b) ** 2).sum() / (b**2).sum()


@pytest.mark.parametrize("layer", ["conv1", "logits"])
def test_an_inversion_scores_the_share_of_activations_that_is_equal(layer, small_model):
    inversion = Objective.inversion(small_model, layer, GIVEN, multiplier=2.0)
    assert inversion.names == [f"Inversion#{layer}_{i}" for i in range(3)]
    np.testing.assert_allclose(inversion.score(GIVEN), [2, 2, 2], rtol=1e-6)
    found, wanted = (layer_output(small_model, layer, x) for x in (OTHERS, GIVEN))
    expected = [2 * likeness(*pair) for pair in zip(found, wanted, strict=True)]
    np.testing.assert_allclose(inversion.score(OTHERS), expected, rtol=1e-4)


def test_a_caricature_scores_the_product_with_the_activations(small_model):
    caricature = Objective.caricature(small_model, "conv1", GIVEN)
    assert caricature.names == [f"Caricature#conv1_{i}" for i in range(3)]
    found, vectors = (layer_output(small_model, "conv1", x) for x in (OTHERS, GIVEN))
    expected = [reference.direction_score(*pair, 2) for pair in zip(found, vectors, strict=True)]
    np.testing.assert_allclose(caricature.score(OTHERS), expected, rtol=1e-4)


@pytest.mark.parametrize("make", [Objective.inversion, Objective.caricature])
def test_the_activations_are_those_of_the_weights_of_the_moment(make, small_model):
    objective = make(small_model, "conv1", GIVEN)
    fill(small_model, seed=3)
    fresh = make(small_model, "conv1", GIVEN)
    np.testing.assert_array_equal(objective.score(OTHERS), fresh.score(OTHERS))
    one, other = (optimize(o, steps=2).images for o in (objective, fresh))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "logits"])
def test_inverted_images_have_the_activations_of_the_given_ones(layer, small_model):
    result = optimize(Objective.inversion(small_model, layer, GIVEN), steps=64)
    found, wanted = (layer_output(small_model, layer, x) for x in (result.images, GIVEN))
    for own, given in zip(found, wanted, strict=True):
        assert np.corrcoef(own.ravel(), given.ravel())[0, 1] > 0.95


def test_caricatures_are_nearest_to_their_own_images_and_exaggerate(small_model):
    result = optimize(Objective.caricature(small_model, "conv2", GIVEN), steps=24)
    found, given = (layer_output(small_model, "conv2", x) for x in (result.images, GIVEN))
    found, given = found.reshape(3, -1), given.reshape(3, -1)
    cosines = reference_cosines(found, given)
    assert (cosines.argmax(1) == np.arange(3)).all()
    along = (found * given).sum(1) / (given**2).sum(1)
    assert (along > 1.2).all()


def reference_cosines(a, b):
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_other_images_compile_nothing(small_model):
    optimize(Objective.inversion(small_model, "conv1", GIVEN), steps=2)
    [compiled] = step.compiled_steps[small_model].values()
    traces = compiled.traces
    optimize(Objective.inversion(small_model, "conv1", OTHERS, multiplier=3.0), steps=3)
    assert list(step.compiled_steps[small_model].values()) == [compiled]
    assert keras.backend.backend() == "torch" or compiled.traces == traces


def test_one_image_is_one_target_and_a_model_of_one_image_at_a_time_is_called_so():
    model = keras.Sequential([keras.Input(batch_shape=(2, 8, 6, 1)), layers.Conv2D(2, 3, name="c")])
    fill(model)
    assert Objective.inversion(model, "c", np.ones((8, 6, 1))).names == ["Inversion#c_0"]
    three = Objective.inversion(model, "c", random_images(3, 8, 6, 1))
    assert optimize(three, steps=1).images.shape == (3, 8, 6, 1)


def test_signals_are_inverted():
    model = sequential(layers.Conv1D(3, 3, name="conv"), shape=(16, 2))
    given = random_images(2, 16, 2)
    inversion = Objective.inversion(model, "conv", given)
    np.testing.assert_allclose(inversion.score(given), 1, rtol=1e-5)
    assert (optimize(inversion, steps=48).scores > 0.9).all()


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (GIVEN[:, :5], "of shape .12, 10, 1., one or several. Received: of shape .3, 5, 10, 1."),
        (GIVEN * np.inf, "finite images"),
        (GIVEN[:0], "finite images"),
        ("cat.png", "`images`. Expected an array of images"),
    ],
    ids=["shape", "infinite", "none", "text"],
)
@pytest.mark.parametrize("make", [Objective.inversion, Objective.caricature])
def test_what_are_no_images_of_the_model_is_refused(make, images, match, small_model):
    with pytest.raises(ValueError, match=match):
        make(small_model, "conv1", images)


def test_an_image_without_activations_is_refused():
    model = sequential(layers.Conv2D(2, 3, use_bias=False, name="conv"))
    with pytest.raises(ValueError, match=r"Received: images \[1\]"):
        Objective.inversion(model, "conv", np.stack([GIVEN[0], 0 * GIVEN[0]]))


def test_images_of_another_size_than_the_given_ones_are_refused():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")])
    inversion = Objective.inversion(fill(model), "conv", GIVEN)
    assert optimize(inversion, steps=1, image_shape=(12, 10)).images.shape == (3, 12, 10, 1)
    with pytest.raises(Exception, match="An inversion compares outputs of one shape"):
        optimize(inversion, steps=1, image_shape=(9, 9))


def test_a_model_of_several_inputs_is_refused():
    image, age = keras.Input((4, 4, 1)), keras.Input((1,))
    features = keras.ops.concatenate([layers.Flatten()(image), age], axis=1)
    model = keras.Model([image, age], layers.Dense(3, name="logits")(features))
    with pytest.raises(ValueError, match="Expected a model of one input"):
        Objective.inversion(model, "logits", np.zeros((1, 4, 4, 1)))
