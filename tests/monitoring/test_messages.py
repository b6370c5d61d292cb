"""What is said, and how often."""

import logging
import warnings

import numpy as np
import pytest

from featviz_callback.monitoring import messages
from featviz_callback.monitoring.messages import Reporter
from featviz_callback.records.snapshot import Snapshot


def look(status=("ok", "ok"), names=("a", "b"), epoch=3, seconds=0.5):
    unknown = np.zeros(len(names), "float32")
    images = np.zeros((len(names), 2, 2, 1), "float32")
    status, names = list(status), list(names)
    values = (unknown, status, unknown, unknown, unknown, seconds, (0.0, 1.0))
    return Snapshot(epoch, names, images, *values)


@pytest.fixture
def said(caplog):
    """The lines logged so far."""
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [record.getMessage() for record in caplog.records]


def report(reporter, *looks, epoch_seconds=10.0):
    for one in looks:
        reporter.snapshot_taken(one, share=0.1, compiling=0.0, epoch_seconds=epoch_seconds)


def test_targets_are_named_when_something_goes_wrong_with_them(said):
    report(Reporter(0), look(), look(["dead", "ok"]), look(["dead", "nan"]), look(["dead", "nan"]))
    assert said() == ["Epoch 3: dead: a", "Epoch 3: nan: b"]


def test_what_recovers_and_goes_wrong_again_is_named_again(said):
    report(Reporter(0), look(["dead", "ok"]), look(), look(["saturated", "ok"]))
    assert said() == ["Epoch 3: dead: a", "Epoch 3: saturated: a"]


def test_of_many_names_some_are_listed(said):
    names = [f"n{i}" for i in range(1000)]
    report(Reporter(0), look(["dead"] * 1000, names))
    assert said() == [f"Epoch 3: dead: {', '.join(names[:10])} and 990 more"]


def test_a_look_that_outlives_its_epoch_is_remarked_on_once_with_the_remedy(said):
    report(Reporter(0), *[look(seconds=69.0)] * 2)
    assert not said()
    report(Reporter(0), *[look(seconds=71.0)] * 2)
    [line] = said()
    assert "71 s" in line
    assert all(remedy in line for remedy in ("`freq`", "`max_overhead`", "`steps`"))
    assert messages.PATIENCE == 60


def test_skipping_is_said_once(said):
    reporter = Reporter(0)
    reporter.skipped(4, 0.05)
    reporter.skipped(5, 0.05)
    [line] = said()
    assert "epoch 4" in line
    assert "max_overhead=0.05" in line


def test_looks_that_cannot_be_read_back_are_named_with_the_reason(said):
    Reporter(0).lost([-1, 0, 1], (12, 10, 3), (12, 10, 4))
    [line] = said()
    assert "epochs -1, 0, 1," in line
    assert "(12, 10, 3)" in line
    assert "(12, 10, 4)" in line


def test_a_failure_is_said_once():
    reporter = Reporter(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reporter.failed(FloatingPointError("first"))
        reporter.failed(FloatingPointError("second"))
    [warning] = caught
    assert "FloatingPointError: first" in str(warning.message)


def test_a_line_a_look_is_printed_where_asked_for(capsys):
    reporter = Reporter(1)
    reporter.snapshot_taken(look(), share=0.034, compiling=2.0, epoch_seconds=1.0)
    report(reporter, look(epoch=4))
    report(Reporter(0), look())
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "feature_vis: epoch 3, 2 images in 0.50 s, 3.4% of the time so far, and 2.0 s once to "
        "compile"
    )
    assert second == "feature_vis: epoch 4, 2 images in 0.50 s, 10.0% of the time so far"
