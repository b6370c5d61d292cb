"""Count what snapshots cost, and decide whether one more can be afforded.

Compiling is counted apart, since it happens once, however long training is. This module
never skips a snapshot itself: the callback does.
"""

from __future__ import annotations

import time


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
        self._snapshot: float | None = None
        self._slowest = self._floor = 0.0

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
        self._snapshot = seconds - compiling - floor
        self._slowest = max(self._slowest, self._snapshot)
        self._floor = max(self._floor, floor)

    def share(self) -> float:
        """Return the share of the time since training began that snapshots took."""
        elapsed = time.perf_counter() - self.began - self.compiling
        return min(1.0, self.spent / max(elapsed, 1e-9))

    def affords_snapshot(self) -> bool:
        """Return whether a snapshot now, and the last one later, keep the share below `most`."""
        if self.most is None or self._snapshot is None:
            return True
        # The last snapshot cannot be skipped, and may be as slow as the slowest so far.
        planned = self._snapshot + self._slowest + self._floor
        elapsed = time.perf_counter() - self.began - self.compiling
        return self.spent + planned <= self.most * (elapsed + planned)
