"""Turn arrays into pictures: PNG, GIF, and labelled grids.

All drawing is NumPy and Pillow. Values map to colours by a fixed range, and are never
stretched to the contrast of one picture.
"""

from __future__ import annotations

import functools
import io
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_BACKGROUND = (255, 255, 255)
# Importance is blurred by such a part of a picture's side to be shown.
_BLURRED = 28
# More pixels of importance on a side say nothing, and would take as much of a log as pictures.
_IMPORTANCE_SIDE = 56
_INK = (32, 32, 32)
_MARGIN = 4
_FRAME = (200, 200, 200)

# Colours that colour-blind people tell apart (Okabe, Ito, "Color Universal Design", 2008),
# without the yellow, which is faint on white.
_LINE_COLORS = (
    *((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)),
    *((86, 180, 233), (230, 159, 0), (0, 0, 0)),
)
_PLOT_SIZE = (240, 120)
# At 224 pixels, a PNG takes 3.1 ms in place of 9 ms by Pillow's default, and is no larger: what
# is filtered has few repetitions but those of one byte.
_PNG: dict[str, Any] = {"compress_level": 1, "compress_type": zlib.Z_RLE}
# A plot is drawn larger and then reduced, since Pillow's own lines have jagged edges.
_OVERSAMPLING = 4


@dataclass(frozen=True)
class Png:
    """A picture that is encoded already.

    Attributes:
        content: The content of a PNG file.
        size: `(height, width)` in pixels.
    """

    content: bytes
    size: tuple[int, int]


# What can be written to a log: a uint8 array `(height, width, 1 or 3 or 4)`, or a PNG.
Picture = np.ndarray | Png


def as_png(picture: Picture) -> Png:
    """Encode a picture, unless it is encoded already."""
    if isinstance(picture, Png):
        return picture
    return Png(encode_png(picture), picture.shape[:2])


def as_array(picture: Picture) -> np.ndarray:
    """Return a picture as a uint8 array `(height, width, 3)` or with as many channels as it has."""
    return decode_png(picture.content) if isinstance(picture, Png) else picture


def with_few_channels(picture: np.ndarray) -> np.ndarray:
    """Return a grey picture in one channel, which takes half as many bytes as three."""
    if picture.strides[-1] == 0:
        # One channel, which is shown as three.
        return picture[..., :1]
    first, *others = np.moveaxis(picture[..., :3], -1, 0)
    # One by one, since NumPy is slow along a last axis of three.
    return picture[..., : 1 if all((first == other).all() for other in others) else 3]


def to_uint8(images: np.ndarray, values_range: tuple) -> np.ndarray:
    """Map values to what a screen shows, by a fixed affine map.

    Args:
        images: Array `(..., height, width, channels)`.
        values_range: Values shown as black and as white, numbers or one a channel.

    Returns:
        Uint8 array `(..., height, width, 1 or 3)`. NaN is shown as black. Four
        channels show their first three, since an optimised image has no transparency.
        Two channels, or more than four, show the means of their first, second and last
        third as red, green and blue.
    """
    shares = _shares(images, values_range)
    channels = shares.shape[-1]
    if channels == 4:
        shares = shares[..., :3]
    elif channels not in (1, 3):
        shares = np.nan_to_num(shares)
        bounds = np.linspace(0, channels, 4).round().astype(int)
        bands = [shares[..., a : max(b, a + 1)] for a, b in zip(bounds, bounds[1:], strict=False)]
        shares = np.stack([band.mean(-1) for band in bands], -1)
    shares = np.where(np.isnan(shares), 0, shares)
    return np.round(np.clip(shares, 0, 1) * 255).astype("uint8")


def from_uint8(pictures: np.ndarray, values_range: tuple) -> np.ndarray:
    """Map pictures of one or three channels back to values, by the inverse of `to_uint8`.

    Args:
        pictures: Uint8 array `(..., height, width, 1 or 3)`.
        values_range: As for `to_uint8`.

    Returns:
        Float32 array of that shape.
    """
    # Of more channels than a picture has, no values can be read back.
    low, high = (np.resize(end, pictures.shape[-1]) for end in values_range)
    return (low + (high - low) * (pictures / 255)).astype("float32")


def _shares(values, values_range):
    """Return how far values are from the lowest to the highest one, channels last."""
    low, high = np.asarray(values_range)
    return (np.asarray(values, "float64") - low) / (high - low)


