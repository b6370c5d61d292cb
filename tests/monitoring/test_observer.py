"""One snapshot: its targets, its noise floor, the memory it takes, and real images."""

import logging

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.monitoring.observer import Observer
from featviz_callback.objectives import join_alike
from featviz_callback.records.drift import drift
from tests.conftest import (
    ascend,
    layer_output,
    mixed,
    prepare,
    random_images,
    sequential,
)


def observe(objectives, real_images=None, warm_start=False, **settings):
    """Make an observer of those objectives, as the callback does."""
    tasks = [prepare(joined, **settings) for joined in join_alike(objectives)]
    return Observer(objectives, tasks, real_images, warm_start)


# --- one snapshot ---------------------------------------------------------------------


def test_each_target_is_the_same_as_alone_in_the_given_order(small_model):
    objectives = mixed(small_model)
    observer = observe(objectives)
    found = observer.take_snapshot(with_floor=False)
    alone = [ascend(objective)[0] for objective in objectives]
    names = [name for result in alone for name in result.names]
    assert found.result.names == observer.names == names
    images = np.concatenate([result.images for result in alone])
    scores = np.concatenate([result.scores for result in alone])
    np.testing.assert_allclose(found.result.images, images, atol=1e-4)
    np.testing.assert_allclose(found.result.scores, scores, rtol=1e-3, atol=1e-4)


def test_the_noise_floor_is_the_drift_to_another_seed(small_model):
    [objective, *_] = mixed(small_model)
    observer = observe([objective])
    assert observer.take_snapshot(with_floor=False).noise_floor is None
    found = observer.take_snapshot(with_floor=True)
    expected = drift(ascend(objective)[0].images, ascend(objective, seed=1)[0].images)
    np.testing.assert_allclose(found.noise_floor, expected, atol=1e-5)
    assert (found.noise_floor > 0).all()


@pytest.mark.parametrize("warm_start", [False, True])
def test_a_warm_start_goes_on_where_the_last_snapshot_ended(small_model, warm_start):
    [objective, *_] = mixed(small_model)
    observer = observe([objective], warm_start=warm_start)
    first, second = (observer.take_snapshot(with_floor=False).result for _ in range(2))
    _, params = ascend(objective)
    expected, _ = ascend(objective, start=params if warm_start else None)
    np.testing.assert_allclose(second.images, expected.images, atol=1e-5)
    assert np.array_equal(first.images, second.images) != warm_start


def test_layers_have_the_networks_order(small_model):
    objectives = [Objective.neuron(small_model, "logits", 7), Objective.layer(small_model, "conv1")]
    (logits, *late), (conv1, *early) = observe(objectives).targets
    assert (logits, conv1) == ("Neuron#logits_7", "Layer#conv1")
    assert (late[0], early[0]) == ("logits", "conv1")
    assert late[1] > early[1]


def test_a_unit_that_is_gone_is_named_before_any_optimisation(small_model):
    many = Objective.channel(small_model, "conv2", range(6))
    observer = observe([many])
    for _ in range(3):
        small_model.pop()
    small_model.add(layers.Conv2D(5, 3, name="conv2"))
    with pytest.raises(ValueError, match="longer what these read: Channel#conv2_5. Make"):
        observer.take_snapshot(with_floor=False)


def test_five_of_many_units_that_are_gone_are_named(small_model):
    observer = observe([Objective.neuron(small_model, "logits", range(10))])
    small_model.pop()
    small_model.add(layers.Dense(2, name="logits"))
    with pytest.raises(ValueError, match="logits_2, .*logits_6 and 3 more. Make"):
        observer.take_snapshot(with_floor=False)


@pytest.mark.parametrize("channels", [4, 8])
def test_the_same_index_of_another_shape_is_another_unit(channels):
    model = sequential(layers.Conv2D(6, 3, name="conv"))
    observer = observe([Objective.neuron(model, "conv", [(0, 0, 2), (0, 1, 0), (0, 1, 5)])])
    model.pop()
    model.add(layers.Conv2D(channels, 3, name="conv"))
    with pytest.raises(ValueError, match="read: Neuron#conv_0_1_0, Neuron#conv_0_1_5. Make"):
        observer.take_snapshot(with_floor=False)


def test_a_layer_that_grew_without_moving_its_units_is_visualised(small_model):
    observer = observe([Objective.neuron(small_model, "logits", 9)])
    small_model.pop()
    small_model.add(layers.Dense(12, name="logits"))
    assert observer.take_snapshot(with_floor=False).result.status == ["ok"]


# --- memory ---------------------------------------------------------------------------


def test_out_of_memory_halves_the_images_in_one_call_for_good(small_model, caplog):
    """`test_faults.py` tests which errors each backend raises."""
    shapes = []

    def hungry(images):
        shapes.append(images.shape[0])
        if images.shape[0] > 2:
            raise MemoryError("no room")
        return images

    caplog.set_level(logging.WARNING, logger="featviz_callback")
    objective = Objective.neuron(small_model, "logits", range(4))
    observer = observe([objective], transformations=(hungry,))
    results = [observer.take_snapshot(with_floor=False).result for _ in range(2)]
    assert shapes[0] == 4
    assert set(shapes[1:]) == {2}
    assert [record.args for record in caplog.records] == [(2,)]
    expected, _ = ascend(objective, transformations=())
    for one in results:
        np.testing.assert_allclose(one.images, expected.images, atol=1e-4)


def test_a_model_of_a_fixed_number_of_images_is_not_called_with_half_of_them():
    model = keras.Sequential(
        [keras.Input((6, 6, 1), batch_size=4), layers.Flatten(), layers.Dense(3, name="logits")]
    )

    def hungry(images):
        raise MemoryError("no room")

    observer = observe([Objective.neuron(model, "logits", [0, 1])], transformations=(hungry,))
    with pytest.raises(MemoryError, match="no room"):
        observer.take_snapshot(with_floor=False)


# --- beside real images ---------------------------------------------------------------


def test_scores_are_compared_with_the_top_activating_real_image(small_model):
    real = random_images(20, 12, 10, 1)
    objectives = [
        Objective.neuron(small_model, "logits", [3, 1]),
        Objective.channel(small_model, "conv2", 0),
    ]
    found = observe(objectives, real).take_snapshot(with_floor=False)
    logits = layer_output(small_model, "logits", real)
    channels = layer_output(small_model, "conv2", real).mean((1, 2))
    best = np.array([logits[:, 3].max(), logits[:, 1].max(), channels[:, 0].max()])
    expected = np.where(best > 0, found.result.scores / best, np.nan)
    np.testing.assert_allclose(found.score_ratio, expected, rtol=1e-3)
    assert len(found.examples) == 3


def test_a_unit_that_no_real_image_activates_has_no_ratio(small_model):
    objective = Objective.custom(
        small_model, "logits", lambda outputs: -1.0 - keras.ops.mean(outputs**2, axis=1)
    )
    found = observe([objective], random_images(5, 12, 10, 1)).take_snapshot(with_floor=False)
    assert np.isnan(found.score_ratio).all()


def test_without_real_images_there_is_no_comparison(small_model):
    found = observe(mixed(small_model)).take_snapshot(with_floor=False)
    assert found.score_ratio is None
    assert found.examples == []
