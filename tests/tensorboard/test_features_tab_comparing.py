"""Runs and epochs compared, targets pinned, and charts as figures, in a real browser."""

import base64
import io
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from featviz_callback.tensorboard import EventFile, summaries
from tests.tensorboard import make_logs
from tests.tensorboard.browsing import opened, require_browser

playwright, _ = require_browser()
pytestmark = pytest.mark.slow

SVG = "{http://www.w3.org/2000/svg}"


def pixels(canvas, side=24):
    """Return the colours that a canvas shows, one for each pixel of the picture."""
    png = canvas.evaluate("canvas => canvas.toDataURL('image/png')").partition(",")[2]
    values = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))[..., :3]
    times = len(values) // side
    return values[::times, ::times].astype(float)


def test_two_runs_are_compared_by_a_swipe_and_by_their_difference(open_page, serve):
    tab = open_page(serve("pair"), opened("Channel#conv1_1"))
    tab.find(".swipe summary").click()
    shown, said = tab.find(".difference canvas"), tab.find(".difference figcaption")
    playwright.expect(said).to_contain_text("Left minus right")
    left, right = tab.find(".swipe-frame canvas").all()
    assert left.get_attribute("aria-label") == "Channel#conv1_1, a, epoch 3"
    assert right.get_attribute("aria-label") == "Channel#conv1_1, b, epoch 3"
    # As `write_pair` draws them: every second unit of the second run looks otherwise.
    first, second = (
        make_logs.picture(f"Channel#conv1_1{seed}", 3, 24).astype(float) for seed in (0, 1)
    )
    np.testing.assert_array_equal(pixels(left), first)
    np.testing.assert_array_equal(pixels(right), second)
    most = np.abs(first - second).max()
    np.testing.assert_allclose(pixels(shown), 127.5 * (1 + (first - second) / most), atol=1)
    ends = [one.replace("−", "-") for one in tab.find(".difference-scale").inner_text().split()]
    assert [float(end) for end in ends] == pytest.approx([-most / 255, most / 255], rel=5e-3)
    mean = float(said.inner_text().rpartition("Mean size ")[2].rstrip("."))
    assert mean == pytest.approx(np.abs(first - second).mean() / 255, rel=5e-3)
    tab.keep("difference")
    # Two epochs of one run.
    tab.page.get_by_label("Epoch on the left").select_option("-1")
    tab.page.get_by_label("Run on the left").select_option("b")
    playwright.expect(left).to_have_attribute("aria-label", "Channel#conv1_1, b, untrained")
    before = make_logs.picture("Channel#conv1_11", -1, 24).astype(float)
    most = np.abs(before - second).max()
    playwright.expect(tab.find(".difference-scale")).to_contain_text(f"{most / 255:.3g}")
    np.testing.assert_allclose(pixels(shown), 127.5 * (1 + (before - second) / most), atol=1)
    # The first unit of a layer has the same pictures in both runs.
    tab.page.keyboard.press("Escape")
    tab.card("Channel#conv1_0").click()
    tab.page.get_by_label("Epoch on the left").select_option("3")
    tab.page.get_by_label("Run on the left").select_option("a")
    playwright.expect(said).to_have_text("Both pictures are the same.")
    assert not tab.find(".difference-scale").is_visible()


def swipe_of(tab):
    """Return what a swipe shows: both pictures by their names, and where it is cut."""
    playwright.expect(tab.find(".difference figcaption")).to_contain_text("Left minus right")
    labels = [one.get_attribute("aria-label") for one in tab.find(".swipe-frame canvas").all()]
    cut = tab.find(".swipe-frame").evaluate("node => node.style.getPropertyValue('--cut')")
    return labels, cut


