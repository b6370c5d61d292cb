"""Measure every layer of a network: which units are dead, dormant, duplicate or saturated.

A `LayerMeter` sees the outputs of all layers on the way of the one pass that scores the real
images. It never calls the model, and keeps no layer's output.

Of a layer of more than 16 million values, sums are over four million, spread evenly. Whether a
unit is dead is found in all of them.

Memory. While a layer is seen, there are some megabytes beside its output, or on an accelerator
and in half precision a copy of it for one batch. All else are some numbers a unit, and rows of
activations by which units are compared. If all images pass in one batch, these are rows of one
layer at a time, at most 4 MiB, or 16 MiB if it has more than 1,024 units. If not, rows of all
layers wait for the last batch, at most 320 MiB together: those of ResNet50 take 300. Comparing
the units of a layer takes 40 MiB more at most. Nothing is kept from one snapshot to the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import Ending, Tap
from featviz_callback.records import spread

# What a unit may be.
UNIT_KINDS = ("dead", "dormant", "duplicate")
# A unit that is active by no more than this share of its layer's mean is dormant.
DORMANT = 0.025
# Units whose correlation is above this are duplicates.
DUPLICATE = 0.95
# A value is saturated within this share of the range from one of its ends.
_AT_THE_END = 0.01
# Values of one unit that differ by no more than this share are equal but for rounding, and so
# are those that differ by no more than this: a SiLU that is off has some, and passes nothing on.
_EQUAL, _NOTHING = 2e-6, 1e-8

# So many values are kept of one layer, of a wide one, and of all if there are several batches.
_MOST_VALUES, _MOST_VALUES_OF_WIDE, _MOST_VALUES_OF_ALL = 2**20, 2**22, 80 * 2**20
# More rows of a layer tell hardly more, and comparing them took a quarter of a snapshot.
_MOST_ROWS = 2**13
# Of a correlation of .95, so many tell two digits. Several cores hardly hasten the product.
_ROWS_OF_CORRELATION = 2**11
# Fewer rows tell nothing of a correlation, and nor do units that are active in fewer of them:
# any two that are on in the same one or two places have one.
_FEWEST_ROWS, _FEWEST_ACTIVE = 32, 10
# An activation is one if it is so far from the mean, as a share of the farthest one.
_ACTIVE = 0.1
# So many rows have all but a little of the singular values. Fewer of more would tell less the
# fewer they are.
_ROWS_OF_RANK = 1024
# NumPy sums so many values at a time, which are a megabyte, in rows of about so many.
_VALUES_AT_ONCE = 2**18
_WIDTH = 2**13
# Of a layer of more values, so many are summed, since passes over all take longer than the
# network does. Whether a unit is dead is found in all of them.
_MOST_SUMMED, _FEWEST_SUMMED = 2**24, 2**22
# For so few units, BLAS is quickest with so many products at a time.
_FEW_UNITS, _PRODUCTS_OF_ONE_THREAD = 128, 2**18
# So many correlations at a time, of some units with all before them.
_CORRELATIONS_AT_ONCE = 2**20
_COLUMNS_AT_ONCE = 2**9
_VALUES_OF_HISTOGRAM, _BUCKETS = 2**16, 30


class LayerMeter:
    """Measures the layers of a model in one pass over the real images.

    Args:
        endings: The outputs to measure, and in what they end.
        units: The number of units of each.
        images: How many images there will be.

    Attributes:
        numbers: For each layer by its name, its numbers as in `records.Checkup`. If every
            unit has some activation that is no finite number, the share of these is all.
        units: For each layer by its name, bool arrays `(units,)`: which units are `"dead"`,
            `"dormant"` and `"duplicate"`, as far as the images tell.
        histograms: Of each layer by its name, float64 `(buckets, 3)`: left and right edge
            of a bucket, and how many values are in it, of at most 65,536 values.
        error: What failed on the way, if anything did. Layers after that are not measured.
    """

    def __init__(self, endings: Mapping[Tap, Ending], units: Mapping[Tap, int], images: int):
        waiting = _most_waiting(units)
        self._layers = {tap: _Layer(end, images, waiting[tap]) for tap, end in endings.items()}
        self.numbers: dict[str, dict[str, float]] = {}
        self.units: dict[str, dict[str, np.ndarray]] = {}
        self.histograms: dict[str, np.ndarray] = {}
        self.error: Exception | None = None

    def see(self, tap: Tap, output, images: int) -> None:
        """Take in the output of a layer for so many images; see `Watch`."""
        if self.error is not None:
            return
        try:
            layer = self._layers[tap]
            # A network that diverges has what is too large to be squared.
            with np.errstate(over="ignore", invalid="ignore"):
                layer.add(output, images)
                if layer.is_complete:
                    # Its rows are released here.
                    del self._layers[tap]
                    self._finish(tap.name, layer)
        except Exception as error:
            # The scores of the images are wanted whatever becomes of this.
            self.error = error

    def _finish(self, name, layer):
        if not layer.has_known_units:
            self.numbers[name] = {"nan": layer.share_broken}
            return
        self.units[name], rows = layer.units(), layer.rows()
        shares = {kind: float(one.mean()) for kind, one in self.units[name].items()}
        rank = effective_rank(rows) if layer.has_rows_of_rank else math.nan
        unknown = dict.fromkeys(UNIT_KINDS, math.nan)
        self.numbers[name] = {**layer.numbers(), **unknown, **shares, "effective_rank": rank}
        self.histograms[name] = _histogram(rows)


def _most_rows(units):
    """Return how many rows of a layer are kept, if no others have to wait."""
    most = max(_MOST_VALUES // units, min(_ROWS_OF_RANK, _MOST_VALUES_OF_WIDE // units))
    return max(1, min(_MOST_ROWS, most))


def _most_waiting(units):
    """Return how many rows of each layer may wait for the last batch; the widest have fewest."""
    found, left = {}, _MOST_VALUES_OF_ALL
    for i, (tap, count) in enumerate(sorted(units.items(), key=lambda one: one[1])):
        share = left // (len(units) - i)
        # Narrow layers could do with more, and would take it from the others.
        found[tap] = max(1, min(_most_rows(count), _ROWS_OF_CORRELATION, share // max(1, count)))
        left -= found[tap] * count
    return found


class _Layer:
    """What is known so far of one layer; units last in every array."""

    def __init__(self, end: Ending, images: int, most_waiting: int):
        self._end, self._images, self._most_waiting = end, images, most_waiting
        self._missing = images
        # How many values there are, how many are no finite number, and how many are summed.
        self._count = self._broken = self._summed = self._saturated = 0
        self._rows: list[np.ndarray] = []
        # Smallest and largest value, sums of values, of absolute values, and of the squares of
        # what is beside the centre.
        self._low, self._high = math.inf, -math.inf
        self._total: Any = 0.0
        self._size: Any = 0.0
        self._squares = 0.0
        self._centre: float | None = None
        self._is_known: np.ndarray | bool = True

    @property
    def is_complete(self) -> bool:
        return self._missing <= 0

    @property
    def has_known_units(self) -> bool:
        return bool(np.any(self._is_known))

    @property
    def share_broken(self) -> float:
        return self._broken / self._count

    def add(self, output, images):
        units = output.shape[-1]
        values = ops.cast(output, "float32")
        array = backend.load().shared(values)
        if array is None:
            # What is in a device's memory stays there. Sums over the first axis are the quickest.
            values = ops.reshape(values, (values.shape[0], -1))
            self._add_block(ops, values, None, units)
        else:
            # NumPy takes a third of the time of TensorFlow's operations, even less where some
            # rows stay in the processor's cache from one sum to the next.
            values = array
            self._add_blocks(array, units, images)
        count = math.prod(values.shape)
        self._count += count
        self._keep_rows(values, count // units, units, images)
        self._missing -= images

    def _add_blocks(self, array, units, images):
        wide = array.reshape(-1, _width(math.prod(array.shape) // units, units))
        all_values = wide.size * self._images / images
        some = None
        if all_values > _MOST_SUMMED:
            some = places_within(len(wide), math.ceil(len(wide) * _FEWEST_SUMMED / all_values))
        at_once = max(1, _VALUES_AT_ONCE // wide.shape[1])
        for first in range(0, len(wide), at_once):
            within = None
            if some is not None:
                begin, end = np.searchsorted(some, (first, first + at_once))
                within = some[begin:end] - first
            self._add_block(np, wide[first : first + at_once], within, units)

    def _add_block(self, library, block, some, units):
        """Take in values `(rows, positions and units)`, by the functions of a library.

        Of what is summed, only some rows are taken, unless they are `None`.
        """
        low, high = _array(library.min(block, axis=0)), _array(library.max(block, axis=0))
        is_broken = None
        summed = block if some is None else block[some]
        self._saturated += self._count_saturated(library, summed)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            is_broken = library.logical_not(library.isfinite(block))
            broken = _by_unit(_array(library.sum(is_broken, axis=0)), units).sum(0)
            self._broken += int(broken.sum())
            self._is_known = self._is_known & (broken == 0)
            block = library.where(is_broken, np.float32(0), block)
            low, high = _array(library.min(block, axis=0)), _array(library.max(block, axis=0))
            summed, is_broken = (one if some is None else one[some] for one in (block, is_broken))
        self._low = np.minimum(self._low, _by_unit(low, units).min(0))
        self._high = np.maximum(self._high, _by_unit(high, units).max(0))
        if not math.prod(summed.shape):
            return
        total = _array(library.sum(summed, axis=0))
        size = total if low.min() >= 0 else _array(library.sum(library.abs(summed), axis=0))
        self._total = self._total + _by_unit(total, units).sum(0)
        self._size = self._size + _by_unit(size, units).sum(0)
        left_out = 0 if is_broken is None else int(_array(library.sum(is_broken)))
        count = math.prod(summed.shape)
        self._summed += count - left_out
        known = max(1, count - left_out)
        squares = None if self._centre else _sum_of_squares(library, summed)
        if self._centre is None:
            # Squares of values far from zero would leave nothing of their deviation.
            centre = float(_by_unit(total, units).sum()) / known
            is_far = math.isfinite(centre) and 2 * centre**2 > squares / known
            self._centre = centre if is_far else 0.0
        if self._centre:
            squares = _sum_of_squares(library, summed - np.float32(self._centre))
        self._squares += squares - left_out * float(np.float32(self._centre)) ** 2

    def _count_saturated(self, library, values):
        low, high = self._end.lowest, self._end.highest
        margin = _AT_THE_END * ((high or 0.0) - (low or 0.0))
        count = 0
        for at_end in (
            *([] if low is None else [values <= low + margin]),
            *([] if high is None else [values >= high - margin]),
        ):
            count += int(_array(library.sum(at_end)))
        return count

    def _keep_rows(self, values, count, units, images):
        """Keep rows that are spread evenly over images and positions."""
        most = _most_rows(units)
        if images < self._images:
            # Other layers' rows wait for the rest of the images, too.
            most = math.ceil(min(most, self._most_waiting) * images / self._images)
        some = places_within(count, most) if count > most else np.arange(count, dtype="int32")
        if isinstance(values, np.ndarray):
            rows = values.reshape(count, units)[some]
        else:
            rows = ops.take(
                ops.reshape(values, (count, units)), ops.convert_to_tensor(some), axis=0
            )
            rows = backend.load().to_numpy(rows)
        self._rows.append(rows if np.all(self._is_known) else np.where(np.isfinite(rows), rows, 0))

    def rows(self):
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    def numbers(self):
        mean = self._total.sum() / self._summed
        variance = self._squares / self._summed - (mean - np.float32(self._centre)) ** 2
        has_ends = self._end.lowest is not None or self._end.highest is not None
        return {
            "mean": mean,
            "deviation": math.sqrt(np.maximum(variance, 0)),
            "nan": self.share_broken,
            "saturated": self._saturated / self._summed if has_ends else math.nan,
        }

    @property
    def has_rows_of_rank(self) -> bool:
        rows = self.rows()
        return len(rows) >= min(_ROWS_OF_RANK, self._count // rows.shape[1])

    def units(self):
        """Return which units are dead, dormant and duplicate; those with a NaN are none of it.

        A kind of which the activations tell nothing is left out.
        """
        rows = self.rows()
        if self._count <= rows.shape[1]:
            # A single value is the highest and the lowest one.
            return {}
        largest = np.maximum(np.abs(self._low), np.abs(self._high))
        is_constant = self._high - self._low <= np.maximum(_EQUAL * largest, _NOTHING)
        is_dead = self._high <= 0 if self._end.is_rectifier else is_constant
        is_dormant = self._size <= DORMANT * self._size[self._is_known].mean()
        is_compared = self._is_known & ~is_constant
        found = {"dead": is_dead & self._is_known, "dormant": is_dormant & self._is_known}
        if len(rows) >= _FEWEST_ROWS:
            found["duplicate"] = duplicates(rows, is_compared)
        return found


def _sum_of_squares(library, values):
    if library is np:
        return float(np.vdot(values, values))
    # A product in float32 would add one square after the other.
    return float(_array(library.sum(library.square(values))))


def _array(values):
    """Return an array, from a tensor or an array."""
    is_array = isinstance(values, (np.ndarray, np.generic))
    return values if is_array else backend.load().to_numpy(values)


def _width(positions, units):
    """Return the size of a row of whole positions that divides all."""
    together = math.gcd(positions, 2 ** max(0, (_WIDTH // units).bit_length() - 1))
    return together * units


def _by_unit(values, units):
    """Return values `(positions and units,)` as `(positions, units)`, in float64."""
    return values.reshape(-1, units).astype("float64")


def duplicates(rows: np.ndarray, is_compared: np.ndarray) -> np.ndarray:
    """Return which units have a correlation above 0.95 with a unit before them.

    Args:
        rows: Finite float32 array `(rows, units)`: activations at some places of some images.
        is_compared: Bool array `(units,)`. A unit that is constant in all rows is left out too.

    Returns:
        Bool array `(units,)`. With fewer than 32 rows no unit is one. Of more than 2,048 rows,
        so many are compared. A unit that is active in fewer than ten of these is left out,
        since chance alone may make two such units alike.

    Example:
    >>> one, other = np.random.default_rng(0).normal(size=(2, 100))
    >>> duplicates(np.stack([one, other, 2 * one + 1], 1), np.ones(3, bool))
    array([False, False,  True])
    """
    found = np.zeros(len(is_compared), bool)
    if len(rows) < _FEWEST_ROWS:
        return found
    if len(rows) > _ROWS_OF_CORRELATION:
        rows = rows[places_within(len(rows), _ROWS_OF_CORRELATION)]
    # One unit a row: BLAS takes a hundred times as long for `rows.T @ rows` of a few units.
    units = np.array(rows.T, order="C")  # a copy, of one unit too, since it is changed
    largest = np.maximum(units.max(1), -units.min(1))
    units -= units.mean(1, keepdims=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", units, units))
    is_varying = lengths > _EQUAL * math.sqrt(len(rows)) * largest
    # The mean of a unit that is seldom active is about what it is else.
    least = _ACTIVE * np.maximum(units.max(1), -units.min(1))[:, None]
    active = np.count_nonzero(units > least, axis=1) + np.count_nonzero(units < -least, axis=1)
    places = np.flatnonzero(is_compared & is_varying & (active >= _FEWEST_ACTIVE))
    units = units[places]
    units /= lengths[places, None]
    if len(places) <= _FEW_UNITS:
        found[places] = np.tril(_products(units) > DUPLICATE, -1).any(1)
        return found
    at_once = max(1, _CORRELATIONS_AT_ONCE // max(1, len(places)))
    for first in range(0, len(places), at_once):
        some = units[first : first + at_once]
        before = some @ units[: first + len(some)].T > DUPLICATE
        found[places[first : first + at_once]] = np.tril(before, first - 1).any(1)
    return found


def _products(units):
    """Return the product of each of a few rows with each other one.

    BLAS wakes its threads for more than so many products at once. They take longer to wake and
    to wait than these few take.
    """
    at_once = max(1, _PRODUCTS_OF_ONE_THREAD // max(1, len(units)) ** 2)
    parts = (units[:, i : i + at_once] for i in range(0, units.shape[1], at_once))
    return sum((part @ part.T for part in parts), np.zeros((len(units),) * 2, units.dtype))


def effective_rank(rows: np.ndarray) -> float:
    """Return how many directions activations use: the exponential of an entropy.

    The entropy is that of the singular values, divided by their sum, of the activations of up
    to 1,024 rows. It is 1 if all units are multiples of one, and the number of units if all
    are orthogonal and of one size.

    Args:
        rows: Finite float32 array `(rows, units)`.

    Returns:
        From 1 to the smaller of rows and units; 0 if all activations are zero.

    Example:
    >>> round(effective_rank(np.eye(5)), 3), round(effective_rank(np.ones((9, 5))), 3)
    (5.0, 1.0)

    Reference:
        Roy, Vetterli, "The effective rank: a measure of effective dimensionality", EUSIPCO
        2007.
    """
    some = rows if len(rows) <= _ROWS_OF_RANK else rows[spread(len(rows), _ROWS_OF_RANK)]
    if some.shape[1] < some.shape[0]:
        some = np.ascontiguousarray(some.T)
    if len(some) <= _FEW_UNITS:
        gram = _products(some.astype("float64"))
    else:
        gram = np.zeros((len(some),) * 2)
        for first in range(0, some.shape[1], _COLUMNS_AT_ONCE):
            part = some[:, first : first + _COLUMNS_AT_ONCE].astype("float64")
            gram += part @ part.T
    values = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0))
    if not values.any():
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _histogram(rows):
    values = rows.reshape(-1)
    if values.size > _VALUES_OF_HISTOGRAM:
        # At even distances, they would be those of a few units.
        values = values[places_within(values.size, _VALUES_OF_HISTOGRAM)]
    # In float32, buckets of values that are all but equal would have one edge.
    values = values.astype("float64")
    counts, edges = np.histogram(values, _BUCKETS)
    return np.stack([edges[:-1], edges[1:], counts], axis=1).astype("float64")


def places_within(count: int, most: int) -> np.ndarray:
    """Pick so many of more places, spread evenly, the same at each call.

    They are not at even distances, at which they would all be in one column of a map.
    """
    within = np.random.default_rng(0).random(most)
    return ((np.arange(most) + within) * (count / most)).astype("int32")
