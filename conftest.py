"""The names that examples in docstrings may use."""

import numpy as np
import pytest

# Each backend imports a framework that may not be installed, and a test runs the training
# in processes of its own. Neither has examples.
collect_ignore_glob = ["featviz_callback/backend/*", "tests/distributed_training.py"]


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace, tmp_path):
    """Provide NumPy and a temporary folder."""
    doctest_namespace["np"] = np
    doctest_namespace["tmp_path"] = tmp_path
