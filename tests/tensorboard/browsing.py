"""What the tests of the tab in a browser share: a server, a browser, and the open tab."""

import shutil
import threading
from pathlib import Path

import pytest
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.serving import make_server

from featviz_callback.tensorboard.plugin.plugin import FeaturesPlugin

SCREENSHOTS = Path(__file__).parents[2] / "build/screenshots"


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


class Server:
    """The tab's routes and TensorBoard's entry page for one log directory, on a port."""

    def __init__(self, folder):
        plugin = FeaturesPlugin(TBContext(logdir=str(folder)))
        self._server = make_server("127.0.0.1", 0, TensorBoardWSGI([plugin]), threaded=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()


class Page:
    """The tab's page alone, without TensorBoard around it."""

    def __init__(self, page, address, view=""):
        self.page, self.errors, self.requests = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request))
        page.goto(f"{address}/data/plugin_entry.html?name=feature_vis#{view}")
        page.wait_for_function("() => document.querySelector('.card, .network-table')")
        self.settle()

    def find(self, selector, **options):
        return self.page.locator(selector, **options)

    def card(self, name):
        return self.find(f'.card[data-name="{name}"]')

    def settle(self):
        """Wait until what is on the screen is drawn."""
        self.page.wait_for_timeout(120)
        self.page.wait_for_function(
            "() => document.querySelector('.app') && !document.querySelector('main .waiting')"
        )
        self.page.wait_for_timeout(60)

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

    def asked(self, route):
        return [one for one in self.requests if one.url.split("?")[0].endswith(route)]

    def keep(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
