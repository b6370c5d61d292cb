"""The pictures of thousands of units, in a folder: an atlas of a network.

Each layer is optimised in chunks that share its compiled step. A finished chunk is a file, so
a second call computes what is missing and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from itertools import groupby

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.monitoring import checks, chunks
from featviz_callback.monitoring.chunks import BEHAVIOUR, Chunk, Ranked, RealImages, Units
from featviz_callback.monitoring.observer import Observer
from featviz_callback.monitoring.preparation import choose_objectives, prepare_observer
from featviz_callback.monitoring.real_images import draw_beside
from featviz_callback.monitoring.workers import Workers, compute_here, package_version
from featviz_callback.objectives import Objective, calls_part, every_channel, shared_calls
from featviz_callback.optimization import (
    Settings,
    Task,
    digest,
    digest_architecture,
    digest_targets,
    digest_weights,
)
from featviz_callback.optimization.probe_data import ProbeImages
from featviz_callback.optimization.settings import as_regularizers
from featviz_callback.records import Behaviour, Result, Snapshot
from featviz_callback.tensorboard import (
    EventFile,
    find_runs,
    read_note,
    summaries,
    unique,
    write_note,
)

logger = logging.getLogger("featviz_callback")

_MANIFEST = "atlas.json"
# What is known of each chunk, in order. By its key a unit is told from all others.
_PLAN = "plan.json"
_COLUMNS = ("layer", "file", "number of units", "keys")
_CHUNKS = "chunks"
_REAL_IMAGES = "real_images"
_LOGGED = "logged.json"
_LAYERS = "layers"
_STEP = 0


def atlas(
    objectives: Objective | Sequence[Objective] | None = None,
    folder: str | os.PathLike = "atlas",
    executor: Executor | None = None,
    *,
    model: keras.Model | None = None,
    probe_data: object | None = None,
    steps: int = Settings.steps,
    optimizer: keras.optimizers.Optimizer | str | None = Settings.optimizer,
    parameterization: str | object = Settings.parameterization,
    transformations: str | Sequence | None = Settings.transformations,
    regularizers: Sequence[Callable] = Settings.regularizers,
    values_range: tuple[float, float] | None = Settings.values_range,
    image_shape: tuple[int, ...] | None = Settings.image_shape,
    warmup_steps: int = Settings.warmup_steps,
    batch_size: int | None = Settings.batch_size,
    seed: int = Settings.seed,
    fixed_inputs: Mapping | None = Settings.fixed_inputs,
    verbose: int = 1,
) -> Atlas:
    """Find the images of thousands of units, in a folder that a second call goes on with.

    Finished chunks of up to 128 units are files of that folder. A call computes those that
    are missing and nothing else, so that nothing is lost if a process is killed. Images are
    the same to the bit wherever they are computed. Functions among the settings count by their
    code, and by the plain values and functions that they read of your modules.

    Run `tensorboard --logdir atlas` and open the tab Features to browse them. With `folder`
    alone, whoever has the folder reads what is there, without the model.

    Args:
        objectives: An `Objective`, or a list of them, of one model and its parts. Default:
            every channel of every convolution of `model` that receives the image.
        folder: Where everything is written, a local folder. With `executor`, all workers
            have to share it.
        executor: A `concurrent.futures.Executor` of processes that computes the chunks:
            `ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))`, or that
            of loky, Dask (`client.get_executor(pure=False)`) or MPI. It is never shut down.
            Workers of one machine share its cores, so give each a part, such as
            `os.environ["TF_NUM_INTRAOP_THREADS"] = "1"` before the pool starts, on which the
            last digits of images depend.
            What a worker does not finish is computed here. `cloudpickle` has to be
            installed for functions of a script or notebook. Default: computed here.
        model: A built Keras model. Needed if there are no objectives, but to read a folder.
        probe_data: Real images, see `FeatureVisCallback`, or with labels `(x, y)`. They tell
            for each unit which images activate it most, where, and how many do; whether it is
            dead, dormant, a duplicate, constant or weak; with labels, its selectivity. Scores
            take 4 bytes a unit and image of memory while they are ranked. With `executor`, the
            images are written to the folder, for the workers.
        steps: See `optimize`, for this and all further arguments.
        optimizer: See `optimize`.
        parameterization: See `optimize`.
        transformations: See `optimize`.
        regularizers: See `optimize`.
        values_range: Lowest and highest value of the model's input. Default: found out, as
            the callback does.
        image_shape: See `optimize`.
        warmup_steps: See `optimize`.
        batch_size: See `optimize`.
        seed: See `optimize`.
        fixed_inputs: See `optimize`.
        verbose: 1 shows a progress bar with units a second and the time left.

    Returns:
        An `Atlas`: a mapping from the paths of layers to a `Result` each, read when it is
        asked for. Its method `units` returns what real images tell of a layer's units.

    Raises:
        ValueError: If an argument is invalid, the folder has an atlas of other settings,
            weights or architecture or cannot be written to, or the model cannot be made again
            in another process.

    Example:
    >>> import keras
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ... ])
    >>> found = atlas(model=model, folder=tmp_path, steps=2, verbose=0)
    >>> found["conv"].names
    ['Channel#conv_0', 'Channel#conv_1', 'Channel#conv_2', 'Channel#conv_3']
    >>> list(atlas(folder=tmp_path))
    ['conv']

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017.
    """
    settings = Settings(
        steps=steps,
        optimizer=optimizer,
        parameterization=parameterization,
        transformations=transformations,
        regularizers=regularizers,
        values_range=values_range,
        image_shape=image_shape,
        warmup_steps=warmup_steps,
        batch_size=batch_size,
        seed=seed,
        fixed_inputs=fixed_inputs,
    )
    if objectives is None and model is None and executor is None and probe_data is None:
        return _open(_local(folder))
    # A call of a large model takes a second even without values.
    with shared_calls():
        observer = _observe(objectives, model, settings, probe_data)
    path = _local(folder)
    tasks = observer.tasks
    try:
        _require_manifest(path, _manifest(settings, tasks, observer))
        known = _known_units(path)
        planned = [chunk for task in tasks for chunk in _chunks_of(task, path, known)]
        _write_plan(path, planned)
    except OSError as error:
        raise ValueError(
            "Invalid value for argument `folder`. Expected a folder that can be written to. "
            f"Received: folder={path!r} ({type(error).__name__}: {error})"
        ) from error
    missing = [chunk for chunk in planned if not chunk.is_done]
    log = _Log(path, observer)
    log.write([chunk for chunk in planned if chunk.is_done])
    bar = _Bar(sum(map(len, planned)), sum(map(len, missing)), verbose)
    for chunk in _computed(missing, executor, observer, path, log):
        log.write([chunk])
        bar.add(len(chunk))
    return Atlas(_parts_of(planned, known))


def _open(folder):
    """Return what an atlas has so far."""
    path = os.path.join(folder, _PLAN)
    if not os.path.exists(path):
        raise ValueError(
            "Invalid value for argument `model`. Expected a built Keras model, or `objectives`, "
            f"or the `folder` of an atlas. Received: model=None, objectives=None, "
            f"folder={folder!r}"
        )
    planned = _planned(folder)
    done = [one for one in planned if chunks.is_done(one.path)]
    found, total = (len({key for one in some for key in one.keys}) for some in (done, planned))
    if found < total:
        logger.warning(
            "The atlas in %r has %d of %d units so far: a call with the model goes on with it.",
            *(folder, found, total),
        )
    # Calls at the same time, on several machines, may have computed a unit twice.
    first = _first_places(done)
    return Atlas(
        [
            (one.layer, one.path, [i for i, key in enumerate(one.keys) if first[key] == (one, i)])
            for one in done
        ]
    )


@dataclass(frozen=True)
class _Planned:
    """A chunk that the plan of a folder has: its layer, its file, and the keys of its units."""

    layer: str
    path: str
    keys: tuple[str, ...]


def _planned(folder):
    path = os.path.join(folder, _PLAN)
    rows = _read_json(path)
    if any(len(row) != len(_COLUMNS) for row in rows):
        raise ValueError(
            f"Expected {', '.join(_COLUMNS)} of each chunk in {path!r}, as this version writes "
            "them. Make the atlas again in another folder. Received: rows of "
            f"{sorted({len(row) for row in rows})} values"
        )
    return [
        _Planned(layer, os.path.join(folder, _CHUNKS, name), tuple(keys))
        for layer, name, _, keys in rows
    ]


def _first_places(planned):
    """Return the first chunk that has a unit, and its place there, by the key of the unit."""
    found: dict[str, tuple[_Planned, int]] = {}
    for one in planned:
        for i, key in enumerate(one.keys):
            found.setdefault(key, (one, i))
    return found


def _known_units(folder):
    """Return the finished chunk that has a unit, and its place there, by the key of the unit."""
    planned = _planned(folder) if os.path.exists(os.path.join(folder, _PLAN)) else []
    return _first_places([one for one in planned if chunks.is_done(one.path)])


class Atlas(Mapping):
    """The images of an atlas, by the layer that they are of. Read when asked for.

    Args:
        parts: The layer and the file of each part, and which images of the file.

    Example:
    `atlas(model=model)["block3/conv"].save("sheet.png")`
    """

    def __init__(self, parts: Sequence[tuple[str, str, Sequence[int]]]):
        self._parts: dict[str, list[chunks.Part]] = {}
        for layer, path, rows in parts:
            if len(rows):
                self._parts.setdefault(layer, []).append((path, rows))

    def __getitem__(self, layer: str) -> Result:
        return chunks.read(self._of(layer))

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __repr__(self) -> str:
        return f"<Atlas of {len(self)} layers>"

    def units(self, layer: str) -> Units | None:
        """Return what real images tell of each unit of a layer.

        Args:
            layer: The path of the layer.

        Returns:
            The top images of each unit, where these activate it, its selectivity and its
            health, see `Units`; `None` without `probe_data`.
        """
        return chunks.read_units(self._of(layer))

    def _of(self, layer):
        if layer not in self._parts:
            raise KeyError(f"{layer!r}. The atlas has {', '.join(self._parts)}")
        return self._parts[layer]


def _observe(objectives, model, settings, probe_data):
    """Check all arguments; return the observer that has the optimisations and real images."""
    if isinstance(objectives, Objective):
        objectives = [objectives]
    given = objectives[0] if isinstance(objectives, (list, tuple)) and objectives else None
    model = given.model if model is None and isinstance(given, Objective) else model
    if model is None:
        raise ValueError(
            "Invalid value for argument `model`. Expected a built Keras model, or `objectives`. "
            f"Received: model=None, objectives={objectives!r}"
        )
    checks.check_model(model)
    real = None
    if probe_data is not None:
        with backend.random_states_preserved():
            real = ProbeImages(probe_data)
    if objectives is None:
        shape = None if real is None else real.shape
        objectives = every_channel(model, settings.fixed_inputs, shape)
    chosen = choose_objectives(objectives, model, settings.fixed_inputs)
    # A model around the watched one tells what that one gets.
    around = model if calls_part(model, chosen[0].model) else None
    observer = prepare_observer(chosen, settings, real, False, around, is_strict=True)
    observer.check()
    return observer


def _local(folder):
    checks.check_folder(folder)
    return os.path.abspath(os.path.expanduser(os.fspath(folder)))


def _manifest(settings, tasks, observer):
    """Return a hash of each thing that all images depend on, by its name."""
    found = {one.name: digest(_plain(getattr(settings, one.name))) for one in fields(settings)}
    found["transformations"] = digest(_plain(settings.transformations) or ())
    found["regularizers"] = digest(as_regularizers(settings.regularizers))
    found["optimizer"] = digest(tasks[0].plan.optimizer)
    found["probe_data"] = digest(observer.real_images)
    models = {id(task.targets.model): task.targets.model for task in tasks}.values()
    found["weights"] = digest(list(map(digest_weights, models)))
    found["architecture"] = digest(list(map(digest_architecture, models)))
    found["version"] = digest(package_version())
    return found


def _plain(value):
    """Return a list as a tuple, so that equal ones have one hash."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _require_manifest(folder, manifest):
    """Refuse the folder of another atlas, and note the settings in a new one."""
    path, done = os.path.join(folder, _MANIFEST), os.path.join(folder, _CHUNKS)
    # Settings under which nothing was computed bind nobody.
    names = os.listdir(done) if os.path.isdir(done) else []
    if os.path.exists(path) and any(name.endswith(".npz") for name in names):
        before = _read_json(path)
        other = [name for name, value in manifest.items() if before.get(name) != value]
        if other:
            raise ValueError(
                f"Expected the settings and weights of the atlas in {folder!r}, or another "
                f"`folder`. Received other values of: {', '.join(other)}"
            )
        return
    if not os.path.exists(path) and find_runs(folder):
        raise ValueError(
            "Invalid value for argument `folder`. Expected a folder of its own for an atlas. "
            f"Received: {folder!r}, which has the event files of a training"
        )
    os.makedirs(done, exist_ok=True)
    _write_json(path, manifest)


