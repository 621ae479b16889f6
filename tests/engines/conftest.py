"""What the tests of engines share."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

# lets these tests import the modules that are beside their folder
sys.path.append(str(Path(__file__).parents[1]))


@pytest.fixture(scope="module")
def interpreted_engine():
    """The engine for graphics processors, its kernels interpreted and its device this processor."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("kernels are compiled in this run")
    pytest.importorskip("triton", reason="triton is not installed")
    devices = pytest.importorskip("soupctl.engines.devices")
    engines = pytest.importorskip("soupctl.engines.triton")

    # the interpreter computes in numpy, which warns of what kernels must meet: NaN, infinity
    with np.errstate(all="ignore"):
        yield engines.TritonEngine([devices.TorchDevice("cpu")], budget=2 << 20)
