"""The Features tab, in a real browser, on logs of a real `fit`.

Needs `pip install -e '.[test,browser]'` and a Chromium of the system's. Pictures of
what was seen are left in `build/screenshots`.
"""

import io
import json
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from urllib.parse import quote, urlencode
from urllib.request import urlopen

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from tensorboard import program

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.images.fourier import Fourier
from featviz_callback.records import pictures
from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from tests.tensorboard.browsing import opening, require_browser

playwright, _ = require_browser()
if "feature_vis" not in metadata.entry_points(group="tensorboard_plugins").names:
    pytest.skip(
        "The browser tests need the package installed as it is now: pip install -e .",
        allow_module_level=True,
    )

pytestmark = pytest.mark.slow

EPOCHS = 4
SIDE = 12
NAMES = [f"Neuron#logits_{i}" for i in range(4)]
CHANNELS = [f"Channel#conv_{i}" for i in range(3)]
EVIL = "<img src=x onerror=window.pwned=1>"


def train(log_dir, epochs, seed):
    """A real run. Channel 1 of its convolution is dead from the beginning."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(3, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(4, name="logits"),
        ]
    )
    kernel, bias, *others = model.get_weights()
    kernel[..., 1], bias[1] = 0, -1
    model.set_weights([kernel, bias, *others])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    labels = np.arange(64) % 4
    images = rng.random((64, 12, 12, 1), "float32") * 0.5
    images[np.arange(64), labels * 3] += 0.5
    callback = FeatureVisCallback(
        [Objective.neuron(model, "logits", range(4)), Objective.channel(model, "conv", range(3))],
        log_dir=log_dir,
        steps=4,
        probe_data=images,
        on_error="raise",
    )
    model.fit(images, labels, epochs=epochs, batch_size=8, verbose=0, callbacks=[callback])
    return callback.history


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two runs, one longer than the other, and their histories."""
    folder = tmp_path_factory.mktemp("logs")
    histories = {
        "long": train(folder / "long", EPOCHS, seed=0),
        "short": train(folder / "short", 2, seed=1),
    }
    return folder, histories


@pytest.fixture(scope="module")
def server(logs):
    """The address of a TensorBoard that shows those runs, started as a user starts it."""
    folder = logs[0]
    log = folder.parent / f"{folder.name}.tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--host", "127.0.0.1"],
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    try:
        yield address_in(log, process)
    finally:
        process.terminate()
        process.wait(20)


def address_in(log, process):
    """Waits until a process writes its address into its log."""
    for _ in range(600):
        output = log.read_text()
        found = re.search(r"http://127\.0\.0\.1:\d+", output)
        if found:
            return found[0]
        assert process.poll() is None, output
        time.sleep(0.1)
    raise AssertionError(output)


def serve(folder):
    """Starts TensorBoard in this process, which imported all it needs; returns the address."""
    tensorboard = program.TensorBoard()
    tensorboard.configure(logdir=str(folder), host="127.0.0.1", port=0)
    return tensorboard.launch().rstrip("/")


@pytest.fixture
def open_tab(chromium, server):
    with opening(chromium, server) as start:
        yield start


ONE_RUN = "&p.feature_vis.runs=long"


def expected(history, name, epoch):
    """The picture of the history, as it was logged."""
    snapshot, target = history.epochs.tolist().index(epoch), history.names.index(name)
    return pictures.to_uint8(history.images[snapshot, target], history.values_range)[..., 0]


