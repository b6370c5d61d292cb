"""Measure how a model scales its images before the first layer with weights.

Many models take raw values: a `Rescaling` or `Normalization` layer comes first, a `Lambda`,
or plain arithmetic. Images of one value everywhere show what arrives behind it, whatever
it is made of.

This module calls the model for inference, up to that layer, and never changes it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import inputs
from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.notices import warn_once
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.recording import Tap, record
from featviz_callback.objectives.shapes import layer_calls

# The first layers with weights may belong to another input.
_LAYERS_TRIED = 4

# Values of less than this difference, at less than this share of it, hardly differ.
_HARDLY, _SHARE = 0.05, 0.1

# Bytes that show how a model scales them.
_BYTES = (0, 1, 128, 255)

# How far from a straight line a scaling may be, as a share of the difference of its ends.
_STRAIGHT = 0.02

# What was asked about each model: the input, the shape of an image and the range.
_asked: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Scaling:
    """What the first layer with weights receives of a value `x`: `slope * x + offset`.

    Attributes:
        path: The layer.
        slopes: One number for all channels, or one a channel; none is 0.
        offsets: As many numbers.
        is_statistics: Whether they are the mean and the deviation of data.
        is_mixed: Whether they are medians of values that are scaled differently.
    """

    path: str
    slopes: tuple[float, ...]
    offsets: tuple[float, ...]
    is_statistics: bool = field(default=False, repr=False)
    is_mixed: bool = field(default=False, repr=False)

    def __str__(self) -> str:
        parts = zip(self.slopes, self.offsets, strict=True)
        return ", ".join(f"{slope:.3g} * x {offset:+.3g}" for slope, offset in parts)


def measure_scaling(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    shape: tuple[int, int, int],
) -> Scaling | None:
    """Return how a model scales its images, `None` if that is no straight line.

    Args:
        model: A built Keras model.
        image_input: As `inputs.resolve` returns it.
        fixed_inputs: One example of each other input.
        shape: `(height, width, channels)` of an image.

    Example:
    >>> from keras import Input, Sequential
    >>> from keras.layers import Conv2D, Rescaling
    >>> model = Sequential([Input((8, 8, 1)), Rescaling(0.5, 1.0), Conv2D(4, 3, name="conv")])
    >>> image_input, _ = inputs.resolve(model)
    >>> measure_scaling(model, image_input, (), (8, 8, 1))
    Scaling(path='conv', slopes=(0.5,), offsets=(1.0,))
    """
    found = _received(model, image_input, fixed_inputs, shape, (0.0, 1.0, 127.5, 255.0))
    if found is None:
        return None
    path, received, is_statistics = found
    # Borders that are padded receive nothing of an image.
    received = received[:, np.ptp(received, axis=0) > 0]
    dark, near, grey, bright = received
    bend = grey - (bright + dark) / 2
    if np.median(np.abs(bend)) > _STRAIGHT * np.median(np.abs(bright - dark)):
        return None
    # Half precision rounds the small ones.
    slopes, offsets = (bright - dark) / 255.0, dark
    slope, near = float(np.median(slopes)), float(np.median(near - dark))
    if not slope or abs(near - slope) > _STRAIGHT * abs(slope) + 1e-3:
        return None
    is_mixed = False
    if _differ(slopes) or _differ(offsets):
        channels = _channels(model, image_input, fixed_inputs, shape)
        if channels is not None:
            own = [channels == channel for channel in range(shape[2])]
            slopes, offsets = ([np.median(one[i]) for i in own] for one in (slopes, offsets))
        is_mixed = channels is None and _differ(slopes)
    if len(slopes) != shape[2] or not (_differ(slopes) or _differ(offsets)):
        slopes, offsets = [slope], [np.median(offsets)]
    slopes, offsets = (tuple(map(float, one)) for one in (slopes, offsets))
    return Scaling(path, slopes, offsets, is_statistics and not is_mixed, is_mixed)


def _differ(values):
    return np.ptp(values) > _STRAIGHT * max(abs(np.median(values)), 1e-3)


def _channels(model, image_input, fixed_inputs, shape):
    """Return the channel that each received value depends on, `None` if on more than one.

    Values that depend on no channel are left out. Channels are numbered from 1, and each
    image is bright in those whose number has one of the binary digits. So a few images
    tell many channels apart.
    """
    numbers = 1 + np.arange(shape[2])
    places = np.arange(int(shape[2]).bit_length())[:, None]
    digits = numbers >> places & 1
    values = 255.0 * np.concatenate([0 * digits[:1], 0 * digits[:1] + 1, digits])
    found = _received(model, image_input, fixed_inputs, shape, values)
    if found is None:
        return None
    dark, bright, *received = found[1][:, np.ptp(found[1][:2], axis=0) > 0]
    shares = (received - dark) / (bright - dark)
    if np.abs(shares - np.round(shares)).max() > _STRAIGHT:
        return None
    channels = np.sum(np.round(shares).astype(int) << places, axis=0) - 1
    return channels if set(channels.tolist()) == set(range(shape[2])) else None


def floats_of_bytes(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    shape: tuple[int, int, int],
) -> Scaling | None:
    """Return which floats are the same to a model as bytes, if it tells both apart.

    `tf.image.convert_image_dtype` divides bytes alone, and so does an `if` on the dtype.

    Args:
        model: A built Keras model.
        image_input: As `inputs.resolve` returns it.
        fixed_inputs: One example of each other input.
        shape: `(height, width, channels)` of an image.

    Returns:
        The scaling of bytes, `None` if they are taken for floats, or if either is no straight
        line.
    """
    given = model, image_input, fixed_inputs, shape, _BYTES
    of_bytes, of_floats = _received(*given, dtype="uint8"), _received(*given)
    if of_bytes is None or of_floats is None or of_bytes[0] != of_floats[0]:
        return None
    is_told = (np.ptp(of_bytes[1], axis=0) > 0) & (np.ptp(of_floats[1], axis=0) > 0)
    lines = []
    for received in (of_bytes[1][:, is_told], of_floats[1][:, is_told]):
        if not received.size:
            return None
        slopes = (received[-1] - received[0]) / _BYTES[-1]
        bends = received - received[0] - np.outer(_BYTES, slopes)
        if not slopes.all() or np.abs(bends).max() > _STRAIGHT * np.abs(slopes).max() * _BYTES[-1]:
            return None
        lines.append((slopes, received[0]))
    (slopes, offsets), (own, start) = lines
    slopes, offsets = slopes / own, (offsets - start) / own
    slope, offset = float(np.median(slopes)), float(np.median(offsets))
    width = _STRAIGHT * abs(slope) * _BYTES[-1]
    if np.abs(slopes - slope).max() * _BYTES[-1] > width or np.abs(offsets - offset).max() > width:
        return None
    is_same = abs(slope - 1) < _STRAIGHT and abs(offset) < 1
    return None if is_same else Scaling(of_bytes[0], (slope,), (offset,))


def warn_if_flat(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    shape: tuple[int, int, int],
    values_range: tuple,
) -> None:
    """Warn, once a model, if the lowest and the highest value are nearly the same to it."""
    # Each optimisation asks, and following a call of the model takes longer than a small one.
    asked = _asked.setdefault(model, set())
    if (image_input, shape, values_range) in asked:
        return
    asked.add((image_input, shape, values_range))
    found = _received(model, image_input, fixed_inputs, shape, values_range)
    if found is None:
        return
    path, (lowest, highest), _ = found
    difference = float(np.median(np.abs(highest - lowest)))
    widest = np.max(np.subtract(values_range[1], values_range[0]))
    if difference < _HARDLY and difference < _SHARE * widest:
        example = ""
        if difference and measure_scaling(model, image_input, fixed_inputs, shape) is not None:
            example = f", such as (0, {widest / difference:g}), at whose ends they differ by 1"
        warn_once(
            model,
            "Images hardly differ for the model '%s': at the ends of values_range=%s, the "
            "layer %r receives values that differ by %.2g only. Give `values_range` as the model "
            "takes it%s.",
            *(model.name, range_as_text(values_range), path, difference),
            example,
        )


def range_as_text(values_range: tuple) -> str:
    """Return a range for a message.

    Example:
    >>> range_as_text((0.0, 255.0)), range_as_text(((0.0, 0.0), (1.0, 2.0)))
    ('(0, 255)', '((0, 0), (1, 2))')
    """
    one, several = (lambda end: f"{end:g}"), (lambda end: f"({', '.join(map(one, end))})")
    low, high = (several(end) if isinstance(end, tuple) else one(end) for end in values_range)
    return f"({low}, {high})"


def _received(model, image_input, fixed_inputs, shape, values: Sequence, dtype="float32"):
    """Return the first layer with weights that tells such values apart, and what it receives.

    Each of `values` is one number, or one a channel, and makes one image.

    Returns:
        `(path, array (values, elements), whether a `Normalization` of images comes before)`,
        or `None` if the model cannot be called so.
    """
    arguments = inputs.specs(model)
    try:
        calls = layer_calls(model, arguments)
        paths = list(dict.fromkeys(call.path for call in calls if _has_weights(call.layer)))
        for path in paths[:_LAYERS_TRIED]:
            received = _call(model, image_input, fixed_inputs, shape, values, path, dtype)
            if np.isfinite(received).all() and np.ptp(received, axis=0).any():
                return path, received, _is_normalized(calls, path, len(image_input.axes))
    except Exception:
        # The optimisation itself tells what is wrong with a call of the model.
        return None
    return None


def _has_weights(layer):
    # The statistics of data are no weights that an image could fit or not.
    is_statistics = isinstance(layer, keras.layers.Normalization)
    return bool(layer.weights) and not sublayers(layer) and not is_statistics


def _is_normalized(calls, path, rank):
    before = itertools.takewhile(lambda call: call.path != path, calls)
    return any(
        isinstance(call.layer, keras.layers.Normalization) and len(call.received) == rank
        for call in before
    )


def _call(model, image_input, fixed_inputs, shape, values, path, dtype):
    # One image at a time takes the least memory.
    count = image_input.batch or 1
    chosen, parts = np.asarray(values, dtype).reshape(len(values), 1, 1, -1), []
    with preserved(model), backend.load().without_gradients(), keras.StatelessScope():
        for first in range(0, len(chosen), count):
            some = chosen[np.arange(first, first + count) % len(chosen)]
            images = np.broadcast_to(some, (count, *shape))
            arguments = image_input.call_arguments(
                model, ops.convert_to_tensor(images), inputs.repeat(fixed_inputs, count)
            )
            [tensor] = record(model, arguments, [Tap(path, "input")])
            tensor = ops.cast(tensor, "float32")
            parts.append(backend.load().to_numpy(tensor).reshape(count, -1))
    return np.concatenate(parts)[: len(values)]
