"""Every public argument has its effect, which NumPy predicts.

The list of arguments is read from the signatures, so that none can be added without a check.
"""

import functools
import inspect
import runpy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import FeatureVisCallback, Objective, optimize, regularizers, transformations
from featviz_callback import parameterizations as parameterizations_
from featviz_callback.images.parameterizations import FixedMagnitude, Fourier, Pixel
from featviz_callback.images.statistics import Spectrum
from tests.conftest import make_small_model, read_events, sequential
from tests.reference import direction_score, fourier_scale, logit, sigmoid, total_variation

pytestmark = pytest.mark.acceptance

# --- which arguments there are --------------------------------------------------------


def public_callables():
    """Return every public function and class whose arguments shape a picture, by name."""
    found = {"optimize": optimize, "FeatureVisCallback": FeatureVisCallback}
    for name, member in vars(Objective).items():
        if isinstance(member, staticmethod):
            found[f"Objective.{name}"] = getattr(Objective, name)
    for module in (parameterizations_, transformations, regularizers):
        room = module.__name__.rpartition(".")[2]
        for name, member in vars(module).items():
            is_kind = any(hasattr(member, method) for method in ("image", "move", "apply"))
            is_kind = is_kind or module is regularizers
            if isinstance(member, type) and is_kind and is_public(name, member):
                found[f"{room}.{name}"] = member
    return found


def is_public(name, member):
    return not name.startswith("_") and member.__module__.startswith("featviz_callback")


def public_arguments():
    """Return every argument as `callable(argument)`."""
    return {
        f"{name}({argument})"
        for name, function in public_callables().items()
        for argument in inspect.signature(function).parameters
    }


# --- small models ---------------------------------------------------------------------

HADAMARD = np.array([[1.0]])
for _ in range(3):
    HADAMARD = np.block([[HADAMARD, HADAMARD], [HADAMARD, -HADAMARD]])

# Columns that alternate, an upper and a lower half, a chessboard, a left and a right half.
PATTERNS = np.stack(
    [np.outer(HADAMARD[i], HADAMARD[j]) for i, j in ((0, 1), (4, 0), (1, 1), (0, 4))]
)


def make_templates(patterns=PATTERNS):
    """Return a model of grey 8x8 images whose units are products with four patterns.

    Each unit of the layer "next" is the next one of "units". Those of "off" read it and are
    silent, and "head" ends in a softmax.
    """
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(name="flat"),
            layers.Dense(4, use_bias=False, name="units"),
            layers.Dense(4, use_bias=False, name="next"),
            layers.Dense(4, activation="relu", name="off"),
            layers.Dense(4, activation="softmax", use_bias=False, name="head"),
        ]
    )
    model.get_layer("units").set_weights([patterns.reshape(4, 64).T / 64])
    model.get_layer("next").set_weights([np.roll(np.eye(4), 1, axis=0)])
    model.get_layer("off").set_weights([np.eye(4), np.full(4, -5.0)])
    model.get_layer("head").set_weights([np.eye(4)])
    return model


@functools.lru_cache
def templates():
    return make_templates()


OTHERS = PATTERNS[:, ::-1, ::-1].transpose(0, 2, 1)


@functools.lru_cache
def other_templates():
    """Return such a model with the same patterns, turned."""
    return make_templates(OTHERS)


def units_of(images):
    """Return what the layer "units" makes of images, `(images, 4)`."""
    return images.reshape(-1, 64).astype("float64") @ PATTERNS.reshape(4, 64).T / 64


def next_of(units):
    """Return what the layer "next" makes of units."""
    return np.roll(units, -1, axis=1)


def likeness(image, pattern):
    """Return the cosine between an image, without its mean, and a pattern."""
    centred = image.ravel().astype("float64") - image.mean()
    return centred @ pattern.ravel() / np.linalg.norm(centred) / np.linalg.norm(pattern)


@functools.lru_cache
def edges():
    """Return a model of 16x16 colour images that no brightness excites."""
    model = sequential(
        layers.Conv2D(8, 5, activation="relu", name="first"),
        layers.Conv2D(8, 3, activation="relu", name="conv"),
        shape=(16, 16, 3),
    )
    kernel, bias = model.get_layer("first").get_weights()
    model.get_layer("first").set_weights([kernel - kernel.mean((0, 1), keepdims=True), bias])
    return model


@functools.lru_cache
def small_model():
    return make_small_model()


def snapshot(objective, **settings):
    """Return the last snapshot of a training that changes no weight."""
    return history_of(objective, **settings).last


def history_of(objectives, model=None, epochs=1, log_dir=None, **settings):
    """Return the history of a training that changes no weight."""
    model = model or objectives.model
    settings = {"on_error": "raise", **settings}
    with tempfile.TemporaryDirectory() as folder:
        callback = FeatureVisCallback(objectives, log_dir=log_dir or folder, **settings)
        fit(model, callback, epochs)
    return callback.history


def fit(model, callback, epochs):
    """Train by steps of length zero."""
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    inputs = {one.name: np.zeros((1, *one.shape[1:])) for one in model.inputs}
    data = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    target = np.zeros((1, *model.output_shape[1:]))
    model.fit(data, target, epochs=epochs, verbose=0, callbacks=[callback])


# From plain grey, without anything random.
PLAIN = {"parameterization": Pixel(noise=0.0), "transformations": None}


def still():
    """Return an optimizer that moves nothing."""
    return keras.optimizers.SGD(0.0)


def root_mean_square(values):
    return np.sqrt(np.mean(np.square(values, dtype="float64")))


# --- arguments that `optimize` and the callback share ----------------------------------


def steps_are_so_many(visualise):
    unit = Objective.neuron(templates(), "units", 1)
    for steps in (2, 7):
        field = np.zeros((8, 8))
        for _ in range(steps):
            slope = sigmoid(field) * (1 - sigmoid(field))
            field += 60.0 * slope * PATTERNS[1] / 64
        found = visualise(unit, steps=steps, optimizer=keras.optimizers.SGD(60.0), **PLAIN)
        np.testing.assert_allclose(found.images[0, ..., 0], sigmoid(field), atol=1e-4)


def the_optimizer_takes_its_own_steps(visualise):
    unit = Objective.neuron(templates(), "units", 1)
    for rate in (80.0, 200.0):
        found = visualise(unit, steps=1, optimizer=keras.optimizers.SGD(rate), **PLAIN)
        expected = sigmoid(rate * 0.25 * PATTERNS[1] / 64)
        np.testing.assert_allclose(found.images[0, ..., 0], expected, atol=1e-4)
    # The default divides each gradient by its size.
    once, thrice = (visualise(k * unit, steps=1, **PLAIN).images for k in (1, 3))
    np.testing.assert_allclose(once, thrice, atol=1e-5)
    assert likeness(once[0], PATTERNS[1]) > 0.999


def the_parameterization_bounds_the_frequencies(visualise):
    unit = Objective.neuron(templates(), "units", 2)
    shares = []
    for one in ("pixel", Fourier(detail=0.5, window=None)):
        found = visualise(unit, steps=4, transformations=None, parameterization=one)
        shares.append(share_above(logit(found.images), 0.26))
    # A chessboard has the highest of all frequencies.
    assert shares[0] > 0.9
    assert shares[1] < 1e-6


