"""Take the snapshots of a training that is over, from its checkpoints.

`replay` loads one checkpoint after the other into the model, and calls the callback as `fit`
would. So whatever the callback does in a training, it does here. The model has its own
weights again at the end.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring import checkpoints as files
from featviz_callback.monitoring import checks, plan, wire
from featviz_callback.monitoring.callback import FeatureVisCallback
from featviz_callback.monitoring.checkpoints import Checkpoints
from featviz_callback.monitoring.replay_record import Record
from featviz_callback.optimization import digest, digest_weights
from featviz_callback.records import History
from featviz_callback.tensorboard import find_runs

logger = logging.getLogger("featviz_callback")


def replay(
    callback: FeatureVisCallback,
    model: keras.Model,
    checkpoints: str | PathLike | Sequence | Mapping | Callable,
    verbose: int = 1,
) -> History:
    """Take the snapshots of a training that is over, from its checkpoints.

    History and event files are those of a training that the callback had watched. Times
    differ. If there is no checkpoint of the untrained network, its snapshot is missing, and
    the first checkpoint's has no drift but the noise floor. Where pictures begin is chosen
    at the first snapshot, so some pictures may be other maxima of the same units then.

    A replay that was interrupted goes on in the same run of `log_dir`, if the weights and
    the settings are the same. Else it is a run of its own. If snapshots failed or found no room
    on the disk, it goes on at the first of these. `max_overhead` is ignored, since no training
    waits. A checkpoint that cannot be loaded is logged, skipped and noted in `history.skipped`.

    Args:
        callback: The callback, as `fit` takes it. Its `freq` counts epochs, and the first
            and the last checkpoint that can be loaded always have a snapshot.
        model: A built model of the architecture that was trained. At the end, also after an
            error, its weights, optimizer and random states are what they were.
        checkpoints: Where the weights of each epoch are, files ending in `.weights.h5` or
            `.keras`. One of these:

            * a pattern such as `"checkpoints/{epoch:02d}.weights.h5"`, or with other fields
              such as `{val_loss:.2f}`. As Keras' `ModelCheckpoint` counts from 1, number 1
              is epoch 0 of the callback, and number 0 the untrained network;
            * a folder of such files, with one number in each name that counts in this way. It
              may have a loss beside it, which has a decimal point;
            * a list of paths, of the epochs 0, 1, 2 and so on;
            * a mapping from epochs to paths. Epochs count from 0, and -1 is the untrained
              network;
            * a function from such an epoch to a path, a list of arrays as `get_weights`
              returns it, or `None` if that epoch has no checkpoint. It is called with -1, 0, 1
              and so on, more than once for an epoch. A hundred `None` in a row, at epochs
              from 0 on, end the replay.
        verbose: 1 shows a progress bar.

    Returns:
        `callback.history`.

    Raises:
        ValueError: If an argument is invalid, a file is missing, or no checkpoint matches
            the model. Nothing is computed then.

    Example:
    >>> import keras
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(10, name="logits"),
    ... ])
    >>> model.save_weights(tmp_path / "01.weights.h5")
    >>> callback = FeatureVisCallback(log_dir=tmp_path / "logs", steps=2)
    >>> pattern = str(tmp_path / "{epoch:02d}.weights.h5")
    >>> replay(callback, model, pattern, verbose=0).epochs
    array([0])
    """
    if not isinstance(callback, FeatureVisCallback):
        raise ValueError(
            "Invalid value for argument `callback`. Expected a FeatureVisCallback. "
            f"Received: callback={callback!r}"
        )
    checks.check_model(model)
    found = files.find(checkpoints)
    with _restored(model), _replaying(callback):
        _Replay(callback, model, found, verbose).run()
    return callback.history


class _Replay:
    """One replay: its checkpoints, and what of them the callback has seen."""

    def __init__(
        self, callback: FeatureVisCallback, model: keras.Model, found: Checkpoints, verbose: int
    ):
        self._callback, self._model, self._checkpoints = callback, model, found
        self._verbose = verbose
        self._record = Record("")
        self._damaged: list[int] = []
        # Whether each checkpoint that was tried can be loaded, and what was not written.
        self._loadable: dict[int, bool] = {}
        self._missing: list[int] = []

    def run(self) -> None:
        """Call the callback for every checkpoint, as `fit` would for every epoch."""
        callback = self._callback
        first = self._load_first()
        callback.set_model(self._model)
        callback.set_params({"epochs": None, "steps": None, "verbose": self._verbose})
        history, callback._watched_model = callback.history, None
        callback.on_train_begin()
        done = self._begin(first, history)
        bar = keras.utils.Progbar(
            self._checkpoints.count, verbose=self._verbose, unit_name="checkpoint"
        )
        due = []
        for number, checkpoint in enumerate(self._checkpoints, 1):
            due.append(self._is_due(checkpoint.epoch))
            if checkpoint.epoch > done:
                is_last = self._is_last(checkpoint)
                if is_last or due[-1]:
                    self._take(checkpoint, is_last)
            bar.update(number)
        if self._checkpoints.count is None:
            bar.update(len(due), finalize=True)
        callback.on_train_end()
        if self._missing and not callback._has_given_up:
            logger.warning(
                "The snapshot after epoch %d is not written%s. The same replay goes on there.",
                self._missing[0],
                f", nor {len(self._missing) - 1} later ones" if len(self._missing) > 1 else "",
            )
        freq = callback._freq
        if isinstance(freq, int) and len(due) > 2 and not any(due[1:-1]):
            logger.warning(
                "freq=%d counts epochs, not checkpoints, and leaves out all but the first and the "
                "last of %d. freq=1 takes all.",
                *(freq, len(due)),
            )

    def _load_first(self):
        """Load the first checkpoint that can be loaded, and return it.

        Raises:
            ValueError: If none can.
        """
        errors = []
        for checkpoint in self._checkpoints:
            try:
                files.load(checkpoint, self._model)
            except ValueError as error:
                errors.append(error)
                self._damaged.append(checkpoint.epoch)
            else:
                for skipped in errors:
                    logger.warning("Skipped. %s", skipped)
                return checkpoint
        raise errors[0] if errors else files.refusal("no checkpoint at all")

    def _begin(self, first, history):
        """Begin a run, or go on with the one of an interrupted replay; return its last epoch."""
        callback, run = self._callback, None
        settings = _digest(callback)
        for path in [] if settings is None else find_runs(callback._log_dir):
            record = Record.read(path)
            if record is not None and record.settings == settings and self._is_of(record):
                run, self._record = path, record
                break
        else:
            self._record = Record(settings or "", skipped=self._damaged)
        done = self._record.last if run else first.epoch
        if run is not None:
            logger.warning("The replay goes on after epoch %d, in %r.", done, run)
            if callback._run == run:
                _keep_history(callback, history, done)
        callback._run = run
        checkpoint = next(one for one in self._checkpoints if one.epoch == done)
        files.load(checkpoint, self._model)
        # With the weights of that epoch, this is a training that goes on at the next one.
        callback.on_epoch_begin(done + 1)
        self._note(done)
        for epoch in set(self._record.skipped) - set(callback.history.skipped):
            callback.history.skip(epoch)
        return done

    def _is_last(self, checkpoint):
        """Whether no later checkpoint can be loaded."""
        return not any(map(self._can_load, self._checkpoints.after(checkpoint.epoch)))

    def _can_load(self, checkpoint):
        if checkpoint.epoch not in self._loadable:
            try:
                files.load(checkpoint, self._model)
            except ValueError:
                self._loadable[checkpoint.epoch] = False
            else:
                self._loadable[checkpoint.epoch] = True
        return self._loadable[checkpoint.epoch]

    def _take(self, checkpoint, is_last):
        """Load a checkpoint and let the callback take its snapshot, or skip it."""
        epoch, callback = checkpoint.epoch, self._callback
        callback.on_epoch_begin(epoch)
        try:
            files.load(checkpoint, self._model)
        except ValueError as error:
            callback.history.skip(epoch)
            self._record.skipped.append(epoch)
            with callback._reporter.below(bar=bool(self._verbose)):
                logger.warning("Epoch %d is skipped. %s", epoch, error)
            return
        callback.params["epochs"] = epoch + 1 if is_last else None
        callback.on_epoch_end(epoch)
        self._note(epoch)

    def _note(self, epoch):
        """Note in the run's folder that the snapshot of an epoch is written."""
        callback, run = self._callback, self._callback._events.run
        if callback._last_written != epoch and epoch not in self._record.weights:
            self._missing.append(epoch)
        # The next replay goes on at what is missing, whatever was written after it.
        if not self._missing and run is not None:
            self._record.weights[epoch] = digest_weights(self._model)
            callback._guarded(self._record.write, run)

    def _is_of(self, record):
        """Whether a record is of the first of these checkpoints."""
        seen = 0
        for checkpoint in self._checkpoints:
            if checkpoint.epoch > record.last:
                break
            expected = record.weights.get(checkpoint.epoch)
            if expected is not None and self._hash(checkpoint) != expected:
                return False
            is_new = self._is_due(checkpoint.epoch) and checkpoint.epoch not in record.skipped
            if expected is None and is_new:
                return False
            seen += expected is not None
        return seen == len(record.weights) > 0

    def _hash(self, checkpoint):
        try:
            files.load(checkpoint, self._model)
        except ValueError:
            return None
        return digest_weights(self._model)

    def _is_due(self, epoch):
        return epoch < 0 or plan.is_due(self._callback._freq, epoch)


