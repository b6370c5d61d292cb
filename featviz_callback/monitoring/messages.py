"""What the callback logs and prints.

A `Reporter` remembers what it has logged, so that a long training logs each trouble once.
It never raises an error and never changes a snapshot.
"""

from __future__ import annotations

import logging
import warnings

from featviz_callback.records import Snapshot

logger = logging.getLogger("featviz_callback")

# A snapshot that takes this many seconds more than its epoch gets a warning.
PATIENCE = 60.0
_NAMES_LISTED = 10


class Reporter:
    """The messages of one training.

    Args:
        verbose: 1 prints a line at each snapshot.
    """

    def __init__(self, verbose: int):
        self._verbose = verbose
        self._logged: set[str] = set()
        self._status: dict[str, str] = {}

    def failed(self, error: Exception) -> None:
        """Warn once that something failed, and that training goes on."""
        if self._is_new("failed"):
            warnings.warn(
                "FeatureVisCallback could not take or write a snapshot. Training goes on, and "
                "further failures are not reported. Use on_error='raise' to see the traceback. "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )

    def snapshot_taken(
        self, snapshot: Snapshot, share: float, compiling: float, epoch_seconds: float
    ) -> None:
        """Log targets that are newly dead, saturated or NaN, and print what the snapshot cost.

        Args:
            snapshot: The snapshot, with the seconds that it took.
            share: Share of the time since training began that snapshots took, in `[0, 1]`.
            compiling: Seconds that compiling took, in addition.
            epoch_seconds: Seconds that the epoch before the snapshot took.
        """
        self._name_troubles(snapshot)
        if snapshot.seconds > epoch_seconds + PATIENCE and self._is_new("outlived"):
            logger.warning(
                "A snapshot took %.0f s, and the epoch before it %.0f s. Take fewer snapshots "
                "(`freq`), keep them below a share of the time (`max_overhead`), or use fewer "
                "objectives or `steps`.",
                snapshot.seconds,
                epoch_seconds,
            )
        if self._verbose:
            once = f", and {compiling:.1f} s once to compile" if compiling else ""
            print(
                f"feature_vis: epoch {snapshot.epoch}, {len(snapshot.names)} images in "
                f"{snapshot.seconds:.2f} s, {share:.1%} of the time so far{once}"
            )

    def skipped(self, epoch: int, most: float) -> None:
        """Log once that snapshots are skipped."""
        if self._is_new("skipped"):
            logger.warning(
                "The snapshot after epoch %d is skipped, and later ones may be, to keep snapshots "
                "below max_overhead=%g of the time. `history.skipped` lists the skipped epochs.",
                epoch,
                most,
            )

    def lost(self, epochs: list[int], written: tuple, expected: tuple) -> None:
        """Log which snapshots of an earlier process cannot be read back, and why.

        Args:
            epochs: The epochs of these snapshots.
            written: Shape of an image in the event files, without the axis of targets.
            expected: Shape of an image in this training.
        """
        logger.warning(
            "Snapshots of an earlier process, at epochs %s, are missing from `history`. Their "
            "pictures have shape %s, and values of shape %s cannot be read back from them. Only "
            "images with 1 or 3 channels and of an unchanged size can be read back.",
            ", ".join(map(str, epochs)),
            written,
            expected,
        )

    def _is_new(self, what):
        is_new = what not in self._logged
        self._logged.add(what)
        return is_new

    def _name_troubles(self, snapshot):
        now = dict(zip(snapshot.names, snapshot.status, strict=True))
        for status in dict.fromkeys(snapshot.status):
            names = [n for n, s in now.items() if s == status != self._status.get(n, "ok")]
            if names and status != "ok":
                more = f" and {len(names) - _NAMES_LISTED} more" * (len(names) > _NAMES_LISTED)
                listed = ", ".join(names[:_NAMES_LISTED]) + more
                logger.warning("Epoch %d: %s: %s", snapshot.epoch, status, listed)
        self._status = now
