"""`optimize`: what the documentation shows, its arguments and its refusals."""

import gc
import math
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, ascent, optimize
from featviz_callback.parameterizations import Fourier, Pixel
from featviz_callback.regularizers import L2
from featviz_callback.transformations import Noise
from tests import reference
from tests.conftest import ascend, fill, make_small_model, sequential, to_numpy

# --- what the documentation shows -----------------------------------------------------


@pytest.fixture
def documented_model():
    """A network with the layer names of the documentation."""
    return sequential(
        layers.Conv2D(4, 3, activation="relu", name="conv2d_1"),
        layers.Conv2D(6, 3, activation="relu", name="mixed4_2"),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
        shape=(10, 9, 3),
    )


def test_ten_logits_give_ten_images(documented_model):
    objective = Objective.neuron(documented_model, "logits", list(range(10)))
    images, names = optimize(objective, steps=2)
    assert images.shape == (10, 10, 9, 3)
    assert images.dtype == np.float32
    assert names == [f"Neuron#logits_{i}" for i in range(10)]


def test_a_weighted_sum_of_single_targets_gives_one_image(documented_model):
    logits_obj = Objective.neuron(documented_model, "logits", 1)
    layer_obj = Objective.layer(documented_model, "mixed4_2")
    channel_obj = Objective.channel(documented_model, "conv2d_1", 2)
    total = logits_obj * 1.0 + layer_obj * 3.0 + channel_obj * (-5.0)
    images, names = optimize(total, steps=2)
    assert images.shape == (1, 10, 9, 3)
    assert names == ["Neuron#logits_1 & Layer#mixed4_2 & Channel#conv2d_1_2"]


# --- the gradient ---------------------------------------------------------------------

SHAPE = (6, 5, 3)
RANGE = (-1.0, 2.0)
VECTOR = np.array([1.0, -0.5, 0.25, 2.0])

TARGETS = {
    "neuron": (lambda m: Objective.neuron(m, "logits", 2), lambda out: out["logits"][2]),
    "channel": (lambda m: Objective.channel(m, "conv", 1), lambda out: out["conv"][..., 1].mean()),
    "layer": (lambda m: Objective.layer(m, "conv"), lambda out: (out["conv"] ** 2).mean()),
    "direction": (
        lambda m: Objective.direction(m, "conv", VECTOR),
        lambda out: reference.direction_score(out["conv"], VECTOR, 2),
    ),
    "custom": (
        lambda m: Objective.custom(
            m, ["conv", "logits"], lambda o: keras.ops.sum(o[0], (1, 2, 3)) * o[1][:, 0]
        ),
        lambda out: out["conv"].sum() * out["logits"][0],
    ),
    "sum": (
        lambda m: 2 * Objective.neuron(m, "logits", 0) - 3 * Objective.channel(m, "conv", 2) / 4,
        lambda out: 2 * out["logits"][0] - 0.75 * out["conv"][..., 2].mean(),
    ),
}
FOURIER = {"decay": 1.0, "detail": 0.9, "window": 0.5, "mean": 0.3}
PARAMETERIZATIONS = {
    "fourier": (
        Fourier(**FOURIER, contrast=math.inf, start=1.0),
        lambda params: reference.fourier_image(params, SHAPE, **FOURIER),
    ),
    "pixel": (
        Pixel(contrast=math.inf, start=1.0, mean=0.3),
        lambda params: reference.pixel_image(params, mean=0.3),
    ),
}


def smooth_model():
    return sequential(
        layers.Conv2D(4, (3, 2), activation="tanh", name="conv"),
        layers.Flatten(),
        layers.Dense(3, name="logits"),
        shape=SHAPE,
    )


@pytest.fixture(scope="module")
def smooth():
    return smooth_model()


