"""Compare pictures by MACO with those of its authors' libraries, on the same eight classes.

    python benchmarks/maco.py --model A.keras --classifier B.keras
        [--environments FOLDER] [--pictures FOLDER]

Xplique and Horama are installed in environments of their own, see `side_by_side.py`. They
make fewer steps and crops than by default, so that the comparison takes minutes. Horama gets
the spectrum of ImageNet that Xplique ships. Real images are crops of photographs, which show
none of the classes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import evidence
import keras
import numpy as np
from common import write_table
from quality import classify_pictures, save_sheet
from side_by_side import IDS, MAKERS, PEERS, environment

from featviz_callback.records import pictures

REAL_IMAGES = 64
# The script, steps, crops a step (0 for the whole image), and whether it gets real images.
OURS, XPLIQUE, HORAMA = "maco_ours.py", "maco_with_xplique.py", "maco_with_horama.py"
RUNS = {
    "ours, 64 steps, spectrum of 1/f": (OURS, 64, 0, False),
    "ours, 64 steps, spectrum of real images": (OURS, 64, 0, True),
    "ours, 64 steps of a crop, spectrum of real images": (OURS, 64, 1, True),
    "ours, 256 steps of a crop, spectrum of real images": (OURS, 256, 1, True),
    "Xplique 2.0.2, 32 steps of 8 crops, spectrum of ImageNet": (XPLIQUE, 32, 8, False),
    "Xplique 2.0.2, 32 steps of 8 crops, spectrum of real images": (XPLIQUE, 32, 8, True),
    "Horama 0.3.0, 64 steps of 6 crops, spectrum of ImageNet": (HORAMA, 64, 6, False),
}
_PACKAGES = {
    XPLIQUE: "Xplique 2.0.2, 256 steps",
    HORAMA: "Horama 0.3.0 Fourier, 64 steps of 6 crops",
}


def draw(name, given, environments, folder):
    """Let one library draw; return pictures, importance and seconds, or why there are none."""
    script, steps, crops, has_real = RUNS[name]
    output = Path(folder).absolute() / f"{Path(script).stem}_{steps}_{crops}_{has_real}.npz"
    if not output.exists():
        python, settings = sys.executable, dict(os.environ)
        if script in _PACKAGES:
            home, *_, alone, others = (*MAKERS[_PACKAGES[script]],)
            python = environment(environments, Path(home).stem, alone, others)
        else:
            settings["PYTHONPATH"] = str(Path(__file__).parents[1])
        command = [python, str(PEERS / script), given.model, str(output), "--steps", str(steps)]
        command += ["--crops", str(crops)] if crops else []
        command += ["--real-images", str(Path(folder) / "real.npy")] if has_real else []
        if script == HORAMA:
            [spectrum] = Path(environments).glob("with_xplique/**/spectrum_decorrelated.npy")
            command += ["--spectrum", str(spectrum)]
        done = subprocess.run(command, env=settings, capture_output=True, text=True)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it failed"])[-1]
    found = np.load(output)
    return found["images"].astype("float32"), found["importance"], np.ravel(found["seconds"])[0]


def faded(images, importance):
    """Return pictures in [0, 1] that fade to white where they matter least."""
    ranks = importance.reshape(len(importance), -1).argsort(1).argsort(1) / importance[0].size
    opacity = np.clip(2 * ranks.reshape(importance.shape), 0, 1)[..., None]
    return opacity * (images + 1) / 2 + 1 - opacity


def main():
    """Draw with every library, and write one table and one sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--classifier", required=True)
    parser.add_argument("--environments")
    parser.add_argument("--pictures")
    given = parser.parse_args()
    drawn = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.pictures or temporary
        if not (Path(folder) / "real.npy").exists():
            np.save(Path(folder) / "real.npy", evidence.crops(REAL_IMAGES // 2, 224).references)
        for name in RUNS:
            drawn[name] = draw(name, given, given.environments or temporary, folder)
            print(name, drawn[name] if isinstance(drawn[name], str) else drawn[name][2], flush=True)
    measure(given, drawn)


def measure(given, drawn):
    """Measure all pictures alike."""
    model, classifier = (
        keras.saving.load_model(path, compile=False) for path in (given.model, given.classifier)
    )
    classes, rows, sheet = np.array(IDS), [], []
    for name, found in drawn.items():
        if isinstance(found, str):
            rows.append((name, found, "", "", ""))
            continue
        images, importance, seconds = found
        right, probabilities = classify_pictures(classifier, images, classes)
        own = model.predict(images, verbose=0)[np.arange(len(classes)), classes]
        rows.append(
            (
                name,
                f"{seconds:.0f}",
                f"{right.sum()} of {len(classes)}",
                f"{probabilities.mean():.2f}",
                f"{own.mean():.1f}",
            )
        )
        small = slice(None, None, 2)
        for shown in ((images + 1) / 2, faded(images, importance)):
            sheet.append(list(pictures.to_uint8(shown[:, small, small], (0, 1))))
    columns = ("pictures", "seconds", "named by the classifier", "its probability", "own logit")
    write_table(
        "maco",
        f"MACO: eight classes of {model.name} at 224 pixels, one picture each, named by "
        f"{classifier.name}; load of the machine {os.getloadavg()[0]:.0f}",
        columns,
        rows,
    )
    save_sheet(pictures.grid(sheet), "maco.png")


if __name__ == "__main__":
    main()
