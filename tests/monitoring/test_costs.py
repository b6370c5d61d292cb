"""What snapshots and epochs cost, and whether a snapshot is taken now."""

import time

import numpy as np
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


def pays(costs, epoch=10):
    """Whether a snapshot is taken in a training that ends nobody knows when."""
    return costs.plans_snapshot(epoch, None, 1, epoch - 1)


def test_everything_is_afforded_without_a_bound():
    costs = Costs(None)
    costs.add(100.0, 0.0, 0.0)
    assert pays(costs)


def test_the_first_snapshot_is_always_afforded():
    assert pays(Costs(1e-9))


@pytest.mark.parametrize(("elapsed", "affords"), [(20.0, False), (56.0, False), (58.0, True)])
def test_a_snapshot_is_afforded_once_the_last_one_will_be_too(elapsed, affords):
    costs = Costs(0.1)
    # The first snapshot has two optimisations of one second each, as the last one will.
    # All others have one.
    costs.add(seconds=12.0, floor=1.0, compiling=10.0)
    # (2 + 3) / (47 + 3) = 0.1, and ten seconds of compiling.
    assert pays(after(costs, elapsed)) is affords


@pytest.mark.parametrize(("elapsed", "affords"), [(175.0, False), (185.0, True)])
def test_time_is_kept_for_a_last_snapshot_as_slow_as_the_slowest(elapsed, affords):
    """On a machine that others use too, a snapshot may take many times as long as usual."""
    costs = Costs(0.1)
    # The first one chooses the starts too, which the last one does not.
    for seconds in (20.0, 1.0, 8.0, 1.0):
        costs.add(seconds, floor=0.0, compiling=0.0)
    # (30 + 1 + 8) / (381 + 9) = 0.1
    assert pays(after(costs, elapsed + 200.0)) is affords


@pytest.mark.parametrize(("elapsed", "affords"), [(255.0, False), (265.0, True)])
def test_time_is_kept_for_the_film(elapsed, affords):
    costs = Costs(0.1)
    costs.expect_film(seconds=1.0, others=5)
    for seconds in (4.0, 4.0, 4.0):
        costs.add(seconds, floor=0.0, compiling=0.0)
    # A snapshot more, the last one, and a film of five, three and two: 12 + 4 + 4 + 10 = 30,
    # of 12 + 270 + 18 = 300.
    assert pays(after(costs, elapsed + 22.0)) is affords


def test_preparation_is_left_out_and_what_is_written_at_the_end_is_not():
    costs = Costs(None)
    costs.add_preparation(100.0)
    costs.add(seconds=3.0, floor=0.0, compiling=0.0)
    costs.add_rest(seconds=6.0, compiling=4.0)
    assert costs.spent == 5.0
    # Of 154 seconds, 100 were before training and 4 compiled.
    assert after(costs, 154.0).share() == pytest.approx(0.1, abs=1e-3)


def test_a_share_is_never_above_one():
    costs = Costs(0.1)
    costs.add(seconds=5.0, floor=0.0, compiling=0.0)
    assert costs.share() == 1.0


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("featviz_callback.monitoring.costs.time", clock)
    return clock


def trained(clock, costs, epochs, last, seconds=lambda epoch: 1.0, cost=lambda usual: usual):
    """Train by a clock that is set; return the epochs of the snapshots."""

    def take_snapshot(seconds, floor):
        seconds, floor = cost(seconds), cost(floor)
        clock.now += seconds + floor
        costs.add(seconds + floor, floor, compiling=0.0)

    # The first one chooses the starts too.
    take_snapshot(0.9, 0.3)
    taken = [-1]
    for epoch in range(epochs):
        clock.now += seconds(epoch)
        costs.epoch_ended()
        if epoch + 1 == epochs:
            take_snapshot(0.3, 0.3)
            taken.append(epoch)
        elif costs.plans_snapshot(epoch, last, 1, taken[-1]):
            take_snapshot(0.3, 0.0)
            taken.append(epoch)
    return taken


