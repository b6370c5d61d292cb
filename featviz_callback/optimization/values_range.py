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

# Where a model maps its images to, if the lowest is zero.
_TARGETS = _UNIT, (-1.0, 1.0), (-0.5, 0.5)

# How far from zero, as a share of the range, the lowest may be for that.
_NEAR_ZERO = 0.02

# The least highest value that a scaling names, and one that turns dark into bright. What
# names less is a factor like any other.
_LEAST_HIGH, _LEAST_TURNED = 10.0, 0.98

# Scalings that name a highest value between these are such of bytes: 1/58, 1/128, 1/256.
_LIKE_BYTES = 30.0, 260.0

# Cameras and sensors have so many bits. Half precision rounds what is measured.
_BITS, _ROUNDED = (9, 10, 11, 12, 13, 14, 16), 5e-3

# Sound of 16 bits is stored with a sign.
_SOUND = 2.0**15

# Weights hardly ever receive bytes that differ by more, or by less. A subtracted mean is no
# scaling.
_WIDEST, _NARROWEST = 20.0, 0.85

# Data of a usual range have a mean and a deviation of so much of it at least.
_LEAST_SHARE = 0.05

# Data that deviate less from their mean, as a share of it, are constant.
_CONSTANT = 1e-6

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
    scaling, own = _told_by(model, image_input, fixed_inputs, shape, real_images)
    if scaling is not None and own is not None:
        reason = f"of an image x the layer {scaling.path!r} receives {scaling}"
        found = own
    elif real_images is not None:
        found, reason = find_values_range(real_images), _reason(real_images)
    elif before is not None and (usual := range_before(before)) is not None:
        found = scaled_range(usual, before)
        reason = f"{before.path!r} makes {before} of images x in {range_as_text(usual)}"
    else:
        found = _UNIT
        reason = f"{_not_told(scaling)}, and `probe_data` would tell more"
    warn_once(
        model,
        "Images for the model '%s' are made in values_range=%s: %s. `values_range` sets "
        "another one.",
        *(model.name, range_as_text(found), reason),
    )
    return found


def tells_range(
    model: keras.Model,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...],
    real_images: np.ndarray,
) -> bool:
    """Whether a model itself tells the range of real images, by how it scales them.

    Args:
        model: A built Keras model.
        image_input: Its input that takes the images.
        fixed_inputs: One example of each other input.
        real_images: Array `(images, height, width, channels)`.
    """
    shape = real_images.shape[1:]
    return _told_by(model, image_input, fixed_inputs, shape, real_images)[1] is not None


