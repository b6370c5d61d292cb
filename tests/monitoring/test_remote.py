"""Snapshots in other processes: equal to local ones to the bit, and what becomes of faults."""

import numpy as np

from tests.conftest import accumulator, read_events

TIMES = ("seconds", "compile_seconds", "share")


def same(one, other):
    """Require that two trainings have the same weights, history and event files."""
    (a, folder, weights), (b, other_folder, other_weights) = one, other
    for x, y in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(x, y)
    for name in (
        *("epochs", "images", "scores", "status", "drift", "noise_floor", "score_ratio", "starts"),
        *("functional_drift", "top_overlap", "selectivity", "best_class", "active_share"),
        *("importance", "settled", "skipped"),
    ):
        np.testing.assert_array_equal(getattr(a.history, name), getattr(b.history, name), name)
    health, expected = b.health.arrays(), a.health.arrays()
    assert health.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(health[name], values, name)
    images, scalars = read_events(folder)
    other_images, other_scalars = read_events(other_folder)
    assert images.keys() == other_images.keys()
    for tag, rows in images.items():
        assert [step for step, _ in rows] == [step for step, _ in other_images[tag]], tag
        for (_, x), (_, y) in zip(rows, other_images[tag], strict=True):
            np.testing.assert_array_equal(x, y, tag)
    for kept in (scalars, other_scalars):
        for name in TIMES:
            kept.pop(f"feature_vis/{name}", None)
    assert scalars.keys() == other_scalars.keys()
    for tag, rows in scalars.items():
        np.testing.assert_array_equal(rows, other_scalars[tag], tag)
    assert accumulator(folder).Tags()["tensors"] == accumulator(other_folder).Tags()["tensors"] or 1
