"""A chunk: the random draws of each step, its start and end, and that none stays in memory."""

import gc

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Fourier, Pixel
from featviz_callback.images.regularizers import TotalVariation
from featviz_callback.images.transformations import Jitter, Scale
from featviz_callback.optimization.chunk import Chunk
from tests import reference
from tests.conftest import IMAGE_SHAPE, prepare, sequential, to_numpy


class Spans(Jitter):
    """Note how much of the image each draw shows."""

    def move(self, rng, rows, columns):
        self.seen.extend(np.ptp(rows, axis=1))
        return rows, columns


@pytest.mark.parametrize(("steps", "early"), [(1, 1), (9, 6), (10, 6), (100, 60), (300, 180)])
def test_the_first_draws_zoom_in(small_model, steps, early):
    spans = Spans()
    object.__setattr__(spans, "seen", [])
    optimize(
        Objective.channel(small_model, "conv2", 0),
        steps=steps,
        transformations=[Scale(1.0, 1.0, early=2.0), spans],
    )
    whole = IMAGE_SHAPE[0] - 1
    np.testing.assert_allclose(spans.seen, [whole / 2] * early + [whole] * (steps - early))


@pytest.mark.parametrize("found", [np.ones((1, 12, 10)), [np.ones(())], (1, 2, 3), ()])
def test_a_precondition_of_another_form_is_refused(neurons, found):
    class Odd(Pixel):
        def precondition(self, *spectrum):
            return found

    with pytest.raises(ValueError, match="must return a tuple of weights"):
        optimize(neurons, steps=1, parameterization=Odd())


def chunks():
    """The chunks that are alive."""
    return [one for one in gc.get_objects() if isinstance(one, Chunk)]


def test_no_chunk_is_kept_when_it_is_done(neurons):
    gc.collect()
    # JAX may keep those of earlier tests that ended by an error.
    earlier = set(map(id, chunks()))
    gc.disable()
    try:
        optimize(neurons, steps=2, batch_size=2)
        assert [one for one in chunks() if id(one) not in earlier] == []
    finally:
        gc.enable()


# --- start and end --------------------------------------------------------------------


def noise(count, contrast):
    """Coefficients of default images of that contrast, in images without a window."""
    drawn = np.random.default_rng(0).normal(size=(count, 1, *IMAGE_SHAPE[:2]))
    fields = [reference.coefficient_field(one, IMAGE_SHAPE) for one in drawn]
    strengths = np.sqrt(np.mean(np.square(fields), (1, 2, 3)))
    return (drawn * contrast / strengths.reshape(-1, 1, 1, 1)).astype("float32")


NEITHER = np.full((2, 3), np.nan, "float32")


def test_a_start_that_is_not_given_is_drawn_for_its_target(small_model):
    task = prepare(Objective.channel(small_model, "conv1", [0, 1, 2]))
    drawn = to_numpy(Chunk(task, np.array([2, 1, 0]), None, np.tile(NEITHER[:1], (3, 1))).params)
    given = np.full((3, 1, 12, 10), np.nan, "float32")
    given[1] = 7.0
    mixed = to_numpy(Chunk(task, np.array([2, 1, 0]), given, np.tile(NEITHER[:1], (3, 1))).params)
    np.testing.assert_array_equal(mixed[[0, 2]], drawn[[0, 2]])
    np.testing.assert_array_equal(mixed[1], given[1])
    assert not np.array_equal(drawn[0], drawn[2])


class Contrasts(layers.Layer):
    """Two channels: the squared distance of each pixel from the middle, and its negative."""

    def call(self, images):
        squares = keras.ops.square(images - 0.5)
        return keras.ops.concatenate([squares, -squares], axis=-1)


def contrast_objective():
    model = sequential(Contrasts(name="contrasts"))
    return Objective.channel(model, "contrasts", [0, 1])


UNCHANGED = {"transformations": None, "parameterization": Fourier(window=None, detail=1.0)}


def strengths(fields):
    return np.sqrt((fields**2).mean((1, 2, 3), keepdims=True))


def after_a_step(task, params):
    """A chunk after a step, its fields as they are, and at a contrast of one."""
    chunk = Chunk(task, np.arange(len(params)), params)
    chunk.step()
    found = to_numpy(chunk.params)
    fields = np.array([reference.coefficient_field(one, IMAGE_SHAPE) for one in found])
    return chunk, fields, fields / strengths(fields)


@pytest.mark.parametrize("share", [0.5, 1.2])
def test_an_image_ends_with_its_full_contrast_unless_it_scores_higher_with_less(share):
    task = prepare(contrast_objective(), **UNCHANGED)
    params = noise(1, share).repeat(2, axis=0)
    chunk, as_is, full = after_a_step(task, params)
    images, scores, values = chunk.end()
    # Its full contrast is one. As it is, it is weaker or stronger, and never ends stronger.
    assert ((strengths(as_is) < 1).ravel() == (share < 1)).all()
    expected = np.stack([full[0], min(as_is[1], full[1], key=np.std)])
    expected = reference.sigmoid(expected)
    np.testing.assert_allclose(images, expected, atol=1e-5)
    squares = ((expected - 0.5) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(scores, squares * [1, -1], rtol=1e-4)
    np.testing.assert_array_equal(scores, values)


@pytest.mark.parametrize("weight", [0.0, 0.5, 5.0])
def test_an_image_with_a_penalty_ends_with_the_best_of_several_contrasts(weight):
    # The score rises with the contrast, at a decreasing rate, and the penalty rises evenly.
    task = prepare(
        contrast_objective(),
        transformations=None,
        regularizers=[TotalVariation(weight)],
        parameterization=Fourier(window=None, detail=1.0, contrast=4.0),
    )
    chunk, as_is, full = after_a_step(task, noise(2, 4.0))
    (image, _), (score, _), (value, _) = chunk.end()

    def value_of(field):
        one = reference.sigmoid(field)
        return ((one - 0.5) ** 2).mean() - weight * reference.total_variation(one)

    shares = (1, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0)
    best = max(value_of(4 * share * full[0]) for share in shares)
    assert value > best - 1e-4
    assert value < max(best, value_of(as_is[0])) + 1e-4
    np.testing.assert_allclose(score, ((image - 0.5) ** 2).mean(), rtol=1e-3, atol=1e-6)
    penalty = weight * reference.total_variation(image)
    np.testing.assert_allclose(value, score - penalty, rtol=1e-3, atol=1e-5)


def test_scores_that_are_no_numbers_leave_the_full_contrast():
    model = sequential(layers.Lambda(lambda x: keras.ops.log(x - 2.0), name="nan"))
    task = prepare(Objective.channel(model, "nan", 0), **UNCHANGED)
    chunk, _, full = after_a_step(task, noise(1, 0.5))
    images, scores, _ = chunk.end()
    assert np.isnan(scores).all()
    np.testing.assert_allclose(images, reference.sigmoid(full), atol=1e-5)
