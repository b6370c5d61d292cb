"""Measure whether pictures activate their units more than real images do.

For channels of early, middle and last layers and for logits, compares the callback's
pictures with the best of 1,000 real images. Keras' own `predict` gives both scores. A
picture that claims to maximise a unit should win.

    python benchmarks/hidden_units.py [--model A.keras] [--seeds 0 1] [--only pool gap] [--moved]

Small networks are trained on the clothes that ship with this repository, and on crops of
the photographs that scikit-image and scikit-learn ship (`pip install scikit-image
scikit-learn`). `A.keras` is an EfficientNet for images in [-1, 1]. With `--moved`, measures
instead how far pictures move if all weights of a small network move by 1 %.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from common import write_table
from keras import layers

from featviz_callback import FeatureVisCallback, Objective

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

CHANNELS = 16
REAL_IMAGES = 1000
EFFICIENTNET_LAYERS = (
    "stem_activation",
    "block2b_expand_activation",
    "block3b_expand_activation",
    "block5b_expand_activation",
    "top_activation",
)
COLUMNS = (
    *("network", "layer", "units", "below the best", "median ratio", "false dead"),
    *("silent, not named", "statuses"),
)


def pool():
    """Convolutions with pooling."""
    return [
        layers.Conv2D(16, 5, activation="relu", name="early"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu", name="middle"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu", name="last"),
        layers.Flatten(),
    ]


def batch_norm():
    """Convolutions with batch normalisation and ReLU6."""
    body = []
    for name, filters in (("early", 16), ("middle", 32), ("last", 32)):
        body += [
            layers.Conv2D(filters, 3, strides=1 if name == "early" else 2, name=f"{name}_conv"),
            layers.BatchNormalization(),
            layers.ReLU(6.0, name=name),
        ]
    return [*body, layers.GlobalAveragePooling2D()]


def swish():
    """Convolutions with swish."""
    return [
        layers.Conv2D(16, 3, padding="same", activation="swish", name="early"),
        layers.MaxPooling2D(),
        layers.Conv2D(24, 3, padding="same", activation="swish", name="middle"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="swish", name="last"),
        layers.Flatten(),
    ]


def strided():
    """Strided convolutions."""
    return [
        layers.Conv2D(16, 5, strides=2, padding="same", activation="relu", name="early"),
        layers.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="middle"),
        layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="last"),
        layers.Flatten(),
    ]


def gap():
    """Strided convolutions with global average pooling, for larger colour images."""
    return [
        layers.Conv2D(16, 3, strides=2, activation="relu", name="early"),
        layers.Conv2D(24, 3, strides=2, activation="relu", name="middle"),
        layers.Conv2D(32, 3, strides=2, activation="relu", name="late"),
        layers.Conv2D(48, 3, strides=2, activation="relu", name="last"),
        layers.GlobalAveragePooling2D(),
    ]


NETWORKS = {one.__name__: one for one in (pool, batch_norm, swish, strided, gap)}


def load_photographs():
    """Return photographs, uint8 `(height, width, 3)`."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
    photographs = [getattr(data, name)() for name in names]
    return photographs + [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]


def crops(count, size, seed):
    """Return random crops in [0, 1], of several scales, and the number of their photograph."""
    rng, photographs, images = np.random.default_rng(seed), load_photographs(), []
    numbers = np.arange(count) % len(photographs)
    for number in numbers:
        photograph = photographs[number]
        side = int(rng.integers(min(size, 256), min(photograph.shape[:2]) + 1))
        top, left = (rng.integers(0, length - side + 1) for length in photograph.shape[:2])
        crop = photograph[top : top + side, left : left + side].astype("float32") / 255
        crop = keras.ops.image.resize(crop, (size, size), antialias=True)
        images.append(keras.ops.convert_to_numpy(crop))
    return np.clip(np.stack(images), 0, 1), numbers


def build(name, shape, classes, seed):
    """Build one of `NETWORKS`."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [keras.Input(shape), *NETWORKS[name](), layers.Dense(classes, name="logits")]
    )


def train(model, images, labels, epochs):
    """Train a network."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, epochs=epochs, batch_size=32, verbose=0)


def objectives_of(model, names):
    """Return one objective a layer: its first channels or logits."""
    objectives = []
    for name in names:
        shape = model.get_layer(name).output.shape
        make = Objective.channel if len(shape) == 4 else Objective.neuron
        objectives.append(make(model, name, range(min(CHANNELS, shape[-1]))))
    return objectives


def watch(model, objectives, **settings):
    """Return a callback that has taken its first snapshot."""
    callback = FeatureVisCallback(
        objectives, log_dir=tempfile.mkdtemp(), on_error="raise", **settings
    )
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    return callback


def movements(model, names, **settings):
    """Move all weights by a normal 1 %; return how far the pictures of each layer move."""
    objectives = objectives_of(model, names)
    callback = watch(model, objectives, **settings)
    weights, rng = model.get_weights(), np.random.default_rng(0)
    model.set_weights([w * (1 + 0.01 * rng.standard_normal(w.shape)) for w in weights])
    callback.on_epoch_end(0)
    model.set_weights(weights)
    drift = callback.history.drift[-1]
    return dict(zip(names, np.split(drift, np.cumsum(list(map(len, objectives)))), strict=False))


