"""Random views of an image that the ascent must survive.

There are three kinds, and a sequence may mix them:

* one that moves the grid (`Jitter`, `Scale`, `Crop`, `Flip`):
  `move(rng, rows, columns)` gets the positions `(views, height)` and
  `(views, width)` at which one image is read, and returns those of new views.
  Those at the head of the sequence cost nothing: they compose on the host and
  the image is rendered at their grid;
* one that changes values (`Rotate`, `Blur`, `Noise`): `sample(rng, shape)` draws
  an array, or a tuple of them, for one image on the host, always of the same shapes,
  and `apply(images, draws)` uses a batch of them. If each of these has `still(shape)`,
  which returns what changes nothing, clean scores need no program of their own. One that
  needs a random number for every value of a view (`Noise`) has `sample_values(rng, count)`
  too, which draws a flat array of so many, once an ascent, and
  `apply(images, draws, values)`, which gets another stretch of it at each of 16,384 steps,
  in the shape of the images;
* any function of a batch of images `(images, height, width, channels)`, with
  values in the model's range, that returns such a batch. What is random in it is
  drawn once, when the program is compiled: to draw at each step, `sample` it.

One that moves the grid at the head of the sequence, or draws, may have a method
`at(progress)`: it is replaced by what that returns, from the share of the ascent's
steps that are over, but for its `sample_values`.

All randomness is drawn on the host from a `numpy.random.Generator` of the run:
the same seed gives the same views on every backend, and no other random state
is read or changed. Sizes are shares of the image's own size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from featviz_callback import sampling

# The share of the steps in which views may come closer than later.
_EARLY = 0.6

# A Gaussian of this width leaves an image as it is.
_SHARPEST = 0.05

# Stretches of the values that are drawn once, in another order than that of the steps.
# To draw them anew, or to send them, would cost more than to use them.
_STRETCHES = 2**14
_STRIDE = 6765


@dataclass(frozen=True)
class Jitter:
    """Shifts an image by up to a share of its size, separately for each axis.

    Args:
        share: Largest shift either way, as a share of the view's side. 0 or
            more.

    Raises:
        ValueError: If the share is negative or not finite.

    Example:
    >>> rows, columns = np.tile(np.arange(8.0), (5, 1)), np.tile(np.arange(6.0), (5, 1))
    >>> rows, columns = Jitter(0.25).move(np.random.default_rng(0), rows, columns)
    >>> rows.shape, columns.shape
    ((5, 8), (5, 6))
    """

    share: float = 0.07

    def __post_init__(self):
        _require_from(0, "share", self.share)

    def move(self, rng: np.random.Generator, rows, columns):
        """Returns the positions `(views, height)` and `(views, width)` of shifted views."""
        return tuple(self._shift(rng, positions) for positions in (rows, columns))

    def _shift(self, rng, positions):
        size = positions.shape[-1]
        # Whole pixels of the view: a fractional shift would blur what it moves.
        reach = round(self.share * size)
        shifts = rng.integers(-reach, reach + 1, _one_a_view(positions))
        pixel = (positions[..., -1:] - positions[..., :1]) / max(size - 1, 1)
        return positions + shifts * pixel


@dataclass(frozen=True)
class Scale:
    """Zooms about the centre: above 1 the image's content looks larger.

    Args:
        low: Smallest factor. Positive.
        high: Largest factor. Finite.
        early: In the first 60 % of the steps both are so many times as large, where no
            transformation before this one changes values. What takes shape in views
            that come close is small, and whole; the wider views that follow put it
            together. Positive.

    Raises:
        ValueError: If the factors are not positive, finite and in order.

    Example:
    >>> side = np.arange(5.0)[None]
    >>> rows, columns = Scale(2.0, 2.0).move(np.random.default_rng(0), side, side)
    >>> rows
    array([[1. , 1.5, 2. , 2.5, 3. ]])
    """

    low: float = 0.9
    high: float = 1.1
    early: float = 1.0

    def __post_init__(self):
        _require("high", self.high, self.high < math.inf, "a finite number")
        _require("low", self.low, 0 < self.low <= self.high, "above 0, and at most `high`")
        _require("early", self.early, 0 < self.early < math.inf, "a finite number above 0")

    def at(self, progress: float) -> "Scale":
        """The zoom when that share of the steps is over."""
        closer = self.early if progress < _EARLY else 1.0
        return replace(self, low=closer * self.low, high=closer * self.high, early=1.0)

    def move(self, rng: np.random.Generator, rows, columns):
        """Returns the positions `(views, height)` and `(views, width)` of zoomed views."""
        factor = rng.uniform(self.low, self.high, _one_a_view(rows))
        centres = (axis.mean(-1, keepdims=True) for axis in (rows, columns))
        return tuple(c + (a - c) / factor for a, c in zip((rows, columns), centres, strict=True))


@dataclass(frozen=True)
class Crop:
    """Shows a random part of an image, anywhere within it.

    The smaller the parts, the smaller and the more numerous is what appears.

    Args:
        smallest: Smallest part, as a share of each side, above 0.
        largest: Largest part, at most 1.

    Raises:
        ValueError: If the parts are not above 0, up to 1 and in order.

    Example:
    >>> side = np.arange(5.0)[None]
    >>> rows, columns = Crop(0.5, 0.5).move(np.random.default_rng(0), side, side)
    >>> float(rows[0, -1] - rows[0, 0])
    2.0
    """

    smallest: float = 0.25
    largest: float = 1.0

    def __post_init__(self):
        _require("largest", self.largest, self.largest <= 1, "1 or less")
        holds = 0 < self.smallest <= self.largest
        _require("smallest", self.smallest, holds, "above 0, and at most `largest`")

    def move(self, rng: np.random.Generator, rows, columns):
        """Returns the positions `(views, height)` and `(views, width)` of parts."""
        share = rng.uniform(self.smallest, self.largest, _one_a_view(rows))
        return tuple(self._part(rng, positions, share) for positions in (rows, columns))

    def _part(self, rng, positions, share):
        first, last = positions[..., :1], positions[..., -1:]
        start = rng.uniform(0, 1, _one_a_view(positions)) * (1 - share) * (last - first)
        return first + start + (positions - first) * share


@dataclass(frozen=True)
class Flip:
    """Mirrors left and right in half of the views. Not for letters or cars.

    Example:
    >>> rows, columns = np.zeros((50, 4)), np.tile(np.arange(4.0), (50, 1))
    >>> _, flipped = Flip().move(np.random.default_rng(0), rows, columns)
    >>> sorted(set(flipped[:, 0].tolist()))
    [0.0, 3.0]
    """

    def move(self, rng: np.random.Generator, rows, columns):
        """Returns the positions `(views, height)` and `(views, width)` of the views."""
        mirrored = rng.random(_one_a_view(rows)) < 0.5
        return rows, np.where(mirrored, columns[..., ::-1], columns)


@dataclass(frozen=True)
class Rotate:
    """Turns each image about its centre, with linear interpolation.

    Beyond its border an image goes on as in a mirror.

    Args:
        degrees: Largest angle either way. 0 or more.

    Raises:
        ValueError: If the angle is negative or not finite.

    Example:
    >>> image = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)
    >>> turned = Rotate().apply(image, np.zeros(1, "float32"))
    >>> np.allclose(ops.convert_to_numpy(turned), image)
    True
    """

    degrees: float = 5.0

    def __post_init__(self):
        _require_from(0, "degrees", self.degrees)

    def sample(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one angle, in radians."""
        return np.deg2rad(rng.uniform(-self.degrees, self.degrees))

    def apply(self, images: Any, angles: Any) -> Any:
        """Turns a batch `(images, height, width, channels)` by `(images,)`."""
        _, height, width, _ = images.shape
        angles = ops.reshape(angles, (-1, 1, 1))
        cos, sin = ops.cos(angles), ops.sin(angles)
        rows = ops.arange(height, dtype="float32")[:, None] - (height - 1) / 2
        columns = ops.arange(width, dtype="float32") - (width - 1) / 2
        return sampling.read(
            images,
            sin * columns + cos * rows + (height - 1) / 2,
            cos * columns - sin * rows + (width - 1) / 2,
        )


