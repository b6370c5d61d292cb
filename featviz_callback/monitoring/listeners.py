"""Hand each snapshot to a function of the user's, such as one that feeds another tracker."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featviz_callback.records import Checkup, Snapshot, pictures


@dataclass(frozen=True, eq=False)
class TakenSnapshot:
    """What `on_snapshot` is called with. Arrays are the history's own: copy before a change.

    Attributes:
        epoch: The epoch that had just ended, from 0; -1 is the untrained network.
        names: One name a target.
        images: Float32 array `(targets, height, width, channels)` in the model's range.
        pictures: Uint8 array `(targets, height, width, 1 or 3)` of them, to be shown.
        scores: Float32 array `(targets,)`.
        status: One word a target, see `featviz_callback.Result`.
        drift: Float32 array `(targets,)`, NaN at the first snapshot.
        health: The numbers of every layer, a `featviz_callback.records.Checkup`.
        real_pictures: Uint8 pictures `(height, width, 3)`, one a target: the optimised image
            beside the top activating real ones. Empty without `probe_data`, and with
            `log_real_images=False`.
    """

    epoch: int
    names: list[str]
    images: np.ndarray
    pictures: np.ndarray
    scores: np.ndarray
    status: list[str]
    drift: np.ndarray
    health: Checkup
    real_pictures: list[np.ndarray]


def as_taken_snapshot(
    snapshot: Snapshot, real_pictures: list[np.ndarray], health: Checkup
) -> TakenSnapshot:
    """Return what a function of the user's gets of a snapshot."""
    return TakenSnapshot(
        epoch=snapshot.epoch,
        names=snapshot.names,
        images=snapshot.images,
        pictures=pictures.of_targets(snapshot.images, snapshot.values_range),
        scores=snapshot.scores,
        status=snapshot.status,
        drift=snapshot.drift,
        health=health,
        real_pictures=real_pictures,
    )
