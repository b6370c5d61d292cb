"""Where optimisations start, against scores that NumPy computes."""

import zlib

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Fourier
from featviz_callback.images.regularizers import L2
from featviz_callback.optimization import run, starts
from featviz_callback.optimization.starts import score_images
from tests.conftest import prepare, sequential
from tests.reference import axis_functions, coefficient_field, sigmoid

SHAPE = (20, 18, 3)


def find_starts(task):
    """The starts of one task."""
    [found] = starts.find_starts([task])
    return found


def images_of(found, shape=SHAPE):
    """The images of all starts, of which the first is plain."""
    return sigmoid(np.stack([coefficient_field(params, shape) for params in found.params]))


def pixel_units():
    """Units that like dark, bright, red and blue images, as weights of the channels."""
    return np.array([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [2.0, -1.0, -1.0], [-1.0, -1.0, 2.0]])


def rectified(x):
    return np.maximum(x, 0)


def likes_colours(images):
    return np.einsum("nyxc,uc->un", images, pixel_units()) / (images.shape[1] * images.shape[2])


def likes_fine_noise(images):
    """Rectified differences of neighbours, as a mean."""
    grey = images.mean(-1)
    return rectified(grey[:, :, 1:] - grey[:, :, :-1]).mean((1, 2))[None]


def likes_coarse_noise(images):
    """Rectified differences of averages that are three pixels apart, as a mean."""
    grey = images.mean(-1)
    means = (grey[:, :, :-2] + grey[:, :, 1:-1] + grey[:, :, 2:]) / 3
    means = (means[:, :-2] + means[:, 1:-1] + means[:, 2:]) / 3
    return rectified(means[:, 3:] - means[:, :-3] - 0.1).mean((1, 2))[None]


def likes_nothing_better(images):
    """Minus the rectified differences of pixels from the middle of the range."""
    return -np.abs(images - 0.5).sum(-1).mean((1, 2))[None]


def colours():
    model = sequential(layers.Conv2D(4, 1, use_bias=False, name="map"), shape=SHAPE)
    model.set_weights([pixel_units().T.reshape(1, 1, 3, 4)])
    return model


def fine_noise():
    model = sequential(layers.Conv2D(1, (1, 2), activation="relu", name="map"), shape=SHAPE)
    kernel = np.broadcast_to(np.array([-1.0, 1.0]).reshape(1, 2, 1, 1) / 3, (1, 2, 3, 1))
    model.set_weights([kernel, np.zeros(1)])
    return model


def coarse_noise():
    model = sequential(layers.Conv2D(1, (6, 3), activation="relu", name="map"), shape=SHAPE)
    kernel = np.repeat([-1.0, 1.0], 3).reshape(6, 1, 1, 1) * np.ones((6, 3, 3, 1)) / 27
    model.set_weights([kernel, np.full(1, -0.1)])
    return model


def nothing_better():
    model = sequential(
        layers.Conv2D(6, 1, activation="relu", name="apart"),
        layers.Conv2D(1, 1, use_bias=False, name="map"),
        shape=SHAPE,
    )
    kernel = np.concatenate([np.eye(3), -np.eye(3)], axis=1).reshape(1, 1, 3, 6)
    model.set_weights([kernel, np.repeat([-0.5, 0.5], 3), np.full((1, 1, 6, 1), -1.0)])
    return model


UNITS = {
    "colours": (colours, likes_colours, "plain"),
    "fine noise": (fine_noise, likes_fine_noise, "noise 3 0 "),
    "coarse noise": (coarse_noise, likes_coarse_noise, ("noise 1 1", "noise 3 1")),
    "nothing better": (nothing_better, likes_nothing_better, "faint noise"),
}


@pytest.fixture(params=UNITS)
def planted(request):
    """A task, the NumPy scores of images for its targets, and the kind of their best start."""
    make, score, kind = UNITS[request.param]
    model = make()
    objective = Objective.channel(model, "map", range(model.output_shape[-1]))
    return prepare(objective, steps=1, transformations=None), score, kind


