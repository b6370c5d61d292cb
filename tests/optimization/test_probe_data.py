"""Real images from arrays, data sets and loaders, which stay as they were."""

import importlib.util
import itertools
import random

import keras
import numpy as np
import pytest

from featviz_callback import Objective
from featviz_callback.backend import random_states_preserved
from featviz_callback.objectives import inputs
from featviz_callback.optimization import reading
from featviz_callback.optimization.probe_data import ProbeImages, find_values_range, to_images
from featviz_callback.optimization.probe_data import images_of as images_of_inputs
from tests.conftest import prepare

IMAGES = np.random.default_rng(0).random((40, 6, 5, 3))
LABELS = np.arange(40)
needs_tensorflow = pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow"), reason="TensorFlow is not installed"
)
needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="torch is not installed"
)


def test_a_parameterization_is_like_the_images_that_it_is_asked_for():
    """A callback that watches one model after another, whose parts get other images."""
    probe, plan = ProbeImages(IMAGES), prepare_plan()
    dark, bright = np.float32([0.1, 0.8]).reshape(2, 1, 1, 1, 1) * np.float32(0.9 + 0.1 * IMAGES)
    first, second, again = (
        probe.parameterization("fourier", plan, one) for one in (dark, bright, dark.copy())
    )
    assert first == again != second
    assert first is again


def prepare_plan():
    model = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.Conv2D(2, 3, name="conv")])
    return prepare(Objective.channel(model, "conv", 0)).plan


class Batches(keras.utils.PyDataset):
    """Batches of eight labelled images, which count reads and draw random numbers."""

    def __init__(self):
        super().__init__()
        self.read = []

    def __len__(self):
        return 5

    def __getitem__(self, index):
        self.read.append(index)
        np.random.random(), random.random()
        return IMAGES[index * 8 :][:8], LABELS[index * 8 :][:8]


def generator():
    """Yield batches without end."""
    for i in itertools.count():
        yield IMAGES[i * 8 % 40 :][:8], LABELS[:8], np.ones(8)


def tf_dataset(*arrays):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0]).batch(8)


def loader(*arrays, **settings):
    import torch

    data = torch.utils.data.TensorDataset(*map(torch.as_tensor, arrays))
    return torch.utils.data.DataLoader(data, batch_size=8, **settings)


# --- which images are read ------------------------------------------------------------

FIRST = list(range(20))
SPREAD = np.linspace(0, 39, 20).round().astype(int).tolist()
BATCHES_0_2_4 = [*range(0, 8), *range(16, 24), *range(32, 36)]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: IMAGES, SPREAD),
        (lambda: keras.ops.convert_to_tensor(IMAGES), SPREAD),
        (lambda: (IMAGES, LABELS), SPREAD),
        (lambda: [(IMAGES[i : i + 8], LABELS[i : i + 8]) for i in range(0, 40, 8)], BATCHES_0_2_4),
        (Batches, BATCHES_0_2_4),
        (generator, FIRST),
        (lambda: iter([IMAGES[:15], IMAGES[15:]]), FIRST),
        pytest.param(lambda: tf_dataset(IMAGES), FIRST, marks=needs_tensorflow),
        pytest.param(lambda: tf_dataset(IMAGES, LABELS), FIRST, marks=needs_tensorflow),
        pytest.param(lambda: loader(IMAGES), FIRST, marks=needs_torch),
        pytest.param(lambda: loader(IMAGES, LABELS), FIRST, marks=needs_torch),
    ],
    ids=[
        "array", "tensor", "tuple", "list", "PyDataset", "generator", "arrays", "tf.data",
        "tf.data with labels", "DataLoader", "DataLoader with labels",
    ],
)  # fmt: skip
def test_a_bounded_number_of_images_is_read_from_any_data(make, expected):
    images = reading.read(make(), most=20)
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, IMAGES[expected].astype("float32"))


