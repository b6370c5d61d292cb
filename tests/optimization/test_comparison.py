"""`optimize` beside real images: what the result tells of them."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize
from featviz_callback.images import parameterizations
from featviz_callback.objectives import inputs
from tests.conftest import fill, layer_output, random_images, sequential

REAL = random_images(20, 12, 10, 1, seed=2)


class Batches(keras.utils.PyDataset):
    """The real images in batches of five, with labels."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return REAL[5 * index :][:5], np.zeros(5)


@pytest.mark.parametrize("data", [REAL, (REAL, np.zeros(20)), Batches()], ids=["x", "xy", "set"])
def test_the_top_activating_images_and_the_ratio_to_the_best_are_in_the_result(data, small_model):
    two = Objective.neuron(small_model, "logits", [0, 1])
    result = optimize(two, steps=8, probe_data=data)
    scores = layer_output(small_model, "logits", REAL)[:, :2].T
    order = np.argsort(-scores, axis=1)[:, :6]
    np.testing.assert_array_equal(result.real_images, REAL[order])
    np.testing.assert_allclose(result.real_scores, np.take_along_axis(scores, order, 1), rtol=1e-4)
    best = scores.max(1)
    expected = np.where(best > 0, result.scores / best, np.nan)
    np.testing.assert_allclose(result.score_ratio, expected, rtol=1e-3)


def test_pictures_take_over_the_colours_of_the_images(small_model):
    unit = Objective.neuron(small_model, "logits", 0)
    given = 0.1 + 0.2 * REAL
    beside = optimize(unit, steps=1, probe_data=given, values_range=(0, 1))
    like = parameterizations.like_data(given, (0.0, 1.0), (12, 10, 1))
    alone = optimize(unit, steps=1, parameterization=like)
    np.testing.assert_allclose(beside.images, alone.images, atol=1e-4)


def test_the_range_is_found_out_where_it_is_none(small_model):
    unit = Objective.neuron(small_model, "logits", 0)
    result = optimize(unit, steps=1, probe_data=REAL * 255, values_range=None)
    assert result.values_range == (0.0, 255.0)
    assert optimize(unit, steps=1, values_range=None).values_range == (0.0, 1.0)
    with pytest.raises(ValueError, match="`values_range`.*None to find it out"):
        optimize(unit, steps=1, probe_data=REAL * 255)


def test_units_that_no_image_activates_are_dead():
    model = sequential(
        layers.Flatten(), layers.Dense(2, activation="relu", name="units"), shape=(4, 3, 1)
    )
    kernel = np.stack([np.ones(12), -np.ones(12)], 1)
    model.layers[-1].set_weights([kernel, np.zeros(2)])
    units = Objective.neuron(model, "units", [0, 1])
    result = optimize(units, steps=4, probe_data=0.5 + random_images(5, 4, 3, 1) / 2)
    assert result.status[1] == "dead"
    assert result.status[0] != "dead"


