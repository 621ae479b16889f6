"""`soupctl search` as a command: its recipe, JSON, plan and refusals."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from making import files
from scores import VALUES

pytest.importorskip("optuna")

SEARCH = "search a.st c.st d.st --scorer score.py:closeness --trials 6 -o soup.st"


@pytest.fixture(autouse=True)
def inputs(folder, save):
    """Four ingredients and a scorer of them in the working folder."""
    for name, values in VALUES.items():
        save(name, {"w": np.array(values, np.float16), "v": np.array(values, np.float16)})
    text = "def closeness(arrays):\n    return -float(abs(arrays['w'].astype(float) - 1).sum())\n"
    Path("score.py").write_text(text)


@pytest.mark.parametrize("blocks", ["", " --blocks v"])
def test_the_recipe_is_printed_and_makes_the_same_bytes(soupctl, blocks):
    done = soupctl(*shlex.split(SEARCH + blocks))

    assert (0, "") == (done.code, done.message)
    assert bool(blocks) == ("[steps.soup.blocks]" in done.text)
    Path("recipe.toml").write_text(done.text)
    assert 0 == soupctl("run", "recipe.toml", "-o", "again.st").code
    assert Path("again.st").read_bytes() == Path("soup.st").read_bytes()


def test_json_has_the_score_and_that_of_the_mean(soupctl):
    found = soupctl(*shlex.split(f"{SEARCH} --json")).json

    assert found["score"] >= found["uniform"]
    assert "[steps.soup]" in found["recipe"]


def test_the_plan_scores_nothing(soupctl):
    before = files(Path())

    done = soupctl(*shlex.split(f"{SEARCH} -n"))

    assert (0, "") == (done.code, done.message)
    assert "at most 6" in done.text
    assert before == files(Path())


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("a.st b.st -o x.st --score 'exit 3 # {}'", 8, "the scorer ended with exit code 3"),
        ("a.st -o x.st --score 'x {}'", 2, "at least two inputs"),
        ("a.st@2 b.st -o x.st --score 'x {}'", 2, "finds the weights of its inputs"),
        ("a.st b.st -o x.st --score 'x {}' --blocks named", 2, "no model with named blocks"),
        ("a.st b.st -o x.st --score 'x {}' --blocks none", 2, "none"),
    ],
)
def test_what_goes_wrong_has_an_exit_code_and_one_line(soupctl, command, code, says):
    done = soupctl("search", *shlex.split(command))

    assert (code, b"") == (done.code, done.out)
    assert says in done.message
    assert 1 == done.message.count("\n")
    assert not Path(".x.st.search").exists()
