"""Names that the examples in docstrings may use."""

import numpy as np
import pytest

# They import a framework each, not all of which need be installed, and have no examples.
collect_ignore_glob = ["featviz_callback/backend/*"]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace, tmp_path):
    """Gives them NumPy and a folder of their own."""
    doctest_namespace["np"] = np
    doctest_namespace["tmp_path"] = tmp_path
