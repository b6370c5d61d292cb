"""Whether all can see the tab, hit its controls, and use it by keyboard, in a real browser.

The check by axe-core needs `npm install axe-core` in the root of the repository, or in the
folder whose `node_modules` the environment variable `NODE_MODULES` names.
"""

from itertools import product

import pytest

from tests.tensorboard import make_logs
from tests.tensorboard.browsing import NODE_MODULES, opened, require_browser

playwright, _ = require_browser()
pytestmark = pytest.mark.slow

AXE = NODE_MODULES / "axe-core/axe.min.js"


def test_space_plays_after_a_still_and_after_the_page_of_a_unit(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"))
    tab.find(".still").nth(2).click()
    play = tab.find(".viewer .play")
    for label in ("Pause", "Play"):
        tab.page.keyboard.press("Space")
        playwright.expect(play).to_have_attribute("aria-label", label)
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("Space")
    playwright.expect(tab.find(".app > .timeline .play")).to_have_attribute("aria-label", "Pause")
    assert not tab.find(".viewer").is_visible()


def stops_to_the_slider(tab):
    """Return the stops of the tab key from the first one, which skips to the pictures."""
    tab.find(".skip").focus()
    stops = ["skip"]
    while "Epoch" not in stops and len(stops) < 20:
        tab.page.keyboard.press("Tab")
        stops.append(
            tab.page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.className"
            )
        )
    assert stops[-1] == "Epoch"
    return stops


def test_the_slider_is_twelve_stops_away_and_cards_have_arrow_keys(open_page, serve):
    tab = open_page(serve("sweep"), size=(1280, 700))
    tab.find(".runs > summary").click()
    # The table of many runs is one of them, with its filter, its buttons and its rows.
    assert len(stops_to_the_slider(tab)) <= 12
    tab.find(".run-tools input").focus()
    tab.page.keyboard.press("ArrowDown")
    assert tab.page.evaluate("document.activeElement.textContent") == "Select all"
    tab = open_page(serve("many_units", 5, 20, 3), size=(1280, 700))
    assert len(stops_to_the_slider(tab)) <= 12
    tab.find(".skip").focus()
    tab.page.keyboard.press("Enter")
    focused = "document.activeElement.dataset.name"
    assert tab.page.evaluate(focused) == "Channel#block0_0"
    tab.page.keyboard.press("j")
    assert tab.page.evaluate(focused) == "Channel#block0_1"
    for _ in range(30):
        tab.page.keyboard.press("ArrowDown")
    last = tab.page.evaluate(focused)
    assert last.startswith("Channel#block4")
    assert "score" in tab.card(last).locator(".described").text_content()


# ruff: noqa: E501
EDGES = """() => {
    const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (text) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = text;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => v / 255).map((s) => (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const behind = (node) => {
        for (let at = node.parentElement; at; at = at.parentElement) {
            const colour = rgb(getComputedStyle(at).backgroundColor);
            if (colour[3] === 255) return light(colour);
        }
        return 1;
    };
    const seen = (node) => node.checkVisibility({ checkVisibilityCSS: true });
    const low = [];
    for (const node of document.querySelectorAll('select, input[type=search], input[type=number], summary, .chip, .download, .figure-button, .latest, .ticks')) {
        const style = getComputedStyle(node);
        if (!seen(node) || style.borderTopWidth === '0px') continue;
        const found = ratio(light(rgb(style.borderTopColor)), behind(node));
        if (found < 3) low.push(`${node.className || node.tagName} ${found.toFixed(2)}`);
    }
    for (const node of document.querySelectorAll('.drift, .score, .line-drift, .line-score, .line-best, .line-functional, .line-floor')) {
        if (!seen(node)) continue;
        const found = ratio(light(rgb(getComputedStyle(node).stroke)), behind(node));
        if (found < 3) low.push(`${node.getAttribute('class')} ${found.toFixed(2)}`);
    }
    for (const node of document.querySelectorAll('button, select, summary, input, a')) {
        const { width, height } = node.closest('label')?.getBoundingClientRect() ?? node.getBoundingClientRect();
        if (seen(node) && width && Math.min(width, height) < 24 && !node.matches('.skip')) low.push(`${node.className || node.tagName} ${width}x${height}`);
    }
    return low;
}"""


