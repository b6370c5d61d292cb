"""Measure what each part of the default settings contributes, by changing one at a time.

    python benchmarks/ablations.py --model A.keras --classifier B.keras [--steps 32]
        [--seeds 2] [--only "default" "transformations of 128 steps"]

As in `quality.py`, one ImageNet classifier is visualised and an independent one names the
pictures.
"""

from dataclasses import replace

import keras
from common import write_table
from quality import CLASSES, COLUMNS, load, measure, parser_of, save_sheet

from featviz_callback.images import parameterizations
from featviz_callback.images.parameterizations import FixedMagnitude
from featviz_callback.images.transformations import (
    Blur,
    Crop,
    Flip,
    Jitter,
    Noise,
    Rotate,
    Scale,
    standard,
)
from featviz_callback.optimization import chunk
from featviz_callback.records import pictures

SHAPE = (224, 224, 3)
# Classes on the sheet, which has one row per setting.
SHOWN = 4
RANGE = (-1.0, 1.0)


def settings_of(steps):
    """Return the changed arguments of `optimize`, by name."""
    *moves, noise = standard(SHAPE, steps, RANGE)
    fourier = parameterizations.standard(SHAPE)
    return {
        "default": {},
        "Adam, rate 0.05": {"optimizer": keras.optimizers.Adam(0.05)},
        "pixels": {"parameterization": "pixel"},
        "no window": {"parameterization": replace(fourier, window=None)},
        "all frequencies": {"parameterization": replace(fourier, detail=1.0)},
        "half the frequencies": {"parameterization": replace(fourier, detail=0.5)},
        "contrast fixed at 0.8": {"parameterization": replace(fourier, contrast=0.8)},
        "contrast fixed at 1": {"parameterization": replace(fourier, contrast=1.0)},
        "contrast fixed at 2": {"parameterization": replace(fourier, contrast=2.0)},
        "faint noise as the only start": {"parameterization": replace(fourier, noise=0.05)},
        "colours not decorrelated": {"parameterization": replace(fourier, colors=None)},
        "fixed magnitude": {"parameterization": "fixed_magnitude"},
        "fixed magnitude, steeper, no window": {
            "parameterization": FixedMagnitude(replace(fourier, decay=1.3, window=None))
        },
        "no transformations": {"transformations": None},
        "scale 0.95 to 1.05": {"transformations": (Jitter(0.12), Scale(0.95, 1.05))},
        "no noise": {"transformations": moves},
        "noise half as strong": {
            "transformations": (*moves, Noise(noise.deviation / 2, noise.last / 2))
        },
        "noise to the end": {"transformations": (*moves, Noise(noise.deviation))},
        "transformations of 32 steps": {"transformations": (*standard(SHAPE, 32)[:2], noise)},
        "transformations of 128 steps": {"transformations": (*standard(SHAPE, 128)[:2], noise)},
        "zoomed in throughout": {"transformations": (Jitter(0.12), Scale(1.2, 2.4))},
        "crops of 0.25 to 1": {"transformations": (Crop(0.25, 1.0),)},
        "and flips": {"transformations": (*moves, Flip(), noise)},
        "and rotation by 10 degrees": {"transformations": (*moves, Rotate(10.0), noise)},
        "and blur": {"transformations": (*moves, Blur(1.0), noise)},
        "noise of 0.2 throughout": {"transformations": (*moves, Noise(0.2))},
    }


SCHEDULES = {
    "spectrum 1/f throughout": {"steepness": 1.0},
    "spectrum of 1.4 throughout": {"steepness": 1.4},
    # After 128 steps: ends at the exponent that 32 steps end with.
    "spectrum flattens a quarter further": {"flatten": 0.8 / 0.65},
    "rate halved": {"rate": 0.5},
    "rate doubled": {"rate": 2.0},
    "the last image, not an average": {"newest": 1.0},
    "flat below 3 cycles": {"lowest": 3.0},
    "flat below 1.5 cycles": {"lowest": 1.5},
    "chroma as in real images": {"chroma": 1.0},
    "chroma half as strong": {"chroma": 0.5},
}


def changed_schedule(default, change):
    """Return the default schedule with one number replaced or scaled."""

    def settings_at(number, steps, shape):
        settings = default(number, steps, shape)
        if "flatten" in change:
            first = default(0, steps, shape).steepness
            steepness = first + (settings.steepness - first) * change["flatten"]
            return replace(settings, steepness=steepness)
        if "rate" in change:
            return replace(settings, rate=settings.rate * change["rate"])
        return replace(settings, **change)

    return settings_at


def main():
    """Measure every change, and draw a sheet of the first seed of each."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=[*settings_of(32), *SCHEDULES])
    arguments = parser.parse_args()
    changes = settings_of(arguments.steps)
    objective, classifier = load(arguments)
    default, rows, shown = chunk.settings_at, [], []
    for name in arguments.only:
        chunk.settings_at = changed_schedule(default, SCHEDULES.get(name, {}))
        settings = changes.get(name, {})
        row, result = measure(objective, classifier, arguments.steps, arguments.seeds, **settings)
        rows.append((name, *row[1:-1]))
        print(rows[-1], flush=True)
        shown.append(list(pictures.to_uint8(result.images[:SHOWN, ::2, ::2], result.values_range)))
    sheet = pictures.grid(
        shown, row_labels=[row[0] for row in rows], column_labels=list(CLASSES.values())[:SHOWN]
    )
    save_sheet(sheet, f"ablations_{arguments.steps}.png")
    title = f"The default after {arguments.steps} steps, and one thing changed"
    write_table(
        f"ablations_{arguments.steps}",
        f"{title} ({objective.model.name})",
        ("changed", *COLUMNS[1:-1]),
        rows,
    )


if __name__ == "__main__":
    main()
