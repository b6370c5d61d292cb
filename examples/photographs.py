"""A longer run, in colour: tell from a small piece which photograph it was cut from.

The photographs are those that scikit-image and scikit-learn ship, so nothing is
downloaded: `pip install scikit-image scikit-learn`. Pieces for training come from
the left three quarters of each, those for testing from the rest.

A caveat: eight photographs have eight palettes, and much of the task is solved by
colour alone. What the pictures show is then colour too; shapes come late, where
they come at all. The line on colour that is printed says how much.

    python examples/photographs.py [--epochs 30] [--quick]
"""

import argparse

import keras
import numpy as np
from keras import layers

from featviz_callback import FeatureVisCallback, Objective

SIZE = 32


def load_photographs():
    """Returns the photographs by name, uint8 `(height, width, 3)`."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
    photographs = {name: getattr(data, name)() for name in names}
    return photographs | {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


def cut(photograph, count, rng):
    """Random square pieces of 64 pixels, half as large, as values in [0, 1]."""
    height, width, _ = photograph.shape
    rows = rng.integers(0, height - 2 * SIZE, count)
    columns = rng.integers(0, width - 2 * SIZE, count)
    pieces = np.stack(
        [photograph[r : r + 2 * SIZE, c : c + 2 * SIZE] for r, c in zip(rows, columns, strict=True)]
    )
    halves = pieces.reshape(count, SIZE, 2, SIZE, 2, 3).mean((2, 4))
    return (halves / 255).astype("float32")


def load_data(photographs, each):
    """Returns `(x, y)` for training and, of other parts of the photographs, for testing."""
    rng = np.random.default_rng(0)
    train, test = [], []
    for photograph in photographs.values():
        edge = photograph.shape[1] * 3 // 4
        train.append(cut(photograph[:, :edge], each, rng))
        test.append(cut(photograph[:, edge:], each // 8, rng))
    return [
        (np.concatenate(pieces), np.repeat(np.arange(len(pieces)), len(pieces[0])))
        for pieces in (train, test)
    ]


def build_model(classes):
    """Three convolutions; the logits see the whole piece."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            # Light that changes makes the network rely on more than colour.
            layers.RandomBrightness(0.3, value_range=(0, 1)),
            layers.RandomContrast(0.6),
            layers.GaussianNoise(0.05),
            layers.Conv2D(32, 5, strides=2, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", name="conv2"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", name="conv3"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(classes, name="logits"),
        ]
    )


def accuracy_by_color(train, test):
    """The share that is told by the nearest mean colour of a class."""
    (x, y), (x_test, y_test) = train, test
    means = np.stack([x[y == i].mean((0, 1, 2)) for i in np.unique(y)])
    distances = np.linalg.norm(x_test.mean((1, 2))[:, None] - means, axis=-1)
    return np.mean(distances.argmin(1) == y_test)


def main():
    """Trains, looks, and says how far to trust what is seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=8, help="few epochs")
    parser.add_argument("--log-dir", default="logs/photographs")
    parser.add_argument("--output", default="photographs.png")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    photographs = load_photographs()
    train, test = load_data(photographs, each=1000)
    model = build_model(len(photographs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    features = FeatureVisCallback(
        [
            Objective.neuron(model, "logits", range(len(photographs)), names=list(photographs)),
            Objective.channel(model, "conv3", range(4)),
            Objective.channel(model, "conv2", range(4)),
            Objective.channel(model, "conv1", range(4)),
        ],
        log_dir=arguments.log_dir,
        probe_data=train,
        # Of a long run most epochs look like the one before.
        max_overhead=0.2,
        verbose=1,
    )
    model.fit(
        *train,
        validation_data=test,
        epochs=arguments.epochs,
        batch_size=64,
        verbose=2,
        callbacks=[features],
    )

    features.history.strip(arguments.output)
    settled = np.nanmean(features.history.drift[-3:], axis=0)
    print(f"\nFilm strip: {arguments.output}. TensorBoard logs: {arguments.log_dir}")
    print(f"Told by mean colour alone: {accuracy_by_color(train, test):.0%} of the test pieces.")
    print("Drift over the last three looks, beside its floor:")
    for name, drift, floor in zip(
        features.history.names, settled, features.history.noise_floor[-1], strict=True
    ):
        print(f"  {name:20} {drift:.2f}  {floor:.2f}")


if __name__ == "__main__":
    main()
