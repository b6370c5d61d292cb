"""Stop a run, and resume it with its history.

`BackupAndRestore` restores the weights and the epoch. The callback reads its earlier
snapshots from the log directory, and continues steps, drift and film strip. Run the
script, stop it with Ctrl-C or `kill -9`, and run it again; or let `--stop-after` stop it:

    python examples/resumed_run.py --stop-after 3; python examples/resumed_run.py
    python examples/resumed_run.py --quick --stop-after 0; python examples/resumed_run.py --quick
"""

import argparse

import keras
from fashion_mnist import CLASSES, build_model, load_data

from featviz_callback import FeatureVisCallback, Objective


class PowerCut(keras.callbacks.Callback):
    """A callback that ends training after an epoch, by an error."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Raise before the epoch begins."""
        if epoch == self.epoch:
            raise SystemExit(f"Stopped after epoch {epoch - 1}, as requested.")


def train(folder, images, labels, epochs, stop_after=None):
    """Train from where an earlier call stopped; return the history of all calls."""
    keras.utils.set_random_seed(0)
    model = build_model()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    features = FeatureVisCallback(
        Objective.neuron(model, "logits", range(10), names=list(CLASSES)),
        log_dir=f"{folder}/logs",
        probe_data=images[:1000],
    )
    callbacks = [features, keras.callbacks.BackupAndRestore(f"{folder}/backup")]
    if stop_after is not None:
        callbacks.append(PowerCut(stop_after + 1))
    model.fit(images, labels, epochs=epochs, batch_size=64, verbose=2, callbacks=callbacks)
    return features.history


def main():
    """Train to the end, in one run or in several."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=3, help="few epochs")
    parser.add_argument("--stop-after", type=int, help="an epoch, from 0")
    parser.add_argument("--folder", default="resumed_run")
    arguments = parser.parse_args()

    images, labels = load_data()
    history = train(arguments.folder, images, labels, arguments.epochs, arguments.stop_after)
    history.strip(f"{arguments.folder}/evolution.png")
    print(f"Epochs of all runs: {history.epochs.tolist()}")
    print(f"Film strip: {arguments.folder}/evolution.png")


if __name__ == "__main__":
    main()
