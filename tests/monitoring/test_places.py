"""Where real images activate a unit, against networks that detect a pattern at a known place."""

import gc
import weakref

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective
from featviz_callback.monitoring import places
from featviz_callback.monitoring.places import Place, Places
from featviz_callback.objectives import join_alike
from tests.conftest import prepare, sequential

RNG = np.random.default_rng(0)
PATTERN = RNG.normal(size=(5, 5, 1)).astype("float32")
CORNERS = [(3, 10), (12, 2), (0, 0), (15, 15), (7, 6)]


def planted(corners=CORNERS, size=20, pattern=PATTERN):
    """Faint noise, with the pattern at one corner in each image."""
    images = 0.05 * np.random.default_rng(1).normal(size=(len(corners), size, size, 1))
    for image, (top, left) in zip(images, corners, strict=True):
        image[top : top + len(pattern), left : left + pattern.shape[1]] += pattern
    return images.astype("float32")


def detector(**settings):
    """A convolution whose channel 1 detects the pattern, and 0 and 2 do not."""
    settings = {"padding": "same", "activation": "relu", **settings}
    model = sequential(layers.Conv2D(3, 5, name="conv", **settings), shape=(20, 20, 1))
    kernel = np.random.default_rng(2).normal(size=(5, 5, 1, 3)).astype("float32")
    kernel[..., 1] = PATTERN
    model.get_layer("conv").set_weights([kernel, np.zeros(3, "float32")])
    return model


def find(objective, images, top=None, **settings):
    """Return the places of an objective's targets in those images."""
    [joined] = join_alike([objective])
    task = prepare(joined, **settings)
    top = [range(len(images))] * len(joined) if top is None else top
    return Places(images).of_task(task, top)


def box_of(top, left, height=5, width=5):
    return (top, top + height), (left, left + width)


def highest(place, size=(20, 20)):
    """Return the pixel at which the drawn activation is highest."""
    return np.unravel_index(np.argmax(place.over_image(*size)), size)


# --- planted patterns -----------------------------------------------------------------


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_box_is_the_planted_pattern(padding):
    [found] = find(Objective.channel(detector(padding=padding), "conv", 1), planted())
    for place, (top, left) in zip(found, CORNERS, strict=True):
        assert place.box == box_of(top, left)
        drawn = place.over_image(20, 20)
        assert drawn.max() == pytest.approx(1)
        assert drawn[top + 2, left + 2] == pytest.approx(1)
        row, column = highest(place)
        assert 0 <= row - top < 5
        assert 0 <= column - left < 5


def test_a_box_at_the_edge_ends_there():
    images = planted([(0, 0)])
    images[0] = np.roll(images[0], (-2, -1), (0, 1))
    images[0, -2:], images[0, :, -1:] = 0, 0
    [[place]] = find(Objective.channel(detector(), "conv", 1), images)
    assert place.box == ((0, 3), (0, 4))


def test_each_target_has_its_own_places_in_its_own_images():
    model = detector()
    both = Objective.channel(model, "conv", [1, 0])
    (first, other), (alone,) = find(both, planted(), top=[[4, 0], [2]])
    assert (first.box, other.box) == (box_of(*CORNERS[4]), box_of(*CORNERS[0]))
    maps = model.predict(planted(), verbose=0)[2, ..., 0]
    expected = np.round(255 * maps / maps.max())
    np.testing.assert_allclose(alone.activation, expected, atol=1)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_negative_target_is_activated_where_the_unit_is_lowest(sign):
    model = detector(activation=None)
    images = sign * planted()
    [found] = find(sign * Objective.channel(model, "conv", 1), images)
    assert [place.box for place in found] == [box_of(*corner) for corner in CORNERS]


@pytest.mark.parametrize(
    "make",
    [
        lambda model: Objective.direction(model, "conv", np.eye(3, dtype="float32")[1]),
        lambda model: Objective.layer(model, "conv"),
        lambda model: Objective.neuron(model, "conv", (5, 12, 1)),
    ],
    ids=["direction", "layer", "neuron"],
)
def test_other_objectives_of_a_map_have_places(make):
    [[place]] = find(make(detector()), planted(CORNERS[:1]))
    assert place.box == box_of(3, 10)
    assert np.hypot(*np.subtract(highest(place), (5, 12))) <= 1.5


def test_a_neuron_has_its_own_position_wherever_its_channel_is_highest():
    [[place]] = find(
        Objective.neuron(detector(activation=None), "conv", (9, 4, 1)), planted([(0, 9)])
    )
    assert place.box == box_of(7, 2)


