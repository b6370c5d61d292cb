"""Every layer and its weights, checked at each snapshot of real trainings."""

import itertools
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.monitoring.checkup import HealthMeter, WeightMeter, prefixes
from featviz_callback.objectives import inputs, score_all, weights_by_layer
from featviz_callback.records import NUMBERS, History
from featviz_callback.tensorboard import summaries
from tests.conftest import (
    LABELS,
    PIXELS,
    accumulator,
    compiled,
    fill,
    layer_output,
    make_small_model,
    random_images,
    read_events,
    sequential,
    set_random_seed,
    train,
)
from tests.monitoring.conftest import neurons

IMAGES = random_images(40, 12, 10, 1)
EXAMPLES = Path(__file__).parents[2] / "examples"


def checked(meter, model, images=IMAGES, prefix=""):
    """Pass real images through a model, and return the checkup."""
    image_input = inputs.resolve(model, None, 3)[0]
    watch = meter.watch(prefix, images, image_input)
    score_all([Objective.layer(model, -1)], images, watch=watch)
    return meter.checkup()


# --- weights ------------------------------------------------------------------------------


def move(model, share):
    """Change every weight by so much of it."""
    model.set_weights([one * (1 + share) for one in model.get_weights()])


def of_layers(model):
    """Return the weights of each layer in one row."""
    weights = [one.get_weights() for one in model.layers if one.weights]
    return [np.concatenate([one.ravel() for one in own]) for own in weights]


def test_the_ratio_is_that_of_the_lengths_of_the_change_and_of_the_weights():
    model, meter = make_small_model(), WeightMeter()
    first = meter.ratios(weights_by_layer(model))
    assert list(first) == ["conv1", "conv2", "logits"]
    assert np.isnan(list(first.values())).all()
    before = of_layers(model)
    model.set_weights([w + random_images(*w.shape) / 9 for w in model.get_weights()])
    pairs = zip(before, of_layers(model), strict=True)
    expected = [np.linalg.norm(now - one) / np.linalg.norm(one) for one, now in pairs]
    found = list(meter.ratios(weights_by_layer(model)).values())
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert list(meter.ratios(weights_by_layer(model)).values()) == [0, 0, 0]


def test_of_a_large_layer_some_weights_are_kept():
    model = sequential(layers.Dense(400, name="dense"), shape=(400,))
    meter = WeightMeter()
    meter.ratios(weights_by_layer(model))
    assert 2**16 <= meter.kept["dense"].size < 2**16 + 100
    move(model, 0.25)
    assert meter.ratios(weights_by_layer(model))["dense"] == pytest.approx(0.25, rel=1e-5)
    kernel, bias = model.get_weights()
    changed = kernel + np.random.default_rng(0).normal(0, 1e-3, kernel.shape)
    model.set_weights([changed, bias])
    expected = np.linalg.norm(changed - kernel) / np.linalg.norm(kernel)
    assert meter.ratios(weights_by_layer(model))["dense"] == pytest.approx(expected, rel=0.03)


def test_a_frozen_layer_has_no_ratio():
    model, meter = make_small_model(), WeightMeter()
    model.get_layer("conv1").trainable = False
    meter.ratios(weights_by_layer(model))
    found = meter.ratios(weights_by_layer(model))
    assert np.isnan(found["conv1"])
    assert found["conv2"] == 0


# --- layers and weights together ----------------------------------------------------------


def test_each_call_of_a_shared_layer_has_a_row_with_the_ratio_of_its_weights():
    image = keras.Input((12, 10, 1))
    shared = layers.Conv2D(1, 3, padding="same", activation="tanh", name="shared")
    model = fill(keras.Model(image, layers.Flatten(name="flat")(shared(shared(image)))))
    meter = HealthMeter({"": model})
    checked(meter, model)
    move(model, 0.5)
    found, histograms = checked(meter, model)
    assert found.layers == ("shared", "shared:1")
    np.testing.assert_allclose(found.update_ratio, 0.5, rtol=1e-5)
    assert list(histograms) == ["shared", "shared:1"]
    assert found.mean[0] != found.mean[1]


