"""Whether one more snapshot can be afforded."""

import time

import pytest

from featviz_callback.monitoring.costs import Costs


def after(costs, seconds):
    """Set the clock so that this many seconds have passed since training began."""
    costs.began = time.perf_counter() - seconds
    return costs


def test_the_share_is_of_the_time_since_training_began_without_compiling():
    costs = Costs(None)
    costs.add(seconds=5.0, floor=0.0, compiling=3.0)
    costs.add(seconds=1.0, floor=0.0, compiling=0.0)
    assert (costs.spent, costs.compiling) == (3.0, 3.0)
    assert after(costs, 33.0).share() == pytest.approx(0.1, abs=1e-3)


def test_everything_is_afforded_without_a_bound():
    costs = Costs(None)
    costs.add(100.0, 0.0, 0.0)
    assert costs.affords_snapshot()


def test_the_first_snapshot_is_always_afforded():
    assert Costs(1e-9).affords_snapshot()


@pytest.mark.parametrize(("elapsed", "affords"), [(20.0, False), (56.0, False), (58.0, True)])
def test_a_snapshot_is_afforded_once_the_last_one_will_be_too(elapsed, affords):
    costs = Costs(0.1)
    # The first snapshot has two optimisations of one second each, as the last one will.
    # All others have one.
    costs.add(seconds=12.0, floor=1.0, compiling=10.0)
    # (2 + 3) / (47 + 3) = 0.1, and ten seconds of compiling.
    assert after(costs, elapsed).affords_snapshot() is affords


@pytest.mark.parametrize(("elapsed", "affords"), [(175.0, False), (185.0, True)])
def test_time_is_kept_for_a_last_snapshot_as_slow_as_the_slowest(elapsed, affords):
    """On a machine that others use too, a snapshot may take many times as long as usual."""
    costs = Costs(0.1)
    for seconds in (1.0, 8.0, 1.0):
        costs.add(seconds, floor=0.0, compiling=0.0)
    # (10 + 1 + 8) / (181 + 9) = 0.1
    assert after(costs, elapsed).affords_snapshot() is affords


def test_a_share_is_never_above_one():
    costs = Costs(0.1)
    costs.add(seconds=5.0, floor=0.0, compiling=0.0)
    assert costs.share() == 1.0


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.2])
def test_the_bound_holds_at_the_end_of_a_training(monkeypatch, bound):
    """Epochs take 1 s, snapshots 0.3 s, and the first and the last snapshot 0.6 s."""
    clock = Clock()
    monkeypatch.setattr("featviz_callback.monitoring.costs.time", clock)
    costs, snapshots = Costs(bound), 0

    def take_snapshot(seconds, floor):
        clock.now += seconds + floor
        costs.add(seconds + floor, floor, compiling=0.0)

    take_snapshot(0.3, 0.3)
    for _ in range(200):
        clock.now += 1.0
        if costs.affords_snapshot():
            take_snapshot(0.3, 0.0)
            snapshots += 1
    take_snapshot(0.3, 0.3)
    assert costs.share() <= bound
    # The bound would not hold with one more snapshot.
    assert costs.spent + 0.3 > bound * (clock.now + 0.3)
    assert snapshots > 2
