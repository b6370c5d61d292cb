"""Dead, dormant, duplicate and saturated units, against `predict` and NumPy."""

import tracemalloc

import keras
import numpy as np
import pytest
from keras import layers, ops

from featviz_callback import Objective, backend
from featviz_callback.monitoring.health import (
    UNIT_KINDS,
    LayerMeter,
    duplicates,
    effective_rank,
)
from featviz_callback.objectives import (
    Ending,
    Tap,
    Watch,
    ending,
    feature_taps,
    inputs,
    score_all,
    walk,
)
from tests.conftest import fill, layer_output, random_images, sequential

IMAGES = random_images(60, 12, 10, 1)


def measured(model, images=IMAGES):
    """Return a meter that has seen all images in the pass that scores them."""
    units = feature_taps(model, inputs.specs(model))
    found = dict(walk(model))
    meter = LayerMeter({tap: ending(found[tap.path]) for tap in units}, units, len(images))
    target = Objective.layer(model, next(iter(units)).name)
    score_all([target], images, watch=Watch(units, meter.see))
    assert meter.error is None
    return meter


def by_numpy(outputs, is_rectifier):
    """Return which units are dead, dormant and duplicate, from all activations."""
    rows = outputs.reshape(-1, outputs.shape[-1]).astype("float64")
    constant = np.ptp(rows, axis=0) == 0
    sizes = np.abs(rows).mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        same = np.tril(np.corrcoef(rows.T) > 0.95, -1).any(1)
    return {
        "dead": rows.max(0) <= 0 if is_rectifier else constant,
        "dormant": sizes <= 0.025 * sizes.mean(),
        "duplicate": same & ~constant,
    }


def plant(layer, dead=(), dormant=(), copies=()):
    """Change the weights of a layer so that these units are what they are called."""
    kernel, *rest = layer.get_weights()
    bias = rest[0]
    for unit in dead:
        kernel[..., unit], bias[unit] = 0.0, -0.5
    for unit in dormant:
        kernel[..., unit], bias[unit] = kernel[..., unit] * 1e-3, bias[unit] * 1e-3
    for unit, original in copies:
        kernel[..., unit], bias[unit] = 2 * kernel[..., original], 2 * bias[original]
    layer.set_weights([kernel, bias, *rest[1:]])


def lively(model, seed=0):
    """Give a model weights with which every unit is on for about half of its inputs."""
    fill(model, seed)
    weights = [w - w.mean(tuple(range(w.ndim - 1))) if w.ndim > 1 else 0 * w + 0.05
               for w in model.get_weights()]  # fmt: skip
    model.set_weights(weights)
    return model


def plain():
    """Return three layers that end in a ReLU."""
    model = sequential(
        layers.Conv2D(12, 3, activation="relu", name="first"),
        layers.Conv2D(16, 3, strides=2, activation="relu", name="second"),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(20, activation="relu", name="third"),
        layers.Dense(5, name="logits"),
    )
    return lively(model), {"first": 12, "second": 16, "third": 20}, True


def smooth():
    """Return layers whose activations are never exactly zero."""
    model = sequential(
        layers.Conv2D(12, 3, activation="tanh", name="first"),
        layers.Conv2D(16, 3, strides=2, activation="gelu", name="second"),
        layers.Flatten(),
        layers.Dense(20, activation="silu", name="third"),
        layers.Dense(5, activation="softmax", name="probabilities"),
    )
    return lively(model, 3), {"first": 12, "second": 16, "third": 20}, False


def nested():
    """Return a model whose first layers are in a model inside."""
    inner = keras.Sequential(
        [
            keras.Input((12, 10, 1)),
            layers.GaussianNoise(0.5),
            layers.Conv2D(12, 3, activation="relu6", name="first"),
            layers.Conv2D(16, 3, activation="relu", name="second"),
        ],
        name="inner",
    )
    image = keras.Input((12, 10, 1))
    outputs = layers.Dense(5, name="logits")(layers.Flatten()(inner(image)))
    return lively(keras.Model(image, outputs)), {"inner/first": 12, "inner/second": 16}, True


class Own(keras.Model):
    """A model with a call of its own."""

    def __init__(self):
        super().__init__()
        self.first = layers.Conv2D(12, 3, activation="relu", name="first")
        self.second = layers.Conv2D(16, 3, strides=2, activation="relu", name="second")
        self.logits = layers.Dense(5, name="logits")

    def call(self, images):
        maps = self.second(self.first(images))
        return self.logits(ops.reshape(maps, (-1, 4 * 3 * 16)))


