"""What the callback logs and prints, and how often."""

import logging
import warnings

import numpy as np
import pytest

from featviz_callback.monitoring import messages
from featviz_callback.monitoring.messages import Reporter
from featviz_callback.records.snapshot import Snapshot


def snapshot(status=("ok", "ok"), names=("a", "b"), epoch=3, seconds=0.5):
    unknown = np.zeros(len(names), "float32")
    images = np.zeros((len(names), 2, 2, 1), "float32")
    status, names = list(status), list(names)
    values = (unknown, status, unknown, unknown, unknown, seconds, (0.0, 1.0))
    return Snapshot(epoch, names, images, *values)


@pytest.fixture
def logged(caplog):
    """The lines logged so far."""
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [record.getMessage() for record in caplog.records]


def report(reporter, *snapshots, epoch_seconds=10.0):
    for one in snapshots:
        reporter.snapshot_taken(one, share=0.1, compiling=0.0, epoch_seconds=epoch_seconds)


def test_targets_are_named_when_their_status_gets_worse(logged):
    report(
        Reporter(0),
        snapshot(),
        snapshot(["dead", "ok"]),
        snapshot(["dead", "nan"]),
        snapshot(["dead", "nan"]),
    )
    assert logged() == ["Epoch 3: dead: a", "Epoch 3: nan: b"]


def test_a_target_that_recovers_and_fails_again_is_named_again(logged):
    report(Reporter(0), snapshot(["dead", "ok"]), snapshot(), snapshot(["saturated", "ok"]))
    assert logged() == ["Epoch 3: dead: a", "Epoch 3: saturated: a"]


def test_some_of_many_names_are_listed(logged):
    names = [f"n{i}" for i in range(1000)]
    report(Reporter(0), snapshot(["dead"] * 1000, names))
    assert logged() == [f"Epoch 3: dead: {', '.join(names[:10])} and 990 more"]


def test_a_snapshot_that_outlasts_its_epoch_is_logged_once_with_the_remedies(logged):
    report(Reporter(0), *[snapshot(seconds=69.0)] * 2)
    assert not logged()
    report(Reporter(0), *[snapshot(seconds=71.0)] * 2)
    [line] = logged()
    assert "71 s" in line
    assert all(remedy in line for remedy in ("`freq`", "`max_overhead`", "`steps`"))
    assert messages.PATIENCE == 60


def test_skipping_is_logged_once(logged):
    reporter = Reporter(0)
    reporter.skipped(4, 0.05)
    reporter.skipped(5, 0.05)
    [line] = logged()
    assert "epoch 4" in line
    assert "max_overhead=0.05" in line


def test_snapshots_that_cannot_be_read_back_are_named_with_the_reason(logged):
    Reporter(0).lost([-1, 0, 1], (12, 10, 3), (12, 10, 4))
    [line] = logged()
    assert "epochs -1, 0, 1," in line
    assert "(12, 10, 3)" in line
    assert "(12, 10, 4)" in line


def test_only_the_first_failure_gives_a_warning():
    reporter = Reporter(0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reporter.failed(FloatingPointError("first"))
        reporter.failed(FloatingPointError("second"))
    [warning] = caught
    assert "FloatingPointError: first" in str(warning.message)


def test_one_line_a_snapshot_is_printed_on_request(capsys):
    reporter = Reporter(1)
    reporter.snapshot_taken(snapshot(), share=0.034, compiling=2.0, epoch_seconds=1.0)
    report(reporter, snapshot(epoch=4))
    report(Reporter(0), snapshot())
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "feature_vis: epoch 3, 2 images in 0.50 s, 3.4% of the time so far, and 2.0 s once to "
        "compile"
    )
    assert second == "feature_vis: epoch 4, 2 images in 0.50 s, 10.0% of the time so far"
