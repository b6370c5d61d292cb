"""What real examples tell of a model's images: which are images, and in which range.

`reading` reads the examples. This module finds those of the optimised input among them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from featviz_callback import backend
from featviz_callback.images import parameterizations
from featviz_callback.objectives import ImageInput, Scaling, inputs
from featviz_callback.optimization import reading
from featviz_callback.optimization.step import Plan

_USUAL_RANGES = (0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)

# So much of a range may images lie beyond it.
_BEYOND = 0.05

# Images that span no more than this share of a usual range have a range of their own.
_HALF = 0.5

# Images of these values and of this size show what a preprocessor does; none has that size.
_VALUES, _SIZE = (0, 1, 128, 255), 61

# Bytes that are darker than this may be a mask, or a label for each pixel.
DARK_BYTES = 127


class ProbeImages:
    """Real examples as the user gave them, and the statistics measured on them.

    Args:
        data: As `fit` takes it, see `reading.read`. Data sets are read at once. Whatever is
            in memory is read for each model, since only the model tells a list of inputs
            from a list of batches.

    Attributes:
        labels: The label of each example, once they are read; `None` if there are none.

    Raises:
        ValueError: If there is nothing to read.
    """

    def __init__(self, data: object):
        self._data = data if reading.is_in_memory(data) else None
        may_be_several = isinstance(data, (list, tuple))
        self._read: Any = None
        self.labels: np.ndarray | None = None
        if not may_be_several:
            self._read, self.labels = reading.read_labelled(data)
        self._measured: dict[tuple, object] = {}

    @property
    def shape(self) -> tuple | None:
        """Shape of one example, if the data are one array of them."""
        return self._read.shape[1:] if hasattr(self._read, "shape") else None

    def of_inputs(self, model: keras.Model) -> dict[int, np.ndarray]:
        """Return examples of a model's inputs, by their places; not all have some.

        Raises:
            ValueError: If no input of the model has any.
        """
        names, shapes = inputs.names(model), inputs.shapes(model)
        found = self._read
        if self._data is not None:
            found, self.labels = reading.read_labelled(self._data, shapes)
        return _by_input(_prepared(model, found), names, shapes)

    def parameterization(self, name: str, plan: Plan, images: np.ndarray) -> object:
        """Return the parameterization of that name, with the statistics of these images.

        The statistics are measured once for each name, range, shape of the image to be made,
        and images, since each model may get others of the same data.
        """
        content = images.shape, images.dtype, zlib.crc32(np.ascontiguousarray(images).data)
        key = name, plan.values_range, plan.image_shape, content
        if key not in self._measured:
            self._measured[key] = parameterizations.like_data(
                images.astype("float32", copy=False), plan.values_range, plan.image_shape, name
            )
        return self._measured[key]


def images_of(
    found: Mapping[int, np.ndarray], model: keras.Model, image_input: ImageInput
) -> np.ndarray:
    """Return images as an array `(images, height, width, channels)`, in their dtype.

    Args:
        found: Examples of the model's inputs, as `ProbeImages.of_inputs` returns them.
        model: The model.
        image_input: Its input that takes the images.

    Raises:
        ValueError: If they are not finite numbers, or not what the model takes.
    """
    given = found.get(image_input.position or 0)
    if given is None:
        name = inputs.names(model)[image_input.position or 0]
        raise reading.refusal(f"nothing for the input {name!r}, which is optimised")
    _require_finite(given)
    return to_images(given, image_input.axes, image_input.shape)


def is_within(images: np.ndarray, values_range: tuple) -> bool:
    """Whether real images are in a range, but for some overshoot of a filter."""
    low, high = np.asarray(values_range)
    beyond = _BEYOND * (high - low)
    return not ((images < low - beyond).any() or (images > high + beyond).any())


def beyond_range(images: np.ndarray, values_range: tuple) -> ValueError:
    """Return the error of real images that are not in a range."""
    return ValueError(
        "Invalid value for argument `values_range`. Expected the range of `probe_data`, or "
        f"None to find it out. Received: values_range={values_range}, and images from "
        f"{float(images.min()):g} to {float(images.max()):g}"
    )


def _prepared(model, found):
    """Return examples as a model gets them, which has a `preprocessor` for what `fit` takes."""
    preprocessor = getattr(model, "preprocessor", None)
    if not callable(preprocessor):
        return found
    prepared = preprocessor(found)
    prepared = prepared[0] if isinstance(prepared, tuple) else prepared
    return keras.tree.map_structure(keras.ops.convert_to_numpy, prepared)


def scaling_of_preprocessor(
    model: keras.Model, image_input: ImageInput
) -> tuple[tuple[int, int] | None, Scaling | None]:
    """Return what a model's `preprocessor` makes of images of bytes, as those of KerasHub do.

    Args:
        model: A built Keras model.
        image_input: Its input that takes the images.

    Returns:
        The size of its images, `None` if it leaves that as it is; and how it scales them,
        `None` if that is no straight line, or without a `preprocessor` of images alone.
    """
    channels = image_input.shape[2]
    if not callable(getattr(model, "preprocessor", None)) or channels is None:
        return None, None
    sizes = {"h": _SIZE, "w": _SIZE, "c": channels}
    shape = [sizes[axis] for axis in image_input.axes]
    values = np.asarray(_VALUES, "uint8").reshape(-1, *[1] * len(shape))
    try:
        with backend.random_states_preserved():
            made = _prepared(model, np.broadcast_to(values, (len(_VALUES), *shape)).copy())
        images = to_images(np.asarray(made), image_input.axes, image_input.shape)
    except Exception:
        # Others take texts too, or boxes. Nobody can tell then what images become.
        return None, None
    if len(images) != len(_VALUES) or images.dtype.kind not in "fiu":
        return None, None
    size = tuple(images.shape[1:3])
    # Borders that are padded tell nothing.
    dark, near, middle, bright = np.median(images.astype("float64"), axis=(1, 2))
    slopes = (bright - dark) / _VALUES[-1]
    expected = [dark + value * slopes for value in _VALUES[1:3]]
    is_straight = np.allclose([near, middle], expected, atol=1e-3 * np.abs(bright - dark).max())
    known = None if size == (_SIZE, _SIZE) else size
    if not is_straight or not np.isfinite(slopes).all() or not slopes.all():
        return known, None
    if np.ptp(slopes) == 0 and np.ptp(dark) == 0:
        slopes, dark = slopes[:1], dark[:1]
    return known, Scaling("preprocessor", tuple(slopes.tolist()), tuple(dark.tolist()))


def _by_input(found, names, shapes):
    if isinstance(found, Mapping):
        flat = {".".join(map(str, path)): one for path, one in keras.tree.flatten_with_path(found)}
        own = {names.index(key): one for key, one in flat.items() if key in names}
        fitting = [one for one in flat.values() if inputs.fits(one.shape[1:], shapes[0])]
        if not own and len(names) == len(fitting) == 1:
            own = {0: fitting[0]}
        if not own:
            raise reading.refusal(f"a dict of {list(flat)}, where the model's inputs are {names}")
        return own
    flat = keras.tree.flatten(found)
    if len(flat) == len(names):
        return dict(enumerate(flat))
    if len(names) == 1:
        # A part of a wrapper, which gets some of what `fit` takes.
        fitting = [one for one in flat if inputs.fits(one.shape[1:], shapes[0])]
        flat = fitting[:1]
    if len(flat) == 1:
        # Images alone, for the input that takes such images.
        places = [i for i, shape in enumerate(shapes) if inputs.fits(flat[0].shape[1:], shape)]
        return dict.fromkeys(places[:1] or [0], flat[0])
    raise reading.refusal(f"{len(flat)} arrays, where the model's inputs are {names}")


def _require_finite(given):
    received = f"an array of shape {given.shape}, of dtype {given.dtype}"
    if given.dtype.kind not in "fiu" or not len(given):
        raise reading.refusal(received)
    wrong = given.size - np.count_nonzero(np.isfinite(given))
    if wrong:
        raise reading.refusal(f"{received}, in which {wrong} values are NaN or infinite")


def to_images(given: np.ndarray, axes: str, shape: tuple) -> np.ndarray:
    """Turn inputs of a model into images `(images, height, width, channels)`.

    Args:
        given: Array: first the axis of the images, then the model's own axes.
        axes: The model's own axes, as in `inputs.ImageInput.axes`.
        shape: `(height, width, channels)` that the model takes, `None` for any size.

    Returns:
        Array of the same values and dtype.

    Raises:
        ValueError: If the model does not take inputs of that shape.

    Example:
    >>> to_images(np.zeros((5, 3, 8, 6)), "chw", (8, 6, 3)).shape
    (5, 8, 6, 3)
    >>> to_images(np.zeros((5, 100, 2)), "wc", (1, None, 2)).shape
    (5, 1, 100, 2)
    """
    expected = tuple(shape["hwc".index(axis)] for axis in axes)
    sizes = given.shape[1:]
    if not inputs.fits(sizes, expected):
        raise ValueError(
            "Invalid value for argument `probe_data`. Expected inputs as the model takes them, "
            f"of shape {expected}. Received: {sizes}{_hint(given.shape, expected)}"
        )
    images = given.transpose(0, *(1 + axes.index(axis) for axis in "hwc" if axis in axes))
    missing = [1 + "hwc".index(axis) for axis in "hwc" if axis not in axes]
    return np.expand_dims(images, missing)


def _hint(shape, expected):
    """What to do if the axis of the images is missing."""
    if inputs.fits(shape, expected):
        return f", from {shape} without the axis of the images. Pass `x[:1]` in place of `x[0]`"
    if len(shape) == len(expected):
        return ". A data set has to be batched: pass `data.batch(32)`"
    return ""


def find_values_range(images: np.ndarray) -> tuple[float, float]:
    """Return the range of real images: a usual one, or else their lowest and highest value.

    Usual ranges are (0, 1); (-1, 1), if a value is negative; and (0, 255), if one is above
    1. Images that span at most half of it have their own: dark ones too, so give
    `values_range` where others are brighter. Images of one value have no span.

    Args:
        images: Finite array of any shape, not empty.

    Returns:
        `(lowest, highest)`.

    Raises:
        ValueError: If all values are equal, and in no usual range.

    Example:
    >>> find_values_range(np.array([0.1, 0.8])), find_values_range(np.array([0, 200]))
    ((0.0, 1.0), (0.0, 255.0))
    >>> find_values_range(np.array([-2.0, 2.5])), find_values_range(np.array([100, 200]))
    ((-2.0, 2.5), (100.0, 200.0))
    """
    low, high = float(images.min()), float(images.max())
    usual = next((one for one in _USUAL_RANGES if one[0] <= low and high <= one[1]), None)
    if usual is not None:
        is_wide = high - low > _HALF * (usual[1] - usual[0])
        if is_wide or (low == high and (usual[1] <= 1 or low > DARK_BYTES)):
            return usual
    if low == high:
        raise ValueError(
            "Invalid value for argument `probe_data`. Expected images of more than one value, "
            f"or `values_range` beside them. Received: images of nothing but {low:g}"
        )
    return low, high
