"""Sequences of random transformations: their defaults, draws and application."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize, transformations
from featviz_callback.images import augmentation
from featviz_callback.images.transformations import Blur, Flip, Jitter, Noise, Rotate, Scale
from tests.conftest import random_images, sequential, tensor, to_numpy
from tests.images.conftest import augment, plain_grid, square

SHAPE = (20, 10, 3)


def test_each_target_of_an_optimisation_gets_draws_of_its_own(small_model):
    seen = []

    class Spy(Jitter):
        def move(self, rng, rows, columns):
            seen.append(super().move(rng, rows, columns))
            return seen[-1]

    neurons = Objective.neuron(small_model, "logits", range(6))
    optimize(neurons, steps=1, transformations=[Spy(0.5)])
    assert len(seen) >= 6
    assert len({(rows[0, 0], columns[0, 0]) for rows, columns in seen[:6]}) > 1


@pytest.mark.parametrize("function", [square, lambda x: 1 - x])
def test_a_shift_after_a_change_of_values_is_the_shift_before_it(function):
    batch = random_images(4, 10, 7, 2)
    after = augment(batch, (function, Jitter(0.4)), range(4))
    before = augment(batch, (Jitter(0.4), function), range(4))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert not np.allclose(after, to_numpy(function(tensor(batch))), atol=1e-3)


def test_moves_at_the_head_compose_to_one_grid():
    chosen = Jitter(0.0), Scale(2.0, 2.0), Scale(0.5, 0.5)
    assert augmentation.split(chosen) == (chosen, ())
    moved_grids = augmentation.move(chosen, np.random.default_rng(0), *plain_grid(6, 5))
    for moved, grid in zip(moved_grids, plain_grid(6, 5), strict=True):
        np.testing.assert_allclose(moved, grid, atol=1e-6)


def test_a_move_after_a_change_of_values_is_a_change():
    moves, changes = augmentation.split((Flip(), Blur(), Jitter(0.1)))
    assert moves == (Flip(),)
    assert len(changes) == 2


def test_with_more_steps_the_first_standard_draws_zoom_in_further_unless_images_are_small():
    draws = [transformations.standard((224, 224, 3), n) for n in (8, 32, 64, 128, 256)]
    expected = [(0.12, 0.8, 1.6, 1)] * 2 + [(0.16, 0.85, 1.65, 1.5)] + [(0.2, 0.9, 1.7, 2)] * 2
    numbers = [(jitter.share, scale.low, scale.high, scale.early) for jitter, scale, _ in draws]
    np.testing.assert_allclose(numbers, expected)
    assert len({transformations.standard((28, 28, 1), n) for n in (16, 64)}) == 1


@pytest.mark.parametrize(("steps", "whole"), [(32, (0.12, 0.8, 1.6, 1)), (256, (0.2, 0.9, 1.7, 2))])
def test_standard_moves_of_photographs_grow_with_the_size_up_to_224_pixels(steps, whole):
    def numbers(size):
        jitter, scale, _ = transformations.standard((size, size // 2, 3), steps)
        return np.array([jitter.share, scale.low, scale.high, scale.early])

    jitter, scale, *_ = transformations.standard((95, 95, 3), steps)
    small = np.array([jitter.share, scale.low, scale.high, scale.early])
    # At 96 pixels as for smaller images, at 160 half way, at 224 and more as a whole.
    for size, share in ((96, 0.0), (160, 0.5), (224, 1.0), (500, 1.0)):
        expected = (1 - share) * small + share * np.array(whole)
        np.testing.assert_allclose(numbers(size), expected)


def test_standard_noise_is_a_share_of_the_range_and_grows_with_the_steps():
    noises = [transformations.standard((224, 224, 3), n, (-1.0, 1.0))[-1] for n in (32, 64, 128)]
    assert noises == [Noise(0.0, 0.0), Noise(0.0625, 0.0075), Noise(0.25, 0.015)]
    assert transformations.standard((224, 224, 3), 512, (0.0, 255.0))[-1] == Noise(
        0.125 * 255, 0.0075 * 255
    )


def test_each_step_gets_another_stretch_of_the_values_drawn_once():
    firsts = [augmentation.first_value(number) for number in range(2**14)]
    assert sorted(firsts) == list(range(2**14))
    values = np.arange(2**14 + 12, dtype="float32")[None]

    class Seen(Noise):
        def apply(self, images, factors, values):
            return values

    for number in (0, 1, 7, 2**14 - 1):
        first = firsts[number]
        found = augmentation.apply(
            (Seen(),),
            tensor(np.zeros((1, 2, 3, 2))),
            (tensor([1.0]),),
            (tensor(values),),
            tensor(first),
        )
        np.testing.assert_array_equal(to_numpy(found).ravel(), values[0, first : first + 12])


def test_noise_for_larger_images_than_the_input_is_refused(neurons):
    def padded(images):
        return keras.ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])

    with pytest.raises(ValueError, match="that makes images larger"):
        optimize(neurons, steps=1, transformations=[padded, Noise(0.1)])


def test_the_identity_of_noise_changes_nothing_and_only_noise_has_one():
    batch = random_images(2, 4, 5, 3)
    (identity_draw,) = augmentation.identity((Noise(0.5),), (4, 5, 3))
    values = augmentation.sample_values((Noise(0.5),), np.random.default_rng(0), (4, 5, 3))
    values = (tensor(np.stack(values * 2)),)
    draws = (tensor([identity_draw] * 2),)
    seen = augmentation.apply((Noise(0.5),), tensor(batch), draws, values)
    np.testing.assert_array_equal(to_numpy(seen), batch)
    assert augmentation.identity((), (4, 5, 3)) == ()
    assert augmentation.identity((Noise(0.5), Blur()), (4, 5, 3)) is None
    assert augmentation.identity((square,), (4, 5, 3)) is None


def test_settings_of_draws_on_the_host_are_no_part_of_a_compiled_step():
    assert augmentation.kinds((Rotate(3.0), Blur(2.0), Noise(0.3, 0.1), square)) == (
        Rotate(),
        Blur(),
        Noise(),
        square,
    )


def test_a_function_is_a_transformation():
    batch = random_images(2, 4, 5, 3)
    np.testing.assert_allclose(augment(batch, (square,), [0, 1]), batch**2, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ((), ()),
        ([], ()),
        (Flip(), (Flip(),)),
        ([Flip(), square], (Flip(), square)),
        (square, (square,)),
        ("standard", transformations.standard(SHAPE, 32)),
    ],
)
def test_transformations_are_a_sequence_or_one_or_none(given, expected):
    assert augmentation.get(given, SHAPE, 32) == expected


@pytest.mark.parametrize("wrong", ["jitter", [None], 3, [Flip(), "standard"], ["standard"]])
def test_what_is_no_transformation_is_refused(wrong):
    with pytest.raises(ValueError, match="`transformations`"):
        augmentation.get(wrong, SHAPE, 32)


@pytest.mark.parametrize("wrong", [Noise, [Noise(), Flip]])
def test_a_class_of_transformations_has_to_be_called(wrong):
    with pytest.raises(ValueError, match=r"`transformations`.*Call it: `\w+\(\)`"):
        augmentation.get(wrong, SHAPE, 32)


def framed(images):
    return keras.ops.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]])


def test_a_size_that_is_changed_has_to_be_changed_back(neurons):
    received = r"changed by framed, from \(12, 10, 1\) to \(14, 12, 1\)"
    with pytest.raises(ValueError, match=f"`transformations`.*{received}"):
        optimize(neurons, steps=1, transformations=framed)
    images = random_images(2, 4, 4, 1)
    back = augmentation.apply((framed, lambda x: x[:, 1:-1, 1:-1]), tensor(images), ())
    np.testing.assert_array_equal(to_numpy(back), images)


def test_a_model_of_any_size_takes_images_of_another_size():
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(None, None, 1))
    settings = {"steps": 2, "image_shape": (12, 10, 1)}
    result = optimize(Objective.channel(model, "conv", 0), transformations=framed, **settings)
    assert result.images.shape == (1, 12, 10, 1)


def test_a_function_may_not_change_the_number_of_images():
    doubled = (lambda images: keras.ops.concatenate([images, images]),)
    with pytest.raises(ValueError, match="as many images"):
        augmentation.apply(doubled, tensor(random_images(2, 4, 4, 1)), ())