def test_every_start_is_scored_for_every_target(planted):
    task, score, _ = planted
    found = find_starts(task)
    # A plain background, 8 plain colours, and noise of 2 strengths and 3 spectra, 4 times.
    assert len(found.names) == len(found.params) == 1 + 8 + 2 * 3 * 4
    assert not found.params[0].any()
    assert found.scores.shape == (len(task.targets), len(found.names))
    np.testing.assert_allclose(found.scores, score(images_of(found)), atol=1e-4)


def test_units_of_a_map_begin_from_what_they_like_best(planted):
    task, score, kind = planted
    found = find_starts(task)
    scores = score(images_of(found))
    gains = scores - scores[:, :1]
    best = [found.names[i] for i in gains.argmax(1)]
    assert all(name.startswith(kind) for name in best)
    chosen = [found.names[i] for i in found.first_choice()]
    assert chosen == best
    if kind == "plain":
        # Dark, bright, red and blue: the corners of the cube of colours, black first.
        assert chosen == ["plain 0", "plain 7", "plain 4", "plain 1"]
    result, _ = run(task)
    assert result.starts == chosen


def test_a_plain_colour_must_be_better_than_noise_by_far():
    # The more the second unit is mixed in, the less noise there is in what the target likes.
    model = sequential(layers.Conv2D(2, (1, 2), activation="relu", name="map"), shape=SHAPE)
    kernel = np.stack([np.full((1, 2, 3), 1 / 6), [[[-1 / 3] * 3, [1 / 3] * 3]]], axis=-1)
    model.set_weights([kernel, np.array([-0.5, 0.0])])
    bright, noisy = (Objective.channel(model, "map", i) for i in (0, 1))
    chosen = []
    for share in np.linspace(0, 1, 21):
        found = find_starts(prepare((1 - share) * bright + share * noisy))
        gains = found.scores[0] - found.scores[0, 0]
        noise, plain = (
            max(gain for gain, name in zip(gains, found.names, strict=True) if kind in name)
            for kind in ("noise ", "plain")
        )
        [index] = found.first_choice()
        chosen.append(found.names[index])
        assert chosen[-1].startswith("plain") == (plain > 1.5 * noise)
        assert gains[index] == (plain if plain > 1.5 * noise else noise)
    assert chosen[0] == "plain 7"
    assert chosen[-1].startswith("noise 3 0")


def test_the_second_choice_is_the_best_start_of_another_kind(planted):
    task, score, _ = planted
    found = find_starts(task)
    scores = score(images_of(found))
    for first in range(len(found.names)):
        second = found.second_choice(np.full(len(task.targets), first))
        kind = found.names[first].split()[0]
        for row, index in enumerate(second):
            others = [
                scores[row, i]
                for i, name in enumerate(found.names)
                if name.split()[0] not in (kind, "faint") or (first == 0 and i == 0)
            ]
            np.testing.assert_allclose(scores[row, index], max(others), atol=1e-4)


def test_logits_begin_from_faint_noise(neurons):
    task = prepare(neurons, steps=16, transformations=None)
    result, _ = run(task)
    assert result.starts == ["faint noise"] * 4
    # That is not where they score the most.
    assert find_starts(task).first_choice().all()


def test_a_logit_whose_image_scores_below_a_start_begins_there():
    model = sequential(layers.GlobalAveragePooling2D(), layers.Dense(4, name="logits"), shape=SHAPE)
    model.set_weights([pixel_units().T, np.zeros(4)])
    task = prepare(Objective.neuron(model, "logits", range(4)), steps=4, transformations=None)
    faint, _ = run(task, starts=["faint noise"] * 4)
    found = find_starts(task)
    scores = likes_colours(images_of(found))
    is_below = faint.scores < scores.max(1)
    assert is_below.tolist() == [False, False, True, True]
    result, _ = run(task)
    assert result.starts == ["faint noise", "faint noise", "plain 4", "plain 1"]
    assert (result.scores[2:] > scores.max(1)[2:]).all()
    np.testing.assert_array_equal(result.images[:2], faint.images[:2])


