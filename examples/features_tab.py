"""Make two runs for TensorBoard's tab "Features", in a few minutes.

The same small network learns Fashion-MNIST twice: once at a sensible learning rate,
once at a rate that kills some of its units. Then run the command that is printed.

    python examples/features_tab.py [--epochs 12] [--quick] [--log-dir logs/features_tab]
"""

import argparse
from pathlib import Path

import keras
from fashion_mnist import CLASSES, build_model, load_data

from featviz_callback import FeatureVisCallback, Objective

LEARNING_RATES = {"sensible": 1e-3, "too_fast": 1.5e-2}


def train(learning_rate, log_dir, epochs, images, labels):
    """Train from the same weights, and visualise ten logits and twelve channels."""
    keras.utils.set_random_seed(0)
    model = build_model()
    model.compile(
        keras.optimizers.Adam(learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    features = FeatureVisCallback(
        [
            Objective.channel(model, "conv1", range(6)),
            Objective.channel(model, "conv2", range(6)),
            Objective.neuron(model, "logits", range(10), names=list(CLASSES)),
        ],
        log_dir=log_dir,
        probe_data=images[:1000],
    )
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=2, callbacks=[features])
    features.history.strip(log_dir.with_suffix(".png"))


def main():
    """Train both runs, and print the command that shows them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=2, help="few epochs")
    parser.add_argument("--log-dir", type=Path, default=Path("logs/features_tab"))
    arguments = parser.parse_args()
    images, labels = load_data()
    for name, learning_rate in LEARNING_RATES.items():
        train(learning_rate, arguments.log_dir / name, arguments.epochs, images, labels)
    print(f"\nFilm strips: {arguments.log_dir}/*.png")
    print(f"tensorboard --logdir {arguments.log_dir}   # then choose the tab Features")


if __name__ == "__main__":
    main()
