"""`on_snapshot`, and what is logged of real images that are private."""

import dataclasses
import json
import warnings

import keras
import numpy as np
import pytest
from tensorboard.util.tensor_util import make_ndarray

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.images.parameterizations import Fourier
from featviz_callback.optimization.chunk import Chunk
from tests.conftest import (
    PIXELS,
    accumulator,
    compiled,
    layer_output,
    read_events,
    sequential,
    set_random_seed,
    train,
)


def followed(tmp_path, model, on_snapshot=None, **settings):
    two = Objective.neuron(model, "logits", [0, 1])
    return FeatureVisCallback(two, tmp_path, steps=2, on_snapshot=on_snapshot, **settings)


def test_the_function_gets_each_snapshot_after_it_was_written(tmp_path):
    model, heard, written = compiled(), [], []

    def listen(snapshot):
        heard.append(snapshot)
        images, _ = read_events(tmp_path / "feature_vis")
        written.append([step for step, _ in images["feature_vis/Neuron#logits_0"]])

    callback = followed(tmp_path, model, listen, probe_data=PIXELS)
    train(model, callback)
    assert [one.epoch for one in heard] == [-1, 0, 1]
    assert written == [[-1], [-1, 0], [-1, 0, 1]]
    last, kept = heard[-1], callback.history.last
    for name in ("names", "images", "scores", "status", "drift"):
        np.testing.assert_array_equal(getattr(last, name), getattr(kept, name))
    expected = np.round(np.clip(last.images.astype("float64"), 0, 1) * 255)
    assert last.pictures.dtype == "uint8"
    np.testing.assert_array_equal(last.pictures, expected)
    assert last.health.layers == ("conv1", "conv2", "logits")
    images, _ = read_events(tmp_path / "feature_vis")
    for name, picture in zip(last.names, last.real_pictures, strict=True):
        # Grey pictures are written in one channel.
        written_last = images[f"feature_vis_examples/{name}"][-1][1]
        np.testing.assert_array_equal(np.stack([written_last] * 3, axis=-1), picture)
    with pytest.raises(dataclasses.FrozenInstanceError):
        last.epoch = 5


def test_a_function_that_fails_is_told_once_and_stops_nothing(tmp_path):
    model, calls = compiled(), []

    def fail(snapshot):
        calls.append(snapshot.epoch)
        raise OSError("no network")

    callback = followed(tmp_path, model, fail)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(model, callback)
    told = [str(one.message) for one in caught if "on_snapshot" in str(one.message)]
    assert len(told) == 1
    assert "OSError: no network" in told[0]
    assert calls == [-1, 0, 1]
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    with pytest.raises(OSError, match="no network"):
        train(model, followed(tmp_path, model, fail, on_error="raise"))


@pytest.mark.acceptance
def test_training_is_the_same_with_a_function_that_looks_on(tmp_path):
    def weights(*callbacks):
        set_random_seed(0)
        model = compiled()
        made = [make(model) for make in callbacks]
        train(model, *made)
        return model.get_weights()

    def listening(model):
        return followed(tmp_path, model, len_of, probe_data=PIXELS, accentuate=2)

    for one, other in zip(weights(), weights(listening), strict=True):
        np.testing.assert_array_equal(one, other)


def len_of(snapshot):
    return len(snapshot.names)


def test_private_images_are_told_by_scores_and_places_alone(tmp_path):
    model, heard = compiled(), []
    train(model, followed(tmp_path, model, heard.append, probe_data=PIXELS, log_real_images=False))
    reader = accumulator(tmp_path / "feature_vis")
    pictures = {tag.partition("/")[0] for tag in reader.Tags()["tensors"] if "/" in tag}
    of_real = ("examples", "real", "place", "accentuated")
    assert not pictures & {f"feature_vis_{kind}" for kind in of_real}
    assert all(one.real_pictures == [] for one in heard)
    [*_, last] = reader.Tensors("feature_vis_real_scores/Neuron#logits_1")
    told = json.loads(make_ndarray(last.tensor_proto).item())
    scores = layer_output(model, "logits", PIXELS)[:, 1]
    assert told["indices"] == np.argsort(-scores, kind="stable")[:6].tolist()
    np.testing.assert_allclose(told["scores"], np.sort(scores)[::-1][:6], rtol=1e-4)


