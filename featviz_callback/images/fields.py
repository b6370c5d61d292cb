"""Turn an unbounded field into an image, and check the settings of fields.

A parameterization renders a field, which may have any values. The image is
`sigmoid(background + field)`, where the background is the field of the mean colour.

The map from field to image must stay fixed, so that equal parameters give equal images.
"""

from numbers import Real

import numpy as np
from keras import ops

# A setting that follows from the image or the target.
AUTO = "auto"


def to_image(field, mean, shape: tuple):
    """Return the image of a field.

    Args:
        field: Tensor `(images, height, width, channels)`.
        mean: Value of the plain background, in `(0, 1)`, one number or one per channel.
        shape: `(height, width, channels)` of the whole image.

    Returns:
        Tensor of the field's shape, with values in `[0, 1]`.
    """
    plain = background(mean, shape)
    return ops.sigmoid(field + ops.convert_to_tensor(plain) if plain.any() else field)


def background(mean, shape: tuple) -> np.ndarray:
    """Return the field of an image whose pixels all have the mean colour.

    Args:
        mean: As for `to_image`.
        shape: `(height, width, channels)` of the image.

    Returns:
        Float32 array with one number, or one per channel.

    Raises:
        ValueError: If the numbers of means and of channels differ.
    """
    if isinstance(mean, tuple) and len(mean) != shape[2]:
        raise ValueError(
            f"Invalid value for argument `mean`. Expected one number, or {shape[2]} of them for "
            f"images of shape {shape}. Received: mean={mean}"
        )
    return logit(np.asarray(mean, "float64")).astype("float32")


def logit(shares):
    """Return the inverse of the sigmoid, for NumPy values in `(0, 1)`."""
    return np.log(shares / (1 - shares))


def mix_channels(fields, mixture):
    """Multiply the channels of a batch by a matrix.

    Args:
        fields: Tensor `(images, channels, ...)`.
        mixture: Tensor `(channels, channels)`; each column is one mixture of channels.

    Returns:
        Tensor of the shape of `fields`.
    """
    images, channels, *_ = fields.shape
    flat = ops.reshape(fields, (images, channels, -1))
    return ops.reshape(ops.matmul(mixture, flat), fields.shape)


def limit_contrast(mean_square, contrast):
    """Return the factor that scales a field of this mean square to the contrast."""
    return contrast * ops.rsqrt(ops.maximum(mean_square, 1e-12))


def hint_to_call(value: object) -> str:
    """Return how an error about `value` goes on if it is a class in place of an instance."""
    return f", a class. Call it: `{value.__name__}()`" if isinstance(value, type) else ""


def check_field(parameterization, may_be_auto: bool = False) -> None:
    """Check `mean`, `contrast` and `noise` of a parameterization, and that others are numbers.

    Convert lists and arrays of `mean` to tuples, since parameterizations are compared by
    value.

    Args:
        parameterization: The object with these attributes.
        may_be_auto: Whether `contrast` and `noise` may be `AUTO`.

    Raises:
        ValueError: If one of the three is out of its range, or if `decay` or `detail` is no
            finite number.
    """
    for name in ("decay", "detail"):
        value = getattr(parameterization, name, 0.0)
        is_finite = isinstance(value, Real) and bool(np.isfinite(float(value)))
        require(parameterization, name, is_finite, "a finite number")
    given = np.asarray(parameterization.mean)
    are_shares = given.dtype.kind in "fiu" and bool(np.all((given > 0) & (given < 1)))
    expected = "one or more numbers between 0 and 1"
    require(parameterization, "mean", are_shares and given.ndim < 2, expected)
    mean = tuple(map(float, given)) if given.ndim else float(given)
    object.__setattr__(parameterization, "mean", mean)
    for name, expected in (("contrast", "above 0"), ("noise", "0 or more")):
        value = getattr(parameterization, name)
        number = float(value) if isinstance(value, Real) else np.nan
        holds = number > 0 or (name == "noise" and number == 0)
        require(parameterization, name, holds or (may_be_auto and value == AUTO), expected)


def require(parameterization, name: str, holds: bool, expected: str) -> None:
    """Refuse the value of an attribute unless a condition holds.

    Raises:
        ValueError: If the condition does not hold.
    """
    if not holds:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. "
            f"Received: {name}={getattr(parameterization, name)!r}"
        )