def survey(model, names, real_images, **settings):
    """Take one snapshot of channels and logits.

    Returns:
        The history, and for each layer the scores of its pictures and of the best real
        images, the statuses, and whether all real images leave a unit at exactly 0, all
        but the statuses by Keras' own `predict`.
    """
    reader = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    callback = watch(model, objectives_of(model, names), **settings)
    pictures = callback.history.images[-1]

    def activations(images):
        found = reader.predict(images, batch_size=32, verbose=0)
        return found if isinstance(found, list) else [found]

    def scores(found):
        return found.mean((1, 2)) if found.ndim == 4 else found

    first, rows = 0, {}
    pairs = zip(names, activations(pictures), activations(real_images), strict=True)
    for name, seen, real in pairs:
        best = scores(real).max(0)[:CHANNELS]
        is_silent = (real == 0).all(tuple(range(real.ndim - 1)))[:CHANNELS]
        units = np.arange(len(best))
        own = scores(seen)[first + units, units]
        rows[name] = own, best, np.asarray(callback.history.status[-1])[first + units], is_silent
        first += len(best)
    return callback.history, rows


def row_of(network, layer, own, best, status, is_silent, with_data):
    """Return one row of the table."""
    alive = best > 0
    ratio = own[alive] / best[alive]
    counts = ", ".join(
        f"{n} {s}" for s, n in zip(*np.unique(status, return_counts=True), strict=True)
    )
    false_dead = int(np.sum((status == "dead") & ~is_silent))
    # Without real images nothing can be called dead.
    not_named = int(np.sum(is_silent & (status != "dead"))) if with_data else "-"
    median = f"{np.median(ratio):.2f}" if len(ratio) else "-"
    compared = (int(alive.sum()), int(np.sum(ratio < 1)), median)
    return network, layer, *compared, false_dead, not_named, counts


def small_surveys(only, seeds, epochs=4):
    """Yield `(network, its survey's function)` for the small networks."""
    clothes, labels = fashion_mnist.load_data()
    for name in only:
        for seed in seeds:
            if name == "gap":
                images, numbers = crops(1600, 96, seed)
                model = build(name, (96, 96, 3), 8, seed)
            else:
                images, numbers = clothes[:4000], labels[:4000]
                model = build(name, (28, 28, 1), 10, seed)
            watched = [
                layer.name
                for layer in model.layers
                if layer.name in ("early", "middle", "late", "last", "logits")
            ]
            real = images[-REAL_IMAGES:]
            yield f"{name}, untrained, seed {seed}", model, watched, real, {}
            train(model, images, numbers, epochs * (3 if name == "gap" else 1))
            yield f"{name}, trained, seed {seed}", model, watched, real, {}


def measure_movements(arguments):
    """Write how far the pictures of each small network move with its weights."""
    rows, moved_of = [], {}

    def add(network, layer, moved):
        numbers = (np.median(moved), np.quantile(moved, 0.95))
        rows.append((network, layer, len(moved), *(f"{number:.4f}" for number in numbers)))
        print(rows[-1], flush=True)

    for network, model, watched, real, settings in small_surveys(arguments.only, arguments.seeds):
        for layer, moved in movements(model, watched, probe_data=real, **settings).items():
            add(network, layer, moved)
            side = model.input_shape[1]
            moved_of.setdefault(f"all of {side} pixels", []).append(moved)
    for name, found in moved_of.items():
        add(name, "", np.concatenate(found))
    columns = ("network", "layer", "units", "median drift", "95th percentile")
    write_table("moved_weights", "Drift of pictures if all weights move by 1 %", columns, rows)


def main():
    """Survey every network, with and without `probe_data`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    parser.add_argument("--moved", action="store_true")
    arguments = parser.parse_args()
    if arguments.moved:
        measure_movements(arguments)
        return
    rows, total = [], {True: [], False: []}

    def add(network, model, watched, real, settings):
        for with_data in (True, False):
            given = settings | ({"probe_data": real} if with_data else {})
            _, found = survey(model, watched, real, **given)
            label = f"{network}, {'with' if with_data else 'without'} probe_data"
            for layer, (own, best, status, is_silent) in found.items():
                rows.append(row_of(label, layer, own, best, status, is_silent, with_data))
                print(rows[-1], flush=True)
                alive = best > 0
                total[with_data] += (own[alive] / best[alive]).tolist()

    for one in small_surveys(arguments.only, arguments.seeds):
        add(*one)
    if arguments.model:
        real = crops(REAL_IMAGES, 224, 0)[0] * 2 - 1
        model = keras.saving.load_model(arguments.model)
        settings = {"values_range": (-1, 1)}
        add("EfficientNet-Lite0", model, [*EFFICIENTNET_LAYERS, "logits"], real, settings)
    for with_data, ratios in total.items():
        name = "all, with probe_data" if with_data else "all, without probe_data"
        below = f"{np.sum(np.array(ratios) < 1)} ({np.mean(np.array(ratios) < 1):.1%})"
        rows.append((name, "", len(ratios), below, f"{np.median(ratios):.2f}", "", "", ""))
    write_table("hidden_units", "Pictures against the best real image", COLUMNS, rows)


if __name__ == "__main__":
    main()
