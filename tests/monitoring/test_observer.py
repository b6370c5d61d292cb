"""One snapshot: its targets, its noise floor, the memory it takes, and real images."""

import logging
import math
import tracemalloc
from dataclasses import replace
from itertools import islice

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.images.fourier import Fourier
from featviz_callback.images.parameterizations import Pixel
from featviz_callback.monitoring.observer import Observer
from featviz_callback.objectives import join_alike
from featviz_callback.optimization import find_starts, run
from featviz_callback.records import History
from featviz_callback.records.drift import drift
from tests.conftest import (
    ascend,
    fill,
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


def test_the_noise_floor_is_the_drift_to_another_seed_from_the_same_starts(small_model):
    objectives = mixed(small_model)
    observer = observe(objectives)
    assert observer.take_snapshot(with_floor=False).noise_floor is None
    found = observer.take_snapshot(with_floor=True)
    starts = iter(found.result.starts)
    others = [
        run(
            prepare(one, seed=1),
            starts=list(islice(starts, len(one))),
        )[0].images
        for one in objectives
    ]
    expected = drift(found.result.images, np.concatenate(others))
    np.testing.assert_allclose(found.noise_floor, expected, atol=1e-4)
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


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="The bound is TensorFlow's: on torch, arrays share the memory of tensors.",
)
@pytest.mark.slow
def test_a_snapshot_of_large_images_holds_each_of_them_once():
    model = sequential(
        *(layers.Conv2D(8, 1, name=name) for name in ("first", "second")), shape=(160, 160, 3)
    )
    objectives = [Objective.channel(model, name, range(8)) for name in ("first", "second")]
    observer = observe(
        objectives, steps=1, image_shape=(232, 232, 3), batch_size=1, transformations=None
    )
    observer.take_snapshot(with_floor=False)
    tracemalloc.start()
    found = observer.take_snapshot(with_floor=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The images, half as many by another seed with their importance, and what one takes.
    assert peak < 2.85 * found.result.images.nbytes


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


# --- starts ---------------------------------------------------------------------------


def of_each(objectives, *columns):
    """Yield each objective with what the columns say of its targets."""
    remaining = [iter(column) for column in columns]
    for one in objectives:
        yield one, [list(islice(column, len(one))) for column in remaining]


def many_starts(model):
    """Targets in such an order that those of one task are far apart."""
    return [
        Objective.channel(model, "conv1", [2, 0]),
        Objective.neuron(model, "logits", 3),
        Objective.channel(model, "conv2", [5, 1, 3]),
        Objective.neuron(model, "logits", [1, 9]),
        Objective.channel(model, "conv1", 3),
        Objective.channel(model, "conv2", 0),
    ]


@pytest.mark.acceptance
@pytest.mark.parametrize("with_real", [False, True], ids=["alone", "beside real images"])
def test_each_target_keeps_its_own_start_whatever_the_order(with_real, small_model):
    """Beside real images, one may take another start if it scores below the best of them."""
    objectives = many_starts(small_model)
    real = random_images(20, 12, 10, 1) if with_real else None
    observer = observe(objectives, real, steps=4)
    first = observer.take_snapshot(with_floor=False).result
    assert len(set(first.starts)) > 3
    fill(small_model, seed=5)
    second = observer.take_snapshot(with_floor=False).result
    chosen, images = [], []
    for one, (starts, status) in of_each(objectives, first.starts, first.status):
        settings = {"status": status}
        if with_real:
            units = [name.partition("#")[2].rsplit("_", 1) for name in one.names]
            scores = [predicted(small_model, layer, real)[:, int(i)] for layer, i in units]
            settings["best_known"] = np.max(scores, axis=1)
        alone, _ = run(prepare(one, steps=4), starts=starts, **settings)
        chosen += alone.starts
        images.append(alone.images)
    assert second.starts == chosen
    assert (second.starts == first.starts) == (not with_real)
    # Keras' scores of the best real images are others by a rounding error, which steps enlarge.
    np.testing.assert_allclose(second.images, np.concatenate(images), atol=1e-3)


def test_an_observer_goes_on_from_the_starts_of_an_earlier_one(small_model):
    objectives = many_starts(small_model)
    earlier, later, unaware = (observe(objectives, steps=4) for _ in range(3))
    kept = earlier.take_snapshot(with_floor=False).result
    fill(small_model, seed=1)
    later.go_on_from(History().add(0, kept))
    expected, found, anew = (
        one.take_snapshot(with_floor=False).result for one in (earlier, later, unaware)
    )
    assert found.starts == expected.starts
    np.testing.assert_array_equal(found.images, expected.images)
    assert anew.starts != expected.starts


@pytest.mark.acceptance
@pytest.mark.parametrize("change", [{"starts": None}, {"names": list("abcdefghij")}], ids=str)
def test_an_earlier_snapshot_without_starts_or_of_other_targets_is_not_gone_on_from(
    change, small_model
):
    objectives = many_starts(small_model)
    observer, fresh = observe(objectives), observe(objectives)
    kept = replace(observer.take_snapshot(with_floor=False).result, starts=["plain 0"] * 10)
    observer = observe(objectives)
    observer.go_on_from(History().add(0, replace(kept, **change)))
    found, expected = (one.take_snapshot(with_floor=False).result for one in (observer, fresh))
    assert found.starts == expected.starts
    np.testing.assert_array_equal(found.images, expected.images)


def only_bright_or_dark(model, is_bright):
    """Make one channel that is on for bright pixels only, or for dark ones only."""
    sign = 1.0 if is_bright else -1.0
    model.set_weights([np.full((1, 1, 1, 1), 4 * sign), np.array([-2.4 if is_bright else 1.6])])


def test_a_target_changes_its_start_once_it_has_no_gradient_there():
    model = sequential(layers.Conv2D(1, 1, activation="relu", name="conv"), shape=(6, 6, 1))
    observer = observe([Objective.channel(model, "conv", 0)], steps=4)
    starts, scores = [], []
    for is_bright in (True, True, False, False, False):
        only_bright_or_dark(model, is_bright)
        result = observer.take_snapshot(with_floor=False).result
        assert result.status == ["ok"]
        # Bright pixels are above 0.6, and dark ones below 0.4.
        assert (result.images.mean() > 0.5) == is_bright
        starts += result.starts
        scores += result.scores.tolist()
    assert starts[0] == starts[1] != starts[2]
    # It may change again for a picture that scores more.
    assert scores[2] <= scores[3] == scores[4]
    assert starts[3] == starts[4]


@pytest.mark.parametrize("status", ["weak", "no_gradient"])
def test_a_target_of_a_lasting_trouble_does_not_try_other_starts_again(status):
    """Real images of a hundred times the range score more than any picture can."""
    model = sequential(layers.Conv2D(4, 3, activation="relu", name="conv"))
    real = 100 * (random_images(8, 12, 10, 1) - 0.5)
    objective = Objective.channel(model, "conv", range(4))
    best = layer_output(model, "conv", real).mean((1, 2)).max(0)
    settings, kept = {"steps": 16, "transformations": None}, ["noise 1 0 0"] * 4
    task = prepare(objective, **settings)
    own = run(task, starts=kept, best_known=best)[0].scores
    # A start that scores more than a picture would be taken.
    [known] = find_starts([task])
    rows = np.flatnonzero(own > known.scores.max(1))
    assert len(rows)
    starts = []
    for before in ("ok", status):
        observer = observe([objective], real, **settings)
        earlier = replace(ascend(objective)[0], starts=kept, status=[before] * 4)
        observer.go_on_from(History().add(0, earlier))
        result = observer.take_snapshot(with_floor=False).result
        assert (result.scores < best).all()
        assert result.status == ["weak"] * 4
        starts.append([result.starts[i] for i in rows])
    assert starts[0] != starts[1] == [kept[0]] * len(rows)


def hard_to_start(steep=False):
    """Make a unit that few images activate, and faint noise does not; return real images too."""
    real = random_images(40, 8, 8, 1)
    kernel = np.random.default_rng(1).normal(size=(64, 1))
    values = np.sort((real.reshape(40, -1) @ kernel).ravel())
    model = sequential(
        layers.Flatten(), layers.Dense(1, activation="relu", name="unit"), shape=(8, 8, 1)
    )
    weights = [kernel, np.array([-values[-2]])]
    model.set_weights(weights)
    return model, weights, real


@pytest.mark.acceptance
@pytest.mark.parametrize("trouble", ["nan", "silent"])
def test_a_unit_that_recovers_is_found_again(trouble):
    model, weights, real = hard_to_start()
    objective = Objective.neuron(model, "unit", 0)
    observer = observe([objective], real, steps=16)
    kernel, bias = weights
    broken = [np.full_like(kernel, np.nan), bias] if trouble == "nan" else [kernel, bias - 1e4]
    model.set_weights(broken)
    expected = "nan" if trouble == "nan" else "dead"
    assert observer.take_snapshot(with_floor=False).result.status == [expected]
    model.set_weights(weights)
    result = observer.take_snapshot(with_floor=False).result
    assert result.status == ["ok"]
    best = model.predict(real, verbose=0).max()
    assert model.predict(result.images, verbose=0)[0, 0] > best > 0


def test_without_real_images_the_last_snapshot_tries_again():
    model, weights, _ = hard_to_start()
    observer = observe([Objective.neuron(model, "unit", 0)], steps=16)
    model.set_weights([weights[0], weights[1] - 1e4])
    assert observer.take_snapshot(with_floor=True).result.status == ["no_gradient"]
    model.set_weights(weights)
    observer.take_snapshot(with_floor=False)
    last = observer.take_snapshot(with_floor=True).result
    assert last.status == ["ok"]
    assert model.predict(last.images, verbose=0)[0, 0] > 0


def test_a_noise_floor_beside_a_warm_start_is_that_of_two_seeds():
    """A start that is given and no transformation leave nothing to the seed."""
    model = sequential(layers.Conv2D(2, 3, name="conv"), shape=(8, 8, 1))
    settings = {"transformations": None, "parameterization": Fourier(noise=0.0), "steps": 4}
    observer = observe([Objective.channel(model, "conv", 0)], warm_start=True, **settings)
    for _ in range(3):
        found = observer.take_snapshot(with_floor=True)
        np.testing.assert_allclose(found.noise_floor, 0, atol=1e-5)


def test_a_warm_start_goes_on_in_another_observer(small_model):
    [objective, *_] = mixed(small_model)
    first = observe([objective], warm_start=True)
    snapshot = History().add(0, first.take_snapshot(with_floor=False).result)
    second = observe([objective], warm_start=True)
    second.go_on_from(snapshot, first.params)
    expected, found = (one.take_snapshot(with_floor=False).result for one in (first, second))
    np.testing.assert_allclose(found.images, expected.images, atol=1e-5)


# --- targets that cannot be read --------------------------------------------------------


class Windows(layers.Layer):
    """Fold quarters of an image into the batch, and unfold them."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.inner = layers.Dense(3, name="inner")

    def call(self, images):
        quarters = keras.ops.reshape(images, (-1, 4, 4, 1))
        return keras.ops.reshape(self.inner(quarters), (-1, 8, 8, 3))


def test_a_target_that_cannot_be_read_is_left_out_and_the_others_are_made(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = sequential(
        *(Windows(name="block"), layers.Flatten(), layers.Dense(2, name="out")), shape=(8, 8, 1)
    )
    inner, out = Objective.channel(model, "block/inner", 0), Objective.neuron(model, "out", 1)
    observer = observe([inner, out], random_images(4, 8, 8, 1), steps=2)
    for _ in range(2):
        result = observer.take_snapshot(with_floor=False).result
        assert result.names == ["Neuron#out_1"]
    assert caplog.text.count("Left out, since it cannot be read: Channel#block/inner_0") == 1
    with pytest.raises(ValueError, match="block/inner.*4 outputs for 1 images"):
        observe([inner], steps=2).take_snapshot(with_floor=False)


def test_what_is_left_out_loses_nothing_that_others_go_on_from():
    """A second `fit` of a callback, whose history has the targets that are left."""
    model = sequential(
        *(Windows(name="block"), layers.Flatten(), layers.Dense(2, name="out")), shape=(8, 8, 1)
    )
    both = [Objective.channel(model, "block/inner", 0), Objective.neuron(model, "out", 1)]
    first, second, fresh = (observe(both, warm_start=True) for _ in range(3))
    snapshot = History().add(0, first.take_snapshot(with_floor=False).result)
    second.go_on_from(snapshot, first.params)
    # A training that ends before its first epoch loses nothing either.
    np.testing.assert_array_equal(second.params, first.params)
    expected, found, anew = (
        one.take_snapshot(with_floor=False).result for one in (first, second, fresh)
    )
    np.testing.assert_allclose(found.images, expected.images, atol=1e-5)
    assert not np.allclose(anew.images, expected.images, atol=1e-3)


class OfFewImages(layers.Layer):
    """A layer that has no memory for sixteen images."""

    def call(self, features):
        # JAX has dimensions that are no numbers.
        if isinstance(features.shape[0], int) and features.shape[0] == 16:
            raise MemoryError("too many images")
        return features


def test_a_model_that_cannot_be_measured_hides_no_other():
    image = keras.Input((12, 10, 1))
    features = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    outputs = layers.Dense(2)(OfFewImages()(features))
    few = fill(keras.Model(image, outputs, name="few"))
    other = sequential(layers.Conv2D(2, 3, name="other"))
    observer = observe(
        [Objective.channel(few, "conv", 0), Objective.channel(other, "other", 0)],
        random_images(16, 12, 10, 1),
    )
    # The call of the first one fails once, and is not tried again.
    first, second = (observer.take_snapshot(with_floor=False).checkup for _ in range(2))
    means = [dict(zip(one.layers, one.mean, strict=True)) for one in (first, second)]
    assert np.isnan(means[1]["few/conv"])
    assert all(np.isfinite(one[f"{other.name}/other"]) for one in means)


def activated(name):
    return sequential(
        layers.Conv2D(2, 3, activation=name), layers.Flatten(), layers.Dense(2, name="out")
    )


def test_another_architecture_is_another_observation():
    relu, again, tanh = (
        observe([Objective.neuron(activated(name), "out", 0)]).digest
        for name in ("relu", "relu", "tanh")
    )
    assert relu == again != tanh


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


def predicted(model, layer, images):
    """Return the score of each image for each unit of a layer, by Keras' own `predict`."""
    outputs = keras.Model(model.inputs[0], model.get_layer(layer).output).predict(images, verbose=0)
    return outputs.mean((1, 2)) if outputs.ndim == 4 else outputs


def verdicts(model, layer, result, real):
    """Tell dead, constant and weak units from others, by `predict` alone."""
    own = np.diag(predicted(model, layer, result.images))
    scores = predicted(model, layer, real)
    conditions = [
        (scores == 0).all(0),
        np.ptp(scores, axis=0) <= 1e-6 * np.abs(scores).max(0),
        own < scores.max(0) - 1e-3 * np.abs(scores.max(0)),
    ]
    return np.select(conditions, ["dead", "constant", "weak"], "ok").tolist()


def planted():
    """Five channels: as drawn, silent, silent for real images, constant, and as drawn."""
    model = sequential(layers.Conv2D(5, 3, activation="relu", name="conv"))
    kernel, bias = model.get_weights()
    bias[1] = -100
    kernel[..., 2], bias[2] = 1, -8  # so nine values of 0.9 or less leave it silent
    kernel[..., 3], bias[3] = 0, 1
    model.set_weights([kernel, bias])
    return model, Objective.channel(model, "conv", range(5)), 0.85 * random_images(20, 12, 10, 1)


def test_units_of_a_map_are_dead_or_constant_if_real_images_say_so():
    model, objective, real = planted()
    observer = observe([objective], real, steps=16)
    found = observer.take_snapshot(with_floor=False)
    assert found.result.status == verdicts(model, "conv", found.result, real)
    assert found.result.status == ["ok", "dead", "dead", "constant", "ok"]
    # An optimised image activates what no real image does, and that has no ratio.
    own = np.diag(predicted(model, "conv", found.result.images))
    assert own[2] > 0
    assert np.isfinite(found.score_ratio).tolist() == [True, False, False, True, True]
    assert found.score_ratio[3] == pytest.approx(1)


def test_without_real_images_nothing_is_dead_or_constant():
    _, objective, _ = planted()
    result = observe([objective], steps=16).take_snapshot(with_floor=False).result
    assert result.status == ["ok", "no_gradient", "ok", "no_gradient", "ok"]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (3, 0, 4, 2, 1)])
