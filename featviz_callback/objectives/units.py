"""Check the layers, ids and vectors that a user gives.

A layer becomes the `Tap` that is read. Ids and vectors become rows of numbers. Values that
do not fit the layer are refused here, when an objective is made.
"""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.objectives import inputs, wrappers
from featviz_callback.objectives.endings import tap_before_squashing
from featviz_callback.objectives.layers import has_channels_first, origin_of, squashing
from featviz_callback.objectives.outputs import suffix
from featviz_callback.objectives.paths import find_call, lineage, split_index
from featviz_callback.objectives.recording import Tap, tap_before_activation
from featviz_callback.objectives.shapes import layer_calls, output_shapes

logger = logging.getLogger("featviz_callback")

# Layers, and indices of their outputs, whose removed softmax or sigmoid was logged.
_logged: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def find_tap(
    model: keras.Model, layer: str | int | keras.Layer, pre_activation: bool | None
) -> tuple[keras.Model, Tap, tuple]:
    """Find the output that a user means, see `Objective.neuron`.

    Returns:
        The model that is called, which is a part of `model` if that is a wrapper; the tap;
        and the shape of one image's output, channels last. A size that depends on the
        image's is `None`.

    Raises:
        ValueError: If the model or the layer is invalid.
    """
    model, arguments, tap = _locate(model, layer, pre_activation)
    return model, tap, output_shapes(model, arguments, [tap])[0]


def find_taps(
    model: keras.Model, layers: Sequence[str | int | keras.Layer]
) -> list[tuple[keras.Model, Tap, tuple]]:
    """Find several outputs as `find_tap` does, in one call of a model however many they are.

    Args:
        model: A built Keras model.
        layers: At least one layer, all of one part of the model if that is a wrapper.
    """
    located = [_locate(model, layer, None) for layer in layers]
    called, arguments, _ = located[0]
    taps = [tap for _, _, tap in located]
    shapes = output_shapes(called, arguments, taps)
    return [(called, tap, shape) for tap, shape in zip(taps, shapes, strict=True)]


