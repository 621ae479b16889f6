"""A ledger says what is in a soup, also where that is soups, and fits the room drafted for it."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import contents, metadata, save

from soupctl import verbs
from soupctl.checkpoints.digest import text_digest
from soupctl.errors import UsageError
from soupctl.format.dtypes import DType
from soupctl.format.header import encode_header
from soupctl.ledger.ledger import (
    LEDGER_KEY,
    UNKNOWN,
    IngredientEntry,
    IntegerSource,
    Ledger,
    PipelineShare,
)
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.merge.ingredients import ComponentInputs, Inputs
from soupctl.merge.new_ledger import complete_average
from soupctl.merge.order import Outcome
from soupctl.merge.recipe import Recipe
from soupctl.verbs import ComponentResult, Ingredient, Request

F16 = np.float16


def soup(output: Path, *paths: Path, **options: object) -> ComponentResult:
    (made,) = verbs.average(Request(list(map(Ingredient, paths)), output, **options))
    return made


@pytest.fixture
def four(tmp_path):
    for value, name in enumerate("abcd"):
        save(tmp_path / f"{name}.st", {"format": "pt"}, w=np.full(3, value + 0.5, F16))
    return [tmp_path / f"{name}.st" for name in "abcd"]


def test_the_ledger_in_the_file_is_the_one_that_is_returned(four, tmp_path):
    made = soup(tmp_path / "soup.st", *four)

    text = metadata(tmp_path / "soup.st")[LEDGER_KEY]
    assert made.ledger == parse_ledger(text, "x", text_digest)
    assert text == encode_ledger(made.ledger, text_digest)


def test_the_digests_are_those_of_the_contents(four, tmp_path):
    made = soup(tmp_path / "soup.st", *four)
    expected = {path.name: verbs.content_digests(path)[0].digest for path in four}

    assert expected == {entry.name: entry.digest for entry in made.ledger.ingredients}
    assert verbs.content_digests(tmp_path / "soup.st")[0].digest == made.ledger.root


def test_ledgers_of_soups_of_soups_are_stored_once_each(four, tmp_path):
    a, b, c, d = four
    first = soup(tmp_path / "1.st", a, b)
    second = soup(tmp_path / "2.st", tmp_path / "1.st", c)
    third = soup(tmp_path / "3.st", tmp_path / "1.st", tmp_path / "2.st", d)

    assert {first.ledger.root} == set(second.ledger.ancestors)
    assert {first.ledger.root, second.ledger.root} == set(third.ledger.ancestors)
    assert 1 == metadata(tmp_path / "3.st")[LEDGER_KEY].count('"name":"a.st"')
    assert replace(second.ledger, ancestors={}) == third.ledger.ancestors[second.ledger.root]
    assert soup(tmp_path / "4.st", tmp_path / "3.st").ledger.ancestors


def test_the_order_of_soups_does_not_change_a_byte(four, tmp_path):
    a, b, c, _ = four
    # two soups of one content whose ledgers differ
    soup(tmp_path / "1.st", a, b)
    soup(tmp_path / "2.st", a, b, b, a)
    soup(tmp_path / "3.st", tmp_path / "1.st", tmp_path / "2.st", c)
    soup(tmp_path / "4.st", c, tmp_path / "2.st", tmp_path / "1.st")

    assert (tmp_path / "3.st").read_bytes() == (tmp_path / "4.st").read_bytes()


def test_a_soup_of_one_soup_keeps_its_ingredients(four, tmp_path):
    first = soup(tmp_path / "1.st", *four[:2])
    second = soup(tmp_path / "2.st", tmp_path / "1.st")
    third = soup(tmp_path / "3.st", tmp_path / "2.st", four[2])

    assert first.ledger.root == second.ledger.root
    assert {first.ledger.root: first.ledger} == third.ledger.ancestors


def test_a_soup_taken_as_plain_brings_no_ledger(four, tmp_path):
    soup(tmp_path / "1.st", *four[:2])
    made = soup(tmp_path / "2.st", tmp_path / "1.st", four[2], ignore_ledger=True)

    assert {} == made.ledger.ancestors
    assert '"name":"a.st"' not in metadata(tmp_path / "2.st")[LEDGER_KEY]


@pytest.mark.parametrize("weight", [Fraction(1, 10**30), Fraction(10**30 - 1), Fraction(7, 10**29)])
def test_a_soup_of_any_weight_that_can_be_asked_for_is_an_ingredient(four, tmp_path, weight):
    ingredients = [Ingredient(path, weight) for path in (*four, four[0])]
    (made,) = verbs.average(Request(ingredients, tmp_path / "1.st"))
    again = soup(tmp_path / "2.st", tmp_path / "1.st")

    assert {made.ledger.root: made.ledger} == again.ledger.ancestors


def test_names_tell_ingredients_apart(tmp_path):
    for value, place in enumerate(("x/model.st", "y/model.st", "y/other.st")):
        save(tmp_path / place, w=F16(value))
    (tmp_path / "soups").mkdir()
    found = [tmp_path / place for place in ("x/model.st", "y/model.st", "y/other.st")]
    entries = soup(tmp_path / "soups" / "soup.st", *found).ledger.ingredients

    assert ["other.st", "x/model.st", "y/model.st"] == sorted(entry.name for entry in entries)
    assert ["../x/model.st", "../y/model.st", "../y/other.st"] == sorted(
        str(entry.hint) for entry in entries
    )


def test_names_do_not_depend_on_how_a_path_is_written(four, tmp_path, monkeypatch):
    expected = soup(tmp_path / "1.st", *four)
    monkeypatch.chdir(tmp_path)
    paths = [Path("a.st"), Path("./b.st"), tmp_path / "c.st", Path("../") / tmp_path.name / "d.st"]

    assert expected.ledger == soup(Path("2.st"), *paths).ledger
    assert (tmp_path / "1.st").read_bytes() == (tmp_path / "2.st").read_bytes()


def test_file_names_that_are_no_utf8_go_into_a_ledger(tmp_path):
    paths = [Path(os.fsdecode(bytes(tmp_path) + b"/" + name)) for name in (b"\xff.st", b"\xfe.st")]
    try:
        for value, path in enumerate(paths):
            path.write_bytes(save(tmp_path / "a.st", w=F16(value)).read_bytes())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    made = soup(tmp_path / "soup.st", *paths)

    assert {"\\xff.st", "\\xfe.st"} == {entry.name for entry in made.ledger.ingredients}
    assert contents(tmp_path / "soup.st")


# draft and ledger

RECIPE = Recipe((Fraction(1),))

digests = st.sampled_from([f"blake3:{letter * 64}" for letter in "0123"])
weights = st.fractions(min_value=Fraction(1, 9), max_value=9, max_denominator=9)
tensors = st.lists(st.text('a\u00e9"\n\U0001f35c', max_size=3), unique=True, max_size=4)
names = st.text(max_size=3)
dtypes = st.just(((DType.F16, 1),))
entries = st.lists(
    st.builds(IngredientEntry, st.just(UNKNOWN), names, st.none() | names, weights, dtypes),
    min_size=1,
    max_size=5,
)


@given(entries, tensors, st.data())
def test_a_ledger_never_takes_more_room_than_its_draft(found, firsts, data):
    taken = IntegerSource(UNKNOWN, tuple(firsts)) if firsts else None
    draft = Ledger("avg", UNKNOWN, tuple(found), (), integer_source=taken)
    ingredients = tuple(data.draw(digests) for _ in found)
    differ = tuple(name for name in firsts if data.draw(st.booleans()))
    outcome = Outcome(ingredients, f"blake3:{'f' * 64}", differ)
    part = ComponentInputs("", (None,) * len(found), (None,) * len(found), None)
    try:
        ledger = complete_average(draft, RECIPE, Inputs((), (part,)), 0, (outcome,))
    except UsageError:
        return
    assert_smaller(draft, ledger)


@given(entries, st.data())
def test_the_ledger_of_a_pipeline_never_takes_more_room_than_its_draft(found, data):
    shared = (
        replace(each, pipelines=(PipelineShare(UNKNOWN, each.name, each.hint, each.weight),))
        for each in found
    )
    draft = Ledger("avg", UNKNOWN, tuple(shared), ())
    part = ComponentInputs("", (None,) * len(found), (None,) * len(found), None)
    outcomes = [
        Outcome(tuple(data.draw(digests) for _ in found), f"blake3:{'f' * 64}", ())
        for _ in range(2)
    ]
    parts = (replace(part, name="unet"), replace(part, name="vae"))
    assert_smaller(draft, complete_average(draft, RECIPE, Inputs((), parts), 1, outcomes))


def assert_smaller(draft: Ledger, ledger: Ledger) -> None:
    """A ledger fits in the room that was left for its draft."""
    sizes = [
        len(encode_header((), {LEDGER_KEY: encode_ledger(each, text_digest)}))
        for each in (draft, ledger)
    ]

    assert sizes[1] <= sizes[0]
    assert encode_header((), {LEDGER_KEY: encode_ledger(ledger, text_digest)}, sizes[0])
