"""Lets these tests import what lies beside their folder, and gives them ingredients."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))

from making import save
from scores import VALUES


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four checkpoints in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, values in VALUES.items():
        save(Path(name), w=np.array(values, np.float16), ids=np.arange(3))
    return [*VALUES]
