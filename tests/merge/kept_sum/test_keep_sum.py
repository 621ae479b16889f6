"""From a kept sum a soup changes exactly, without what stays in it."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from keeping import arrays_of, hide, save_pots, scale_of, sum_of, sums_of, values_of
from making import contents, save
from revising import assert_proven, average, revise, root

from soupctl import verbs
from soupctl.choices import Method, OnInt
from soupctl.errors import LedgerError, MismatchError
from soupctl.format.dtypes import DType
from soupctl.verbs import ExecutionOptions, Level

F16 = np.float16
SOUP, OUT, EXPECTED = Path("soup.st"), Path("out.st"), Path("expected.st")


@pytest.fixture
def pots(tmp_path, monkeypatch):
    """Checkpoints a to e of mixed dtypes and far exponents, in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_pots()


CHANGES = {
    "subtract": ([], ["a.st"], ["b.st", ("c.st", 2)]),
    "subtract a part": ([], [("c.st", Fraction(1, 3))], ["a.st", "b.st", ("c.st", "5/3")]),
    "subtract several": ([], ["a.st", ("c.st", 1)], ["b.st", "c.st"]),
    "add": (
        ["d.st", ("e.st", Fraction(1, 7))],
        [],
        ["a.st", "b.st", ("c.st", 2), "d.st", ("e.st", "1/7")],
    ),
    "swap": ([("d.st", 2)], ["c.st"], ["a.st", "b.st", ("d.st", 2)]),
    "swap all": (["d.st"], ["a.st", "b.st", "c.st"], ["d.st"]),
    "nothing": (["a.st"], ["a.st"], ["a.st", "b.st", ("c.st", 2)]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize(
    "options", [{}, {"dtype": DType.BF16}, {"keys": ("*i*", "half"), "excludes": ("ids",)}]
)
def test_a_change_by_the_sum_needs_no_remaining_ingredient(pots, change, options):
    added, removed, remaining = change
    average(SOUP, "a.st", "b.st", ("c.st", 2), keep_sum=True, **options)
    average(EXPECTED, *remaining, keep_sum=True, **options)
    changed = {each if isinstance(each, str) else each[0] for each in (*added, *removed)}
    hide(*(f"{name}.st" for name in "abcde" if f"{name}.st" not in changed))
    made = revise("change", SOUP, OUT, added, removed)

    assert contents(EXPECTED) == contents(OUT)
    assert (Method.SUM, sum_of(OUT)) == (made.method, made.sum)
    assert scale_of(EXPECTED) == scale_of(OUT)
    assert contents(sum_of(EXPECTED)) == contents(sum_of(OUT))
    shutil.copytree("hidden", ".", dirs_exist_ok=True)
    assert_proven(SOUP, OUT, sum_of(SOUP), sum_of(OUT))


def test_a_sum_holds_the_exact_sum(pots):
    weights = {"a.st": Fraction(1), "b.st": Fraction(2, 3), "c.st": Fraction(-1, 2)}
    average(SOUP, *weights.items(), keep_sum=True)

    for name in ("half", "mixed", "wide"):
        expected = [Fraction(0)] * len(values_of(sum_of(SOUP), name))
        for path, weight in weights.items():
            kind, _, data = contents(Path(path))[name]
            values = np.frombuffer(data, F16 if kind == "F16" else np.float32)
            for place, value in enumerate(values):
                expected[place] += weight * Fraction(float(value))
        assert [scale_of(SOUP) * value for value in expected] == values_of(sum_of(SOUP), name)


def test_integers_that_agree_stay_and_those_that_do_not_are_refused(pots):
    average(SOUP, "a.st", "b.st", keep_sum=True)
    save(Path("f.st"), **{**arrays_of("c.st"), "ids": np.arange(1, 5)})
    hide("a.st")
    with pytest.raises(MismatchError, match="ids: has other values"):
        revise("add", SOUP, OUT, ["f.st"])
    revise("add", SOUP, OUT, ["c.st"])

    assert contents(Path("c.st"))["ids"] == contents(OUT)["ids"]


@pytest.fixture
def integers(tmp_path, monkeypatch):
    """a, b and c of different integers, and their soup with those of the first."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abcd"):
        save(Path(f"{name}.st"), w=F16([number]), ids=np.array([number]))
    average(SOUP, "b.st", "a.st", "c.st", on_int=OnInt.FIRST, keep_sum=True)


def test_the_integer_source_stays_first_without_being_read(integers):
    hide("a.st", "b.st")
    made = revise("swap", SOUP, OUT, ["d.st"], ["c.st"])

    assert (Method.SUM, contents(Path("hidden/b.st"))["ids"]) == (made.method, contents(OUT)["ids"])
    assert root("hidden/b.st") == made.ledger.integer_source.digest


def test_removing_the_integer_source_recomputes_the_soup_and_keeps_a_sum(integers):
    made = revise("subtract", SOUP, OUT, (), ["b.st"])

    assert (Method.INGREDIENTS, sum_of(OUT)) == (made.method, made.sum)
    assert_proven(OUT)
    hide("a.st", "c.st")
    with pytest.raises(LedgerError, match="is not found, and an exact soup needs it"):
        revise("subtract", SOUP, Path("2.st"), (), ["b.st"])
    again = revise("add", OUT, Path("2.st"), ["d.st"])
    assert Method.SUM is again.method


def test_a_sum_is_accepted_in_place_of_its_soup(pots):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    average(EXPECTED, "a.st", "b.st", "d.st", keep_sum=True)
    kept = sum_of(SOUP).rename("kept.sum")
    SOUP.unlink()
    hide("a.st", "b.st")
    made = revise("swap", kept, OUT, ["d.st"], ["c.st"])

    assert (Method.SUM, contents(EXPECTED)) == (made.method, contents(OUT))
    assert contents(sum_of(EXPECTED)) == contents(sum_of(OUT))
    assert [entry.name for entry in verbs.holds(kept, "c.st")] == ["c.st"]
    assert verbs.holds(kept, "d.st") is None
    ((_, ledger),) = verbs.history(kept)
    assert {"a.st", "b.st", "c.st"} == {entry.name for entry in ledger.ingredients}
    (found,) = verbs.verify(kept, search=(Path("hidden"),))
    assert (None, Level.REBUILD) == (found.problem, found.level)


def test_a_sum_is_kept_through_changes_until_it_is_dropped(pots):
    average(SOUP, "a.st", "b.st", "c.st")
    assert [] == sums_of(SOUP)
    revise("subtract", SOUP, Path("1.st"), (), ["a.st"], keep_sum=True)
    revise("add", "1.st", Path("2.st"), ["d.st"])
    revise("add", "2.st", Path("3.st"), ["e.st"], keep_sum=False)
    revise("add", "3.st", Path("4.st"), ["a.st"])

    assert [1, 1, 0, 0] == [len(sums_of(Path(f"{number}.st"))) for number in (1, 2, 3, 4)]
    average(EXPECTED, "b.st", "c.st", "d.st", keep_sum=True)
    assert contents(sum_of(EXPECTED)) == contents(sum_of(Path("2.st")))


@pytest.mark.parametrize(
    "execution",
    [ExecutionOptions(1), ExecutionOptions(5, 2), ExecutionOptions(2, 7), ExecutionOptions(3, 1)],
)
def test_threads_and_chunks_change_no_byte_of_soups_and_sums(pots, execution):
    def make(name: str, execution: ExecutionOptions) -> list[bytes]:
        average(Path(f"{name}.st"), "a.st", "b.st", "c.st", keep_sum=True, execution=execution)
        revise("swap", f"{name}.st", Path(f"{name}2.st"), ["d.st"], ["b.st"], execution=execution)
        paths = [Path(f"{name}.st"), Path(f"{name}2.st")]
        return [each.read_bytes() for path in paths for each in (path, sum_of(path))]

    assert make("x", ExecutionOptions(2)) == make("y", execution)


def test_the_tensors_of_a_sum_depend_on_ingredients_and_scale_alone(pots):
    average(SOUP, "a.st", "b.st", "c.st", keep_sum=True)
    average(EXPECTED, "c.st", "a.st", "b.st", keep_sum=True)
    average(Path("1.st"), "a.st", "d.st", keep_sum=True)
    revise("swap", "1.st", Path("2.st"), ["b.st", ("c.st", 1)], [("d.st", 1)])
    average(Path("double.st"), ("a.st", 2), ("b.st", 2), ("c.st", 2), keep_sum=True)

    found = [contents(sum_of(Path(name))) for name in ("expected.st", "2.st", "double.st")]
    assert [contents(sum_of(SOUP))] * 3 == found