def of_targets(images: np.ndarray | Sequence[np.ndarray], values_range: tuple) -> np.ndarray:
    """Return a picture of each target's image or signal.

    Args:
        images: Images `(targets, height, width, channels)`, or signals
            `(targets, time, channels)`, which are plotted. An array, or a sequence.
        values_range: Lowest and highest value, numbers or one a channel.

    Returns:
        Uint8 array `(targets, height, width, 1 or 3)`.
    """
    # One at a time, since the float64 values of all of them would take much memory.
    draw = to_uint8 if images[0].ndim == 3 else plot
    return np.stack([draw(image, values_range) for image in images])


def of_importance(importance: np.ndarray) -> np.ndarray:
    """Return the importance of images as small pictures, for a log.

    Args:
        importance: Array `(targets, height, width)`, from 0 to 1, or what this has returned.

    Returns:
        Uint8 array `(targets, height, width)` of at most 56 pixels a side, each the mean of
        the pixels that it stands for. The largest of each target is 255, unless all are 0.
    """
    if importance.dtype == np.uint8:
        return importance
    height, width = importance.shape[1:]
    factor = min(1.0, _IMPORTANCE_SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    means: np.ndarray = np.stack(
        [
            np.asarray(Image.fromarray(one.astype("float32")).resize(size, Image.Resampling.BOX))
            for one in importance
        ]
    )
    largest = means.max((1, 2), keepdims=True)
    return np.round(255 * means / np.where(largest > 0, largest, 1)).astype("uint8")


def faded(picture: np.ndarray, importance: np.ndarray) -> np.ndarray:
    """Let a picture fade into the background where it matters little.

    Args:
        picture: Uint8 array `(height, width, 1 or 3)`.
        importance: Array `(height, width)`, of the picture's size or smaller, from 0 up. The
            most important fifth of the pixels is opaque.

    Returns:
        Uint8 array `(height, width, 3)`.

    Reference:
        Fel et al., "Unlocking Feature Visualization for Deeper Networks with MAgnitude
        Constrained Optimization", NeurIPS 2023, section 3.2.
    """
    opaque = np.percentile(importance, 80) or importance.max() or 1.0
    shares = np.round(255 * np.clip(importance / opaque, 0, 1)).astype("uint8")
    # A gradient changes from pixel to pixel more than a picture does.
    blur = ImageFilter.GaussianBlur(max(picture.shape[:2]) // _BLURRED)
    size = picture.shape[1], picture.shape[0]
    resized = Image.fromarray(shares).resize(size, Image.Resampling.BILINEAR)
    shares = np.asarray(resized.filter(blur))[..., None] / 255
    return np.round(shares * picture + (1 - shares) * np.array(_BACKGROUND)).astype("uint8")


def plot(signal: np.ndarray, values_range: tuple) -> np.ndarray:
    """Draw a signal: time across, one line a channel.

    Args:
        signal: Array `(time, channels)`. More than seven channels are drawn as rows of
            grey values, the first one on top, in place of lines.
        values_range: Values at the bottom and at the top of the frame, numbers or one a
            channel; black and white, for rows of grey.

    Returns:
        Uint8 array `(120, 240, 3)`.
    """
    shares = _shares(signal, values_range)
    if signal.shape[1] > len(_LINE_COLORS):
        rows = to_pillow(to_uint8(shares.T[..., None], (0.0, 1.0)))
        return np.asarray(rows.convert("RGB").resize(_PLOT_SIZE, Image.Resampling.NEAREST))
    shares = np.clip(np.nan_to_num(shares), 0, 1)
    canvas = _lines(shares).resize(_PLOT_SIZE, Image.Resampling.LANCZOS)
    draw, font = ImageDraw.Draw(canvas), _font(10)
    low, high = (_numbers(end, _PLOT_SIZE[0] - 6, font) for end in values_range)
    draw.text((3, 2), high, _INK, font, anchor="lt")
    draw.text((3, _PLOT_SIZE[1] - 3), low, _INK, font, anchor="ls")
    return np.asarray(canvas)


def _numbers(end, width, font):
    return _fit(", ".join(f"{one:g}" for one in np.atleast_1d(end)), width, font)


def _lines(shares):
    """Draw one line for each column of values from 0 to 1, in a frame."""
    width, height = (side * _OVERSAMPLING for side in _PLOT_SIZE)
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, width - 1, height - 1), outline=_FRAME, width=_OVERSAMPLING)
    draw.line((0, height / 2, width, height / 2), _FRAME, _OVERSAMPLING)
    pen = 2 * _OVERSAMPLING
    if len(shares) == 1:
        shares = np.repeat(shares, 2, axis=0)
    across = np.linspace(pen, width - 1 - pen, len(shares))
    for color, values in zip(_LINE_COLORS, shares.T, strict=False):
        down = pen + (1 - values) * (height - 1 - 2 * pen)
        draw.line(list(zip(across, down, strict=True)), color, pen, joint="curve")
    return canvas


