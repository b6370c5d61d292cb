"""Compute the chunks of an atlas, here or in other processes.

Any `concurrent.futures.Executor` with `submit` will do. A worker gets the optimisation of a
layer without its model, and the path of a file that has the model. It writes its images
itself, so that they never pass through the process that asked for them. Whatever a worker
does not finish is computed here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import logging
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import dataclass
from typing import Any

import keras

from featviz_callback import backend
from featviz_callback.monitoring import wire
from featviz_callback.monitoring.chunks import Chunk, Ranked, compute, is_done
from featviz_callback.monitoring.life import Life
from featviz_callback.objectives import walk
from featviz_callback.optimization import Task, digest, digest_architecture, digest_weights
from featviz_callback.tensorboard import unique

logger = logging.getLogger("featviz_callback")

# So many chunks are in the executor, enough for a hundred workers. All of an atlas would fill
# its memory.
_MOST_WAITING = 256
# A worker of a pool gets about so many groups of chunks.
_GROUPS = 8
# Finished chunks of a group are looked for after so many seconds.
_BLINK = 0.5
_MODELS = "models"
# A worker that is started now imports a framework for up to 20 seconds.
_PATIENCE = 30

# What this process has unpacked as a worker: by the call and file of a model, the model and the
# tasks of it, by their hash. Compiled steps live with the model.
_unpacked: dict[str, dict[str, Any]] = {}
_MODELS_KEPT = 2
# Tells this process from one of the same host name and number in another container.
_PROCESS = unique()
# Where a worker is may differ, and all else that it tells may not.
_WHERE = ("host", "process", "unique")
# Threads of one worker share its models and its random states.
one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Packed:
    """Some chunks of one optimisation, as they cross to a worker.

    Attributes:
        task: The optimisation of a layer without its model, pickled.
        sender: What `introduce` tells where it is from.
        settings: See `wire.settings`.
        call: Tells this call of `atlas` from all others.
        model: The path of the model's file.
        weights: The hash of that model's weights.
        parts: Of each chunk its rows, the file to write, and what real images tell of its
            targets.
    """

    task: bytes
    sender: dict[str, object]
    settings: dict[str, Any]
    call: str
    model: str
    weights: str
    parts: tuple[tuple[tuple[int, ...], str, Ranked | None], ...]


def compute_here(chunks: Sequence[tuple[Chunk, Ranked | None]]) -> Iterator[Chunk]:
    """Compute chunks in this process, and yield each when its file is there."""
    for chunk, ranked in chunks:
        if not chunk.is_done:
            compute(chunk.task, chunk.rows, chunk.path, ranked)
        yield chunk


class Workers:
    """An executor whose workers compute chunks.

    Args:
        executor: Any executor of processes.
        tasks: All optimisations.
        folder: The folder of the atlas, which the workers share.

    Raises:
        ValueError: If the executor has threads or other versions, or a task or a model
            cannot be made again in another process.
    """

    def __init__(self, executor: Executor, tasks: Sequence[Task], folder: str):
        require_processes(executor)
        self._executor, self._call = executor, unique()
        self._told = introduce(), wire.settings()
        self._models: dict[int, tuple[str, str]] = {}
        for task in tasks:
            if id(task.targets.model) not in self._models:
                self._models[id(task.targets.model)] = _save(task.targets.model, folder)
        self._tasks = {id(task): _pack(task) for task in tasks}
        self._is_told = False
        self._is_broken = not self._greet()

    def _greet(self):
        """Start a worker, and require that it is another process of the same versions."""
        try:
            future = self._executor.submit(greet)
            if not ends_within(future, _PATIENCE):
                logger.warning(
                    "No worker of the executor, a %s, has answered within %g seconds. The atlas "
                    "waits for one, and computes nothing until then.",
                    *(type(self._executor).__name__, _PATIENCE),
                )
            failure = error_of(future)
        except Exception as error:
            failure = error
        if failure is not None:
            self._lament(failure)
            return False
        require_alike(future.result(), introduce())
        return True

    def compute(self, chunks: Sequence[tuple[Chunk, Ranked | None]]) -> Iterator[Chunk]:
        """Yield each chunk when its file is there. What workers lose twice is computed here."""
        queue: list[list[tuple[Chunk, Ranked | None]]] = grouped(chunks, self._worker_count())[::-1]
        lost: list[tuple[Chunk, Ranked | None]] = []
        sent_again: set[str] = set()
        waiting: dict[Future, list[tuple[Chunk, Ranked | None]]] = {}
        life = Life(self._executor)
        try:
            while queue or waiting:
                while queue and len(waiting) < _MOST_WAITING and not self._is_broken:
                    future = self._submit(queue[-1])
                    if future is not None:
                        waiting[future] = queue.pop()
                if self._is_broken and not waiting:
                    break
                wait(waiting, _BLINK, FIRST_COMPLETED)
                self._look_for(life)
                for future, group in list(waiting.items()):
                    # A worker computes them in this order.
                    while group and group[0][0].is_done:
                        life.end()
                        yield group.pop(0)[0]
                    if not future.done():
                        continue
                    del waiting[future]
                    error = error_of(future)
                    for chunk, ranked in group:
                        if chunk.is_done:
                            yield chunk
                        elif error is not None and chunk.path not in sent_again:
                            # A pool that is broken refuses it, and then it stays in the queue.
                            sent_again.add(chunk.path)
                            queue.append([(chunk, ranked)])
                        else:
                            self._lament(error or "it wrote no file, so it has another disk")
                            lost.append((chunk, ranked))
        finally:
            for future in waiting:
                future.cancel()
        yield from compute_here([*lost, *(one for group in reversed(queue) for one in group)])

    def _look_for(self, life):
        """Log once that no worker shows a sign of life; the atlas waits for another one."""
        if not self._is_told and (gone := life.why_gone()) is not None:
            self._is_told = True
            logger.warning(
                "The atlas waits for the workers of the executor, a %s: %s. Ctrl-C ends it, and a "
                "second call goes on with it.",
                *(type(self._executor).__name__, gone),
            )

    def _worker_count(self):
        """Return how many workers a pool has, `None` where that is not known."""
        found = getattr(self._executor, "_max_workers", None)
        return found if isinstance(found, int) and found > 0 else None

    def _submit(self, group):
        task = group[0][0].task
        packed = Packed(
            self._tasks[id(task)],
            *self._told,
            self._call,
            *self._models[id(task.targets.model)],
            tuple((one.rows, os.path.abspath(one.path), ranked) for one, ranked in group),
        )
        try:
            return self._executor.submit(work, packed)
        except Exception as error:
            # A pool whose worker was killed takes no more.
            self._is_broken = True
            self._lament(error)
            return None

    def _lament(self, error):
        """Log once that something is computed here."""
        if not getattr(self, "_has_lamented", False):
            self._has_lamented = True
            said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
            logger.warning(
                "A worker did not finish, so what it leaves is computed here. %s",
                " ".join(said.split())[:300],
            )


def grouped(
    chunks: Sequence[tuple[Chunk, Ranked | None]], workers: int | None
) -> list[list[tuple[Chunk, Ranked | None]]]:
    """Return chunks in groups of one optimisation, each for one worker, the largest first.

    Each worker that has a chunk of a layer compiles it. But with few groups, some workers would
    have nothing to do at the end.

    Args:
        chunks: The chunks, those of a layer one after the other.
        workers: How many workers there are. If that is not known, each chunk is a group.
    """
    most = max(1, len(chunks) // (_GROUPS * workers)) if workers else 1
    groups: list[list] = []
    for one in chunks:
        is_same = bool(groups) and groups[-1][-1][0].task is one[0].task
        if is_same and len(groups[-1]) < most:
            groups[-1].append(one)
        else:
            groups.append([one])
    return sorted(groups, key=lambda group: -sum(len(chunk) for chunk, _ in group))


def work(packed: Packed) -> None:
    """Compute chunks in a worker, and write the file of each."""
    end_with_parent()
    require_alike(introduce(), packed.sender)
    with one_at_a_time, wire.using(packed.settings):
        # Another call may give a task other code under equal names.
        of_model = f"{packed.call}:{packed.model}"
        model = _cached(of_model, "", lambda: _load(packed.model, packed.weights))
        key = hashlib.sha256(packed.task).hexdigest()
        task = _cached(of_model, key, lambda: wire.load(packed.task, lambda _: model))
        for rows, path, ranked in packed.parts:
            # Another process that makes the same atlas may have been faster.
            if not is_done(path):
                compute(task, rows, path, ranked)


def greet() -> dict[str, object]:
    """Return where a worker runs, and its versions, as `introduce` does here."""
    end_with_parent()
    return introduce()


@functools.cache
def end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone.

    A killed process leaves the workers of its pool behind. They would wait for ever, after they
    have computed what another process computes by then.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow():
            parent.join()
            os._exit(1)

        threading.Thread(target=follow, daemon=True).start()


class UnfitWorker(ValueError):
    """An executor or one of its workers is of no use."""


def require_alike(worker: dict[str, object], sender: dict[str, object]) -> None:
    """Refuse a worker by what `introduce` tells there, and where its work is from.

    Raises:
        UnfitWorker: If it is a thread of the same process, or has other versions.
    """
    # A fork has the unique part of its parent.
    if all(worker.get(key) == sender[key] for key in _WHERE):
        raise _refusal("threads of this process, which would disturb its random states")
    keys = [key for key in {**sender, **worker} if key not in _WHERE]
    other, own = (
        {key: one[key] for key in keys if key in one and worker.get(key) != sender.get(key)}
        for one in (worker, sender)
    )
    if other or own:
        raise _refusal(f"a worker of other versions, {other}, where the sender has {own}")


def introduce() -> dict[str, object]:
    """Return where a process runs, and its versions."""
    name = keras.backend.backend()
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "unique": _PROCESS,
        "python": ".".join(map(str, sys.version_info[:2])),
        "keras": keras.__version__,
        "backend": name,
        name: _version_of(name),
        "featviz_callback": package_version(),
    }


@functools.cache
def _version_of(framework):
    for one in (framework, f"{framework}-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(one)
    return None


def package_version() -> str:
    """Return the version of this package."""
    return sys.modules[__name__.partition(".")[0]].__version__


def _cached(of_model, key, make):
    unpacked = _unpacked.setdefault(of_model, {})
    # The models of earlier atlases are not kept for ever.
    for old in list(_unpacked)[:-_MODELS_KEPT]:
        del _unpacked[old]
    if key not in unpacked:
        unpacked[key] = make()
    return unpacked[key]


def error_of(future: Future) -> BaseException | None:
    """Wait for a future, and return the error with which it is done instead of raising it."""
    # A worker's KeyboardInterrupt comes back as one, and must not end this process. `wait` does
    # not see what the owner of a pool cancels.
    try:
        return future.exception()
    except CancelledError as error:
        return error


def ends_within(future: Future, seconds: float) -> bool:
    """Wait for a future, and return whether it is done or cancelled by then."""
    with contextlib.suppress(CancelledError, TimeoutError):
        future.exception(seconds)
    return future.done()


def require_processes(executor: object) -> None:
    """Refuse what is no executor, threads, and pools that fork.

    Raises:
        UnfitWorker: If it is one of these.
    """
    if not callable(getattr(executor, "submit", None)):
        raise _refusal(f"executor={executor!r}")
    if isinstance(executor, ThreadPoolExecutor):
        raise _refusal("threads of this process, which would disturb its random states")
    context = getattr(executor, "_mp_context", None)
    is_pool = isinstance(executor, ProcessPoolExecutor)
    if is_pool and context is not None and context.get_start_method() == "fork":
        raise _refusal("a pool that forks this process, which a framework does not survive")


def _refusal(received):
    return UnfitWorker(
        "Invalid value for argument `executor`. Expected an executor of processes with the same "
        "versions, such as "
        "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn')). "
        f"Received: {received}"
    )


# --- models and tasks on their way -------------------------------------------------------


def _save(model, folder):
    """Write a model for the workers, if it is not there; return its path and weights' hash.

    The workers of an earlier call may read the same file.

    Raises:
        ValueError: If it cannot be made again from that file.
    """
    weights = digest_weights(model)
    # Tasks find layers by their names, which an architecture does not count.
    names = [model.name, *(path for path, _ in walk(model))]
    name = digest(weights, digest_architecture(model), names)[:16]
    path = os.path.abspath(os.path.join(folder, _MODELS, f"{name}.keras"))
    if not _has(path, weights):
        _write(model, weights, path)
    return path, weights


def _has(path, weights):
    """Whether a file is there, and whole."""
    if not os.path.exists(path):
        return False
    try:
        with backend.random_states_preserved():
            _load(path, weights)
    except Exception:
        # Whatever is wrong with it, the model is written again.
        return False
    return True


def _write(model, weights, path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path.removesuffix('.keras')}.{unique()}.part.keras"
    try:
        with backend.random_states_preserved():
            model.save(part)
            again = keras.saving.load_model(part, compile=False, safe_mode=False)
            if digest_weights(again) != weights:
                raise ValueError("its weights are other ones then")
            # Without an optimizer's state, which may be twice as large.
            again.save(part)
        os.replace(part, path)
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"The model '{model.name}' cannot be made again in another process. Expected one that "
            "`model.save` and `keras.saving.load_model` restore (`get_config`, "
            "`keras.saving.register_keras_serializable`); leave out `executor` to compute here. "
            f"Received: {type(error).__name__}: {said}"
        ) from error
    finally:
        if os.path.exists(part):
            os.remove(part)


def _load(path, weights):
    model = keras.saving.load_model(path, compile=False, safe_mode=False)
    # The bytes of a file tell when it was written, and the weights tell what it is.
    if digest_weights(model) != weights:
        raise ValueError(f"The model {path!r} is not the one that was sent.")
    return model


def _pack(task):
    """Return a task without its model, pickled.

    Raises:
        ValueError: If it cannot be pickled.
    """
    return wire.dump(task, {id(task.targets.model): "model"})
