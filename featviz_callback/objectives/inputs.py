"""Find the input that takes the images, and turn images into a model's arguments.

Everywhere in this package an image is `(height, width, channels)`. A model may expect
channels first, a signal `(time, channels)`, which is an image of height one, or a grey
image without an axis of channels. If a model has further inputs, those keep fixed values.

This module converts and checks. It never calls the model.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from keras import ops

from featviz_callback.objectives.layers import has_channels_first
from featviz_callback.objectives.notices import NothingToShow, warn_once
from featviz_callback.objectives.paths import walk
from featviz_callback.objectives.shapes import layer_calls

_AXES = "hwc"

# A signal of more channels may be a grey image.
_MOST_CHANNELS = 16

# Images of more channels have no colours.
_MOST_COLOURS = 4

# A vector of as many values as a square image from this side on may be one.
_SMALLEST_SIDE = 8

# One call of a model takes so many pixels of images of up to this size, and fewer of larger ones.
_PIXELS_AT_ONCE, _USUAL_PIXELS = 4 * 512 * 512, 224 * 224

# Arguments of a call that Keras gives, or this package.
_GIVEN = ("training", "mask")


@dataclass(frozen=True)
class ImageInput:
    """The input of a model that takes the images.

    Attributes:
        axes: The model's own axes without that of the batch: `"hwc"` or `"chw"`
            for images, `"wc"` or `"cw"` for signals, `"hw"` for grey images.
        shape: `(height, width, channels)`, `None` where it may vary.
        position: Its place among the model's inputs; `None` if it is the only one.
        batch: Images in one call of the model, `None` for any number.
    """

    axes: str
    shape: tuple
    position: int | None
    batch: int | None = None

    @property
    def is_signal(self) -> bool:
        """Whether the images are signals `(time, channels)`."""
        return "h" not in self.axes

    def complete(self, given: tuple) -> tuple:
        """Return a shape as a user gives it, with or without channels, in full."""
        given = (1, *given) if self.is_signal else given
        return (*given, self.shape[2]) if len(given) == 2 else given

    def to_images(self, given: np.ndarray) -> np.ndarray:
        """Return signals or images as a user gives them as `(images, height, width, channels)`."""
        return given[:, None] if self.is_signal else given

    def to_given(self, images: np.ndarray) -> np.ndarray:
        """Return the inverse of `to_images`, whatever axes stand before those of an image."""
        return images[..., 0, :, :] if self.is_signal else images

    def to_model(self, images):
        """Return a tensor `(images, height, width, channels)` in the model's own axes."""
        if self.axes == _AXES:
            return images
        kept = [axis for axis in _AXES if axis in self.axes]
        for axis in set(_AXES) - set(kept):
            images = ops.squeeze(images, 1 + _AXES.index(axis))
        return ops.transpose(images, (0, *(1 + kept.index(axis) for axis in self.axes)))

    def call_arguments(self, model: keras.Model, images, fixed: Sequence):
        """Return the argument of the model's call.

        Args:
            model: The model.
            images: Tensor `(images, height, width, channels)`.
            fixed: A tensor for each of the other inputs, in order.
        """
        return self._beside(model, self.to_model(images), fixed)

    def specs(self, model: keras.Model, shape: tuple):
        """Return what the function `specs` does, for images `(height, width, channels)`."""
        own = (shape[_AXES.index(axis)] for axis in self.axes)
        others = keras.tree.flatten(specs(model))
        del others[self.position or 0]
        return self._beside(model, keras.KerasTensor((self.batch, *own), "float32"), others)

    def _beside(self, model, own, others):
        if self.position is None:
            return own
        flat = list(others)
        flat.insert(self.position, own)
        return keras.tree.pack_sequence_as(specs(model), flat)


def at_once(pixels: int, most: int | None = None) -> int:
    """Return how many images go through a model in one call: 20 of 224 pixels, 1 of 512.

    Trainings on large images have few in a batch, and should not need much less memory.

    Args:
        pixels: Pixels of an image.
        most: The most pixels of all images together, where they are small.
    """
    most = _PIXELS_AT_ONCE if most is None else most
    return max(1, int(most * min(1, _USUAL_PIXELS / pixels) / pixels))