def _digest(callback):
    """Return a hash of all settings, or `None` where the model is not known yet."""
    observer = callback._observer
    return (
        None
        if observer is None
        else digest(
            *(observer.digest, callback._freq, callback._accentuate),
            *(callback._log_real_images, callback._log_importance),
        )
    )


def _keep_history(callback, history, done):
    """Go on with the history that the callback itself has of the run, up to an epoch."""
    history.forget(done + 1)
    if len(history) and history.last.epoch == done:
        callback.history = history
        callback._observer.go_on_from(history.last)


@contextmanager
def _replaying(callback):
    """Tell a callback that no training waits for it, and which runs are not its own."""
    if callback._max_overhead is not None:
        logger.warning(
            "max_overhead=%g is ignored in a replay, since no training waits for snapshots.",
            callback._max_overhead,
        )
    if callback._executor is not None:
        logger.warning("`executor` is not used in a replay, since no training waits for it.")
    callback._is_replay = True
    try:
        yield
    finally:
        callback._is_replay = False


@contextmanager
def _restored(model):
    """Restore the variables of a model and of its optimizers, and all random states."""
    variables = {id(one): one for one in [*model.variables, *_of_optimizers(model)]}
    # An array of torch's shares the memory of its tensor.
    kept = [(one, np.array(keras.ops.convert_to_numpy(one.value))) for one in variables.values()]
    of_framework = backend.load().framework_state([model])
    was_stopped = getattr(model, "stop_training", False)
    # A training that was stopped early would make every epoch the last one.
    model.stop_training = False
    with backend.random_states_preserved():
        try:
            yield
        finally:
            for variable, value in kept:
                variable.assign(value)
            backend.load().assign_framework_state([model], of_framework)
            wire.renew_constants([model])
            model.stop_training = was_stopped


def _of_optimizers(model):
    """Yield the variables of every optimizer that a model or a part of it holds."""
    for layer in model._flatten_layers():
        for one in itertools.chain(*map(_held, vars(layer).values())):
            if isinstance(one, keras.optimizers.Optimizer):
                yield from one.variables


def _held(value):
    """Return what an attribute holds: itself, or what is in a list, tuple or dict."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, (list, tuple)) else [value]
