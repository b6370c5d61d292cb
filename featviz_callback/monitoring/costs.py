"""Count what snapshots and epochs cost, and decide whether a snapshot is taken now.

Compiling is counted apart, since it happens once, however long training is. This module
never skips a snapshot itself: the callback does.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace
from statistics import median

from featviz_callback.monitoring import plan
from featviz_callback.monitoring.plan import Measured

# Costs to come are the median of so many of the last ones, as other programs may disturb one,
# or that of all, whichever is worse.
_RECENT = 5

# Epochs to come may be faster, as on a machine that others have left. What is held back for
# that is spent as they end. With four fifths, simulated trainings on unsteady machines mostly
# keep their share, and nearly all still have a snapshot after epoch 2 if the share allows one.
_CAUTION = 0.8


class Costs:
    """Seconds spent on snapshots, against the time since training began.

    Seconds of compiling, and of preparing the first snapshot, are part of neither number.

    Args:
        most: Largest share of the time that snapshots may take, in `(0, 1)`; `None` for
            no bound.

    Attributes:
        spent: Seconds that snapshots took.
        compiling: Seconds that compiling took.
    """

    def __init__(self, most: float | None):
        self.most = most
        self.began = time.perf_counter()
        self.spent = self.compiling = 0.0
        self._snapshots: list[float] = []
        self._epochs: list[float] = []
        self._floor = self._trained = self._prepared = 0.0
        self._film, self._others_of_film = 0.0, 0
        # Of workers, and of noise floors there.
        self._elsewhere: list[float] = []
        self._floor_elsewhere = 0.0

    def add(self, seconds: float, floor: float, compiling: float) -> None:
        """Count one snapshot.

        Args:
            seconds: Seconds that the snapshot took, with all of its parts.
            floor: Seconds spent on the noise floor of drift, which only the first and
                the last snapshot measure.
            compiling: Seconds spent on compiling.
        """
        self.compiling += compiling
        self.spent += seconds - compiling
        self._snapshots.append(seconds - compiling - floor)
        self._floor = max(self._floor, floor)

    def add_elsewhere(self, seconds: float, floor: float) -> None:
        """Count what a worker took for a snapshot that `add` counts too.

        Args:
            seconds: Seconds that it took there, with all of its parts.
            floor: Seconds spent there on the noise floor of drift.
        """
        self._elsewhere.append(seconds - floor)
        self._floor_elsewhere = max(self._floor_elsewhere, floor)

    def add_preparation(self, seconds: float) -> None:
        """Leave out what preparing took, such as reading the real images."""
        self._prepared += seconds

    def add_rest(self, seconds: float, compiling: float = 0.0) -> None:
        """Count what took time beside snapshots, as the film does at the end of training."""
        self.compiling += compiling
        self.spent += seconds - compiling

    def expect_film(self, seconds: float, others: int) -> None:
        """Hold back time for the film at the end of training.

        Args:
            seconds: What each of its snapshots takes.
            others: How many it has beside those that are counted here.
        """
        self._film, self._others_of_film = seconds, others

    def epoch_ended(self) -> None:
        """Count one epoch, before the snapshot at its end."""
        trained = self._elapsed() - self.spent
        self._epochs.append(trained - self._trained)
        self._trained = trained

    def share(self) -> float:
        """Return the share of the time since training began that snapshots took."""
        return min(1.0, self.spent / max(self._elapsed(), 1e-9))

    def plans_snapshot(
        self,
        epoch: int,
        last: int | None,
        freq: int | Collection[int],
        taken: int,
        backlog: int | None = None,
    ) -> bool:
        """Return whether a snapshot is taken at the end of an epoch.

        Args:
            epoch: The epoch, which is due and not the last one.
            last: The last epoch, or `None` if nobody knows. Then snapshots are taken as soon
                as the time so far pays for them, and for the last one.
            freq: The argument of the callback.
            taken: The epoch of the snapshot before.
            backlog: How many snapshots wait for workers, where these take them. What is left
                of them when training ends is waited for then.
        """
        if self.most is None or plan.is_on_credit(freq, epoch):
            return True
        if not self._snapshots:
            # Nobody knows yet how long those that wait will take.
            return not backlog
        left = 0 if last is None else last - epoch
        measured = self._measured()
        if backlog is not None and self._elsewhere:
            measured = self._with_waiting(measured, backlog, left)
        count = plan.affordable(self.most, measured, left)
        if last is None:
            return count > 0
        return count > 0 and epoch >= plan.next_planned(freq, last, taken, count)

    def _measured(self):
        # The first snapshot also chooses the starts, which no later one does.
        usual = self._snapshots[1:] or self._snapshots
        return Measured(
            spent=self.spent,
            trained=self._elapsed() - self.spent,
            epoch=_CAUTION * min(_medians(self._epochs or [0.0])),
            snapshot=max(_medians(usual)) + self._film,
            # It cannot be skipped, and may be as slow as the slowest so far.
            last_snapshot=max(usual) + self._floor + self._film * self._length_of_film,
        )

    @property
    def _length_of_film(self):
        return self._others_of_film + len(self._snapshots) + 1

    def _with_waiting(self, measured, backlog, left):
        """Add what is left of the work of workers when training ends."""
        usual = self._elsewhere[1:] or self._elsewhere
        # One more than wait now, since it is to be decided whether that one is taken.
        work = (backlog + 1) * max(_medians(usual)) - left * measured.epoch
        last = max(usual) + self._floor_elsewhere
        return replace(
            measured,
            spent=measured.spent + max(0.0, work),
            last_snapshot=measured.last_snapshot + last,
        )

    def _elapsed(self):
        return time.perf_counter() - self.began - self.compiling - self._prepared


def _medians(costs):
    """Return the median of the last costs, and that of all."""
    return median(costs[-_RECENT:]), median(costs)