def test_a_verdict_does_not_depend_on_order_or_company(order):
    model, objective, real = planted()
    together = observe([objective], real, steps=16).take_snapshot(with_floor=False)
    singles = [Objective.channel(model, "conv", i) for i in order]
    # Another layer between them makes two tasks.
    singles.insert(2, Objective.neuron(model, "conv", (0, 0, 1)))
    apart = observe(singles, real, steps=16).take_snapshot(with_floor=False)
    status, ratio = apart.result.status, apart.score_ratio.tolist()
    assert status.pop(2) == "dead"
    assert np.isnan(ratio.pop(2))
    assert status == [together.result.status[i] for i in order]
    np.testing.assert_allclose(ratio, together.score_ratio[list(order)], rtol=1e-3)


def test_no_top_images_are_shown_of_what_is_dead_or_constant():
    _, objective, real = planted()
    found = observe([objective], real).take_snapshot(with_floor=False)
    widths = [picture.shape[1] for picture in found.examples]
    assert widths[1] == widths[2] == widths[3]
    assert min(widths[0], widths[4]) > 6 * widths[1]


@pytest.mark.parametrize("activation", ["linear", "swish"])
def test_units_whose_best_scores_are_negative_are_alive_and_have_no_ratio(activation):
    model = sequential(
        layers.Flatten(), layers.Dense(4, activation=activation, name="units"), seed=1
    )
    weights, _ = model.get_weights()
    model.set_weights([0.3 * weights, np.full(4, -3.0)])
    real = random_images(20, 12, 10, 1)
    best = predicted(model, "units", real).max(0)
    assert (best < 0).all()
    objective = Objective.neuron(model, "units", range(4))
    found = observe([objective], real, steps=16).take_snapshot(with_floor=False)
    assert found.result.status == verdicts(model, "units", found.result, real) == ["ok"] * 4
    assert np.isnan(found.score_ratio).all()
    assert (np.diag(predicted(model, "units", found.result.images)) > best).all()
    assert len({picture.shape for picture in found.examples}) == 1


