"""Turn the outputs of layers into scores, `(outputs, data) -> one score an image`.

A readout is part of a compiled step, so it is compared by value. Ids and vectors are data
of the step. No score depends on another image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from keras import ops

from featviz_callback.objectives.recording import record

# An activation of zero has no cosine with a direction. This keeps the gradient finite.
_TINY = 1e-12


@dataclass(frozen=True)
class Readout:
    """One way to read a score from outputs.

    A readout of single units also has `units(output)`, which returns all units at once.
    `reads_map` says whether it reads outputs that have positions, as a feature map has.
    `highest` is the score that no image exceeds. A readout of maps may have
    `at_positions(output, data)`, which returns the score at each position, and
    `position(data)`, which returns the only position that it reads.
    """

    reads_map = False
    highest: ClassVar[float | None] = None

    def __call__(self, outputs, data):
        """Return one score an image, `(images,)`.

        Args:
            outputs: A float32 tensor `(images, ...)` for each tap, channels last.
            data: One row an image: ids `(images,)` or vectors.
        """
        raise NotImplementedError

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether an output of that shape still has the unit that a row of data names."""
        return True


@dataclass(frozen=True)
class NeuronReadout(Readout):
    """The activation at a flat index of an output of that shape, channels last."""

    shape: tuple[int, ...]

    @property
    def reads_map(self):
        """Whether the output has positions."""
        return len(self.shape) > 1

    def __call__(self, outputs, ids):
        """Return one score an image, `(images,)`."""
        return _pick(self.units(outputs[0]), ids)

    def at_positions(self, output, ids):
        """Return the unit's channel at each position, `(images, ...)`."""
        return _pick_channel(output, ids % self.shape[-1])

    def position(self, ids):
        """Return the flat position of each unit, `(images,)`."""
        return ids // self.shape[-1]

    def units(self, output):
        """Return all units, `(images, units)`."""
        if len(output.shape) == 2:
            return output
        return ops.reshape(output, (-1, math.prod(output.shape[1:])))

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the index still names the same unit in an output of that shape."""
        if None in shape:
            return True
        # The same index of another shape may be another unit.
        return bool(row < math.prod(shape)) and _place(row, shape) == _place(row, self.shape)


@dataclass(frozen=True)
class ChannelReadout(Readout):
    """The mean over space of one channel."""

    reads_map: bool = False

    def __call__(self, outputs, ids):
        """Return one score an image, `(images,)`."""
        return _pick(self.units(outputs[0]), ids)

    def at_positions(self, output, ids):
        """Return the channel at each position, `(images, ...)`."""
        return _pick_channel(output, ids)

    def units(self, output):
        """Return all channels, `(images, channels)`."""
        return ops.mean(output, axis=tuple(range(1, len(output.shape) - 1)))

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the layer has that channel."""
        return shape[-1] is None or bool(row < shape[-1])


@dataclass(frozen=True)
class LayerReadout(Readout):
    """The mean over the whole layer, of squares or of values."""

    reducer: str
    reads_map: bool = False

    def __call__(self, outputs, ids):
        """Return one score an image, `(images,)`."""
        return ops.mean(ops.reshape(self._values(outputs[0]), (ids.shape[0], -1)), axis=1)

    def at_positions(self, output, ids):
        """Return the mean over the channels at each position, `(images, ...)`."""
        return ops.mean(self._values(output), axis=-1)

    def _values(self, output):
        return ops.square(output) if self.reducer == "magnitude" else output


@dataclass(frozen=True)
class DirectionReadout(Readout):
    """The product with a vector times a power of the cosine, as a mean over space."""

    cossim_pow: float
    reads_map: bool = False

    def __call__(self, outputs, vectors):
        """Return one score an image, `(images,)`."""
        products = self.at_positions(outputs[0], vectors)
        return ops.mean(ops.reshape(products, (vectors.shape[0], -1)), axis=1)

    def at_positions(self, values, vectors):
        """Return the score at each position, `(images, ...)`."""
        between = len(values.shape) - len(vectors.shape)
        vectors = ops.reshape(vectors, (vectors.shape[0], *(1,) * between, *vectors.shape[1:]))
        products = ops.sum(values * vectors, axis=-1)
        if self.cossim_pow:
            squares = ops.sum(ops.square(values), axis=-1)
            # A vector may be a gradient, and very short.
            lengths = ops.maximum(ops.sum(ops.square(vectors), axis=-1), 1e-30)
            cosines = products * ops.rsqrt(ops.maximum(squares, _TINY) * lengths)
            products = products * ops.maximum(cosines, 0.1) ** self.cossim_pow
        return products

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the layer still has the vector's number of channels, or its shape."""
        return row.shape in (shape[-1:], shape)


