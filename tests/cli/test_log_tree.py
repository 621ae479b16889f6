"""`log --tree` shows what is below each soup once, however soups share their ingredients."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from making import save
from revising import average

from soupctl.checkpoints.digest import text_digest
from soupctl.ledger.ledger import LEDGER_KEY
from soupctl.ledger.ledger_json import encode_ledger

GENERATIONS = 12


def test_the_tree_of_soups_that_share_their_ingredients_grows_with_their_number(
    soupctl, monkeypatch
):
    monkeypatch.chdir(soupctl.folder)
    for name, value in (("a0.st", 1), ("b0.st", 2)):
        save(Path(name), w=np.full(2, value, np.float32))
    for number in range(1, GENERATIONS + 1):
        old = (f"a{number - 1}.st", f"b{number - 1}.st")
        average(Path(f"a{number}.st"), old[0], (old[1], Fraction(2)))
        average(Path(f"b{number}.st"), old[0], (old[1], Fraction(1, 3)))
    done = soupctl("log", f"a{GENERATIONS}.st", "--tree")

    assert 0 == done.code
    lines = done.text.splitlines()
    assert len(lines) < 8 * GENERATIONS
    # an ingredient that is no soup has nothing below it to refer to
    shown = [place for place, line in enumerate(lines) if line.endswith("(shown above)")]
    assert shown
    assert not [place for place in shown if re.search(r" [ab]0\.st ", lines[place - 1])]


def test_the_history_of_a_soup_of_one_ingredient_counts_it_in_the_singular(soupctl, monkeypatch):
    monkeypatch.chdir(soupctl.folder)
    save(Path("a.st"), w=np.ones(2, np.float32))
    average(Path("soup.st"), "a.st")

    assert "avg       1 ingredient\n" in soupctl("log", "soup.st").text


def test_the_tree_marks_content_that_ledgers_dispute(soupctl, monkeypatch):
    monkeypatch.chdir(soupctl.folder)
    for name in "ab":
        save(Path(f"{name}.st"), w=np.full(2, ord(name), np.float32))
    soup = average(Path("soup.st"), "a.st", "b.st").ledger
    disputed = [entry.digest for entry in soup.ingredients if entry.name == "a.st"]
    text = encode_ledger(replace(soup, disputed=tuple(disputed)), text_digest)
    save(Path("soup.st"), {LEDGER_KEY: text}, w=np.full(2, ord("a") + 0.5, np.float32))
    done = soupctl("log", "soup.st", "--tree")
    lines = [line for line in done.text.splitlines() if "contradict" in line]

    assert 1 == len(lines)
    assert " a.st " in lines[0]
    assert lines[0].endswith("  (its sources contradict each other)")
    (component,) = soupctl("log", "soup.st", "--json").json["components"]
    assert disputed == component["disputed"]
