"""Each random transformation by itself."""

import dataclasses
import random

import keras
import numpy as np
import pytest

from featviz_callback.images import augmentation, sampling
from featviz_callback.images.transformations import Blur, Crop, Flip, Jitter, Noise, Rotate, Scale
from tests.conftest import gradient, random_images, tensor, to_numpy
from tests.images.conftest import augment, moves, square

ALL = [Jitter(0.2), Scale(0.8, 1.2), Crop(0.4, 0.8), Flip(), Rotate(20.0), Blur(1.5), Noise(0.1)]


CHANNELS = [1, 2, 3, 4, 13]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("size", [(7, 9), (8, 5)])
@pytest.mark.parametrize("one", [*ALL, square], ids=lambda one: getattr(one, "__name__", str(one)))
def test_an_augmented_image_has_the_shape_of_its_image(one, size, channels):
    batch = random_images(2, *size, channels)
    seen = augment(batch, (one,), [0, 1])
    assert seen.shape == batch.shape
    assert seen.dtype == np.float32
    assert np.isfinite(seen).all()


@pytest.mark.parametrize("one", ALL, ids=str)
def test_the_images_of_a_batch_get_different_draws(one):
    twice = np.repeat(random_images(1, 9, 9, 1), 8, axis=0)
    seen = augment(twice, (one,), range(8))
    assert len(np.unique(seen.round(5), axis=0)) > 1
    np.testing.assert_allclose(augment(twice, (one,), [3] * 8), seen[[3] * 8], atol=1e-6)


@pytest.mark.parametrize("one", ALL, ids=str)
def test_drawing_preserves_all_other_random_states(one):
    numpys, pythons = np.random.get_state(), random.getstate()
    after = keras.random.SeedGenerator(0), to_numpy(keras.random.SeedGenerator(0).state)
    augment(random_images(2, 6, 6, 1), (one,), [0, 1])
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpys, strict=True))
    assert random.getstate() == pythons
    np.testing.assert_array_equal(to_numpy(after[0].state), after[1])


@pytest.mark.parametrize(("share", "reach"), [(0.2, (4, 2)), (0.1, (2, 1)), (0.0, (0, 0))])
def test_jitter_shifts_by_whole_pixels_within_its_share(share, reach):
    for grid, bound in zip(moves(Jitter(share)), reach, strict=True):
        shifts = grid - np.arange(grid.shape[1])
        assert (shifts == shifts[:, :1]).all()
        assert set(np.unique(shifts)) == set(range(-bound, bound + 1))


def test_jitter_draws_a_shift_for_each_axis():
    rows, columns = moves(Jitter(0.4), 10, 10)
    assert np.unique(rows[:, 0] - columns[:, 0]).size > 3


def test_a_crop_is_a_part_of_the_image_anywhere_within_it():
    rows, columns = moves(Crop(0.25, 0.75), 41, 21, count=500)
    shares = (rows[:, -1] - rows[:, 0]) / 40
    np.testing.assert_allclose(shares, (columns[:, -1] - columns[:, 0]) / 20)
    assert 0.25 <= shares.min() < 0.27
    assert 0.73 < shares.max() <= 0.75
    for grid, last in ((rows, 40), (columns, 20)):
        np.testing.assert_allclose(np.diff(grid, 2), 0, atol=1e-12)
        assert 0 <= grid.min() < 0.02 * last
        assert 0.98 * last < grid.max() <= last + 1e-9


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_scale_zooms_about_the_centre(factor):
    rows, columns = moves(Scale(factor, factor), 9, 6, count=1)
    np.testing.assert_allclose(rows[0], 4 + (np.arange(9) - 4) / factor)
    np.testing.assert_allclose(columns[0], 2.5 + (np.arange(6) - 2.5) / factor)


def test_scale_draws_one_factor_for_both_axes_within_its_bounds():
    factors = [1 / np.diff(grid)[:, 0] for grid in moves(Scale(0.8, 1.5))]
    np.testing.assert_allclose(*factors)
    assert factors[0].min() >= 0.8
    assert factors[0].max() <= 1.5
    assert np.ptp(factors[0]) > 0.5


def test_a_zoom_may_be_larger_early():
    scale = Scale(0.8, 1.6, early=1.5)
    for progress in (0, 0.59):
        early = scale.at(progress)
        assert (early.low, early.high, early.early) == pytest.approx((1.2, 2.4, 1))
    assert scale.at(0.6) == scale.at(1) == Scale(0.8, 1.6)
    assert augmentation.at((Flip(), scale), 0.7) == (Flip(), Scale(0.8, 1.6))

    class Own(Scale):
        pass

    assert isinstance(Own(early=2.0).at(0), Own)