def own():
    """Return a model that is no graph."""
    model = Own()
    model(IMAGES[:1])
    return lively(model, 1), {"first": 12, "second": 16}, True


FAULTS = {"dead": [1, 5], "dormant": [3], "copies": [(7, 0), (9, 2)]}


@pytest.mark.parametrize("make", [plain, smooth, nested, own])
def test_planted_units_are_found_and_no_other(make):
    model, sizes, are_rectified = make()
    found = dict(walk(model))
    for path in sizes:
        plant(found[path], **FAULTS)
    meter = measured(model)
    for path, size in sizes.items():
        units = {kind: np.flatnonzero(one).tolist() for kind, one in meter.units[path].items()}
        dormant = [1, 3, 5] if are_rectified else [3]
        assert units == {"dead": [1, 5], "dormant": dormant, "duplicate": [7, 9]}, path
        assert meter.numbers[path]["dead"] == pytest.approx(2 / size)


@pytest.mark.parametrize("make", [plain, smooth])
@pytest.mark.parametrize("faults", [{}, FAULTS], ids=["as it is", "planted"])
def test_every_number_is_that_of_numpy(make, faults):
    model, sizes, are_rectified = make()
    for path in sizes:
        plant(model.get_layer(path), **faults)
    meter = measured(model)
    for path in (*sizes, model.layers[-1].name):
        outputs = layer_output(model, path, IMAGES)
        expected = by_numpy(outputs, are_rectified and path in sizes)
        numbers = meter.numbers[path]
        for kind, one in meter.units[path].items():
            np.testing.assert_array_equal(one, expected[kind], f"{path} {kind}")
            assert numbers[kind] == pytest.approx(expected[kind].mean())
        assert numbers["mean"] == pytest.approx(outputs.mean(), rel=1e-4, abs=1e-6)
        assert numbers["deviation"] == pytest.approx(outputs.std(), rel=1e-4)
        assert numbers["nan"] == 0


def test_the_effective_rank_is_that_of_the_singular_values():
    model = plain()[0]
    outputs = layer_output(model, "third", IMAGES)
    shares = np.linalg.svd(outputs, compute_uv=False)
    shares = shares[shares > 0] / shares.sum()
    expected = np.exp(-(shares * np.log(shares)).sum())
    assert measured(model).numbers["third"]["effective_rank"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_orthogonal_directions_of_one_size_are_counted(rank):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(500, rank)))[0]
    rows = basis @ np.linalg.qr(rng.normal(size=(20, rank)))[0].T
    assert effective_rank(rows) == pytest.approx(rank, rel=1e-5)


def test_nothing_has_no_direction():
    assert effective_rank(np.zeros((9, 4))) == 0


@pytest.mark.parametrize(
    ("activation", "share"),
    [
        ("sigmoid", lambda values: (values <= 0.01) | (values >= 0.99)),
        ("tanh", lambda values: np.abs(values) >= 0.98),
        ("relu6", lambda values: values >= 5.94),
    ],
)
def test_saturated_activations_are_counted(activation, share):
    model = sequential(layers.Conv2D(4, 3, activation=activation, name="conv"))
    kernel, bias = model.get_weights()
    model.set_weights([20 * kernel, bias])
    expected = share(layer_output(model, "conv", IMAGES)).mean()
    assert 0.1 < expected < 0.9
    assert measured(model).numbers["conv"]["saturated"] == pytest.approx(expected, abs=1e-4)


def test_what_has_no_end_is_not_saturated():
    assert np.isnan(measured(plain()[0]).numbers["first"]["saturated"])


@pytest.mark.parametrize("at_once", [7, 20, 59])
def test_several_batches_give_what_one_gives(monkeypatch, at_once):
    model, sizes, _ = plain()
    for path in sizes:
        plant(model.get_layer(path), **FAULTS)
    whole = measured(model)
    monkeypatch.setattr(inputs, "_PIXELS_AT_ONCE", at_once * 120)
    parts = measured(model)
    for path in whole.numbers:
        # Other rows are compared.
        ranks = [one.numbers[path].pop("effective_rank") for one in (parts, whole)]
        assert ranks[0] == pytest.approx(ranks[1], rel=5e-3)
        assert parts.numbers[path] == pytest.approx(
            whole.numbers[path], rel=1e-3, abs=1e-6, nan_ok=True
        )
        for kind, one in whole.units[path].items():
            np.testing.assert_array_equal(parts.units[path][kind], one)


