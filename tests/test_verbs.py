"""`soupctl.verbs` is one flat list of names, each there when it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from soupctl import verbs


def test_every_name_that_is_promised_is_there():
    assert sorted(verbs.HOMES) == sorted(verbs.__all__)
    assert [name for name in verbs.__all__ if not callable(getattr(verbs, name))] == []


def test_a_name_that_is_not_promised_is_not_there():
    with pytest.raises(AttributeError, match=r"soupctl\.verbs' has no attribute 'simmer'"):
        _ = verbs.simmer


def test_what_only_looks_loads_nothing_that_computes():
    executor = "soupctl.merge.executor"
    probe = f"import sys; from soupctl.verbs import inspect; print({executor!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