def test_flip_mirrors_left_and_right_in_about_half_of_the_draws():
    rows, columns = moves(Flip())
    flipped = columns[:, 0] > 0
    np.testing.assert_array_equal(rows, np.tile(np.arange(20.0), (200, 1)))
    assert (columns[flipped] == np.arange(9, -1, -1)).all()
    assert (columns[~flipped] == np.arange(10)).all()
    assert 60 < flipped.sum() < 140


def test_a_flipped_image_is_the_mirror_image():
    batch = np.repeat(random_images(1, 5, 6, 3), 8, axis=0)
    draws = augment(batch, (Flip(),), range(8))
    mirrored, same = (
        [np.allclose(one, expected, atol=1e-6) for one in draws]
        for expected in (batch[0][:, ::-1], batch[0])
    )
    assert any(mirrored)
    assert any(same)
    assert all(a != b for a, b in zip(mirrored, same, strict=True))


@pytest.mark.parametrize("size", [(6, 6), (7, 7), (5, 8)])
def test_a_rotation_by_zero_degrees_changes_nothing(size):
    batch = random_images(2, *size, 3)
    turned = to_numpy(Rotate().apply(tensor(batch), tensor([0.0, 0.0])))
    np.testing.assert_allclose(turned, batch, atol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_a_rotation_by_right_angles_is_that_of_numpy(size, quarters):
    batch = random_images(1, size, size, 3)
    turned = to_numpy(Rotate().apply(tensor(batch), tensor([quarters * np.pi / 2])))
    np.testing.assert_allclose(turned, np.rot90(batch, quarters, (1, 2)), atol=1e-4)


@pytest.mark.parametrize("change", [Rotate(), Blur(), Noise()], ids=lambda one: type(one).__name__)
def test_the_gradient_is_that_of_the_transformation(change):
    images, weights = random_images(2, 9, 8, 3), random_images(2, 9, 8, 3) - 0.5
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    draws = tensor(np.stack([change.sample(rng, (9, 8, 3)) for rng in rngs]))
    values = [tensor(np.zeros((2, 9, 8, 3)))] if isinstance(change, Noise) else []

    def product(images):
        return keras.ops.sum(change.apply(images, draws, *values) * tensor(weights))

    # All are linear, and the gradient of a linear map gives its value back.
    value = float(to_numpy(product(tensor(images))))
    assert (gradient(product, images) * images).sum() == pytest.approx(value, rel=1e-3)


def test_angles_stay_within_their_bound():
    angles = [float(Rotate(30.0).sample(np.random.default_rng(i), (4, 4, 1))) for i in range(200)]
    assert np.abs(angles).max() <= np.pi / 6
    assert min(angles) < -0.4
    assert max(angles) > 0.4


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0])
def test_blur_keeps_a_flat_image(sigma):
    flat = np.full((1, 9, 6, 2), 0.7)
    np.testing.assert_allclose(
        to_numpy(Blur().apply(tensor(flat), tensor([sigma]))), flat, rtol=1e-5
    )


