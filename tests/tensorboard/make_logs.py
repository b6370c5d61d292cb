"""Make the logs of which the tab is tested: one folder for each kind.

Run `python -m tests.tensorboard.make_logs FOLDER` to look at them: `tensorboard --logdir FOLDER`.
All are written by the package's own writer, and need no Keras.
"""

import functools
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np

from featviz_callback.records import highlights, pictures
from featviz_callback.tensorboard import EventFile, summaries
from tests.tensorboard.hostile import damage, huge_png

LAYER_NUMBERS = ("dead", "dormant", "duplicate", "saturated", "effective_rank", "update_ratio")
LONG = "a class whose name is as long as ninety letters, as those of some data sets of birds are"


@functools.cache
def picture(name, step, side=24, colour=True):
    """Draw a picture that becomes sharper with each step, and differs for each name."""
    rng = np.random.default_rng(list(name.encode()) or [0])
    row, column = np.mgrid[:side, :side] / side
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 6)
    stripes = np.sin(2 * np.pi * waves * (row * np.cos(angle) + column * np.sin(angle)))
    sharp = np.clip((step + 1) / 8, 0, 1)
    noise = np.random.default_rng(0).normal(size=(side, side))
    grey = 0.5 + 0.4 * (sharp * stripes + (1 - sharp) * noise * 0.5)
    tint = rng.uniform(0.4, 1, 3) if colour else np.ones(1)
    return (np.clip(grey[..., None] * tint, 0, 1) * 255).astype("uint8")


def write_target(events, name, step, score, ratio=None, status=0, drift=None, floor=None, **more):
    """Write one target at one step, and return those numbers that belong into one record.

    `more` are these, by the first part of their tag.
    """
    look = more.pop("look", name)
    side, last = more.pop("side", 24), more.pop("last", False)
    events.image(summaries.IMAGE_TAG.format(name), step, picture(look, step, side), "")
    events.scalar(summaries.SCORE_TAG.format(name), step, score)
    events.scalar(summaries.STATUS_TAG.format(name), step, status)
    for tag, value in (
        (summaries.SCORE_RATIO_TAG, ratio),
        (summaries.DRIFT_TAG, drift),
        (summaries.NOISE_FLOOR_TAG, floor if step < 0 or last else None),
    ):
        if value is not None:
            events.scalar(tag.format(name), step, value)
    return {f"feature_vis_{kind}/{name}": value for kind, value in more.items()}


def write_full(folder, epochs=12, seed=0, layers=("conv1", "conv2", "logits"), units=4, side=24):
    """Write a run that has every tag; unit 1 of the second layer is dead, unit 2 is weak."""
    rng = np.random.default_rng(seed)
    events = EventFile(folder)
    names = [(f"Channel#{layer}_{i}", layer) for layer in layers[:-1] for i in range(units)]
    names += [(f"Neuron#{layers[-1]}_{i}", layers[-1]) for i in range(units)]
    rows = [(name, layer, layers.index(layer)) for name, layer in names]
    summaries.write_objectives(events, -1, rows)
    for step in range(-1, epochs):
        numbers, histograms = {}, {}
        for i, (name, layer) in enumerate(names):
            dead = layer == layers[1] and i % units == 1
            weak = layer == layers[1] and i % units == 2
            age = (step + 1) / epochs
            numbers |= write_target(
                events, name, step,
                score=0.0 if dead else (1 + i % 3) * age + 0.1 * rng.random(),
                ratio=None if dead else (0.4 if weak else 0.8 + age * (1 + i / 10)),
                status=1 if dead else 4 if weak else 0,
                drift=None if step < 0 else 0.6 * np.exp(-0.5 * step) + 0.02,
                floor=0.05 + 0.002 * i,
                look=f"{name}{seed if i % 2 else ''}", last=step == epochs - 1, side=side,
                selectivity=0.2 + 0.05 * (i % 9), active_share=0.0 if dead else 0.31,
                functional_drift=0.3 * np.exp(-0.4 * max(0, step)),
            )  # fmt: skip
            if step in (-1, epochs - 1):
                write_real(events, name, step, dead)
        for place, layer in enumerate(layers):
            for j, kind in enumerate(LAYER_NUMBERS):
                value = min(1, 0.05 * j + 0.3 * (place == 1) + 0.03 * step * (place == 1))
                numbers[f"feature_vis_layer_{kind}/{layer}"] = max(0, value)
            counts, edges = np.histogram(rng.normal(0, 1 + step + place, 2000), 30)
            buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
            histograms[summaries.ACTIVATION_TAGS.format(layer)] = buckets
        events.many(step, numbers, histograms)
    return events


