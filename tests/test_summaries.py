"""Event files, as TensorBoard reads them back."""

import sys

import numpy as np
import pytest

from featviz_callback import pictures
from featviz_callback.history import History
from featviz_callback.result import Result
from featviz_callback.summaries import EventFile, write_evolution, write_look
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


def write(folder, epochs, channels=1):
    """Writes looks, and returns their drift."""
    events, history, drifts = EventFile(folder), History(), []
    for epoch in epochs:
        result = look(epoch, channels)
        drifts.append(history.add(epoch, result, 0.25))
        write_look(events, epoch, result, drifts[-1], 0.25)
    return drifts


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


def test_scores_drift_and_seconds_are_scalars(tmp_path):
    drifts = write(tmp_path, [-1, 0, 1])
    _, scalars = read_events(tmp_path / "feature_vis")
    assert scalars["feature_vis/seconds"] == [(-1, 0.25), (0, 0.25), (1, 0.25)]
    for i, name in enumerate(NAMES):
        expected = [(step, float(look(step).scores[i])) for step in (-1, 0, 1)]
        assert scalars[f"feature_vis_score/{name}"] == expected
        moved = [(step, float(drifts[step + 1][i])) for step in (0, 1)]
        assert scalars[f"feature_vis_drift/{name}"] == moved
    assert len(scalars) == 1 + 2 * len(NAMES)


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


def test_the_evolution_is_one_picture(tmp_path):
    strip = np.random.default_rng(0).integers(0, 256, (9, 30, 3), "uint8")
    write_evolution(EventFile(tmp_path), 11, strip)
    images, scalars = read_events(tmp_path / "feature_vis")
    assert not scalars
    [(step, picture)] = images["feature_vis/evolution"]
    assert step == 11
    np.testing.assert_array_equal(picture, strip)


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


def test_keras_is_not_needed_to_write():
    module = sys.modules[EventFile.__module__]
    assert not {"keras", "tensorflow"} & set(vars(module))


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    events = EventFile(None)
    events.scalar("a", 0, 1.0)
    events.image("b", 0, np.zeros((2, 2, 1), "uint8"))
    assert events.path is None
    assert list(tmp_path.iterdir()) == []
