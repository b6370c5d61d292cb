"""The plan of snapshots, by arithmetic alone."""

import math

import numpy as np
import pytest

from featviz_callback.monitoring import plan
from featviz_callback.monitoring.plan import Measured


def simulated(most, epochs, snapshot=1.0, floor=0.0, seconds=1.0, freq=1):
    """Train on paper; return the epochs of the snapshots, and their share of the time.

    `seconds` and `snapshot` are costs, or functions of the epoch.
    """

    def at(cost, epoch):
        return cost(epoch) if callable(cost) else cost

    taken, last = [-1], epochs - 1
    spent, trained = at(snapshot, -1) + floor, 0.0
    for epoch in range(epochs):
        trained += at(seconds, epoch)
        cost = at(snapshot, epoch)
        measured = Measured(spent, trained, at(seconds, epoch), cost, cost + floor)
        count = plan.affordable(most, measured, last - epoch)
        is_planned = plan.is_due(freq, epoch) and (
            plan.is_on_credit(freq, epoch)
            or (count > 0 and epoch >= plan.next_planned(freq, last, taken[-1], count))
        )
        if is_planned or epoch == last:
            taken.append(epoch)
            spent += cost + (floor if epoch == last else 0.0)
    return taken, spent / (spent + trained)


@pytest.mark.parametrize("power", [3, 4, 6, 9])
def test_a_budget_of_one_snapshot_an_octave_takes_one_at_each(power):
    """The closed form: n snapshots that are even in log(epoch + 1) stand as 1, 2, 4, 8..."""
    epochs, snapshots = 2**power, power + 2
    taken, share = simulated(snapshots / (snapshots + epochs), epochs)
    assert taken == [-1, *(2**i - 1 for i in range(power)), epochs - 1]
    assert share == pytest.approx(snapshots / (snapshots + epochs))


def test_planned_epochs_are_even_in_log_epoch():
    taken, _ = simulated(0.02, 1000)
    logs = np.log(np.array(taken[1:]) + 1)
    # At the first epochs, whole numbers are too coarse to be even.
    steps = np.diff(logs[np.array(taken[1:]) >= 8])
    assert len(taken) == 20
    assert np.abs(steps / steps.mean() - 1).max() < 0.1


@pytest.mark.parametrize("most", [0.02, 0.1, 0.15, 0.3, 0.6])
@pytest.mark.parametrize("epochs", [30, 200])
def test_the_whole_budget_is_spent_and_no_more(most, epochs):
    taken, share = simulated(most, epochs, snapshot=0.3, floor=0.3)
    budget = most / (1 - most) * epochs
    # Without the two noise floors, which the first and the last measure.
    wanted = min(epochs + 1, max(4, math.floor((budget - 0.6) / 0.3 + 1e-6)))
    assert len(taken) == wanted
    assert taken[:3] == [-1, 0, 1]
    assert taken[-1] == epochs - 1
    assert share <= most or len(taken) == 4


def test_the_first_two_and_the_last_are_taken_on_credit():
    taken, share = simulated(1e-6, 30)
    assert taken == [-1, 0, 1, 29]
    assert share > 1e-6


def test_the_share_holds_if_snapshots_become_dearer_or_epochs_shorter():
    dearer, share = simulated(0.2, 60, snapshot=lambda epoch: 0.5 if epoch < 10 else 1.0)
    assert share <= 0.2
    _, share = simulated(0.2, 60, seconds=lambda epoch: 1.0 if epoch < 5 else 0.7, snapshot=0.5)
    assert share <= 0.2
    cheaper, _ = simulated(0.2, 60, snapshot=0.5)
    assert len(dearer) < len(cheaper)


def test_planned_anew_what_becomes_cheaper_is_taken_more_often():
    cheaper, share = simulated(0.1, 100, snapshot=lambda epoch: 1.0 if epoch < 20 else 0.2)
    constant, _ = simulated(0.1, 100)
    assert len([e for e in cheaper if e >= 20]) > 2 * len([e for e in constant if e >= 20])
    assert share <= 0.1


@pytest.mark.parametrize(
    ("freq", "first"), [(3, [-1, 0, 3]), (frozenset({2, 5, 6, 11, 20, 27}), [-1, 2, 5])]
)
def test_only_due_epochs_are_planned(freq, first):
    taken, _ = simulated(0.15, 30, freq=freq)
    assert taken[:3] == first
    assert 3 < len(taken) < 8
    assert all(plan.is_due(freq, epoch) for epoch in taken[1:-1])


def test_enough_time_takes_every_due_epoch():
    assert simulated(0.9, 30)[0] == list(range(-1, 30))
    given = {1, 4, 9, 12}
    assert simulated(0.9, 30, freq=given)[0] == [-1, *sorted(given), 29]


def test_a_quotient_just_below_a_whole_number_counts_as_it():
    measured = Measured(spent=0.0, trained=9 * 0.3, epoch=0.0, snapshot=0.1, last_snapshot=0.0)
    # 0.1 / 0.9 of 2.7 seconds are three snapshots of 0.1 seconds.
    assert plan.affordable(0.1, measured, 0) == 3
