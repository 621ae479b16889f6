"""Tests on a device: `pytest -m gpu`; elsewhere, and in any other run, they are skipped.

Rule 1: kernels are compiled for the whole process or interpreted for all of it, so these tests run
apart from the others.
"""

import os
from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def reason_not_to():
    """Why nothing can be tested on a device here; None if it can."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "kernels are interpreted in this run: pytest -m gpu"
    try:
        torch, _ = map(import_module, ("torch", "triton"))
    except ImportError as error:
        return f"{error.name} is not installed"
    return None if torch.cuda.is_available() else "no GPU was found"


def pytest_collection_modifyitems(items):
    mine = [item for item in items if HERE in item.path.parents]
    if mine and (reason := reason_not_to()):
        for item in mine:
            item.add_marker(pytest.mark.skip(reason=reason))
