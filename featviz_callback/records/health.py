"""The health of a network during its training: some numbers of every layer."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# The numbers of a layer, in the order in which they are shown.
NUMBERS = (
    "dead", "dormant", "duplicate", "saturated", "effective_rank", "mean", "deviation", "nan",
    "update_ratio",
)  # fmt: skip
_SHARES = ("dead", "dormant", "duplicate", "saturated", "nan")


@dataclass(frozen=True, eq=False)
class Checkup:
    """The numbers of every layer at one moment of a training; NaN where one is not known.

    A unit is a channel of a map, or one value of a vector. A layer is one with weights or an
    activation, or an activation that is an operation in the graph of a functional model. What
    a `call` of the user's applies as a function is part of none. A layer of more than 2^24
    (16,777,216) activations may have the sums behind `dormant`, `saturated`, `mean` and
    `deviation` over a sample, of at least 2^22, spread evenly over images and positions. That
    is so on a CPU. `dead` and `nan` are always found in all.

    Attributes:
        layers: The path of each layer. The second call of a shared layer is `"conv:1"`.
        dead: Float32 array `(layers,)`: share of units that are the same for all images:
            never above 0 if the layer ends in a ReLU, and constant if not, to within 1e-8. NaN if
            a unit has a single value, that of one image; so is the share of dormant units.
        dormant: Share of units whose mean absolute activation is at most 0.025 of that of
            the layer (Sokar et al. 2023). Dead units are most often dormant too.
        duplicate: Share of units whose correlation with a unit before them is above
            0.95, over images and positions. Constant units are left out, and so are those that
            are active in fewer than ten of the places that are compared.
        saturated: Share of activations within 1 % of the range from the ends of a sigmoid
            or tanh, or from the upper end of a bounded ReLU; NaN of other layers.
        effective_rank: How many directions activations use: the exponential of the entropy
            of their singular values (Roy and Vetterli 2007), from 1 to the number of units. NaN
            if too few activations of a wide layer fit in memory.
        mean: Mean activation.
        deviation: Standard deviation of activations.
        nan: Share of activations that are no finite number. All else leaves these out.
        update_ratio: Length of the change of the layer's weights since the last snapshot,
            divided by the length of the weights before; NaN of frozen layers.
    """

    layers: tuple[str, ...]
    dead: np.ndarray
    dormant: np.ndarray
    duplicate: np.ndarray
    saturated: np.ndarray
    effective_rank: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    nan: np.ndarray
    update_ratio: np.ndarray

    @classmethod
    def of(cls, numbers: Mapping[str, Mapping[str, float]]) -> Checkup:
        """Make one of the known numbers of each layer, by their names.

        Example:
        >>> Checkup.of({"conv": {"dead": 0.5}}).dead
        array([0.5], dtype=float32)
        """
        columns = {
            name: np.array([one.get(name, np.nan) for one in numbers.values()], "float32")
            for name in NUMBERS
        }
        return cls(tuple(numbers), **columns)


class Health:
    """The numbers of every layer at every snapshot of a training.

    Every array is float32 `(snapshots, layers)`, with NaN where a number is not known. All
    but `update_ratio` need `probe_data`. `Checkup` says what each number is. Sums over a layer
    of more than 2^24 activations are over a sample.

    Attributes:
        epochs: Int array `(snapshots,)`, as `History.epochs`. A history may remove
            snapshots to keep within its memory. Health keeps all.
        layers: The path of each layer, in the order of the model's call.
        dead: Share of units that are the same for all images.
        dormant: Share of units that are hardly active.
        duplicate: Share of units that do what another one does.
        saturated: Share of activations at an end of their range.
        effective_rank: How many directions activations use.
        mean: Mean activation.
        deviation: Standard deviation of activations.
        nan: Share of activations that are no finite number.
        update_ratio: Relative change of the weights since the snapshot before.

    Example:
    >>> health = Health()
    >>> for epoch, share in ((-1, 0.0), (0, 0.25)):
    ...     health.add(epoch, Checkup.of({"conv": {"dead": share}}))
    >>> health.layers, health.dead.tolist()
    (['conv'], [[0.0], [0.25]])

    Reference:
        Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML
        2023.
    """

    def __init__(self) -> None:
        self._epochs: list[int] = []
        self._checkups: list[Checkup] = []

    def add(self, epoch: int, checkup: Checkup) -> None:
        """Add the numbers of one snapshot."""
        self._epochs.append(int(epoch))
        self._checkups.append(checkup)

    def restore(self, epoch: int, checkup: Checkup) -> None:
        """Add numbers of an earlier process, and remove those of their epoch and later."""
        self.forget(epoch)
        self.add(epoch, checkup)

    def forget(self, epoch: int) -> None:
        """Remove the numbers at the end that are of that epoch or later."""
        while self._epochs and self._epochs[-1] >= epoch:
            self._epochs.pop()
            self._checkups.pop()

    def __len__(self) -> int:
        return len(self._epochs)

    def __repr__(self) -> str:
        return f"<Health of {len(self.layers)} layers at {len(self)} snapshots>"

    @property
    def epochs(self) -> np.ndarray:
        """The epoch of each snapshot."""
        return np.array(self._epochs, "int64")

    @property
    def layers(self) -> list[str]:
        """The path of each layer."""
        return list(dict.fromkeys(layer for one in self._checkups for layer in one.layers))

    def table(self, name: str) -> np.ndarray:
        """Return the numbers of that name, float32 `(snapshots, layers)`.

        Args:
            name: `"dead"` or another attribute of `Checkup`.
        """
        places = {layer: i for i, layer in enumerate(self.layers)}
        found = np.full((len(self), len(places)), np.nan, "float32")
        for row, one in zip(found, self._checkups, strict=True):
            row[[places[layer] for layer in one.layers]] = getattr(one, name)
        return found

    @property
    def dead(self) -> np.ndarray:
        """The share of dead units."""
        return self.table("dead")

    @property
    def dormant(self) -> np.ndarray:
        """The share of dormant units."""
        return self.table("dormant")

    @property
    def duplicate(self) -> np.ndarray:
        """The share of duplicate units."""
        return self.table("duplicate")

    @property
    def saturated(self) -> np.ndarray:
        """The share of saturated activations."""
        return self.table("saturated")

    @property
    def effective_rank(self) -> np.ndarray:
        """The effective rank of activations."""
        return self.table("effective_rank")

    @property
    def mean(self) -> np.ndarray:
        """The mean activation."""
        return self.table("mean")

    @property
    def deviation(self) -> np.ndarray:
        """The standard deviation of activations."""
        return self.table("deviation")

    @property
    def nan(self) -> np.ndarray:
        """The share of activations that are no finite number."""
        return self.table("nan")

    @property
    def update_ratio(self) -> np.ndarray:
        """The relative change of weights."""
        return self.table("update_ratio")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all of it as arrays, by names that begin with `health_`."""
        tables = {f"health_{name}": self.table(name) for name in NUMBERS}
        return {"health_epochs": self.epochs, "health_layers": np.array(self.layers, str), **tables}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Health:
        """Make one of what `arrays` returned.

        Raises:
            KeyError: If an array is missing.
        """
        health = cls()
        layers = tuple(arrays["health_layers"].tolist())
        for i, epoch in enumerate(arrays["health_epochs"].tolist()):
            health.add(epoch, Checkup(layers, *(arrays[f"health_{name}"][i] for name in NUMBERS)))
        return health

    def _repr_html_(self) -> str:
        """Show the last snapshot as a table, one row a layer."""
        if not len(self):
            return f"<p>{html.escape(repr(self))}</p>"
        tables = {name: self.table(name)[-1] for name in NUMBERS}
        names = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in ("layer", *NUMBERS))
        rows = "".join(
            f"<tr><td>{html.escape(layer)}</td>"
            + "".join(f"<td>{_shown(name, tables[name][i])}</td>" for name in NUMBERS)
            + "</tr>"
            for i, layer in enumerate(self.layers)
        )
        caption = f"Health at epoch {self._epochs[-1]}"
        return f"<table><caption>{caption}</caption><tr>{names}</tr>{rows}</table>"


def _shown(name, value):
    if not np.isfinite(value):
        return ""
    return f"{value:.0%}" if name in _SHARES else f"{value:.3g}"
