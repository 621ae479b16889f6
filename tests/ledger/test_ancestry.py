"""The ancestors of a soup are those that the ledgers of its ingredients agree about."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from fractions import Fraction

import pytest
from drawn_ledgers import TRAINING, entry, gather_ancestors, ledgers, plain, root, text_of
from hypothesis import given
from hypothesis import strategies as st

from soupctl.ledger.ancestry import Ancestry, ancestry
from soupctl.ledger.ledger import (
    Change,
    Ledger,
    SoupState,
)


@given(st.lists(ledgers, max_size=4), st.randoms())
def test_ancestors_do_not_depend_on_the_order_of_the_ingredients(soups, random):
    expected = ancestry(soups)
    random.shuffle(soups)
    found = ancestry(soups)

    assert expected == found
    assert list(expected.ledgers) == list(found.ledgers)


def knowing(ledger: Ledger, *ancestors: Ledger) -> Ledger:
    return replace(ledger, ancestors={each.root: each for each in ancestors})


def test_a_ledger_is_believed_about_its_own_content_over_that_of_a_descendant():
    honest = plain("1", entry("a"), entry("b"))
    liar = knowing(plain("2", entry("1")), plain("1", entry("c"), entry("d")))
    found = ancestry([honest, liar])

    assert honest == found.ledgers[root("1")]
    assert (root("1"),) == found.disputed


def test_a_ledger_is_not_believed_about_content_that_is_no_ancestor():
    honest = plain("1", entry("a"), entry("b"))
    liar = knowing(plain("2", entry("c")), plain("1", entry("c"), entry("d")))

    assert Ancestry({root("1"): honest, root("2"): plain("2", entry("c"))}) == ancestry(
        [honest, liar]
    )


@pytest.mark.parametrize(
    "other",
    [
        plain("1", entry("c")),
        plain("1", entry("a"), entry("b", "2")),
        replace(plain("1", entry("a"), entry("b")), exact=False),
        Ledger("trained", root("1"), (), (), training=TRAINING),
    ],
    ids=["other ingredients", "other proportions", "not exact", "trained"],
)
def test_of_ledgers_of_descendants_that_contradict_each_other_none_is_believed(other):
    first = knowing(plain("2", entry("1")), plain("1", entry("a"), entry("b")))
    second = knowing(plain("3", entry("1")), other)
    found = ancestry([first, second])

    assert [root("2"), root("3")] == list(found.ledgers)
    assert (root("1"),) == found.disputed
    # what was disputed once stays so, whoever tells it again
    soup = plain("4", entry("2"), entry("3"))
    soup = replace(soup, ancestors=found.ledgers, disputed=found.disputed)
    assert (root("1"),) == ancestry([soup, first]).disputed
    assert () == ancestry([soup]).of([root("f")]).disputed


def test_equal_proportions_by_other_names_are_no_contradiction():
    first = knowing(plain("2", entry("1")), plain("1", entry("a"), entry("b")))
    twice = plain("1", entry("a", "2", "x.st"), entry("b", "2"))

    assert () == ancestry([first, knowing(plain("3", entry("1")), twice)]).disputed


def test_a_soup_of_itself_alone_does_not_contradict_its_ledger():
    known = knowing(plain("2", entry("1")), plain("1", entry("a"), entry("b")))
    found = ancestry([plain("1", entry("1")), known])

    assert () == found.disputed
    assert plain("1", entry("a"), entry("b")) == found.ledgers[root("1")]


def test_ancestors_of_soups_of_soups_are_stored_once_each():
    first = plain("1", entry("a"), entry("b"))
    second = replace(plain("2", entry("1"), entry("c")), ancestors=gather_ancestors([first]))
    third = replace(plain("3", entry("1"), entry("2")), ancestors=gather_ancestors([first, second]))
    found = gather_ancestors([first, second, third])

    assert [root("1"), root("2"), root("3")] == list(found)
    assert not any(ledger.ancestors for ledger in found.values())
    assert 1 == text_of(replace(plain("4", entry("3")), ancestors=found)).count(f'"{root("1")}":{{')


def test_gathering_soups_of_long_histories_takes_memory_of_their_length():
    state = SoupState("add", (Change(root("c"), "c.st", Fraction(1)),), root("2"), True)
    soups = [
        replace(plain(letter, entry("a"), entry("b")), chain=(state,) * 5_000) for letter in "12"
    ]
    size = len(text_of(soups[0]))

    tracemalloc.start()
    found = gather_ancestors(soups)
    assert tracemalloc.get_traced_memory()[1] < 20 * size
    tracemalloc.stop()
    assert [root("1"), root("2")] == list(found)


def test_a_soup_of_one_soup_keeps_the_ledger_of_that_soup():
    first = plain("1", entry("a"), entry("b"))
    # the same tensors again, so the same root
    second = replace(plain("1", entry("1")), ancestors=gather_ancestors([first]))

    assert {root("1"): first} == gather_ancestors([second])
