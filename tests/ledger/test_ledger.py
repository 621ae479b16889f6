"""The ledger is canonical, bound by its own digest, and refused whenever it is not sound."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from drawn_ledgers import (
    TRAINING,
    digest,
    entry,
    gather_ancestors,
    ledgers,
    letters,
    plain,
    root,
    text_of,
    texts,
    weights,
)
from hypothesis import given
from hypothesis import strategies as st
from work import calls_in

from soupctl.choices import OnMissing, Quantization
from soupctl.errors import LedgerError, UsageError
from soupctl.format.dtypes import DType
from soupctl.ledger.entries import merged
from soupctl.ledger.ledger import (
    UNKNOWN,
    Change,
    IngredientEntry,
    IntegerSource,
    Ledger,
    PipelineShare,
    SoupState,
    runs,
)
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.ledger.sealed import canonical

GOLDEN = Path(__file__).parents[1] / "golden"


def golden() -> Ledger:
    """A ledger in which no field has its default."""
    first = golden_of_the_first_format()
    *others, last = first.ingredients
    shares = (
        PipelineShare(root("8"), "dogs", "../dogs/unet", Fraction(1)),
        PipelineShare(root("9"), "cats", None, Fraction(-1, 2)),
    )
    return replace(first, ingredients=(*others, replace(last, pipelines=shares)))


def golden_of_the_first_format() -> Ledger:
    """A ledger in which no field of the first format has its default."""
    grandparent = plain("1", entry("a"), entry("b", "1/3"))
    parent = Ledger("avg", root("2"), (entry("1"), entry("c", "-1/2")), ((DType.F16, 2),))
    return Ledger(
        operation="avg",
        root=root("3"),
        ingredients=(
            IngredientEntry(
                root("2"), "x/soup.st", "../x/soup.st", Fraction(7, 10), ((DType.F16, 2),)
            ),
            IngredientEntry(
                root("d"), "standard input", None, Fraction(3, 10), ((DType.BF16, 1),) * 2
            ),
            IngredientEntry(
                root("e"), 'caf\u00e9 "\\\t\U0001f35c', "e.st", Fraction(2), ((DType.I64, 3),)
            ),
        ),
        dtypes=((DType.F32, 2), (DType.I64, 1)),
        asked_dtype=DType.F32,
        keys=("*.weight", "conv_[io]*"),
        excludes=("time*",),
        allow_nonfinite=True,
        integer_source=IntegerSource(root("d"), ("ids", "position_ids")),
        exact=False,
        changed=(Change(root("e"), "e.st", Fraction(-1, 2)),),
        chain=(
            SoupState("avg", (Change(root("d"), "d.st", Fraction(1)),), root("6"), True),
            SoupState("add", (Change(root("e"), "e.st", Fraction(5, 2)),), root("7"), False),
        ),
        ancestors=gather_ancestors([replace(parent, ancestors={grandparent.root: grandparent})]),
    )


def test_the_format_stays_as_it_was_released():
    text = (GOLDEN / "ledger-2.json").read_text(encoding="utf-8")

    assert text == text_of(golden()) + "\n"
    assert golden() == parse_ledger(text[:-1], "x", digest)


def test_the_text_of_a_ledger_is_canonical_json():
    blocks = (Fraction(1), Fraction(-1, 3))
    share = PipelineShare(root("8"), 'caf\u00e9 "\\', None, Fraction(2), blocks)
    every_field = replace(
        entry("f", "5/3"),
        renamed="renaming",
        lacks=("a", '"'),
        schemes=("fp8",),
        pipelines=(share,),
        blocks=blocks,
        scales=root("4"),
    )
    ledger = replace(
        golden(),
        ingredients=(entry("e"), every_field),
        donors=(every_field,),
        takes=(("*.w", root("f")),),
        dtype_for=(("*.b", DType.F32),),
        quantize=Quantization.FP8_SCALED,
        on_missing=OnMissing.DROP,
        pads=("conv_in*",),
        config_from=root("e"),
        blocks=("a.*", "b.*"),
        deltas=(root("e"),),
        disputed=(root("2"),),
        changed=(Change(root("e"), "x", Fraction(1), blocks),),
    )
    texts = list(map(text_of, (ledger, replace(ledger, training=TRAINING, base=root("b")))))

    assert texts == [canonical(json.loads(text)) for text in texts]


def test_the_first_format_is_still_read():
    text = (GOLDEN / "ledger-1.json").read_text(encoding="utf-8")[:-1]
    found = parse_ledger(text, "x", digest)

    assert golden_of_the_first_format() == found
    assert text == encode_ledger(found, digest, 1)
    assert found == parse_ledger(text_of(found), "x", digest)


def test_a_ledger_of_the_first_format_says_nothing_that_the_second_added():
    for ledger in (
        golden(),
        replace(plain("1"), ancestors={root("3"): replace(golden(), ancestors={})}),
    ):
        with pytest.raises(LedgerError, match="was altered"):
            parse_ledger(encode_ledger(ledger, digest, 1), "x", digest)


def test_a_name_and_hint_are_those_of_the_first_pipeline_whatever_the_order():
    shares = [
        PipelineShare(root(letter), name, f"{name}/vae", Fraction(1))
        for letter, name in (("1", "owls"), ("2", "cats"), ("3", "dogs"))
    ]
    entries = [
        IngredientEntry(root("a"), each.name, each.hint, each.weight, (), pipelines=(each,))
        for each in shares
    ]
    (found,) = merged(entries)

    assert ("cats", "cats/vae", Fraction(3)) == (found.name, found.hint, found.weight)
    assert shares == list(found.pipelines)
    assert merged(reversed(entries)) == (found,)


def test_a_pipeline_given_twice_has_one_share_and_one_that_cancels_none():
    share = PipelineShare(root("1"), "cats", None, Fraction(1))
    other = PipelineShare(root("2"), "dogs", None, Fraction(1))
    shared = IngredientEntry(root("a"), "cats", None, Fraction(2), (), pipelines=(share, other))
    twice = replace(shared, weight=Fraction(1), pipelines=(share,))
    without = replace(shared, weight=Fraction(-1), pipelines=(replace(share, weight=Fraction(-1)),))

    assert (replace(share, weight=Fraction(2)), other) == merged([shared, twice])[0].pipelines
    assert (other,) == merged([shared, without])[0].pipelines


def test_a_ledger_holds_no_float_no_spaces_and_sorted_keys():
    def walk(value: Any) -> Iterator[Any]:
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from walk(part) if isinstance(part, dict | list) else [part]

    document = json.loads(text_of(golden()))

    assert not [value for value in walk(document) if isinstance(value, float)]
    assert text_of(golden()) == json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )


@given(ledgers)
def test_every_ledger_comes_back_as_it_went_in(ledger):
    assert ledger == parse_ledger(text_of(ledger), "x", digest)


@given(st.lists(st.tuples(letters, weights), min_size=1))
def test_entries_of_one_content_become_one_with_the_summed_weight(pairs):
    found = merged(entry(letter, str(weight)) for letter, weight in pairs)

    assert sorted({root(letter) for letter, _ in pairs}) == [each.digest for each in found]
    for each in found:
        parts = [weight for letter, weight in pairs if root(letter) == each.digest]
        assert sum(parts) == each.weight


@given(st.lists(st.tuples(letters, texts), min_size=1), st.randoms())
def test_which_name_a_content_keeps_does_not_depend_on_the_order(pairs, random):
    found = [entry(letter, name=name) for letter, name in pairs]
    expected = merged(found)
    random.shuffle(found)

    assert expected == merged(found)


def test_weights_of_one_content_that_cancel_are_refused():
    with pytest.raises(UsageError, match=r"a\.safetensors: is given more than once, with weights"):
        merged([entry("a", "1/2"), entry("b"), entry("a", "-1/2")])


def test_runs_say_how_many_neighbours_share_a_dtype():
    assert ((DType.F16, 2), (DType.F32, 1), (DType.F16, 1)) == runs(
        [DType.F16, DType.F16, DType.F32, DType.F16]
    )
    assert () == runs([])


def test_an_unknown_digest_is_as_wide_as_a_known_one():
    assert len(UNKNOWN) == len(digest("x"))


def test_which_of_thousands_of_ingredients_are_added_is_found_at_once():
    count = 2_000
    entries = tuple(entry(f"{number:x}") for number in range(16, 16 + count))
    applied = Ledger("apply", root("1"), entries, ((DType.F16, 2),), base=entries[-1].digest)
    found: list[bool] = []

    assert calls_in(lambda: found.extend(map(applied.adds, applied.ingredients))) < 10 * count
    assert [True] * (count - 1) + [False] == found
