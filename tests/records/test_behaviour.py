"""When a unit has settled."""

import numpy as np
import pytest

from featviz_callback.records.behaviour import settled

NAN = np.nan


@pytest.mark.parametrize(
    ("drift", "functional", "floors", "expected"),
    [
        # Three quiet snapshots after epoch 0.
        ([NAN, 0.9, 0.1, 0.1, 0.1], [NAN, 0.9, 0.01, 0.01, 0.01], (0.2, 0.2), 0),
        # From the start.
        ([NAN, 0.1, 0.1, 0.1, 0.1], [NAN, 0.01, 0.01, 0.01, 0.01], (0.2, 0.2), -1),
        # Two are too few.
        ([NAN, 0.9, 0.9, 0.1, 0.1], [NAN, 0.9, 0.01, 0.01, 0.01], (0.2, 0.2), -2),
        # The picture moves at the end.
        ([NAN, 0.1, 0.1, 0.1, 0.3], [NAN, 0.01, 0.01, 0.01, 0.01], (0.2, 0.2), -2),
        # So does the function.
        ([NAN, 0.1, 0.1, 0.1, 0.1], [NAN, 0.01, 0.01, 0.01, 0.05], (0.2, 0.2), -2),
        # The larger floor counts, whichever it is.
        ([NAN, 0.9, 0.3, 0.3, 0.3], [NAN, 0.9, 0.01, 0.01, 0.01], (0.2, 0.4), 0),
        ([NAN, 0.9, 0.3, 0.3, 0.3], [NAN, 0.9, 0.01, 0.01, 0.01], (0.4, NAN), 0),
        # Nobody knows.
        ([NAN, 0.1, 0.1, 0.1, 0.1], [NAN] * 5, (0.2, 0.2), -2),
        ([NAN, 0.1, 0.1, 0.1, 0.1], [NAN, 0.01, 0.01, 0.01, 0.01], (NAN, NAN), -2),
        # A picture that is NaN may have moved.
        ([NAN, 0.1, 0.1, 0.1, NAN], [NAN, 0.01, 0.01, 0.01, 0.01], (0.2, 0.2), -2),
        # A resumed training has lost one functional drift.
        ([NAN, 0.1, 0.1, 0.1, 0.1], [NAN, 0.01, NAN, 0.01, 0.01], (0.2, 0.2), -1),
    ],
)
def test_a_unit_settles_when_nothing_moves_any_more(drift, functional, floors, expected):
    floor = np.full(5, NAN)
    floor[0], floor[-1] = floors
    columns = (np.array([one, one]).T for one in (drift, floor, functional))
    assert settled(np.arange(-1, 4), *columns).tolist() == [expected] * 2


def test_epochs_are_those_of_the_snapshots():
    drift = np.array([NAN, 0.9, 0.9, 0.1, 0.1, 0.1])[:, None]
    epochs = np.array([-1, 0, 4, 8, 15, 16])
    assert settled(epochs, drift, np.full((6, 1), 0.2), drift / 10).tolist() == [4]
