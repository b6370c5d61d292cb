"""Keep what the log of a run tells: numbers, layers, and the places of pictures."""

from __future__ import annotations

import re
from collections.abc import Callable

from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util import tensor_util

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.plugin.orders import merged, parse_objectives
from featviz_callback.tensorboard.plugin.places import Place

PICTURES, EXAMPLES, IMPORTANCE = "pictures", "examples", "importance"
ACCENTUATED = "accentuated"
REAL, REAL_PLACE, REAL_SCORES, ACTIVATIONS = "real", "place", "real_scores", "activations"
# Kinds of pictures and of numbers, by the part of a tag before the slash.
_PICTURES = {
    "feature_vis": PICTURES,
    "feature_vis_examples": EXAMPLES,
    "feature_vis_importance": IMPORTANCE,
    "feature_vis_accentuated": ACCENTUATED,
}
# What is read when it is asked for, by target or by layer.
_KEPT = {"feature_vis_real_scores": REAL_SCORES, "feature_vis_activations": ACTIVATIONS}
# One tag for each rank.
_RANKED = {"feature_vis_real": REAL, "feature_vis_place": REAL_PLACE}
_SCALARS = {
    "feature_vis_score": "score",
    "feature_vis_drift": "drift",
    "feature_vis_status": "status",
    "feature_vis_score_ratio": "ratio",
    "feature_vis_drift_floor": "floor",
    "feature_vis_functional_drift": "functional",
    "feature_vis_selectivity": "selectivity",
    "feature_vis_active_share": "share",
    "feature_vis_top_overlap": "overlap",
}
_LAYER_NUMBER = "feature_vis_layer_"
_OTHER_PICTURES = {summaries.IMAGE_TAG.format(name) for name in summaries.RESERVED_NAMES}
# The layer in a target's name, if the log does not tell it.
_LAYER_IN_NAME = re.compile(r"Layer#(.+)|(?:Neuron|Channel|Direction)#(.+)_[^_]+")
_MOST_RANKS = 64
# More layers than any network has.
_MOST_LAYERS = 10_000
_LONGEST_TAG = 64 * 1024
# What else is described of a layer.
_OF_LAYERS = {"layer", "order", "histograms", "at"}
# Values for one in so many steps are described without the steps between.
_SPARSE = 8

Films = dict[str, dict[int, Place]]
Series = dict[str, dict[int, float]]


