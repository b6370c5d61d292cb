"""Tests of training on several devices and in several processes.

`distributed_training` runs each training without the callback and with it. In one
process, the machine's CPU stands for two devices.
"""

import os
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from featviz_callback import Objective, optimize
from featviz_callback.optimization import run
from tests.conftest import prepare

BACKEND = keras.backend.backend()
# Seconds; far more than a training needs, to notice one that hangs.
LONGEST = 300

SINGLE = {"tensorflow": "mirrored mirrored_in_scope", "jax": "data_parallel model_parallel"}
SEVERAL = {
    "tensorflow": "fit_multi_worker multi_worker",
    "jax": "data_parallel model_parallel",
    "torch": "distributed_data_parallel",
}
FIT_REFUSED = "fit_multi_worker"


NAMES = {
    "mirrored": "`MirroredStrategy`",
    "mirrored_in_scope": "all of it inside `strategy.scope()`",
    "data_parallel": "`DataParallel`",
    "model_parallel": "`ModelParallel`, weights spread over the devices",
    "distributed_data_parallel": "a loop of your own over `DistributedDataParallel`",
    "multi_worker": "a loop of your own under `MultiWorkerMirroredStrategy`",
    FIT_REFUSED: "Keras 3.15 itself cannot `fit` there "
    "([20585](https://github.com/keras-team/keras/issues/20585))",
}


def cell(kinds, refused=()):
    """Return the site's words for these kinds of training."""
    works = ", ".join(NAMES[kind] for kind in kinds if kind not in refused)
    words = f"works: {works}" if works else "not supported by Keras"
    return "; ".join([words, *(NAMES[kind] for kind in kinds if kind in refused)])


def table(backends):
    """Return two rows of the site's matrix, which `test_training` compares with it."""
    rows = {"one process, several devices": SINGLE, "several processes": SEVERAL}
    return {
        row: {name: cell(kinds.get(name, "").split(), [FIT_REFUSED]) for name in backends}
        for row, kinds in rows.items()
    }


def cases():
    """Return kinds of training and numbers of processes, for this backend."""
    single = [(kind, 1) for kind in SINGLE.get(BACKEND, "").split()]
    several = [(kind, 2) for kind in SEVERAL[BACKEND].split() if kind != FIT_REFUSED]
    return single + several


def free_ports(count):
    """Return free ports."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_training(kinds, processes, folder):
    """Run the kinds in `processes` processes; kill all of them if one fails or hangs."""
    ports = free_ports(processes) if processes > 1 else []
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "KERAS_BACKEND": BACKEND,
        "XLA_FLAGS": "" if ports else "--xla_force_host_platform_device_count=2",
    }
    command = [sys.executable, "-m", "tests.distributed_training", kinds, str(folder)]
    outputs = [(folder / f"output-{rank}").open("w+") for rank in range(processes)]
    children = [
        subprocess.Popen(
            [*command, str(rank), *ports],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        for rank, output in enumerate(outputs)
    ]
    try:
        for child, output in zip(children, outputs, strict=True):
            code = child.wait(LONGEST)
            output.seek(0)
            assert code == 0, output.read()[-3000:]
    finally:
        for child, output in zip(children, outputs, strict=True):
            output.close()
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Run every kind once for a number of processes; return the folder of results."""
    folders = {}

    def get(processes):
        if processes not in folders:
            folders[processes] = tmp_path_factory.mktemp(f"processes-{processes}")
            kinds = (SINGLE if processes == 1 else SEVERAL)[BACKEND]
            run_training(kinds, processes, folders[processes])
        return folders[processes]

    return get


def results(folder, kind, processes):
    """Return what each process saved."""
    files = [folder / f"{kind}-{rank}.npz" for rank in range(processes)]
    return [dict(np.load(file)) for file in files]


def read(arrays, prefix):
    """Return the arrays of one of the two trainings."""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


pytestmark = [pytest.mark.slow, pytest.mark.acceptance]


@pytest.mark.parametrize(("kind", "processes"), cases())
def test_training_is_the_same_to_the_bit_with_the_callback(kind, processes, trained):
    for arrays in results(trained(processes), kind, processes):
        plain, watched = read(arrays, "plain/"), read(arrays, "watched/")
        assert plain.keys() == watched.keys()
        assert len(plain) > 8
        assert [k for k in plain if plain[k].tobytes() != watched[k].tobytes()] == []


@pytest.mark.parametrize(("kind", "processes"), cases())
def test_every_process_sees_the_same_and_one_writes(kind, processes, trained):
    folder = trained(processes)
    first, *others = results(folder, kind, processes)
    assert first["epochs"].tolist() == [-1, 0, 1]
    assert not np.allclose(first["images"][0], first["images"][-1], atol=1e-3)
    for other in others:
        np.testing.assert_array_equal(other["epochs"], first["epochs"])
        # Each process has the moving statistics of its own part of the data.
        np.testing.assert_allclose(other["images"], first["images"], atol=1e-3)
    logs = folder / "logs"
    assert len(list((logs / f"{kind}-0").rglob("*tfevents*"))) == 1
    assert {path.name for path in logs.glob(f"{kind}-*")} <= {f"{kind}-0", f"{kind}-0-elsewhere"}


@pytest.mark.parametrize("kind", [kind for kind, processes in cases() if processes > 1])
def test_one_process_asks_an_executor_and_takes_snapshots_alone_when_it_fades(kind, trained):
    """The others have no history, and help where the weights are spread over all."""
    folder = trained(2)
    first, second = results(folder, kind, 2)
    for arrays in (first, second):
        plain, own = read(arrays, "plain/"), read(arrays, "elsewhere/")
        assert [k for k in plain if plain[k].tobytes() != own[k].tobytes()] == []
        assert own["skipped"].tolist() == []
    own, other = (read(arrays, "elsewhere/") for arrays in (first, second))
    # The worker takes the first one, and refuses the second.
    assert (own["asked"], other["asked"]) == (2, 0)
    assert own["epochs"].tolist() == [-1, 0, 1]
    assert other["epochs"].tolist() == []
    np.testing.assert_allclose(own["images"], first["images"], atol=1e-4)
    assert len(list((folder / "logs" / f"{kind}-0-elsewhere").rglob("*tfevents*"))) == 1


@pytest.mark.parametrize(("kind", "processes"), cases())
def test_pictures_are_those_of_one_device(kind, processes, trained):
    """Allow 1e-4 of a range of 1; 8 bits show 4e-3."""
    [arrays, *_] = results(trained(processes), kind, processes)
    weights = read(arrays, "watched/")
    model = keras.models.model_from_json(str(arrays["model"]))
    for i, variable in enumerate(model.variables):
        variable.assign(weights[str(i)])
    settings = {"steps": 4, "seed": 1, "optimizer": str(arrays["optimizer"]) or None}
    starts = arrays["starts"].tolist()
    expected = [
        optimize(Objective.neuron(model, "logits", [0, 1, 2]), **settings),
        # A channel keeps the start that the untrained network has chosen.
        run(prepare(Objective.channel(model, "conv", 0), **settings), starts=starts[3:])[0],
    ]
    images = np.concatenate([result.images for result in expected])
    scores = np.concatenate([result.scores for result in expected])
    np.testing.assert_allclose(arrays["images"][-1], images, atol=1e-4)
    np.testing.assert_allclose(arrays["scores"][-1], scores, atol=1e-4)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow's")
def test_keras_itself_cannot_fit_with_several_workers(trained):
    """Notice when Keras fixes issue 20585; no callback is used."""
    for arrays in results(trained(2), FIT_REFUSED, 2):
        assert "PerReplica" in str(arrays["error"])
