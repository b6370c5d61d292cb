"""A compiled step: its gradient, its update, and when it is compiled again."""

import gc
import math
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Fourier, Pixel
from featviz_callback.images.regularizers import L2
from featviz_callback.images.transformations import Noise, Rotate
from featviz_callback.optimization import step
from featviz_callback.optimization.chunk import Chunk
from tests import reference
from tests.conftest import (
    IMAGE_SHAPE,
    ascend,
    fill,
    make_small_model,
    prepare,
    sequential,
    to_numpy,
)

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
        Fourier(**FOURIER, contrast=math.inf, noise=1.0),
        lambda params: reference.fourier_image(params, SHAPE, **FOURIER),
    ),
    "pixel": (
        Pixel(contrast=math.inf, noise=1.0, mean=0.3),
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
    """Return what one step of plain gradient ascent at rate 1 adds to the parameters."""
    sgd = keras.optimizers.SGD(1.0)
    task = prepare(objective, **{"steps": 1, "optimizer": sgd, "transformations": None, **settings})
    chunk = Chunk(task, np.arange(1), start)
    chunk.step()
    return to_numpy(chunk.params) - start


@pytest.mark.acceptance
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
    plain = {"parameterization": Pixel(contrast=math.inf), "transformations": None}
    start = np.zeros((1, 3, 6, 5), "float32")
    gradient = step_gradient(objective, start, **plain)
    _, final = ascend(objective, start=start, steps=1, **plain)
    cosine = (final * gradient).sum() / np.linalg.norm(final) / np.linalg.norm(gradient)
    assert cosine > 0.9999


@pytest.mark.parametrize("optimizer", [None, keras.optimizers.SGD(100.0)], ids=["default", "SGD"])
def test_every_step_ends_within_the_contrast(optimizer, smooth):
    bounded = {"parameterization": Pixel(contrast=0.05), "transformations": None}
    objective = Objective.neuron(smooth, "logits", [0, 1])
    _, final = ascend(objective, steps=4, optimizer=optimizer, **bounded)
    np.testing.assert_allclose(np.sqrt((final**2).mean((1, 2, 3))), 0.05, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_the_default_update_is_nesterovs_on_normalised_gradients(steps):
    model = sequential(layers.Flatten(), layers.Dense(1, use_bias=False), shape=(6, 5, 1))
    plain = {"parameterization": Pixel(contrast=math.inf), "transformations": None}
    start = np.random.default_rng(0).normal(size=(1, 1, 6, 5))
    objective = Objective.neuron(model, model.layers[-1], 0)
    _, final = ascend(objective, start=start.astype("float32"), steps=steps, **plain)

    weights = model.get_weights()[0].reshape(1, 1, 6, 5)
    rate = 0.045 * (16 / max(steps, 8)) ** 0.5
    expected, velocity = start, 0.0
    for number in range(steps):
        shares = reference.sigmoid(expected)
        direction = weights * shares * (1 - shares)
        direction = direction / np.sqrt((direction**2).mean())
        velocity = 0.8 * velocity + direction
        # Divided by the velocity that a constant direction would give.
        pace = rate / sum(0.8**i for i in range(number + 1))
        expected = expected + pace * (direction + 0.8 * velocity)
        expected = expected - 0.3 * rate * expected
    np.testing.assert_allclose(final, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.acceptance
@pytest.mark.parametrize("values_range", [(0.0, 1.0), (-1.0, 1.0), (-3.0, 3.0), (0.0, 255.0)])
@pytest.mark.parametrize(("channels", "decay"), [(1, 1.0), (3, 1.0), (1, 0.5)])
def test_the_default_step_is_that_of_another_spectrum(channels, decay, values_range):
    shape = (6, 5, channels)
    model = sequential(layers.Flatten(), layers.Dense(2, name="logits"), shape=shape)
    objective = Objective.neuron(model, "logits", 1)
    one = Fourier(**FOURIER | {"detail": 1.0, "decay": decay}, contrast=math.inf, noise=1.0)
    plain = {"parameterization": one, "transformations": None, "values_range": values_range}
    start = one.init(np.random.default_rng(0), shape)[None]
    gradient = step_gradient(objective, start, **plain)
    # By default the parameters are the coefficients, halved if the range is around zero.
    share = 0.5 if values_range[0] < 0 else 1.0
    coefficients = share * reference.fourier_coefficients(start[0], shape, decay)[None]
    result, final = ascend(objective, start=coefficients.astype("float32"), steps=1, **plain)

    # The same step in the coefficients of the steeper spectrum, with weak chroma.
    factors = reference.fourier_scale(6, 5, 1.4 * decay, 1.5)
    factors = factors / reference.fourier_scale(6, 5, decay)
    factors = factors * np.array([1.0, 0.5, 0.5])[:channels, None, None]
    steep = factors * gradient
    steep = steep / np.sqrt((steep**2).mean())
    rate = 0.045 * 2**0.5
    expected = (start + 1.8 * rate * factors * steep) * (1 - 0.3 * rate)
    coefficients = share * reference.fourier_coefficients(expected[0], shape, decay)[None]
    np.testing.assert_allclose(final, coefficients, rtol=1e-3, atol=1e-4)

    # With unbounded contrast, the finished image is three times as far from its plain
    # background.
    shares = reference.fourier_image(3 * expected[0], shape, decay, window=0.5, mean=0.3)
    low, high = values_range
    image = low + (high - low) * shares
    np.testing.assert_allclose(result.images[0], image, atol=2e-3 * (high - low))


def test_the_learning_rate_is_data(smooth):
    objective = Objective.neuron(smooth, "logits", 2)
    start = np.zeros((1, 3, 6, 5), "float32")
    settings = {"parameterization": Pixel(contrast=math.inf), "transformations": None, "steps": 1}
    once, twice = (
        ascend(objective, start=start, optimizer=keras.optimizers.SGD(rate), **settings)[1]
        for rate in (1.0, 2.0)
    )
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-20, 1e-6, 1e6, 1e20])
def test_a_multiplier_changes_the_score_and_not_the_picture(factor, small_model):
    objective = Objective.neuron(small_model, "logits", [0, 1])
    plain, scaled = (optimize(o, steps=4) for o in (objective, factor * objective))
    assert scaled.status == ["ok", "ok"]
    np.testing.assert_allclose(scaled.images, plain.images, atol=1e-4)
    np.testing.assert_allclose(scaled.scores / factor, plain.scores, rtol=1e-3)
    assert scaled.starts == plain.starts


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("layer", ["conv1", "logits"])
def test_a_multiplier_changes_no_picture_that_goes_on_from_another(factor, layer, small_model):
    objective = Objective.channel(small_model, layer, [0, 1])
    _, start = ascend(objective, steps=4)
    plain, scaled = (ascend(o, start, steps=4)[0] for o in (objective, factor * objective))
    np.testing.assert_allclose(scaled.images, plain.images, atol=1e-4)


def model_of(policy):
    """Two logits of 6x6 images, computed in half precision."""
    return sequential(
        layers.Conv2D(2, 3, activation="tanh", dtype=policy),
        layers.Flatten(dtype=policy),
        layers.Dense(2, name="logits", dtype=policy),
        shape=(6, 6, 1),
    )


def test_images_of_a_model_of_mixed_precision_are_optimised_in_float32():
    model = model_of("mixed_bfloat16")
    result = optimize(Objective.neuron(model, "logits", [0, 1]), steps=4, transformations=None)
    assert result.images.dtype == result.scores.dtype == result.history.dtype == np.float32
    assert result.status == ["ok", "ok"]
    assert (result.scores > result.history[0]).all()


@pytest.mark.parametrize("factor", [1e-9, 1e9])
def test_the_largest_multiplier_of_a_sum_fits_into_half_precision(factor):
    model = model_of("mixed_float16")
    one, other = (Objective.neuron(model, "logits", i) for i in (0, 1))
    result = optimize(factor * one + other, steps=4, transformations=None)
    larger = optimize(one if factor > 1 else other, steps=4, transformations=None)
    assert result.status == ["ok"]
    assert np.corrcoef(result.images.ravel(), larger.images.ravel())[0, 1] > 0.9


# --- contrast that follows from the score ---------------------------------------------

AHEAD, BEHIND, NEITHER = (-2e9, -1e9, 0.0), (1e9, 2e9, 0.0), (math.nan, math.nan, 0.0)


def chunk_of(model, aims, start=None, **settings):
    """A chunk of one default optimisation for each row of aims, of a feature map."""
    objective = Objective.channel(model, "conv1", range(len(aims)))
    task = prepare(objective, **{"steps": 8, "transformations": None, **settings})
    return Chunk(task, np.arange(len(aims)), start, np.array(aims, "float32"))


def contrasts_of(chunk):
    """The contrast of each image, by the state of its optimisation."""
    return to_numpy(chunk.state[1]).ravel()


def fields_of(params):
    """The fields of some coefficients."""
    return np.array([reference.coefficient_field(one, IMAGE_SHAPE) for one in to_numpy(params)])


def strengths(params):
    """The root mean square of the field of each image."""
    return np.sqrt((fields_of(params) ** 2).mean((1, 2, 3)))


def noise(count, contrast=3.0):
    """Coefficients of images of that contrast."""
    drawn = np.random.default_rng(0).normal(size=(count, 1, 12, 10))
    strong = drawn * contrast / strengths(drawn).reshape(-1, 1, 1, 1)
    return strong.astype("float32")


def test_contrast_rises_while_a_score_is_behind_and_falls_while_it_is_ahead(small_model):
    start = noise(4)
    chunk = chunk_of(small_model, [BEHIND, AHEAD, NEITHER, BEHIND[:2] + (1.0,)], start)
    np.testing.assert_allclose(contrasts_of(chunk), 3.0, rtol=1e-4)
    for number in range(8):
        chunk.step()
        # By a factor of exp(5 / 8) in each step, from 2 up to 8.
        change = np.exp(5 / 8) ** (number + 1)
        expected = [min(3 * change, 8), max(3 / change, 2), 3, min(3 * change, 8)]
        np.testing.assert_allclose(contrasts_of(chunk), expected, rtol=1e-4)


@pytest.mark.parametrize(("multiplier", "penalty"), [(1.0, 0.0), (3.0, 0.0), (3.0, 0.5)])
def test_contrast_follows_the_share_of_the_way_that_a_score_has_gone(
    multiplier, penalty, small_model
):
    aims = np.array([(-0.2, 0.2, 0), (-0.2, 0.2, 1), (-1, 0.1, 0), (0, 1, 1)])
    aims = aims * [multiplier, multiplier, 1] - [penalty / 2, penalty / 2, 0]
    objective = multiplier * Objective.channel(small_model, "conv1", range(4))
    regularizers = [L2(penalty)] if penalty else ()
    task = prepare(objective, steps=8, transformations=None, regularizers=regularizers)
    chunk = Chunk(task, np.arange(4), noise(4), aims.astype("float32"))
    contrast, shares = contrasts_of(chunk), []
    for number in range(8):
        images = reference.sigmoid(fields_of(chunk.params))
        scores, _ = chunk.step()
        values = to_numpy(scores) - penalty * np.sqrt((images**2).mean((1, 2, 3)))
        floor, goal, is_faint = aims.T
        due = np.where(is_faint, min(1, number / 4), 1)
        behind = due - (values - floor) / (goal - floor)
        contrast = np.clip(contrast * np.exp(5 / 8 * np.clip(4 * behind, -1, 1)), 2, 8)
        np.testing.assert_allclose(contrasts_of(chunk), contrast, rtol=1e-3)
        shares.append(behind)
    # Some scores are ahead, some are behind, and some are nearly where they should be.
    assert np.min(shares) < -0.25
    assert np.max(shares) > 0.25
    assert (np.abs(shares) < 0.25).any()


def test_a_start_that_is_faint_begins_with_the_lowest_contrast(small_model):
    chunk = chunk_of(small_model, [NEITHER] * 2)
    np.testing.assert_array_equal(contrasts_of(chunk), [2, 2])
    photograph = chunk_of(small_model, [NEITHER] * 2, image_shape=(96, 96))
    np.testing.assert_array_equal(contrasts_of(photograph), [1, 1])


def test_the_images_keep_within_their_contrast_and_end_at_it(small_model):
    chunk = chunk_of(small_model, [BEHIND, AHEAD, NEITHER], noise(3))
    for _ in range(8):
        chunk.step()
        assert (strengths(chunk.params) <= 1.2 * contrasts_of(chunk) * 1.001).all()
    finished = chunk.compiled.finished(chunk.average, chunk.state)
    np.testing.assert_allclose(strengths(finished), contrasts_of(chunk), rtol=1e-3)
    expected = reference.sigmoid(fields_of(finished))
    np.testing.assert_allclose(chunk.images(), expected, atol=1e-4)


def test_the_result_is_a_weighted_average_of_the_parameters_after_each_step(small_model):
    chunk, after = chunk_of(small_model, [NEITHER] * 2, noise(2)), []
    for n in range(1, 9):
        chunk.step()
        after.append(n * (n + 1) * (n + 2) * to_numpy(chunk.params).astype("float64"))
        weights = [k * (k + 1) * (k + 2) for k in range(1, n + 1)]
        np.testing.assert_allclose(to_numpy(chunk.average), sum(after) / sum(weights), atol=1e-4)


@pytest.mark.parametrize("settings", [{"optimizer": "adam"}, {"parameterization": "pixel"}])
def test_a_given_optimizer_or_pixels_are_not_averaged(settings, small_model):
    chunk = chunk_of(small_model, [NEITHER] * 2, **settings)
    chunk.step()
    chunk.step()
    np.testing.assert_array_equal(to_numpy(chunk.average), to_numpy(chunk.params))


def test_steps_are_longer_by_the_root_of_the_contrast(small_model):
    low, high = (chunk_of(small_model, [NEITHER] * 2, 0 * noise(2)) for _ in range(2))
    high.state[1] = 4 * high.state[1]
    low.step()
    high.step()
    np.testing.assert_array_equal(contrasts_of(high), 4 * contrasts_of(low))
    np.testing.assert_allclose(to_numpy(high.params), 2 * to_numpy(low.params), rtol=1e-4)


@pytest.mark.parametrize("aim", [(0.0, math.nan, 0.0), (math.inf, math.inf, 0.0)])
def test_aims_that_are_no_numbers_change_no_contrast(aim, small_model):
    chunk = chunk_of(small_model, [aim, BEHIND], noise(2))
    for _ in range(3):
        chunk.step()
    np.testing.assert_allclose(contrasts_of(chunk), [3, 8], rtol=1e-4)
    assert np.isfinite(chunk.images()).all()


def test_an_aim_that_is_no_way_off_keeps_contrast_within_its_bounds(small_model):
    chunk = chunk_of(small_model, [(0.0, 0.0, 0.0), (9.0, 9.0, 1.0)], noise(2))
    for _ in range(8):
        chunk.step()
    assert (contrasts_of(chunk) >= 2).all()
    assert (contrasts_of(chunk) <= 8).all()
    assert np.isfinite(chunk.images()).all()


def test_scores_that_are_no_numbers_change_no_contrast(small_model):
    kernel, bias = small_model.get_layer("conv1").get_weights()
    small_model.get_layer("conv1").set_weights([kernel, bias * [math.nan, 1, 1, 1]])
    chunk = chunk_of(small_model, [BEHIND, BEHIND], noise(2))
    chunk.step()
    np.testing.assert_allclose(contrasts_of(chunk), [3, 3 * np.exp(5 / 8)], rtol=1e-4)
    assert np.isfinite(chunk.images()).all()


def test_contrast_stays_while_activations_are_relaxed(small_model):
    chunk = chunk_of(small_model, [BEHIND], noise(1), warmup_steps=2)
    found = []
    for _ in range(4):
        chunk.step()
        found.append(contrasts_of(chunk)[0])
    np.testing.assert_allclose(found, 3 * np.exp([0, 0, 5 / 8, 8]).clip(0, 8 / 3), rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"parameterization": Fourier()},
        {"parameterization": Fourier(contrast=3.0, noise="auto")},
        {"parameterization": "pixel"},
        {"parameterization": "fixed_magnitude"},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_a_contrast_that_is_given_or_not_free_does_not_follow(settings, small_model):
    chunk = chunk_of(small_model, [BEHIND, BEHIND], **settings)
    assert chunk.compiled.contrasts is None
    before = [tuple(part.shape) for part in chunk.state]
    chunk.step()
    assert [tuple(part.shape) for part in chunk.state] == before
    assert (2, 1, 1, 1) not in before


@pytest.mark.parametrize("contrast", [0.7, 3.0])
def test_a_given_contrast_is_that_of_the_images(contrast, small_model):
    fourier = Fourier(contrast=contrast, window=None, noise="auto")
    result = optimize(
        Objective.channel(small_model, "conv1", range(4)),
        steps=32,
        parameterization=fourier,
        transformations=None,
    )
    fields = reference.logit(result.images.astype("float64"))
    found = np.sqrt((fields**2).mean((1, 2, 3)))
    # It may be 1.2 times as high, where the score is higher then.
    assert (found > 0.99 * contrast).all()
    assert (found < 1.21 * contrast).all()


# --- regularizers ---------------------------------------------------------------------


def test_a_regularizer_pulls_on_the_image(neurons):
    settings = {"steps": 16, "transformations": None, "parameterization": "pixel"}
    plain, pulled = (
        optimize(neurons, regularizers=regularizers, **settings).images
        for regularizers in ((), [L2(1000.0)])
    )
    assert (pulled**2).mean() < 0.8 * (plain**2).mean()


def test_a_regularizer_gets_the_whole_image_and_not_an_augmented_one(neurons):
    shapes = []

    def penalty(images):
        shapes.append(tuple(images.shape))
        return keras.ops.mean(images, axis=(1, 2, 3))

    optimize(neurons, steps=1, image_shape=(20, 18), regularizers=penalty)
    assert (4, 20, 18, 1) in shapes
    assert {shape[1:] for shape in shapes} == {(20, 18, 1)}


def test_a_regularizer_of_another_shape_is_refused(small_model):
    with pytest.raises(ValueError, match="one penalty an image"):
        optimize(
            Objective.neuron(small_model, "logits", 0),
            steps=1,
            regularizers=[lambda x: keras.ops.sum(x)],
        )


# --- compiled steps that are kept -----------------------------------------------------


def compilations(model):
    """How many compiled steps there are, and how often they were traced.

    Torch runs eagerly and counts each step as a trace, so its traces are left out.
    """
    of_model = list(step.compiled_steps[model].values())
    eager = keras.backend.backend() == "torch"
    return len(of_model), 0 if eager else sum(compiled.traces for compiled in of_model)


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


def test_photographs_with_other_steps_and_other_noise_share_a_compiled_step(neurons, small_model):
    # 2 steps have no noise. 33 steps have some, and more of it in their first half.
    for steps in (2, 33):
        optimize(neurons, steps=steps, image_shape=(96, 96))
    assert compilations(small_model)[0] == 1
    for transformations in ([Noise(0.1)], [Noise(0.3, last=0.2)]):
        optimize(neurons, steps=2, image_shape=(96, 96), transformations=transformations)
    count, traces = compilations(small_model)
    assert count == 1
    assert traces in (0, 1)


def test_each_compiled_step_is_traced_once(neurons, small_model):
    for _ in range(2):
        optimize(neurons, steps=3, transformations=[Rotate()], warmup_steps=1)
    count, traces = compilations(small_model)
    assert count == 3  # the optimisation, its warm-up, and the clean scores
    assert traces in (0, count)


def test_optimisations_that_share_the_step_of_their_clean_scores_agree_on_its_data(neurons):
    for transformations in ([Rotate()], [Rotate(), Noise(0.1)], None):
        result = optimize(neurons, steps=1, transformations=transformations)
        np.testing.assert_allclose(result.scores, neurons.score(result.images), rtol=1e-4)


class Weighed(layers.Layer):
    """The mean of a sequence, by a length that is fixed in a compiled step."""

    def call(self, sequence):
        return keras.ops.sum(sequence, 1) / (sequence.shape[1] or 1)


def test_fixed_inputs_of_another_length_get_another_compiled_step():
    image, sequence = keras.Input((6, 5, 3), name="image"), keras.Input((None, 2), name="more")
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(image), Weighed()(sequence)])
    model = keras.Model([image, sequence], layers.Dense(2, name="logits")(both))
    neuron = Objective.neuron(model, "logits", 1)
    for length in (3, 7, 3):
        fixed_inputs = {"more": np.full((length, 2), 2.0)}
        result = optimize(neuron, steps=1, fixed_inputs=fixed_inputs)
        expected = neuron.score(result.images, fixed_inputs=fixed_inputs)
        np.testing.assert_allclose(result.scores, expected, rtol=1e-4)
    assert compilations(model)[0] == 2