@pytest.mark.parametrize("way", ["on a device", "few values at once"])
def test_all_ways_to_add_up_tell_the_same(monkeypatch, way):
    """What an accelerator holds is summed there, and the host's memory is read as it is."""
    model = sequential(
        layers.Conv2D(12, 3, activation="relu6", name="first"),
        layers.Conv2D(16, 3, activation="tanh", name="second"),
    )
    lively(model)
    plant(model.get_layer("first"), **FAULTS)
    kernel, bias = model.get_layer("second").get_weights()
    model.get_layer("second").set_weights([20 * kernel, np.append(bias[:-1], np.nan)])
    usual = measured(model)
    assert usual.numbers["first"]["dead"] == pytest.approx(2 / 12)
    assert usual.numbers["second"]["nan"] == pytest.approx(1 / 16)
    if way == "on a device":
        monkeypatch.setattr(backend.load(), "shared", lambda tensor: None)
    else:
        monkeypatch.setattr("featviz_callback.monitoring.health._VALUES_AT_ONCE", 2000)
    found = measured(model)
    for path, numbers in usual.numbers.items():
        assert found.numbers[path] == pytest.approx(numbers, rel=1e-5, nan_ok=True)
        for kind, one in usual.units[path].items():
            np.testing.assert_array_equal(found.units[path][kind], one)
        np.testing.assert_array_equal(found.histograms[path], usual.histograms[path])


def test_a_unit_with_a_nan_is_none_of_it_and_others_are_measured():
    model, _, _ = plain()
    plant(model.get_layer("first"), **FAULTS)
    kernel, bias = model.get_layer("first").get_weights()
    bias[4] = np.nan
    model.get_layer("first").set_weights([kernel, bias])
    meter = measured(model)
    found = {kind: np.flatnonzero(one).tolist() for kind, one in meter.units["first"].items()}
    assert found == {"dead": [1, 5], "dormant": [1, 3, 5], "duplicate": [7, 9]}
    assert meter.numbers["first"]["nan"] == pytest.approx(1 / 12)
    others = np.delete(layer_output(model, "first", IMAGES), 4, axis=-1)
    assert meter.numbers["first"]["mean"] == pytest.approx(others.mean(), rel=1e-4)
    assert meter.numbers["logits"] == {"nan": 1}
    assert "logits" not in meter.histograms


def meter_of(values, end=None):
    """Return a meter that has seen these activations of one layer."""
    tap = Tap("layer")
    meter = LayerMeter({tap: end or Ending()}, {tap: values.shape[-1]}, len(values))
    meter.see(tap, ops.convert_to_tensor(values), len(values))
    assert meter.error is None
    return meter


def test_values_far_from_zero_keep_their_deviation():
    values = np.random.default_rng(0).normal(1000, 0.05, (50, 4, 4, 3)).astype("float32")
    expected = values.astype("float64").std()
    assert meter_of(values).numbers["layer"]["deviation"] == pytest.approx(expected, rel=1e-3)


def test_values_that_are_all_but_equal_have_a_histogram():
    values = np.where(np.arange(400).reshape(100, 4) % 3, 1, np.float32(0.99999994))
    meter = meter_of(values.astype("float32"))
    assert meter.histograms["layer"][:, 2].sum() == 400


def test_a_nan_is_not_saturated():
    values = np.random.default_rng(0).uniform(0.3, 0.7, (50, 4)).astype("float32")
    values[:5, 0] = 1.0
    values[:, 1:3] = np.nan
    found = meter_of(values, Ending(lowest=0.0, highest=1.0)).numbers["layer"]
    assert found["saturated"] == pytest.approx(5 / 100)
    assert found["nan"] == pytest.approx(1 / 2)


def test_of_a_very_large_layer_the_extremes_are_exact_and_sums_are_those_of_many_values():
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(rng.normal(size=24), 1, (40, 150, 150, 24)), 0)
    values = values.astype("float32")
    values[..., [3, 4, 5]] = 0
    # A single value of a unit that is silent everywhere else.
    values[17, 101, 33, 4] = 2.0
    values[..., 5] = 0.01
    meter = meter_of(values, Ending(is_rectifier=True, lowest=0.0))
    assert np.flatnonzero(meter.units["layer"]["dead"]).tolist() == [3]
    sizes = values.mean((0, 1, 2), dtype="float64")
    expected = sizes <= 0.025 * sizes.mean()
    np.testing.assert_array_equal(meter.units["layer"]["dormant"], expected)
    expected = [values.mean(dtype="float64"), values.std(dtype="float64"), (values <= 0).mean()]
    found = [meter.numbers["layer"][name] for name in ("mean", "deviation", "saturated")]
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    assert found[0] != pytest.approx(expected[0], rel=1e-7)