def _told_by(model, image_input, fixed_inputs, shape, real_images):
    """Return how a model scales images, and the range that this tells of real ones, if any."""
    scaling = measure_scaling(model, image_input, fixed_inputs, shape)
    own = None if scaling is None else range_before(scaling)
    is_own = own is not None and (real_images is None or fills(real_images, own))
    return scaling, own if is_own else None


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
    if usual is None or not fills(real_images, usual):
        return False
    return not tells_range(model, image_input, fixed_inputs, real_images)


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

    A range from zero on is mapped to 0..1, -1..1 or -0.5..0.5. Any other, as a window of CT
    values, is mapped to 0..1, or has the mean that is subtracted.

    Example:
    >>> range_before(Scaling("conv", (1 / 255,), (0.0,)))
    (0.0, 255.0)
    >>> range_before(Scaling("conv", (1 / 32767.5,), (-1.0,)))
    (0.0, 65535.0)
    >>> range_before(Scaling("conv", (1 / 2000,), (0.5,)))
    (-1000.0, 1000.0)
    >>> range_before(Scaling("conv", (0.1, 0.5), (-40.0, -500.0)))
    ((370.0, 994.0), (430.0, 1006.0))
    """
    known = []
    for slope, offset in zip(scaling.slopes, scaling.offsets, strict=True):
        if scaling.is_statistics:
            known.append(_range_of_data(-offset / slope, 1 / abs(slope)))
        else:
            known.append(_range_before(slope, offset, scaling.is_mixed))
    told = [pair for pair in known if pair is not None]
    if len(set(told)) == 1:
        # A channel may have a mean that tells less than those of others.
        return told[0]
    return tuple(zip(*told, strict=True)) if told and len(told) == len(known) else None


def fills(images: np.ndarray, values_range: tuple) -> bool:
    """Whether images `(images, height, width, channels)` are such of a range.

    Example:
    >>> fills(np.linspace(0, 200, 9).reshape(9, 1, 1, 1), (0, 255))
    True
    >>> fills(np.linspace(0, 1, 9).reshape(9, 1, 1, 1), (0, 255))
    False
    """
    low, high = np.asarray(values_range)
    ends = np.stack([images.min((0, 1, 2)), images.max((0, 1, 2))])
    shares = (ends - low) / (high - low)
    lowest, highest = shares.min(), shares.max()
    return bool(lowest >= -_BEYOND and highest <= 1 + _BEYOND and highest - lowest >= _LEAST_SPAN)


def _range_before(slope, offset, is_mixed):
    width, centre = 1 / abs(slope), -offset / slope
    least = _LEAST_HIGH if slope > 0 else _LEAST_TURNED
    for target in _TARGETS:
        low, high = sorted((end - offset) / slope for end in target)
        if abs(low) >= _NEAR_ZERO * (high - low) or high < least:
            continue
        if target == _UNIT and abs(high / _SOUND - 1) < _ROUNDED:
            return -_SOUND, _SOUND - 1
        return _up_to(high, is_mixed)
    is_mild = _NARROWEST <= 255 / width <= _WIDEST or abs(width - 1) < 0.1
    if 1.5 < centre < 255 and is_mild:
        return _BYTES
    if _is_window(slope, offset):
        return _rounded(centre), _rounded(centre) + _rounded(width)
    if 0.2 < centre < 0.8:
        return _UNIT
    # The mean of the data, and three standard deviations of a normalised value.
    return (centre - 3 * width, centre + 3 * width) if abs(centre) > 1.5 else None


def _is_window(slope, offset):
    """Whether a range that does not begin at zero is mapped to 0..1, and no mean subtracted."""
    is_symmetric = abs(offset - 0.5) < _NEAR_ZERO and 0 < slope < 0.6
    return is_symmetric or (slope > 0 and -0.5 < offset < 1.02 and abs(offset / slope) > 1.5)


def _up_to(high, is_mixed):
    """The range from zero on whose highest value is about such."""
    lowest, highest = _LIKE_BYTES
    if is_mixed:
        # What weights have mixed tells little.
        return _BYTES if high >= lowest else None
    if lowest <= high <= highest:
        return _BYTES
    for bits in _BITS:
        if abs(high / 2**bits - 1) < _ROUNDED:
            return 0.0, 2.0**bits - 1
    return 0.0, _rounded(high)


def _range_of_data(mean, deviation):
    """The range of data of which the statistics are known, `None` if they say nothing."""
    is_identity = abs(mean) < _NEAR_ZERO and abs(deviation - 1) < _NEAR_ZERO
    if is_identity or deviation < _CONSTANT * max(1, abs(mean)):
        return None
    for high in (1.0, 255.0):
        is_within = _LEAST_SHARE * high < mean < (1 - _LEAST_SHARE) * high
        # No data between zero and the highest value deviate more.
        if is_within and _LEAST_SHARE * high <= deviation <= np.sqrt(mean * (high - mean)):
            return 0.0, high
    return mean - 3 * deviation, mean + 3 * deviation


def _rounded(value):
    return float(f"{value:.4g}")


def _not_told(scaling):
    """Why the model tells no range."""
    if scaling is None:
        return "how the model scales its images is no straight line, or could not be measured"
    if np.allclose(scaling.slopes, 1, atol=_NEAR_ZERO) and not np.any(np.round(scaling.offsets, 2)):
        return f"the layer {scaling.path!r} receives images as they are"
    return f"of an image x the layer {scaling.path!r} receives {scaling}, which tells no range"


def _reason(images):
    return f"those of `probe_data` are from {float(images.min()):g} to {float(images.max()):g}"
