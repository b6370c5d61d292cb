"""Ask a machine what people are asked: which of two images activates a unit more?

A trial shows nine images that activate a unit and nine that do not, and asks which of two
real images activates it more. An encoder, which never saw the network, answers by
likeness. So the share of right answers says what the nine images tell of the unit.

    python benchmarks/two_alternatives.py [--only clothes] [--check]
    python benchmarks/two_alternatives.py --only photographs --model A.keras
        --encoder B.keras [--encoder-layer avg_pool]

Without files, networks of clothes are asked about by an encoder trained here, with
another seed on other images, and the course over epochs is measured. `A.keras` is an
ImageNet classifier and `B.keras` an encoder, both for images in [-1, 1]. Photographs come
with scikit-image and scikit-learn. If Xplique can be imported, its pictures are asked
about too. `--check` tests the task on planted answers.

References:
    Borowski et al., "Exemplary Natural Images Explain CNN Activations Better than
    State-of-the-Art Feature Visualization", ICLR 2021, arXiv:2010.12606.
    Klindt et al., "Measuring Mechanistic Interpretability at Scale Without Humans",
    NeurIPS 2024.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import evidence
import keras
import monitor
import numpy as np
from common import RESULTS, write_table
from evidence import REFERENCES

from featviz_callback import Objective, optimize

sys.path.append(str(Path(__file__).parents[1] / "examples"))
import fashion_mnist

try:
    from xplique.features_visualizations import Objective as TheirObjective
    from xplique.features_visualizations import optimize as their_optimize
except ImportError:
    TheirObjective = None

STEPS, THEIR_STEPS = 32, 256
CLOTHES_LAYERS = ("conv1", "conv2", "conv3", "logits")
PHOTOGRAPHS_LAYERS = (
    "block2b_expand_activation",
    "block4b_expand_activation",
    "block6b_expand_activation",
    "logits",
)
KINDS = ("ours", "ours, with `probe_data`", "Xplique", "real", "both", "another unit's", "random")


def objective_of(kind, model, layer, ids, **settings):
    """Return channels of a map, or neurons."""
    make = kind.channel if len(model.get_layer(layer).output.shape) == 4 else kind.neuron
    return make(model, layer, ids, **settings)


def draw(model, layer, ids, values_range, probe_data=None, steps=STEPS):
    """Return our pictures of each sign, `(2, units, references, height, width, channels)`."""
    # Targets of the same unit get random transformations of their own.
    repeated = np.repeat(ids, REFERENCES)
    found = []
    for sign in (1.0, -1.0):
        objective = objective_of(Objective, model, layer, repeated, multiplier=sign)
        found.append(
            optimize(
                objective, steps=steps, values_range=values_range, probe_data=probe_data
            ).images
        )
    return np.reshape(found, (2, len(ids), REFERENCES, *found[0].shape[1:]))


def draw_theirs(model, layer, ids, values_range):
    """Return Xplique's pictures of each sign, with its defaults, in the same form."""
    repeated, found, shape = np.repeat(ids, REFERENCES).tolist(), [], model.input_shape[1:3]
    for sign in (1.0, -1.0):
        objective = objective_of(TheirObjective, model, layer, repeated, multiplier=sign)
        images, _ = their_optimize(
            objective, nb_steps=THEIR_STEPS, values_range=values_range, custom_shape=shape
        )
        found.append(np.asarray(images[-1] if isinstance(images, list) else images))
    return np.reshape(found, (2, len(ids), REFERENCES, *found[0].shape[1:]))