def step_gradient(objective, start, **settings):
    """What one step of plain gradient ascent at rate 1 adds to the parameters."""
    sgd = keras.optimizers.SGD(1.0)
    settings = {"steps": 1, "optimizer": sgd, "transformations": None, **settings}
    _, final = ascend(objective, start=start, **settings)
    return final - start


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_step_follows_the_gradient_of_finite_differences(
    target, parameterization, penalty, smooth
):
    make, score = TARGETS[target]
    package, to_image = PARAMETERIZATIONS[parameterization]
    weights = [w.astype("float64") for w in smooth.get_weights()]

    def independent(params):
        image = RANGE[0] + (RANGE[1] - RANGE[0]) * to_image(params)
        return score(reference.conv_net(image, *weights)) - penalty * (image**2).mean() ** 0.5

    start = package.init(np.random.default_rng(3), SHAPE)[None]
    gradient = step_gradient(
        make(smooth),
        start,
        parameterization=package,
        values_range=RANGE,
        regularizers=[L2(penalty)] if penalty else (),
    )[0]
    expected = reference.central_differences(independent, start[0].astype("float64"))
    error = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
    assert error < 1e-3


def test_the_default_step_goes_along_the_gradient(smooth):
    objective = Objective.neuron(smooth, "logits", 2)
    still = {"parameterization": Pixel(contrast=math.inf), "transformations": None}
    start = np.zeros((1, 3, 6, 5), "float32")
    gradient = step_gradient(objective, start, **still)
    _, final = ascend(objective, start=start, steps=1, **still)
    cosine = (final * gradient).sum() / np.linalg.norm(final) / np.linalg.norm(gradient)
    assert cosine > 0.9999


