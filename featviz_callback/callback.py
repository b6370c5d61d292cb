"""The Keras callback: when to look, and what to keep of it."""

from __future__ import annotations

import copy
import os
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real

import keras
import numpy as np

from featviz_callback import backend, parameterizations, real_data, summaries
from featviz_callback.costs import Costs
from featviz_callback.history import History
from featviz_callback.looking import Observer, image_shape, join_alike
from featviz_callback.objectives import Objective, default_objectives
from featviz_callback.optimization import check_numbers, get_values_range, prepare
from featviz_callback.reporting import Reporter

# Enough to find what excites a unit among ten classes.
_MOST_REAL_IMAGES = 1000


class FeatureVisCallback(keras.callbacks.Callback):
    """Watches what a model is learning, while `fit` runs.

    Before the first epoch, after epochs 0, `freq`, `2 * freq` and so on, and after
    the last, it finds the images that the objectives ask for, on the weights of
    that moment, and writes them to TensorBoard. Start and views are the same each time: what
    differs between two frames is the model. Training is not changed by it.

    Show every epoch with `tensorboard --logdir logs`, in the tab Features.

    To look every 500 batches of one long epoch, cut it: `fit(..., epochs=20,
    steps_per_epoch=500)` goes on through the same data, in the same order, with the
    same result. A hook for batches would make Keras wait for every one of them,
    with or without a look.

    The last look shows the weights as the last epoch left them, also where
    `EarlyStopping(restore_best_weights=True)` then puts others in their place. A
    training that goes on from an earlier process, by `initial_epoch` or
    `BackupAndRestore`, goes on with the history found in `log_dir`, where it is of
    the same targets. What is written there are pictures, which hold the values of
    images of one or three channels only: of signals and other images the history,
    and drift, begin at the epoch that training goes on from, which the log says.

    Args:
        objectives: An `Objective`, a list of them, or a function
            `model -> Objective or list`, called when training begins, or at the
            end of the first epoch for a model that is not built before. Default:
            up to 16 output units, and four channels of each of four convolutions
            spread over the depth.
        log_dir: Folder for TensorBoard; the events go to its sub-folder
            `feature_vis`. One training each: of several, TensorBoard makes one. Of
            several processes that train the model, all look and the first one writes.
        freq: Epochs from one look to the next.
        steps: Steps of each ascent, see `optimize`.
        values_range: Lowest and highest value of the model's input. Default:
            `(0, 1)`; with `probe_data` the range that they are in, see
            `featviz_callback.real_data.find_values_range`.
        image_shape: See `optimize`.
        parameterization: See `optimize`.
        transformations: See `optimize`.
        regularizers: See `optimize`.
        optimizer: See `optimize`.
        seed: Seed of the start and of all views, an int.
        warm_start: Whether each look starts from the images of the last one. It
            excites more in as many steps, and hides change.
        probe_data: Real inputs as `fit` takes them, images or signals: an array
            `(images, height, width, channels)`, a `tf.data.Dataset`, a `PyDataset`, a
            torch `DataLoader`, or any iterable of batches, with or without labels. Up to
            1,000 are read, or 256 MiB, once, when training first begins; what a
            data set that shuffles does then, `featviz_callback.real_data` says. Those that excite
            a target most are shown beside its picture and are what its score is
            compared with, for one more forward pass over them at each look; and
            the parameterizations `"fourier"` and `"fixed_magnitude"` take over what
            they look like on average.
        max_overhead: Largest share of the time since training began, without
            compiling, that looks may take, such as 0.05. Looks that would break it
            are skipped, which is said once and noted in `history.skipped`. The
            first look of a `fit` and the last, which take twice as long since they
            measure the floor of drift, are always taken, so a short training may
            end above it; so may one whose last look is far slower than any before.
        batch_size: See `optimize`. Where memory runs out it is halved, once a look.
        on_error: `"warn"`: whatever fails after training has begun is said once,
            and training goes on. `"raise"`: it ends training.
        verbose: 1 prints a line at each look.
        held_inputs: See `optimize`.

    Attributes:
        history: Everything seen, a `featviz_callback.History`.
        log_dir: Where the next `fit` writes. Set it to give a copy a folder of its own.

    Raises:
        ValueError: If an argument is invalid; at the latest when training begins.

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
        freq: int = 1,
        steps: int = 32,
        values_range: tuple[float, float] | None = None,
        image_shape: tuple[int, ...] | None = None,
        parameterization: str | object = "fourier",
        transformations: str | Sequence | None = "standard",
        regularizers: Sequence[Callable] = (),
        optimizer: keras.optimizers.Optimizer | str | None = None,
        seed: int = 0,
        warm_start: bool = False,
        probe_data: object | None = None,
        max_overhead: float | None = None,
        batch_size: int | None = None,
        on_error: str = "warn",
        verbose: int = 0,
        held_inputs: Mapping | None = None,
    ):
        super().__init__()
        _check(freq, log_dir, max_overhead, on_error)
        check_numbers(steps, None, 0, batch_size, seed)
        if values_range is not None:
            get_values_range(values_range)
        self._objectives = objectives
        self.log_dir = log_dir
        self._freq = freq
        self._warm_start = warm_start
        self._probe_data = probe_data
        self._max_overhead = max_overhead
        self._on_error = on_error
        self._verbose = verbose
        self.history = History()
        self._settings = {
            "steps": steps,
            "optimizer": optimizer,
            "parameterization": parameterization,
            "transformations": transformations,
            "regularizers": regularizers,
            "values_range": values_range,
            "image_shape": image_shape,
            "save_every": None,
            "warmup_steps": 0,
            "batch_size": batch_size,
            "seed": seed,
            "held_inputs": held_inputs,
        }
        self._real_images: np.ndarray | None = None
        self._measured: dict[tuple, object] = {}
        self._seen_model = None
        self._begin_run()

    def _begin_run(self):
        """Everything that belongs to one `fit` alone."""
        self._observer = self._events = None
        self._reporter = Reporter(self._verbose)
        self._costs = Costs(self._max_overhead)
        self._introduced = False
        self._last_epoch = self._last_look = None
        self._epoch_began = time.perf_counter()

    def __deepcopy__(self, memo: dict) -> FeatureVisCallback:
        """Copies the history, and shares what is never changed.

        The model is left behind: a copy is made to watch another one.
        """
        twin = copy.copy(self)
        twin.history = copy.deepcopy(self.history, memo)
        twin._model = None
        twin._begin_run()
        return twin

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Checks every argument against the model, and computes nothing."""
        self._begin_run()
        if self._probe_data is not None and self._real_images is None:
            with backend.random_states_kept():
                self._real_images = real_data.read_images(self._probe_data, _MOST_REAL_IMAGES)
        # TensorFlow builds a model at its first batch, later than this.
        if self.model.built or isinstance(self._objectives, (Objective, list, tuple)):
            self._prepare()
        # Each of several processes looks, and one writes.
        writes = backend.load().writes(self.model)
        self._events = summaries.EventFile(self.log_dir if writes else None)
        self._reporter = Reporter(self._verbose if writes else 0)

    def _prepare(self):
        objectives = _as_list(self._objectives, self.model)
        _require_names(objectives)
        _require_model(objectives, self.model)
        if self._seen_model is None or self._seen_model() is not self.model:
            self._seen_model = weakref.ref(self.model)
            # One that is empty may be in the hands of who is to show it.
            if len(self.history):
                self.history = History(self.history.most_bytes)
        ascents = [self._prepare_one(objective) for objective in join_alike(objectives)]
        _require_one_shape(ascents)
        ascents = [self._measured_on_real(ascent) for ascent in ascents]
        images = self._images_for(ascents[0].plan.image_input)
        self._observer = Observer(objectives, ascents, images, self._warm_start)

    def _prepare_one(self, objective):
        settings, real = self._settings, self._real_images
        if settings["values_range"] is None:
            usual = (0.0, 1.0) if real is None else real_data.find_values_range(real)
            settings = settings | {"values_range": usual}
        return prepare(objective, **settings)

    def _measured_on_real(self, ascent):
        if self._real_images is None:
            return ascent
        plan, parameterization = ascent.plan, self._like(ascent.plan)
        if plan.optimizer is None:
            parameterization = parameterizations.for_default_ascent(
                parameterization, plan.values_range
            )
        return replace(ascent, plan=replace(plan, parameterization=parameterization))

    def _images_for(self, image_input):
        """The real images `(images, height, width, channels)`, out of the model's own axes."""
        if self._real_images is None:
            return None
        return real_data.to_images(self._real_images, image_input.axes, image_input.shape)

    def _like(self, plan):
        """The plan's parameterization, measured on the real images where it can be."""
        images, kind = self._images_for(plan.image_input), self._settings["parameterization"]
        if kind not in ("fourier", "fixed_magnitude"):
            return plan.parameterization
        if plan.image_shape not in self._measured:
            self._measured[plan.image_shape] = parameterizations.like_data(
                images, plan.values_range, plan.image_shape, kind
            )
        return self._measured[plan.image_shape]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the network before it is trained."""
        if self._last_epoch is None:
            self._last_epoch = self._last_look = epoch - 1
            if epoch > 0:
                self._guarded(self._resume, epoch)
            is_new = backend.load().agreed(epoch - 1 not in self.history.epochs)
            if self._observer is not None and is_new:
                self._guarded(self._look, epoch - 1)
        self._epoch_began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the network every `freq` epochs, and after the last."""
        self._last_epoch = epoch
        # The last look is not left to the end of training, where others may have put
        # back the weights of an earlier epoch.
        if self._is_last(epoch) or epoch % self._freq == 0 and self._affords_look():
            self._guarded(self._look, epoch)
        elif epoch % self._freq == 0:
            self.history.skip(epoch)
            self._reporter.skipped(epoch, self._max_overhead)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Looks at the network if its last epoch was not, and writes the film."""
        if self._last_epoch != self._last_look:
            self._guarded(self._look, self._last_epoch)
        self._guarded(self._write_film)

    def _is_last(self, epoch):
        return self.model.stop_training or epoch + 1 == (self.params or {}).get("epochs")

    def _affords_look(self):
        return self._max_overhead is None or backend.load().agreed(self._costs.affords_look())

    def _resume(self, epoch):
        """Goes on with what an earlier process has seen."""
        is_lost = False
        if self._observer is not None and not len(self.history):
            is_lost = epoch - 1 in self._restore(epoch)
        # A look that is lost is taken again, in the place of the first one.
        self._events.restart(epoch - is_lost)

    def _restore(self, epoch):
        """Reads back the looks before an epoch; returns the epochs of those that are lost."""
        seen, expected, lost = self._observer, self._observer.image_shape, {}
        for look in summaries.read_looks(self.log_dir, seen.names, seen.values_range):
            if look.epoch < epoch and look.images.shape[1:] == expected:
                self.history.restore(look)
            elif look.epoch < epoch:
                lost[look.epoch] = look.images.shape[1:]
        lost = {one: shape for one, shape in lost.items() if one not in self.history.epochs}
        if lost:
            self._reporter.lost(list(lost), lost[max(lost)], expected)
        return lost

    def _look(self, epoch):
        began = time.perf_counter()
        epoch_seconds, self._last_look = began - self._epoch_began, epoch
        if self._observer is None:
            self._prepare()
        # Reading `self.model` brings the weights back to it on JAX.
        _ = self.model
        is_first = not self._costs.spent
        seen = self._observer.look(with_floor=is_first or self._is_last(epoch))
        self.history.add(epoch, seen.result, 0.0, seen.drift_floor, seen.score_ratio)
        try:
            self._write_look(seen)
        finally:
            # Also where the disk is full: what was seen is in the history.
            seconds = time.perf_counter() - began
            self._costs.add(seconds, seen.floor_seconds, seen.compile_seconds)
            self.history.set_seconds(seconds - seen.compile_seconds)
            self.history.compile_seconds += seen.compile_seconds
            look, share = self.history.last, self._costs.share()
            self._reporter.looked(look, share, seen.compile_seconds, epoch_seconds)
        summaries.write_costs(self._events, epoch, look.seconds, share, seen.compile_seconds)

    def _write_look(self, seen):
        look = self.history.last
        if not self._introduced:
            summaries.write_objectives(self._events, look.epoch, self._observer.targets)
            self._introduced = True
        summaries.write_look(self._events, look)
        for name, example in zip(look.names, seen.examples, strict=False):
            summaries.write_examples(self._events, look.epoch, name, example)

    def _write_film(self):
        if len(self.history):
            summaries.write_evolution(self._events, self._last_epoch, self.history.strip())
            summaries.write_animation(self._events, self._last_epoch, self.history.gif())

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


def _check(freq, log_dir, max_overhead, on_error):
    if not isinstance(freq, Integral) or isinstance(freq, bool) or freq < 1:
        raise ValueError(
            "Invalid value for argument `freq`. Expected a whole number of epochs, 1 or "
            f"more. Received: freq={freq!r}"
        )
    if not isinstance(log_dir, (str, os.PathLike)):
        raise ValueError(
            f"Invalid value for argument `log_dir`. Expected a path. Received: log_dir={log_dir!r}"
        )
    is_share = isinstance(max_overhead, Real) and 0 < max_overhead < 1
    if max_overhead is not None and not is_share:
        raise ValueError(
            "Invalid value for argument `max_overhead`. Expected None, or a share between "
            f"0 and 1. Received: max_overhead={max_overhead!r}"
        )
    if on_error not in ("warn", "raise"):
        raise ValueError(
            "Invalid value for argument `on_error`. Expected 'warn' or 'raise'. "
            f"Received: on_error={on_error!r}"
        )


def _as_list(objectives, model):
    if objectives is None:
        objectives = default_objectives
    is_function = callable(objectives) and not isinstance(objectives, keras.Layer)
    if not isinstance(objectives, (Objective, list, tuple)) and is_function:
        objectives = objectives(model)
    if isinstance(objectives, Objective):
        objectives = [objectives]
    is_list = isinstance(objectives, (list, tuple)) and len(objectives) > 0
    if not is_list or not all(isinstance(one, Objective) for one in objectives):
        raise ValueError(
            "Invalid value for argument `objectives`. Expected an Objective, a list of at least "
            "one, or a function of the model that returns them. "
            f"Received: objectives={objectives!r}"
        )
    return list(objectives)


def _require_names(objectives):
    names = Counter(name for objective in objectives for name in objective.names)
    wrong = sorted(n for n, count in names.items() if count > 1 or n in summaries.RESERVED_NAMES)
    if wrong:
        raise ValueError(
            "Invalid value for argument `objectives`. Expected a different name for each "
            "target, since TensorBoard tells them apart by it, and none of "
            f"{summaries.RESERVED_NAMES}. Received twice, or reserved: {wrong}. Give `names`."
        )


def _require_model(objectives, model):
    trained = {id(variable) for variable in model.variables}
    for objective in objectives:
        if trained.isdisjoint(id(variable) for variable in objective.model.variables):
            raise ValueError(
                "Invalid value for argument `objectives`. Expected objectives of the model that "
                f"is trained, '{model.name}', or of a part of it. Received: {objective!r}"
            )


def _require_one_shape(ascents):
    """Pictures of a history, and the real images beside them, are of one shape."""
    names = {image_shape(ascent): ascent.objective.names[0] for ascent in reversed(ascents)}
    if len(names) > 1:
        found = ", ".join(f"{name!r} of {shape}" for shape, name in reversed(names.items()))
        raise ValueError(
            "Invalid value for argument `objectives`. Expected targets whose images are all of "
            "one shape: give those of a part of the model with another input to a callback of "
            f"their own. Received: {found}"
        )
