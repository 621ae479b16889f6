"""What the tests of these kernels run under."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

# lets these tests import the module beside them
sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = [] if sys.platform == "linux" else ["test_*"]


@pytest.fixture(autouse=True)
def _quiet_interpreter():
    """The interpreter computes in numpy, which warns of what kernels must meet: NaN, infinity."""
    with np.errstate(all="ignore"):
        yield


def pytest_collection_modifyitems(items):
    """Interpreted kernels only: a run on a device has tests of its own."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="these tests interpret the kernels"))
