"""The routes of the tab, requested as a browser would, and its page."""

import io
import json
import os
import re
import struct
import subprocess
import sys
import tomllib
import tracemalloc
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.types_pb2 import DT_FLOAT
from tensorboard.plugins.base_plugin import TBPlugin

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.records import NUMBERS, pictures
from featviz_callback.tensorboard import event_file, summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.plugin import animations, contents, places, plugin
from tests.tensorboard import hostile
from tests.tensorboard.conftest import event_file_in
from tests.tensorboard.plugin.conftest import NAMES, PREFIX, Browser, picture, write_run


def test_the_tab_is_active_as_soon_as_there_is_a_run(browser):
    assert browser.plugin.is_active()
    assert browser.plugin.frontend_metadata().tab_name == "Features"


def test_the_log_of_a_real_training_is_served(tmp_path, small_model):
    small_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    objective = Objective.neuron(small_model, "logits", range(3))
    callback = FeatureVisCallback(objective, log_dir=tmp_path / "run", steps=2, on_error="raise")
    images, labels = np.zeros((4, 12, 10, 1), "float32"), np.arange(4)
    small_model.fit(images, labels, epochs=2, verbose=0, callbacks=[callback])
    history, browser = callback.history, Browser(tmp_path)
    assert browser.json("frames", run="run")["steps"] == history.epochs.tolist()
    for i, name in enumerate(history.names):
        target = browser.target(name)
        np.testing.assert_allclose(target["score"], history.scores[:, i], rtol=1e-5)
        status = [summaries.STATUSES[int(place)] for place in target["status"]]
        assert status == history.status[:, i].tolist()
        answer = browser.get("picture", run="run", name=name, step=1)
        expected = pictures.to_uint8(history.images[2, i], history.values_range)
        np.testing.assert_array_equal(Image.open(io.BytesIO(answer.data)), expected[..., 0])


def test_the_numbers_of_a_real_training_are_served(tmp_path, small_model):
    small_model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).random((24, 12, 10, 1), "float32")
    objective = Objective.neuron(small_model, "logits", range(3))
    callback = FeatureVisCallback(
        objective, log_dir=tmp_path / "run", steps=2, probe_data=images, on_error="raise"
    )
    small_model.fit(images, np.arange(24) % 3, epochs=2, verbose=0, callbacks=[callback])
    history, health, browser = callback.history, callback.health, Browser(tmp_path)

    def same(served, known):
        numbers = [np.nan if number is None else number for number in served]
        np.testing.assert_allclose(numbers, known, rtol=1e-4, atol=1e-6)

    for i, name in enumerate(history.names):
        target = browser.target(name)
        same(target["functional"], history.functional_drift[:, i])
        same(target["share"], history.active_share[:, i])
        same(target["overlap"], history.top_overlap[:, i])
    layers = browser.json("frames", run="run")["layers"]
    assert [row["layer"] for row in layers["rows"]] == list(health.layers)
    for i, row in enumerate(layers["rows"]):
        assert row["histograms"]
        for number in set(NUMBERS) & set(row):
            same(row[number], health.table(number)[:, i])
    assert {"dead", "mean", "update_ratio"} <= {kind for row in layers["rows"] for kind in row}


@pytest.mark.parametrize("size", [5, 90])
def test_a_picture_is_served_as_it_was_logged(tmp_path, size):
    write_run(tmp_path / "run", size=size)
    for name in NAMES:
        for step in (-1, 0, 1):
            answer = Browser(tmp_path).get("picture", run="run", name=name, step=step)
            assert answer.mimetype == "image/png"
            assert answer.data == pictures.encode_png(picture(name, step, size))


def test_a_picture_can_be_the_first_request(browser):
    assert browser.get("picture", run="run", name=NAMES[0], step=0).status_code == 200


def test_browsers_may_keep_only_a_picture_requested_by_its_key(browser):
    keys = browser.target(NAMES[0])["key"]
    kept = browser.get("picture", run="run", name=NAMES[0], step=0, key=keys[1])
    assert kept.cache_control.max_age >= 30_000_000
    for wrong in ({}, {"key": keys[0]}):
        answer = browser.get("picture", run="run", name=NAMES[0], step=0, **wrong)
        assert answer.cache_control.no_cache
        assert answer.data == kept.data


def parts_of(data):
    """Return each part of the answer of `/pictures`: a PNG, or a sentence."""
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        is_reason, length = length >> 31, length & 0x7FFFFFFF
        found.append(data[4 : 4 + length].decode() if is_reason else data[4 : 4 + length])
        data = data[4 + length :]
    return found