def test_a_swipe_is_in_the_address(open_page, serve):
    server = serve("pair")
    tab = open_page(server)
    # The page of a unit is an entry of the history.
    tab.card("Channel#conv1_1").click()
    tab.find(".swipe summary").click()
    tab.page.get_by_label("Run on the left").select_option("b")
    tab.page.get_by_label("Epoch on the left").select_option("0")
    tab.page.get_by_label("Epoch on the right").select_option("2")
    tab.page.get_by_label("Swipe").fill("30")
    assert tab.saved_view()["swipe"].replace("%2C", ",") == "b,0,b,2,30"
    expected = swipe_of(tab)
    names = [f"Channel#conv1_1, b, epoch {epoch}" for epoch in (0, 2)]
    assert expected == (names, "30%")
    shared = open_page(server, tab.page.url.partition("#")[2], dark=True)
    assert swipe_of(shared) == expected
    shared.keep("swipe_shared")
    tab.page.reload()
    assert swipe_of(tab) == expected
    tab.page.go_back()
    playwright.expect(tab.find(".viewer")).not_to_be_visible()
    assert "swipe" not in tab.saved_view()
    tab.page.go_forward()
    assert swipe_of(tab) == expected
    # Closed, it is no part of the address.
    tab.find(".swipe summary").click()
    assert "swipe" not in tab.saved_view()


@pytest.mark.parametrize("text", ["no,1,such,99,50", "a,b", "a,-1,b,3,999", ",,,,", "%"])
def test_a_swipe_that_cannot_be_is_the_usual_one(open_page, serve, text):
    swipe = f"&p.feature_vis.swipe={quote(text)}"
    tab = open_page(serve("pair"), opened("Channel#conv1_1") + swipe)
    if not tab.find(".swipe").evaluate("node => node.open"):
        tab.find(".swipe summary").click()
    names, cut = swipe_of(tab)
    assert names[1] == "Channel#conv1_1, b, epoch 3"
    assert cut in ("50%", "100%")


