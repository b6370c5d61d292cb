"""Measure how soon TensorBoard's tab "Features" opens on a long run, and its memory.

Writes 200 snapshots of 100 targets of 224 pixels into a folder that is removed afterwards
(a gigabyte or two), runs a real TensorBoard on it, and opens it in Debian's chromium.
Needs Playwright: `pip install '.[browser]'`.

    python benchmarks/features_tab.py [--snapshots 200] [--targets 100] [--size 224]
        [--rounds 5]

With `--atlas FOLDER` it opens an atlas that is there, such as that of
`python benchmarks/atlas.py --folder FOLDER`.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import write_table
from PIL import Image
from playwright.sync_api import sync_playwright

from featviz_callback.records import pictures
from featviz_callback.tensorboard import summaries

CLICK = "the tab, clicked in an open TensorBoard"
WITH_TENSORBOARD = "TensorBoard's page with the tab, loaded anew"
PAGE = "the tab's page alone"

# True once every card on the screen has the picture of the chosen epoch.
DRAWN = """() => {
    const cards = [...document.querySelectorAll('li')].filter((node) => node.card.visible);
    return cards.length > 0 && cards.every((node) => (
        node.querySelector('canvas').width > 1 && !node.querySelector('.waiting')));
}"""


def write_log(folder, snapshots, targets, size):
    """Write a run of `snapshots` snapshots as the callback does; return its bytes."""
    events = summaries.EventFile(folder)
    rng = np.random.default_rng(0)
    encoded = [_picture(rng, size) for _ in range(targets)]
    names = [f"Channel#conv{i // 25}_{i % 25}" for i in range(targets)]
    for step in range(-1, snapshots - 1):
        for name, picture, number in zip(names, encoded, rng.random(targets), strict=True):
            tag = summaries.IMAGE_TAG.format(name)
            events.encoded_image(tag, step, picture, (size, size), "a picture")
            for series in (summaries.SCORE_TAG, summaries.DRIFT_TAG, summaries.STATUS_TAG):
                events.scalar(series.format(name), step, number)
    return Path(events.path).stat().st_size


def _picture(rng, size):
    """Return a PNG of about as many bytes as a real picture: smooth, with a little noise."""
    coarse = rng.integers(40, 216, (size // 8, size // 8, 3), "uint8")
    smooth = Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)
    noise = rng.integers(-8, 9, (size, size, 3))
    return pictures.encode_png(np.clip(np.asarray(smooth) + noise, 0, 255).astype("uint8"))


def serve(folder):
    """Start TensorBoard; return the process and its address."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0"]
    # TensorBoard's own tabs would otherwise keep pictures in memory too.
    command += ["--samples_per_plugin", "images=1,scalars=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if found := re.search(r"http://localhost:\d+", line):
            return process, found[0]
    raise RuntimeError("TensorBoard did not start.")


def memory(process):
    """Return the megabytes that a process has in memory."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def open_tab(browser, address, kind):
    """Return the seconds until every picture on the screen is drawn."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    if kind == PAGE:
        began = time.perf_counter()
        page.goto(f"{address}/data/plugin_entry.html?name=feature_vis")
        frame = page
    elif kind == WITH_TENSORBOARD:
        began = time.perf_counter()
        page.goto(f"{address}/#feature_vis")
        frame = _tab_frame(page)
    else:
        page.goto(f"{address}/#scalars")
        page.wait_for_timeout(4000)
        began = time.perf_counter()
        page.get_by_role("tab", name="Features").click()
        frame = _tab_frame(page)
    frame.wait_for_function(DRAWN, timeout=30_000)
    seconds = time.perf_counter() - began
    page.close()
    return seconds


def _tab_frame(page):
    while True:
        for frame in page.frames:
            if "plugin_entry" in frame.url and "feature_vis" in frame.url:
                return frame
        page.wait_for_timeout(5)


def main():
    """Write the log, and open the tab several times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("snapshots", 200), ("targets", 100), ("size", 224), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--atlas", type=Path)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    if arguments.atlas is not None:
        of_atlas(arguments.atlas, folder, arguments.rounds)
        return
    try:
        (folder / "empty").mkdir()
        sizes = (arguments.snapshots, arguments.targets, arguments.size)
        length = write_log(folder / "logs/run", *sizes)
        rows = measure(folder, arguments.rounds)
    finally:
        shutil.rmtree(folder)
    title = (
        f"Opening the tab Features on {arguments.snapshots} snapshots of {arguments.targets} "
        f"targets of {arguments.size} pixels, {length / 1e9:.1f} GB"
    )
    write_table("features_tab", title, ("what", "measured"), rows)


def of_atlas(atlas, folder, rounds):
    """Measure on an atlas, from which nothing is removed."""
    (folder / "empty").mkdir()
    (folder / "logs").symlink_to(atlas.resolve())
    units = sum(row[2] for row in json.loads((atlas / "plan.json").read_text()))
    try:
        rows = measure(folder, rounds)
    finally:
        shutil.rmtree(folder)
    rows.append(("load of the machine", f"{os.getloadavg()[0]:.2f}"))
    title = f"Opening the tab Features on an atlas of {units:,} units"
    write_table("features_tab_atlas", title, ("what", "measured"), rows)


def measure(folder, rounds):
    """Return the rows of the table."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        empty, _ = serve(folder / "empty")
        process, address = serve(folder / "logs")
        try:
            first = open_tab(browser, address, PAGE)
            kept = memory(process) - memory(empty)
            seconds = {
                kind: [open_tab(browser, address, kind) for _ in range(rounds)]
                for kind in (CLICK, WITH_TENSORBOARD, PAGE)
            }
        finally:
            empty.kill()
            process.kill()
        browser.close()
    rows = [(f"{PAGE}, when TensorBoard has just started", f"{first:.2f} s")]
    for kind, each in seconds.items():
        times = ", ".join(f"{one:.2f}" for one in each)
        rows.append((kind, f"median {np.median(each):.2f} s ({times})"))
    rows.append(("memory of TensorBoard, more than on an empty folder", f"{kept:.0f} MB"))
    return rows


if __name__ == "__main__":
    main()