def test_of_a_damaged_picture_of_several_is_told_why_and_where(browser, tmp_path):
    keys = [browser.target(name)["key"][2] for name in NAMES[:2]]
    place = browser.plugin._runs.found()["run"].find(contents.PICTURES, NAMES[0], 1)
    data = bytearray(Path(place.path).read_bytes())
    data[place.offset + 12 + place.length - 20] ^= 1
    Path(place.path).write_bytes(data)
    reason, png = parts_of(post(browser, "pictures", keys=keys).data)
    where = f"({Path(place.path).name}, record at byte {place.offset})"
    assert reason == f"The picture is damaged. {where}"
    assert png == pictures.encode_png(picture(NAMES[1], 1))


def test_a_picture_whose_record_is_damaged_elsewhere_is_not_shown(tmp_path):
    events = write_run(tmp_path / "run", steps=[0], size=60)
    path = Path(events.path)
    data = bytearray(path.read_bytes())
    # The name of the first picture, far before its PNG.
    data[data.index(b"backbone/conv_1")] ^= 1
    path.write_bytes(data)
    browser = Browser(tmp_path)
    targets = {target["name"]: target for target in browser.json("frames", run="run")["targets"]}
    keys = [targets[name]["key"][0] for name in ("Channel#cackbone/conv_1", NAMES[1])]
    reason, png = parts_of(post(browser, "pictures", keys=keys).data)
    assert reason.startswith("The record is damaged. (")
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(png))), picture(NAMES[1], 0, 60)[..., 0]
    )


def test_an_animation_has_a_frame_for_each_step(browser):
    answer = browser.get("animation", run="run", name=NAMES[1])
    assert answer.mimetype == "image/gif"
    assert Image.open(io.BytesIO(answer.data)).n_frames == 3


def test_a_long_animation_of_large_pictures_omits_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "_MOST_VALUES", 135 * 135 * 3 * 4)
    write_run(tmp_path / "run", steps=range(20), names=NAMES[:1])
    answer = Browser(tmp_path).get("animation", run="run", name=NAMES[0])
    assert Image.open(io.BytesIO(answer.data)).n_frames == 4


def test_an_animation_has_frames_of_one_size(tmp_path):
    write_run(tmp_path / "run", steps=[0, 1], size=9)
    write_run(tmp_path / "run", steps=[2, 3, 4], size=200)
    answer = Browser(tmp_path).get("animation", run="run", name=NAMES[0])
    assert Image.open(io.BytesIO(answer.data)).n_frames == 3


@pytest.mark.parametrize(
    ("route", "arguments", "code"),
    [
        ("frames", {}, 400),
        ("frames", {"run": "other"}, 404),
        ("frames", {"run": "../run"}, 404),
        ("frames", {"run": "run/../run"}, 404),
        ("frames", {"run": "/etc"}, 404),
        ("frames", {"run": "run\0"}, 404),
        ("frames", {"run": "run", "version": "new"}, 400),
        ("picture", {"run": "run", "step": 0}, 400),
        ("picture", {"run": "run", "name": NAMES[0]}, 400),
        ("picture", {"run": "run", "name": NAMES[0], "step": "1e0"}, 400),
        ("picture", {"run": "run", "name": NAMES[0], "step": "١"}, 400),
        ("picture", {"run": "run", "name": NAMES[0], "step": "9" * 40}, 400),
        ("picture", {"run": "run", "name": NAMES[0], "step": 7}, 404),
        ("picture", {"run": "run", "name": "../../etc/passwd", "step": 0}, 404),
        ("picture", {"run": "run", "name": NAMES[0], "step": 0, "kind": "examples"}, 404),
        ("picture", {"run": "run", "name": NAMES[0], "step": 0, "kind": "score"}, 400),
        ("nearest", {"run": "run", "name": "unknown", "step": 0}, 404),
        ("nearest", {"run": "run", "name": NAMES[0], "step": 0, "by": "function"}, 404),
        ("nearest", {"run": "run", "name": NAMES[0], "step": 0, "by": "colour"}, 400),
        ("activations", {"run": "run"}, 400),
        ("activations", {"run": "run", "layer": "unknown"}, 404),
        ("animation", {"run": "run", "name": "unknown"}, 404),
        ("animation", {"run": "run"}, 400),
        ("static/../plugin.py", {}, 404),
        ("static/%2e%2e/plugin.py", {}, 404),
        ("static/", {}, 404),
        ("nothing", {}, 404),
    ],
)
def test_bad_requests_are_refused_in_plain_text(browser, route, arguments, code):
    answer = browser.get(route, **arguments)
    assert answer.status_code == code
    assert answer.mimetype == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not any(str(value) in answer.text for value in arguments.values() if len(str(value)) > 2)


