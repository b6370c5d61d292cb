"""Apply a sequence of random transformations, on the host where that is possible.

A sequence is cut in two. Transformations at its head that move the grid become two
vectors of positions, which are data of the compiled step. The others are part of the
compiled step, and their draws are its data. `transformations` chooses the defaults.

This module draws from the generators that it is given, and from nothing else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from featviz_callback.images import sampling
from featviz_callback.images.fields import hint_to_call
from featviz_callback.images.transformations import Blur, Noise, Rotate, standard

# Values are drawn and sent once, and each step reads one of so many stretches of them. Drawing
# or sending values at each step would cost more than using them. The stride keeps the
# stretches of neighbouring steps far apart.
_STRETCHES = 2**14
_STRIDE = 6765


def get(
    transformations: str | object | None,
    shape: tuple,
    steps: int,
    values_range: tuple = (0.0, 1.0),
) -> tuple:
    """Return the transformations as a tuple, empty for `None`.

    Args:
        transformations: As for `optimize`.
        shape: `(height, width, channels)` of the image.
        steps: Steps of the optimisation.
        values_range: Lowest and highest value of an image.

    Raises:
        ValueError: If an element is neither a transformation nor callable.
    """
    check(transformations)
    if transformations is None:
        return ()
    if isinstance(transformations, str):
        return standard(shape, steps, values_range)
    return _as_tuple(transformations)


def check(transformations: str | object | None) -> None:
    """Refuse anything but a transformation or a sequence of transformations.

    Args:
        transformations: As for `optimize`.

    Raises:
        ValueError: If an element is neither a transformation nor callable.
    """
    if transformations is None or _is_standard(transformations):
        return
    for one in _as_tuple(transformations):
        is_kind = hasattr(one, "move") or (hasattr(one, "apply") and hasattr(one, "sample"))
        if isinstance(one, type) or not (is_kind or callable(one)):
            raise ValueError(
                "Invalid value for argument `transformations`. Expected 'standard', "
                "None, or a sequence of transformations or functions of a batch of "
                f"images. Received: {one!r}{hint_to_call(one)}"
            )


def _is_standard(transformations):
    return isinstance(transformations, str) and transformations == "standard"


def _as_tuple(transformations):
    is_sequence = isinstance(transformations, (list, tuple))
    return tuple(transformations) if is_sequence else (transformations,)


def split(transformations: tuple) -> tuple[tuple, tuple]:
    """Split a sequence into its head, which only moves the grid, and the rest.

    Args:
        transformations: As `get` returns them.

    Returns:
        The transformations for `move`, which are no part of a compiled step, and those
        for `sample` and `apply`, which are.
    """
    head = 0
    while head < len(transformations) and hasattr(transformations[head], "move"):
        head += 1
    tail = (_Resample(t) if hasattr(t, "move") else t for t in transformations[head:])
    return transformations[:head], tuple(tail)


def at(transformations: tuple, progress: float) -> tuple:
    """Return the transformations to use when that share of the steps is over."""
    return tuple(one.at(progress) if hasattr(one, "at") else one for one in transformations)


def kinds(changes: tuple) -> tuple:
    """Return the transformations with only the settings that a compiled step depends on.

    The settings of `Rotate`, `Blur` and `Noise` only affect draws on the host, so they
    are replaced by the defaults.
    """
    drawn = (Rotate, Blur, Noise)
    return tuple(type(one)() if type(one) in drawn else one for one in changes)


def move(moves: tuple, rng: np.random.Generator, rows, columns) -> tuple:
    """Draw many grids for one image.

    Args:
        moves: As `split` returns them.
        rng: The image's own generator.
        rows: Positions `(draws, height)` before any transformation.
        columns: Positions `(draws, width)`.

    Returns:
        Rows and columns after every transformation.
    """
    for one in moves:
        rows, columns = one.move(rng, rows, columns)
    return rows, columns


def sample(changes: tuple, rng: np.random.Generator, shape: tuple) -> tuple:
    """Draw the data of the other transformations for one image at one step.

    Args:
        changes: As `split` returns them.
        rng: The image's own generator.
        shape: `(height, width, channels)` of the augmented image.

    Returns:
        An array, or a tuple of arrays, for each transformation that draws anything:
        float32, or whole numbers of one byte.
    """
    drawn = (one.sample(rng, shape) for one in changes if hasattr(one, "sample"))
    return tuple(keras.tree.map_structure(_to_send, one) for one in drawn)


def identity(changes: tuple, shape: tuple) -> tuple | None:
    """Return the draw that changes nothing; `None` if a transformation has no such draw.

    Args:
        changes: As `split` returns them.
        shape: `(height, width, channels)` of the augmented image.
    """
    if not all(hasattr(one, "identity") for one in changes):
        return None
    return tuple(keras.tree.map_structure(_to_send, one.identity(shape)) for one in changes)


def sample_values(changes: tuple, rng: np.random.Generator, shape: tuple) -> tuple:
    """Draw random numbers for every value of an augmented image, for all steps at once.

    Args:
        changes: As `split` returns them.
        rng: The image's own generator.
        shape: `(height, width, channels)` of the augmented image.

    Returns:
        A flat array for each transformation that has `sample_values`.
    """
    count = math.prod(shape) + _STRETCHES
    flat = (one.sample_values(rng, count) for one in changes if hasattr(one, "sample_values"))
    return tuple(map(_to_send, flat))


def first_value(number: int) -> int:
    """Return where the stretch of values for step `number` begins."""
    return number * _STRIDE % _STRETCHES


def apply(
    changes: tuple, images, draws: tuple, values: tuple = (), first=0, size: tuple = (None, None)
):
    """Apply the transformations that change values to a rendered batch.

    Args:
        changes: As `split` returns them.
        images: `(images, height, width, channels)`.
        draws: A batch of draws of `sample` for each transformation that has it.
        values: A batch of draws of `sample_values` for each transformation that has it.
        first: Start of the stretch of `values` to use, see `first_value`.
        size: `(height, width)` that the model takes, `None` for any.

    Returns:
        Tensor `(images, height, width, channels)`, with other sizes if a transformation
        changes them, and the model takes them.

    Raises:
        ValueError: If a transformation returns another number of images, changes their
            size for good, or makes images larger before one that needs a random number
            for every value.
    """
    draws_left, values_left = iter(draws), iter(values)
    changed = ""
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
        if tuple(images.shape) != tuple(before):
            name = getattr(one, "__name__", repr(one))
            changed = f"{name}, from {tuple(before[1:])} to {tuple(images.shape[1:])}"
    is_taken = all(n in (None, m) for n, m in zip(size, images.shape[1:3], strict=True))
    if changed and not is_taken:
        raise ValueError(
            "Invalid value for argument `transformations`. Expected images of the size that the "
            f"model takes, {tuple(size)}. Received a size changed by {changed}. Resize to the "
            "shape that the function gets."
        )
    return images


def _stretch(values, first, shape, transformation):
    images, count = shape[0], math.prod(shape[1:])
    drawn = values.shape[1] - _STRETCHES
    if count > drawn:
        raise ValueError(
            f"There are random numbers for the {drawn} values of an image. Expected no "
            f"transformation before {transformation!r} that makes images larger. Received: "
            f"{tuple(shape[1:])}"
        )
    first = ops.cast(first, "int32")
    start = ops.stack([ops.zeros_like(first), first])
    return ops.reshape(ops.slice(values, start, (images, count)), shape)


def _to_send(array):
    array = np.asarray(array)
    return array if array.dtype in (np.int8, np.uint8) else array.astype("float32")


@dataclass(frozen=True)
class _Resample:
    """A transformation that moves the grid of an image that is already rendered."""

    transformation: Callable

    def sample(self, rng, shape):
        grid = (np.arange(float(size))[None] for size in shape[:2])
        return np.concatenate(self.transformation.move(rng, *grid), axis=-1)[0]

    def apply(self, images, grid):
        height = images.shape[1]
        return sampling.resample(images, grid[:, :height], grid[:, height:])
