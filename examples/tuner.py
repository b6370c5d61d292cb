"""Search over learning rates, and visualise every trial.

The search copies the callback for each trial, as KerasTuner does. Each trial is a run
of its own in TensorBoard, so that good trials stand beside bad ones. The sheet shows
the last snapshot of every trial.

    python examples/tuner.py [--epochs 5] [--quick]
"""

import argparse
import copy

import keras
import numpy as np
from fashion_mnist import CLASSES, build_model, load_data

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.records import pictures


def logits(model):
    """Return the objectives of a trial's model."""
    return Objective.neuron(model, "logits", range(10), names=list(CLASSES))


def run_trial(rate, features, images, labels, epochs):
    """Train one model; return its accuracy and its history."""
    keras.utils.set_random_seed(0)
    model = build_model()
    model.compile(
        keras.optimizers.Adam(rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    split = len(images) * 9 // 10
    fitted = model.fit(
        images[:split],
        labels[:split],
        validation_data=(images[split:], labels[split:]),
        epochs=epochs,
        batch_size=64,
        verbose=0,
        callbacks=[features],
    )
    return fitted.history["val_accuracy"][-1], features.history


def main():
    """Run every trial, and draw all trials side by side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--quick", dest="epochs", action="store_const", const=1, help="few epochs")
    parser.add_argument("--log-dir", default="logs/tuner")
    parser.add_argument("--output", default="tuner.png")
    arguments = parser.parse_args()

    images, labels = load_data()
    features = FeatureVisCallback(logits, freq=arguments.epochs, probe_data=images[:500])
    names, shown, status = [], [], []
    for rate in (1e-4, 1e-3, 1e-2, 1e-1):
        copied = copy.deepcopy(features)
        copied.log_dir = f"{arguments.log_dir}/rate_{rate:g}"
        accuracy, history = run_trial(rate, copied, images, labels, arguments.epochs)
        dead = np.mean(history.status[-1] == "dead")
        print(f"rate {rate:g}: accuracy {accuracy:.1%}, {dead:.0%} of the logits dead")
        names.append(f"rate {rate:g}, {accuracy:.0%} right")
        status.append(["" if one == "ok" else one for one in history.status[-1]])
        shown.append(list(pictures.to_uint8(history.images[-1], history.values_range)))
    sheet = pictures.grid(shown, row_labels=names, column_labels=CLASSES, captions=status)
    pictures.to_pillow(sheet).save(arguments.output)
    print(f"The last snapshot of each trial: {arguments.output}. Logs: {arguments.log_dir}")


if __name__ == "__main__":
    main()
