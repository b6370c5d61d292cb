"""The log of a run, complete, while it is being written, and damaged."""

import io
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from featviz_callback.tensorboard import summaries
from featviz_callback.tensorboard.event_file import EventFile
from featviz_callback.tensorboard.plugin import event_records, logs
from featviz_callback.tensorboard.plugin.contents import PICTURES
from tests.tensorboard import make_logs
from tests.tensorboard.conftest import event_file_in
from tests.tensorboard.plugin.conftest import (
    NAMES,
    Browser,
    event_file_of,
    write_run,
    write_step,
)


def test_frames_have_every_step_of_every_target(browser):
    answer = browser.json("frames", run="run")
    assert answer["steps"] == [-1, 0, 1]
    assert [target["name"] for target in answer["targets"]] == NAMES
    for i, target in enumerate(answer["targets"]):
        assert target["score"] == pytest.approx([step + i / 10 for step in (-1, 0, 1)])
        assert target["drift"] == [None, 0.5, 0.5]
        assert target["status"] == [i, i, i]
        assert len(set(target["key"])) == 3
        assert "ratio" not in target


def test_all_of_many_steps_are_kept(tmp_path):
    write_run(tmp_path, steps=range(60), names=NAMES[:1])
    assert Browser(tmp_path).json("frames", run=".")["steps"] == list(range(60))


def test_layers_and_their_order_are_read_from_the_log(tmp_path):
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
def test_a_layer_that_was_not_logged_is_read_from_the_name(tmp_path, name, layer):
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
    [
        "[" * 200_000,
        '{"objectives":' * 100_000,
        "",
        "{",
        "[]",
        '{"objectives": 3}',
        '{"objectives": [3]}',
        '{"objectives": [{"name": 1}]}',
    ],
)
def test_malformed_objectives_are_ignored(tmp_path, text):
    events = write_run(tmp_path / "run")
    events.text(summaries.OBJECTIVES_TAG, -1, text, summaries.OBJECTIVES_PLUGIN)
    assert Browser(tmp_path).target("Neuron#logits_0")["layer"] == "logits"


def test_numbers_that_json_cannot_hold_are_null(tmp_path):
    events = write_run(tmp_path / "run", steps=[0])
    for step, score in enumerate([np.nan, np.inf, 1e-30], start=1):
        write_step(events, step)
        events.scalar(summaries.SCORE_TAG.format(NAMES[0]), step, score)
    assert Browser(tmp_path).target(NAMES[0])["score"] == [0, None, None, 1e-30]


def test_ratios_and_real_images_are_read_at_the_steps_that_have_them(tmp_path):
    events = write_run(tmp_path / "run")
    events.scalar(summaries.SCORE_RATIO_TAG.format(NAMES[1]), 1, 1.5)
    summaries.write_examples(events, 1, NAMES[1], np.full((4, 12, 3), 7, "uint8"))
    browser = Browser(tmp_path)
    target = browser.target(NAMES[1])
    assert target["ratio"] == [None, None, 1.5]
    assert target["examples"][:2] == [None, None]
    answer = browser.get("picture", run="run", name=NAMES[1], step=1, kind="examples")
    np.testing.assert_array_equal(Image.open(io.BytesIO(answer.data)), np.full((4, 12), 7))


def test_the_strip_of_a_run_is_no_target(tmp_path):
    events = write_run(tmp_path / "run")
    summaries.write_evolution(events, 1, np.zeros((5, 5, 3), "uint8"))
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [target["name"] for target in targets] == NAMES


def test_the_numbers_of_a_run_are_no_targets(tmp_path):
    write_run(tmp_path / "run").scalar(summaries.IMAGE_TAG.format("anything"), 0, 1.0)
    targets = Browser(tmp_path).json("frames", run="run")["targets"]
    assert [target["name"] for target in targets] == NAMES


def test_a_long_log_is_read_in_parts(tmp_path, monkeypatch):
    write_run(tmp_path / "run", steps=range(10))
    browser = Browser(tmp_path)
    whole = browser.json("frames", run="run")
    run = logs.RunLog([str(event_file_in(tmp_path / "run"))])
    answers = 0
    while not run.is_read:
        run.update(patience=0)
        answers += 1
    found = json.loads(run.frames())
    assert answers > 10
    assert found["read"]
    assert {**found, "version": 0} == {**whole, "version": 0}