@pytest.mark.parametrize("bound", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("is_known", [True, False])
def test_the_bound_holds_at_the_end_of_a_training(clock, bound, is_known):
    """Epochs take 1 s, snapshots 0.3 s, the first 1.2 and the last 0.6 s."""
    costs = Costs(bound)
    taken = trained(clock, costs, 200, 199 if is_known else None)
    assert costs.share() <= bound
    # The bound would not hold with one more snapshot, or with two if the end is a surprise.
    more = 0.3 if is_known else 0.6
    assert costs.spent + more > bound * (clock.now + more)
    assert taken[:3] == [-1, 0, 1]
    early, tenth = sum(epoch < 20 for epoch in taken[1:]), len(taken) / 10
    assert early > tenth + 2 if is_known else early <= tenth + 2


@pytest.mark.parametrize("slow", [0, 3, 8])
def test_one_slow_epoch_changes_little(clock, slow):
    """The first epoch may trace and compile, and other programs may disturb another one."""
    usual = trained(clock, Costs(0.2), 30, 29)
    costs = Costs(0.2)
    taken = trained(clock, costs, 30, 29, lambda epoch: 6.0 if epoch == slow else 1.0)
    assert costs.share() <= 0.2
    assert 0 <= len(taken) - len(usual) <= 5 * 0.25 / 0.3 + 1


@pytest.mark.parametrize("seconds", [0.8, 0.9])
@pytest.mark.parametrize("since", [20, 40, 60])
def test_the_bound_holds_if_epochs_become_faster(clock, since, seconds):
    costs = Costs(0.05)
    trained(clock, costs, 80, 79, lambda epoch: 1.0 if epoch < since else seconds)
    assert costs.share() <= 0.05


def test_planning_follows_epochs_that_become_longer(clock):
    usual = trained(clock, Costs(0.1), 60, 59)
    costs = Costs(0.1)
    longer = trained(clock, costs, 60, 59, lambda epoch: 1.0 if epoch < 20 else 3.0)
    assert costs.share() <= 0.1
    assert [e for e in longer if e < 20] == [e for e in usual if e < 20]
    assert len(longer) > 1.5 * len(usual)


def test_the_bound_holds_on_an_unsteady_machine(clock):
    """Others come and go: all costs rise and fall together, and each by itself."""
    shares = []
    for seed in range(30):
        rng, speed, costs = np.random.default_rng(seed), [1.0], Costs(0.15)

        def seconds(usual, rng=rng, speed=speed):
            speed.append(speed[-1] ** 0.9 * np.exp(rng.normal(0, 0.1)))
            return usual * speed[-1] * np.exp(rng.normal(0, 0.1))

        clock.now = 0.0
        costs.began = 0.0
        taken = trained(clock, costs, 30, 29, lambda _, cost=seconds: cost(1.0), seconds)
        assert taken[:3] == [-1, 0, 1]
        shares.append(costs.share())
    assert np.mean(np.array(shares) <= 0.15) >= 0.9
    assert max(shares) < 0.16


@pytest.mark.parametrize("bound", [0.1, 0.3])
@pytest.mark.parametrize("first", [5.0, 40.0])
@pytest.mark.parametrize("is_known", [True, False])
def test_the_bound_holds_with_a_slow_worker_whose_work_is_waited_for(clock, bound, first, is_known):
    """Epochs take 1 s, and snapshots 5 s of a worker, whose first one also starts it."""
    costs, ends, taken = Costs(bound), [], []

    def take_snapshot(epoch):
        clock.now += 0.01
        begins = max(clock.now, ends[-1] if ends else 0.0)
        ends.append(begins + (5.0 if ends else first))
        taken.append(epoch)

    def record(count):
        for _ in range(count):
            waited = max(0.0, ends[record.done] - clock.now)
            clock.now += waited
            costs.add(0.01 + waited, 0.0, 0.0)
            costs.add_elsewhere(5.0 if record.done else first, 0.0)
            record.done += 1

    record.done = 0
    take_snapshot(-1)
    for epoch in range(200):
        clock.now += 1.0
        costs.epoch_ended()
        record(sum(end <= clock.now for end in ends) - record.done)
        backlog, last = len(ends) - record.done, 199 if is_known else None
        if epoch == 199 or costs.plans_snapshot(epoch, last, 1, taken[-1], backlog):
            take_snapshot(epoch)
    record(len(ends) - record.done)
    assert costs.share() <= bound
    assert taken[:3] == [-1, 0, 1]
    # Of the most time that is allowed, the worker needs all for 57.
    assert 10 <= len(taken) <= 57
    assert max(np.diff(taken)) < 45 or not is_known
