"""Logs for the tests of the tab, and a client for its routes."""

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.plugin import plugin

NAMES = ["Channel#backbone/conv_1", "Neuron#logits_0", "<img src=x onerror=alert(1)>"]
PREFIX = "/data/plugin/feature_vis"


def picture(name, step, size=9):
    """Draw a grey uint8 picture that is different for each name and step."""
    rng = np.random.default_rng([step + 1, *name.encode()])
    return rng.integers(0, 256, (size, size, 1), "uint8")


def write_step(events, step, names=NAMES, size=9):
    """Write the pictures and numbers of some targets at one step."""
    for i, name in enumerate(names):
        events.image(summaries.IMAGE_TAG.format(name), step, picture(name, step, size))
        events.scalar(summaries.SCORE_TAG.format(name), step, step + i / 10)
        events.scalar(summaries.STATUS_TAG.format(name), step, i % 4)
        if step >= 0:
            events.scalar(summaries.DRIFT_TAG.format(name), step, 0.5)
    events.scalar(summaries.SECONDS_TAG, step, 0.1)


def write_run(folder, steps=(-1, 0, 1), **settings):
    """Write a run into one new event file, and return that file."""
    events = EventFile(folder)
    for step in steps:
        write_step(events, step, **settings)
    return events


def event_file_of(events):
    """Return the path of an event file."""
    return Path(events.path)


class Browser:
    """A client of the tab's routes for one log directory."""

    def __init__(self, logdir):
        self.plugin = plugin.FeaturesPlugin(TBContext(logdir=str(logdir)))
        for thread in threading.enumerate():
            if thread.name == plugin.FeaturesPlugin.plugin_name:
                thread.join()
        # Folders are searched at every request, as if time had passed.
        self.plugin._runs._search_seconds = 0
        self.client = Client(TensorBoardWSGI([self.plugin]))

    def get(self, route, **arguments):
        self.plugin._runs._searched = float("-inf")
        return self.client.get(f"{PREFIX}/{route}", query_string=arguments)

    def json(self, route, **arguments):
        answer = self.get(route, **arguments)
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "application/json"
        return json.loads(answer.data)

    def animation(self, run, name):
        """Return a GIF, for which a client asks again while the server makes it."""
        deadline = time.monotonic() + 60
        while (answer := self.get("animation", run=run, name=name)).status_code == 503:
            assert time.monotonic() < deadline
        assert answer.status_code == 200, answer.text
        return answer.data

    def target(self, name, run="run"):
        targets = self.json("frames", run=run)["targets"]
        return next(target for target in targets if target["name"] == name)


@pytest.fixture
def browser(tmp_path):
    """Return a client for the log of one run."""
    write_run(tmp_path / "run")
    return Browser(tmp_path)
