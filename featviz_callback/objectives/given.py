"""Images that targets are compared with, and what a layer makes of them.

An objective keeps the images, not the activations, since these follow the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from featviz_callback import backend
from featviz_callback.objectives import inputs
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.recording import Tap, record


@dataclass(frozen=True, eq=False)
class GivenImages:
    """Given images, and the tap at which a model's activations on them are read.

    Attributes:
        images: Float32 array: images `(images, height, width, channels)`, or signals
            `(images, time, channels)`, in the units of the model's input.
        tap: The tap.
    """

    images: np.ndarray
    tap: Tap

    def activations(self, model: keras.Model) -> np.ndarray:
        """Return the activations on the weights that a model has now, float32 `(images, ...)`."""
        image_input, fixed = inputs.resolve(model, None, self.images.ndim - 1)
        images = image_input.to_images(self.images)
        most = inputs.at_once(math.prod(images.shape[1:3]))
        at_once = image_input.batch or min(most, len(images))
        found = []
        with preserved(model), backend.load().without_gradients(), keras.StatelessScope():
            for first in range(0, len(images), at_once):
                # The last call takes as many as the others.
                some = images[np.arange(first, first + at_once) % len(images)]
                arguments = image_input.call_arguments(
                    model, ops.convert_to_tensor(some), inputs.repeat(fixed, at_once)
                )
                [output] = record(model, arguments, [self.tap])
                found.append(backend.load().to_numpy(ops.cast(output, "float32")))
        return np.concatenate(found)[: len(images)]


def as_given(images: ArrayLike, model: keras.Model, tap: Tap) -> GivenImages:
    """Return what a user gives as images of a model, checked.

    Raises:
        ValueError: If they are not what the model takes, or not finite.
    """
    try:
        array = np.asarray(keras.tree.map_structure(ops.convert_to_numpy, images), "float32")
    except (TypeError, ValueError) as error:
        raise ValueError(_wrong("an array of images", f"no numbers ({error})")) from error
    for rank in (array.ndim, array.ndim + 1):
        image_input, others = inputs.resolve(model, None, rank - 1, announce=False)
        if others:
            raise ValueError(
                "Invalid value for argument `model`. Expected a model of one input, since given "
                f"images say nothing of others. Received: the model '{model.name}' with "
                f"{1 + len(others)} inputs. Make one of the image alone: keras.Model(...)"
            )
        shape = image_input.shape[image_input.is_signal :]
        given = array if array.ndim == len(shape) + 1 else array[None]
        is_fitting = given.ndim == len(shape) + 1 and inputs.fits(given.shape[1:], shape)
        if is_fitting and given.size and np.isfinite(given).all():
            return GivenImages(given, tap)
    raise ValueError(
        _wrong(f"finite images of shape {tuple(shape)}, one or several", f"of shape {array.shape}")
    )


def _wrong(expected, received):
    return f"Invalid value for argument `images`. Expected {expected}. Received: {received}"