def test_all_images_are_read_if_there_are_fewer():
    np.testing.assert_array_equal(reading.read(Batches(), 99), IMAGES.astype("float32"))
    np.testing.assert_array_equal(reading.read(IMAGES, 99), IMAGES.astype("float32"))


def test_no_batch_is_read_that_is_not_needed():
    batches = Batches()
    reading.read(batches, most=8)
    assert batches.read.count(0) == len(batches.read) <= 2
    stream = generator()
    reading.read(stream, most=9)
    np.testing.assert_array_equal(next(stream)[0], IMAGES[16:24])


@pytest.mark.parametrize("make", [lambda: IMAGES, Batches, generator])
def test_fewer_large_images_are_read(make, monkeypatch):
    monkeypatch.setattr(reading, "MOST_BYTES", 10 * IMAGES[0].size * 4 + 3)
    assert len(reading.read(make(), most=20)) == 10


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.2], (0, 1)),
        ([0, 1], (0, 1)),
        ([-0.2, 0.9], (-1, 1)),
        ([0, 255], (0, 255)),
        ([3, 131], (0, 255)),
        ([3, 130], (3, 130)),
        ([100, 200], (100, 200)),
        ([200], (0, 255)),
        ([0, 100], (0, 100)),
        ([0, 1.5], (0, 1.5)),
        ([-0.5, 0.5], (-0.5, 0.5)),
        ([-0.1, 0.1], (-0.1, 0.1)),
        ([0, 0.5], (0, 0.5)),
        ([0, 0.51], (0, 1)),
        ([-2.1, 2.6], (-2.1, 2.6)),
        ([0, 65535], (0, 65535)),
    ],
)
def test_the_range_of_values_is_a_usual_one_or_their_own(values, expected):
    assert find_values_range(np.array(values)) == expected


def test_whole_numbers_keep_their_values():
    pixels = np.arange(2 * 4 * 4).reshape(2, 4, 4, 1).astype("uint8")
    assert reading.read(pixels, 2).ravel().tolist() == list(range(32))


@pytest.mark.parametrize(
    ("axes", "given", "shape"),
    [
        ("hwc", IMAGES, (6, 5, 3)),
        ("hwc", IMAGES, (None, None, 3)),
        ("chw", IMAGES.transpose(0, 3, 1, 2), (6, 5, 3)),
        ("hw", IMAGES[..., 0], (6, 5, 1)),
    ],
)
def test_the_models_own_axes_become_those_of_images(axes, given, shape):
    expected = IMAGES[..., :1] if axes == "hw" else IMAGES
    np.testing.assert_array_equal(to_images(given, axes, shape), expected)


@pytest.mark.parametrize("axes", ["wc", "cw"])
def test_signals_become_images_of_height_one(axes):
    signals = IMAGES[:, 0]
    given = signals if axes == "wc" else signals.transpose(0, 2, 1)
    np.testing.assert_array_equal(to_images(given, axes, (1, 5, 3)), signals[:, None])


@pytest.mark.parametrize(
    ("axes", "given"),
    [("hwc", (4, 3, 6, 5)), ("chw", (4, 6, 5, 3)), ("wc", (4, 6, 5, 3)), ("hwc", (4, 6, 5))],
)
def test_inputs_that_the_model_does_not_take_are_refused(axes, given):
    with pytest.raises(ValueError, match="`probe_data`.*Received: "):
        to_images(np.zeros(given), axes, (6, 5, 3))


@pytest.mark.parametrize(
    ("axes", "given"), [("hwc", (6, 5, 3)), ("chw", (3, 6, 5)), ("hwc", (6, 6, 3))]
)
def test_one_image_without_the_axis_of_images_is_recognised(axes, given):
    with pytest.raises(ValueError, match=r"without the axis of the images. Pass `x\[:1\]`"):
        to_images(np.zeros(given), axes, (6, None, 3))


# --- what is refused ------------------------------------------------------------------


