"""Train a longer run in colour: which photograph was a small piece cut from?

scikit-image and scikit-learn ship the photographs, so nothing is downloaded:
`pip install scikit-image scikit-learn`. Pieces for training come from the left three
quarters of each photograph, pieces for testing from the rest.

A caveat: eight photographs have eight palettes, so colour alone solves much of the
task. The pictures then show colour too, and shapes late or never. The script prints
how many pieces colour alone gets right.

    python examples/photographs.py [--epochs 30] [--quick]
"""

import argparse

import keras
import numpy as np
from keras import layers

from featviz_callback import FeatureVisCallback, Objective

SIZE = 32


def load_photographs():
    """Return the photographs by name, uint8 `(height, width, 3)`."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
    photographs = {name: getattr(data, name)() for name in names}
    return photographs | {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}


def cut(photograph, count, rng):
    """Cut random squares of 64 pixels, and halve their size; values are in [0, 1]."""
    height, width, _ = photograph.shape
    rows = rng.integers(0, height - 2 * SIZE, count)
    columns = rng.integers(0, width - 2 * SIZE, count)
    pieces = np.stack(
        [photograph[r : r + 2 * SIZE, c : c + 2 * SIZE] for r, c in zip(rows, columns, strict=True)]
    )
    halves = pieces.reshape(count, SIZE, 2, SIZE, 2, 3).mean((2, 4))
    return (halves / 255).astype("float32")


def load_data(photographs, each):
    """Return `(x, y)` for training, and for testing from other parts of the photographs."""
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
    """Build three convolutions, and logits that see the whole piece."""
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3)),
            # Changing light makes the network rely on more than colour.
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
    """Return the accuracy of choosing the class with the nearest mean colour."""
    (x, y), (x_test, y_test) = train, test
    means = np.stack([x[y == i].mean((0, 1, 2)) for i in np.unique(y)])
    distances = np.linalg.norm(x_test.mean((1, 2))[:, None] - means, axis=-1)
    return np.mean(distances.argmin(1) == y_test)


def main():
    """Train the classifier, draw the film strip, and print colour accuracy and drift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=4, help="few epochs")
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
        # In a long run most epochs change little.
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
    print(f"Right by mean colour alone: {accuracy_by_color(train, test):.0%} of the test pieces.")
    print("Drift over the last three snapshots, and its noise floor:")
    for name, drift, floor in zip(
        features.history.names, settled, features.history.noise_floor[-1], strict=True
    ):
        print(f"  {name:20} {drift:.2f}  {floor:.2f}")


if __name__ == "__main__":
    main()
