"""Find what the page of a unit or of a layer asks for: real images, neighbours, activations."""

from __future__ import annotations

import contextlib
import html
import time
from typing import Any

import numpy as np
from tensorboard.util import tensor_util

from featviz_callback.records import spread
from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.plugin.contents import (
    ACTIVATIONS,
    PICTURES,
    REAL,
    REAL_PLACE,
    REAL_SCORES,
)
from featviz_callback.tensorboard.plugin.logs import RunLog
from featviz_callback.tensorboard.plugin.nearest import Nearest
from featviz_callback.tensorboard.plugin.places import read_real_scores

_NEIGHBOURS, _MOST_HISTOGRAMS, _MOST_BUCKETS = 12, 24, 512
_PATIENCE = 1.5


def real_images(run: RunLog, name: str, step: int) -> dict[str, Any]:
    """Return the real images of a target, and the positions and scores of private ones."""
    at, ranks = run.look(lambda contents: contents.real_images(name, step))
    private = run.look(lambda contents: contents.latest(REAL_SCORES, step)).get(name)
    return {
        "step": at,
        "images": [_describe_real_image(rank) for rank in ranks],
        "private": read_real_scores(private) if private and not ranks else [],
    }


def _describe_real_image(rank):
    place, at = rank[REAL], rank.get(REAL_PLACE)
    try:
        values = place.read_event().summary.value
        description = html.unescape(values[0].metadata.summary_description) if values else ""
    except ValueError:
        description = ""
    # The page says already whose real images these are.
    said = description.rpartition(summaries.REAL_IMAGE_OF)[0] or description
    return {"key": place.key, "place": at.key if at else None, "description": said}


def nearest(run: RunLog, name: str, step: int, by: str, kept: Nearest) -> dict[str, Any]:
    """Return the targets nearest to one.

    Args:
        run: The run.
        name: The target.
        step: The step.
        by: "picture" for the correlation of pictures; "function" for the share of the real
            images that activate both most.
        kept: What was read before.

    Raises:
        KeyError: If the run has no such target, or does not tell its real images.
        ValueError: If the target's picture cannot be read.
    """
    shown, layers, tops = run.look(
        lambda contents: (
            contents.latest(PICTURES, step),
            contents.layer_of,
            contents.tops(step) if by == "function" else {},
        )
    )
    layer = layers(name)[0]
    first = {other for other in shown if layers(other)[0] == layer}
    if by == "function":
        known = {other: places for other, places in tops.items() if other in shown}
        pairs, compared = kept.find_by_function(name, known, first, _NEIGHBOURS)
    else:
        pairs, compared = kept.find(name, shown, first, _NEIGHBOURS)
    targets = [
        {"name": other, "alike": round(value, 4), "key": shown[other].key} for other, value in pairs
    ]
    return {"compared": compared, "targets": targets}


def activations(run: RunLog, layer: str) -> dict[str, Any]:
    """Return the histograms of a layer's activations, at no more than a few steps.

    Raises:
        KeyError: If the run has none of that layer.
    """
    film = sorted(run.look(lambda contents: contents.film(ACTIVATIONS, layer).copy()).items())
    if not film:
        raise KeyError(layer)
    deadline, found = time.monotonic() + _PATIENCE, []
    for i in spread(len(film), _MOST_HISTOGRAMS):
        step, place = film[i]
        with contextlib.suppress(TypeError, ValueError):
            found.append({"step": step, "buckets": _read_histogram(place, layer)})
        if time.monotonic() > deadline:
            break
    return {"layer": layer, "histograms": found}


def _read_histogram(place, layer):
    tag = summaries.ACTIVATION_TAGS.format(layer)
    [value] = [one for one in place.read_event().summary.value if one.tag == tag][:1]
    # A few bytes can stand for an array of gigabytes.
    sizes = [one.size for one in value.tensor.tensor_shape.dim]
    if len(sizes) != 2 or sizes[1] != 3 or not 0 < sizes[0] <= _MOST_BUCKETS:
        raise ValueError("The record has no histogram.")
    buckets = np.asarray(tensor_util.make_ndarray(value.tensor), "float64")
    if not np.isfinite(buckets).all():
        raise ValueError("The record has no histogram.")
    return [[float(f"{number:.5g}") for number in bucket] for bucket in buckets.tolist()]
