"""Ledgers that were altered or forged: each is refused in one line, quickly."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from work import calls_in

from soupctl.errors import LedgerError
from soupctl.ledger.ledger import IngredientEntry, Ledger, SoupState
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.ledger.sealed import canonical

TEXT = (Path(__file__).parents[1] / "golden" / "ledger-2.json").read_text(encoding="utf-8")[:-1]

Change = Callable[[dict[str, Any]], object]


def digest(text: str) -> str:
    # a hostile text may hold what no UTF-8 can
    return "blake3:" + blake3(text.encode("utf-8", "surrogatepass")).hexdigest()


def strict_digest(text: str) -> str:
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def root(letter: str) -> str:
    return "blake3:" + letter * 64


def encoded(ledger: Ledger) -> str:
    return encode_ledger(ledger, digest)


def resealed(change: Change) -> str:
    """A changed ledger with the digest that belongs to the change, as a forger would write it."""
    document = json.loads(TEXT)
    change(document)
    body = {key: value for key, value in document.items() if key != "digest"}
    document["digest"] = digest(canonical(body))
    return canonical(document)


def refuse(text: str) -> LedgerError:
    """The refusal of `text`, in few words."""
    with pytest.raises(LedgerError) as caught:
        parse_ledger(text, "soup.st", strict_digest)

    assert len(caught.value.message()) < 300
    assert "soup.st: its ledger" in caught.value.message()
    return caught.value


# changes of one character


@pytest.mark.parametrize("step", range(4))
def test_no_single_character_can_be_replaced(step, record_property):
    record_property("altered texts", 3 * len(range(step, len(TEXT), 4)))
    for position in range(step, len(TEXT), 4):
        for letter in '0"}':
            if letter != TEXT[position]:
                refuse(TEXT[:position] + letter + TEXT[position + 1 :])


def test_every_character_is_covered_also_by_its_neighbour_in_the_alphabet(record_property):
    record_property("altered texts", len(TEXT))
    for position, letter in enumerate(TEXT):
        refuse(TEXT[:position] + chr(ord(letter) ^ 1) + TEXT[position + 1 :])


def test_no_single_character_can_be_left_out_or_put_in(record_property):
    record_property("altered texts", 2 * len(TEXT))
    for position in range(len(TEXT)):
        refuse(TEXT[:position] + TEXT[position + 1 :])
        refuse(TEXT[:position] + " " + TEXT[position:])


# forgeries that carry the right digest

HOSTILE = (0, -1, 2**64, 1.5, float("inf"), float("nan"), True, None, "", "x", "0", [], {}, [[]])


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a document."""
    if place:
        yield place
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    for key, part in parts:
        if isinstance(part, dict | list):
            yield from places(part, (*place, key))
        else:
            yield (*place, key)


def put(document: Any, place: tuple[Any, ...], value: object) -> None:
    *way, last = place
    for key in way:
        document = document[key]
    document[last] = value


def take(document: Any, place: tuple[Any, ...]) -> None:
    *way, last = place
    for key in way:
        document = document[key]
    del document[last]


PLACES = [place for place in places(json.loads(TEXT)) if place != ("digest",)]
RUNS = {"dtypes", "result"}
TEXTS = {"name", "hint", "operation"}
LISTS = {"key", "exclude", "tensors"}
HISTORY = {"chain", "changed"}
OPTIONAL = {"pipelines"}


def is_free(place: tuple[Any, ...], value: object) -> bool:
    """Whether a forger may write `value` there: a ledger cannot know better."""
    if "ledgers" in place:
        # they have digests of their own
        return False
    if place[:2] == ("chain", 0):
        # the record after it is bound to it by digest
        return False
    key = next(part for part in reversed(place) if isinstance(part, str))
    if key in RUNS:
        is_count = place[-1] == 1 and isinstance(place[-2], int)
        return value == [] if place[-1] == key else is_count and type(value) is int and value > 0
    if key in LISTS:
        return value == [] if place[-1] == key else isinstance(value, str)
    if key in HISTORY:
        return value == [] and place[-1] == key
    if key in TEXTS:
        return isinstance(value, str) or (key == "hint" and value is None)
    if key in ("nonfinite", "exact"):
        return isinstance(value, bool)
    return key in ("asked", "taken") and value is None


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_a_value_of_the_wrong_kind_is_refused_wherever_it_stands(place, record_property):
    record_property("forged fields", len(HOSTILE))
    for value in HOSTILE:
        text = resealed(lambda document, value=value: put(document, place, value))
        if is_free(place, value):
            assert text == encoded(parse_ledger(text, "soup.st", strict_digest))
        elif text != TEXT:
            refuse(text)


@pytest.mark.parametrize(
    "place",
    # an item fewer in a list is another ledger, and so is one without an optional field
    [
        place
        for place in PLACES
        if isinstance(place[-1], str) and place[-1] not in OPTIONAL and place[0] != "ledgers"
    ],
    ids=lambda place: ".".join(map(str, place)),
)
def test_a_ledger_that_lacks_something_is_refused(place, record_property):
    record_property("forged fields", 1)
    refuse(resealed(lambda document: take(document, place)))


def pipelines(document: dict[str, Any]) -> list[dict[str, Any]]:
    (found,) = (entry["pipelines"] for entry in document["ingredients"] if "pipelines" in entry)
    return found


