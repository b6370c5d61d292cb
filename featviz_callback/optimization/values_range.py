"""Find out in which range a model takes its images.

What the model itself does to them first tells the most: one that divides by 255 takes
values up to 255. Else the real images tell. What is found is logged, once a model.
"""

from __future__ import annotations

import keras
import numpy as np

from featviz_callback.objectives import (
    ImageInput,
    Scaling,
    measure_scaling,
    range_as_text,
    warn_once,
)
from featviz_callback.optimization.probe_data import find_values_range

_UNIT, _BYTES = (0.0, 1.0), (0.0, 255.0)

# A model that multiplies its images by less takes bytes, if zero stays zero.
_FLATTEST = 1 / 30

# Weights hardly ever receive scaled values that differ by more. A subtracted mean is no
# scaling.
_WIDEST = 20.0

# Real images are taken for such of a range if they span so much of it, and are within it but
# for so much: augmented ones may be a little brighter.
_LEAST_SPAN, _BEYOND = 0.2, 0.15


def choose_values_range(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    shape: tuple[int, int, int],
    real_images: np.ndarray | None,
    before: Scaling | None = None,
) -> tuple:
    """Return the range of the images that a model takes, and log it.

    Args:
        model: A built Keras model.
        image_input: Its input that takes the images.
        fixed_inputs: One example of each other input.
        shape: `(height, width, channels)` of an image.
        real_images: Array `(images, height, width, channels)`, or `None`.
        before: How a wrapper scales images before the model, a part of it, gets them.

    Returns:
        `(lowest, highest)`, two numbers, or two tuples of one number a channel.
    """
    scaling = measure_scaling(model, image_input, fixed_inputs, shape)
    own = None if scaling is None else range_before(scaling)
    if (
        scaling is not None
        and own is not None
        and (real_images is None or _are_of(real_images, own))
    ):
        reason = f"of an image x the layer {scaling.path!r} receives {scaling}"
        found = own
    elif real_images is not None:
        found, reason = find_values_range(real_images), _reason(real_images)
    elif before is not None and (usual := range_before(before)) is not None:
        found = scaled_range(usual, before)
        reason = f"{before.path!r} makes {before} of images x in {range_as_text(usual)}"
    else:
        found = _UNIT
        reason = "the model does not scale its images, and `probe_data` would tell more"
    warn_once(
        model,
        "Images for the model '%s' are made in values_range=%s: %s. `values_range` sets "
        "another one.",
        *(model.name, range_as_text(found), reason),
    )
    return found


def is_scaled_before(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    real_images: np.ndarray,
    before: Scaling,
) -> bool:
    """Whether real images are those that a wrapper scales before a part of it gets them.

    They are if they fill the range that the scaling is usual for, and the part does not
    take that range itself.

    Args:
        model: The part.
        image_input: Its input that takes the images.
        fixed_inputs: One example of each other input.
        real_images: Array `(images, height, width, channels)`.
        before: How the wrapper scales images.
    """
    usual = range_before(before)
    if usual is None or not _are_of(real_images, usual):
        return False
    scaling = measure_scaling(model, image_input, fixed_inputs, real_images.shape[1:])
    own = None if scaling is None else range_before(scaling)
    return own is None or not _are_of(real_images, own)


def scaled_range(values_range: tuple, scaling: Scaling) -> tuple:
    """Return the range of what a scaling makes of images in a range.

    Example:
    >>> scaled_range((0.0, 255.0), Scaling("conv", (0.5,), (-1.0,)))
    (-1.0, 126.5)
    """
    ends = np.asarray(values_range, "float64").reshape(2, -1)
    ends = np.sort(ends * scaling.slopes + scaling.offsets, axis=0)
    # Shares of 255 are rounded.
    low, high = (tuple(np.round(end, 6).tolist()) for end in ends)
    return (low[0], high[0]) if len(set(low)) == len(set(high)) == 1 else (low, high)


def range_before(scaling: Scaling) -> tuple | None:
    """Return the usual range of images that are scaled so, `None` if that is not known.

    Example:
    >>> range_before(Scaling("conv", (1 / 255,), (0.0,)))
    (0.0, 255.0)
    >>> range_before(Scaling("conv", (0.1, 0.5), (-40.0, -500.0)))
    ((370.0, 994.0), (430.0, 1006.0))
    """
    pairs = list(map(_range_before, scaling.slopes, scaling.offsets))
    known = [pair for pair in pairs if pair is not None]
    if len(set(known)) == 1:
        # A channel may have a mean that tells less than those of others.
        return known[0]
    return tuple(zip(*known, strict=True)) if known and len(known) == len(pairs) else None


def _range_before(slope, offset):
    slope, centre = abs(slope), -offset / slope
    is_mild = slope * 255 <= _WIDEST or abs(slope - 1) < 0.1
    if 1.5 < centre < 255 and is_mild:
        return _BYTES
    if -0.5 <= centre <= 1.5 and slope < _FLATTEST:
        return _BYTES
    if 0.2 < centre < 0.8:
        return _UNIT
    if abs(centre) > 1.5:
        # The mean of the data, and three standard deviations of a normalised value.
        return centre - 3 / slope, centre + 3 / slope
    return None


def _are_of(images, values_range):
    low, high = np.asarray(values_range)
    ends = np.stack([images.min((0, 1, 2)), images.max((0, 1, 2))])
    shares = (ends - low) / (high - low)
    lowest, highest = shares.min(), shares.max()
    return lowest >= -_BEYOND and highest <= 1 + _BEYOND and highest - lowest >= _LEAST_SPAN


def _reason(images):
    return f"those of `probe_data` are from {float(images.min()):g} to {float(images.max()):g}"
