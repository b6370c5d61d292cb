"""What the literature measures of pictures: the two-alternative task, and path similarity.

Both need real images. Those of a unit's references and those of its questions must come
from different photographs, so `Evidence` keeps them apart.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import hidden_units
import keras
import numpy as np
from keras import layers
from scipy.stats import rankdata

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

# As people were asked (Borowski et al. 2021): so many images of each sign.
REFERENCES = 9
TRIALS = 100


@dataclass(frozen=True, eq=False)
class Evidence:
    """Real images, apart.

    Attributes:
        references: Images to show, `(images, height, width, channels)`.
        queries: Images to ask about, of other photographs.
        sources: The numbers of photographs in both.
    """

    references: np.ndarray
    queries: np.ndarray
    sources: tuple[int, int]


def clothes(count=1000):
    """Return evidence from the last clothes, on which no network here is trained."""
    images = fashion_mnist.load_data()[0][-2 * count :]
    return Evidence(images[:count], images[count:], (count, count))


def photographs():
    """Return the colour photographs of scikit-image and scikit-learn, and grey ones as colour."""
    from skimage import data

    colour = [*hidden_units.load_photographs(), data.stereo_motorcycle()[0]]
    colour.append(data.immunohistochemistry())
    grey = [getattr(data, name)() for name in ("camera", "moon", "brick", "grass", "gravel")]
    grey.append(data.coins())
    return colour + [np.repeat(one[..., None], 3, -1) for one in grey]


def crops(count, size, seed=0):
    """Return evidence from random crops of photographs, every second one to ask about.

    The images are in [-1, 1].
    """
    pieces, rng, halves = photographs(), np.random.default_rng(seed), []
    for chosen in (pieces[::2], pieces[1::2]):
        images = []
        for i in range(count):
            piece = chosen[i % len(chosen)]
            side = int(rng.integers(min(size, *piece.shape[:2]) // 2, min(piece.shape[:2]) + 1))
            top, left = (rng.integers(0, length - side + 1) for length in piece.shape[:2])
            crop = piece[top : top + side, left : left + side].astype("float32") / 127.5 - 1
            crop = keras.ops.image.resize(crop, (size, size), antialias=True)
            images.append(np.clip(keras.ops.convert_to_numpy(crop), -1, 1))
        halves.append(np.stack(images))
    return Evidence(*halves, (len(pieces[::2]), len(pieces[1::2])))


def clothes_encoder(images, labels, epochs=8, seed=7):
    """Train a network of another kind than those that are looked at; return its embedding."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((28, 28, 1))
    x = inputs
    for width in (16, 32, 64):
        x = layers.Conv2D(width, 3, strides=2, padding="same", activation="swish")(x)
    embedding = layers.Dense(64, activation="swish")(layers.Dropout(0.3)(layers.Flatten()(x)))
    model = keras.Model(inputs, layers.Dense(10)(embedding))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.fit(images, labels, epochs=epochs, batch_size=32, verbose=0)
    return Encoder(keras.Model(inputs, embedding), (0, 1))


@dataclass(frozen=True, eq=False)
class Encoder:
    """A network that says how alike two images are.

    Attributes:
        model: It gives one vector an image.
        values_range: Lowest and highest value that it takes.
    """

    model: keras.Model
    values_range: tuple

    def __call__(self, images, values_range):
        """Return vectors of unit length, `(images, features)`."""
        (low, high), (own_low, own_high) = values_range, self.values_range
        images = own_low + (np.asarray(images) - low) * ((own_high - own_low) / (high - low))
        size = self.model.input_shape[1:3]
        if images.shape[1:3] != size:
            resized = [
                keras.ops.convert_to_numpy(
                    keras.ops.image.resize(
                        images[i : i + 32], size, "bilinear", data_format="channels_last"
                    )
                )
                for i in range(0, len(images), 32)
            ]
            images = np.concatenate(resized)
        found = self.model.predict(images, batch_size=32, verbose=0)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


def encoder_from_file(path, layer):
    """Return one layer of a model of images in [-1, 1]."""
    model = keras.saving.load_model(path, compile=False)
    return Encoder(keras.Model(model.inputs, model.get_layer(layer).output), (-1, 1))


def activations(model, names, images):
    """Return the activations of layers, by name, from Keras' own `predict`."""
    reader = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    found = reader.predict(images, batch_size=32, verbose=0)
    return dict(zip(names, found if isinstance(found, list) else [found], strict=True))


def unit_scores(found):
    """Return `(images, units)`: means over space of maps, and units as they are."""
    return found.mean((1, 2)) if found.ndim == 4 else found


def ordered(scores, rng):
    """Return the indices of images, lowest score first; equal ones in random order."""
    return np.lexsort((rng.random(len(scores)), scores))