@pytest.mark.acceptance
def test_the_box_of_deep_layers_is_what_changes_the_unit():
    """Finite differences tell the receptive field, pooling, strides and dilation included."""
    keras.utils.set_random_seed(0)
    model = sequential(
        layers.Conv2D(4, 3, activation="softplus"),
        layers.AveragePooling2D(2),
        layers.Conv2D(4, 3, dilation_rate=2, activation="softplus", name="conv"),
        shape=(40, 40, 1),
    )
    for variable in model.trainable_variables:
        variable.assign(keras.ops.abs(variable))
    [image] = np.random.default_rng(3).uniform(size=(1, 40, 40, 1)).astype("float32")
    [[place]] = find(Objective.channel(model, "conv", 2), image[None])
    maps = model.predict(image[None], verbose=0)[0, ..., 2]
    row, column = np.unravel_index(np.argmax(maps), maps.shape)
    changed = []
    for pixel in range(40):
        lines = np.stack([image, image])
        lines[0, pixel], lines[1, :, pixel] = 2, 2
        changed.append(model.predict(lines, verbose=0)[:, row, column, 2] > maps[row, column])
    for edges, along in zip(place.box, np.transpose(changed), strict=True):
        field = np.flatnonzero(along)
        # The outer pixels count less.
        assert field[0] <= edges[0] <= field[0] + 2
        assert field[-1] - 1 <= edges[1] <= field[-1] + 1


# --- other shapes ---------------------------------------------------------------------


def test_vectors_sums_and_functions_have_no_place():
    model = sequential(
        layers.Conv2D(3, 5, name="conv"), layers.Flatten(), layers.Dense(2, name="logits"),
        shape=(20, 20, 1),
    )  # fmt: skip
    conv = Objective.channel(model, "conv", 1)
    for objective in (
        Objective.neuron(model, "logits", 1),
        conv + Objective.neuron(model, "logits", 1),
        Objective.custom(model, "conv", lambda output: output[:, 0, 0, 0]),
    ):
        assert find(objective, planted()) == [[None] * 5]


def test_an_image_that_does_not_activate_the_unit_has_no_place():
    [found] = find(Objective.channel(detector(), "conv", 1), np.zeros((2, 20, 20, 1), "float32"))
    assert found == [None, None]


def test_what_is_no_number_has_no_place():
    images = planted()
    model = detector()
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * np.nan, bias])
    assert find(Objective.channel(model, "conv", 1), images) == [[None] * 5]


def test_a_signal_has_a_stretch():
    kernel = np.random.default_rng(4).normal(size=(7, 1, 1)).astype("float32")
    model = sequential(layers.Conv1D(1, 7, activation="relu", name="conv"), shape=(50, 1))
    model.get_layer("conv").set_weights([kernel, np.zeros(1, "float32")])
    signals = np.zeros((2, 1, 50, 1), "float32")
    signals[0, 0, 20:27], signals[1, 0, 41:48] = kernel[..., 0], kernel[..., 0]
    [found] = find(Objective.channel(model, "conv", 0), signals)
    assert [place.box for place in found] == [((0, 1), (20, 27)), ((0, 1), (41, 48))]
    assert [abs(highest(place, (1, 50))[1] - middle) <= 1 for place, middle in
            zip(found, (23, 44), strict=True)] == [True, True]  # fmt: skip


def tokens(attention):
    """A small vision transformer's tokens, the unit of which detects a pattern in a patch."""
    image = keras.Input((20, 20, 1))
    patches = layers.Conv2D(4, 5, strides=5, name="patches")(image)
    found = layers.Reshape((16, 4))(patches)
    if attention:
        found = found + 0.3 * layers.MultiHeadAttention(1, 4, name="attention")(found, found)
    found = layers.Dense(3, activation="relu", name="hidden")(found)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(found)))
    kernel, bias = model.get_layer("patches").get_weights()
    kernel[..., 0] = PATTERN
    model.get_layer("patches").set_weights([kernel, bias])
    weights = np.zeros((4, 3), "float32")
    weights[0, 1] = 1
    model.get_layer("hidden").set_weights([weights, np.zeros(3, "float32")])
    return model


@pytest.mark.parametrize("attention", [False, True])
def test_a_token_has_its_patch(attention):
    keras.utils.set_random_seed(1)
    corners = [(0, 5), (15, 10), (5, 5)]
    found = find(Objective.channel(tokens(attention), "hidden", 1), planted(corners))
    assert [place.box for place in found[0]] == [box_of(*corner) for corner in corners]
    assert found[0][0].activation is None
    np.testing.assert_array_equal(found[0][0].over_image(20, 20)[:5, 5:10], 1)