def _write_plan(folder, planned):
    """Note which chunks the folder has, behind those of earlier calls for other objectives."""
    path = os.path.join(folder, _PLAN)
    before = _read_json(path) if os.path.exists(path) else []
    rows = [
        [chunk.layer, os.path.basename(chunk.path), len(chunk), list(chunk.keys)]
        for chunk in planned
    ]
    known = {row[1] for row in before}
    if new := [row for row in rows if row[1] not in known]:
        # Those under which nothing was computed are no part of it.
        done = [row for row in before if chunks.is_done(os.path.join(folder, _CHUNKS, row[1]))]
        own = {row[1] for row in rows}
        kept = [row for row in before if row in done or row[1] in own]
        _write_json(path, kept + new)


def _read_json(path):
    try:
        with open(path) as file:
            return json.load(file)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"Expected JSON that `atlas` wrote in {path!r}, or another `folder`. Received: {error}"
        ) from error


def _write_json(path, content):
    part = f"{path}.{unique()}.part"
    with open(part, "w") as file:
        json.dump(content, file, indent=1)
    os.replace(part, path)


def _chunks_of(task: Task, folder: str, known: Mapping) -> list[Chunk]:
    """Return the chunks that have the targets of a task, but for what other chunks have.

    The split is that of the whole task, so that machines that share a folder agree on it. A
    unit that a chunk of another call has is taken from there.
    """
    tap = task.targets.terms[0].taps[0]
    layer, keys = tap.prefix + tap.path, digest_targets(task)
    # A file system may count the bytes of a name, not its letters.
    name = re.sub(r"[^\w.-]", "_", layer, flags=re.ASCII)[:80]

    def chunk(rows):
        own = tuple(keys[i] for i in rows)
        path = os.path.join(folder, _CHUNKS, f"{name}-{digest(own)[:16]}.npz")
        return Chunk(task, tuple(rows), path, layer, own)

    found = []
    for rows in chunks.split(task):
        whole = chunk(rows)
        # The facets of a unit are made together.
        facets = task.targets.facet_count
        units = [rows[i : i + facets] for i in range(0, len(rows), facets)]
        missing = [unit for unit in units if not all(keys[i] in known for i in unit)]
        if whole.is_done or len(missing) == len(units):
            found.append(whole)
            continue
        elsewhere: dict[str, list[int]] = {}
        for unit in units:
            for i in unit if unit not in missing else ():
                elsewhere.setdefault(known[keys[i]][0].path, []).append(i)
        found += [
            Chunk(task, tuple(own), path, layer, tuple(keys[i] for i in own))
            for path, own in elsewhere.items()
        ]
        if missing:
            found.append(chunk([i for unit in missing for i in unit]))
    return found


