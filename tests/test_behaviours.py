"""What users of other libraries rely on, and may expect here: `docs/coming_from/behaviours.md`."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from keras import layers

from featviz_callback import Objective, optimize, regularizers, transformations
from tests.conftest import sequential, to_numpy


@pytest.mark.parametrize(
    "settings",
    [
        {"regularizers": [None]},
        {"regularizers": [regularizers.TotalVariation(1.0), None]},
        {"transformations": [None]},
        {"transformations": [transformations.Jitter(0.1), None]},
        {"values_range": (0, None)},
    ],
    ids=str,
)
def test_nothing_among_several_is_refused_by_its_name(settings, neurons):
    [name] = settings
    with pytest.raises(ValueError, match=f"`{name}`"):
        optimize(neurons, steps=1, **settings)


def test_an_image_without_penalty_and_transformation_still_climbs(neurons):
    plain = {"regularizers": (), "transformations": None}
    result = optimize(neurons, steps=8, **plain)
    begun = neurons.score(np.full_like(result.images, 0.5))
    assert (result.scores > to_numpy(begun)).all()


def test_every_step_can_be_kept_and_the_last_is_the_result(neurons):
    result = optimize(neurons, steps=4, save_every=1)
    assert result.frame_steps.tolist() == [1, 2, 3, 4]
    np.testing.assert_array_equal(result.frames[-1], result.images)


def test_one_image_begins_all_targets_and_one_a_target_begins_each(neurons):
    gray = np.full((12, 10, 1), 0.4, "float32")
    one = optimize(neurons, steps=2, start=gray)
    each = optimize(neurons, steps=2, start=np.stack([gray] * len(neurons)))
    np.testing.assert_allclose(one.images, each.images, atol=1e-6)


def test_images_are_float32_within_their_range_under_mixed_precision():
    half = {"dtype": "mixed_float16"}
    model = sequential(layers.Flatten(), layers.Dense(2, name="logits", **half), shape=(8, 6, 1))
    unit = Objective.neuron(model, "logits", 0)
    result = optimize(unit, steps=2, values_range=(-127, 127))
    assert result.images.dtype == "float32"
    assert np.abs(result.images).max() <= 127


def test_the_table_of_their_tests_is_counted_and_names_tests_that_there_are():
    tests = Path(__file__).parent
    text = (tests.parent / "docs" / "coming_from" / "behaviours.md").read_text()
    rows = re.findall(
        r"^\| [\w-]+ \| [^|]+ \| (\d+) \| (holds|in part|no) \| ?(.*?) ?\|$", text, re.M
    )
    counted = Counter()
    for number, outcome, named in rows:
        counted[outcome] += int(number)
        assert outcome == "no" or named
        if named:
            file, name = named.strip("`").split("::")
            assert f"def {name}(" in (tests / file).read_text(), named
    said = re.search(
        r"(\d+) test functions.*?(\d+) hold here, (\d+) hold in part, and (\d+) do", text
    )
    assert list(map(int, said.groups())) == [
        sum(counted.values()), counted["holds"], counted["in part"], counted["no"]
    ]  # fmt: skip
