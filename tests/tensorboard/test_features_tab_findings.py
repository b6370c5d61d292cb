"""What an hour with the tab found wanting: each finding is a test, in a real browser.

The logs are made by `make_logs.py`. Pictures of what was seen are in `build/screenshots`.
"""

import csv
import io
import json
import re
import threading
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from featviz_callback.records.behaviour import settled
from featviz_callback.tensorboard import EventFile, summaries
from tests.tensorboard import hostile, make_logs
from tests.tensorboard.browsing import opened, require_browser

playwright, _ = require_browser()
pytestmark = pytest.mark.slow

RUNS = 30


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
        verdict.inner_text().replace("\N{NO-BREAK SPACE}", " "),
    )
    dead = tab.card("Channel#conv2_1")
    assert dead.locator(".verdict").inner_text().startswith("fires on none of your images")
    assert dead.locator(".badge").get_attribute("title") == "no real image activates it"
    for theme in (False, True):
        open_page(serve("full"), dark=theme).keep(f"verdicts_{'dark' if theme else 'light'}")


def test_no_weak_picture_is_shown_as_good_as_the_best_real_image(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    make_logs.write_target(events, "Channel#conv_0", 0, 1.0, ratio=0.9996, status=4)
    tab = open_page(served(tmp_path), opened("Channel#conv_0"))
    playwright.expect(tab.find(".viewer")).to_contain_text("0.99\N{NO-BREAK SPACE}× the best real")
    facts = tab.find(".viewer dl").inner_text().split("\n")
    assert facts[facts.index("Score ÷ best real") + 1] == "0.999"


# For each kind of unit its drift and its functional drift at the epochs 0 to 7, and a noise floor
# measured at the epochs -1 and 7.
COURSES = {
    "early": ([0.9, *[0.1] * 7], [0.4, *[0.01] * 7], (0.2, 0.05)),
    "late": ([0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1], [0.01] * 8, (0.05, 0.2)),
    "too_late": ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1], [0.01] * 8, (0.2, 0.2)),
    "function": ([0.1] * 8, [0.4] * 8, (0.2, 0.2)),
    "picture": ([0.9] * 8, [0.01] * 8, (0.2, 0.2)),
    "unknown": ([0.1] * 8, [None] * 8, (0.2, 0.2)),
}