def images_of(data, shape=(6, 5, 3)):
    """Return the images in probe data for a model of one input."""
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten()])
    found = ProbeImages(data).of_inputs(model)
    return images_of_inputs(found, model, inputs.resolve(model)[0])


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((3, 6)),
        np.zeros((3, 2, 6, 5, 3)),
        np.zeros((0, 6, 5, 3)),
        np.full((2, 6, 5, 3), np.nan),
        np.full((2, 6, 5, 3), "word"),
        [],
        [np.zeros((2, 6, 5, 3)), np.zeros((2, 7, 5, 3))],
        "images",
        5,
        {"labels": LABELS},
    ],
    ids=[
        "vectors", "volumes", "none", "nan", "strings", "empty", "sizes", "text", "number", "dict",
    ],
)  # fmt: skip
def test_data_without_images_are_refused(data):
    with pytest.raises(ValueError, match="`probe_data`.*Received: "):
        images_of(data)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_named(value):
    data = IMAGES.copy()
    data[0, 0, :2, 0] = value
    with pytest.raises(ValueError, match="`probe_data`.*2 values are NaN or infinite"):
        images_of(data)


@needs_tensorflow
@pytest.mark.parametrize(
    "data", [lambda x, y: x, lambda x, y: (x, y), lambda x, y: ({"image": x}, y)]
)
def test_a_data_set_that_is_not_batched_is_told(data):
    import tensorflow as tf

    one_by_one = tf.data.Dataset.from_tensor_slices(data(IMAGES, LABELS))
    with pytest.raises(ValueError, match=r"\.batch\(32\)"):
        images_of(one_by_one)


# --- several inputs -------------------------------------------------------------------

OTHER = np.random.default_rng(1).random((40, 6, 5, 3))
AGES = np.arange(40.0)[:, None]


def two_inputs(second):
    photo, other = keras.Input((6, 5, 3), name="photo"), keras.Input(second, name="other")
    flat = [keras.layers.Flatten()(one) for one in (photo, other)]
    return keras.Model([photo, other], keras.layers.Concatenate()(flat))


@pytest.mark.parametrize(
    ("second", "data"),
    [
        ((6, 5, 3), [IMAGES, OTHER]),
        ((6, 5, 3), (IMAGES, OTHER)),
        ((6, 5, 3), {"other": OTHER, "photo": IMAGES}),
        ((6, 5, 3), ([IMAGES, OTHER], LABELS)),
        ((6, 5, 3), [([IMAGES[:20], OTHER[:20]], LABELS), ([IMAGES[20:], OTHER[20:]], LABELS)]),
        ((6, 5, 3), iter([({"photo": IMAGES, "other": OTHER}, LABELS, LABELS)])),
        ((1,), [IMAGES, AGES]),
        ((1,), ((IMAGES, AGES), LABELS)),
        ((1,), {"photo": IMAGES, "other": AGES, "name": LABELS}),
    ],
    ids=[
        "list", "tuple", "dict", "list and labels", "batches of lists", "batches of dicts",
        "image and number", "tuple and labels", "dict of more",
    ],
)  # fmt: skip
def test_each_input_gets_its_own_examples(second, data):
    found = ProbeImages(data).of_inputs(two_inputs(second))
    np.testing.assert_array_equal(found[0], IMAGES.astype("float32"))
    expected = OTHER if second == (6, 5, 3) else AGES
    np.testing.assert_array_equal(found[1], expected.astype("float32"))


class Weighted(Batches):
    """Batches of eight examples of two named inputs, with labels and weights."""

    def __getitem__(self, index):
        photos, labels = super().__getitem__(index)
        return {"age": AGES[labels], "photo": photos}, labels, np.full(len(labels), 0.5)