def answers(queries, positive, negative):
    """Answer which of two images activates a unit more, by the likeness to its references.

    Args:
        queries: Vectors `(trials, 2, features)` of unit length. The first of each two
            activates the unit more.
        positive: Vectors `(references, features)` of what activates the unit.
        negative: Vectors of what does not.

    Returns:
        Array `(trials,)`: 1 where the answer is right, 0.5 where it is open.
    """
    # A mean of cosines is the product with a mean, so no trial needs all pairs.
    likeness = queries @ (positive.mean(0) - negative.mean(0))
    margin = likeness[:, 0] - likeness[:, 1]
    return np.where(np.abs(margin) < 1e-9, 0.5, margin > 0)


def trials(scores, rng, count=TRIALS):
    """Return pairs `(count, 2)` of images: one of the highest, and one of the lowest."""
    if len(scores) < 2 * count:
        # Both would come from the same images, and no answer would be better than chance.
        raise ValueError(f"Expected {2 * count} images or more to ask about. Got {len(scores)}.")
    order = ordered(scores, rng)
    return np.column_stack([rng.permutation(order[-count:]), rng.permutation(order[:count])])


def spearman(one, other):
    """Return rank correlations `(m, n)` of rows `(m, numbers)` and `(n, numbers)`."""
    first, second = (_standard_ranks(np.reshape(rows, (len(rows), -1))) for rows in (one, other))
    return first @ second.T


def _standard_ranks(rows):
    ranks = rankdata(rows, axis=1).astype("float32")
    ranks -= ranks.mean(1, keepdims=True)
    lengths = np.linalg.norm(ranks, axis=1, keepdims=True)
    # A row of equal numbers agrees with none.
    return np.where(lengths > 0, ranks / np.maximum(lengths, 1e-9), 0.0)


def correlations(pictures, like, unlike):
    """Return how alike a layer processes pictures and real images.

    Args:
        pictures: Activations of a unit's pictures in a layer, `(pictures, ...)`.
        like: Those of its top activating real images.
        unlike: Those of other real images.

    Returns:
        Mean rank correlation of top images with pictures, with each other, and with other
        real images.
    """
    inside = spearman(like, like)
    same = inside[~np.eye(len(inside), dtype=bool)].mean()
    return spearman(like, pictures).mean(), same, spearman(like, unlike).mean()


def path_similarity(found):
    """Return the path similarity from rows of `correlations`.

    It is 1 for pictures that are processed like top activating images, and 0 for such as
    are processed like any image. It is a ratio of means over units, since that of one
    unit can have a denominator near zero.
    """
    picture, same, other = np.mean(np.reshape(found, (-1, 3)), axis=0)
    return (picture - other) / (same - other)


def area(honest, manipulated):
    """Return the area under the ROC curve of telling honest units by a higher number."""
    honest, manipulated = np.asarray(honest)[:, None], np.asarray(manipulated)[None]
    return float(np.mean((honest > manipulated) + 0.5 * (honest == manipulated)))


def check():
    """Test both measures on planted answers."""
    rng = np.random.default_rng(0)

    def unit(*shape):
        vectors = rng.standard_normal(shape)
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

    # A random encoder knows nothing; references equal to the queries know everything.
    chance = [answers(unit(TRIALS, 2, 64), unit(9, 64), unit(9, 64)).mean() for _ in range(40)]
    assert abs(np.mean(chance) - 0.5) < 0.03, np.mean(chance)
    queries = unit(TRIALS, 2, 64)
    known = [answers(one[None], one[None, 0], one[None, 1]) for one in queries]
    assert np.mean(known) == 1
    assert np.mean([answers(one[None], one[None, 1], one[None, 0]) for one in queries]) == 0
    same = unit(9, 64)
    assert np.all(answers(queries, same, same) == 0.5)
    scores = rng.standard_normal(1000)
    asked = trials(scores, rng)
    assert asked.shape == (TRIALS, 2)
    assert len(np.unique(asked)) == 2 * TRIALS
    assert scores[asked[:, 0]].min() > np.sort(scores)[-TRIALS - 1]
    assert scores[asked[:, 1]].max() < np.sort(scores)[TRIALS]
    # A group of images that share a pattern, and others.
    pattern = rng.standard_normal(500)
    like, alike, other = (
        weight * pattern + rng.standard_normal((20, 500)) for weight in (1.0, 1.0, 0.0)
    )
    assert abs(path_similarity([correlations(alike, like, other)]) - 1) < 0.1
    fresh = rng.standard_normal((20, 500))
    assert abs(path_similarity([correlations(fresh, like, other)])) < 0.1
    from scipy.stats import spearmanr

    assert np.isclose(spearman(like[:1], other[:1])[0, 0], spearmanr(like[0], other[0])[0])
    assert area([2, 3], [0, 1]) == 1
    assert area([0, 1], [2, 3]) == 0
    assert area([1, 1], [1, 1]) == 0.5
    print("All planted checks hold.")


if __name__ == "__main__":
    check()
