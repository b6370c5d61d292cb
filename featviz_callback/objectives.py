"""What an image should excite: objectives, and their algebra.

An objective names units of one model and scores each image by how much it
excites them. Objectives are immutable and add up:

* `2 * a - b / 3` scores exactly `2 * score(a) - score(b) / 3` for each image;
* where `a` has several targets (ten neurons) and `b` too (five channels), their
  sum has every combination (fifty), in order.

A unit is a *neuron* (one number of a layer's output), a *channel* (its mean over
space), a *layer* (all of it) or a *direction* (a vector in the space of its
channels). `custom` takes any function.

The compiled step of `programs` sees an objective as two parts: how each term reads a
layer, which is program, and ids, vectors and multipliers, which are data. Other units
of the same layers need no new program.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from featviz_callback import inputs, units
from featviz_callback.activations import Tap, layer_calls
from featviz_callback.reads import (
    Read,
    ReadChannel,
    ReadCustom,
    ReadDirection,
    ReadLayer,
    ReadNeuron,
    read_scores,
)
from featviz_callback.spread import spread
from featviz_callback.units import is_number, is_sequence
from featviz_callback.untouched import untouched

_LARGEST = float(np.finfo("float32").max)
# The one row of what reads a layer as a whole.
_NO_IDS = np.zeros(1, "int32")

# What `default_objectives` takes channels from.
_CONVOLUTIONS = (
    *(keras.layers.Conv2D, keras.layers.SeparableConv2D, keras.layers.Conv2DTranspose),
    *(keras.layers.Conv1D, keras.layers.SeparableConv1D, keras.layers.Conv1DTranspose),
)
# How many outputs, and units of them all, it takes at most.
_MOST_UNITS = 16


@dataclass(frozen=True, eq=False)
class Term:
    """`multiplier * read(outputs of the taps)`, for each of some alternatives.

    Attributes:
        read: How the outputs become a score. Part of the compiled program.
        taps: Which outputs.
        data: One row an alternative: int32 ids or float32 vectors.
        names: One name an alternative.
        multiplier: A finite number.
    """

    read: Read
    taps: tuple[Tap, ...]
    data: np.ndarray
    names: tuple[str, ...]
    multiplier: float


@dataclass(frozen=True, eq=False, repr=False)
class Objective:
    """What to maximise in one model: a weighted sum of terms.

    Make one with `Objective.neuron`, `.channel`, `.layer`, `.direction` or
    `.custom`, and combine them with `+`, `-`, `*`, `/` and `sum`.

    Attributes:
        model: The Keras model that is looked into.
        terms: The terms of the sum.

    Example:
    >>> import keras
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 1)),
    ...     keras.layers.Conv2D(4, 3, name="conv"),
    ...     keras.layers.Flatten(),
    ...     keras.layers.Dense(10, name="logits"),
    ... ])
    >>> both = Objective.neuron(model, "logits", [0, 1]) + 2 * Objective.channel(model, "conv", 3)
    >>> both.names
    ['Neuron#logits_0 & Channel#conv_3', 'Neuron#logits_1 & Channel#conv_3']

    Reference:
        Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017,
        "Optimization Objectives".
    """

    model: keras.Model
    terms: tuple[Term, ...]

    @staticmethod
    def neuron(
        model: keras.Model,
        layer: str | int | keras.Layer,
        neurons_ids: ArrayLike,
        multiplier: float = 1.0,
        names: str | Sequence[str] | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """Single numbers of a layer's output.

        Args:
            model: A built Keras model.
            layer: Name, index, layer, or a path such as `"backbone/conv3"`. Of a
                layer that is called several times `"conv"` is the first call,
                `"conv:1"` the second.
            neurons_ids: An id, or a sequence or integer array of them. An id is
                an index into the flattened output (channels last), or a tuple
                such as `(row, column, channel)`. Negative ids count from the end.
            multiplier: Factor of the score. Finite.
            names: One name an id. Defaults to `"Neuron#layer_id"`.
            pre_activation: Whether to read what the layer's activation receives
                rather than what it returns. Defaults to that for a softmax only.

        Returns:
            An objective with one target an id.

        Raises:
            ValueError: If the layer, an id, a name or the multiplier is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((6, 6, 1)), Conv2D(2, 3, name="conv")])
        >>> Objective.neuron(model, "conv", [(0, 3, 1), (-1, 0, 0)]).names
        ['Neuron#conv_0_3_1', 'Neuron#conv_3_0_0']
        """
        tap, shape = units.find_tap(model, layer, pre_activation)
        units.require_known(shape, tap, "Objective.channel")
        ids, labels = units.neuron_ids(neurons_ids, shape)
        labels = [f"Neuron#{tap.name}_{label}" for label in labels]
        rows = np.array(ids, "int32")
        return _objective(model, ReadNeuron(shape), (tap,), rows, multiplier, names, labels)

    @staticmethod
    def channel(
        model: keras.Model,
        layer: str | int | keras.Layer,
        channel_ids: ArrayLike,
        multiplier: float = 1.0,
        names: str | Sequence[str] | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """Channels of a layer: the mean over space of each.

        Args:
            model: A built Keras model.
            layer: Name, index, layer, or a path such as `"backbone/conv3"`. Of a
                layer that is called several times `"conv"` is the first call,
                `"conv:1"` the second.
            channel_ids: An id, or a sequence or integer array of them. Negative
                ids count from the end.
            multiplier: Factor of the score. Finite.
            names: One name an id. Defaults to `"Channel#layer_id"`.
            pre_activation: Whether to read what the layer's activation receives.
                Lets a channel that a ReLU has silenced be seen.

        Returns:
            An objective with one target an id.

        Raises:
            ValueError: If the layer, an id, a name or the multiplier is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> len(Objective.channel(model, "conv", range(4)))
        4
        """
        tap, shape = units.find_tap(model, layer, pre_activation)
        units.require_known(shape[-1:], tap, "Objective.layer")
        ids = units.indices(channel_ids, shape[-1], "channel_ids")
        labels = [f"Channel#{tap.name}_{i}" for i in ids]
        rows = np.array(ids, "int32")
        return _objective(model, ReadChannel(), (tap,), rows, multiplier, names, labels)

    @staticmethod
    def layer(
        model: keras.Model,
        layer: str | int | keras.Layer,
        reducer: str = "magnitude",
        multiplier: float = 1.0,
        name: str | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """A whole layer, as in DeepDream.

        Args:
            model: A built Keras model.
            layer: Name, index, layer, or a path such as `"backbone/conv3"`. Of a
                layer that is called several times `"conv"` is the first call,
                `"conv:1"` the second.
            reducer: `"magnitude"`, the mean of squares, or `"mean"`.
            multiplier: Factor of the score. Finite.
            name: Defaults to `"Layer#layer"`.
            pre_activation: Whether to read what the layer's activation receives.

        Returns:
            An objective with one target.

        Raises:
            ValueError: If the layer, the reducer or the multiplier is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> Objective.layer(model, "conv").names
        ['Layer#conv']
        """
        if reducer not in ("magnitude", "mean"):
            raise ValueError(
                "Invalid value for argument `reducer`. Expected 'magnitude' or 'mean'. "
                f"Received: reducer={reducer!r}"
            )
        tap, _ = units.find_tap(model, layer, pre_activation)
        labels = [f"Layer#{tap.name}"]
        return _objective(model, ReadLayer(reducer), (tap,), _NO_IDS, multiplier, name, labels)

    @staticmethod
    def direction(
        model: keras.Model,
        layer: str | int | keras.Layer,
        vectors: ArrayLike,
        multiplier: float = 1.0,
        cossim_pow: float = 2.0,
        names: str | Sequence[str] | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """Vectors in the space of a layer's channels.

        At each position of the layer, with activation `x` and vector `v`, the
        score is `<x, v> * max(0.1, cos(x, v)) ** cossim_pow`; then its mean over
        the positions.

        Args:
            model: A built Keras model.
            layer: Name, index, layer, or a path such as `"backbone/conv3"`. Of a
                layer that is called several times `"conv"` is the first call,
                `"conv:1"` the second.
            vectors: One vector `(channels,)`, several `(vectors, channels)`, or
                arrays of the layer's whole shape, with a vector for each
                position. Finite and not all zero. What is of the layer's whole
                shape is one target, even where it could be a vector a target:
                for an output `(4, 8)`, four vectors of 8 are given as
                `np.repeat(vectors[:, None], 4, axis=1)`.
            multiplier: Factor of the score. Finite.
            cossim_pow: Exponent of the cosine, not negative. 0 maximises the
                product alone.
            names: One name a vector. Defaults to `"Direction#layer_i"`.
            pre_activation: Whether to read what the layer's activation receives.

        Returns:
            An objective with one target a vector.

        Raises:
            ValueError: If an argument is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> Objective.direction(model, "conv", [[1, 0, 0, 1], [0, 1, 0, 0]]).names
        ['Direction#conv_0', 'Direction#conv_1']

        Reference:
            Carter et al., "Activation Atlas", Distill 2019, appendix, for the
            power of the cosine.
        """
        tap, shape = units.find_tap(model, layer, pre_activation)
        rows = units.as_rows(vectors, shape)
        if not (is_number(cossim_pow) and 0 <= cossim_pow < math.inf):
            raise ValueError(
                "Invalid value for argument `cossim_pow`. Expected a finite number, 0 or "
                f"more. Received: cossim_pow={cossim_pow!r}"
            )
        labels = [f"Direction#{tap.name}_{i}" for i in range(len(rows))]
        read = ReadDirection(float(cossim_pow))
        return _objective(model, read, (tap,), rows, multiplier, names, labels)

    @staticmethod
    def custom(
        model: keras.Model,
        layers: str | int | keras.Layer | Sequence[str | int | keras.Layer],
        function: Callable,
        multiplier: float = 1.0,
        names: str | Sequence[str] | None = None,
    ) -> Objective:
        """Any function of the outputs of one or several layers.

        Args:
            model: A built Keras model.
            layers: One layer, as for `Objective.neuron`, or a list of them.
            function: Receives the output of the layer, or the list of outputs of
                several, as float32 tensors `(images, ..., channels)`, and returns
                one score an image, `(images,)`. Written with `keras.ops`. Must
                not mix images.
            multiplier: Factor of the score. Finite.
            names: The target's name. Defaults to `"Custom#layer"`.

        Returns:
            An objective with one target.

        Raises:
            ValueError: If a layer, the function or the multiplier is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> def contrast(outputs):
        ...     return keras.ops.mean(outputs[..., 0] - outputs[..., 1], axis=(1, 2))
        >>> edge = Objective.custom(model, "conv", contrast)
        >>> edge.names
        ['Custom#conv']
        """
        if not callable(function):
            raise ValueError(
                "Invalid value for argument `function`. Expected a function of tensors. "
                f"Received: function={function!r}"
            )
        if not isinstance(layers, (list, tuple)):
            layers = [layers]
        if not layers:
            raise ValueError("Invalid value for argument `layers`. Expected at least one layer.")
        taps = tuple(units.find_tap(model, layer, None)[0] for layer in layers)
        labels = ["Custom#" + "+".join(tap.name for tap in taps)]
        return _objective(model, ReadCustom(function), taps, _NO_IDS, multiplier, names, labels)

    @property
    def names(self) -> list[str]:
        """One name a target, the names of combined targets joined by ` & `."""
        return [" & ".join(n) for n in itertools.product(*(t.names for t in self.terms))]

    def __len__(self) -> int:
        return math.prod(len(term.names) for term in self.terms)

    def __repr__(self) -> str:
        names = self.names
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return f"<Objective of {len(names)} in model '{self.model.name}': {shown}>"

    def __add__(self, other: Objective | int) -> Objective:
        if isinstance(other, Real) and other == 0:  # where `sum` starts
            return self
        if not isinstance(other, Objective):
            return NotImplemented
        if other.model is not self.model:
            raise ValueError(
                "Objectives of different models cannot be added: one image goes through "
                f"one model. Received: models '{self.model.name}' and '{other.model.name}'."
            )
        return Objective(self.model, self.terms + other.terms)

    __radd__ = __add__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        if not is_number(factor):
            return NotImplemented
        factor = _multiplier(factor)
        scaled = (replace(t, multiplier=_multiplier(t.multiplier * factor)) for t in self.terms)
        return Objective(self.model, tuple(scaled))

    __rmul__ = __mul__
    # An array times an objective is refused, not an array of objectives.
    __array_ufunc__ = None

    def __truediv__(self, divisor: float) -> Objective:
        if not is_number(divisor):
            return NotImplemented
        if divisor == 0:
            raise ZeroDivisionError("An objective cannot be divided by zero.")
        return self * (1.0 / float(divisor))

    def __deepcopy__(self, memo: dict) -> Objective:
        # Immutable, and its model is the one being trained: a copy of a callback
        # must not look at a copy of the network.
        return self

    def data(self) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
        """What the compiled program gets of each term.

        Returns:
            For each term `(rows, multipliers)`: ids or vectors, and float32
            factors, one for each target.
        """
        counts = [len(term.names) for term in self.terms]
        chosen = np.unravel_index(np.arange(len(self)), counts)
        return tuple(
            (term.data[rows], np.full(len(self), term.multiplier, "float32"))
            for term, rows in zip(self.terms, chosen, strict=True)
        )

    @property
    def reads(self) -> tuple[tuple[Read, tuple[Tap, ...], tuple[int, ...]], ...]:
        """What a program is made from: how each term reads which taps, and a row's shape."""
        return tuple((term.read, term.taps, term.data.shape[1:]) for term in self.terms)

    def score(self, images: ArrayLike, held_inputs: Mapping | None = None) -> np.ndarray:
        """Scores images as they are.

        Args:
            images: Array `(images, height, width, channels)`, or signals `(signals,
                time, channels)`, in the range of the model's input: one a target,
                in order, or any number where the objective has one target.
            held_inputs: See `optimize`.

        Returns:
            Float32 array `(images,)`. No image's score depends on another image.

        Raises:
            ValueError: If the number of images does not match.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> Objective.channel(model, "conv", 0).score(np.zeros((5, 8, 8, 1))).shape
        (5,)
        """
        given = np.asarray(images, "float32")
        if len(self) not in (1, len(given)):
            raise ValueError(
                f"Invalid value for argument `images`. Expected {len(self)} images, one a "
                f"target. Received: images.shape={given.shape}"
            )
        data = keras.tree.map_structure(
            lambda rows: ops.convert_to_tensor(np.repeat(rows, len(given) // len(self), axis=0)),
            self.data(),
        )
        image_input, held = inputs.resolve(self.model, held_inputs, given.ndim - 1)
        tensor = ops.convert_to_tensor(image_input.to_images(given))
        held = inputs.repeat(held, len(given))
        with untouched(self.model), keras.StatelessScope():
            arguments = image_input.call_arguments(self.model, tensor, held)
            scores = read_scores(self.model, self.reads, arguments, data)
        return ops.convert_to_numpy(scores)


def default_objectives(model: keras.Model) -> list[Objective]:
    """What is worth watching in any image classifier.

    Returns:
        Up to 16 output units, shared among the outputs, or among 16 spread over
        them where there are more, and four channels of each of four convolutions
        spread over the depth; or those of them that the model has.

    Raises:
        ValueError: If the model has neither.
    """
    calls = layer_calls(model, inputs.specs(model))
    convolutions = [
        (call.path, call.shape[-1]) for call in calls if isinstance(call.layer, _CONVOLUTIONS)
    ]
    convolutions = [convolutions[i] for i in spread(len(convolutions), 4)]
    chosen = [
        Objective.channel(model, path, range(min(4, channels)))
        for path, channels in dict(convolutions).items()
    ]
    sizes = {c.path: c.shape[0] for c in _heads(model, calls) if len(c.shape) == 1}
    vectors = [list(sizes)[i] for i in spread(len(sizes), _MOST_UNITS)]
    chosen += [
        Objective.neuron(model, path, range(min(_MOST_UNITS // len(vectors), sizes[path])))
        for path in vectors
    ]
    if not chosen:
        raise ValueError(
            f"Nothing to watch was found in the model '{model.name}': it has no "
            "convolution and its last layer is not a vector. Expected `objectives` to "
            "be given."
        )
    return chosen


def _heads(model, calls):
    """The calls that give a model's outputs; the last one where it does not say."""
    outputs = getattr(model, "outputs", None) or []
    layers = [output._keras_history.operation for output in outputs]
    return [c for c in calls if any(c.layer is layer for layer in layers)] or calls[-1:]


# --- checking arguments -------------------------------------------------------------


def _objective(model, read, taps, data, multiplier, names, labels):
    if names is None:
        names = labels
    elif isinstance(names, str):
        names = [names]
    if (
        not is_sequence(names)
        or len(names) != len(labels)
        or not all(isinstance(name, str) for name in names)
    ):
        raise ValueError(
            f"Invalid value for argument `names`. Expected {len(labels)} strings, one a "
            f"target. Received: names={names!r}"
        )
    data = np.array(data)
    data.flags.writeable = False
    term = Term(read, taps, data, tuple(names), _multiplier(multiplier))
    return Objective(model, (term,))


def _multiplier(value):
    if not is_number(value) or not abs(value) <= _LARGEST:
        raise ValueError(
            "Invalid value for argument `multiplier`. Expected a number that is finite in "
            "float32. "
            f"Received: multiplier={value!r}"
        )
    return float(value)
