"""Measure how soon the tab "Features" shows many runs side by side, and a step of its slider.

Writes 30, then 100 runs of 40 targets into a folder that is removed afterwards, runs a real
TensorBoard on it, and opens all of them in Debian's chromium.
Needs Playwright: `pip install '.[browser]'`.

    python benchmarks/many_runs.py [--snapshots 10] [--targets 40] [--size 28] [--rounds 5]
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import numpy as np
from common import write_table
from features_tab import memory, serve, write_log
from playwright.sync_api import sync_playwright

RUNS = (30, 100)

# How many pictures on the screen are still waited for; more than all if there are none.
WAITING = """() => {
    const cells = [...document.querySelectorAll('.cell')].filter((cell) => {
        const { bottom, top, left, right } = cell.getBoundingClientRect();
        return bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
    });
    const drawn = cells.filter((cell) => (
        cell.querySelector('canvas')?.width > 1 && !cell.querySelector('.waiting')));
    return cells.length ? cells.length - drawn.length : 1e9;
}"""

# Times a step in the page itself, from the key to the frame after the one that shows pictures and
# scores of that step, since each call of the browser's driver takes long.
TIMING = """() => {
    window.timed = new Promise((resolve) => {
        addEventListener('keydown', () => {
            const began = performance.now();
            const cells = [...document.querySelectorAll('.cell')].map((cell) => [cell, cell.title]);
            const look = () => requestAnimationFrame(() => {
                if (cells.every(([cell, title]) => cell.title === title) || (WAITING)() > 0) look();
                else requestAnimationFrame(() => resolve((performance.now() - began) / 1000));
            });
            look();
        }, { capture: true, once: true });
    });
}""".replace("WAITING", WAITING)


def names_of(runs):
    """Return names as a search over two settings gives them."""
    return [f"sweep/lr={10 ** -(i % 5):g},seed={i}" for i in range(runs)]


def open_all(browser, address, names, read):
    """Return the seconds until all pictures on the screen are drawn, and of two steps.

    Args:
        browser: A browser.
        address: TensorBoard's address.
        names: The runs.
        read: Seconds for reading at the first step. The tab fetches its neighbours meanwhile.
    """
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    shown = quote(",".join(name.replace(",", "%2C") for name in names), safe="")
    began = time.perf_counter()
    page.goto(
        f"{address}/data/plugin_entry.html?name=feature_vis"
        f"#&p.feature_vis.runs={shown}&p.feature_vis.size=72"
    )
    page.wait_for_function(f"({WAITING})() === 0", timeout=120_000, polling="raf")
    opened = time.perf_counter() - began
    pictures = page.locator(".cell").count()
    page.locator("main").focus()
    steps = []
    for key in ("ArrowLeft", "Home"):
        page.wait_for_timeout(1000 * read)
        page.evaluate(TIMING)
        page.keyboard.press(key)
        steps.append(page.evaluate("window.timed"))
    page.close()
    return opened, *steps, pictures


def measure(browser, folder, runs, arguments):
    """Return the rows of a table about so many runs."""
    first, *others = (folder / "logs" / name for name in names_of(runs))
    write_log(first, arguments.snapshots, arguments.targets, arguments.size)
    for other in others:
        shutil.copytree(first, other)
    process, address = serve(folder / "logs")
    try:
        fresh = open_all(browser, address, names_of(runs), 1)
        again = [open_all(browser, address, names_of(runs), 1) for _ in range(arguments.rounds)]
        kept = memory(process)
    finally:
        process.kill()
    shutil.rmtree(folder / "logs")
    opened, step, far, _ = zip(*again, strict=True)
    return [
        (f"{runs} runs: all on the screen, TensorBoard has just started", f"{fresh[0]:.2f} s"),
        (f"{runs} runs: all on the screen, opened again", _median(opened)),
        (f"{runs} runs: to the step beside", _median(step)),
        (f"{runs} runs: to the first step", _median(far)),
        (f"{runs} runs: pictures on the screen and close to it", str(fresh[3])),
        (f"{runs} runs: memory of TensorBoard", f"{kept:.0f} MB"),
    ]


def _median(seconds):
    return f"median {np.median(seconds):.2f} s ({', '.join(f'{one:.2f}' for one in seconds)})"


def main():
    """Write the logs, and open them several times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("snapshots", 10), ("targets", 40), ("size", 28), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            rows = [row for runs in RUNS for row in measure(browser, folder, runs, arguments)]
            browser.close()
    finally:
        shutil.rmtree(folder)
    load = os.getloadavg()[0]
    title = (
        f"Opening runs of {arguments.targets} targets, {arguments.snapshots} snapshots of "
        f"{arguments.size} pixels, side by side; load {load:.1f}"
    )
    write_table("many_runs", title, ("what", "measured"), rows)


if __name__ == "__main__":
    main()