def test_the_histogram_counts_every_activation_of_a_small_layer():
    model = plain()[0]
    values = layer_output(model, "third", IMAGES)
    left, right, counts = measured(model).histograms["third"].T
    assert counts.sum() == values.size
    np.testing.assert_allclose(left[1:], right[:-1])
    assert (left[0], right[-1]) == pytest.approx((values.min(), values.max()), rel=1e-5)
    expected = np.histogram(values, np.append(left, right[-1]))[0]
    assert np.abs(counts - expected).sum() <= 4  # a value at an edge may be on either side


@pytest.mark.parametrize("units", [16, 48, 64, 256])
def test_the_histogram_of_a_large_layer_is_of_all_its_units(units):
    values = np.zeros((200, 20, 20, units), "float32")
    values[..., ::8] = 1.0
    values[..., 5] = np.random.default_rng(0).uniform(2, 3, values.shape[:3])
    left, _, counts = meter_of(values).histograms["layer"].T
    assert 2**15 <= counts.sum() <= 2**16
    for least in (0.9, 1.9):
        share = counts[left > least - 0.1].sum() / counts.sum()
        assert share == pytest.approx((values > least).mean(), abs=0.01)


def test_the_histogram_of_a_single_unit_is_that_of_its_activations():
    model = sequential(layers.Flatten(), layers.Dense(1, name="logit"), shape=(12, 10, 1))
    bias = model.layers[-1].bias
    bias.assign(bias + 5.0)
    [histogram] = [measured(model).histograms["logit"]]
    values = model.predict(IMAGES, verbose=0).ravel()
    np.testing.assert_allclose(histogram[0, 0], values.min(), rtol=1e-5)
    np.testing.assert_allclose(histogram[-1, 1], values.max(), rtol=1e-5)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("size", [1e25, 3e38, np.inf])
def test_a_network_that_diverges_is_measured_without_a_warning(size):
    model = plain()[0]
    first, last = model.layers[0], model.layers[-1]
    first.bias.assign(np.where(np.arange(first.bias.shape[0]) % 2, size, -size).astype("float32"))
    meter = measured(model)
    assert set(meter.numbers) >= {first.name, last.name}
    values = layer_output(model, first.name, IMAGES)
    assert meter.numbers[first.name]["nan"] == pytest.approx(1 - np.isfinite(values).mean())


def test_few_rows_tell_nothing_of_correlation():
    meter = measured(plain()[0], IMAGES[:8])
    assert np.isnan(meter.numbers["third"]["duplicate"])
    assert list(meter.units["third"]) == ["dead", "dormant"]