# Begins and remains next to plain grey.
GREY = {"parameterization": Fourier(contrast=0.01), "steps": 1}


@pytest.mark.parametrize("bias", [0.0, -5.0, 5.0])
def test_an_image_that_scores_below_the_best_real_one_is_weak(bias, small_model):
    kernel, _ = small_model.get_layer("logits").get_weights()
    small_model.get_layer("logits").set_weights([kernel, np.full(10, bias)])
    real = random_images(20, 12, 10, 1)
    # A real image of plain grey is the best one for some units, and their pictures are not weak.
    objective = Objective.neuron(small_model, "logits", range(10))
    result = observe([objective], real, **GREY).take_snapshot(with_floor=False).result
    expected = verdicts(small_model, "logits", result, real)
    assert result.status == expected
    assert expected.count("weak") > 4
    longer = observe([objective], real, steps=32).take_snapshot(with_floor=False).result
    assert longer.status == verdicts(small_model, "logits", longer, real)
    assert longer.status.count("weak") == 0


@pytest.mark.parametrize("bias", [0.0, -3.0], ids=["positive", "negative"])
def test_a_score_below_the_best_real_one_by_rounding_alone_is_not_weak(bias):
    model = sequential(
        layers.GlobalAveragePooling2D(), layers.Dense(1, name="unit"), shape=(8, 8, 1)
    )
    model.set_weights([np.ones((1, 1)), np.full(1, bias)])
    [own] = ascend(Objective.neuron(model, "unit", 0), **GREY)[0].scores
    found = []
    for share in (-5e-5, 5e-5, 5e-4):
        # A share of how much the real images differ, or of the score if that is less.
        lowest = 0.2 + bias
        more = share * min(abs(own), own - lowest)
        levels = np.array([0.2, own + more - bias], "float32").reshape(2, 1, 1, 1)
        real = levels * np.ones((1, 8, 8, 1), "float32")
        observer = observe([Objective.neuron(model, "unit", 0)], real, **GREY)
        result = observer.take_snapshot(with_floor=False).result
        score, best = (predicted(model, "unit", some).max() for some in (result.images, real))
        assert (score < best) == (share > 0)
        found += result.status
    assert found == ["ok", "ok", "weak"]


