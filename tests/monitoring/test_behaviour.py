"""Functional drift, selectivity and active shares, against definitions and plain NumPy."""

import itertools

import numpy as np
import pytest

from featviz_callback.monitoring.behaviour import UnitMeter, find_classes

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(4, 60)).astype("float32")
NAMES = ["a", "b", "c", "d"]
LABELS = np.arange(60) % 3


def twice(before, now, labels=None):
    """Measure two moments; return the second."""
    meter = UnitMeter(None if labels is None else find_classes(labels))
    meter.measure(NAMES[: len(before)], np.asarray(before, "float32"))
    return meter.measure(NAMES[: len(now)], np.asarray(now, "float32"))


def mean_ranks(values):
    """Return the mean over all orders of equal values, by comparing each with each."""
    values = np.asarray(values, "float64")
    below = (values[None] < values[:, None]).sum(1)
    equal = (values[None] == values[:, None]).sum(1)
    return below + (equal + 1) / 2


def test_the_first_snapshot_has_nothing_to_compare_with():
    found = UnitMeter().measure(NAMES, SCORES)
    assert np.isnan(found.functional_drift).all()
    assert np.isnan(found.top_overlap).all()
    assert np.isnan(found.selectivity).all()
    assert found.best_class == [""] * 4


def test_nothing_has_drifted_if_scores_are_equal():
    found = twice(SCORES, SCORES)
    assert found.functional_drift.tolist() == [0] * 4
    assert found.top_overlap.tolist() == [1] * 4


def test_a_rising_function_of_the_scores_is_no_drift():
    assert twice(SCORES, np.exp(SCORES) * 3 - 7).functional_drift.tolist() == [0] * 4


def test_the_reverse_order_is_a_drift_of_two():
    assert twice(SCORES, -SCORES).functional_drift == pytest.approx([2] * 4)


def test_drift_is_one_minus_the_correlation_of_ranks_with_ties():
    before = np.maximum(SCORES, 0.3)
    now = np.maximum(SCORES + RNG.normal(size=SCORES.shape), 0.5).astype("float32")
    expected = [
        1 - np.corrcoef(mean_ranks(one), mean_ranks(other))[0, 1]
        for one, other in zip(before, now, strict=True)
    ]
    np.testing.assert_allclose(twice(before, now).functional_drift, expected, rtol=1e-5)


def test_drift_rises_with_planted_change():
    noise = RNG.normal(size=SCORES.shape)
    drifts = [twice(SCORES, SCORES + a * noise).functional_drift for a in (0, 0.1, 0.3, 1, 3)]
    for one, other in itertools.pairwise(drifts):
        assert (one < other).all()


def test_a_unit_that_dies_drifts_by_one_and_a_dead_one_not_at_all():
    dead = np.zeros_like(SCORES)
    assert twice(SCORES, dead).functional_drift.tolist() == [1] * 4
    assert twice(dead, SCORES).functional_drift.tolist() == [1] * 4
    assert twice(dead, dead).functional_drift.tolist() == [0] * 4
    assert np.isnan(twice(dead, dead).top_overlap).all()


def test_images_whose_score_is_no_number_are_left_out():
    before, now = SCORES.copy(), SCORES[::-1].copy()
    before[:, 3], now[:, 7] = np.nan, np.inf
    known = np.delete(np.arange(60), [3, 7])
    expected = twice(before[:, known], now[:, known]).functional_drift
    np.testing.assert_allclose(twice(before, now).functional_drift, expected, rtol=1e-6)
    assert np.isnan(twice(before * np.nan, now).functional_drift).all()


def test_other_units_or_images_are_not_compared():
    assert np.isnan(twice(SCORES, SCORES[:3]).functional_drift).all()
    assert np.isnan(twice(SCORES, SCORES[:, :50]).functional_drift).all()


def test_another_meter_goes_on_from_what_is_kept():
    one, other = UnitMeter(), UnitMeter()
    one.measure(NAMES, SCORES)
    other.go_on_from(one.kept)
    assert other.measure(NAMES, SCORES).functional_drift.tolist() == [0] * 4
    assert one.kept[1].nbytes == 4 * SCORES.size


