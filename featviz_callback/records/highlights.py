"""Draw where a picture activates a unit: its activation over the picture, and a crop.

All drawing is NumPy and Pillow, as in `pictures`.
"""

from __future__ import annotations

import math

import numpy as np

from featviz_callback.records import pictures

# What is not activated fades to grey, on which both black and white are seen.
_GREY = 128
_LEAST_SHOWN = 0.2
# The shorter side of a picture, in pixels.
_SMALLEST, _LARGEST = 56, 128

Box = tuple[tuple[int, int], tuple[int, int]]


def of_image(
    image: np.ndarray,
    values_range: tuple[float, float],
    shares: np.ndarray,
    box: Box,
    picture: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw an image or a signal under its activation, and what is in a box.

    Args:
        image: An image `(height, width, channels)`, or a signal `(time, channels)`.
        values_range: Lowest and highest value.
        shares: The activation at each pixel, `(height, width)` in `[0, 1]`; of a signal,
            `(1, time)`. Pixels fade to grey as it falls.
        box: Rows and columns, ends excluded. It is outlined.
        picture: The image as `pictures.of_targets` draws it, where that is done already.

    Returns:
        Two uint8 pictures `(height, width, 1 or 3)` of one size: the whole, and the part in
        the box, widened to the proportions of the image. Images whose shorter side is below
        56 or above 128 pixels are enlarged or reduced to about that.
    """
    if picture is None:
        [picture] = pictures.of_targets([image], values_range)
    if image.ndim == 2:
        whole = picture
        [part] = pictures.of_targets([image[slice(*box[1])]], values_range)
        size = whole.shape[:2]
        scale = (whole.shape[1] - 1) / max(1, len(image) - 1)
        columns = np.arange(size[1]) / scale
        shares = np.broadcast_to(np.interp(columns, np.arange(len(image)), shares[0]), size)
        left, right = (round((edge - 0.5) * scale) for edge in box[1])
        return _outlined(_faded(whole, shares), ((0, size[0]), (left, right))), part
    shorter = min(picture.shape[:2])
    factor = -(-_SMALLEST // shorter) if shorter < _LARGEST else _LARGEST / shorter
    size = tuple(round(factor * side) for side in picture.shape[:2])
    whole = pictures.resized(_faded(picture, shares), size)
    rows, columns = _as_wide_as(box, picture.shape[:2])
    part = pictures.resized(picture[slice(*rows), slice(*columns)], size)
    return _outlined(whole, tuple((round(factor * a), round(factor * b)) for a, b in box)), part


def beside(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return two pictures of one size as one, with a gap of white."""
    gap = np.full((len(whole), 4, whole.shape[2]), 255, "uint8")
    return np.concatenate([whole, gap, part], axis=1)


def _faded(picture, shares):
    kept = (_LEAST_SHOWN + (1 - _LEAST_SHOWN) * shares)[..., None]
    return np.round(_GREY + (picture - float(_GREY)) * kept).astype("uint8")


def _outlined(picture, box):
    """Return a picture with a white line at the inner edge of a box, and a black one in it."""
    picture = picture.copy()
    for inset, value in enumerate((255, 0)):
        (top, bottom), (left, right) = (
            (max(0, start) + inset, min(end, size) - 1 - inset)
            for (start, end), size in zip(box, picture.shape[:2], strict=True)
        )
        if top <= bottom and left <= right:
            picture[[top, bottom], left : right + 1] = value
            picture[top : bottom + 1, [left, right]] = value
    return picture


def _as_wide_as(box, size):
    """Widen a box to the proportions of an image of that size, inside of it."""
    share = max((end - start) / whole for (start, end), whole in zip(box, size, strict=True))
    edges = []
    for (start, end), whole in zip(box, size, strict=True):
        length = min(whole, math.ceil(share * whole))
        first = min(max(0, (start + end - length) // 2), whole - length)
        edges.append((first, first + length))
    return edges
