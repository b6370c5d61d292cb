"""What must hold for every family: training stays the same, and its own layers are shown.

`family.py` says what is expected of each family, by its published code.
"""

import math

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective, optimize
from tests.conftest import set_random_seed


def parametrized(modules):
    """Return the marks of a test of the families of some modules.

    Elsewhere than on TensorFlow it is every third one that trains there.
    """
    backend = keras.backend.backend()
    here = [one for module in modules for one in module.FAMILIES if backend in one.backends]
    chosen = here if backend == "tensorflow" else here[::3]
    each = pytest.mark.parametrize("family", chosen, ids=[one.name for one in chosen])
    return [pytest.mark.acceptance, each]


def train(family, *callbacks):
    """Train a family anew; return its losses and its weights."""
    set_random_seed(3)
    model = family.build()
    history = model.fit(**family.data(), epochs=family.epochs, verbose=0, callbacks=list(callbacks))
    weights = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
    return history.history, weights, model


def assert_same(one, other, most=0.0):
    """Assert that two trainings have the same weights to the bit, and losses that differ by
    no more than a share of them.
    """
    assert one[0].keys() == other[0].keys()
    for name in one[0]:
        np.testing.assert_allclose(one[0][name], other[0][name], rtol=most, err_msg=name)
    for own, expected in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(own, expected)


def layer_of(name):
    """Return the path of the layer in a target's name."""
    return name.partition("#")[2].rpartition("_")[0]


def assert_as_published(family, callback):
    """Assert that a history shows what the family's code has, with sound statuses."""
    history = callback.history
    assert history.epochs[-1] == family.epochs - 1
    shown = {layer_of(name) for name in history.names}
    assert shown <= {*family.layers, *family.heads}
    for expected in (family.layers, family.heads):
        assert not expected or shown & set(expected)
    # A grey image without an axis of channels looks like a signal.
    assert math.prod(history.images.shape[2:]) == math.prod(family.image_shape)
    weights = callback.model.get_weights()
    # A training of its own may diverge.
    if all(np.isfinite(one).all() for one in weights):
        assert not np.isin(history.status, "nan").any()


def check(family, folder, caplog):
    """Train a family alone, with one line, and with probe data as its `fit` takes them.

    A variant of another family is not trained with probe data.
    """
    caplog.set_level("WARNING", logger="featviz_callback")
    alone = train(family)[:2]
    callback = FeatureVisCallback(log_dir=folder / "line")
    assert_same(train(family, callback)[:2], alone, 0.0 if family.repeats else 1e-6)
    if family.refused:
        assert not len(callback.history)
        assert caplog.text.count("makes no pictures") == 1
        return
    if "any size" in caplog.text:
        # Only real images tell the size.
        assert not len(callback.history)
    else:
        assert_as_published(family, callback)
        assert "values_range=" in caplog.text
    if keras.backend.backend() == "tensorflow" and not family.like:
        check_with_probe_data(family, folder, alone)


def check_with_probe_data(family, folder, alone):
    """Train with probe data, and optimise a hidden layer of the trained model."""
    probe = family.data()["x"] if family.probe is None else family.probe()
    callback = FeatureVisCallback(log_dir=folder / "probe", probe_data=probe, steps=4)
    *trained, model = train(family, callback)
    assert_same(trained, alone, 0.0 if family.repeats else 1e-6)
    assert_as_published(family, callback)
    span = family.values_range[1] - family.values_range[0]
    found = callback.history.values_range
    if family.is_told:
        np.testing.assert_allclose(found, family.values_range, atol=0.25 * span)
    layer = next(layer_of(name) for name in callback.history.names)
    result = optimize(
        Objective.layer(model, layer), steps=2, values_range=found, image_shape=family.image_shape
    )
    assert np.isfinite(result.scores).all()
