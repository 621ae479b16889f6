"""The shim, built once for a run of the tests."""

from __future__ import annotations

import pytest
from preloading import preloading


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables that preload it."""
    return preloading(tmp_path_factory.mktemp("shim"))
