"""One snapshot of a network during its training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The images and numbers of all targets, at one moment of a training.

    Attributes:
        epoch: The epoch that had just ended, from 0; -1 is the untrained network.
        names: One name a target.
        images: Float32 array `(targets, height, width, channels)` in `values_range`.
        scores: Float32 array `(targets,)`, as `Result.scores`.
        status: One a target, as `Result.status`.
        drift: Float32 array `(targets,)`, see `featviz_callback.records.drift`; NaN at the
            first snapshot.
        noise_floor: Float32 array `(targets,)`, the drift between two seeds on these
            weights; NaN where it was not measured.
        score_ratio: Float32 array `(targets,)`, the score divided by that of the best
            real image; NaN if there is none, or if that score is not above 0.
        seconds: How long the snapshot took, without compiling.
        values_range: As `Result.values_range`.
        starts: One a target, as `Result.starts`; empty where it is not known.
        functional_drift: Float32 array `(targets,)`, see `Behaviour`, as are all below.
        top_overlap: Float32 array `(targets,)`.
        selectivity: Float32 array `(targets,)`.
        best_class: One name a target; empty where it is not known.
        active_share: Float32 array `(targets,)`.
        importance: Uint8 array `(targets, height, width)`, see
            `featviz_callback.records.pictures.of_importance`; `None` if it is not known.
    """

    epoch: int
    names: list[str]
    images: np.ndarray
    scores: np.ndarray
    status: list[str]
    drift: np.ndarray
    noise_floor: np.ndarray
    score_ratio: np.ndarray
    seconds: float
    values_range: tuple
    starts: list[str]
    functional_drift: np.ndarray
    top_overlap: np.ndarray
    selectivity: np.ndarray
    best_class: list[str]
    active_share: np.ndarray
    importance: np.ndarray | None = None

    def shown_ratio(self, target: int, digits: int) -> float:
        """Return the score ratio of a target, to be shown with so many digits.

        A picture that is below the best real image, by however little, is not shown as
        equal to it: with two digits, the ratio .996 of a weak picture is shown as .99.
        """
        ratio = float(self.score_ratio[target])
        is_below = self.status[target] in ("weak", "no_gradient")
        return min(ratio, 1 - 10.0**-digits) if is_below else ratio