def test_a_layer_that_only_sees_a_fixed_input_is_never_called_dead():
    """The time of a diffusion network: images move nothing of it, and it is well."""
    image, time = keras.Input((12, 10, 1)), keras.Input((1,))
    embedded = layers.Dense(6, activation="relu", bias_initializer="ones", name="time")(time)
    features = layers.Conv2D(6, 3, name="conv")(image)
    joined = features + layers.Reshape((1, 1, 6))(embedded)
    model = keras.Model([image, time], layers.Conv2D(2, 3, name="noise")(joined))
    meter = HealthMeter({"": model})
    image_input, fixed = inputs.resolve(model)
    watch = meter.watch("", IMAGES, image_input)
    objective = Objective.channel(model, "noise", 0)
    score_all([objective], IMAGES, image_input, fixed, watch)
    found, _ = meter.checkup()
    dead = dict(zip(found.layers, found.dead, strict=True))
    assert dead["conv"] == dead["noise"] == 0
    assert np.isnan(dead["time"])


def test_models_of_one_name_have_a_row_each():
    models = [sequential(layers.Dense(1, name="dense"), shape=(4,)) for _ in range(3)]
    twins = [keras.Model(one.inputs, one.outputs, name="twin") for one in models]
    meter = HealthMeter(dict(zip(prefixes(twins, None), twins, strict=True)))
    meter.checkup()
    for model, share in zip(models, (0.1, 0.2, 0.3), strict=True):
        move(model, share)
    found, _ = meter.checkup()
    assert found.layers == ("twin/dense", "twin 2/dense", "twin 3/dense")
    np.testing.assert_allclose(found.update_ratio, [0.1, 0.2, 0.3], rtol=1e-3)


def test_without_images_there_are_ratios_alone():
    model = make_small_model()
    meter = HealthMeter({"": model})
    meter.checkup()
    move(model, 0.1)
    found, histograms = meter.checkup()
    assert found.layers == ("conv1", "conv2", "logits")
    np.testing.assert_allclose(found.update_ratio, 0.1, rtol=1e-4)
    assert np.isnan(found.dead).all()
    assert histograms == {}


def test_a_part_is_named_by_its_path_and_the_rest_of_the_trained_model_follows():
    part = make_small_model()
    image = keras.Input((12, 10, 1))
    trained = keras.Model(image, layers.Dense(2, name="end")(part(image)))
    meter = HealthMeter({f"{part.name}/": part}, trained)
    found, _ = checked(meter, part, prefix=f"{part.name}/")
    assert found.layers == tuple(f"{part.name}/{n}" for n in ("conv1", "conv2", "logits")) + (
        "end",
    )