def verdicts_of(model, layer, real, **settings):
    """The status of each unit of a layer, and its image's score by `predict`."""
    units = range(model.output_shape[-1])
    objective = Objective.neuron(model, layer, units)
    result = observe([objective], real, **settings).take_snapshot(with_floor=False).result
    return result.status, np.diag(predicted(model, layer, result.images))


def test_a_unit_is_not_dead_because_another_one_is_far_stronger():
    model = sequential(layers.Flatten(), layers.Dense(3, activation="relu", name="units"))
    kernel, bias = model.get_weights()
    model.set_weights([np.abs(kernel) * [1e8, 1.0, -1.0], bias])
    status, _ = verdicts_of(model, "units", random_images(20, 12, 10, 1), steps=4)
    assert status == ["ok", "ok", "dead"]


def test_a_large_offset_does_not_hide_that_a_picture_is_weak():
    """A score of 2e5 less the distance to a real image, which no picture reaches."""
    real = random_images(6, 12, 10, 1)

    def scores(images):
        nearest = keras.ops.convert_to_tensor(real[:1])
        distances = keras.ops.sum(keras.ops.square(images - nearest), axis=(1, 2, 3))
        return 2e5 - 100 * keras.ops.reshape(distances, (-1, 1))

    model = sequential(layers.Lambda(scores, output_shape=(1,), name="units"))
    [status], [own] = verdicts_of(model, "units", real, steps=4)
    assert own < 2e5 - 50
    assert status == "weak"