@pytest.mark.parametrize("optimizer", [None, keras.optimizers.SGD(100.0)], ids=["default", "SGD"])
def test_every_step_ends_within_the_contrast(optimizer, smooth):
    bounded = {"parameterization": Pixel(contrast=0.05), "transformations": None}
    objective = Objective.neuron(smooth, "logits", [0, 1])
    _, final = ascend(objective, steps=4, optimizer=optimizer, **bounded)
    np.testing.assert_allclose(np.sqrt((final**2).mean((1, 2, 3))), 0.05, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_the_default_ascent_is_nesterovs_on_normalised_gradients(steps):
    model = sequential(layers.Flatten(), layers.Dense(1, use_bias=False), shape=(6, 5, 1))
    still = {"parameterization": Pixel(contrast=math.inf), "transformations": None}
    start = np.random.default_rng(0).normal(size=(1, 1, 6, 5))
    objective = Objective.neuron(model, model.layers[-1], 0)
    _, final = ascend(objective, start=start.astype("float32"), steps=steps, **still)

    weights = model.get_weights()[0].reshape(1, 1, 6, 5)
    rate = 0.06 * (16 / max(steps, 8)) ** 0.5
    expected, velocity = start, 0.0
    for number in range(steps):
        shares = reference.sigmoid(expected)
        direction = weights * shares * (1 - shares)
        direction = direction / np.sqrt((direction**2).mean())
        velocity = 0.8 * velocity + direction
        # A share of what the velocity would be under a constant direction.
        pace = rate / sum(0.8**i for i in range(number + 1))
        expected = expected + pace * (direction + 0.8 * velocity)
        expected = expected - 0.3 * rate * expected
    np.testing.assert_allclose(final, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_default_step_is_that_of_another_spectrum(channels):
    shape = (6, 5, channels)
    model = sequential(layers.Flatten(), layers.Dense(2, name="logits"), shape=shape)
    objective = Objective.neuron(model, "logits", 1)
    one = Fourier(**FOURIER | {"detail": 1.0}, contrast=math.inf, start=1.0)
    still = {"parameterization": one, "transformations": None}
    start = one.init(np.random.default_rng(0), shape)[None]
    gradient = step_gradient(objective, start, **still)
    _, final = ascend(objective, start=start, steps=1, **still)

    # The same ascent in the coefficients of the steeper spectrum, with weak hues.
    factors = reference.fourier_scale(6, 5, 1.4, 1.5) / reference.fourier_scale(6, 5, 1.0)
    factors = factors * np.array([1.0, 0.5, 0.5])[:channels, None, None]
    steep = factors * gradient
    steep = steep / np.sqrt((steep**2).mean())
    rate = 0.06 * 2**0.5
    expected = (start + 1.8 * rate * factors * steep) * (1 - 0.3 * rate)
    np.testing.assert_allclose(final, expected, rtol=1e-3, atol=1e-4)


# --- regularizers ----------------------------------------------------------------------


def test_a_regularizer_pulls_on_the_image(neurons):
    settings = {"steps": 16, "transformations": None, "parameterization": "pixel"}
    plain, pulled = (
        optimize(neurons, regularizers=regularizers, **settings).images
        for regularizers in ((), [L2(1000.0)])
    )
    assert (pulled**2).mean() < 0.8 * (plain**2).mean()


def test_a_regularizer_sees_the_whole_image_and_not_a_view(neurons):
    seen = []

    def penalty(images):
        seen.append(tuple(images.shape))
        return keras.ops.mean(images, axis=(1, 2, 3))

    optimize(neurons, steps=1, image_shape=(20, 18), regularizers=penalty)
    assert set(seen) == {(4, 20, 18, 1)}


# --- optimizers -----------------------------------------------------------------------


def test_an_optimizer_is_copied_and_can_be_used_again(neurons, small_model, images):
    adam = keras.optimizers.Adam(0.1)
    config = adam.get_config()
    first = optimize(neurons, steps=3, optimizer=adam).images
    np.testing.assert_array_equal(optimize(neurons, steps=3, optimizer=adam).images, first)
    assert adam.get_config() == config
    assert not adam.built
    assert int(to_numpy(adam.iterations)) == 0
    small_model.compile(adam, "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    assert int(to_numpy(adam.iterations)) == 1


def test_an_optimizer_in_use_is_not_touched(neurons, small_model, images):
    small_model.compile(keras.optimizers.Adam(0.01), "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    before = [to_numpy(v).copy() for v in small_model.optimizer.variables]
    optimize(neurons, steps=2, optimizer=small_model.optimizer)
    for variable, value in zip(small_model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_an_optimizer_can_be_named(neurons):
    named, given = (
        optimize(neurons, steps=2, optimizer=optimizer).images
        for optimizer in ("adam", keras.optimizers.Adam())
    )
    np.testing.assert_array_equal(named, given)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw", "nadam", "lion", "adafactor"])
def test_any_optimizer_of_keras_ascends(name, neurons):
    settings = {"parameterization": "pixel", "transformations": None}
    result = optimize(neurons, steps=3, optimizer=name, **settings)
    assert (result.scores >= result.history[0]).all()
    assert (result.scores > result.history[0]).any()


def test_the_learning_rate_is_data(smooth):
    objective = Objective.neuron(smooth, "logits", 2)
    start = np.zeros((1, 3, 6, 5), "float32")
    settings = {"parameterization": Pixel(contrast=math.inf), "transformations": None, "steps": 1}
    once, twice = (
        ascend(objective, start=start, optimizer=keras.optimizers.SGD(rate), **settings)[1]
        for rate in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


# --- sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image_shape", "expected"),
    [
        ((24, 20), (24, 20, 1)),
        ((24, 20, 1), (24, 20, 1)),
        ((6, 5), (6, 5, 1)),
        ((7, 30), (7, 30, 1)),
    ],
)
def test_an_image_can_be_larger_or_smaller_than_the_models(neurons, image_shape, expected):
    result = optimize(neurons, steps=3, image_shape=image_shape)
    assert result.images.shape == (4, *expected)
    assert result.status == ["ok"] * 4
    assert np.isfinite(result.scores).all()


def test_a_smaller_image_is_seen_enlarged(neurons):
    """Each pixel of a flat image is the same however it is enlarged."""
    flat = {"parameterization": Pixel(start=0.0, mean=0.3), "optimizer": keras.optimizers.SGD(0.0)}
    result = optimize(neurons, steps=1, image_shape=(6, 5), transformations=None, **flat)
    expected = neurons.score(np.full((4, 12, 10, 1), 0.3))
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def any_size():
    """A fully convolutional model."""
    return sequential(
        layers.Conv2D(3, 3, activation="tanh", name="conv"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2, name="logits"),
        shape=(None, None, 3),
    )


@pytest.mark.parametrize("image_shape", [(9, 7), (9, 7, 3), (16, 16)])
def test_a_model_of_any_size_takes_the_size_that_is_asked_for(any_size, image_shape):
    objective = Objective.neuron(any_size, "logits", [0, 1]) + Objective.channel(
        any_size, "conv", 0
    )
    result = optimize(objective, steps=2, image_shape=image_shape)
    assert result.images.shape == (2, *image_shape[:2], 3)
    np.testing.assert_allclose(result.scores, objective.score(result.images), rtol=1e-4, atol=1e-5)


def test_a_model_of_any_size_needs_to_be_told_one(any_size):
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(any_size, "conv", 0))


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_any_number_of_channels_can_be_seen(channels):
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(7, 6, channels))
    images, _ = optimize(Objective.channel(model, "conv", [0, 1]), steps=2)
    assert images.shape == (2, 7, 6, channels)


# --- programs -------------------------------------------------------------------------


def compilations(model):
    """How many programs there are, and how often their scores were traced.

    Torch runs eagerly: there each step counts as a trace, so those are left out.
    """
    programs = list(ascent._programs[model].values())
    eager = keras.backend.backend() == "torch"
    return len(programs), 0 if eager else sum(program.traces for program in programs)


@pytest.mark.parametrize("settings", [{}, {"optimizer": "adam"}], ids=str)
def test_a_second_call_with_other_data_compiles_nothing(settings, small_model):
    first = Objective.neuron(small_model, "logits", [0, 1]) + Objective.direction(
        small_model, "conv1", np.ones(4)
    )
    optimize(first, steps=2, **settings)
    before = compilations(small_model)
    assert before[0] == 1
    second = -2.5 * Objective.neuron(small_model, "logits", [7, 3], names=["a", "b"])
    second = second + Objective.direction(small_model, "conv1", [1, 2, 3, 4])
    fill(small_model, seed=3)
    if settings:
        settings = {"optimizer": keras.optimizers.Adam(0.3)}
    optimize(second, steps=5, seed=9, save_every=2, **settings)
    assert compilations(small_model) == before


def test_each_program_is_traced_once(neurons, small_model):
    for _ in range(2):
        optimize(neurons, steps=3, transformations=[Noise()], warmup_steps=1)
    programs, traces = compilations(small_model)
    assert programs == 3  # the ascent, its warm-up, and the clean scores
    assert traces in (0, programs)


def test_a_changed_model_gets_a_new_program(neurons, small_model):
    before = optimize(neurons, steps=2).images
    small_model.get_layer("conv2").activation = keras.activations.relu
    after = optimize(neurons, steps=2).images
    assert not np.allclose(before, after, atol=1e-4)
    assert compilations(small_model)[0] == 2


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adam", "transformations": [Noise()]}], ids=str
)
def test_programs_do_not_keep_their_model_alive(settings):
    model = make_small_model()
    optimize(Objective.neuron(model, "logits", 0), steps=2, **settings)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def test_a_model_of_mixed_precision_is_ascended_in_float32():
    policy = "mixed_bfloat16"
    model = sequential(
        layers.Conv2D(2, 3, activation="tanh", dtype=policy),
        layers.Flatten(dtype=policy),
        layers.Dense(2, name="logits", dtype=policy),
        shape=(6, 6, 1),
    )
    result = optimize(Objective.neuron(model, "logits", [0, 1]), steps=4, transformations=None)
    assert result.images.dtype == result.scores.dtype == result.history.dtype == np.float32
    assert result.status == ["ok", "ok"]
    assert (result.scores > result.history[0]).all()


# --- refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 0},
        {"steps": -1},
        {"steps": 2.5},
        {"steps": True},
        {"steps": None},
        {"warmup_steps": -1},
        {"save_every": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": None},
        {"values_range": (1, 1)},
        {"values_range": (1, 0)},
        {"values_range": (0, math.inf)},
        {"values_range": (0, math.nan)},
        {"values_range": 1},
        {"values_range": (0, 1, 2)},
        {"image_shape": (0, 4)},
        {"image_shape": (4,)},
        {"image_shape": (4, 4, 3)},
        {"image_shape": (4.5, 4)},
        {"image_shape": (1, 4, 4, 1)},
        {"image_shape": 12},
        {"optimizer": "no such optimizer"},
        {"optimizer": 3},
        {"transformations": "jitter"},
        {"transformations": [None]},
        {"transformations": 3},
        {"regularizers": ["l2"]},
        {"regularizers": 3},
        {"parameterization": "wavelet"},
        {"parameterization": None},
    ],
    ids=str,
)
def test_a_wrong_argument_is_named(settings, neurons, small_model):
    [name] = settings
    with pytest.raises(ValueError, match=f"`{name}`"):
        optimize(neurons, **settings)
    assert small_model not in ascent._programs


@pytest.mark.parametrize("objective", [None, "logits", make_small_model], ids=str)
def test_what_is_no_objective_is_refused(objective):
    with pytest.raises(ValueError, match="`objective`"):
        optimize(objective)


def test_a_size_that_the_model_cannot_take_is_refused():
    model = sequential(layers.Conv2D(2, 5, name="conv"), shape=(None, None, 1))
    with pytest.raises(ValueError, match="`image_shape`"):
        optimize(Objective.channel(model, "conv", 0), image_shape=(3, 3))


class Unhashable(Pixel):
    __hash__ = None


# --- what a kept program must not take for granted ----------------------------------------


def scores_as_they_are(objective):
    """Scores of an ascent's images, by the ascent and by a plain call."""
    result = optimize(objective, steps=1, transformations=None)
    return result.scores, objective.score(result.images)


def test_a_program_notices_that_an_activation_was_replaced(small_model):
    layer = small_model.get_layer("conv1")
    for factor in range(1, 6):
        layer.activation = lambda x, factor=float(factor): factor * x
        ours, expected = scores_as_they_are(Objective.channel(small_model, "conv1", 0))
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_a_program_notices_that_a_setting_of_a_layer_changed():
    leaky = layers.LeakyReLU(negative_slope=0.1, name="leaky")
    model = sequential(layers.Conv2D(2, 3), leaky)
    for slope in (0.1, 5.0):
        leaky.negative_slope = slope
        ours, expected = scores_as_they_are(-Objective.channel(model, "leaky", 0))
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
def test_a_multiplier_changes_the_score_and_not_the_picture(factor, small_model):
    objective = Objective.neuron(small_model, "logits", [0, 1])
    plain, scaled = (optimize(o, steps=4) for o in (objective, factor * objective))
    assert scaled.status == ["ok", "ok"]
    np.testing.assert_allclose(scaled.images, plain.images, atol=1e-4)
    np.testing.assert_allclose(scaled.scores / factor, plain.scores, rtol=1e-3)


@pytest.mark.parametrize(
    ("settings", "argument"),
    [
        ({"regularizers": [lambda x: keras.ops.sum(x)]}, "one penalty an image"),
        ({"parameterization": Unhashable()}, "comparable by value"),
        ({"values_range": "01"}, "`values_range`"),
    ],
)
def test_parts_of_the_wrong_kind_are_refused(settings, argument, small_model):
    with pytest.raises(ValueError, match=argument):
        optimize(Objective.neuron(small_model, "logits", 0), steps=1, **settings)


def test_an_optimizer_may_hold_another(small_model):
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    objective = Objective.neuron(small_model, "logits", 0)
    first, second = (optimize(objective, steps=2, optimizer=inner) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