def transformations_come_before_the_model(visualise):
    unit = Objective.neuron(templates(), "units", 3)
    as_it_is, mirrored = (
        visualise(unit, steps=2, parameterization=Pixel(noise=0.0), transformations=one)
        for one in (None, [mirror])
    )
    assert likeness(as_it_is.images[0], PATTERNS[3]) > 0.999
    assert likeness(mirrored.images[0], PATTERNS[3]) < -0.999


def mirror(images):
    return ops.flip(images, axis=2)


def regularizers_are_subtracted(visualise):
    unit = Objective.neuron(templates(), "units", 1)
    free, drawn = (
        visualise(unit, steps=32, regularizers=some, **PLAIN) for some in ((), [far_from_a_quarter])
    )
    assert root_mean_square(free.images - 0.25) > 0.25
    np.testing.assert_allclose(drawn.images, 0.25, atol=0.05)
    # The score is that without the penalty.
    np.testing.assert_allclose(drawn.scores, units_of(drawn.images)[:, 1], atol=1e-5)


def far_from_a_quarter(images):
    return 1000.0 * ops.mean(ops.square(images - 0.25), axis=(1, 2, 3))


def images_are_in_the_range_of_values(visualise):
    unit = Objective.neuron(templates(), "units", 1)
    usual = visualise(unit, steps=3, values_range=(0.0, 1.0), **PLAIN)
    other = visualise(unit, steps=3, values_range=(-2.0, 4.0), **PLAIN)
    assert np.ptp(usual.images) > 0.1
    np.testing.assert_allclose(other.images, -2 + 6 * usual.images, atol=1e-4)
    np.testing.assert_allclose(other.scores, units_of(other.images)[:, 1], atol=1e-4)