def test_a_bounded_unit_that_all_images_take_to_its_bound_has_not_failed():
    """At the highest value of a tanh no gradient is left, as where nothing is found."""
    model = sequential(layers.Flatten(), layers.Dense(2, activation="tanh", name="units"))
    kernel, _ = model.get_weights()
    model.set_weights([100 * np.abs(kernel), np.array([0.0, 0.0])])
    real = random_images(6, 12, 10, 1)
    real[0] = 0.001  # so that the units are not constant
    status, own = verdicts_of(model, "units", real, steps=4)
    np.testing.assert_array_equal(own, 1.0)
    assert status == ["ok", "ok"]


def test_an_image_that_is_too_much_for_a_unit_hides_no_verdict(caplog):
    """A layer divides by the contrast of an image, which is zero for the first one."""
    caplog.set_level("WARNING", logger="featviz_callback")

    def normalised(images):
        values = keras.ops.reshape(images, (-1, 64))
        deviation = keras.ops.std(values, axis=1, keepdims=True)
        return (values - keras.ops.mean(values, axis=1, keepdims=True)) / deviation

    model = sequential(
        layers.Lambda(normalised, output_shape=(64,)),
        layers.Dense(3, name="units"),
        shape=(8, 8, 1),
    )
    kernel, bias = model.get_weights()
    kernel[:, 1:] = 0
    model.set_weights([kernel, np.array([bias[0], 0.0, 2.0])])
    real = random_images(20, 8, 8, 1)
    real[0] = 0.5
    assert np.isnan(predicted(model, "units", real)[0]).all()
    status, _ = verdicts_of(model, "units", real, steps=4)
    assert status == ["ok", "dead", "constant"]
    assert caplog.text.count("not a finite number, and are left out") == 1


