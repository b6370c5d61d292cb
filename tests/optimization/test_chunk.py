"""A chunk: the random draws of each step, and that no chunk stays in memory."""

import gc

import numpy as np
import pytest

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Pixel
from featviz_callback.images.transformations import Jitter, Scale
from featviz_callback.optimization.chunk import Chunk
from tests.conftest import IMAGE_SHAPE


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
