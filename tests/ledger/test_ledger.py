"""The ledger is canonical, bound by its own digest, and refused whenever it is not sound."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from work import calls_in

from soupctl.choices import OnMissing, Quantization
from soupctl.errors import LedgerError, UsageError
from soupctl.format.dtypes import DType
from soupctl.ledger.ancestry import Ancestry, ancestry
from soupctl.ledger.entries import merged, merged_shares
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
from soupctl.ledger.training_record import TrainingRecord

TRAINING = TrainingRecord(
    base="blake3:" + "b" * 64,
    data="blake3:" + "d" * 64,
    data_name="cats",
    samples=12,
    steps=10,
    weights="ema",
    options={},
    versions={},
)
GOLDEN = Path(__file__).parents[1] / "golden"


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def root(letter: str) -> str:
    return "blake3:" + letter * 64


def entry(letter: str, weight: str = "1", name: str | None = None) -> IngredientEntry:
    called = name or f"{letter}.safetensors"
    return IngredientEntry(
        root(letter), called, f"../{called}", Fraction(weight), ((DType.F16, 2),)
    )


def plain(letter: str, *entries: IngredientEntry) -> Ledger:
    return Ledger("avg", root(letter), entries or (entry("a"),), ((DType.F16, 2),))


def gather_ancestors(soups: Iterable[Ledger]) -> Mapping[str, Ledger]:
    return ancestry(soups).ledgers


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


def text_of(ledger: Ledger) -> str:
    return encode_ledger(ledger, digest)


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


letters = st.sampled_from("0123456789abcdef")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
dtypes = st.lists(st.tuples(st.sampled_from(DType), st.integers(1, 9)), max_size=3).map(tuple)
weights = st.builds(Fraction, st.integers(1, 99), st.sampled_from((1, 2, 3, 7)))
shares = st.lists(
    st.builds(PipelineShare, letters.map(root), texts, st.none() | texts, weights), max_size=2
).map(merged_shares)
entries = st.lists(
    st.builds(
        IngredientEntry,
        letters.map(root),
        texts,
        st.none() | texts,
        weights,
        dtypes,
        renamed=st.none() | texts,
        lacks=st.lists(texts, max_size=2).map(tuple),
        pipelines=shares,
    ),
    min_size=1,
).map(merged)
changes = st.lists(st.builds(Change, letters.map(root), texts, weights), max_size=2).map(tuple)
flat = st.builds(
    Ledger,
    operation=texts,
    root=letters.map(root),
    ingredients=entries,
    dtypes=dtypes,
    asked_dtype=st.none() | st.sampled_from(DType),
    keys=st.lists(texts, max_size=2).map(tuple),
    excludes=st.lists(texts, max_size=2).map(tuple),
    allow_nonfinite=st.booleans(),
    on_missing=st.sampled_from(OnMissing),
    dtype_for=st.lists(st.tuples(texts, st.sampled_from(DType)), max_size=2).map(tuple),
    takes=st.lists(st.tuples(texts, letters.map(root)), max_size=2).map(tuple),
    integer_source=st.none()
    | st.builds(IntegerSource, letters.map(root), st.lists(texts, max_size=2).map(tuple)),
    exact=st.booleans(),
    changed=changes,
    chain=st.lists(
        st.builds(SoupState, texts, changes, letters.map(root), st.booleans()), max_size=3
    ).map(tuple),
)
ledgers = st.builds(
    lambda ledger, soups, letters: replace(
        ledger,
        ancestors=gather_ancestors(soups),
        disputed=tuple(map(root, sorted(letters))),
    ),
    flat,
    st.lists(flat, max_size=3),
    st.sets(letters, max_size=2),
)


@given(ledgers)
def test_every_ledger_comes_back_as_it_went_in(ledger):
    assert ledger == parse_ledger(text_of(ledger), "x", digest)


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