def specs(model: keras.Model):
    """Return the argument of a model's call: a `keras.KerasTensor`, or a list or dict of them.

    Raises:
        ValueError: If the model is not built, or its call takes several arguments.
    """
    if not model.built:
        raise ValueError(
            f"The model '{model.name}' is not built, so the shape of its input is not "
            "known. Expected a built model: call it once on an image first, or give the callback a "
            "function of the model."
        )
    declared = _declared(model)
    if declared is not None:
        return _single(declared)
    arguments = needed(model)
    if len(arguments) > 1:
        raise NothingToShow(
            f"Expected the call of the model '{model.name}' to take one argument: a tensor, or a "
            f"list or dict of them. Received: call({', '.join(arguments)}). To see it, give "
            "`objectives` of a model around it, keras.Model(given, model(*given)), where `given` "
            "is a list of a keras.Input for each argument; `fixed_inputs` sets the others."
        )
    shapes = list((model._build_shapes_dict or {}).values())
    if not shapes:
        raise _without_shape(model)
    if len(shapes) != 1:
        raise NothingToShow(
            f"Expected the call of the model '{model.name}' to take one argument: a tensor, or a "
            f"list or dict of them. Received: {len(shapes)} arguments of known shape."
        )
    return _single(_tensors(shapes[0]))


def names(model: keras.Model) -> list[str]:
    """Return the names of a model's inputs, in order: a dict's keys, or places if unnamed."""
    return _names(specs(model), is_declared(model))


def shapes(model: keras.Model) -> list[tuple]:
    """Return the shape of each input of a model, in order, without the axis of the batch."""
    return [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(specs(model))]


def image_position(model: keras.Model, fixed_inputs: Mapping | None = None) -> int:
    """Return the place of the input that takes the images.

    Args:
        model: A built Keras model.
        fixed_inputs: See `optimize`.

    Raises:
        ValueError: If no input takes images, or fixed inputs are invalid.
    """
    structure = specs(model)
    names = _names(structure, is_declared(model))
    flat = keras.tree.flatten(structure)
    return _optimised(model, flat, names, _by_position(model, fixed_inputs, names, flat))


def is_declared(model: keras.Model) -> bool:
    """Whether the model itself says its inputs, and casts them to their dtypes."""
    return _declared(model) is not None


def fits(sizes: tuple, expected: tuple) -> bool:
    """Whether an array of these sizes can be an input of a shape with `None` for any size."""
    return len(sizes) == len(expected) and all(
        n in (size, None) for n, size in zip(expected, sizes, strict=True)
    )


def _declared(model):
    """The inputs of a functional or sequential model, else `None`."""
    structure = getattr(model, "_inputs_struct", None)
    return getattr(model, "inputs", None) if structure is None else structure


def needed(model: keras.Model) -> list[str]:
    """Return the names of the arguments without which nobody can call a model.

    Args:
        model: Any model. One that declares its inputs takes one argument.
    """
    if is_declared(model):
        return ["inputs"]
    arguments = inspect.signature(model.call).parameters.values()
    usual = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        one.name
        for one in arguments
        if one.default is one.empty and one.kind not in usual and one.name not in _GIVEN
    ]


def _tensors(shapes):
    if isinstance(shapes, dict):
        return {name: _tensors(shape) for name, shape in shapes.items()}
    if not all(size is None or isinstance(size, int) for size in shapes):
        return [_tensors(shape) for shape in shapes]
    return keras.KerasTensor((None, *shapes[1:]), "float32")


