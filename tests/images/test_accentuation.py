"""Optimisations that begin at given images."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.fixed_magnitude import FixedMagnitude
from featviz_callback.images.parameterizations import Fourier, Pixel
from featviz_callback.images.regularizers import TotalVariation
from featviz_callback.optimization import step
from tests.conftest import fill, layer_output, make_small_model, random_images, sequential

GIVEN = random_images(2, 12, 10, 1, seed=5)
NAMED = ["fourier", "fixed_magnitude", "pixel"]
PARAMETERIZATIONS = [
    *NAMED,
    Fourier(detail=0.5, window=0.2, colors=None),
    FixedMagnitude(Fourier(detail=0.6)),
    Pixel(contrast=0.5),
]


def compilations(model):
    of_model = step.compiled_steps[model].values()
    eager = keras.backend.backend() == "torch"
    return len(of_model), 0 if eager else sum(compiled.traces for compiled in of_model)


@pytest.mark.acceptance
@pytest.mark.parametrize("optimizer", [None, "adam"])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=str)
def test_an_image_that_gets_no_gradient_is_the_given_one(parameterization, optimizer):
    model = sequential(layers.Flatten(), layers.Dense(2, name="logits"), shape=(7, 6, 3))
    given = random_images(7, 6, 3) * 3 - 1
    given[0, :2, 0] = -1, 2
    result = optimize(
        0 * Objective.neuron(model, "logits", [0, 1]),
        steps=3,
        start=given,
        values_range=(-1, 2),
        parameterization=parameterization,
        optimizer=optimizer,
    )
    # The ends of the range begin a hundredth of it inside.
    expected = np.clip(given, -0.97, 1.97)
    np.testing.assert_allclose(result.images, np.stack([expected] * 2), atol=2e-3)
    assert result.starts == ["given image, relaxed"] * 2 or set(result.starts) == {"given image"}
    assert set(result.status) == {"no_gradient"}


@pytest.fixture
def doubles():
    """Double precision as the default of Keras, for what is made after the model."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def test_the_default_precision_of_keras_changes_no_picture(small_model, doubles):
    two = Objective.neuron(small_model, "logits", [0, 1])
    settings = {"start": GIVEN, "regularizers": [TotalVariation(0.1)], "steps": 2}
    found = optimize(two, **settings)
    keras.config.set_floatx("float32")
    expected = optimize(two, **settings)
    np.testing.assert_allclose(found.images, expected.images, atol=1e-5)


@pytest.mark.acceptance
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=str)
def test_targets_gain_on_their_given_images(parameterization, neurons, small_model):
    two = Objective.neuron(small_model, "logits", [0, 1])
    result = optimize(two, steps=12, start=GIVEN, parameterization=parameterization)
    assert (result.scores > two.score(GIVEN) + 0.02).all()
    np.testing.assert_allclose(result.scores, two.score(result.images), rtol=1e-4, atol=1e-5)
    own, other = (
        [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(result.images, some, strict=True)]
        for some in (GIVEN, GIVEN[::-1])
    )
    assert (np.array(own) > np.array(other) + 0.1).all()


def test_one_image_is_that_of_all_targets(small_model):
    two = Objective.neuron(small_model, "logits", [0, 1])
    one, several = (
        optimize(two, steps=2, start=start).images for start in (GIVEN[0], GIVEN[[0, 0]])
    )
    np.testing.assert_array_equal(one, several)


def test_a_higher_strength_keeps_a_feature_map_nearer():
    model = make_small_model()
    unit = Objective.neuron(model, "logits", 1)
    distances, scores = [], []
    for strength in (0, 10, 300):
        result = optimize(
            unit, steps=24, start=GIVEN[0], start_strength=strength, transformations=None
        )
        before, after = (layer_output(model, "conv1", x) for x in (GIVEN[:1], result.images))
        distances.append(((after - before) ** 2).sum() / (before**2).sum())
        scores.append(result.scores[0])
    assert distances[0] > 1.2 * distances[1] > 2 * distances[2]
    assert scores[0] > scores[1] > scores[2] - 1e-3 >= unit.score(GIVEN[:1])[0] - 0.1


@pytest.mark.parametrize("factor", [1e-3, 100.0])
def test_the_unit_of_a_score_changes_no_image(factor, small_model):
    unit = Objective.neuron(small_model, "logits", 3)
    one, other = (optimize(o, steps=6, start=GIVEN[0]).images for o in (unit, factor * unit))
    np.testing.assert_allclose(one, other, atol=2e-3)


@pytest.mark.parametrize("detail", [1.0, 0.6])
def test_fixed_magnitudes_are_those_of_the_given_image(detail, small_model):
    parameterization = FixedMagnitude(Fourier(detail=detail, window=None))
    unit = Objective.neuron(small_model, "logits", 0)
    given = 0.2 + 0.6 * GIVEN[0]
    image = optimize(unit, steps=5, start=given, parameterization=parameterization).images[0]
    before, after = (
        np.abs(np.fft.fft2(np.log(x[..., 0] / (1 - x[..., 0])))) for x in (given, image)
    )
    # Averages are those of the default optimisation of `Fourier` alone.
    np.testing.assert_allclose(after, before, rtol=1e-2, atol=0.05)
    assert np.abs(image - given).max() > 0.05


def test_other_images_and_strengths_compile_nothing(small_model):
    two = Objective.neuron(small_model, "logits", [0, 1])
    optimize(two, steps=2, start=GIVEN)
    before = compilations(small_model)
    other = Objective.neuron(small_model, "logits", [5, 2])
    optimize(other, steps=3, start=GIVEN[::-1], start_strength=3.0, seed=4)
    assert compilations(small_model) == before
    assert before[0] == 1


def test_the_given_image_of_another_size_of_a_model_of_any_size():
    model = keras.Sequential(
        [keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv"), layers.Conv2D(2, 3)]
    )
    fill(model)
    result = optimize(Objective.channel(model, "conv", 0), steps=1, start=np.full((9, 8, 1), 0.5))
    assert result.images.shape == (1, 9, 8, 1)


def test_signals_begin_at_given_ones():
    model = sequential(layers.Conv1D(3, 3, name="conv"), layers.Flatten(), shape=(16, 2))
    given = random_images(16, 2)
    unit = Objective.channel(model, "conv", 0)
    result = optimize(unit, steps=8, start=given)
    assert result.images.shape == (1, 16, 2)
    assert result.scores > unit.score(given[None])
    assert np.corrcoef(result.images.ravel(), given.ravel())[0, 1] > 0.5


class Own:
    """A parameterization that renders no change."""

    init, image, project = Pixel().init, Pixel().image, Pixel().project


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"start": GIVEN[0, :5]}, "shape .12, 10, 1.* Received: .*5, 10"),
        ({"start": GIVEN[[0, 1, 0]]}, "or 4 of them"),
        ({"start": GIVEN[0] * 255}, "`start`. Expected images in values_range"),
        ({"start": GIVEN[0] * np.nan}, "`start`. Expected images of finite numbers"),
        ({"start": "photo.png"}, "`start`. Expected an array of images"),
        ({"start": GIVEN[0], "start_strength": -1}, "`start_strength`"),
        ({"start": GIVEN[0], "start_strength": np.nan}, "`start_strength`"),
        ({"start": GIVEN[0], "parameterization": Own()}, "`field"),
    ],
)
def test_what_cannot_be_a_start_is_refused(settings, match, neurons, small_model):
    with pytest.raises(ValueError, match=match):
        optimize(neurons, steps=1, **settings)
    assert small_model not in step.compiled_steps