def test_blur_spreads_a_point_into_a_gaussian():
    points = np.zeros((2, 21, 19, 1))
    points[:, 10, 9] = 1
    sigmas = np.array([1.0, 1.5])
    blurred = to_numpy(Blur().apply(tensor(points), tensor(sigmas)))
    np.testing.assert_allclose(blurred.sum((1, 2, 3)), 1, atol=1e-4)
    np.testing.assert_allclose(blurred, blurred[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(blurred, blurred[:, :, ::-1], atol=1e-6)
    squares = (np.arange(21) - 10.0) ** 2
    np.testing.assert_allclose(np.einsum("nyxc,y->n", blurred, squares), sigmas**2, rtol=1e-2)


def test_blur_widths_stay_within_their_bound():
    widths = [float(Blur(2.0).sample(np.random.default_rng(i), (4, 4, 1))) for i in range(200)]
    assert 0 < min(widths) < 0.3
    assert 1.7 < max(widths) <= 2.0


def test_noise_has_its_deviation_at_every_value_by_itself():
    flat = np.full((2, 40, 40, 3), 0.5, "float32")
    noise = augment(flat, (Noise(0.2),), [0, 1]) - 0.5
    np.testing.assert_allclose(noise.std((1, 2, 3)), 0.2, rtol=0.05)
    np.testing.assert_allclose(noise.mean((1, 2, 3)), 0, atol=0.02)
    for axis in range(4):
        first, *_, last = np.moveaxis(noise, axis, 0)
        assert abs(np.corrcoef(first.ravel(), last.ravel())[0, 1]) < 0.25


@pytest.mark.parametrize("steps", [(0, 1), (3, 200), (16000, 16001)])
def test_noise_of_two_steps_is_unrelated(steps):
    flat = np.full((2, 40, 40, 3), 0.5, "float32")
    one, other = (augment(flat, (Noise(0.2),), [0, 1], number) - 0.5 for number in steps)
    assert one.std() == pytest.approx(other.std(), rel=0.02)
    # The correlation of 9600 unrelated values is 0, give or take four deviations of 0.01.
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.04


def test_noise_is_even_over_a_range_and_has_no_mean():
    values = Noise(2.0).sample_values(np.random.default_rng(0), 64**3)
    factor = Noise(2.0).sample(np.random.default_rng(0), (64, 64, 64))
    kinds, counts = np.unique(values, return_counts=True)
    np.testing.assert_array_equal(kinds, np.arange(-127, 128, 2))
    # Each value has a share of 1/128, give or take five deviations.
    np.testing.assert_allclose(counts / values.size, 1 / 128, rtol=5 * (128 / values.size) ** 0.5)
    assert np.sqrt(np.mean((kinds * factor) ** 2)) == pytest.approx(2.0)


def test_noise_of_no_strength_draws_nothing():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    for none in (Noise(0.0), Noise(0.0, last=0.0)):
        assert not none.sample_values(rng, 100).any()
    assert rng.bit_generator.state == before
    assert Noise(0.0, last=0.1).sample_values(rng, 100).any()


def test_noise_falls_to_its_last_between_half_and_four_fifths_of_the_steps():
    noise = Noise(0.4, last=0.1)
    deviations = [noise.at(t).deviation for t in (0.0, 0.49, 0.5, 0.65, 0.8, 0.99)]
    assert deviations == pytest.approx([0.4, 0.4, 0.4, 0.25, 0.1, 0.1])
    assert Noise(0.4).at(0.9) == Noise(0.4)


def test_noise_may_have_a_deviation_a_channel():
    flat = np.full((2, 40, 40, 3), 0.5, "float32")
    noise = augment(flat, (Noise([0.1, 0.2, 0.4]),), [0, 1]) - 0.5
    np.testing.assert_allclose(noise.std((0, 1, 2)), [0.1, 0.2, 0.4], rtol=0.05)
    falling = Noise((0.4, 0.8), last=(0.1, 0.2)).at(0.65)
    np.testing.assert_allclose(falling.deviation, [0.25, 0.5])
    assert hash(falling) == hash(falling.at(0.9))


def test_noise_that_fades_keeps_its_class():
    class Louder(Noise):
        def sample(self, rng, shape):
            return 2 * super().sample(rng, shape)

    rng = np.random.default_rng(0)
    louder = Louder(0.4, last=0.1).at(0.9).sample(rng, (2, 2, 1))
    assert louder == pytest.approx(2 * Noise(0.1).sample(rng, (2, 2, 1)))


@pytest.mark.parametrize("one", ALL, ids=str)
def test_transformations_are_equal_by_value(one):
    assert dataclasses.replace(one) == one
    assert hash(dataclasses.replace(one)) == hash(one)
    assert all(one != other for other in ALL if other is not one)


def test_jitter_moves_an_enlarged_image_by_the_same_share():
    rows, columns = (np.tile(sampling.whole_grid(10, 100), (500, 1)) for _ in range(2))
    moved, _ = Jitter(0.1).move(np.random.default_rng(0), rows, columns)
    shifts = np.abs((moved - rows)[:, 0])
    assert 0.9 < shifts.max() <= 1.0


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (Jitter, {"share": -0.1}),
        (Scale, {"low": 0}),
        (Scale, {"low": 2}),
        (Scale, {"early": 0}),
        (Scale, {"early": np.inf}),
        (Crop, {"smallest": 0}),
        (Crop, {"largest": 1.1}),
        (Blur, {"sigma": 0}),
        (Noise, {"deviation": (0.1, -1)}),
        (Noise, {"last": (0.1, 0.1)}),
        *[
            (kind, {name: value})
            for kind, name in (
                (Jitter, "share"),
                (Rotate, "degrees"),
                (Blur, "sigma"),
                (Noise, "deviation"),
            )
            for value in (-1, np.nan, np.inf, "1", None)
        ],
    ],
)
def test_impossible_settings_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`"):
        kind(**settings)


def test_the_error_for_the_smallest_part_names_the_largest():
    with pytest.raises(ValueError, match="above 0, and at most `largest`"):
        Crop(0.9, 0.5)