def _without_shape(model):
    """Why Keras knows no shape of a built model: it cannot follow the call, or it never tried."""
    received = (list((one._build_shapes_dict or {}).values()) for _, one in walk(model))
    images = (own[0] for own in received if len(own) == 1 and len(own[0]) > 2)
    try:
        # What the first layer received is most often what the model did.
        layer_calls(model, _tensors(next(images)))
    except StopIteration:
        pass
    except NothingToShow as error:
        # Another shape than the model's would be a `ValueError`.
        if not isinstance(error.__cause__, ValueError):
            return error
    return NothingToShow(
        f"Keras knows no shape of the input of the model '{model.name}', which happens if `built` "
        "is set by hand, or if the call needs values of tensors, as `.numpy()` and a Python `if` "
        "do. Expected a call of `keras.ops` alone, and a model built by a call on images."
    )


def _single(structure):
    is_one = isinstance(structure, (list, tuple)) and len(structure) == 1
    return structure[0] if is_one else structure


def repeat(fixed: tuple[np.ndarray, ...], count: int) -> tuple:
    """Return the fixed values of one example, as tensors for so many images."""
    return tuple(ops.convert_to_tensor(np.repeat(one[None], count, axis=0)) for one in fixed)


# --- checking arguments ----------------------------------------------------------------


def resolve(
    model: keras.Model,
    fixed_inputs: Mapping | None = None,
    image_rank: int | None = None,
    found: Mapping[int, np.ndarray] | None = None,
    announce: bool = True,
) -> tuple[ImageInput, tuple[np.ndarray, ...]]:
    """Find the input that takes the images, and the fixed values of the others.

    Args:
        model: A built Keras model.
        fixed_inputs: See `optimize`.
        image_rank: Number of axes of an image, if the user gave a shape.
        found: Real values of inputs by their places, first the axis of the examples.
            Inputs without a fixed value take their mean, and whole numbers and strings
            the first example. Default: 0, 1 for whole numbers, and empty strings.
        announce: Whether to log, once a model, what was chosen by itself.

    Returns:
        The input, and one array for each of the others, in order.

    Raises:
        ValueError: If no input takes images, or a fixed value is invalid.
    """
    structure = specs(model)
    declared = is_declared(model)
    names, flat = _names(structure, declared), keras.tree.flatten(structure)
    given = _by_position(model, fixed_inputs, names, flat)
    position = _optimised(model, flat, names, given)
    image_input = _image_input(model, flat[position], position, image_rank)
    if not keras.tree.is_nested(structure):
        image_input = replace(image_input, position=None)
    fixed, guessed = [], {}
    for i, (name, tensor) in enumerate(zip(names, flat, strict=True)):
        if i == position:
            continue
        if i not in given:
            given[i], guessed[name] = _guess(tensor, (found or {}).get(i))
            if _is_passed_over(tensor):
                guessed[name] += f" (through {tensor.dtype} there is no gradient)"
        fixed.append(_fixed(name, tensor, given[i], declared))
    if announce:
        _announce(model, names[position], image_input, guessed, image_rank)
    return image_input, tuple(fixed)


def _optimised(model, flat, names, given):
    """Return the place of the only input without a value, or of the first that is like an image."""
    free = [position for position in range(len(flat)) if position not in given]
    floats = [i for i in free if keras.backend.is_float_dtype(flat[i].dtype)]
    ranks = {i: len(flat[i].shape) - 1 for i in floats}
    wanted = next((rank for rank in (3, 2) if rank in ranks.values()), None)
    chosen = [i for i, rank in ranks.items() if rank == wanted]
    if len(free) == 1:
        return free[0]
    if wanted is not None:
        return chosen[0]
    whole = [i for i in free if _is_passed_over(flat[i])]
    if whole:
        raise NothingToShow(_no_gradient(model, f"The input {names[whole[0]]!r}", flat[whole[0]]))
    shapes = {name: tensor.shape[1:] for name, tensor in zip(names, flat, strict=True)}
    raise NothingToShow(
        "Invalid value for argument `fixed_inputs`. Expected an input of images (height, width, "
        "channels) or signals (time, channels) without a fixed value, which is optimised. The "
        f"inputs of the model '{model.name}' are {shapes}, and these have a fixed value: "
        f"{[names[i] for i in given]}"
    )