# --- what starts depend on ------------------------------------------------------------


def starts_of(model, **settings):
    return find_starts(prepare(Objective.channel(model, "map", 0), **settings))


def test_starts_follow_from_the_seed_alone():
    first, again, other = (starts_of(colours(), seed=seed) for seed in (0, 0, 1))
    more = find_starts(prepare(Objective.channel(fine_noise(), "map", 0)))
    for one, same, different, anywhere in zip(
        *(found.params for found in (first, again, other, more)), strict=True
    ):
        np.testing.assert_array_equal(one, same)
        np.testing.assert_array_equal(one, anywhere)
        assert np.array_equal(one, different) == (np.count_nonzero(one) <= 3)


def test_starts_of_large_images_are_drawn_anew_and_the_same_in_any_order():
    shape = (232, 230, 3)
    task = prepare(Objective.channel(colours(), "map", 0), image_shape=shape)
    found = find_starts(task)
    generator = np.random.default_rng((task.seed, zlib.crc32(b"starts")))
    expected = task.plan.parameterization.starts(generator, shape)
    assert found.names[1:] == list(expected)
    for i in np.random.default_rng(0).permutation(len(expected)):
        params = found.params[i + 1]
        np.testing.assert_array_equal(params, expected[found.names[i + 1]])
        # Nothing keeps them in memory.
        assert found.params[i + 1] is not params
    # Those of small images are drawn once.
    small = starts_of(colours())
    assert small.params[3] is starts_of(colours()).params[3]


def test_nobodys_random_state_is_read_or_changed():
    np.random.seed(3)
    keras.utils.set_random_seed(3)
    before = np.random.get_state()[1].copy()
    first = starts_of(colours())
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    keras.utils.set_random_seed(4)
    np.testing.assert_array_equal(starts_of(colours()).params, first.params)


@pytest.mark.parametrize(
    "settings",
    [
        {"parameterization": Fourier()},
        {"parameterization": "pixel"},
        {"parameterization": "fixed_magnitude"},
        {"optimizer": "adam"},
    ],
    ids=str,
)
def test_a_start_that_is_given_is_the_only_one(settings):
    assert starts_of(colours(), **settings) is None
    objective = Objective.channel(colours(), "map", [0, 1])
    assert optimize(objective, steps=1, **settings).starts == ["faint noise"] * 2


def test_contrast_follows_from_the_score_of_a_start_that_is_given():
    """Goals are those of real images, and without any, a goal is reached at once."""
    fourier = Fourier(noise=0.2, contrast="auto", window=None)
    objective = Objective.channel(colours(), "map", range(4))
    task = prepare(objective, parameterization=fourier, steps=32)
    found = find_starts(task)
    assert found.names == ["faint noise"]
    plain = likes_colours(np.full((1, *SHAPE), 0.5))
    np.testing.assert_allclose(found.scores, plain, atol=1e-5)
    np.testing.assert_allclose(found.aims(np.full(4, 3.0))[:, 1], 3 * 1.6, rtol=1e-5)
    alone, _ = run(task)
    pressed, _ = run(task, best_known=np.full(4, 3.0, "float32"))
    assert all(one.startswith("faint noise") for one in alone.starts + pressed.starts)
    lowest, risen = (
        np.sqrt((np.log(r.images / (1 - r.images)) ** 2).mean((1, 2, 3))) for r in (alone, pressed)
    )
    np.testing.assert_allclose(lowest, 2.0, rtol=0.01)
    assert (risen > 1.5 * lowest).all()


def slope(params, shape):
    """The exponent by which the amplitudes of one channel's coefficients fall."""
    down, across = ([k / n for _, k, _ in axis_functions(n)] for n in shape[:2])
    cycles = max(shape[:2]) * np.hypot(np.array(down)[:, None], across)
    some = cycles > 1
    amplitudes = np.log(np.abs(params[0][some]) + 1e-9)
    return -np.polyfit(np.log(cycles[some]), amplitudes, 1)[0]