@pytest.mark.parametrize("view", ["", opened("Channel#conv1_0")])
def test_controls_and_lines_are_seen_and_hit(open_page, serve, view):
    tab = open_page(serve("full"), view)
    # Menus are open, and so is all that can be.
    tab.find("summary").evaluate_all(
        "all => all.filter((one) => one.checkVisibility()).forEach((one) => one.click())"
    )
    if view:
        playwright.expect(tab.find(".neighbour").first).to_be_visible()
    else:
        assert tab.find(".only:visible").count() == 3
        assert tab.find(".limit input:visible").count() > 8
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        playwright.expect(tab.find("html")).to_have_attribute("data-theme", scheme)
        assert tab.page.evaluate(EDGES) == []
        tab.keep(f"open_{'unit' if view else 'menu'}_{scheme}")


MOVING = """() => [...document.querySelectorAll('*')].filter((node) => (
    [null, '::before', '::after'].some((part) => {
        const style = getComputedStyle(node, part);
        const lasts = style.transitionDuration.split(',').some((time) => parseFloat(time) > 0);
        return lasts || style.animationName !== 'none' || style.scrollBehavior === 'smooth';
    }))).length"""


def test_whoever_asks_for_less_motion_gets_none(open_page, serve):
    tab = open_page(serve("full"))
    assert tab.page.evaluate(MOVING) > 0
    tab.page.emulate_media(reduced_motion="reduce")
    assert tab.page.evaluate(MOVING) == 0


def test_so_are_those_of_the_table_of_runs_and_of_a_figure(open_page, serve):
    tab = open_page(serve("sweep"))
    tab.find(".runs > summary").click()
    assert tab.page.evaluate(EDGES) == []
    tab.find(".runs > summary").click()
    tab.find(".figure-button").click()
    playwright.expect(tab.find(".ticks").first).to_be_visible()
    assert tab.page.evaluate(EDGES) == []


@pytest.mark.parametrize("kind", ["two_trainings", "sweep"])
def test_a_narrow_page_is_not_wider_than_the_screen(open_page, serve, kind):
    tab = open_page(serve(kind), size=(400, 850))
    tab.find(".runs > summary").click()
    for selector in (".app", ".toolbar", ".run-panel"):
        box = tab.find(selector).bounding_box()
        assert box["x"] + box["width"] <= 400, selector
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize("view", ["", opened("Channel#conv1_0"), "p.feature_vis.page=network"])
def test_forced_colours_leave_what_is_told_by_colour(open_page, serve, view):
    tab = open_page(serve("full"), view, forced_colors="active")
    if "network" in view:
        tab.find(".of-layer").first.click()
        cells = tab.find(".cell-heat").evaluate_all(
            "cells => new Set(cells.map((cell) => getComputedStyle(cell).backgroundColor)).size"
        )
        assert cells > 5
        playwright.expect(tab.find(".ridge.now")).to_have_count(1)
    elif view:
        lines = [tab.find(f".plot .line-{kind}") for kind in ("score", "best", "functional")]
        strokes = {line.evaluate("node => getComputedStyle(node).stroke") for line in lines}
        assert len(strokes) == 3
    else:
        tab.find(".card").first.focus()
        tab.page.keyboard.press("p")
        for pressed in (tab.find(".chip[data-status=dead]"), tab.find(".pin").first):
            if pressed.get_attribute("aria-pressed") == "false":
                pressed.click()
            assert pressed.evaluate("node => getComputedStyle(node).borderTopWidth") == "2px"
    tab.keep(f"forced_{tab.find('h2').count()}_{'network' in view}")


VIEWS = {
    "wall": "",
    "unit": opened("Channel#conv1_0"),
    "network": "p.feature_vis.page=network",
    "matrix": None,
    "figure": "",
}


@pytest.mark.skipif(not AXE.is_file(), reason="The check of access needs: npm install axe-core")
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_serious(open_page, serve, view):
    kind, address = ("sweep", make_logs.all_runs()) if view == "matrix" else ("full", VIEWS[view])
    tab = open_page(serve(kind), address)
    if view == "figure":
        tab.find(".figure-button").click()
        tab.find(".preview svg").wait_for()
    # The page's policy forbids a script of ours that is not the server's; the debugger may run it.
    tab.page.evaluate(AXE.read_text() + ";0")
    for width, scheme in product((400, 900, 1440, 2500), ("light", "dark")):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.emulate_media(color_scheme=scheme)
        playwright.expect(tab.find("html")).to_have_attribute("data-theme", scheme)
        tab.page.wait_for_timeout(150)
        found = tab.page.evaluate("async () => (await axe.run()).violations")
        serious = [
            f"{one['id']}: {[node['target'] for node in one['nodes']][:4]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"at {width}, {scheme}"
        tab.keep(f"axe_{view}_{scheme}_{width}")
