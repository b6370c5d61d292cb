"""What the callback logs and prints.

A `Reporter` remembers what it has logged, so that a long training logs each trouble once.
It never raises an error and never changes a snapshot.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from featviz_callback.records import Checkup, Health, Snapshot

logger = logging.getLogger("featviz_callback")

# A snapshot that takes this many seconds more than its epoch gets a warning.
PATIENCE = 60.0
_NAMES_LISTED = 10

# What each status other than "ok" says of a target.
_MEANINGS = {
    "dead": "no image of `probe_data` activates these",
    "constant": "these have the same score for every image of `probe_data`",
    "no_gradient": "no gradient was found for these, from any start",
    "weak": "the pictures of these score below the best real image",
    "saturated": (
        "the pictures of these are at the ends of the range, and no better than at half the "
        "contrast"
    ),
    "nan": "these have a score or a gradient that is not a finite number",
}


# From which share of a layer on something is logged of it, what, and what may help: if training
# has brought it, and if the untrained network had it. Layers of healthy trainings had up to 11 %
# dead and 56 % duplicate units, and at ten times the usual learning rate 31 to 47 % were dead
# (`benchmarks/results/health_warnings.md`).
_ILLNESSES = {
    "nan": (
        1e-9,
        "{} of the activations of {} are no finite numbers",
        "the learning rate may be too high, or a value may be divided by zero",
        "a weight or an image may be no finite number, or a value may be divided by zero",
    ),
    "dead": (
        0.25,
        "{} of the units of {} are dead",
        "the learning rate may be too high. They are the same for all of `probe_data`",
        "the weights may have begun so, or the images may have another range than the model "
        "expects. They are the same for all of `probe_data`",
    ),
    "duplicate": (
        0.75,
        "{} of the units of {} do what another unit does",
        "the layer may have more units than it needs, or its weights may have begun alike",
        "the layer may have more units than it needs, or its weights may have begun alike",
    ),
}


# What is said of dead units where `train_step` may scale images.
_DOUBTFUL = (
    "they may be alive on images as training scales them, if `train_step` does. They are the same "
    "for all of `probe_data`"
)


class Reporter:
    """The messages of one training.

    Args:
        verbose: 1 prints a line at each snapshot.
    """

    def __init__(self, verbose: int):
        self._verbose = verbose
        self._logged: set[str] = set()
        self._named: set[tuple[str, str]] = set()
        self._line_is_open = False

    @contextmanager
    def below(self, bar: bool) -> Iterator[None]:
        """Begin the first message within this context on a fresh line.

        Args:
            bar: Whether Keras shows a progress bar, whose line is unfinished when an
                epoch ends.
        """
        self._line_is_open = bar
        # Other modules log too, all of them by this logger.
        logger.addFilter(self._end_line)
        try:
            yield
        finally:
            logger.removeFilter(self._end_line)
            self._line_is_open = False

    def _end_line(self, record=None):
        if self._line_is_open:
            self._line_is_open = False
            print(flush=True)
        return True

    def failed(self, error: Exception) -> None:
        """Warn once that something failed, and that training goes on."""
        if self._is_new("failed"):
            self._end_line()
            warnings.warn(
                "FeatureVisCallback could not take or write a snapshot. Training goes on, and "
                "further failures are not reported. Use on_error='raise' to see the traceback. "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )

    def listener_failed(self, error: Exception) -> None:
        """Warn once that the user's `on_snapshot` failed, and that training goes on."""
        if self._is_new("listener"):
            self._end_line()
            warnings.warn(
                "`on_snapshot` failed. The snapshot is logged, training goes on, and further "
                "failures are not reported. Use on_error='raise' to see the traceback. "
                f"{type(error).__name__}: {error}",
                stacklevel=3,
            )

    def taken_here(self, error: BaseException | None) -> None:
        """Log once that no worker takes snapshots."""
        if self._is_new("here"):
            logger.warning(
                "Snapshots are taken here from now on, since `executor` takes none. %s",
                _said(error),
            )

    def waits_for_workers(self, count: int, executor: object) -> None:
        """Log once that training waits for snapshots of workers."""
        if self._is_new("waits"):
            logger.warning(
                "Training waits for %d snapshots of the workers of `executor`, a %s. It goes on if "
                "none of these shows a sign of life for long.",
                *(count, type(executor).__name__),
            )

    def no_worker(self, count: int, executor: object) -> None:
        """Log once that training goes on, and no worker has come."""
        if self._is_new("no worker"):
            logger.warning(
                "No worker of `executor`, a %s, has begun a snapshot so far. Training goes on, and "
                "%d snapshots wait. Two minutes after its end they are taken here. Look whether "
                "any worker has started.",
                *(type(executor).__name__, count),
            )

    def lost_elsewhere(self, epoch: int, error: BaseException) -> None:
        """Log once that a worker has not finished a snapshot."""
        if self._is_new("lost"):
            logger.warning(
                "The snapshot after epoch %d is lost, since a worker did not finish it. "
                "`history.skipped` lists it, and later ones are taken here. %s",
                *(epoch, _said(error.__cause__ or error)),
            )
            self._is_new("here")

    def no_importance(self) -> None:
        """Log once that there is no importance to write."""
        if self._is_new("importance"):
            logger.warning(
                "log_importance=True writes nothing: only images have an importance to show, and "
                "a parameterization of your own needs a method `field_gradient`."
            )

    def nothing_to_show(self, error: Exception) -> None:
        """Log that training goes on without pictures."""
        logger.warning("FeatureVisCallback makes no pictures, and training goes on. %s", error)

    def waiting(self, name: str, parts: Sequence[str], several: Mapping[str, str]) -> None:
        """Log that the first batch builds a model or its parts, so that snapshots begin then.

        Args:
            name: The model's name.
            parts: How to name the models inside it that an image alone may be enough to call.
            several: The arguments of the other ones, by how to name them.
        """
        advice = ""
        if parts:
            advice = (
                f" If `train_step` calls nothing but parts, `objectives` names one of these: "
                f"{', '.join(parts)}, as `lambda model: default_objectives(model.{parts[0]})` does."
            )
        for part, arguments in several.items():
            advice += (
                f" The part {part} takes several arguments, call({arguments}). To see it, give "
                "`objectives` of a model around it: `lambda model: default_objectives(keras.Model("
                f"given, model.{part}(*given)))`, where `given` is a list of a keras.Input for "
                "each argument."
            )
        logger.warning(
            "The model '%s' or a part of it is not built yet, so the first snapshot is taken at "
            "the end of the first epoch. Build them, by a call or with an `Input`, to see them "
            "untrained.%s",
            *(name, advice),
        )

    def snapshot_taken(
        self,
        snapshot: Snapshot,
        share: float,
        compiling: float,
        waited: float,
        epoch_seconds: float,
    ) -> None:
        """Log targets with a status other than "ok", once each, and print a line.

        Args:
            snapshot: The snapshot, with the seconds that it took.
            share: Share of the time since training began that snapshots took, in `[0, 1]`.
            compiling: Seconds that compiling took, in addition.
            waited: Seconds that training waited for the snapshot.
            epoch_seconds: Seconds that the epoch before the snapshot took.
        """
        self._name_troubles(snapshot)
        if waited > epoch_seconds + PATIENCE and self._is_new("outlived"):
            logger.warning(
                "Training waited %.0f s for a snapshot, and the epoch before it took %.0f s. Take "
                "fewer snapshots (`freq`), keep them below a share of the time (`max_overhead`), "
                "or use fewer objectives or `steps`.",
                waited,
                epoch_seconds,
            )
        if self._verbose:
            self._end_line()
            once = f", and {compiling:.1f} s once to compile" if compiling else ""
            print(
                f"feature_vis: epoch {snapshot.epoch}, {len(snapshot.names)} images in "
                f"{snapshot.seconds:.2f} s, {share:.1%} of the time so far{once}"
                f"{_compared(snapshot)}"
            )

    def checked(
        self,
        epoch: int,
        checkup: Checkup,
        health: Health,
        is_first: bool = False,
        is_range_doubtful: bool = False,
    ) -> None:
        """Log layers that are in trouble, once each.

        Nothing is logged of the untrained network. Its units may come to life.

        Args:
            epoch: The epoch that had just ended; -1 before any.
            checkup: The numbers of every layer.
            health: Those of all snapshots, this one among them.
            is_first: Whether nothing was trained since training began.
            is_range_doubtful: Whether real images may not be what the model gets.
        """
        if epoch < 0:
            return
        for number, (least, says, advice, advice_before) in _ILLNESSES.items():
            if is_range_doubtful and number == "dead":
                advice = advice_before = _DOUBTFUL
            values = getattr(checkup, number)
            ill: dict[int, list] = {}
            for layer, value in zip(checkup.layers, values, strict=True):
                if value >= least and (layer, number) not in self._named:
                    self._named.add((layer, number))
                    first = _first_epoch(health, layer, number, least)
                    ill.setdefault(first, []).append((layer, value))
            for first, layers in sorted(ill.items()):
                if first < 0:
                    since = f"{_listed(layers, says)} since before training: {advice_before}"
                else:
                    since = f"{_listed(layers, says)} since epoch {first}: {advice}"
                logger.warning("%s", since)
        if not is_first:
            self._name_still(epoch, checkup)

    def _name_still(self, epoch, checkup):
        layers = [
            layer
            for layer, ratio in zip(checkup.layers, checkup.update_ratio, strict=True)
            if ratio == 0 and (layer, "still") not in self._named
        ]
        self._named.update((layer, "still") for layer in layers)
        if layers:
            more = f" and {len(layers) - _NAMES_LISTED} more" * (len(layers) > _NAMES_LISTED)
            logger.warning(
                "Epoch %d: the weights of %s have not changed since the last snapshot, though they "
                "are trainable. No gradient may reach them, or the learning rate may be 0.",
                epoch,
                ", ".join(layers[:_NAMES_LISTED]) + more,
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

    def above(self, share: float, most: float, last: int, epochs: int | None) -> None:
        """Log that snapshots took more than their share of a training that is over.

        Args:
            share: The share that they took, in `[0, 1]`.
            most: The share that they may take.
            last: The last epoch.
            epochs: The epochs that were planned, or `None` if nobody knew.
        """
        is_early = epochs is not None and last + 1 < epochs
        logger.warning(
            "Snapshots took %.2g of the time, above max_overhead=%g. %s",
            share,
            most,
            f"Training stopped after {last + 1} of {epochs} epochs, and first snapshots are taken "
            "on credit."
            if is_early
            else "The snapshots that are always taken, or slower ones than before, cost more.",
        )

    def goes_on(self, epoch: int, run: str | None, runs: Sequence[str]) -> None:
        """Log which run a resumed training goes on with, or that it is a new one.

        Args:
            epoch: The first epoch of this training.
            run: The log directory of the run, `None` for a new one.
            runs: The log directories of all runs of the same targets.
        """
        if run is None:
            logger.warning(
                "Training begins at epoch %d, in a run of its own: no run of the same targets has "
                "ended an epoch with its weights: %s. To go on with one of these, begin with "
                "weights of its training, or give a `log_dir` that has that run alone.",
                *(epoch, ", ".join(runs)),
            )
            return
        logger.warning(
            "Training begins at epoch %d, and goes on with %s run of the same targets: %s. No "
            "epoch of that run is known to have ended with its weights. If it is another training, "
            "give each one a `log_dir` of its own.",
            *(epoch, "the only" if len(runs) == 1 else f"the newest of {len(runs)}", run),
        )

    def other_range(self, epoch: int, others: Sequence[str], values_range: tuple) -> None:
        """Log that a resumed training goes on with no run, since their images differ in range.

        Args:
            epoch: The first epoch of this training.
            others: The log directories of the runs of the same targets.
            values_range: Lowest and highest value of an image in this training.
        """
        logger.warning(
            "Training begins at epoch %d, in a run of its own: runs of the same targets have "
            "images in another `values_range` than %s: %s. Give theirs to go on with one.",
            *(epoch, values_range, ", ".join(others)),
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
        for status, meaning in _MEANINGS.items():
            names = [n for n, s in zip(snapshot.names, snapshot.status, strict=True) if s == status]
            names = [name for name in names if (name, status) not in self._named]
            self._named.update((name, status) for name in names)
            if names:
                more = f" and {len(names) - _NAMES_LISTED} more" * (len(names) > _NAMES_LISTED)
                listed = ", ".join(names[:_NAMES_LISTED]) + more
                logger.warning("Epoch %d: %s (%s): %s", snapshot.epoch, meaning, status, listed)


def _said(error):
    return "" if error is None else " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _first_epoch(health, layer, number, least):
    """Return the first epoch from which on a number of a layer was never known to be smaller."""
    values = health.table(number)[:, health.layers.index(layer)]
    was_well = np.flatnonzero(values < least)
    later = values[was_well[-1] + 1 if len(was_well) else 0 :]
    return int(health.epochs[-len(later) :][np.isfinite(later)][0])


def _listed(layers, says):
    parts = [
        says.format(f"{max(value, 0.01):.0%}".replace("%", " %"), layer)
        for layer, value in layers[:_NAMES_LISTED]
    ]
    more = f" and {len(layers) - _NAMES_LISTED} more layers" * (len(layers) > _NAMES_LISTED)
    return ", ".join(parts) + more


def _compared(snapshot):
    """Return how the scores compare with those of real images, as text."""
    known = np.flatnonzero(np.isfinite(snapshot.score_ratio))
    if not len(known):
        return ""
    ratios = np.array([snapshot.shown_ratio(i, digits=2) for i in known])
    return (
        f"; scores are {np.median(ratios):.2f} times those of the best real images (median), "
        f"at least {ratios.min():.2f} ({snapshot.names[known[ratios.argmin()]]})"
    )
