"""`soupctl.verbs` is one flat list of names, each imported when it is first used."""

from __future__ import annotations

import ast
import pydoc
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from soupctl import verbs
from soupctl.errors import UsageError


def test_every_listed_name_can_be_imported():
    assert dir(verbs) == sorted(verbs.__all__)
    assert [name for name in verbs.__all__ if not callable(getattr(verbs, name))] == []


def test_type_checkers_see_the_names_that_are_imported_at_run_time():
    tree = ast.parse(Path(verbs.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f".{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    assert seen == verbs.HOMES


def test_help_shows_every_function_and_class():
    shown = pydoc.render_doc(verbs, renderer=pydoc.plaintext)

    assert [name for name in verbs.__all__ if name not in shown] == []
    assert str(verbs.average.__doc__).splitlines()[0] in shown


def test_help_loads_no_torch():
    looks = "import pydoc, sys; from soupctl import verbs; pydoc.render_doc(verbs)"
    probe = f"{looks}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    """a.st, b.st and c.st in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        save_file({"w": np.full(4, number, np.float32)}, f"{name}.st")


def made(output):
    return Path(output).read_bytes()


def test_a_path_is_an_ingredient_of_weight_1(checkpoints):
    whole = [
        verbs.Ingredient("a.st"),
        verbs.Ingredient("b.st"),
        verbs.Ingredient("c.st", Fraction(2)),
    ]
    verbs.average(verbs.Request(whole, "1.st"))
    verbs.average(
        verbs.Request(["a.st", Path("b.st"), verbs.Ingredient("c.st", Fraction(2))], "2.st")
    )

    assert made("1.st") == made("2.st")


def test_a_path_stands_for_an_addition_or_a_removal(checkpoints):
    verbs.average(verbs.Request(["a.st", "b.st"], "soup.st"))
    verbs.revise(verbs.Revision("swap", "soup.st", "1.st", ["c.st"], [Path("a.st")]))
    swap = verbs.Revision(
        "swap", "soup.st", "2.st", [verbs.Addition("c.st")], [verbs.Removal("a.st")]
    )
    verbs.revise(swap)

    assert made("1.st") == made("2.st")


def test_one_path_is_no_list_of_ingredients():
    with pytest.raises(UsageError, match=r"^a.st: ingredients is one path, not a list"):
        verbs.Request("a.st", "soup.st")
    with pytest.raises(UsageError, match=r"added is one path, not a list"):
        verbs.Revision("add", "soup.st", "new.st", Path("a.st"))
    with pytest.raises(UsageError, match=r"removed is one path, not a list"):
        verbs.Revision("subtract", "soup.st", "new.st", removed="a.st")


def test_a_name_that_is_not_listed_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"soupctl\.verbs' has no attribute 'simmer'"):
        _ = verbs.simmer


def test_inspect_does_not_load_the_executor():
    executor = "soupctl.merge.executor"
    probe = f"import sys; from soupctl.verbs import inspect; print({executor!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