def test_the_overlap_is_that_of_the_nine_top_images():
    before = np.arange(60.0)[None]
    now = before.copy()
    now[0, :4], now[0, 51:55] = before[0, 51:55], before[0, :4]
    # Five of nine are left, and four others have come: 5 of 13.
    assert twice(before, now).top_overlap.tolist() == pytest.approx([5 / 13])


def test_the_active_share_is_that_of_positive_scores():
    found = UnitMeter().measure(NAMES, SCORES)
    np.testing.assert_allclose(found.active_share, (SCORES > 0).mean(1), rtol=1e-6)


def test_selectivity_is_the_share_of_pairs_in_the_right_order():
    scores = np.maximum(SCORES, -0.2)
    scores[1, LABELS == 2] += 1.0
    found = UnitMeter(find_classes(LABELS)).measure(NAMES, scores)
    for one, area, name in zip(scores, found.selectivity, found.best_class, strict=True):
        areas = []
        for label in range(3):
            inside, outside = one[label == LABELS][:, None], one[label != LABELS][None]
            areas.append(((inside > outside) + 0.5 * (inside == outside)).mean())
        assert area == pytest.approx(max(areas), rel=1e-5)
        assert name == str(int(np.argmax(areas)))
    assert found.best_class[1] == "2"


def test_a_perfect_unit_has_a_selectivity_of_one():
    scores = (LABELS == 1)[None] + RNG.random((1, 60)) / 2
    found = UnitMeter(find_classes(np.array(["x", "y", "z"])[LABELS])).measure(["a"], scores)
    assert (found.selectivity.tolist(), found.best_class) == ([1.0], ["y"])


def test_classes_of_few_images_and_constant_units_tell_nothing():
    scores = np.stack([-np.arange(60.0), np.zeros(60)])
    few, five = (np.where(np.arange(60) < count, 7, 8) for count in (4, 5))
    meter = UnitMeter(find_classes(five))
    assert meter.measure(["a", "b"], scores).best_class == ["7", ""]
    assert meter.measure(["a", "b"], scores).selectivity == pytest.approx([1, np.nan], nan_ok=True)
    assert np.isnan(UnitMeter(find_classes(few)).measure(["a", "b"], scores).selectivity).all()


@pytest.mark.parametrize(
    ("labels", "places", "names"),
    [
        ([3, 7, 3], [0, 1, 0], ("3", "7")),
        ([[3], [7], [3]], [0, 1, 0], ("3", "7")),
        ([3.0, 7.0, 3.0], [0, 1, 0], ("3", "7")),
        ([True, False, True], [1, 0, 1], ("0", "1")),
        (["cat", "dog", "cat"], [0, 1, 0], ("cat", "dog")),
        ([b"cat", b"dog", b"cat"], [0, 1, 0], ("cat", "dog")),
        ([[0, 1, 0], [0, 0, 1], [1, 0, 0]], [1, 2, 0], ("0", "1", "2")),
        ((np.eye(3) * 0.9 + 1 / 30)[[1, 2, 0]], [1, 2, 0], ("0", "1", "2")),
    ],
    ids=str,
)
def test_labels_are_classes(labels, places, names):
    found = find_classes(np.array(labels))
    assert (found.members.argmax(1).tolist(), found.names) == (places, names)
    assert found.members.sum(1).tolist() == [1] * 3
    assert found.is_labelled.all()


@pytest.mark.parametrize("labels", [[[1, 1, 0], [0, 1, 0]], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]])
def test_an_image_may_have_several_labels_or_none(labels):
    found = find_classes(np.array(labels, "float32"))
    assert found.members.astype(int).tolist() == labels
    assert found.names == ("0", "1", "2")
    assert found.is_labelled.all()


def test_minus_one_is_no_class_but_one_of_two_in_a_hinge_loss():
    found = find_classes(np.array([[3], [-1], [7], [3]]))
    assert found.names == ("3", "7")
    assert found.is_labelled.tolist() == [True, False, True, True]
    assert find_classes(np.array([-1.0, 1.0, -1.0])).names == ("-1", "1")


