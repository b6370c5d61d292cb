"""Names that the examples in docstrings may use."""

import numpy as np
import pytest

# The backends import a framework each, not all of which need be installed; the other is
# run by a test, in processes of its own. None of them has examples.
collect_ignore_glob = ["featviz_callback/backend/*", "tests/distributed_training.py"]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace, tmp_path):
    """Gives them NumPy and a folder of their own."""
    doctest_namespace["np"] = np
    doctest_namespace["tmp_path"] = tmp_path
