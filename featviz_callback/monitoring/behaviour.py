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


# Of fewer images, the top ones are chance, and of so few they are all.
_FEWEST_IMAGES = 2 * TOP
# Scores that differ by no more than this share are equal but for rounding.
_EQUAL = 2e-6
# What Keras and others mean by no class.
_UNLABELLED = -1


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of each real image.

    Attributes:
        members: Bool array `(images, classes)`: which images are of which class.
        names: The name of each class.
        is_labelled: Bool array `(images,)`: of which images the classes are known.
    """

    members: np.ndarray
    names: tuple[str, ...]
    is_labelled: np.ndarray


def find_classes(labels: object) -> Classes | None:
    """Return the classes that labels mean, or `None` if they mean none.

    Args:
        labels: What `fit` takes as `y`: whole numbers or strings `(images,)` or
            `(images, 1)`, of which -1 is no class, unless all others are 1; or
            `(images, classes)` with a single 1 a row, smoothed or not, or with 1 for each
            of several labels and 0 for all others.

    Example:
    >>> find_classes(np.array(["cat", "dog", "cat"])).names
    ('cat', 'dog')
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
    if given.ndim == 2 and given.dtype.kind in "biuf":
        return _classes_of_rows(given)
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
    members = places.reshape(-1)[:, None] == np.arange(len(names))
    # Labels of a hinge loss are -1 and 1.
    if given.dtype.kind == "i" and not np.isin(names, (-1, 1)).all():
        members, names = members[:, names != _UNLABELLED], names[names != _UNLABELLED]
    return Classes(members, tuple(map(_text, names.tolist())), members.any(1))


def may_be_classes(labels: object) -> bool:
    """Whether labels look as if they meant classes, though nobody can tell which.

    Example:
    >>> may_be_classes(np.array([[0.5, 0.5]])), may_be_classes(np.array([[0.5], [1.5]]))
    (True, False)
    """
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.shape[1] == 1:
        return False
    is_whole = labels.dtype.kind in "iu"
    is_share = labels.dtype.kind == "f" and np.allclose(labels.sum(1), 1, atol=1e-3)
    return is_whole or bool(is_share)


def _classes_of_rows(given):
    members, names = _members_of_rows(given), tuple(map(str, range(given.shape[1])))
    return None if members is None else Classes(members, names, np.ones(len(given), bool))


def _members_of_rows(given):
    if not given.size:
        return None
    if ((given == 0) | (given == 1)).all():
        return given == 1
    # Label smoothing leaves two values: that of the class, and that of all others.
    given = given.astype("float64")
    highest = given.max(1, keepdims=True)
    is_class = given == highest
    is_smoothed = (
        (is_class.sum(1) == 1).all()
        and np.allclose(given.sum(1), 1, atol=1e-3)
        and np.ptp(highest) <= 1e-3
        and np.ptp(given[~is_class]) <= 1e-3
    )
    return is_class if is_smoothed else None


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
        labelled = None if self._classes is None else self._classes.is_labelled
        of_labelled = ranks if labelled is None or labelled.all() else _ranks(scores[:, labelled])
        known, before = self._kept
        if known != list(names) or before.shape != ranks.shape:
            before = np.full_like(ranks, np.nan)
        self._kept = list(names), ranks
        best = [self._best_class(one) for one in of_labelled]
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
        if self._classes is None or not ranks.size or np.isnan(ranks).any():
            return np.nan, ""
        members, names = self._classes.members[self._classes.is_labelled], self._classes.names
        counts = members.sum(0)
        sums = ranks.astype("float64") @ members
        fits = np.minimum(counts, len(members) - counts) >= _FEWEST_OF_A_CLASS
        if not fits.any() or _is_constant(ranks):
            return np.nan, ""
        # The statistic of Mann and Whitney, divided by the number of pairs.
        pairs = np.where(fits, counts * (len(members) - counts), 1)
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

    Scores that are equal but for rounding have the mean of theirs. What is no finite number
    has none, NaN.
    """
    known = np.where(np.isfinite(scores), scores, np.nan).astype("float64")
    order = np.argsort(known, axis=-1, kind="stable")
    ordered = np.take_along_axis(known, order, axis=-1)
    sizes = np.abs(ordered)
    first, last = _runs(ordered, _EQUAL * np.maximum(sizes[..., 1:], sizes[..., :-1]))
    # Many scores that are close to each other may be a long way from the first to the last.
    ends = [np.take_along_axis(ordered, one, axis=-1) for one in (first, last)]
    is_equal = ends[1] - ends[0] <= _EQUAL * np.maximum(*map(np.abs, ends))
    strict = _runs(ordered, 0.0)
    first, last = (np.where(is_equal, *pair) for pair in zip((first, last), strict, strict=True))
    ranks = np.empty(known.shape, "float32")
    np.put_along_axis(ranks, order, ((first + last) / 2 + 1).astype("float32"), axis=-1)
    return np.where(np.isnan(known), np.float32(np.nan), ranks)


def _runs(ordered, most):
    """Return the place of the first and the last of each run without a larger step."""
    places = np.broadcast_to(np.arange(ordered.shape[-1]), ordered.shape)
    is_first = np.ones(ordered.shape, bool)
    is_first[..., 1:] = ~(np.diff(ordered, axis=-1) <= most)
    is_last = np.roll(is_first, -1, axis=-1)
    first = np.maximum.accumulate(np.where(is_first, places, 0), axis=-1)
    last = np.where(is_last, places, ordered.shape[-1])[..., ::-1]
    return first, np.minimum.accumulate(last, axis=-1)[..., ::-1]


def _is_constant(ranks):
    return ranks.min() == ranks.max()


def _overlaps(before, now):
    """Return the Jaccard index of the top images of each unit; NaN if a unit has none."""
    one, other = _tops(before), _tops(now)
    has_both = one.any(1) & other.any(1)
    shares = (one & other).sum(1) / np.maximum(1, (one | other).sum(1))
    return np.where(has_both, shares, np.nan).astype("float32")


def _tops(ranks):
    """Return which images are the top ones of each unit.

    Those that are equal to the tenth are not among them: a unit that few images activate has
    no more.
    """
    known = np.where(np.isfinite(ranks), ranks, -np.inf)
    if ranks.shape[1] < _FEWEST_IMAGES:
        return np.zeros(ranks.shape, bool)
    tenth = np.partition(known, -TOP - 1, axis=1)[:, -TOP - 1, None]
    has_enough = np.isfinite(ranks).sum(1, keepdims=True) >= _FEWEST_IMAGES
    return (known > tenth) & has_enough


def _active_share(scores):
    known = scores[np.isfinite(scores)]
    return float((known > 0).mean()) if len(known) else np.nan
