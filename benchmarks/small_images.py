"""Measure the quality of pictures of 28 pixels by an independent classifier.

Trains the network of `examples/fashion_mnist.py` on the clothes that ship with this
repository, and a dense classifier with another seed. The classifier, which never sees
the optimisation, names the class of the picture of each logit.

    python benchmarks/small_images.py [--epochs 12] [--seeds 3]
"""

import argparse
import sys
from pathlib import Path

import keras
import numpy as np
from common import RESULTS, write_table
from keras import layers

from featviz_callback import Objective, optimize, parameterizations
from featviz_callback.images.parameterizations import Fourier
from featviz_callback.images.transformations import Flip, Jitter, Scale
from featviz_callback.records import pictures

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

# The callback's default.
STEPS = 32


def build_classifier():
    """Build a dense network, which shares no architecture with the other one."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(128, activation="relu"),
            layers.Dense(10),
        ]
    )


def train(build, images, labels, seed, epochs):
    """Return a trained network and its accuracy on images that it was not trained on."""
    keras.utils.set_random_seed(seed)
    model = build()
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images[:9000], labels[:9000], epochs=epochs, batch_size=64, verbose=0)
    return model, model.evaluate(images[9000:], labels[9000:], verbose=0)[1]


def variants(images):
    """Return arguments of `optimize`, by name: the default, and one thing changed."""
    like_data = parameterizations.like_data(images[:1000], (0, 1), (28, 28, 1))
    fixed = parameterizations.like_data(images[:1000], (0, 1), (28, 28, 1), "fixed_magnitude")
    return {
        "default": {},
        "default, with probe_data": {"parameterization": like_data},
        "fixed magnitude of the data": {"parameterization": fixed},
        "pixel": {"parameterization": "pixel"},
        "Adam, rate 0.05": {"optimizer": keras.optimizers.Adam(0.05)},
        "with a window": {"parameterization": Fourier(detail=1.0, contrast=2.0)},
        "contrast 1.5": {"parameterization": Fourier(detail=1.0, window=None)},
        "contrast 3": {"parameterization": Fourier(detail=1.0, window=None, contrast=3.0)},
        "detail 0.6": {"parameterization": Fourier(detail=0.6, window=None, contrast=2.0)},
        "transformations of photographs": {"transformations": [Jitter(0.12), Scale(0.8, 1.6)]},
        "no transformations": {"transformations": None},
        "flips": {"transformations": [Jitter(0.05), Scale(0.9, 1.1), Flip()]},
    }


def measure(model, classifier, seeds, settings):
    """Return one row of the table, and the pictures of the first seed."""
    objective = Objective.neuron(model, "logits", range(10))
    results = [optimize(objective, steps=STEPS, seed=seed, **settings) for seed in range(seeds)]
    right = [
        np.sum(classifier.predict(result.images, verbose=0).argmax(1) == np.arange(10))
        for result in results
    ]
    images = np.stack([result.images for result in results])
    at_an_end = np.mean((images < 0.02) | (images > 0.98))
    numbers = (
        f"{np.mean(right):.1f}",
        " ".join(map(str, right)),
        f"{images.std((2, 3, 4)).mean():.2f}",
        f"{at_an_end:.1%}",
    )
    return numbers, pictures.to_uint8(images[0], (0, 1))


def main():
    """Measure every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    images, labels = fashion_mnist.load_data()
    model, accuracy = train(fashion_mnist.build_model, images, labels, 0, arguments.epochs)
    classifier, its_accuracy = train(build_classifier, images, labels, 1, arguments.epochs)
    rows, shown = [], []
    for name, settings in variants(images).items():
        numbers, some = measure(model, classifier, arguments.seeds, settings)
        rows.append((name, *numbers))
        shown.append(list(some))
        print(rows[-1], flush=True)
    sheet = pictures.grid(
        shown, row_labels=[row[0] for row in rows], column_labels=fashion_mnist.CLASSES
    )
    pictures.to_pillow(sheet).save(RESULTS / "small_images.png", optimize=True)
    columns = ("settings", "right of 10", "each seed", "deviation", "at an end (2 %)")
    title = (
        f"Pictures of clothes after {STEPS} steps, of a network with accuracy {accuracy:.1%}, "
        f"named by a dense one with {its_accuracy:.1%}"
    )
    write_table("small_images", title, columns, rows)


if __name__ == "__main__":
    main()
