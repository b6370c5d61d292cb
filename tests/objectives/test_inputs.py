"""What a model takes: shapes, axes, and values for the inputs that are fixed."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback.objectives import NothingToShow, inputs
from featviz_callback.objectives.inputs import ImageInput, resolve, specs
from tests.conftest import random_images, sequential, tensor, to_numpy

CHANNELS_FIRST = {"data_format": "channels_first"}


def shapes(structure):
    return keras.tree.map_structure(lambda spec: spec.shape[1:], structure)


def two_inputs(kind=list):
    image, more = keras.Input((6, 5, 1), name="image"), keras.Input((3,), name="more")
    outputs = layers.concatenate([layers.Flatten()(image), more])
    inputs = {"image": image, "more": more} if kind is dict else [image, more]
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    """Takes whatever it is called with first."""

    def call(self, inputs):
        return sum(keras.ops.sum(one) for one in keras.tree.flatten(inputs))


def called(structure):
    model = Subclassed()
    model(structure)
    return model


# --- what it is called with -------------------------------------------------------------


def test_the_shapes_are_the_models():
    assert shapes(specs(sequential(layers.ReLU(), shape=(5, 7, 2)))) == (5, 7, 2)
    assert shapes(specs(two_inputs())) == [(6, 5, 1), (3,)]
    assert shapes(specs(two_inputs(dict))) == {"image": (6, 5, 1), "more": (3,)}
    assert shapes(specs(called(np.zeros((1, 4, 4, 1))))) == (4, 4, 1)
    both = {"image": np.zeros((1, 4, 4, 1)), "more": np.zeros((1, 2))}
    assert shapes(specs(called(both))) == {"image": (4, 4, 1), "more": (2,)}
    assert shapes(specs(called(list(both.values())))) == [(4, 4, 1), (2,)]


def test_a_model_that_is_not_built_is_refused():
    with pytest.raises(ValueError, match="is not built"):
        specs(keras.Sequential([layers.Dense(2)]))


def test_a_model_that_is_called_built_by_hand_has_no_known_shape():
    model = Subclassed()
    model.built = True
    model(np.zeros((1, 4, 4, 1)))
    with pytest.raises(NothingToShow, match=rf"no shape of the input of the model '{model.name}'"):
        specs(model)


def test_a_call_of_several_arguments_is_refused():
    class Several(keras.Model):
        def build(self, a_shape, b_shape):
            self.built = True

        def call(self, a, b):
            return a + b

    model = Several()
    model(np.zeros((1, 4, 4, 1)), np.zeros((1, 4, 4, 1)))
    with pytest.raises(ValueError, match="one argument"):
        specs(model)


# --- whose axes -------------------------------------------------------------------------


def to_channels_last(images):
    return keras.ops.transpose(images, (0, 2, 3, 1))


AXES = {
    "images": ((6, 5, 3), {}, [layers.Conv2D(2, 3)], "hwc", (6, 5, 3)),
    "any size": ((None, None, 3), {}, [layers.Conv2D(2, 3)], "hwc", (None, None, 3)),
    "channels first": (
        *((3, 6, 5), {}),
        *([layers.Rescaling(2.0), layers.Conv2D(2, 3, **CHANNELS_FIRST)], "chw", (6, 5, 3)),
    ),
    "channels first, turned by a layer": (
        *((3, 6, 5), {}, [layers.Permute((2, 3, 1)), layers.Conv2D(2, 3)], "chw", (6, 5, 3)),
    ),
    "channels first of any size, turned by an operation": (
        *((3, None, None), {}),
        *([layers.Lambda(to_channels_last), layers.Conv2D(2, 3)], "chw", (None, None, 3)),
    ),
    "grey channels first, turned by a new shape": (
        *((1, 6, 5), {}, [layers.Reshape((6, 5, 1)), layers.Conv2D(2, 3)], "chw", (6, 5, 1)),
    ),
    "three rows of many channels": (*((3, 6, 5), {}, [layers.Conv2D(2, 3)], "hwc", (3, 6, 5)),),
    "few columns": (
        *((3, 6, 4), {}, [layers.Permute((2, 3, 1)), layers.Conv2D(2, 3)], "hwc", (3, 6, 4)),
    ),
    "channels first behind a transposition": (
        *((6, 5, 3), {}),
        *([layers.Permute((3, 1, 2)), layers.Conv2D(2, 3, **CHANNELS_FIRST)], "hwc", (6, 5, 3)),
    ),
    "signals": ((6, 3), {}, [layers.Conv1D(2, 3)], "wc", (1, 6, 3)),
    "signals with channels first": (
        *((3, 6), {}, [layers.Conv1D(2, 3, **CHANNELS_FIRST)], "cw", (1, 6, 3)),
    ),
    "grey": ((6, 5), {"image_rank": 3}, [layers.Flatten()], "hw", (6, 5, 1)),
}


@pytest.mark.parametrize("case", AXES)
def test_axes_are_told_by_their_number_and_by_the_layers(case):
    shape, settings, inner, axes, expected = AXES[case]
    model = keras.Sequential([keras.Input(shape), *inner])
    assert resolve(model, **settings) == (ImageInput(axes, expected, None), ())


@pytest.mark.parametrize(
    ("inner", "settings", "says"),
    [
        ([layers.Conv2D(2, 3)], {}, True),
        ([layers.Flatten(), layers.Dense(2)], {}, True),
        ([layers.Conv2D(2, 3)], {"image_rank": 3}, False),
        ([layers.Permute((2, 3, 1)), layers.Conv2D(2, 3)], {}, False),
    ],
    ids=["rows", "flat", "given", "turned"],
)
def test_three_rows_that_may_be_channels_are_said_with_a_recipe(inner, settings, says, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = keras.Sequential([keras.Input((3, 6, 5)), *inner])
    resolve(model, **settings)
    assert ("3 x 6 pixels with 5 channels" in caplog.text) == says
    if says:
        recipe = caplog.text.partition("`objectives` of ")[2].rstrip().rstrip(".")
        front = eval(recipe, {"keras": keras, "model": model})
        images = random_images(2, 6, 5, 3)
        expected = model(tensor(images.transpose(0, 3, 1, 2)))
        np.testing.assert_array_equal(to_numpy(front(tensor(images))), to_numpy(expected))


@pytest.mark.parametrize("axes", ["hwc", "chw", "wc", "cw", "hw"])
def test_images_become_what_the_model_takes(axes):
    sizes = {"h": 6 if "h" in axes else 1, "w": 5, "c": 3 if "c" in axes else 1}
    images = random_images(2, *sizes.values())
    one = ImageInput(axes, tuple(sizes.values()), None)
    model_images = to_numpy(one.to_model(tensor(images)))
    assert model_images.shape == (2, *(sizes[axis] for axis in axes))
    for index in np.ndindex(*model_images.shape[1:]):
        place = {"h": 0, "w": 0, "c": 0} | dict(zip(axes, index, strict=True))
        np.testing.assert_array_equal(
            model_images[:, *index], images[:, place["h"], place["w"], place["c"]]
        )


def test_signals_lose_and_regain_their_height():
    one = ImageInput("wc", (1, 6, 3), None)
    images = random_images(4, 2, 1, 6, 3)
    assert one.to_given(images).shape == (4, 2, 6, 3)
    np.testing.assert_array_equal(one.to_images(one.to_given(images[0])), images[0])


def test_channels_may_be_left_out_of_a_shape():
    assert ImageInput("wc", (1, None, 3), None).complete((8,)) == (1, 8, 3)
    assert ImageInput("wc", (1, None, 3), None).complete((8, 3)) == (1, 8, 3)
    assert ImageInput("chw", (None, None, 3), None).complete((8, 7)) == (8, 7, 3)


@pytest.mark.parametrize("shape", [(5,), (4, 4, 4, 1)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="Expected a model with one input of images"):
        resolve(keras.Sequential([keras.Input(shape), layers.Dense(2)]))


@pytest.mark.parametrize(
    ("shape", "apart"),
    [
        *(((784,), None), ((192,), None), ((6, 6, 4, 1), 2), ((5, 7, 3, 2), 2), ((6, 6, 6, 1), 2)),
        *(((3, 6, 6, 2), 0), ((9, 6, 6, 1), 0), ((5, 12, 16, 3), 0), ((20, 16, 12, 3), 0)),
    ],
    ids=[
        *("grey", "colour", "volume", "three sizes", "cube"),
        *("film", "long film", "wide film", "high film"),
    ],
)
def test_the_recipe_for_what_is_no_image_runs_and_keeps_the_order_of_values(shape, apart):
    """The model gets each value where it expects it: slices are channels, one after another."""
    model = keras.Sequential([keras.Input(shape), layers.Activation("linear")])
    with pytest.raises(ValueError, match="to see it|To see it") as refusal:
        resolve(model)
    recipe = str(refusal.value).partition("`objectives` of ")[2]
    front = eval(recipe, {"keras": keras, "model": model})
    taken = resolve(front)[0].shape
    images = np.arange(np.prod(taken), dtype="float32").reshape(1, *taken)
    received = np.asarray(front(images))[0]
    if len(shape) == 1:
        expected = images.ravel()
    else:
        expected = np.stack(np.split(images[0], shape[apart], axis=-1), axis=apart)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("shape", [(5,), (785,), (49,), (None, 8, 8, 1)])
def test_what_cannot_be_an_image_gets_no_recipe(shape):
    with pytest.raises(ValueError, match="Expected a model with one input") as refusal:
        resolve(keras.Sequential([keras.Input(shape), layers.Activation("linear")]))
    assert "objectives` of" not in str(refusal.value)


def test_whole_numbers_are_refused():
    model = keras.Sequential([keras.Input((4, 4, 1), dtype="uint8"), layers.Rescaling(1 / 255)])
    with pytest.raises(ValueError, match="is uint8.*name the model behind the cast.*no `dtype`"):
        resolve(model)


def bytes_and(shape):
    image = keras.Input((6, 5, 1), dtype="uint8", name="image")
    more = keras.Input(shape, name="more")
    return keras.Model([image, more], [image, more])


def test_bytes_beside_a_vector_are_refused_for_their_dtype():
    with pytest.raises(ValueError, match="The input 'image' .* is uint8.* no gradient"):
        resolve(bytes_and((3,)))


def test_why_bytes_beside_a_signal_are_passed_over_is_said(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    assert resolve(bytes_and((20, 4)))[0].position == 1
    assert "'image' at one (through uint8 there is no gradient)" in caplog.text


# --- inputs that are fixed -----------------------------------------------------------------

FIXED = np.array([1.0, 2.0, 3.0])


@pytest.mark.parametrize("kind", [list, dict])
@pytest.mark.parametrize("key", ["more", 1])
def test_an_input_is_held_by_name_or_place(kind, key):
    model = two_inputs(kind)
    one, fixed = resolve(model, {key: FIXED})
    assert one == ImageInput("hwc", (6, 5, 1), 0)
    images = random_images(2, 6, 5, 1)
    arguments = one.call_arguments(model, tensor(images), inputs.repeat(fixed, 2))
    expected = np.concatenate([images.reshape(2, -1), np.tile(FIXED, (2, 1))], axis=1)
    np.testing.assert_allclose(to_numpy(model(arguments)), expected)


def test_the_image_may_stand_anywhere_among_the_inputs():
    a, image, b = keras.Input((3,)), keras.Input((6, 5, 1)), keras.Input((2,), dtype="int32")
    model = keras.Model([a, image, b], a)
    one, fixed = resolve(model, {0: FIXED, 2: 7})
    assert one.position == 1
    assert [value.tolist() for value in fixed] == [FIXED.tolist(), [7, 7]]
    assert [value.dtype.name for value in fixed] == ["float32", "int32"]
    assert shapes(one.specs(model, (8, 8, 1))) == [(3,), (8, 8, 1), (2,)]


def test_inputs_of_a_subclassed_model_keep_their_kind():
    model = called([np.zeros((1, 4, 4, 1)), np.zeros((1, 2))])
    _, (fixed,) = resolve(model, {"1": np.array([1, 2])})
    assert fixed.dtype.kind == "i"
    _, (fixed,) = resolve(model, {1: 0.5})
    assert fixed.tolist() == [0.5, 0.5]
    assert fixed.dtype == np.float32
    # TensorFlow gives strings as objects.
    words = np.array([b"north", b"south"], dtype=object)
    _, (fixed,) = resolve(model, {1: words})
    assert fixed.tolist() == words.tolist()


def test_an_input_of_open_size_takes_that_of_its_value():
    image, more = keras.Input((6, 5, 1), name="image"), keras.Input((None, 2), name="more")
    _, (fixed,) = resolve(keras.Model([image, more], more), {"more": np.ones((4, 2))})
    assert fixed.shape == (4, 2)


@pytest.mark.parametrize(
    "fixed",
    [{"image": 0, "more": 0}, {"mor": 0}, {2: 0}, {"more": 0, 1: 0}, 3, [FIXED]],
    ids=str,
)
def test_what_leaves_no_image_is_refused_with_the_names_of_inputs(fixed):
    with pytest.raises(ValueError, match="`fixed_inputs`.*") as refusal:
        resolve(two_inputs(), fixed)
    assert not isinstance(fixed, dict) or "'image': (6, 5, 1), 'more': (3,)" in str(refusal.value)


def test_inputs_without_a_value_are_zero_or_like_real_ones(caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    image, more = keras.Input((6, 5, 1), name="image"), keras.Input((3,), name="more")
    kind = keras.Input((1,), dtype="int32", name="kind")
    model = keras.Model([more, image, kind], [more, image, kind])
    one, fixed = resolve(model)
    assert one.position == 1
    assert [value.tolist() for value in fixed] == [[0, 0, 0], [1]]
    assert "'image'" in caplog.text
    assert "'more' at zero, 'kind' at one" in caplog.text
    found = {0: np.array([[1, 2, 3], [3, 2, 1]]), 2: np.array([[4], [5]])}
    _, fixed = resolve(model, found=found)
    assert [value.tolist() for value in fixed] == [[2, 2, 2], [4]]
    assert "'more' at its mean over `probe_data`, 'kind' at its first example" in caplog.text
    _, fixed = resolve(model, {"more": 7.0}, found=found)
    assert [value.tolist() for value in fixed] == [[7, 7, 7], [4]]


def test_the_first_of_several_images_is_optimised():
    a, b = keras.Input((6, 5, 1), name="a"), keras.Input((6, 5, 1), name="b")
    assert resolve(keras.Model([a, b], [a, b]))[0].position == 0
    assert resolve(keras.Model([a, b], [a, b]), {"a": 0.5})[0].position == 1


@pytest.mark.parametrize(("shape", "warns"), [((28, 28), True), ((100, 3), False)])
def test_a_grey_image_that_looks_like_a_signal_is_told(shape, warns, caplog):
    caplog.set_level("WARNING", logger="featviz_callback")
    model = keras.Sequential([keras.Input(shape), layers.Flatten()])
    resolve(model)
    assert ("image_shape=(28, 28, 1)" in caplog.text) == warns


@pytest.mark.parametrize("value", [np.ones(4), np.ones((2, 3)), "three", None, [1, [2, 3]], np.inf])
def test_values_of_another_shape_or_kind_are_refused(value):
    with pytest.raises(ValueError, match=r"`fixed_inputs`.*'more' one example of shape \(3,\)"):
        resolve(two_inputs(), {"more": value})