def test_small_differences_on_a_large_offset_are_no_constant():
    model = sequential(layers.Conv2D(1, 3, name="conv"), shape=(8, 8, 1))
    model.set_weights([np.full((3, 3, 1, 1), 0.02), np.array([1e4])])
    real = random_images(40, 8, 8, 1)
    scores = layer_output(model, "conv", real).mean((1, 2))
    assert len(np.unique(scores)) > 5
    objective = Objective.channel(model, "conv", 0)
    found = observe([objective], real, steps=2).take_snapshot(with_floor=False)
    assert found.result.status != ["constant"]


# --- the order of verdicts ------------------------------------------------------------


def custom(function, shape=(6, 6, 1)):
    """Return a model that passes images on, and an objective of their mean value."""
    model = sequential(layers.Activation("linear", name="pixels"), shape=shape)
    mean = lambda images: function(keras.ops.mean(images, axis=(1, 2, 3)))  # noqa: E731
    return model, Objective.custom(model, "pixels", mean)


def with_and_without(objective, real, **settings):
    """The status of one target without real images, and with them."""
    return [
        observe([objective], given, **settings).take_snapshot(with_floor=False).result.status[0]
        for given in (None, real)
    ]


BRIGHTER = np.linspace(0.1, 1.0, 9, dtype="float32").reshape(9, 1, 1, 1) * np.ones((1, 6, 6, 1))


