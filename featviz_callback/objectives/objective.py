"""What an image should maximise: objectives, and their algebra.

An objective names units of one model, and scores each image by how much the image
activates them. Objectives are immutable and add up:

* `2 * a - b / 3` scores exactly `2 * score(a) - score(b) / 3` for each image;
* if `a` has several targets (ten neurons) and `b` too (five channels), their sum has
  every combination (fifty), in order.

A unit is a *neuron* (one number of a layer's output), a *channel* (its mean over
space), a *layer* (all of it) or a *direction* (a vector in the space of its
channels). `custom` takes any function.

An objective never changes the model it reads, and computes nothing until it is asked
for scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from featviz_callback import backend
from featviz_callback.objectives import inputs, units
from featviz_callback.objectives.given import as_given
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.readouts import (
    ChannelReadout,
    CustomReadout,
    DirectionReadout,
    LayerReadout,
    LikenessReadout,
    NeuronReadout,
    read_scores,
)
from featviz_callback.objectives.terms import Facets, WeightedSum, check_multiplier, make_term
from featviz_callback.objectives.units import is_number

# The only row of data of a readout that takes a layer as a whole.
_NO_IDS = np.zeros(1, "int32")


# The power of the cosine in a caricature.
_EXAGGERATION = 2.0


@dataclass(frozen=True, eq=False, repr=False)
class Objective(WeightedSum):
    """What to maximise in one model: a weighted sum of terms.

    Make one with `Objective.neuron`, `.channel`, `.layer`, `.direction` or
    `.custom`, and combine them with `+`, `-`, `*`, `/` and `sum`.

    Attributes:
        model: The Keras model whose layers are read.
        terms: The terms of the sum.
        several: What `facets` was given, or `None`.
        outer: The model that was named, if what is read is a part of it.

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

    outer: keras.Model | None = None

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
            layer: A name, an index, a layer, or a path such as `"backbone/conv3"`.
                A part of a path is a layer's name, or the attribute that holds it:
                `"left/conv"`, `"blocks[0]"`. If a layer is called several times,
                `"conv:1"` is its second call. If it returns several tensors,
                `"layer[0]"` or `"layer[key]"` is one of them.
            neurons_ids: An id, or a sequence or integer array of them. An id is
                an index into the flattened output (channels last), or a tuple
                such as `(row, column, channel)`. Negative ids count from the end.
            multiplier: Factor of the score. Finite.
            names: One name an id. Defaults to `"Neuron#layer_id"`.
            pre_activation: Whether to read what the layer's activation receives, in
                place of what it returns. By default a softmax or a sigmoid is removed
                in this way, so that the score is the logit, and no other activation.
                That holds too for one before layers that only pass on values, such as
                `Dropout` or `Flatten`.

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
        called, tap, shape = units.find_tap(model, layer, pre_activation)
        units.require_known(shape, tap, "Objective.channel")
        ids, labels = units.neuron_ids(neurons_ids, shape)
        labels = [f"Neuron#{tap.name}_{label}" for label in labels]
        rows = np.array(ids, "int32")
        term = make_term(NeuronReadout(shape), (tap,), rows, multiplier, names, labels)
        return _reading(model, called, term)

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
            layer: A name, an index, a layer, or a path such as `"backbone/conv3"`.
                A part of a path is a layer's name, or the attribute that holds it:
                `"left/conv"`, `"blocks[0]"`. If a layer is called several times,
                `"conv:1"` is its second call. If it returns several tensors,
                `"layer[0]"` or `"layer[key]"` is one of them.
            channel_ids: An id, or a sequence or integer array of them. Negative
                ids count from the end.
            multiplier: Factor of the score. Finite.
            names: One name an id. Defaults to `"Channel#layer_id"`.
            pre_activation: Whether to read what the layer's activation receives.
                Shows a channel that a ReLU has silenced. By default a softmax or a
                sigmoid is removed.

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
        found = units.find_tap(model, layer, pre_activation)
        return _channels(model, *found, channel_ids, multiplier, names)

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
            layer: A name, an index, a layer, or a path such as `"backbone/conv3"`.
                A part of a path is a layer's name, or the attribute that holds it:
                `"left/conv"`, `"blocks[0]"`. If a layer is called several times,
                `"conv:1"` is its second call. If it returns several tensors,
                `"layer[0]"` or `"layer[key]"` is one of them.
            reducer: `"magnitude"`, the mean of squares, or `"mean"`.
            multiplier: Factor of the score. Finite.
            name: Defaults to `"Layer#layer"`.
            pre_activation: Whether to read what the layer's activation receives.
                By default a softmax or a sigmoid is removed.

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
        called, tap, shape = units.find_tap(model, layer, pre_activation)
        labels = [f"Layer#{tap.name}"]
        readout = LayerReadout(reducer, len(shape) > 1)
        term = make_term(readout, (tap,), _NO_IDS, multiplier, name, labels)
        return _reading(model, called, term)

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
            layer: A name, an index, a layer, or a path such as `"backbone/conv3"`.
                A part of a path is a layer's name, or the attribute that holds it:
                `"left/conv"`, `"blocks[0]"`. If a layer is called several times,
                `"conv:1"` is its second call. If it returns several tensors,
                `"layer[0]"` or `"layer[key]"` is one of them.
            vectors: One vector `(channels,)`, several `(vectors, channels)`, or
                arrays of the layer's whole shape, with a vector for each
                position. Finite and not all zero. An array of the layer's whole
                shape is one target, even if it could be one vector a target. For an
                output `(4, 8)`, give four vectors of 8 as
                `np.repeat(vectors[:, None], 4, axis=1)`.
            multiplier: Factor of the score. Finite.
            cossim_pow: Exponent of the cosine, not negative. 0 maximises the
                product alone.
            names: One name a vector. Defaults to `"Direction#layer_i"`.
            pre_activation: Whether to read what the layer's activation receives.
                By default a softmax or a sigmoid is removed.

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
        called, tap, shape = units.find_tap(model, layer, pre_activation)
        rows = units.as_rows(vectors, shape)
        if not (is_number(cossim_pow) and 0 <= cossim_pow < math.inf):
            raise ValueError(
                "Invalid value for argument `cossim_pow`. Expected a finite number, 0 or "
                f"more. Received: cossim_pow={cossim_pow!r}"
            )
        labels = [f"Direction#{tap.name}_{i}" for i in range(len(rows))]
        readout = DirectionReadout(float(cossim_pow), len(shape) > 1)
        term = make_term(readout, (tap,), rows, multiplier, names, labels)
        return _reading(model, called, term)

    @staticmethod
    def inversion(
        model: keras.Model,
        layer: str | int | keras.Layer,
        images: ArrayLike,
        multiplier: float = 1.0,
        names: str | Sequence[str] | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """Images with the same activations as given ones: what a layer knows of them.

        The score is `1 - |x - a|**2 / |a|**2`, with activations `x` of an image and `a` of
        the given one, on the weights that the model has at that time. The standard
        transformations leave these images where they are.

        Args:
            model: A built Keras model.
            layer: A layer, as for `Objective.neuron`.
            images: Images `(images, height, width, channels)` as the model takes them, or
                one without the first axis; for a model of signals `(images, time,
                channels)`. Finite.
            multiplier: Factor of the score. Finite.
            names: One name an image. Defaults to `"Inversion#layer_i"`.
            pre_activation: Whether to read what the layer's activation receives.
                By default a softmax or a sigmoid is removed.

        Returns:
            An objective with one target an image.

        Raises:
            ValueError: If an argument is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> inversion = Objective.inversion(model, "conv", np.ones((1, 8, 8, 1)))
        >>> inversion.names, inversion.score(np.ones((1, 8, 8, 1)))
        (['Inversion#conv_0'], array([1.], dtype=float32))

        Reference:
            Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting
            Them", CVPR 2015.
        """
        called, tap, shape = units.find_tap(model, layer, pre_activation)
        readout = LikenessReadout(len(shape) > 1)
        term = _of_images("Inversion", called, tap, readout, images, multiplier, names)
        return _reading(model, called, term)

    @staticmethod
    def caricature(
        model: keras.Model,
        layer: str | int | keras.Layer,
        images: ArrayLike,
        multiplier: float = 1.0,
        names: str | Sequence[str] | None = None,
        *,
        pre_activation: bool | None = None,
    ) -> Objective:
        """Images that exaggerate what a layer makes of given ones.

        The score is that of `Objective.direction`, with the given image's activations at
        each position as the vectors, on the weights that the model has at that time. The
        standard transformations leave these images where they are.

        Args:
            model: A built Keras model.
            layer: A layer, as for `Objective.neuron`.
            images: Images, as for `Objective.inversion`.
            multiplier: Factor of the score. Finite.
            names: One name an image. Defaults to `"Caricature#layer_i"`.
            pre_activation: Whether to read what the layer's activation receives.
                By default a softmax or a sigmoid is removed.

        Returns:
            An objective with one target an image.

        Raises:
            ValueError: If an argument is invalid.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> Objective.caricature(model, "conv", np.ones((2, 8, 8, 1))).names
        ['Caricature#conv_0', 'Caricature#conv_1']

        Reference:
            Olah et al., "The Building Blocks of Interpretability", Distill 2018, for the
            product of activations with the power of a cosine.
        """
        called, tap, shape = units.find_tap(model, layer, pre_activation)
        readout = DirectionReadout(_EXAGGERATION, len(shape) > 1)
        term = _of_images("Caricature", called, tap, readout, images, multiplier, names)
        return _reading(model, called, term)

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
            layers: One layer, as for `Objective.neuron`, or a list of them. A softmax
                or a sigmoid at their end is removed.
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
        models, taps, _ = zip(*(units.find_tap(model, one, None) for one in layers), strict=True)
        if any(one is not models[0] for one in models):
            raise ValueError(
                "Invalid value for argument `layers`. Expected layers of one part of the model "
                f"'{model.name}', since one image goes through one part. Received: "
                f"layers={layers!r}"
            )
        labels = ["Custom#" + "+".join(tap.name for tap in taps)]
        term = make_term(CustomReadout(function), taps, _NO_IDS, multiplier, names, labels)
        return _reading(model, models[0], term)

    def facets(self, count: int, strength: float = 1.0) -> Objective:
        """Several images of each target that differ from each other: what else activates it.

        They are made one after the other, and the first is the picture of the target alone.
        A later one begins on the other side of earlier ones, unless the first one began at a
        plain colour or at other noise than the usual faint one, and climbs alone while it scores
        less than 85 % of the first one at the same step. From there on it loses score for
        what it has in common with earlier ones, times `strength`. It is made again if it ends
        far from 87 % of the first one's score, several times below 86 %. It may have more
        contrast than the first. Images are compared by their pixels, and by the Gram matrices
        of the last features on the way to the target.

        Args:
            count: Images of each target, 2 or more.
            strength: How much they have to differ. 0 or more, finite.

        Returns:
            An objective with `count` targets for each one of this, named
            `"Neuron#logits_0, facet 1 of 4"`. It can be multiplied, but not added to
            another one: add first.

        Raises:
            ValueError: If an argument is invalid, or the objective has facets already.

        Example:
        >>> from keras import Input, Sequential
        >>> from keras.layers import Conv2D
        >>> model = Sequential([Input((8, 8, 1)), Conv2D(4, 3, name="conv")])
        >>> Objective.channel(model, "conv", 3).facets(2).names
        ['Channel#conv_3, facet 1 of 2', 'Channel#conv_3, facet 2 of 2']

        Reference:
            Olah, Mordvintsev, Schubert, "Feature Visualization", Distill 2017, "Diversity".
        """
        if not isinstance(count, Integral) or isinstance(count, bool) or count < 2:
            raise ValueError(
                "Invalid value for argument `count`. Expected a whole number, 2 or more. "
                f"Received: count={count!r}"
            )
        if not (is_number(strength) and 0 <= strength < math.inf):
            raise ValueError(
                "Invalid value for argument `strength`. Expected a finite number, 0 or more. "
                f"Received: strength={strength!r}"
            )
        if self.several is not None:
            raise ValueError(
                f"Expected an objective without facets. Received: one with {self.facet_count}."
            )
        return replace(self, several=Facets(int(count), float(strength)))

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
        if self.several or other.several:
            raise ValueError(
                "Objectives with facets cannot be added. Expected the facets of a sum: "
                "`(a + b).facets(4)`."
            )
        outer = other.outer if self.outer is None else self.outer
        return replace(self, terms=self.terms + other.terms, outer=outer)

    __radd__ = __add__

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Objective) -> Objective:
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        if not is_number(factor):
            return NotImplemented
        factor = check_multiplier(factor)
        scaled = (
            replace(t, multiplier=check_multiplier(t.multiplier * factor)) for t in self.terms
        )
        return replace(self, terms=tuple(scaled))

    __rmul__ = __mul__
    # An array times an objective is refused, not an array of objectives.
    __array_ufunc__ = None

    def __truediv__(self, divisor: float) -> Objective:
        if not is_number(divisor):
            return NotImplemented
        if divisor == 0:
            raise ZeroDivisionError("An objective cannot be divided by zero.")
        return self * (1.0 / float(divisor))

    def __copy__(self) -> Objective:
        return self

    def __deepcopy__(self, memo: dict) -> Objective:
        # An objective is immutable, and a copy of a callback must watch the network that is
        # trained, not a copy of it.
        return self

    def __getstate__(self) -> dict:
        # A worker gets the part alone.
        return {**vars(self), "outer": None}

    def score(self, images: ArrayLike, fixed_inputs: Mapping | None = None) -> np.ndarray:
        """Score images as they are.

        Args:
            images: Array `(images, height, width, channels)`, or signals `(signals,
                time, channels)`, in the range of the model's input: one a target,
                in order, or any number of them if the objective has one target. Bytes
                (uint8) stay bytes for a model with a `call` of its own that takes them.
            fixed_inputs: See `optimize`.

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
        given = np.asarray(images)
        if given.dtype != "uint8" or inputs.is_declared(self.model):
            given = given.astype("float32", copy=False)
        if len(self) not in (1, len(given)):
            raise ValueError(
                f"Invalid value for argument `images`. Expected {len(self)} images, one a "
                f"target. Received: images.shape={given.shape}"
            )
        data = keras.tree.map_structure(
            lambda rows: ops.convert_to_tensor(np.repeat(rows, len(given) // len(self), axis=0)),
            self.data(),
        )
        image_input, fixed = inputs.resolve(self.model, fixed_inputs, given.ndim - 1)
        fixed = inputs.repeat(fixed, len(given))
        try:
            return self._scores(image_input, given, fixed, data)
        except Exception:
            if given.dtype != "uint8":
                raise
        # A convolution takes no whole numbers.
        return self._scores(image_input, given.astype("float32"), fixed, data)

    def _scores(self, image_input, given, fixed, data):
        tensor = ops.convert_to_tensor(image_input.to_images(given))
        with preserved(self.model), keras.StatelessScope():
            arguments = image_input.call_arguments(self.model, tensor, fixed)
            scores = read_scores(self.model, self.readouts, arguments, data)
        return backend.load().to_numpy(scores)


def _of_images(kind, model, tap, readout, images, multiplier, names):
    """Return a term that compares with given images, one alternative an image."""
    given = as_given(images, model, tap)
    rows = given.activations(model)
    silent = np.flatnonzero(~rows.reshape(len(rows), -1).any(1))
    if len(silent):
        raise ValueError(
            f"Invalid value for argument `images`. Expected images that activate the layer "
            f"{tap.name!r}. Received: images {silent.tolist()}, on which it is zero everywhere"
        )
    labels = [f"{kind}#{tap.name}_{i}" for i in range(len(rows))]
    return replace(make_term(readout, (tap,), rows, multiplier, names, labels), given=given)


def all_channels(model: keras.Model, layers: Sequence[str | int | keras.Layer]) -> list[Objective]:
    """Return every channel of some layers, one objective a layer.

    Args:
        model: See `Objective.channel`.
        layers: At least one layer, all of one part of the model if that is a wrapper.
    """
    found = units.find_taps(model, layers)
    return [_channels(model, *one, range(one[-1][-1]), 1.0, None) for one in found]


def _channels(model, called, tap, shape, channel_ids, multiplier, names):
    units.require_known(shape[-1:], tap, "Objective.layer")
    ids = units.indices(channel_ids, shape[-1], "channel_ids")
    labels = [f"Channel#{tap.name}_{i}" for i in ids]
    rows = np.array(ids, "int32")
    term = make_term(ChannelReadout(len(shape) > 1), (tap,), rows, multiplier, names, labels)
    return _reading(model, called, term)


def _reading(model, called, term):
    """Return the objective of a term, which is read in a model or in a part of it."""
    return Objective(called, (term,), outer=None if called is model else model)
