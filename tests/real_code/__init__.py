"""Model families as people write them in Keras 3, shrunk until each trains in seconds."""

import pytest

# A helper's assertions tell their values too.
pytest.register_assert_rewrite("tests.real_code.checks")
