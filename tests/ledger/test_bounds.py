"""What a ledger may hold has bounds: what is read and what is written have the same."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from making import metadata, save
from revising import average, revise

from soupctl import verbs
from soupctl.choices import OnMissing
from soupctl.errors import LedgerError, LimitError, UsageError
from soupctl.format.dtypes import DType
from soupctl.ledger import ledger_json
from soupctl.ledger.json_values import LONGEST_GLOB, LONGEST_NAME, MOST_GLOBS
from soupctl.ledger.ledger import Change, IngredientEntry, Ledger
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.merge.recipe import Recipe


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode()).hexdigest()


ENTRY = IngredientEntry("blake3:" + "a" * 64, "a.st", "a.st", Fraction(1), ((DType.F32, 1),))
OTHER = replace(ENTRY, digest="blake3:" + "c" * 64)
ONE = Fraction(1)
LEDGER = Ledger("avg", "blake3:" + "b" * 64, (ENTRY,), ((DType.F32, 1),))


def read(ledger: Ledger) -> Ledger:
    return parse_ledger(encode_ledger(ledger, digest), "x", digest)


FITTING = (
    replace(LEDGER, keys=("*",) * MOST_GLOBS),
    replace(LEDGER, excludes=("*" * LONGEST_GLOB,)),
    replace(LEDGER, ingredients=(replace(ENTRY, name="n" * LONGEST_NAME),)),
    replace(LEDGER, ingredients=(replace(ENTRY, hint="n" * LONGEST_NAME),)),
    replace(LEDGER, changed=(Change(ENTRY.digest, "n" * LONGEST_NAME, Fraction(1)),)),
)
TOO_LARGE = (
    replace(LEDGER, keys=("*",) * (MOST_GLOBS + 1)),
    replace(LEDGER, excludes=("*",) * (MOST_GLOBS + 1)),
    replace(LEDGER, keys=("*" * (LONGEST_GLOB + 1),)),
    replace(LEDGER, excludes=("*" * (LONGEST_GLOB + 1),)),
    replace(LEDGER, ingredients=(replace(ENTRY, name="n" * (LONGEST_NAME + 1)),)),
    replace(LEDGER, ingredients=(replace(ENTRY, hint="n" * (LONGEST_NAME + 1)),)),
    replace(LEDGER, changed=(Change(ENTRY.digest, "n" * (LONGEST_NAME + 1), Fraction(1)),)),
)


@pytest.mark.parametrize("ledger", FITTING)
def test_a_ledger_at_a_bound_is_read(ledger):
    assert ledger == read(ledger)


SUM = replace(LEDGER, normalize=False)
NO_SUM = (
    replace(SUM, on_missing=OnMissing.KEEP),
    replace(SUM, base=ENTRY.digest, operation="apply", ingredients=(replace(ENTRY, weight=ONE),)),
    replace(SUM, ingredients=(ENTRY, OTHER), deltas=(OTHER.digest,)),
    replace(SUM, ingredients=(replace(ENTRY, weight=-ONE),)),
)


def test_a_ledger_of_a_sum_is_read_and_is_of_the_second_format():
    assert read(SUM) == SUM
    assert json.loads(encode_ledger(SUM, digest))["format"] == 2
    assert "normalize" not in encode_ledger(LEDGER, digest)
    assert SUM.shares == (Fraction(1),)
    assert replace(SUM, ingredients=(replace(ENTRY, weight=3 * ONE),)).shares == (3 * ONE,)


@pytest.mark.parametrize("ledger", NO_SUM)
def test_a_sum_that_is_something_else_as_well_is_refused(ledger):
    with pytest.raises(LedgerError, match="malformed"):
        read(ledger)


@pytest.mark.parametrize("ledger", TOO_LARGE)
def test_a_ledger_beyond_a_bound_is_refused(ledger):
    with pytest.raises(LedgerError, match="malformed"):
        read(ledger)


@pytest.mark.parametrize("globs", [("*",) * (MOST_GLOBS + 1), ("*" * (LONGEST_GLOB + 1),)])
@pytest.mark.parametrize("which", ["keys", "excludes"])
def test_a_selection_that_no_ledger_may_hold_is_refused(which, globs):
    with pytest.raises(UsageError, match="glob"):
        Recipe((Fraction(1),), **{which: globs})


def test_a_ledger_too_long_to_be_changed_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        save(Path(f"{number}.st"), w=np.full(2, number, np.float32))
    average(Path("soup.st"), "0.st", "1.st", "2.st")
    size = len(metadata(Path("soup.st"))["soupctl"])
    before = sorted(Path().iterdir())
    monkeypatch.setattr(ledger_json, "LONGEST", size + size // 4)

    with pytest.raises(LimitError, match=rf"its ledger would have {size} characters, but at most"):
        average(Path("x.st"), "0.st", "1.st", "2.st")
    assert before == sorted(Path().iterdir())


@pytest.mark.parametrize("size", [2, 9])
def test_any_soup_that_is_written_can_lose_any_of_its_ingredients(tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    names = [f"{'n' * 20 * number}{number}.st" for number in range(size)]
    for number, name in enumerate(names):
        save(Path(name), w=np.full(2, number, np.float32))
    # its ledger goes along whole, and is named no more often in a history
    average(Path("inner.st"), *names)
    inputs = [*names, "inner.st"]
    average(Path("soup.st"), *inputs)
    smallest = len(metadata(Path("soup.st"))["soupctl"])

    def is_enough(longest: int) -> bool:
        monkeypatch.setattr(ledger_json, "LONGEST", longest)
        try:
            average(Path("soup.st"), *inputs, force=True)
        except LimitError:
            return False
        return True

    longest = bisect_left(range(2 * smallest), True, lo=smallest, key=is_enough)
    assert longest < 2 * smallest
    assert is_enough(longest)
    for name in inputs:
        revise("subtract", "soup.st", Path("less.st"), (), [name], force=True)
        assert verbs.history("less.st")


def test_a_soup_among_the_ingredients_may_have_a_ledger_of_more_than_half_the_bound(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        save(Path(f"{number}.st"), w=np.full(2, number, np.float32))
    average(Path("inner.st"), *(f"{number}.st" for number in range(9)))
    average(Path("soup.st"), "inner.st", "0.st")
    size = len(metadata(Path("soup.st"))["soupctl"])
    monkeypatch.setattr(ledger_json, "LONGEST", size + size // 4)

    average(Path("again.st"), "inner.st", "0.st")
    revise("subtract", "again.st", Path("less.st"), (), ["0.st"])
    assert verbs.history("less.st")


def test_a_soup_of_the_longest_ledger_can_be_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(9):
        save(Path(f"{number}.st"), w=np.full(2, number, np.float32))
    average(Path("soup.st"), *(f"{number}.st" for number in range(9)))
    size = len(metadata(Path("soup.st"))["soupctl"])
    monkeypatch.setattr(ledger_json, "LONGEST", 2 * size)

    revise("subtract", "soup.st", Path("less.st"), (), ["3.st"])
    assert verbs.history("less.st")
    monkeypatch.setattr(ledger_json, "LONGEST", len(metadata(Path("less.st"))["soupctl"]))
    with pytest.raises(LimitError, match="average its ingredients with avg"):
        revise("add", "less.st", Path("more.st"), ["3.st"])
    assert not Path("more.st").exists()
