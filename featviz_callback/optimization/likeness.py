"""Tell how much alike two images are: by their pixels, and by what a layer makes of them.

Pixels tell small images apart, in which everything has its place. The Gram matrix of a
feature map tells textures apart, wherever they are; one is of what is above zero in it, and
one of what is below. Each is a vector of unit length, and the
likeness is the mean of their two products, from 0 to 1.

References:
    Gram matrices: Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural
    Networks", NeurIPS 2015; for diversity, Olah, Mordvintsev, Schubert, "Feature
    Visualization", Distill 2017, "Diversity".
"""

from __future__ import annotations

import numpy as np
from keras import ops

# A layer of more channels is described by so many mixtures of them.
_MOST_CHANNELS = 96

_TINY = 1e-12


def describe(images, features) -> tuple:
    """Return what is compared: two tensors `(images, numbers)` of unit length.

    Args:
        images: Tensor `(images, height, width, channels)`.
        features: Their feature maps `(images, ..., channels)`; `None` for none.
    """
    described = (_unit(_centred(images)),)
    return described if features is None else (*described, _unit(_gram(features)))


def likeness(described: tuple, others: tuple):
    """Return the sum, over other images, of how much alike they are, `(images,)`.

    Args:
        described: As `describe` returns it.
        others: For each of its tensors `(images, others, numbers)`; zeros where there is no
            other image.
    """
    products = [
        ops.relu(ops.einsum("id,ikd->ik", one, other))
        for one, other in zip(described, others, strict=True)
    ]
    return ops.sum(sum(products), axis=1) / len(products)


def _centred(images):
    flat = ops.reshape(images, (images.shape[0], -1))
    return flat - ops.mean(flat, axis=1, keepdims=True)


def _gram(features):
    # What is no finite number in one channel says nothing of the others.
    features = ops.where(ops.isfinite(features), features, 0.0)
    # What is above zero and what is below by themselves: a product forgets the signs of both.
    halves = [_products(ops.relu(signed)) for signed in (features, -features)]
    return ops.concatenate(halves, axis=1)


def _products(features):
    count, channels = features.shape[0], features.shape[-1]
    flat = ops.reshape(features, (count, -1, channels))
    if channels > _MOST_CHANNELS:
        mixtures = np.random.default_rng(0).standard_normal((channels, _MOST_CHANNELS))
        flat = ops.matmul(flat, ops.convert_to_tensor(mixtures.astype("float32")))
    return ops.reshape(ops.einsum("ipc,ipd->icd", flat, flat), (count, -1))


def _unit(vectors):
    squares = ops.sum(ops.square(vectors), axis=1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(squares, _TINY))
