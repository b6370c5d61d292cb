"""Facets: several images of a target that differ."""

import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.optimization import step
from tests.conftest import sequential

COUNT = 3


def correlations(images):
    """Return the mean correlation of each two of a target's images, `(targets,)`."""
    pairs = np.triu_indices(images.shape[1], 1)
    return np.array([np.corrcoef(one.reshape(len(one), -1))[pairs].mean() for one in images])


def test_facets_are_named_and_numbered(small_model):
    both = Objective.neuron(small_model, "logits", [0, 1]).facets(2)
    assert both.names == [
        *("Neuron#logits_0, facet 1 of 2", "Neuron#logits_0, facet 2 of 2"),
        *("Neuron#logits_1, facet 1 of 2", "Neuron#logits_1, facet 2 of 2"),
    ]
    assert len(both) == 4
    assert (-2 * both).names == both.names


def test_facets_differ_and_the_first_is_any_picture(small_model):
    two = Objective.neuron(small_model, "logits", [0, 1])
    result = optimize(two.facets(COUNT), steps=16)
    assert result.names == two.facets(COUNT).names
    expected = two.facets(COUNT).score(result.images)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4, atol=1e-5)
    plain = optimize(two.facets(COUNT, strength=0.0), steps=16)
    sets = [one.images.reshape(2, COUNT, 12, 10, 1) for one in (result, plain)]
    alone = optimize(two, steps=16)
    for one in sets:
        np.testing.assert_allclose(one[:, 0], alone.images, atol=1e-5)
    apart, together = map(correlations, sets)
    assert (apart < together - 0.05).all()
    assert apart.mean() < 0.6
    ratios = result.scores.reshape(2, COUNT) / alone.scores[:, None]
    assert (ratios >= 0.85).all()


def two_templates():
    """Return a unit that is the larger product with two templates, and these."""
    templates = np.zeros((12, 10, 1, 2), "float32")
    templates[2:5, 2:8, 0, 0] = templates[7:10, 2:8, 0, 1] = 1
    templates -= templates.mean((0, 1))
    model = keras.Sequential(
        [
            keras.Input((12, 10, 1)),
            layers.Conv2D(2, (12, 10), use_bias=False, name="templates"),
            layers.GlobalMaxPooling2D(),
            layers.Reshape((2, 1)),
            layers.GlobalMaxPooling1D(name="unit"),
        ]
    )
    model.set_weights([templates])
    return model, templates[..., 0, :].reshape(-1, 2).T


def test_both_facets_of_a_unit_that_has_two_are_found():
    model, templates = two_templates()
    still = {"steps": 32, "transformations": None}
    result = optimize(Objective.neuron(model, "unit", 0).facets(2), **still)
    found = np.corrcoef([*result.images.reshape(2, -1), *templates])[:2, 2:]
    assert sorted(found.argmax(1)) == [0, 1]
    assert (found.max(1) > 0.8).all()
    alone = optimize(Objective.neuron(model, "unit", 0), **still)
    assert (result.scores > 0.85 * alone.scores).all()


def test_a_target_s_facets_do_not_depend_on_other_targets(small_model):
    one, both = (Objective.neuron(small_model, "logits", ids).facets(2) for ids in (1, [0, 1]))
    alone, beside = (optimize(o, steps=4, batch_size=1) for o in (one, both))
    np.testing.assert_allclose(alone.images, beside.images[2:], atol=1e-5)


def test_other_facets_compile_nothing(small_model):
    optimize(Objective.neuron(small_model, "logits", [0, 1]).facets(2), steps=2)
    [compiled] = step.compiled_steps[small_model].values()
    traces = compiled.traces
    optimize(Objective.neuron(small_model, "logits", [3, 4]).facets(2, strength=0.5), steps=3)
    assert list(step.compiled_steps[small_model].values()) == [compiled]
    assert keras.backend.backend() == "torch" or compiled.traces == traces == 1


def test_facets_of_given_images_and_frames_are_in_the_order_of_the_names(small_model):
    start = np.linspace(0.1, 0.9, 4)[:, None, None, None] * np.ones((12, 10, 1))
    both = (0 * Objective.neuron(small_model, "logits", [0, 1])).facets(2)
    result = optimize(both, steps=2, start=start, save_every=1)
    np.testing.assert_allclose(result.images, start, atol=1e-3)
    np.testing.assert_allclose(result.frames, [start, start], atol=1e-3)
    assert result.history.shape == (2, 4)
    assert len(result.starts) == len(result.status) == 4


@pytest.mark.parametrize("settings", [{"count": 1}, {"count": 2.5}, {"count": True}])
def test_a_count_that_is_none_is_refused(settings, neurons):
    with pytest.raises(ValueError, match="`count`"):
        neurons.facets(**settings)


@pytest.mark.parametrize("strength", [-1, np.nan, "much"])
def test_a_strength_that_is_none_is_refused(strength, neurons):
    with pytest.raises(ValueError, match="`strength`"):
        neurons.facets(2, strength)


def test_a_channel_that_is_no_number_spoils_no_facet_of_another():
    model = sequential(layers.Conv2D(4, 3, name="conv"), shape=(12, 10, 1))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([kernel, np.where(np.arange(4) == 1, np.nan, bias)])
    unit = Objective.channel(model, "conv", 0)
    plain, facets = optimize(unit, steps=3), optimize(unit.facets(2), steps=3)
    assert facets.status == ["ok", "ok"]
    np.testing.assert_allclose(facets.images[0], plain.images[0], atol=1e-5)


def test_facets_are_made_last(neurons):
    with pytest.raises(ValueError, match=r"the facets of a sum: `\(a \+ b\).facets"):
        neurons.facets(2) + neurons
    with pytest.raises(ValueError, match="Received: one with 2"):
        neurons.facets(2).facets(2)


@pytest.mark.acceptance
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="takes minutes there")
def test_facets_of_clothes_differ_and_score_nearly_as_much():
    clothes = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "fashion_mnist.py"))
    x, y = clothes["load_data"]()
    model = clothes["build_model"]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x, y, epochs=6, batch_size=64, verbose=0)
    logits = Objective.neuron(model, "logits", range(10))
    single = optimize(logits, steps=64)
    result = optimize(logits.facets(4), steps=64)
    images = result.images.reshape(10, 4, 28, 28, 1)
    assert correlations(images).mean() < 0.6
    assert (result.scores.reshape(10, 4) >= 0.85 * single.scores[:, None]).all()
