"""A changed soup has the tensors of one that was averaged at once from what remains."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, metadata, save, save_raw
from revising import average, revise, root

from soupctl import verbs
from soupctl.choices import Level, OnInt
from soupctl.errors import LedgerError, UsageError
from soupctl.format.dtypes import DType
from soupctl.verbs import Addition, ComponentResult, ExecutionOptions, Removal, Revision

F16 = np.float16


@pytest.fixture
def place(tmp_path):
    """Checkpoints a to e of mixed dtypes, in a folder of their own."""
    generator = np.random.default_rng(3)
    for number, name in enumerate("abcde"):
        save(
            tmp_path / "in" / f"{name}.st",
            {"format": "pt"},
            half=generator.normal(0, 1, (7, 5)).astype(F16),
            single=generator.normal(0, 1, 9).astype(F16 if number % 2 else np.float32),
            ids=np.arange(4),
        )
    return tmp_path


def test_a_soup_after_removal_equals_one_that_never_held_the_ingredient(place):
    a, b, c, d, e = (place / "in" / f"{name}.st" for name in "abcde")
    average(place / "1.st", a, (b, Fraction(1, 3)), (c, 2))
    average(place / "expected.st", a, (b, Fraction(1, 4)), d, (e, 3))
    revise("add", place / "1.st", place / "2.st", [d, (e, Fraction(3))])
    revise("subtract", place / "2.st", place / "3.st", (), [c, (b, Fraction(1, 12))])
    revise("swap", place / "1.st", place / "4.st", [(e, Fraction(3))], [c])
    made = revise(
        "anything",
        place / "4.st",
        place / "5.st",
        [d],
        [("b.st", Fraction(1, 12))],
        execution=ExecutionOptions(5),
    )

    for last in ("3.st", "5.st"):
        assert contents(place / "expected.st") == contents(place / last)
    assert root(place / "expected.st") == made.ledger.root == root(place / "5.st")


def test_threads_and_chunks_do_not_change_a_byte(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    average(place / "1.st", a, b, c)
    revise("subtract", place / "1.st", place / "2.st", (), [b], execution=ExecutionOptions(1))
    revise("subtract", place / "1.st", place / "3.st", (), [b], execution=ExecutionOptions(5, 2))

    assert (place / "2.st").read_bytes() == (place / "3.st").read_bytes()


def test_equal_changes_at_equal_places_give_an_equal_file(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    found = set()
    for _ in range(2):
        average(place / "1.st", a, b)
        revise("add", place / "1.st", place / "2.st", [c])
        revise("swap", place / "2.st", place / "3.st", [place / "in" / "d.st"], [a])
        found.add((place / "3.st").read_bytes())
        for name in ("1.st", "2.st", "3.st"):
            (place / name).unlink()

    assert 1 == len(found)


def test_an_added_soup_counts_as_its_own_ingredients(place):
    a, b, c, d, e = (place / "in" / f"{name}.st" for name in "abcde")
    average(place / "1.st", a, (b, 2))
    average(place / "2.st", c, (d, 3))
    average(place / "expected.st", a, (b, 2), c, (d, 3), e)
    made = revise("add", place / "1.st", place / "3.st", [place / "2.st", e])

    assert contents(place / "expected.st") == contents(place / "3.st")
    assert root(place / "3.st") == made.ledger.root
    expected = {"a.st": 1, "b.st": 2, "c.st": 1, "d.st": 3, "e.st": 1}
    assert expected == {entry.name: entry.weight for entry in made.ledger.ingredients}


def test_the_weight_of_an_added_soup_is_shared_among_its_ingredients(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    average(place / "1.st", a)
    average(place / "2.st", b, (c, 3))
    made = revise("add", place / "1.st", place / "3.st", [(place / "2.st", Fraction(1, 2))])

    expected = {"a.st": 1, "b.st": Fraction(1, 8), "c.st": Fraction(3, 8)}
    assert expected == {entry.name: entry.weight for entry in made.ledger.ingredients}


def test_an_ingredient_of_the_soup_is_added_again_only_when_asked(place):
    a, b = place / "in" / "a.st", place / "in" / "b.st"
    average(place / "1.st", a, b)
    average(place / "expected.st", (a, 4), b)
    for twice in ([a], [b, place / "1.st"], [place / "in" / "c.st", place / "in" / "c.st"]):
        with pytest.raises(LedgerError, match=r"is (in .*1\.st|added) already, as"):
            revise("add", place / "1.st", place / "2.st", twice)
    revise("add", place / "1.st", place / "2.st", [a, (a, 2)], again=True)

    assert contents(place / "expected.st") == contents(place / "2.st")


def test_a_swapped_ingredient_takes_the_weight_of_the_old_one(place):
    a, b, c, d = (place / "in" / f"{name}.st" for name in "abcd")
    average(place / "1.st", a, (b, Fraction(7, 10)))
    made = revise("swap", place / "1.st", place / "2.st", [c], [b])
    part = revise("swap", place / "1.st", place / "3.st", [d], [(b, Fraction(1, 5))])

    def weights(found: ComponentResult) -> dict[str, Fraction]:
        return {entry.name: entry.weight for entry in found.ledger.ingredients}

    assert {"a.st": 1, "c.st": Fraction(7, 10)} == weights(made)
    assert {"a.st": 1, "b.st": Fraction(1, 2), "d.st": Fraction(1, 5)} == weights(part)


def test_the_only_ingredient_can_be_swapped(place):
    a, b = place / "in" / "a.st", place / "in" / "b.st"
    average(place / "1.st", a)
    revise("swap", place / "1.st", place / "2.st", [b], [a])

    assert contents(b) == contents(place / "2.st")


def test_the_dtype_follows_the_remaining_ingredients(tmp_path):
    save(tmp_path / "a.st", w=F16([1, 2, 3]))
    save(tmp_path / "b.st", w=F16([3, 2, 1]))
    save(tmp_path / "x.st", w=np.float32([1, 2.5, 3]))
    average(tmp_path / "expected.st", tmp_path / "a.st", tmp_path / "b.st")
    average(tmp_path / "1.st", *(tmp_path / name for name in ("a.st", "b.st", "x.st")))
    revise("subtract", tmp_path / "1.st", tmp_path / "2.st", (), ["x.st"])
    revise("subtract", tmp_path / "1.st", tmp_path / "3.st", (), ["x.st"], approximate=True)

    assert "F32" == contents(tmp_path / "1.st")["w"][0]
    assert contents(tmp_path / "expected.st") == contents(tmp_path / "2.st")
    assert "F32" == contents(tmp_path / "3.st")["w"][0]


def test_an_asked_dtype_and_a_selection_are_kept(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    options = {"dtype": DType.BF16, "keys": ("*i*", "half"), "excludes": ("id*",)}
    average(place / "1.st", a, b, **options)
    average(place / "expected.st", a, c, **options)
    made = revise("swap", place / "1.st", place / "2.st", [c], [b])

    assert {"half": "BF16", "single": "BF16"} == {
        k: v[0] for k, v in contents(place / "2.st").items()
    }
    assert contents(place / "expected.st") == contents(place / "2.st")
    kept = (made.ledger.asked_dtype, made.ledger.keys, made.ledger.excludes)
    assert tuple(options.values()) == kept


def test_allow_nonfinite_is_kept(tmp_path):
    for name, value in (("a", 1), ("b", np.inf), ("c", 3)):
        save(tmp_path / f"{name}.st", w=F16([value, 1]))
    a, b, c = (tmp_path / f"{name}.st" for name in "abc")
    average(tmp_path / "1.st", a, b, c, allow_nonfinite=True)
    average(tmp_path / "expected.st", a, c)
    revise("subtract", tmp_path / "1.st", tmp_path / "2.st", (), [b])

    assert contents(tmp_path / "expected.st") == contents(tmp_path / "2.st")


@pytest.fixture
def integers(tmp_path):
    for number, name in enumerate("abc"):
        save(tmp_path / f"{name}.st", w=F16([number]), ids=np.array([number]), same=np.arange(2))
    return [tmp_path / f"{name}.st" for name in "abc"]


def ids(path: Path) -> int:
    return int.from_bytes(contents(path)["ids"][2], "little")


def test_integers_stay_those_of_the_integer_source(integers, tmp_path):
    a, b, c = integers
    for number, first in enumerate(integers):
        one, two = tmp_path / f"{number}-1.st", tmp_path / f"{number}-2.st"
        average(one, first, *(each for each in (a, b) if each != first), on_int=OnInt.FIRST)
        change = {"removed": [a]} if first is c else {"added": [c]}
        made = revise("change", one, two, **change)

        assert number == ids(two)
        assert (root(first), ("ids",)) == (
            made.ledger.integer_source.digest,
            made.ledger.integer_source.tensors,
        )


def test_removing_the_integer_source_takes_another_ingredients_integers(integers, tmp_path):
    average(tmp_path / "1.st", *integers, on_int=OnInt.FIRST)
    made = revise("subtract", tmp_path / "1.st", tmp_path / "2.st", (), ["a.st"])
    alone = revise("subtract", tmp_path / "2.st", tmp_path / "3.st", (), ["b.st"])

    first = min(integers[1:], key=root)
    assert (root(first), ids(first)) == (made.ledger.integer_source.digest, ids(tmp_path / "2.st"))
    assert (root(integers[2]), 2) == (alone.ledger.integer_source.digest, ids(tmp_path / "3.st"))


@pytest.mark.parametrize("keep_sum", [False, True])
def test_integers_that_differ_are_allowed_once_they_were(integers, tmp_path, keep_sum):
    a, b, c = integers
    soup, less, more = (tmp_path / f"{number}.st" for number in (1, 2, 3))
    for removed, left in ((a, b), (b, a)):
        average(soup, a, b, on_int=OnInt.FIRST, keep_sum=keep_sum, force=True)
        revise("subtract", soup, less, (), [removed], force=True)
        revise("add", less, more, [c], force=True)

        assert (ids(left), ids(left)) == (ids(less), ids(more))
        (_, ledger), *_ = verbs.history(less)
        assert root(left) == ledger.integer_source.digest
        assert all(each.reaches(Level.REBUILD) for each in verbs.verify(more))


def test_the_integer_source_does_not_depend_on_how_a_soup_is_computed(integers, tmp_path):
    a, b, _ = integers
    made = []
    for keep_sum in (False, True):
        soup = tmp_path / f"{keep_sum}.st"
        average(soup, a, b, on_int=OnInt.FIRST, keep_sum=keep_sum)
        made.append(revise("subtract", soup, tmp_path / f"{keep_sum}-2.st", (), [b]).ledger)

    assert made[0] == made[1]


def test_the_ledger_records_every_state(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    first = average(place / "1.st", a, (b, 2))
    second = revise("add", place / "1.st", place / "2.st", [c])
    third = revise("subtract", place / "2.st", place / "3.st", (), [(b, Fraction(1, 2)), c])

    told = [
        (record.operation, record.root, {each.name: each.weight for each in record.changed})
        for record in third.ledger.chain
    ]
    expected = [
        ("avg", first.ledger.root, {"a.st": 1, "b.st": 2}),
        ("add", second.ledger.root, {"c.st": 1}),
    ]
    assert expected == told
    assert "subtract" == third.ledger.operation
    changed = {each.name: each.weight for each in third.ledger.changed}
    assert {"b.st": Fraction(-1, 2), "c.st": -1} == changed
    assert third.ledger == verbs.history(place / "3.st")[0][1]


def test_ancestors_are_removed_with_their_soup(place):
    a, b, c, d = (place / "in" / f"{name}.st" for name in "abcd")
    average(place / "1.st", a, b)
    average(place / "2.st", place / "1.st", c, d)
    stays = revise("subtract", place / "2.st", place / "3.st", (), [d])
    gone = revise("subtract", place / "2.st", place / "4.st", (), [place / "1.st"])
    comes = revise("add", place / "4.st", place / "5.st", [place / "3.st"], again=True)

    assert [root(place / "1.st")] == list(stays.ledger.ancestors)
    assert {} == gone.ledger.ancestors
    assert '"a.st"' not in metadata(place / "4.st")["soupctl"]
    assert [root(place / "1.st")] == list(comes.ledger.ancestors)


def test_a_weight_is_exact_and_not_zero(place):
    for make in (Addition, Removal):
        for weight in (0.5, 0, Fraction(0)):
            with pytest.raises(UsageError, match=r"is not exact|a weight of zero"):
                make("a.st", weight)
    for total in (0, -1, 1.0):
        with pytest.raises(UsageError, match=r"is not exact|weight of"):
            Revision("add", "soup.st", "new.st", [Addition("a.st")], total=total)


def test_standard_input_can_be_only_one_of_the_inputs():
    with pytest.raises(UsageError, match="only one of the inputs"):
        Revision("swap", "-", "new.st", [Addition("a.st")], [Removal("-")])


def test_hints_still_lead_to_ingredients_from_another_output_folder(place):
    a, b, c = (place / "in" / f"{name}.st" for name in "abc")
    average(place / "1.st", a, b)
    (place / "deep" / "er").mkdir(parents=True)
    made = revise("add", place / "1.st", place / "deep" / "er" / "2.st", [c])
    back = revise("subtract", place / "deep" / "er" / "2.st", place / "in" / "3.st", (), ["c.st"])
    shutil.rmtree(place / "deep")

    hints = {f"../../in/{name}.st" for name in "abc"}
    assert hints == {entry.hint for entry in made.ledger.ingredients}
    assert {"a.st", "b.st"} == {entry.hint for entry in back.ledger.ingredients}
    assert contents(place / "1.st") == contents(place / "in" / "3.st")


def test_a_soup_of_mixed_16_bit_dtypes_becomes_16_bit_again(tmp_path):
    save_raw(tmp_path / "a.st", {"w": ("BF16", (1,), b"\x81\x3f")})
    save_raw(tmp_path / "b.st", {"w": ("F16", (1,), b"\x01\x40")})
    average(tmp_path / "1.st", tmp_path / "a.st", tmp_path / "b.st")
    for gone, left in ("ab", "ba"):
        revise("subtract", tmp_path / "1.st", tmp_path / f"{left}2.st", (), [f"{gone}.st"])

        assert contents(tmp_path / f"{left}.st") == contents(tmp_path / f"{left}2.st")
