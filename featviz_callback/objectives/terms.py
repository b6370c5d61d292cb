"""The terms of an objective, and the targets that an optimisation gets.

A compiled step sees an objective as two parts. How each term reads which layer is part
of the compiled step. Ids, vectors and multipliers are its data, so that other units of
the same layers compile nothing.

This module holds and combines terms. It checks names and multipliers, and leaves layers
and ids to `units`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from featviz_callback.objectives.given import GivenImages
from featviz_callback.objectives.readouts import Readout
from featviz_callback.objectives.recording import Tap
from featviz_callback.objectives.units import is_number, is_sequence

_LARGEST = float(np.finfo("float32").max)


@dataclass(frozen=True, eq=False)
class Term:
    """`multiplier * readout(outputs of the taps)`, for each of some alternatives.

    Attributes:
        readout: How the outputs become a score. Part of the compiled step.
        taps: The outputs that are read.
        data: One row an alternative: int32 ids or float32 vectors.
        names: One name an alternative.
        multiplier: A finite number.
        given: Images whose activations are the data, `None` without any. These follow the
            weights, so that `data` has only those of the weights at first.
    """

    readout: Readout
    taps: tuple[Tap, ...]
    data: np.ndarray
    names: tuple[str, ...]
    multiplier: float
    given: GivenImages | None = None

    def rows(self, model: keras.Model) -> np.ndarray:
        """Return the data, on the weights that a model has now."""
        return self.data if self.given is None else self.given.activations(model)


@dataclass(frozen=True, eq=False, repr=False)
class Targets:
    """What an optimisation is given: terms in one model, and one image a target.

    How terms make targets is up to subclasses: `names`, `__len__`, `data` and `readouts`.

    Attributes:
        model: The Keras model whose layers are read.
        terms: All terms.
    """

    model: keras.Model
    terms: tuple[Term, ...]

    @property
    def names(self) -> list[str]:
        """One name a target."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def drawn_for(self) -> list[str]:
        """The name that the random draws of each target follow."""
        return self.names

    @property
    def facet_count(self) -> int:
        """How many targets in a row are facets of one unit, 1 without facets."""
        return 1

    @property
    def facet_strength(self) -> float:
        """How much the images of facets have to differ."""
        return 0.0

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return what the compiled step gets of each term.

        Returns:
            For each term of the compiled step `(rows, multipliers)`: ids or vectors, and
            float32 factors, one for each target.
        """
        raise NotImplementedError

    @property
    def readouts(self) -> tuple[tuple[Readout, tuple[Tap, ...], tuple[int, ...]], ...]:
        """How each term of the compiled step reads which taps, and the shape of its rows."""
        raise NotImplementedError

    @property
    def reads_maps(self) -> bool:
        """Whether all terms read feature maps, which have positions."""
        return all(readout.reads_map for readout, _, _ in self.readouts)

    @property
    def compares_places(self) -> bool:
        """Whether a term compares each place with that of a given image."""
        return any(term.given is not None for term in self.terms)

    @property
    def highest(self) -> float | None:
        """The score that no image can exceed, `None` if there is none."""
        highest = self.readouts[0][0].highest
        # Of a sum, no image need reach the highest score of each term.
        if highest is None or len(self.readouts) > 1 or min(t.multiplier for t in self.terms) < 0:
            return None
        return self.scale * highest

    @property
    def scale(self) -> float:
        """The largest absolute multiplier, by which scores are divided for half precision."""
        return max(abs(term.multiplier) for term in self.terms)


@dataclass(frozen=True, eq=False, repr=False)
class SomeTargets(Targets):
    """Some of other targets.

    Attributes:
        model: The model of the others.
        terms: Their terms.
        whole: The others.
        places: Which of them.
        facet_count: How many of these in a row are facets of one unit.
    """

    whole: Targets
    places: tuple[int, ...]
    facet_count: int = 1

    @classmethod
    def of(cls, whole: Targets, places: Iterable[int], facet_count: int = 1) -> SomeTargets:
        """Return some targets of others."""
        return cls(whole.model, whole.terms, whole, tuple(map(int, places)), facet_count)

    @property
    def names(self) -> list[str]:
        """One name a target."""
        names = self.whole.names
        return [names[place] for place in self.places]

    @property
    def drawn_for(self) -> list[str]:
        """The name that the random draws of each target follow."""
        names = self.whole.drawn_for
        return [names[place] for place in self.places]

    def __len__(self) -> int:
        return len(self.places)

    @property
    def facet_strength(self) -> float:
        """How much the images of facets have to differ."""
        return self.whole.facet_strength

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return what the compiled step gets of each term, see `Targets.data`."""
        chosen = list(self.places)
        return tuple((rows[chosen], by[chosen]) for rows, by in self.whole.data())

    @property
    def readouts(self) -> tuple[tuple[Readout, tuple[Tap, ...], tuple[int, ...]], ...]:
        """How each term reads which taps, see `Targets.readouts`."""
        return self.whole.readouts