def _locate(model, layer, pre_activation):
    """Return the model that is called, its arguments, and the tap that a user means."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            "Invalid value for argument `model`. Expected a keras.Model. "
            f"Received: model={model!r} (of type {type(model)})"
        )
    backend.load()
    named, index = split_index(model, layer)
    model, named, prefix = wrappers.enter(model, named)
    arguments = inputs.specs(model)
    path, found, call = find_call(model, named)
    tap = Tap(path, call=call, index=index)
    if pre_activation is None:
        tap = _without_squashing(model, arguments, tap, found)
    elif pre_activation:
        tap = _before_activation(tap, found)
    # With sizes of its own, a tensor has the axes of a layer behind it.
    is_own = tap.sizes is None
    channels_first = is_own and _has_channels_first(model, arguments, tap)
    return model, arguments, replace(tap, channels_first=channels_first, prefix=prefix)


def _before_activation(tap, layer):
    if tap.index:
        raise ValueError(
            "Invalid value for argument `pre_activation`. Expected a layer without the index of "
            "an output, since its activation is no part of one output. Received: "
            f"pre_activation=True with layer={tap.name!r}"
        )
    return replace(tap_before_activation(tap.path, layer), call=tap.call)


def _without_squashing(model, arguments, tap, layer):
    """The tap of what a softmax or sigmoid at the end of a layer receives, else the same tap.

    It may belong to an earlier layer, whose values the layer only passes on.
    """
    name, before = None, tap_before_squashing(model, arguments, tap)
    if before is None:
        path, index, name = origin_of(model, tap.path, tap.index)
        if path == tap.path:
            return tap
        before = replace(tap, path=path, index=index)
        before = before if name else tap_before_squashing(model, arguments, before)
    if before is None:
        return tap
    name = name or squashing(lineage(model, before.path)[-1])
    where, end, kept = "of", "is removed: the score is the logit", before
    if not f"{before.path}/".startswith(f"{tap.path}/"):
        where, kept = "before", _in_shape_of(tap, model, arguments, before)
        if kept is None:
            end, kept = f"stays: name layer '{before.path}' to maximise the logit", tap
    logged = _logged.setdefault(layer, set())
    if tap.index not in logged:
        logged.add(tap.index)
        logger.warning("The %s %s layer '%s' %s.", name, where, tap.path + suffix(tap.index), end)
    return kept


def _in_shape_of(tap, model, arguments, before):
    """The tap of an earlier layer, in the shape of a later one, or `None` if that may vary."""
    called = [call.layer for call in layer_calls(model, arguments) if not call.place]
    counts = [_count(called, lineage(model, one.path)[-1]) for one in (tap, before)]
    if counts[0] != counts[1]:
        # Another call than that of the later layer may be meant.
        return None
    given, received = output_shapes(model, arguments, [tap, before])
    if given == received:
        return before
    return None if None in (*given, *received) else replace(before, sizes=given)


def _count(layers, wanted):
    return sum(layer is wanted for layer in layers)


def _has_channels_first(model, arguments, tap):
    if not has_channels_first(model):
        return False
    layer = lineage(model, tap.path)[-1]
    calls = [call for call in layer_calls(model, arguments) if call.layer is layer]
    # What a layer's activation receives has no index, and may be one of several outputs.
    return any(call.channels_first for call in calls if call.index == tap.index or not tap.index)


def require_known(sizes: tuple, tap: Tap, instead: str) -> None:
    """Refuse a layer whose units cannot be counted.

    Raises:
        ValueError: If a size depends on the image's, naming what to use instead.
    """
    if None in sizes:
        raise ValueError(
            f"The size of the output of layer {tap.path!r} depends on the image's: "
            f"{tuple(sizes)}. Expected a layer of known size here, or {instead}."
        )


def neuron_ids(ids: Any, shape: tuple[int, ...]) -> tuple[list[int], list]:
    """Return flat ids, and a label for each in the way it was given.

    Raises:
        ValueError: If an id is no unit of an output of that shape.
    """
    one_tuple = isinstance(ids, tuple) and len(ids) == len(shape) > 1
    if one_tuple and all(isinstance(i, Integral) for i in ids):
        ids = [ids]
    ids = ids if isinstance(ids, np.ndarray) else list(ids) if is_sequence(ids) else ids
    if not (is_sequence(ids) and len(ids) and is_sequence(ids[0])):
        flat = indices(ids, math.prod(shape), "neurons_ids")
        return flat, flat
    flat, labels = [], []
    for one in ids:
        if not is_sequence(one) or len(one) != len(shape):
            raise ValueError(
                f"Invalid value for argument `neurons_ids`. Expected {len(shape)} numbers in "
                f"each id for a layer of shape {shape}. Received: {one!r}"
            )
        index = [indices(i, n, "neurons_ids")[0] for i, n in zip(one, shape, strict=True)]
        flat.append(int(np.ravel_multi_index(index, shape)))
        labels.append("_".join(map(str, index)))
    return flat, labels


def indices(ids: Any, size: int, argument: str) -> list[int]:
    """Return a list of ints from 0 to `size - 1`.

    Raises:
        ValueError: If `ids` is neither one id nor several, naming the argument.
    """
    flat = ids if is_sequence(ids) else [ids]
    given = np.asarray(flat) if all(is_number(i) for i in flat) else np.array([])
    has_bool = any(isinstance(i, (bool, np.bool_)) for i in flat)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iu" or has_bool:
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected an int, or a sequence of at "
            f"least one. Received: {argument}={ids!r}"
        )
    wrong = given[(given < -size) | (given >= size)]
    if len(wrong):
        raise ValueError(
            f"Invalid value for argument `{argument}`. Expected ids from {-size} to {size - 1}. "
            f"Received: {wrong.tolist()}"
        )
    return [int(i) % size for i in given]


def as_rows(vectors: Any, shape: tuple) -> np.ndarray:
    """Return float32 `(vectors, channels)` or `(vectors, *shape)`.

    An array of the layer's whole shape is one vector, even if it could be one a position.

    Raises:
        ValueError: If they do not fit an output of that shape, or have no direction.
    """
    try:
        rows = np.asarray(vectors, "float32")
    except (TypeError, ValueError) as error:
        received = f"what is no array of numbers ({error})"
        raise ValueError(_wrong_vectors(shape, received)) from error
    if rows.shape == shape and len(shape) == 2 and len(rows) > 1:
        logger.warning(
            "Vectors of shape %s are taken for one of the whole shape: `vectors[None]` says "
            "so, `np.repeat(vectors[:, None], %d, axis=1)` that they are several.",
            shape,
            len(rows),
        )
    if rows.shape in (shape[-1:], shape):
        rows = rows[None]
    if rows.shape[1:] not in (shape[-1:], shape) or not len(rows):
        raise ValueError(_wrong_vectors(shape, f"vectors of shape {rows.shape}"))
    for i, row in enumerate(rows):
        if not np.isfinite(row).all():
            raise ValueError(_wrong_vectors(shape, f"vector {i}, which is not finite"))
        if not row.any():
            raise ValueError(_wrong_vectors(shape, f"vector {i}, which is zero"))
    return rows


def _wrong_vectors(shape, received):
    return (
        "Invalid value for argument `vectors`. Expected finite vectors, none of them zero, of "
        f"shape {shape[-1:]} or {shape}, one or several. Received: {received}"
    )


def is_sequence(value: object) -> bool:
    """Whether a value is a sequence; an array without axes is a single value."""
    return isinstance(value, (Sequence, range)) or (
        isinstance(value, np.ndarray) and value.ndim > 0
    )


def is_number(value: object) -> bool:
    """Whether a value is one real number, of Python's or NumPy's."""
    return isinstance(value, Real) or (
        isinstance(value, (np.ndarray, np.generic)) and value.ndim == 0
    )
