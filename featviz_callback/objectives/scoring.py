"""Score many images for many targets, each image in one call of the model.

Images are scored as they are. Scoring never changes the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import inputs
from featviz_callback.objectives.inputs import ImageInput
from featviz_callback.objectives.notices import warn_once
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.readouts import require_one_each
from featviz_callback.objectives.recording import record
from featviz_callback.objectives.terms import Targets
from featviz_callback.objectives.watching import Watch, show, watching

# So many images are scored twice, to compare dtypes.
_COMPARED = 8

# So many values of layers' outputs are read in one call of a readout.
_VALUES_AT_ONCE = 2**20

# Of a compiled pass, all outputs that are shown exist at once. They have fewer bytes than that,
# since few layers have as many positions as the image. Calls of few images are no quicker.
_MOST_BYTES_OF_PASS, _FEWEST_OF_PASS = 2**29, 64

# Returns the compiled pass of a model, taps, an input and a shape of images: a function of images
# and other inputs, which returns one tensor a tap, or `None`.
FindPass = Callable[[keras.Model, list, ImageInput, tuple], Callable[[Any, tuple], list | None]]


def score_all(
    targets: Sequence[Targets],
    images: np.ndarray,
    image_input: ImageInput | None = None,
    fixed_inputs: tuple[np.ndarray, ...] = (),
    watch: Watch | None = None,
    find_pass: FindPass | None = None,
) -> list[np.ndarray]:
    """Score every image for every target, without random transformation.

    Each image goes through the model once, however many targets there are.

    Args:
        targets: What to score, all of one model.
        images: Float32 array `(images, height, width, channels)` in the units and
            the size of the model's input.
        image_input: The model's input that takes the images, as `inputs.resolve`
            returns it. Default: its only input.
        fixed_inputs: One example of each other input.
        watch: To whom the outputs of which layers are shown on the way, if to anybody.
        find_pass: Returns a compiled pass of a model through all that is read. It is for
            what is shown of few images, or of small ones.

    Returns:
        One float32 array `(targets, images)` for each element of `targets`.

    Example:
    >>> import keras
    >>> from featviz_callback.objectives import Objective
    >>> model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(name="flat")])
    >>> images = np.arange(3.0).reshape(3, 1, 1, 1) * np.ones((3, 2, 2, 1))
    >>> score_all([Objective.neuron(model, "flat", 0)], images)
    [array([[0., 1., 2.]], dtype=float32)]
    """
    model = targets[0].model
    if image_input is None:
        image_input, fixed_inputs = inputs.resolve(model)
    most = inputs.at_once(images.shape[1] * images.shape[2])
    if find_pass is not None and watch is not None:
        allowed = _MOST_BYTES_OF_PASS // _bytes_of_outputs(watch, images)
        if min(image_input.batch or _FEWEST_OF_PASS, len(images)) > allowed:
            find_pass = None
        else:
            most = min(most, allowed)
    batch = image_input.batch or min(most, len(images))
    chunks = (np.arange(first, first + batch) for first in range(0, len(images), batch))
    with preserved(model):
        # Once, since the activations of given images are computed for it.
        data = [one.data() for one in targets]
        # The last chunk is as long as the others, since a model may take no other number.
        scores = [
            _score_chunk(
                targets,
                data,
                images[chunk % len(images)],
                image_input,
                fixed_inputs,
                watch,
                find_pass,
                fresh=min(batch, len(images) - int(chunk[0])),
            )
            for chunk in chunks
        ]
    joined = (np.concatenate(parts, axis=1) for parts in zip(*scores, strict=True))
    return [one[:, : len(images)] for one in joined]


def as_taken(
    targets: Sequence[Targets],
    images: np.ndarray,
    image_input: ImageInput,
    fixed_inputs: tuple[np.ndarray, ...] = (),
) -> np.ndarray:
    """Return images in their own dtype if the model tells it from float32, else in float32.

    A model with a `call` of its own may scale whole numbers, and leave floats as they are. A
    warning says so, since pictures are made of floats.

    Args:
        targets: All that is scored of one model.
        images: Array `(images, height, width, channels)`.
        image_input: The model's input that takes the images.
        fixed_inputs: One example of each other input.
    """
    floats = images.astype("float32", copy=False)
    if images.dtype.kind == "f" or inputs.is_declared(targets[0].model):
        return floats
    try:
        own, same = (
            score_all(targets, one[:_COMPARED], image_input, fixed_inputs)
            for one in (images, floats)
        )
    except Exception:
        # Convolutions take no whole numbers. One target that cannot be read says nothing.
        each = [[one] for one in targets] if len(targets) > 1 else []
        found = (as_taken(one, images, image_input, fixed_inputs) for one in each)
        return next((one for one in found if one.dtype == images.dtype), floats)
    pairs = zip(own, same, strict=True)
    if all(np.allclose(*pair, rtol=1e-2, atol=1e-6) for pair in pairs):
        return floats
    warn_once(
        targets[0].model,
        "The model '%s' gives images of %s other scores than the same values as floats. Real "
        "images are scored as %s. Pictures are made of floats, so `values_range` has to be that "
        "of floats.",
        *(targets[0].model.name, images.dtype, images.dtype),
    )
    return images


def _bytes_of_outputs(watch, images):
    """Return how many bytes what is shown of one image has at most."""
    return 4 * math.prod(images.shape[1:3]) * sum(watch.taps.values())


def _recorded(model, images, image_input, fixed_inputs, taps, watch, find_pass, fresh):
    """Return the outputs at the taps, and show those of a watch."""
    images = ops.convert_to_tensor(images)
    if watch is not None and find_pass is not None:
        everything = list(dict.fromkeys([*taps, *watch.taps]))
        outputs = find_pass(model, everything, image_input, tuple(images.shape))(
            images, fixed_inputs
        )
        if outputs is not None:
            found = dict(zip(everything, outputs, strict=True))
            for tap in watch.taps:
                show(watch, tap, found[tap], fresh, len(images))
            return [found[tap] for tap in taps]
    arguments = image_input.call_arguments(model, images, fixed_inputs)
    with watching(model, watch, fresh, len(images)):
        return record(model, arguments, taps, to_the_end=watch is not None)


def _score_chunk(targets, data, images, image_input, fixed_inputs, watch, find_pass, fresh):
    """Return scores `(targets, images)` of each element, from one call of the model."""
    model = targets[0].model
    taps = list({tap: None for one in targets for term in one.terms for tap in term.taps})
    fixed_inputs = inputs.repeat(fixed_inputs, len(images))
    with backend.load().without_gradients(), keras.StatelessScope():
        given = images, image_input, fixed_inputs, taps, watch, find_pass, fresh
        recorded = _recorded(model, *given)
        require_one_each(taps, recorded, len(images))
        outputs = {
            tap: ops.cast(output, "float32") for tap, output in zip(taps, recorded, strict=True)
        }
        # All units of a layer at once, since a thousand of them may be read.
        to_numpy = backend.load().to_numpy
        values = cache(lambda readout, tap: to_numpy(readout.units(outputs[tap])).T)
        return [
            sum(
                multipliers[:, None] * _readings(readout, taps, rows, outputs, values)
                for (readout, taps, _), (rows, multipliers) in zip(one.readouts, own, strict=True)
            )
            for one, own in zip(targets, data, strict=True)
        ]


def _readings(readout, taps, rows, outputs, values):
    """Return `(rows, images)`; each distinct row is read once."""
    if hasattr(readout, "units"):
        return values(readout, taps[0])[rows]
    to_numpy = backend.load().to_numpy
    distinct, places = np.unique(rows, axis=0, return_inverse=True)
    read = [outputs[tap] for tap in taps]
    count, values = read[0].shape[0], sum(math.prod(one.shape) for one in read)
    at_once = max(1, _VALUES_AT_ONCE // values)
    scores = []
    for first in range(0, len(distinct), at_once):
        some = distinct[first : first + at_once]
        repeated = [ops.concatenate([one] * len(some)) for one in read]
        ids = ops.convert_to_tensor(np.repeat(some, count, axis=0))
        scores.append(to_numpy(readout(repeated, ids)).reshape(len(some), count))
    return np.concatenate(scores)[places.reshape(-1)]