@pytest.mark.acceptance
def test_real_images_are_accentuated_at_each_snapshot(tmp_path):
    model = compiled()
    train(model, followed(tmp_path, model, probe_data=PIXELS, accentuate=3))
    images, _ = read_events(tmp_path / "feature_vis")
    two = Objective.neuron(model, "logits", [0, 1])
    # The first, the middle and the last of the real images.
    expected = [optimize(two, start=PIXELS[i], steps=2).images for i in (0, 8, 15)]
    for k, name in enumerate(two.names):
        shown = images[f"feature_vis_accentuated/{name}"]
        assert [step for step, _ in shown] == [-1, 0, 1]
        assert (shown[0][1] != shown[-1][1]).any()
        # On the last weights, each is what `optimize` makes of the same image.
        assert all(is_shown(one[k], shown[-1][1]) for one in expected)
        assert not is_shown(expected[0][1 - k], shown[-1][1])
        assert is_shown(PIXELS[8], shown[0][1])


def is_shown(image, picture):
    """Whether a picture has a grey image somewhere, with each pixel ten times as large."""
    values = np.round(255 * image[..., 0].astype("float64"))
    channel = picture.reshape(*picture.shape[:2], -1)[..., 0].astype("float64")
    size = tuple(10 * length for length in values.shape)
    places = np.lib.stride_tricks.sliding_window_view(channel, size)[..., ::10, ::10]
    return bool((np.abs(places - values).max((2, 3)) <= 1).any())


