"""Transform images at random during their optimisation.

There are three kinds of transformations, and a sequence may mix them:

* A transformation that moves the grid (`Jitter`, `Scale`, `Crop`, `Flip`) has a method
  `move(rng, rows, columns)`. The method gets the positions `(draws, height)` and
  `(draws, width)` at which one image is read, and returns the positions of that many
  random draws. At the head of the sequence such transformations cost nothing: they
  compose on the host, and the image is rendered at the final grid.
* A transformation that changes values (`Rotate`, `Blur`, `Noise`) has two methods.
  `sample(rng, shape)` draws an array, or a tuple of arrays, for one image on the host,
  always of the same shapes. `apply(images, draws)` uses a batch of draws.
* Any function of a batch of images `(images, height, width, channels)`, in the model's
  range, that returns such a batch. Its random numbers are drawn once, when the step is
  compiled. If you need new random numbers at each step, draw them in `sample`.

Further methods are optional:

* `identity(shape)` returns the draw of `sample` that changes nothing. If every
  transformation that changes values has this method, scores without transformations need
  no compiled step of their own.
* `sample_values(rng, count)` draws a flat array of random numbers, once per optimisation.
  A transformation has this method if it needs a number for every value of an image, as
  `Noise` does. Its `apply(images, draws, values)` then gets another stretch of that array
  at each of 16,384 steps, in the shape of the images.
* `at(progress)` returns the transformation to use when that share of the steps is
  over. The method is called on transformations that move the grid at the head of the
  sequence, and on those that draw. `sample_values` is called on the original only.

All random numbers are drawn on the host from a `numpy.random.Generator` of the
optimisation. The same seed gives the same draws on every backend. Shifts and crops are
shares of the image's own size. A transformation must not read or change any other random
state.
"""

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from keras import ops

from featviz_callback.images import sampling
from featviz_callback.images.shapes import is_small

# The share of the steps during which `Scale` may zoom in further than later.
_EARLY = 0.6

# A Gaussian of this width, in pixels, leaves an image unchanged, where 0 would be a NaN.
_SHARPEST = 0.05


@dataclass(frozen=True)
class Jitter:
    """Shift an image by up to a share of its size, separately for each axis.

    Args:
        share: Largest shift in either direction, as a share of the side. 0 or more.

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
        """Return the positions `(draws, height)` and `(draws, width)` of shifted images."""
        return tuple(self._shift(rng, positions) for positions in (rows, columns))

    def _shift(self, rng, positions):
        size = positions.shape[-1]
        # Whole pixels only, since a fractional shift would blur the image.
        reach = round(self.share * size)
        shifts = rng.integers(-reach, reach + 1, _one_a_draw(positions))
        pixel = (positions[..., -1:] - positions[..., :1]) / max(size - 1, 1)
        return positions + shifts * pixel


@dataclass(frozen=True)
class Scale:
    """Zoom about the centre. Factors above 1 enlarge the content.

    Args:
        low: Smallest factor. Positive.
        high: Largest factor. Finite.
        early: Multiple of both factors during the first 60 % of the steps, if no
            transformation before this one changes values. Features that form while
            zoomed in are small and whole. The later steps combine them. Positive.

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
        """Return the zoom to use when that share of the steps is over."""
        closer = self.early if progress < _EARLY else 1.0
        return replace(self, low=closer * self.low, high=closer * self.high, early=1.0)

    def move(self, rng: np.random.Generator, rows, columns):
        """Return the positions `(draws, height)` and `(draws, width)` of zoomed images."""
        factor = rng.uniform(self.low, self.high, _one_a_draw(rows))
        centres = (axis.mean(-1, keepdims=True) for axis in (rows, columns))
        return tuple(c + (a - c) / factor for a, c in zip((rows, columns), centres, strict=True))


