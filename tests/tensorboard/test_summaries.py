"""Event files, as TensorBoard reads them back."""

import contextlib
import dataclasses
import json
import os
import resource
import shutil

import numpy as np
import pytest

from featviz_callback.records import pictures
from featviz_callback.records.history import History
from featviz_callback.records.result import Result
from featviz_callback.tensorboard import event_file, summaries
from featviz_callback.tensorboard.summaries import (
    STATUSES,
    EventFile,
    read_snapshots,
    write_animation,
    write_costs,
    write_evolution,
    write_objectives,
    write_snapshot,
)
from tests.conftest import accumulator, random_images, read_events

NAMES = ["Neuron#logits_0", "<script>&", "Kanal#größe_1"]


def look(epoch, channels=1):
    return Result(
        images=random_images(3, 7, 5, channels, seed=epoch + 1),
        names=NAMES,
        scores=np.array([0.5, -2.0, epoch], "float32"),
        history=np.zeros((2, 3), "float32"),
        status=["ok", "dead", "saturated"],
        values_range=(0.0, 1.0),
    )


RATIO = np.array([0.5, np.nan, 2.0], "float32")
FLOOR = np.array([0.25, 0.5, 1.0], "float32")


def write(folder, epochs, channels=1):
    """Writes looks, the first with a floor, and returns them."""
    events, history = EventFile(folder), History()
    looks = []
    for epoch in epochs:
        floor = None if looks else FLOOR
        looks.append(history.add(epoch, look(epoch, channels), 0.25, floor, RATIO))
        write_snapshot(events, looks[-1])
        write_costs(events, epoch, 0.25, 0.125, 0.0 if len(looks) > 1 else 1.5)
    return looks


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_each_target_has_one_tag_with_its_picture_at_every_step(tmp_path, channels):
    write(tmp_path, [-1, 0, 1], channels)
    images, _ = read_events(tmp_path / "feature_vis")
    assert set(images) == {f"feature_vis/{name}" for name in NAMES}
    for i, name in enumerate(NAMES):
        assert [step for step, _ in images[f"feature_vis/{name}"]] == [-1, 0, 1]
        for step, picture in images[f"feature_vis/{name}"]:
            expected = pictures.to_uint8(look(step, channels).images[i], (0, 1))
            np.testing.assert_array_equal(picture.reshape(expected.shape), expected)


def test_what_is_known_of_a_look_are_scalars_and_what_is_not_is_left_out(tmp_path):
    looks = write(tmp_path, [-1, 0, 1])
    _, scalars = read_events(tmp_path / "feature_vis")
    expected = {
        "feature_vis/seconds": [(-1, 0.25), (0, 0.25), (1, 0.25)],
        "feature_vis/share": [(-1, 0.125), (0, 0.125), (1, 0.125)],
        "feature_vis/compile_seconds": [(-1, 1.5)],
        "feature_vis/dead": [(step, pytest.approx(1 / 3)) for step in (-1, 0, 1)],
    }
    for i, name in enumerate(NAMES):
        status = STATUSES.index(look(0).status[i])
        expected |= {
            f"feature_vis_score/{name}": [(one.epoch, one.scores[i]) for one in looks],
            f"feature_vis_status/{name}": [(one.epoch, status) for one in looks],
            f"feature_vis_drift/{name}": [(one.epoch, one.drift[i]) for one in looks[1:]],
            f"feature_vis_drift_floor/{name}": [(-1, FLOOR[i])],
        }
        if i != 1:
            expected[f"feature_vis_score_ratio/{name}"] = [(step, RATIO[i]) for step in (-1, 0, 1)]
    assert scalars == expected


def test_nothing_is_dropped_of_many_steps(tmp_path):
    write(tmp_path, range(60))
    images, _ = read_events(tmp_path / "feature_vis")
    assert all([step for step, _ in series] == list(range(60)) for series in images.values())


