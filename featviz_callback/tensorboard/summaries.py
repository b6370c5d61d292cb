"""Define the tags of the event files, write them, and read them back.

Each snapshot writes, with the epoch as its step:

* images `feature_vis/<name>`, one tag a target;
* scalars `feature_vis_score/<name>`, `feature_vis_drift/<name>` and
  `feature_vis_status/<name>`, the place of the status in `STATUSES`;
* if it was measured, the scalar `feature_vis_drift_floor/<name>`, the noise floor of
  drift (the tag keeps its first name, so that old logs open);
* scalars `feature_vis/seconds`, and `feature_vis/share`, the share of the time since
  training began that snapshots took;
* if something was compiled, the scalar `feature_vis/compile_seconds`;
* with real images, scalars `feature_vis_score_ratio/<name>`, `feature_vis/dead`, the
  share of dead targets, and images `feature_vis_examples/<name>`; where these are private,
  in their place the texts `feature_vis_real_scores/<name>`, JSON; also the scalars
  `feature_vis_functional_drift/<name>`, `feature_vis_top_overlap/<name>`,
  `feature_vis_selectivity/<name>` (whose class is in the description of the picture) and
  `feature_vis_active_share/<name>`;
* for each target whose top activating real images, or the places in them, are other than
  before, images `feature_vis_real/<name>/<rank>`, from rank 0, and where there is a place
  `feature_vis_place/<name>/<rank>`;
* where it was asked for, images `feature_vis_accentuated/<name>`, and
  `feature_vis_importance/<name>`: where the score of the picture comes from, in one channel
  of at most 56 pixels a side, 255 where it depends on the picture the most;
* for each layer, all in one record, scalars `feature_vis_layer_<number>/<layer>`, where
  `<number>` is one of `records.NUMBERS`; with real images, histograms
  `feature_vis_activations/<layer>` of up to 65,536 activations.

The first snapshot of a run also writes `feature_vis/objectives`, a description of the
targets as JSON. The end of training writes the images `feature_vis/evolution`, the film
strip, and `feature_vis/animation`, a GIF.
"""

from __future__ import annotations

import contextlib
import glob
import html
import itertools
import json
import logging
import os
import re
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.io import gfile
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

from featviz_callback.records import NUMBERS, Checkup, Snapshot, pictures
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.run_folders import find_runs, folder_of

logger = logging.getLogger("featviz_callback")

# Bytes of a record beside its data: their length, and two checksums.
_RECORD_OVERHEAD = 16

IMAGE_TAG = "feature_vis/{}"
SCORE_TAG = "feature_vis_score/{}"
DRIFT_TAG = "feature_vis_drift/{}"
STATUS_TAG = "feature_vis_status/{}"
SCORE_RATIO_TAG = "feature_vis_score_ratio/{}"
EXAMPLES_TAG = "feature_vis_examples/{}"
REAL_SCORES_TAG = "feature_vis_real_scores/{}"
ACCENTUATED_TAG = "feature_vis_accentuated/{}"
IMPORTANCE_TAG = "feature_vis_importance/{}"
REAL_TAG = "feature_vis_real/{}/{}"
PLACE_TAG = "feature_vis_place/{}/{}"
NOISE_FLOOR_TAG = "feature_vis_drift_floor/{}"
FUNCTIONAL_DRIFT_TAG = "feature_vis_functional_drift/{}"
TOP_OVERLAP_TAG = "feature_vis_top_overlap/{}"
SELECTIVITY_TAG = "feature_vis_selectivity/{}"
ACTIVE_SHARE_TAG = "feature_vis_active_share/{}"
LAYER_TAGS = "feature_vis_layer_{}/{}"
ACTIVATION_TAGS = "feature_vis_activations/{}"
SECONDS_TAG = "feature_vis/seconds"
SHARE_TAG = "feature_vis/share"
COMPILE_SECONDS_TAG = "feature_vis/compile_seconds"
DEAD_TAG = "feature_vis/dead"
OBJECTIVES_TAG = "feature_vis/objectives"
EVOLUTION_TAG = "feature_vis/evolution"
ANIMATION_TAG = "feature_vis/animation"
# A target with such a name would share a tag with one of the above.
RESERVED_NAMES = (
    "animation", "compile_seconds", "dead", "evolution", "objectives", "seconds", "share",
)  # fmt: skip