def test_a_changed_model_gets_a_new_compiled_step(neurons, small_model):
    before = optimize(neurons, steps=2).images
    small_model.get_layer("conv2").activation = keras.activations.relu
    after = optimize(neurons, steps=2).images
    assert not np.allclose(before, after, atol=1e-4)
    assert compilations(small_model)[0] == 2


@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "adam", "transformations": [Noise()]}], ids=str
)
def test_compiled_steps_do_not_keep_their_model_alive(settings):
    model = make_small_model()
    optimize(Objective.neuron(model, "logits", 0), steps=2, **settings)
    alive = weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None


def scores_twice(objective):
    """Return the scores of optimised images, by the optimisation and by a plain call."""
    result = optimize(objective, steps=1, transformations=None)
    return result.scores, objective.score(result.images)


def test_a_compiled_step_notices_that_an_activation_was_replaced(small_model):
    layer = small_model.get_layer("conv1")
    for factor in range(1, 6):
        layer.activation = lambda x, factor=float(factor): factor * x
        ours, expected = scores_twice(Objective.channel(small_model, "conv1", 0))
        np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_a_compiled_step_notices_that_a_setting_of_a_layer_changed():
    leaky = layers.LeakyReLU(negative_slope=0.1, name="leaky")
    model = sequential(layers.Conv2D(2, 3), leaky)
    for slope in (0.1, 5.0):
        leaky.negative_slope = slope
        ours, expected = scores_twice(-Objective.channel(model, "leaky", 0))
        np.testing.assert_allclose(ours, expected, rtol=1e-4)