def _parts_of(planned, known):
    """Return the layer, the file, and the places in the file, of all targets in their order."""
    parts = []
    for _, own in groupby(planned, lambda chunk: id(chunk.task)):
        places = sorted(
            (row, chunk.layer, chunk.path, _place_in(chunk, i, known))
            for chunk in own
            for i, row in enumerate(chunk.rows)
        )
        for (layer, path), some in groupby(places, lambda one: one[1:3]):
            parts.append((layer, path, [one[3] for one in some]))
    return parts


def _place_in(chunk, i, known):
    """Return the place of a chunk's target in its file."""
    planned, place = known.get(chunk.keys[i], (None, i))
    return place if planned is not None and planned.path == chunk.path else i


def _computed(missing, executor, observer, folder, log):
    """Yield each missing chunk when its file is there."""
    if not missing:
        return iter(())
    tasks = list({id(chunk.task): chunk.task for chunk in missing}.values())
    # Whatever cannot cross is refused before anything is computed.
    workers = None if executor is None else Workers(executor, tasks, folder)
    ranked = _rank(observer, tasks, _real_images(observer, workers and folder))
    log.write_layers()
    jobs = [(one, _rows(ranked.get(id(one.task)), one.rows)) for one in missing]
    return compute_here(jobs) if workers is None else workers.compute(jobs)