def test_one_image_tells_nothing_of_units_with_one_value_each():
    model = sequential(
        layers.Conv2D(4, 3, activation="relu", name="maps"),
        layers.Flatten(),
        layers.Dense(8, name="linear"),
        layers.Dense(8, activation="relu", name="rectified"),
    )
    meter = measured(lively(model), IMAGES[:1])
    for name in ("linear", "rectified"):
        assert np.isnan([meter.numbers[name][kind] for kind in UNIT_KINDS]).all()
        assert meter.units[name] == {}
        values = layer_output(model, name, IMAGES[:1])
        assert meter.numbers[name]["mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert meter.numbers["maps"]["dead"] == 0


@pytest.mark.parametrize("activation", ["silu", "gelu", "elu", "softplus", "sigmoid"])
def test_a_unit_that_is_off_is_dead_whatever_little_its_activation_leaves(activation):
    model = sequential(layers.Conv2D(4, 3, activation=activation, name="conv"))
    kernel, _ = lively(model).get_weights()
    model.set_weights([kernel, np.array([0.0, 0.1, -30.0, -40.0])])
    meter = measured(model)
    assert np.flatnonzero(meter.units["conv"]["dead"]).tolist() == [2, 3]
    assert not meter.units["conv"]["duplicate"].any()


def sparse(images, units, share):
    """Return activations of independent units, each of which is on for so many images."""
    values = np.random.default_rng(0).normal(size=(images, units)).astype("float32")
    return np.maximum(values - np.quantile(values, 1 - share, axis=0), 0)


@pytest.mark.parametrize(
    ("images", "units", "share"), [(1000, 128, 0.002), (100, 128, 0.02), (40, 128, 0.05)]
)
def test_units_that_chance_makes_alike_are_no_duplicates(images, units, share):
    rows = sparse(images, units, share)
    rows[0, :9] = 7.0  # nine of them are on for the same image, too
    assert (np.tril(np.corrcoef(rows.T), -1) > 0.95).any()
    assert not duplicates(rows, np.ones(units, bool)).any()


def test_copies_of_units_that_are_seldom_on_are_duplicates():
    rows = sparse(1000, 128, 0.02)
    rows[:, 100:110] = 3 * rows[:, :10]
    expected = (np.tril(np.corrcoef(rows.T), -1) > 0.95).any(1)
    assert np.flatnonzero(expected).tolist() == list(range(100, 110))
    np.testing.assert_array_equal(duplicates(rows, np.ones(128, bool)), expected)


def in_batches(values, batches, others):
    """Return a meter that has seen activations of one layer in batches, and of others nothing."""
    tap = Tap("layer")
    units = {tap: values.shape[-1]} | {Tap(f"other{i}"): values.shape[-1] for i in range(others)}
    meter = LayerMeter(dict.fromkeys(units, Ending(True)), units, len(values))
    for part in np.split(values, batches):
        meter.see(tap, ops.convert_to_tensor(part), len(part))
    assert meter.error is None
    return meter


@pytest.mark.parametrize("batches", [1, 10])
def test_the_numbers_of_a_deep_network_do_not_depend_on_its_batches(batches):
    """One of a hundred wide layers of large images, which pass a few at a time."""
    values = sparse(100 * 49, 256, 0.023)
    values[:, 200:210] = values[:, :10]
    meter = in_batches(values.reshape(100, 7, 7, 256), batches, others=199)
    assert np.flatnonzero(meter.units["layer"]["duplicate"]).tolist() == list(range(200, 210))
    ranks = []
    for seed in range(3):
        rows = np.random.default_rng(seed).permutation(values)[:1024]
        shares = np.linalg.svd(rows, compute_uv=False)
        shares = shares[shares > 1e-4] / shares.sum()
        ranks.append(np.exp(-(shares * np.log(shares)).sum()))
    assert meter.numbers["layer"]["effective_rank"] == pytest.approx(np.mean(ranks), rel=0.02)


def test_too_few_rows_for_a_rank_tell_none(monkeypatch):
    values = sparse(100 * 49, 64, 0.1).reshape(100, 7, 7, 64)
    assert in_batches(values, 10, others=9).numbers["layer"]["effective_rank"] > 30
    monkeypatch.setattr("featviz_callback.monitoring.health._MOST_VALUES_OF_ALL", 640 * 500)
    numbers = in_batches(values, 10, others=9).numbers["layer"]
    assert np.isnan(numbers["effective_rank"])
    assert numbers["duplicate"] == 0


def test_units_are_compared_with_all_before_them(monkeypatch):
    monkeypatch.setattr("featviz_callback.monitoring.health._CORRELATIONS_AT_ONCE", 4 * 29)
    rows = np.random.default_rng(0).normal(size=(100, 30)).astype("float32")
    rows[:, 17], rows[:, 29], rows[:, 5] = rows[:, 2] + 3, 5 * rows[:, 28], 1.0
    found = duplicates(rows, np.ones(30, bool))
    assert np.flatnonzero(found).tolist() == [17, 29]


def test_an_error_on_the_way_leaves_the_scores():
    model = plain()[0]
    units = feature_taps(model, inputs.specs(model))
    # Endings of no layer.
    meter = LayerMeter({}, units, len(IMAGES))
    target = Objective.layer(model, "first")
    scores = score_all([target], IMAGES, watch=Watch(units, meter.see))[0]
    np.testing.assert_array_equal(scores, score_all([target], IMAGES)[0])
    assert isinstance(meter.error, KeyError)


def peak_memory(function, *arguments):
    """Return the most bytes of arrays that a call had at a time, beside its arguments."""
    tracemalloc.start()
    try:
        function(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("rows", "units"), [(8192, 128), (700, 1400), (1024, 4096)])
def test_units_are_compared_in_bounded_memory(rows, units):
    """NumPy tells Python's own tracer of every array."""
    values = random_images(rows, units)
    assert peak_memory(duplicates, values, np.ones(units, bool)) < 40 * 2**20
    assert peak_memory(effective_rank, values) <= 32 * 2**20


def test_of_all_layers_rows_of_one_are_kept_at_a_time():
    """A layer has fewer numbers than images times units or units times units."""
    model = sequential(
        layers.Flatten(),
        *(layers.Dense(512, activation="relu", name=f"dense{i}") for i in range(12)),
    )
    units = feature_taps(model, inputs.specs(model))
    found = dict(walk(model))
    images, shown = random_images(400, 12, 10, 1), {}
    score_all([Objective.layer(model, -1)], images, watch=Watch(units, lambda t, x, n: shown.update(
        {t: np.array(ops.convert_to_numpy(x))})))  # fmt: skip
    meter = LayerMeter({tap: ending(found[tap.path]) for tap in units}, units, len(images))

    def see_all():
        for tap, output in shown.items():
            meter.see(tap, output, len(images))

    largest = 4 * max(400 * 512, 512 * 512)
    # The rows of one layer, and what comparing its units takes. All layers' are twelve times that.
    assert peak_memory(see_all) < 8 * largest
    assert meter.error is None
    kept = [one for layer in meter.units.values() for one in layer.values()]
    kept += list(meter.histograms.values())
    assert sum(one.nbytes for one in kept) < largest / 10


def normalised(image):
    """A normalisation before the activation, as a layer of its own."""
    maps = layers.Conv2D(12, 3, use_bias=False, name="conv")(image)
    normed = layers.BatchNormalization(name="norm")(maps)
    relu = layers.ReLU(name="relu")(normed)
    return {"conv": maps, "norm": normed, "relu": relu}, {"relu"}


def sloped(image):
    """Activations that are layers, and let negative values through."""
    maps = layers.Conv2D(12, 3, name="conv")(image)
    slope = layers.PReLU(name="prelu")(maps)
    return {"conv": maps, "prelu": slope, "leaky": layers.LeakyReLU(name="leaky")(slope)}, set()


def tokens(image):
    """A transformer of one block."""
    patches = layers.Conv2D(8, (4, 5), strides=(4, 5), name="patches")(image)
    token = layers.Reshape((6, 8))(patches)
    norm = layers.LayerNormalization(name="norm")(token)
    mixed = layers.MultiHeadAttention(2, 4, name="attention")(norm, norm)
    hidden = layers.Dense(16, activation="gelu", name="hidden")(layers.Add()([token, mixed]))
    found = {"patches": patches, "norm": norm, "attention": mixed, "hidden": hidden}
    return found, set()


def several_tensors(image):
    """Layers that return more than one tensor, or apply another layer to each row."""
    rows = layers.Reshape((12, 10, 1))(image)
    each = layers.Conv1D(4, 3, activation="relu")
    timed = layers.TimeDistributed(each, name="timed")(rows)
    states, last = layers.GRU(5, return_sequences=True, return_state=True, name="gru")(
        layers.Reshape((12, 32))(timed)
    )
    both = layers.Bidirectional(layers.LSTM(3), name="both")(states)
    return {"timed": timed, "gru[0]": states, "both": both}, {"timed"}


@pytest.mark.parametrize("build", [normalised, sloped, tokens, several_tensors])
@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.acceptance)]
)
def test_layers_of_every_kind_are_those_of_predict(build, dtype):
    keras.mixed_precision.set_dtype_policy(dtype)
    try:
        image = keras.Input((12, 10, 1))
        outputs, rectifiers = build(image)
        model = keras.Model(image, outputs)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    predicted = model.predict(IMAGES, verbose=0)
    meter = measured(model)
    assert list(meter.numbers) == list(outputs)
    for path, values in predicted.items():
        values = values.astype("float64")
        expected = by_numpy(values, path in rectifiers)
        for kind in ("dead", "dormant"):
            np.testing.assert_array_equal(meter.units[path][kind], expected[kind], f"{path} {kind}")
        close = {"rel": 1e-3 if dtype == "float32" else 0.02}
        scale = values.std()
        assert meter.numbers[path]["mean"] == pytest.approx(
            values.mean(), abs=0.02 * scale, **close
        )
        assert meter.numbers[path]["deviation"] == pytest.approx(scale, **close)
