"""The default schedule, against the numbers that were measured."""

import itertools
import math
from dataclasses import asdict

import numpy as np
import pytest

from featviz_callback.optimization.schedule import settings_at

PHOTOGRAPH, SMALL = (224, 224, 3), (28, 28, 1)


@pytest.mark.parametrize("shape", [PHOTOGRAPH, SMALL])
@pytest.mark.parametrize("steps", [1, 16, 64, 256])
def test_an_optimisation_works_from_coarse_and_grey_to_fine_and_coloured(steps, shape):
    first, *others = [asdict(settings_at(number, steps, shape)) for number in range(steps)]
    assert first["steepness"] == 1.4
    assert first["chroma"] < 1
    for before, after in itertools.pairwise((first, *others)):
        assert before["steepness"] >= after["steepness"]
        assert before["chroma"] <= after["chroma"]
        assert before["lowest"] >= after["lowest"]
        assert before["rate"] == after["rate"] > 0
        assert before["newest"] > after["newest"]
    if steps > 1:
        later = [settings | {"newest": 0, "due": 0} for settings in others[steps // 3 :]]
        assert all(settings == later[-1] for settings in later)


@pytest.mark.parametrize("steps", [1, 2, 40, 256])
def test_the_result_is_an_average_in_which_later_images_weigh_more(steps):
    weights = np.zeros(steps)
    for number in range(steps):
        newest = settings_at(number, steps, PHOTOGRAPH).newest
        weights *= 1 - newest
        weights[number] = newest
    assert weights.sum() == pytest.approx(1)
    assert (np.diff(weights) > 0).all()
    # In proportion to n (n + 1) (n + 2), which is nearly the third power.
    numbers = np.arange(1, steps + 1)
    expected = numbers * (numbers + 1) * (numbers + 2)
    np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "number", "shape", "rate", "steepness", "lowest", "chroma"),
    [
        (4, 0, PHOTOGRAPH, 0.12 * 2**0.5, 1.4, 1.5, 0.5),
        (16, 0, PHOTOGRAPH, 0.12, 1.4, 1.5, 0.5),
        (30, 5, PHOTOGRAPH, 0.12 * (8 / 15) ** 0.5, 1.4 - 0.8 * 2 / 3, 1.5, 1.0),
        (30, 10, PHOTOGRAPH, 0.12 * (8 / 15) ** 0.5, 0.6, 1.5, 1.25),
        (30, 29, PHOTOGRAPH, 0.12 * (8 / 15) ** 0.5, 0.6, 1.5, 1.25),
        (64, 0, PHOTOGRAPH, 0.0975, 1.4, 4.75, 0.5),
        (64, 8, PHOTOGRAPH, 0.0975, 1.4 - 0.725 * 7 / 16, 1.5 + 3.25 * 9 / 16, 0.828125),
        (64, 48, PHOTOGRAPH, 0.0975, 0.675, 1.5, 1.25),
        (256, 0, PHOTOGRAPH, 0.0675, 1.4, 8.0, 0.5),
        (256, 64, PHOTOGRAPH, 0.0675, 1.4 - 0.65 * 3 / 4, 1.5 + 6.5 / 4, 1.0625),
        (256, 32, SMALL, 0.01125, 1.0, 1.5, 0.875),
        (256, 192, PHOTOGRAPH, 0.0675, 0.75, 1.5, 1.25),
        (256, 0, SMALL, 0.01125, 1.4, 1.5, 0.5),
        (256, 192, SMALL, 0.01125, 0.6, 1.5, 1.25),
    ],
)
def test_the_schedule_is_the_one_that_was_measured(
    steps, number, shape, rate, steepness, lowest, chroma
):
    expected = {"rate": rate, "steepness": steepness, "lowest": lowest, "chroma": chroma}
    expected |= {"due": min(1, 2 * number / steps), "growth": 5 / steps}
    expected |= {"fade": 1 - np.exp(-3 / steps), "newest": 4 / (4 + number)}
    assert asdict(settings_at(number, steps, shape)) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [1, 2, 16, 33, 256])
def test_a_score_is_due_after_half_of_the_steps(steps):
    dues = [settings_at(number, steps, SMALL).due for number in range(steps)]
    first = math.ceil(steps / 2)
    np.testing.assert_allclose(dues[:first], 2 * np.arange(first) / steps)
    assert dues[first:] == [1.0] * (steps - first)


@pytest.mark.parametrize("steps", [16, 256])
def test_contrast_can_go_from_the_lowest_to_the_highest_in_a_part_of_the_steps(steps):
    growth = sum(settings_at(number, steps, SMALL).growth for number in range(steps))
    assert math.exp(growth) > 8 * 1.5


def test_longer_optimisations_take_shorter_steps_and_begin_with_smaller_shapes():
    few, many = (settings_at(0, steps, PHOTOGRAPH) for steps in (64, 128))
    # Twice the steps are shorter by sqrt(2), and longer against more noise.
    assert many.rate == pytest.approx(few.rate * (2.25 / 1.625) / 2**0.5)
    assert many.lowest > few.lowest
