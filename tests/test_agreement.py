"""Tests that backends agree, and that remote folders work without TensorFlow."""

import importlib.util
from dataclasses import dataclass

import keras
import numpy as np
import pytest

from featviz_callback import Objective, optimize
from featviz_callback.images.parameterizations import Fourier
from featviz_callback.images.transformations import Jitter, Noise
from tests.conftest import make_small_model, python

OTHERS = [
    name
    for name in ("tensorflow", "jax", "torch")
    if name != keras.backend.backend() and importlib.util.find_spec(name)
]
pytestmark = [pytest.mark.slow, pytest.mark.acceptance]


# --- the three backends agree -----------------------------------------------------------

DRAWN = {"starts": [], "jitter": [], "noise": []}


def keep(name, drawn):
    """Record a draw, and return it."""
    DRAWN[name].append(np.array(drawn))
    return drawn


@dataclass(frozen=True)
class NotedFourier(Fourier):
    """A `Fourier` that records each start."""

    def init(self, rng, shape):
        return keep("starts", super().init(rng, shape))


@dataclass(frozen=True)
class NotedJitter(Jitter):
    """A `Jitter` that records the columns of each draw."""

    def move(self, rng, rows, columns):
        rows, columns = super().move(rng, rows, columns)
        return rows, keep("jitter", columns)


@dataclass(frozen=True)
class NotedNoise(Noise):
    """A `Noise` that records each draw."""

    def sample_values(self, rng, count):
        return keep("noise", super().sample_values(rng, count))


def compute():
    """Return the random draws, and the images after eight steps, of this backend."""
    for drawn in DRAWN.values():
        drawn.clear()
    model = make_small_model()
    both = Objective.neuron(model, "logits", [0, 7]), Objective.channel(model, "conv1", [0, 3])
    noted = {
        "parameterization": NotedFourier(),
        "transformations": [NotedJitter(0.1), NotedNoise(0.05)],
    }
    results = {}
    for i, objective in enumerate(both):
        results[f"images {i}"] = optimize(objective, steps=8, seed=3).images
        adam = {"optimizer": keras.optimizers.Adam(0.1), "parameterization": "pixel"}
        results[f"images {i} by Adam"] = optimize(objective, steps=8, seed=3, **adam).images
        results[f"images {i} with noise"] = optimize(objective, steps=8, seed=3, **noted).images
    return results | {name: np.stack(drawn) for name, drawn in DRAWN.items()}


def save(path):
    """Save the arrays, for a fresh interpreter with another backend."""
    np.savez(path, **compute())


@pytest.fixture(scope="module")
def computed():
    """The arrays of this test run's backend."""
    return compute()


@pytest.mark.skipif(not OTHERS, reason="needs a second backend installed")
@pytest.mark.parametrize("backend", OTHERS)
def test_backends_draw_the_same_and_find_the_same_images(backend, computed, tmp_path):
    path = tmp_path / "computed.npz"
    python("import sys; from tests.test_agreement import save; save(sys.argv[1])", backend, path)
    other = dict(np.load(path))
    assert other.keys() == computed.keys()
    for name, mine in computed.items():
        if name in DRAWN:
            np.testing.assert_array_equal(other[name], mine, err_msg=name)
        else:
            assert mine.std() > 0.05
            np.testing.assert_allclose(other[name], mine, atol=1e-2, err_msg=name)


# --- remote folders without TensorFlow ------------------------------------------------------

REMOTE = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: (
    None if name.partition(".")[0] == "tensorflow" else find(name, *rest)
)

import keras, numpy as np
from featviz_callback import FeatureVisCallback, Objective

model = keras.Sequential([
    keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, name="logits")
])
model.compile("sgd", "mse")
callback = FeatureVisCallback(
    lambda model: Objective.neuron(model, "logits", [0, 1]),
    log_dir=sys.argv[1], steps=1, on_error="raise",
)
for first in (0, 2):
    model.fit(
        np.zeros((2, 6, 6, 1)), np.zeros((2, 3)),
        epochs=first + 2, initial_epoch=first, verbose=0, callbacks=[callback],
    )

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
reader = EventAccumulator(sys.argv[1] + "/feature_vis", size_guidance={"tensors": 0})
reader.Reload()
for tag in ("feature_vis/Neuron#logits_1", "feature_vis_score/Neuron#logits_0"):
    print(*sorted({event.step for event in reader.Tensors(tag)}))
print(any(name.partition(".")[0] == "tensorflow" for name in sys.modules))
"""
WITHOUT_TENSORFLOW = [b for b in ("torch", "jax") if importlib.util.find_spec(b)]


@pytest.mark.skipif(not WITHOUT_TENSORFLOW, reason="needs JAX or torch as a backend")
@pytest.mark.skipif(not importlib.util.find_spec("fsspec"), reason="needs fsspec")
def test_remote_folders_work_where_tensorflow_is_absent():
    own = keras.backend.backend()
    backend = own if own in WITHOUT_TENSORFLOW else WITHOUT_TENSORFLOW[0]
    images, scores, has_tensorflow = python(REMOTE, backend, "memory://logs/run")
    assert images == scores == "-1 0 1 2 3"
    assert has_tensorflow == "False"