NETWORKS = {
    "pooled": [
        layers.Conv2D(12, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(12, 3, activation="relu", name="units"),
    ],
    "normalised": [
        layers.Conv2D(12, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0),
        layers.Conv2D(12, 3, use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(6.0, name="units"),
    ],
    "strided": [
        layers.Conv2D(12, 3, strides=2, activation="relu"),
        layers.Conv2D(12, 3, padding="same", activation="relu", name="units"),
    ],
    "smooth": [layers.Conv2D(12, 3, activation="swish"), layers.Conv2D(12, 3, name="units")],
}


@pytest.mark.acceptance
@pytest.mark.parametrize("name", NETWORKS)
def test_verdicts_of_networks_as_people_build_them_are_those_of_predict(name):
    model = sequential(*(one.__class__.from_config(one.get_config()) for one in NETWORKS[name]))
    weights = model.get_weights()
    # Moving variances are above zero.
    weights = [
        np.abs(w) + 0.1 if v.path.endswith("variance") else w
        for w, v in zip(weights, model.weights, strict=True)
    ]
    model.set_weights(weights)
    before = {"normalised": "beta", "smooth": ""}.get(name, "bias")
    shifted = [v for v in model.weights if before and v.path.endswith(before)][-1:]
    for variable in shifted:
        # A third of the units are silent, or nearly.
        variable.assign(np.where(np.arange(12) % 3, 0.2, np.linspace(-9, 0, 12)))
    maps = model.predict(REAL, verbose=0)
    found = optimize(Objective.channel(model, "units", range(12)), steps=8, probe_data=REAL)
    silent = maps.max((0, 1, 2)) <= 0
    if shifted:
        assert 1 < silent.sum() < 9
    assert [status == "dead" for status in found.status] == silent.tolist()
    best = maps.mean((1, 2)).max(0)
    reached = np.diag(model.predict(found.images, verbose=0).mean((1, 2)))
    weaker = ~silent & (reached < best * (1 - 1e-4))
    assert [status == "weak" for status in found.status] == weaker.tolist()
    assert "no_gradient" not in np.array(found.status)[~silent]


def test_units_that_tell_no_image_from_another_have_no_top_images():
    model = sequential(
        layers.Flatten(), layers.Dense(4, activation="relu", name="units"), shape=(4, 3, 1)
    )
    kernel = np.stack([np.ones(12), -np.ones(12), np.zeros(12), np.eye(12)[0]], axis=1)
    model.layers[-1].set_weights([kernel, np.array([0, 0, 2, -1.5])])
    real = 0.5 + random_images(9, 4, 3, 1) / 2
    # One image activates the last unit, but little else does.
    real[5, 0, 0] = 2.0
    activations = model.predict(real, verbose=0)
    assert (np.ptp(activations[:, [1, 2]], axis=0) == 0).all()
    assert np.count_nonzero(activations, axis=0).tolist() == [9, 0, 9, 1]
    units = Objective.neuron(model, "units", range(4))
    result = optimize(units, steps=2, probe_data=real, values_range=(0, 2))
    assert result.status[1:3] == ["dead", "constant"]
    assert not {"dead", "constant"} & set(result.status[::3])
    assert np.isnan(result.real_images[1:3]).all()
    assert np.isnan(result.real_scores[1:3]).all()
    order = np.argsort(-activations[:, [0, 3]], axis=0, kind="stable")[:6].T
    np.testing.assert_array_equal(result.real_images[::3], real[order])
    expected = np.take_along_axis(activations[:, [0, 3]].T, order, axis=1)
    np.testing.assert_allclose(result.real_scores[::3], expected, rtol=1e-5)
    assert result.real_images.dtype == result.real_scores.dtype == "float32"


def test_the_size_of_the_images_is_that_of_pictures_of_a_model_of_any_size():
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(2, 3, name="conv")])
    unit = Objective.channel(fill(model), "conv", 0)
    result = optimize(unit, steps=1, probe_data=REAL)
    assert result.images.shape == (1, 12, 10, 1)


def test_signals_have_top_signals():
    model = sequential(layers.Conv1D(3, 3, name="conv"), shape=(16, 2))
    given = random_images(7, 16, 2)
    result = optimize(Objective.channel(model, "conv", [0, 1]), steps=1, probe_data=given)
    assert result.real_images.shape == (2, 6, 16, 2)


def test_images_to_begin_at_and_real_ones_go_together(small_model):
    unit = Objective.neuron(small_model, "logits", 0)
    for parameterization in ("fourier", "fixed_magnitude"):
        given = {"probe_data": REAL, "start": REAL[3], "parameterization": parameterization}
        image = optimize(0 * unit, steps=1, **given).images[0]
        np.testing.assert_allclose(image, np.clip(REAL[3], 0.01, 0.99), atol=2e-3)


def test_facets_are_compared_with_real_images_each(small_model):
    both = Objective.neuron(small_model, "logits", [0, 1]).facets(2)
    result = optimize(both, steps=2, probe_data=REAL)
    assert result.score_ratio.shape == (4,)
    np.testing.assert_array_equal(result.real_images[::2], result.real_images[1::2])


def test_other_inputs_take_their_mean():
    image, more = keras.Input((6, 5, 1), name="image"), keras.Input((2,), name="more")
    both = layers.Concatenate()([layers.Flatten()(image), more])
    model = fill(keras.Model([image, more], layers.Dense(2, name="logits")(both)))
    x, extra = random_images(9, 6, 5, 1), random_images(9, 2)
    unit = Objective.neuron(model, "logits", 0)
    result = optimize(unit, steps=2, probe_data={"image": x, "more": extra})
    fixed = {"more": extra.mean(0)}
    expected = unit.score(result.images, fixed_inputs=fixed)
    np.testing.assert_allclose(result.scores, expected, rtol=1e-4)
    assert inputs.names(model) == ["image", "more"]


def test_what_are_no_images_is_refused(small_model):
    unit = Objective.neuron(small_model, "logits", 0)
    for data in (REAL[:, :5], REAL * np.nan, []):
        with pytest.raises(ValueError, match="`probe_data`"):
            optimize(unit, steps=1, probe_data=data)
