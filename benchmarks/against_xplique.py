"""Measure the seconds to the same transfer as Xplique's default settings.

Xplique visualises eight ImageNet classes with its defaults and 256 steps. An independent
classifier, which never saw the optimisation, names the pictures; its top-1 rate and its
mean logit are the transfer. Ours takes the fewest steps that reach both. Its first call,
which compiles, and later calls are timed. All run in one process, in turn.

    python benchmarks/against_xplique.py --model A.keras --classifier B.keras [--size 224]

By default Xplique's images have 512 pixels, and its random transformations are crops of
them; `--size` sets another size, such as the model's own.
"""

import argparse
import time

import keras
import numpy as np
from common import RESULTS, write_table
from xplique.features_visualizations import Objective as TheirObjective
from xplique.features_visualizations import optimize as their_optimize

from featviz_callback import Objective, optimize
from featviz_callback.records import pictures

CLASSES = (9, 130, 207, 340, 817, 948, 954, 985)


def classify(classifier, images):
    """Return the top-1 rate, and the mean logit of the class of each picture."""
    resized = keras.ops.image.resize(images, classifier.input_shape[1:3], "bicubic")
    logits = classifier.predict(keras.ops.convert_to_numpy(resized), verbose=0)
    return np.mean(logits.argmax(1) == CLASSES), logits[range(len(CLASSES)), CLASSES].mean()


def timed(function):
    """Return the result and the wall time of one call."""
    began = time.perf_counter()
    return function(), time.perf_counter() - began


def theirs(model, size):
    """Return Xplique's pictures, with its defaults but for the range and the size."""
    objective = TheirObjective.neuron(model, "logits", list(CLASSES))
    images, _ = their_optimize(
        objective, nb_steps=256, values_range=(-1.0, 1.0), custom_shape=(size, size)
    )
    return np.asarray(images[-1] if isinstance(images, list) else images)


def main():
    """Print and write one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--size", type=int, default=512)
    arguments = parser.parse_args()
    model = keras.saving.load_model(arguments.model, compile=False)
    classifier = keras.saving.load_model(arguments.classifier, compile=False)

    images, limit = timed(lambda: theirs(model, arguments.size))
    their_rate, their_logit = classify(classifier, images)
    rows = [
        (
            f"Xplique, {arguments.size} pixels",
            256,
            f"{limit:.1f}",
            f"{their_rate:.0%}",
            f"{their_logit:.1f}",
            "",
        )
    ]
    sheet = pictures.to_pillow(pictures.grid([list(pictures.to_uint8(images, (-1, 1)))]))
    sheet.thumbnail((1824, 230))
    sheet.save(RESULTS / f"xplique_{arguments.size}.png")

    for steps in (4, 8, 12, 16, 20, 24, 28, 32):
        objective = Objective.neuron(model, "logits", list(CLASSES))
        found = [
            classify(
                classifier, optimize(objective, steps=steps, seed=s, values_range=(-1, 1)).images
            )
            for s in range(3)
        ]
        rate, logit = np.mean(found, axis=0)
        if rate >= their_rate and logit >= their_logit:
            break
    again = np.median(
        [timed(lambda: optimize(objective, steps=steps, values_range=(-1, 1)))[1] for _ in range(5)]
    )
    fresh = keras.saving.load_model(arguments.model, compile=False)
    objective = Objective.neuron(fresh, "logits", list(CLASSES))
    first = timed(lambda: optimize(objective, steps=steps, values_range=(-1, 1)))[1]
    for label, seconds in (("ours, first call", first), ("ours, later calls", again)):
        faster = f"{limit / seconds:.0f} times less"
        rows.append((label, steps, f"{seconds:.2f}", f"{rate:.0%}", f"{logit:.1f}", faster))
    columns = ("what", "steps", "seconds", "classifier's top-1", "its mean logit", "time")
    write_table(
        f"against_xplique_{arguments.size}",
        "Seconds to the transfer of Xplique's default",
        columns,
        rows,
    )


if __name__ == "__main__":
    main()
