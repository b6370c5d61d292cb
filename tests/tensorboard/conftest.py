"""What several tests of event files and of the tab share."""

import pytest

from tests.tensorboard import browsing, make_logs


def event_file_in(log_dir):
    """Return the path of the only event file in a log directory."""
    [path] = (log_dir / "feature_vis").iterdir()
    return path


@pytest.fixture(scope="session")
def serve(tmp_path_factory):
    """Return a function from a kind of logs to its server, which has a folder and an address."""
    servers = {}

    def start(kind, *arguments, **settings):
        key = (kind, *arguments)
        if key not in servers:
            folder = tmp_path_factory.mktemp(kind)
            getattr(make_logs, f"write_{kind}")(folder, *arguments, **settings)
            servers[key] = browsing.Server(folder)
        return servers[key]

    yield start
    for server in servers.values():
        server.close()


@pytest.fixture
def served():
    """Return a function that serves a folder until the test ends, and its pages are closed."""
    servers = []

    def serve(folder):
        servers.append(browsing.Server(folder))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def chromium():
    """Return a browser, in which each test opens pages of its own."""
    playwright, path = browsing.require_browser()
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Return a function that opens the tab of a server's logs."""
    with browsing.opening(chromium) as start:
        yield lambda server, view="", **settings: start(view, server.address, **settings)
