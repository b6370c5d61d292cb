"""Which layers receive the optimised image, and what is refused."""

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, Objective, optimize
from featviz_callback.objectives import inputs
from featviz_callback.objectives.reachability import Reach, require_path
from featviz_callback.objectives.recording import Tap, record
from tests.conftest import fill, random_images, to_numpy

IMAGE, SENSOR = (6, 6, 1), (5, 2)


def two_inputs():
    return keras.Input(IMAGE, name="image"), keras.Input(SENSOR, name="sensor")


def two_branches():
    """One branch sees the image, one the sensor, and the head both."""
    image, sensor = two_inputs()
    sees = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 3, name="see")(image))
    hears = layers.GlobalAveragePooling1D()(layers.Conv1D(3, 3, name="hear")(sensor))
    both = layers.Concatenate(name="both")([sees, hears])
    return fill(keras.Model([image, sensor], layers.Dense(2, name="out")(both), name="two"))


def nested_branches():
    """The branches are one nested model, whose outputs see one input each."""
    image, sensor = two_inputs()
    see = layers.Conv2D(3, 3, name="see")(image)
    hear = layers.Conv1D(3, 3, name="hear")(sensor)
    branches = keras.Model([image, sensor], [see, hear], name="branches")
    image, sensor = two_inputs()
    see, hear = branches([image, sensor])
    sees = layers.Dense(3, name="behind_see")(layers.GlobalAveragePooling2D()(see))
    hears = layers.Dense(3, name="behind_hear")(layers.GlobalAveragePooling1D()(hear))
    return fill(keras.Model([image, sensor], layers.Concatenate(name="out")([sees, hears])))


def nested_by_name():
    """A nested model gets its inputs in a dict, in another order than it has them."""
    image, sensor = two_inputs()
    sees = layers.Dense(3, name="see")(layers.GlobalAveragePooling2D()(image))
    hears = layers.Dense(3, name="hear")(layers.GlobalAveragePooling1D()(sensor))
    inner = keras.Model({"b": image, "a": sensor}, [sees, hears], name="inner")
    image, sensor = two_inputs()
    outputs = inner({"a": sensor, "b": image})
    return fill(keras.Model([image, sensor], layers.Concatenate(name="out")(outputs)))


def shared_layer():
    """One layer, called on the sensor first and then on the image."""
    image, sensor = two_inputs()
    shared = layers.Dense(3, name="shared")
    hears = shared(layers.Dense(4)(layers.Flatten()(sensor)))
    sees = shared(keras.ops.tanh(layers.Dense(4, name="first")(layers.Flatten()(image))))
    return fill(keras.Model([image, sensor], layers.Concatenate(name="out")([hears, sees])))


def with_sequential():
    """Each branch is a sequential model."""
    image, sensor = two_inputs()
    see = keras.Sequential([layers.Flatten(), layers.Dense(3, name="dense")], name="see")
    hear = keras.Sequential([layers.Flatten(), layers.Dense(3, name="dense")], name="hear")
    return fill(keras.Model([image, sensor], layers.Add(name="out")([see(image), hear(sensor)])))


def arguments_for(model, images):
    """The model's argument: these images, and the same signals each time."""
    signals = np.repeat(random_images(1, *SENSOR, seed=1), len(images), axis=0)
    both = {"image": images, "sensor": signals}
    return [keras.ops.convert_to_tensor(both[name]) for name in inputs.names(model)]


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (two_branches, ["see", "hear", "both", "out"]),
        (
            nested_branches,
            ["branches/see", "branches/hear", "behind_see", "behind_hear", "out"],
        ),
        (nested_by_name, ["inner/see", "inner/hear", "out"]),
        (shared_layer, ["first", "shared", "shared:1", "out"]),
        (with_sequential, ["see", "hear", "see/dense", "hear/dense", "out"]),
    ],
)
def test_a_layer_is_reached_if_its_output_changes_with_the_image(make, paths):
    model = make()
    reach = Reach(model, [inputs.names(model).index("image")])
    for path in paths:
        name, _, call = path.partition(":")
        tap = Tap(name, call=int(call or 0))
        [outputs] = record(model, arguments_for(model, random_images(2, *IMAGE)), [tap])
        first, second = to_numpy(outputs)
        assert reach.includes(tap) == (not np.array_equal(first, second)), path


def test_a_nested_model_that_finds_its_inputs_by_name_is_reached_as_a_whole():
    """A list of inputs is given as a dict, so nobody here says which is which."""
    first, second = keras.Input(IMAGE, name="z"), keras.Input(SENSOR, name="a")
    flat = [layers.Flatten(name="see")(first), layers.Flatten(name="hear")(second)]
    inner = keras.Model([first, second], flat, name="inner")
    image, sensor = two_inputs()
    model = keras.Model([image, sensor], layers.Concatenate()(inner({"a": sensor, "z": image})))
    reach = Reach(model, [0])
    assert reach.includes(Tap("inner/see")) is True
    assert reach.includes(Tap("inner/hear")) is True


