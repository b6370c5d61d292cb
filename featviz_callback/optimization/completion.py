"""Complete settings by what real images, and the model, tell of the images to be made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import keras
import numpy as np

from featviz_callback.objectives import (
    ImageInput,
    NothingToShow,
    Scaling,
    floats_of_bytes,
    inputs,
    warn_once,
)
from featviz_callback.optimization.probe_data import images_of, scaling_of_preprocessor
from featviz_callback.optimization.settings import Settings
from featviz_callback.optimization.values_range import choose_values_range, is_scaled_before


def resolve_input(
    settings: Settings, model: keras.Model, found: Mapping[int, np.ndarray] | None
) -> tuple[ImageInput, tuple[np.ndarray, ...]]:
    """Return the input that takes the images, and the fixed values of the others."""
    rank = len(settings.image_shape or ())
    return inputs.resolve(model, settings.fixed_inputs, rank, found, announce=False)


def complete(
    settings: Settings,
    model: keras.Model,
    found: Mapping[int, np.ndarray] | None,
    before: Scaling | None = None,
) -> tuple[Settings, np.ndarray | None]:
    """Return the settings with the shape and the range of the images, and the real images.

    Args:
        settings: The settings, in which both may be `None`.
        model: The model.
        found: Examples of its inputs, as `ProbeImages.of_inputs` returns them, or `None`.
        before: How a wrapper scales images before the model, a part of it, gets them.

    Raises:
        NothingToShow: If the model takes images of any size, and none is known.
        ValueError: If the examples are no images of the model.
    """
    given = settings.image_shape or ()
    taken, fixed = resolve_input(settings, model, found)
    images = None if found is None else images_of(found, model, taken)
    if found is None and before is None:
        size, before = scaling_of_preprocessor(model, taken)
        if size is not None and not given and None in taken.shape:
            given = size[taken.is_signal :]
            settings = replace(settings, image_shape=given)
            warn_once(
                model,
                "Images for the model '%s' have the shape %s that its `preprocessor` makes. "
                "`image_shape` sets another one.",
                *(model.name, given),
            )
    if not given and None in taken.shape and images is not None:
        given = images.shape[1 + taken.is_signal :]
        settings = replace(settings, image_shape=given)
    if settings.values_range is None:
        sizes = taken.complete(given) if given else taken.shape
        if None in sizes:
            raise NothingToShow(unknown_size(model, taken))
        shape = tuple(known or size for known, size in zip(taken.shape, sizes, strict=False))
        chosen = choose_values_range(model, taken, fixed, shape, images, before)
        settings = replace(settings, values_range=chosen)
    return settings, images


def bytes_as_floats(
    settings: Settings, model: keras.Model, found: Mapping[int, np.ndarray]
) -> Mapping[int, np.ndarray]:
    """Return examples with floats in place of bytes, where a model tells both apart.

    Pictures are made of floats, and can be compared with real images of that kind alone.

    Args:
        settings: The settings.
        model: The model.
        found: Examples of its inputs, as `ProbeImages.of_inputs` returns them.
    """
    taken, fixed = resolve_input(settings, model, found)
    place = taken.position or 0
    if inputs.is_declared(model) or found[place].dtype != "uint8":
        return found
    shape = images_of(found, model, taken).shape[1:]
    scaling = floats_of_bytes(model, taken, fixed, shape)
    if scaling is None:
        return found
    warn_once(
        model,
        "The model '%s' gives images of uint8 other scores than the same values as floats: bytes "
        "x are to it what floats %s are. Pictures are made of floats, so `probe_data` are given "
        "to it as such floats.",
        *(model.name, scaling),
    )
    floats = found[place].astype("float32") * scaling.slopes[0] + scaling.offsets[0]
    return {**found, place: floats.astype("float32")}


def scaled_as_before(
    settings: Settings, model: keras.Model, found: Mapping[int, np.ndarray], before: Scaling
) -> dict[int, np.ndarray] | None:
    """Return examples as a part of a wrapper gets them, `None` if they are that already.

    Args:
        settings: The settings.
        model: The part.
        found: Examples of its inputs, as `ProbeImages.of_inputs` returns them.
        before: How the wrapper scales images before the part gets them.
    """
    taken, fixed = resolve_input(settings, model, found)
    images = images_of(found, model, taken)
    if not is_scaled_before(model, taken, fixed, images, before):
        return None
    position = taken.position or 0
    # Channels are the last axis of images, but not of what every model takes.
    shape = [-1 if axis == "c" else 1 for axis in taken.axes] if "c" in taken.axes else [1]
    slopes, offsets = (
        np.asarray(one, "float32").reshape(shape if len(one) > 1 else [1])
        for one in (before.slopes, before.offsets)
    )
    return {**found, position: found[position].astype("float32") * slopes + offsets}


def unknown_size(model: keras.Model, image_input: ImageInput) -> str:
    """Return the message for a model of images of any size, if none is given."""
    shape = tuple(image_input.shape["hwc".index(axis)] for axis in image_input.axes)
    space, example = ("time", "(128,)") if image_input.is_signal else ("height, width", "(64, 64)")
    taken = "signals of any length" if image_input.is_signal else "images of any size"
    return (
        f"The model '{model.name}' takes {taken}, {shape}. Expected `image_shape` as "
        f"({space}) or ({space}, channels), such as image_shape={example}, or `probe_data` of one "
        "size. Received: neither."
    )
