"""Note in a run's folder which weights its snapshots show.

An interrupted replay goes on in the run of the same weights and settings, and other weights
make a new run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from featviz_callback.tensorboard import read_note, write_note

_NAME = "replay.json"


@dataclass
class Record:
    """What a replay has done so far.

    Attributes:
        settings: A hash of all that pictures depend on, except the weights.
        weights: A hash of the weights of each epoch whose snapshot is written.
        skipped: The epochs whose checkpoints could not be loaded.
    """

    settings: str
    weights: dict[int, str] = field(default_factory=dict)
    skipped: list[int] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The last epoch whose snapshot is written."""
        return max(self.weights, default=-1)

    def write(self, run: str) -> None:
        """Write the record to the folder of a run."""
        write_note(run, _NAME, json.dumps(asdict(self)))

    @classmethod
    def read(cls, run: str) -> Record | None:
        """Return the record of a run, or `None` if no replay made it."""
        try:
            found = json.loads(read_note(run, _NAME) or "")
            weights = {int(epoch): text for epoch, text in found["weights"].items()}
            return cls(found["settings"], weights, found["skipped"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
