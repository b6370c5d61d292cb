"""Count what snapshots and epochs cost, and decide whether a snapshot is taken now.

Compiling is counted apart, since it happens once, however long training is. This module
never skips a snapshot itself: the callback does.
"""

from __future__ import annotations

import time
from collections.abc import Collection
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

    Seconds of compiling are part of neither number.

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
        self._floor = self._trained = 0.0

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

    def epoch_ended(self) -> None:
        """Count one epoch, before the snapshot at its end."""
        trained = self._elapsed() - self.spent
        self._epochs.append(trained - self._trained)
        self._trained = trained

    def share(self) -> float:
        """Return the share of the time since training began that snapshots took."""
        return min(1.0, self.spent / max(self._elapsed(), 1e-9))

    def plans_snapshot(
        self, epoch: int, last: int | None, freq: int | Collection[int], taken: int
    ) -> bool:
        """Return whether a snapshot is taken at the end of an epoch.

        Args:
            epoch: The epoch, which is due and not the last one.
            last: The last epoch, or `None` if nobody knows. Then snapshots are taken as soon
                as the time so far pays for them, and for the last one.
            freq: The argument of the callback.
            taken: The epoch of the snapshot before.
        """
        if self.most is None or not self._snapshots or plan.is_on_credit(freq, epoch):
            return True
        left = 0 if last is None else last - epoch
        count = plan.affordable(self.most, self._measured(), left)
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
            snapshot=max(_medians(usual)),
            # It cannot be skipped, and may be as slow as the slowest so far.
            last_snapshot=max(usual) + self._floor,
        )

    def _elapsed(self):
        return time.perf_counter() - self.began - self.compiling


def _medians(costs):
    """Return the median of the last costs, and that of all."""
    return median(costs[-_RECENT:]), median(costs)