@dataclass(frozen=True)
class Crop:
    """Show a random part of an image, anywhere within it.

    Smaller parts give smaller and more numerous features.

    Args:
        smallest: Smallest part, as a share of each side. Above 0.
        largest: Largest part, as a share of each side. At most 1.

    Raises:
        ValueError: If the shares are not above 0, at most 1 and in order.

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
        """Return the positions `(draws, height)` and `(draws, width)` of crops."""
        share = rng.uniform(self.smallest, self.largest, _one_a_draw(rows))
        return tuple(self._part(rng, positions, share) for positions in (rows, columns))

    def _part(self, rng, positions, share):
        first, last = positions[..., :1], positions[..., -1:]
        start = rng.uniform(0, 1, _one_a_draw(positions)) * (1 - share) * (last - first)
        return first + start + (positions - first) * share


@dataclass(frozen=True)
class Flip:
    """Mirror left and right in half of the draws.

    Do not use `Flip` for content that is never mirrored, such as letters.

    Example:
    >>> rows, columns = np.zeros((50, 4)), np.tile(np.arange(4.0), (50, 1))
    >>> _, flipped = Flip().move(np.random.default_rng(0), rows, columns)
    >>> sorted(set(flipped[:, 0].tolist()))
    [0.0, 3.0]
    """

    def move(self, rng: np.random.Generator, rows, columns):
        """Return the positions `(draws, height)` and `(draws, width)`, half of them mirrored."""
        mirrored = rng.random(_one_a_draw(rows)) < 0.5
        return rows, np.where(mirrored, columns[..., ::-1], columns)


@dataclass(frozen=True)
class Rotate:
    """Turn each image about its centre, with linear interpolation.

    Beyond its border an image continues mirrored.

    Args:
        degrees: Largest angle in either direction. 0 or more.

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
        """Draw one angle, in radians."""
        return np.deg2rad(rng.uniform(-self.degrees, self.degrees))

    def apply(self, images: Any, angles: Any) -> Any:
        """Rotate a batch `(images, height, width, channels)` by angles `(images,)`."""
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
    """Blur every channel with a Gaussian of random width.

    Args:
        sigma: Largest standard deviation, in pixels. 0.05 or more.

    Raises:
        ValueError: If `sigma` is below 0.05 or not finite.

    Example:
    >>> bool(0.05 <= Blur(2.0).sample(np.random.default_rng(0), (8, 8, 3)) <= 2.0)
    True
    """

    sigma: float = 1.0

    def __post_init__(self):
        _require_from(_SHARPEST, "sigma", self.sigma)

    def sample(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw one standard deviation, in pixels."""
        return np.asarray(rng.uniform(_SHARPEST, self.sigma))

    def apply(self, images: Any, sigmas: Any) -> Any:
        """Blur a batch `(images, height, width, channels)` by widths `(images,)`."""
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
    """Add white noise, uniformly distributed, to every value.

    Each image has one sequence of random numbers, drawn once. Each step uses another part
    of that sequence.

    Noise hides faint and fine features, so that only strong and large features form. For
    photographs of 128 steps or more it was also seen to keep the background plain, which
    otherwise fills with textures.

    Args:
        deviation: Standard deviation, in the units of the model's input. 0 or more, one
            number or one a channel.
        last: Standard deviation in the last fifth of the steps. The deviation falls
            linearly between 50 % and 80 % of the steps. As many numbers as `deviation`
            has. `None` keeps it constant.

    Raises:
        ValueError: If a deviation is negative or not finite.

    Example:
    >>> values = Noise().sample_values(np.random.default_rng(0), 1000)
    >>> values.dtype, bool(abs(np.mean(values)) < 10)
    (dtype('int8'), True)

    Reference:
        Smilkov et al., "SmoothGrad: removing noise by adding noise", 2017, section 3:
        a gradient averaged over noise keeps the features that withstand noise.
    """

    deviation: float | tuple[float, ...] = 0.05
    last: float | tuple[float, ...] | None = None

    def __post_init__(self):
        names = ["deviation"] if self.last is None else ["deviation", "last"]
        for name in names:
            given = getattr(self, name)
            if isinstance(given, (list, tuple, np.ndarray)):
                object.__setattr__(self, name, tuple(given))
            for one in getattr(self, name) if np.ndim(given) else [given]:
                _require_from(0, name, one)
        is_alike = self.last is None or np.shape(self.last) == np.shape(self.deviation)
        _require("last", self.last, is_alike, "as many numbers as `deviation` has")

    def at(self, progress: float) -> "Noise":
        """Return the noise to use when that share of the steps is over."""
        if self.last is None:
            return self
        fallen = min(max((progress - 0.5) / 0.3, 0.0), 1.0)
        ends = np.asarray(self.deviation), np.asarray(self.last)
        deviation = ends[0] + fallen * (ends[1] - ends[0])
        return replace(self, deviation=deviation.tolist(), last=None)

    def sample_values(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Draw `count` odd whole numbers from -127 to 127, int8, uniform with mean 0."""
        if not (np.any(self.deviation) or np.any(self.last)):
            return np.zeros(count, "int8")
        # Bytes take a twentieth of the time of normal numbers, and whole words of the
        # generator take a fifth of the time of `rng.bytes`.
        words = rng.integers(0, 2**64, -(-count // 8), dtype="uint64")
        return words.view("int8")[:count] | np.int8(1)

    def sample(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Return the factor that gives the values the standard deviation, or one a channel."""
        return np.asarray(self.deviation) / math.sqrt((128**2 - 1) / 3)

    def identity(self, shape: tuple) -> np.ndarray:
        """Return the factor that adds no noise."""
        return np.zeros(np.shape(self.deviation))

    def apply(self, images: Any, factors: Any, values: Any) -> Any:
        """Add `values * factors` to a batch `(images, height, width, channels)`."""
        factors = ops.reshape(factors, (images.shape[0], 1, 1, -1))
        factors = ops.cast(factors, images.dtype)
        return images + ops.cast(values, images.dtype) * factors


def standard(shape: tuple, steps: int, values_range: tuple = (0.0, 1.0)) -> tuple:
    """Return the default transformations: shifts, zooms and, for larger images, noise.

    Small images move less, since their object fills the frame, and so do photographs
    below 224 pixels: few patterns of a small image survive a wide range of zooms. An
    optimisation of more than 32 steps zooms in further at first, up to twice as far from
    128 steps on. It also adds noise, which is nearly gone at the end.

    Args:
        shape: `(height, width, channels)` of the image.
        steps: Steps of the optimisation.
        values_range: Lowest and highest value of an image. Noise is a share of their
            difference.
    """
    if is_small(shape):
        return Jitter(0.05), Scale(0.9, 1.1)
    share, span = patience(shape, steps), np.subtract(values_range[1], values_range[0])
    # Short optimisations have noise of strength zero, so that they share a compiled step.
    noise = Noise((0.125 * share**2 * span).tolist(), last=(0.0075 * share * span).tolist())
    size = min(max((max(shape[:2]) - 96) / (224 - 96), 0.0), 1.0)
    low, high = 0.9 - 0.1 * size * (1 - share), 1.1 + size * (0.5 + 0.1 * share)
    reach = 0.05 + size * (0.07 + 0.08 * share)
    return Jitter(reach), Scale(low, high, early=1 + share * size), noise


def patience(shape: tuple, steps: int) -> float:
    """Return how far the defaults are those of a long optimisation, in `[0, 1]`.

    The value is 0 up to 32 steps, 0.5 at 64 steps and 1 from 128 steps on. Small images
    always have 0, since their object fills the frame.

    Args:
        shape: `(height, width, channels)` of the image.
        steps: Steps of the optimisation.
    """
    if is_small(shape):
        return 0.0
    return min(max(math.log2(steps / 32) / 2, 0.0), 1.0)


def _require(name, value, holds, expected):
    if not holds:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. Received: {name}={value!r}"
        )


def _require_from(lowest, name, value):
    holds = isinstance(value, Real) and lowest <= value < math.inf
    _require(name, value, holds, f"a finite number, {lowest} or more")


def _one_a_draw(positions):
    return (*positions.shape[:-1], 1)
