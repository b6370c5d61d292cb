"""Layers found by name, path and call."""

from keras import layers

from featviz_callback.objectives.layers import find_call
from featviz_callback.objectives.recording import Tap
from tests.conftest import (
    sequential,
)


def test_a_call_is_given_behind_a_colon(shared_model):
    shared = shared_model.get_layer("shared")
    assert find_call(shared_model, "shared") == ("shared", shared, 0)
    assert find_call(shared_model, "shared:1") == ("shared", shared, 1)
    assert find_call(shared_model, shared) == ("shared", shared, 0)
    assert (Tap("shared").name, Tap("shared", call=1).name) == ("shared", "shared:1")


def test_a_colon_may_be_part_of_a_name():
    model = sequential(layers.ReLU(name="relu"), layers.ReLU(name="relu:1"))
    assert find_call(model, "relu:1") == ("relu:1", model.layers[1], 0)