def _real_images(observer, folder) -> dict[int, RealImages]:
    """Return the real images of each model, which workers read from the folder of the atlas."""
    found = {}
    for model, images in zip(observer.models, observer.real_images, strict=False):
        name = f"{digest(images)[:16]}.npy"
        path = None if folder is None else os.path.join(folder, _REAL_IMAGES, name)
        found[id(model)] = RealImages(images, path)
        found[id(model)].save()
    return found


def _rows(ranked, rows):
    return None if ranked is None else ranked.rows(rows)


def _rank(observer, tasks, images) -> dict[int, Ranked]:
    """Return what real images tell of the targets of each task, by the task's identity."""
    if not images:
        return {}
    found, rankings = {}, observer.rank()
    for task in tasks:
        told = [_told(observer, part, rankings[id(part)]) for part in task.targets.parts]
        joined = {name: np.concatenate([one[name] for one in told]) for name in told[0]}
        best = observer.best_of(task, rankings)
        own = images[id(task.targets.model)]
        found[id(task)] = Ranked(images=own, best_known=best, **joined)
    return found


def _told(observer, objective, ranked):
    """Return what real images tell of the targets of an objective, one row a target."""
    told = {
        name: getattr(ranked, name) for name in ("indices", "scores", "is_silent", "is_constant")
    }
    behaviour = observer.behaviour_of(objective, ranked)
    told |= {name: np.array(getattr(behaviour, name)) for name in BEHAVIOUR}
    return told | observer.health_of(objective)


