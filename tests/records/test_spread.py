"""Places that are evenly spread."""

import numpy as np
import pytest

from featviz_callback.records.spread import spread


@pytest.mark.parametrize(("count", "most"), [(10, 4), (7, 7), (100, 16), (3, 2)])
def test_places_are_evenly_spread_and_include_the_first_and_the_last(count, most):
    places = spread(count, most)
    assert len(places) == most
    assert places[0] == 0
    assert places[-1] == count - 1
    steps = np.diff(places)
    assert steps.max() - steps.min() <= 1


def test_few_places_are_all_picked():
    assert spread(3, 5).tolist() == [0, 1, 2]
    assert spread(0, 5).tolist() == []