def test_the_wall_is_grouped_by_layer_in_the_network_s_order(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    assert tab.find("h2 .layer").all_text_contents() == ["conv", "logits"]
    assert tab.names() == CHANNELS + NAMES
    # The heading says the layer already.
    shown = tab.find(".card .name").all_text_contents()
    assert shown == [f"channel {i}" for i in range(3)] + [f"neuron {i}" for i in range(4)]
    assert tab.page.get_by_role("tab", name="Features").get_attribute("aria-selected") == "true"
    tab.keep("wall")


def test_one_slider_moves_every_picture(open_tab, logs):
    history = logs[1]["long"]
    tab = open_tab(ONE_RUN)
    for index, epoch in enumerate([-1, 0, 1, 2, 3]):
        tab.go(index)
        assert tab.epoch() == ("untrained" if epoch < 0 else f"epoch {epoch}")
        for name in [*NAMES, "Channel#conv_0"]:
            np.testing.assert_array_equal(tab.drawn(name), expected(history, name, epoch))


def test_keys_move_through_time(open_tab):
    tab = open_tab(ONE_RUN)
    tab.find("main").focus()
    for key, epoch in [
        ("ArrowLeft", "epoch 2"),
        ("Home", "untrained"),
        ("ArrowRight", "epoch 0"),
        ("End", "epoch 3"),
        ("ArrowRight", "epoch 3"),
    ]:
        tab.page.keyboard.press(key)
        tab.page.wait_for_timeout(50)
        assert tab.epoch() == epoch
    tab.find(".toolbar > input[type=search]").focus()
    tab.page.keyboard.press("Home")
    assert tab.epoch() == "epoch 3"


def test_space_plays_from_the_beginning_to_the_end(open_tab):
    tab = open_tab(ONE_RUN)
    tab.find("main").focus()
    tab.page.keyboard.press("Space")
    playwright.expect(tab.find(".app > .timeline .play")).to_have_attribute("aria-label", "Pause")
    tab.inner.wait_for_function("() => document.querySelector('.epoch').textContent == 'epoch 1'")
    tab.inner.wait_for_function("() => document.querySelector('.play').ariaLabel == 'Play'")
    assert tab.epoch() == "epoch 3"
    tab.find(".app > .timeline .play").click()
    tab.inner.wait_for_function("() => document.querySelector('.epoch').textContent == 'epoch 0'")
    tab.find(".app > .timeline .play").click()
    assert tab.epoch() != "epoch 3"


def test_under_a_picture_are_its_score_its_lines_and_its_status(open_tab, logs):
    history = logs[1]["long"]
    tab = open_tab(ONE_RUN)
    for index in (4, 1):
        tab.go(index)
        for i, name in enumerate(history.names):
            shown = tab.card(name).locator(".number").inner_text()
            value = float(shown.replace("−", "-"))
            assert value == pytest.approx(history.scores[index, i], rel=1e-2, abs=1e-6)
        mark = tab.card(NAMES[0]).locator(".mark").get_attribute("x1")
        assert float(mark) == pytest.approx(1 + 98 * index / 4, abs=0.1)
        dot = tab.card(NAMES[0]).locator(".dot").get_attribute("d")
        x, y = map(float, re.fullmatch(r"M(.*) (.*)h0", dot).groups())
        scores = history.scores[:, history.names.index(NAMES[0])]
        share = (scores[index] - scores.min()) / np.ptp(scores)
        assert x == pytest.approx(float(mark), abs=0.1)
        assert y == pytest.approx(22 - 20 * share, abs=0.1)
    assert tab.card(NAMES[0]).locator("path.score").get_attribute("d").count("L") == 4
    assert tab.card(NAMES[0]).locator("path.drift").get_attribute("d").count("L") == 3
    assert history.status[-1, history.names.index("Channel#conv_1")] == "dead"
    assert tab.card("Channel#conv_1").locator(".badge").inner_text() == "dead"


def test_dead_units_can_be_filtered(open_tab, logs):
    history = logs[1]["long"]
    dead = np.array(history.names)[history.status[-1] == "dead"].tolist()
    assert 0 < len(dead) < 7
    tab = open_tab(ONE_RUN)
    tab.find(".chip[data-status=dead]").click()
    assert tab.names() == [name for name in CHANNELS + NAMES if name in dead]
    assert tab.find(".shown").inner_text() == f"{len(dead)} of 7 targets"
    assert tab.saved_view()["statuses"] == "dead"


def test_names_are_filtered_by_a_regular_expression(open_tab):
    tab = open_tab(ONE_RUN)
    tab.find(".toolbar > input[type=search]").fill(r"neuron.*[12]$")
    playwright.expect(tab.find(".card")).to_have_count(2)
    assert tab.names() == NAMES[1:3]
    tab.find(".toolbar > input[type=search]").fill("(")
    playwright.expect(tab.find(".toolbar > input[type=search]")).to_have_attribute(
        "aria-invalid", "true"
    )
    assert tab.names() == NAMES[1:3]
    assert "regular expression" in tab.find(".shown").inner_text()
    tab.find(".toolbar > input[type=search]").fill("nothing is called so")
    tab.find(".message button").click()
    assert len(tab.names()) == 7


def test_layers_are_chosen_from_a_list(open_tab):
    tab = open_tab(ONE_RUN)
    tab.find(".menu summary").click()
    tab.find(".choice", has_text="logits").click()
    assert tab.names() == NAMES
    tab.frame.get_by_label("Only conv").click()
    assert tab.names() == CHANNELS
    tab.page.keyboard.press("Escape")
    assert not tab.find(".choice", has_text="logits").is_visible()
    assert tab.saved_view()["layers"] == "conv"


@pytest.mark.parametrize("kind", ["score", "drift"])
def test_the_order_is_by_numbers_within_a_layer(open_tab, logs, kind):
    history = logs[1]["long"]
    tab = open_tab(ONE_RUN)
    for index in (4, 1):
        tab.go(index)
        values = dict(
            zip(
                history.names,
                getattr(history, "scores" if kind == "score" else kind)[index],
                strict=True,
            )
        )
        for sort, sign in ((kind, -1), (f"-{kind}", 1)):
            tab.find("select[aria-label=Order]").select_option(sort)
            ordered = sorted(NAMES, key=lambda name: sign * values[name])
            assert tab.names()[3:] == ordered
            # What it is ordered by is what can be read.
            shown = tab.card(ordered[0]).locator(".number").inner_text()
            assert shown.startswith("drift ") == (kind == "drift")
            number = float(shown.removeprefix("drift ").replace("−", "-"))
            assert number == pytest.approx(values[ordered[0]], rel=1e-2)


def test_the_address_holds_the_whole_view(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    tab.go(2)
    tab.find(".toolbar > input[type=search]").fill("logits_[0-2]")
    tab.find("select[aria-label=Order]").select_option("-score")
    tab.find("label.size input").evaluate(
        "node => { node.value = 200; node.dispatchEvent(new Event('input')); }"
    )
    tab.card(NAMES[1]).click()
    view = tab.saved_view()
    assert set(view) == {"runs", "epoch", "query", "sort", "size", "open"}
    assert view["epoch"] == "1"
    shared = open_tab("&" + tab.page.url.split("#feature_vis&")[1], alone=False)
    assert shared.find(".viewer h2").inner_text() == NAMES[1]
    assert shared.epoch() == "epoch 1"
    shared.page.keyboard.press("Escape")
    shared.settle()
    assert shared.names() == tab.names()
    assert 200 <= shared.card(NAMES[1]).locator("canvas").bounding_box()["width"] < 250
    assert "open" not in shared.saved_view()


def test_the_view_follows_a_changed_address(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    tab.page.evaluate("location.hash += '&p.feature_vis.epoch=0&p.feature_vis.query=conv'")
    playwright.expect(tab.find(".card")).to_have_count(3)
    assert tab.epoch() == "epoch 0"


def test_another_tab_s_address_is_left_alone(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    tab.page.get_by_role("tab", name="Scalars").click()
    tab.page.wait_for_timeout(500)
    assert "#scalars" in tab.page.url
    tab.page.get_by_role("tab", name="Features").click()
    tab.page.wait_for_timeout(500)
    assert "#feature_vis" in tab.page.url
    assert len(tab.names()) == 7


def test_back_closes_the_page_of_a_unit_inside_tensorboard(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    tab.card(NAMES[0]).click()
    playwright.expect(tab.find(".viewer")).to_be_visible()
    tab.page.go_back()
    playwright.expect(tab.find(".viewer")).to_be_hidden()
    # TensorBoard is still here, with this tab.
    selected = tab.page.get_by_role("tab", name="Features")
    playwright.expect(selected).to_have_attribute("aria-selected", "true")
    view = tab.saved_view()
    assert view["runs"] == "long"
    assert "open" not in view
    tab.page.go_forward()
    playwright.expect(tab.find(".viewer h2")).to_have_text(NAMES[0])
    # Closing it by the key goes back by itself, so that the next step back leads out of the unit.
    tab.page.keyboard.press("Escape")
    playwright.expect(tab.find(".viewer")).to_be_hidden()
    assert "open" not in tab.saved_view()


def test_runs_stand_side_by_side_at_the_same_epoch(open_tab, logs):
    tab = open_tab()
    assert tab.card(NAMES[0]).locator("canvas").count() == 2
    assert tab.find(".run-table tbody th").all_inner_texts() == ["long", "short"]
    assert tab.find(".run-table .letter").all_inner_texts() == ["A", "B"]
    tab.go(1)
    for column, run in enumerate(("long", "short")):
        for name in NAMES:
            np.testing.assert_array_equal(tab.drawn(name, column), expected(logs[1][run], name, 0))
    tab.go(4)
    tab.go(1)
    for status in ("ok", "dead"):
        counts = [int((h.status[1] == status).sum()) for h in logs[1].values()]
        chip = tab.find(f".chip[data-status={status}]")
        if any(counts):
            assert chip.inner_text() == f"{status} A {counts[0]}, B {counts[1]}"
    tab.go(4)
    late = tab.card(NAMES[0]).locator(".late").all_text_contents()
    assert late == ["", "epoch 1"]
    np.testing.assert_array_equal(tab.drawn(NAMES[0], 1), expected(logs[1]["short"], NAMES[0], 1))
    tab.keep("two_runs")
    tab.frame.get_by_role("checkbox", name="B short").click()
    tab.settle()
    assert tab.card(NAMES[0]).locator("canvas").count() == 1
    assert tab.saved_view()["runs"] == "long"


def test_a_picture_opens_large_with_all_that_is_known(open_tab, logs):
    history = logs[1]["long"]
    tab = open_tab(ONE_RUN)
    tab.card(NAMES[0]).click()
    viewer = tab.find("dialog.viewer")
    assert viewer.locator(".still").count() == EPOCHS + 1
    playwright.expect(viewer.locator("figure.examples img").first).to_be_visible()
    viewer.locator(".still").nth(0).click()
    tab.page.wait_for_timeout(100)
    assert tab.epoch() == "untrained"
    examples = viewer.locator("figure.examples img")
    playwright.expect(examples.first).to_have_attribute("alt", re.compile("^Real image 1: "))
    assert examples.count() == 6
    assert examples.first.evaluate("image => image.naturalWidth") >= 10
    tab.page.keyboard.press("ArrowRight")
    tab.page.wait_for_timeout(100)
    assert viewer.locator(".still[aria-current=true]").inner_text() == "0"
    facts = viewer.locator("dl").inner_text().split("\n")
    score = float(facts[facts.index("Score") + 1].replace("−", "-"))
    assert score == pytest.approx(history.scores[1, 0], rel=1e-2)
    assert "Score ÷ best real" in facts
    viewer.locator("summary", has_text="All numbers").click()
    playwright.expect(viewer.locator("tbody tr")).to_have_count(EPOCHS + 1)
    tab.keep("large")
    viewer.get_by_label("Next target").click()
    assert viewer.locator("h2").inner_text() == NAMES[1]
    tab.page.keyboard.press("k")
    assert viewer.locator("h2").inner_text() == NAMES[0]
    tab.page.keyboard.press("j")
    box = viewer.locator(".plot").bounding_box()
    tab.page.mouse.click(box["x"] + 0.26 * box["width"], box["y"] + 20)
    assert tab.epoch() == "epoch 0"
    viewer.locator(".still").nth(1).focus()
    tab.page.keyboard.press("ArrowRight")
    playwright.expect(viewer.locator(".still").nth(2)).to_be_focused()
    tab.page.keyboard.press("Escape")
    assert not viewer.is_visible()
    playwright.expect(tab.card(NAMES[1])).to_be_focused()


def test_a_picture_is_downloaded_as_png_and_as_gif(open_tab, logs):
    history = logs[1]["long"]
    tab = open_tab(ONE_RUN + "&p.feature_vis.open=" + quote(NAMES[2]) + "&p.feature_vis.epoch=2")
    with tab.page.expect_download() as download:
        tab.find(".viewer a.download").click()
    assert download.value.suggested_filename == "long_Neuron_logits_2_epoch_2.png"
    saved = np.asarray(Image.open(download.value.path()))
    np.testing.assert_array_equal(saved, expected(history, NAMES[2], 2))
    with tab.page.expect_download() as download:
        tab.find(".viewer .download", has_text="GIF").click()
        assert tab.find(".viewer .downloads button").first.inner_text() in (
            "GIF, being made…",
            "GIF",
        )
    assert download.value.suggested_filename == "long_Neuron_logits_2.gif"
    assert Image.open(download.value.path()).n_frames == EPOCHS + 1


def test_nothing_of_one_target_is_shown_as_another_s(open_tab):
    tab = open_tab(ONE_RUN + "&p.feature_vis.open=" + quote(NAMES[0]))
    examples, large = (
        tab.find(f".viewer {part}") for part in (".examples", ".large canvas:first-child")
    )
    playwright.expect(examples).to_be_visible()
    waiting, is_held = [], True
    for pattern in ("**/real", "**/picture?*", "**/pictures"):
        tab.page.route(pattern, lambda one: waiting.append(one) if is_held else one.continue_())
    tab.page.keyboard.press("j")
    playwright.expect(tab.find(".viewer h2")).to_have_text(NAMES[1])
    assert not examples.is_visible()
    assert large.evaluate("canvas => canvas.width") in (1, 12 * (256 // SIDE))
    # An answer leads to more requests.
    is_held = False
    for route in waiting:
        route.continue_()
    playwright.expect(examples).to_be_visible()


def test_of_a_dead_unit_it_is_said_since_when_and_that_no_image_activates_it(open_tab, logs):
    tab = open_tab(ONE_RUN + "&p.feature_vis.open=" + quote("Channel#conv_1"))
    viewer = tab.find(".viewer")
    facts = viewer.locator("dl").inner_text().split("\n")
    history = logs[1]["long"]
    alive = history.status[:, history.names.index("Channel#conv_1")] != "dead"
    assert not alive.any()
    assert facts[facts.index("Status") + 1] == "dead since untrained"
    caption = viewer.locator("figcaption:not(.said)")
    playwright.expect(caption).to_contain_text("none activates this unit, epoch 3")
    assert viewer.locator(".still[data-status=dead]").count() == EPOCHS + 1
    tab.page.keyboard.press("j")
    tab.page.keyboard.press("j")
    playwright.expect(caption).to_contain_text("activate this unit most, epoch 3")


@pytest.fixture(scope="module")
def troubled(tmp_path_factory):
    """The logs and the status of a real run, with a unit of each kind but saturated ones."""
    folder = tmp_path_factory.mktemp("troubled")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(4, name="logits"),
        ]
    )
    kernel, bias, *others = model.get_weights()
    bias[1], kernel[..., 2], bias[2] = -100, 0, 1
    # The image begins at plain grey, which is what the last channel likes most.
    kernel[..., 3], kernel[..., 4], bias[4] = 1, 0, 0
    kernel[0, 0, :, 4], kernel[1, 1, :, 4], bias[4] = 1, -1, 0.5
    model.set_weights([kernel, bias, *others])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    steps = Objective.custom(
        model, "conv", lambda x: keras.ops.floor(keras.ops.mean(x, (1, 2, 3))), names="steps"
    )
    root = Objective.custom(
        model, "conv", lambda x: keras.ops.sqrt(-1 - keras.ops.mean(x, (1, 2, 3))), names="root"
    )
    rng = np.random.default_rng(0)
    images = rng.random((16, 12, 12, 1), "float32")
    images[0] = 1
    callback = FeatureVisCallback(
        [Objective.channel(model, "conv", range(5)), steps, root],
        log_dir=folder / "run",
        steps=1,
        parameterization=Fourier(contrast=0.01),
        probe_data=images,
        on_error="raise",
    )
    model.fit(images, np.zeros((16, 4)), epochs=1, verbose=0, callbacks=[callback])
    return folder, dict(zip(callback.history.names, callback.history.status[-1], strict=True))


LABELS = {"no_gradient": "no gradient", "nan": "not a number"}


def test_every_status_has_a_badge_and_a_filter(open_tab, troubled):
    folder, status = troubled
    found = {*status.values()}
    assert found >= {"dead", "constant", "weak", "no_gradient", "nan"}
    tab = open_tab(address=serve(folder))
    tab.keep("status")
    for name, word in status.items():
        badge = tab.card(name).locator(".badge")
        assert badge.inner_text() == ("" if word == "ok" else LABELS.get(word, word))
        assert word in tab.card(name).locator(".column").evaluate_all(
            "all => all.map((column) => column.dataset.status)"
        )
    for word in found:
        chip = tab.find(f".chip[data-status={word}]")
        expected = [name for name in status if status[name] == word]
        assert chip.inner_text() == f"{LABELS.get(word, word)} {len(expected)}"
        chip.click()
        playwright.expect(tab.find(".card")).to_have_count(len(expected))
        assert sorted(tab.names()) == sorted(expected)
        assert tab.saved_view()["statuses"] == word
        chip.click()
    for word in {"ok", "saturated"} - found:
        assert tab.find(f".chip[data-status={word}]").is_hidden()


def test_a_filter_for_a_status_is_part_of_the_address(open_tab, troubled):
    folder, status = troubled
    tab = open_tab("&p.feature_vis.statuses=no_gradient,constant", address=serve(folder))
    expected = [name for name, word in status.items() if word in ("no_gradient", "constant")]
    assert len(expected) == 2
    assert sorted(tab.names()) == sorted(expected)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("constant", "all score the same, so these are no better than others, epoch 0"),
        ("dead", "none activates this unit, epoch 0"),
        ("weak", "those that activate this unit most, epoch 0"),
    ],
)
def test_beside_a_large_picture_is_said_what_real_images_tell(word, said, open_tab, troubled):
    folder, status = troubled
    name = next(name for name in status if status[name] == word)
    tab = open_tab("&p.feature_vis.open=" + quote(name), address=serve(folder))
    viewer = tab.find(".viewer")
    playwright.expect(viewer.locator("figcaption:not(.said)")).to_have_text(
        re.compile(re.escape(said) + "$")
    )
    facts = viewer.locator("dl").inner_text().split("\n")
    assert facts[facts.index("Status") + 1] == f"{word} since untrained"
    assert viewer.locator(f".still[data-status={word}]").count() == 2


def test_a_card_that_went_on_and_came_back_is_not_faded(open_tab):
    tab = open_tab(ONE_RUN + "&p.feature_vis.epoch=-1")
    tab.page.wait_for_timeout(300)
    waiting = []
    tab.page.route("**/pictures", lambda route: waiting.append(route))
    slider = "document.querySelector('.app > .timeline input')"
    move = "(index) => { const s = SLIDER; s.value = index; s.dispatchEvent(new Event('input')); }"
    for index in (4, 0):
        tab.inner.evaluate(move.replace("SLIDER", slider), str(index))
        tab.page.wait_for_timeout(100)
    assert waiting
    assert tab.find(".column.waiting").count() == 0
    for route in waiting:
        route.continue_()


def test_the_slider_keeps_its_length(open_tab):
    tab = open_tab(ONE_RUN)
    track = tab.find(".app > .timeline .track")
    width = track.bounding_box()["width"]
    tab.go(1)
    assert tab.find(".app > .timeline .latest").is_visible()
    assert track.bounding_box()["width"] == width


def write_snapshot(events, step, names, size=8):
    rng = np.random.default_rng(step + 1)
    for i, name in enumerate(names):
        events.image(
            summaries.IMAGE_TAG.format(name), step, rng.integers(0, 256, (size, size, 3), "uint8")
        )
        events.scalar(summaries.SCORE_TAG.format(name), step, i + step)
        events.scalar(summaries.STATUS_TAG.format(name), step, 0)


def write_run(folder, names, steps=range(-1, 2)):
    events = EventFile(folder)
    for step in steps:
        write_snapshot(events, step, names)
    return events


def test_runs_need_not_have_the_same_targets(open_tab, tmp_path):
    write_run(tmp_path / "logs/a", [f"Channel#conv_{i}" for i in range(4)])
    write_run(tmp_path / "logs/b", [f"Channel#conv_{i}" for i in range(2, 6)], range(-1, 4))
    tab = open_tab(address=serve(tmp_path / "logs"))
    assert tab.names() == [f"Channel#conv_{i}" for i in range(6)]
    for index in (0, 4):
        tab.go(index)
        for i in range(6):
            columns = tab.card(f"Channel#conv_{i}").locator(".column")
            unseen = columns.evaluate_all("all => all.map(c => c.dataset.status === 'unseen')")
            assert unseen == [i > 3, i < 2]
    tab.card("Channel#conv_5").click()
    assert tab.find(".viewer .part h3").all_text_contents() == ["Bb"]


def test_a_new_run_does_not_take_the_place_of_those_one_looks_at(open_tab, tmp_path):
    names = ["Channel#conv_0"]
    for run in "bcd":
        write_run(tmp_path / f"logs/{run}", names)
    tab = open_tab(address=serve(tmp_path / "logs"))
    letters = tab.card(names[0]).locator(".letter")
    assert letters.all_text_contents() == ["A", "B", "C"]
    assert "runs" not in tab.saved_view()
    write_run(tmp_path / "logs/a", names)
    playwright.expect(tab.find("summary").first).to_have_text("Runs: 3 of 4", timeout=15_000)
    assert tab.find(".run-table .letter").all_inner_texts() == ["D", "A", "B", "C"]
    # Now that it is a choice, the address holds it.
    assert tab.saved_view()["runs"] == "b%2Cc%2Cd"
    tab.frame.get_by_role("checkbox", name="D a").click()
    playwright.expect(letters).to_have_text(["D", "A", "B", "C"])


def test_runs_may_be_ticked_faster_than_they_come(open_tab, tmp_path):
    for run in "abcd":
        write_run(tmp_path / f"logs/{run}", ["Channel#conv_0"])
    tab = open_tab("&p.feature_vis.runs=a", address=serve(tmp_path / "logs"))
    tab.page.route("**/news", lambda route: (time.sleep(0.3), route.continue_()))
    for run in "bc":
        tab.frame.get_by_role("checkbox", name=re.compile(f"{run}$")).click()
    playwright.expect(tab.find(".card .letter")).to_have_text(["A", "B", "C"])
    assert tab.saved_view()["runs"] == "a%2Cb%2Cc"


def test_an_address_of_runs_that_are_gone_shows_those_that_are_here(open_tab):
    tab = open_tab("&p.feature_vis.runs=nope")
    assert len(tab.names()) == 7
    assert tab.find(".message").inner_text() == "This address is of runs that are not here: nope"


def test_folders_of_any_text_are_runs(open_tab, tmp_path):
    for run in ("bad", "100% <b>, &=", "\N{ZEBRA FACE}"):
        write_run(tmp_path / "logs" / run, ["Channel#conv_0"])
    (tmp_path / "logs/bad").rename(os.fsdecode(os.fsencode(tmp_path / "logs/bad") + b"\xff"))
    tab = open_tab(address=serve(tmp_path / "logs"))
    shown = tab.find(".run-table tbody tr").evaluate_all("rows => rows.map((row) => row.title)")
    # TensorBoard's file layer cannot open the other.
    assert sorted(shown) == ["100% <b>, &=", "\N{ZEBRA FACE}"]


def test_an_expression_that_takes_for_ever_is_given_up(open_tab, tmp_path):
    names = ["Channel#" + "a" * 60 + f"_{i}" for i in range(3)]
    write_run(tmp_path / "logs/run", names)
    tab = open_tab(address=serve(tmp_path / "logs"))
    tab.find(".toolbar > input[type=search]").fill(r"(\w+\s?)+!")
    tab.find("main").focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.wait_for_timeout(100)
    assert tab.epoch() == "epoch 0"
    playwright.expect(tab.find(".shown")).to_have_text("takes too long")
    tab.find(".toolbar > input[type=search]").fill("_[12]$")
    playwright.expect(tab.find(".card")).to_have_count(2)


def test_keys_work_before_anything_was_clicked(open_tab):
    tab = open_tab(ONE_RUN, alone=False)
    tab.page.evaluate("document.activeElement.blur(); window.focus()")
    tab.page.keyboard.press("ArrowLeft")
    tab.page.wait_for_timeout(100)
    assert tab.epoch() == "epoch 2"
    assert tab.saved_view()["epoch"] == "2"
    tab.page.get_by_role("tab", name="Scalars").click()
    tab.page.evaluate("document.activeElement.blur()")
    tab.page.keyboard.press("ArrowLeft")
    tab.page.get_by_role("tab", name="Features").click()
    assert tab.epoch() == "epoch 2"


def test_from_a_target_that_is_filtered_out_one_goes_to_the_first_or_the_last(open_tab):
    tab = open_tab(
        ONE_RUN + "&p.feature_vis.layers=logits&p.feature_vis.open=" + quote(CHANNELS[1])
    )
    tab.page.keyboard.press("j")
    assert tab.find(".viewer h2").inner_text() == NAMES[0]
    tab.page.keyboard.press("Escape")
    tab = open_tab(
        ONE_RUN + "&p.feature_vis.layers=logits&p.feature_vis.open=" + quote(CHANNELS[1])
    )
    tab.page.keyboard.press("k")
    assert tab.find(".viewer h2").inner_text() == NAMES[-1]


@pytest.fixture
def live(tmp_path):
    """A run that is being written: its event file, its names, and a server."""
    names = [f"Channel#layer{i // 20}_{i % 20}" for i in range(100)]
    events = EventFile(tmp_path / "logs/run")
    for step in range(-1, 4):
        write_snapshot(events, step, names)
    return events, names, serve(tmp_path / "logs")


def test_new_epochs_appear_without_a_flicker_or_a_jump(open_tab, live):
    events, names, address = live
    tab = open_tab(address=address)
    tab.inner.evaluate("""() => {
        window.blanks = 0;
        window.first = document.querySelector('.card');
        const note = () => {
            const canvas = document.querySelector('.card canvas');
            if (!canvas.isConnected || canvas.width < 2) window.blanks += 1;
            requestAnimationFrame(note);
        };
        note();
        document.querySelector('main').scrollTop = 500;
    }""")
    write_snapshot(events, 4, names)
    tab.inner.wait_for_function("() => document.querySelector('.epoch').textContent == 'epoch 4'")
    tab.page.keyboard.press("Home")
    tab.find("main").focus()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.wait_for_timeout(100)
    before = tab.epoch()
    write_snapshot(events, 5, names)
    tab.inner.wait_for_function("() => document.querySelector('.app > .timeline input').max == '6'")
    assert tab.epoch() == before != "epoch 5"
    assert tab.inner.evaluate("document.querySelector('main').scrollTop") == 500
    assert tab.inner.evaluate("window.first.isConnected && window.blanks === 0")
    tab.find(".app > .timeline .latest").click()
    assert tab.epoch() == "epoch 5"


def test_what_one_looks_at_stays_when_an_epoch_comes(open_tab, tmp_path):
    names = [f"Channel#conv_{i}" for i in range(3)]
    events = write_run(tmp_path / "logs/run", names, range(-1, 40))
    tab = open_tab(
        f"&p.feature_vis.epoch=20&p.feature_vis.sort=score&p.feature_vis.open={quote(names[0])}",
        address=serve(tmp_path / "logs"),
    )
    strip = tab.find(".strip")
    assert strip.evaluate("strip => strip.scrollLeft") > 0
    strip.evaluate("strip => { strip.scrollLeft = 0; }")
    write_snapshot(events, 40, names)
    playwright.expect(tab.find(".still")).to_have_count(42)
    assert strip.evaluate("strip => strip.scrollLeft") == 0
    assert tab.epoch() == "epoch 20"
    tab.page.keyboard.press("Escape")
    tab.find(".app > .timeline .latest").click()
    card = tab.card(names[0])
    card.focus()
    # The order is turned round.
    for i, name in enumerate(names):
        events.image(summaries.IMAGE_TAG.format(name), 41, np.full((8, 8, 3), 9 * i, "uint8"))
        events.scalar(summaries.SCORE_TAG.format(name), 41, -i)
    playwright.expect(tab.find(".app > .timeline .epoch")).to_have_text("epoch 41")
    assert tab.names() == names
    playwright.expect(card).to_be_focused()


def test_the_untrained_network_is_seen_before_the_others_are_played(open_tab, live):
    _, _, address = live
    tab = open_tab(address=address)
    tab.page.route("**/pictures", lambda route: (time.sleep(0.2), route.continue_()))
    tab.inner.evaluate("""() => {
        window.seen = [];
        const note = () => {
            const epoch = document.querySelector('.epoch').textContent;
            const waiting = document.querySelector('.column').classList.contains('waiting');
            if (!waiting && window.seen.at(-1) !== epoch) window.seen.push(epoch);
            requestAnimationFrame(note);
        };
        note();
    }""")
    tab.find(".app > .timeline .play").click()
    tab.inner.wait_for_function("() => document.querySelector('.play').ariaLabel == 'Play'")
    assert tab.inner.evaluate("window.seen") == [
        "epoch 3",
        "untrained",
        *(f"epoch {i}" for i in range(4)),
    ]


def test_only_what_is_shown_is_fetched(open_tab, live):
    _, names, address = live
    asked = []
    tab = open_tab("&p.feature_vis.epoch=1", address=address)
    tab.page.on("request", lambda request: asked.append((request.url, request.post_data)))
    visible = tab.find(".cards > li").count()
    assert 0 < visible < len(names) / 2
    tab.go(0)
    tab.page.wait_for_timeout(300)
    fetched = [json.loads(body)["keys"] for url, body in asked if url.endswith("/pictures")]
    # The screen, and its neighbours in time: one request each.
    assert len(fetched) <= 2
    assert all(len(keys) <= visible for keys in fetched), (visible, [len(k) for k in fetched])
    asked.clear()
    tab.go(0)
    tab.page.wait_for_timeout(300)
    assert not [url for url, _ in asked if "/picture" in url]


def test_text_is_text(open_tab, tmp_path):
    events = EventFile(tmp_path / f"logs/{EVIL[:4]}b&run")
    summaries.write_objectives(events, 0, [(EVIL, EVIL, 0)])
    for step in (0, 1):
        write_snapshot(events, step, [EVIL])
    tab = open_tab(address=serve(tmp_path / "logs"), alone=False)
    assert tab.names() == [EVIL]
    assert tab.find("h2 .layer").inner_text() == EVIL
    tab.card(EVIL).click()
    assert tab.find(".viewer h2").inner_text() == EVIL
    assert tab.find("img[src=x]").count() == 0
    assert tab.inner.evaluate("window.pwned") is None
    assert tab.page.evaluate("window.pwned") is None


CONTRASTS = """() => {
    const luminance = (colour) => {
        const [r, g, b] = colour.map((v) => {
            const share = v / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (text) => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = text;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const background = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const [r, g, b, a = 1] = rgb(getComputedStyle(at).backgroundColor);
            if (a === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const low = [];
    for (const node of document.querySelectorAll('*')) {
        const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
        if (!own || !node.checkVisibility({ checkVisibilityCSS: true })) continue;
        if (node.matches(':disabled, option')) continue;
        const pair = [rgb(getComputedStyle(node).color).slice(0, 3), background(node)];
        const [low_, high] = pair.map(luminance).sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low_ + 0.05);
        if (ratio < 4.5) low.push(`${node.className || node.tagName}: ${ratio.toFixed(2)}`);
    }
    return low;
}"""


@pytest.mark.parametrize("view", ["", f"&p.feature_vis.open={quote(NAMES[0])}"])
def test_all_text_has_contrast(open_tab, view):
    tab = open_tab(view)
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        playwright.expect(tab.find("html")).to_have_attribute("data-theme", scheme)
        assert tab.inner.evaluate(CONTRASTS) == []
        tab.keep(f"{scheme}{'_large' if view else ''}")


def test_the_theme_follows_tensorboard_s(open_tab):
    tab = open_tab(alone=False)
    tab.page.evaluate("document.body.classList.add('dark-mode')")
    tab.inner.wait_for_function("() => document.documentElement.dataset.theme == 'dark'")


CUT_OFF = """() => {
    const width = document.documentElement.clientWidth;
    const scrolls = (node) => node.closest('.strip, .choices, .examples, .run-scroll, .unseen');
    return [...document.querySelectorAll('.app *')]
        .filter((node) => node.checkVisibility() && !scrolls(node))
        .filter((node) => node.getBoundingClientRect().right > width + 1)
        .map((node) => node.className || node.tagName);
}"""


@pytest.mark.parametrize("view", ["", f"&p.feature_vis.open={quote(NAMES[0])}"])
def test_nothing_is_cut_off_at_any_width(open_tab, view):
    tab = open_tab(view)
    for width in (400, 700, 1280, 2500):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.settle()
        tab.keep(f"width_{width}{'_large' if view else ''}")
        assert tab.inner.evaluate(CUT_OFF) == [], width


def test_everything_has_a_name_and_can_be_reached_by_keyboard(open_tab):
    tab = open_tab()
    snapshot = tab.frame.locator("body").aria_snapshot()
    for role in ("button", "checkbox", "combobox", "slider", "searchbox"):
        assert not re.search(rf"- {role}(:|$| \[)", snapshot, re.MULTILINE), f"a {role} has no name"
    assert 'slider "Epoch"' in snapshot
    label = tab.card(NAMES[0]).locator(".described").text_content()
    assert re.fullmatch(r"Neuron#logits_0; long: score .*; short: score .*, at epoch 1", label)
    tab.page.keyboard.press("Tab")
    reached = []
    while len(reached) < 20 and "Epoch" not in reached:
        name = tab.inner.evaluate(
            "(n => n.ariaLabel || n.className || n.tagName)(document.activeElement)"
        )
        reached.append(name)
        outline = tab.inner.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or not tab.inner.evaluate("document.hasFocus()")
        tab.page.keyboard.press("Tab")
    assert reached[0] == "skip"
    assert reached[-1] == "Epoch"
    assert len(reached) <= 12, reached
    tab.card(NAMES[3]).focus()
    tab.page.keyboard.press("Enter")
    assert tab.find(".viewer h2").inner_text() == NAMES[3]


def test_the_slider_says_the_epoch(open_tab):
    tab = open_tab(ONE_RUN)
    slider = tab.find(".app > .timeline input")
    assert slider.get_attribute("aria-valuetext") == "epoch 3, 5 of 5"
    tab.go(0)
    assert slider.get_attribute("aria-valuetext") == "untrained, 1 of 5"


def test_a_server_that_is_gone_is_said_and_waited_for(open_tab):
    tab = open_tab(ONE_RUN)
    tab.page.route("**/feature_vis/index", lambda route: route.abort())
    tab.inner.wait_for_function("() => document.querySelector('.message').checkVisibility()")
    assert "does not answer" in tab.find(".message").inner_text()
    assert len(tab.names()) == 7
    # A line above the pictures, which stay where they are.
    assert tab.find(".message").bounding_box()["height"] < 40
    tab.card(NAMES[0]).click()
    assert "does not answer" in tab.find(".viewer .notice").inner_text()
    tab.page.keyboard.press("Escape")
    tab.page.unroute("**/feature_vis/index")
    tab.inner.wait_for_function("() => !document.querySelector('.message').checkVisibility()")
    tab.errors.clear()


def test_tensorboard_s_own_image_tab_shows_the_same_pictures(server, logs):
    def ask(route, query=""):
        with urlopen(f"{server}/data/plugin/images/{route}?{query}") as answer:
            return answer.read()

    run, tag = "long/feature_vis", summaries.IMAGE_TAG.format(NAMES[0])
    assert {tag} | {summaries.EXAMPLES_TAG.format(NAMES[0])} <= set(json.loads(ask("tags"))[run])
    found = json.loads(ask("images", urlencode({"run": run, "tag": tag, "sample": 0})))
    assert [image["step"] for image in found] == [-1, 0, 1, 2, 3]
    for image in found:
        picture = Image.open(io.BytesIO(ask("individualImage", image["query"])))
        shown = np.asarray(picture.convert("L"))
        np.testing.assert_array_equal(shown, expected(logs[1]["long"], NAMES[0], image["step"]))


def test_a_folder_without_pictures_has_no_active_tab(tmp_path):
    (tmp_path / "logs").mkdir()
    address = serve(tmp_path / "logs")
    with urlopen(f"{address}/data/plugins_listing") as answer:
        assert json.load(io.TextIOWrapper(answer))["feature_vis"]["enabled"] is False