def _is_passed_over(tensor):
    """Whether an input has the shape of images, but values without a gradient."""
    is_number = tensor.dtype != "string" and not keras.backend.is_float_dtype(tensor.dtype)
    return len(tensor.shape) == 4 and is_number


def _guess(tensor, found):
    """Return the value of an input that nobody gave a value, and what to call it."""
    is_float = keras.backend.is_float_dtype(tensor.dtype)
    if found is not None and is_float and np.issubdtype(np.asarray(found).dtype, np.number):
        return np.mean(found, axis=0, dtype="float64"), "its mean over `probe_data`"
    if found is not None:
        return found[0], "its first example in `probe_data`"
    if tensor.dtype == "string":
        return "", "an empty string"
    # Zero often means that there is nothing, of which some models take the mean.
    return (0, "zero") if is_float else (1, "one")


def _announce(model, name, image_input, guessed, image_rank):
    if guessed:
        listed = ", ".join(f"{other!r} at {value}" for other, value in guessed.items())
        warn_once(
            model,
            "The input %r of the model '%s' is optimised. Its other inputs are fixed: %s. "
            "`fixed_inputs` sets other values, and so chooses the optimised input.",
            *(name, model.name, listed),
        )
    if image_input.axes == _AXES and not image_rank and _seems_channels_first(image_input.shape):
        height, width, channels = image_input.shape
        turned = _in_front((width, channels, height), "keras.layers.Permute((3, 1, 2))")
        warn_once(
            model,
            "The input of the model '%s' is taken for images of %s x %s pixels with %s channels. "
            "If its channels come first, give %s.",
            *(model.name, height, width, channels, turned),
        )
    time, channels = image_input.shape[1:]
    if image_input.is_signal and not image_rank and channels and channels > _MOST_CHANNELS:
        warn_once(
            model,
            "The input of the model '%s' is taken for a signal of %s steps and %d channels. If it "
            "is a grey image, give image_shape=%s.",
            *(model.name, time or "any number of", channels, f"({time}, {channels}, 1)"),
        )


def _names(structure, declared):
    """A dict's keys, else the names of the tensors, else their places."""
    names = []
    for position, (path, tensor) in enumerate(keras.tree.flatten_with_path(structure)):
        if any(isinstance(key, str) for key in path):
            names.append(".".join(map(str, path)))
        else:
            names.append(tensor.name if declared else str(position))
    return names


def _by_position(model, fixed_inputs, names, flat):
    shapes = {name: tensor.shape[1:] for name, tensor in zip(names, flat, strict=True)}
    if not isinstance(fixed_inputs or {}, Mapping):
        raise ValueError(
            "Invalid value for argument `fixed_inputs`. Expected None, or a mapping from the "
            f"names of inputs to values. Received: fixed_inputs={fixed_inputs!r}"
        )
    given = {}
    for key, value in (fixed_inputs or {}).items():
        position = names.index(key) if key in names else key
        if position not in range(len(names)) or position in given:
            raise ValueError(
                "Invalid value for argument `fixed_inputs`. Expected names of inputs of the "
                f"model '{model.name}', which are {shapes}, or their places. Received: {key!r}"
            )
        given[position] = value
    return given


def _fixed(name, tensor, value, dtype_is_known):
    try:
        value = np.asarray(value)
        dtype = tensor.dtype if dtype_is_known else value.dtype.name
        if dtype == "string" or (not dtype_is_known and value.dtype.kind in "OSU"):
            value = value.astype(object)
            if not all(isinstance(one, (str, bytes)) for one in value.ravel()):
                raise ValueError("no strings")
        else:
            # Keras casts floats to what the layers want.
            value = value.astype("float32" if keras.backend.is_float_dtype(dtype) else dtype)
        sizes = tensor.shape[1:]
        if value.ndim == len(sizes):
            sizes = tuple(size or given for size, given in zip(sizes, value.shape, strict=True))
        fixed = np.broadcast_to(value, tuple(size or 1 for size in sizes))
    except (ValueError, TypeError) as error:
        raise ValueError(_not_fixed(name, tensor, value)) from error
    if fixed.dtype != object and not np.isfinite(fixed).all():
        raise ValueError(_not_fixed(name, tensor, value))
    return fixed