def test_numbers_of_layers_are_read(tmp_path):
    events = write_run(tmp_path / "run")
    summaries.write_objectives(events, -1, [(NAMES[0], "conv", 3)])
    for step in (0, 1):
        events.scalar("feature_vis_layer_dead/conv", step, step / 4)
        events.scalar("feature_vis_layer_update_ratio/block/conv", step, 0.001)
    layers = Browser(tmp_path).json("frames", run="run")["layers"]
    assert layers["steps"] == [0, 1]
    assert layers["rows"] == [
        {"layer": "conv", "order": 3, "histograms": False, "dead": [0, 0.25]},
        {
            "layer": "block/conv",
            "order": None,
            "histograms": False,
            "update_ratio": [0.001, 0.001],
        },
    ]


def write_numbers(events, step, count):
    """Write a record of numbers of many targets and layers, as the callback does."""
    of_targets = {f"feature_vis_functional_drift/{name}": i / 4 for i, name in enumerate(NAMES)}
    of_targets |= {f"feature_vis_selectivity/{name}": i / 8 for i, name in enumerate(NAMES)}
    events.many(step, of_targets)
    events.many(
        step,
        {
            f"feature_vis_layer_{kind}/layer {i}": i / count
            for kind in ("dead", "dormant")
            for i in range(count)
        },
    )


@pytest.mark.parametrize("count", [2, 300])
def test_one_record_may_have_the_numbers_of_all_targets_or_layers(tmp_path, count):
    write_numbers(write_run(tmp_path / "run"), 1, count)
    browser = Browser(tmp_path)
    answer = browser.json("frames", run="run")
    assert answer["damaged"] == []
    assert [t["functional"] for t in answer["targets"]] == [[None, None, i / 4] for i in range(3)]
    assert [t["selectivity"][2] for t in answer["targets"]] == [0, 1 / 8, 1 / 4]
    rows = answer["layers"]["rows"]
    assert [row["layer"] for row in rows] == [f"layer {i}" for i in range(count)]
    expected = [pytest.approx([i / count], abs=1e-6) for i in range(count)]
    assert [row["dead"] for row in rows] == expected
    assert [row["dormant"] for row in rows] == expected


def test_a_long_record_of_numbers_that_is_damaged_is_left_out_and_told(tmp_path):
    events = write_run(tmp_path / "run")
    write_numbers(events, 1, 300)
    path = event_file_of(events)
    data = bytearray(path.read_bytes())
    # The last number of the last record, which its checksum follows.
    data[-8] ^= 1
    path.write_bytes(data)
    answer = Browser(tmp_path).json("frames", run="run")
    assert answer["layers"]["rows"] == []
    [damage] = answer["damaged"]
    assert damage["file"] == path.name
    assert damage["offset"] + damage["bytes"] == len(data)


def test_new_frames_appear_and_nothing_is_sent_twice(browser, tmp_path):
    version = browser.json("frames", run="run")["version"]
    assert browser.get("frames", run="run", version=version).status_code == 204
    write_run(tmp_path / "run", steps=[2])
    answer = browser.json("frames", run="run", version=version)
    assert answer["steps"] == [-1, 0, 1, 2]
    assert browser.get("frames", run="run", version=answer["version"]).status_code == 204


def test_the_later_record_of_a_repeated_step_counts(browser, tmp_path):
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


def test_a_run_resumed_at_an_earlier_step_voids_its_later_records(browser, tmp_path):
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]
    events = EventFile(tmp_path / "run")
    for step in (2**62, 0):  # The form that TensorBoard's own readers expect.
        events._write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))
    write_step(events, 0, names=NAMES[:2])
    for reader in (browser, Browser(tmp_path)):
        answer = reader.json("frames", run="run")
        assert answer["steps"] == [-1, 0]
        assert [len(target["score"]) for target in answer["targets"]] == [2, 2, 2]
        assert answer["targets"][2]["key"][1] is None
        assert reader.get("picture", run="run", name=NAMES[0], step=1).status_code == 404


@pytest.mark.parametrize("missing", [1, 4, 5, 60, 115])
def test_an_incomplete_record_is_read_once_it_is_complete(tmp_path, missing):
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


def test_a_damaged_record_is_left_out_and_told(tmp_path):
    path = event_file_of(write_run(tmp_path / "run"))
    data = bytearray(path.read_bytes())
    # The score follows the file's version and the first picture.
    _, _, score, *_ = event_records.scan(str(path), 0)
    data[score.offset + 12 : score.end - 4] = b"\xff" * score.length
    path.write_bytes(data)
    browser = Browser(tmp_path)
    assert browser.target(NAMES[0])["score"] == [None, 0, 1]
    [told] = browser.json("frames", run="run")["damaged"]
    assert told == {"file": path.name, "offset": score.offset, "bytes": score.end - score.offset}


