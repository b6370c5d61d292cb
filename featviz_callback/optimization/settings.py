"""The settings of an optimisation: their names, defaults and checks in one place.

`optimize` and the callback have these arguments in their signatures and hand them on as one
object. Defaults come from here, except those that the two do not share: `steps` of the
callback and `values_range` of `optimize`. The docstring of `optimize` describes each
argument. Nothing here ever depends on a model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import keras
import numpy as np
from numpy.typing import ArrayLike

from featviz_callback.images import augmentation, hint_to_call, parameterizations


@dataclass(frozen=True, eq=False)
class Settings:
    """The arguments of `optimize` other than the objective, checked.

    `prepare` checks later whatever depends on a model: the shape of the image and the other
    inputs. It also makes the optimizer, since each one that is made counts in the names that
    Keras gives to the next ones.

    Attributes:
        steps: Steps of the optimisation. See `optimize` for more on every attribute.
        optimizer: A Keras optimizer, its name, or `None`.
        parameterization: A name or an object.
        transformations: `"standard"`, `None` or a sequence.
        regularizers: A function, a sequence of functions, or `None`.
        values_range: Two floats, two tuples of one float a channel where channels differ, or
            `None` until they are known.
        image_shape: A tuple, or `None` for the shape of the model's input.
        save_every: Steps between two frames, the steps after which there is one, or `None`.
        warmup_steps: How many first steps relax ReLUs.
        batch_size: Images in one call of the model, or `None`.
        seed: An int, 0 or more.
        fixed_inputs: Values by the names of inputs, or `None`.
        start: Images to begin at, or `None`.
        start_strength: How much images stay near those, a number, 0 or more.

    Raises:
        ValueError: If a setting is invalid for every model.
    """

    steps: int = 64
    optimizer: keras.optimizers.Optimizer | str | None = None
    parameterization: str | object = "fourier"
    transformations: str | Sequence | None = "standard"
    regularizers: Sequence[Callable] = ()
    values_range: tuple | None = None
    image_shape: tuple[int, ...] | None = None
    save_every: int | Sequence[int] | None = None
    warmup_steps: int = 0
    batch_size: int | None = None
    seed: int = 0
    fixed_inputs: Mapping | None = None
    start: ArrayLike | None = None
    start_strength: float = 1.0

    def __post_init__(self):
        self._keep_whole("steps", 1)
        object.__setattr__(self, "save_every", _as_saved(self.save_every, self.steps))
        self._keep_whole("warmup_steps", 0)
        self._keep_whole("batch_size", 1, or_none=True)
        self._keep_whole("seed", 0)
        _require_strength("start_strength", self.start_strength)
        if self.start is not None:
            object.__setattr__(self, "start", _as_images(self.start))
        parameterizations.check(self.parameterization)
        augmentation.check(self.transformations)
        as_regularizers(self.regularizers)
        object.__setattr__(self, "image_shape", _as_tuple(self.image_shape))
        if self.values_range is not None:
            object.__setattr__(self, "values_range", as_values_range(self.values_range))

    def _keep_whole(self, name, lowest, or_none=False):
        """Refuse what is no whole number, and keep one as Python's own, by which it is named."""
        value = getattr(self, name)
        _require_whole(name, value, lowest, or_none)
        if value is not None:
            object.__setattr__(self, name, int(value))


def as_values_range(values_range: object) -> tuple:
    """Return a range as two floats, or as two tuples of floats where channels differ.

    Raises:
        ValueError: If `values_range` is not two finite numbers in order, or two sequences
            of them, one a channel.

    Example:
    >>> as_values_range((0, 255)), as_values_range(((0, 0), (1, 1)))
    ((0.0, 255.0), (0.0, 1.0))
    >>> as_values_range((0, [1, 2, 3]))
    ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))
    """
    try:
        low, high = map(_numbers, values_range)  # type: ignore[call-overload]
        channels = np.transpose(np.broadcast_arrays(low, high)).tolist()
    except (TypeError, ValueError):
        channels = []
    # An infinite number is not below a finite one and above it.
    if not channels or not all(-math.inf < low < high < math.inf for low, high in channels):
        raise ValueError(
            "Invalid value for argument `values_range`. Expected two finite numbers, the "
            "lower one first, each of which may be a sequence of one number a channel. "
            f"Received: values_range={values_range!r}"
        )
    is_one = all(pair == channels[0] for pair in channels)
    return tuple(channels[0]) if is_one else tuple(zip(*channels, strict=True))


def _numbers(end):
    """One end of a range as a list of floats, NaN in place of what is no number."""
    several = [end] if isinstance(end, Real) else list(end)
    return [float(one) if isinstance(one, Real) else math.nan for one in several]


def _as_tuple(image_shape):
    if isinstance(image_shape, (list, tuple, np.ndarray)):
        return tuple(image_shape) or None
    return None if image_shape is None else (image_shape,)


def _require_whole(name, value, lowest, or_none=False):
    if value is None and or_none:
        return
    if not isinstance(value, Integral) or isinstance(value, bool) or value < lowest:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a whole number, {lowest} or more"
            f"{', or None' if or_none else ''}. Received: {name}={value!r}"
        )


def _as_saved(save_every, steps):
    """Return steps between two frames as they are, and chosen steps as a tuple."""
    if not isinstance(save_every, (list, tuple, range, np.ndarray)):
        _require_whole("save_every", save_every, 1, or_none=True)
        return save_every
    chosen = tuple(save_every)
    are_whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in chosen)
    if not chosen or not are_whole or min(chosen) < 1 or max(chosen) > steps:
        raise ValueError(
            f"Invalid value for argument `save_every`. Expected steps from 1 to {steps}, or one "
            f"whole number. Received: save_every={save_every!r}"
        )
    return tuple(map(int, chosen))


def _require_strength(name, value):
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < math.inf:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected a finite number, 0 or more. "
            f"Received: {name}={value!r}"
        )


def _as_images(start):
    """Return given images as a float32 array, in the shape that the user gave."""
    try:
        images = np.asarray(keras.tree.map_structure(keras.ops.convert_to_numpy, start), "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(
            "Invalid value for argument `start`. Expected an array of images. "
            f"Received: what is no array of numbers ({error})"
        ) from error
    if not images.size or not np.isfinite(images).all():
        raise ValueError(
            "Invalid value for argument `start`. Expected images of finite numbers. Received: an "
            f"array of shape {images.shape}{' with NaN or infinite values' * bool(images.size)}"
        )
    return images


def as_regularizers(regularizers: object) -> tuple[Callable, ...]:
    """Return regularizers as a tuple; `None` is none, and a function is one.

    Raises:
        ValueError: If one of them is not callable, or a class.
    """
    if regularizers is None:
        regularizers = ()
    if not isinstance(regularizers, (list, tuple)):
        regularizers = (regularizers,)
    for one in regularizers:
        if isinstance(one, type) or not callable(one):
            raise ValueError(
                "Invalid value for argument `regularizers`. Expected functions of images "
                f"(images, height, width, channels) -> (images,). Received: {one!r}"
                f"{hint_to_call(one)}"
            )
    return tuple(regularizers)