def test_pictures_without_a_difference_say_why(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    for step, side in ((0, 8), (1, 10)):
        tag = summaries.IMAGE_TAG.format("x")
        events.image(tag, step, np.zeros((side, side, 1), "uint8"))
    tab = open_page(served(tmp_path), opened("x"))
    tab.find(".swipe summary").click()
    said = tab.find(".difference figcaption")
    playwright.expect(said).to_contain_text("have 8 × 8 and 10 × 10 pixels")
    assert not tab.find(".difference canvas").is_visible()


def test_units_of_all_layers_are_ordered_by_what_differs_between_runs(open_page, serve):
    server = serve("pair")
    view = "p.feature_vis.sort=difference&p.feature_vis.across=true"
    tab = open_page(server, view, size=(1280, 1500))
    assert tab.find("h2 .layer").all_inner_texts() == ["All layers"]
    ratios = {}
    for run in "ab":
        found = tab.page.evaluate("run => fetch(`./frames?run=${run}`).then((a) => a.json())", run)
        for target in found["targets"]:
            values = target.get("ratio", target["score"])
            ratios.setdefault(target["name"], []).append(values[-1])
    dead = {name for name in ratios if name == "Channel#conv2_1"}
    spread = {name: np.ptp(values) for name, values in ratios.items() if name not in dead}
    shown = [spread[name] for name in tab.names() if name in spread]
    assert len(shown) == 5
    assert shown == sorted(shown, reverse=True)


def test_pinned_targets_stay_at_the_top_and_in_the_address(open_page, serve):
    server = serve("pair")
    tab = open_page(server, size=(1280, 1500))
    names = tab.names()
    assert len(names) == 6
    tab.card(names[3]).hover()
    tab.page.get_by_label(f"Pin {names[3]}").click()
    assert tab.names() == [names[3], *names[:3], *names[4:]]
    assert tab.find("h2").all_inner_texts()[0].split() == ["Pinned", "1"]
    tab.card(names[5]).focus()
    tab.page.keyboard.press("p")
    assert tab.names()[:2] == [names[3], names[5]]
    playwright.expect(tab.card(names[5])).to_be_focused()
    # Nor is the focus lost where a card leaves the pinned ones, with their list or without.
    for _ in range(2):
        tab.page.keyboard.press("p")
    playwright.expect(tab.card(names[5])).to_be_focused()
    assert tab.names()[:2] == [names[3], names[5]]
    # Neither filters nor the order move them.
    tab.find(".toolbar > input[type=search]").fill("conv1")
    playwright.expect(tab.find(".card")).to_have_count(4)
    assert tab.names() == [names[3], names[5], *names[:2]]
    assert tab.saved_view()["pinned"] == "Channel%2523conv2_1%2CNeuron%2523logits_1".replace(
        "%25", "%"
    )
    tab.keep("pinned")
    # A pin is no match.
    tab.find(".toolbar > input[type=search]").fill("nothing at all")
    playwright.expect(tab.find(".message")).to_contain_text("No target matches.")
    assert tab.names() == [names[3], names[5]]
    tab.find(".toolbar > input[type=search]").fill("conv1")
    playwright.expect(tab.find(".card")).to_have_count(4)
    assert tab.saved_view()["query"] == "conv1"
    shared = open_page(server, tab.page.url.partition("#")[2], dark=True, size=(1280, 1500))
    assert shared.names() == tab.names()
    pressed = shared.find(".pin[aria-pressed=true]")
    assert pressed.count() == 2
    assert pressed.first.evaluate("pin => getComputedStyle(pin).opacity") == "1"
    shared.keep("pinned_dark")
    # On the page of a unit a box does the same, and so does the key.
    shared.card(names[3]).click()
    box = shared.page.get_by_role("checkbox", name="pinned")
    assert box.is_checked()
    shared.page.keyboard.press("p")
    assert not box.is_checked()
    box.check()
    box.uncheck()
    shared.page.keyboard.press("Escape")
    playwright.expect(shared.find("h2 .count").first).to_have_text("1")


def test_a_layer_called_pinned_is_a_layer(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    for i in range(2):
        make_logs.write_target(events, f"Channel#Pinned_{i}", 0, 1.0)
    tab = open_page(served(tmp_path), "p.feature_vis.pinned=Channel%23Pinned_1")
    assert tab.names() == ["Channel#Pinned_1", "Channel#Pinned_0"]
    assert tab.find("h2 .layer").all_inner_texts() == ["Pinned", "Pinned"]


def test_the_chart_is_saved_as_svg_and_png(open_page, serve):
    tab = open_page(serve("pair"), "p.feature_vis.runs=a&" + opened("Channel#conv1_1"), dark=True)
    saved = {}
    for kind in ("SVG", "PNG"):
        with tab.page.expect_download() as download:
            tab.find(".viewer").get_by_role("button", name=f"Chart {kind}").click()
        assert download.value.suggested_filename == f"a_Channel_conv1_1_chart.{kind.lower()}"
        saved[kind] = download.value.path().read_bytes()
    root = ElementTree.fromstring(saved["SVG"])
    assert root.get("width") == "180mm"
    texts = [node.text for node in root.iter(f"{SVG}text")]
    assert texts[0] == "Channel#conv1_1, a"
    assert {"score", "best real score", "drift", "noise floor", "functional drift"} <= set(texts)
    assert {"score (activation)", "epoch", "untrained"} <= set(texts)
    # No program has our style sheets, so each line has its colour.
    lines = [node for node in root.iter(f"{SVG}path") if node.get("class", "").startswith("line-")]
    assert len(lines) == 5
    strokes = {(line.get("stroke"), line.get("stroke-dasharray")) for line in lines}
    assert len(strokes) == 5
    # The scores, from the axis that the chart itself has.
    events = tab.page.evaluate("fetch('./frames?run=a').then((answer) => answer.json())")
    [target] = [one for one in events["targets"] if one["name"] == "Channel#conv1_1"]
    path = next(line.get("d") for line in lines if line.get("class") == "line-score")
    heights = [float(point.split()[1].partition("h")[0]) for point in path[1:].split("L")]
    share = np.interp(target["score"], [min(target["score"]), max(target["score"])], [1, 0])
    np.testing.assert_allclose(heights, 18 + 96 * share, atol=0.1)
    with Image.open(io.BytesIO(saved["PNG"])) as chart:
        assert abs(chart.width - 180 / 25.4 * 300) < 2
        assert chart.info["dpi"] == pytest.approx((300, 300), abs=0.5)
        # White paper in the dark theme too.
        assert chart.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
        colours = {colour for _, colour in chart.convert("RGB").getcolors(1 << 20)}
    assert {(0xB3, 0x47, 0), (0x0F, 0x7A, 0x55), (0x85, 0x37, 0xA8)} <= colours


def test_a_run_of_one_snapshot_has_no_chart_to_save(served, open_page, tmp_path):
    events = EventFile(tmp_path / "run")
    make_logs.write_target(events, "x", 0, 1.0)
    tab = open_page(served(tmp_path), opened("x"))
    assert not tab.find(".viewer").get_by_role("button", name="Chart SVG").is_visible()
    assert tab.find(".viewer").get_by_role("button", name="CSV").is_visible()
