"""Fixtures for the tests of the callback and of its preparation."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from featviz_callback import FeatureVisCallback, Objective
from tests.conftest import compiled


@pytest.fixture
def model():
    """The small model, ready to be trained."""
    return compiled()


@pytest.fixture
def watch(tmp_path):
    """Make callbacks of two steps that raise every error."""

    def make(objectives=None, **settings):
        settings = {"steps": 2, "log_dir": tmp_path, "on_error": "raise", **settings}
        return FeatureVisCallback(objectives, **settings)

    return make


def neurons(model):
    """An objective of three logits."""
    return Objective.neuron(model, "logits", range(3))


@pytest.fixture(scope="module")
def pool():
    """One worker, for all tests that do not break it."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as workers:
        yield workers


@pytest.fixture
def watch_apart(tmp_path):
    """Make callbacks of two steps, each with a folder of its own."""
    count = iter(range(100))

    def make(objectives=neurons, **settings):
        folder = tmp_path / f"logs {next(count)}"
        return FeatureVisCallback(objectives, **{"steps": 2, "log_dir": folder, **settings})

    return make