class Branches(keras.Model):
    """A model with a `call` of its own, and two branches."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.flat = layers.Flatten()
        self.see = layers.Dense(2, name="see")
        self.hear = layers.Dense(2, name="hear")

    def call(self, both):
        return self.see(self.flat(both[0])) + self.hear(self.flat(both[1]))


def test_nobody_knows_which_layers_of_a_subclassed_model_are_reached():
    model = Branches()
    model([np.zeros((1, *IMAGE)), np.zeros((1, *SENSOR))])
    assert Reach(model, [0]).includes(Tap("hear")) is None
    held = {1: np.zeros(SENSOR)}
    result = optimize(Objective.neuron(model, "hear", 0), steps=1, fixed_inputs=held)
    assert result.names == ["Neuron#hear_0"]


def test_a_subclassed_part_is_reached_if_what_it_receives_is():
    image, sensor = two_inputs()
    other = keras.Input(SENSOR, name="other")
    sees, hears = Branches(name="sees"), Branches(name="hears")
    outputs = layers.Add()([sees([image, sensor]), hears([sensor, other])])
    reach = Reach(keras.Model([image, sensor, other], outputs), [0])
    assert reach.includes(Tap("sees")) is True
    assert reach.includes(Tap("sees/hear")) is None
    assert reach.includes(Tap("hears")) is False
    assert reach.includes(Tap("hears/see")) is False


class Rewired(keras.Model):
    """A functional model whose own `call` runs something else than its graph."""

    def call(self, both):
        image, _ = both
        return self.get_layer("hear")(keras.ops.reshape(image, (-1, 36)))


def test_a_graph_that_does_not_run_tells_nothing():
    image, sensor = keras.Input(IMAGE), keras.Input((36,))
    hears = layers.Dense(3, name="hear")(sensor)
    model = Rewired(
        [image, sensor], layers.Add()([layers.Dense(3)(layers.Flatten()(image)), hears])
    )
    assert Reach(model, [0]).includes(Tap("hear")) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda model: Objective.channel(model, "hear", 0),
        lambda model: Objective.channel(model, "see", 0) + Objective.channel(model, "hear", 0),
        lambda model: Objective.layer(model, "hear"),
        lambda model: Objective.custom(model, "hear", lambda x: x[:, 0, 0]),
    ],
    ids=["channel", "sum", "layer", "custom"],
)
def test_a_target_without_a_path_is_refused_before_anything_is_optimised(make):
    with pytest.raises(ValueError, match="no path from the image to the layer 'hear'") as refusal:
        optimize(make(two_branches()), steps=1, fixed_inputs={"sensor": 0.5})
    assert "'image'" in str(refusal.value)
    assert "`fixed_inputs`" in str(refusal.value)


def test_the_other_input_may_be_optimised():
    objective = Objective.channel(two_branches(), "hear", 0)
    result = optimize(objective, steps=2, fixed_inputs={"image": 0.5})
    assert result.images.shape == (1, *SENSOR)
    assert result.history[-1, 0] != result.history[0, 0]
    see = Objective.channel(objective.model, "see", 0)
    with pytest.raises(ValueError, match="no path from the image to the layer 'see'"):
        optimize(see, steps=1, fixed_inputs={"image": 0.5})


def test_a_function_of_several_layers_needs_a_path_to_one_of_them():
    model = two_branches()

    def product(outputs):
        return keras.ops.mean(outputs[0], axis=(1, 2, 3)) * keras.ops.mean(outputs[1], axis=(1, 2))

    image_input, _ = inputs.resolve(model, {"sensor": 0.5})
    require_path(Objective.custom(model, ["hear", "see"], product), image_input)
    with pytest.raises(ValueError, match="no path"):
        require_path(Objective.custom(model, ["hear", "hear"], product), image_input)


def test_the_callback_refuses_it_before_training(tmp_path):
    model = two_branches()
    model.compile("sgd", "mse")
    before = model.get_weights()
    callback = FeatureVisCallback(
        lambda model: Objective.channel(model, "hear", 0),
        log_dir=tmp_path,
        steps=1,
        fixed_inputs={"sensor": 0.5},
    )
    data = [random_images(4, *IMAGE), random_images(4, *SENSOR)]
    with pytest.raises(ValueError, match="no path from the image"):
        model.fit(data, np.ones((4, 2)), verbose=0, callbacks=[callback])
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