def write_pair(folder):
    """Write two runs, of which every second unit has the same pictures."""
    for seed, run in enumerate("ab"):
        write_full(Path(folder) / run, epochs=4, seed=seed, units=2)


def write_real(events, name, step, dead=False, count=4):
    """Write a target's importance, its real images, and where they activate it."""
    blob = np.hypot(*(np.mgrid[:24, :24] - 12)) < 9
    optimised = picture(name, step)
    faded = np.where(blob[..., None], optimised, 128).astype("uint8")
    # Both forms of importance: a mask, and the picture itself, faded.
    mask = (blob * 255).astype("uint8")[..., None]
    events.image(f"feature_vis_importance/{name}", step, faded if name[-1] == "1" else mask)
    for rank in range(0 if dead else count):
        said = f"score {3.2 - rank / 2:.3g}, class {LONG if rank == 1 else 'cat'}"
        # Units 0 and 2 of a layer, and no others, share their first image.
        shared = rank == 0 and name[-1] in "02"
        image = picture(f"real {rank} {name[:-1] if shared else name}", 8)
        events.image(f"feature_vis_real/{name}/{rank}", step, image, said)
        place = highlights.beside(np.where(blob[..., None], image, 128).astype("uint8"), image)
        events.image(f"feature_vis_place/{name}/{rank}", step, place)


def write_first_release(folder):
    """Write a run of the first release: "dead" and "ok" where its own ratios refute both."""
    events = EventFile(folder)
    for step in range(-1, 5):
        write_target(events, "Channel#conv_0", step, 0.0, ratio=0.0, status=1, drift=0.1)
        write_target(events, "Channel#conv_1", step, -9.0, ratio=0.3, status=0, drift=0.1)
        write_target(events, "Channel#conv_2", step, 2.0, ratio=1.2, status=0, drift=0.1)
        write_target(events, "Channel#conv_3", step, 0.0, status=1, drift=0.0)
    sheet = np.full((40, 260, 3), 255, "uint8")
    for name in range(4):
        summaries.write_examples(events, 4, f"Channel#conv_{name}", sheet)
    return events


def write_sweep(folder, runs=30, targets=40, epochs=3, side=28):
    """Write many runs, whose names differ by rate and seed."""
    for run in range(runs):
        events = EventFile(
            Path(folder) / f"sweep of a long common beginning/lr={10 ** -(run % 5):g},seed={run}"
        )
        for step in range(-1, epochs):
            for i in range(targets):
                write_target(
                    events, f"Channel#conv_{i}", step, score=i + run * (i % 7),
                    ratio=0.5 + run / 20 + run * (i % 7) / 1000, drift=0.2,
                    status=1 if run == 3 else 0, look=f"{i} {run}", side=side,
                )  # fmt: skip


def all_runs(runs=30):
    """Return the address that shows all runs of `write_sweep`."""
    names = [
        f"sweep of a long common beginning/lr={10 ** -(i % 5):g},seed={i}" for i in range(runs)
    ]
    return "p.feature_vis.runs=" + quote(
        ",".join(name.replace(",", "%2C") for name in names), safe=""
    )