def test_a_damaged_length_ends_a_file_but_not_the_run(tmp_path):
    path = event_file_of(write_run(tmp_path / "run", steps=[0, 1]))
    data = bytearray(path.read_bytes())
    *_, last = event_records.scan(str(path), 0)
    data[last.offset] ^= 0xFF
    path.write_bytes(data)
    write_run(tmp_path / "run", steps=[5])
    assert Browser(tmp_path).json("frames", run="run")["steps"] == [0, 1, 5]


def test_a_file_that_is_no_event_file_is_ignored(browser, tmp_path):
    (tmp_path / "run/feature_vis/events.out.tfevents.9.nonsense").write_bytes(os.urandom(5000))
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]


def test_a_file_that_cannot_be_read_is_ignored(browser, tmp_path):
    (tmp_path / "run/feature_vis/events.out.tfevents.0.folder").mkdir()
    (tmp_path / "run/feature_vis/events.out.tfevents.1.gone").symlink_to(tmp_path / "nowhere")
    assert browser.json("frames", run="run")["steps"] == [-1, 0, 1]


def test_a_run_that_was_replaced_is_read_again(browser, tmp_path):
    known = browser.json("frames", run="run")
    shutil.rmtree(tmp_path / "run")
    write_run(tmp_path / "run", steps=[0], names=["new"])
    answer = browser.json("frames", run="run", version=known["version"])
    assert [target["name"] for target in answer["targets"]] == ["new"]


def test_the_pictures_of_a_run_are_not_read_into_memory(tmp_path):
    write_run(tmp_path / "run", steps=range(10), names=NAMES[:2], size=500)
    assert event_file_in(tmp_path / "run").stat().st_size > 4_000_000
    run = logs.RunLog([str(event_file_in(tmp_path / "run"))])
    tracemalloc.start()
    run.update()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(run.look(lambda found: found.film(PICTURES, NAMES[0]))) == 10
    assert peak < 200_000


def test_more_layers_than_any_network_has_are_not_kept(tmp_path):
    events = write_run(tmp_path / "run", steps=[0])
    write_numbers(events, 0, 30_000)
    answer = Browser(tmp_path).json("frames", run="run")
    assert len(answer["layers"]["rows"]) == 10_000
    assert len(answer["damaged"]) == 1
    assert len(answer["targets"]) == len(NAMES)


def test_a_name_too_long_for_any_page_is_told_and_left_out(tmp_path):
    long = "Neuron#" + "x" * 100_000
    write_run(tmp_path / "run", steps=[0], names=[*NAMES, long])
    answer = Browser(tmp_path).json("frames", run="run")
    assert [target["name"] for target in answer["targets"]] == NAMES
    assert answer["damaged"]
    assert len(json.dumps(answer)) < 20_000


def test_targets_of_few_steps_are_described_without_the_others(tmp_path):
    events = make_logs.write_sparse(tmp_path / "run", targets=300)
    for step in range(300):
        make_logs.write_target(events, "Channel#dense_0", step, 0.5)
    run = logs.RunLog([events.path])
    run.read_all()
    answer = json.loads(run.frames())
    targets = {target["name"]: target for target in answer["targets"]}
    assert len(answer["steps"]) == 300
    for i in (0, 7, 299):
        one = targets[f"Channel#conv_{i}"]
        assert (one["at"], one["score"], len(one["key"])) == ([i], [1.0 + i], 1)
    assert "at" not in targets["Channel#dense_0"]
    assert targets["Channel#dense_0"]["score"] == [0.5] * 300
    rows = {row["layer"]: row for row in answer["layers"]["rows"]}
    assert (rows["conv7"]["at"], rows["conv7"]["dead"]) == ([7], [pytest.approx(7 / 300, rel=1e-5)])
    # Three hundred times three hundred nulls would take half a megabyte a series.
    assert len(run.frames()) < 120_000


def test_no_number_of_a_layer_takes_the_place_of_its_name(tmp_path):
    events = EventFile(tmp_path / "run")
    kinds = ("layer", "order", "histograms", "at", "dead")
    events.many(0, {f"feature_vis_layer_{kind}/conv": 0.5 for kind in kinds})
    run = logs.RunLog([events.path])
    run.read_all()
    [row] = json.loads(run.frames())["layers"]["rows"]
    assert row == {"layer": "conv", "order": None, "histograms": False, "dead": [0.5]}