def to_pillow(picture: np.ndarray) -> Image.Image:
    """Return a uint8 array `(height, width, 1 or 3 or 4)` as a Pillow image."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def encode_png(picture: np.ndarray | Image.Image) -> bytes:
    """Encode a uint8 array `(height, width, 1 or 3 or 4)`, or a Pillow image."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else to_pillow(picture)
    image.save(buffer, "png", **_PNG)
    return buffer.getvalue()


def save(picture: np.ndarray, path: str | os.PathLike) -> None:
    """Write a uint8 array `(height, width, 1 or 3 or 4)` as a picture file.

    Args:
        picture: The picture.
        path: A file name. Its ending names the format, of those that Pillow knows.

    Raises:
        ValueError: If Pillow writes no format of that ending.
    """
    ending = os.path.splitext(path)[1].lower()
    if Image.registered_extensions().get(ending) not in Image.SAVE:
        raise ValueError(
            "Invalid value for argument `path`. Expected a file name that ends in .png, .jpg, "
            ".webp, .gif, .tiff, .pdf or another format that Pillow writes; a result also in .npz. "
            f"Received: path={os.fspath(path)!r}"
        )
    # Other formats than PNG have no such settings, and Pillow ignores them.
    to_pillow(picture).save(path, **_PNG)


def decode_png(encoded: bytes) -> np.ndarray:
    """Decode what `encode_png` encoded: uint8 `(height, width, 1 or 3 or 4)`."""
    picture = np.asarray(Image.open(io.BytesIO(encoded)))
    return picture[..., None] if picture.ndim == 2 else picture


def encode_gif(pictures: Iterable[np.ndarray], seconds: float = 0.25) -> bytes:
    """Encode uint8 arrays of one shape as an animation that loops.

    Args:
        pictures: Arrays `(height, width, 1 or 3 or 4)`.
        seconds: Time a frame is shown; the last one is shown four times as long.
    """
    frames = [_of_few_colours(picture) for picture in pictures]
    milliseconds = round(seconds * 1000)
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def _of_few_colours(picture):
    """Return a picture of at most 256 colours: greys as they are, others by an octree."""
    few = with_few_channels(picture)
    if few.shape[-1] == 1:
        return to_pillow(few)
    # Pillow's usual way takes 80 times as long, for errors that are a tenth smaller.
    how = {"method": Image.Quantize.FASTOCTREE, "dither": Image.Dither.NONE}
    return to_pillow(few).quantize(256, **how)


def grid(
    pictures: Sequence[Sequence[Any]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] | None = None,
    smallest: int = 64,
    most_pixels: int | None = None,
    draw: Callable[[Any], np.ndarray] | None = None,
) -> np.ndarray:
    """Lay pictures out in labelled rows and columns.

    Text grows with the pictures. Long text is cut in its middle, since the names of one
    layer's targets differ at their ends.

    Args:
        pictures: Rows of uint8 arrays `(height, width, 1 or 3 or 4)`, `None` for an
            empty place. All are resized to the first one's size on the grid.
        row_labels: Text to the left of each row, cut to about 26 letters.
        column_labels: Text above each column, cut to its width.
        captions: Text under each picture, cut to its width.
        smallest: Smaller pictures are enlarged by a whole factor to at least this
            many pixels.
        most_pixels: The most pixels in all. Pictures are reduced, down to `smallest`, if
            there would be more.
        draw: A function that draws a picture once it is its turn, from what `pictures` has in
            its place. Then no more than one is in memory. Default: they are drawn already.

    Returns:
        Uint8 array `(height, width, 3)`.
    """
    drawn = np.asarray(
        draw_grid(pictures, row_labels, column_labels, captions, smallest, most_pixels, draw)
    )
    return drawn if drawn.ndim == 3 else np.broadcast_to(drawn[..., None], (*drawn.shape, 3))


