"""Define, choose and check the parameterizations of images.

A parameterization is an object with three methods, all of them pure functions:

* `init(rng, shape)` draws the start of one image on the host, from a
  `numpy.random.Generator`. It returns a float32 array of any shape.
* `image(params, rows, columns, shape)` renders a batch `(images, ...)` of parameters
  at positions `(images, height)` and `(images, width)`, in pixels of the image. It
  returns `(images, height, width, channels)` with values in `[0, 1]`.
* `project(params, shape)` returns the nearest parameters that are allowed.

It may have four more:

* `field(params, rows, columns, shape)` renders what is added to the logit of a given image,
  for `optimize(start=...)`. It must be linear in the parameters.
* `field_gradient(gradient, shape)` returns the gradient of a score by each value of an image,
  or of the field before the sigmoid, `(images, height, width, channels)`, from that by the
  parameters, for `Result.importance`.
* `precondition(steepness, lowest, chroma, shape)` returns the preconditioner of the default
  optimisation's gradient, see `Fourier.precondition`.
* `finish(params, shape)` returns the parameters of an image that is kept or scored. It may be
  called several times, and never changes the parameters that the next step starts from.

`init` and `precondition` return NumPy arrays. The other methods take and return float32
tensors. `shape` is `(height, width, channels)` of the image. You can pass any object with
the first three methods as `parameterization`, if it is equal and hashable by value.

The map from parameters to image must be fixed: equal parameters give equal images, so
that you can compare the images of two epochs.
"""

from dataclasses import dataclass, replace

import numpy as np
from keras import ops

from featviz_callback.images import sampling, statistics
from featviz_callback.images.fields import AUTO, check_field, hint_to_call, logit, to_image
from featviz_callback.images.fixed_magnitude import FixedMagnitude
from featviz_callback.images.fourier import SIGNAL_DECAY, Fourier
from featviz_callback.images.shapes import is_signal, is_small
from featviz_callback.images.statistics import Statistics

__all__ = ["FixedMagnitude", "Fourier", "Pixel", "check", "get", "like_data", "standard"]

# The most functions in the basis of a signal, whose matrices grow with its length.
_LARGEST_BASIS = 1024


@dataclass(frozen=True)
class Pixel:
    """One parameter per value of each pixel, the simplest parameterization.

    Args:
        contrast: Largest root mean square of the field before the sigmoid.
            Positive; `inf` for no bound.
        noise: Standard deviation of the field's random start. Not negative.
        mean: Mean of the start, in `(0, 1)`, one number or one per channel.

    Raises:
        ValueError: If an argument is out of its range. When used: if the numbers of
            means and of channels differ.

    Example:
    >>> from featviz_callback import parameterizations
    >>> parameterizations.Pixel().init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)
    """

    contrast: float = 2.0
    noise: float = 0.01
    mean: float | tuple[float, ...] = 0.5

    def __post_init__(self):
        check_field(self)

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draw one image's parameters, float32 `(channels, height, width)`."""
        height, width, channels = shape
        return rng.normal(0, self.noise, (channels, height, width)).astype("float32")

    def field(self, params, rows, columns, shape: tuple):
        """Render the linear part of an image, before mean and sigmoid."""
        return sampling.interpolate(params, rows, columns, shape)

    def field_gradient(self, gradient, shape: tuple):
        """Return the gradient by each value of the field, from that by the parameters."""
        return ops.transpose(gradient, (0, 2, 3, 1))

    def image(self, params, rows, columns, shape: tuple):
        """Render float32 `(images, len(rows), len(columns), channels)`."""
        return to_image(self.field(params, rows, columns, shape), self.mean, shape)

    def project(self, params, shape: tuple):
        """Scale down each image's parameters to at most the allowed contrast."""
        mean_square = ops.mean(ops.square(params), axis=(1, 2, 3), keepdims=True)
        return params * ops.minimum(1.0, self.contrast * ops.rsqrt(mean_square + 1e-12))


def standard(shape: tuple) -> Fourier:
    """Return the default, a `Fourier` for images of this shape.

    The content of small images and of signals fills the frame, so they get no window.
    They get all frequencies, unless the basis of a long signal would be too large.

    Args:
        shape: `(height, width, channels)` of the image.
    """
    if is_signal(shape):
        detail = min(1.0, _LARGEST_BASIS / shape[1])
        return Fourier(SIGNAL_DECAY, detail, AUTO, AUTO, AUTO)
    detail = 1.0 if is_small(shape) else 0.8
    return Fourier(1.0, detail, AUTO, AUTO, AUTO)


def like_data(
    images: np.ndarray,
    values_range: tuple,
    shape: tuple,
    parameterization: str = "fourier",
) -> Fourier | FixedMagnitude:
    """Return a parameterization with the mean and the colours of real images.

    A `FixedMagnitude` also has their spectrum, and their contrast if that is below the
    default.

    Args:
        images: Array `(images, height, width, channels)` in `values_range`.
        values_range: Lowest and highest value of an image, numbers or one a channel.
        shape: `(height, width, channels)` of the image to be made.
        parameterization: `"fourier"` or `"fixed_magnitude"`.

    Returns:
        A `Fourier` or a `FixedMagnitude`, which you can pass as `parameterization`.

    Raises:
        ValueError: If the images are not finite or have another number of channels, or
            if `parameterization` is neither of the two names.
    """
    if parameterization not in ("fourier", "fixed_magnitude"):
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected 'fourier' or "
            f"'fixed_magnitude'. Received: parameterization={parameterization!r}"
        )
    fourier = standard(shape)
    data = statistics.measure(images, values_range, shape, fourier.detail)
    mean = tuple(np.clip(data.mean, 0.02, 0.98))
    fourier = replace(fourier, mean=mean, colors=data.colors)
    if parameterization == "fourier":
        return fourier
    contrast = min(_contrast_of(data), fourier.contrasts(shape)[0])
    return FixedMagnitude(replace(fourier, spectrum=data.spectrum, contrast=contrast))


def _contrast_of(data: Statistics) -> float:
    """Return the root mean square of a field whose image varies as much as real images."""
    contrasts = np.linspace(0.1, 4.0, 40)
    normal = np.random.default_rng(0).standard_normal(4096)
    middle = logit(np.clip(np.mean(data.mean), 0.02, 0.98))
    values = 1 / (1 + np.exp(-(middle + contrasts[:, None] * normal)))
    return float(np.interp(data.deviation, values.std(1), contrasts))


def get(parameterization: str | object, shape: tuple) -> object:
    """Return the parameterization with this name for a shape, or the object itself.

    Raises:
        ValueError: If the name is unknown or the object lacks a method.
    """
    check(parameterization)
    if not isinstance(parameterization, str):
        return parameterization
    if parameterization == "pixel":
        return Pixel()
    fourier = standard(shape)
    return fourier if parameterization == "fourier" else FixedMagnitude(fourier)


def check(parameterization: str | object) -> None:
    """Refuse anything but a parameterization or the name of one.

    Raises:
        ValueError: If the name is unknown, the object lacks a method, or it is a class.
    """
    if isinstance(parameterization, str):
        is_known = parameterization in ("fourier", "fixed_magnitude", "pixel")
    else:
        methods = ("init", "image", "project")
        is_known = all(hasattr(parameterization, method) for method in methods)
        is_known &= not isinstance(parameterization, type)
    if not is_known:
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected 'fourier', "
            "'fixed_magnitude', 'pixel' or an object with the methods init, image and project. "
            f"Received: parameterization={parameterization!r}"
            f"{hint_to_call(parameterization)}"
        )