def an_image_has_its_own_shape(visualise):
    unit = Objective.neuron(templates(), "units", 1)
    for shape, side in ((None, 8), ((4, 4), 4), ((4, 4, 1), 4)):
        found = visualise(unit, steps=3, image_shape=shape, **PLAIN)
        assert found.images.shape == (1, side, side, 1)
        # It shows the whole of the pattern, however large it is.
        assert likeness(found.images[0], PATTERNS[1][:: 8 // side, :: 8 // side]) > 0.9


def the_seed_draws_the_start(visualise):
    units = Objective.neuron(templates(), "units", range(4))
    settings = {"steps": 1, "optimizer": still(), "transformations": None}
    settings["parameterization"] = Pixel(noise=0.5)
    one, again, other = (logit(visualise(units, seed=k, **settings).images) for k in (0, 0, 7))
    np.testing.assert_array_equal(one, again)
    for start in (one, other):
        assert root_mean_square(start) == pytest.approx(0.5, rel=0.15)
    # The correlation of 256 unrelated values is 0, give or take four deviations of 0.0625.
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.25


# How many images each call of a `Counting` layer got. A run undoes what a layer keeps.
COUNTS = []


class Counting(layers.Layer):
    """Counts the images of each call."""

    def call(self, inputs):
        COUNTS.append(inputs.shape[0])
        return inputs


def so_many_images_are_in_one_call(visualise):
    for batch_size, expected in ((None, {5}), (2, {2}), (3, {3})):
        model = sequential(
            Counting(), layers.Flatten(), layers.Dense(5, name="units"), shape=(8, 8, 1)
        )
        COUNTS.clear()
        found = visualise(
            Objective.neuron(model, "units", range(5)), steps=1, batch_size=batch_size, **PLAIN
        )
        # Keras trains the model with one image, and traces it with a number that stands for any.
        assert {count for count in COUNTS if type(count) is int and 1 < count <= 5} == expected
        assert len(found.images) == 5


def fixed_inputs_are_the_values_of_the_others(visualise):
    image, gain = keras.Input((8, 8, 1), name="image"), keras.Input((1,), name="gain")
    mean = layers.Dense(1, kernel_initializer="ones")(layers.GlobalAveragePooling2D()(image))
    model = keras.Model([image, gain], layers.Multiply(name="product")([mean, gain]))
    for value in (3.0, -2.0):
        objective = Objective.neuron(model, "product", 0)
        found = visualise(objective, steps=4, fixed_inputs={"gain": [value]}, **PLAIN)
        np.testing.assert_allclose(found.scores, value * found.images.mean(), rtol=1e-4)
        assert ((found.images - 0.5) * value > 0.05).all()


SHARED = {
    "steps": steps_are_so_many,
    "optimizer": the_optimizer_takes_its_own_steps,
    "parameterization": the_parameterization_bounds_the_frequencies,
    "transformations": transformations_come_before_the_model,
    "regularizers": regularizers_are_subtracted,
    "values_range": images_are_in_the_range_of_values,
    "image_shape": an_image_has_its_own_shape,
    "seed": the_seed_draws_the_start,
    "batch_size": so_many_images_are_in_one_call,
    "fixed_inputs": fixed_inputs_are_the_values_of_the_others,
}


# --- arguments of `optimize` alone ------------------------------------------------------


def the_objective_is_what_the_image_shows():
    for i in range(4):
        found = optimize(Objective.neuron(templates(), "units", i), steps=3, **PLAIN)
        alike = [likeness(found.images[0], pattern) for pattern in PATTERNS]
        np.testing.assert_allclose(alike, np.eye(4)[i], atol=1e-3)


def frames_are_kept_every_so_many_steps():
    unit = Objective.neuron(templates(), "units", 0)
    assert optimize(unit, steps=7, **PLAIN).frames is None
    for every, expected in ((3, [3, 6, 7]), (2, [2, 4, 6, 7])):
        found = optimize(unit, steps=7, save_every=every, **PLAIN)
        assert found.frame_steps.tolist() == expected
        # The history has the score before each step, so that of a frame is one later.
        scores = [units_of(frame)[0, 0] for frame in found.frames[:-1]]
        np.testing.assert_allclose(scores, found.history[expected[:-1], 0], atol=1e-5)


def warm_up_steps_let_a_gradient_through():
    # Whatever the image, the unit is off.
    unit = Objective.neuron(templates(), "off", 0)
    cold = optimize(unit, steps=1, warmup_steps=0, **PLAIN)
    np.testing.assert_allclose(cold.images, 0.5)
    warm = optimize(unit, steps=1, warmup_steps=1, **PLAIN)
    assert likeness(warm.images[0], PATTERNS[1]) > 0.999
    assert np.ptp(warm.images) > 0.02


def a_progress_bar_counts_the_steps(capsys):
    unit = Objective.neuron(templates(), "units", 0)
    optimize(unit, steps=7, verbose=0, **PLAIN)
    assert capsys.readouterr().out == ""
    optimize(unit, steps=7, verbose=1, **PLAIN)
    assert "7/7" in capsys.readouterr().out


# --- arguments of the callback alone ------------------------------------------------------


def objectives_are_watched_in_their_order():
    model = templates()
    two = [Objective.neuron(model, "next", 0), Objective.neuron(model, "units", 2)]
    found = history_of(two, model, steps=2, **PLAIN).last
    assert found.names == ["Neuron#next_0", "Neuron#units_2"]
    for image, pattern in zip(found.images, (PATTERNS[1], PATTERNS[2]), strict=True):
        assert likeness(image, pattern) > 0.999
    made = history_of(lambda one: Objective.neuron(one, "units", 3), model, steps=2, **PLAIN).last
    assert made.names == ["Neuron#units_3"]
    default = history_of(None, model, steps=2, **PLAIN).last
    assert default.names[-4:] == [f"Neuron#head_{i}" for i in range(4)]
    assert {"Neuron#units_0", "Neuron#next_3"} <= set(default.names)


def event_files_are_in_the_folder(tmp_path, monkeypatch):
    unit = Objective.neuron(templates(), "units", 0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for folder in ("one", "other"):
        history_of(unit, steps=1, log_dir=tmp_path / folder, **PLAIN)
        images, _ = read_events(tmp_path / folder / "feature_vis")
        assert [step for step, _ in images["feature_vis/Neuron#units_0"]] == [-1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "one", "other"]
    assert not list((tmp_path / "elsewhere").iterdir())
    history = history_of_default_folder(unit)
    assert len(history) == 2
    assert [path.name for path in Path("logs").iterdir()] == ["feature_vis"]


def history_of_default_folder(unit):
    callback = FeatureVisCallback(unit, steps=1, on_error="raise", **PLAIN)
    fit(unit.model, callback, 1)
    return callback.history


def a_snapshot_is_taken_every_so_many_epochs():
    unit = Objective.neuron(templates(), "units", 0)
    for freq, expected in ((1, [-1, 0, 1, 2, 3, 4]), (3, [-1, 0, 3, 4]), ((1, 2), [-1, 1, 2, 4])):
        history = history_of(unit, epochs=5, freq=freq, steps=1, **PLAIN)
        assert history.epochs.tolist() == expected


def a_warm_start_goes_on_from_the_last_image():
    unit = Objective.neuron(templates(), "units", 0)
    settings = {"epochs": 3, "steps": 3, "optimizer": keras.optimizers.SGD(40.0), **PLAIN}
    cold, warm = (history_of(unit, warm_start=one, **settings) for one in (False, True))
    field = np.zeros((8, 8))
    for i in range(4):
        for _ in range(3):
            field += 40.0 * sigmoid(field) * (1 - sigmoid(field)) * PATTERNS[0] / 64
        np.testing.assert_allclose(warm.images[i, 0, ..., 0], sigmoid(field), atol=1e-4)
        np.testing.assert_array_equal(cold.images[i], warm.images[0])


def scores_are_compared_with_real_images():
    unit = Objective.neuron(templates(), "units", range(2))
    rng = np.random.default_rng(0)
    real = (0.5 + 0.1 * PATTERNS[rng.integers(0, 2, 9)] + rng.uniform(-0.3, 0.3, (9, 8, 8)))[
        ..., None
    ]
    without = history_of(unit, steps=2, **PLAIN).last
    assert np.isnan(without.score_ratio).all()
    found = history_of(unit, steps=2, probe_data=real.astype("float32"), **PLAIN).last
    expected = units_of(found.images)[[0, 1], [0, 1]] / units_of(real)[:, :2].max(0)
    np.testing.assert_allclose(found.score_ratio, expected, rtol=1e-4)
    bright = history_of(unit, steps=2, probe_data=np.round(255 * real), **PLAIN)
    assert bright.values_range == (0.0, 255.0)


def snapshots_that_take_too_long_are_skipped():
    unit = Objective.neuron(templates(), "units", 0)
    unbounded = history_of(unit, epochs=3, steps=1, max_overhead=None, **PLAIN)
    assert unbounded.epochs.tolist() == [-1, 0, 1, 2]
    assert unbounded.skipped.tolist() == []
    bounded = history_of(unit, epochs=5, steps=1, max_overhead=1e-7, **PLAIN)
    assert bounded.epochs.tolist() == [-1, 0, 1, 4]
    assert bounded.skipped.tolist() == [2, 3]


def an_error_is_raised_or_a_warning():
    unit = Objective.neuron(templates(), "units", 0)
    settings = {"steps": 1, "parameterization": Pixel(), "transformations": [broken]}
    with pytest.raises(ArithmeticError, match="broken on purpose"):
        history_of(unit, on_error="raise", **settings)
    with pytest.warns(UserWarning, match="broken on purpose"):
        history = history_of(unit, on_error="warn", **settings)
    assert len(history) == 0


def broken(images):
    raise ArithmeticError("broken on purpose")


def a_line_is_printed_for_each_snapshot(capsys):
    unit = Objective.neuron(templates(), "units", range(3))
    history_of(unit, epochs=2, steps=1, verbose=0, **PLAIN)
    assert capsys.readouterr().out == ""
    history_of(unit, epochs=2, steps=1, verbose=1, **PLAIN)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(" images")[0] for line in lines] == [
        f"feature_vis: epoch {epoch}, 3" for epoch in (-1, 0, 1)
    ]
    assert not any("times those of the best real images" in line for line in lines)
    found = history_of(unit, steps=2, probe_data=SEEN, verbose=1, **PLAIN)
    best = units_of(SEEN)[:, :3].max(0)
    assert (best > 0).all()
    *_, line = capsys.readouterr().out.splitlines()
    ratios = np.diag(units_of(found.images[-1])) / best
    assert f"; scores are {np.median(ratios):.2f} times those of the best real images" in line
    assert f"at least {ratios.min():.2f} (Neuron#units_{ratios.argmin()})" in line


# --- arguments of objectives ---------------------------------------------------------------


def shown(objective, steps=3):
    """Return the result of a short optimisation from plain grey."""
    return optimize(objective, steps=steps, **PLAIN)


def first_unit(outputs):
    return outputs[:, 0]


def first_minus_last(outputs):
    one, other = outputs
    return one[:, 0] - other[:, 3]


# An objective that reads the first unit of a layer, by each way there is.
OF_ONE_UNIT = {
    "neuron": lambda model, layer, **more: Objective.neuron(model, layer, 0, **more),
    "channel": lambda model, layer, **more: Objective.channel(model, layer, 0, **more),
    "direction": lambda model, layer, **more: Objective.direction(
        model, layer, [[1, 0, 0, 0]], **{"cossim_pow": 0} | more
    ),
    "custom": lambda model, layer, **more: Objective.custom(model, layer, first_unit, **more),
    # All units at once.
    "layer": lambda model, layer, **more: Objective.layer(
        model, layer, **{"reducer": "mean"} | more
    ),
}


def wanted(kind, units):
    """Return the score that NumPy computes from the units, `(images, 4)`."""
    return units.mean(1) if kind == "layer" else units[:, 0]


def an_objective_reads_its_model(kind):
    for model, patterns in ((templates(), PATTERNS), (other_templates(), OTHERS)):
        found = shown(OF_ONE_UNIT[kind](model, "units"))
        pattern = patterns.sum(0) if kind == "layer" else patterns[0]
        assert likeness(found.images[0], pattern) > 0.98
    assert abs(likeness(PATTERNS[0], OTHERS[0])) < 0.1
    assert likeness(PATTERNS.sum(0), OTHERS.sum(0)) < 0.9


def an_objective_reads_its_layer(kind):
    for layer, first in (("units", 0), ("next", 1)):
        found = shown(OF_ONE_UNIT[kind](templates(), layer))
        if kind != "layer":
            assert likeness(found.images[0], PATTERNS[first]) > 0.999
    if kind == "layer":
        # A layer as a whole, by the score of its squares.
        for layer, bias in (("units", 0.0), ("off", -5.0)):
            one = Objective.layer(templates(), layer, pre_activation=True)
            found = shown(one)
            expected = ((units_of(found.images) + bias) ** 2).mean(1)
            np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-7)


def a_multiplier_is_a_factor(kind):
    for multiplier in (1.0, 3.0, -2.0):
        found = shown(OF_ONE_UNIT[kind](templates(), "units", multiplier=multiplier))
        expected = multiplier * wanted(kind, units_of(found.images))
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
        # A negative one asks for the least.
        assert found.scores[0] > 0.01


def names_are_those_given(kind):
    argument = "name" if kind == "layer" else "names"
    label = f"{kind.capitalize()}#units" + {"layer": "", "custom": ""}.get(kind, "_0")
    for given, expected in ((None, label), ("my own", "my own")):
        objective = OF_ONE_UNIT[kind](templates(), "units", **{argument: given})
        assert shown(objective, steps=1).names == [expected]


def an_activation_is_left_out(kind):
    for layer, choice, function in (
        ("off", True, lambda units: next_of(units) - 5),
        ("off", None, np.zeros_like),
        # The head reads "off", so that all of its logits are 0.
        ("head", False, lambda units: np.full_like(units, 0.25)),
        ("head", None, np.zeros_like),
    ):
        found = shown(OF_ONE_UNIT[kind](templates(), layer, pre_activation=choice), steps=1)
        expected = wanted(kind, function(units_of(found.images)))
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4, atol=1e-5)


