"""Tell a worker that is slow from one that is gone, while nothing comes back from an executor.

A pool whose worker dies says so by an error. But a cluster may wait for another worker for
ever, and a host that has dropped from the network says nothing. So whoever waits asks for signs
of life: the processor time of a pool's processes, or the heartbeats of Dask's workers. Where an
executor tells neither, time alone decides, by what its results have taken so far.
"""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Executor
from typing import Any

# An executor is asked after so many seconds without a result, and then as often.
_EVERY = 10.0
# It is given up after so many seconds without any sign, and no sooner than this times the longest
# wait for a result.
LEAST, TIMES = 600.0, 10
# How long the first result takes, nobody knows: a network is compiled for it.
_FIRST = 180.0


class Life:
    """Whether an executor still works, asked while it holds something.

    Args:
        executor: The executor.
    """

    def __init__(self, executor: Executor):
        self._executor = executor
        self._processes: dict[int, Any] = {}
        self._longest: float | None = None
        self._signs: list[float] = []
        self.begin()

    def begin(self) -> None:
        """Note that something was handed over, and that nothing was on its way before."""
        self._began = self._seen = self._asked = time.monotonic()

    def end(self) -> None:
        """Note that something has come back."""
        self._longest = max(self._longest or 0.0, time.monotonic() - self._began)
        self.begin()

    def why_gone(self) -> TimeoutError | None:
        """Return why nothing more will come back, or `None` while it may."""
        now = time.monotonic()
        if now - self._asked >= _EVERY:
            self._asked, before, self._signs = now, self._signs, self._ask()
            if self._signs and self._signs != before:
                self._seen = now
        longest = _FIRST if self._longest is None else self._longest
        if now - self._seen < max(LEAST, TIMES * longest):
            return None
        return TimeoutError(
            f"nothing has come back for {now - self._began:.0f} seconds, and no worker shows a "
            "sign of life"
        )

    def _ask(self):
        """Return numbers that change as long as a worker lives; none where nobody knows."""
        # A pool that is shut down forgets its processes before they end.
        self._processes |= getattr(self._executor, "_processes", None) or {}
        times = [_processor_time(number, one) for number, one in self._processes.items()]
        return [one for one in times if one is not None] + _heartbeats(self._executor)


def _processor_time(number, process):
    """Return the processor time of a process, `None` if it has ended."""
    with contextlib.suppress(OSError), open(f"/proc/{number}/stat") as file:
        # The name before these may have spaces.
        times = file.read().rpartition(")")[2].split()[11:13]
        return float(sum(map(int, times)))
    # Elsewhere than on Linux, a process that hangs is waited for.
    with contextlib.suppress(ValueError):
        return time.monotonic() if process.is_alive() else None
    return None


def _heartbeats(executor):
    """Return when Dask's scheduler has heard of each worker, or nothing."""
    client = getattr(executor, "_client", None)
    if getattr(client, "asynchronous", True):
        return []
    try:
        found = client.sync(client.scheduler.identity, callback_timeout=_EVERY)
        return [float(one["last_seen"]) for one in found["workers"].values()]
    except Exception:
        # There is no scheduler, or another library has such an attribute.
        return []