def test_what_is_not_a_number_is_nan_even_if_real_images_do_not_activate_it():
    # The slope of a root is infinite at 0, and 0 times that is no number.
    _, objective = custom(lambda mean: keras.ops.sqrt(keras.ops.square(0.0 * mean)))
    assert with_and_without(objective, BRIGHTER) == ["nan", "nan"]


def test_weights_that_are_nan_make_the_units_of_their_layer_nan():
    """No gradient of the other layer's units passes through them."""
    inputs = keras.Input((12, 10, 1))
    broken, whole = layers.Conv2D(2, 3, name="broken"), layers.Conv2D(3, 3, name="whole")
    model = fill(keras.Model(inputs, [broken(inputs), whole(inputs)]))
    kernel, bias = broken.get_weights()
    kernel[..., 0] = np.nan
    broken.set_weights([kernel, bias])
    kernel, bias = whole.get_weights()
    kernel[..., :2], bias[:2] = 0, [0, 1]
    whole.set_weights([kernel, bias])
    real = random_images(20, 12, 10, 1)
    objectives = [Objective.channel(model, "whole", i) for i in range(3)]
    objectives.insert(1, Objective.channel(model, "broken", 0))
    found = observe(objectives, real, steps=4).take_snapshot(with_floor=False)
    assert np.isnan(predicted(model, "broken", real)[:, 0]).all()
    assert np.isfinite(predicted(model, "whole", real)).all()
    assert found.result.status == ["dead", "nan", "constant", "ok"]
    assert np.isnan(found.score_ratio).tolist() == [True, True, False, False]
    assert np.isfinite(found.result.images).all()


def test_what_real_images_do_not_activate_is_dead_although_it_has_no_gradient_either():
    _, objective = custom(lambda mean: keras.ops.relu(mean - 100.0))
    assert with_and_without(objective, BRIGHTER) == ["no_gradient", "dead"]


def test_a_unit_that_is_at_its_limit_everywhere_is_constant():
    model = sequential(layers.Conv2D(1, 3, activation="relu6", name="conv"))
    kernel, _ = model.get_weights()
    model.set_weights([kernel, np.array([100.0])])
    real = random_images(20, 12, 10, 1)
    np.testing.assert_array_equal(predicted(model, "conv", real), 6)
    objective = Objective.channel(model, "conv", 0)
    assert with_and_without(objective, real) == ["no_gradient", "constant"]


def test_what_no_gradient_reaches_is_not_called_weak():
    """A step function tells real images apart, and has no slope anywhere."""
    model, objective = custom(lambda mean: keras.ops.floor(8.0 * mean))
    assert with_and_without(objective, BRIGHTER, **GREY) == ["no_gradient"] * 2
    result = ascend(objective, **GREY)[0]
    assert np.floor(8 * predicted(model, "pixels", result.images)).max() < 8
    assert np.floor(8 * predicted(model, "pixels", BRIGHTER)).max() == 8


THROWN = {
    "parameterization": Pixel(contrast=math.inf),
    "optimizer": keras.optimizers.SGD(1e6),
    "transformations": None,
    "steps": 1,
}


@pytest.mark.parametrize(
    ("best", "expected"), [(0.5, "weak"), (0.05, "saturated")], ids=["below", "above"]
)
def test_a_saturated_image_is_called_weak_if_it_scores_below_a_real_one(best, expected):
    """A huge step leads past grey, which scores most, to an end of the range."""
    model = sequential(layers.Activation("linear", name="pixels"), shape=(6, 6, 1))
    tent = lambda images: 0.5 - keras.ops.mean(keras.ops.abs(images - 0.6), (1, 2, 3))  # noqa: E731
    objective = Objective.custom(model, "pixels", tent)
    distance = np.array([0.5 - best, 0.55]).reshape(2, 1, 1, 1)
    real = ((0.6 - distance) * np.ones((1, 6, 6, 1))).astype("float32")
    result = ascend(objective, **THROWN)[0]
    score = 0.5 - np.abs(model.predict(result.images, verbose=0) - 0.6).mean()
    scores = 0.5 - np.abs(model.predict(real, verbose=0) - 0.6).mean((1, 2, 3))
    assert (score < scores.max()) == (expected == "weak")
    assert with_and_without(objective, real, **THROWN) == ["saturated", expected]


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
