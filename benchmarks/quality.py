"""Measure the quality of pictures by an independent classifier.

Maximises logits of one ImageNet classifier at several numbers of steps. Another
classifier, which never saw the optimisation, names the class of each picture. All
arguments of `optimize` are defaults, but `steps` and `values_range`.

    python benchmarks/quality.py --model A.keras --classifier B.keras [--steps 16 32 64]
        [--seeds 3] [--held-out]

Both models take images in [-1, 1] and have 1,000 logits. Writes the table and one
contact sheet for each number of steps to `results/`. With `--held-out`, the classes are
one hundred that no setting was chosen by, and there are no sheets.
"""

import argparse
import time

import keras
import numpy as np
from common import RESULTS, write_table

from featviz_callback import Objective, optimize
from featviz_callback.records import pictures

CLASSES = {
    9: "ostrich",
    130: "flamingo",
    207: "golden retriever",
    340: "zebra",
    817: "sports car",
    948: "Granny Smith",
    954: "banana",
    985: "daisy",
    1: "goldfish",
    22: "bald eagle",
    292: "tiger",
    323: "monarch",
    388: "giant panda",
    402: "acoustic guitar",
    417: "balloon",
    504: "coffee mug",
    671: "mountain bike",
    779: "school bus",
    963: "pizza",
    980: "volcano",
}

# Every tenth class. None of them is above, nor a multiple of 20, by which settings were chosen.
HELD_OUT = {number: f"class {number}" for number in range(6, 1000, 10)}


# In the order of what `measure` returns.
COLUMNS = (
    "steps",
    "classifier's top-1",
    "each seed",
    "its probability",
    "own logit",
    "slope",
    "deviation",
    "at an end",
    "seconds",
)


def classify_pictures(classifier, images, classes):
    """Return whether the classifier names each picture's class, and with what probability."""
    size = classifier.input_shape[1:3]
    resized = keras.ops.image.resize(images, size, "bicubic", data_format="channels_last")
    logits = classifier.predict(keras.ops.convert_to_numpy(resized), batch_size=10, verbose=0)
    probabilities = keras.ops.convert_to_numpy(keras.ops.softmax(logits))
    return logits.argmax(1) == classes, probabilities[np.arange(len(classes)), classes]


def spectrum_slope(image):
    """Return the slope of the log amplitude spectrum against the log of the frequency.

    The image is averaged to grey and multiplied by a Hann window. The slope is a
    least-squares fit over the radial means from 4 cycles per image to 0.9 of the Nyquist
    frequency.
    """
    grey = image.mean(-1)
    size = len(grey)
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    amplitudes = np.abs(np.fft.fft2((grey - grey.mean()) * window))
    cycles = np.fft.fftfreq(size) * size
    radii = np.rint(np.hypot(cycles[:, None], cycles[None])).astype(int).ravel()
    means = np.bincount(radii, amplitudes.ravel()) / np.bincount(radii)
    fitted = np.arange(4, int(0.45 * size) + 1)
    return np.polyfit(np.log(fitted), np.log(means[fitted]), 1)[0]


def measure(objective, classifier, steps, seeds, classes=CLASSES, **settings):
    """Return one row of the table, and the result of the first seed."""
    rows, first = [], None
    for seed in range(seeds):
        began = time.perf_counter()
        result = optimize(objective, steps=steps, seed=seed, values_range=(-1, 1), **settings)
        seconds = time.perf_counter() - began
        shares = (result.images + 1) / 2
        right, probabilities = classify_pictures(classifier, result.images, np.array(list(classes)))
        rows.append(
            (
                right.mean(),
                probabilities.mean(),
                result.scores.mean(),
                np.mean([spectrum_slope(share) for share in shares]),
                np.mean([share.std() for share in shares]),
                np.mean((shares < 0.01) | (shares > 0.99)),
                seconds,
            )
        )
        first = result if first is None else first
    top1 = " ".join(f"{row[0]:.0%}" for row in rows)
    means = np.mean(rows, axis=0)
    return (
        steps,
        f"{means[0]:.0%}",
        top1,
        f"{means[1]:.2f}",
        f"{means[2]:.1f}",
        f"{means[3]:.2f}",
        f"{means[4]:.2f}",
        f"{means[5]:.1%}",
        f"{means[6]:.0f}",
    ), first


def parser_of(description):
    """Return a parser of the arguments that every benchmark with a classifier takes."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--layer", default="logits")
    return parser


def load(arguments, classes=CLASSES):
    """Return the logits of some classes, and the independent classifier."""
    model = keras.saving.load_model(arguments.model, compile=False)
    classifier = keras.saving.load_model(arguments.classifier, compile=False)
    names = list(classes.values())
    return Objective.neuron(model, arguments.layer, list(classes), names=names), classifier


def save_sheet(picture, name):
    """Write a picture to `results/`, with few colours so that the file is small."""
    # Without k-means the quantisation would lose colours.
    small = pictures.to_pillow(picture).convert("RGB").quantize(256, kmeans=2)
    small.save(RESULTS / name, optimize=True)


def main():
    """Measure every number of steps."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args()
    classes = HELD_OUT if arguments.held_out else CLASSES
    objective, classifier = load(arguments, classes)
    rows = []
    for steps in arguments.steps:
        row, result = measure(objective, classifier, steps, arguments.seeds, classes)
        rows.append(row)
        print(row, flush=True)
        if not arguments.held_out:
            save_sheet(result.sheet(), f"quality_{steps}.png")
    which = f"{len(classes)} held-out" if arguments.held_out else f"{len(classes)}"
    title = f"Pictures of {which} classes of {objective.model.name}, named by {classifier.name}"
    write_table("quality_held_out" if arguments.held_out else "quality", title, COLUMNS, rows)


if __name__ == "__main__":
    main()