CHANGES: dict[str, Change] = {
    "more fields": lambda document: document.update(more=1),
    "more fields in an entry": lambda document: document["ingredients"][0].update(more=1),
    "more fields in a pipeline": lambda document: pipelines(document)[0].update(more=1),
    "pipelines not sorted": lambda document: pipelines(document).reverse(),
    "a pipeline twice": lambda document: pipelines(document).insert(0, pipelines(document)[0]),
    "a pipeline of no weight": lambda document: pipelines(document)[0].update(weight="0"),
    "a place for pipelines without any": lambda document: pipelines(document).clear(),
    "a chain": lambda document: document.update(chain=[1]),
    "a base": lambda document: document.update(base="x"),
    "a later arithmetic": lambda document: document.update(arithmetic=2),
    "entries not sorted": lambda document: document["ingredients"].reverse(),
    "no entries": lambda document: document.update(ingredients=[]),
    "an entry twice": lambda document: document["ingredients"].insert(
        0, document["ingredients"][0]
    ),
    "a weight of zero": lambda document: document["ingredients"][0].update(weight="0"),
    "a weight not reduced": lambda document: document["ingredients"][0].update(weight="2/4"),
    "a decimal weight": lambda document: document["ingredients"][0].update(weight="0.5"),
    "a total of zero": lambda document: document["ingredients"][0].update(weight="-23/10"),
    "a negative total": lambda document: document["ingredients"][0].update(weight="-5"),
    "a weight of many digits": lambda document: document["ingredients"][0].update(weight="9" * 999),
    "a digest in capitals": lambda document: document.update(root="blake3:" + "A" * 64),
    "a digest of another width": lambda document: document.update(root="blake3:" + "a" * 63),
    "a digest of another kind": lambda document: document.update(root="blake2:" + "a" * 64),
    "a lone surrogate": lambda document: document.update(operation="\ud800"),
    "an ancestor under another root": lambda document: document["ledgers"].update(
        {root("f"): document["ledgers"][root("1")]}
    ),
    "an ancestor with ancestors": lambda document: document["ledgers"][root("1")].update(
        ledgers={}
    ),
    "disputed contents not sorted": lambda document: document.update(
        disputed=[root("2"), root("1")]
    ),
    "a disputed content twice": lambda document: document.update(disputed=[root("1")] * 2),
    "a place for disputed contents without any": lambda document: document.update(disputed=[]),
    "an ancestor with disputed contents": lambda document: document["ledgers"][root("1")].update(
        disputed=[root("1")]
    ),
    "no ancestors but a place for them": lambda document: document.update(ledgers={}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_forged_ledger_with_a_matching_digest_is_refused_for_its_content(change, record_property):
    record_property("forged fields", 1)
    refuse(resealed(change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"format"',
        "{}",
        '{"format":null}',
        '{"format":"1"}',
        '{"format":1.0}',
        '{"format":true}',
        '{"format":1e400}',
        '{"format":NaN}',
        '{"format":1}',
        '{"format":' + "1" * 5000 + "}",
        '{"format":' + "1" * 4000 + "}",
        '{"format":' + "[" * 900 + "]" * 900 + "}",
        '{"format":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"format":1,"ingredients":' + "[" * 100_000,
        '{"format":1,"x":"' + "x" * 50_000_000 + '"}',
        "\ufeff" + '{"format":1}',
    ],
    ids=lambda text: f"{text[:20]}-{len(text)}",
)
def test_a_text_that_is_no_ledger_is_refused(text):
    refuse(text)


def test_a_key_that_stands_twice_is_refused():

    refuse(TEXT.replace('"format":2', '"format":2,"format":2'))
    refuse(TEXT.replace('"base":null', '"base":1,"base":null'))


@pytest.mark.parametrize("version", [3, 10, 0, -1])
def test_another_format_is_refused_and_named(version):
    error = refuse(TEXT.replace('"format":2', f'"format":{version}'))

    assert f"its ledger has format {version}, this soupctl reads formats 1 to 2" in error.message()
    assert "--ignore-ledger" in error.message()


def test_thousands_of_weights_that_are_slow_to_add_are_refused_at_once():
    entries = tuple(
        IngredientEntry(f"blake3:{number:064x}", "x", None, Fraction(1, 10**29 + number), ())
        for number in range(1, 20_000)
    )

    refuse(encoded(Ledger("avg", root("1"), entries, ())))


def with_ingredients(count: int) -> Ledger:
    entries = (
        IngredientEntry(f"blake3:{number:064x}", "x", None, Fraction(1, 3), ())
        for number in range(count)
    )
    return Ledger("avg", root("1"), tuple(entries), ())


def with_records(count: int) -> Ledger:
    return replace(with_ingredients(1), chain=(SoupState("add", (), root("1"), True),) * count)


@pytest.mark.parametrize(
    ("having", "most"), [(with_ingredients, 45), (with_records, 25)], ids=["ingredients", "records"]
)
def test_the_work_of_reading_grows_with_the_ledger_and_no_faster(having, most):
    sizes = (500, 5_000)
    texts = [encoded(having(size)) for size in sizes]

    assert having(sizes[1]) == parse_ledger(texts[1], "x", strict_digest)
    few, many = (
        calls_in(lambda text=text: parse_ledger(text, "x", strict_digest)) for text in texts
    )
    # each is parsed, checked and encoded once, without an encoder of its own
    assert many - few < most * (sizes[1] - sizes[0])