@pytest.mark.parametrize("decay", [0.5, 2.0])
def test_starts_are_as_steep_as_the_parameterization_says(decay):
    fourier = Fourier(decay=decay, detail=1.0, window=None, noise="auto")
    shape = (24, 24, 3)
    found = starts_of(colours(), parameterization=fourier, image_shape=shape)
    for steepness in (0.0, 1.0, 1.5):
        slopes = [
            slope(params, shape)
            for name, params in zip(found.names, found.params, strict=True)
            if name.startswith(f"noise 3 {steepness:g} ")
        ]
        np.testing.assert_allclose(np.mean(slopes), decay * steepness, atol=0.25)


def test_real_images_are_never_starts():
    # A picture of a task that was told of a better real image begins from the same starts.
    task = prepare(Objective.channel(colours(), "map", range(4)))
    names = find_starts(task).names
    assert all(name.split()[0] in ("faint", "plain", "noise") for name in names)
    told, _ = run(task, best_known=np.full(4, 1e9, "float32"))
    assert {name.partition(",")[0] for name in told.starts} <= set(names)


def test_tasks_of_other_models_seeds_and_ranges_have_their_own_starts():
    one, other = (Objective.channel(make(), "map", 0) for make in (colours, fine_noise))
    tasks = [
        prepare(one),
        prepare(other),
        prepare(one, seed=3),
        prepare(one, parameterization=Fourier()),
        prepare(one, values_range=(-1.0, 1.0)),
        prepare(Objective.channel(one.model, "map", [3, 2])),
        prepare(one, regularizers=[L2(1.0)]),
    ]
    together = starts.find_starts(tasks)
    assert together[3] is None
    for task, found in zip(tasks, together, strict=True):
        alone = find_starts(task)
        if alone is not None:
            assert found.names == alone.names
            np.testing.assert_array_equal(found.params, alone.params)
            np.testing.assert_allclose(found.scores, alone.scores, atol=1e-5)


# --- penalties, sizes, inputs ---------------------------------------------------------


def test_penalties_are_subtracted_from_the_scores_of_starts():
    objective = Objective.channel(colours(), "map", range(4))
    found = find_starts(prepare(objective, regularizers=[L2(5.0)]))
    images = images_of(found)
    penalties = 5 * np.sqrt((images**2).mean((1, 2, 3)))
    np.testing.assert_allclose(found.scores, likes_colours(images) - penalties, atol=1e-4)
    # Bright images cost more than they gain.
    assert found.names[found.first_choice()[1]] != "plain 7"


def test_a_penalty_that_draws_random_numbers_leaves_them_as_they_were():
    def of_a_crop(images):
        first = np.random.randint(8)
        return keras.ops.mean(images[:, first:], axis=(1, 2, 3)) + 0 * keras.random.uniform(())

    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    starts_of(colours(), regularizers=[of_a_crop])
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("values_range", [(-1.0, 1.0), (0.0, 255.0), (-3.0, -2.0)])
def test_starts_are_images_of_the_range(values_range):
    low, high = values_range
    found = starts_of(colours(), values_range=values_range)
    shares = found.params
    if values_range == (-1.0, 1.0):
        shares = [2 * one for one in shares]
    fields = [coefficient_field(params, SHAPE) for params in shares]
    images = low + (high - low) * sigmoid(np.array(fields))
    expected = likes_colours(images)[:1]
    np.testing.assert_allclose(found.scores, expected, atol=1e-4 * max(abs(low), abs(high)) * 3)


@pytest.mark.parametrize("image_shape", [(40, 36), (10, 9), (21, 15)])
def test_images_of_another_size_are_scored_at_the_models_size(image_shape):
    task = prepare(Objective.channel(colours(), "map", range(4)), image_shape=image_shape)
    found = find_starts(task)
    plain = [i for i, name in enumerate(found.names) if not name.startswith("noise")]
    images = images_of(found, (*image_shape, 3))
    np.testing.assert_allclose(found.scores[:, plain], likes_colours(images)[:, plain], atol=1e-4)
    # The mean of noise stays, but for the border.
    np.testing.assert_allclose(found.scores, likes_colours(images), atol=0.8)
    resized = score_images(task, images.astype("float32"))
    np.testing.assert_allclose(resized[:, plain], likes_colours(images)[:, plain], atol=1e-4)


