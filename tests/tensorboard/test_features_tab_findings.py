"""What an hour with the tab found wanting: each finding is a test, in a real browser.

The logs are made by `make_logs.py`. Pictures of what was seen are in `build/screenshots`.
"""

import csv
import io
import json
import os
import re
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.tensorboard import make_logs
from tests.tensorboard.browsing import Page, Server, require_browser

playwright, CHROMIUM = require_browser()
pytestmark = pytest.mark.slow

# Where `npm install axe-core` was run in the root of the repository, or elsewhere.
AXE = (
    Path(os.environ.get("AXE_CORE", Path(__file__).parents[2] / "node_modules/axe-core"))
    / "axe.min.js"
)
RUNS = 30


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """Return a function from a kind of logs to the address of its server."""
    servers = {}

    def start(kind, *arguments, **settings):
        key = (kind, *arguments)
        if key not in servers:
            folder = tmp_path_factory.mktemp(kind)
            getattr(make_logs, f"write_{kind}")(folder, *arguments, **settings)
            servers[key] = Server(folder)
            servers[key].folder = folder
        return servers[key]

    yield start
    for server in servers.values():
        server.close()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    pages = []

    def start(server, view="", dark=False, size=(1280, 900)):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        pages.append(Page(context.new_page(), server.address, view))
        return pages[-1]

    yield start
    for page in pages:
        page.page.context.close()
        assert page.errors == []


def opened(name):
    return f"p.feature_vis.open={quote(name, safe='')}"


# Said falsely


def test_a_unit_that_real_images_activate_is_not_called_dead(open_page, serve):
    tab = open_page(serve("first_release"))
    badges = [tab.card(f"Channel#conv_{i}").locator(".badge") for i in range(4)]
    assert [badge.inner_text() for badge in badges] == ["no gradient", "weak", "", "dead"]
    assert "the log says dead, and its own numbers refute that" in badges[0].get_attribute("title")


def test_under_a_picture_is_one_line_in_words(open_page, serve):
    tab = open_page(serve("full"))
    verdict = tab.card("Channel#conv1_0").locator(".verdict")
    assert re.fullmatch(
        r"fires on 31 % of your images · 1\.8 × the best real one · settled at epoch \d",
        verdict.inner_text(),
    )
    drift, floor = 0.6 * np.exp(-0.5 * np.arange(12)) + 0.02, 0.05
    settled = int(np.flatnonzero(drift > floor)[-1]) + 1
    assert verdict.inner_text().endswith(f"epoch {settled}")
    tab.go(settled)
    assert verdict.inner_text().endswith("not settled")
    dead = tab.card("Channel#conv2_1")
    assert dead.locator(".verdict").inner_text().startswith("fires on none of your images")
    assert dead.locator(".badge").get_attribute("title") == "no real image activates it"
    for theme in (False, True):
        open_page(serve("full"), dark=theme).keep(f"verdicts_{'dark' if theme else 'light'}")


def test_two_trainings_in_one_folder_are_two_runs_named_by_the_folder(open_page, serve):
    server = serve("two_trainings")
    tab = open_page(server)
    name = server.folder.name
    rows = tab.find(".run-table tbody th").all_inner_texts()
    assert rows == [name, f"{name} (training 2)"]
    late = tab.card("Channel#conv_0").locator(".late").all_inner_texts()
    assert late == ["", "epoch 2"]
    assert tab.find(".app > .timeline input").get_attribute("max") == "6"


def test_counts_are_of_what_is_shown_in_each_run(open_page, serve):
    tab = open_page(serve("full"))
    chip = tab.find(".chip[data-status=dead]")
    assert chip.inner_text() == "dead 1"
    tab.find("input[aria-label^='Filter by name']").fill("conv1")
    playwright.expect(tab.find(".card")).to_have_count(4)
    assert not chip.is_visible()
    assert tab.find(".chip[data-status=ok]").inner_text() == "ok 4"


