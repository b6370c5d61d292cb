"""The routes of the Features tab, asked as a browser would, without one."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import tomllib
import tracemalloc
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.application import TensorBoardWSGI
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.plugins.base_plugin import TBContext, TBPlugin
from werkzeug.test import Client

from featviz_callback.records import pictures
from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.plugin import event_records, logs, plugin, runs

NAMES = ["Channel#backbone/conv_1", "Neuron#logits_0", "<img src=x onerror=alert(1)>"]
PREFIX = "/data/plugin/feature_vis"


def picture(name, step, size=9):
    """A grey uint8 picture that is different for each name and step."""
    rng = np.random.default_rng([step + 1, *name.encode()])
    return rng.integers(0, 256, (size, size, 1), "uint8")


def write_step(events, step, names=NAMES, size=9):
    for i, name in enumerate(names):
        events.image(summaries.IMAGE_TAG.format(name), step, picture(name, step, size))
        events.scalar(summaries.SCORE_TAG.format(name), step, step + i / 10)
        events.scalar(summaries.STATUS_TAG.format(name), step, i % 4)
        if step >= 0:
            events.scalar(summaries.DRIFT_TAG.format(name), step, 0.5)
    events.scalar(summaries.SECONDS_TAG, step, 0.1)


def write_run(folder, steps=(-1, 0, 1), **settings):
    events = EventFile(folder)
    for step in steps:
        write_step(events, step, **settings)
    return events


def event_file(folder):
    [path] = (Path(folder) / "feature_vis").iterdir()
    return path


def event_file_of(events):
    return Path(events.path)


class Browser:
    """Asks the routes of a log directory."""

    def __init__(self, logdir):
        self.plugin = plugin.FeaturesPlugin(TBContext(logdir=str(logdir)))
        for thread in threading.enumerate():
            if thread.name == plugin.FeaturesPlugin.plugin_name:
                thread.join()
        # Folders are looked for at every question, as if time had passed.
        self.plugin._runs._search_seconds = 0
        self.client = Client(TensorBoardWSGI([self.plugin]))

    def get(self, route, **arguments):
        self.plugin._runs._searched = float("-inf")
        return self.client.get(f"{PREFIX}/{route}", query_string=arguments)

    def json(self, route, **arguments):
        answer = self.get(route, **arguments)
        assert answer.status_code == 200, answer.text
        assert answer.mimetype == "application/json"
        return json.loads(answer.data)

    def target(self, name, run="run"):
        targets = self.json("frames", run=run)["targets"]
        return next(target for target in targets if target["name"] == name)


@pytest.fixture
def browser(tmp_path):
    write_run(tmp_path / "run")
    return Browser(tmp_path)


# The index


def test_runs_are_listed_by_name(tmp_path):
    for run in ("b", "a/1", "."):
        write_run(tmp_path / run, steps=[0])
    assert [run["name"] for run in Browser(tmp_path).json("index")["runs"]] == [".", "a/1", "b"]


def test_a_run_says_when_it_began(browser, tmp_path):
    [run] = browser.json("index")["runs"]
    assert run["began"] == pytest.approx(event_file(tmp_path / "run").stat().st_mtime, abs=60)


def test_folders_without_our_events_are_no_runs(tmp_path):
    (tmp_path / "run/feature_vis").mkdir(parents=True)
    (tmp_path / "events.out.tfevents.1.other").write_bytes(b"")
    browser = Browser(tmp_path)
    assert browser.json("index") == {"runs": []}
    assert not browser.plugin.is_active()


def test_the_tab_is_active_as_soon_as_there_is_a_run(browser):
    assert browser.plugin.is_active()
    assert browser.plugin.frontend_metadata().tab_name == "Features"


def test_a_new_run_is_found_while_tensorboard_runs(browser, tmp_path):
    write_run(tmp_path / "second", steps=[0])
    assert [run["name"] for run in browser.json("index")["runs"]] == ["run", "second"]


def test_the_log_directory_may_be_a_run_s_own_folder(tmp_path):
    write_run(tmp_path, steps=[0])
    [(name, folder, [file])] = runs.find_runs(str(tmp_path / "feature_vis"))
    assert (name, Path(folder) / file) == (".", event_file(tmp_path))


def test_links_are_followed_and_rings_are_not(tmp_path):
    write_run(tmp_path / "elsewhere/run", steps=[0])
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/link").symlink_to(tmp_path / "elsewhere/run")
    (tmp_path / "logs/ring").symlink_to(tmp_path / "logs")
    assert [name for name, *_ in runs.find_runs(str(tmp_path / "logs"))] == ["link"]


def test_groups_of_runs_have_their_names(tmp_path):
    write_run(tmp_path / "x/run", steps=[0])
    write_run(tmp_path / "y", steps=[0])
    roots = runs.parse_roots("", f"first:{tmp_path}/x,second:{tmp_path}/y")
    assert set(runs.Runs(roots).found()) == {"first/run", "second"}


def test_the_newest_run_is_read_while_tensorboard_starts(tmp_path):
    write_run(tmp_path / "old", steps=[0])
    write_run(tmp_path / "new", steps=[0])
    found = Browser(tmp_path).plugin._runs.found()
    assert len(found["new"].film(NAMES[0])) == 1
    assert [name for name, run in found.items() if json.loads(run.frames())["targets"]] == ["new"]


def test_no_log_directory_is_no_runs():
    assert runs.Runs(runs.parse_roots(None, None)).found() == {}


# Frames


def test_every_step_of_every_target_is_there(browser):
    answer = browser.json("frames", run="run")
    assert answer["steps"] == [-1, 0, 1]
    assert [target["name"] for target in answer["targets"]] == NAMES
    for i, target in enumerate(answer["targets"]):
        assert target["score"] == pytest.approx([step + i / 10 for step in (-1, 0, 1)])
        assert target["drift"] == [None, 0.5, 0.5]
        assert target["status"] == [i, i, i]
        assert len(set(target["key"])) == 3
        assert "ratio" not in target


def test_nothing_is_sampled(tmp_path):
    write_run(tmp_path, steps=range(60), names=NAMES[:1])
    assert Browser(tmp_path).json("frames", run=".")["steps"] == list(range(60))


def test_layers_and_their_order_are_those_logged(tmp_path):
    events = write_run(tmp_path / "run")
    known = [(NAMES[0], "backbone/conv", 3), (NAMES[2], "out", None)]
    summaries.write_objectives(events, -1, known)
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [(t["layer"], t["order"]) for t in targets] == [
        ("backbone/conv", 3),
        ("logits", None),
        ("out", None),
    ]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("Neuron#logits_0", "logits"),
        ("Channel#block_1_conv_31", "block_1_conv"),
        ("Direction#backbone/dense_2", "backbone/dense"),
        ("Layer#block_1", "block_1"),
        ("Neuron#logits_0 & Channel#conv_2", "logits"),
        ("trouser", ""),
    ],
)
def test_without_that_the_layer_is_read_from_the_name(tmp_path, name, layer):
    write_run(tmp_path / "run", steps=[0], names=[name])
    assert Browser(tmp_path).target(name)["layer"] == layer


def test_long_lists_of_objectives_are_read(tmp_path):
    names = [f"unit {i}" for i in range(200)]
    events = write_run(tmp_path / "run", steps=[0], names=names)
    summaries.write_objectives(events, 0, [(name, f"layer {name}", 1) for name in names])
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [target["layer"] for target in targets] == [f"layer {name}" for name in names]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"objectives": 3}', '{"objectives": [3]}', '{"objectives": [{"name": 1}]}'],
)
def test_nonsense_about_objectives_is_passed_over(tmp_path, text):
    events = write_run(tmp_path / "run")
    events.text(summaries.OBJECTIVES_TAG, -1, text, summaries.OBJECTIVES_PLUGIN)
    assert Browser(tmp_path).target("Neuron#logits_0")["layer"] == "logits"


def test_what_json_has_no_number_for_is_null(tmp_path):
    events = write_run(tmp_path / "run", steps=[0])
    for step, score in enumerate([np.nan, np.inf, 1e-30], start=1):
        write_step(events, step)
        events.scalar(summaries.SCORE_TAG.format(NAMES[0]), step, score)
    assert Browser(tmp_path).target(NAMES[0])["score"] == [0, None, None, 1e-30]


def test_ratios_and_real_images_are_there_where_they_were_logged(tmp_path):
    events = write_run(tmp_path / "run")
    events.scalar(summaries.SCORE_RATIO_TAG.format(NAMES[1]), 1, 1.5)
    summaries.write_examples(events, 1, NAMES[1], np.full((4, 12, 3), 7, "uint8"))
    browser = Browser(tmp_path)
    target = browser.target(NAMES[1])
    assert target["ratio"] == [None, None, 1.5]
    assert target["examples"][:2] == [None, None]
    answer = browser.get("picture", run="run", name=NAMES[1], step=1, kind="examples")
    np.testing.assert_array_equal(Image.open(io.BytesIO(answer.data)), np.full((4, 12, 3), 7))


def test_strips_of_a_whole_run_are_no_targets(tmp_path):
    events = write_run(tmp_path / "run")
    summaries.write_evolution(events, 1, np.zeros((5, 5, 3), "uint8"))
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [target["name"] for target in targets] == NAMES


def test_numbers_of_a_whole_run_are_no_targets(tmp_path):
    write_run(tmp_path / "run").scalar(summaries.IMAGE_TAG.format("anything"), 0, 1.0)
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [target["name"] for target in targets] == NAMES


def test_what_a_real_run_writes_is_read(tmp_path, small_model):
    import keras

    from featviz_callback import FeatureVisCallback, Objective

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


# Reading while it is written


def test_new_frames_appear_and_nothing_is_sent_twice(browser, tmp_path):
    version = browser.json("frames", run="run")["version"]
    assert browser.get("frames", run="run", version=version).status_code == 204
    write_run(tmp_path / "run", steps=[2])
    answer = browser.json("frames", run="run", version=version)
    assert answer["steps"] == [-1, 0, 1, 2]
    assert browser.get("frames", run="run", version=answer["version"]).status_code == 204


def test_of_a_repeated_step_the_later_counts(browser, tmp_path):
    before = browser.target(NAMES[0])
    events = EventFile(tmp_path / "run")
    events.image(summaries.IMAGE_TAG.format(NAMES[0]), 1, np.full((9, 9, 1), 3, "uint8"))
    events.scalar(summaries.SCORE_TAG.format(NAMES[0]), 1, 9.0)
    for reader in (browser, Browser(tmp_path)):
        after = reader.target(NAMES[0])
        assert after["score"] == [-1, 0, 9]
        assert after["key"][:2] == before["key"][:2]
        assert after["key"][2] != before["key"][2]
        answer = reader.get("picture", run="run", name=NAMES[0], step=1)
        assert (np.asarray(Image.open(io.BytesIO(answer.data))) == 3).all()


def test_a_run_that_goes_on_at_an_earlier_step_makes_void_what_it_had(browser, tmp_path):
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]
    events = EventFile(tmp_path / "run")
    for step in (2**62, 0):  # As TensorBoard's own readers understand it.
        events._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
    write_step(events, 0, names=NAMES[:2])
    for reader in (browser, Browser(tmp_path)):
        answer = reader.json("frames", run="run")
        assert answer["steps"] == [-1, 0]
        assert [len(target["score"]) for target in answer["targets"]] == [2, 2, 2]
        assert answer["targets"][2]["key"][1] is None
        assert reader.get("picture", run="run", name=NAMES[0], step=1).status_code == 404


@pytest.mark.parametrize("missing", [1, 4, 5, 60, 115])
def test_a_record_that_is_being_written_waits_until_it_is_whole(tmp_path, missing):
    path = event_file_of(write_run(tmp_path / "run"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-missing])
    browser = Browser(tmp_path)
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]
    version = browser.json("frames", run="run")["version"]
    path.write_bytes(whole)
    write_run(tmp_path / "run", steps=[2])
    assert browser.json("frames", run="run", version=version)["steps"] == [-1, 0, 1, 2]
    assert browser.target(NAMES[2])["drift"] == [None, 0.5, 0.5, 0.5]


def test_a_file_cut_anywhere_gives_the_records_before_the_cut(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0], size=40))
    whole = path.read_bytes()
    ends = [record.end for record in event_records.scan(str(path), 0)]
    assert ends[-1] == len(whole)
    cut = tmp_path / "cut"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        assert [r.end for r in event_records.scan(str(cut), 0)] == [
            end for end in ends if end <= length
        ]


def test_a_damaged_record_is_passed_over(tmp_path):
    path = event_file_of(write_run(tmp_path / "run"))
    data = bytearray(path.read_bytes())
    # After the file's version and the first picture.
    _, _, score, *_ = event_records.scan(str(path), 0)
    data[score.offset + 12 : score.end - 4] = b"\xff" * score.length
    path.write_bytes(data)
    assert Browser(tmp_path).target(NAMES[0])["score"] == [None, 0, 1]


def test_a_damaged_length_ends_a_file_but_not_the_run(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0, 1]))
    data = bytearray(path.read_bytes())
    *_, last = event_records.scan(str(path), 0)
    data[last.offset] ^= 0xFF
    path.write_bytes(data)
    write_run(tmp_path / "run", steps=[5])
    assert Browser(tmp_path).json("frames", run="run")["steps"] == [0, 1, 5]


def test_a_file_that_is_no_event_file_is_passed_over(browser, tmp_path):
    (tmp_path / "run/feature_vis/events.out.tfevents.9.nonsense").write_bytes(os.urandom(5000))
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]


def test_a_file_that_cannot_be_read_is_passed_over(browser, tmp_path):
    (tmp_path / "run/feature_vis/events.out.tfevents.0.folder").mkdir()
    (tmp_path / "run/feature_vis/events.out.tfevents.1.gone").symlink_to(tmp_path / "nowhere")
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]


def test_a_run_that_is_begun_anew_is_forgotten(browser, tmp_path):
    known = browser.json("frames", run="run")
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run", steps=[0], names=["new"])
    answer = browser.json("frames", run="run", version=known["version"])
    assert [target["name"] for target in answer["targets"]] == ["new"]


def test_a_run_that_is_deleted_is_gone(browser, tmp_path):
    shutil.rmtree(tmp_path / "run")
    assert browser.json("index") == {"runs": []}
    assert browser.get("frames", run="run").status_code == 404


def test_pictures_are_neither_read_nor_kept(tmp_path):
    write_run(tmp_path / "run", steps=range(10), names=NAMES[:2], size=500)
    assert event_file(tmp_path / "run").stat().st_size > 4_000_000
    run = logs.RunLog(str(tmp_path / "run/feature_vis"))
    tracemalloc.start()
    run.update()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(run.film(NAMES[0])) == 10
    assert peak < 200_000


def test_fields_in_another_order_are_understood_too(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[4], names=NAMES[:1], size=60))
    [record] = (r for r in event_records.scan(str(path), 0) if not r.whole)
    assert event_records.step_and_tag(record.head) == (4, f"feature_vis/{NAMES[0]}")
    assert event_records.step_and_tag(b"\x10\x04" + record.head) is None
    untrained = write_run(tmp_path / "other", steps=[-1], names=NAMES[:1], size=60)
    [record] = (r for r in event_records.scan(untrained.path, 0) if not r.whole)
    assert event_records.step_and_tag(record.head) == (-1, f"feature_vis/{NAMES[0]}")


# Pictures


@pytest.mark.parametrize("size", [5, 90])
def test_a_picture_is_the_file_that_was_logged(tmp_path, size):
    write_run(tmp_path / "run", size=size)
    for name in NAMES:
        for step in (-1, 0, 1):
            answer = Browser(tmp_path).get("picture", run="run", name=name, step=step)
            assert answer.mimetype == "image/png"
            assert answer.data == pictures.encode_png(picture(name, step, size))


def test_a_picture_can_be_asked_for_before_anything_else(browser):
    assert browser.get("picture", run="run", name=NAMES[0], step=0).status_code == 200


def test_only_a_picture_asked_for_by_its_key_is_kept_by_the_browser(browser):
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


def test_one_damaged_picture_of_several_is_left_out(browser, tmp_path):
    browser.json("frames", run="run")
    place = browser.plugin._runs.found()["run"].find(logs.PICTURES, NAMES[0], 1)
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


def test_a_long_animation_of_large_pictures_leaves_frames_out(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "_MOST_GIF_VALUES", 9 * 9 * 3 * 4)
    write_run(tmp_path / "run", steps=range(20), names=NAMES[:1])
    answer = Browser(tmp_path).get("animation", run="run", name=NAMES[0])
    assert Image.open(io.BytesIO(answer.data)).n_frames == 4


def test_an_animation_keeps_to_one_size(tmp_path):
    write_run(tmp_path / "run", steps=[0, 1], size=9)
    write_run(tmp_path / "run", steps=[2, 3, 4], size=200)
    answer = Browser(tmp_path).get("animation", run="run", name=NAMES[0])
    assert Image.open(io.BytesIO(answer.data)).n_frames == 3


# Errors


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
def test_what_makes_no_sense_is_refused_in_plain_text(browser, route, arguments, code):
    answer = browser.get(route, **arguments)
    assert answer.status_code == code
    assert answer.mimetype == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert not any(str(value) in answer.text for value in arguments.values() if len(str(value)) > 2)


def test_only_reading_is_allowed(browser):
    for route in ("index", "frames", "picture", "static/main.js"):
        assert browser.client.post(f"{PREFIX}/{route}").status_code == 405


def test_a_picture_that_vanished_is_not_found(browser, tmp_path):
    browser.json("frames", run="run")
    event_file(tmp_path / "run").write_bytes(b"")
    assert browser.get("picture", run="run", name=NAMES[0], step=0).status_code == 404


def test_a_picture_that_cannot_be_decoded_makes_no_animation(tmp_path):
    events = EventFile(tmp_path / "run")
    events.encoded_image(summaries.IMAGE_TAG.format("x"), 0, b"no png", (1, 1))
    browser = Browser(tmp_path)
    assert browser.json("frames", run="run")["steps"] == [0]
    assert browser.get("animation", run="run", name="x").status_code == 404


# The page


def test_the_page_is_served_with_types_that_browsers_run(browser):
    folder = Path(plugin.__file__).parent / "static"
    for file in folder.iterdir():
        answer = browser.get(f"static/{file.name}")
        assert answer.data == file.read_bytes()
        expected = {".js": "text/javascript", ".css": "text/css"}[file.suffix]
        assert answer.mimetype == expected
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_tensorboard_s_own_entry_page_loads_it(browser):
    answer = browser.client.get("/data/plugin_entry.html", query_string={"name": "feature_vis"})
    assert "./static/main.js" in answer.text
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]


def test_the_page_needs_nothing_that_is_not_here():
    for file in (Path(plugin.__file__).parent / "static").iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        for forbidden in ("http:", "https:", "//cdn", "innerHTML", "outerHTML", "eval(", "@import"):
            assert forbidden not in text, f"{file.name} has {forbidden}"


def test_tensorboard_finds_the_plugin_by_its_entry_point():
    with open(Path(__file__).parents[2] / "pyproject.toml", "rb") as file:
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