class Failing(keras.Model):
    """A model whose call can fail."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, name="dense")
        self.fails = False

    def call(self, images):
        if self.fails:
            raise RuntimeError("no values")
        return self.dense(keras.ops.reshape(images, (-1, 120)))


def test_a_model_whose_layers_cannot_be_found_is_checked_by_its_weights(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = Failing()
    model(IMAGES[:1])
    model.fails = True
    meter = HealthMeter({"": model})
    for _ in range(2):
        assert meter.watch("", IMAGES, inputs.resolve(model, None, 3)[0]) is None
        assert meter.checkup()[0].layers == ("dense",)
    [message] = [one for one in caplog.messages if "not measured" in one]
    assert "no values" in message


# --- in a training ------------------------------------------------------------------------


def conv_net():
    """A small model with a rectifier."""
    return compiled(
        sequential(
            layers.Conv2D(8, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        )
    )


def channels(model):
    return [Objective.neuron(model, "logits", range(3)), Objective.channel(model, "conv", [0, 1])]


def test_a_training_is_checked_at_every_snapshot(watch):
    model = conv_net()
    callback = watch(channels, probe_data=(PIXELS, LABELS))
    train(model, callback, epochs=2)
    health, history = callback.health, callback.history
    assert health is history.health
    assert health.epochs.tolist() == history.epochs.tolist() == [-1, 0, 1]
    assert health.layers == ["conv", "logits"]
    last = {name: layer_output(model, name, PIXELS) for name in health.layers}
    np.testing.assert_allclose(health.mean[-1], [o.mean() for o in last.values()], rtol=1e-3)
    np.testing.assert_allclose(health.deviation[-1], [o.std() for o in last.values()], rtol=1e-3)
    dead = (last["conv"].reshape(-1, 8).max(0) <= 0).mean()
    assert health.dead[-1].tolist() == pytest.approx([dead, 0])
    assert np.isnan(health.update_ratio[0]).all()
    assert (health.update_ratio[1:] > 0).all()


def test_units_are_compared_with_the_snapshot_before(watch):
    model = conv_net()
    callback = watch(channels, probe_data=(PIXELS, LABELS))
    train(model, callback, epochs=2)
    history = callback.history
    assert np.isnan(history.functional_drift[0]).all()
    assert np.isfinite(history.functional_drift[1:]).all()
    scores = layer_output(model, "conv", PIXELS)[..., :2].mean((1, 2))
    np.testing.assert_allclose(history.active_share[-1, 3:], (scores > 0).mean(0), rtol=1e-6)
    # Ten classes of sixteen images have fewer than five each.
    assert np.isnan(history.selectivity).all()


@pytest.mark.parametrize("of", ["array", "batches"])
def test_labels_tell_the_best_class(of, watch):
    images = np.zeros((20, 12, 10, 1), "float32") + np.arange(20).reshape(-1, 1, 1, 1) / 20
    labels = np.where(np.arange(20) < 10, 3, 8)
    data = (images, labels)
    if of == "batches":
        data = [(images[i : i + 5], labels[i : i + 5]) for i in range(0, 20, 5)]
    model = sequential(layers.Conv2D(2, 3, name="conv"), layers.Flatten(), layers.Dense(10))
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., 0], kernel[..., 1] = 1, -1
    model.get_layer("conv").set_weights([kernel, bias])
    model = compiled(model, rate=0.0)
    callback = watch(lambda model: Objective.channel(model, "conv", [0, 1]), probe_data=data)
    train(model, callback, epochs=1)
    assert callback.history.selectivity[-1].tolist() == [1, 1]
    assert callback.history.best_class[-1].tolist() == ["8", "3"]


def test_functional_drift_is_zero_on_equal_weights(watch):
    model = compiled(rate=0.0)
    callback = watch(neurons, probe_data=IMAGES)
    train(model, callback, epochs=4)
    assert callback.history.functional_drift[1:].tolist() == [[0] * 3] * 4
    assert callback.history.top_overlap[1:].tolist() == [[1] * 3] * 4
    assert callback.health.update_ratio[1:].tolist() == [[0] * 3] * 4
    assert callback.history.settled.tolist() == [-1] * 3


@pytest.mark.acceptance
def test_functional_drift_rises_with_planted_change(watch):
    drifts = []
    for share in (0.02, 0.1, 0.5, 2.0):
        model = compiled(make_small_model(), rate=0.0)
        callback = watch(neurons, probe_data=PIXELS)
        noise = [
            random_images(*one.shape, seed=i) - 0.5 for i, one in enumerate(model.get_weights())
        ]

        class Move(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                weights = self.model.get_weights()
                pairs = zip(weights, noise, strict=True)  # noqa: B023
                moved = [one + share * np.std(one) * n for one, n in pairs]  # noqa: B023
                self.model.set_weights(moved)

        train(model, callback, Move(), epochs=1)
        drifts.append(callback.history.functional_drift[-1].mean())
    for one, other in itertools.pairwise(drifts):
        assert 0 < one < other


def test_everything_is_logged_and_read_back_by_tensorboard(watch, tmp_path):
    model = conv_net()
    callback = watch(channels, probe_data=IMAGES)
    train(model, callback, epochs=2)
    _, scalars = read_events(tmp_path / "feature_vis")
    health, history = callback.health, callback.history
    for number in NUMBERS:
        for i, layer in enumerate(health.layers):
            known = np.isfinite(health.table(number)[:, i])
            expected = list(zip(health.epochs[known], health.table(number)[known, i], strict=True))
            assert scalars.get(f"feature_vis_layer_{number}/{layer}", []) == expected
    for name in ("functional_drift", "active_share", "top_overlap"):
        for i, target in enumerate(history.names):
            column = getattr(history, name)[:, i]
            known = np.isfinite(column)
            expected = list(zip(history.epochs[known], column[known], strict=True))
            assert scalars[f"feature_vis_{name}/{target}"] == expected
    reader = accumulator(tmp_path / "feature_vis")
    for layer in health.layers:
        tag = f"feature_vis_activations/{layer}"
        assert reader.SummaryMetadata(tag).plugin_data.plugin_name == "histograms"
        events = reader.Tensors(tag)
        assert [event.step for event in events] == [-1, 0, 1]
        assert [one.size for one in events[0].tensor_proto.tensor_shape.dim] == [30, 3]


@pytest.mark.acceptance
def test_a_resumed_training_goes_on_with_what_was_logged(watch, tmp_path):
    model = conv_net()
    first = watch(channels, probe_data=(PIXELS, LABELS))
    train(model, first, epochs=2)
    later = watch(channels, probe_data=(PIXELS, LABELS))
    train(model, later, epochs=4, initial_epoch=2)
    assert later.health.epochs.tolist() == [-1, 0, 1, 2, 3]
    assert later.health.layers == first.health.layers
    for number in NUMBERS:
        np.testing.assert_array_equal(later.health.table(number)[:3], first.health.table(number))
    for name in ("functional_drift", "top_overlap", "active_share", "selectivity", "best_class"):
        np.testing.assert_array_equal(
            getattr(later.history, name)[:3], getattr(first.history, name)
        )
    # Nothing is known of what the units did before.
    assert np.isnan(later.history.functional_drift[3]).all()
    assert np.isfinite(later.history.functional_drift[4]).all()


def test_channels_that_an_operation_turns_off_are_dead_there(watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    image = keras.Input((12, 10, 1))
    maps = keras.ops.relu(layers.Conv2D(4, 3, name="conv")(image))
    logits = layers.Dense(10, name="logits")(layers.GlobalAveragePooling2D()(maps))
    model = compiled(keras.Model(image, logits))
    kernel, _ = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel, np.array([-50.0, 0.0, -50.0, -50.0])])
    values = layer_output(model, "conv", PIXELS)
    callback = watch(neurons, probe_data=PIXELS)
    train(model, callback, epochs=1)
    relu = maps._keras_history.operation.name
    assert callback.health.layers == ["conv", relu, "logits"]
    expected = (np.maximum(values, 0).reshape(-1, 4).max(0) <= 0).mean()
    assert callback.health.dead[0].tolist() == [0, expected, 0]
    [message] = [one for one in caplog.messages if "are dead since" in one]
    assert message.startswith(f"75 % of the units of {relu} are dead")


def test_a_resumed_training_has_health_of_every_snapshot_before(watch):
    """Nothing is known of the untrained network without images, and of others of no channel."""
    model = conv_net()
    train(model, watch(channels), epochs=2)
    later = watch(channels)
    train(model, later, epochs=3, initial_epoch=2)
    assert later.history.epochs.tolist() == later.health.epochs.tolist() == [-1, 0, 1, 2]
    assert np.isnan(later.health.update_ratio[0]).all()
    assert (later.health.update_ratio[[1, 2]] > 0).any(1).all()


def test_health_is_read_back_where_pictures_cannot_be(watch):
    images = random_images(*PIXELS.shape[:-1], 2)
    conv = layers.Conv2D(8, 3, activation="relu", name="conv")
    logits = layers.Dense(10, name="logits")
    model = compiled(sequential(conv, layers.Flatten(), logits, shape=images.shape[1:]))
    first = watch(channels, probe_data=images)
    model.fit(images, LABELS, epochs=2, verbose=0, callbacks=[first])
    later = watch(channels, probe_data=images)
    settings = {"epochs": 4, "initial_epoch": 2, "verbose": 0}
    model.fit(images, LABELS, callbacks=[later], **settings)
    # The snapshot before epoch 2 is taken again.
    assert later.history.epochs.tolist() == [1, 2, 3]
    assert later.health.epochs.tolist() == [-1, 0, 1, 2, 3]
    np.testing.assert_array_equal(later.health.mean[:3], first.health.mean)
    np.testing.assert_array_equal(later.health.update_ratio[:2], first.health.update_ratio[:2])


def test_labels_that_tell_no_classes_are_named_once(watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    soft = np.random.default_rng(0).dirichlet(np.ones(3), len(PIXELS))
    model = compiled()
    callback = watch(neurons, probe_data=(PIXELS, soft))
    for _ in range(2):
        train(model, callback, epochs=1)
    [message] = [one for one in caplog.messages if "tell no classes" in one]
    assert f"({len(PIXELS)}, 3)" in message
    assert np.isnan(callback.history.selectivity).all()


def test_a_second_fit_compares_with_the_last_snapshot_of_the_first(watch):
    model = compiled(rate=0.0)
    callback = watch(neurons, probe_data=PIXELS)
    train(model, callback, epochs=1)
    train(model, callback, epochs=2, initial_epoch=1)
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    assert callback.history.functional_drift[1:].tolist() == [[0] * 3] * 2
    assert callback.health.update_ratio[1:].tolist() == [[0] * 3] * 2


def test_a_saved_history_has_it_too(watch, tmp_path):
    callback = watch(channels, probe_data=(PIXELS, LABELS))
    train(conv_net(), callback, epochs=2)
    callback.history.save(tmp_path / "history.npz")
    again = History.load(tmp_path / "history.npz")
    assert again.health.layers == callback.health.layers
    for number in NUMBERS:
        np.testing.assert_array_equal(again.health.table(number), callback.health.table(number))
    for name in ("functional_drift", "top_overlap", "active_share", "best_class", "settled"):
        np.testing.assert_array_equal(getattr(again, name), getattr(callback.history, name))


def test_layers_in_trouble_are_named_once_with_advice(watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = conv_net()
    model.get_layer("conv").trainable = False
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[..., :6], bias[:6] = 0, -1
    model.get_layer("conv").set_weights([kernel, bias])
    callback = watch(lambda model: Objective.neuron(model, "logits", 0), probe_data=PIXELS)
    train(model, callback, epochs=3)
    [message] = [one for one in caplog.messages if "are dead since" in one]
    assert message.startswith("75 % of the units of conv are dead since before training: ")


@pytest.mark.acceptance
@pytest.mark.parametrize(("rate", "are_dying"), [(1e-3, False), (1e-2, True)])
def test_a_learning_rate_that_is_too_high_is_told_by_the_layers_that_die(
    rate, are_dying, watch, caplog
):
    caplog.set_level("WARNING", logger="featviz_callback")
    example = runpy.run_path(str(EXAMPLES / "fashion_mnist.py"))
    images, labels = (one[:9000] for one in example["load_data"]())
    set_random_seed(0)
    model = example["build_model"]()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    callback = watch(
        lambda model: Objective.neuron(model, "logits", 0), probe_data=images[:500], freq=9
    )
    model.fit(images, labels, epochs=2, batch_size=64, verbose=0, callbacks=[callback])
    said = [one for one in caplog.messages if " since epoch " in one]
    outputs = {name: layer_output(model, name, images[:500]) for name in ("conv1", "conv2")}
    for name, values in outputs.items():
        share = (values.reshape(-1, values.shape[-1]).max(0) <= 0).mean()
        assert callback.health.dead[-1, callback.health.layers.index(name)] == pytest.approx(share)
    if are_dying:
        assert any("of the units of conv" in one and "are dead" in one for one in said)
    else:
        assert not said


def test_weights_that_stand_still_are_named_once(watch, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    callback = watch(neurons)
    train(compiled(rate=0.0), callback, epochs=3)
    [message] = [one for one in caplog.messages if "have not changed" in one]
    assert "Epoch 0: the weights of conv1, conv2, logits" in message


def test_tags_of_layers_are_described():
    assert f"`{summaries.LAYER_TAGS.format('<number>', '<layer>')}`" in summaries.__doc__
    assert f"`{summaries.ACTIVATION_TAGS.format('<layer>')}`" in summaries.__doc__


def test_layers_of_a_model_of_any_size_are_measured_at_that_of_the_images():
    image = keras.Input((None, None, 1))
    maps = layers.Conv2D(2, 3, name="conv")(image)
    gates = layers.Activation("sigmoid", name="gates")(layers.Flatten()(maps))
    model = keras.Model(image, [layers.GlobalAveragePooling2D()(maps), gates])
    meter = HealthMeter({"": model})
    watch = meter.watch("", IMAGES, inputs.resolve(model, None, 3)[0])
    score_all([Objective.channel(model, "conv", 0)], IMAGES, watch=watch)
    assert meter.checkup()[0].layers == ("conv", "gates")