# The place of each is its number in event files, so the order never changes.
STATUSES = ("ok", "dead", "saturated", "nan", "weak", "no_gradient", "constant")
OBJECTIVES_PLUGIN = "feature_vis"
# Between what is said of a real image and the target's name.
REAL_IMAGE_OF = ": a real image that activates "

_START = re.compile(r"Begun from (.*?)\. Its status")
_CLASS = re.compile(r"Most selective for the class (.*?)\. (?:Begun from|Its status)")

_LAYER_NUMBER = re.compile(LAYER_TAGS.format("([a-z_]+)", "(.+)"))
# The numbers of a target that are written where they are known.
_NUMBERS = {
    "scores": SCORE_TAG,
    "drift": DRIFT_TAG,
    "noise_floor": NOISE_FLOOR_TAG,
    "score_ratio": SCORE_RATIO_TAG,
    "functional_drift": FUNCTIONAL_DRIFT_TAG,
    "top_overlap": TOP_OVERLAP_TAG,
    "selectivity": SELECTIVITY_TAG,
    "active_share": ACTIVE_SHARE_TAG,
}


def write_objectives(
    events: EventFile,
    epoch: int,
    targets: Sequence[tuple[str, str, int | None]],
    values_range: tuple | None = None,
) -> None:
    """Write the layer of each target, by which the tab groups them.

    Args:
        events: The file to write to.
        epoch: The step.
        targets: For each target its name, the path of the layer that it reads first,
            and that layer's place in the network, from 0, or `None`.
        values_range: Lowest and highest value of an image, numbers or one a channel, which
            pictures are read back by.
    """
    rows = [{"name": name, "layer": layer, "order": order} for name, layer, order in targets]
    content: dict = {"version": 1, "objectives": rows}
    if values_range is not None:
        content["values_range"] = np.asarray(values_range, "float64").tolist()
    text = json.dumps(content)
    events.text(OBJECTIVES_TAG, epoch, text, OBJECTIVES_PLUGIN)


def write_snapshot(
    events: EventFile,
    snapshot: Snapshot,
    with_real_images: bool = False,
    pngs: Sequence[pictures.Png] | None = None,
) -> None:
    """Write one snapshot, without its costs.

    Args:
        events: The file to write to.
        snapshot: The snapshot.
        with_real_images: Whether its pictures were compared with real images, which alone
            tell what is dead.
        pngs: Its pictures, where they are encoded already.

    Raises:
        OSError: If a record cannot be written; all records before it are.
    """
    shown: Sequence[pictures.Picture]
    shown = pngs or list(pictures.of_targets(snapshot.images, snapshot.values_range))
    numbers = {
        STATUS_TAG.format(name): float(STATUSES.index(status))
        for name, status in zip(snapshot.names, snapshot.status, strict=True)
    }
    numbers |= {
        tag.format(name): value
        for field, tag in _NUMBERS.items()
        for name, value in zip(snapshot.names, getattr(snapshot, field), strict=True)
        if np.isfinite(value)
    }
    if with_real_images:
        numbers[DEAD_TAG] = snapshot.status.count("dead") / len(snapshot.status)
    # Before the pictures, of which a snapshot that is read back has all.
    events.many(snapshot.epoch, numbers)
    for i, name in enumerate(snapshot.names):
        events.image(IMAGE_TAG.format(name), snapshot.epoch, shown[i], _description(snapshot, i))


