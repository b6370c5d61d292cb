"""The callback on models as people write them: what it shows, and that training stays the same.

`family.py` says what is expected of each family, by its published code.
"""

import logging
import math

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective, optimize
from tests.conftest import set_random_seed
from tests.real_code.families import FAMILIES

# Elsewhere than on TensorFlow, every third one that trains there.
_HERE = [one for one in FAMILIES if keras.backend.backend() in one.backends]
_CHOSEN = _HERE if keras.backend.backend() == "tensorflow" else _HERE[::3]

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.parametrize("family", _CHOSEN, ids=[one.name for one in _CHOSEN]),
]


def train(family, *callbacks):
    """Train a family anew; return its losses and its weights."""
    set_random_seed(3)
    model = family.build()
    history = model.fit(**family.data(), epochs=family.epochs, verbose=0, callbacks=list(callbacks))
    weights = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
    return history.history, weights, model


def assert_same(one, other):
    """Assert that two trainings have the same losses and weights, to the bit."""
    assert one[0].keys() == other[0].keys()
    for name in one[0]:
        np.testing.assert_array_equal(one[0][name], other[0][name], err_msg=name)
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
    assert not np.isin(history.status, "nan").any()


def test_training_stays_the_same_and_shows_what_the_code_has(family, tmp_path, caplog):
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    alone = train(family)[:2]
    callback = FeatureVisCallback(log_dir=tmp_path)
    assert_same(train(family, callback)[:2], alone)
    if family.refused:
        assert not len(callback.history)
        assert caplog.text.count("makes no pictures") == 1
        return
    if "any size" in caplog.text:
        # Only real images tell the size.
        assert not len(callback.history)
        return
    assert_as_published(family, callback)
    assert "values_range=" in caplog.text


def test_probe_data_as_fit_takes_them_tell_the_range(family, tmp_path):
    if family.refused:
        pytest.skip("it has no images")
    alone = train(family)[:2]
    probe = family.data()["x"] if family.probe is None else family.probe()
    callback = FeatureVisCallback(log_dir=tmp_path, probe_data=probe, steps=4)
    *trained, model = train(family, callback)
    assert_same(trained, alone)
    assert_as_published(family, callback)
    low, high = callback.history.values_range
    span = family.values_range[1] - family.values_range[0]
    np.testing.assert_allclose((low, high), family.values_range, atol=0.25 * span)

    layer = next(layer_of(name) for name in callback.history.names)
    objective = Objective.layer(model, layer)
    found = optimize(objective, steps=2, values_range=(low, high), image_shape=family.image_shape)
    assert np.isfinite(found.scores).all()
