"""What the callback logs and prints, and how often."""

import logging
import warnings

import numpy as np
import pytest

from featviz_callback.monitoring import messages
from featviz_callback.monitoring.messages import Reporter
from featviz_callback.records import Checkup, Health
from featviz_callback.records.behaviour import Behaviour
from featviz_callback.records.snapshot import Snapshot
from featviz_callback.tensorboard.summaries import STATUSES


def snapshot(status=("ok", "ok"), names=("a", "b"), epoch=3, seconds=0.5, ratio=None):
    unknown = np.full(len(names), np.nan, "float32")
    ratio = unknown if ratio is None else np.array(ratio, "float32")
    images = np.zeros((len(names), 2, 2, 1), "float32")
    status, names = list(status), list(names)
    values = (unknown, status, unknown, unknown, ratio, seconds, (0.0, 1.0), [""] * len(names))
    return Snapshot(epoch, names, images, *values, **vars(Behaviour.unknown(len(names))))


@pytest.fixture
def logged(caplog):
    """The lines logged so far."""
    caplog.set_level(logging.WARNING, logger="featviz_callback")
    return lambda: [record.getMessage() for record in caplog.records]


def report(reporter, *snapshots, epoch_seconds=10.0):
    for one in snapshots:
        reporter.snapshot_taken(one, 0.1, 0.0, waited=one.seconds, epoch_seconds=epoch_seconds)


SAID = {
    "dead": "no image of `probe_data` activates these (dead)",
    "constant": "these have the same score for every image of `probe_data` (constant)",
    "no_gradient": "no gradient was found for these, from any start (no_gradient)",
    "weak": "the pictures of these score below the best real image (weak)",
    "saturated": (
        "the pictures of these are at the ends of the range, and no better than at half the "
        "contrast (saturated)"
    ),
    "nan": "these have a score or a gradient that is not a finite number (nan)",
}


@pytest.mark.parametrize("status", SAID)
def test_a_status_other_than_ok_is_explained_with_the_names(status, logged):
    report(Reporter(0), snapshot([status, "ok", status], ["a", "b", "c"], epoch=7))
    assert logged() == [f"Epoch 7: {SAID[status]}: a, c"]


def test_every_status_but_ok_is_explained(logged):
    assert set(SAID) == set(STATUSES) - {"ok"}
    names = [f"target {status}" for status in STATUSES]
    report(Reporter(0), snapshot(STATUSES, names))
    expected = [f"Epoch 3: {said}: target {status}" for status, said in SAID.items()]
    assert sorted(logged()) == sorted(expected)


def test_a_target_is_named_once_for_each_status(logged):
    report(
        Reporter(0),
        snapshot(epoch=-1),
        snapshot(["dead", "ok"], epoch=0),
        snapshot(["dead", "nan"], epoch=1),
        snapshot(["dead", "dead"], epoch=2),
        snapshot(["nan", "dead"], epoch=3),
        snapshot(["dead", "nan"], epoch=4),
    )
    assert logged() == [
        f"Epoch 0: {SAID['dead']}: a",
        f"Epoch 1: {SAID['nan']}: b",
        f"Epoch 2: {SAID['dead']}: b",
        f"Epoch 3: {SAID['nan']}: a",
    ]


def test_a_target_that_recovers_and_fails_again_is_named_only_for_another_status(logged):
    reporter = Reporter(0)
    report(reporter, snapshot(["weak", "ok"]), snapshot(), snapshot(["weak", "ok"]))
    report(reporter, snapshot(), snapshot(["saturated", "ok"]))
    assert logged() == [f"Epoch 3: {SAID['weak']}: a", f"Epoch 3: {SAID['saturated']}: a"]


def test_another_training_names_its_targets_anew(logged):
    for _ in range(2):
        report(Reporter(0), snapshot(["weak", "ok"]))
    assert logged() == [f"Epoch 3: {SAID['weak']}: a"] * 2


@pytest.mark.parametrize("count", [10, 11, 1000])
def test_some_of_many_names_are_listed(count, logged):
    names = [f"n{i}" for i in range(count)]
    report(Reporter(0), snapshot(["dead"] * count, names))
    more = f" and {count - 10} more" if count > 10 else ""
    assert logged() == [f"Epoch 3: {SAID['dead']}: {', '.join(names[:10])}{more}"]


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


@pytest.mark.parametrize(
    ("last", "epochs", "reason"),
    [(4, 30, "after 5 of 30 epochs"), (29, 30, "always taken"), (29, None, "always taken")],
)
def test_a_share_above_the_bound_is_logged_with_the_reason(logged, last, epochs, reason):
    Reporter(0).above(0.234, 0.2, last, epochs)
    [line] = logged()
    assert "0.23" in line
    assert "max_overhead=0.2" in line
    assert reason in line


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


def test_how_long_a_worker_took_is_no_trouble_as_long_as_training_did_not_wait(logged):
    reporter = Reporter(0)
    reporter.snapshot_taken(snapshot(seconds=900.0), 0.1, 0.0, waited=0.1, epoch_seconds=1.0)
    assert logged() == []
    reporter.snapshot_taken(snapshot(seconds=900.0), 0.1, 0.0, waited=70.0, epoch_seconds=1.0)
    [said] = logged()
    assert "Training waited 70 s" in said


