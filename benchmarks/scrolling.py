"""Measure how smoothly the tab "Features" scrolls: ten thousand units, and a deep network.

Writes an atlas of ten thousand units and a training of many layers into a folder that is
removed afterwards, runs a real TensorBoard on it, and scrolls in Debian's chromium, a step a
frame. A frame that lasts more than 50 ms is seen to stutter.
Needs Playwright: `pip install '.[browser]'`.

    python benchmarks/scrolling.py [--frames 200]
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from common import write_table
from features_tab import serve
from playwright.sync_api import sync_playwright

from featviz_callback.records import pictures
from featviz_callback.tensorboard import EventFile, summaries

LAYERS, UNITS = 20, 500
DEEP, EPOCHS = 120, 200
SLOW = 50

# Scrolls by some pixels a frame, and returns how long each frame took and how far it came.
SCROLL = """async ([pixels, count]) => {
    const main = document.querySelector('main');
    const frame = () => new Promise(requestAnimationFrame);
    main.scrollTop = 0;
    for (let i = 0; i < 20; i += 1) await frame();
    let last = await frame();
    const seconds = [];
    for (let i = 0; i < count; i += 1) {
        const low = main.scrollTop;
        main.scrollTop += pixels;
        if (main.scrollTop === low) pixels = -pixels;
        const now = await frame();
        seconds.push(now - last);
        last = now;
    }
    return [seconds, main.scrollHeight];
}"""


def write_units(folder):
    """Write one snapshot of ten thousand units, as an atlas has."""
    events = EventFile(folder)
    rng = np.random.default_rng(0)
    names = [(f"Channel#block{i}_{j}", f"block{i}", i) for i in range(LAYERS) for j in range(UNITS)]
    summaries.write_objectives(events, 0, names)
    looks = [pictures.encode_png(rng.integers(0, 256, (64, 64, 3), "uint8")) for _ in range(50)]
    for i, (name, _, _) in enumerate(names):
        events.encoded_image(summaries.IMAGE_TAG.format(name), 0, looks[i % 50], (64, 64))
    tags = {summaries.SCORE_TAG.format(name): i % 97 for i, (name, _, _) in enumerate(names)}
    events.many(0, tags | {summaries.STATUS_TAG.format(name): 0 for name, _, _ in names})


def write_network(folder):
    """Write the numbers of many layers at many epochs."""
    events = EventFile(folder)
    rng = np.random.default_rng(0)
    layers = [f"block{i // 4}/conv{i % 4}" for i in range(DEEP)]
    summaries.write_objectives(events, 0, [("Channel#first", layers[0], 0)])
    events.image(summaries.IMAGE_TAG.format("Channel#first"), 0, np.zeros((8, 8, 1), "uint8"))
    for epoch in range(EPOCHS):
        events.many(epoch, {f"feature_vis_layer_dead/{layer}": rng.random() for layer in layers})


def scroll(browser, address, view, ready, pixels, frames, times=1):
    """Return the milliseconds of each frame while a view scrolls, for the last of some times."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{address}/data/plugin_entry.html?name=feature_vis#&{view}")
    page.wait_for_function(ready, timeout=120_000)
    page.wait_for_timeout(1000)
    for _ in range(times):
        milliseconds, height = page.evaluate(SCROLL, [pixels, frames])
    page.close()
    return milliseconds, height


def main():
    """Write the logs, and scroll."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=200)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    units = f"document.querySelector('.shown')?.textContent === '{LAYERS * UNITS} targets'"
    table = "document.querySelectorAll('.cell-heat').length > 1000"
    views = (
        ("ten thousand units, pictures of 144 pixels", "runs=atlas", units, 60),
        ("ten thousand units, pictures of 144 pixels, fast", "runs=atlas", units, 1500),
        (
            "ten thousand units, pictures of 48 pixels",
            "runs=atlas&p.feature_vis.size=48",
            units,
            60,
        ),
        (
            "ten thousand units, pictures of 48 pixels, seen before",
            "runs=atlas&p.feature_vis.size=48",
            units,
            60,
        ),
        (
            f"network, {DEEP} layers of {EPOCHS} epochs",
            "runs=deep&p.feature_vis.page=network",
            table,
            60,
        ),
    )
    process = None
    try:
        write_units(folder / "atlas")
        write_network(folder / "deep")
        process, address = serve(folder)
        rows = []
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for what, view, ready, pixels in views:
                times = 2 if "before" in what else 1
                found, height = scroll(
                    browser,
                    address,
                    f"p.feature_vis.{view}",
                    ready,
                    pixels,
                    arguments.frames,
                    times,
                )
                late = sum(one > SLOW for one in found)
                median, most, longest = np.percentile(found, (50, 95, 100))
                rows.append(
                    (
                        what,
                        f"{height:,}",
                        pixels,
                        f"{late} of {len(found)}",
                        f"{median:.0f} ms",
                        f"{most:.0f} ms",
                        f"{longest:.0f} ms",
                    )
                )
            browser.close()
    finally:
        if process is not None:
            process.kill()
        shutil.rmtree(folder)
    title = f"Scrolling in the tab Features, 1440 x 900 pixels; load {os.getloadavg()[0]:.1f}"
    columns = (
        "view",
        "height in pixels",
        "pixels a frame",
        f"frames over {SLOW} ms",
        "median",
        "95 of 100 within",
        "longest",
    )
    write_table("scrolling", title, columns, rows)


if __name__ == "__main__":
    main()
