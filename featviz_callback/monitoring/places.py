"""Find where a real image activates a target: the activation at each position, and a box.

The box is about the receptive field of the highest position. It follows from the gradient of
that position's activation, so it holds for any layers, and for attention. Only targets that
read one map of one layer have places. A unit of a vector has none, since the whole image
activates it.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import inputs, preserved, record
from featviz_callback.optimization import Task, fingerprint

# The compiled steps of each model, with the fingerprint that it had.
_compiled_steps: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

# A box has to hold so much more of the gradient than of the image, or the axis is not cut.
_LEAST_EXCESS = 0.05
# The same for a whole box that is all that is known, as of a token.
_LEAST_EXCESS_ALONE = 0.25


@dataclass(frozen=True, eq=False)
class Place:
    """Where one image activates a target.

    Attributes:
        box: Rows and columns `((top, bottom), (left, right))` in pixels, ends excluded:
            about the receptive field of the highest position. A signal has one row.
        activation: Uint8 array `(down, across)`: the activation at each position of the
            layer, as a share of the highest one in 255 steps, negative ones as 0. `None` if
            the positions cannot be laid over the image, as tokens.
        offsets: The position of the first pixel, `(down, across)`, so that the highest
            activation is in the middle of its receptive field.
    """

    box: tuple[tuple[int, int], tuple[int, int]]
    activation: np.ndarray | None
    offsets: tuple[float, float]

    def __eq__(self, other: object) -> bool:
        # By value, since a place that comes from another process is another object.
        return (
            isinstance(other, Place)
            and (self.box, self.offsets) == (other.box, other.offsets)
            and np.array_equal(self.activation, other.activation)  # type: ignore[arg-type]
        )

    def __hash__(self) -> int:
        return hash((self.box, self.offsets))

    def over_image(self, height: int, width: int) -> np.ndarray:
        """Return the activation at each pixel, float array `(height, width)` in `[0, 1]`.

        It is 1 in the box and 0 elsewhere if the positions are not known.
        """
        if self.activation is None:
            shares = np.zeros((height, width))
            shares[slice(*self.box[0]), slice(*self.box[1])] = 1.0
            return shares
        down, across = (
            _between(positions, pixels, offset)
            for positions, pixels, offset in zip(
                self.activation.shape, (height, width), self.offsets, strict=True
            )
        )
        return down @ (self.activation / 255) @ across.T


def _between(positions, pixels, offset):
    """Return the weights `(pixels, positions)` that interpolate linearly."""
    at = np.clip(offset + np.arange(pixels) * positions / pixels, 0, positions - 1)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(positions)))


class Places:
    """The places of the top activating images of all targets.

    A place is computed when its image joins the top images of a target, on the weights of
    that moment, and kept for as long as the image is among them.

    Args:
        images: Real images `(images, height, width, channels)`, as the model takes them.

    Attributes:
        kept: The places of the top images of each target, by its name and their indices.
        compile_seconds: About how long compiling took.
    """

    def __init__(self, images: np.ndarray):
        self._images = images
        self.kept: dict[str, dict[int, Place | None]] = {}
        self.compile_seconds = 0.0

    def of_task(self, task: Task, top: Sequence[Sequence[int]]) -> list[list[Place | None]]:
        """Return the places of the top images of each target of a task.

        Args:
            task: The optimisation of the targets.
            top: The top images of each target, as indices.

        Returns:
            One list a target, of one place an image; `None` where there is none.
        """
        names = task.targets.names
        kept = [self.kept.get(name, {}) for name in names]
        new = [
            (i, index)
            for i, indices in enumerate(top)
            for index in map(int, indices)
            if index not in kept[i]
        ]
        found = dict(zip(new, self._find(task, new), strict=True))
        for i, (name, indices) in enumerate(zip(names, top, strict=True)):
            known = kept[i] | {index: place for (j, index), place in found.items() if j == i}
            self.kept[name] = {int(index): known[int(index)] for index in indices}
        return [list(self.kept[name].values()) for name in names]

    def _find(self, task, pairs):
        """Return the place of each pair of a target and an image."""
        if not pairs or not has_places(task) or self._images.dtype.kind != "f":
            return [None] * len(pairs)
        size, found = task.plan.batch, []
        with preserved(task.targets.model):
            for first in range(0, len(pairs), size):
                # The last call gets as many as the others, so that nothing is compiled anew.
                some = [pairs[(first + i) % len(pairs)] for i in range(size)]
                found += self._read(task, *map(np.array, zip(*some, strict=True)))
        return found[: len(pairs)]

    def _read(self, task, targets, indices):
        [(rows, multipliers)] = task.targets.data()
        [(readout, _, _)] = task.targets.readouts
        rows = rows[targets]
        pinned = readout.position(rows) if hasattr(readout, "position") else -np.ones(len(rows))
        data = {
            "rows": ops.convert_to_tensor(rows),
            "signs": ops.convert_to_tensor(np.sign(multipliers[targets])),
            "pinned": ops.convert_to_tensor(pinned.astype("int32")),
            "fixed_inputs": inputs.repeat(task.fixed_inputs, len(rows)),
        }
        images = ops.convert_to_tensor(self._images[indices].astype("float32", copy=False))
        gradients, maps = map(backend.load().to_numpy, self._call(task, images, data))
        is_signal = task.plan.image_input.is_signal
        return [
            _place(*pair, int(at), is_signal)
            for *pair, at in zip(gradients, maps, pinned, strict=True)
        ]

    def _call(self, task, images, data):
        """Return the gradients of the highest positions, and the maps."""
        step, is_new = _get_compiled(task, tuple(images.shape[1:]))
        seconds = []
        # The first call compiles, and the second tells how long the rest of it took.
        for _ in range(1 + is_new):
            began = time.perf_counter()
            gradients, _, _, maps = step(images, [], data)
            seconds.append(time.perf_counter() - began)
        self.compile_seconds += max(0.0, seconds[0] - seconds[-1])
        return gradients, maps


def has_places(task: Task) -> bool:
    """Whether the targets of a task read one map of one layer."""
    readouts = task.targets.readouts
    return (
        len(readouts) == 1 and task.targets.reads_maps and hasattr(readouts[0][0], "at_positions")
    )


def _get_compiled(task, shape):
    """Return the compiled step of a task for images of a shape, and whether it is new."""
    current = fingerprint(task.targets.model)
    known, steps = _compiled_steps.get(task.targets.model, (None, {}))
    if known != current:
        steps = {}
        _compiled_steps[task.targets.model] = current, steps
    key = task.targets.readouts, task.plan.image_input, shape, task.plan.batch
    is_new = key not in steps
    if is_new:
        steps[key] = _compile(task)
    return steps[key], is_new


def _compile(task):
    """Return a compiled step that returns gradients in place of new images."""
    [(readout, (tap,), _)] = task.targets.readouts
    # The step is kept for as long as the observer, and must not keep the model alive.
    model, image_input = weakref.ref(task.targets.model), task.plan.image_input

    def score(images, data):
        arguments = image_input.call_arguments(model(), images, data["fixed_inputs"])
        [output] = record(model(), arguments, [tap])
        maps = readout.at_positions(ops.cast(output, "float32"), data["rows"])
        count = maps.shape[0]
        flat = ops.reshape(maps, (count, -1)) * ops.expand_dims(data["signs"], 1)
        pinned = data["pinned"]
        highest = ops.where(pinned < 0, ops.cast(ops.argmax(flat, axis=1), "int32"), pinned)
        everywhere = ops.arange(flat.shape[1], dtype="int32")
        is_there = ops.equal(ops.expand_dims(highest, 1), everywhere)
        return ops.sum(ops.where(is_there, flat, 0.0), axis=1), ops.reshape(flat, maps.shape)

    def update(images, gradients, state, data, target):
        return gradients, state, target

    return backend.load().compile_step(score, update, model)


def _place(gradient, activation, pinned, is_signal):
    """Return the place of one image, or `None` if the gradient tells none.

    Args:
        gradient: Array `(height, width, channels)`.
        activation: Array of the activation at each position.
        pinned: The position that the target reads, or -1 for the highest one.
        is_signal: Whether the image is a signal, of one row.
    """
    strength = np.abs(gradient).astype("float64").sum(-1)
    total = strength.sum()
    if not np.isfinite(total) or total == 0 or not np.isfinite(activation).all():
        return None
    strength /= total
    sums = strength.sum(1), strength.sum(0)
    box = tuple(map(_stretch, sums))
    at = np.unravel_index(np.argmax(activation) if pinned < 0 else pinned, activation.shape)
    if activation.ndim != (1 if is_signal else 2):
        inside = strength[slice(*box[0]), slice(*box[1])]
        is_told = inside.sum() - inside.size / strength.size >= _LEAST_EXCESS_ALONE
        return Place(box, None, (0.0, 0.0)) if is_told else None
    if is_signal:
        activation, at = activation[None], (0, *at)
    offsets = [
        # The middle of the box is a whole pixel, so that some pixel has the highest activation.
        position - (start + end - 1) // 2 * positions / len(sum_)
        for position, positions, sum_, (start, end) in zip(
            at, activation.shape, sums, box, strict=True
        )
    ]
    highest = max(float(activation[tuple(at)]), 1e-30)
    shares = np.clip(activation / highest, 0, 1)
    return Place(box, np.round(255 * shares).astype("uint8"), tuple(offsets))


def _stretch(mass):
    """Return the stretch that holds the most more of the mass than of the length.

    The mean density of the whole is the threshold, so an even background leaves nothing.
    This is the maximum subarray problem (Bentley, "Programming pearls", 1984).
    """
    sums = np.concatenate([[0.0], np.cumsum(mass - 1 / len(mass))])
    excess = sums[1:] - np.minimum.accumulate(sums)[:-1]
    end = int(np.argmax(excess)) + 1
    if excess[end - 1] < _LEAST_EXCESS:
        return 0, len(mass)
    return int(np.argmin(sums[:end])), end
