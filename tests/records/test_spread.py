"""Places that are evenly spread."""

import numpy as np
import pytest

from featviz_callback.records.spread import spread


@pytest.mark.parametrize(("count", "most"), [(10, 4), (7, 7), (100, 16), (3, 2)])
def test_the_first_and_the_last_are_among_them_and_the_rest_lie_evenly(count, most):
    places = spread(count, most)
    assert len(places) == most
    assert places[0] == 0
    assert places[-1] == count - 1
    steps = np.diff(places)
    assert steps.max() - steps.min() <= 1


def test_of_few_all_are_taken():
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(0, 5).tolist() == []