def write_signals(folder, channels=3):
    """Write plots of signals, as the callback draws them."""
    events = EventFile(folder)
    time = np.linspace(0, 6, 100)[:, None]
    for step in range(-1, 3):
        for i in range(3):
            signal = np.sin(time * (i + 1) + np.arange(channels))
            events.image(
                summaries.IMAGE_TAG.format(f"Neuron#logits_{i}"),
                step,
                pictures.plot(signal, (-1, 1)),
            )
            events.scalar(summaries.SCORE_TAG.format(f"Neuron#logits_{i}"), step, step + i)
            events.scalar(summaries.STATUS_TAG.format(f"Neuron#logits_{i}"), step, 0)
    return events


def write_long_names(folder):
    """Write names of 300 wide letters, one of 90 that are wide too, and one with a space."""
    events = EventFile(folder)
    for name in [f"{i:02d}" + "字" * 297 + "末" for i in range(40)] + ["W" * 89 + "!", LONG]:
        for step in (0, 1):
            write_target(events, name, step, 1.0)
    return events


def write_two_trainings(folder):
    """Write two trainings into one folder, as the first release did."""
    for epochs, name in ((6, "a"), (3, "b")):
        events = EventFile(folder)
        for step in range(-1, epochs):
            write_target(events, "Channel#conv_0", step, float(step), look=name)


def write_many_units(folder, layers=20, units=500, epochs=1, side=12):
    """Write ten thousand units."""
    events = EventFile(folder)
    rows = [
        (f"Channel#block{layer}_{i}", f"block{layer}", layer)
        for layer in range(layers)
        for i in range(units)
    ]
    summaries.write_objectives(events, 0, rows)
    for step in range(epochs):
        looks = [pictures.encode_png(picture(str(i), step, side)) for i in range(50)]
        for i, (name, _, _) in enumerate(rows):
            events.encoded_image(
                summaries.IMAGE_TAG.format(name), step, looks[i % 50], (side, side)
            )
        scores = {summaries.SCORE_TAG.format(name): i % 97 for i, (name, _, _) in enumerate(rows)}
        statuses = {summaries.STATUS_TAG.format(name): 0 for name, _, _ in rows}
        events.many(step, scores | statuses)


def write_sparse(folder, targets=400):
    """Write targets and layers that each have one step of their own."""
    events = EventFile(folder)
    for i in range(targets):
        write_target(events, f"Channel#conv_{i}", i, 1.0 + i)
        events.many(i, {f"feature_vis_layer_dead/conv{i}": i / targets})
    return events


def write_wide(folder, layers=1500, epochs=30, steps=2500):
    """Write numbers of more layers than a table has room for, and a target of many steps."""
    events = EventFile(folder)
    for epoch in range(epochs):
        events.many(epoch, {f"feature_vis_layer_dead/l{i}": 0.5 for i in range(layers)})
    look = pictures.encode_png(picture("x", 8, 8))
    for step in range(steps):
        events.encoded_image(summaries.IMAGE_TAG.format("x"), step, look, (8, 8))
    return events


def write_hostile(folder):
    """Write a run with a picture that is small as a file, and far too large to be shown."""
    events = write_full(folder, epochs=2)
    events.encoded_image(summaries.IMAGE_TAG.format("bomb"), 1, huge_png(), (13_000, 13_000))
    return events


def main(folder):
    """Write every kind of log below a folder, each in a folder of its own."""
    root = Path(folder)
    write_full(root / "full/run")
    for seed in range(3):
        write_full(root / f"four/lr=0.{seed + 1}", seed=seed, epochs=8)
    write_full(root / "four/short", seed=4, epochs=3)
    write_first_release(root / "first_release/old")
    write_sweep(root / "sweep")
    write_signals(root / "signals/run")
    write_long_names(root / "long_names")
    write_two_trainings(root / "two_trainings")
    write_full(root / "damaged/run")
    damage(root / "damaged/run")
    write_hostile(root / "hostile/run")
    write_full(root / "long/run", epochs=200, units=3)


if __name__ == "__main__":
    main(sys.argv[1])
