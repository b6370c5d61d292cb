"""The tags of the event files, as TensorBoard and `read_snapshots` read them back."""

import dataclasses
import json
import os

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
from tests.tensorboard.conftest import event_file_in

NAMES = ["Neuron#logits_0", "<script>&", "Kanal#größe_1"]


def make_result(epoch, channels=1):
    return Result(
        images=random_images(3, 7, 5, channels, seed=epoch + 1),
        names=NAMES,
        scores=np.array([0.5, -2.0, epoch], "float32"),
        history=np.zeros((2, 3), "float32"),
        status=["ok", "dead", "saturated"],
        values_range=(0.0, 1.0),
        starts=["faint noise", "noise 3 1.5 0", f"plain {epoch + 1}, relaxed"],
    )


RATIO = np.array([0.5, np.nan, 2.0], "float32")
NOISE_FLOOR = np.array([0.25, 0.5, 1.0], "float32")


def write(folder, epochs, channels=1):
    """Write snapshots, the first with a noise floor, and return them."""
    events, history = EventFile(folder), History()
    snapshots = []
    for epoch in epochs:
        noise_floor = None if snapshots else NOISE_FLOOR
        snapshots.append(history.add(epoch, make_result(epoch, channels), 0.25, noise_floor, RATIO))
        write_snapshot(events, snapshots[-1], with_real_images=True)
        write_costs(events, epoch, 0.25, 0.125, 0.0 if len(snapshots) > 1 else 1.5)
    return snapshots


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_each_target_has_one_tag_with_its_picture_at_every_step(tmp_path, channels):
    write(tmp_path, [-1, 0, 1], channels)
    images, _ = read_events(tmp_path / "feature_vis")
    assert set(images) == {f"feature_vis/{name}" for name in NAMES}
    for i, name in enumerate(NAMES):
        assert [step for step, _ in images[f"feature_vis/{name}"]] == [-1, 0, 1]
        for step, picture in images[f"feature_vis/{name}"]:
            expected = pictures.to_uint8(make_result(step, channels).images[i], (0, 1))
            np.testing.assert_array_equal(picture.reshape(expected.shape), expected)


def test_finite_numbers_are_written_as_scalars_and_others_are_left_out(tmp_path):
    snapshots = write(tmp_path, [-1, 0, 1])
    _, scalars = read_events(tmp_path / "feature_vis")
    expected = {
        "feature_vis/seconds": [(-1, 0.25), (0, 0.25), (1, 0.25)],
        "feature_vis/share": [(-1, 0.125), (0, 0.125), (1, 0.125)],
        "feature_vis/compile_seconds": [(-1, 1.5)],
        "feature_vis/dead": [(step, pytest.approx(1 / 3)) for step in (-1, 0, 1)],
    }
    for i, name in enumerate(NAMES):
        status = STATUSES.index(make_result(0).status[i])
        expected |= {
            f"feature_vis_score/{name}": [(one.epoch, one.scores[i]) for one in snapshots],
            f"feature_vis_status/{name}": [(one.epoch, status) for one in snapshots],
            f"feature_vis_drift/{name}": [(one.epoch, one.drift[i]) for one in snapshots[1:]],
            f"feature_vis_drift_floor/{name}": [(-1, NOISE_FLOOR[i])],
        }
        if i != 1:
            expected[f"feature_vis_score_ratio/{name}"] = [(step, RATIO[i]) for step in (-1, 0, 1)]
    assert scalars == expected


@pytest.mark.parametrize("with_real_images", [False, True])
@pytest.mark.parametrize("ratio", [None, RATIO], ids=["unknown", "known"])
def test_only_real_images_tell_the_share_of_the_dead(ratio, with_real_images, tmp_path):
    snapshot = History().add(0, make_result(0), score_ratio=ratio)
    write_snapshot(EventFile(tmp_path), snapshot, with_real_images)
    _, scalars = read_events(tmp_path / "feature_vis")
    expected = [(0, pytest.approx(1 / 3))] if with_real_images else None
    assert scalars.get("feature_vis/dead") == expected