def test_a_token_that_reads_the_whole_image_has_no_place():
    image = keras.Input((20, 20, 1))
    mixed = layers.Reshape((8, 2))(layers.Dense(16)(layers.Flatten()(image)))
    mixed = layers.Dense(4, activation="relu", name="hidden")(mixed)
    model = keras.Model(image, layers.Dense(2)(layers.Flatten()(mixed)))
    assert find(Objective.channel(model, "hidden", 1), planted()) == [[None] * 5]


def test_bytes_that_the_model_tells_from_floats_have_no_place():
    images = np.round(255 * planted().clip(0, 1)).astype("uint8")
    assert find(Objective.channel(detector(), "conv", 1), images) == [[None] * 5]


# --- over a training ------------------------------------------------------------------


def test_places_are_kept_for_as_long_as_their_image_is_among_the_top_ones():
    model, images = detector(), planted()
    [joined] = join_alike([Objective.channel(model, "conv", [1, 2])])
    task, found = prepare(joined), Places(planted())
    (first, second), _ = found.of_task(task, [[0, 1], [2]])
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([np.roll(kernel, 1, axis=-1), bias])
    (again, new), (kept,) = found.of_task(task, [[1, 3], [2]])
    assert again is second
    # The new one is of the new weights, of which channel 2 detects the pattern.
    expected = model.predict(images[3:4], verbose=0)[0, ..., 1]
    np.testing.assert_allclose(new.activation, np.round(255 * expected / expected.max()), atol=1)
    (forgotten,), _ = found.of_task(task, [[0], [2]])
    assert forgotten is not first
    assert found.of_task(task, [[0], [2]])[1][0] is kept
    (swapped,), _ = found.of_task(task, [[3], []])
    assert isinstance(swapped, Place)


# Not an attribute, with which a layer would compute something else.
traces: list = []


class Counted(layers.Layer):
    """Counts how often its code runs, which is when it is traced."""

    def call(self, inputs):
        traces.append(1)
        return inputs


def test_nothing_is_compiled_anew_for_other_images_weights_or_units():
    if keras.backend.backend() == "torch":
        pytest.skip("Torch traces nothing.")
    model = detector()
    whole = sequential(Counted(), *model.layers, shape=(20, 20, 1))
    tasks = [prepare(j) for i in (0, 1) for j in join_alike([Objective.channel(whole, "conv", i)])]
    found = Places(planted())
    found.of_task(tasks[0], [[0, 1, 2]])
    count = len(traces)
    kernel, bias = model.get_layer("conv").get_weights()
    model.get_layer("conv").set_weights([kernel * 2, bias])
    found.of_task(tasks[0], [[3]])
    found.of_task(tasks[1], [[0, 1, 2, 3, 4]])
    assert len(traces) == count


def test_another_layer_of_the_same_name_is_seen():
    model = detector()
    objective = Objective.channel(model, "conv", 1)
    [[before]] = find(objective, planted([(8, 8)]))
    model.pop()
    model.add(layers.Conv2D(3, 3, padding="same", name="conv", kernel_initializer="ones"))
    [[after]] = find(objective, np.abs(planted([(8, 8)])))
    assert before.box == box_of(8, 8)
    assert [end - start for start, end in after.box] == [3, 3]


def test_compiled_steps_do_not_keep_a_model_alive():
    model = detector()
    find(Objective.channel(model, "conv", 1), planted())
    gone = weakref.ref(model)
    assert model in places._compiled_steps
    del model
    keras.backend.clear_session()
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ("mass", "expected"),
    [
        ([0, 0, 0.5, 0.5, 0, 0], (2, 4)),
        ([0.1, 0.1, 0.35, 0.25, 0.1, 0.1], (2, 4)),
        ([1 / 6] * 6, (0, 6)),
        ([0.9, 0.1, 0, 0, 0, 0], (0, 1)),
        ([0, 0, 0, 0, 0, 1], (5, 6)),
        ([1.0], (0, 1)),
    ],
)
def test_a_stretch_holds_what_is_denser_than_the_whole(mass, expected):
    assert places._stretch(np.array(mass)) == expected


def test_images_of_another_size_have_a_step_of_their_own():
    """What the first call takes is compiling, and is not counted as that of a snapshot."""
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(3, 5, name="conv")])
    [joined] = join_alike([Objective.channel(model, "conv", 1)])
    task = prepare(joined, image_shape=(20, 20))
    seconds = []
    for size in (20, 26, 20):
        found = Places(planted(size=size))
        found.of_task(task, [[0, 1]])
        seconds.append(found.compile_seconds)
    # Torch compiles nothing.
    if keras.backend.backend() != "torch":
        assert min(seconds[:2]) > 0
    assert seconds[2] == 0