def draw_grid(
    pictures: Sequence[Sequence[Any]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] | None = None,
    smallest: int = 64,
    most_pixels: int | None = None,
    draw: Callable[[Any], np.ndarray] | None = None,
) -> Image.Image:
    """Return what `grid` does as a Pillow image, in one channel if all pictures are grey."""
    draw = draw or (lambda picture: picture)
    columns = max(len(row) for row in pictures)
    first = draw(next(p for row in pictures for p in row if p is not None)).shape
    height, width = _shown_size(first, smallest, most_pixels, len(pictures) * columns)
    large_size, small_size = min(max(13, height // 8), 28), min(max(11, height // 10), 22)
    font, small = _font(large_size), _font(small_size)
    row_labels = [_fit(label, 14 * large_size, font) for label in row_labels]
    left = max((_text_width(label, font) for label in row_labels), default=0) + 2 * _MARGIN
    top = large_size + 9 if column_labels else _MARGIN
    captions = captions or [()] * len(pictures)
    heights = [height + _MARGIN + (small_size + 3 if any(row) else 0) for row in captions]
    edges = [top + sum(heights[:i]) for i in range(len(pictures) + 1)]
    lefts = [left + j * (width + _MARGIN) for j in range(columns)]
    shape = (edges[-1], left + columns * (width + _MARGIN))
    canvas = _tiled(pictures, draw, shape, edges, lefts, (height, width))
    pen, ink = ImageDraw.Draw(canvas), _INK if canvas.mode == "RGB" else _INK[0]
    for x, label in zip(lefts, column_labels, strict=False):
        # Smaller letters rather than fewer.
        chosen = font if _fit(label, width, font) == _printable(label) else small
        pen.text((x + width // 2, 4), _fit(label, width, chosen), ink, chosen, anchor="ma")
    for y, label in zip(edges, row_labels, strict=False):
        pen.text((left - 2 * _MARGIN, y + height // 2), label, ink, font, anchor="rm")
    for y, row in zip(edges, captions, strict=False):
        for x, caption in zip(lefts, row if any(row) else (), strict=False):
            text = _fit(caption, width, small)
            pen.text((x + width // 2, y + height + 1), text, ink, small, anchor="ma")
    return canvas


def _tiled(pictures, draw, shape, edges, lefts, size):
    """Return a white canvas with pictures on it, in one channel if all of them are grey."""
    canvas = Image.new("L", shape[::-1], _BACKGROUND[0])
    for y, row in zip(edges, pictures, strict=False):
        for x, one in zip(lefts, row, strict=False):
            if one is not None:
                picture = to_pillow(resized(draw(one), size))
                if picture.mode != canvas.mode == "L":
                    canvas = canvas.convert("RGB")
                canvas.paste(picture, (x, y))
    return canvas


def sheet(
    pictures: Sequence[Any],
    captions: Sequence[str],
    title: str = "",
    smallest: int = 96,
    most_pixels: int | None = None,
    draw: Callable[[Any], np.ndarray] | None = None,
) -> np.ndarray:
    """Lay pictures out in a square, each with its caption; see `grid`."""
    columns = max(1, math.ceil(math.sqrt(len(pictures))))
    padding = -len(pictures) % columns
    shown, captions = [*pictures, *[None] * padding], [*captions, *[""] * padding]
    rows = range(0, len(shown), columns)
    return grid(
        [shown[i : i + columns] for i in rows],
        column_labels=[title] if title else (),
        captions=[captions[i : i + columns] for i in rows],
        smallest=smallest,
        most_pixels=most_pixels,
        draw=draw,
    )


def captions(names: Sequence[str], status: Sequence[str]) -> list[str]:
    """Return each name, after its status unless that is ok."""
    return [
        name if one == "ok" else f"{one}: {name}" for name, one in zip(names, status, strict=True)
    ]


@functools.lru_cache(maxsize=8)
def _font(size):
    """Return Pillow's own font, which it decodes at each call."""
    return ImageFont.load_default(size)


def _shown_size(shape, smallest, most_pixels, count):
    height, width = shape[:2]
    shorter = min(height, width)
    factor = -(-smallest // shorter) if shorter < smallest else 1
    if most_pixels is not None and count * height * width * factor**2 > most_pixels:
        factor = max(math.sqrt(most_pixels / (count * height * width)), smallest / shorter)
    return round(height * factor), round(width * factor)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge a picture to pixels that are seen, or reduce it to their means.

    Args:
        picture: Uint8 array `(height, width, 1 or 3 or 4)`, whose fourth channel is dropped.
        size: The new height and width.
    """
    picture = picture[..., :3]
    height, width = picture.shape[:2]
    if size == (height, width):
        return picture
    if size[0] % height == 0 and size[1] % width == 0:
        # Small pictures by the hundred, for which Pillow needs ten times as long.
        return picture.repeat(size[0] // height, axis=0).repeat(size[1] // width, axis=1)
    how = Image.Resampling.NEAREST if size[0] >= height else Image.Resampling.BOX
    changed = np.asarray(to_pillow(picture).resize(size[::-1], how))
    return changed.reshape(*size, picture.shape[-1])


@functools.lru_cache(maxsize=512)
def _text_width(text, font):
    return int(font.getlength(text)) + 1


def _fit(text, width, font):
    text = _printable(text)
    if _text_width(text, font) <= width:
        return text
    kept = len(text) - 1
    while kept and _text_width(_cut(text, kept), font) > width:
        kept -= 1
    return _cut(text, kept)


def _printable(text):
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _cut(text, kept):
    """Return `kept` letters of a text, from its beginning and its end."""
    return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