def _description(snapshot, i):
    # TensorBoard keeps the first description of a tag, so the step is part of it.
    status = ", ".join(f"{number} {status}" for number, status in enumerate(STATUSES))
    name = html.escape(snapshot.names[i])
    tag = html.escape(STATUS_TAG.format(snapshot.names[i]))
    ratio, start = snapshot.shown_ratio(i, digits=3), snapshot.starts[i]
    compared = f", {ratio:.3g} times that of the best real image" if np.isfinite(ratio) else ""
    best = html.escape(snapshot.best_class[i])
    selective = f"Most selective for the class {best}. " if best else ""
    begun = f"Begun from {html.escape(start)}. " if start else ""
    return (
        f"{name}: {snapshot.status[i]}, score {snapshot.scores[i]:.4g}{compared} at step "
        f"{snapshot.epoch}. {selective}{begun}"
        f"Its status at each step is the scalar {tag}: {status}."
    )


def write_health(
    events: EventFile, epoch: int, checkup: Checkup, histograms: Mapping[str, np.ndarray]
) -> None:
    """Write the numbers of every layer that are known, and histograms of activations.

    Args:
        events: The file to write to.
        epoch: The step.
        checkup: The numbers.
        histograms: Float array `(buckets, 3)` of each layer: left edge, right edge, count.
    """
    scalars = {
        LAYER_TAGS.format(number, layer): value
        for number in NUMBERS
        for layer, value in zip(checkup.layers, getattr(checkup, number), strict=True)
        if np.isfinite(value)
    }
    tagged = {ACTIVATION_TAGS.format(layer): one for layer, one in histograms.items()}
    events.many(epoch, scalars, tagged)


def write_noise_floor(events: EventFile, snapshot: Snapshot) -> None:
    """Write the noise floor of a snapshot that was written without one."""
    found = zip(snapshot.names, snapshot.noise_floor, strict=True)
    floors = {NOISE_FLOOR_TAG.format(name): value for name, value in found if np.isfinite(value)}
    events.many(snapshot.epoch, floors)


def write_costs(
    events: EventFile, epoch: int, seconds: float, share: float, compiling: float
) -> None:
    """Write the costs of a snapshot.

    Args:
        events: The file to write to.
        epoch: The step.
        seconds: Seconds that the snapshot took, without compiling.
        share: Share of the time since training began that snapshots took, in `[0, 1]`.
        compiling: Seconds that compiling took; not written if 0.
    """
    costs = {SECONDS_TAG: seconds, SHARE_TAG: share}
    events.many(epoch, costs | ({COMPILE_SECONDS_TAG: compiling} if compiling else {}))


def write_examples(events: EventFile, epoch: int, name: str, picture: pictures.Picture) -> None:
    """Write a target's picture beside real ones, uint8 `(height, width, 3)`."""
    description = f"{html.escape(name)}: the optimised image, then real ones by their score."
    if isinstance(picture, np.ndarray):
        picture = pictures.with_few_channels(picture)
    events.image(EXAMPLES_TAG.format(name), epoch, picture, description)


def write_real_images(
    events: EventFile,
    epoch: int,
    name: str,
    shown: Sequence[tuple[pictures.Picture, pictures.Picture | None]],
    notes: Sequence[str] = (),
) -> None:
    """Write the real images that activate a target most, one tag a rank.

    Args:
        events: The file to write to.
        epoch: The step.
        name: The target.
        shown: For each rank the uint8 picture of an image, and one of where it activates
            the target, or `None`.
        notes: What is said of each, such as its score.
    """
    for rank, (picture, place) in enumerate(shown):
        note = notes[rank] if notes else f"Place {rank + 1} of {len(shown)}"
        text = f"{html.escape(note)}{REAL_IMAGE_OF}{html.escape(name)}."
        events.image(REAL_TAG.format(name, rank), epoch, picture, text)
        if place is not None:
            text = "Grey where it does not activate the unit; in the box and on the right, where."
            events.image(PLACE_TAG.format(name, rank), epoch, place, text)


def write_real_scores(
    events: EventFile, epoch: int, name: str, indices: Sequence[int], scores: Sequence[float]
) -> None:
    """Write which real images activate a target most, without showing them.

    Args:
        events: The file to write to.
        epoch: The step.
        name: The target.
        indices: Their positions among the real images that were read, best first.
        scores: Their scores; one that is no finite number is written as null.
    """
    finite = [float(one) if np.isfinite(one) else None for one in scores]
    text = json.dumps({"version": 1, "indices": list(indices), "scores": finite})
    events.text(REAL_SCORES_TAG.format(name), epoch, text, OBJECTIVES_PLUGIN)