def test_other_methods_are_refused_with_those_that_are_allowed(browser):
    for route in ("index", "frames", "picture", "static/main.js"):
        answer = browser.client.post(f"{PREFIX}/{route}")
        assert answer.status_code == 405
        assert answer.headers["Allow"] == "GET, HEAD"
    assert browser.client.delete(f"{PREFIX}/real").headers["Allow"] == "GET, HEAD, POST"
    for route in ("news", "pictures"):
        assert browser.client.get(f"{PREFIX}/{route}").headers["Allow"] == "POST"


def post(browser, route, **content):
    browser.plugin._runs._searched = float("-inf")
    return browser.client.post(f"{PREFIX}/{route}", json=content)


def test_news_of_several_runs_come_in_one_answer(browser, tmp_path):
    write_run(tmp_path / "second", steps=[0])
    browser.json("index")
    found = post(browser, "news", runs={"run": None, "second": None, "gone": 3}).json
    assert {name: news["steps"] for name, news in found.items()} == {
        "run": [-1, 0, 1],
        "second": [0],
    }
    versions = {name: news["version"] for name, news in found.items()}
    write_run(tmp_path / "second", steps=[1])
    again = post(browser, "news", runs=versions).json
    assert again["run"] is None
    assert again["second"]["steps"] == [0, 1]


def test_pictures_of_several_runs_come_by_their_keys(browser, tmp_path):
    write_run(tmp_path / "second", steps=[0])
    keys = [
        browser.target(NAMES[0])["key"][2],
        browser.target(NAMES[1], run="second")["key"][0],
        "0-0",
        "no key",
        browser.target(NAMES[0])["key"][0].split("-")[0] + "-1",
    ]
    found = parts_of(post(browser, "pictures", keys=keys).data)
    expected = [picture(NAMES[0], 1), picture(NAMES[1], 0)]
    assert found[:2] == [*map(pictures.encode_png, expected)]
    assert found[2:4] == ["No such picture."] * 2
    assert found[4].startswith("No record of up to ")
    assert browser.get("picture", key=keys[0]).data == found[0]
    # TensorBoard may have restarted under an open page: keys need no log that was read.
    assert Browser(tmp_path).get("picture", key=keys[1]).data == found[1]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("news", b"{"),
        ("news", b"[" * 100_000),
        ("news", b'{"runs": 3}'),
        ("pictures", b'{"keys": []}'),
        ("pictures", b'{"keys": [3]}'),
        ("pictures", json.dumps({"keys": ["x"] * 2001}).encode()),
        ("real", b'{"run": "run", "name": 3, "step": 1}'),
        ("nearest", b'{"run": "run", "name": "x", "step": true}'),
    ],
)
def test_bad_bodies_are_refused_in_plain_text(browser, route, body):
    answer = browser.client.post(f"{PREFIX}/{route}", data=body)
    assert answer.status_code == 400
    assert answer.mimetype == "text/plain"


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    events = write_run(tmp_path / "run")
    tag = summaries.IMAGE_TAG.format(NAMES[0])
    events.encoded_image(tag, 2, hostile.huge_png(), (13_000, 13_000))
    browser = Browser(tmp_path)
    for route in ("picture", "animation"):
        answer = browser.get(route, run="run", name=NAMES[0], step=2)
        assert answer.status_code == 413
        assert "13000 x 13000" in answer.text
    key = browser.target(NAMES[0])["key"][3]
    [reason] = parts_of(post(browser, "pictures", keys=[key]).data)
    assert reason.startswith("The picture has 13000 x 13000 pixels; the most are ")
    assert f"{Path(events.path).name}, record at byte " in reason
    assert browser.get("animation", run="run", name=NAMES[1]).status_code == 200


def test_real_images_are_listed_with_what_the_log_says_of_them(tmp_path):
    events = write_run(tmp_path / "run", names=["a/b"])
    shown = [np.full((5, 5, 1), value, "uint8") for value in (1, 2, 3)]
    for rank in range(2):
        events.image(
            f"feature_vis_real/a/b/{rank}", 0, shown[rank], f"score {rank}, class &lt;b&gt;"
        )
    events.image("feature_vis_place/a/b/1", 0, shown[2])
    browser = Browser(tmp_path)
    found = post(browser, "real", run="run", name="a/b", step=1).json
    assert found["step"] == 0
    assert [one["description"] for one in found["images"]] == [
        "score 0, class <b>",
        "score 1, class <b>",
    ]
    assert [one["place"] is None for one in found["images"]] == [True, False]
    keys = [found["images"][0]["key"], found["images"][1]["place"]]
    for key, expected in zip(keys, (shown[0], shown[2]), strict=True):
        assert browser.get("picture", key=key).data == pictures.encode_png(expected)
    assert browser.json("real", run="run", name="a/b", step=-1) == {
        "step": None,
        "images": [],
        "private": [],
    }


