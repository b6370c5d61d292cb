"""Tests of what the package exports, and which frameworks it imports."""

import functools
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import keras
import numpy as np
import pytest

import featviz_callback
from featviz_callback.backend import load
from featviz_callback.images.parameterizations import Fourier, Pixel
from tests.conftest import python

FRAMEWORKS = {"tensorflow", "jax", "torch"}
INSTALLED = sorted(filter(importlib.util.find_spec, FRAMEWORKS))

USE = """
import sys

def loaded():
    return {"tensorflow", "jax", "torch"} & set(sys.modules)

import keras, numpy as np
print(*sorted(loaded()))

import featviz_callback
print(*sorted(loaded()))

model = keras.Sequential([
    keras.Input((6, 6, 1)),
    keras.layers.Conv2D(2, 3, name="conv"),
    keras.layers.Flatten(),
    keras.layers.Dense(3),
])
result = featviz_callback.optimize(
    featviz_callback.Objective.channel(model, "conv", [0, 1]), steps=1, optimizer="adam"
)
print(*sorted(loaded()))

model.compile("sgd", "mse")
callback = featviz_callback.FeatureVisCallback(steps=1, log_dir=sys.argv[1], on_error="raise")
model.fit(np.zeros((2, 6, 6, 1)), np.zeros((2, 3)), verbose=0, callbacks=[callback])
assert callback.history.epochs.tolist() == [-1, 0]
print(*sorted(loaded()))
"""

STARTS = """
import numpy as np
from featviz_callback.images.parameterizations import Fourier, Pixel
for kind in (Fourier, Pixel):
    print(kind().init(np.random.default_rng(5), (7, 6, 3)).tobytes().hex())
"""

UNSUPPORTED = """
import keras
from featviz_callback import Objective, optimize
model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Conv2D(2, 3, name="conv")])
try:
    optimize(Objective.channel(model, "conv", 0), steps=1)
except RuntimeError as error:
    print(error)
"""

TYPES = """
from typing import Any, assert_type
from featviz_callback import FeatureVisCallback, History, Objective, Result, optimize
from featviz_callback import parameterizations, regularizers, transformations

def visualise(model: Any, images: Any) -> None:
    both = 2 * Objective.channel(model, "conv", [0, 1]) - Objective.neuron(model, -1, (0, 3)) / 3
    assert_type(both, Objective)
    assert_type(
        optimize(
            both,
            parameterization=parameterizations.Fourier(window=None),
            transformations=[transformations.Jitter(0.1)],
            regularizers=[regularizers.L1(0.1), lambda images: images],
        ),
        Result,
    )
    assert_type(FeatureVisCallback(both, probe_data=images).history, History)
    assert_type(FeatureVisCallback(lambda model: [both]).history.gif(), bytes)
    regularizers.L1()(transformations.Rotate().apply(images, images))
    optimize(both, steps="many")  # wrong
    both + "more"  # wrong

from featviz_callback import Objektive  # wrong
"""


def test_the_public_names_are_these():
    assert sorted(featviz_callback.__all__) == [
        "FeatureVisCallback",
        "History",
        "Objective",
        "Result",
        "atlas",
        "default_objectives",
        "optimize",
        "parameterizations",
        "regularizers",
        "replay",
        "transformations",
    ]
    assert all(hasattr(featviz_callback, name) for name in featviz_callback.__all__)


