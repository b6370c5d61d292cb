"""Complete settings by what the model around a watched one does to its images.

A part of a wrapper, or a model inside another one, gets images as that one makes them. So the
range of its pictures, and real images as it takes them, follow from both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import keras
import numpy as np

from featviz_callback.objectives import (
    Scaling,
    calls_part,
    has_own_step,
    image_place,
    inputs,
    range_as_text,
    received_by_part,
    require_images,
    scaling_layers,
    scaling_on_the_way,
    scaling_outside,
    takes_whole_numbers,
    warn_once,
)
from featviz_callback.optimization.completion import (
    bytes_as_floats,
    complete,
    resolve_input,
    scaled_as_before,
)
from featviz_callback.optimization.probe_data import DARK_BYTES, ProbeImages, images_of
from featviz_callback.optimization.settings import Settings
from featviz_callback.optimization.values_range import (
    fills,
    range_before,
    scaled_range,
    tells_range,
)

# The brightest value of an input of whole numbers is that of a byte, but for these.
_BRIGHTEST = {"uint16": 65535.0}

# Images of no larger value were scaled already.
_SCALED = 1.5


def complete_inside(
    settings: Settings,
    models: Mapping[int, keras.Model],
    real_images: ProbeImages | None,
    outer: keras.Model | None,
    leaves_out: bool = True,
) -> tuple[Settings, dict[int, dict[int, np.ndarray]], np.ndarray | None]:
    """Return settings with the shape and the range of the images, and the real images.

    Args:
        settings: The settings, in which both may be `None`.
        models: The watched models by their identities. The first one tells the range.
        real_images: The images of `probe_data`, or `None` without any.
        outer: The model around them, which may be one of them, or `None` if none is known.
        leaves_out: Whether real images that the `train_step` of `outer` makes others of are
            left out, with a warning. Else they are refused.

    Returns:
        `(settings, examples, images)`: examples of the inputs of each model, by its identity,
        as `ProbeImages.of_inputs` returns them, and those of the first model as
        `(images, height, width, channels)`; `None` without any.

    Raises:
        NothingToShow: If the model takes images of any size, and none is known.
        ValueError: If the examples are no images of the model.
    """
    model = next(iter(models.values()))
    found, are_received = _read(real_images, models, settings, outer, leaves_out)
    if outer is not None and id(model) not in found and not settings.image_shape:
        require_images(outer, model, settings.fixed_inputs)
    before = None
    is_inside = outer is not None and id(outer) not in models and calls_part(outer, model)
    if is_inside and settings.values_range is None:
        settings, before = _measured_before(outer, models, settings, real_images, are_received)
    if before is None and not are_received:
        before = _scaling_before(outer, models, settings)
        if before is not None:
            found = _scaled(outer, models, settings, found, before)
    found = {key: bytes_as_floats(settings, models[key], one) for key, one in found.items()}
    settings, images = complete(settings, model, found.get(id(model)), before)
    return settings, found, images


def is_range_doubtful(
    settings: Settings,
    models: Mapping[int, keras.Model],
    found: Mapping[int, Mapping[int, np.ndarray]],
    images: np.ndarray | None,
    outer: keras.Model | None,
) -> bool:
    """Whether a `train_step` may scale images that nothing else scales, and log that.

    Nobody can look inside it. Then real images are not what the model gets, and tell a wrong
    range.

    Args:
        settings: The settings that were given to `complete_inside`.
        models: The watched models by their identities.
        found: What `complete_inside` returned of the real images.
        images: Those of the first model, or `None`.
        outer: The model that is trained, or `None` if none is known.
    """
    if settings.values_range is not None or images is None:
        return False
    if outer is None or not has_own_step(outer):
        return False
    highest, model = np.abs(images.astype("float32")).max(), next(iter(models.values()))
    if highest <= _SCALED or _scaling_before(outer, models, settings) is not None:
        return False
    if tells_range(model, *resolve_input(settings, model, found[id(model)]), images):
        return False
    warn_once(
        outer,
        "The `train_step` of the model '%s' may scale images before the model '%s' gets them, as "
        "`images / 127.5 - 1` does, and nobody can look inside. `probe_data`, from %g to %g, are "
        "taken as they are. If it does, give `probe_data` as the model gets them, and their "
        "`values_range`, which also says that this range is right.",
        *(outer.name, model.name, images.min(), images.max()),
    )
    return True


def are_as_outer_takes(real_images: ProbeImages, model: keras.Model, outer: keras.Model) -> bool:
    """Whether real images may be those that a model around another one scales for it.

    They are not if they fill no range that such a scaling is usual for. So a model inside
    another one can also be given images as it takes them itself.
    """
    given, scaling = _of_inputs(real_images, outer), scaling_on_the_way(outer, model)
    usual = None if scaling is None else range_before(scaling)
    if given is None or usual is None or isinstance(usual[0], tuple):
        return given is not None
    return fills(given[image_place(outer)].reshape(-1, 1, 1, 1), usual)


def _read(real_images, models, settings, outer, leaves_out):
    """Return examples of the inputs of each model, by its identity; none without real images.

    Returns:
        `(examples, are_received)`: whether some are what a call of the outer model gives
        to its parts.
    """
    if real_images is None:
        return {}, False
    # Beside the outer model itself, parts are shown the same images as it.
    is_inside = outer is not None and id(outer) not in models
    received = {
        key: _received(real_images, model, settings, outer) if is_inside else None
        for key, model in models.items()
    }
    are_received = any(one is not None for one in received.values())
    if are_received:
        _warn_if_different(outer, models, list(received.values()))
    if not leaves_out or outer is None or not has_own_step(outer) or are_received:
        found = {
            key: real_images.of_inputs(model) if received[key] is None else received[key]
            for key, model in models.items()
        }
        return found, are_received
    try:
        found = {key: real_images.of_inputs(model) for key, model in models.items()}
        for key, model in models.items():
            images_of(found[key], model, resolve_input(settings, model, found[key])[0])
    except ValueError as error:
        warn_once(
            outer,
            "`probe_data` are left out, since the `train_step` of the model '%s' makes other "
            "images of them. Give images as the watched model takes them. %s",
            *(outer.name, error),
        )
        return {}, False
    return found, False


def _received(real_images, model, settings, outer):
    """Return what a part gets of real images in the outer model's call, `None` if unknown."""
    if outer is None or not calls_part(outer, model):
        return None
    given = _of_inputs(real_images, outer)
    if given is None:
        warn_once(
            outer,
            "`probe_data` are no inputs of the model '%s', so they are taken for images as the "
            "model '%s' inside it takes them.",
            *(outer.name, model.name),
        )
        return None
    received = received_by_part(outer, model, given)
    if received is None:
        warn_once(
            outer,
            "What the model '%s' makes of `probe_data` before the model '%s' inside it gets them "
            "cannot be told: give `probe_data` and `values_range` as that one takes images.",
            *(outer.name, model.name),
        )
        return None
    place = resolve_input(settings, model, received)[0].position or 0
    before, after = (_ends(one) for one in (given[image_place(outer)], received[place]))
    if settings.values_range is not None:
        # Those that a user scaled already are nearer to the range that the user gave.
        wanted = np.asarray(settings.values_range).reshape(2, -1)
        if np.abs(before - wanted).sum() < np.abs(after - wanted).sum():
            return None
    if not np.array_equal(before, after):
        warn_once(
            outer,
            "Of `probe_data` from %g to %g the model '%s' inside the model '%s' receives images "
            "from %.3g to %.3g, which are ranked.",
            *(*before.ravel(), model.name, outer.name, *after.ravel()),
        )
    return received


