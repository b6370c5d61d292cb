"""Tests that the README's examples run, and that the names and files in it exist."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, optimize

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = [
    pytest.param(block, id=f"block {i}")
    for i, block in enumerate(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    # The weights of `keras.applications` are downloaded.
    if "keras.applications" not in block
]


@pytest.fixture(scope="module")
def names():
    """A model with the layers that the README names, and data."""
    keras.utils.set_random_seed(0)
    block = keras.Sequential([keras.Input((6, 6, 16)), layers.Conv2D(4, 1, name="conv")])
    block.name = "block3"
    backbone = keras.Sequential(
        [keras.Input((6, 6, 32)), layers.Conv2D(16, 1, name="conv3"), block], name="backbone"
    )
    inputs = keras.Input((10, 10, 3))
    outputs = layers.Conv2D(4, 3, name="conv1")(inputs)
    outputs = backbone(layers.Conv2D(32, 3, name="conv2")(outputs))
    tokens = layers.Dense(8, name="encoder")(layers.Reshape((36, 4))(outputs))
    outputs = layers.Dense(10, name="logits")(layers.Flatten()(tokens))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.default_rng(0).random((8, 10, 10, 3)), np.arange(8)
    data = {"model": model, "x": x, "y": y, "x_train": x, "y_train": y}
    imports = "import keras\nfrom featviz_callback import *\n"
    exec(imports, data)
    return data


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_runs(block, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Of a training that is over.
    (tmp_path / "checkpoints").mkdir()
    names["model"].save_weights(tmp_path / "checkpoints" / "01.weights.h5")
    given = {**names, "callback": FeatureVisCallback(steps=2)}
    quick = re.sub(r"epochs=\d+", "epochs=1", re.sub(r"steps=\d+", "steps=2", block))
    exec(quick, given)


def test_the_table_of_arguments_has_each_of_them_once():
    table = README.partition("\n## Arguments")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    arguments = {
        name for of in (FeatureVisCallback, optimize) for name in inspect.signature(of).parameters
    }
    assert sorted(listed) == sorted(arguments - {"objective"})


def test_the_files_that_the_readme_names_exist():
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    named += re.findall(r'src="([^"]+)"', README)
    named += re.findall(r"`((?:examples|tests|benchmarks)/[^` ]+)`", README)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_readme_lists_every_example():
    examples = {
        path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")
    }
    listed = README.partition("\n## Examples")[2].partition("\n## ")[0]
    assert {name for name in examples if f"`examples/{name}`" not in listed} == set()