def write_accentuated(events: EventFile, epoch: int, name: str, picture: pictures.Picture) -> None:
    """Write real images above what a target makes of them, uint8 `(height, width, 3)`."""
    description = f"{html.escape(name)}: real images, and what would activate it more in them."
    events.image(ACCENTUATED_TAG.format(name), epoch, picture, description)


def write_importance(events: EventFile, snapshot: Snapshot) -> None:
    """Write where the score of each picture of a snapshot comes from, if that is known."""
    if snapshot.importance is None:
        return
    for name, importance in zip(snapshot.names, snapshot.importance, strict=True):
        text = f"Where the score of {html.escape(name)} comes from: white matters most."
        tag = IMPORTANCE_TAG.format(name)
        events.image(tag, snapshot.epoch, importance[..., None], text)


def write_evolution(events: EventFile, epoch: int, strip: pictures.Picture) -> None:
    """Write the film strip, uint8 `(height, width, 3)` or a PNG."""
    events.image(EVOLUTION_TAG, epoch, strip, "Targets down, epochs across.")


def write_animation(events: EventFile, epoch: int, gif: bytes) -> None:
    """Write the animation, the content of a GIF file."""
    width, height = struct.unpack("<HH", gif[6:10])
    events.encoded_image(ANIMATION_TAG, epoch, gif, (height, width), "One frame a snapshot.")


# A range of values is about another one if its ends are off by this share of it.
_ALIKE = 0.1


def find_runs_of(
    log_dir: str | os.PathLike, names: Sequence[str], values_range: tuple
) -> tuple[list[str], list[str]]:
    """Find the runs that a training of some targets may go on with.

    Args:
        log_dir: The log directory of all runs.
        names: The targets, in any order.
        values_range: Lowest and highest value of an image.

    Returns:
        The log directories of the runs of these targets and of about this range, the newest one
        first; and of those of another range. The first logs do not tell theirs.
    """
    told = {run: _told_by(run, set(names)) for run in find_runs(log_dir)}
    told = {run: found for run, found in told.items() if found is not None}
    alike = [run for run, found in told.items() if _is_alike(found, values_range)]
    return alike, [run for run in told if run not in alike]


def _is_alike(told, given):
    """Whether a range is about the given one; one that follows from real images may vary."""
    if not told:
        return True
    told, given = (np.broadcast_arrays(*map(np.atleast_1d, one)) for one in (told, given))
    if np.shape(told) != np.shape(given):
        return False
    most = _ALIKE * np.abs(given[1] - given[0])
    return bool((np.abs(np.subtract(told, given)) <= most).all())


def _told_by(run, names):
    """Return the range that a run of some targets tells, `()` if none, `None` of other targets."""
    for path in _event_files(run):
        found, values_range = _targets_in(path)
        if found == names:
            return values_range
    return None


def _targets_in(path):
    """Return the names of the targets of an event file's first snapshot, and their range."""
    names, first = set(), None
    for step, value in _read_values(path):
        if value.tag == OBJECTIVES_TAG:
            content = json.loads(value.tensor.string_val[0])
            return {row["name"] for row in content["objectives"]}, content.get("values_range", ())
        # The first logs do not list their targets, and have a picture of each.
        first = step if first is None else first
        name = value.tag.partition("/")[2]
        if step != first:
            break
        if IMAGE_TAG.format(name) == value.tag and name not in RESERVED_NAMES:
            names.add(name)
    return names, ()


def _event_files(log_dir):
    return sorted(gfile.glob(os.path.join(glob.escape(folder_of(log_dir)), "*tfevents*")))