def test_one_line_a_snapshot_is_printed_on_request(capsys):
    reporter = Reporter(1)
    reporter.snapshot_taken(snapshot(), share=0.034, compiling=2.0, waited=0.5, epoch_seconds=1.0)
    report(reporter, snapshot(epoch=4))
    report(Reporter(0), snapshot())
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "feature_vis: epoch 3, 2 images in 0.50 s, 3.4% of the time so far, and 2.0 s once to "
        "compile"
    )
    assert second == "feature_vis: epoch 4, 2 images in 0.50 s, 10.0% of the time so far"


@pytest.mark.parametrize(
    ("ratio", "median", "least"),
    [
        ([1.5, 0.75, 2.5], "1.50", "0.75 (b)"),
        ([0.25, np.nan, 2.0], "1.12", "0.25 (a)"),
        ([np.nan, np.nan, 3.0], "3.00", "3.00 (c)"),
        ([-np.inf, 2.0, 1.0], "1.50", "1.00 (c)"),
        ([2.0, -4.0, 8.0], "2.00", "-4.00 (b)"),
    ],
    ids=str,
)
def test_the_line_compares_scores_with_those_of_the_best_real_images(ratio, median, least, capsys):
    report(Reporter(1), snapshot(["ok"] * 3, ["a", "b", "c"], ratio=ratio))
    line = capsys.readouterr().out
    assert line == (
        "feature_vis: epoch 3, 3 images in 0.50 s, 10.0% of the time so far; scores are "
        f"{median} times those of the best real images (median), at least {least}\n"
    )


def test_the_line_calls_no_weak_picture_as_good_as_the_best_real_image(capsys):
    report(Reporter(1), snapshot(["ok", "weak", "weak"], ["a", "b", "c"], ratio=[2, 0.996, 0.999]))
    assert "are 0.99 times those of the best" in (line := capsys.readouterr().out)
    assert "at least 0.99 (b)" in line


@pytest.mark.parametrize(
    ("number", "healthy", "ill", "says"),
    [
        ("dead", 0.24, 0.59, "59 % of the units of conv are dead since epoch 3: the learning rate"),
        ("duplicate", 0.6, 0.8, "80 % of the units of conv do what another unit does since epoch"),
        ("nan", 0.0, 1e-4, "1 % of the activations of conv are no finite numbers since epoch 3"),
    ],
)
def test_a_layer_in_trouble_is_named_once_and_a_healthy_one_not(number, healthy, ill, says, logged):
    shares = [ill, healthy, healthy, np.nan, ill, ill]
    check_all(Reporter(0), number, shares)
    [message] = logged()
    assert message.startswith(says)


def check_all(reporter, number, *shares, skipped=0):
    """Tell a reporter of the snapshots of layers, from the untrained network on."""
    health = Health()
    for epoch, values in enumerate(zip(*shares, strict=True), -1):
        named = {f"conv{i or ''}": {number: one} for i, one in enumerate(values)}
        health.add(epoch, Checkup.of(named))
        if epoch >= skipped - 1:
            reporter.checked(epoch, Checkup.of(named), health)


@pytest.mark.parametrize(
    ("shares", "since"),
    [
        ([0.1, 0.6, 0.6, 0.6, 0.6, 0.6], "epoch 0"),
        ([0.6, 0.6, 0.6, 0.1, 0.6, 0.6], "epoch 3"),
        ([0.1, np.nan, np.nan, 0.6, np.nan, 0.6], "epoch 2"),
        ([0.6, 0.6, 0.6, 0.6, 0.6, 0.6], "before training"),
    ],
)
def test_a_resumed_training_says_since_when_layers_were_in_trouble(shares, since, logged):
    check_all(Reporter(0), "dead", shares, skipped=5)
    [message] = logged()
    assert f"dead since {since}: " in message
    assert ("learning rate" in message) is (since != "before training")


def test_layers_in_trouble_for_as_long_are_named_together(logged):
    ill, later = [0.1, 0.6, 0.6], [0.1, 0.1, 0.6]
    check_all(Reporter(0), "dead", ill, later, ill, skipped=2)
    one, other = logged()
    assert one.startswith("60 % of the units of conv are dead, 60 % of the units of conv2 are")
    assert "since epoch 0" in one
    assert other.startswith("60 % of the units of conv1 are dead since epoch 1")


def test_what_is_said_of_dead_units_is_true_of_constant_ones(logged):
    check_all(Reporter(0), "dead", [0.1, 0.6])
    [message] = logged()
    assert message.endswith("They are the same for all of `probe_data`")


def test_the_learning_rate_is_not_blamed_where_training_may_scale_images(logged):
    for first, later in (([0.1], [0.6]), ([0.6], [0.6])):
        reporter, health = Reporter(0), Health()
        for epoch, value in enumerate(first + later, -1):
            checkup = Checkup.of({"conv": {"dead": value}})
            health.add(epoch, checkup)
            reporter.checked(epoch, checkup, health, is_range_doubtful=True)
    before, after = logged()[-2:]
    for message in (before, after):
        assert "learning rate" not in message
        assert "if `train_step` does" in message
