"""What is put in and taken out adds up exactly, and what cannot be is refused by name."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.ledger.block_weights import WeightByBlock
from soupctl.ledger.changes import (
    WeightRemoval,
    changes,
    expanded,
    require_left,
    require_new,
    taken_out,
)
from soupctl.ledger.entries import merged
from soupctl.ledger.ledger import Change, IngredientEntry, Ledger

RUN = ((DType.F16, 1),)


def digest(letter: str) -> str:
    return "blake3:" + letter * 64


def entry(letter: str, weight: Fraction | int = 1) -> IngredientEntry:
    return IngredientEntry(digest(letter), f"{letter}.st", f"../{letter}.st", Fraction(weight), RUN)


def ledger(**weights: Fraction | int) -> Ledger:
    entries = tuple(entry(letter, weight) for letter, weight in sorted(weights.items()))
    return Ledger("avg", digest("9"), entries, RUN)


def without(
    held: Ledger, letter: str, weight: Fraction | int | None = None
) -> tuple[IngredientEntry, ...]:
    part = None if weight is None else Fraction(weight)
    return taken_out(held, [WeightRemoval(digest(letter), f"./{letter}.st", part)], "soup.st")


def refusal(held: Ledger, *removals: WeightRemoval) -> str:
    with pytest.raises(LedgerError) as caught:
        taken_out(held, removals, "soup.st")
    return caught.value.message()


def test_a_removed_ingredient_is_gone_and_the_others_stay():
    held = ledger(a=1, b=Fraction(1, 3), c=2)

    assert (entry("a"), entry("c", 2)) == without(held, "b")


@pytest.mark.parametrize(("weight", "part"), [(1, Fraction(1, 3)), (-2, Fraction(-1, 2))])
def test_a_partly_removed_ingredient_keeps_the_rest_of_its_weight(weight, part):
    held = ledger(a=weight, b=9)

    assert (entry("a", weight - part), entry("b", 9)) == without(held, "a", part)
    assert (entry("b", 9),) == without(held, "a", weight)


@pytest.mark.parametrize(
    ("weight", "part"), [(1, Fraction(4, 3)), (1, -1), (-2, 1), (-2, -3), (1, Fraction(-1, 9))]
)
def test_removing_more_than_is_in_or_the_other_sign_is_refused(weight, part):
    removal = WeightRemoval(digest("a"), "./a.st", Fraction(part))

    expected = f"./a.st: has weight {weight} in soup.st, so {part} cannot be removed"
    assert expected == refusal(ledger(a=weight, b=9), removal)


def test_removing_an_unknown_ingredient_names_those_of_the_soup():
    expected = "./d.st: is not in soup.st (it holds a.st, b.st)"
    assert expected == refusal(ledger(a=1, b=1), WeightRemoval(digest("d"), "./d.st"))


def test_all_refusals_come_at_once_and_a_long_list_is_cut():
    held = ledger(**dict.fromkeys("0123456", 1))
    found = refusal(held, WeightRemoval(digest("a"), "x"), WeightRemoval(digest("b"), "y"))

    advice = "(it holds 0.st, 1.st, 2.st, 3.st, 4.st and 2 more)"
    assert f"x: is not in soup.st {advice}; y: is not in soup.st {advice}" == found


def test_a_removed_ingredient_cannot_be_removed_again():
    held = ledger(a=2, b=1)
    half, whole = WeightRemoval(digest("a"), "a", Fraction(1)), WeightRemoval(digest("a"), "a")

    assert (entry("b"),) == taken_out(held, [half, half], "soup.st")
    assert (entry("b"),) == taken_out(held, [half, whole], "soup.st")
    assert "a: would be removed from soup.st twice" == refusal(held, whole, half)
    assert "a: would be removed from soup.st twice" == refusal(held, whole, whole)


@pytest.mark.parametrize("left", [(), (entry("a", -1),), (entry("a", 1), entry("b", -1))])
def test_a_soup_without_weight_is_refused(left):
    removals = [WeightRemoval(digest("c"), "c.st")]
    with pytest.raises(
        LedgerError, match=r"^c\.st: cannot be removed: nothing would be left of soup\.st"
    ):
        require_left(left, removals, "soup.st")
    with pytest.raises(LedgerError, match=r"^soup\.st: no ingredient would be left$"):
        require_left(left, [], "soup.st")


def test_adding_an_ingredient_of_the_soup_or_one_twice_is_refused():
    held, b, c = [entry("a")], entry("b"), entry("c")
    require_new(held, [("b.st", b), ("c.st", c)], "soup.st")

    added = [("x/a.st", entry("a", 2)), ("b.st", b), ("copy.st", b)]
    with pytest.raises(LedgerError) as caught:
        require_new(held, added, "soup.st")
    advice = "(--again adds its weight once more)"
    expected = [
        f"x/a.st: is in soup.st already, as a.st {advice}",
        f"copy.st: is added already, as b.st {advice}",
    ]
    assert expected == list(map(str, caught.value.issues))


@given(
    st.lists(st.fractions(Fraction(1, 9), 9, max_denominator=9), min_size=1, max_size=6),
    st.fractions(Fraction(1, 9), 9, max_denominator=9),
)
def test_the_weight_of_an_added_soup_is_shared_by_its_ingredients(weights, asked):
    soup = ledger(**dict(zip("abcdef", map(Fraction, weights), strict=False)))
    found = expanded(soup, WeightByBlock(asked))

    assert soup.ingredients == expanded(soup, None)
    assert asked == sum(each.weight for each in found)
    scale = asked / sum(weights)
    assert [weight * scale for weight in weights] == [each.weight for each in found]


weights_of = st.dictionaries(
    st.sampled_from("abcd"), st.fractions(-2, 2, max_denominator=3).filter(bool)
)


@given(weights_of, weights_of)
def test_changes_are_the_difference_and_applied_they_give_the_new_state(old, new):
    before, after = ledger(**old).ingredients, ledger(**new).ingredients
    found = changes(before, after)
    applied = Counter({each.digest: each.weight for each in before})
    for change in found:
        applied[change.digest] += change.weight

    assert sorted(each.digest for each in found) == [each.digest for each in found]
    assert all(isinstance(each, Change) and each.weight for each in found)
    assert {each.digest: each.weight for each in after} == {k: v for k, v in applied.items() if v}


@given(weights_of, st.permutations("abcd"))
def test_the_order_of_removals_does_not_matter(weights, order):
    held = ledger(**weights)
    going = [WeightRemoval(digest(letter), letter) for letter in order if letter in weights][1:]

    found = taken_out(held, going, "soup.st")
    assert taken_out(held, going[::-1], "soup.st") == found == merged(found)