def test_numbers_of_a_status_are_those_of_earlier_logs(tmp_path):
    """New ones come after the old ones, or old logs would change their meaning."""
    numbers = {
        "ok": 0, "dead": 1, "saturated": 2, "nan": 3, "weak": 4, "no_gradient": 5, "constant": 6,
    }  # fmt: skip
    assert list(STATUSES) == list(numbers)
    for epoch, word in enumerate(numbers):
        result = dataclasses.replace(make_result(epoch), status=[word, "ok", word])
        write_snapshot(EventFile(tmp_path), History().add(epoch, result))
    _, scalars = read_events(tmp_path / "feature_vis")
    for name, expected in zip(NAMES, (numbers.values(), [0] * 7, numbers.values()), strict=True):
        assert scalars[f"feature_vis_status/{name}"] == list(enumerate(expected))
    found = [one.status for one in read_snapshots(tmp_path, NAMES, (0.0, 1.0))]
    assert found == [[word, "ok", word] for word in numbers]


def test_all_of_many_steps_are_read(tmp_path):
    write(tmp_path, range(60))
    images, _ = read_events(tmp_path / "feature_vis")
    assert all([step for step, _ in series] == list(range(60)) for series in images.values())


def test_descriptions_tell_score_and_status_and_escape_names(tmp_path):
    write(tmp_path, [-1])
    reader = accumulator(tmp_path / "feature_vis")
    texts = {n: reader.SummaryMetadata(f"feature_vis/{n}").summary_description for n in NAMES}
    assert "ok" in texts[NAMES[0]]
    assert "0.5" in texts[NAMES[0]]
    assert "dead" in texts[NAMES[1]]
    assert "&lt;script&gt;&amp;" in texts[NAMES[1]]
    assert "<" not in texts[NAMES[1]]
    assert texts[NAMES[1]].endswith(
        "feature_vis_status/&lt;script&gt;&amp;: 0 ok, 1 dead, 2 saturated, 3 nan, 4 weak, "
        "5 no_gradient, 6 constant."
    )


def test_descriptions_tell_the_ratio_and_the_start(tmp_path):
    write(tmp_path, [-1])
    reader = accumulator(tmp_path / "feature_vis")
    texts = [reader.SummaryMetadata(f"feature_vis/{n}").summary_description for n in NAMES]
    said = [
        "ok, score 0.5, 0.5 times that of the best real image at step -1. Begun from faint noise.",
        "dead, score -2 at step -1. Begun from noise 3 1.5 0.",
        "saturated, score -1, 2 times that of the best real image at step -1. Begun from plain 0, "
        "relaxed.",
    ]
    for text, part in zip(texts, said, strict=True):
        assert f": {part} Its status" in text


def test_a_description_calls_no_weak_picture_as_good_as_the_best_real_image(tmp_path):
    result = dataclasses.replace(make_result(0), status=["weak", "weak", "ok"])
    ratio = np.array([0.9996, 0.75, 0.99999], "float32")
    write_snapshot(EventFile(tmp_path), History().add(0, result, score_ratio=ratio), True)
    reader = accumulator(tmp_path / "feature_vis")
    for name, said in zip(NAMES, ("0.999", "0.75", "1"), strict=True):
        text = reader.SummaryMetadata(f"feature_vis/{name}").summary_description
        assert f", {said} times that of the best real image" in text


def test_the_evolution_is_one_picture(tmp_path):
    strip = np.random.default_rng(0).integers(0, 256, (9, 30, 3), "uint8")
    write_evolution(EventFile(tmp_path), 11, strip)
    images, scalars = read_events(tmp_path / "feature_vis")
    assert not scalars
    [(step, picture)] = images["feature_vis/evolution"]
    assert step == 11
    np.testing.assert_array_equal(picture, strip)


def test_real_images_have_a_tag_for_each_rank_and_their_place_another(tmp_path):
    real, place = (255 * random_images(2, 6, 5, 3)).astype("uint8")
    with_and_without = [(real, place), (real[::-1], None)]
    events = event_file.EventFile(tmp_path)
    summaries.write_real_images(events, 7, NAMES[1], with_and_without)
    images, _ = read_events(tmp_path / "feature_vis")
    assert sorted(images) == [
        f"feature_vis_place/{NAMES[1]}/0",
        f"feature_vis_real/{NAMES[1]}/0",
        f"feature_vis_real/{NAMES[1]}/1",
    ]
    for tag, expected in zip(sorted(images), (place, real, real[::-1]), strict=True):
        [(step, picture)] = images[tag]
        assert step == 7
        np.testing.assert_array_equal(picture, expected)
    metadata = accumulator(tmp_path / "feature_vis").SummaryMetadata(sorted(images)[1])
    assert "&lt;script&gt;" in metadata.summary_description
    summaries.write_real_images(events, 8, "unit", [(real, None)], ["score 2 at epoch 8, <b>"])
    tag = "feature_vis_real/unit/0"
    said = accumulator(tmp_path / "feature_vis").SummaryMetadata(tag).summary_description
    assert said == "score 2 at epoch 8, &lt;b&gt;: a real image that activates unit."