@dataclass(frozen=True)
class Blur:
    """Blurs every channel with a Gaussian of random width.

    Args:
        sigma: Largest standard deviation, in pixels. 0.05 or more.

    Raises:
        ValueError: If it is below 0.05 or not finite.

    Example:
    >>> bool(0.05 <= Blur(2.0).sample(np.random.default_rng(0), (8, 8, 3)) <= 2.0)
    True
    """

    sigma: float = 1.0

    def __post_init__(self):
        _require_from(_SHARPEST, "sigma", self.sigma)

    def sample(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one standard deviation in pixels."""
        return np.asarray(rng.uniform(_SHARPEST, self.sigma))

    def apply(self, images: Any, sigmas: Any) -> Any:
        """Blurs a batch `(images, height, width, channels)` by `(images,)`."""
        rows, columns = (self._matrix(size, sigmas) for size in images.shape[1:3])
        channels_first = ops.transpose(images, (0, 3, 1, 2))
        return sampling.render(rows, channels_first, columns)

    def _matrix(self, size, sigmas):
        offsets = np.arange(size)[:, None] - np.arange(size)[None]
        squares = ops.convert_to_tensor((offsets**2).astype("float32"))
        weights = ops.exp(-squares / (2 * ops.reshape(sigmas, (-1, 1, 1)) ** 2))
        return weights / ops.sum(weights, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Noise:
    """Adds white noise, evenly spread, to every value.

    An image has one pattern, drawn once, which each step sees elsewhere.

    What is faint or fine drowns in it: what takes shape has to be strong and large, and
    the ground stays quiet, where an ascent without it weaves textures wall to wall.

    Args:
        deviation: Standard deviation, in the units of the model's input. 0 or
            more.
        last: The same in the last fifth of the steps; from half of them on it falls
            there along a line. `None` for as much throughout.

    Raises:
        ValueError: If a deviation is negative or not finite.

    Example:
    >>> values = Noise().sample_values(np.random.default_rng(0), 1000)
    >>> values.dtype, bool(abs(np.mean(values)) < 10)
    (dtype('int8'), True)

    Reference:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, section 3:
        a gradient averaged over noise is that of what withstands it.
    """

    deviation: float = 0.05
    last: float | None = None

    def __post_init__(self):
        _require_from(0, "deviation", self.deviation)
        if self.last is not None:
            _require_from(0, "last", self.last)

    def at(self, progress: float) -> "Noise":
        """The noise when that share of the steps is over."""
        if self.last is None:
            return self
        fallen = min(max((progress - 0.5) / 0.3, 0.0), 1.0)
        deviation = self.deviation + fallen * (self.last - self.deviation)
        return replace(self, deviation=deviation, last=None)

    def sample_values(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draws so many odd numbers from -127 to 127, int8, of which the mean is 0."""
        if not (self.deviation or self.last):
            return np.zeros(count, "int8")
        # Bytes take a twentieth of the time of normal numbers; whole words of the
        # generator a fifth of that of `rng.bytes`.
        words = rng.integers(0, 2**64, -(-count // 8), dtype="uint64")
        return words.view("int8")[:count] | np.int8(1)

    def sample(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """What to multiply the values by."""
        return np.asarray(self.deviation / math.sqrt((128**2 - 1) / 3))

    def still(self, shape: tuple) -> np.ndarray:
        """The factor of no noise."""
        return np.zeros(())

    def apply(self, images: Any, factors: Any, values: Any) -> Any:
        """Adds values times factors to a batch `(images, height, width, channels)`."""
        factors = ops.cast(ops.reshape(factors, (-1, 1, 1, 1)), images.dtype)
        return images + ops.cast(values, images.dtype) * factors


def standard(shape: tuple, steps: int, values_range: tuple[float, float] = (0.0, 1.0)) -> tuple:
    """The default views: whole objects, a little larger, smaller and elsewhere.

    Small images, whose object fills the frame, move less. Of ascents of more than 32
    steps the first views come closer, of 128 and more twice as close, and they are seen
    through noise, which is nearly gone in the end.

    Args:
        shape: `(height, width, channels)` of the image.
        steps: Steps of the ascent.
        values_range: Lowest and highest value of an image, which noise is a share of.
    """
    if sampling.is_small(shape):
        return Jitter(0.05), Scale(0.9, 1.1)
    share, (low, high) = patience(shape, steps), values_range
    # Short ascents have noise of no strength, so that they are the same program.
    noise = Noise(0.125 * share**2 * (high - low), last=0.0075 * share * (high - low))
    closer = Scale(0.8 + 0.1 * share, 1.6 + 0.1 * share, early=1 + share)
    return Jitter(0.12 + 0.08 * share), closer, noise


def patience(shape: tuple, steps: int) -> float:
    """How far the default is that of a considered picture, not of a short look.

    0 up to 32 steps, 1 from 128 on, and half of it at 64. Small images, whose object
    fills the frame, have no room for a considered one.

    Args:
        shape: `(height, width, channels)` of the image.
        steps: Steps of the ascent.
    """
    if sampling.is_small(shape):
        return 0.0
    return min(max(math.log2(steps / 32) / 2, 0.0), 1.0)


def get(
    transformations: str | object | None,
    shape: tuple,
    steps: int,
    values_range: tuple[float, float] = (0.0, 1.0),
) -> tuple:
    """Returns a tuple of transformations: none for `None`, or the standard ones.

    Args:
        transformations: As for `optimize`.
        shape: `(height, width, channels)` of the image.
        steps: Steps of the ascent.
        values_range: Lowest and highest value of an image.

    Raises:
        ValueError: If one of them is neither a transformation nor callable.
    """
    if transformations is None:
        return ()
    if isinstance(transformations, str) and transformations == "standard":
        return standard(shape, steps, values_range)
    if not isinstance(transformations, (list, tuple)):
        transformations = (transformations,)
    for one in transformations:
        is_kind = hasattr(one, "move") or (hasattr(one, "apply") and hasattr(one, "sample"))
        if isinstance(one, type) or not (is_kind or callable(one)):
            raise ValueError(
                "Invalid value for argument `transformations`. Expected 'standard', "
                "None, or a sequence of transformations or functions of a batch of "
                f"images. Received: {one!r}"
            )
    return tuple(transformations)


def split(transformations: tuple) -> tuple[tuple, tuple]:
    """Those at the head that only move the grid, and those that change images.

    Args:
        transformations: As `get` returns them.

    Returns:
        What `move` takes, which is no part of a program, and what `sample` and
        `apply` take, which is.
    """
    head = 0
    while head < len(transformations) and hasattr(transformations[head], "move"):
        head += 1
    tail = (_Resample(t) if hasattr(t, "move") else t for t in transformations[head:])
    return transformations[:head], tuple(tail)


def at(transformations: tuple, progress: float) -> tuple:
    """The transformations when that share of the ascent's steps is over."""
    return tuple(one.at(progress) if hasattr(one, "at") else one for one in transformations)


def kinds(changes: tuple) -> tuple:
    """What a compiled step depends on of these.

    Of those whose numbers only say what is drawn, on the host, it is what kind they are.
    """
    drawn = (Rotate, Blur, Noise)
    return tuple(type(one)() if type(one) in drawn else one for one in changes)


def move(moves: tuple, rng: np.random.Generator, rows, columns) -> tuple:
    """Draws the grids of many views of one image.

    Args:
        moves: As `split` returns them.
        rng: The image's own generator.
        rows: Positions `(views, height)` before any transformation.
        columns: Positions `(views, width)`.

    Returns:
        Rows and columns after every transformation.
    """
    for one in moves:
        rows, columns = one.move(rng, rows, columns)
    return rows, columns


def sample(changes: tuple, rng: np.random.Generator, shape: tuple) -> tuple:
    """Draws what the other transformations need for one view of one image.

    Args:
        changes: As `split` returns them.
        rng: The image's own generator.
        shape: `(height, width, channels)` of the view.

    Returns:
        For each of them that draws anything, an array or a tuple of them: float32, or
        whole numbers of one byte.
    """
    drawn = (one.sample(rng, shape) for one in changes if hasattr(one, "sample"))
    return tuple(keras.tree.map_structure(_to_send, one) for one in drawn)


def still(changes: tuple, shape: tuple) -> tuple | None:
    """What `sample` returns where nothing is changed; `None` if some cannot do nothing.

    Args:
        changes: As `split` returns them.
        shape: `(height, width, channels)` of the view.
    """
    if not all(hasattr(one, "still") for one in changes):
        return None
    return tuple(keras.tree.map_structure(_to_send, one.still(shape)) for one in changes)


def sample_values(changes: tuple, rng: np.random.Generator, shape: tuple) -> tuple:
    """Draws, once an ascent, what the other transformations need for every value of a view.

    Args:
        changes: As `split` returns them.
        rng: The image's own generator.
        shape: `(height, width, channels)` of the view.

    Returns:
        For each of them that has `sample_values`, a flat array.
    """
    count = math.prod(shape) + _STRETCHES
    flat = (one.sample_values(rng, count) for one in changes if hasattr(one, "sample_values"))
    return tuple(map(_to_send, flat))


def first_value(number: int) -> int:
    """Where the stretch of these values begins that step `number` gets."""
    return number * _STRIDE % _STRETCHES


def apply(changes: tuple, images, draws: tuple, values: tuple = (), first=0):
    """Applies what the grid has not already done to a rendered batch.

    Args:
        changes: As `split` returns them.
        images: `(images, height, width, channels)`.
        draws: What `sample` draws, a batch of each.
        values: What `sample_values` draws, a batch of each.
        first: Where the stretch of them begins, see `first_value`.
    """
    draws_left, values_left = iter(draws), iter(values)
    for one in changes:
        before = images.shape
        arguments = [next(draws_left)] if hasattr(one, "sample") else []
        if hasattr(one, "sample_values"):
            arguments.append(_stretch(next(values_left), first, before, one))
        images = one.apply(images, *arguments) if arguments else one(images)
        if len(images.shape) != 4 or images.shape[0] != before[0]:
            raise ValueError(
                "A transformation must return as many images as it gets. Expected shape "
                f"{tuple(before)}. Received: {tuple(images.shape)} from {one!r}"
            )
    return images


def _stretch(values, first, shape, transformation):
    images, count = shape[0], math.prod(shape[1:])
    drawn = values.shape[1] - _STRETCHES
    if count > drawn:
        raise ValueError(
            f"There are random numbers for the {drawn} values of a view. Expected no "
            f"transformation before {transformation!r} that makes views larger. Received: "
            f"{tuple(shape[1:])}"
        )
    first = ops.cast(first, "int32")
    start = ops.stack([ops.zeros_like(first), first])
    return ops.reshape(ops.slice(values, start, (images, count)), shape)


def _require(name, value, holds, expected):
    if not holds:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. Received: {name}={value!r}"
        )


def _require_from(lowest, name, value):
    holds = isinstance(value, Real) and lowest <= value < math.inf
    _require(name, value, holds, f"a finite number, {lowest} or more")


def _to_send(array):
    array = np.asarray(array)
    return array if array.dtype in (np.int8, np.uint8) else array.astype("float32")


def _one_a_view(positions):
    return (*positions.shape[:-1], 1)


@dataclass(frozen=True)
class _Resample:
    """Moves the grid of an image that has already been rendered."""

    transformation: Callable

    def sample(self, rng, shape):
        still = (np.arange(float(size))[None] for size in shape[:2])
        return np.concatenate(self.transformation.move(rng, *still), axis=-1)[0]

    def apply(self, images, grid):
        height = images.shape[1]
        return sampling.resample(images, grid[:, :height], grid[:, height:])