class Examiner:
    """Asks an encoder about units.

    Args:
        real: The real images.
        encoder: The encoder.
        values_range: Lowest and highest value of images.
    """

    def __init__(self, real, encoder, values_range):
        self.real = real
        self._encoder, self._range = encoder, values_range
        self._references = encoder(real.references, values_range)
        self._queries = encoder(real.queries, values_range)

    def ask(self, references, queries, drawn, seed=0):
        """Return the shares of right answers about the units of a layer, by kind of images.

        Args:
            references: Scores of the reference images, `(images, units)`.
            queries: Those of the images to ask about.
            drawn: Pictures by kind, as from `draw`.
            seed: Chooses trials and random images.
        """
        rng, found = np.random.default_rng(seed), {}
        encoded = {
            kind: np.reshape(
                self._encoder(np.concatenate(np.concatenate(images)), self._range),
                (2, images.shape[1], REFERENCES, -1),
            )
            for kind, images in drawn.items()
        }
        for unit in range(references.shape[1]):
            asked = self._queries[evidence.trials(queries[:, unit], rng)]
            order = evidence.ordered(references[:, unit], rng)
            real = self._references[np.stack([order[-REFERENCES:], order[:REFERENCES]])]
            chosen = rng.choice(len(self._references), 2 * REFERENCES, replace=False)
            shown = {kind: vectors[:, unit] for kind, vectors in encoded.items()}
            shown["real"] = real
            shown["both"] = np.concatenate([shown["ours"], real], axis=1)
            shown["another unit's"] = encoded["ours"][:, (unit + 1) % references.shape[1]]
            shown["random"] = self._references[chosen].reshape(real.shape)
            for kind, (positive, negative) in shown.items():
                right = evidence.answers(asked, positive, negative).mean()
                found.setdefault(kind, []).append(float(right))
        return found


def survey(model, ids_of, examiner, values_range, kinds):
    """Yield `(layer, shares by kind)` for each layer, and the pictures."""
    names = list(ids_of)
    known = [
        evidence.activations(model, names, images)
        for images in (examiner.real.references, examiner.real.queries)
    ]
    for name, ids in ids_of.items():
        drawn = {kind: make(model, name, ids) for kind, make in kinds.items()}
        scores = [evidence.unit_scores(one[name])[:, ids] for one in known]
        yield name, examiner.ask(*scores, drawn), drawn


