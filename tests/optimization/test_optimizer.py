"""Keras optimizers in place of the default update, by value."""

import keras
import numpy as np
import pytest

from featviz_callback import Objective, optimize
from featviz_callback.optimization import step
from tests.conftest import to_numpy


def test_an_optimizer_is_copied_and_can_be_used_again(neurons, small_model, images):
    adam = keras.optimizers.Adam(0.1)
    config = adam.get_config()
    first = optimize(neurons, steps=3, optimizer=adam).images
    np.testing.assert_array_equal(optimize(neurons, steps=3, optimizer=adam).images, first)
    assert adam.get_config() == config
    assert not adam.built
    assert int(to_numpy(adam.iterations)) == 0
    small_model.compile(adam, "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    assert int(to_numpy(adam.iterations)) == 1


def test_an_optimizer_in_use_is_not_changed(neurons, small_model, images):
    small_model.compile(keras.optimizers.Adam(0.01), "mse")
    small_model.fit(images, np.zeros((3, 10)), verbose=0)
    before = [to_numpy(v).copy() for v in small_model.optimizer.variables]
    optimize(neurons, steps=2, optimizer=small_model.optimizer)
    for variable, value in zip(small_model.optimizer.variables, before, strict=True):
        np.testing.assert_array_equal(to_numpy(variable), value)


def test_an_optimizer_can_be_named(neurons):
    named, given = (
        optimize(neurons, steps=2, optimizer=optimizer).images
        for optimizer in ("adam", keras.optimizers.Adam())
    )
    np.testing.assert_array_equal(named, given)


def test_an_optimizer_may_hold_another(small_model):
    inner = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    objective = Objective.neuron(small_model, "logits", 0)
    first, second = (optimize(objective, steps=2, optimizer=inner) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adamw", "nadam", "lion", "adafactor"])
def test_any_optimizer_of_keras_raises_the_scores(name, neurons):
    settings = {"parameterization": "pixel", "transformations": None}
    result = optimize(neurons, steps=3, optimizer=name, **settings)
    assert (result.scores >= result.history[0]).all()
    assert (result.scores > result.history[0]).any()


@pytest.mark.parametrize("optimizer", ["no such optimizer", 3], ids=str)
def test_what_is_no_optimizer_is_refused(optimizer, neurons, small_model):
    with pytest.raises(ValueError, match="`optimizer`"):
        optimize(neurons, optimizer=optimizer)
    assert small_model not in step.compiled_steps