def test_examples_are_written_as_they_are_grey_ones_in_one_channel(tmp_path):
    events = event_file.EventFile(tmp_path)
    colours = (255 * random_images(6, 5, 3)).astype("uint8")
    grey = np.repeat(colours[..., :1], 3, axis=-1)
    for step, picture in enumerate((colours, grey)):
        summaries.write_examples(events, step, "unit", picture)
    images, _ = read_events(tmp_path / "feature_vis")
    (_, first), (_, second) = images["feature_vis_examples/unit"]
    np.testing.assert_array_equal(first, colours)
    np.testing.assert_array_equal(second, grey[..., 0])


def test_the_animation_is_written_unchanged(tmp_path):
    gif = pictures.encode_gif([np.full((6, 8, 3), 100 * i, "uint8") for i in range(3)])
    write_animation(EventFile(tmp_path), 11, gif)
    [event] = accumulator(tmp_path / "feature_vis").Tensors("feature_vis/animation")
    width, height, encoded = event.tensor_proto.string_val
    assert (event.step, width, height, encoded) == (11, b"8", b"6", gif)


def test_the_objectives_are_written_for_the_plugin(tmp_path):
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


@pytest.mark.parametrize("cut", [1, 4, 11, 60])
def test_records_before_an_incomplete_one_are_read(tmp_path, cut):
    write(tmp_path, [-1, 0, 1])
    path = event_file_in(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    images, scalars = read_events(tmp_path / "feature_vis")
    assert [step for step, _ in images[f"feature_vis/{NAMES[2]}"]] == [-1, 0, 1]
    assert [step for step, _ in scalars["feature_vis/seconds"]][:2] == [-1, 0]


@pytest.mark.parametrize("at", [0, 8, 40], ids=["length", "its checksum", "data"])
def test_a_damaged_record_is_told_of_with_its_place(tmp_path, caplog, at):
    write(tmp_path, [-1, 0, 1])
    path = event_file_in(tmp_path)
    data, offsets = bytearray(path.read_bytes()), [0]
    while offsets[-1] < len(data):
        length = int.from_bytes(data[offsets[-1] :][:8], "little")
        offsets.append(offsets[-1] + 16 + length)
    place = offsets[len(offsets) // 2]
    data[place + at] ^= 1
    path.write_bytes(data)
    with caplog.at_level("WARNING", "featviz_callback"):
        found = [one.epoch for one in read_snapshots(tmp_path, NAMES, (0.0, 1.0))]
    assert found == [-1]
    assert f"damaged at byte {place}" in caplog.text


@pytest.mark.parametrize("cut", [1, 11, 60])
def test_an_incomplete_record_is_no_damage(tmp_path, caplog, cut):
    write(tmp_path, [-1, 0])
    path = event_file_in(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    with caplog.at_level("WARNING", "featviz_callback"):
        assert list(read_snapshots(tmp_path, NAMES, (0.0, 1.0)))
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("channels", [1, 3])
def test_snapshots_are_read_back_as_they_were_written(tmp_path, channels):
    written = write(tmp_path, [-1, 0, 1], channels)
    found = list(read_snapshots(tmp_path, NAMES, (0.0, 1.0)))
    assert [one.epoch for one in found] == [-1, 0, 1]
    for one, other in zip(found, written, strict=True):
        np.testing.assert_allclose(one.images, other.images, atol=0.5 / 255 + 1e-6)
        for name in ("names", "status", "seconds", "starts", "best_class"):
            assert getattr(one, name) == getattr(other, name)
        for name in ("scores", "drift", "noise_floor", "score_ratio"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


START = "noise 3 1.5 0"


@pytest.mark.parametrize("start", ["", START, f"{START}, relaxed", "<b>&amp;. Its"])
def test_a_start_is_read_back_at_each_step(start, tmp_path):
    starts = [[START, start, ""], [start, "plain 3", start]]
    events, history = EventFile(tmp_path), History()
    for epoch, some in enumerate(starts):
        result = dataclasses.replace(make_result(epoch), starts=some)
        write_snapshot(events, history.add(epoch, result))
    found = list(read_snapshots(tmp_path, NAMES, (0.0, 1.0)))
    assert [one.starts for one in found] == starts


def test_logs_of_the_time_before_starts_are_read(tmp_path):
    """Written record by record, as the first version wrote them."""
    snapshot = History().add(2, make_result(2), noise_floor=NOISE_FLOOR, score_ratio=RATIO)
    events = EventFile(tmp_path)
    for i, name in enumerate(NAMES):
        text = (
            f"name: {snapshot.status[i]}, score {snapshot.scores[i]:.4g} at step 2. Its status at "
            f"each step is the scalar feature_vis_status/name: 0 ok, 1 dead, 2 saturated, 3 nan."
        )
        picture = pictures.to_uint8(snapshot.images[i], (0.0, 1.0))
        events.image(f"feature_vis/{name}", 2, picture, text)
        events.scalar(f"feature_vis_status/{name}", 2, i)
        events.scalar(f"feature_vis_score/{name}", 2, snapshot.scores[i])
        events.scalar(f"feature_vis_drift_floor/{name}", 2, NOISE_FLOOR[i])
    events.scalar("feature_vis/dead", 2, 1 / 3)
    [found] = read_snapshots(tmp_path, NAMES, (0.0, 1.0))
    assert (found.epoch, found.status, found.starts) == (2, ["ok", "dead", "saturated"], [""] * 3)
    np.testing.assert_array_equal(found.scores, snapshot.scores)
    np.testing.assert_array_equal(found.noise_floor, NOISE_FLOOR)
    np.testing.assert_allclose(found.images, snapshot.images, atol=0.5 / 255 + 1e-6)


def test_incomplete_snapshots_and_those_of_other_targets_are_left_out(tmp_path):
    write(tmp_path, [-1, 0])
    assert not list(read_snapshots(tmp_path, [*NAMES, "another"], (0.0, 1.0)))
    path = event_file_in(tmp_path)
    os.truncate(path, path.stat().st_size * 3 // 5)
    assert [one.epoch for one in read_snapshots(tmp_path, NAMES, (0.0, 1.0))] == [-1]


def test_values_are_read_back_in_their_range(tmp_path):
    history, events = History(), EventFile(tmp_path)
    result = dataclasses.replace(
        make_result(0), images=make_result(0).images * 2 - 1, values_range=(-1.0, 1.0)
    )
    write_snapshot(events, history.add(0, result))
    [found] = read_snapshots(tmp_path, NAMES, (-1.0, 1.0))
    np.testing.assert_allclose(found.images, result.images, atol=1 / 255 + 1e-6)


def test_a_missing_folder_has_no_snapshots(tmp_path):
    assert not list(read_snapshots(tmp_path / "nowhere", NAMES, (0.0, 1.0)))


def test_every_tag_is_described():
    module = summaries
    tags = [value for name, value in vars(module).items() if name.endswith("_TAG")]
    assert len(tags) > 5
    assert [
        tag for tag in tags if f"`{tag.format('<name>', '<rank>')}`" not in module.__doc__
    ] == []


def test_keras_is_not_needed_to_write():
    assert not {"keras", "tensorflow"} & {*vars(summaries), *vars(event_file)}


@pytest.mark.parametrize("channels", [3, 4])
def test_values_of_channels_are_read_back_in_their_ranges(channels, tmp_path):
    high = tuple(range(1, channels + 1))
    values_range = ((0.0,) * channels, tuple(map(float, high)))
    result = make_result(0, channels)
    result = dataclasses.replace(
        result, images=result.images * np.array(high, "float32"), values_range=values_range
    )
    write_snapshot(EventFile(tmp_path), History().add(0, result))
    [found] = read_snapshots(tmp_path, NAMES, values_range)
    # A picture shows three channels.
    expected = result.images[..., :3]
    assert (abs(found.images - expected) <= np.array(high[:3]) * (0.5 / 255 + 1e-6)).all()
