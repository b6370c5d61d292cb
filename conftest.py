"""Names that the examples in docstrings may use."""

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace, tmp_path):
    """Gives them NumPy and a folder of their own."""
    doctest_namespace["np"] = np
    doctest_namespace["tmp_path"] = tmp_path
