"""Arrays to pictures: PNG, GIF, and labelled grids. NumPy and Pillow only."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_BACKGROUND = (255, 255, 255)
_INK = (32, 32, 32)


def to_uint8(images: np.ndarray, values_range: tuple[float, float]) -> np.ndarray:
    """Maps values to what a screen shows, by a fixed affine map.

    Args:
        images: Array `(..., height, width, channels)`.
        values_range: Values shown as black and as white.

    Returns:
        Uint8 array `(..., height, width, 1 or 3 or 4)`. NaN is shown as black. Of
        two channels, or more than four, red, green and blue are the means of the
        first, second and last third.
    """
    low, high = values_range
    shares = np.nan_to_num((np.asarray(images, "float64") - low) / (high - low))
    channels = shares.shape[-1]
    if channels not in (1, 3, 4):
        bounds = np.linspace(0, channels, 4).round().astype(int)
        bands = [shares[..., a : max(b, a + 1)] for a, b in zip(bounds, bounds[1:], strict=False)]
        shares = np.stack([band.mean(-1) for band in bands], -1)
    return np.round(np.clip(shares, 0, 1) * 255).astype("uint8")


def to_pillow(picture: np.ndarray) -> Image.Image:
    """A uint8 array `(height, width, 1 or 3 or 4)` as a Pillow image."""
    return Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)


def encode_png(picture: np.ndarray) -> bytes:
    """Encodes a uint8 array `(height, width, 1 or 3 or 4)`."""
    buffer = io.BytesIO()
    to_pillow(picture).save(buffer, "png")
    return buffer.getvalue()


def encode_gif(pictures: Sequence[np.ndarray], seconds: float = 0.25) -> bytes:
    """Encodes uint8 arrays of one shape as an animation that loops.

    Args:
        pictures: Arrays `(height, width, 1 or 3 or 4)`.
        seconds: Time a frame is shown; the last one is shown four times as long.
    """
    frames = [to_pillow(picture).convert("RGB") for picture in pictures]
    milliseconds = round(seconds * 1000)
    durations = [milliseconds] * (len(frames) - 1) + [4 * milliseconds]
    buffer = io.BytesIO()
    frames[0].save(
        buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0
    )
    return buffer.getvalue()


def grid(
    pictures: Sequence[Sequence[np.ndarray | None]],
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[Sequence[str]] | None = None,
    smallest: int = 64,
) -> np.ndarray:
    """Lays pictures out in labelled rows and columns.

    Args:
        pictures: Rows of uint8 arrays `(height, width, 1 or 3 or 4)` of one size,
            `None` for an empty place.
        row_labels: Text to the left of each row.
        column_labels: Text above each column.
        captions: Text under each picture, cut to its width.
        smallest: Smaller pictures are enlarged by a whole factor to at least this
            many pixels.

    Returns:
        Uint8 array `(height, width, 3)`.
    """
    font = ImageFont.load_default(size=13)
    small = ImageFont.load_default(size=11)
    height, width = next(p for row in pictures for p in row if p is not None).shape[:2]
    factor = -(-smallest // min(height, width)) if min(height, width) < smallest else 1
    height, width = height * factor, width * factor
    margin = 4
    left = max((_text_width(label, font) for label in row_labels), default=0) + 2 * margin
    texts = [_fit(label, width, font) for label in column_labels]
    top = 22 if column_labels else margin
    captions = captions or [()] * len(pictures)
    heights = [height + margin + (14 if any(row) else 0) for row in captions]
    columns = max(len(row) for row in pictures)
    canvas = Image.new("RGB", (left + columns * (width + margin), top + sum(heights)), _BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for j, text in enumerate(texts):
        draw.text((left + j * (width + margin) + width // 2, 4), text, _INK, font, anchor="ma")
    for i, row in enumerate(pictures):
        y = top + sum(heights[:i])
        if i < len(row_labels):
            draw.text((left - 2 * margin, y + height // 2), row_labels[i], _INK, font, anchor="rm")
        for j, picture in enumerate(row):
            x = left + j * (width + margin)
            if picture is not None:
                enlarged = to_pillow(picture).convert("RGB").resize((width, height), Image.NEAREST)
                canvas.paste(enlarged, (x, y))
            if any(captions[i]):
                text = _fit(captions[i][j], width, small)
                draw.text((x + width // 2, y + height + 1), text, _INK, small, anchor="ma")
    return np.asarray(canvas)


def _text_width(text, font):
    return int(font.getlength(text)) + 1


def _fit(text, width, font):
    if _text_width(text, font) <= width:
        return text
    while text and _text_width(text + "…", font) > width:
        text = text[:-1]
    return text + "…"