def test_a_unit_has_settled_when_the_history_says_so(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    for name, (drift, functional, floor) in COURSES.items():
        for step, (one, other) in enumerate(
            zip([None, *drift], [None, *functional], strict=True), start=-1
        ):
            events.image(summaries.IMAGE_TAG.format(name), step, np.zeros((4, 4, 1), "uint8"))
            tags = {summaries.SCORE_TAG: 1.0, summaries.DRIFT_TAG: one}
            tags["feature_vis_functional_drift/{}"] = other
            tags[summaries.NOISE_FLOOR_TAG] = {-1: floor[0], 7: floor[1]}.get(step)
            for tag, value in tags.items():
                if value is not None:
                    events.scalar(tag.format(name), step, value)
    tab = open_page(served(tmp_path))
    for last in (7, 4):
        tab.go(last + 1)
        for name, (drift, functional, floor) in COURSES.items():
            columns = [
                np.array([np.nan, *one[: last + 1]], "float32") for one in (drift, functional)
            ]
            measured = np.full(last + 2, np.nan)
            measured[0] = floor[0]
            measured[-1] = floor[1] if last == 7 else np.nan
            rows = columns[0][:, None], measured[:, None], columns[1][:, None]
            [expected] = settled(np.arange(-1, last + 1), *rows)
            said = (
                tab.card(name).locator(".verdict").inner_text().replace("\N{NO-BREAK SPACE}", " ")
            )
            words = {-2: "not settled", -1: "settled at untrained"}
            if name == "unknown":
                assert said == ""
            else:
                assert said == words.get(expected, f"settled at epoch {expected}"), (name, last)


def test_what_was_not_seen_at_an_epoch_is_not_shown_as_of_it(served, open_page, tmp_path):
    for run, steps in {"a": (-1, 0, 3), "b": (-1, 0, 1, 2, 5)}.items():
        events = EventFile(tmp_path / run)
        for step in steps:
            floor = {"a": None, "b": {-1: 0.1, 5: 0.7}.get(step)}[run]
            make_logs.write_target(
                events, "Channel#conv_0", step, float(step), drift=0.1, floor=floor, last=True
            )
    tab = open_page(served(tmp_path), opened("Channel#conv_0"))
    values = [one.inner_text() for one in tab.find(".viewer .values").all()]
    assert values[0].startswith("epoch 3, the last one before epoch 5: score 3.00")
    assert values[1].startswith("epoch 5: score 5.00")
    tab.go(3)
    # On a line from .1 at epoch -1 to .7 at epoch 5.
    playwright.expect(tab.find(".viewer .values").nth(1)).to_contain_text("noise floor about 0.400")
    tab.find(".swipe summary").click()
    epochs = tab.find(".swipe-choice").first.locator("select").nth(1).locator("option")
    assert epochs.all_inner_texts() == ["untrained", "epoch 0", "epoch 3"]
    tab.page.keyboard.press("Escape")
    tab.page.get_by_role("button", name="Figure").click()
    boxes = tab.find(".figure input[type=checkbox]")
    for i in range(boxes.count()):
        boxes.nth(i).check()
    pictures = tab.find(".figure svg image")
    playwright.expect(pictures).to_have_count(8)


def test_tall_pictures_are_drawn(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    events.image(summaries.IMAGE_TAG.format("tall"), 0, np.zeros((1000, 1, 1), "uint8"))
    tab = open_page(served(tmp_path))
    canvas = tab.card("tall").locator("canvas")
    assert canvas.evaluate("node => [node.width, node.height]") == [1, 1000]


def test_an_expression_that_takes_for_ever_does_not_stop_the_page(open_page, serve):
    tab = open_page(serve("sweep"))
    tab.find(".runs > summary").click()
    query = tab.page.get_by_label("Filter runs")
    query.fill(r"(.+)+=x$")
    playwright.expect(query).to_have_attribute("title", "takes too long", timeout=10_000)
    query.fill("seed=7")
    rows = tab.find(".run-table tbody tr:visible")
    playwright.expect(rows).to_have_count(1)


def test_all_are_selected_once_the_filter_has_searched(open_page, serve):
    tab = open_page(serve("sweep"))
    tab.find(".runs > summary").click()
    tab.find(".run-tools").evaluate(
        """(tools) => {
            const query = tools.querySelector("input");
            query.value = "lr=0.01,";
            query.dispatchEvent(new Event("input"));
            tools.querySelector("button").click();
        }"""
    )
    # Six of the filter, and the one that was shown.
    playwright.expect(tab.find(".matrix")).to_have_attribute("aria-rowcount", "8")


def test_the_matrix_fills_the_screen_below_an_open_table_of_runs(open_page, serve):
    tab = open_page(serve("sweep"))
    tab.find(".runs > summary").click()
    tab.page.get_by_role("button", name="Select all").click()
    rows = tab.find(".matrix-row")
    playwright.expect(rows.first).to_be_visible()
    ends = rows.evaluate_all("rows => rows.map((row) => row.getBoundingClientRect().bottom)")
    assert max(ends) > tab.find("main").evaluate("main => main.getBoundingClientRect().bottom")


def test_a_layer_of_which_no_unit_is_drawn_leads_nowhere(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    make_logs.write_target(events, "Channel#conv_0", 0, 1.0)
    summaries.write_objectives(events, 0, [("Channel#conv_0", "conv", 0)])
    events.many(0, {f"feature_vis_layer_dead/{layer}": 0.5 for layer in ("conv", "norm")})
    tab = open_page(served(tmp_path), "p.feature_vis.page=network")
    cell = tab.find(".network-table tbody tr").nth(1).locator("td button")
    assert cell.get_attribute("aria-label").endswith("No unit of this layer is drawn")
    cell.click(force=True)
    assert tab.page.get_by_label("Page").input_value() == "network"


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


def test_a_damaged_record_is_said_with_its_place(served, open_page, tmp_path):
    make_logs.write_full(tmp_path / "run", epochs=4)
    place = hostile.damage(tmp_path / "run")
    [file] = (tmp_path / "run/feature_vis").glob("*tfevents*")
    server = served(tmp_path)
    tab = open_page(server)
    said = tab.find(".damage").inner_text()
    assert file.name in said
    assert f"at {place}." in said
    assert tab.epoch() == "epoch 3"
    tab.keep("damaged")


def test_a_picture_that_cannot_be_shown_says_why_and_where(open_page, serve):
    server = serve("hostile")
    tab = open_page(server)
    tab.find("main").evaluate("main => { main.scrollTop = main.scrollHeight; }")
    tab.settle()
    [path] = server.folder.rglob("*tfevents*")
    data = path.read_bytes()
    starts = hostile.record_starts(data)
    [place] = [a for a, b in pairwise(starts) if b"feature_vis/bomb" in data[a:b]]
    reason = "The picture has 13000 x 13000 pixels; the most are 16777216."
    where = f"({path.name}, record at byte {place})"
    card = tab.card("bomb")
    playwright.expect(card.locator(".reason")).to_have_text(f"Not shown. {reason} {where}")
    assert where in card.locator(".described").text_content()
    card.click()
    playwright.expect(tab.find(".viewer .trouble")).to_contain_text(f"{reason} {where}")
    tab.keep("not_shown")
    # The film strip asks for the picture too, which is refused.
    assert set(tab.errors) <= {
        "Failed to load resource: the server responded with a status of 413 (UNKNOWN)",
        "Failed to load resource: the server responded with a status of 413 "
        "(REQUEST ENTITY TOO LARGE)",
    }
    tab.errors.clear()


# Many runs


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
    # Ratios are 0.5 and a twentieth for each seed; seed 3 is called dead, which its ratio refutes.
    # Counts of runs that are not shown are in brackets.
    for row, weak in ((0, "40"), (2, "0"), (12, "0")):
        counts = rows.nth(row).locator(".number")
        playwright.expect(counts).to_have_text(["(0)", f"({weak})", "(–)"], timeout=20_000)
    seeds = [rows.nth(i).locator("td").nth(1).inner_text() for i in (0, 2, 12)]
    assert seeds == ["1", "3", "16"]
    tab.find("input[aria-label^='Filter runs']").fill("lr=0.01,")
    playwright.expect(rows.filter(visible=True)).to_have_count(6)
    tab.page.get_by_role("button", name="None", exact=True).click()
    tab.page.get_by_role("button", name="Select all").click()
    playwright.expect(tab.find(".matrix")).to_have_attribute("aria-rowcount", "8")
    assert tab.find(".runs > summary").inner_text() == f"Runs: 7 of {RUNS}"
    tab.keep("table_of_runs")


def test_many_runs_are_a_matrix_with_one_request_a_step(open_page, serve):
    tab = open_page(
        serve("sweep"), make_logs.all_runs() + "&p.feature_vis.size=72", size=(1440, 900)
    )
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
    heads = tab.find(".column-head").evaluate_all("heads => heads.map((head) => head.title)")
    assert len(heads) > 10
    runs = tab.page.evaluate("() => fetch('./index').then((answer) => answer.json())")["runs"]
    spans = {}
    for run in runs:
        found = tab.page.evaluate(
            "(run) => fetch(`./frames?${new URLSearchParams({ run })}`).then((a) => a.json())",
            run["name"],
        )
        at = found["steps"].index(int(tab.epoch().removeprefix("epoch ")))
        for target in found["targets"]:
            numbers = target.get("ratio") or target["score"]
            spans.setdefault(target["name"], []).append((numbers[at], "ratio" in target))
    spread = {}
    for name, found in spans.items():
        numbers, has_ratios = zip(*found, strict=True)
        size = 1 if all(has_ratios) else max(map(abs, numbers))
        spread[name] = (max(numbers) - min(numbers)) / size
    shown = [spread[name] for name in heads]
    assert shown == pytest.approx(sorted(shown, reverse=True))
    assert shown[0] == pytest.approx(max(spread.values()))
    assert shown[-1] > min(spread.values())


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
    with Image.open(io.BytesIO(saved["PNG"])) as sheet:
        assert abs(sheet.width - 180 / 25.4 * 300) < 2
        assert sheet.info["dpi"] == pytest.approx((300, 300), abs=0.5)
        # Pillow checks the checksum of each part.
        sheet.verify()
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
    # The whole image, a gap of four pixels, and the crop, as they were drawn.
    place = images.first.locator(".place").bounding_box()
    assert place["width"] / place["height"] == pytest.approx((24 + 4 + 24) / 24, rel=0.02)
    assert not images.first.locator(".place-known").is_visible()
    # The class of ninety letters keeps to its column.
    box = images.nth(1).bounding_box()
    said = images.nth(1).locator(".said").bounding_box()
    assert said["width"] <= box["width"] + 1
    tab.page.get_by_label("importance").check()
    over = tab.find("canvas.importance")
    playwright.expect(over).to_be_visible()
    blend = "node => getComputedStyle(node).mixBlendMode"
    assert over.evaluate(blend) == "multiply"
    tab.keep("unit_dark")
    # The log of another unit has its faded picture, which takes the picture's place.
    tab.page.keyboard.press("j")
    playwright.expect(tab.find(".viewer h2")).to_have_text("Channel#conv1_1")
    playwright.expect(over).to_be_visible()
    assert over.evaluate(blend) == "normal"
    tab.keep("unit_faded")


def test_of_private_real_images_scores_are_told(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    make_logs.write_target(events, "Channel#conv_0", 0, 1.0)
    summaries.write_real_scores(events, 0, "Channel#conv_0", [7, 31], [2.5, 1.25])
    server = served(tmp_path)
    tab = open_page(server, opened("Channel#conv_0"))
    listed = tab.find(".private-scores li")
    playwright.expect(listed).to_have_text(["image 7, score 2.50", "image 31, score 1.25"])


def test_histograms_of_a_layer_are_drawn_below_each_other(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    for step in (0, 1):
        make_logs.write_target(events, "Channel#conv_0", step, 1.0)
        buckets = np.array([[0, 1, 5], [1, 2, 20], [2, 4 + step, 0]], float)
        tag = summaries.ACTIVATION_TAGS.format("conv")
        events.many(step, {"feature_vis_layer_dead/conv": 0.5}, {tag: buckets})
    server = served(tmp_path)
    tab = open_page(server, "p.feature_vis.page=network")
    button = tab.find(".of-layer")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    ridges = tab.find(".ridge")
    playwright.expect(ridges.locator("text")).to_have_text(["epoch 0", "epoch 1"])
    playwright.expect(tab.find(".ridge.now text")).to_have_text("epoch 1")
    width = float(tab.find(".ridges").get_attribute("viewBox").split()[2])
    path = ridges.first.locator("path").get_attribute("d")
    points = np.array([pair.split() for pair in re.split("[MLZ]", path) if pair], float)
    # Densities of 5, 20 and 0 are at half the height of a ridge, at all of it, and at its base.
    across = 72 + np.array([0, 0, 1, 1, 2, 2, 4, 4]) / 5 * (width - 84)
    np.testing.assert_allclose(points[:, 0], across, atol=0.1)
    base = points[0, 1]
    up = [0, 22, 22, 44, 44, 0, 0, 0]
    np.testing.assert_allclose(base - points[:, 1], up, atol=0.1)
    tab.go(0)
    playwright.expect(tab.find(".ridge.now text")).to_have_text("epoch 0")
    button.click()
    playwright.expect(tab.find(".activations")).to_be_hidden()


def test_what_accentuates_real_images_is_on_the_page_of_a_unit(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    make_logs.write_target(events, "Channel#conv_0", 0, 1.0)
    summaries.write_accentuated(events, 0, "Channel#conv_0", np.zeros((40, 20, 3), "uint8"))
    server = served(tmp_path)
    tab = open_page(server, opened("Channel#conv_0"))
    box = tab.find(".accentuated img").bounding_box()
    assert box["height"] == pytest.approx(2 * box["width"], rel=0.02)


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


def test_nearest_units_share_real_images_or_have_pictures_that_correlate(open_page, serve):
    tab = open_page(serve("full"), opened("Channel#conv1_0"))
    tab.find(".nearest summary").click()
    found = tab.find(".neighbour")
    # The same real image activates both most, and it is one of four.
    playwright.expect(found).to_have_count(1)
    assert found.first.get_attribute("title") == "Channel#conv1_2"
    assert found.first.locator(".number").inner_text() == "0.250"
    tab.page.get_by_label("Nearest by").select_option("picture")
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


# History and signals


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


def test_the_seventh_channel_of_a_signal_is_black_and_seen_in_both_themes(open_page, serve):
    tab = open_page(serve("signals", 7), opened("Neuron#logits_1"))
    swatches = tab.find(".signal-legend .swatch")
    playwright.expect(tab.find(".signal-legend li")).to_have_count(7)

    def light(colour):
        shares = np.array(colour[:3]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        playwright.expect(tab.find("html")).to_have_attribute("data-theme", scheme)
        middles = swatches.evaluate_all(
            """all => all.map((one) => one.getBoundingClientRect())
                .map(({ x, y, width, height }) => [x + width / 2, y + height / 2])"""
        )
        with Image.open(io.BytesIO(tab.page.screenshot())) as shown:
            seen = [shown.convert("RGB").getpixel((int(x), int(y))) for x, y in middles]
        page = tab.find(".viewer").evaluate("node => getComputedStyle(node).backgroundColor")
        behind = light([int(one) for one in re.findall(r"\d+", page)])
        for colour in seen:
            low, high = sorted([light(colour), behind])
            assert (high + 0.05) / (low + 0.05) > 2, (scheme, colour)
        apart = [
            max(abs(x - y) for x, y in zip(a, b, strict=True)) for a, b in combinations(seen, 2)
        ]
        assert min(apart) > 30, (scheme, seen)
        assert seen[6] == ((0, 0, 0) if scheme == "light" else (255, 255, 255))
        tab.keep(f"seven_channels_{scheme}")


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
    # Wide letters are cut in their middle too, and not once more at their end by the style.
    cut = "all => all.map((n) => [n.textContent, n.scrollWidth <= n.clientWidth])"
    labels = tab.find(".card .name").evaluate_all(cut)
    assert len(labels) > 20
    for i, (text, is_whole) in enumerate(labels):
        assert re.fullmatch(f"{i:02d}字+…字+末", text), text
        assert is_whole, text
    tab.find("input[aria-label^='Filter by name']").fill("^W|class")
    playwright.expect(tab.find(".card")).to_have_count(2)
    [(wide, is_whole), (words, _)] = tab.find(".card .name").evaluate_all(cut)
    assert re.fullmatch("W+…W+!", wide)
    assert is_whole
    # So many letters as there is room for, which of wide ones are fewer.
    assert len(words) > 1.4 * len(wide)
    tab.card("W" * 89 + "!").click()
    tab.find(".nearest summary").click()
    playwright.expect(tab.find(".neighbour")).to_have_count(12)
    names = tab.find(".neighbour span:not(.number)").evaluate_all(cut)
    assert {is_whole for _, is_whole in names} == {True}
    assert {text[-1] for text, _ in names} <= {"末", "e"}
    tab.page.keyboard.press("Escape")
    # The view before the page comes back, with its filter.
    playwright.expect(tab.page).not_to_have_url(re.compile("open="))
    tab.find("input[aria-label^='Filter by name']").fill("")
    name = "05" + "字" * 297 + "末"
    tab.card(name).click()
    with tab.page.expect_download() as download:
        tab.find(".download", has_text="GIF").click()
    assert Image.open(download.value.path()).n_frames == 2


def test_an_animation_that_waits_for_others_comes_later(served, open_page, tmp_path):
    make_logs.write_full(tmp_path / "run", epochs=3)
    server = served(tmp_path)
    tab = open_page(server, opened("Channel#conv1_0"))
    is_over = threading.Event()
    for _ in range(2):
        server.plugin._animations._workers.submit(is_over.wait, 60)
    with tab.page.expect_download() as download:
        with tab.page.expect_response(re.compile("/animation")) as busy:
            tab.find(".download", has_text="GIF").click()
        assert busy.value.status == 503
        assert tab.find(".download", has_text="GIF").inner_text() == "GIF, being made…"
        is_over.set()
    assert Image.open(download.value.path()).n_frames == 4
    playwright.expect(tab.find(".download", has_text="GIF")).to_have_text("GIF")
    # The browser itself notes the answer that was none yet.
    assert [error for error in tab.errors if "503" not in error] == []
    tab.errors.clear()


def test_a_layer_of_the_network_leads_to_its_units(open_page, serve):
    tab = open_page(serve("full"), "p.feature_vis.page=network")
    assert tab.find(".network-table tbody th").all_inner_texts() == ["conv1", "conv2", "logits"]
    cell = tab.find(".network-table tbody tr").nth(1).locator("td button").nth(6)
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


def test_targets_and_layers_of_few_steps_have_these(open_page, serve):
    """Each has one step of its own, and comes without the other four hundred."""
    tab = open_page(serve("sparse"))
    playwright.expect(tab.find(".shown")).to_have_text("400 targets", timeout=30_000)
    tab.go(7)
    said = [tab.card(f"Channel#conv_{i}").locator(".described").text_content() for i in (7, 8)]
    assert "score 8" in said[0]
    assert said[1] == "Channel#conv_8; not seen yet"
    tab.go(9)
    assert tab.card("Channel#conv_7").locator(".late").inner_text() == "epoch 7"
    network = open_page(serve("sparse"), "p.feature_vis.page=network")
    rows = network.find(".network-table tbody tr")
    # With 400 rows there is room for one epoch in six: those of 0, 6, 12.
    titles = rows.nth(12).locator("button").evaluate_all("all => all.map((one) => one.title)")
    assert [one for one in titles if "units –" not in one] == [
        "conv12, epoch 12: share of dead units 0.0300. No unit of this layer is drawn"
    ]


def test_what_is_too_much_for_a_page_is_less_and_said(open_page, serve):
    network = open_page(serve("wide"), "p.feature_vis.page=network")
    assert network.find(".network-table tbody tr").count() == 1000
    assert network.find("td button").count() <= 31_000
    # The target itself belongs to a layer that is not known.
    assert "The first 1000 of 1501 layers" in network.find(".network-table caption").inner_text()
    network.keep("network_wide")
    tab = open_page(serve("wide"), opened("x"))
    playwright.expect(tab.find(".still")).to_have_count(834)
    assert "one of 3 epochs" in tab.find(".strip").get_attribute("aria-label")
    # The last epoch is there, and the one before it is shown by the still before.
    assert tab.find(".still[aria-current=true]").inner_text() == "2499"
    tab.page.keyboard.press("ArrowLeft")
    playwright.expect(tab.find(".still[aria-current=true]")).to_have_text("2496")


def test_small_pictures_that_stay_on_the_screen_are_not_made_again(open_page, serve):
    tab = open_page(serve("many_units"), "&p.feature_vis.size=48")
    playwright.expect(tab.find(".shown")).to_have_text("10000 targets", timeout=30_000)
    tab.settle()
    cards = tab.find(".card").count()
    assert cards > 300
    added = tab.find("main").evaluate(
        """async (main) => {
            let added = 0;
            const count = (records) => {
                for (const { addedNodes } of records) {
                    added += [...addedNodes].filter((node) => node.matches?.("li")).length;
                }
            };
            const observer = new MutationObserver(count);
            observer.observe(main, { childList: true, subtree: true });
            main.scrollTop += 120;
            for (let i = 0; i < 5; i += 1) await new Promise(requestAnimationFrame);
            return added;
        }"""
    )
    # Two or three rows of more than twenty.
    assert 20 < added < cards / 3


def test_rows_of_small_pictures_are_drawn_once(open_page, serve):
    tab = open_page(serve("many_units"), "&p.feature_vis.size=48")
    playwright.expect(tab.find(".shown")).to_have_text("10000 targets", timeout=30_000)
    tab.settle()
    drawn, cards = tab.find("main").evaluate(
        """async (main) => {
            let drawn = 0;
            const { prototype } = CanvasRenderingContext2D;
            const { drawImage } = prototype;
            prototype.drawImage = function (...values) {
                if (this.canvas.isConnected) drawn += 1;
                return drawImage.apply(this, values);
            };
            const before = new Set(document.querySelectorAll('.card'));
            main.scrollTop += 120;
            for (let i = 0; i < 60; i += 1) await new Promise(requestAnimationFrame);
            const cards = [...document.querySelectorAll('.card')];
            return [drawn, cards.filter((card) => !before.has(card)).length];
        }"""
    )
    assert 20 < drawn == cards


def test_small_pictures_follow_the_theme(open_page, serve):
    """Signals are plots on white, whose colours are turned round in the dark."""
    tab = open_page(serve("signals"), "&p.feature_vis.size=48")

    def brightness():
        tab.settle()
        box = tab.find(".card .picture").first.bounding_box()
        with Image.open(io.BytesIO(tab.page.screenshot(clip=box))) as found:
            return np.asarray(found.convert("L")).mean()

    light = brightness()
    tab.page.emulate_media(color_scheme="dark")
    assert brightness() < 100 < 150 < light


def test_small_pictures_are_those_of_their_cards(served, open_page, tmp_path):
    """They are drawn together on one canvas: each has its own colour here, in two runs."""
    rng = np.random.default_rng(0)
    names = [f"Channel#conv{i // 150}_{i % 150}" for i in range(300)]
    colours = rng.integers(0, 256, (2, len(names), 3))
    for run, own in zip("ab", colours, strict=True):
        events = EventFile(tmp_path / run)
        summaries.write_objectives(events, 0, [(n, n[8:13], int(n[12])) for n in names])
        for name, colour in zip(names, own, strict=True):
            look = np.broadcast_to(colour, (20, 20, 3)).astype("uint8")
            events.image(summaries.IMAGE_TAG.format(name), 0, look)
        # In the second run one is dead, and is all but hidden.
        status = {n: float(run == "b" and n == "Channel#conv1_140") for n in names}
        scores = {summaries.SCORE_TAG.format(n): 1.0 for n in names}
        events.many(0, scores | {summaries.STATUS_TAG.format(n): s for n, s in status.items()})
    tab = open_page(served(tmp_path), "&p.feature_vis.size=48")
    playwright.expect(tab.find(".shown")).to_have_text("300 targets")
    area = tab.find("main").bounding_box()
    for top in (0, 333, 10_000):
        tab.find("main").evaluate("(main, top) => { main.scrollTop = top; }", top)
        tab.settle()
        seen = 0
        with Image.open(io.BytesIO(tab.page.screenshot())) as page:
            for name in tab.names():
                columns = tab.card(name).locator(".picture")
                places = columns.evaluate_all(
                    """all => all.map((one) => one.getBoundingClientRect())
                        .map(({ x, y, width, height }) => [x, y, width, height])"""
                )
                for run, (x, y, width, height) in enumerate(places):
                    # The heading of a layer stays above its cards.
                    if y < area["y"] + 45 or y + height > area["y"] + area["height"]:
                        continue
                    box = (int(x) + 3, int(y) + 12, int(x + width) - 3, int(y + height) - 3)
                    found = np.asarray(page.convert("RGB").crop(box)).astype(int)
                    expected = colours[run, names.index(name)]
                    is_own = np.abs(found - expected).max() <= 2
                    assert is_own != (run == 1 and name == "Channel#conv1_140"), (name, run)
                    seen += 1
        assert seen > 150
        tab.keep(f"small_pictures_{top}")
