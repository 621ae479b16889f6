"""A weight may differ by block; a ledger says where, and says nothing where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.ledger.block_weights import WeightByBlock
from soupctl.ledger.changes import WeightRemoval, changes, require_left, taken_out
from soupctl.ledger.entries import as_state, merged, weighted
from soupctl.ledger.ledger import Change, IngredientEntry, Ledger, SoupState
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.ledger.replay import contradictions
from soupctl.ledger.sealed import canonical

HALF, THIRD, ONE, NONE = Fraction(1, 2), Fraction(1, 3), Fraction(1), Fraction(0)
BLOCKS = ("out.*", "*.attn.*")


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode()).hexdigest()


def entry(letter: str, usual: Fraction, *blocks: Fraction) -> IngredientEntry:
    runs = ((DType.F16, 2),)
    return IngredientEntry(
        f"blake3:{letter * 64}", f"{letter}.st", f"{letter}.st", usual, runs, blocks=blocks
    )


def soup(*entries: IngredientEntry, **more) -> Ledger:
    return Ledger("avg", "blake3:" + "9" * 64, entries, ((DType.F16, 2),), blocks=BLOCKS, **more)


EXAMPLE = soup(entry("a", ONE), entry("b", NONE, HALF, THIRD), entry("c", ONE, NONE, -HALF))


def reread(ledger: Ledger) -> Ledger:
    return parse_ledger(encode_ledger(ledger, digest), "x", digest)


def test_weights_by_block_are_read_as_they_are_written():
    removal = SoupState("subtract", (Change("blake3:" + "d" * 64, "d.st", -ONE),), "", True)
    changed = (Change("blake3:" + "b" * 64, "b.st", NONE, (HALF, NONE)),)
    state = replace(removal, root="blake3:" + "8" * 64)
    chained = replace(EXAMPLE, chain=(as_state(EXAMPLE), state), changed=changed)

    for ledger in (EXAMPLE, chained):
        assert ledger == reread(ledger)
        assert 2 == json.loads(encode_ledger(ledger, digest))["format"]


def test_a_ledger_without_blocks_has_the_text_that_it_had():
    plain = replace(soup(entry("a", ONE)), blocks=())

    assert 1 == json.loads(encode_ledger(plain, digest))["format"]
    assert "blocks" not in encode_ledger(plain, digest)


@pytest.mark.parametrize(
    "forged",
    [
        replace(EXAMPLE, blocks=BLOCKS[:1]),
        replace(EXAMPLE, blocks=()),
        soup(entry("a", ONE)),
        soup(entry("a", ONE, ONE, ONE), entry("b", ONE, HALF, ONE)),
        soup(entry("a", NONE), entry("b", ONE, HALF, ONE)),
        soup(entry("a", NONE, HALF, HALF)),
        replace(EXAMPLE, changed=(Change("blake3:" + "a" * 64, "a.st", ONE, (ONE,)),)),
    ],
    ids=["one-block", "no-block", "no-weights", "redundant", "zero", "no-total", "short-change"],
)
def test_weights_that_do_not_fit_the_blocks_are_refused(forged):
    with pytest.raises(LedgerError, match=r"malformed|altered"):
        reread(forged)


def test_a_weight_that_was_altered_in_one_block_is_found():
    document = json.loads(encode_ledger(EXAMPLE, digest))
    document["ingredients"][1]["blocks"][0] = "1/4"

    with pytest.raises(LedgerError, match="altered"):
        parse_ledger(canonical(document), "x", digest)


vectors = st.builds(
    lambda usual, blocks: WeightByBlock(usual, tuple(blocks)),
    st.fractions(-2, 2, max_denominator=3),
    st.lists(st.fractions(-2, 2, max_denominator=3), min_size=2, max_size=2) | st.just([]),
)


@given(vectors, vectors, st.fractions(-2, 2, max_denominator=3))
def test_weights_are_added_and_scaled_in_each_block(one, other, factor):
    places = (one.usual, *one.spread(2)), (other.usual, *other.spread(2))
    pairs = list(zip(*places, strict=True))

    found = one + other
    assert [x + y for x, y in pairs] == [found.usual, *found.spread(2)]
    assert [x * factor for x, _ in pairs] == [(one * factor).usual, *(one * factor).spread(2)]
    assert not one - one
    assert bool(one) == any(places[0])


def test_weights_of_one_content_add_up_by_block():
    again = weighted(entry("b", ONE), WeightByBlock(ONE, (HALF, -THIRD)))
    (found,) = merged([entry("b", NONE, HALF, THIRD), again])

    assert (ONE, (ONE, NONE)) == (found.weight, found.blocks)


def test_an_ingredient_goes_with_all_its_weights_or_with_the_same_part_of_each():
    removal = WeightRemoval(EXAMPLE.ingredients[2].digest, "c.st")
    assert EXAMPLE.ingredients[:2] == taken_out(EXAMPLE, [removal], "soup.st")

    left = taken_out(EXAMPLE, [replace(removal, weight=THIRD)], "soup.st")[2]
    assert (1 - THIRD, (NONE, -HALF * (1 - THIRD))) == (left.weight, left.blocks)


def test_a_part_of_a_weight_that_is_zero_outside_of_blocks_is_refused():
    removal = WeightRemoval(EXAMPLE.ingredients[1].digest, "b.st", THIRD)

    with pytest.raises(LedgerError, match=r"has weight 0 in soup\.st, so 1/3 cannot be removed"):
        taken_out(EXAMPLE, [removal], "soup.st")


def test_an_ingredient_with_weight_in_some_blocks_only_makes_no_soup_alone():
    removal = WeightRemoval(EXAMPLE.ingredients[0].digest, "a.st")

    with pytest.raises(LedgerError, match=r"has weight in some blocks only \(replace it with swap"):
        require_left(EXAMPLE.ingredients[1:2], [removal], "soup.st")


def test_changes_by_block_replay_to_the_present_weights():
    before, after = EXAMPLE.ingredients, (*EXAMPLE.ingredients[1:], entry("d", ONE))
    found = changes(before, after)
    assert [(-ONE, ()), (ONE, ())] == [(each.weight, each.blocks) for each in found]

    chain = (as_state(EXAMPLE),)
    later = replace(
        EXAMPLE, operation="swap", ingredients=after, changed=found, chain=chain, root="later"
    )
    assert [] == list(contradictions(later))
    forged = replace(later, ingredients=(entry("b", NONE, HALF, HALF), *after[1:]))
    assert "lists ingredients or weights that do not follow from its history" in contradictions(
        forged
    )
