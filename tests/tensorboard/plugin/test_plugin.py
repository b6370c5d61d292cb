"""The routes of the tab, requested as a browser would, and its page."""

import io
import os
import struct
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.plugins.base_plugin import TBPlugin

from featviz_callback import FeatureVisCallback, Objective
from featviz_callback.records import pictures
from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.plugin import animations, contents, plugin
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


def test_several_pictures_of_a_step_come_in_one_answer(browser):
    names = [NAMES[2], "unknown", NAMES[0]]
    data = browser.get("pictures", run="run", step=1, name=names).data
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    expected = [pictures.encode_png(picture(name, 1)) for name in names]
    assert found == [expected[0], b"", expected[2]]


def test_a_damaged_picture_of_several_is_left_out(browser, tmp_path):
    browser.json("frames", run="run")
    place = browser.plugin._runs.found()["run"].find(contents.PICTURES, NAMES[0], 1)
    data = bytearray(Path(place.path).read_bytes())
    data[place.offset + 12 : place.offset + 12 + place.length] = b"\xff" * place.length
    Path(place.path).write_bytes(data)
    data = browser.get("pictures", run="run", step=1, name=NAMES[:2]).data
    assert data[:4] == b"\0\0\0\0"
    assert data[8:] == pictures.encode_png(picture(NAMES[1], 1))


def test_an_animation_has_a_frame_for_each_step(browser):
    answer = browser.get("animation", run="run", name=NAMES[1])
    assert answer.mimetype == "image/gif"
    assert Image.open(io.BytesIO(answer.data)).n_frames == 3


def test_a_long_animation_of_large_pictures_omits_frames(tmp_path, monkeypatch):
    monkeypatch.setattr(animations, "_MOST_VALUES", 9 * 9 * 3 * 4)
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
        ("pictures", {"run": "run", "step": 0}, 400),
        ("pictures", {"run": "run", "step": 0, "name": ["x"] * 65}, 400),
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


def test_only_get_is_allowed(browser):
    for route in ("index", "frames", "picture", "static/main.js"):
        assert browser.client.post(f"{PREFIX}/{route}").status_code == 405


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