def ids_are_the_units(make):
    for ids in ([0, 1], [3, 2], -1):
        found = shown(make(templates(), "units", ids))
        expected = np.atleast_1d(np.arange(4)[ids])
        alike = [[likeness(image, pattern) for pattern in PATTERNS] for image in found.images]
        np.testing.assert_allclose(alike, np.eye(4)[expected], atol=1e-3)


def vectors_are_the_directions():
    vectors = np.array([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    found = shown(Objective.direction(templates(), "units", vectors, cossim_pow=0))
    for image, vector in zip(found.images, vectors, strict=True):
        assert likeness(image, np.tensordot(vector, PATTERNS, 1)) > 0.98
    np.testing.assert_allclose(found.scores, (units_of(found.images) * vectors).sum(1), rtol=1e-4)


def the_cosine_has_its_power():
    vector, real = np.array([3.0, 0.5, 0.0, 0.0]), 0.5 + 0.2 * PATTERNS[1] + 0.1 * PATTERNS[0]
    scores = []
    for power in (0.0, 1.0, 4.0):
        one = Objective.direction(templates(), "units", vector[None], cossim_pow=power)
        expected = direction_score(units_of(real), vector, power)
        np.testing.assert_allclose(one.score(real[None, ..., None]), expected, rtol=1e-4)
        found = shown(one)
        expected = direction_score(units_of(found.images), vector, power)
        np.testing.assert_allclose(found.scores, expected, rtol=1e-4)
        scores.append(float(one.score(real[None, ..., None])[0]))
    assert scores[0] > 1.5 * scores[1] > 2.25 * scores[2] > 0


def a_layer_is_reduced():
    # The squares of plain grey have no gradient, so there is a start.
    start = {"parameterization": Pixel(noise=0.5), "transformations": None}
    for reducer, reduce in (
        ("mean", lambda units: units.mean(1)),
        ("magnitude", lambda units: (units**2).mean(1)),
    ):
        found = optimize(Objective.layer(templates(), "units", reducer), steps=8, **start)
        np.testing.assert_allclose(found.scores, reduce(units_of(found.images)), rtol=1e-4)
        assert found.scores[0] > 2 * found.history[0, 0]


def layers_are_all_given_to_the_function():
    one = Objective.custom(templates(), "units", first_unit)
    assert likeness(shown(one).images[0], PATTERNS[0]) > 0.999
    both = Objective.custom(templates(), ["units", "next"], first_minus_last)
    found = shown(both)
    # The last of "next" is the first of "units": nothing is left.
    np.testing.assert_allclose(found.scores, 0, atol=1e-6)
    turned = Objective.custom(templates(), ["next", "units"], first_minus_last)
    assert likeness(shown(turned).images[0], PATTERNS[1] - PATTERNS[3]) > 0.98


def minus_the_second(outputs):
    return -outputs[:, 1]


def a_function_makes_the_score():
    for function, expected in ((first_unit, PATTERNS[0]), (minus_the_second, -PATTERNS[1])):
        found = shown(Objective.custom(templates(), "units", function))
        assert likeness(found.images[0], expected) > 0.999


# --- arguments of parameterizations ----------------------------------------------------------


def share_above(fields, frequency):
    """Return the share of the power above a frequency along either axis, in cycles a pixel."""
    power, down, across = power_of(fields)
    return power[np.maximum(np.abs(down), np.abs(across)) > frequency].sum() / power.sum()


def power_of(fields):
    """Return the power of all images and channels, and the frequencies of each axis."""
    centred = fields - fields.mean((1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(centred, axes=(1, 2))) ** 2).sum((0, 3))
    return power, *np.meshgrid(*map(np.fft.fftfreq, power.shape), indexing="ij")


@functools.lru_cache
def by_fourier(**settings):
    """Return the default optimisation of four channels in these settings."""
    units = Objective.channel(edges(), "conv", range(4))
    return optimize(units, steps=24, parameterization=Fourier(**settings))


def fine_detail_falls_with_the_decay():
    shares = []
    for decay in (0, 1, 2, 3):
        power, down, across = power_of(by_fourier(decay=decay).images)
        shares.append(power[np.hypot(down, across) > 0.25].sum() / power.sum())
    assert all(later < earlier for earlier, later in zip(shares, shares[1:], strict=False)), shares
    assert shares[0] >= 10 * shares[2], shares


def no_detail_is_above_the_highest_frequency():
    fields = logit(by_fourier(decay=0, detail=0.5, window=None).images)
    assert share_above(fields, 0.25 + 1e-6) < 1e-6
    # The highest of these frequencies is four cycles in sixteen pixels.
    assert share_above(fields, 3 / 16 + 1e-6) > 0.05
    assert share_above(logit(by_fourier(decay=0, detail=1.0, window=None).images), 0.3) > 0.1


def a_window_fades_the_border():
    ratios = []
    for window in (None, 0.4, 0.2):
        fields = logit(by_fourier(window=window).images)
        border = np.concatenate([fields[:, 0], fields[:, -1], fields[:, :, 0], fields[:, :, -1]])
        ratios.append(root_mean_square(border) / root_mean_square(fields[:, 6:10, 6:10]))
    # At the middle of the border the field is multiplied by this, and by less in its corners.
    fades = [np.exp(-(((0.5 / 16 - 0.5) / window) ** 4)) for window in (0.4, 0.2)]
    assert ratios[0] > 0.5
    assert ratios[1] < 2 * fades[0] < ratios[0]
    assert ratios[2] < 2 * fades[1] < 1e-6 + 2 * fades[0]


def a_contrast_is_that_of_the_field():
    deviations = []
    for contrast in (0.4, 1.0, 2.5):
        images = by_fourier(contrast=contrast, window=None).images
        found = np.sqrt((logit(images) ** 2).mean((1, 2, 3)))
        # An image that scores higher without its exact contrast may have up to 1.2 times as much.
        assert (found > 0.99 * contrast).all(), found
        assert (found < 1.21 * contrast).all(), found
        deviations.append(images.std())
    assert deviations[0] < 0.6 * deviations[1] < 0.6 * deviations[2]


def automatic_contrast_follows_the_score():
    units = Objective.channel(edges(), "conv", range(4))
    by_contrast = [
        optimize(units, steps=24, parameterization=Fourier(contrast=one, window=None))
        for one in (1.0, "auto")
    ]
    fixed, own = (np.sqrt((logit(one.images) ** 2).mean((1, 2, 3))) for one in by_contrast)
    # It begins at 2 for small images, and may rise to 8.
    assert (own > 1.5 * fixed).all(), own
    assert (own < 8 * 1.21).all(), own
    assert (by_contrast[1].scores > by_contrast[0].scores).all()


def noise_is_the_distance_of_the_start():
    units = Objective.channel(edges(), "conv", range(4))
    distances = []
    for noise in (0.0, 1.2):
        one = Fourier(noise=noise, contrast=100.0, window=None)
        settings = {"steps": 2, "save_every": 1, "parameterization": one}
        found = optimize(units, optimizer=still(), **settings)
        # A finished image may get three times its contrast.
        distance = root_mean_square(logit(found.frames[0]))
        assert distance == pytest.approx(3 * noise, rel=0.15, abs=1e-3)
        found = optimize(units, **settings)
        assert all(start.startswith("faint noise") for start in found.starts)
        distances.append(root_mean_square(logit(found.frames[0])))
    # In the default optimisation, the first step is added.
    assert distances[1] == pytest.approx(np.hypot(distances[0], 3 * 1.2), rel=0.15)
    assert distances[1] > 1.5 * distances[0]


def the_seed_is_seen_in_final_pictures_by_the_noise():
    units = Objective.channel(edges(), "conv", range(4))
    apart = []
    for noise in (0.0, 1.2):
        settings = {"steps": 24, "parameterization": Fourier(noise=noise)}
        one, other = (logit(optimize(units, seed=k, **settings).images) for k in (0, 1))
        sizes = [np.sqrt((fields**2).mean((1, 2, 3))) for fields in (one, one - other)]
        apart.append(sizes[1] / sizes[0])
    # Without noise, seeds differ by their random transformations alone.
    assert (apart[1] > apart[0]).all(), apart
    assert apart[1].mean() > 2 * apart[0].mean(), apart


def automatic_noise_is_the_best_of_several_starts():
    units = Objective.channel(edges(), "conv", range(4))
    first = [
        optimize(units, steps=1, transformations=None, parameterization=Fourier(noise=one))
        for one in (0.05, "auto")
    ]
    assert first[0].starts == ["faint noise"] * 4
    assert all(start.startswith(("noise", "plain")) for start in first[1].starts)
    assert (first[1].history[0] > first[0].history[0]).all()


def the_background_has_the_mean():
    for mean in (0.5, 0.2, (0.7, 0.5, 0.3)):
        images = by_fourier(mean=mean, window=0.2).images
        corners = images[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_allclose(corners, np.broadcast_to(mean, corners.shape), atol=1e-3)


def colours_vary_together():
    shares = []
    grey = ((1.0, 0.0, 0.0),) * 3
    for colors in (None, "natural", grey):
        fields = logit(by_fourier(colors=colors).images).reshape(-1, 3)
        lightness = fields.sum(1) / 3**0.5
        shares.append((lightness**2).sum() / (fields**2).sum())
    assert shares[0] < shares[1] < shares[2], shares
    # Light varies most in real images.
    assert shares[1] > 0.5 > shares[0], shares
    assert shares[2] == pytest.approx(1, abs=1e-6)


def a_spectrum_replaces_the_decay():
    for wanted_frequency in (2, 5):
        frequencies = np.hypot(*np.meshgrid(*[np.r_[0:7, 1:7]] * 2, indexing="ij"))
        amplitudes = (np.round(frequencies) == wanted_frequency).astype("float32")
        amplitudes /= np.linalg.norm(amplitudes)
        fields = logit(by_fourier(spectrum=Spectrum(amplitudes[None]), window=None).images)
        power, down, across = power_of(fields)
        is_wanted = np.round(16 * np.hypot(down, across)) == wanted_frequency
        assert power[is_wanted].sum() > 0.999 * power.sum()


def by_pixel(optimizer=None, **settings):
    units = Objective.neuron(templates(), "units", range(4))
    settings = {"parameterization": Pixel(**settings), "transformations": None}
    return optimize(units, steps=24, optimizer=optimizer, **settings).images


def pixels_have_at_most_their_contrast():
    for contrast in (0.2, 0.7):
        found = np.sqrt((logit(by_pixel(contrast=contrast)) ** 2).mean((1, 2, 3)))
        np.testing.assert_allclose(found, contrast, rtol=0.01)


def pixels_start_with_their_noise():
    for noise in (0.1, 0.8):
        fields = logit(by_pixel(still(), noise=noise))
        assert root_mean_square(fields) == pytest.approx(noise, rel=0.15)


def pixels_start_from_their_mean():
    for mean in (0.5, 0.15, (0.8,)):
        np.testing.assert_allclose(by_pixel(still(), mean=mean, noise=0.0), np.max(mean), atol=1e-5)


def magnitudes_are_those_of_the_fourier():
    units = Objective.neuron(small_model(), "logits", range(2))
    for decay, contrast in ((1.0, 1.0), (2.0, 0.5)):
        fourier = Fourier(decay, detail=1.0, window=None, contrast=contrast)
        images = optimize(units, steps=8, parameterization=FixedMagnitude(fourier)).images
        found = np.abs(np.fft.fft2(logit(images[..., 0]))) / 120
        # Each of these has the power of a cosine and a sine with the amplitudes of the scale.
        scale = contrast * fourier_scale(12, 10, decay)
        for k in range(1, 5):
            np.testing.assert_allclose(
                found[:, 0, k] / found[:, 0, 1], scale[0, k] / scale[0, 1], rtol=0.02
            )
        assert root_mean_square(logit(images)) == pytest.approx(contrast, rel=0.02)


# --- arguments of transformations -----------------------------------------------------------


@dataclass(frozen=True)
class Drawing:
    """A picture that is known at any position, and that an optimizer of rate 0 leaves as it is."""

    kind: str

    def init(self, rng, shape):
        return np.zeros(2, "float32")

    def image(self, params, rows, columns, shape):
        rows, columns = rows[:, :, None], columns[:, None, :]
        drawn = {
            # The value tells the column.
            "ruler": 0.5 + 0.01 * (columns - 7.5) + 0 * rows,
            "dot": ops.relu(1 - ops.abs(rows - 8)) * ops.relu(1 - ops.abs(columns - 8)),
            "grey": 0.5 + 0 * rows + 0 * columns,
        }[self.kind]
        gain, more = params[:, 0, None, None], params[:, 1, None, None]
        return ((1 + gain) * drawn + more)[..., None]

    def project(self, params, shape):
        return params


@functools.lru_cache
def looker():
    model = sequential(layers.Identity(name="seen"), layers.Flatten(), shape=(16, 16, 1))
    return model


def column_read(seen):
    return seen[:, 8, 8, 0]


def width_read(seen):
    return seen[:, 8, 12, 0] - seen[:, 8, 4, 0]


def tilt_read(seen):
    return seen[:, 12, 8, 0] - seen[:, 4, 8, 0]


def dot_read(seen):
    return seen[:, 8, 8, 0]


def deviation_read(seen):
    return ops.std(seen, axis=(1, 2, 3))


def readings(transformation, kind, function, steps=60):
    """Return a number that is read from the augmented image at each step."""
    objective = Objective.custom(looker(), "seen", function)
    settings = {"transformations": [transformation], "parameterization": Drawing(kind)}
    result = optimize(objective, steps=steps, optimizer=still(), **settings)
    return result.history[:, 0].astype("float64")


def require_spread(values, low, high):
    """Check that values reach both ends of a range, and nothing beyond."""
    slack = 1e-3 * max(abs(low), abs(high), 1)
    assert values.min() > low - slack
    assert values.max() < high + slack
    reached = 0.15 * (high - low) + slack
    assert values.min() < low + reached
    assert values.max() > high - reached


def jitter_reaches_its_share():
    for share, reach in ((0.07, 1), (0.25, 4)):
        one = transformations.Jitter(share)
        shifts = (readings(one, "ruler", column_read) - 0.5) / 0.01 - 0.5
        assert set(np.round(shifts, 2)) == set(range(-reach, reach + 1))


def zooms(transformation):
    return 8 * 0.01 / readings(transformation, "ruler", width_read)


def scale_has_its_lowest_factor():
    require_spread(zooms(transformations.Scale(0.9, 1.1)), 0.9, 1.1)
    require_spread(zooms(transformations.Scale(0.5, 1.1)), 0.5, 1.1)


def scale_has_its_highest_factor():
    require_spread(zooms(transformations.Scale(0.9, 1.1)), 0.9, 1.1)
    require_spread(zooms(transformations.Scale(0.9, 1.9)), 0.9, 1.9)


def scale_is_closer_early():
    for early in (1.0, 2.0):
        found = zooms(transformations.Scale(1.5, 1.5, early=early))
        np.testing.assert_allclose(found[:36], 1.5 * early, rtol=1e-3)
        np.testing.assert_allclose(found[36:], 1.5, rtol=1e-3)


def crop_has_its_smallest_part():
    for smallest in (0.25, 0.7):
        require_spread(1 / zooms(transformations.Crop(smallest)), smallest, 1.0)


def crop_has_its_largest_part():
    for largest in (1.0, 0.5):
        require_spread(1 / zooms(transformations.Crop(0.2, largest)), 0.2, largest)


def rotate_turns_by_its_degrees():
    for degrees in (5.0, 40.0):
        sines = readings(transformations.Rotate(degrees), "ruler", tilt_read) / (8 * 0.01)
        require_spread(np.rad2deg(np.arcsin(np.clip(sines, -1, 1))), -degrees, degrees)


def blur_is_as_wide_as_its_sigma():
    offsets = np.arange(16) - 8
    widths = np.linspace(0.05, 3, 600)
    peaks = np.exp(-(offsets**2) / (2 * widths[:, None] ** 2)).sum(1) ** -2.0
    for sigma in (1.0, 2.0):
        found = readings(transformations.Blur(sigma), "dot", dot_read)
        is_blurred = found < 0.99
        assert is_blurred.mean() > 0.5
        # Peaks fall as widths rise.
        seen = np.interp(-found[is_blurred], -peaks, widths)
        assert sigma * 0.85 < seen.max() < sigma * 1.01


def noise_has_its_deviation():
    for deviation in (0.05, 0.2):
        found = readings(transformations.Noise(deviation), "grey", deviation_read)
        np.testing.assert_allclose(found, deviation, rtol=0.2)
        assert found.mean() == pytest.approx(deviation, rel=0.03)


def noise_ends_at_its_last():
    found = readings(transformations.Noise(0.2, last=0.02), "grey", deviation_read)
    assert found[:30].mean() == pytest.approx(0.2, rel=0.03)
    assert found[48:].mean() == pytest.approx(0.02, rel=0.05)
    assert (np.diff(found[30:48:4]) < 0).all()
    constant = readings(transformations.Noise(0.2), "grey", deviation_read)
    assert constant[48:].mean() == pytest.approx(0.2, rel=0.03)


# --- penalties --------------------------------------------------------------------------------

WEIGHTS = [0.5, 2.0, 8.0]
PENALTIES = {
    "L1": lambda image: np.abs(image).mean(),
    "L2": lambda image: np.sqrt((image**2).mean()),
    "LInfinity": lambda image: np.abs(image).max((0, 1)).mean(),
    "TotalVariation": total_variation,
}


@functools.lru_cache
def penalised(kind, weight):
    """Return images of four logits with a penalty, or without if the weight is 0."""
    units = Objective.neuron(small_model(), "logits", range(4))
    some = [getattr(regularizers, kind)(weight)] if weight else []
    return optimize(units, steps=32, regularizers=some, transformations=None).images


def penalties_of(kind, images):
    return np.array([PENALTIES[kind](image.astype("float64")) for image in images])


def logits_of(images):
    scores = small_model().predict(images, verbose=0)
    return scores[np.arange(4), np.arange(4)].astype("float64")


def a_heavier_weight_penalises_more(kind):
    free, light, heavy = (penalties_of(kind, penalised(kind, weight)) for weight in (0, 0.5, 8))
    assert light.mean() < free.mean(), (free, light)
    assert (heavy < 0.9 * light).all(), (light, heavy)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("kind", PENALTIES)
def test_a_penalty_lowers_no_score_less_penalty(kind, weight):
    """No image without the penalty is better at what is asked for with it."""
    free, bound = (penalised(kind, one) for one in (0, weight))
    before, after = (weight * penalties_of(kind, images) for images in (free, bound))
    with_penalty = logits_of(bound) - after
    without = logits_of(free) - before
    assert (with_penalty >= without - 1e-4).all(), (with_penalty - without).round(3)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("kind", PENALTIES)
def test_a_penalty_makes_what_it_penalises_less(kind, weight):
    free, bound = (penalties_of(kind, penalised(kind, one)) for one in (0, weight))
    # A picture that is best even with its penalty stays as it is.
    assert (bound < free + 1e-4).all(), (free, bound)
    assert bound.mean() < 0.99 * free.mean(), (free, bound)


@functools.lru_cache
def clothes_net():
    """Return a small network that tells ten kinds of clothes."""
    example = Path(__file__).parents[1] / "examples" / "fashion_mnist.py"
    x, y = runpy.run_path(str(example))["load_data"]()
    model = sequential(
        *(layers.Conv2D(16, 5, activation="relu"), layers.MaxPooling2D()),
        *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D()),
        *(layers.Flatten(), layers.Dense(10, name="logits")),
        shape=(28, 28, 1),
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[:4000], y[:4000], epochs=2, verbose=0, shuffle=False)
    return model


def test_smoothness_is_worth_its_price_at_the_default_transformations():
    """No logit is the worse for it, and no picture the rougher, in what is asked for."""
    model, weight = clothes_net(), 8.0
    logits, found = Objective.neuron(model, "logits", range(10)), []
    for some in ((), [regularizers.TotalVariation(weight)]):
        images = optimize(logits, steps=32, regularizers=some).images
        scores = np.diag(model.predict(images, verbose=0)).astype("float64")
        found.append((scores, np.array([total_variation(one) for one in images.astype("float64")])))
    (free_scores, free), (bound_scores, bound) = found
    gain = (bound_scores - weight * bound) - (free_scores - weight * free)
    assert (gain >= -1e-4 * np.abs(free_scores)).all(), gain
    assert (bound <= free + 1e-5).all(), (free, bound)
    # A picture that is best even with its penalty stays as it is, and most are not.
    assert np.median(gain) > 0.01, gain
    assert bound.mean() < 0.95 * free.mean(), (free, bound)


# --- given and real images -----------------------------------------------------------------------

PICTURES = (0.5 + 0.3 * PATTERNS[..., None]).astype("float32")
SEEN = np.random.default_rng(3).random((4, 8, 8, 1)).astype("float32")


def compared_with(kind, found, given):
    """Return what images of these units score in comparison with given ones."""
    if kind == "inversion":
        return 1 - ((found - given) ** 2).sum(1) / (given**2).sum(1)
    products = (found * given).sum(1)
    cosines = products / np.linalg.norm(found, axis=1) / np.linalg.norm(given, axis=1)
    return products * np.maximum(cosines, 0.1) ** 2


def compare(kind, *arguments, read=units_of, factor=1.0, images=PICTURES, **settings):
    """Check the scores of an objective that compares with given images."""
    objective = getattr(Objective, kind)(*arguments, images, **settings)
    expected = factor * compared_with(kind, read(SEEN), read(images))
    np.testing.assert_allclose(objective.score(SEEN), expected, rtol=1e-3, atol=1e-5)
    return objective


def given_images_are_those_of_the_model(kind):
    turned = OTHERS.reshape(4, 64).T / 64

    def read(images):
        return images.reshape(-1, 64) @ turned

    compare(kind, other_templates(), "units", read=read, images=SEEN[::-1])


def given_images_are_compared_in_the_layer(kind):
    compare(kind, templates(), "next", read=lambda images: next_of(units_of(images)))


def given_images_are_those_that_count(kind):
    compare(kind, templates(), "units")
    compare(kind, templates(), "units", images=PICTURES[::-1])


def given_images_have_a_factor(kind):
    compare(kind, templates(), "units", factor=-2.5, multiplier=-2.5)


def given_images_have_names(kind):
    assert compare(kind, templates(), "units", names=list("abcd")).names == list("abcd")


def given_images_are_compared_before_the_activation(kind):
    # What "off" reads, in order, and its bias.
    def read(images):
        return next_of(units_of(images)) - 5

    compare(kind, templates(), "off", read=read, pre_activation=True)
    with pytest.raises(ValueError, match="activate the layer"):
        getattr(Objective, kind)(templates(), "off", PICTURES)


OF_GIVEN_IMAGES = {
    "model": given_images_are_those_of_the_model,
    "layer": given_images_are_compared_in_the_layer,
    "images": given_images_are_those_that_count,
    "multiplier": given_images_have_a_factor,
    "names": given_images_have_names,
    "pre_activation": given_images_are_compared_before_the_activation,
}


def an_image_begins_at_the_given_one():
    unit = Objective.neuron(templates(), "units", 0)
    found = optimize(unit, steps=1, start=SEEN[0], optimizer=still(), **PLAIN)
    np.testing.assert_allclose(found.images[0], np.clip(SEEN[0], 0.01, 0.99), atol=1e-3)


def a_strength_keeps_an_image_near():
    unit = Objective.neuron(templates(), "units", 0)
    moved = [
        root_mean_square(
            optimize(unit, steps=9, start=SEEN[0], start_strength=one, **PLAIN).images[0] - SEEN[0]
        )
        for one in (0, 100, 10_000)
    ]
    assert moved[0] > 1.1 * moved[1] > 1.1 * moved[2]


def results_have_their_top_real_images():
    unit = Objective.neuron(templates(), "units", 2)
    found = optimize(unit, steps=1, probe_data=SEEN, **PLAIN)
    order = np.argsort(-units_of(SEEN)[:, 2])
    np.testing.assert_array_equal(found.real_images[0], SEEN[order])


def a_function_gets_each_snapshot():
    heard = []
    history_of(Objective.neuron(templates(), "units", 0), steps=1, on_snapshot=heard.append)
    assert [one.epoch for one in heard] == [-1, 0]


def images_of(**settings):
    """Return the pictures that are written, by their tags."""
    with tempfile.TemporaryDirectory() as folder:
        unit = Objective.neuron(templates(), "units", 0)
        history_of(unit, log_dir=folder, steps=1, probe_data=SEEN, **settings)
        return read_events(Path(folder) / "feature_vis")[0]


def tags_of(**settings):
    return set(images_of(**settings))


def so_many_real_images_are_accentuated():
    tag = "feature_vis_accentuated/Neuron#units_0"
    assert tag not in tags_of()
    sheets = [images_of(accentuate=count)[tag][-1][1] for count in (1, 2, 3)]
    widths = [sheet.shape[1] for sheet in sheets]
    # Each image has a column of its own.
    assert widths[1] - widths[0] == widths[2] - widths[1] >= 8, widths
    assert len({sheet.shape[0] for sheet in sheets}) == 1


def private_images_are_not_shown():
    assert "feature_vis_examples/Neuron#units_0" in tags_of()
    assert "feature_vis_examples/Neuron#units_0" not in tags_of(log_real_images=False)


def importance_is_written():
    assert "feature_vis_importance/Neuron#units_0" in tags_of(log_importance=True)
    assert "feature_vis_importance/Neuron#units_0" not in tags_of()


def an_executor_is_asked_for_a_worker():
    class Unwilling:
        asked = 0

        def submit(self, function, *arguments):
            self.asked += 1
            raise RuntimeError("no worker")

    executor = Unwilling()
    unit = Objective.neuron(templates(), "units", 0)
    with tempfile.TemporaryDirectory() as folder:
        history = history_of(unit, log_dir=folder, steps=1, executor=executor)
    # What no worker takes is taken here.
    assert executor.asked > 0
    assert history.epochs.tolist() == [-1, 0]


# --- the table ----------------------------------------------------------------------------------


def bind(check, *arguments):
    """Return the check with its first arguments given."""
    return functools.partial(check, *arguments)


CHECKS = {
    **{f"optimize({name})": bind(check, optimize) for name, check in SHARED.items()},
    "optimize(objective)": the_objective_is_what_the_image_shows,
    "optimize(save_every)": frames_are_kept_every_so_many_steps,
    "optimize(warmup_steps)": warm_up_steps_let_a_gradient_through,
    "optimize(verbose)": a_progress_bar_counts_the_steps,
    "optimize(start)": an_image_begins_at_the_given_one,
    "optimize(start_strength)": a_strength_keeps_an_image_near,
    "optimize(probe_data)": results_have_their_top_real_images,
    **{f"FeatureVisCallback({name})": bind(check, snapshot) for name, check in SHARED.items()},
    "FeatureVisCallback(objectives)": objectives_are_watched_in_their_order,
    "FeatureVisCallback(log_dir)": event_files_are_in_the_folder,
    "FeatureVisCallback(freq)": a_snapshot_is_taken_every_so_many_epochs,
    "FeatureVisCallback(warm_start)": a_warm_start_goes_on_from_the_last_image,
    "FeatureVisCallback(probe_data)": scores_are_compared_with_real_images,
    "FeatureVisCallback(max_overhead)": snapshots_that_take_too_long_are_skipped,
    "FeatureVisCallback(on_error)": an_error_is_raised_or_a_warning,
    "FeatureVisCallback(verbose)": a_line_is_printed_for_each_snapshot,
    "FeatureVisCallback(on_snapshot)": a_function_gets_each_snapshot,
    "FeatureVisCallback(accentuate)": so_many_real_images_are_accentuated,
    "FeatureVisCallback(log_real_images)": private_images_are_not_shown,
    "FeatureVisCallback(log_importance)": importance_is_written,
    "FeatureVisCallback(executor)": an_executor_is_asked_for_a_worker,
    **{
        f"Objective.{kind}({name})": bind(check, kind)
        for kind in ("inversion", "caricature")
        for name, check in OF_GIVEN_IMAGES.items()
    },
    "Objective.neuron(model)": bind(an_objective_reads_its_model, "neuron"),
    "Objective.neuron(layer)": bind(an_objective_reads_its_layer, "neuron"),
    "Objective.neuron(neurons_ids)": bind(ids_are_the_units, Objective.neuron),
    "Objective.neuron(multiplier)": bind(a_multiplier_is_a_factor, "neuron"),
    "Objective.neuron(names)": bind(names_are_those_given, "neuron"),
    "Objective.neuron(pre_activation)": bind(an_activation_is_left_out, "neuron"),
    "Objective.channel(model)": bind(an_objective_reads_its_model, "channel"),
    "Objective.channel(layer)": bind(an_objective_reads_its_layer, "channel"),
    "Objective.channel(channel_ids)": bind(ids_are_the_units, Objective.channel),
    "Objective.channel(multiplier)": bind(a_multiplier_is_a_factor, "channel"),
    "Objective.channel(names)": bind(names_are_those_given, "channel"),
    "Objective.channel(pre_activation)": bind(an_activation_is_left_out, "channel"),
    "Objective.layer(model)": bind(an_objective_reads_its_model, "layer"),
    "Objective.layer(layer)": bind(an_objective_reads_its_layer, "layer"),
    "Objective.layer(reducer)": a_layer_is_reduced,
    "Objective.layer(multiplier)": bind(a_multiplier_is_a_factor, "layer"),
    "Objective.layer(name)": bind(names_are_those_given, "layer"),
    "Objective.layer(pre_activation)": bind(an_activation_is_left_out, "layer"),
    "Objective.direction(model)": bind(an_objective_reads_its_model, "direction"),
    "Objective.direction(layer)": bind(an_objective_reads_its_layer, "direction"),
    "Objective.direction(vectors)": vectors_are_the_directions,
    "Objective.direction(multiplier)": bind(a_multiplier_is_a_factor, "direction"),
    "Objective.direction(cossim_pow)": the_cosine_has_its_power,
    "Objective.direction(names)": bind(names_are_those_given, "direction"),
    "Objective.direction(pre_activation)": bind(an_activation_is_left_out, "direction"),
    "Objective.custom(model)": bind(an_objective_reads_its_model, "custom"),
    "Objective.custom(layers)": layers_are_all_given_to_the_function,
    "Objective.custom(function)": a_function_makes_the_score,
    "Objective.custom(multiplier)": bind(a_multiplier_is_a_factor, "custom"),
    "Objective.custom(names)": bind(names_are_those_given, "custom"),
    "parameterizations.Fourier(decay)": fine_detail_falls_with_the_decay,
    "parameterizations.Fourier(detail)": no_detail_is_above_the_highest_frequency,
    "parameterizations.Fourier(window)": a_window_fades_the_border,
    "parameterizations.Fourier(contrast)": a_contrast_is_that_of_the_field,
    "parameterizations.Fourier(contrast='auto')": automatic_contrast_follows_the_score,
    "parameterizations.Fourier(noise)": noise_is_the_distance_of_the_start,
    "parameterizations.Fourier(noise=1.2)": the_seed_is_seen_in_final_pictures_by_the_noise,
    "parameterizations.Fourier(noise='auto')": automatic_noise_is_the_best_of_several_starts,
    "parameterizations.Fourier(mean)": the_background_has_the_mean,
    "parameterizations.Fourier(colors)": colours_vary_together,
    "parameterizations.Fourier(spectrum)": a_spectrum_replaces_the_decay,
    "parameterizations.Pixel(contrast)": pixels_have_at_most_their_contrast,
    "parameterizations.Pixel(noise)": pixels_start_with_their_noise,
    "parameterizations.Pixel(mean)": pixels_start_from_their_mean,
    "parameterizations.FixedMagnitude(fourier)": magnitudes_are_those_of_the_fourier,
    "transformations.Jitter(share)": jitter_reaches_its_share,
    "transformations.Scale(low)": scale_has_its_lowest_factor,
    "transformations.Scale(high)": scale_has_its_highest_factor,
    "transformations.Scale(early)": scale_is_closer_early,
    "transformations.Crop(smallest)": crop_has_its_smallest_part,
    "transformations.Crop(largest)": crop_has_its_largest_part,
    "transformations.Rotate(degrees)": rotate_turns_by_its_degrees,
    "transformations.Blur(sigma)": blur_is_as_wide_as_its_sigma,
    "transformations.Noise(deviation)": noise_has_its_deviation,
    "transformations.Noise(last)": noise_ends_at_its_last,
    **{
        f"regularizers.{kind}(weight)": bind(a_heavier_weight_penalises_more, kind)
        for kind in PENALTIES
    },
}


def test_every_public_argument_has_a_check():
    # A check of one value of an argument is beside that of the argument.
    assert sorted(name for name in CHECKS if "=" not in name) == sorted(public_arguments())


@pytest.mark.parametrize("argument", CHECKS)
def test_an_argument_has_the_effect_that_numpy_predicts(argument, request):
    check = CHECKS[argument]
    fixtures = inspect.signature(check).parameters
    check(**{name: request.getfixturevalue(name) for name in fixtures})
