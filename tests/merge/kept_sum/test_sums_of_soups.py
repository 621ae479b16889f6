"""Averaging in stages is averaging at once, from sums alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, save
from revising import average, revise

from soupctl.choices import Method, OnInt
from soupctl.errors import LedgerError, MismatchError

NAMES = "abcde"
THIRD = Fraction(1, 3)


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """Two soups with their sums, and all their ingredients gone."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for number, name in enumerate(NAMES):
        dtype = (np.float16, np.float32)[number % 2]
        values = generator.normal(0, 0.02, 300).astype(dtype)
        save(Path(f"{name}.st"), w=values, ids=np.arange(3))
    average(Path("one.st"), "a.st", ("b.st", 2), keep_sum=True)
    average(Path("two.st"), "c.st", ("d.st", THIRD), ("e.st", 2), keep_sum=True)
    for name in NAMES:
        Path(f"{name}.st").rename(f"{name}.away")


def come_back() -> None:
    for name in NAMES:
        Path(f"{name}.away").rename(f"{name}.st")


def test_a_soup_is_added_by_its_sum(stages):
    made = revise("add", "one.st", Path("all.st"), ["two.st"])
    come_back()
    average(Path("once.st"), "a.st", ("b.st", 2), "c.st", ("d.st", THIRD), ("e.st", 2))

    assert Method.SUM is made.method
    assert contents(Path("once.st")) == contents(Path("all.st"))


def test_a_soup_of_another_weight_is_added_by_its_sum(stages):
    revise("add", "one.st", Path("all.st"), [("two.st", 1)])
    come_back()
    parts = [Fraction(3, 10), Fraction(1, 10), Fraction(6, 10)]
    pairs = zip(("c.st", "d.st", "e.st"), parts, strict=True)
    average(Path("once.st"), "a.st", ("b.st", 2), *pairs)

    assert contents(Path("once.st")) == contents(Path("all.st"))


def test_a_soup_that_shares_ingredients_is_added_by_its_sum(stages):
    revise("add", "one.st", Path("all.st"), ["two.st"])
    made = revise("add", "all.st", Path("twice.st"), ["two.st"], again=True)
    come_back()
    average(Path("once.st"), "a.st", ("b.st", 2), ("c.st", 2), ("d.st", 2 * THIRD), ("e.st", 4))

    assert Method.SUM is made.method
    assert contents(Path("once.st")) == contents(Path("twice.st"))


def test_a_soup_without_a_sum_needs_its_ingredients(stages):
    for path in Path().glob("two.st.*.sum"):
        path.unlink()

    with pytest.raises(LedgerError, match="is not found"):
        revise("add", "one.st", Path("all.st"), ["two.st"])
    assert not Path("all.st").exists()


def test_a_sum_of_other_tensors_is_not_added_up(stages):
    """Then the ingredients are put in one by one, and of those only what is selected."""
    come_back()
    average(Path("few.st"), "c.st", "d.st", excludes=("ids",), keep_sum=True)
    made = revise("add", "one.st", Path("all.st"), ["few.st"])
    average(Path("once.st"), "a.st", ("b.st", 2), "c.st", "d.st")

    assert Method.SUM is made.method
    assert contents(Path("once.st")) == contents(Path("all.st"))


def test_a_soup_with_an_integer_source_is_not_added_by_its_sum(stages):
    come_back()
    for name, start in (("x", 7), ("y", 8)):
        save(Path(f"{name}.st"), w=np.zeros(300, np.float16), ids=np.arange(start, start + 3))
    average(Path("first.st"), "x.st", "y.st", on_int=OnInt.FIRST, keep_sum=True)

    with pytest.raises(MismatchError, match="has other values"):
        revise("add", "one.st", Path("all.st"), ["first.st"])
