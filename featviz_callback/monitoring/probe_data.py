"""Read real images from whatever a model can be trained on.

A data set is recognised by its methods, not by its class, so that neither TensorFlow nor
torch is imported for a data set of the other. Images are read once, and never changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from featviz_callback.images import parameterizations
from featviz_callback.objectives import ImageInput
from featviz_callback.optimization import Plan
from featviz_callback.records import spread

MOST_BYTES = 2**28

# Enough images of ten classes to find those that activate a unit most.
MOST_IMAGES = 1000


class ProbeImages:
    """Real images as the user gave them, and the statistics measured on them.

    Args:
        given: Float32 array: first the axis of the images, then the model's own axes.
    """

    def __init__(self, given: np.ndarray):
        self.given = given
        self._measured: dict[tuple, object] = {}

    def as_images(self, image_input: ImageInput) -> np.ndarray:
        """Return the images as an array `(images, height, width, channels)`."""
        return to_images(self.given, image_input.axes, image_input.shape)

    def find_values_range(self) -> tuple[float, float]:
        """Return the range of the images, see the function `find_values_range`."""
        return find_values_range(self.given)

    def parameterization(self, name: str, plan: Plan) -> object:
        """Return the parameterization of that name, with the statistics of these images.

        The statistics are measured once for each name, range, and shape of the image to be
        made.
        """
        key = name, plan.values_range, plan.image_shape
        if key not in self._measured:
            images = self.as_images(plan.image_input)
            self._measured[key] = parameterizations.like_data(
                images, plan.values_range, plan.image_shape, name
            )
        return self._measured[key]


def read_images(data, most: int = MOST_IMAGES) -> np.ndarray:
    """Read some images, once.

    Images of an array, or of anything else that can be indexed, are spread evenly over
    the whole of it, since data are often sorted by class. Data that can only be iterated
    give their first images. No batch is read once there are enough images.

    The `generator` of a torch `DataLoader` is restored. Global generators are restored
    by `backend.random_states_preserved` around the call. A `tf.data.Dataset` that
    shuffles counts its iterations, and nobody can reset that count. If `fit` trains on
    the same data set, reading uses up the first epoch's order, and training gets the
    second's. Give another data set, or one that does not shuffle.

    Args:
        data: An array `(images, height, width, channels)` of any framework, or with the
            axes that the model takes; a tuple `(x, y)` or `(x, y, weights)` of arrays; a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch `DataLoader` or any
            other iterable of batches, each of them such an array or tuple.
        most: Most images to read, 1 or more. They never take more than 256 MiB.

    Returns:
        Float32 array of one to `most` images, with their axes as given: first the axis
        of the images, then three, or two as signals have them.

    Raises:
        ValueError: If there is no image, or if the images are not finite numbers of one
            shape.

    Example:
    >>> batches = [(np.zeros((4, 8, 8, 3)), np.zeros(4))] * 100
    >>> read_images(batches, most=10).shape
    (10, 8, 8, 3)
    """
    with _generator_preserved(data):
        try:
            images = _read(data, most)
        except (AttributeError, TypeError, ValueError) as error:
            raise _refusal(f"{type(data).__name__} ({error})") from error
    received = f"a {type(data).__name__}, read as an array of shape {images.shape}"
    if images.ndim not in (3, 4) or not len(images):
        raise _refusal(received)
    wrong = images.size - np.count_nonzero(np.isfinite(images))
    if wrong:
        raise _refusal(f"{received}, in which {wrong} values are NaN or infinite")
    return images


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
    if not _fits(sizes, expected):
        raise ValueError(
            "Invalid value for argument `probe_data`. Expected inputs as the model takes them, "
            f"of shape {expected}. Received: {sizes}{_hint(given.shape, expected)}"
        )
    images = given.transpose(0, *(1 + axes.index(axis) for axis in "hwc" if axis in axes))
    missing = [1 + "hwc".index(axis) for axis in "hwc" if axis not in axes]
    return np.expand_dims(images, missing)


def _fits(sizes, expected):
    return len(sizes) == len(expected) and all(
        n in (size, None) for n, size in zip(expected, sizes, strict=True)
    )


def _hint(shape, expected):
    """What to do if one image was given, without the axis of the images."""
    if not _fits(shape, expected):
        return ""
    return f", from {shape} without the axis of the images. Pass `x[:1]` in place of `x[0]`"


def find_values_range(images: np.ndarray) -> tuple[float, float]:
    """Return the range of real images: a usual one, or else their lowest and highest value.

    Usual ranges are (0, 1); (-1, 1), if a value is negative; and (0, 255), if a value
    is above 127. So dark photographs do not get a narrower range than bright ones.

    Args:
        images: Finite array of any shape, not empty.

    Returns:
        `(lowest, highest)`.

    Raises:
        ValueError: If all values are equal, and in no usual range.

    Example:
    >>> find_values_range(np.array([0.1, 0.8])), find_values_range(np.array([0, 200]))
    ((0.0, 1.0), (0.0, 255.0))
    >>> find_values_range(np.array([-2.0, 2.5]))
    (-2.0, 2.5)
    """
    low, high = float(images.min()), float(images.max())
    if low >= -1 and high <= 1:
        return (0.0, 1.0) if low >= 0 else (-1.0, 1.0)
    if low >= 0 and 127 < high <= 255:
        return 0.0, 255.0
    if low == high:
        raise ValueError(
            "Invalid value for argument `probe_data`. Expected images of more than one value, "
            f"or `values_range` beside them. Received: images of nothing but {low:g}"
        )
    return low, high


def _refusal(received):
    return ValueError(
        "Invalid value for argument `probe_data`. Expected a finite array (images, height, "
        "width, channels), or an iterable of batches of that shape or of (images, labels). "
        f"Received: {received}"
    )


def _read(data, most):
    if isinstance(data, tuple) or hasattr(data, "shape"):
        images = _inputs(data)
        return _array(images[spread(len(images), _bounded(most, images))])
    batches = []
    for images in map(_inputs, _batches(data, most)):
        missing = _bounded(most, images) - sum(map(len, batches))
        batches.append(_array(images[:missing]))
        if len(batches[-1]) >= missing:
            break
    return np.concatenate(batches)


def _bounded(most, images):
    return max(1, min(most, MOST_BYTES // (4 * max(1, math.prod(images.shape[1:])))))


def _batches(data, most) -> Iterator:
    """Return batches spread evenly over a sequence, or in order from other data."""
    count = getattr(data, "num_batches", None) if hasattr(data, "__getitem__") else None
    count = len(data) if isinstance(data, list) else count
    if not isinstance(count, int) or not count:
        return iter(data)
    each = max(1, len(_inputs(data[0])))
    return (data[int(i)] for i in spread(count, -(-most // each)))


def _inputs(batch):
    images = batch[0] if isinstance(batch, (tuple, list)) else batch
    # Torch's tensors may be on a device, or carry gradients.
    images = images.detach().cpu() if hasattr(images, "detach") else images
    # TensorFlow's tensors cannot be indexed by an array. Arrays on disk have no method
    # `numpy`, so that only the chosen images are read from the disk.
    return images.numpy() if hasattr(images, "numpy") else images


def _array(images):
    return np.asarray(images).astype("float32")


@contextmanager
def _generator_preserved(data):
    generator = getattr(data, "generator", None)
    state = generator.get_state() if hasattr(generator, "get_state") else None
    try:
        yield
    finally:
        if state is not None:
            generator.set_state(state)
