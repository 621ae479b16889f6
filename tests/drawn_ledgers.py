"""Ledgers for tests: small ones of ingredients by a letter, and strategies that draw any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction

from blake3 import blake3
from hypothesis import strategies as st

from soupctl.choices import OnMissing
from soupctl.format.dtypes import DType
from soupctl.ledger.ancestry import ancestry
from soupctl.ledger.entries import merged, merged_shares
from soupctl.ledger.ledger import (
    Change,
    IngredientEntry,
    IntegerSource,
    Ledger,
    PipelineShare,
    SoupState,
)
from soupctl.ledger.ledger_json import encode_ledger
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


def text_of(ledger: Ledger) -> str:
    return encode_ledger(ledger, digest)


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
