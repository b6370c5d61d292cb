"""Note in a run's folder which weights its epochs ended with, to find the run of a training.

A training that goes on at a later epoch begins with weights that its run has seen, whichever
checkpoint they come from. Names of targets are those of other trainings too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.tensorboard import read_note, write_note

_NAME = "training.json"
# Training changes nearly all weights, so some values of each tensor tell all of it.
_VALUES = 1024
# So many epochs are noted, the last ones.
_EPOCHS = 1000


@dataclass
class TrainingRecord:
    """What is known of the weights of a run.

    Attributes:
        weights: Pairs `[epoch, hash]` of the weights at the end of epochs, in order.
        guessed: The epoch at which a training went on with the run whose weights the run had
            never seen, or `None`.
    """

    weights: list[list] = field(default_factory=list)
    guessed: int | None = None

    def add(self, epoch: int, found: str | None) -> None:
        """Note the weights at the end of an epoch. Those of the untrained network tell no run."""
        if found is not None and epoch >= 0 and [epoch, found] not in self.weights[-2:]:
            self.weights = [*self.weights, [epoch, found]][-_EPOCHS:]

    def go_on(self, epoch: int, is_guessed: bool) -> None:
        """Note that a training goes on at an epoch, in place of that one and later ones."""
        self.weights = [one for one in self.weights if one[0] < epoch]
        if is_guessed:
            self.guessed = epoch

    def epoch_of(self, found: str | None) -> int:
        """Return the last epoch that ended with some weights, -1 if none did."""
        return max((epoch for epoch, known in self.weights if known == found), default=-1)

    def may_be_of(self, epoch: int) -> bool:
        """Whether an unknown training may go on here: no other one has done so from there on."""
        last = max((one for one, _ in self.weights), default=-1)
        return self.guessed is None or last < epoch

    def write(self, run: str) -> None:
        """Write the record to the folder of a run."""
        write_note(run, _NAME, json.dumps(asdict(self)))

    @classmethod
    def read(cls, run: str) -> TrainingRecord:
        """Return the record of a run, an empty one if it has none."""
        try:
            content = json.loads(read_note(run, _NAME) or "{}")
            weights = [[int(epoch), str(found)] for epoch, found in content["weights"]]
            guessed = content["guessed"]
            return cls(weights, None if guessed is None else int(guessed))
        except (OSError, ValueError, KeyError, TypeError):
            return cls()


def choose_run(
    runs: Sequence[str], begun: str | None, epoch: int, own: str | None = None
) -> tuple[str | None, bool]:
    """Find the run that a training goes on with.

    Args:
        runs: The runs of the same targets, the newest one first.
        begun: A hash of the weights that the training begins with, `None` if nobody knows.
        epoch: The first epoch of the training.
        own: The run that the same callback has written of the same model.

    Returns:
        The run, `None` if it is none of them, or nobody can tell; and whether it is certain.
    """
    records = {run: TrainingRecord.read(run) for run in runs}
    if own in records:
        return own, True
    seen = {run: at for run, one in records.items() if (at := one.epoch_of(begun)) >= 0}
    if seen:
        # A network may have been copied; or it has weights of its own that no training changes.
        return max(seen, key=lambda run: (seen[run] == epoch - 1, seen[run])), True
    if len(runs) == 1 and records[runs[0]].may_be_of(epoch):
        return runs[0], False
    return None, False


def hash_weights(model: keras.Model) -> str | None:
    """Return a hash of a model's weights, `None` if it has none or they are spread over processes.

    Each tensor counts by up to about two thousand of its values, spread evenly. Their order
    does not count, nor do names.
    """
    load = backend.load()
    if load.is_together() or not model.weights:
        return None
    each = []
    for one in model.weights:
        values = load.to_numpy(one.value).reshape(-1)
        step = max(1, len(values) // _VALUES)
        some = np.ascontiguousarray(values[::step])
        hasher = hashlib.sha256(f"{some.dtype}{tuple(one.shape)}".encode())
        # Strings have no bytes of their own.
        hasher.update(repr(some.tolist()).encode() if some.dtype == object else some.tobytes())
        each.append(hasher.digest())
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()[:32]