def test_a_damaged_record_is_said_with_its_place(open_page, tmp_path):
    make_logs.write_full(tmp_path / "run", epochs=4)
    place = make_logs.damage(tmp_path / "run")
    [file] = (tmp_path / "run/feature_vis").iterdir()
    server = Server(tmp_path)
    tab = open_page(server)
    said = tab.find(".damage").inner_text()
    assert file.name in said
    assert f"at {place}." in said
    assert tab.epoch() == "epoch 3"
    tab.keep("damaged")
    server.close()


# Many runs


def all_runs():
    names = [
        f"sweep of a long common beginning/lr={10 ** -(i % 5):g},seed={i}" for i in range(RUNS)
    ]
    return "p.feature_vis.runs=" + quote(
        ",".join(name.replace(",", "%2C") for name in names), safe=""
    )


def test_runs_are_told_apart_and_chosen_in_a_table(open_page, serve):
    tab = open_page(serve("sweep"))
    tab.find(".runs > summary").click()
    heads = tab.find(".run-table thead th").all_inner_texts()
    assert heads[1:] == ["lr", "seed", "dead", "weak", "settled"]
    rows = tab.find(".run-table tbody tr")
    assert rows.count() == RUNS
    assert len(set(tab.find(".run-table .letter").all_inner_texts())) == RUNS
    colours = rows.evaluate_all("rows => rows.map((row) => row.style.getPropertyValue('--run'))")
    assert len(set(colours)) == RUNS
    tab.find("input[aria-label^='Filter runs']").fill("lr=0.01,")
    playwright.expect(rows.filter(visible=True)).to_have_count(6)
    tab.page.get_by_role("button", name="None", exact=True).click()
    tab.page.get_by_role("button", name="Select all").click()
    playwright.expect(tab.find(".matrix")).to_have_attribute("aria-rowcount", "8")
    assert tab.find(".runs > summary").inner_text() == f"Runs: 7 of {RUNS}"
    tab.keep("table_of_runs")


def test_many_runs_are_a_matrix_with_one_request_a_step(open_page, serve):
    tab = open_page(serve("sweep"), all_runs() + "&p.feature_vis.size=72", size=(1440, 900))
    # On a busy machine the server needs more than one turn to read thirty logs.
    assert len(tab.asked("/news")) < RUNS / 3
    asked = json.loads(tab.asked("/news")[0].post_data)["runs"]
    assert len(asked) == RUNS
    on_screen = tab.find(".cell").count()
    assert 100 < on_screen < RUNS * 40
    first = json.loads(tab.asked("/pictures")[0].post_data)["keys"]
    assert len(first) == on_screen
    tab.keep("matrix")
    tab.page.wait_for_timeout(1000)
    tab.requests.clear()
    tab.find("main").focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.settle()
    # The step was fetched before, as a neighbour; now its own neighbour comes, in one request.
    assert len(tab.asked("/pictures")) <= 1
    tab.page.wait_for_timeout(3500)
    assert not tab.asked("/news")
    assert not tab.asked("/frames")
    tab.find("main").evaluate("main => { main.scrollTop = main.scrollHeight; }")
    tab.settle()
    assert "seed 0" in " ".join(tab.find(".row-head").all_inner_texts())
    tab.find("select[aria-label=Order]").select_option("difference")
    tab.settle()
    # Scores differ between runs by the remainder of the channel's number by seven.
    tab.find("main").evaluate("main => { main.scrollTop = 0; main.scrollLeft = 0; }")
    tab.settle()
    heads = tab.find(".column-head span").all_inner_texts()
    assert len(heads) > 10


# When did it settle, figures, pages