def read_snapshots(
    log_dir: str | os.PathLike, names: Sequence[str], values_range: tuple
) -> Iterator[Snapshot]:
    """Yield the snapshots of some targets that earlier processes have written, in order.

    Images have the 256 levels that PNG keeps. A file that ends within a record is read
    up to that record, and so is a damaged one, of which a warning tells. An incomplete
    snapshot is left out.

    Args:
        log_dir: The log directory of one run.
        names: The targets; snapshots that have others, or fewer, are left out.
        values_range: Lowest and highest value of an image, numbers or one a channel.
    """
    for path in _event_files(log_dir):
        values = _read_values(path, says_damage=True)
        for step, pairs in itertools.groupby(values, key=lambda pair: pair[0]):
            summaries = {value.tag: value for _, value in pairs}
            if all(IMAGE_TAG.format(name) in summaries for name in names):
                yield _as_snapshot(step, names, summaries, values_range)


def read_health(log_dir: str | os.PathLike) -> Iterator[tuple[int, Checkup]]:
    """Yield the epoch and the numbers of every layer that earlier processes have written.

    Of a snapshot of which no number was known, such as the first one without images, there
    are no layers.

    Args:
        log_dir: The log directory of one run.
    """
    for path in _event_files(log_dir):
        for step, pairs in itertools.groupby(_read_values(path), key=lambda pair: pair[0]):
            numbers: dict[str, dict[str, float]] = {}
            is_snapshot = False
            for _, value in pairs:
                is_snapshot |= value.tag.startswith(STATUS_TAG.format(""))
                found = _LAYER_NUMBER.fullmatch(value.tag)
                if found and found[1] in NUMBERS:
                    numbers.setdefault(found[2], {})[found[1]] = value.tensor.float_val[0]
            if numbers or is_snapshot:
                yield step, Checkup.of(numbers)


def _read_values(path, says_damage=False):
    """Yield `(step, value)` for every value of every record before one that cannot be read."""
    records, offset, step = PyRecordReader_New(path), 0, None
    with contextlib.suppress(errors.OutOfRangeError):
        while True:
            try:
                records.GetNext()
                event = Event.FromString(records.record())
            except (errors.DataLossError, DecodeError) as error:
                # A process that was killed leaves an incomplete record, which is no damage.
                if says_damage and "truncated" not in str(error):
                    logger.warning(
                        "The event file %s is damaged at byte %d. Snapshots in it %s are not "
                        "read back: they are missing from `history`, and stay in the file.",
                        *(path, offset, "at all" if step is None else f"from epoch {step} on"),
                    )
                return
            offset += _RECORD_OVERHEAD + len(records.record())
            for value in event.summary.value:
                step = event.step
                yield step, value


def _word_in(value, pattern):
    found = pattern.search(value.metadata.summary_description)
    return html.unescape(found[1]) if found else ""


def _as_snapshot(step, names, summaries, values_range):
    values = {tag: value.tensor for tag, value in summaries.items()}

    def words(pattern):
        found = [summaries[IMAGE_TAG.format(name)] for name in names]
        return [_word_in(value, pattern) for value in found]

    def scalars(tag):
        tensors = [values.get(tag.format(name)) for name in names]
        return np.array([t.float_val[0] if t else np.nan for t in tensors], "float32")

    pngs = [values[IMAGE_TAG.format(name)].string_val[2] for name in names]
    shown = np.stack([pictures.decode_png(png) for png in pngs])
    seconds = values.get(SECONDS_TAG)
    mattering = [values.get(IMPORTANCE_TAG.format(name)) for name in names]
    importance = None
    if all(one is not None for one in mattering):
        found = [pictures.decode_png(one.string_val[2]) for one in mattering]
        importance = np.stack(found)[..., 0]
    return Snapshot(
        epoch=step,
        names=list(names),
        images=pictures.from_uint8(shown, values_range),
        status=[STATUSES[int(i)] for i in np.nan_to_num(scalars(STATUS_TAG))],
        seconds=seconds.float_val[0] if seconds else np.nan,
        values_range=values_range,
        starts=words(_START),
        best_class=words(_CLASS),
        importance=importance,
        **{field: scalars(tag) for field, tag in _NUMBERS.items()},
    )