# fmt: off
# ruff: noqa: E501
SIGNATURES = {
    'optimize': "(objective, steps=64, optimizer=None, parameterization='fourier', transformations='standard', regularizers=(), values_range=(0.0, 1.0), image_shape=None, save_every=None, warmup_steps=0, batch_size=None, seed=0, verbose=0, fixed_inputs=None, start=None, start_strength=1.0, probe_data=None)",
    'FeatureVisCallback': "(objectives=None, log_dir='logs', freq=1, steps=32, values_range=None, image_shape=None, parameterization='fourier', transformations='standard', regularizers=(), optimizer=None, seed=0, warm_start=False, probe_data=None, max_overhead=None, batch_size=None, on_error='warn', verbose=0, fixed_inputs=None, on_snapshot=None, accentuate=0, log_real_images=True, log_importance=False, executor=None)",
    'replay': '(callback, model, checkpoints, verbose=1)',
    'atlas': "(objectives=None, folder='atlas', executor=None, *, model=None, probe_data=None, steps=64, optimizer=None, parameterization='fourier', transformations='standard', regularizers=(), values_range=None, image_shape=None, warmup_steps=0, batch_size=None, seed=0, fixed_inputs=None, verbose=1)",
    'Objective.neuron': '(model, layer, neurons_ids, multiplier=1.0, names=None, *, pre_activation=None)',
    'Objective.channel': '(model, layer, channel_ids, multiplier=1.0, names=None, *, pre_activation=None)',
    'Objective.layer': "(model, layer, reducer='magnitude', multiplier=1.0, name=None, *, pre_activation=None)",
    'Objective.direction': '(model, layer, vectors, multiplier=1.0, cossim_pow=2.0, names=None, *, pre_activation=None)',
    'Objective.custom': '(model, layers, function, multiplier=1.0, names=None)',
    'Objective.inversion': '(model, layer, images, multiplier=1.0, names=None, *, pre_activation=None)',
    'Objective.caricature': '(model, layer, images, multiplier=1.0, names=None, *, pre_activation=None)',
    'Objective.facets': '(count, strength=1.0)',
    'parameterizations.Pixel': '(contrast=2.0, noise=0.01, mean=0.5)',
    'parameterizations.Fourier': "(decay=1.0, detail=0.8, window=0.4, contrast=1.0, noise=0.05, mean=0.5, colors='natural', spectrum=None)",
    'parameterizations.FixedMagnitude': '(fourier=<factory>)',
    'transformations.Jitter': '(share=0.07)',
    'transformations.Scale': '(low=0.9, high=1.1, early=1.0)',
    'transformations.Crop': '(smallest=0.25, largest=1.0)',
    'transformations.Flip': '()',
    'transformations.Rotate': '(degrees=5.0)',
    'transformations.Blur': '(sigma=1.0)',
    'transformations.Noise': '(deviation=0.05, last=None)',
    'regularizers.L1': '(weight=1.0)',
    'regularizers.L2': '(weight=1.0)',
    'regularizers.LInfinity': '(weight=1.0)',
    'regularizers.TotalVariation': '(weight=1.0)',
    'Result': '(images, names, scores, history, status, values_range, frames=None, frame_steps=None, starts=None, importance=None, score_ratio=None, real_images=None, real_scores=None)',
    'Result.save': '(path, importance=False)',
    'Result.sheet': '(importance=False)',
    'History': '(most_bytes=268435456)',
    'History.save': '(path)',
    'History.load': '(path)',
    'History.strip': '(path=None, columns=16, rows=64, importance=False)',
    'History.gif': '(path=None, seconds=0.25)',
}
# fmt: on


@pytest.mark.parametrize("name", SIGNATURES)
def test_a_public_signature_is_changed_on_purpose_only(name):
    function = functools.reduce(getattr, name.split("."), featviz_callback)
    parameters = inspect.signature(function).parameters.values()
    unannotated = [one.replace(annotation=one.empty) for one in parameters if one.name != "self"]
    assert str(inspect.Signature(unannotated)) == SIGNATURES[name]


@pytest.mark.acceptance
@pytest.mark.slow
def test_types_are_known_through_the_lazy_package(tmp_path):
    """`mypy --strict` passes the right lines of a user's script, and no wrong line."""
    mypy = pytest.importorskip("mypy.api")
    script = tmp_path / "user.py"
    script.write_text(TYPES)
    own = ["--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    report, *_ = mypy.run(["--strict", *own, str(script)])
    found = [int(line) for line in re.findall(r"user\.py:(\d+): error", report)]
    lines = enumerate(TYPES.splitlines(), 1)
    assert found == [number for number, line in lines if line.endswith("# wrong")], report


def test_every_public_name_has_a_docstring():
    for name in featviz_callback.__all__:
        assert len(getattr(featviz_callback, name).__doc__.strip()) > 20


def test_the_installation_without_tensorflow_is_complete():
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", one).group() for one in project["dependencies"]]
    names.remove("tensorflow")
    assert f"`pip install {' '.join(names)}`" in (root / "docs" / "compatibility.md").read_text()


def test_the_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", featviz_callback.__version__)


@pytest.mark.acceptance
@pytest.mark.slow
@pytest.mark.parametrize("backend", INSTALLED)
def test_only_the_framework_of_keras_is_imported(backend, tmp_path):
    # Some versions of Keras import JAX themselves, if it is installed.
    by_keras, *by_us = python(USE, backend, tmp_path)
    assert by_us == [by_keras] * 3
    assert backend in by_keras.split()
    assert backend == "tensorflow" or "tensorflow" not in by_keras.split()
    assert list((tmp_path / "feature_vis").iterdir())


@pytest.mark.acceptance
@pytest.mark.slow
def test_starts_are_the_same_on_every_backend():
    """Compare the installed backends."""
    starts = [
        kind().init(np.random.default_rng(5), (7, 6, 3)).tobytes().hex()
        for kind in (Fourier, Pixel)
    ]
    for backend in INSTALLED:
        assert python(STARTS, backend) == starts


def test_a_backend_without_gradients_is_refused(monkeypatch):
    # Keras on OpenVINO returns this name, and OpenVINO need not be installed.
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(RuntimeError, match="KERAS_BACKEND.*'openvino'") as refusal:
        load()
    assert all(name in str(refusal.value) for name in FRAMEWORKS)


@pytest.mark.acceptance
@pytest.mark.slow
def test_keras_own_numpy_backend_is_refused():
    # That backend imports both JAX and SciPy.
    if all(map(importlib.util.find_spec, ("jax", "scipy"))):
        [message] = python(UNSUPPORTED, "numpy")
        assert "'numpy'" in message
