"""The Features tab in Firefox: ten smoke tests, by puppeteer over WebDriver BiDi.

Needs `apt-get install firefox-esr`, and `npm install puppeteer-core@24.15.0` in the root of the
repository, or in the folder whose `node_modules` the environment variable `NODE_MODULES` names.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.tensorboard.browsing import NODE_MODULES

FIREFOX = next(filter(None, map(shutil.which, ("firefox-esr", "firefox"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(FIREFOX is None, reason="Needs: apt-get install firefox-esr"),
    pytest.mark.skipif(
        not (NODE_MODULES / "puppeteer-core").is_dir(),
        reason="Needs: npm install puppeteer-core@24.15.0",
    ),
]


def test_the_tab_works_in_firefox(serve):
    script = Path(__file__).with_name("firefox_smoke.mjs")
    command = ["node", str(script), serve("full").address, FIREFOX, str(NODE_MODULES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 10, done.stderr
    assert [(name, wrong) for name, wrong in found if wrong is not None] == []
