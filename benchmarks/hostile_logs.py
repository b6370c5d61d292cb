"""Measure what hostile logs cost the server of the tab "Features": seconds and peak memory.

Each log is written into a folder that is removed afterwards. A server of the tab's routes
alone, in a process of its own, finds the log once it runs, so that nothing was read before the
first request. The peak is what the process holds more than before that.

    python benchmarks/hostile_logs.py [--only empty]
"""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from common import write_table
from PIL import Image

from featviz_callback.records import pictures
from featviz_callback.tensorboard import EventFile, checksums, summaries

ROUTES = "/data/plugin/feature_vis"
SERVE = """
import sys
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.serving import make_server
from featviz_callback.tensorboard.plugin.plugin import FeaturesPlugin
application = TensorBoardWSGI([FeaturesPlugin(TBContext(logdir=sys.argv[1]))])
server = make_server("127.0.0.1", 0, application, threaded=True)
print("port", server.server_port, flush=True)
server.serve_forever()
"""
# The tab's server looks for new runs once a second.
TO_BE_FOUND = 1.5
MEGABYTES = 50


class Server:
    """The tab's routes in a process of their own, and what it takes."""

    def __init__(self, folder):
        command = [sys.executable, "-c", SERVE, str(folder)]
        # Its own errors are answers here.
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = self.process.stdout.readline().split()[1]
        self.address = f"http://127.0.0.1:{port}{ROUTES}"

    def ask(self, route, content=None):
        """Return the status and the body of an answer."""
        is_ready = content is None or isinstance(content, bytes)
        body = content if is_ready else json.dumps(content).encode()
        try:
            with urllib.request.urlopen(f"{self.address}/{route}", body, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def memory(self, kind):
        """Return megabytes: of now, `VmRSS`, or the most since it was reset, `VmHWM`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{kind}:\s+(\d+) kB", status)[1]) / 1024

    def reset_peak(self):
        """Let the peak begin anew; return what is held now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.memory("VmRSS")

    def read(self):
        """Ask until all of the run is read; return its frames and the longest answer's seconds."""
        longest = 0.0
        while True:
            began = time.perf_counter()
            frames = json.loads(self.ask("news", {"runs": {"run": None}})[1])["run"]
            longest = max(longest, time.perf_counter() - began)
            if frames["read"]:
                return frames, longest


def status_of(server, route, content=None):
    """Return the status of an answer."""
    return server.ask(route, content)[0]


def targets_of(frames):
    """Return the keys of a run's last pictures by the names of their targets."""
    return {target["name"]: target["key"][-1] for target in frames["targets"]}


def picture(seed, side, noise=8):
    """Return a smooth picture with a little noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(40, 216, (8, 8, 3), "uint8"))
    smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + rng.integers(-noise, noise + 1, smooth.shape), 0, 255).astype("uint8")


def write_huge(events):
    """Write a picture of 169 million pixels in 164 kilobytes."""
    packed = io.BytesIO()
    Image.new("L", (13_000, 13_000)).save(packed, "PNG")
    for step in range(3):
        tag = summaries.IMAGE_TAG.format("huge")
        events.encoded_image(tag, step, packed.getvalue(), (13_000, 13_000))


def ask_huge(server):
    """Ask for it in every way."""
    frames, longest = server.read()
    key = targets_of(frames)["huge"]
    yield "the run's frames", longest, 200
    for what, route, content in (
        ("its picture", f"picture?key={key}", None),
        ("its picture with others", "pictures", {"keys": [key] * 40}),
        ("its animation", "animation", {"run": "run", "name": "huge"}),
        ("its neighbours", "nearest", {"run": "run", "name": "huge", "step": 2}),
    ):
        yield what, *timed(partial(status_of, server, route, content))


def write_names(events):
    """Write 40 names of 300 letters that take three bytes each."""
    for i in range(40):
        name = f"{i:02d}" + "字" * 298
        events.image(summaries.IMAGE_TAG.format(name), 0, picture(i, 64))
        events.scalar(summaries.SCORE_TAG.format(name), 0, 1.0)


def ask_names(server):
    """Ask for all 40, as the page does."""
    frames, longest = server.read()
    yield "the run's frames", longest, 200
    names = targets_of(frames)
    assert len(names) == 40
    yield "40 pictures", *timed(partial(status_of, server, "pictures", {"keys": [*names.values()]}))
    for route in ("animation", "nearest", "real"):
        asked = [{"run": "run", "name": name, "step": 0} for name in names]
        seconds, codes = timed(partial(ask_each, server, route, asked))
        yield f"40 times /{route}, one after the other", seconds, codes


def ask_each(server, route, asked):
    """Return the statuses of several answers."""
    return sorted({server.ask(route, one)[0] for one in asked})


def write_deep(events):
    """Write JSON of 100,000 lists in each other wherever the log has JSON."""
    deep = "[" * 100_000 + "]" * 100_000
    events.text(summaries.OBJECTIVES_TAG, 0, deep, summaries.OBJECTIVES_PLUGIN)
    events.image(summaries.IMAGE_TAG.format("x"), 0, picture(0, 32))
    tag = summaries.REAL_SCORES_TAG.format("x")
    events.text(tag, 0, deep, summaries.OBJECTIVES_PLUGIN)


def ask_deep(server):
    """Ask for what stands in it, and send such JSON too."""
    yield "the run's frames", server.read()[1], 200
    asked = {"run": "run", "name": "x", "step": 0}
    yield "its real images", *timed(partial(status_of, server, "real", asked))
    deep = ("[" * 100_000 + "]" * 100_000).encode()

    yield "such JSON in a request", *timed(partial(status_of, server, "news", deep))


def write_films(events):
    """Write 20 targets of 50 pictures of 224 pixels."""
    for step in range(50):
        encoded = pictures.encode_png(picture(step, 224))
        for i in range(20):
            tag = summaries.IMAGE_TAG.format(f"Channel#conv_{i}")
            events.encoded_image(tag, step, encoded, (224, 224))


def ask_films(server):
    """Ask for all 20 animations at once, and for the picture of a screen meanwhile."""
    frames, longest = server.read()
    yield "the run's frames", longest, 200
    names = targets_of(frames)

    answers = []

    def animate(name):
        # As the page does, a client asks again where others come first.
        began = time.perf_counter()
        while True:
            asked = {"run": "run", "name": name}
            seconds, status = timed(partial(status_of, server, "animation", asked))
            answers.append(seconds)
            if status != 503:
                return time.perf_counter() - began, status
            time.sleep(1)

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(animate, name) for name in names]
        time.sleep(0.5)
        keys = [*names.values()]
        meanwhile = timed(partial(status_of, server, "pictures", {"keys": keys}))
        all_of_them = [one.result() for one in waiting]
    yield "20 animations at once: the first to be ready", *min(all_of_them)
    yield "20 animations at once: the last to be ready", *max(all_of_them)
    yield f"20 animations at once: the longest of {len(answers)} answers", max(answers), 200
    yield "20 pictures of the screen meanwhile", *meanwhile
    yield "one of the 20 animations again", *animate(next(iter(names)))


def write_sparse(events):
    """Write 4,000 targets, each at an epoch of its own."""
    encoded = pictures.encode_png(picture(0, 8))
    for i in range(4000):
        events.encoded_image(summaries.IMAGE_TAG.format(f"x{i}"), i, encoded, (8, 8))
        events.scalar(summaries.SCORE_TAG.format(f"x{i}"), i, 1.0)


def write_headers(events):
    """Append headers of records that end within another header."""
    events.scalar(summaries.SCORE_TAG.format("x"), 0, 1.0)
    length = (7).to_bytes(8, "little")
    header = length + checksums.of(length).to_bytes(4, "little")
    with open(events.path, "ab") as file:
        file.write(header * (MEGABYTES * 100_000 // len(header)))


def write_long(events):
    """Write 10,000 epochs of a picture of eight pixels a side."""
    encoded = pictures.encode_png(picture(0, 8))
    for step in range(10_000):
        events.encoded_image(summaries.IMAGE_TAG.format("x"), step, encoded, (8, 8))


def ask_long(server):
    """Ask for its animation."""
    yield "the run's frames", server.read()[1], 200
    asked = {"run": "run", "name": "x"}
    while True:
        seconds, status = timed(partial(status_of, server, "animation", asked))
        yield "its animation", seconds, status
        if status != 503:
            return


def write_empty(events):
    """Append empty records to a number."""
    events.scalar(summaries.SCORE_TAG.format("x"), 0, 1.0)
    with open(events.path, "ab") as file:
        file.write(EMPTY * (MEGABYTES * 1_000_000 // len(EMPTY)))


# A length of 0 and its checksum, no data and their checksum, as TensorFlow writes them.
EMPTY = (
    bytes(8)
    + checksums.of(bytes(8)).to_bytes(4, "little")
    + checksums.of(b"").to_bytes(4, "little")
)


def write_damaged(events):
    """Write numbers, and turn round a bit of every tenth record: of its header, or of its data."""
    events.scalar(summaries.SCORE_TAG.format("x"), 0, 1.0)
    path = Path(events.path)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    first = data[: 16 + length]
    one = data[len(first) :]
    rotten = [bytearray(one), bytearray(one)]
    rotten[0][2] ^= 1
    rotten[1][30] ^= 1
    rows = b"".join(one * 9 + bytes(rotten[i]) for i in (0, 1))
    path.write_bytes(first + rows * (MEGABYTES * 1_000_000 // len(rows)))
    events.image(summaries.IMAGE_TAG.format("x"), 1, picture(0, 32))


def write_noise(events):
    """Append bytes that are no records to a number."""
    events.scalar(summaries.SCORE_TAG.format("x"), 0, 1.0)
    with open(events.path, "ab") as file:
        file.write(np.random.default_rng(0).bytes(MEGABYTES * 1_000_000))


def ask_file(server):
    """Read all of the file."""
    folder = Path(server.folder)
    size = sum(path.stat().st_size for path in folder.rglob("*tfevents*")) / 1e6
    began = time.perf_counter()
    frames, longest = server.read()
    seconds = time.perf_counter() - began
    told = f", {len(frames['damaged'])} damages told" if frames["damaged"] else ""
    yield f"{size:.0f} MB read whole, {size / seconds:.0f} MB a second{told}", seconds, 200
    yield "the longest answer meanwhile", longest, 200


KINDS = {
    "a PNG of 13,000 x 13,000": (write_huge, ask_huge),
    "40 names of 300 CJK letters": (write_names, ask_names),
    "JSON of 100,000 levels": (write_deep, ask_deep),
    "20 GIFs at once": (write_films, ask_films),
    "empty records": (write_empty, ask_file),
    "damaged records": (write_damaged, ask_file),
    "bytes that are no records": (write_noise, ask_file),
    "headers in each other": (write_headers, ask_file),
    "4,000 targets, each at one epoch": (write_sparse, ask_file),
    "10,000 epochs of a tiny picture": (write_long, ask_long),
}


def timed(act):
    """Return the seconds that a call takes, and what it returns."""
    began = time.perf_counter()
    found = act()
    return time.perf_counter() - began, found


def measure(kind):
    """Return the rows of one kind of log."""
    write, ask = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        aside, logs = Path(folder) / "aside", Path(folder) / "logs"
        logs.mkdir()
        write(EventFile(aside / "run"))
        server = Server(logs)
        try:
            server.ask("index")
            before = server.reset_peak()
            server.folder = shutil.move(aside / "run", logs / "run")
            time.sleep(TO_BE_FOUND)
            rows = [(kind, what, f"{took:.2f} s", code) for what, took, code in ask(server)]
            peak = server.memory("VmHWM") - before
        finally:
            server.process.kill()
    return [*rows, (kind, "peak of memory, more than before", f"{peak:.0f} MB", "")]


def main():
    """Measure each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a part of a kind's name")
    arguments = parser.parse_args()
    rows = [row for kind in KINDS if arguments.only in kind for row in measure(kind)]
    title = f"Hostile logs in the tab Features; load {os.getloadavg()[0]:.1f}"
    write_table("hostile_logs", title, ("log", "what", "took", "answer"), rows)


if __name__ == "__main__":
    main()
