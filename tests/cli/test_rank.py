"""`soupctl rank` as a command: its table, JSON, plot and refusals."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from making import files
from scores import VALUES


@pytest.fixture(autouse=True)
def soup(folder, save, soupctl):
    """A soup of four ingredients and a scorer of it in the working folder."""
    for name, values in VALUES.items():
        save(name, {"w": np.array(values, np.float16)})
    assert 0 == soupctl("avg", *VALUES, "-o", "soup.st").code
    text = "def closeness(arrays):\n    return -float(abs(arrays['w'].astype(float) - 1).sum())\n"
    Path("score.py").write_text(text)


RANK = "rank soup.st --scorer score.py:closeness"


def test_the_table_has_a_line_for_each_ingredient_the_most_useful_first(soupctl):
    done = soupctl(*shlex.split(RANK))

    assert (0, "") == (done.code, done.message)
    first, *rest = done.text.splitlines()
    assert first.endswith("  the soup")
    assert ["c.st", "a.st", "d.st", "b.st"] == [line.split()[2] for line in rest]


def test_json_has_the_same_in_full(soupctl):
    found = soupctl(*shlex.split(f"{RANK} --json")).json
    again = soupctl(*shlex.split(f"{RANK} --json --resume")).json

    assert found == again
    for each in found["ingredients"]:
        assert each["effect"] == found["score"] - each["without"]


def test_the_plan_scores_nothing(soupctl):
    before = files(Path())

    done = soupctl(*shlex.split(f"{RANK} -n"))

    assert (0, "") == (done.code, done.message)
    assert "at most 5" in done.text
    assert before == files(Path())


def test_the_plot_is_the_same_picture_each_time(soupctl):
    pytest.importorskip("matplotlib")
    assert 0 == soupctl(*shlex.split(f"{RANK} --plot one.png")).code
    assert 0 == soupctl(*shlex.split(f"{RANK} --plot two.png --resume")).code

    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert b"\x89PNG" == Path("one.png").read_bytes()[:4]


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("rank soup.st --score 'exit 3 # {}'", 8, "soup.st: the scorer ended with exit code 3"),
        (f"{RANK} --plot x.jpg", 2, "is not a file name of a picture"),
        (f"{RANK} --plot score.png", 6, "score.png: exists"),
        ("rank a.st --score 'x {}'", 5, "a.st: has no ledger"),
        ("rank none.st --score 'x {}'", 3, "none.st: cannot be read"),
        ("rank - --score 'x {}'", 2, "the journal is kept beside the soup"),
    ],
)
def test_what_goes_wrong_has_an_exit_code_and_one_line(soupctl, command, code, says):
    Path("score.png").touch()

    done = soupctl(*shlex.split(command))

    assert (code, b"") == (done.code, done.out)
    assert says in done.message
    assert 1 == done.message.count("\n")
