"""What is optimised, and how it becomes an image.

A parameterization is three pure functions:

* `init(rng, shape)` draws the start of one image on the host, a float32 array of
  any shape, from a `numpy.random.Generator`;
* `image(params, rows, columns, shape)` renders a batch `(images, ...)` of them at
  positions `(images, view height)` and `(images, view width)`, in pixels of the
  image: `(images, view height, view width, channels)` with values in `[0, 1]`;
* `project(params, shape)` returns the nearest parameters that are allowed.

All but `init` take and return float32 tensors; `shape` is `(height, width,
channels)` of the image.

It may have two more:

* `precondition(decay, lowest, hues, shape)` gives what the default ascent makes a
  direction of a gradient with, see `steepest`;
* `finish(params, shape)` is applied once, when an image is to be looked at.

The image is always `sigmoid(field)`: a fixed map, so that two frames with the
same parameters are the same picture. Anything with these three methods, equal
and hashable by value, can be passed as `parameterization`. In place of a `Fourier`
the default ascent moves its `Coefficients`, which make the same images.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from keras import ops

from featviz_callback import image_statistics, sampling
from featviz_callback.image_statistics import NATURAL_COLORS, Spectrum, Statistics

# Each octave has the same power where amplitudes fall as 1 / frequency in images, in
# signals as its square root.
_SIGNAL_DECAY = 0.5
# Functions of the basis of a signal, at most: its matrices grow with its length.
_LARGEST_BASIS = 1024

# Drawn at more contrast than it is shown at, a picture is quieter, and recognised as often.
_HEADROOM = 1.2

# An image that has found nothing is not blown up into noise.
_LARGEST_GAIN = 3.0

# Amplitudes below this share of the largest make less than a rounding error.
_LEAST = 1e-6

# A field of fixed magnitude is of full contrast from its start, and has to be turned
# rather than grown: it takes so much longer steps. Measured in `benchmarks/`.
_TURN = 20.0


@dataclass(frozen=True)
class Pixel:
    """One parameter a pixel: the plainest parameterization.

    Args:
        contrast: Largest root mean square of the field before the sigmoid.
            Positive; `inf` for no bound.
        start: Standard deviation of the field's start. Not negative.
        mean: Mean of the start, in `(0, 1)`, one number or one a channel.

    Raises:
        ValueError: If an argument is out of its range; when used, if there are
            other means than channels.

    Example:
    >>> from featviz_callback.parameterizations import Pixel
    >>> Pixel().init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)
    """

    contrast: float = 2.0
    start: float = 0.01
    mean: float | tuple[float, ...] = 0.5

    def __post_init__(self):
        _check(self)

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's parameters, float32 `(channels, height, width)`."""
        height, width, channels = shape
        return rng.normal(0, self.start, (channels, height, width)).astype("float32")

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        field = sampling.render(
            sampling.interpolation_basis(rows, shape[0]),
            params,
            sampling.interpolation_basis(columns, shape[1]),
        )
        return _squash(field, self.mean, shape)

    def project(self, params, shape: tuple):
        """Scales each image's parameters to the contrast allowed."""
        mean_square = ops.mean(ops.square(params), axis=(1, 2, 3), keepdims=True)
        return params * ops.minimum(1.0, self.contrast * ops.rsqrt(mean_square + 1e-12))