class _Log:
    """The event file, by which the tab Features shows the atlas.

    Chunks are read back from their files one at a time, so that memory stays flat.
    """

    def __init__(self, folder: str, observer: Observer):
        self._folder, self._observer = folder, observer
        self._events = EventFile(folder)
        self._logged: set[str] = set()
        # What cannot be read is written again.
        with contextlib.suppress(ValueError, TypeError):
            self._logged = set(json.loads(read_note(folder, _LOGGED) or "[]"))
        self._has_begun = False

    def write(self, done: Sequence[Chunk]) -> None:
        """Write the images of finished chunks that the folder's event files do not have yet."""
        for chunk in done:
            name = os.path.basename(chunk.path)
            if name not in self._logged:
                self._write(chunk)
                self._note(name)

    def write_layers(self) -> None:
        """Write the numbers of every layer that the real images have passed, once."""
        checkup, histograms = self._observer.checkup()
        if histograms and _LAYERS not in self._logged:
            self._begin()
            summaries.write_health(self._events, _STEP, checkup, histograms)
            self._note(_LAYERS)

    def _note(self, name):
        self._logged.add(name)
        write_note(self._folder, _LOGGED, json.dumps(sorted(self._logged)))

    def _begin(self):
        if not self._has_begun:
            # This file goes on with those of other calls, and voids none of their records.
            self._events.restart(_STEP + 1)
            summaries.write_objectives(self._events, _STEP, self._observer.targets)
            self._has_begun = True

    def _write(self, chunk):
        self._begin()
        parts = [(chunk.path, None)]
        result, units = chunks.read(parts), chunks.read_units(parts)
        unknown = np.full(len(result), np.nan, "float32")
        behaviour = vars(Behaviour.unknown(len(result)))
        if units is not None:
            behaviour |= {name: getattr(units, name) for name in BEHAVIOUR}
        snapshot = Snapshot(
            epoch=_STEP,
            names=result.names,
            images=result.images,
            scores=result.scores,
            status=result.status,
            drift=unknown,
            noise_floor=unknown,
            score_ratio=unknown if units is None else units.score_ratio,
            seconds=np.nan,
            values_range=result.values_range,
            starts=result.starts or [],
            **behaviour,
        )
        summaries.write_snapshot(self._events, snapshot)
        for i, name in enumerate(result.names if units is not None else []):
            shown = 0 if result.status[i] in ("dead", "constant") else len(units.top_images[i])
            indices, scores = units.top_images[i][:shown], units.top_scores[i][:shown]
            model = chunk.task.targets.model
            real = self._observer.show(result, model, indices, scores, units.places[i])
            # One picture of all, since single ones are a dozen a unit.
            summaries.write_examples(self._events, _STEP, name, draw_beside(result, i, real))
            summaries.write_real_scores(self._events, _STEP, name, indices.tolist(), scores)


class _Bar:
    """The progress of an atlas: units, units a second, time left."""

    def __init__(self, count: int, missing: int, verbose: int):
        self._count, self._missing, self._verbose = count, missing, verbose
        self._done, self._began = 0, time.perf_counter()
        self._show()

    def add(self, units: int) -> None:
        """Note that so many units are finished."""
        self._done += units
        self._show()

    def _show(self):
        if not self._verbose:
            return
        finished = self._count - self._missing + self._done
        pace = self._done / max(time.perf_counter() - self._began, 1e-9)
        text = f"{finished}/{self._count} units"
        if self._done:
            minutes, seconds = divmod(round((self._missing - self._done) / pace), 60)
            text += f", {pace:.3g} units/s, {minutes}:{seconds:02d} left"
        end = "\n" if finished == self._count else ""
        # Later lines may be shorter.
        sys.stdout.write(f"\r{text:<60}{end}")
        sys.stdout.flush()
