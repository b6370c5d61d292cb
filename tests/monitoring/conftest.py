"""Fixtures for the tests of the callback and of its preparation."""

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
