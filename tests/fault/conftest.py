"""The shim, built once for a run of the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("shim.c")


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library to preload; shim.c says what it does."""
    built = tmp_path_factory.mktemp("shim") / "shim.so"
    compiler = os.environ.get("CC", "cc")
    # no -Werror: what a newer compiler warns of is not what is tested
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", built, SOURCE, "-ldl"], check=True)
    return built
