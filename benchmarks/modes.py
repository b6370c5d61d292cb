"""Measure what a picture may be beside the highest score: facets, inversions, importance.

    python benchmarks/modes.py [--only facets inversion importance] [--model A.keras]

Facets are those of the clothes network of `examples/fashion_mnist.py`, trained here. The
settings of facets were chosen on another training of it and on a network with pooling.
Inversions and caricatures are of ten photographs, and need `--model`; importance is
measured on that model too, if it is given.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from unittest import mock

import keras
import numpy as np
from common import write_table
from quality import save_sheet

from featviz_callback import Objective, optimize
from featviz_callback.optimization.chunk import Chunk
from featviz_callback.records import pictures

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

COUNT, STEPS = 4, 64
EARLY = ("stem_activation", "block2b_expand_activation")
MIDDLE = ("block3b_expand_activation", "block5a_expand_activation")
PHOTOGRAPHS = 10


def clothes_network(seed):
    """Train the network of the example."""
    keras.utils.set_random_seed(seed)
    model = fashion_mnist.build_model()
    images, labels = fashion_mnist.load_data()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[:9000], labels[:9000], epochs=12, batch_size=64, verbose=0)
    return model


def pairwise(images):
    """Return the mean correlation of each two images of a target, `(targets,)`."""
    pairs = np.triu_indices(images.shape[1], 1)
    return np.array([np.corrcoef(one.reshape(len(one), -1))[pairs].mean() for one in images])


def measure_facets():
    """Compare facets with the pictures of single units, and with those of other seeds."""
    rows, sheet = [], []
    for seed in (0, 2):
        model = clothes_network(seed)
        for objective in (
            Objective.neuron(model, "logits", range(10)),
            Objective.channel(model, "conv2", range(8)),
        ):
            began = time.process_time()
            single = optimize(objective, steps=STEPS)
            alone = time.process_time() - began
            for strength in (0.0, 1.0):
                began = time.process_time()
                found = optimize(objective.facets(COUNT, strength), steps=STEPS)
                seconds = time.process_time() - began
                images = found.images.reshape(len(objective), COUNT, *found.images.shape[1:])
                shares = found.scores.reshape(len(objective), COUNT) / single.scores[:, None]
                alike = pairwise(images)
                rows.append(
                    (
                        seed,
                        objective.names[0].split("_")[0],
                        strength,
                        f"{alike.mean():.2f}",
                        f"{alike.max():.2f}",
                        f"{shares.min():.3f}",
                        f"{(shares >= 0.85).sum()} of {shares.size}",
                        f"{shares.mean():.2f}",
                        f"{seconds / alone:.0f}",
                    )
                )
                if seed == 0 and strength and "Neuron" in objective.names[0]:
                    sheet = [list(pictures.of_targets(one, (0.0, 1.0))) for one in images]
    write_table(
        "facets",
        f"{COUNT} facets of each of ten logits and eight channels of the clothes network, "
        f"{STEPS} steps, {_load()}",
        (
            "training's seed",
            "units",
            "strength",
            "mean correlation of facets",
            "of the most alike unit",
            "least share of the single picture's score",
            "facets with 85 % of it",
            "mean share",
            "seconds of CPU, times those of the single pictures",
        ),
        rows,
    )
    save_sheet(pictures.grid(sheet), "facets.png")


def squares(size):
    """Return the middle squares of photographs, in [-1, 1]."""
    import evidence

    found = []
    for photograph in evidence.photographs()[:PHOTOGRAPHS]:
        side = min(photograph.shape[:2])
        top, left = ((length - side) // 2 for length in photograph.shape[:2])
        square = photograph[top : top + side, left : left + side].astype("float32") / 127.5 - 1
        found.append(keras.ops.image.resize(square, (size, size), antialias=True))
    return np.clip(np.stack([keras.ops.convert_to_numpy(one) for one in found]), -1, 1)


def correlations(one, other):
    """Return the correlation of each activation with each other one, `(images, images)`."""
    both = [np.reshape(rows, (len(rows), -1)) for rows in (one, other)]
    both = [rows - rows.mean(1, keepdims=True) for rows in both]
    both = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in both]
    return both[0] @ both[1].T


def measure_inversion(model):
    """Compare activations of inversions and caricatures with those of the photographs."""
    images = squares(model.input_shape[1])
    reader = keras.Model(model.inputs, [model.get_layer(name).output for name in EARLY + MIDDLE])
    originals = reader.predict(images, batch_size=5, verbose=0)
    rows, sheet = [], [list(pictures.of_targets(images[:, ::2, ::2], (-1.0, 1.0)))]
    for i, layer in enumerate(EARLY + MIDDLE):
        row = [layer, "early" if layer in EARLY else "middle"]
        for make in (Objective.inversion, Objective.caricature):
            objective = make(model, layer, images)
            found = optimize(objective, steps=STEPS, values_range=(-1.0, 1.0))
            shown = reader.predict(found.images, batch_size=5, verbose=0)[i]
            alike = correlations(shown, originals[i])
            own = np.diag(alike)
            nearest = (alike.argmax(1) == np.arange(len(images))).sum()
            row += [f"{own.mean():.3f}", f"{own.min():.3f}", f"{nearest} of {len(images)}"]
            small = found.images[:, ::2, ::2]
            sheet.append(list(pictures.of_targets(small, (-1.0, 1.0))))
        rows.append(row)
        print(row, flush=True)
    columns = ["layer", "depth"]
    for kind in ("inversions", "caricatures"):
        columns += [f"{kind}: mean correlation with the original's activations", "the least"]
        columns.append("nearest to their own original")
    write_table(
        "inversion",
        f"Activations of inversions and caricatures of {len(images)} photographs in "
        f"{model.name}, {STEPS} steps, by Keras' own `predict`",
        columns,
        rows,
    )
    save_sheet(pictures.grid(sheet), "inversion.png")


def measure_importance(model):
    """Measure which share of an optimisation importance takes."""
    clothes = fashion_mnist.build_model()
    cases = [
        ("clothes, ten logits", clothes, range(10), 32, {}),
        ("clothes, ten logits", clothes, range(10), 64, {}),
    ]
    if model is not None:
        given = {"values_range": (-1.0, 1.0)}
        cases.append((f"{model.name}, eight logits", model, range(8), 32, given))
    rows = []
    for name, one, ids, steps, given in cases:
        objective = Objective.neuron(one, "logits", ids)
        optimize(objective, steps=1, **given)
        spent, importance = [], Chunk.importance

        def timed(chunk, spent=spent, importance=importance):
            began = time.process_time()
            found = importance(chunk)
            spent.append(time.process_time() - began)
            return found

        shares = []
        for _ in range(5 if one is clothes else 1):
            spent.clear()
            began = time.process_time()
            with mock.patch.object(Chunk, "importance", timed):
                optimize(objective, steps=steps, **given)
            shares.append((sum(spent), time.process_time() - began))
        own, whole = np.median(shares, axis=0)
        rows.append((name, steps, f"{whole:.2f}", f"{1000 * own:.0f}", f"{100 * own / whole:.1f}"))
    columns = ("optimisation", "steps", "seconds of CPU", "importance, ms", "its share, %")
    write_table("importance", f"What importance takes of an optimisation, {_load()}", columns, rows)


def _load():
    return f"load of the machine {os.getloadavg()[0]:.0f}"


def main():
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("facets", "inversion", "importance")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--model", help="a classifier of photographs in [-1, 1]")
    given = parser.parse_args()
    model = given.model and keras.saving.load_model(given.model, compile=False)
    if "facets" in given.only:
        measure_facets()
    if "inversion" in given.only and model:
        measure_inversion(model)
    if "importance" in given.only:
        measure_importance(model)


if __name__ == "__main__":
    main()
