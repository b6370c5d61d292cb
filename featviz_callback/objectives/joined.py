"""Join objectives that are read in the same way, so that they share compiled steps.

A list of a thousand objectives becomes one optimisation in a few chunks, not a thousand
optimisations. Joining changes no score and no image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featviz_callback.objectives import inputs
from featviz_callback.objectives.objective import Objective
from featviz_callback.objectives.shapes import output_shapes
from featviz_callback.objectives.terms import Targets


@dataclass(frozen=True, eq=False, repr=False)
class JoinedTargets(Targets):
    """The targets of several objectives that are read in the same way.

    The targets are alternatives, where the targets of a sum are combinations. So joined
    targets are optimised, and never added to.

    Attributes:
        model: The model of all objectives.
        terms: The terms of all objectives.
        parts: The objectives.
    """

    parts: tuple[Objective, ...]

    @property
    def facet_count(self) -> int:
        """How many targets in a row are facets of one unit, 1 without facets."""
        return self.parts[0].facet_count

    @property
    def facet_strength(self) -> float:
        """How much the images of facets have to differ."""
        return self.parts[0].facet_strength

    @property
    def names(self) -> list[str]:
        """One name a target."""
        return [name for part in self.parts for name in part.names]

    @property
    def drawn_for(self) -> list[str]:
        """The name that the random draws of each target follow."""
        return [name for part in self.parts for name in part.drawn_for]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """Return what the compiled step gets of each term, see `Targets.data`."""
        columns = zip(*(part.data() for part in self.parts), strict=True)
        halves = (map(np.concatenate, zip(*column, strict=True)) for column in columns)
        return tuple((rows, multipliers) for rows, multipliers in halves)

    @property
    def readouts(self) -> tuple:
        """How the terms of each part read which taps, see `Targets.readouts`."""
        return self.parts[0].readouts


def join_alike(objectives: Sequence[Objective]) -> list[JoinedTargets]:
    """Join the objectives that read the same layers in the same way, in order."""
    kinds: list[list[Objective]] = []
    for one in objectives:
        found = next((kind for kind in kinds if _are_alike(kind[0], one)), None)
        if found is None:
            kinds.append([one])
        else:
            found.append(one)
    return [
        JoinedTargets(kind[0].model, tuple(t for part in kind for t in part.terms), tuple(kind))
        for kind in kinds
    ]


def _are_alike(one, other):
    # The scores of one optimisation are divided by one scale.
    return (
        one.model is other.model
        and one.readouts == other.readouts
        and one.scale == other.scale
        and one.several == other.several
        # Random transformations would move what is compared place by place.
        and one.compares_places == other.compares_places
        # A highest score fixes the contrast of pictures, and of several kinds none is known.
        and one.highest == other.highest
    )


def require_units(objectives: Sequence[Objective]) -> None:
    """Refuse objectives of one model that has since been changed.

    A compiled step would read zeros, or another unit, where one is gone from a layer.

    Raises:
        ValueError: If a unit is gone, naming the targets.
    """
    model = objectives[0].model
    taps = list({tap: None for one in objectives for term in one.terms for tap in term.taps})
    shapes = dict(zip(taps, output_shapes(model, inputs.specs(model), taps), strict=True))
    gone = [
        name
        for objective in objectives
        for term in objective.terms
        for name, row in zip(term.names, term.data, strict=True)
        if not term.readout.fits(shapes[term.taps[0]], row)
    ]
    if gone:
        more = f" and {len(gone) - 5} more" * (len(gone) > 5)
        raise ValueError(
            f"The model '{model.name}' was changed after its objectives were made, and has no "
            f"longer what these read: {', '.join(gone[:5])}{more}. Make them anew, or give a "
            "function of the model that does."
        )
