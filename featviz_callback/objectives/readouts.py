"""How the outputs of layers become scores: `(outputs, data) -> one score an image`.

What is read where is part of a compiled program, so each way of reading is compared
by value; ids and vectors are its data. No score depends on another image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import ops

from featviz_callback.objectives.recording import record

# A direction has no cosine with an activation of zero; this keeps its gradient finite.
_TINY = 1e-12


@dataclass(frozen=True)
class Readout:
    """One way of reading.

    One that picks single units also has `units(output)`, which gives all of them at once.
    """

    def __call__(self, outputs, data):
        """Returns one score an image, `(images,)`.

        Args:
            outputs: Of each tap, a float32 tensor `(images, ...)`, channels last.
            data: One row an image: ids `(images,)` or vectors.
        """
        raise NotImplementedError

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether an output of that shape still has what a row of data names."""
        return True


@dataclass(frozen=True)
class NeuronReadout(Readout):
    """The activation at a flat index of an output of that shape, channels last."""

    shape: tuple[int, ...]

    def __call__(self, outputs, ids):
        """Returns one score an image, `(images,)`."""
        return _pick(self.units(outputs[0]), ids)

    def units(self, output):
        """All units, `(images, units)`."""
        return ops.reshape(output, (-1, math.prod(output.shape[1:])))

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether that index of that shape is the unit that it was."""
        if None in shape:
            return True
        # The same index of another shape may be another unit.
        return bool(row < math.prod(shape)) and _place(row, shape) == _place(row, self.shape)


@dataclass(frozen=True)
class ChannelReadout(Readout):
    """The mean over space of one channel."""

    def __call__(self, outputs, ids):
        """Returns one score an image, `(images,)`."""
        return _pick(self.units(outputs[0]), ids)

    def units(self, output):
        """All channels, `(images, channels)`."""
        return ops.mean(output, axis=tuple(range(1, len(output.shape) - 1)))

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the layer has that channel."""
        return shape[-1] is None or bool(row < shape[-1])


@dataclass(frozen=True)
class LayerReadout(Readout):
    """The mean over the whole layer, of squares or of values."""

    reducer: str

    def __call__(self, outputs, ids):
        """Returns one score an image, `(images,)`."""
        flat = ops.reshape(outputs[0], (ids.shape[0], -1))
        return ops.mean(ops.square(flat) if self.reducer == "magnitude" else flat, axis=1)


@dataclass(frozen=True)
class DirectionReadout(Readout):
    """The product with a vector, times a power of the cosine, a mean over space."""

    cossim_pow: float

    def __call__(self, outputs, vectors):
        """Returns one score an image, `(images,)`."""
        values = outputs[0]
        between = len(values.shape) - len(vectors.shape)
        vectors = ops.reshape(vectors, (vectors.shape[0], *(1,) * between, *vectors.shape[1:]))
        products = ops.sum(values * vectors, axis=-1)
        if self.cossim_pow:
            squares = ops.sum(ops.square(values), axis=-1)
            # Vectors that are gradients may be very short.
            lengths = ops.maximum(ops.sum(ops.square(vectors), axis=-1), 1e-30)
            cosines = products * ops.rsqrt(ops.maximum(squares, _TINY) * lengths)
            products = products * ops.maximum(cosines, 0.1) ** self.cossim_pow
        return ops.mean(ops.reshape(products, (vectors.shape[0], -1)), axis=1)

    def fits(self, shape: tuple, row: np.ndarray) -> bool:
        """Whether the layer has as many channels, or that shape."""
        return row.shape in (shape[-1:], shape)


@dataclass(frozen=True)
class CustomReadout(Readout):
    """Whatever a user's function makes of the outputs of some layers."""

    function: Callable

    def __call__(self, outputs, ids):
        """Returns one score an image, `(images,)`."""
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
    # Its gradient is a mask, where that of a gather would be a scatter.
    everyone = ops.convert_to_tensor(np.arange(values.shape[1], dtype="int32"))
    chosen = ops.equal(ops.expand_dims(ids, 1), everyone)
    return ops.sum(ops.where(chosen, values, 0.0), axis=1)


def read_scores(model, readouts, arguments, data):
    """The score of each view: the sum over terms of multiplier times reading.

    Args:
        model: The Keras model to call.
        readouts: As `Targets.readouts`.
        arguments: What to call it with: tensors, images first.
        data: As `Targets.data`, as tensors.

    Returns:
        Float32 tensor `(images,)`.
    """
    taps = [tap for _, taps, _ in readouts for tap in taps]
    outputs = record(model, arguments, taps)
    images = data[0][1].shape[0]
    for tap, output in zip(taps, outputs, strict=True):
        if output.shape[0] not in (None, images):
            raise ValueError(
                f"The layer {tap.name!r} returns {output.shape[0]} outputs for {images} images. "
                "Expected a layer that returns one an image."
            )
    outputs = iter(ops.cast(output, "float32") for output in outputs)
    scores = 0.0
    for (readout, taps, _), (rows, multipliers) in zip(readouts, data, strict=True):
        scores = scores + multipliers * readout([next(outputs) for _ in taps], rows)
    return scores
