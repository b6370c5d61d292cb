"""Helpers of all benchmarks: models, timing in turn, and tables with their origin."""

import datetime
import platform
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers

RESULTS = Path(__file__).parent / "results"


def small_model():
    """Build three convolutions on 32 pixels, with random weights."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, activation="relu", name="conv1"),
            layers.Conv2D(64, 3, strides=2, activation="relu", name="conv2"),
            layers.Conv2D(64, 3, strides=2, activation="relu", name="conv3"),
            layers.Flatten(),
            layers.Dense(10, name="logits"),
        ]
    )


# Rounds that are run but not timed.
WARM_UP = 3


def in_turn(functions, rounds, warm_up=WARM_UP):
    """Time functions one after the other, round by round; return seconds by name.

    On a noisy machine the median of the ratios within a round is steadier than the
    ratio of two medians. Each round begins with the next function, so that no function
    always finds the caches as the same other function left them.
    """
    seconds = {name: [] for name in functions}
    names = list(functions)
    for round_ in range(rounds + warm_up):
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            functions[name]()
            if round_ >= warm_up:
                seconds[name].append(time.perf_counter() - began)
    return {name: np.array(s) for name, s in seconds.items()}


def write_table(name, title, columns, rows):
    """Print a Markdown table and write it to `results/`, with versions and date."""
    lines = [f"# {title}", "", _origin(), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / f"{name}.md").write_text(text)


def _origin():
    backend = keras.backend.backend()
    module = __import__(backend)
    return (
        f"{datetime.date.today()}, Python {platform.python_version()}, Keras {keras.__version__}, "
        f"{backend} {module.__version__}, NumPy {np.__version__}, {platform.machine()}."
    )
