"""Compare with other libraries, each in an environment of its own, on the same classes.

Each library draws the same eight classes of the same classifier with its defaults, but
for the size and the range of values, by a script in `peers/`. Then one process measures
all pictures alike: how often an independent classifier names them, path similarity, and
the two-alternative task by machine.

    python benchmarks/side_by_side.py --model A.keras --classifier B.keras
        [--only "ours, 32 steps" Xplique] [--environments FOLDER] [--pictures FOLDER]

Installs each library into a virtual environment, which also sees the packages of this
Python. So all of them run on the same Keras and the same framework; this Python needs
TensorFlow, and torch for Horama, Lucent and DreamLens. Environments are made in a
temporary folder, or in `--environments`, where they are kept. Pictures that `--pictures`
has already are not drawn again.
"""

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import evidence
import keras
import numpy as np
from common import write_table
from quality import classify_pictures, save_sheet

from featviz_callback.records import pictures

PEERS = Path(__file__).parent / "peers"
IDS = (9, 130, 207, 340, 817, 948, 954, 985)
# The script, its steps, and what to install: without their requirements, which would bring
# another framework, and with those that they need beside it.
MAKERS = {
    "ours, 32 steps": ("ours.py", 32, (), ()),
    "ours, 128 steps": ("ours.py", 128, (), ()),
    "Xplique 2.0.2, 256 steps": (
        "with_xplique.py",
        256,
        ("xplique==2.0.2",),
        ("tensorflow-probability==0.25.0", "tf_keras", "scipy", "scikit-learn", "scikit-image",
         "matplotlib", "opencv-python-headless", "deprecated", "einops"),
    ),
    "Horama 0.3.0 Fourier, 64 steps of 6 crops": (
        "with_horama.py",
        64,
        ("horama==0.3.0",),
        ("einops", "tqdm", "matplotlib"),
    ),
    "tf-keras-vis 0.8.7, 200 steps": (
        "with_tf_keras_vis.py",
        200,
        ("tf-keras-vis==0.8.7",),
        ("deprecated", "imageio", "scipy", "pillow", "packaging"),
    ),
    "Lucent 0.1.8, 256 steps": (
        "with_lucent.py",
        256,
        ("torch-lucent==0.1.8", "kornia", "kornia_rs"),
        ("tqdm", "pillow", "decorator", "future"),
    ),
    "DreamLens 0.1.1, 120 steps": ("with_dreamlens.py", 120, ("dreamlens==0.1.1",), ()),
}  # fmt: skip
LAYERS = ("block2b_expand_activation", "block5b_expand_activation", "top_activation", "logits")


def environment(folder, name, alone, others):
    """Make an environment, or take one that is there; return its Python."""
    if not alone:
        return sys.executable
    home = Path(folder) / name
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        site = home / "lib" / f"python{sysconfig.get_python_version()}" / "site-packages"
        (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = [str(python), "-m", "pip", "install", "--quiet"]
        if others:
            subprocess.run([*install, *others], check=True)
        subprocess.run([*install, "--no-deps", *alone], check=True)
    return str(python)


def draw(maker, given, environments, folder):
    """Let one library draw; return its pictures and seconds, or the last line of its error."""
    script, steps, alone, others = MAKERS[maker]
    output = Path(folder) / f"{Path(script).stem}_{steps}.npz"
    if not output.exists():
        try:
            python = environment(environments, Path(script).stem, alone, others)
        except subprocess.CalledProcessError as error:
            return None, f"not installed: {error}"
        command = [python, str(PEERS / script), given.model, str(output), "--steps", str(steps)]
        root = str(Path(__file__).parents[1])
        settings = os.environ | ({} if alone else {"PYTHONPATH": root})
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["it failed"])[-1]
    found = np.load(output)
    return found["images"].astype("float32"), found["seconds"]


def two_alternatives(images, queries, asked, encoder):
    """Return the share of right answers: a picture of the class against those of the others."""
    encoded, shares = encoder(images, (-1, 1)), []
    for unit, pairs in enumerate(asked):
        others = np.delete(encoded, unit, axis=0)
        shares.append(evidence.answers(queries[pairs], encoded[unit][None], others).mean())
    return np.array(shares)