@dataclass(frozen=True)
class LikenessReadout(Readout):
    """How close an output is to a given one: 1 if equal, 0 as far as zeros are."""

    reads_map: bool = False
    highest: ClassVar[float | None] = 1.0

    def __call__(self, outputs, given):
        """Return one score an image, `(images,)`."""
        if tuple(outputs[0].shape) != tuple(given.shape):
            raise ValueError(
                "An inversion compares outputs of one shape. Expected images of the size of the "
                f"given ones, which give {tuple(given.shape[1:])}. Received: outputs of shape "
                f"{tuple(outputs[0].shape[1:])}"
            )
        axes = tuple(range(1, len(given.shape)))
        squares = ops.maximum(ops.sum(ops.square(given), axes), _TINY)
        return 1.0 - ops.sum(ops.square(outputs[0] - given), axes) / squares

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the layer still has the given output's shape."""
        sizes = zip(shape, row.shape, strict=False)
        return len(shape) == len(row.shape) and all(n in (None, m) for n, m in sizes)


@dataclass(frozen=True)
class CustomReadout(Readout):
    """The result of a user's function of the outputs of some layers."""

    function: Callable

    def __call__(self, outputs, ids):
        """Return one score an image, `(images,)`."""
        scores = self.function(outputs[0] if len(outputs) == 1 else outputs)
        if tuple(scores.shape) != (ids.shape[0],):
            raise ValueError(
                "The function of a custom objective must return one score an image. "
                f"Expected shape ({ids.shape[0]},). Received: {tuple(scores.shape)}"
            )
        return scores


def _place(index, shape):
    return tuple(map(int, np.unravel_index(index, shape)))


def _pick(values, ids):
    # The gradient of this is a mask; that of a gather would be a scatter, which is slower.
    everyone = ops.convert_to_tensor(np.arange(values.shape[1], dtype="int32"))
    chosen = ops.equal(ops.expand_dims(ids, 1), everyone)
    return ops.sum(ops.where(chosen, values, 0.0), axis=1)


def _pick_channel(values, ids):
    everyone = ops.convert_to_tensor(np.arange(values.shape[-1], dtype="int32"))
    chosen = ops.equal(ops.reshape(ids, (-1, *(1,) * (len(values.shape) - 1))), everyone)
    return ops.sum(ops.where(chosen, values, 0.0), axis=-1)


def require_one_each(taps, outputs, images: int) -> None:
    """Refuse layers that do not return one output an image.

    Raises:
        ValueError: If one folds parts of an image into the batch, or the like.
    """
    for tap, output in zip(taps, outputs, strict=True):
        if output.shape[0] not in (None, images):
            raise ValueError(
                f"The layer {tap.name!r} returns {output.shape[0]} outputs for {images} images. "
                "Expected a layer that returns one an image."
            )


def read_scores(model, readouts, arguments, data):
    """Return the score of each image: the sum over terms of multiplier times readout.

    Args:
        model: The Keras model to call.
        readouts: As `Targets.readouts`.
        arguments: The model's argument: tensors, images first.
        data: As `Targets.data`, as tensors.

    Returns:
        Float32 tensor `(images,)`.
    """
    return read_scores_and(model, readouts, arguments, data, ())[0]


def read_scores_and(model, readouts, arguments, data, others):
    """Return the score of each image, see `read_scores`, and the outputs at other taps."""
    read = [tap for _, taps, _ in readouts for tap in taps]
    outputs = record(model, arguments, [*read, *others])
    require_one_each([*read, *others], outputs, data[0][1].shape[0])
    outputs = [ops.cast(output, "float32") for output in outputs]
    of_readouts, scores = iter(outputs[: len(read)]), 0.0
    for (readout, taps, _), (rows, multipliers) in zip(readouts, data, strict=True):
        scores = scores + multipliers * readout([next(of_readouts) for _ in taps], rows)
    return scores, outputs[len(read) :]