def _warn_if_different(outer, models, found):
    """Warn if models inside the outer one do not receive the same, since one range is used."""
    if any(not _is_same(one, found[0]) for one in found):
        warn_once(
            outer,
            "The models %s inside the model '%s' receive images that differ. Each is ranked on its "
            "own, and pictures of all are made in the range of the first one's: give the others "
            "to a callback of their own.",
            *([model.name for model in models.values()], outer.name),
        )


def _is_same(one, other):
    if one is None or other is None:
        return one is other
    if isinstance(one, Scaling):
        return np.allclose((one.slopes, one.offsets), (other.slopes, other.offsets), rtol=1e-3)
    return one.keys() == other.keys() and all(np.array_equal(one[i], other[i]) for i in one)


def _ends(images):
    return np.asarray([[np.min(images)], [np.max(images)]], "float64")


def _of_inputs(real_images, outer):
    """Return examples of a model's inputs, `None` if real images are none of its largest one."""
    try:
        found = real_images.of_inputs(outer)
    except ValueError:
        return None
    place = image_place(outer)
    own = found.get(place)
    fits = own is not None and inputs.fits(own.shape[1:], inputs.shapes(outer)[place])
    return found if fits and len(own) and own.dtype.kind in "fiu" else None


def _measured_before(outer, models, settings, real_images, are_received):
    """Return settings, and how a call of the outer model scales images for a part of it.

    An input of bytes tells the range, unless real images are much darker.
    """
    if real_images is not None and not are_received:
        return settings, None
    whole = takes_whole_numbers(outer)
    if are_received and whole is None:
        return settings, None
    inside = [model for model in models.values() if calls_part(outer, model)]
    model, scalings = inside[0], [scaling_on_the_way(outer, one) for one in inside]
    scaling = scalings[0]
    if not are_received:
        _warn_if_different(outer, models, scalings)
    if scaling is None and real_images is None:
        warn_once(
            outer,
            "How the model '%s' changes images before the model '%s' inside it gets them cannot be "
            "told: give `probe_data`, or `values_range` as that one takes images.",
            *(outer.name, model.name),
        )
    if whole is None or scaling is None:
        return settings, scaling
    if are_received and _of_inputs(real_images, outer)[image_place(outer)].max() <= DARK_BYTES:
        return settings, None
    usual = 0.0, _BRIGHTEST.get(whole, 255.0)
    values_range = scaled_range(usual, scaling)
    warn_once(
        outer,
        "Images for the model '%s' are made in values_range=%s: the model '%s' makes %s of %s "
        "values x in %s. `values_range` sets another one.",
        *(model.name, range_as_text(values_range), outer.name, scaling, whole),
        range_as_text(usual),
    )
    return replace(settings, values_range=values_range), None


def _scaling_before(outer, models, settings):
    """Return how the outer model scales images before the watched ones get them."""
    if outer is None or id(outer) in models or settings.values_range is not None:
        return None
    parts = list(models.values())
    outside = scaling_layers(outer, parts)
    if not outside:
        return None
    channels = resolve_input(settings, parts[0], None)[0].shape[2]
    found = scaling_outside(outer, parts, channels) if channels else None
    if found is None:
        warn_once(
            outer,
            "The layer %r of the model '%s' may change images before the watched parts get them: "
            "give `values_range` and `probe_data` as the parts take them.",
            *(outside[0], outer.name),
        )
    return found


def _scaled(outer, models, settings, found, before):
    """Return examples as the watched parts get them, and log if that changes them."""
    scaled = {
        key: scaled_as_before(settings, models[key], own, before) for key, own in found.items()
    }
    if any(one is not None for one in scaled.values()):
        warn_once(
            outer,
            "`probe_data` are scaled as the layer %r of the model '%s' scales images x before "
            "the watched parts get them: %s. `values_range` says that `probe_data` are as the "
            "parts take them.",
            *(before.path, outer.name, before),
        )
    return {key: found[key] if one is None else one for key, one in scaled.items()}
