"""What a callback says, in the log and on the screen, and what it says only once."""

from __future__ import annotations

import logging
import warnings

from featviz_callback.records import Snapshot

logger = logging.getLogger("featviz_callback")

# Seconds by which a look may outlive its epoch before that is remarked on.
PATIENCE = 60.0
_NAMES_LISTED = 10


class Reporter:
    """Speaks for one training.

    Args:
        verbose: 1 prints a line at each snapshot.
    """

    def __init__(self, verbose: int):
        self._verbose = verbose
        self._said: set[str] = set()
        self._status: dict[str, str] = {}

    def failed(self, error: Exception) -> None:
        """Warns once that something went wrong, and that training goes on."""
        if self._is_new("failed"):
            warnings.warn(
                "FeatureVisCallback could not look at the model; training goes on, and "
                "further failures are not reported. Use on_error='raise' to see where. "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )

    def snapshot_taken(
        self, snapshot: Snapshot, share: float, compiling: float, epoch_seconds: float
    ) -> None:
        """Names targets that are newly dead, saturated or NaN, and says what it cost."""
        self._name_troubles(snapshot)
        if snapshot.seconds > epoch_seconds + PATIENCE and self._is_new("outlived"):
            logger.warning(
                "A look took %.0f s, and the epoch before it %.0f s. Look less often (`freq`), "
                "keep looks below a share of the time (`max_overhead`), or take fewer "
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
        """Says once that looks are skipped."""
        if self._is_new("skipped"):
            logger.warning(
                "The look after epoch %d is skipped, as others may be, to keep looks below "
                "max_overhead=%g of the time. `history.skipped` lists them.",
                epoch,
                most,
            )

    def lost(self, epochs: list[int], written: tuple, expected: tuple) -> None:
        """Names the looks of an earlier process that cannot be read back, and why."""
        logger.warning(
            "Looks of an earlier process, at epochs %s, are missing from `history`: pictures "
            "of shape %s were written of them, from which the values %s of a signal, or of "
            "an image with other than 1 or 3 channels or of another size, cannot be read back.",
            ", ".join(map(str, epochs)),
            written,
            expected,
        )

    def _is_new(self, what):
        is_new = what not in self._said
        self._said.add(what)
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
