"""Find what a model does to images before one of its parts gets them.

A contrastive model keeps `Rescaling` in a model of augmentations, a diffusion model keeps
`Normalization` as an attribute. Their `train_step` calls it before the part that is watched.
Only the structure tells of it, since nobody can look inside a `train_step`.

A model with a `call` can be asked: examples of its own inputs show what the part gets,
whatever stands between. It is called for inference, up to that part, and never changed.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives import inputs
from featviz_callback.objectives.layers import graph, graph_nodes
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.paths import lineage, walk
from featviz_callback.objectives.preserve import preserved
from featviz_callback.objectives.recording import Tap, record
from featviz_callback.objectives.scaling import Scaling
from featviz_callback.objectives.wrappers import has_own_step, is_wrapper

_SCALING = (keras.layers.Normalization, keras.layers.Rescaling)

# So many examples are in one call of a model.
_AT_ONCE = 32
# An attribute of a node of a graph: the model of `model_around`.
_AROUND = "_featviz_around"

# Images of these values show how a model scales them: none of them is too much for a byte.
_VALUES = (0, 1, 128, 255)

# How far from a straight line a scaling may be, as a share of the difference of its ends.
_STRAIGHT = 0.02

# An axis of any size gets this one.
_SIZE = 64


def scaling_layers(model: keras.Model, parts: Collection[keras.Model]) -> list[str]:
    """Return the paths of layers that scale, outside of the parts that are watched.

    Args:
        model: A wrapper.
        parts: The watched models inside it.
    """
    inside = {id(layer) for part in parts for layer in (part, *(one for _, one in walk(part)))}
    return [
        path
        for path, layer in walk(model)
        if isinstance(layer, _SCALING) and id(layer) not in inside
    ]


def scaling_outside(
    model: keras.Model, parts: Collection[keras.Model], channels: int
) -> Scaling | None:
    """Return the scaling that stands before parts of a wrapper, `None` if that is not known.

    It is known if every place outside of the parts that scales images does it alike, and
    learns nothing: a scaling in a decoder or in a teacher belongs to that.

    Args:
        model: A wrapper.
        parts: The watched models inside it.
        channels: The number of channels of an image.

    Example:
    >>> from keras import Input, Model, Sequential
    >>> from keras.layers import Conv2D, RandomFlip, Rescaling
    >>> class Contrastive(Model):
    ...     def __init__(self):
    ...         super().__init__()
    ...         scaled = Rescaling(0.5, -1.0, name="scaled")
    ...         flipped = [Input((8, 8, 3)), scaled, RandomFlip()]
    ...         self.augmenter = Sequential(flipped, name="augmenter")
    ...         self.encoder = Sequential([Input((8, 8, 3)), Conv2D(4, 3)])
    >>> model = Contrastive()
    >>> scaling_outside(model, [model.encoder], 3)
    Scaling(path='augmenter/scaled', slopes=(0.5,), offsets=(-1.0,))
    """
    chains: dict[str, list[str]] = {}
    for path in scaling_layers(model, parts):
        chains.setdefault(path.rpartition("/")[0], []).append(path)
    found = []
    for chain in chains.values():
        holders = lineage(model, chain[0])[1:-1]
        layers = [lineage(model, path)[-1] for path in chain]
        if not all(map(_is_ready, layers)) or any(map(_learns, holders)):
            return None
        found.append(_measured(chain[0], layers, channels))
    if not found or any(one is None for one in found):
        return None
    same = all(
        np.allclose((one.slopes, one.offsets), (found[0].slopes, found[0].offsets), rtol=1e-3)
        for one in found
        if len(one.slopes) == len(found[0].slopes)
    )
    return found[0] if same and len({len(one.slopes) for one in found}) == 1 else None


def _is_ready(layer):
    # A normalisation would be built by a call, without the statistics of any data.
    return layer.built or isinstance(layer, keras.layers.Rescaling)


def _learns(layer):
    """Whether a layer has weights, other than the statistics of data."""
    leaves = [layer, *(one for _, one in walk(layer))]
    return any(
        one.weights for one in leaves if not sublayers(one) and not isinstance(one, _SCALING)
    )


def _measured(path, layers, channels):
    """What layers do to images in turn, each of them a straight line."""
    ends = np.stack([np.zeros(channels), np.ones(channels)]).astype("float32")
    values = ops.convert_to_tensor(ends[:, None, None])
    try:
        with backend.load().without_gradients(), keras.StatelessScope():
            for layer in layers:
                values = layer(values)
    except ValueError:
        # Statistics of another shape, such as one a pixel.
        return None
    dark, bright = backend.load().to_numpy(ops.cast(values, "float32")).reshape(2, -1)
    slopes, offsets = bright - dark, dark
    if len(slopes) != channels or not slopes.all():
        return None
    if np.ptp(slopes) == 0 and np.ptp(offsets) == 0:
        slopes, offsets = slopes[:1], offsets[:1]
    return Scaling(path, tuple(map(float, slopes)), tuple(map(float, offsets)))


# --- a model that can be called ----------------------------------------------------------------


def calls_part(model: keras.Model, part: keras.Model) -> bool:
    """Whether training calls a model as a whole, and a watched part inside with it.

    A `train_step` of its own may do anything to images before that, which its layers outside
    of the call tell.

    Args:
        model: The model that is trained.
        part: The model that is watched.
    """
    if model is part or is_wrapper(model) or not model.built or _path(model, part) is None:
        return False
    if not has_own_step(model):
        return True
    found = graph(model)
    called = set() if found is None else {id(node.operation) for node in graph_nodes(found)}
    outermost = (lineage(model, path)[1] for path in scaling_layers(model, [part]))
    return found is not None and all(id(layer) in called for layer in outermost)


def model_around(part: keras.Model) -> keras.Model | None:
    """Return a model that changes images and then calls a part, if graphs tell of one.

    A functional or sequential model that calls another one leaves a trace at that. The model
    that is returned has the same layers, up to the part. Where several do, the latest counts.

    Args:
        part: Any model.

    Returns:
        A functional model, the same one at each call, or `None` if none is known, if the part
        gets its inputs unchanged, or if they are made of what is no image, as in a GAN.

    Example:
    >>> from keras import Input, Sequential
    >>> from keras.layers import Conv2D, Rescaling
    >>> part = Sequential([Input((8, 8, 3)), Conv2D(4, 3)], name="part")
    >>> whole = Sequential([Input((8, 8, 3)), Rescaling(0.5, -1.0), part])
    >>> scaling_on_the_way(model_around(part), part)
    Scaling(path='around part', slopes=(0.5,), offsets=(-1.0,))
    """
    for node in reversed(part._inbound_nodes):
        tensors = [tensor for tensor in node.input_tensors if hasattr(tensor, "_keras_history")]
        sources = _sources(tensors)
        if not sources:
            continue
        if all(any(one is source for source in sources) for one in tensors):
            return None
        if not hasattr(node, _AROUND):
            # With the node it is forgotten.
            setattr(node, _AROUND, keras.Model(sources, node.outputs, name=f"around {part.name}"))
        around = getattr(node, _AROUND)
        rank = len(inputs.shapes(around)[image_place(around)])
        return around if rank == max(len(one.shape) - 1 for one in tensors) else None
    return None


def _sources(tensors):
    """The inputs of a graph that some tensors depend on, `None` if a tensor is of no graph."""
    found, waiting, seen = {}, list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        operation, place, _ = tensor._keras_history
        if operation is None:
            return None
        node = operation._inbound_nodes[place]
        if node.is_input:
            found.setdefault(id(tensor), tensor)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting += node.input_tensors
    return list(found.values())


def _path(model, part):
    return next((path for path, layer in walk(model) if layer is part), None)


def received_by_part(
    model: keras.Model, part: keras.Model, found: Mapping[int, np.ndarray]
) -> dict[int, np.ndarray] | None:
    """Return what a part gets at its first call, where the model around it gets examples.

    Args:
        model: The model that calls the part.
        part: A model inside it.
        found: Examples of the model's inputs, by their places. Inputs without any get zeros,
            ones where they are whole numbers, or empty strings.

    Returns:
        Float32 arrays by the places of the part's inputs, or `None` if the model cannot be
        called so. A model that folds its images into the batch gives more than it gets.

    Example:
    >>> from keras import Input, Model, Sequential
    >>> from keras.layers import Flatten
    >>> core = Sequential([Input((2, 2, 1)), Flatten()])
    >>> images = Input((2, 2, 1), dtype="uint8")
    >>> model = Model(images, core(ops.cast(images, "float32") - 1.0))
    >>> float(received_by_part(model, core, {0: np.full((3, 2, 2, 1), 255, "uint8")})[0].max())
    254.0
    """
    flat = keras.tree.flatten(inputs.specs(model))
    places = keras.tree.flatten_with_path(inputs.specs(part))
    path = _path(model, part)
    taps = [Tap(path, "input", index=tuple(map(str, place))) for place, _ in places]
    count = min(map(len, found.values()))
    chosen = [
        found[i][:count] if i in found else _nothing(one, count) for i, one in enumerate(flat)
    ]
    try:
        parts = _recorded(model, taps, chosen, flat[0].shape[0], count)
    except Exception:
        # Whatever a model's own call raises; nobody can tell what the part gets then.
        return None
    return dict(enumerate(parts))


def _nothing(tensor, count):
    shape = (count, *(size or 1 for size in tensor.shape[1:]))
    if tensor.dtype == "string":
        return np.full(shape, "", object)
    is_float = keras.backend.is_float_dtype(tensor.dtype)
    return np.full(shape, 0 if is_float else 1, "float32" if is_float else tensor.dtype)


def _recorded(model, taps, chosen, batch, count):
    """Return an array for each tap, of so many examples in batches of one size, if it is known."""
    size, parts = batch or min(count, _AT_ONCE), []
    for first in range(0, count, size):
        # A batch of a fixed size is filled from the beginning.
        own = np.arange(first, first + size if batch else min(first + size, count)) % count
        kept = min(size, count - first)
        with preserved(model), backend.load().without_gradients(), keras.StatelessScope():
            given = [_as_tensor(one[own]) for one in chosen]
            arguments = keras.tree.pack_sequence_as(inputs.specs(model), given)
            tensors = record(model, arguments, taps)
            arrays = [backend.load().to_numpy(ops.cast(one, "float32")) for one in tensors]
        parts.append([one[: len(one) * kept // len(own)] for one in arrays])
    return [np.concatenate(one) for one in zip(*parts, strict=True)]


def _as_tensor(array):
    is_float = array.dtype.kind == "f"
    return ops.convert_to_tensor(array.astype("float32") if is_float else array)


def image_place(model: keras.Model) -> int:
    """Return the place of the largest input of a model, which is that of images if any is."""
    flat = keras.tree.flatten(inputs.specs(model))
    sizes = [
        -1 if one.dtype == "string" else math.prod(size or _SIZE for size in one.shape[1:])
        for one in flat
    ]
    return int(np.argmax(sizes))


def takes_whole_numbers(model: keras.Model) -> str | None:
    """Return the dtype of the largest input of a model if it is of whole numbers, else `None`."""
    dtype = keras.tree.flatten(inputs.specs(model))[image_place(model)].dtype
    is_whole = inputs.is_declared(model) and keras.backend.is_int_dtype(dtype)
    return dtype if is_whole else None


def scaling_on_the_way(model: keras.Model, part: keras.Model) -> Scaling | None:
    """Return how a model scales images before a part of it gets them.

    Args:
        model: The model that calls the part.
        part: A model inside it that takes images.

    Returns:
        The scaling, of the model's name, or `None` if it is no straight line, differs from
        place to place or cannot be measured.
    """
    taken = inputs.resolve(part, announce=False)[0]
    place, own = image_place(model), [taken.shape["hwc".index(axis)] for axis in taken.axes]
    spec = keras.tree.flatten(inputs.specs(model))[place]
    sizes = spec.shape[1:]
    instead = own if len(own) == len(sizes) else [None] * len(sizes)
    shape = [size or other or _SIZE for size, other in zip(sizes, instead, strict=True)]
    values = np.asarray(_VALUES, takes_whole_numbers(model) or "float32")
    images = np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (len(values), *shape))
    found = received_by_part(model, part, {place: images})
    if found is None:
        return None
    got = found[taken.position or 0]
    channel = 1 + taken.axes.index("c") if "c" in taken.axes else None
    got = got[..., None] if channel is None else np.moveaxis(got, channel, -1)
    if len(got) % len(values) or not np.isfinite(got).all():
        return None
    got = got.reshape(len(values), -1, got.shape[-1])
    # Borders that are padded receive nothing of an image.
    return _straight(model.name, got[:, np.ptp(got, axis=0).any(-1)])


def _straight(name, got):
    """The straight line through what images of each of `_VALUES` give, for each channel."""
    dark, near, middle, bright = got
    if not len(dark):
        return None
    slopes = (bright - dark) / _VALUES[-1]
    slope, offset = np.median(slopes, axis=0), np.median(dark, axis=0)
    widest = np.abs(bright - dark).max()
    bend = np.abs(middle - dark - _VALUES[2] * slope).max()
    # Half precision rounds the small ones.
    start = np.abs(near - dark - slope).max() - 1e-3
    spread = max(np.abs(slopes - slope).max() * _VALUES[-1], np.abs(dark - offset).max())
    if not slope.all() or max(bend, spread) > _STRAIGHT * widest:
        return None
    if start > _STRAIGHT * np.abs(slope).max():
        return None
    if np.ptp(slope) == 0 and np.ptp(offset) == 0:
        slope, offset = slope[:1], offset[:1]
    return Scaling(name, tuple(map(float, slope)), tuple(map(float, offset)))