@dataclass(frozen=True)
class Fourier:
    """Parameters are the image's Fourier coefficients, scaled like natural images.

    The basis is real and separable (products of cosines and sines of the rows
    and of the columns), with as many functions as pixels where `detail` is 1.
    Each has a root mean square of one, so the contrast of the field is that of
    its coefficients (Parseval). A coefficient is its parameter times
    `1 / frequency**decay`, which makes the steepest ascent that of a space in
    which neighbouring pixels, and for RGB the colours, are decorrelated.

    Args:
        decay: Exponent of the spectrum's fall. 0 is white, 1 is that of natural
            images.
        detail: Highest frequency, as a share of the Nyquist frequency, in
            `(0, 1]`. Lower is smoother and faster.
        window: Distance from the middle at which the contrast has faded to `1/e`,
            as a share of each side: what is wanted gathers on a quiet ground.
            `None` for contrast up to the border.
        contrast: Root mean square of the finished field, before window and
            sigmoid. On the way it may be up to 1.2 times that. Positive.
        start: Root mean square of the field's start. Not negative.
        mean: Value of the quiet ground, in `(0, 1)`, one number or one a channel.
        colors: Which mixtures of the channels vary together: `"natural"`, those of
            natural images where there are three channels; `None`, each channel by
            itself; or a matrix `(channels, channels)`, one mixture a column, as
            `image_statistics.measure` finds it. Scaled to keep the mean square.
        spectrum: Amplitudes in place of `1 / frequency**decay`, measured for
            images of one size and `detail`.

    Raises:
        ValueError: If an argument is out of its range, or `colors` is no square
            matrix; when used, if `mean`, `colors` or `spectrum` do not fit the image.

    Example:
    >>> from featviz_callback.parameterizations import Fourier
    >>> Fourier(detail=1).init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
        "Preconditioning and Parameterization".
    """

    decay: float = 1.0
    detail: float = 0.8
    window: float | None = 0.4
    contrast: float = 1.0
    start: float = 0.05
    mean: float | tuple[float, ...] = 0.5
    colors: str | tuple[tuple[float, ...], ...] | None = "natural"
    spectrum: Spectrum | None = None

    def __post_init__(self):
        _check(self)
        _require(self, "detail", 0 < self.detail <= 1, "above 0, up to 1")
        _require(self, "window", self.window is None or self.window > 0, "above 0, or None")
        if not (self.colors is None or isinstance(self.colors, str)):
            matrix = np.asarray(self.colors, "float64")
            square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
            _require(self, "colors", square and np.isfinite(matrix).all(), "a square matrix")
            object.__setattr__(self, "colors", tuple(map(tuple, matrix.tolist())))
        else:
            _require(self, "colors", self.colors in (None, "natural"), "'natural' or a matrix")

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's parameters, `(channels, row and column functions)`."""
        functions = _frequencies(shape[0], shape[1], self.detail).shape
        return rng.normal(0, self.start, (shape[2], *functions)).astype("float32")

    def scale(self, shape: tuple) -> np.ndarray:
        """What each parameter is multiplied by; the squares of a channel sum to one.

        Raises:
            ValueError: If the spectrum is of images of another shape.
        """
        frequencies = _frequencies(shape[0], shape[1], self.detail)
        if self.spectrum is None:
            scale = np.maximum(frequencies, 1.0) ** -self.decay
            return (scale / np.sqrt(np.sum(scale**2))).astype("float32")
        channels, *functions = self.spectrum.amplitudes.shape
        if channels not in (1, shape[2]) or tuple(functions) != frequencies.shape:
            raise ValueError(
                f"Invalid value for argument `spectrum`. Expected one of {frequencies.shape} "
                f"functions for images of shape {shape}. Received: one of {tuple(functions)} for "
                f"{channels} channels"
            )
        return self.spectrum.amplitudes

    def precondition(
        self, decay: float, lowest: float, hues: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """What makes the default ascent that of another spectrum, which may change on the way.

        Args:
            decay: Exponent of that spectrum's fall.
            lowest: Frequency in cycles per image below which that spectrum is flat.
            hues: How strong all but the first of the decorrelated colours are in it,
                1 for what they are in the images that `colors` comes from.
            shape: `(height, width, channels)` of the image.

        Returns:
            See `steepest`: the squares of how much stronger each parameter is in that
            spectrum than in this one.
        """
        # What real images lack altogether cannot be seen, however far it moves.
        scale = self.scale(shape)
        scale = np.maximum(scale, _LEAST * np.max(scale))
        squares = (self._other_spectrum(decay, lowest, shape) / scale) ** 2
        if self._color_matrix(shape) is not None:
            squares = squares * _strengths(hues, shape)[:, None, None] ** 2
        return (squares,)

    def _other_spectrum(self, decay, lowest, shape):
        """A scale as `scale` gives it, of a spectrum that falls otherwise."""
        if _is_signal(shape):
            decay = decay * _SIGNAL_DECAY
        scale = np.maximum(_frequencies(shape[0], shape[1], self.detail), lowest) ** -decay
        return scale / np.sqrt(np.sum(scale**2))

    def _norms(self, shape):
        """Amplitudes of the functions whose root mean square is one."""
        return np.outer(*(sampling.fourier_norms(size, self.detail) for size in shape[:2]))

    def field(self, params, rows, columns, shape: tuple):
        """The linear part: everything before the mean and the sigmoid."""
        coefficients = self._coefficients(params, self._norms(shape), shape)
        return self._render(coefficients, rows, columns, shape)

    def _coefficients(self, params, norms, shape):
        """Those of each channel, of functions whose amplitudes are these norms."""
        scale = (self.scale(shape) * norms).astype("float32")
        coefficients = params * ops.convert_to_tensor(scale)
        if (colors := self._color_matrix(shape)) is None:
            return coefficients
        return _mix(coefficients, ops.convert_to_tensor(colors.astype("float32")))

    def _render(self, coefficients, rows, columns, shape):
        rows_basis, columns_basis = self._bases(rows, columns, shape)
        return sampling.render(rows_basis, coefficients, columns_basis)

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        return _squash(self.field(params, rows, columns, shape), self.mean, shape)

    def project(self, params, shape: tuple):
        """Keeps each image's contrast in bounds, a little above that of the finished one."""
        return params * ops.minimum(1.0, _HEADROOM * self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """Gives each image its full contrast, unless it has hardly left its start."""
        return params * ops.minimum(_LARGEST_GAIN, self._gain(params, shape))

    def _gain(self, params, shape):
        # Mixtures that are not orthogonal add to each other's contrast, or take from it.
        squares = ops.square(self._coefficients(params, 1.0, shape))
        mean_square = ops.sum(squares, axis=(1, 2, 3), keepdims=True) / shape[2]
        return self.contrast * ops.rsqrt(ops.maximum(mean_square, 1e-12))

    def _color_matrix(self, shape):
        if self.colors is None or (self.colors == "natural" and not _is_rgb(shape)):
            return None
        colors = np.array(NATURAL_COLORS if self.colors == "natural" else self.colors)
        if len(colors) != shape[2]:
            raise ValueError(
                f"Invalid value for argument `colors`. Expected a matrix of {shape[2]} rows for "
                f"images of shape {shape}. Received: one of {len(colors)}"
            )
        return colors

    def _bases(self, rows, columns, shape):
        if rows.shape != columns.shape or shape[0] != shape[1]:
            return self._basis(rows, shape[0]), self._basis(columns, shape[1])
        # Both axes at once: what small images cost is the number of operations.
        both = self._basis(ops.concatenate([rows, columns]), shape[0])
        return both[: rows.shape[0]], both[rows.shape[0] :]

    def _basis(self, positions, size):
        basis = sampling.fourier_basis(positions, size, self.detail)
        if self.window is None:
            return basis
        # As a factor of the basis the window costs nothing for each pixel.
        distance = ((positions + 0.5) / size - 0.5) / self.window
        return basis * ops.expand_dims(ops.exp(-ops.square(ops.square(distance))), -1)


@dataclass(frozen=True)
class Coefficients:
    """The coefficients themselves, which the default ascent moves in place of parameters.

    An ascent of `Fourier`'s parameters scales them and mixes their colours on the way to
    an image, and again on the way back of each gradient. In the coefficients the same
    steps are those of a preconditioned gradient: both are done once, to the gradient.

    Args:
        fourier: What the coefficients are of: basis, start, contrast, window and ground.
        signed: Whether images have values in `[-1, 1]`, not in `[0, 1]`. Then these are
            coefficients of half the field, whose hyperbolic tangent that is.

    Example:
    >>> from featviz_callback.parameterizations import Coefficients, Fourier
    >>> Coefficients(Fourier(detail=1)).init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 8, 6)
    """

    fourier: Fourier
    signed: bool = False

    @property
    def _share(self):
        """The share of the field that these are coefficients of."""
        return 0.5 if self.signed else 1.0

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws one image's coefficients, `(channels, row and column functions)`."""
        fourier = self.fourier
        coefficients = fourier.init(rng, shape) * fourier.scale(shape) * self._units(shape)
        if (colors := fourier._color_matrix(shape)) is not None:
            coefficients = np.tensordot(colors, coefficients, 1)
        return coefficients.astype("float32")

    def precondition(
        self, decay: float, lowest: float, hues: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """See `Fourier.precondition`."""
        fourier = self.fourier
        squares = (fourier._other_spectrum(decay, lowest, shape) * self._units(shape)) ** 2
        if (colors := fourier._color_matrix(shape)) is None:
            return (squares,)
        mixture = colors * _strengths(hues, shape)
        return squares, mixture @ mixture.T

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        fourier = self.fourier
        field = fourier._render(params, rows, columns, shape)
        if not self.signed:
            return _squash(field, fourier.mean, shape)
        ground = np.float32(self._share) * _ground(fourier.mean, shape)
        return ops.tanh(field + ops.convert_to_tensor(ground) if ground.any() else field)

    def project(self, params, shape: tuple):
        """See `Fourier.project`."""
        return params * ops.minimum(1.0, _HEADROOM * self._gain(params, shape))

    def finish(self, params, shape: tuple):
        """See `Fourier.finish`."""
        return params * ops.minimum(_LARGEST_GAIN, self._gain(params, shape))

    def _units(self, shape):
        """The coefficients of functions whose root mean square in the field is one."""
        return self._share * self.fourier._norms(shape)

    def _gain(self, params, shape):
        weights = (self._units(shape) ** -2.0 / shape[2]).astype("float32").reshape(-1, 1)
        # A product with a vector reads the squares once, and writes nothing large.
        squares = ops.reshape(ops.square(params), (-1, weights.size))
        sums = ops.matmul(squares, ops.convert_to_tensor(weights))
        mean_square = ops.sum(ops.reshape(sums, (-1, shape[2])), axis=1)
        mean_square = ops.reshape(mean_square, (-1, 1, 1, 1))
        return self.fourier.contrast * ops.rsqrt(ops.maximum(mean_square, 1e-12))


@dataclass(frozen=True)
class FixedMagnitude:
    """Only the phases are optimised; how strong each frequency is stays as it is.

    The magnitudes are those of natural images, or of the user's own, which no
    ascent can leave: there is no high-frequency noise to be found, and contrast
    needs no bound. Each step moves the coefficients freely and then gives each
    frequency its magnitude back.

    Args:
        fourier: Basis, magnitudes (its `spectrum`, or the fall by `decay`), colours,
            contrast, window and ground. Its `start` does not matter.

    Raises:
        ValueError: If the contrast is not finite.

    Example:
    >>> from featviz_callback.parameterizations import FixedMagnitude
    >>> FixedMagnitude().init(np.random.default_rng(0), (8, 6, 3)).shape
    (3, 7, 5)

    Reference:
        Fel et al., "Unlocking Feature Visualization for Deeper Networks with
        MAgnitude Constrained Optimization", NeurIPS 2023, section 3
        (arXiv:2306.06805). There the phases themselves are the parameters.
    """

    fourier: Fourier = field(default_factory=Fourier)

    def __post_init__(self):
        _require(self.fourier, "contrast", np.isfinite(self.fourier.contrast), "a finite number")

    def init(self, rng: np.random.Generator, shape: tuple) -> np.ndarray:
        """Draws random phases, float32 `(channels, row and column functions)`."""
        noise = replace(self.fourier, start=1.0).init(rng, shape)
        params = self.project(ops.convert_to_tensor(noise[None]), shape)
        return ops.convert_to_numpy(params)[0]

    def precondition(
        self, decay: float, lowest: float, hues: float, shape: tuple
    ) -> tuple[np.ndarray, ...]:
        """See `Fourier.precondition`; longer steps, since the phases have to turn."""
        (squares,) = self.fourier.precondition(decay, lowest, hues, shape)
        return (_TURN**2 * squares,)

    def image(self, params, rows, columns, shape: tuple):
        """Renders float32 `(images, len(rows), len(columns), channels)`."""
        return self.fourier.image(params, rows, columns, shape)

    def project(self, params, shape: tuple):
        """Gives each frequency of each image its magnitude back."""
        size, detail = shape[:2], self.fourier.detail
        parts = sampling.to_complex(params, size, detail)
        # What is shared by one, two or four functions of a root mean square of one.
        shared = np.outer(*(_by_frequency(length, detail) for length in size))
        shared = ops.convert_to_tensor((self.fourier.contrast * shared).astype("float32"))
        unit = []
        for real, imaginary in (parts[:2], parts[2:]):
            inverse = shared * ops.rsqrt(ops.square(real) + ops.square(imaginary) + 1e-20)
            unit += [real * inverse, imaginary * inverse]
        return sampling.from_complex(unit[0], unit[1], unit[2], unit[3], size, detail)


def _by_frequency(size, detail):
    """The norm of the functions of each whole frequency of one axis."""
    highest = int(sampling.fourier_frequencies(size, detail).max())
    return sampling.fourier_norms(size, detail)[: highest + 1]


def standard(shape: tuple) -> Fourier:
    """The default: `Fourier()`; small images get neither a quiet ground nor a cut-off.

    Nor do signals, images of height one, as long as their basis is not too large.

    Args:
        shape: `(height, width, channels)` of the image.
    """
    if _is_signal(shape):
        detail = min(1.0, _LARGEST_BASIS / shape[1])
        return Fourier(decay=_SIGNAL_DECAY, detail=detail, window=None, contrast=2.0)
    if sampling.is_small(shape):
        return Fourier(detail=1.0, window=None, contrast=2.0)
    return Fourier()


def like_data(
    images: np.ndarray,
    values_range: tuple[float, float],
    shape: tuple,
    parameterization: str = "fourier",
) -> Fourier | FixedMagnitude:
    """A parameterization with the mean and the colours of real images.

    That of fixed magnitude takes over their spectrum too, and their contrast where it
    is below the default.

    Args:
        images: Array `(images, height, width, channels)` in `values_range`.
        values_range: Lowest and highest value of an image.
        shape: `(height, width, channels)` of the image to be made.
        parameterization: `"fourier"` or `"fixed_magnitude"`.

    Returns:
        A `Fourier`, or a `FixedMagnitude`, to be given as `parameterization`.

    Raises:
        ValueError: If the images are not finite, or of other channels, or the
            parameterization is another one.
    """
    if parameterization not in ("fourier", "fixed_magnitude"):
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected 'fourier' or "
            f"'fixed_magnitude'. Received: parameterization={parameterization!r}"
        )
    fourier = standard(shape)
    data = image_statistics.measure(images, values_range, shape, fourier.detail)
    mean = tuple(np.clip(data.mean, 0.02, 0.98))
    fourier = replace(fourier, mean=mean, colors=data.colors)
    if parameterization == "fourier":
        return fourier
    contrast = min(_contrast_of(data), fourier.contrast)
    return FixedMagnitude(replace(fourier, spectrum=data.spectrum, contrast=contrast))


def _contrast_of(data: Statistics) -> float:
    """The root mean square of a field whose image varies as much as real ones."""
    contrasts = np.linspace(0.1, 4.0, 40)
    normal = np.random.default_rng(0).standard_normal(4096)
    middle = _logit(np.clip(np.mean(data.mean), 0.02, 0.98))
    values = 1 / (1 + np.exp(-(middle + contrasts[:, None] * normal)))
    return float(np.interp(data.deviation, values.std(1), contrasts))


def get(parameterization: str | object, shape: tuple) -> object:
    """Returns the parameterization of that name, or the object itself.

    Raises:
        ValueError: If the name is unknown or the object lacks a method.
    """
    if isinstance(parameterization, str) and parameterization == "fourier":
        return standard(shape)
    if isinstance(parameterization, str) and parameterization == "fixed_magnitude":
        return FixedMagnitude(standard(shape))
    if isinstance(parameterization, str) and parameterization == "pixel":
        return Pixel()
    if not all(hasattr(parameterization, method) for method in ("init", "image", "project")):
        raise ValueError(
            "Invalid value for argument `parameterization`. Expected 'fourier', "
            "'fixed_magnitude', 'pixel' or an object with the methods init, image and project. "
            f"Received: parameterization={parameterization!r}"
        )
    return parameterization


def for_default_ascent(parameterization: object, values_range: tuple[float, float]) -> object:
    """What the default ascent moves: the coefficients where there are any.

    Args:
        parameterization: As `get` returns it.
        values_range: Lowest and highest value of the image that is wanted.
    """
    if type(parameterization) is not Fourier:
        return parameterization
    return Coefficients(parameterization, signed=values_range[0] == -values_range[1])


def lowest_value(parameterization: object) -> float:
    """The lowest value of an image, of which 1 is the highest."""
    return -1.0 if isinstance(parameterization, Coefficients) and parameterization.signed else 0.0


def steepest(gradient: Any, preconditioner: tuple) -> Any:
    """The direction in which an ascent moves, of a gradient.

    Args:
        gradient: Float32 tensor `(images, ...)`; of channels second, where they are mixed.
        preconditioner: Tensors as a parameterization's `precondition` gives them: none;
            or weights, one for each of an image's parameters or broadcast against them,
            by which the gradient is multiplied; or these and a matrix `(channels,
            channels)` by which its channels are then mixed. Both together are symmetric,
            and negative in no direction.
    """
    if not preconditioner:
        return gradient
    weights, *mixture = preconditioner
    direction = gradient * weights
    return _mix(direction, *mixture) if mixture else direction


def _check(self):
    mean = np.asarray(self.mean)
    are_shares = mean.dtype.kind in "fiu" and np.all((mean > 0) & (mean < 1))
    _require(self, "mean", are_shares and mean.ndim < 2, "one or more numbers between 0 and 1")
    # Lists and arrays become tuples: a parameterization is compared by value.
    mean = tuple(map(float, mean)) if mean.ndim else float(mean)
    object.__setattr__(self, "mean", mean)
    _require(self, "contrast", self.contrast > 0, "above 0")
    _require(self, "start", self.start >= 0, "0 or more")


def _require(self, name, holds, expected):
    if not holds:
        raise ValueError(
            f"Invalid value for argument `{name}`. Expected {expected}. "
            f"Received: {name}={getattr(self, name)!r}"
        )


@lru_cache(maxsize=8)
def _frequencies(height, width, detail):
    """The frequency of each function of a separable basis."""
    down = sampling.fourier_frequencies(height, detail)[:, None]
    across = sampling.fourier_frequencies(width, detail)[None]
    # In cycles along the longer side, so that the spectrum is isotropic.
    longest = max(height, width)
    frequencies = np.hypot(down * longest / height, across * longest / width)
    frequencies.flags.writeable = False
    return frequencies


def _is_signal(shape):
    return shape[0] == 1


def _is_rgb(shape):
    # Three channels of a signal are no colours.
    return shape[2] == 3 and not _is_signal(shape)


def _squash(field, mean, shape):
    logit = _ground(mean, shape)
    return ops.sigmoid(field + ops.convert_to_tensor(logit) if logit.any() else field)


def _ground(mean, shape):
    """The field of an image that is its mean all over."""
    if isinstance(mean, tuple) and len(mean) != shape[2]:
        raise ValueError(
            f"Invalid value for argument `mean`. Expected one number, or {shape[2]} of them for "
            f"images of shape {shape}. Received: mean={mean}"
        )
    return _logit(np.asarray(mean, "float64")).astype("float32")


def _mix(coefficients, colors):
    """Channels `(images, channels, ...)` from mixtures, one of them a column of the matrix."""
    images, channels, *_ = coefficients.shape
    flat = ops.reshape(coefficients, (images, channels, -1))
    return ops.reshape(ops.matmul(colors, flat), coefficients.shape)


def _strengths(hues, shape):
    """Of the decorrelated colours, of which the first is lightness."""
    return np.array([1.0] + [hues] * (shape[2] - 1))


def _logit(shares):
    return np.log(shares / (1 - shares))
