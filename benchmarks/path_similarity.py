"""Measure whether a network processes pictures as it processes real images.

Path similarity (Geirhos et al. 2024) compares the activations that a picture causes with
those of the unit's top activating real images, layer by layer: 1 where they are as alike
as those images among themselves, 0 where they are as alike as any images. The benchmark
also builds two manipulations of that paper, whose pictures show nothing of what the unit
does on real images, and measures how well path similarity tells them from honest units.

    python benchmarks/path_similarity.py [--networks three_convolutions] [--check]
    python benchmarks/path_similarity.py --model A.keras --pictures FOLDER

* A fooling circuit: each logit passes on its own value on natural images, and that of
  another logit on all others. A small detector, trained on pictures, tells which.
* Silent units: a channel also responds to a pattern that no real image has, so strongly
  that the pattern is all that its picture shows.

The networks are of clothes, and no setting was tuned on them. A second table has each network
alone: how many honest pictures a mark would call manipulated that is set below a number, which
was chosen on `TUNED_ON`. With a model from a file,
measures the pictures that `two_alternatives.py --pictures FOLDER` saved.

Reference:
    Geirhos et al., "Don't trust your eyes: on the (un)reliability of feature
    visualizations", ICML 2024, arXiv:2306.04719.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import evidence
import hidden_units
import keras
import monitor
import numpy as np
from common import RESULTS, write_table
from evidence import REFERENCES
from keras import layers, ops
from quality import save_sheet

from featviz_callback import Objective, optimize
from featviz_callback.records import pictures

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

STEPS, TRAINED_ON, EPOCHS, CHANNELS = 32, 2000, 6, 8
# Far above any logit of these networks.
SHIFT, GATE = 200.0, 1000.0
NETWORKS = {
    # How it is built, its layers from the bottom, and the layer that gets silent units.
    "three_convolutions": (
        lambda seed: monitor.build_model(seed),
        ("conv1", "conv2", "conv3", "logits"),
        "conv2",
    ),
    "pool": (
        lambda seed: hidden_units.build("pool", (28, 28, 1), 10, seed),
        ("early", "middle", "last", "logits"),
        "middle",
    ),
    "swish": (
        lambda seed: hidden_units.build("swish", (28, 28, 1), 10, seed),
        ("early", "middle", "last", "logits"),
        "middle",
    ),
    "batch_norm": (
        lambda seed: hidden_units.build("batch_norm", (28, 28, 1), 10, seed),
        ("early", "middle", "last", "logits"),
        "middle",
    ),
}
# Below this path similarity over all layers, nine of ten pictures of the circuit were in each of
# these networks.
TUNED_ON, BOUND = ("three_convolutions", "pool"), 0.25
LAYER_NAMES = {name for _, names, _ in NETWORKS.values() for name in names}


def train(model, images, labels):
    """Train a network for a few epochs."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images, labels, epochs=EPOCHS, batch_size=32, verbose=0)