def test_descriptions_say_score_and_status_and_escape_names(tmp_path):
    write(tmp_path, [-1])
    reader = accumulator(tmp_path / "feature_vis")
    texts = {n: reader.SummaryMetadata(f"feature_vis/{n}").summary_description for n in NAMES}
    assert "ok" in texts[NAMES[0]]
    assert "0.5" in texts[NAMES[0]]
    assert "dead" in texts[NAMES[1]]
    assert "&lt;script&gt;&amp;" in texts[NAMES[1]]
    assert "<" not in texts[NAMES[1]]
    assert "feature_vis_status/&lt;script&gt;&amp;: 0 ok, 1 dead, 2 saturated" in texts[NAMES[1]]


def test_the_evolution_is_one_picture(tmp_path):
    strip = np.random.default_rng(0).integers(0, 256, (9, 30, 3), "uint8")
    write_evolution(EventFile(tmp_path), 11, strip)
    images, scalars = read_events(tmp_path / "feature_vis")
    assert not scalars
    [(step, picture)] = images["feature_vis/evolution"]
    assert step == 11
    np.testing.assert_array_equal(picture, strip)


def test_the_animation_is_kept_as_it_is(tmp_path):
    gif = pictures.encode_gif([np.full((6, 8, 3), 100 * i, "uint8") for i in range(3)])
    write_animation(EventFile(tmp_path), 11, gif)
    [event] = accumulator(tmp_path / "feature_vis").Tensors("feature_vis/animation")
    width, height, encoded = event.tensor_proto.string_val
    assert (event.step, width, height, encoded) == (11, b"8", b"6", gif)


def test_what_the_targets_are_can_be_read_by_the_plugin(tmp_path):
    write_objectives(EventFile(tmp_path), -1, [("<a>", "backbone/conv", 3), ("é", "b", None)])
    reader = accumulator(tmp_path / "feature_vis")
    [event] = reader.Tensors("feature_vis/objectives")
    assert reader.SummaryMetadata("feature_vis/objectives").plugin_data.plugin_name == "feature_vis"
    assert event.step == -1
    assert json.loads(event.tensor_proto.string_val[0]) == {
        "version": 1,
        "objectives": [
            {"name": "<a>", "layer": "backbone/conv", "order": 3},
            {"name": "é", "layer": "b", "order": None},
        ],
    }


def test_every_record_can_be_read_as_soon_as_it_is_written(tmp_path):
    events = EventFile(tmp_path)
    for step in range(3):
        events.scalar("loss", step, step / 2)
        assert read_events(tmp_path / "feature_vis")[1]["loss"][-1] == (step, step / 2)


def test_two_files_of_one_folder_are_both_read(tmp_path):
    for step in (0, 1):
        EventFile(tmp_path).scalar("loss", step, 1.0)
    from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

    assert len(list((tmp_path / "feature_vis").iterdir())) == 2
    reader = EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(tmp_path))
    reader.Reload()
    assert {event.step for event in reader.Tensors("feature_vis", "loss")} <= {0, 1}


def test_no_file_is_made_before_the_first_record(tmp_path):
    EventFile(tmp_path)
    assert not list((tmp_path / "feature_vis").iterdir())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="`log_dir`"):
        EventFile(tmp_path / "file")


# --- what does not go as it should ------------------------------------------------------


def file_of(folder):
    [path] = (folder / "feature_vis").iterdir()
    return path


def limited(path, more):
    """A block in which files cannot grow beyond the size of one, and a little more."""

    @contextlib.contextmanager
    def limit():
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit()


@pytest.mark.parametrize("more", [0, 5, 40])
def test_half_a_record_is_cut_off_so_that_the_next_ones_can_be_read(tmp_path, more):
    events = EventFile(tmp_path)
    events.scalar("loss", 0, 1.0)
    with limited(file_of(tmp_path), more), pytest.raises(OSError, match="large"):
        events.scalar("loss", 1, 1.0)
    events.scalar("loss", 2, 1.0)
    assert [step for step, _ in read_events(tmp_path / "feature_vis")[1]["loss"]] == [0, 2]
    assert file_of(tmp_path)


