"""The numbers of every layer, over a training."""

import copy
import pickle

import numpy as np
import pytest

from featviz_callback.records import NUMBERS, Checkup, Health


@pytest.fixture
def health():
    filled = Health()
    filled.add(-1, Checkup.of({"a<b>": {"dead": 0.25, "mean": 2.0}, "c": {"update_ratio": 0.5}}))
    filled.add(3, Checkup.of({"a<b>": {"dead": 0.5, "nan": 0.0}, "d": {"effective_rank": 7.5}}))
    return filled


def test_layers_have_one_column_each_in_the_order_of_their_appearance(health):
    assert health.layers == ["a<b>", "c", "d"]
    assert health.epochs.tolist() == [-1, 3]
    nan = np.nan
    np.testing.assert_array_equal(health.dead, np.float32([[0.25, nan, nan], [0.5, nan, nan]]))
    np.testing.assert_array_equal(health.update_ratio, np.float32([[nan, 0.5, nan], [nan] * 3]))
    np.testing.assert_array_equal(health.mean, np.float32([[2, nan, nan], [nan] * 3]))
    np.testing.assert_array_equal(health.effective_rank[1], np.float32([nan, nan, 7.5]))


def test_every_number_is_an_attribute(health):
    for name in NUMBERS:
        np.testing.assert_array_equal(getattr(health, name), health.table(name))
        assert getattr(health, name).shape == (2, 3)
        assert getattr(health, name).dtype == np.float32


def test_an_empty_one_has_empty_arrays():
    health = Health()
    assert (len(health), health.layers, health.dead.shape) == (0, [], (0, 0))
    assert health.epochs.tolist() == []
    assert "0 snapshots" in health._repr_html_()


def test_it_comes_back_from_arrays(health):
    again = Health.from_arrays(health.arrays())
    assert again.layers == health.layers
    assert again.epochs.tolist() == [-1, 3]
    for name in NUMBERS:
        np.testing.assert_array_equal(again.table(name), health.table(name))


def test_what_is_restored_replaces_its_epoch_and_later_ones(health):
    health.restore(3, Checkup.of({"c": {"dead": 1.0}}))
    assert health.epochs.tolist() == [-1, 3]
    assert health.layers == ["a<b>", "c"]
    health.restore(-1, Checkup.of({"c": {"dead": 0.0}}))
    assert health.epochs.tolist() == [-1]
    assert health.dead.tolist() == [[0.0]]


def test_the_table_shows_the_last_snapshot_and_escapes_names(health):
    text = health._repr_html_()
    assert "Health at epoch 3" in text
    assert "<td>a&lt;b&gt;</td><td>50%</td>" in text
    assert "<td>7.5</td>" in text
    assert "<b>" not in text
    assert text.count("<tr>") == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_another_one(health, copied):
    twin = copied(health)
    twin.add(4, Checkup.of({}))
    assert (len(twin), len(health)) == (3, 2)
    np.testing.assert_array_equal(twin.dead[:2], health.dead)


def test_what_is_forgotten_is_of_that_epoch_or_later():
    health = Health()
    for epoch in (-1, 0, 1, 2):
        health.add(epoch, Checkup.of({"conv": {"dead": 0.1 * epoch}}))
    health.forget(1)
    assert health.epochs.tolist() == [-1, 0]