def test_the_chart_has_axes_and_values_at_pointer_and_keyboard(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"))
    plot = tab.find(".plot")
    assert {"score (activation)", "drift (0 the same, 1 unrelated)", "epoch"} <= set(
        tab.find(".plot .axis").all_text_contents()
    )
    values = tab.find(".plot-frame .values")
    assert values.inner_text().startswith("epoch 11: score ")
    for kind in ("best real score", "drift", "noise floor", "functional drift"):
        assert re.search(rf"{kind} [\d.]+", values.inner_text())
    tab.page.keyboard.press("Home")
    tab.page.wait_for_timeout(100)
    assert values.inner_text().startswith("untrained: ")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    tab.page.mouse.move(box["x"] + 0.98 * box["width"], box["y"] + 40)
    assert values.inner_text().startswith("epoch 11: ")
    assert tab.find(".plot .line-floor").get_attribute("d").endswith("Z")


@pytest.mark.parametrize("size", [(1440, 900), (2560, 1440)])
def test_the_chart_keeps_its_shape(open_page, serve, size):
    tab = open_page(serve("signals"), opened("Neuron#logits_1"), size=size)
    plot, frame = (tab.find(part).bounding_box() for part in (".plot", ".plot-frame"))
    assert plot["height"] < 300
    assert frame["height"] < plot["height"] + 60


def test_a_figure_is_saved_as_svg_png_and_csv(open_page, serve):
    tab = open_page(serve("full"))
    tab.find(".figure-button").click()
    playwright.expect(tab.find(".preview svg image")).to_have_count(24)
    tab.find(".ticks").nth(0).get_by_role("checkbox").nth(5).uncheck()
    playwright.expect(tab.find(".preview svg image")).to_have_count(20)
    tab.find(".figure textarea").fill("A caption of mine")
    playwright.expect(tab.find(".preview svg")).to_contain_text("A caption of mine")
    tab.keep("figure")
    saved = {}
    for kind in ("SVG", "PNG", "CSV"):
        with tab.page.expect_download() as download:
            tab.find(".figure").get_by_role("button", name=kind).click()
        saved[kind] = Path(download.value.path()).read_bytes()
    root = ElementTree.fromstring(saved["SVG"])
    assert root.get("width") == "180mm"
    assert len(root.findall(".//{http://www.w3.org/2000/svg}image")) == 20
    assert "A caption of mine" in saved["SVG"].decode()
    assert abs(Image.open(io.BytesIO(saved["PNG"])).width - 180 / 25.4 * 300) < 2
    rows = list(csv.DictReader(io.StringIO(saved["CSV"].decode())))
    assert len(rows) == 20
    assert rows[0]["target"] == "Channel#conv1_0"
    assert rows[0]["epoch"] == "-1"


def test_real_images_are_single_large_and_tell_where_the_unit_fires(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"), dark=True)
    images = tab.find(".real-images > li")
    playwright.expect(images).to_have_count(4)
    assert images.first.locator(".said").inner_text() == "score 3.2, class cat"
    width = images.first.bounding_box()["width"]
    images.first.get_by_role("button").click()
    assert images.first.bounding_box()["width"] > 2 * width
    assert not images.first.locator(".place").is_visible()
    tab.page.get_by_label("where it fires").check()
    assert images.first.locator(".place").is_visible()
    # The class of ninety letters keeps to its column.
    box = images.nth(1).bounding_box()
    said = images.nth(1).locator(".said").bounding_box()
    assert said["width"] <= box["width"] + 1
    tab.page.get_by_label("importance").check()
    playwright.expect(tab.find("canvas.importance")).to_be_visible()
    tab.keep("unit_dark")


def test_epochs_are_compared_by_a_swipe(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"))
    tab.find(".swipe summary").click()
    left, right = tab.find(".swipe-frame canvas").all()
    tab.page.wait_for_timeout(400)
    assert left.get_attribute("aria-label").endswith("untrained")
    assert right.get_attribute("aria-label").endswith("epoch 11")
    pixels = [one.evaluate("canvas => canvas.toDataURL()") for one in (left, right)]
    assert pixels[0] != pixels[1]
    tab.page.get_by_label("Swipe").fill("20")
    cut = tab.find(".swipe-frame").evaluate("node => node.style.getPropertyValue('--cut')")
    assert cut == "20%"


def test_nearest_units_are_those_whose_pictures_correlate(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"))
    tab.find(".nearest summary").click()
    found = tab.find(".neighbour")
    playwright.expect(found).to_have_count(11)
    names = [f"Channel#conv{i}_{j}" for i in (1, 2) for j in range(4)]
    names += [f"Neuron#logits_{j}" for j in range(4)]

    def small(name):
        look = f"{name}{0 if int(name[-1]) % 2 else ''}"
        image = Image.fromarray(make_logs.picture(look, 11))
        values = np.asarray(image.resize((16, 16), Image.Resampling.BOX), float).ravel()
        return values

    own = small(names[0])
    best = max(names[1:], key=lambda name: np.corrcoef(own, small(name))[0, 1])
    assert found.first.get_attribute("title") == best
    found.first.click()
    assert tab.find(".viewer h2").inner_text() == best


def test_the_order_is_across_layers_and_limits_hide(open_page, serve):
    tab = open_page(serve("full"))
    tab.find("select[aria-label=Order]").select_option("-ratio")
    tab.find(".menu summary").click()
    tab.page.get_by_label("Order across layers").check()
    assert tab.find("h2 .layer").all_inner_texts() == ["All layers"]
    assert tab.names()[0] == "Channel#conv2_2"
    assert tab.card("Channel#conv2_2").locator(".number").inner_text() == "ratio 0.400"
    tab.page.get_by_label("Ratio to best real, most").fill("0.5")
    tab.page.get_by_label("Ratio to best real, most").press("Enter")
    playwright.expect(tab.find(".card")).to_have_count(1)
    tab.page.wait_for_timeout(400)
    assert "limits=ratio%3A..0.5" in tab.page.url


# Keyboard and access


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


def test_the_slider_is_twelve_stops_away_and_cards_have_arrow_keys(open_page, serve):
    tab = open_page(serve("many_units", 5, 20, 3), size=(1280, 700))
    stops = []
    while "Epoch" not in stops and len(stops) < 20:
        tab.page.keyboard.press("Tab")
        stops.append(
            tab.page.evaluate(
                "document.activeElement.ariaLabel ?? document.activeElement.className"
            )
        )
    assert stops[-1] == "Epoch"
    assert len(stops) <= 12, stops
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
    for (const node of document.querySelectorAll('select, input[type=search], summary, .chip, .download, .figure-button')) {
        const style = getComputedStyle(node);
        if (!seen(node) || style.borderTopWidth === '0px') continue;
        const found = ratio(light(rgb(style.borderTopColor)), behind(node));
        if (found < 3) low.push(`${node.className || node.tagName} ${found.toFixed(2)}`);
    }
    for (const node of document.querySelectorAll('.drift, .score, .line-drift, .line-score, .line-best, .line-functional')) {
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


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("view", ["", opened("Channel#conv1_0")])
def test_controls_and_lines_are_seen_and_hit(open_page, serve, dark, view):
    tab = open_page(serve("full"), view, dark=dark)
    assert tab.page.evaluate(EDGES) == []


def test_back_closes_the_page_of_a_unit(open_page, serve):
    tab = open_page(serve("full"))
    tab.card("Channel#conv1_0").click()
    assert tab.find(".viewer").is_visible()
    assert "open=Channel" in tab.page.url
    tab.page.go_back()
    playwright.expect(tab.find(".viewer")).to_be_hidden()
    tab.page.go_forward()
    playwright.expect(tab.find(".viewer h2")).to_have_text("Channel#conv1_0")
    tab.page.keyboard.press("Home")
    playwright.expect(tab.find(".viewer .latest")).to_be_visible()
    tab.find(".viewer .latest").click()
    playwright.expect(tab.find(".viewer .epoch")).to_have_text("epoch 11")


def test_closing_the_page_of_a_unit_keeps_its_epoch(open_page, serve):
    tab = open_page(serve("full"))
    tab.card("Channel#conv1_0").click()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("Escape")
    tab.page.wait_for_timeout(800)
    assert tab.epoch() == "epoch 10"
    assert "epoch=10" in tab.page.url
    assert "open=" not in tab.page.url


def test_signals_have_a_legend_and_do_not_glare(open_page, serve):
    tab = open_page(serve("signals"), opened("Neuron#logits_1"), dark=True)
    legend = tab.find(".signal-legend li")
    playwright.expect(legend).to_have_text([f"channel {i}" for i in range(3)])
    assert "invert" in tab.find(".large canvas").first.evaluate("n => getComputedStyle(n).filter")
    tab.keep("signals_dark")


# Hostile and large logs


def test_names_of_any_length_are_shown(open_page, serve):
    tab = open_page(serve("long_names"))
    assert tab.find(".missing").count() == 0
    name = "05" + "字" * 298
    label = tab.card(name).locator(".name")
    assert label.inner_text().startswith("05")
    assert "…" in label.inner_text()
    tab.card(name).click()
    with tab.page.expect_download() as download:
        tab.find(".download", has_text="GIF").click()
    assert Image.open(download.value.path()).n_frames == 2


def test_a_layer_of_the_network_leads_to_its_units(open_page, serve):
    tab = open_page(serve("full"), "p.feature_vis.page=network")
    assert tab.find(".network-table tbody th").all_inner_texts() == ["conv1", "conv2", "logits"]
    cell = tab.find(".network-table tbody tr").nth(1).locator("button").nth(6)
    assert cell.get_attribute("aria-label") == "conv2, epoch 5: share of dead units 0.450"
    tab.keep("network")
    cell.click()
    tab.settle()
    assert tab.epoch() == "epoch 5"
    assert tab.find("h2 .layer").all_inner_texts() == ["conv2"]
    tab.page.get_by_label("Page").select_option("network")
    for measure in ("effective_rank", "update_ratio", "dormant", "drift", "functional"):
        tab.find(".network-bar select").select_option(measure)
        assert tab.find(".cell-heat").count() >= 36


def test_ten_thousand_units_are_a_few_elements(open_page, serve):
    tab = open_page(serve("many_units"))
    # The server answers with what it has read so far, and the page asks again.
    playwright.expect(tab.find(".shown")).to_have_text("10000 targets", timeout=30_000)
    tab.settle()
    assert tab.find(".card").count() < 150
    tab.find("main").evaluate("main => { main.scrollTop = main.scrollHeight; }")
    tab.settle()
    assert tab.names()[-1] == "Channel#block19_499"
    tab.find(".menu summary").click()
    tab.page.get_by_label("Only block7").click()
    tab.find("main").evaluate("main => { main.scrollTop = 0; }")
    tab.settle()
    assert tab.names()[0] == "Channel#block7_0"


VIEWS = {
    "wall": "",
    "unit": opened("Channel#conv1_0"),
    "network": "p.feature_vis.page=network",
    "matrix": None,
    "figure": "",
}


@pytest.mark.skipif(not AXE.is_file(), reason="The check of access needs: npm install axe-core")
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(open_page, serve, view, dark):
    kind, address = ("sweep", all_runs()) if view == "matrix" else ("full", VIEWS[view])
    tab = open_page(serve(kind), address, dark=dark)
    if view == "figure":
        tab.find(".figure-button").click()
        tab.find(".preview svg").wait_for()
    # The page's policy forbids a script of ours that is not the server's; the debugger may run it.
    tab.page.evaluate(AXE.read_text() + ";0")
    for width in (400, 900, 1440, 2500):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.wait_for_timeout(150)
        found = tab.page.evaluate("async () => (await axe.run()).violations")
        serious = [
            f"{one['id']}: {[node['target'] for node in one['nodes']][:4]}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == [], f"at {width}"
        tab.keep(f"axe_{view}_{'dark' if dark else 'light'}_{width}")
