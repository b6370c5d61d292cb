"""Tests that the examples of README and site run, and that the names and files there exist."""

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from featviz_callback import FeatureVisCallback, optimize

ROOT = Path(__file__).parents[1]
SITE = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *SITE]


# The weights of `keras.applications` are downloaded. The others start clusters.
LEFT_OUT = re.compile(
    r"keras\.applications|^(?:from|import) (?:dask|loky|mpi4py|ray)", re.MULTILINE
)


def blocks_of(page):
    """Return the Python blocks of a page that run here."""
    found = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if not LEFT_OUT.search(block)]


# Those that a newcomer copies first run always.
FIRST = ("README.md", "getting_started.md")
# No dependency of the tests: large, and each on its own page alone.
TRACKERS = {"weights_and_biases.md": "wandb", "mlflow.md": "mlflow"}
EXAMPLES = [
    pytest.param(
        page,
        id=str(page.relative_to(ROOT)),
        marks=[] if page.name in FIRST else [pytest.mark.acceptance],
    )
    for page in PAGES
    if blocks_of(page)
]


@pytest.fixture(scope="module")
def names():
    """A model with the layers that the pages name, and data."""
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


@pytest.mark.parametrize("page", EXAMPLES)
def test_the_examples_of_a_page_run_in_order(page, names, tmp_path, monkeypatch):
    if page.name in TRACKERS:
        pytest.importorskip(TRACKERS[page.name])
    monkeypatch.chdir(tmp_path)
    # Of a training that is over.
    (tmp_path / "checkpoints").mkdir()
    names["model"].save_weights(tmp_path / "checkpoints" / "01.weights.h5")
    given = {**names, "callback": FeatureVisCallback(steps=2)}
    for block in blocks_of(page):
        quick = re.sub(r"epochs=\d\d", "epochs=1", re.sub(r"steps=\d+", "steps=2", block))
        exec(quick, given)


def test_the_table_of_arguments_has_each_of_them_once():
    table = (ROOT / "docs" / "arguments.md").read_text()
    listed = re.findall(r"^\| `(\w+)`", table, re.MULTILINE)
    arguments = {
        name for of in (FeatureVisCallback, optimize) for name in inspect.signature(of).parameters
    }
    assert sorted(listed) == sorted(arguments - {"objective"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text()
    linked = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", text)
    linked += re.findall(r'src="([^"]+)"', text)
    named = re.findall(r"`((?:examples|tests|benchmarks|docs)/[^` *]+)`", text)
    assert [name for name in linked if not (page.parent / name).exists()] == []
    assert [name for name in named if not (ROOT / name).exists()] == []
    if page.name == "README.md":
        assert len(linked) > 10


def test_every_page_of_the_site_is_in_its_navigation():
    listed = {ROOT / "docs" / "index.md"}
    for page in SITE:
        for tree in re.findall(r"```{toctree}\n:hidden:\n\n(.*?)```", page.read_text(), re.DOTALL):
            listed |= {page.parent / f"{name}.md" for name in tree.split()}
    assert listed == set(SITE)


def test_the_site_lists_every_example():
    examples = {
        path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")
    }
    listed = (ROOT / "docs" / "examples.md").read_text()
    assert {name for name in examples if f"`examples/{name}`" not in listed} == set()