def main():
    """Draw with every library, and write one table and one sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--encoder-layer", default="avg_pool")
    parser.add_argument("--only", nargs="+", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--environments")
    parser.add_argument("--pictures")
    parser.add_argument("--images", type=int, default=300, help="crops of each half")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        environments = given.environments or temporary
        folder = given.pictures or temporary
        drawn, failed = {}, []
        for maker in given.only:
            images, seconds = draw(maker, given, environments, folder)
            if images is None:
                failed.append((maker, seconds))
                print(f"{maker}: {seconds}", flush=True)
            else:
                drawn[maker] = images, seconds
                print(f"{maker}: {seconds[0]:.0f} s, {seconds[1]:.0f} s of CPU", flush=True)
    measure(given, drawn, failed)


def measure(given, drawn, failed):
    """Measure all pictures alike."""
    model = keras.saving.load_model(given.model, compile=False)
    classifier = keras.saving.load_model(given.classifier, compile=False)
    encoder = evidence.Encoder(
        keras.Model(classifier.inputs, classifier.get_layer(given.encoder_layer).output), (-1, 1)
    )
    real, rng, classes = evidence.crops(given.images, 224), np.random.default_rng(0), np.array(IDS)
    queries = encoder(real.queries, (-1, 1))
    logits = [
        model.predict(images, batch_size=32, verbose=0)[:, classes]
        for images in (real.references, real.queries)
    ]
    asked = [evidence.trials(logits[1][:, unit], rng) for unit in range(len(classes))]
    tops = [evidence.ordered(logits[0][:, unit], rng)[-9:] for unit in range(len(classes))]
    others = rng.choice(len(real.references), 18, replace=False)
    reader = keras.Model(model.inputs, [model.get_layer(name).output for name in LAYERS])
    read = [reader.predict(real.references[top], verbose=0) for top in tops]
    read_others = reader.predict(real.references[others], verbose=0)
    rows, sheet = [], []
    for maker, (images, seconds) in drawn.items():
        right, probabilities = classify_pictures(classifier, images, classes)
        own = model.predict(images, verbose=0)[np.arange(len(classes)), classes]
        shares = two_alternatives(images, queries, asked, encoder)
        shown = reader.predict(images, verbose=0)
        similar = [
            evidence.path_similarity(
                [
                    evidence.correlations(shown[i][unit][None], read[unit][i], read_others[i])
                    for unit in range(len(classes))
                ]
            )
            for i in range(len(LAYERS))
        ]
        error = shares.std(ddof=1) / np.sqrt(len(shares))
        rows.append(
            (
                maker,
                f"{seconds[1]:.0f}",
                f"{right.sum()} of {len(classes)}",
                f"{probabilities.mean():.2f}",
                f"{own.mean():.1f}",
                f"{100 * shares.mean():.0f} ± {100 * error:.0f}",
                *(f"{one:.2f}" for one in similar),
            )
        )
        sheet.append(list(pictures.to_uint8(images, (-1, 1))))
    shares = np.array(
        [
            evidence.answers(
                queries[pairs],
                encoder(real.references[top], (-1, 1)),
                encoder(real.references[others], (-1, 1)),
            ).mean()
            for pairs, top in zip(asked, tops, strict=True)
        ]
    )
    rows.append(
        (
            "nine real images",
            "",
            "",
            "",
            f"{np.mean([one.max() for one in logits[0].T]):.1f} (best)",
            f"{100 * shares.mean():.0f} ± {100 * shares.std(ddof=1) / np.sqrt(len(shares)):.0f}",
            *("1",) * len(LAYERS),
        )
    )
    rows += [(maker, why, *("",) * (4 + len(LAYERS))) for maker, why in failed]
    columns = (
        "pictures",
        "seconds of CPU, first call",
        "named by the classifier",
        "its probability",
        "own logit",
        "two-alternative task, right of 100",
        *(f"path similarity, {name}" for name in LAYERS),
    )
    write_table(
        "side_by_side",
        f"Eight classes of {model.name} at 224 pixels, one picture each, named by "
        f"{classifier.name}; real images are {given.images} crops of each of {real.sources} "
        f"photographs, which show none of the classes; load of the machine "
        f"{os.getloadavg()[0]:.0f}",
        columns,
        rows,
    )
    if sheet:
        save_sheet(pictures.grid([[one[::2, ::2] for one in row] for row in sheet]),
                   "side_by_side.png")  # fmt: skip


if __name__ == "__main__":
    main()
