"""What looks cost, and whether one more can be afforded."""

from __future__ import annotations

import time


class Costs:
    """Seconds spent on looks, against the time since training began.

    Compiling happens once, however long training is; it is counted apart and is
    part of neither.

    Args:
        most: Largest share of the time that looks may take, in `(0, 1)`; `None` for
            any.

    Attributes:
        spent: Seconds that looks took.
        compiling: Seconds that compiling took.
    """

    def __init__(self, most: float | None):
        self.most = most
        self.began = time.perf_counter()
        self.spent = self.compiling = 0.0
        self._snapshot: float | None = None
        self._slowest = self._floor = 0.0

    def add(self, seconds: float, floor: float, compiling: float) -> None:
        """Counts one snapshot.

        Args:
            seconds: All of it.
            floor: What of it went into the floor of drift, which only the first and
                the last look measure.
            compiling: What of it went into compiling.
        """
        self.compiling += compiling
        self.spent += seconds - compiling
        self._snapshot = seconds - compiling - floor
        self._slowest = max(self._slowest, self._snapshot)
        self._floor = max(self._floor, floor)

    def share(self) -> float:
        """The share of the time since training began that looks took."""
        elapsed = time.perf_counter() - self.began - self.compiling
        return min(1.0, self.spent / max(elapsed, 1e-9))

    def affords_snapshot(self) -> bool:
        """Whether a look now, and the last one in the end, keep the share below `most`."""
        if self.most is None or self._snapshot is None:
            return True
        # The last look cannot be skipped: it may be as slow as the slowest so far.
        planned = self._snapshot + self._slowest + self._floor
        elapsed = time.perf_counter() - self.began - self.compiling
        return self.spent + planned <= self.most * (elapsed + planned)