def row_of(found, kinds):
    """Return a cell for each kind: the mean over units, and its standard error."""
    cells = []
    for kind in kinds:
        shares = 100 * np.array(found.get(kind, []))
        error = np.std(shares, ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
        cells.append(f"{shares.mean():.0f} ± {error:.0f}" if len(shares) else "")
    return cells


def pooled(results):
    """Return the shares of several networks together, by kind."""
    return {kind: sum((one.get(kind, []) for one in results), []) for kind in results[0]}


def measure_clothes(given):
    """Write the shares of trained networks, and their course over epochs."""
    images, labels = fashion_mnist.load_data()
    real = evidence.clothes()
    half = (len(images) - 2 * len(real.references)) // 2
    encoder = evidence.clothes_encoder(images[half : 2 * half], labels[half : 2 * half])
    examiner = Examiner(real, encoder, (0, 1))
    kinds = {"ours": lambda *unit: draw(*unit, (0, 1))}
    last_kinds = kinds | {
        "ours, with `probe_data`": lambda *unit: draw(*unit, (0, 1), images[:500]),
    }
    ids_of = {name: list(range(given.units)) for name in CLOTHES_LAYERS}
    course = {epoch: [] for epoch in given.epochs}
    for seed in range(given.networks):
        model = monitor.build_model(seed)
        model.compile("adam", model.loss, metrics=["accuracy"])
        done = 0
        if TheirObjective is not None and seed == 0:
            last_kinds["Xplique"] = lambda *unit: draw_theirs(*unit, (0, 1))
        else:
            # It takes longer than all else together.
            last_kinds.pop("Xplique", None)
        for epoch in given.epochs:
            if epoch > done:
                model.fit(images[:half], labels[:half], epochs=epoch - done, batch_size=32,
                          verbose=0)  # fmt: skip
                done = epoch
            is_last = epoch == given.epochs[-1]
            chosen = last_kinds if is_last else kinds
            found = {name: one for name, one, _ in survey(model, ids_of, examiner, (0, 1), chosen)}
            course[epoch].append(found)
            keep("two_alternatives_clothes", {str(e): each for e, each in course.items()})
            print(seed, epoch, {n: np.mean(one["ours"]) for n, one in found.items()}, flush=True)
        accuracy = model.evaluate(real.queries, labels[-len(real.queries) :], verbose=0)[1]
        print(f"network {seed}: {accuracy:.0%} of held-out images right", flush=True)
        write_clothes(course, given, len(real.queries))


def write_clothes(course, given, asked_about):
    """Write both tables of clothes from the shares so far, `{epoch: [network, ...]}`."""
    networks = len(course[given.epochs[-1]])
    sizes = (
        f"{networks} network{'s' if networks > 1 else ''}, {given.units} units a layer, "
        f"{evidence.TRIALS} trials a unit from {asked_about:,} held-out images"
    )
    columns = ("layer", "units", *KINDS)
    rows = []
    for name in CLOTHES_LAYERS:
        found = pooled([one[name] for one in course[given.epochs[-1]]])
        rows.append((name, len(found["ours"]), *row_of(found, KINDS)))
    write_table(
        "two_alternatives_clothes",
        f"Right of 100 in the two-alternative task, clothes; {sizes}",
        columns,
        rows,
    )
    rows = []
    for epoch, each_network in course.items():
        each = [pooled([one[name] for one in each_network]) for name in CLOTHES_LAYERS]
        cells = [
            " / ".join(f"{100 * np.mean(one[kind]):.0f}" for kind in ("ours", "real", "both"))
            for one in each
        ]
        rows.append((epoch, *cells))
    write_table(
        "two_alternatives_course",
        f"Right of 100 with ours / real / both, by epochs of training; {sizes}",
        ("epochs", *CLOTHES_LAYERS),
        rows,
    )


def named_most(model, images, count):
    """Return the classes that a model names most often."""
    logits = model.predict(images, batch_size=32, verbose=0)
    counts = np.bincount(logits.argmax(1), minlength=logits.shape[1])
    return sorted(np.argsort(-counts, kind="stable")[:count].tolist())


def measure_photographs(given):
    """Write the shares of a classifier of photographs."""
    model = keras.saving.load_model(given.model, compile=False)
    real = evidence.crops(given.images, model.input_shape[1])
    encoder = evidence.encoder_from_file(given.encoder, given.encoder_layer)
    examiner = Examiner(real, encoder, (-1, 1))
    rng, ids_of = np.random.default_rng(0), {}
    for name in given.layers:
        units = model.get_layer(name).output.shape[-1]
        ids_of[name] = sorted(rng.choice(units, given.units, replace=False).tolist())
    if "logits" in ids_of:
        both = np.concatenate([real.references, real.queries])
        ids_of["logits"] = named_most(model, both, given.units)
    kinds = {"ours": lambda *unit: draw(*unit, (-1, 1), steps=given.steps)}
    if TheirObjective is not None:
        kinds["Xplique"] = lambda *unit: draw_theirs(*unit, (-1, 1))
    shown = [kind for kind in KINDS if kind in {"ours", *kinds} or kind in KINDS[3:]]
    rows, raw, began = [], {}, time.perf_counter()
    for name, found, drawn in survey(model, ids_of, examiner, (-1, 1), kinds):
        raw[name] = {"ids": ids_of[name], **found}
        keep("two_alternatives_photographs", raw)
        if given.pictures:
            np.savez_compressed(
                Path(given.pictures) / f"{name}.npz",
                **{kind: images.astype("float16") for kind, images in drawn.items()},
            )
        rows.append((name, len(ids_of[name]), *row_of(found, shown)))
        print(rows[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
        write_table(
            "two_alternatives_photographs",
            f"Right of 100 in the two-alternative task, {model.name} by {given.encoder_layer} of "
            f"{Path(given.encoder).stem}; {given.units} units a layer, {given.steps} steps, "
            f"{evidence.TRIALS} trials a unit from {given.images} crops of {real.sources[1]} "
            f"photographs, references from as many of {real.sources[0]} others",
            ("layer", "units", *shown),
            rows,
        )


def keep(name, numbers):
    """Write the share of each unit, so far."""
    (RESULTS / f"{name}.json").write_text(json.dumps(numbers))


def main():
    """Measure clothes, or photographs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("clothes", "photographs"), default="clothes")
    parser.add_argument("--model")
    parser.add_argument("--encoder")
    parser.add_argument("--encoder-layer", default="avg_pool")
    parser.add_argument("--networks", type=int, default=1)
    parser.add_argument("--units", type=int, default=8)
    parser.add_argument("--epochs", type=int, nargs="+", default=[0, 1, 3, 8])
    parser.add_argument("--images", type=int, default=500, help="crops of each half")
    parser.add_argument("--layers", nargs="+", default=PHOTOGRAPHS_LAYERS)
    parser.add_argument("--steps", type=int, default=STEPS, help="of photographs")
    parser.add_argument("--pictures", help="a folder that gets the pictures of photographs")
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    logging.getLogger("featviz_callback").setLevel(logging.ERROR)
    if given.check:
        evidence.check()
    elif given.only == "clothes":
        measure_clothes(given)
    else:
        measure_photographs(given)


if __name__ == "__main__":
    main()
