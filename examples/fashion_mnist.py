"""Watch a small network learn what clothes look like.

Trains a convolutional classifier on Fashion-MNIST's 10,000 test images, which
ship with this repository, and visualises its ten logits and some channels after
every epoch. Writes TensorBoard events and the film strip `evolution.png`.

    python examples/fashion_mnist.py [--epochs 12] [--quick] [--log-dir logs]
        [--output evolution.png]
"""

import argparse
import gzip
from pathlib import Path

import keras
import numpy as np
from keras import layers

from featviz_callback import FeatureVisCallback, Objective

DATA = Path(__file__).parent / "data"
CLASSES = (
    "T-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load_data():
    """Return images `(10000, 28, 28, 1)` in [0, 1] and labels `(10000,)`."""
    with gzip.open(DATA / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), "uint8", offset=16).reshape(-1, 28, 28, 1)
    with gzip.open(DATA / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), "uint8", offset=8)
    return images.astype("float32") / 255, labels.astype("int32")


def build_model():
    """Build a classifier without pooling, so that its logits see the whole garment."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            # Noise makes the network rely on shapes, as people do.
            layers.GaussianNoise(0.3),
            layers.Conv2D(32, 5, strides=2, padding="same", activation="relu", name="conv1"),
            layers.Conv2D(64, 3, strides=2, padding="same", activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dropout(0.4),
            layers.Dense(10, name="logits"),
        ]
    )


def main():
    """Train the classifier, draw the film strip, and print where the results are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=3, help="few epochs")
    parser.add_argument("--log-dir", default="logs")
    parser.add_argument("--output", default="evolution.png")
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    images, labels = load_data()
    model = build_model()
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    features = FeatureVisCallback(
        [
            Objective.neuron(model, "logits", range(10), names=list(CLASSES)),
            Objective.channel(model, "conv2", [1, 2, 3]),
            Objective.channel(model, "conv1", [1, 4, 5]),
        ],
        log_dir=arguments.log_dir,
        probe_data=images[:1000],
    )
    model.fit(
        images[:9000],
        labels[:9000],
        validation_data=(images[9000:], labels[9000:]),
        epochs=arguments.epochs,
        batch_size=64,
        verbose=2,
        callbacks=[features],
    )
    features.history.strip(arguments.output)

    seconds = features.history.seconds
    print(f"\nFilm strip: {arguments.output}")
    print(f"TensorBoard logs: {arguments.log_dir}")
    first = f"the first, which compiles, {seconds[0]:.2f} s"
    print(f"A snapshot took {np.median(seconds):.2f} s; {first}.")
    print("To see every epoch, in the tab Features:")
    print(f"  tensorboard --logdir {arguments.log_dir}")


if __name__ == "__main__":
    main()
