"""The Keras callback: when a snapshot is taken, and what is kept of it.

At the end of an epoch, Keras calls `on_epoch_end`. The callback asks its observer for a
snapshot, appends the snapshot to the history and writes it to the event file.

The callback never changes a weight, and nothing that fails in it ends a training unless
`on_error="raise"` asks for that.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring import checks, plan, remote
from featviz_callback.monitoring.costs import Costs
from featviz_callback.monitoring.listeners import as_taken_snapshot
from featviz_callback.monitoring.messages import Reporter
from featviz_callback.monitoring.observer import Observation
from featviz_callback.monitoring.preparation import choose_objectives, prepare_observer
from featviz_callback.monitoring.remote import NotBegun, Remote, SnapshotLost, Submitted, Taken
from featviz_callback.monitoring.training_record import TrainingRecord, choose_run, hash_weights
from featviz_callback.objectives import (
    NothingToShow,
    Objective,
    announce_parts,
    each_once,
    is_known,
    is_wrapper,
    parts_to_name,
    shared_calls,
    warn_once,
)
from featviz_callback.optimization import Settings
from featviz_callback.optimization.probe_data import ProbeImages
from featviz_callback.records import Health, History
from featviz_callback.records.pictures import as_array
from featviz_callback.tensorboard import EventFile, absolute, summaries

# What belongs to a training, so that no copy and no other process could use it.
_OF_A_TRAINING = (
    "_model", "_watched_model", "_observer", "_events", "_run", "_reporter", "_costs",
    "_real_written", "_remote", "_pending",
)  # fmt: skip


@dataclass
class _Pending:
    """A snapshot that is not in the history yet.

    Attributes:
        epoch: The epoch that had just ended.
        is_first: Whether it is the first one of this training.
        epoch_seconds: How long the epoch before it took.
        found: What was found, or what a worker will find.
        waited: Seconds that training has waited for it so far.
    """

    epoch: int
    is_first: bool
    epoch_seconds: float
    found: Observation | Submitted
    waited: float

    @property
    def is_done(self) -> bool:
        return isinstance(self.found, Observation) or self.found.future.done()


class FeatureVisCallback(keras.callbacks.Callback):
    """Show what each neuron of a model learns, while `fit` trains the model.

    A snapshot finds the images that maximise the objectives, on the weights of that
    moment, and writes these images to TensorBoard. The callback takes snapshots before
    the first epoch, after epochs 0, `freq`, `2 * freq` and so on, and after the last
    epoch. With `max_overhead` it takes some of these, most of them early. The random
    transformations are the same each time. So is the start, which the first snapshot
    chooses, as long as a target has a gradient there and, with `probe_data`, does not become
    weak (`history.starts` shows a change). So only the model differs between two
    snapshots. Training is the same with the callback as without it.

    Run `tensorboard --logdir logs` and open the tab Features to see every epoch.

    To take a snapshot every 500 batches of one long epoch, cut the epoch:
    `fit(..., epochs=20, steps_per_epoch=500)` goes on through the same data, in the same
    order, with the same result. A hook for batches would make Keras wait for every batch,
    with or without a snapshot.

    The last snapshot shows the weights at the end of the last epoch, even if
    `EarlyStopping(restore_best_weights=True)` then restores others. A training that goes
    on from an earlier process, by `initial_epoch` or `BackupAndRestore`, continues the
    history in `log_dir`, if a run there has the same targets and weights. Event files
    hold pictures, which keep the values of images with one or three channels only. For signals
    and other images, the history and its drift begin again at the epoch that training
    goes on from, and a warning is logged.

    Args:
        objectives: An `Objective`, a list of them, or a function
            `model -> Objective or list`. The function is called when training begins,
            or at the end of the first epoch for a model that is not built before.
            Default: up to 16 output units, and four channels (spread over the layer) of four
            convolutions spread over the depth. In a vision transformer or token mixer,
            the hidden layers of MLPs take the place of convolutions, in a hybrid both
            are taken. In a plain MLP it is four units of each of four hidden layers. Of a
            wrapper such as a GAN, which has no
            `call`, these are of the parts that take images
            (`featviz_callback.default_objectives`). A target that cannot be read is left
            out, with a warning.
        log_dir: Folder for TensorBoard, or an address such as `gs://bucket/logs`. Event
            files go to its sub-folder `feature_vis`. If that has event files already, a
            training that begins at epoch 0 writes to `run 2/feature_vis` there, then to
            `run 3/feature_vis` and so on, and logs the name. So each training is a run in
            TensorBoard, and so is that of each copy of the callback. A training that goes on
            at a later epoch adds to the run of the same targets whose epochs ended with its
            weights. If none did, it adds to the only run, or is a new one beside several, which
            is logged. A relative path is
            resolved when training begins, and `~` is your home folder. If several processes
            train one model, all take snapshots and the first one writes. With an `executor`,
            the first one alone hands snapshots over, and the others have no history.
        freq: Epochs from one snapshot to the next; or the epochs themselves, numbers from
            0 on, such as `(0, 1, 2, 5, 10, 20)`. The snapshots before the first epoch and
            after the last are taken in any case.
        steps: Steps of each optimisation, see `optimize`.
        values_range: Lowest and highest value of the model's input, see `optimize`. Default:
            found out, and logged once. A model that scales its images, by a layer or by
            arithmetic, shows what it takes, of each channel if they differ. Else `probe_data`
            tell: `(0, 1)`, `(-1, 1)` or `(0, 255)`, the first that holds them, if they span
            more than half of it, else their own range. Else what a `preprocessor` makes of
            bytes, and else `(0, 1)`.
        image_shape: See `optimize`. Defaults to the model's, or to that of `probe_data`, or of
            what its `preprocessor` makes, for a model that takes any size.
        parameterization: See `optimize`.
        transformations: See `optimize`.
        regularizers: See `optimize`.
        optimizer: See `optimize`.
        seed: Seed of the start images and of all random transformations, an int.
        warm_start: Whether each snapshot starts from the images of the last one, with less
            contrast. Images then mostly activate the targets more in as many steps, and
            hide change. A training that goes on in another process starts anew.
        probe_data: Real inputs as `fit` takes them, images or signals: an array
            `(images, height, width, channels)`, a `tf.data.Dataset`, a `PyDataset`, a
            torch `DataLoader`, or any iterable of batches, with or without labels. For
            several inputs: a list, tuple or dict of arrays, or batches of them. Inputs
            without a value in `fixed_inputs` then take their mean, and whole numbers and
            strings the first example. A model with a `preprocessor` applies it. Up
            to 1,000 images or 256 MiB are read, once, when training first begins. If
            a `tf.data.Dataset` shuffles, give another one than `fit` trains on, since
            reading uses up its first order. Each target's top activating images are
            shown beside its picture, and its score is compared with theirs. Of targets that
            read a map, tokens or a signal, it is shown where these images activate them, on
            the weights at which they came to the top. This costs one forward pass over the
            real images at each snapshot, and a gradient for each that is new to the top.
            The pass measures every layer too, see `health`. Class labels, as in `(x, y)`,
            also tell how selective each unit is (`history.selectivity`); -1 is no label. The
            parameterization `"fourier"` also takes over their mean and their colours, and
            `"fixed_magnitude"` takes over their spectrum too.
        max_overhead: Largest share of the time of the whole training that snapshots may
            take, such as 0.05. Compiling counts neither here nor there, and nor does what
            precedes the first snapshot, such as reading `probe_data`. Features form early,
            so of the epochs that `freq` names, some are chosen, spaced evenly in
            log(epoch + 1). The choice is made anew at each epoch, from what snapshots and
            epochs have cost so far.
            Epochs without a snapshot are in `history.skipped`, and the first is logged.
            Always taken are the snapshots before the first epoch, at the first two of
            these epochs, on credit if need be, and at the end of `fit`. The share holds
            when training ends, not before. One log line says if it does not: after an
            early stop, or if training is too short for these snapshots.
            A training that goes on at a later epoch plans its own time alone, and takes
            epochs 0 and 1 for done. A loop of your own may not say how many `epochs` it
            will run (`callback.set_params({"epochs": 20})` does). Then, after the first
            two, snapshots are taken as soon as the time so far pays for them.
        batch_size: See `optimize`. It is halved if memory runs out, once a snapshot.
        on_error: If something fails after training has begun, `"warn"` warns once and
            lets training go on. `"raise"` ends training.
        verbose: 1 prints a line at each snapshot.
        fixed_inputs: See `optimize`.
        on_snapshot: A function that is called with each snapshot after it was written, such
            as one that feeds another tracker. Its argument is frozen, with the attributes
            `epoch`, `names`, `images`, `pictures` (uint8), `scores`, `status`, `drift`,
            `health` and `real_pictures`, see `monitoring.TakenSnapshot`. If it fails, that is
            said once, and training goes on unless `on_error="raise"`. If several processes
            train one model, the first one calls it.
        accentuate: How many images of `probe_data`, spread evenly, each target accentuates at
            each snapshot, as `optimize(start=...)` does: TensorBoard shows these beside the
            real ones, as `feature_vis_accentuated/<name>`. Each costs as much as a picture, and
            a call of the model up to the middle for each step.
        log_real_images: Whether real images are shown, which may be private. If not, their
            scores and their positions among those that were read are written, as the text
            `feature_vis_real_scores/<name>`.
        log_importance: Whether TensorBoard also gets where the score of each picture comes
            from, as `feature_vis_importance/<name>`, see `Result.importance`. `history` has it
            in any case.
        executor: Any `concurrent.futures.Executor` of processes, such as
            `ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))`, Dask's or
            MPI's. Training copies the weights and goes on, and a worker takes the snapshot. The
            training process writes all of them, in order, when they are back: at the end of a later
            epoch, and the rest before `fit` returns. Up to 1 GiB of weights wait, then training
            waits too. Results are the same as without. If a worker is lost, so is its snapshot
            (`history.skipped`), and later ones are taken here. One that is slow is waited for. One
            is lost if nothing comes back for ten minutes, without any sign of life. All are taken
            here if training has waited two minutes for a first worker. A worker has the code of a
            script as it was at the first snapshot. Where all cores train, there is nothing to gain.
            The executor is never shut down, copies of the callback share it, and a pickled callback
            has none. Not with `warm_start`, and `replay` makes no use of it.

    Attributes:
        history: All snapshots, a `featviz_callback.History`.
        health: The numbers of every layer at every snapshot, a
            `featviz_callback.records.Health`. With `probe_data` it tells which units are
            dead, dormant or duplicate, how much is saturated, and the effective rank;
            without, by how much the weights have changed. Sums over a layer of more than
            2^24 activations are over a sample.
        log_dir: The folder of the next `fit`. Set it to give a copy its own folder.

    Raises:
        ValueError: If an argument is invalid, at the latest when training begins.

    Example:
    >>> import keras
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(10, name="logits"),
    ... ])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.zeros((4, 8, 8, 1)), np.zeros(4)
    >>> callback = FeatureVisCallback(log_dir=tmp_path, steps=2)
    >>> _ = model.fit(x, y, epochs=2, verbose=0, callbacks=[callback])
    >>> callback.history.epochs
    array([-1,  0,  1])
    """

    def __init__(
        self,
        objectives: Objective | Sequence[Objective] | Callable | None = None,
        log_dir: str | os.PathLike = "logs",
        freq: int | Collection[int] = 1,
        steps: int = 32,
        values_range: tuple[float | Sequence[float], float | Sequence[float]]
        | None = Settings.values_range,
        image_shape: tuple[int, ...] | None = Settings.image_shape,
        parameterization: str | object = Settings.parameterization,
        transformations: str | Sequence | None = Settings.transformations,
        regularizers: Sequence[Callable] = Settings.regularizers,
        optimizer: keras.optimizers.Optimizer | str | None = Settings.optimizer,
        seed: int = Settings.seed,
        warm_start: bool = False,
        probe_data: object | None = None,
        max_overhead: float | None = None,
        batch_size: int | None = Settings.batch_size,
        on_error: str = "warn",
        verbose: int = 0,
        fixed_inputs: Mapping | None = Settings.fixed_inputs,
        on_snapshot: Callable | None = None,
        accentuate: int = 0,
        log_real_images: bool = True,
        log_importance: bool = False,
        executor: Executor | None = None,
    ):
        super().__init__()
        self._freq = checks.as_freq(freq)
        checks.check_arguments(max_overhead, on_error)
        checks.check_log_dir(log_dir)
        checks.check_listening(on_snapshot, log_real_images, accentuate, probe_data)
        checks.check_flag("log_importance", log_importance)
        if executor is not None:
            remote.check_executor(executor, warm_start)
        self._settings = Settings(
            steps=steps,
            optimizer=optimizer,
            parameterization=parameterization,
            transformations=transformations,
            regularizers=regularizers,
            values_range=values_range,
            image_shape=image_shape,
            batch_size=batch_size,
            seed=seed,
            fixed_inputs=fixed_inputs,
        )
        self._objectives = objectives
        self.log_dir = log_dir
        self._warm_start = warm_start
        self._probe_data = probe_data
        self._max_overhead = max_overhead
        self._on_error = on_error
        self._verbose = verbose
        self._on_snapshot = on_snapshot
        self._accentuate = accentuate
        self._log_real_images = log_real_images
        self._log_importance = log_importance
        self._executor = executor
        self.history = History()
        self._real_images: ProbeImages | None = None
        self._watched_model = self._observer = self._run = self._film = None
        # Where a warm start goes on in the next `fit`.
        self._warm_params: list = []
        # What the first snapshot of the next `fit` is compared with.
        self._kept: tuple | None = None
        # Whether `replay` calls this callback, in place of `fit`.
        self._is_replay = False
        self._events: EventFile | None = None
        self._remote: Remote | None = None
        self._begin_run()

    def _begin_run(self):
        """Reset everything that belongs to one `fit` alone."""
        if self._observer is not None:
            self._warm_params, self._kept = self._observer.params, self._observer.kept
        if self._events is not None and self._events.run is not None:
            self._run = self._events.run
        if self._remote is not None:
            self._remote.close()
        self._observer = self._events = self._first_epoch = self._remote = None
        self._pending: deque[_Pending] = deque()
        self._count, self._is_here, self._needs_floor = 0, True, True
        self._reporter = Reporter(self._verbose)
        self._costs = Costs(self._max_overhead)
        self._introduced = self._has_given_up = self._writes = False
        # The real images that were written last, for each target.
        self._real_written: dict[str, list] = {}
        self._last_epoch = self._last_snapshot = self._last_written = None
        # A hash of the weights that it began with, and of those that its epochs ended with.
        self._begun: str | None = None
        self._record, self._noted = TrainingRecord(), 0.0
        self._epoch_began = time.perf_counter()

    @property
    def health(self) -> Health:
        """The numbers of every layer of the network, at every snapshot.

        Sums over a layer of more than 2^24 activations, behind `dormant`, `saturated`, `mean`
        and `deviation`, are over a sample of them. `dead` and `nan` are found in all.
        """
        return self.history.health

    def __getstate__(self) -> dict:
        """Leave out what belongs to a training or a process, of which a copy has none."""
        state = {**vars(self), **dict.fromkeys(_OF_A_TRAINING), "_executor": None}
        if self._observer is not None:
            state |= {"_warm_params": self._observer.params, "_kept": self._observer.kept}
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._begin_run()

    def __copy__(self) -> FeatureVisCallback:
        twin = type(self).__new__(type(self))
        twin.__setstate__({**self.__getstate__(), "_executor": self._executor})
        return twin

    def __deepcopy__(self, memo: dict) -> FeatureVisCallback:
        """Copy the history, and share whatever never changes.

        The copy has no model, since it is made to watch another one.
        """
        twin = copy.copy(self)
        twin.history, twin._film = copy.deepcopy((self.history, self._film), memo)
        # If it watches the same model again, its history goes on.
        twin._watched_model = self._watched_model
        return twin

    def set_model(self, model: keras.Model) -> None:
        """Take the model that will be trained, and refuse one of another library.

        Raises:
            ValueError: If it is not a model of Keras 3.
        """
        super().set_model(model)
        if model is not None:
            # Here `self.model` is the inner model, if `model` spreads it over processes.
            checks.check_model(self.model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Check every argument against the model, and optimise nothing."""
        # An error or Ctrl-C has ended the training before, and not its snapshots.
        self._record_pending()
        self._begin_run()
        with self._preparing():
            self._prepare_run()

    def _prepare_run(self):
        if self._probe_data is not None and self._real_images is None:
            with backend.random_states_preserved():
                self._real_images = ProbeImages(self._probe_data)
        # TensorFlow builds a model at its first batch, later than this.
        if is_known(self.model) or isinstance(self._objectives, (Objective, list, tuple)):
            self._prepare_or_give_up()
        elif is_wrapper(self.model):
            self._reporter.waiting(self.model.name, *parts_to_name(self.model))
        checks.check_log_dir(self.log_dir)
        # Training may change the working directory.
        self._log_dir = absolute(self.log_dir)
        # Each of several processes takes snapshots, and one writes them.
        self._writes = backend.load().writes(self.model)
        self._events = EventFile(self._log_dir if self._writes else None, is_new=True)
        self._reporter = Reporter(self._verbose if self._writes else 0)

    @contextlib.contextmanager
    def _preparing(self):
        """Leave what is done within this context out of the time of training."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._costs.add_preparation(time.perf_counter() - began)

    def _prepare_or_give_up(self):
        """Prepare the observer; without any picture to make, warn and let training go on."""
        try:
            with shared_calls(), each_once():
                self._prepare()
        except NothingToShow as error:
            if self._on_error == "raise":
                raise
            self._has_given_up = True
            self._reporter.nothing_to_show(error)

    def _prepare(self):
        shape = None if self._real_images is None else self._real_images.shape
        shape = shape or self._settings.image_shape
        objectives = choose_objectives(
            self._objectives, self.model, self._settings.fixed_inputs, shape
        )
        if self._watched_model is None or self._watched_model() is not self.model:
            self._watched_model = weakref.ref(self.model)
            # A user may already hold an empty history, in order to show it later.
            self._kept = None
            if len(self.history):
                self.history, self._film = History(self.history.most_bytes), None
        self._observer = prepare_observer(
            objectives,
            self._settings,
            self._real_images,
            self._warm_start,
            self.model,
            self._accentuate,
        )
        if self._objectives is None:
            announce_parts(self.model, objectives)
        if len(self.history):
            self._observer.go_on_from(self.history.last, self._warm_params, self._kept)
        self._is_here = self._executor is None or self._is_replay
        if not self._is_here:
            self._rehearse()

    def _rehearse(self):
        try:
            remote.rehearse(self._observer, self.model)
        except ValueError as error:
            # Only before the first batch is an error of use.
            if self._last_epoch is None:
                raise
            self._take_all_here(error)

    def _take_all_here(self, error):
        self._is_here = True
        self._reporter.taken_here(error)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Take a snapshot of the network before it is trained."""
        if self._last_epoch is None:
            self._last_epoch = self._last_snapshot = epoch - 1
            self._first_epoch = epoch
            with self._preparing():
                self._guarded(self._note_weights, epoch - 1)
            if self._observer is not None:
                with self._preparing():
                    self._guarded(self._observer.check)
                    self._guarded(self._join_run)
            is_new = backend.load().agreed(epoch - 1 not in self.history.epochs)
            if self._observer is not None and is_new:
                self._take(epoch - 1)
        self._epoch_began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Take a snapshot of the network if one is due, and after the last epoch."""
        self._last_epoch = epoch
        self._costs.epoch_ended()
        # Keras ends the line of its bar after this.
        with self._reporter.below(bar=(self.params or {}).get("verbose") in (1, "auto")):
            # The last snapshot does not wait for the end of training, when other callbacks may
            # have restored the weights of an earlier epoch.
            self._record_pending(wait=False)
            if self._remote is not None and self._remote.is_late:
                self._reporter.no_worker(len(self._pending), self._executor)
            is_due = plan.is_due(self._freq, epoch)
            is_last = self._is_last(epoch)
            if is_last or is_due and self._plans_snapshot(epoch):
                self._take(epoch, is_last)
            elif is_due:
                self.history.skip(epoch)
                self._reporter.skipped(epoch, self._max_overhead)
            self._guarded(self._note_weights, epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Take a snapshot if the last epoch has none, and write the strip and the animation."""
        if self._last_epoch is None:
            return  # No epoch has run.
        if self._last_epoch != self._last_snapshot:
            self._take(self._last_epoch, is_last=True)
        self._record_pending()
        if self._remote is not None:
            self._remote.close()
        # An optimizer may have put averages in place of the weights.
        self._guarded(self._note_weights, self._last_epoch, True)
        self._guarded(self._complete_floor)
        began = time.perf_counter()
        self._guarded(self._write_film)
        self._costs.add_rest(time.perf_counter() - began)
        share = self._costs.share()
        if self._max_overhead is not None and share > self._max_overhead:
            self._reporter.above(share, self._max_overhead, self._last_epoch, self._epochs)

    @property
    def _epochs(self):
        """The epoch at which training ends, counted from 0, or `None` if nobody knows."""
        return (self.params or {}).get("epochs")

    def _is_last(self, epoch):
        # A model that was never compiled, in a loop of its own, has no such attribute.
        is_stopped = getattr(self.model, "stop_training", False)
        return is_stopped or epoch + 1 == self._epochs

    def _plans_snapshot(self, epoch):
        if self._max_overhead is None or self._is_replay:
            return True
        is_known = self._epochs is not None and self._epochs > epoch
        last = int(self._epochs) - 1 if is_known else None
        is_elsewhere = self._remote is not None and self._remote.failed is None
        planned = self._costs.plans_snapshot(
            *(epoch, last, self._freq, self._last_snapshot),
            backlog=self._waiting() if is_elsewhere else None,
        )
        return backend.load().agreed(planned)

    def _note_weights(self, epoch, is_last=False):
        """Note the weights of this moment, so that a later training finds the run."""
        if self._has_given_up:
            return
        began = time.perf_counter()
        found = hash_weights(self.model)
        if self._first_epoch is not None and epoch < self._first_epoch:
            self._begun = found
        self._record.add(epoch, found)
        run = self._events.run
        # Short epochs do not write a file each.
        is_due = is_last or epoch == self._last_snapshot or began - self._noted >= 1
        if run is not None and self._writes and is_due:
            # A run that is not found again is said then; the next epoch tries again.
            with contextlib.suppress(OSError):
                self._record.write(run)
            self._noted = began
        self._costs.add_rest(time.perf_counter() - began)

    def _join_run(self):
        """Go on with the run of an earlier training, if this one does."""
        epoch, run = self._first_epoch or 0, None
        if self._is_replay:
            # It has found its run by the weights.
            run = self._run
        elif epoch > 0:
            run = self._find_run(epoch)
        if run is None:
            # The strip and the animation are of one training, whatever the history has before.
            self._film = History(self.history.most_bytes) if len(self.history) else None
            return
        if not len(self.history):
            self._events.resume(run, self._restore(run, epoch))
            return
        if self.history.last.epoch >= epoch:
            self._repeat(epoch)
        self._events.resume(run, epoch)

    def _repeat(self, epoch):
        """Remove the snapshots that this training takes once more."""
        for history in (self.history, self._film):
            if history is not None:
                history.forget(epoch)
        # Weights and real images were compared with those of a snapshot that is gone.
        self._observer.compare_with_none()
        if len(self.history):
            self._observer.go_on_from(self.history.last)

    def _find_run(self, epoch):
        observer = self._observer
        found = summaries.find_runs_of(self._log_dir, observer.names, observer.values_range)
        alike, others = found
        # In memory is the history of this very model.
        own = self._run if len(self.history) else None
        run, is_certain = choose_run(alike, self._begun, epoch, own)
        if run is None and alike and backend.load().is_together():
            # Nobody has all weights there.
            run = alike[0]
        if alike and not is_certain:
            self._reporter.goes_on(epoch, run, alike)
        elif others and run is None:
            self._reporter.other_range(epoch, others, observer.values_range)
        if run is not None:
            later = self._record
            self._record = TrainingRecord.read(run)
            self._record.go_on(epoch, not is_certain)
            for pair in later.weights:
                self._record.add(*pair)
        return run

    def _restore(self, run, epoch):
        """Read back the snapshots before an epoch; return the epoch of the next one."""
        observer, expected, lost = self._observer, self._observer.image_shape, {}
        found = summaries.read_snapshots(run, observer.names, observer.values_range)
        for snapshot in found:
            if snapshot.epoch < epoch and snapshot.images.shape[1:] == expected:
                self.history.restore(snapshot)
            elif snapshot.epoch < epoch:
                lost[snapshot.epoch] = snapshot.images.shape[1:]
        if len(self.history):
            observer.go_on_from(self.history.last)
        # A snapshot that cannot be read back is taken again, and replaces the one on disk.
        is_lost = epoch - 1 in lost and self._last_epoch < epoch
        for before, checkup in summaries.read_health(run):
            if before < epoch - is_lost:
                self.history.health.restore(before, checkup)
        lost = {one: shape for one, shape in lost.items() if one not in self.history.epochs}
        if lost:
            self._reporter.lost(list(lost), lost[max(lost)], expected)
        return epoch - is_lost

    def _take_snapshot(self, epoch, is_last):
        epoch_seconds = time.perf_counter() - self._epoch_began
        self._last_snapshot = epoch
        if self._observer is None and not self._has_given_up:
            with self._preparing():
                self._prepare_or_give_up()
                if self._observer is not None:
                    self._observer.check()
                    self._join_run()
        began = time.perf_counter()
        if self._observer is None:
            return
        # Reading `self.model` brings the weights back to it on JAX.
        _ = self.model
        is_first = not self._count
        with_floor = self._needs_floor or is_last
        if self._is_taken_elsewhere():
            if not self._writes:
                # One process has the history then. Others may hold a part of the weights.
                remote.lend_weights(self._observer, self.model)
                return
            found = self._remote.submit(with_floor)
        else:
            found = self._observer.take_snapshot(with_floor)
        self._count += 1
        self._needs_floor = False
        waited = time.perf_counter() - began
        self._pending.append(_Pending(epoch, is_first, epoch_seconds, found, waited))
        if isinstance(found, Observation):
            self._record_next()

    def _is_taken_elsewhere(self):
        if self._is_here:
            return False
        if self._remote is None and self._writes:
            try:
                self._remote = Remote(
                    self._executor, self._observer, self.model, self._log_real_images
                )
            except ValueError as error:
                self._take_all_here(error)
        # One that fails tells that of each snapshot that waits, in their order. Where processes
        # compute together, it goes on, since the others know nothing of what it has found.
        has_failed = self._remote is not None and self._remote.failed is not None
        is_over = has_failed and not self._pending and not backend.load().is_together()
        self._is_here = not backend.load().agreed(not self._is_here and not is_over)
        return not self._is_here

    def _take(self, epoch, is_last=False):
        """Take a snapshot, as soon as one more copy of the weights may wait."""
        if self._remote is not None:
            if self._remote.failed is not None:
                self._record_pending()
            while self._pending and self._remote.size * (self._waiting() + 1) > remote.MOST_WAITING:
                self._guarded(self._record_next)
        self._guarded(self._take_snapshot, epoch, is_last)

    def _complete_floor(self):
        """Measure the noise floor of the last snapshot, if nobody knew that it would be the last.

        A callback behind this one may have ended training, or a loop may not tell its end.
        """
        is_recorded = self._count and self._last_written == self._last_epoch
        if not is_recorded or np.isfinite(self.history.last.noise_floor).any():
            return
        began = time.perf_counter()
        # As above.
        _ = self.model
        floor, compiling = self._observer.measure_floor(self.history.last)
        self.history.set_noise_floor(floor)
        summaries.write_noise_floor(self._events, self.history.last)
        self._costs.add_rest(time.perf_counter() - began, compiling)

    def _waiting(self):
        """Return how many snapshots wait for workers."""
        return sum(not one.is_done for one in self._pending)

    def _record_pending(self, wait=True):
        """Record snapshots in their order: all of them, or those that are done."""
        while self._pending and (wait or self._pending[0].is_done):
            self._guarded(self._record_next)

    def _record_next(self):
        """Put the oldest snapshot into the history and the event file, once it is there."""
        began, pending = time.perf_counter(), self._pending[0]
        epoch = pending.epoch
        try:
            found, seconds = self._found(pending)
        except Exception as error:
            # Ctrl-C leaves it to the next `fit`.
            self._pending.popleft()
            self._costs.add(pending.waited + time.perf_counter() - began, 0.0, 0.0)
            self._needs_floor |= pending.found.with_floor
            if isinstance(error, SnapshotLost):
                self.history.skip(epoch)
                if self._on_error != "raise":
                    self._reporter.lost_elsewhere(epoch, error)
                    return
            raise
        self._pending.popleft()
        self.history.add(
            *(epoch, found.result, 0.0, found.noise_floor, found.score_ratio, found.behaviour)
        )
        self.history.health.add(epoch, found.checkup)
        try:
            with self._events.together():
                self._write_snapshot(found)
            self._tell(self.history.last, found)
        finally:
            # Even if the disk is full, since the history has the snapshot already.
            waited = pending.waited + time.perf_counter() - began
            if seconds is None:
                self._costs.add(waited, found.floor_seconds, found.compile_seconds)
                seconds = waited = waited - found.compile_seconds
            else:
                # No training waits for what a worker does, unless too much of it is left.
                self._costs.add(waited, 0.0, 0.0)
                self._costs.add_elsewhere(seconds, found.floor_seconds)
            self.history.set_seconds(seconds)
            self.history.compile_seconds += found.compile_seconds
            snapshot, share = self.history.last, self._costs.share()
            if self._film is not None:
                self._film.restore(snapshot)
            self._reporter.snapshot_taken(
                snapshot, share, found.compile_seconds, waited, pending.epoch_seconds
            )
            self._reporter.checked(
                *(epoch, found.checkup, self.health, pending.is_first),
                is_range_doubtful=self._observer.is_range_doubtful,
            )
        summaries.write_costs(self._events, epoch, snapshot.seconds, share, found.compile_seconds)
        self._last_written = epoch
        if pending.is_first and self._max_overhead is not None and not self._is_replay:
            self._expect_film()

    def _expect_film(self):
        """Find out what a snapshot adds to the film, since that is paid for at the end."""
        began = time.perf_counter()
        film = self.history if self._film is None else self._film
        one = History()
        one.restore(self.history.last)
        # The first time loads what draws.
        for _ in range(2):
            drawn = time.perf_counter()
            one.strip(), one.gif()
        ended = time.perf_counter()
        self._costs.expect_film(ended - drawn, others=len(film) - 1)
        self._costs.add_rest(ended - began)

    def _found(self, pending):
        """Return what a snapshot has found, and the seconds that a worker took for it."""
        if isinstance(pending.found, Observation):
            return pending.found, None
        try:
            tell = functools.partial(
                self._reporter.waits_for_workers, self._waiting(), self._executor
            )
            taken: Taken = self._remote.result(pending.found, tell)
        except NotBegun:
            # Training may have gone on, and the weights of that moment are still there.
            self._reporter.taken_here(self._remote.failed)
            pending.found.with_floor |= self._needs_floor
            self._needs_floor = False
            taken = self._remote.take_here(pending.found, self._observer.state)
        self._observer.state = taken.state
        for message in taken.logged:
            warn_once(self.model, "%s", message)
        return taken.observation, taken.seconds

    def _tell(self, snapshot, found):
        """Call the user's function, whose failure is its own."""
        if self._on_snapshot is None or not self._writes:
            return
        shown = [as_array(one) for one in found.examples] if self._log_real_images else []
        try:
            with backend.random_states_preserved():
                self._on_snapshot(as_taken_snapshot(snapshot, shown, found.checkup))
        except Exception as error:
            if self._on_error == "raise":
                raise
            self._reporter.listener_failed(error)

    def _write_snapshot(self, found):
        snapshot = self.history.last
        if not self._introduced:
            given = self._observer.targets, self._observer.values_range
            summaries.write_objectives(self._events, snapshot.epoch, *given)
            self._introduced = True
        with_real = found.score_ratio is not None
        summaries.write_snapshot(self._events, snapshot, with_real, found.pictures)
        summaries.write_health(self._events, snapshot.epoch, found.checkup, found.histograms)
        for name, picture, shown in zip(snapshot.names, found.examples, found.shown, strict=False):
            self._write_real_images(snapshot.epoch, name, picture, shown)
        for name, picture in zip(snapshot.names, found.accentuated, strict=False):
            summaries.write_accentuated(self._events, snapshot.epoch, name, picture)
        if self._log_importance:
            summaries.write_importance(self._events, snapshot)
            if snapshot.importance is None:
                self._reporter.no_importance()

    def _write_real_images(self, epoch, name, example, shown):
        """Write a target's top real images, each alone only if it or its place has changed."""
        if not self._log_real_images:
            indices, scores = [one.index for one in shown], [one.score for one in shown]
            summaries.write_real_scores(self._events, epoch, name, indices, scores)
            return
        summaries.write_examples(self._events, epoch, name, example)
        key = [(one.index, one.place) for one in shown]
        if self._real_written.get(name, []) != key:
            pairs = [one.to_log for one in self._observer.with_images(name, shown)]
            notes = [f"score {one.score:.3g} at epoch {epoch}, image {one.index}" for one in shown]
            summaries.write_real_images(self._events, epoch, name, pairs, notes)
            self._real_written[name] = key

    def _write_film(self):
        film = self.history if self._film is None else self._film
        if len(film):
            summaries.write_evolution(self._events, self._last_epoch, film.encoded_strip())
            summaries.write_animation(self._events, self._last_epoch, film.gif())

    def _guarded(self, function, *arguments):
        try:
            function(*arguments)
        except KeyboardInterrupt:
            # Keras ends training at once, with no call of `on_train_end`.
            if function != self._write_film:
                self._guarded(self._write_film)
            raise
        except Exception as error:
            if self._on_error == "raise":
                raise
            self._reporter.failed(error)
