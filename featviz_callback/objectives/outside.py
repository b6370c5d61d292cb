"""Find what a wrapper does to images before one of its parts gets them.

A contrastive model keeps `Rescaling` in a model of augmentations, a diffusion model keeps
`Normalization` as an attribute. Their `train_step` calls it before the part that is watched.
Only the structure tells of it, since nobody can look inside a `train_step`.
"""

from __future__ import annotations

from collections.abc import Collection

import keras
import numpy as np
from keras import ops

from featviz_callback import backend
from featviz_callback.objectives.parts import sublayers
from featviz_callback.objectives.paths import lineage, walk
from featviz_callback.objectives.scaling import Scaling

_SCALING = (keras.layers.Normalization, keras.layers.Rescaling)


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