def area(inside, outside):
    """Return the share of pairs in the right order."""
    inside, outside = inside[:, None], outside[None]
    return ((inside > outside) + 0.5 * (inside == outside)).mean()


def test_images_without_a_label_are_left_out():
    labels = np.where(np.arange(60) % 4 == 3, -1, LABELS)
    found = UnitMeter(find_classes(labels)).measure(NAMES, SCORES)
    for one, selectivity in zip(SCORES, found.selectivity, strict=True):
        areas = [area(one[labels == c], one[(labels != c) & (labels >= 0)]) for c in range(3)]
        assert selectivity == pytest.approx(max(areas), rel=1e-5)


def test_each_of_several_labels_is_told_from_images_without_it():
    labels = RNG.random((60, 3)) < 0.4
    found = UnitMeter(find_classes(labels.astype("int32"))).measure(NAMES, SCORES)
    for one, selectivity, name in zip(SCORES, found.selectivity, found.best_class, strict=True):
        areas = [area(one[its], one[~its]) for its in labels.T]
        assert selectivity == pytest.approx(max(areas), rel=1e-5)
        assert name == str(int(np.argmax(areas)))


def test_without_any_label_nothing_is_selective():
    found = UnitMeter(find_classes(np.full(60, -1))).measure(NAMES, SCORES)
    assert np.isnan(found.selectivity).all()


@pytest.mark.parametrize("size", [1.0, 1e-3, -4e4])
def test_rounding_of_a_constant_unit_is_neither_drift_nor_choice(size):
    """A mean over a map adds up in another order for another place in a batch."""
    values = np.full((2, 60), size, "float32")
    scores = np.where(RNG.random((2, 60)) < 0.5, values, np.nextafter(values, np.float32(np.inf)))
    assert np.ptp(scores) > 0
    meter = UnitMeter(find_classes(LABELS))
    meter.measure(["a"], scores[:1])
    found = meter.measure(["a"], scores[1:])
    assert found.functional_drift.tolist() == [0]
    assert np.isnan([*found.top_overlap, *found.selectivity]).all()
    assert found.best_class == [""]


def test_scores_that_are_close_to_each_other_are_still_in_order():
    close = (1 + np.arange(1000) * 1e-6)[None]
    found = twice(close, close[:, ::-1])
    assert found.functional_drift == pytest.approx([2])
    assert found.top_overlap.tolist() == [0]


@pytest.mark.parametrize("images", [5, 9, 12, 17])
def test_the_top_of_few_images_tells_nothing(images):
    assert np.isnan(twice(SCORES[:, :images], SCORES[:, :images]).top_overlap).all()
    assert twice(SCORES[:, :18], SCORES[:, :18]).top_overlap.tolist() == [1] * 4


def test_images_that_do_not_activate_a_unit_are_not_at_its_top():
    before, now = np.zeros((2, 3, 60))
    before[:, [40, 41, 42]] = now[0, [50, 51, 52]] = now[1, [41, 42, 50]] = [1, 2, 3]
    # Of three and three images none, then two of four; a unit that is off has no top.
    assert twice(before, now).top_overlap == pytest.approx([0, 0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.5, 1.0]),
        np.array([np.nan, 1.0]),
        np.array([[0.5, 0.5]]),
        np.array([[0.9, 0.1], [0.6, 0.4]]),
        np.array([[0.2, 0.9], [0.9, 0.2]]),
        np.array([[3, 4], [5, 6]]),
        np.zeros((3, 0)),
        np.zeros((3, 8, 8)),
        np.array(5),
        {"a": 1},
        [[1], [2, 3]],
    ],
    ids=str,
)
def test_other_targets_are_no_classes(labels):
    assert find_classes(labels) is None


def test_labels_that_are_arrays_of_several_sizes_are_no_classes():
    boxes = np.empty(3, object)
    boxes[:] = [np.zeros((2, 4)), np.zeros((1, 4)), np.zeros((3, 4))]
    assert find_classes(boxes) is None
