"""The guides to other trackers run as printed, and the trackers have what they promise."""

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from featviz_callback import Objective
from tests.conftest import sequential

GUIDES = Path(__file__).parents[1] / "docs" / "guides"
EPOCHS = [-1, 0, 1]


@pytest.fixture
def run_block(tmp_path, monkeypatch):
    """Run one code block of a guide on a small model, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(guide, number=0):
        blocks = re.findall(r"```python\n(.*?)```", (GUIDES / guide).read_text(), re.DOTALL)
        model = sequential(
            *(layers.Conv2D(2, 3, name="conv"), layers.Flatten(), layers.Dense(2, name="logits")),
            shape=(8, 8, 3),
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        names = {"model": model, "x": np.zeros((4, 8, 8, 3)), "y": np.zeros(4)}
        exec(blocks[number].replace("FeatureVisCallback(", "FeatureVisCallback(steps=2, "), names)
        return Objective.neuron(model, "logits", [0, 1]).names

    return run


def test_a_folder_has_each_picture_and_a_row_of_it(run_block, tmp_path):
    names = run_block("folder_and_csv.md")
    with open(tmp_path / "features" / "features.csv", newline="") as file:
        rows = list(csv.reader(file))
    for name in names:
        assert [int(row[0]) for row in rows if row[1] == name] == EPOCHS
    for _, _, path, score, status, _ in rows:
        assert Image.open(tmp_path / "features" / path).size == (8, 8)
        assert np.isfinite(float(score))
        assert status == "ok"


def test_mlflow_gets_each_picture_and_score(run_block, tmp_path, monkeypatch):
    # The guide sets it for the whole process.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    names = run_block("mlflow.md")
    [scores] = tmp_path.glob("mlruns/*/*/metrics/score_0")
    assert [int(line.split()[2]) for line in scores.read_text().splitlines()] == [0, 1, 2]
    [listed] = tmp_path.glob("**/features.json")
    assert set(names) <= set(json.loads(listed.read_text()).values())
    assert len(list(tmp_path.glob("**/images/feature_0*.png"))) == len(EPOCHS)


@pytest.mark.parametrize("number", [0, 1], ids=["sync_tensorboard", "on_snapshot"])
def test_weights_and_biases_gets_the_pictures(run_block, tmp_path, number, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    try:
        names = run_block("weights_and_biases.md", number)
    finally:
        # It keeps its folder and its class in place of TensorBoard's for the whole process.
        wandb.tensorboard.unpatch()
        wandb.teardown()
    [record] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    content = record.read_bytes()
    for name in names:
        assert name.encode() in content
    pictures = list(tmp_path.glob("wandb/offline-run-*/files/media/images/**/*.png"))
    assert len(pictures) >= len(names) * len(EPOCHS)