@dataclass(frozen=True)
class Facets:
    """How many images each target gets, and how much these have to differ."""

    count: int
    strength: float


@dataclass(frozen=True, eq=False, repr=False)
class WeightedSum(Targets):
    """The sum of all terms, for each combination of their alternatives.

    Ten neurons plus five channels are fifty targets, in order.

    Attributes:
        model: The Keras model whose layers are read.
        terms: All terms.
        several: The facets of each combination, `None` for one image of each.
    """

    several: Facets | None = None

    @property
    def facet_count(self) -> int:
        """How many targets in a row are facets of one unit, 1 without facets."""
        return 1 if self.several is None else self.several.count

    @property
    def facet_strength(self) -> float:
        """How much the images of facets have to differ."""
        return 0.0 if self.several is None else self.several.strength

    @property
    def names(self) -> list[str]:
        """One name a target; the names of combined alternatives are joined by ` & `."""
        if (count := self.facet_count) == 1:
            return self._units
        return [f"{name}, facet {k + 1} of {count}" for name in self._units for k in range(count)]

    @property
    def drawn_for(self) -> list[str]:
        """The names, but for first facets, which are the pictures of the units alone."""
        if (count := self.facet_count) == 1:
            return self._units
        names = self.names
        names[::count] = self._units
        return names

    @property
    def _units(self):
        return [" & ".join(n) for n in itertools.product(*(t.names for t in self.terms))]

    def __len__(self) -> int:
        return self.facet_count * math.prod(len(term.names) for term in self.terms)

    def __repr__(self) -> str:
        names = self.names
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"<Objective of {len(names)} in model '{self.model.name}': {shown}>"

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return ids or vectors of each term, with its multiplier; see `Targets.data`."""
        counts = [len(term.names) for term in self.terms]
        chosen = np.unravel_index(np.arange(len(self)) // self.facet_count, counts)
        return tuple(
            (term.rows(self.model)[rows], np.full(len(self), term.multiplier, "float32"))
            for term, rows in zip(self.terms, chosen, strict=True)
        )

    @property
    def readouts(self) -> tuple[tuple[Readout, tuple[Tap, ...], tuple[int, ...]], ...]:
        """How each term reads which taps, and the shape of a row of its data."""
        return tuple((term.readout, term.taps, term.data.shape[1:]) for term in self.terms)


def make_term(
    readout: Readout,
    taps: tuple[Tap, ...],
    data: np.ndarray,
    multiplier: float,
    names: str | Sequence[str] | None,
    default_names: list[str],
) -> Term:
    """Return a term, with its names and its multiplier checked.

    Args:
        readout: See `Term`.
        taps: See `Term`.
        data: See `Term`.
        multiplier: See `Term`.
        names: Names as a user may give them; `None` takes the default ones.
        default_names: One name an alternative.

    Raises:
        ValueError: If there are other names than alternatives, or the multiplier is
            not finite.
    """
    if names is None:
        names = default_names
    elif isinstance(names, str):
        names = [names]
    if (
        not is_sequence(names)
        or len(names) != len(default_names)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"Invalid value for argument `names`. Expected {len(default_names)} strings, one a "
            f"target. Received: names={names!r}"
        )
    data = np.array(data)
    data.flags.writeable = False
    return Term(readout, taps, data, tuple(names), check_multiplier(multiplier))


def check_multiplier(value: float) -> float:
    """Return a multiplier as a float.

    Raises:
        ValueError: If it is no number, or not finite in float32.
    """
    if not is_number(value) or not abs(value) <= _LARGEST:
        raise ValueError(
            "Invalid value for argument `multiplier`. Expected a number that is finite in "
            "float32. "
            f"Received: multiplier={value!r}"
        )
    return float(value)