def test_starts_are_scored_with_the_other_inputs():
    image, more = keras.Input(SHAPE, name="image"), keras.Input((1,), name="more")
    scaled = layers.Multiply()([layers.GlobalAveragePooling2D()(image), more])
    model = keras.Model([image, more], layers.Activation("linear", name="map")(scaled))
    task = prepare(Objective.neuron(model, "map", [0, 2]), fixed_inputs={"more": [-4.0]})
    found = find_starts(task)
    expected = -4 * images_of(found).mean((1, 2))[:, [0, 2]].T
    np.testing.assert_allclose(found.scores, expected, atol=1e-4)


def test_signals_have_starts_too():
    model = sequential(layers.Conv1D(1, 1, use_bias=False, name="map"), shape=(40, 2))
    model.set_weights([np.array([1.0, -1.0]).reshape(1, 2, 1)])
    result = optimize(Objective.channel(model, "map", 0), steps=4, values_range=(-1.0, 1.0))
    assert result.starts == ["plain 2"]
    assert result.images[0, :, 0].mean() > 0.5 > -0.5 > result.images[0, :, 1].mean()


# --- aims -----------------------------------------------------------------------------


def test_the_aim_is_three_fifths_above_the_best_that_is_known(planted):
    task, score, _ = planted
    found = find_starts(task)
    scores = score(images_of(found))
    best = scores.max(1)
    for known in (None, best + 1, best - 1):
        floor, goal = found.aims(known).T
        np.testing.assert_allclose(floor, scores[:, 0], atol=1e-4)
        top = best if known is None else known
        least = scores[:, 0] + 0.6 * np.abs(scores[:, 0])
        np.testing.assert_allclose(goal, np.maximum(top + 0.6 * np.abs(top), least), atol=1e-3)


def test_the_aim_of_logits_is_a_fifth_above_the_best_that_is_known():
    model = sequential(layers.GlobalAveragePooling2D(), layers.Dense(4, name="logits"), shape=SHAPE)
    model.set_weights([pixel_units().T, np.zeros(4)])
    found = find_starts(prepare(Objective.neuron(model, "logits", range(4))))
    np.testing.assert_allclose(found.aims(np.full(4, 10.0))[:, 1], 12.0, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_aims_scale_with_the_scores(factor):
    objective = Objective.channel(colours(), "map", range(4))
    one, scaled = (find_starts(prepare(o)).aims(None) for o in (objective, factor * objective))
    np.testing.assert_allclose(scaled, factor * one, rtol=1e-4)
    assert (scaled[:, 1] > scaled[:, 0]).all()


def test_a_target_that_all_starts_leave_silent_has_an_aim_above_zero():
    model = sequential(layers.Conv2D(1, 1, activation="relu", name="map"), shape=SHAPE)
    model.set_weights([np.ones((1, 1, 3, 1)), np.full(1, -4.0)])
    found = starts_of(model)
    assert not found.scores.any()
    [(floor, goal)] = found.aims(None)
    assert floor == 0
    assert 0 < goal < 1e-20
    assert found.first_choice().tolist() == [0]


def test_starts_that_score_no_number_are_not_chosen():
    model = sequential(layers.Lambda(lambda x: keras.ops.log(x - 0.4), name="map"), shape=SHAPE)
    found = starts_of(model)
    assert np.isnan(found.scores).any()
    assert np.isfinite(found.scores[:, 0]).all()
    [first] = found.first_choice()
    assert np.isfinite(found.scores[0, first])
    assert found.scores[0, first] == np.nanmax(found.scores)
    assert np.isfinite(found.aims(None)).all()