def test_of_private_real_images_positions_and_scores_are_listed(tmp_path):
    events = write_run(tmp_path / "run", names=["a/b"])
    summaries.write_real_scores(events, 0, "a/b", [7, 3], [2.5, np.nan])
    events.text("feature_vis_real_scores/a/b", 1, '{"indices": "no"', "feature_vis")
    browser = Browser(tmp_path)
    assert browser.json("real", run="run", name="a/b", step=0)["private"] == [
        {"index": 7, "score": 2.5},
        {"index": 3, "score": None},
    ]
    assert browser.json("real", run="run", name="a/b", step=1)["private"] == []
    assert browser.target("a/b")["private"][0] is None


def test_the_nearest_pictures_are_those_that_correlate(tmp_path):
    events = EventFile(tmp_path / "run")
    rng = np.random.default_rng(0)
    own = rng.integers(0, 256, (16, 16, 1), "uint8")
    for name, image in {"own": own, "other": rng.integers(0, 256, (16, 16, 1), "uint8"),
                        "same": own // 2, "inverse": 255 - own}.items():  # fmt: skip
        events.image(summaries.IMAGE_TAG.format(name), 0, image)
    found = Browser(tmp_path).json("nearest", run="run", name="own", step=0)
    assert [one["name"] for one in found["targets"]] == ["same", "other", "inverse"]
    assert found["compared"] == 3
    assert found["targets"][0]["alike"] == pytest.approx(1, abs=1e-3)
    assert found["targets"][2]["alike"] == pytest.approx(-1, abs=1e-3)


@pytest.mark.parametrize("is_private", [False, True])
def test_the_nearest_by_function_share_their_top_real_images(tmp_path, is_private):
    tops = {"own": [1, 2, 3, 4], "far": [4, 7, 8, 9], "none": [5, 6, 7, 8], "near": [9, 3, 2, 1]}
    events = write_run(tmp_path / "run", names=list(tops), steps=[0, 1])
    for name, indices in tops.items():
        if is_private:
            summaries.write_real_scores(events, 1, name, indices, [1.0] * 4)
        else:
            shown = [(np.full((4, 4, 1), index, "uint8"), None) for index in indices]
            summaries.write_real_images(events, 1, name, shown)
    browser = Browser(tmp_path)
    found = post(browser, "nearest", run="run", name="own", step=1, by="function").json
    assert [(one["name"], one["alike"]) for one in found["targets"]] == [
        ("near", 0.75),
        ("far", 0.25),
    ]
    assert found["compared"] == 3
    assert found["targets"][0]["key"] == browser.target("near")["key"][1]


def test_histograms_of_a_layer_are_read_from_the_record_of_all_layers(tmp_path):
    events = write_run(tmp_path / "run")
    written = {}
    for step in range(60):
        edges = np.linspace(0, step + 1, 31)
        counts = np.arange(30) + step
        tables = {
            f"feature_vis_activations/{layer}": np.stack([edges[:-1], edges[1:], counts * times], 1)
            for times, layer in enumerate(("a", "b/c"), start=1)
        }
        events.many(step, {"feature_vis_layer_dead/a": 0.5}, tables)
        written[step] = tables["feature_vis_activations/b/c"]
    browser = Browser(tmp_path)
    rows = browser.json("frames", run="run")["layers"]["rows"]
    assert [(row["layer"], row["histograms"]) for row in rows] == [("a", True), ("b/c", True)]
    found = post(browser, "activations", run="run", layer="b/c").json["histograms"]
    assert len(found) == 24
    assert [found[0]["step"], found[-1]["step"]] == [0, 59]
    for one in found:
        np.testing.assert_allclose(one["buckets"], written[one["step"]], rtol=1e-4)


def test_a_histogram_of_a_few_bytes_takes_no_more_memory(tmp_path):
    events = EventFile(tmp_path / "run")
    value = Summary.Value(tag="feature_vis_activations/a")
    value.tensor.dtype = DT_FLOAT
    value.tensor.float_val.append(1.0)
    for size in (20_000_000, 3):
        value.tensor.tensor_shape.dim.add().size = size
    events.many(0, {"feature_vis_layer_dead/a": 0.5}, {value.tag: np.zeros((2, 3))})
    data = Event(step=1, summary=Summary(value=[value])).SerializeToString()
    with open(events.path, "ab") as file:
        file.write(event_file._records([data]))
    browser = Browser(tmp_path)
    tracemalloc.start()
    found = post(browser, "activations", run="run", layer="a").json["histograms"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [one["step"] for one in found] == [0]
    assert peak < 10e6


def test_a_picture_without_its_end_is_refused_with_its_place(tmp_path):
    events = EventFile(tmp_path / "run")
    png = pictures.encode_png(picture("x", 0))
    events.encoded_image(summaries.IMAGE_TAG.format("x"), 0, png[:-12], (9, 9))
    browser = Browser(tmp_path)
    [reason] = parts_of(post(browser, "pictures", keys=browser.target("x")["key"]).data)
    assert re.fullmatch(r"The picture is cut off\. \(.+, record at byte \d+\)", reason)


def test_a_deleted_picture_is_not_found(browser, tmp_path):
    browser.json("frames", run="run")
    event_file_in(tmp_path / "run").write_bytes(b"")
    assert browser.get("picture", run="run", name=NAMES[0], step=0).status_code == 404


def test_a_picture_that_cannot_be_decoded_makes_no_animation(tmp_path):
    events = EventFile(tmp_path / "run")
    events.encoded_image(summaries.IMAGE_TAG.format("x"), 0, b"no png", (1, 1))
    browser = Browser(tmp_path)
    assert browser.json("frames", run="run")["steps"] == [0]
    assert browser.get("animation", run="run", name="x").status_code == 404


def test_the_page_is_served_with_types_that_browsers_run(browser):
    folder = Path(plugin.__file__).parent / "static"
    for file in folder.iterdir():
        answer = browser.get(f"static/{file.name}")
        assert answer.data == file.read_bytes()
        expected = {".js": "text/javascript", ".css": "text/css"}[file.suffix]
        assert answer.mimetype == expected
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_entry_page_of_tensorboard_loads_the_page(browser):
    answer = browser.client.get("/data/plugin_entry.html", query_string={"name": "feature_vis"})
    assert "./static/main.js" in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_first_module_asks_for_all_others_at_once():
    folder = Path(plugin.__file__).parent / "static"
    asked = re.findall(r"'\./(\w+\.js)'", (folder / "main.js").read_text())
    assert sorted([*asked, "main.js"]) == sorted(file.name for file in folder.glob("*.js"))


def test_the_page_loads_nothing_from_elsewhere():
    for file in (Path(plugin.__file__).parent / "static").iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        for forbidden in ("http:", "https:", "//cdn", "innerHTML", "outerHTML", "eval(", "@import"):
            assert forbidden not in text, f"{file.name} has {forbidden}"


def test_tensorboard_finds_the_plugin_by_its_entry_point():
    with open(Path(__file__).parents[3] / "pyproject.toml", "rb") as file:
        entry_points = tomllib.load(file)["project"]["entry-points"]["tensorboard_plugins"]
    [(name, path)] = entry_points.items()
    module, attribute = path.split(":")
    found = getattr(import_module(module), attribute)
    assert issubclass(found, TBPlugin)
    assert found.plugin_name == name == "feature_vis"


def test_neither_keras_nor_a_framework_is_needed():
    code = (
        "import sys; from featviz_callback.tensorboard.plugin.plugin import FeaturesPlugin;"
        "print({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    )
    # Keras would fail on such a backend.
    environment = {**os.environ, "KERAS_BACKEND": "none"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_large_pictures_take_several_answers_and_little_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "_MOST_PICTURES", 1_500_000)
    monkeypatch.setattr(places, "_BYTES_TOGETHER", 400_000)
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), "uint8")
    events = EventFile(tmp_path / "run")
    # Their checksums are computed together, which is far quicker.
    with events.together():
        for step in range(6):
            events.image(summaries.IMAGE_TAG.format("x"), step, pictures.as_png(noise))
    browser = Browser(tmp_path)
    keys = browser.target("x", run="run")["key"]
    tracemalloc.start()
    first = post(browser, "pictures", keys=keys * 100).data
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Each has half a megabyte, and all that is asked for has 290.
    assert 2 <= len(parts_of(first)) < 6
    assert peak < 10e6
    found = []
    while len(found) < len(keys):
        found += parts_of(post(browser, "pictures", keys=keys[len(found) :]).data)
    assert found == [browser.get("picture", key=key).data for key in keys]