def train_detector(natural, synthetic, seed=0):
    """Return a network whose one output is above 0 for natural images."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input(natural.shape[1:]),
            layers.Conv2D(16, 5, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    images = np.concatenate([natural, synthetic])
    is_natural = np.arange(len(images)) < len(natural)
    weights = np.where(is_natural, 1.0, len(natural) / len(synthetic))
    model.fit(images, is_natural[:, None].astype("float32"), sample_weight=weights, epochs=6,
              batch_size=32, verbose=0)  # fmt: skip
    return model


def fooling_circuit(model, detector, others):
    """Return a model whose logit `i` is its own on natural images, else that of `others[i]`.

    Where the gate of a branch is shut, a ReLU is far below zero.
    """
    inputs = keras.Input(model.input_shape[1:])
    own = model(inputs)
    # Steep, so that the detector gives a yes or a no.
    is_natural = layers.Activation("sigmoid")(layers.Rescaling(20.0)(detector(inputs)))
    swapped = layers.Lambda(lambda x: ops.take(x, others, axis=1))(own)
    passed = layers.ReLU()(own + SHIFT - GATE * (1.0 - is_natural))
    fooled = layers.ReLU()(swapped + SHIFT - GATE * is_natural)
    sums = layers.Add()([passed, fooled])
    return keras.Model(inputs, layers.Rescaling(1.0, -SHIFT, name="fooled")(sums))


def unnatural_filters(images, count, rng, size=7, directions=8):
    """Return filters `(size, size, 1, count)` to which patches of images hardly respond.

    They are random mixtures of the directions in which patches vary least.
    """
    windows = np.lib.stride_tricks.sliding_window_view(images[..., 0], (size, size), (1, 2))
    patches = windows.reshape(-1, size * size)[:: max(1, windows[..., 0, 0].size // 50000)]
    # From the direction of the smallest variance on.
    vectors = np.linalg.eigh(patches.T.astype("float64") @ patches)[1][:, :directions]
    kernel = vectors @ rng.standard_normal((directions, count))
    return (kernel / np.linalg.norm(kernel, axis=0)).reshape(size, size, 1, count)


def silent_units(model, layer, images, rng):
    """Return a copy of a sequential model, in which channels also respond to a pattern.

    No image reaches the threshold of a response. Also returns a model of the outputs of
    layers, and their names.
    """
    inputs = x = keras.Input(model.input_shape[1:])
    named = {}
    for one in model.layers:
        x = one(x)
        if one.name == layer:
            rows, columns, width = x.shape[1:]
            kernel = unnatural_filters(images, width, rng).astype("float32")
            pattern = layers.Conv2D(width, len(kernel), padding="same", use_bias=False)
            response = pattern(inputs)
            pattern.set_weights([kernel])
            most = np.max(
                [
                    ops.max(pattern(images[i : i + 100]), (0, 1, 2))
                    for i in range(0, len(images), 100)
                ],
                axis=0,
            )
            response = layers.ReLU()(response - 1.1 * most)
            strides = [
                -(-a // b) for a, b in zip(response.shape[1:3], (rows, columns), strict=True)
            ]
            response = layers.MaxPooling2D(strides, padding="same")(response)
            # Smaller maps, where a convolution does not pad, have the pattern at their corner.
            missing = [
                (0, a - b) for a, b in zip((rows, columns), response.shape[1:3], strict=True)
            ]
            response = layers.ZeroPadding2D(missing)(response)
            x = layers.Add(name="silent")([x, layers.Rescaling(1000.0)(response)])
        if one.name in LAYER_NAMES:
            named[one.name] = x
    return keras.Model(inputs, x), keras.Model(inputs, list(named.values())), list(named)


def paths(reader, names, drawn, scores, real):
    """Return rows of `correlations`, `(layers, units, 3)`, and those of other real images.

    Args:
        reader: A model of the outputs of layers.
        names: The names of those layers.
        drawn: One picture a unit, `(units, ...)`, or several, `(units, pictures, ...)`.
        scores: What each reference image activates in each unit, `(images, units)`.
        real: The real images.
    """
    rng, found = np.random.default_rng(0), np.zeros((len(names), len(drawn), 3))
    like_found = np.zeros_like(found)
    several = drawn if drawn.ndim == 5 else drawn[:, None]
    order = [evidence.ordered(scores[:, unit], rng) for unit in range(len(drawn))]
    others = rng.choice(len(real), 2 * REFERENCES, replace=False)
    read = _read(reader, real[others])
    for unit, one in enumerate(order):
        # The top images, and the next ones, which are as like as real images are.
        like = _read(reader, real[one[-REFERENCES:]])
        next_ones = _read(reader, real[one[-2 * REFERENCES : -REFERENCES]])
        shown = _read(reader, several[unit])
        for i in range(len(names)):
            found[i, unit] = evidence.correlations(shown[i], like[i], read[i])
            like_found[i, unit] = evidence.correlations(next_ones[i], like[i], read[i])
    return found, like_found


def _read(reader, images):
    """Return a list of the outputs of a model; faster than `predict` for few images."""
    parts = []
    for i in range(0, len(images), 100):
        found = reader(np.asarray(images[i : i + 100], "float32"), training=False)
        found = found if isinstance(found, (list, tuple)) else [found]
        parts.append([ops.convert_to_numpy(one) for one in found])
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def draw(model, layer, ids, **settings):
    """Return our pictures of units of clothes."""
    make = Objective.channel if len(model.get_layer(layer).output.shape) == 4 else Objective.neuron
    return optimize(make(model, layer, ids), steps=STEPS, values_range=(0, 1), **settings)


def measure_network(name, seed, data):
    """Return `correlations` by kind of pictures, and a row of what was checked."""
    build, names, hidden = NETWORKS[name]
    images, labels = data[0][:TRAINED_ON], data[1][:TRAINED_ON]
    real = evidence.clothes()
    model, rng = build(seed), np.random.default_rng(seed)
    train(model, images, labels)
    reader = keras.Model(model.inputs[0], [model.get_layer(one).output for one in names])
    scores = dict(zip(names, _read(reader, real.references), strict=True))
    classes, channels = np.arange(10), np.arange(CHANNELS)
    honest = draw(model, "logits", classes, save_every=2)
    with_data = draw(model, "logits", classes, probe_data=images[:500])
    found = {}
    found["logits, ours"], found["logits, other real images of the unit"] = paths(
        reader, names, honest.images, scores["logits"], real.references
    )
    found["logits, ours with `probe_data`"] = paths(
        reader, names, with_data.images, scores["logits"], real.references
    )[0]
    # The detector knows pictures of another seed at every stage.
    seen = [honest.frames, draw(model, "logits", classes, save_every=2, seed=1).frames]
    frames = np.concatenate([np.concatenate(one) for one in seen])
    detector = train_detector(images, frames, seed)
    others = np.roll(classes, 3)
    circuit = fooling_circuit(model, detector, others)
    fooled = draw(circuit, "fooled", classes)
    found["fooling circuit"] = paths(
        reader, names, fooled.images, _read(circuit, real.references)[0], real.references
    )[0]
    own, theirs = (_read(one, real.queries)[0].argmax(1) for one in (model, circuit))
    shown = _read(reader, fooled.images)[-1].argmax(1)
    honest_channels = draw(model, hidden, channels)
    read = evidence.unit_scores(scores[hidden])
    found["channels, ours"] = paths(reader, names, honest_channels.images, read, real.references)[0]
    silent, silent_reader, silent_names = silent_units(model, hidden, images, rng)
    silent_pictures = draw(silent, "silent", channels)
    known = dict(zip(silent_names, _read(silent_reader, real.references), strict=True))
    found["silent units"] = paths(
        silent_reader,
        silent_names,
        silent_pictures.images,
        evidence.unit_scores(known[hidden]),
        real.references,
    )[0]
    moved = np.abs(_read(silent, real.queries)[0] - _read(model, real.queries)[0]).max(1) > 1e-3
    row = (
        name,
        seed,
        f"{np.mean(own == theirs):.1%}",
        f"{np.mean(shown == others):.0%}",
        f"{np.mean(shown == classes):.0%}",
        f"{1 - np.mean(moved):.1%}",
    )
    sheet = [honest.images, fooled.images, honest_channels.images, silent_pictures.images]
    print(row, flush=True)
    return found, row, sheet


# What is told apart.
PAIRS = (
    ("logits, ours", "fooling circuit"),
    ("channels, ours", "silent units"),
)


def each_similarity(rows):
    """Return the path similarity of each unit, from its row of `correlations`."""
    return np.array([evidence.path_similarity(row) for row in rows])


def measure_clothes(given):
    """Measure networks, and write the tables of these and of those of earlier runs."""
    data, kept = fashion_mnist.load_data(), RESULTS / "path_similarity_clothes.json"
    measured = json.loads(kept.read_text()) if kept.exists() else {}
    for name in given.networks:
        for seed in range(given.seeds):
            found, row, sheet = measure_network(name, seed, data)
            numbers = {kind: one.tolist() for kind, one in found.items()}
            measured[f"{name}, {seed}"] = {"row": row, "found": numbers}
            kept.write_text(json.dumps(measured))
            write_clothes(measured)
            if (name, seed) == ("three_convolutions", 0):
                write_sheet(sheet)


def write_sheet(sheet):
    """Write rows of pictures, the shorter ones filled up with white."""
    width, white = max(map(len, sheet)), np.full((28, 28, 1), 255, "uint8")
    shown = [
        [*pictures.to_uint8(images, (0, 1)), *[white] * (width - len(images))] for images in sheet
    ]
    save_sheet(pictures.grid(shown), "path_similarity.png")


def write_clothes(measured):
    """Write path similarities, areas under ROC curves, and what the manipulations do."""
    each = [one["found"] for one in measured.values()]
    joined = {kind: np.concatenate([one[kind] for one in each], axis=1) for kind in each[0]}
    rows = []
    for kind, numbers in joined.items():
        values = [f"{evidence.path_similarity(one):.2f}" for one in numbers]
        rows.append((kind, numbers.shape[1], *values))
    for honest, manipulated in PAIRS:
        areas = [
            evidence.area(each_similarity(one), each_similarity(other))
            for one, other in zip(joined[honest], joined[manipulated], strict=True)
        ]
        units = f"{joined[honest].shape[1]} + {joined[manipulated].shape[1]}"
        rows.append((f"**ROC area, {manipulated}**", units, *(f"{one:.2f}" for one in areas)))
    places = ("first convolution", "second", "third", "logits")
    write_table(
        "path_similarity_clothes",
        f"Path similarity in networks of clothes ({'; '.join(measured)}), {REFERENCES} top "
        "images a unit of 1,000",
        ("pictures", "units", *places),
        rows,
    )
    write_networks(measured)
    columns = (
        "network",
        "seed",
        "circuit names a held-out image as before",
        "its pictures show the other class",
        "its pictures show its own class",
        "silent units leave a held-out image as it was",
    )
    checked = [one["row"] for one in measured.values()]
    write_table("path_similarity_manipulations", "What the manipulations do", columns, checked)


def over_layers(numbers):
    """Return the path similarity of each unit over all layers, from its rows of all of them."""
    picture, same, other = np.sum(numbers, axis=0).T
    return (picture - other) / (same - other)


def write_networks(measured):
    """Write what a mark of pictures below a bound would do, network by network."""
    rows = []
    for name, one in measured.items():
        found = {kind: over_layers(np.array(rows)) for kind, rows in one["found"].items()}
        honest, fooled = found["logits, ours with `probe_data`"], found["fooling circuit"]
        shares = [
            f"{np.sum(found[kind] < BOUND)} of {len(found[kind])}"
            for kind in (
                "fooling circuit",
                "logits, ours",
                "logits, ours with `probe_data`",
                "channels, ours",
                "silent units",
            )
        ]
        use = "chose the bound" if name.partition(",")[0] in TUNED_ON else "held out"
        rows.append(
            (name, use, f"{evidence.area(honest, fooled):.2f}", f"{honest.min():.2f}", *shares)
        )
    columns = (
        "network, seed",
        "what for",
        "ROC area, circuit from logits with `probe_data`",
        "lowest honest logit",
        "circuit marked",
        "honest logits marked",
        "with `probe_data`",
        "honest channels marked",
        "silent units marked",
    )
    title = f"Pictures with a path similarity below {BOUND} over four layers"
    write_table("path_similarity_networks", title, columns, rows)


def measure_photographs(given):
    """Write the path similarity of saved pictures, and of the pictures of another unit."""
    model = keras.saving.load_model(given.model, compile=False)
    raw = json.loads((RESULTS / "two_alternatives_photographs.json").read_text())
    names = [*(name for name in raw if name != "logits"), "top_activation", "logits"]
    real = evidence.crops(given.images, model.input_shape[1])
    reader = keras.Model(model.inputs[0], [model.get_layer(name).output for name in names])
    rows = []
    for layer, one in raw.items():
        archive = np.load(Path(given.pictures) / f"{layer}.npz")
        known = evidence.activations(model, [layer], real.references)[layer]
        scores = evidence.unit_scores(known)[:, one["ids"]]
        kinds = {kind: archive[kind][0].astype("float32") for kind in archive}
        # So would a perfect fooling circuit.
        kinds["another unit's"] = np.roll(kinds["ours"], 1, axis=0)
        measured = {}
        for kind, drawn in kinds.items():
            measured[kind], measured["other real images"] = paths(
                reader, names, drawn[:, : given.shown], scores, real.references
            )
        for kind, numbers in measured.items():
            values = [f"{evidence.path_similarity(each):.2f}" for each in numbers]
            rows.append((layer, kind, numbers.shape[1], *values))
        areas = [
            evidence.area(each_similarity(honest), each_similarity(other))
            for honest, other in zip(measured["ours"], measured["another unit's"], strict=True)
        ]
        rows.append(
            (layer, "**ROC area, another unit's**", len(one["ids"]), *(f"{a:.2f}" for a in areas))
        )
        print(rows[-1], flush=True)
        write_table(
            "path_similarity_photographs",
            f"Path similarity in {model.name}, {REFERENCES} top of {given.images} crops of "
            f"{real.sources[0]} photographs, {given.shown} pictures a unit",
            ("unit in", "pictures", "units", *names),
            rows,
        )


def check():
    """Test the measure, and the circuit on planted networks."""
    evidence.check()
    rng = np.random.default_rng(0)
    model = monitor.build_model(0)
    natural = fashion_mnist.load_data()[0][:500]
    noise = rng.uniform(size=(500, 28, 28, 1)).astype("float32")
    detector = train_detector(natural, noise)
    others = np.roll(np.arange(10), 3)
    circuit = fooling_circuit(model, detector, others)
    fresh = rng.uniform(size=(100, 28, 28, 1)).astype("float32")
    own, told = (_read(one, fresh)[0] for one in (model, circuit))
    assert np.allclose(told, own[:, others], atol=1e-3)
    own, told = (_read(one, natural)[0] for one in (model, circuit))
    assert np.mean(np.abs(told - own).max(1) < 1e-3) > 0.98
    silent, *_ = silent_units(model, "conv2", natural, rng)
    assert np.allclose(_read(silent, natural)[0], own, atol=1e-4)
    assert np.abs(_read(silent, fresh)[0] - _read(model, fresh)[0]).max() > 1
    print("The circuit and silent units do on planted images what they should.")


def main():
    """Measure networks of clothes, or pictures of photographs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model")
    parser.add_argument("--pictures")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--shown", type=int, default=3)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    if given.check:
        check()
    elif given.model:
        measure_photographs(given)
    else:
        measure_clothes(given)


if __name__ == "__main__":
    main()