def test_named_inputs_of_a_py_dataset_are_read_beside_labels_and_weights():
    photo, age = keras.Input((6, 5, 3), name="photo"), keras.Input((1,), name="age")
    flat = keras.layers.Concatenate()([age, keras.layers.Flatten()(photo)])
    data = ProbeImages(Weighted())
    model = keras.Model({"photo": photo, "age": age}, flat)
    found = data.of_inputs(model)
    by_name = {name: found[place] for place, name in enumerate(inputs.names(model))}
    np.testing.assert_array_equal(by_name["photo"], IMAGES.astype("float32"))
    np.testing.assert_array_equal(by_name["age"], AGES.astype("float32"))
    np.testing.assert_array_equal(data.labels, LABELS)
    some, labels = reading.read_labelled(Weighted(), most=20)
    np.testing.assert_array_equal(some["photo"], IMAGES[BATCHES_0_2_4].astype("float32"))
    np.testing.assert_array_equal(labels, BATCHES_0_2_4)


def test_images_alone_are_those_of_the_input_that_takes_them():
    photo, age = keras.Input((6, 5, 3), name="photo"), keras.Input((1,), name="age")
    flat = keras.layers.Concatenate()([age, keras.layers.Flatten()(photo)])
    assert list(ProbeImages(IMAGES).of_inputs(keras.Model([age, photo], flat))) == [1]


def test_a_list_is_of_batches_for_a_model_of_one_input():
    np.testing.assert_array_equal(images_of([IMAGES[:20], IMAGES[20:]]), IMAGES.astype("float32"))


@needs_tensorflow
def test_strings_of_a_data_set_are_read_beside_images():
    """TensorFlow gives strings as objects."""
    import tensorflow as tf

    sites = np.array([["north"], ["south"]] * 20)
    data = tf.data.Dataset.from_tensor_slices(({"photo": IMAGES, "site": sites}, LABELS)).batch(8)
    found = reading.read(data)
    np.testing.assert_array_equal(found["photo"], IMAGES.astype("float32"))
    assert [one.decode() for one in found["site"][:, 0]] == sites[:, 0].tolist()


def test_bytes_stay_bytes():
    assert images_of((IMAGES * 255).astype("uint8")).dtype == "uint8"


class WithPreprocessor(keras.Sequential):
    """A model that takes images in [-1, 1], trained by `fit` on bytes."""

    @staticmethod
    def preprocessor(x, y=None, sample_weight=None):
        return x / 127.5 - 1 if y is None else (x / 127.5 - 1, y)


def test_a_preprocessor_is_applied():
    model = WithPreprocessor([keras.Input((6, 5, 3)), keras.layers.Flatten()])
    found = ProbeImages((IMAGES * 255, LABELS)).of_inputs(model)[0]
    np.testing.assert_allclose(found, IMAGES * 2 - 1, atol=1e-5)


@pytest.mark.parametrize("value", [5.0, -3.0, 1000.0])
def test_one_value_has_no_range(value):
    with pytest.raises(ValueError, match=f"`probe_data`.*nothing but {value:g}"):
        find_values_range(np.full((2, 6, 5, 3), value))


# --- what is restored -----------------------------------------------------------------


def test_the_global_random_states_are_restored():
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    with random_states_preserved():
        reading.read(Batches(), 20)
    assert (random.random(), np.random.random()) == expected


@needs_torch
@pytest.mark.parametrize("own", [True, False], ids=["own generator", "global generator"])
def test_a_shuffling_loader_gives_training_the_order_that_it_would_have_had(own):
    import torch

    def orders(read):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(4) if own else None
        batches = loader(IMAGES, LABELS, shuffle=True, generator=generator)
        if read:
            with random_states_preserved():
                reading.read(batches, 20)
        return [labels.tolist() for _ in range(2) for _, labels in batches]

    assert orders(read=True) == orders(read=False)


@needs_tensorflow
def test_reading_another_data_set_keeps_the_order_of_training():
    import tensorflow as tf

    def orders(read):
        tf.random.set_seed(3)
        training = tf_dataset(IMAGES, LABELS).shuffle(5)
        if read:
            reading.read(tf_dataset(IMAGES, LABELS), 20)
        return [labels.numpy().tolist() for _ in range(2) for _, labels in training]

    assert orders(read=True) == orders(read=False)
