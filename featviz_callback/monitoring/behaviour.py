"""Measure what the drawn units do on the real images, and whether that has changed.

All of it follows from the score of each real image for each unit, which is measured anyway.
Between snapshots, one number is kept for each unit and image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featviz_callback.records import Behaviour

# Names of units, and float32 `(units, images)`: the rank of each image.
Ranks = tuple[list[str], np.ndarray]
# So many of the top activating images are compared with those before.
TOP = 9
# A class with fewer images would be told from all others by chance, and so would all others.
_FEWEST_OF_A_CLASS = 5


@dataclass(frozen=True, eq=False)
class Classes:
    """The class of each real image.

    Attributes:
        of_images: Int array `(images,)`: the class of each image, as a place in `names`.
        names: The name of each class.
    """

    of_images: np.ndarray
    names: tuple[str, ...]


def find_classes(labels: object) -> Classes | None:
    """Return the classes that labels mean, or `None` if they mean none.

    Args:
        labels: What `fit` takes as `y`: whole numbers or strings `(images,)` or
            `(images, 1)`, or `(images, classes)` with a single 1 a row.

    Example:
    >>> find_classes(np.array(["cat", "dog", "cat"])).of_images
    array([0, 1, 0])
    >>> find_classes(np.eye(3)).names
    ('0', '1', '2')
    >>> find_classes(np.array([0.5, 0.1]))
    """
    try:
        given = np.asarray(labels)
    except (TypeError, ValueError):
        return None
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 2 and given.dtype.kind in "biuf" and _is_one_hot(given):
        return Classes(given.argmax(1), tuple(map(str, range(given.shape[1]))))
    if given.ndim != 1 or given.dtype.kind not in "biufUSO":
        return None
    if given.dtype.kind == "f" and not (np.isfinite(given).all() and (given % 1 == 0).all()):
        return None
    if given.dtype.kind in "bf":
        given = given.astype("int64")
    try:
        names, places = np.unique(given, return_inverse=True)
    except (TypeError, ValueError):
        # Objects of several kinds, or arrays.
        return None
    return Classes(places.reshape(-1), tuple(map(_text, names.tolist())))


def _is_one_hot(given):
    return bool(((given == 0) | (given == 1)).all() and (given.sum(1) == 1).all())


def _text(name):
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)


class UnitMeter:
    """Measures drawn units at each snapshot, and compares them with the snapshot before.

    Args:
        classes: The class of each real image, if it is known.
    """

    def __init__(self, classes: Classes | None = None):
        self._classes = classes
        self._kept: Ranks = ([], np.empty((0, 0), "float32"))

    @property
    def classes(self) -> Classes | None:
        """The class of each real image, if it is known."""
        return self._classes

    @property
    def kept(self) -> Ranks:
        """The ranks of the last snapshot, with which the next one is compared."""
        return self._kept

    def go_on_from(self, kept: Ranks) -> None:
        """Compare with the ranks that another meter kept."""
        self._kept = kept

    def measure(self, names: Sequence[str], scores: np.ndarray) -> Behaviour:
        """Measure every unit.

        Args:
            names: One name a unit.
            scores: Float array `(units, images)`: the score of each real image.
        """
        ranks = _ranks(scores)
        known, before = self._kept
        if known != list(names) or before.shape != ranks.shape:
            before = np.full_like(ranks, np.nan)
        self._kept = list(names), ranks
        best = [self._best_class(one) for one in ranks]
        pairs = list(zip(before, ranks, strict=True))
        return Behaviour(
            functional_drift=np.array([functional_drift(*pair) for pair in pairs], "float32"),
            top_overlap=_overlaps(before, ranks),
            selectivity=np.array([area for area, _ in best], "float32"),
            best_class=[name for _, name in best],
            active_share=np.array([_active_share(one) for one in scores], "float32"),
        )

    def _best_class(self, ranks):
        """Return the area under the ROC curve of a unit's best class, and its name."""
        if self._classes is None or np.isnan(ranks).any():
            return np.nan, ""
        places, names = self._classes.of_images, self._classes.names
        counts = np.bincount(places, minlength=len(names))
        sums = np.bincount(places, ranks, minlength=len(names))
        fits = np.minimum(counts, len(places) - counts) >= _FEWEST_OF_A_CLASS
        if not fits.any() or _is_constant(ranks):
            return np.nan, ""
        # The statistic of Mann and Whitney, divided by the number of pairs.
        pairs = np.where(fits, counts * (len(places) - counts), 1)
        areas = np.where(fits, (sums - counts * (counts + 1) / 2) / pairs, -1)
        return areas.max(), names[int(areas.argmax())]


def functional_drift(before: np.ndarray, now: np.ndarray) -> float:
    """Return one minus Spearman's correlation, from the ranks of the same images.

    It is 0 if all images are in the same order, 1 if the orders have nothing in common, and 2
    if one is the reverse of the other. A unit that was the same for all images, and no longer
    is, has drifted by 1.

    Args:
        before: Float array `(images,)`: the rank of each image, ties having their mean.
        now: The same of another moment. Images whose rank is NaN in either are left out.
    """
    is_known = np.isfinite(before) & np.isfinite(now)
    if is_known.sum() < 2:
        return np.nan
    if not is_known.all():
        before, now = _ranks(before[is_known]), _ranks(now[is_known])
    if np.array_equal(before, now):
        return 0.0
    before, now = (one - one.mean(dtype="float64") for one in (before, now))
    lengths = np.linalg.norm(before) * np.linalg.norm(now)
    return 1.0 - float(before @ now / lengths) if lengths else 1.0


def _ranks(scores):
    """Return ranks from 1 along the last axis, float32.

    Equal scores have the mean of theirs. What is no finite number has none, NaN.
    """
    known = np.where(np.isfinite(scores), scores, np.nan)
    order = np.argsort(known, axis=-1, kind="stable")
    ordered = np.take_along_axis(known, order, axis=-1)
    places = np.broadcast_to(np.arange(known.shape[-1]), known.shape)
    is_first = np.ones(known.shape, bool)
    is_first[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    is_last = np.roll(is_first, -1, axis=-1)
    # The places of the first and the last one of those that are equal.
    first = np.maximum.accumulate(np.where(is_first, places, 0), axis=-1)
    last = np.where(is_last, places, known.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    ranks = np.empty(known.shape, "float32")
    np.put_along_axis(ranks, order, ((first + last) / 2 + 1).astype("float32"), axis=-1)
    return np.where(np.isnan(known), np.float32(np.nan), ranks)


def _is_constant(ranks):
    return ranks.min() == ranks.max()


def _overlaps(before, now):
    """Return the Jaccard index of the top images of each unit; NaN if a unit has none."""
    (one, has_one), (other, has_other) = _tops(before), _tops(now)
    shares = (one & other).sum(1) / (one | other).sum(1)
    return np.where(has_one & has_other, shares, np.nan).astype("float32")


def _tops(ranks):
    """Return which images are the top ones of each unit, and which units have such."""
    is_known = np.isfinite(ranks)
    order = np.argsort(-np.where(is_known, ranks, 0), axis=1, kind="stable")[:, :TOP]
    is_top = np.zeros(ranks.shape, bool)
    np.put_along_axis(is_top, order, True, axis=1)
    lowest = np.where(is_known, ranks, np.inf).min(1)
    highest = np.where(is_known, ranks, -np.inf).max(1)
    return is_top, lowest < highest


def _active_share(scores):
    known = scores[np.isfinite(scores)]
    return float((known > 0).mean()) if len(known) else np.nan
