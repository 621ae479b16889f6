"""The ledger of what was trained is as canonical and as little believed as that of a soup."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from blake3 import blake3

from soupctl.errors import LedgerError
from soupctl.format.dtypes import DType
from soupctl.ledger.ancestry import ancestry
from soupctl.ledger.ledger import IngredientEntry, Ledger
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.ledger.sealed import canonical
from soupctl.ledger.training_record import TrainingRecord

GOLDEN = Path(__file__).parents[1] / "golden" / "ledger-1-trained.json"


def digest(text: str) -> str:
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def root(letter: str) -> str:
    return "blake3:" + letter * 64


def trained() -> Ledger:
    training = TrainingRecord(
        base=root("b"),
        data=root("d"),
        data_name="caf\u00e9",
        samples=12,
        steps=1000,
        weights="ema",
        options={"lr": "1e-05", "seed": "0"},
        versions={"soupctl": "0.1.0", "torch": "2.6.0"},
    )
    return Ledger("trained", root("1"), (), ((DType.F32, 2),), training=training)


def text_of(ledger: Ledger) -> str:
    return encode_ledger(ledger, digest)


def test_the_first_format_stays_as_it_was_released():
    assert GOLDEN.read_text(encoding="utf-8") == encode_ledger(trained(), digest, 1) + "\n"
    assert trained() == parse_ledger(text_of(trained()), "x", digest)


def test_a_soup_keeps_the_training_records_of_its_ingredients():
    entry = IngredientEntry(root("1"), "one", None, Fraction(12), ((DType.F32, 2),))
    ancestors = ancestry([trained()]).ledgers
    soup = Ledger("avg", root("2"), (entry,), ((DType.F32, 2),), ancestors=ancestors)

    read = parse_ledger(text_of(soup), "x", digest)

    assert soup == read
    assert read.ancestors[root("1")].training == trained().training


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("base",), "blake3:short"),
        (("data",), None),
        (("data", "digest"), root("x")),
        (("data", "name"), 7),
        (("data", "samples"), 0),
        (("data", "samples"), True),
        (("steps",), 1.5),
        (("steps",), "1"),
        (("options",), []),
        (("options", "lr"), 1),
        (("versions",), None),
        (("weights",), None),
        ((), None),
        ((), {}),
        (("surplus",), "x"),
    ],
    ids=str,
)
def test_a_forged_ledger_with_a_matching_digest_is_refused_for_its_content(place, value):
    document = json.loads(text_of(trained()))
    within, last = document, "training"
    for name in place:
        within, last = within[last], name
    within[last] = value
    del document["digest"]
    forged = canonical({**document, "digest": digest(canonical(document))})

    with pytest.raises(LedgerError):
        parse_ledger(forged, "x", digest)


def test_nothing_is_both_trained_and_a_soup():
    entry = IngredientEntry(root("a"), "a", None, Fraction(1), ((DType.F32, 2),))

    with pytest.raises(LedgerError, match="malformed"):
        parse_ledger(text_of(replace(trained(), ingredients=(entry,))), "x", digest)
