"""What the drawn units do on real images, at one moment of a training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOT_SETTLED = -2  # No snapshot has this epoch.
# A unit with more functional drift than this has not settled, nor has one with fewer later
# snapshots that tell its functional drift.
_MOST_DRIFT, _FEWEST_LATER = 0.05, 3


@dataclass(frozen=True, eq=False)
class Behaviour:
    """What each drawn unit does on the real images; NaN where it is not known.

    Attributes:
        functional_drift: Float32 array `(targets,)`: one minus Spearman's correlation of
            the unit's scores of the real images with those at the snapshot before.
        top_overlap: Float32 array `(targets,)`: of the up to nine top activating images then
            and now, the share that is in both (the Jaccard index).
        selectivity: Float32 array `(targets,)`: area under the ROC curve that tells the
            unit's best class from all others by its score.
        best_class: The name of that class, one a target; empty where it is not known.
        active_share: Float32 array `(targets,)`: share of real images with a score above 0.
    """

    functional_drift: np.ndarray
    top_overlap: np.ndarray
    selectivity: np.ndarray
    best_class: list[str]
    active_share: np.ndarray

    @classmethod
    def unknown(cls, count: int) -> Behaviour:
        """Return that of so many targets of which nothing is known.

        Example:
        >>> Behaviour.unknown(2).active_share
        array([nan, nan], dtype=float32)
        """
        nothing = np.full(count, np.nan, "float32")
        return cls(nothing, nothing, nothing, [""] * count, nothing)


def settled(
    epochs: np.ndarray, drift: np.ndarray, noise_floor: np.ndarray, functional_drift: np.ndarray
) -> np.ndarray:
    """Return the epoch at which each target has settled, see `History.settled`.

    Args:
        epochs: Int array `(snapshots,)`.
        drift: Array `(snapshots, targets)`, of pictures.
        noise_floor: The same; NaN where it was not measured.
        functional_drift: The same. Where it is NaN, it neither moves a target nor counts as
            one of three snapshots.

    Returns:
        Int array `(targets,)`, -2 for a target that has not settled.

    Example:
    >>> drift = np.array([[np.nan], [0.9], [0.1], [0.1], [0.1]])
    >>> settled(np.arange(-1, 4), drift, np.full((5, 1), 0.2), drift / 10)
    array([0])
    """
    measured = np.flatnonzero(np.isfinite(noise_floor).any(1))
    if not len(measured):
        return np.full(drift.shape[1], NOT_SETTLED)
    floor = np.nan_to_num(noise_floor[measured[[0, -1]]], nan=-1.0).max(0)
    # A picture whose drift is not known may have moved.
    has_moved = ~(drift < floor) | (functional_drift >= _MOST_DRIFT)
    is_known = np.isfinite(functional_drift)
    is_settled = (_later(has_moved) == 0) & (_later(is_known) >= _FEWEST_LATER)
    return np.where(is_settled.any(0), epochs[is_settled.argmax(0)], NOT_SETTLED)


def _later(conditions):
    """Count how often each condition holds in later rows."""
    return np.cumsum(conditions[::-1], axis=0)[::-1] - conditions
