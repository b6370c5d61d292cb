"""What the tests of the tab in a browser share: a server, a browser, and the open tab."""

import base64
import io
import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.serving import WSGIRequestHandler, make_server

from featviz_callback.tensorboard.plugin.plugin import FeaturesPlugin

SCREENSHOTS = Path(__file__).parents[2] / "build/screenshots"
# Where `npm install --no-save axe-core puppeteer-core` was run: here, or elsewhere.
NODE_MODULES = Path(os.environ.get("NODE_MODULES", Path(__file__).parents[2] / "node_modules"))


def opened(name):
    """Return the address of the page of a unit."""
    return f"p.feature_vis.open={quote(name, safe='')}"


def require_browser():
    """Return playwright's module and the browser's path, or skip the module that asks."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="The browser tests need: pip install -e '.[browser]'"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip(
            "The browser tests need chromium: apt-get install chromium", allow_module_level=True
        )
    return playwright, chromium


class _Quiet(WSGIRequestHandler):
    """Writes no line for each request."""

    def log(self, kind, message, *arguments):
        pass


class Server:
    """The tab's routes and TensorBoard's entry page for one log directory, on a port."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.plugin = FeaturesPlugin(TBContext(logdir=str(folder)))
        self._server = make_server(
            "127.0.0.1", 0, TensorBoardWSGI([self.plugin]), threaded=True, request_handler=_Quiet
        )
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()


class Tab:
    """The open tab: its page alone, which loads fast, or in TensorBoard's own page."""

    def __init__(self, page, address, view="", dark=False, alone=True):
        self.page, self.errors, self.requests = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)
        page.on("request", lambda request: self.requests.append(request))
        if alone:
            page.goto(f"{address}/data/plugin_entry.html?name=feature_vis#{view}")
            self.frame = page
        else:
            page.goto(f"{address}/?darkMode={str(dark).lower()}#feature_vis{view}")
            self.frame = page.frame_locator("iframe")
        self.find(".card, .network-table").first.wait_for(timeout=30_000)
        self.inner = next(one for one in page.frames if "plugin_entry" in one.url)
        self.settle()

    def _note(self, message):
        # TensorBoard's own page warns of itself.
        ours = "feature_vis" in (message.location or {}).get("url", "")
        if message.type == "error" and (ours or "Content Security" in message.text):
            self.errors.append(message.text)

    def find(self, selector, **options):
        return self.frame.locator(selector, **options)

    def card(self, name):
        return self.find(f'.card[data-name="{name}"]')

    def settle(self):
        """Wait until what is on the screen is drawn."""
        self.inner.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        self.inner.wait_for_function("() => !document.querySelector('main .waiting')")
        self.page.wait_for_timeout(50)

    def names(self):
        return self.find(".card").evaluate_all("cards => cards.map((card) => card.dataset.name)")

    def epoch(self):
        return self.find(".app > .timeline .epoch").inner_text()

    def go(self, index):
        self.find(".app > .timeline input").evaluate(
            "(node, value) => { node.value = value; node.dispatchEvent(new Event('input'));"
            " node.dispatchEvent(new Event('change')); }",
            str(index),
        )
        self.settle()

    def drawn(self, name, column=0, side=12):
        """Return what a card shows, a uint8 array."""
        canvas = self.card(name).locator("canvas").nth(column)
        # As a list, the values would take a second to cross to this process.
        png = canvas.evaluate("canvas => canvas.toDataURL('image/png')").partition(",")[2]
        values = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))[..., 0]
        # Each pixel is drawn as a square.
        times = values.shape[1] // side
        np.testing.assert_array_equal(
            values, values[::times, ::times].repeat(times, 0).repeat(times, 1)
        )
        return values[::times, ::times]

    def saved_view(self):
        self.page.wait_for_timeout(400)
        return dict(re.findall(r"p\.feature_vis\.(\w+)=([^&]*)", self.page.url))

    def asked(self, route):
        return [one for one in self.requests if one.url.split("?")[0].endswith(route)]

    def keep(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def opening(chromium, address=None):
    """Yield a function that opens the tab; at the end no page may have had an error."""
    tabs = []

    def start(view="", address=address, dark=False, size=(1280, 900), alone=True, **settings):
        scheme = "dark" if dark else "light"
        viewport = {"width": size[0], "height": size[1]}
        context = chromium.new_context(viewport=viewport, color_scheme=scheme, **settings)
        tabs.append(Tab(context.new_page(), address, view, dark, alone))
        return tabs[-1]

    yield start
    for tab in tabs:
        tab.page.context.close()
        assert not tab.errors, tab.errors