class Contents:
    """What was read of a run so far."""

    def __init__(self):
        self.places: dict[str, Films] = {}
        self._scalars: dict[str, Series] = {}
        self._layer_numbers: dict[str, Series] = {}
        self._layers: dict[str, tuple[str, int | None]] = {}

    def restart(self, step: int) -> None:
        """Forget the records of a step and of later steps, since the run was resumed there."""
        for kinds in (self.places, self._scalars, self._layer_numbers):
            for films in kinds.values():
                for film in films.values():
                    for void in [known for known in film if known >= step]:
                        del film[void]

    def add(
        self,
        step: int,
        tag: str,
        read_tensor: Callable[[], TensorProto],
        place: Place,
        is_picture: bool,
    ) -> None:
        """Add a record.

        Args:
            step: Its step.
            tag: Its tag.
            read_tensor: Reads its tensor, which for a picture is not needed.
            place: Where it is.
            is_picture: Whether it is a picture.

        Raises:
            ValueError: If it is of one layer too many, or its tag is too long for any page.
        """
        if len(tag) > _LONGEST_TAG:
            raise ValueError("No target has such a name.")
        prefix, _, name = tag.partition("/")
        if tag == summaries.OBJECTIVES_TAG:
            self._layers.update(parse_objectives(read_tensor()))
        elif is_picture:
            self._add_picture(step, tag, prefix, name, place)
        elif prefix in _SCALARS:
            self.add_number(step, tag, _number(read_tensor()))
        elif prefix.startswith(_LAYER_NUMBER) and name:
            kind = prefix.removeprefix(_LAYER_NUMBER)
            if kind in _OF_LAYERS:
                return
            numbers = self._layer_numbers.setdefault(kind, {})
            if len(numbers) >= _MOST_LAYERS and name not in numbers:
                raise ValueError("No network has so many layers.")
            numbers.setdefault(name, {})[step] = _number(read_tensor())
        elif prefix in _KEPT:
            self.places.setdefault(_KEPT[prefix], {}).setdefault(name, {})[step] = place

    def add_number(self, step: int, tag: str, number: float) -> bool:
        """Add a target's number; return whether the tag is of one."""
        prefix, _, name = tag.partition("/")
        kind = _SCALARS.get(prefix)
        if kind is None or len(tag) > _LONGEST_TAG:
            return False
        self._scalars.setdefault(kind, {}).setdefault(name, {})[step] = number
        return True

    def _add_picture(self, step, tag, prefix, name, place):
        kind = _PICTURES.get(prefix)
        if prefix in _RANKED:
            name, _, rank = name.rpartition("/")
            if rank.isascii() and rank.isdigit() and int(rank) < _MOST_RANKS and len(rank) < 4:
                kind = ranked(_RANKED[prefix], int(rank))
        if kind is not None and tag not in _OTHER_PICTURES:
            self.places.setdefault(kind, {}).setdefault(name, {})[step] = place

    def film(self, kind: str, name: str) -> dict[int, Place]:
        """Return the places of a target's pictures of one kind, by step."""
        return self.places.get(kind, {}).get(name, {})

    def real_images(self, name: str, step: int) -> tuple[int | None, list[dict[str, Place]]]:
        """Return the real images of a target: those of a step, or of the last one before it.

        Returns:
            Their step, or `None` if there are none; and for each rank the places of the
            image, and of the picture of where it activates the target.
        """
        ranks = [rank for rank in range(_MOST_RANKS) if self.film(ranked(REAL, rank), name)]
        steps = {at for rank in ranks for at in self.film(ranked(REAL, rank), name)}
        at = max((known for known in steps if known <= step), default=None)
        found = [
            {
                kind: self.film(ranked(kind, rank), name)[at]
                for kind in (REAL, REAL_PLACE)
                if at in self.film(ranked(kind, rank), name)
            }
            for rank in ranks
        ]
        return at, [one for one in found if REAL in one]

    def latest(self, kind: str, step: int) -> dict[str, Place]:
        """Return the place of each target's last record of one kind up to a step."""
        films = self.places.get(kind, {}).items()
        past = {name: [at for at in film if at <= step] for name, film in films}
        return {name: film[max(past[name])] for name, film in films if past[name]}

    def tops(self, step: int) -> dict[str, list[Place]]:
        """Return the records of each target's top real images, by name."""
        tops = {name: [place] for name, place in self.latest(REAL_SCORES, step).items()}
        for name in self.places.get(ranked(REAL, 0), {}):
            if ranks := self.real_images(name, step)[1]:
                tops[name] = [rank[REAL] for rank in ranks]
        return tops

    def layer_of(self, name: str) -> tuple[str, int | None]:
        """Return a target's layer and its place in the network."""
        return self._layers.get(name) or (_layer_in_name(name), None)

    def describe(self) -> dict:
        """Return every frame; `plugin` describes the form."""
        films = self.places.get(PICTURES, {})
        steps = sorted({step for film in films.values() for step in film})
        places = {step: place for place, step in enumerate(steps)}
        targets = [self._describe_target(name, places) for name, film in films.items() if film]
        return {"steps": steps, "targets": targets, "layers": self._describe_layers()}

    def _describe_target(self, name, places):
        layer, order = self.layer_of(name)
        target = {"name": name, "layer": layer, "order": order}
        kinds = {PICTURES: "key", ranked(REAL, 0): "real", REAL_SCORES: "private"}
        kinds |= {kind: kind for kind in (EXAMPLES, IMPORTANCE, ACCENTUATED)}
        films = {key: film for kind, key in kinds.items() if (film := self.film(kind, name))}
        scalars = {kind: all_of[name] for kind, all_of in self._scalars.items() if name in all_of}
        steps = _chosen(target, [*films.values(), *scalars.values()], places)
        for key, film in films.items():
            target[key] = [film[step].key if step in film else None for step in steps]
        for kind, numbers in scalars.items():
            target[kind] = [_short(numbers.get(step)) for step in steps]
        return target

    def _describe_layers(self):
        histograms = self.places.get(ACTIVATIONS, {})
        all_numbers = [n for series in self._layer_numbers.values() for n in series.values()]
        ordered = sorted({step for numbers in all_numbers for step in numbers})
        orders = dict(filter(lambda pair: pair[0], self._layers.values()))
        names = merged([*self._layer_numbers.values(), histograms])
        rows: dict[str, dict] = {
            name: {
                "layer": name,
                "order": orders.get(name),
                "histograms": bool(histograms.get(name)),
            }
            for name in names
        }
        places = {step: place for place, step in enumerate(ordered)}
        for layer, row in rows.items():
            series = {kind: one[layer] for kind, one in self._layer_numbers.items() if layer in one}
            steps = _chosen(row, list(series.values()), places)
            row |= {
                kind: [_short(numbers.get(step)) for step in steps]
                for kind, numbers in series.items()
            }
        return {"steps": ordered, "rows": list(rows.values())}


def is_of_one_picture(tag: str) -> bool:
    """Return whether a long record whose first tag this is has nothing but one picture."""
    prefix = tag.partition("/")[0]
    return prefix in _PICTURES or prefix in _RANKED


def ranked(kind: str, rank: int) -> str:
    """Return the kind of the pictures of one rank."""
    return f"{kind}/{rank}"


def _chosen(row, series, places):
    """Return the steps to describe; where they are few of all, note their places in the row."""
    # A thousand targets of a thousand steps, each at its own, would be a million nulls a series.
    if sum(map(len, series)) * _SPARSE < len(places):
        row["at"] = sorted({places[step] for one in series for step in one if step in places})
        steps = list(places)
        return [steps[place] for place in row["at"]]
    return list(places)


def _layer_in_name(name):
    match = _LAYER_IN_NAME.fullmatch(name.split(" & ")[0])
    return (match[1] or match[2]) if match else ""


def _number(tensor):
    if len(tensor.float_val) == 1:
        return tensor.float_val[0]
    if not tensor.dtype:
        return float("nan")
    try:
        return float(tensor_util.make_ndarray(tensor))
    except (TypeError, ValueError):
        return float("nan")


def _short(number):
    """Round a number to float32's precision; return `None` if JSON cannot hold it."""
    if number is None or number - number != 0:
        return None
    return float(f"{number:.6g}")
