"""Take snapshots by engines that the tests do not start, and compare them with local ones.

Prints one row: whether pictures, scores and the trained weights are the same to the bit.

    pip install loky ray mpi4py mpich
    python benchmarks/engines.py loky
    python benchmarks/engines.py ray
    mpiexec -n 2 python -m mpi4py.futures benchmarks/engines.py mpi
"""

import argparse
import tempfile
from contextlib import contextmanager

import keras
import numpy as np
from keras import layers

from featviz_callback import FeatureVisCallback

IMAGES = np.random.default_rng(0).random((256, 20, 20, 1), "float32")
LABELS = np.arange(256) % 4


@contextmanager
def loky():
    """One process of loky."""
    from loky import get_reusable_executor

    yield get_reusable_executor(max_workers=1, timeout=None)


@contextmanager
def mpi():
    """The other ranks of MPI."""
    from mpi4py.futures import MPIPoolExecutor

    with MPIPoolExecutor() as pool:
        yield pool


@contextmanager
def by_ray():
    """One actor of Ray."""
    import ray

    @ray.remote
    class Worker:
        def run(self, function, *arguments):
            return function(*arguments)

    class RayExecutor:
        def __init__(self):
            self._worker = Worker.remote()

        def submit(self, function, *arguments):
            return self._worker.run.remote(function, *arguments).future()

    ray.init()
    yield RayExecutor()
    ray.shutdown()


ENGINES = {"loky": loky, "mpi": mpi, "ray": by_ray}


def train(**settings):
    """Train a small network; return the history of its snapshots, and its weights."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(IMAGES.shape[1:]),
            layers.Conv2D(8, 3, activation="relu", name="conv1"),
            layers.Conv2D(8, 3, strides=2, activation="relu", name="conv2"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, name="logits"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    callback = FeatureVisCallback(
        log_dir=tempfile.mkdtemp(), probe_data=IMAGES[:64], steps=8, on_error="raise", **settings
    )
    model.fit(IMAGES, LABELS, epochs=4, verbose=0, callbacks=[callback])
    return callback.history, model.get_weights()


def main():
    """Train here, then with an engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    engine = parser.parse_args().engine
    here, own = train()
    with ENGINES[engine]() as executor:
        there, others = train(executor=executor)
        row = [
            *(engine, f"{len(there)} of {len(here)} snapshots"),
            np.array_equal(here.images, there.images),
            np.array_equal(here.scores, there.scores),
            all(map(np.array_equal, own, others)),
        ]
    print(f"| {' | '.join(map(str, row))} |")


if __name__ == "__main__":
    main()
