"""The seed of each target's random draws, and what an image depends on."""

import numpy as np
import pytest

from featviz_callback import Objective, optimize
from featviz_callback.images.transformations import Jitter, Noise


@pytest.mark.parametrize("transformations", ["standard", None, [Jitter(), Noise()]])
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(neurons, transformations):
    first, again, other = (
        optimize(neurons, steps=2, seed=seed, transformations=transformations).images
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other, atol=1e-3)


def test_an_image_does_not_depend_on_the_other_targets(neurons, small_model):
    together = optimize(neurons, steps=4)
    for ids in ([2], [3, 2, 9]):
        other = optimize(Objective.neuron(small_model, "logits", ids), steps=4)
        i = ids.index(2)
        np.testing.assert_allclose(other.images[i], together.images[2], atol=1e-4)
        np.testing.assert_allclose(other.scores[i], together.scores[2], rtol=1e-3, atol=1e-4)


def test_targets_of_the_same_name_differ(small_model):
    twice = Objective.neuron(small_model, "logits", [1, 1])
    images, _ = optimize(twice, steps=1)
    assert not np.allclose(images[0], images[1], atol=1e-4)
