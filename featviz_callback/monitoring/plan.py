"""Plan at which epochs snapshots are taken, from what they and the epochs have cost so far.

Features form in the first epochs. Planned epochs are therefore spaced evenly in
log(epoch + 1): each stands to the next as that one to the one after it. The plan is made
anew at each epoch, from the numbers of that moment. It is arithmetic alone: `costs` has the
clock, and the callback takes the snapshots.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

# So many snapshots after the untrained network's are taken on credit.
ON_CREDIT = 2


@dataclass(frozen=True)
class Measured:
    """What a training has cost so far, and what its parts cost, in seconds.

    Attributes:
        spent: Seconds of all snapshots.
        trained: Seconds of everything else since training began, without compiling.
        epoch: Seconds of an epoch.
        snapshot: Seconds of a snapshot.
        last_snapshot: Seconds that are kept for the last snapshot.
    """

    spent: float
    trained: float
    epoch: float
    snapshot: float
    last_snapshot: float


def is_due(freq: int | Collection[int], epoch: int) -> bool:
    """Whether a snapshot may be taken at the end of an epoch, by `freq` alone."""
    return epoch % freq == 0 if isinstance(freq, int) else epoch in freq


def is_on_credit(freq: int | Collection[int], epoch: int) -> bool:
    """Whether an epoch is one of the first two at which a snapshot is due."""
    if isinstance(freq, int):
        return epoch < ON_CREDIT * freq
    return sum(0 <= one < epoch for one in freq) < ON_CREDIT


def affordable(most: float, measured: Measured, epochs_left: int) -> int:
    """Return how many more snapshots a share of the whole training pays for.

    The last snapshot is paid for before all others, and is not counted.

    Args:
        most: Largest share of the time that snapshots may take, in `(0, 1)`.
        measured: The costs so far.
        epochs_left: Epochs to come; 0 if nobody knows.

    Example:
    >>> costs = Measured(spent=3.0, trained=30.0, epoch=1.0, snapshot=2.0, last_snapshot=4.0)
    >>> affordable(0.2, costs, epochs_left=50)  # (3 + 6 * 2 + 4) / (80 + 19) < 0.2
    6
    """
    trained = measured.trained + epochs_left * measured.epoch
    left = most / (1 - most) * trained - measured.spent - measured.last_snapshot
    # A quotient of floats may end just below a whole number.
    return max(0, math.floor(left / max(measured.snapshot, 1e-9) + 1e-6))


def next_planned(freq: int | Collection[int], last: int, taken: int, count: int) -> int:
    """Return the epoch of the next snapshot.

    Args:
        freq: The argument of the callback.
        last: The last epoch, which has a snapshot in any case.
        taken: The epoch of the snapshot before.
        count: How many more are taken before the last one.

    Example:
    >>> next_planned(1, last=63, taken=1, count=4), next_planned(1, last=63, taken=3, count=3)
    (3, 7)
    """
    if not count:
        return last
    first = max(1, taken + 1)
    wanted = first * ((last + 1) / first) ** (1 / (count + 1)) - 1
    if isinstance(freq, int):
        later = [freq * max(taken // freq + 1, round(wanted / freq))]
    else:
        later = [epoch for epoch in freq if epoch > taken]
    return min([*later, last], key=lambda epoch: abs(epoch - wanted))
