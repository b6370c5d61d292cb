"""The Keras callback: when to look, and what to keep of it."""

from __future__ import annotations

import os
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real

import keras
import numpy as np

from featviz_callback import backend, parameterizations, summaries
from featviz_callback.history import History
from featviz_callback.objectives import Objective, default_objectives
from featviz_callback.optimization import check_numbers, get_values_range, prepare
from featviz_callback.result import Result


class FeatureVisCallback(keras.callbacks.Callback):
    """Watches what a model is learning, while `fit` runs.

    Before the first epoch, after epochs 0, `freq`, `2 * freq` and so on, and after
    the last, it finds the images that the objectives ask for, on the weights of
    that moment, and writes them to TensorBoard. Start and views are the same each time: what
    differs between two frames is the model. Training is not changed by it.

    Show every epoch with
    `tensorboard --logdir logs --samples_per_plugin images=1000`.

    Args:
        objectives: An `Objective`, a list of them, or a function
            `model -> Objective or list`, called when training begins, or at the
            end of the first epoch for a model that is not built before. Default:
            up to 16 output units, and four channels of each of four convolutions
            spread over the depth.
        log_dir: Folder for TensorBoard; the events go to its sub-folder
            `feature_vis`. Of several processes that train the model, all look and
            the first one writes.
        freq: Epochs from one look to the next.
        steps: Steps of each ascent, see `optimize`.
        values_range: Lowest and highest value of the model's input.
        image_shape: See `optimize`.
        parameterization: See `optimize`.
        transformations: See `optimize`.
        regularizers: See `optimize`.
        optimizer: See `optimize`.
        seed: Seed of the start and of all views, an int.
        warm_start: Whether each look starts from the images of the last one. It
            excites more in as many steps, and hides change.
        probe_data: Real inputs, an array `(images, height, width, channels)` in
            `values_range`. Their mean colour becomes the ground of the pictures,
            which then look more like the data.
        max_overhead: Skips looks that would take the share of the time since
            training began above this, such as 0.05. The first look, which
            compiles, and the last one are always taken.
        batch_size: See `optimize`.
        held_inputs: See `optimize`.
        on_error: `"warn"`: whatever fails after training has begun is said once,
            and training goes on. `"raise"`: it ends training.
        verbose: 1 prints a line at each look.

    Attributes:
        history: Everything seen, a `featviz_callback.history.History`.

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
        values_range: tuple[float, float] = (0.0, 1.0),
        image_shape: tuple[int, ...] | None = None,
        parameterization: str | object = "fourier",
        transformations: str | Sequence | None = "standard",
        regularizers: Sequence[Callable] = (),
        optimizer: keras.optimizers.Optimizer | str | None = None,
        seed: int = 0,
        warm_start: bool = False,
        probe_data: np.ndarray | None = None,
        max_overhead: float | None = None,
        batch_size: int | None = None,
        held_inputs: Mapping | None = None,
        on_error: str = "warn",
        verbose: int = 0,
    ):
        super().__init__()
        if not isinstance(freq, Integral) or isinstance(freq, bool) or freq < 1:
            raise ValueError(
                "Invalid value for argument `freq`. Expected a whole number of epochs, 1 or "
                f"more. Received: freq={freq!r}"
            )
        if not isinstance(log_dir, (str, os.PathLike)):
            raise ValueError(
                "Invalid value for argument `log_dir`. Expected a path. "
                f"Received: log_dir={log_dir!r}"
            )
        check_numbers(steps, None, 0, batch_size, seed)
        get_values_range(values_range)
        if probe_data is not None and parameterization != "fourier":
            raise ValueError(
                "Invalid value for argument `probe_data`. Expected None, or the parameterization "
                f"'fourier' with it. Received: parameterization={parameterization!r}"
            )
        if on_error not in ("warn", "raise"):
            raise ValueError(
                "Invalid value for argument `on_error`. Expected 'warn' or 'raise'. "
                f"Received: on_error={on_error!r}"
            )
        is_share = isinstance(max_overhead, Real) and 0 < max_overhead < 1
        if max_overhead is not None and not is_share:
            raise ValueError(
                "Invalid value for argument `max_overhead`. Expected None, or a share between "
                f"0 and 1. Received: max_overhead={max_overhead!r}"
            )
        self.objectives = objectives
        self.log_dir = log_dir
        self.freq = freq
        self.warm_start = warm_start
        self.probe_data = probe_data
        self.max_overhead = max_overhead
        self.on_error = on_error
        self.verbose = verbose
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
        self._ascents = None
        self._params = []
        self._events = None
        self._warned = False
        self._seen_model = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Checks every argument against the model, and computes nothing."""
        self._ascents = None
        # TensorFlow builds a model at its first batch, later than this.
        if self.model.built or isinstance(self.objectives, (Objective, list, tuple)):
            self._prepare()
        # Each of several processes looks, and one writes.
        writes = backend.load().writes(self.model)
        self._events = summaries.EventFile(self.log_dir if writes else None)
        self._warned = False
        self._last_epoch = self._last_look = None
        self._began = time.perf_counter()
        self._spent = 0.0

    def _prepare(self):
        objectives = _as_list(self.objectives, self.model)
        _require_names(objectives)
        _require_model(objectives, self.model)
        if self._seen_model is None or self._seen_model() is not self.model:
            self._seen_model = weakref.ref(self.model)
            self.history = History()
        self._ascents = [self._prepare_one(objective) for objective in objectives]
        self._params = [None] * len(objectives)

    def _prepare_one(self, objective):
        ascent = prepare(objective, **self._settings)
        if self.probe_data is None:
            return ascent
        plan = ascent.plan
        like_data = parameterizations.like_data(
            self.probe_data, plan.values_range, plan.image_shape
        )
        return replace(ascent, plan=replace(plan, parameterization=like_data))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the network before it is trained."""
        if self._last_epoch is None:
            self._last_epoch = self._last_look = epoch - 1
            seen = epoch - 1 in self.history.epochs
            if self._ascents is not None and not seen:
                self._look(epoch - 1)
                # The first look compiles, which no later one does.
                self._spent = 0.0
                self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Looks at the network every `freq` epochs."""
        self._last_epoch = epoch
        if epoch % self.freq == 0 and self._affordable():
            self._look(epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Looks at the network if its last epoch was not, and writes the film strip."""
        if self._last_epoch != self._last_look:
            self._look(self._last_epoch)
        if len(self.history):
            self._guarded(self._write_strip)

    def _look(self, epoch):
        self._last_look = epoch
        self._guarded(self._look_unguarded, epoch)

    def _look_unguarded(self, epoch):
        began = time.perf_counter()
        if self._ascents is None:
            self._prepare()
        # Reading `self.model` brings the weights back to it on JAX.
        _ = self.model
        starts = self._params if self.warm_start else [None] * len(self._ascents)
        runs = [ascent.run(start=s) for ascent, s in zip(self._ascents, starts, strict=True)]
        result = _join([result for result, _ in runs])
        self._params = [params for _, params in runs]
        seconds = time.perf_counter() - began
        self._spent += seconds
        drift = self.history.add(epoch, result, seconds)
        summaries.write_look(self._events, epoch, result, drift, seconds)
        if self.verbose and self._events.path is not None:
            print(f"feature_vis: epoch {epoch}, {len(result)} images in {seconds:.1f} s")

    def _write_strip(self):
        summaries.write_evolution(self._events, self._last_epoch, self.history.strip())

    def _affordable(self):
        if self.max_overhead is None or not len(self.history):
            return True
        expected = self.history.seconds[-1] if len(self.history) > 1 else 0.0
        elapsed = time.perf_counter() - self._began
        affordable = self._spent + expected <= self.max_overhead * (elapsed + expected)
        return backend.load().agreed(affordable)

    def _guarded(self, function, *arguments):
        try:
            function(*arguments)
        except Exception as error:
            if self.on_error == "raise":
                raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    "FeatureVisCallback could not look at the model; training goes on, and "
                    "further failures are not reported. Use on_error='raise' to see where. "
                    f"{type(error).__name__}: {error}",
                    stacklevel=2,
                )


def _as_list(objectives, model):
    if objectives is None:
        objectives = default_objectives
    if not isinstance(objectives, (Objective, list, tuple)) and callable(objectives):
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


def _join(results):
    return Result(
        images=np.concatenate([r.images for r in results]),
        names=[name for r in results for name in r.names],
        scores=np.concatenate([r.scores for r in results]),
        history=np.concatenate([r.history for r in results], axis=1),
        status=[status for r in results for status in r.status],
        values_range=results[0].values_range,
    )
