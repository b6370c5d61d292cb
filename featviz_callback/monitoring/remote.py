"""Take snapshots in other processes, while training goes on.

The observer crosses once, without its model. For each snapshot a copy of the weights crosses,
and what the snapshot before has kept. So any worker can take any snapshot, and gets what it
lacks when it says so. One thread here hands snapshots over, one after the other, and waits for
each. It never runs a model. What comes back is recorded by the thread that trains.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring import wire
from featviz_callback.monitoring.life import Life
from featviz_callback.monitoring.observer import Observation, Observer, refused_tasks
from featviz_callback.monitoring.workers import (
    UnfitWorker,
    end_with_parent,
    ends_within,
    error_of,
    greet,
    introduce,
    one_at_a_time,
    require_alike,
    require_processes,
)
from featviz_callback.objectives import Watch, forget_warnings, score_all
from featviz_callback.records import pictures

logger = logging.getLogger("featviz_callback")

# So many bytes of weights may wait for a worker.
MOST_WAITING = 2**30
# What is smaller crosses with every snapshot, so that no worker has to ask for it.
_SMALL = 2**20
# After so many seconds of waiting that is said, and after so many more training waits no longer
# for a worker of which there is no sign. One that is started now imports a framework first.
TOLD_AFTER, PATIENCE = 30.0, 90.0
_BLINK = 0.5
# Sums in another order differ by about 1e-6 of the largest value in single precision, and by
# 1e-3 in half. What forgets an argument mostly computes something else altogether.
_ROUNDING = 1e-3
# So many architectures, and observers, are kept by a worker.
_MOST_KEPT = 2

# Models and the classes that only they and their observers have.
_models: dict[str, tuple[list[keras.Model], dict[object, type]]] = {}
_observers: dict[str, tuple[list[keras.Model], Observer]] = {}


@dataclass(frozen=True)
class Setup:
    """What a worker needs once.

    Attributes:
        architecture: See `wire.describe`.
        observer: The observer without its models, pickled.
    """

    architecture: bytes
    observer: bytes


@dataclass(frozen=True)
class Order:
    """One snapshot to take.

    Attributes:
        sender: What `introduce` tells where it is from.
        names: The SHA-256 of the architecture, and of both parts of the setup.
        settings: See `wire.settings`.
        setup: The setup; `None` if the worker may have it.
        weights: The weights of the moment.
        state: See `Observer.state`.
        with_floor: See `Observer.take_snapshot`.
        with_real_images: Whether pictures of real images will be written.
    """

    sender: dict[str, object]
    names: tuple[str, str]
    settings: dict[str, Any]
    setup: Setup | None
    weights: wire.Weights
    state: dict[str, Any]
    with_floor: bool
    with_real_images: bool


@dataclass(frozen=True, eq=False)
class Taken:
    """A snapshot that a worker has taken.

    Attributes:
        observation: The snapshot, whose pictures are encoded.
        state: What the next snapshot goes on from.
        seconds: How long it took there.
        logged: What was logged there.
    """

    observation: Observation
    state: dict[str, Any]
    seconds: float
    logged: list[str]


class SnapshotLost(RuntimeError):
    """A worker has not finished a snapshot."""


class NotBegun(RuntimeError):
    """No worker has begun a snapshot, and none will."""


@dataclass
class Submitted:
    """A snapshot that a worker will take.

    Attributes:
        weights: The weights of the moment, until a worker has taken the snapshot.
        with_floor: See `Observer.take_snapshot`.
        future: The future of a `Taken`. Its error is `NotBegun` or `SnapshotLost`.
    """

    weights: wire.Weights | None
    with_floor: bool
    future: Future = field(default_factory=Future)


class Remote:
    """Takes snapshots of one observer in an executor, in the order in which they are asked for.

    Args:
        executor: Any executor of processes. It is never shut down.
        observer: The observer.
        trained: The model that is trained.
        with_real_images: Whether pictures of real images will be written.

    Attributes:
        failed: Why no worker takes snapshots from now on, or `None`.
        size: How many bytes the weights of the last submitted snapshot take.

    Raises:
        ValueError: If it cannot be pickled, or the model cannot be made again.
    """

    def __init__(
        self,
        executor: Executor,
        observer: Observer,
        trained: keras.Model,
        with_real_images: bool = True,
    ):
        self._observer, self._roots = observer, _roots(observer, trained)
        setup = _pack(observer, self._roots)
        self._line = _Line(executor, setup, observer.state, with_real_images)
        self._here: tuple[list[keras.Model], Observer] | None = None
        self.size, self._began = 0, time.monotonic()
        # Of a daemon, since a process may end while a worker hangs.
        threading.Thread(target=self._line.serve, name="featviz_callback", daemon=True).start()
        # A training that ends by an error calls nothing here, and the thread must not keep the
        # model alive.
        weakref.finalize(self, self._line.close).atexit = False

    @property
    def failed(self) -> BaseException | None:
        """Why no worker takes snapshots from now on, or `None`."""
        return self._line.failed

    @property
    def is_late(self) -> bool:
        """Whether the first snapshot has waited two minutes without a sign of any worker."""
        is_long = time.monotonic() - self._began > TOLD_AFTER + PATIENCE
        return is_long and not self._line.is_greeted

    def submit(self, with_floor: bool) -> Submitted:
        """Copy the weights of the moment, and hand a snapshot over."""
        weights = wire.weights_of(self._roots)
        self.size, one = weights.size, Submitted(weights, with_floor)
        self._line.put(one)
        return one

    def close(self) -> None:
        """Hand over no more snapshots."""
        self._line.close()

    def result(self, submitted: Submitted, tell: Callable) -> Taken:
        """Wait for a snapshot, and no longer than two minutes for the first sign of a worker.

        Args:
            submitted: The snapshot.
            tell: A function that is called if this takes long.

        Raises:
            NotBegun: If no worker has begun it, and none will.
            SnapshotLost: If a worker has not finished it.
        """
        if not wait([submitted.future], TOLD_AFTER).done:
            tell()
            if not self._line.is_greeted and not wait([submitted.future], PATIENCE).done:
                self._line.give_up()
        return submitted.future.result()

    def take_here(self, submitted: Submitted, state: dict[str, Any]) -> Taken:
        """Take a snapshot that no worker has begun, on a copy of the model.

        Args:
            submitted: The snapshot.
            state: What the snapshot before has kept.
        """
        if self._here is None:
            roots = wire.build_apart(self._roots)
            self._here = roots, wire.copy_beside(self._observer, self._roots, roots)
        with backend.random_states_preserved(), wire.undistributed():
            return _take(*self._here, self._line.order(submitted, state, None))


class _Line:
    """The snapshots that wait for a worker, and what a worker needs. It knows no model.

    Attributes:
        failed: Why no worker takes snapshots from now on, or `None`.
        is_greeted: Whether a worker has answered, or none ever will.
    """

    def __init__(
        self, executor: Executor, setup: Setup, state: dict[str, Any], with_real_images: bool
    ):
        self._executor, self._with_real_images = executor, with_real_images
        self._life = Life(executor)
        self._setup, self._settings, self._sender = setup, wire.settings(), introduce()
        names = [hashlib.sha256(one).hexdigest() for one in (setup.architecture, setup.observer)]
        self._names = names[0], "-".join(names)
        self._state = state
        self._has_crossed = self._is_given_up = self._is_closed = self.is_greeted = False
        self.failed: BaseException | None = None
        self._orders: queue.SimpleQueue = queue.SimpleQueue()

    def put(self, one: Submitted) -> None:
        """Add a snapshot."""
        self._orders.put(one)

    def close(self) -> None:
        """Hand over no more snapshots, not even those that wait."""
        self._is_closed = True
        self._orders.put(None)

    def give_up(self) -> None:
        """Wait no longer for a worker, unless one has answered."""
        self._is_given_up = True

    def order(self, submitted: Submitted, state: dict[str, Any], setup: Setup | None) -> Order:
        """Return what a worker is sent for a snapshot."""
        assert submitted.weights is not None
        return Order(
            self._sender,
            self._names,
            self._settings,
            setup,
            submitted.weights,
            state,
            submitted.with_floor,
            self._with_real_images,
        )

    def serve(self) -> None:
        """Hand over one snapshot after the other, until `close`."""
        # While it waits, no variable here may hold a snapshot: its error knows the callback.
        while self._serve_one(self._orders.get()):
            pass

    def _serve_one(self, one):
        if one is None:
            return False
        if not self.is_greeted:
            self.failed, self.is_greeted = _bare(self._greet()), True
        if self.failed is not None or self._is_closed:
            one.future.set_exception(NotBegun())
            return True
        try:
            taken = self._taken_elsewhere(one)
        except BaseException as error:
            # Whatever it is, training waits for the future.
            self.failed = _bare(error.__cause__ or error)
            is_known = isinstance(error, (NotBegun, SnapshotLost))
            one.future.set_exception(error if is_known else SnapshotLost(repr(error)))
        else:
            self._state, one.weights = taken.state, None
            one.future.set_result(taken)
        return True

    def _greet(self):
        """Wait for a worker, and return why it is of no use, or `None`."""
        try:
            future = self._executor.submit(greet)
            while not ends_within(future, _BLINK):
                if self._is_given_up or self._is_closed:
                    return TimeoutError(f"none has begun within {TOLD_AFTER + PATIENCE:g} seconds")
            failure = error_of(future)
            if failure is None:
                require_alike(future.result(), self._sender)
        except Exception as error:
            return error
        return failure

    def _taken_elsewhere(self, one):
        small = len(self._setup.architecture) + len(self._setup.observer) <= _SMALL
        setup = self._setup if small or not self._has_crossed else None
        while True:
            try:
                future = self._executor.submit(work, self.order(one, self._state, setup))
            except Exception as error:
                raise NotBegun from error
            self._await(future)
            # It may be a `KeyboardInterrupt`, which comes back as one.
            failure = error_of(future)
            if isinstance(failure, (CancelledError, UnfitWorker)):
                raise NotBegun from failure
            if failure is not None:
                raise SnapshotLost from failure
            self._life.end()
            taken = future.result()
            if taken is not None:
                self._has_crossed = True
                return taken
            setup = self._setup

    def _await(self, future):
        """Wait for a worker, unless it is gone."""
        self._life.begin()
        while not ends_within(future, _BLINK):
            if self._is_closed:
                raise NotBegun
            if (gone := self._life.why_gone()) is not None:
                # Whoever comes later has nothing to do.
                future.cancel()
                raise SnapshotLost from gone


def _bare(error):
    """Return an error without its frames, which would keep a snapshot and its callback alive."""
    if error is not None:
        error.__traceback__ = error.__context__ = None
    return error


def check_executor(executor: object, warm_start: bool) -> None:
    """Refuse executors of threads or by forks, and a warm start.

    Raises:
        ValueError: If it is one of these.
    """
    require_processes(executor)
    if warm_start:
        raise ValueError(
            "Invalid value for argument `warm_start`. Expected False with an `executor`, whose "
            "workers keep no images between snapshots. Received: warm_start=True"
        )


def rehearse(observer: Observer, trained: keras.Model) -> None:
    """Require that another process can make the same network and the same objectives.

    Raises:
        ValueError: If it cannot.
    """
    roots = _roots(observer, trained)
    _pack(observer, roots)
    try:
        with backend.random_states_preserved():
            again = wire.build_apart(roots)
            wire.require_same(roots, again)
            wire.assign(again, wire.weights_of(roots))
            _require_equal(observer, wire.copy_beside(observer, roots, again).tasks)
    except Exception as error:
        if backend.is_out_of_memory(error):
            raise ValueError(
                f"The model '{trained.name}' cannot be tried before the first batch, as `executor` "
                "needs. Expected memory for a copy of the model beside it; leave out `executor`, "
                "or save checkpoints and `replay` them in a process of its own. Received: out of "
                f"memory, {type(error).__name__}"
            ) from error
        raise _refusal(trained, error) from error


def lend_weights(observer: Observer, trained: keras.Model) -> None:
    """Help another process to copy the weights, if several processes hold them together."""
    if backend.load().is_together():
        wire.weights_of(_roots(observer, trained))


def _roots(observer, trained):
    return wire.outermost([trained, *observer.models])


def _pack(observer, roots):
    try:
        architecture = wire.describe(roots)
    except Exception as error:
        raise _refusal(roots[0], error) from error
    return Setup(architecture, wire.dump_beside(observer, roots))


def _refusal(model, error):
    said = " ".join(str(error).split())
    # Keras says last what was wrong.
    said = said if len(said) < 400 else f"{said[:150]} ... {said[-250:]}"
    return ValueError(
        f"The model '{model.name}' cannot be made again in another process, as `executor` needs. "
        "Expected one that `keras.saving.serialize_keras_object` and `deserialize_keras_object` "
        "restore: every argument of a layer of your own is in its `get_config`, and its "
        "constructor takes `**kwargs`. Leave out `executor`, or save checkpoints and `replay` "
        f"them in a process of its own. Received: {type(error).__name__}: {said}"
    )


def _require_equal(observer, again):
    """Require that models score an image as those that they were made from."""
    tasks = observer.tasks
    # Those are left out later, with a warning.
    refused = refused_tasks(tasks)
    pairs = [pair for pair in zip(tasks, again, strict=True) if id(pair[0]) not in refused]
    for model in {id(one.targets.model): None for one, _ in pairs}:
        of_model = [pair for pair in pairs if id(pair[0].targets.model) == model]
        own, others = zip(*of_model, strict=True)
        plan, taps = own[0].plan, observer.measured(own[0])
        # An argument that is in no configuration shows in what the network computes.
        shares = np.random.default_rng(0).random((plan.batch, *plan.input_shape), "float32")
        low, high = np.asarray(plan.values_range, "float32")
        given = low + (high - low) * shares, plan.image_input, own[0].fixed_inputs
        try:
            expected = _outputs(own, given, taps)
        except Exception as error:
            # Then snapshots do without their numbers too.
            if not taps or backend.is_out_of_memory(error):
                raise
            taps = {}
            expected = _outputs(own, given, taps)
        with wire.undistributed():
            found = _outputs(others, given, taps)
        other = [name for name in expected if not _is_equal(expected[name], found[name])]
        if other:
            raise ValueError(f"it computes something else then, in {', '.join(other[:9])}")


def _outputs(tasks, given, taps):
    """Return the scores of all targets, and one number of each layer and image, by name."""
    found: dict[str, np.ndarray] = {}

    def see(tap, output, images):
        values = backend.load().to_numpy(output).astype("float32").reshape(len(output), -1)
        # A network has too many values for all to be kept until the other one has them.
        weights = np.random.default_rng(0).uniform(-1, 1, values.shape[1]).astype("float32")
        found.setdefault(f"'{tap.name}'", values[:images] @ weights)

    targets = [one.targets for one in tasks]
    scores = score_all(targets, *given, Watch(taps, see) if taps else None)
    return {", ".join(one.names): rows for one, rows in zip(targets, scores, strict=True)} | found


def _is_equal(expected, found):
    """Whether each row of values is equal, but for the order of sums, which a GPU does not fix."""
    is_known = np.isfinite(expected)
    if not np.array_equal(is_known, np.isfinite(found)):
        return False
    known, other = (np.where(is_known, one, 0) for one in (expected, found))
    return bool((np.abs(known - other) <= _ROUNDING * np.abs(known).max(-1, keepdims=True)).all())


# --- in the worker ---------------------------------------------------------------------------


def work(order: Order) -> Taken | None:
    """Take a snapshot in a worker; return `None` if it lacks the setup."""
    end_with_parent()
    require_alike(introduce(), order.sender)
    with one_at_a_time, wire.using(order.settings):
        name = order.names[1]
        try:
            if name not in _observers and order.setup is None:
                return None
            roots, observer = _kept(_observers, name, lambda: _unpacked(order))
            # The process that trains knows what it has logged itself.
            forget_warnings([layer for root in roots for layer in root._flatten_layers()])
            return _take(roots, observer, order)
        except Exception as error:
            # An error of the user's own class may not cross, and would break the pool.
            said = f"{type(error).__name__}: {error}"
        raise RuntimeError(said)


def _unpacked(order):
    """Return the models and the observer of an order that has a setup."""

    def build():
        classes: dict = {}
        return wire.build(order.setup.architecture, classes), classes

    roots, classes = _kept(_models, order.names[0], build)
    # Those of the observer alone are its own.
    return roots, wire.load_beside(order.setup.observer, roots, dict(classes))


def _kept(kept, name, make):
    """Return what is kept under a name, or make it; forget what was used longest ago."""
    # What was used last is at the end.
    kept[name] = kept.pop(name) if name in kept else make()
    while len(kept) > _MOST_KEPT:
        del kept[next(iter(kept))]
    return kept[name]


def _take(roots, observer, order):
    """Take a snapshot on the weights of an order."""
    began = time.perf_counter()
    logged: list[str] = []
    own = threading.get_ident()

    def collect(record):
        if record.thread != own:
            return True
        logged.append(record.getMessage())
        return False

    logger.addFilter(collect)
    try:
        wire.assign(roots, order.weights)
        observer.state = order.state
        found = observer.take_snapshot(order.with_floor)
        shown = {
            name: [(one.index, one.place) for one in some]
            for name, some in zip(found.result.names, found.shown, strict=False)
        }
        is_new = [shown[name] != order.state.get("shown", {}).get(name) for name in shown]
        if not order.with_real_images:
            is_new = [False] * len(is_new)
        found = _encoded(found, is_new)
    finally:
        logger.removeFilter(collect)
    seconds = time.perf_counter() - began - found.compile_seconds
    return Taken(found, {**observer.state, "shown": shown}, seconds, logged)


def _encoded(found: Observation, is_new: Sequence[bool]) -> Observation:
    """Encode all pictures of a snapshot, and of real images those that are new."""
    result = found.result
    drawn = pictures.of_targets(result.images, result.values_range)
    if result.importance is not None and result.importance.ndim == 3:
        result = replace(result, importance=pictures.of_importance(result.importance))
    return replace(
        found,
        result=result,
        pictures=[pictures.as_png(one) for one in drawn],
        examples=[
            pictures.as_png(pictures.with_few_channels(pictures.as_array(one)))
            for one in found.examples
        ],
        accentuated=[pictures.as_png(one) for one in found.accentuated],
        shown=[
            [one.encoded() if new else one.without_image() for one in some]
            for some, new in zip(found.shown, is_new, strict=False)
        ],
    )