def test_a_file_whose_first_record_fails_is_not_left_behind(tmp_path):
    events = EventFile(tmp_path)
    (tmp_path / "none").touch()
    with limited(tmp_path / "none", 3), pytest.raises(OSError, match="large"):
        events.scalar("loss", 0, 1.0)
    assert not list((tmp_path / "feature_vis").iterdir())
    events.scalar("loss", 1, 1.0)
    assert read_events(tmp_path / "feature_vis")[1]["loss"] == [(1, 1.0)]


def test_a_folder_that_is_gone_is_made_anew(tmp_path):
    events = EventFile(tmp_path / "logs")
    events.scalar("loss", 0, 1.0)
    shutil.rmtree(tmp_path / "logs")
    events.scalar("loss", 1, 1.0)
    assert read_events(tmp_path / "logs/feature_vis")[1]["loss"] == [(1, 1.0)]


@pytest.mark.parametrize("cut", [1, 4, 11, 60])
def test_what_was_written_before_half_a_record_is_read(tmp_path, cut):
    write(tmp_path, [-1, 0, 1])
    path = file_of(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    images, scalars = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in images[f"feature_vis/{NAMES[2]}"]] == [-1, 0, 1]
    assert [step for step, _ in scalars["feature_vis/seconds"]][:2] == [-1, 0]


# --- looks of earlier processes ---------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_looks_are_read_back_as_they_were_written(tmp_path, channels):
    written = write(tmp_path, [-1, 0, 1], channels)
    found = list(read_snapshots(tmp_path, NAMES, (0.0, 1.0)))
    assert [one.epoch for one in found] == [-1, 0, 1]
    for one, other in zip(found, written, strict=True):
        np.testing.assert_allclose(one.images, other.images, atol=0.5 / 255 + 1e-6)
        assert (one.names, one.status, one.seconds) == (other.names, other.status, other.seconds)
        for name in ("scores", "drift", "noise_floor", "score_ratio"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_looks_at_other_targets_or_cut_short_are_left_out(tmp_path):
    write(tmp_path, [-1, 0])
    assert not list(read_snapshots(tmp_path, [*NAMES, "another"], (0.0, 1.0)))
    path = file_of(tmp_path)
    os.truncate(path, path.stat().st_size * 3 // 5)
    assert [one.epoch for one in read_snapshots(tmp_path, NAMES, (0.0, 1.0))] == [-1]


def test_values_are_read_back_in_their_range(tmp_path):
    history, events = History(), EventFile(tmp_path)
    result = dataclasses.replace(look(0), images=look(0).images * 2 - 1, values_range=(-1.0, 1.0))
    write_snapshot(events, history.add(0, result))
    [found] = read_snapshots(tmp_path, NAMES, (-1.0, 1.0))
    np.testing.assert_allclose(found.images, result.images, atol=1 / 255 + 1e-6)


def test_where_nothing_was_written_there_is_nothing_to_read(tmp_path):
    assert not list(read_snapshots(tmp_path / "nowhere", NAMES, (0.0, 1.0)))


def test_a_restart_voids_what_was_written_of_its_step_and_later(tmp_path):
    write(tmp_path, [-1, 0, 1, 2])
    events = EventFile(tmp_path)
    events.restart(1)
    events.scalar("feature_vis/seconds", 1, 7.0)
    _, scalars = read_events(tmp_path / "feature_vis")
    assert scalars["feature_vis/seconds"] == [(-1, 0.25), (0, 0.25), (1, 7.0)]


def test_every_tag_is_described():
    module = summaries
    tags = [value for name, value in vars(module).items() if name.endswith("_TAG")]
    assert len(tags) > 5
    assert [tag for tag in tags if f"`{tag.format('<name>')}`" not in module.__doc__] == []


def test_keras_is_not_needed_to_write():
    assert not {"keras", "tensorflow"} & {*vars(summaries), *vars(event_file)}


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = EventFile(None)
    events.scalar("a", 0, 1.0)
    events.image("b", 0, np.zeros((2, 2, 1), "uint8"))
    assert events.path is None
    assert list(tmp_path.iterdir()) == []