def _not_fixed(name, tensor, value):
    kind = "strings" if tensor.dtype == "string" else "finite numbers"
    return (
        f"Invalid value for argument `fixed_inputs`. Expected for the input {name!r} one example "
        f"of shape {tensor.shape[1:]}, or what broadcasts to it, of {kind}. "
        f"Received: {value!r}"
    )


def _image_input(model, tensor, position, image_rank):
    shape = tuple(tensor.shape[1:])
    if len(shape) not in (2, 3):
        raise NothingToShow(
            "Expected a model with one input of images (height, width, channels) or signals "
            f"(time, channels). Received: model '{model.name}' with an input of shape {shape}"
            f"{_hint(shape)}"
        )
    if not keras.backend.is_float_dtype(tensor.dtype):
        raise NothingToShow(_no_gradient(model, "The input", tensor))
    axes = "hwc" if len(shape) == 3 else "hw" if image_rank == 3 else "wc"
    if axes != "hw" and _takes_channels_first(model, shape):
        axes = "c" + axes[:-1]
    sizes = {"h": 1, "c": 1} | dict(zip(axes, shape, strict=True))
    return ImageInput(axes, tuple(sizes[axis] for axis in _AXES), position, tensor.shape[0])


def _no_gradient(model, which, tensor):
    return (
        f"{which} of the model '{model.name}' is {tensor.dtype}, through which there is no "
        "gradient. Expected an input of floats: name the model behind the cast. Or give "
        "`keras.Input` no `dtype`: it then takes the same data, which Keras casts to floats."
    )


def _hint(shape):
    """How to see a model of something else than images, through a model in front of it."""
    if None in shape:
        return ""
    if len(shape) == 4:
        return ". To see it, give slices as channels: " + _in_front(*_slices(shape))
    channels = next((n for n in (1, 3) if len(shape) == 1 and _is_square(shape[0], n)), None)
    if channels is None:
        return ""
    side = math.isqrt(shape[0] // channels)
    flat = f"keras.layers.Reshape({shape})"
    return ". If it is a flattened image, to see it give " + _in_front((side, side, channels), flat)


def _in_front(shape, layers):
    return f"`objectives` of keras.Sequential([keras.Input({shape}), {layers}, model])"


def _slices(shape):
    """The shape of an image whose channels are slices, and the layers that undo that."""
    first, second, third, channels = shape
    # Frames of a film have colours, or any sizes. The last axis of a volume may be the short one.
    if first != second and (channels == 3 or third >= min(first, second)):
        apart = f"keras.layers.Reshape({(second, third, first, channels)})"
        return (second, third, first * channels), f"{apart}, keras.layers.Permute((3, 1, 2, 4))"
    return (first, second, third * channels), f"keras.layers.Reshape({shape})"


def _is_square(size, channels):
    """Whether so many values could be a square image; small vectors are tables more often."""
    side = math.isqrt(size // channels)
    return side >= _SMALLEST_SIDE and side * side * channels == size


def _takes_channels_first(model, shape):
    """Whether the first layer with a data format receives the model's own channels first.

    Or last, where the model turns its axes before.
    """
    if not (has_channels_first(model) or _seems_channels_first(shape)):
        return False
    for call in layer_calls(model, specs(model)):
        if getattr(call.layer, "data_format", None) and len(call.received) == len(shape):
            if call.channels_first:
                return call.received[0] == shape[0]
            turned = (*shape[1:], shape[0])
            return _seems_channels_first(shape) and fits(call.received, turned)
    return False


def _seems_channels_first(shape):
    """Whether the first of three axes could be of grey or coloured images, and the last not."""
    sizes_are_larger = all(size is None or size > _MOST_COLOURS for size in shape[1:])
    return len(shape) == 3 and shape[0] in (1, 3) and sizes_are_larger
