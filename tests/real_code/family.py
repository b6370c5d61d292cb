"""What a model family is, and the small data that families train on.

Every family was written anew from its published structure. What `Family` says about it was
read from the model's own code, before anything ran.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

EVERY_BACKEND = ("tensorflow", "jax", "torch")


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family.

    Attributes:
        name: Its usual name.
        build: Function that builds and compiles the model. The caller seeds Keras before.
        data: Function that returns the keyword arguments of `fit`, the same at each call.
        backends: The backends that it trains on.
        epochs: The number of epochs to train. Before the first one the network has a snapshot
            already, if it is built then.
        image_shape: `(height, width, channels)` or `(time, channels)` of what its feature
            layers see; `None` where there is no image.
        values_range: The range of that input, before anything that the watched model, or
            part, does to it.
        layers: Paths of the feature layers, relative to the model: convolutions, and hidden
            layers of the MLPs of transformers and mixers. Empty where `refused`.
        heads: Paths of output vectors.
        parts: Sub-models that take images, where the model is a wrapper. It has no `call`
            unless `note` says so. One log line names all of them.
        refused: Whether no image can be optimised. `note` says why.
        is_any_size: Whether it takes images of any size, which only probe data tell.
        message: The one sentence that says why, where nothing is shown; `{model}` stands for
            the model's name.
        statuses: What its structure allows a picture to be beside "ok", without real images.
            Behind a normalisation of each place or patch, half the contrast may score as high.
        has_rectified_units: Whether a watched layer ends in a ReLU. Its units may be off for
            every image, and get no gradient, or for all real ones, and be dead.
        probe: Function that returns probe data as its own `fit` takes it; by default the `x`
            of `data()`.
        probe_is_used: Whether these are images as the watched layers take them. Where a
            `train_step` makes others of them, they are left out; `note` says how.
        is_told: Whether the model or the data of `fit` tell the range. A `train_step` may
            scale images itself.
        like: The family of which it is a variant. It is trained with the one line alone.
        repeats: Whether the losses that Keras reports are the same to the bit at each training
            on one machine. Threads may add in another order.
        is_put_back: Whether all that a training changes is in variables.
        is_long: Whether it takes a minute. It comes first, so that no process ends with it,
            and with probe data two layers are watched.
        note: What else one has to know.
    """

    name: str
    build: Callable
    data: Callable
    backends: tuple = ("tensorflow",)
    epochs: int = 2
    image_shape: tuple | None
    values_range: tuple | None
    layers: tuple
    heads: tuple
    parts: tuple = ()
    refused: bool = False
    is_any_size: bool = False
    message: str = ""
    statuses: tuple = ()
    has_rectified_units: bool = False
    probe: Callable | None = None
    probe_is_used: bool = True
    is_told: bool = True
    like: str = ""
    repeats: bool = True
    is_put_back: bool = True
    is_long: bool = False
    note: str = ""


def pictures(count, shape, classes=4, low=0.0, high=1.0, seed=0):
    """Return images of slanted waves, whose slant is the class, and the classes."""
    draws = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype("float32")
    slants = (np.pi * labels / classes)[:, None, None]
    phases = draws.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = np.sin(0.9 * (np.cos(slants) * rows + np.sin(slants) * columns) + phases)
    tints = draws.uniform(0.4, 1, (count, 1, 1, shape[2]))
    noise = draws.normal(0, 0.05, (count, *shape))
    unit = np.clip(0.5 + 0.45 * waves[..., None] * tints + noise, 0, 1)
    return (low + (high - low) * unit).astype("float32"), labels.astype("int32")