@pytest.mark.acceptance
def test_facets_inversions_and_caricatures_are_those_of_optimize(tmp_path):
    model = compiled()
    chosen = [
        Objective.neuron(model, "logits", [0, 1]).facets(2),
        Objective.inversion(model, "conv1", PIXELS[:2]),
        Objective.caricature(model, "conv1", PIXELS[2:4]),
    ]
    # Of one start, since the callback keeps those that the untrained network has chosen.
    given = {"steps": 2, "parameterization": Fourier()}
    callback = FeatureVisCallback(chosen, tmp_path, on_error="raise", **given)
    train(model, callback)
    expected = [optimize(one, **given) for one in chosen]
    last = callback.history.last
    assert last.names == [name for one in expected for name in one.names]
    # A given image's activations are those of the weights that the snapshot shows.
    for name in ("images", "scores"):
        own = np.concatenate([getattr(one, name) for one in expected])
        np.testing.assert_allclose(getattr(last, name), own, rtol=1e-4, atol=1e-4)
    images, _ = read_events(tmp_path / "feature_vis")
    written = images["feature_vis/Neuron#logits_1, facet 2 of 2"]
    assert [step for step, _ in written] == [-1, 0, 1]
    drawn = np.round(255 * expected[0].images[3].astype("float64"))
    np.testing.assert_allclose(written[-1][1].reshape(drawn.shape), drawn, atol=1)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"on_snapshot": "wandb"}, "on_snapshot"),
        ({"log_real_images": "no"}, "log_real_images"),
        ({"log_importance": 1}, "log_importance"),
        ({"accentuate": 2}, "accentuate"),
        ({"accentuate": -1, "probe_data": PIXELS}, "accentuate"),
        ({"accentuate": 1.5, "probe_data": PIXELS}, "accentuate"),
        ({"accentuate": 2, "probe_data": PIXELS, "log_real_images": False}, "accentuate"),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused(settings, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        FeatureVisCallback(**settings)


@pytest.mark.acceptance
def test_a_function_that_draws_leaves_the_random_states_alone(tmp_path):
    drawn = []
    for listen in (None, lambda snapshot: np.random.random(7)):
        np.random.seed(5)
        model = compiled()
        train(model, followed(tmp_path / str(len(drawn)), model, listen))
        drawn.append(np.random.random())
    assert drawn[0] == drawn[1]


@pytest.mark.acceptance
def test_images_of_another_size_are_accentuated_at_that_of_the_pictures(tmp_path):
    model = compiled()
    given = {"probe_data": PIXELS, "accentuate": 2, "image_shape": (16, 14)}
    train(model, followed(tmp_path, model, on_error="raise", **given), epochs=1)
    images, _ = read_events(tmp_path / "feature_vis")
    assert len(images["feature_vis_accentuated/Neuron#logits_0"]) == 2


def test_an_accentuation_that_fails_loses_no_snapshot(tmp_path, caplog, monkeypatch):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = compiled()
    callback = followed(tmp_path, model, probe_data=PIXELS, accentuate=1)

    def fail(*arguments):
        raise MemoryError("too large")

    monkeypatch.setattr("featviz_callback.monitoring.accentuation._drawn", fail)
    train(model, callback)
    assert callback.history.epochs.tolist() == [-1, 0, 1]
    assert caplog.text.count("accentuated") == 1


def test_importance_is_logged_where_it_is_asked_for(tmp_path):
    model = compiled()
    own = optimize(Objective.neuron(model, "logits", [0, 1]), steps=2)
    callback = followed(tmp_path, model, log_importance=True)
    train(model, callback)
    images, _ = read_events(tmp_path / "feature_vis")
    for i in range(2):
        shown = images[f"feature_vis_importance/Neuron#logits_{i}"]
        assert [step for step, _ in shown] == [-1, 0, 1]
        expected = np.round(255 * own.importance[i])
        np.testing.assert_allclose(shown[0][1].squeeze(), expected, atol=1)
    again = followed(tmp_path, model, log_importance=True)
    train(model, again, initial_epoch=2, epochs=3)
    np.testing.assert_array_equal(again.history.importance[:3], callback.history.importance)


def test_nothing_important_to_log_is_told_once(tmp_path, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = sequential(keras.layers.Conv1D(3, 3, name="conv"), shape=(12, 2))
    model.compile("sgd", "mse")
    channel = Objective.channel(model, "conv", 0)
    callback = FeatureVisCallback(channel, tmp_path, steps=1, log_importance=True)
    model.fit(np.zeros((4, 12, 2)), np.zeros((4, 10, 3)), verbose=0, callbacks=[callback])
    assert caplog.text.count("log_importance=True writes nothing") == 1
    assert callback.history.importance is None


@pytest.mark.acceptance
def test_units_without_a_gradient_are_accentuated_anew_at_first_and_last_alone(
    tmp_path, monkeypatch
):
    dead = sequential(
        keras.layers.Conv2D(2, 3, activation="relu", name="conv"),
        keras.layers.GlobalMaxPooling2D(),
        shape=(12, 10, 1),
    )
    kernel, bias = dead.get_weights()
    dead.set_weights([0 * kernel, bias - 1])
    dead.compile(keras.optimizers.SGD(0.0), "mse")
    steps = []
    tried = Chunk.step

    def counted(chunk):
        steps.append(chunk.task.plan.is_change)
        return tried(chunk)

    monkeypatch.setattr(Chunk, "step", counted)
    at_snapshots = []
    channel = Objective.channel(dead, "conv", 0, pre_activation=False)
    callback = FeatureVisCallback(
        channel,
        tmp_path,
        steps=2,
        probe_data=PIXELS,
        accentuate=1,
        on_snapshot=lambda _: at_snapshots.append(sum(steps)),
    )
    dead.fit(PIXELS, np.zeros((len(PIXELS), 2)), epochs=4, verbose=0, callbacks=[callback])
    first, *between, _last = np.diff([0, *at_snapshots])
    assert first > between[0]
    assert len(set(between)) == 1
