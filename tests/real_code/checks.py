"""What must hold for every family: training stays the same, and its own layers are shown.

`family.py` says what is expected of each family, by its published code.
"""

import math
import re

import keras
import numpy as np
import pytest

from featviz_callback import FeatureVisCallback, Objective, default_objectives, optimize
from tests.conftest import set_random_seed

# A third of the families run on JAX and torch as well: the cheaper ones of each kind, and on
# each a functional model and a wrapper with a `train_step` of its own.
ELSEWHERE = (
    *("MNIST convnet", "mixed precision", "gradient centralization", "involution"),
    *("convolutional autoencoder", "sub-pixel super-resolution", "MLP-Mixer"),
    *("supervised contrast, encoder", "distillation", "attention MIL", "image and table"),
    *("siamese pairs", "audio, keras.ops.stft", "time series", "3-D convnet"),
    *("a step by hand", "VAE on JAX", "GAN on torch"),
)


def parametrized(modules):
    """Return the marks of a test of the families of some modules that run on this backend."""
    backend = keras.backend.backend()
    here = [one for module in modules for one in module.FAMILIES if backend in one.backends]
    chosen = [one for one in here if backend == "tensorflow" or one.name in ELSEWHERE]
    chosen = sorted(chosen, key=lambda one: not one.is_long)
    each = pytest.mark.parametrize("family", chosen, ids=[one.name for one in chosen])
    return [pytest.mark.acceptance, each]


def train(family, *callbacks):
    """Train a family anew; return its losses and its weights."""
    set_random_seed(3)
    return fit(family, family.build(), *callbacks)


def fit(family, model, *callbacks):
    """Train a model of a family; return what `train` does."""
    history = model.fit(**family.data(), epochs=family.epochs, verbose=0, callbacks=list(callbacks))
    weights = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
    return history.history, weights, model


def state_of(model):
    """Return every variable of a model, of its optimizers and of its metrics."""
    owners = [model, *vars(model).values()]
    kinds = (keras.Model, keras.optimizers.Optimizer)
    found = [one for owner in owners if isinstance(owner, kinds) for one in owner.variables]
    return {id(one): one for one in found}


def train_twice(family, first, second):
    """Train one model with a callback, put it back, and train it with another one.

    What the first training compiled serves the second. A model that `fit` builds, or whose
    compiled functions draw numbers by themselves, is made anew.
    Return what `train` does, twice.
    """
    set_random_seed(3)
    model = family.build()
    before = {key: keras.ops.convert_to_numpy(one) for key, one in state_of(model).items()}
    trained = fit(family, model, first)
    if not family.is_put_back or any(id(one) not in before for one in model.weights):
        return trained, train(family, second)
    for key, one in state_of(model).items():
        # Optimizers make their slots in the first step, all of zeros.
        one.assign(before.get(key, np.zeros(one.shape)))
    set_random_seed(3)
    # This draws what the first one drew before its training.
    family.build()
    return trained, fit(family, model, second)


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


def first_and_last(model):
    """Return two of the objectives that the one line takes, since each layer is compiled."""
    chosen = default_objectives(model)
    return [chosen[0], *chosen[1:][-1:]]


def assert_as_published(family, callback, more=()):
    """Assert that a history shows what the family's code has, with the statuses it allows."""
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
        off = ["no_gradient"] * family.has_rectified_units
        assert {*history.status.ravel().tolist()} <= {"ok", *family.statuses, *off, *more}
        assert "ok" in history.status or "weak" in history.status


def check(family, folder, caplog):
    """Train a family alone, with one line, and with probe data as its `fit` takes them.

    A variant of another family is not trained with probe data, nor is any on other backends.
    """
    caplog.set_level("WARNING", logger="featviz_callback")
    alone = train(family)[:2]
    callback = FeatureVisCallback(log_dir=folder / "line")
    most = 0.0 if family.repeats else 1e-6
    if keras.backend.backend() != "tensorflow" or family.like or family.refused:
        assert_same(train(family, callback)[:2], alone, most)
        assert_one_line(family, callback, caplog.text)
        return
    probe = family.data()["x"] if family.probe is None else family.probe()
    by_default = family.is_any_size or (family.parts and not family.is_long)
    with_probe = FeatureVisCallback(
        None if by_default else first_and_last,
        log_dir=folder / "probe",
        probe_data=probe,
        steps=4,
    )
    line, (*trained, model) = train_twice(family, callback, with_probe)
    assert_same(line[:2], alone, most)
    assert_one_line(family, callback, caplog.text)
    assert_same(trained, alone, most)
    assert_with_probe_data(family, with_probe, callback, model, caplog.text)


def parts_named(text):
    """Return the parts that the log says are watched."""
    said = re.findall(r"so the parts that take images are watched: (.*?)\. `objectives`", text)
    return {part for line in said for part in re.findall(r"'([^']+)'", line)}


def assert_one_line(family, callback, text):
    """Assert what a training with the one line shows and says."""
    assert parts_named(text) == set(family.parts)
    if family.refused or family.is_any_size:
        assert not len(callback.history)
        [refusal] = re.findall("makes no pictures, and training goes on. (.*)", text)
        assert refusal == family.message.format(model=callback.model.name)
    else:
        assert_as_published(family, callback)
        assert "values_range=" in text


def assert_with_probe_data(family, callback, line, model, text):
    """Assert what a training with probe data shows, and optimise a hidden layer."""
    # Four steps reach few pictures that beat real images.
    may_be_off = family.has_rectified_units or "no_gradient" in family.statuses
    assert_as_published(family, callback, ["weak"] + ["dead"] * may_be_off)
    assert np.isfinite(callback.history.score_ratio).any() == family.probe_is_used
    assert ("`probe_data` are left out" in text) != family.probe_is_used
    span = family.values_range[1] - family.values_range[0]
    found = callback.history.values_range
    if family.is_told:
        np.testing.assert_allclose(found, family.values_range, atol=0.25 * span)
    # As the one line reads that layer, in its range, which has compiled the same step.
    history = line.history if len(line.history) else callback.history
    layer = layer_of(history.names[0])
    names = [name for name in history.names if layer_of(name) == layer]
    make = Objective.channel if names[0].startswith("Channel#") else Objective.neuron
    result = optimize(
        make(model, layer, [int(name.rpartition("_")[2]) for name in names]),
        steps=2,
        values_range=history.values_range,
        image_shape=family.image_shape,
    )
    assert len(result.scores) == len(names)
    assert np.isfinite(result.scores).all()
