"""Helpers for the tests of images: parameters, rendered images and random draws."""

import keras
import numpy as np

from featviz_callback.images import augmentation, sampling
from featviz_callback.images.parameterizations import Fourier, Pixel
from tests.conftest import tensor, to_numpy
from tests.reference import logit

SIZES = [(8, 8), (7, 7), (8, 6), (5, 8), (6, 9), (2, 3), (1, 4), (13, 10)]


def coefficients(height, width, channels=2, images=1):
    draw = np.random.default_rng(height * 100 + width).normal
    return draw(size=(images, channels, height, width))


def resampled(images, rows, columns):
    rows, columns = np.atleast_2d(rows), np.atleast_2d(columns)
    return to_numpy(sampling.resample(tensor(images), tensor(rows), tensor(columns)))


SHAPES = [(8, 8, 1), (7, 6, 3), (5, 9, 2), (4, 4, 13)]


KINDS = [Fourier, Pixel]


def plain(decay=1.0, detail=1.0, window=None, **others):
    """Return a `Fourier` with explicit settings, without window or bound by default."""
    others = {"mean": 0.5, "contrast": np.inf} | others
    return Fourier(decay=decay, detail=detail, window=window, **others)


def parameters(shape, deviation=1.0, images=2):
    height, width, channels = shape
    draw = np.random.default_rng(0).normal
    return draw(0, deviation, (images, channels, height, width))


def render(parameterization, params, shape):
    """Return the whole images, pixel by pixel."""
    grid = (tensor(np.tile(np.arange(size), (len(params), 1))) for size in shape[:2])
    return to_numpy(parameterization.image(tensor(params), *grid, shape))


def field(parameterization, params, shape):
    """Return the argument of the sigmoid, without the background."""
    images = render(parameterization, params, shape).astype("float64")
    return logit(images) - logit(parameterization.mean)


def root_mean_squares(fields):
    return np.sqrt((fields**2).mean((1, 2, 3)))


SPECTRA = [
    {"decay": 1.0},
    {"decay": 0.0},
    {"decay": 1.5},
    {"window": 0.4},
    {"mean": 0.2, "detail": 0.6},
]


def square(images):
    return keras.ops.square(images)


def plain_grid(height, width, draws=1):
    """Return the grid of the whole image, `(draws, height)` and `(draws, width)`."""
    return tuple(np.tile(np.arange(float(size)), (draws, 1)) for size in (height, width))


def augment(images, chosen, seeds, number=0):
    """Return the augmented images of a batch, drawn by one generator per image."""
    _, height, width, channels = images.shape
    moves, changes = augmentation.split(chosen)
    grids, draws, values = [], [], []
    for rng in map(np.random.default_rng, seeds):
        values.append(augmentation.sample_values(changes, rng, (height, width, channels)))
        grids.append(augmentation.move(moves, rng, *plain_grid(height, width)))
        draws.append(augmentation.sample(changes, rng, (height, width, channels)))
    rows, columns = (tensor(np.concatenate(axis)) for axis in zip(*grids, strict=True))
    draws, values = (
        keras.tree.map_structure(lambda *drawn: tensor(np.stack(drawn)), *some)
        for some in (draws, values)
    )
    moved = sampling.resample(tensor(images), rows, columns)
    first = tensor(augmentation.first_value(number))
    return to_numpy(augmentation.apply(changes, moved, draws, values, first))


def moves(transformation, height=20, width=10, count=200):
    """Return the grids of many draws."""
    return transformation.move(np.random.default_rng(0), *plain_grid(height, width, count))
