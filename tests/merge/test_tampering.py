"""What was altered in a soup is found, and nothing is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from making import contents, files, metadata, save
from revising import average, revise, root, save_changed_soup, verified

from soupctl import verbs
from soupctl.errors import LedgerError
from soupctl.verbs import Level

F16 = np.float16


@pytest.fixture
def soup(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return save_changed_soup()


def rewrite(path: Path, text: str) -> None:
    """Put another ledger into a checkpoint."""
    loaded = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file(loaded, path, {"soupctl": text})


def digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "blake3:" + blake3(text.encode()).hexdigest()


def sealed(document: dict[str, Any]) -> str:
    """The ledger as a forger would write it who computes every digest anew."""
    previous = None
    for record in document["chain"]:
        record["previous"] = previous
        previous = digest(record)
    for ancestor in document.get("ledgers", {}).values():
        ancestor["digest"] = digest({k: v for k, v in ancestor.items() if k != "digest"})
    document["digest"] = digest({k: v for k, v in document.items() if k != "digest"})
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def assert_refused(soup: Path, highest: Level) -> None:
    """No level above `highest` is proven, and nothing is made of the soup."""
    found = verified(soup)
    before = files(Path())

    levels = list(Level)
    assert levels.index(found.level) <= levels.index(highest)
    assert found.problem
    assert "\n" not in found.problem
    for options in ({}, {"approximate": True}):
        with pytest.raises(LedgerError) as caught:
            revise("subtract", soup, Path("out.st"), (), ["a.st"], **options)
        assert "\n" not in caught.value.message()
    with pytest.raises(LedgerError):
        verbs.holds(soup, "a.st")
    assert before == files(Path())


def test_every_change_of_a_tensors_bytes_is_found(soup):
    raw = soup.read_bytes()
    start = len(raw) - sum(len(data) for _, _, data in contents(soup).values())
    for position in (start, start + 1, (start + len(raw)) // 2, len(raw) - 1):
        altered = bytearray(raw)
        altered[position] ^= 1
        soup.write_bytes(altered)

        assert_refused(soup, Level.HEADER)


def leaves(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(value, dict | list) or not value:
        return [place]
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return [leaf for key, part in parts for leaf in leaves(part, (*place, key))]


def put(document: Any, place: tuple[Any, ...], change: Any) -> None:
    for key in place[:-1]:
        document = document[key]
    document[place[-1]] = change(document[place[-1]])


def other(value: object) -> object:
    """A value of the same kind that is not the same."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str) and value.startswith("blake3:"):
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return {int: 7, str: "7", type(None): "x", list: ["7"], dict: {"x": 7}}[type(value)]


def test_every_change_of_a_value_in_the_ledger_is_found(soup, record_property):
    text = metadata(soup)["soupctl"]
    places = leaves(json.loads(text))
    record_property("altered texts", len(places))
    for place in places:
        document = json.loads(text)
        put(document, place, other)
        rewrite(soup, json.dumps(document, sort_keys=True, separators=(",", ":")))

        assert_refused(soup, Level.NOTHING)
    parts = {place[0] for place in places}
    assert {"ingredients", "chain", "changed", "ledgers", "digest", "root", "exact"} <= parts


def test_a_record_of_the_chain_cannot_be_left_out_or_moved(soup):
    revise("add", "soup.st", Path("2.st"), ["b.st"])
    text = metadata(Path("2.st"))["soupctl"]
    for change in (lambda chain: chain[1:], lambda chain: chain[::-1], lambda chain: chain * 2):
        document = json.loads(text)
        document["chain"] = change(document["chain"])
        document["digest"] = digest({k: v for k, v in document.items() if k != "digest"})
        rewrite(Path("2.st"), json.dumps(document, sort_keys=True, separators=(",", ":")))

        assert_refused(Path("2.st"), Level.NOTHING)


def test_a_consistent_forgery_is_found_by_rebuilding(soup):
    # without a history, which other weights would contradict
    average(soup, "a.st", "inner.st", force=True)
    text = metadata(soup)["soupctl"]

    def heavier(document: dict[str, Any]) -> None:
        document["ingredients"][0]["weight"] = "5"

    def without(document: dict[str, Any]) -> None:
        document["ingredients"].pop()

    for forge in (heavier, without):
        document = json.loads(text)
        forge(document)
        rewrite(soup, sealed(document))
        found = verified(soup)

        assert (Level.DIGEST, "soup.st: is not the soup of its ingredients") == (
            found.level,
            found.problem,
        )
    rewrite(soup, sealed(json.loads(text)))
    assert Level.REBUILD is verified(soup).level


def set_in(*way: Any) -> Any:
    """A forgery that puts a value at a place of a ledger."""
    *place, value = way
    return lambda document: put(document, tuple(place), lambda _: value)


def double(document: dict[str, Any]) -> None:
    for entry in document["ingredients"]:
        entry["weight"] = "2"


def swap_names(document: dict[str, Any]) -> None:
    first, second = document["chain"][0]["changed"][:2]
    first["name"], second["name"] = second["name"], first["name"]


FAKE = "blake3:" + "12" * 32
FORGERIES = {
    "operation": set_in("operation", "avg"),
    "another operation": set_in("operation", "add"),
    "swap": set_in("operation", "swap"),
    "first operation": set_in("chain", 0, "operation", "subtract"),
    "name": set_in("ingredients", 0, "name", "innocent.st"),
    "weights": double,
    "one weight": set_in("ingredients", 0, "weight", "2"),
    "name of what was taken out": set_in("changed", 0, "name", "innocent.st"),
    "content of what was taken out": set_in("changed", 0, "digest", FAKE),
    "how much was taken out": set_in("changed", 0, "weight", "-1"),
    "earlier names": swap_names,
    "earlier weight": set_in("chain", 0, "changed", 0, "weight", "7"),
    "earlier state": set_in("chain", 0, "root", FAKE),
    "exactness of an earlier state": set_in("chain", 0, "exact", False),
    "no history": set_in("chain", []),
    "integers": set_in("taken", {"digest": FAKE, "tensors": ["ids"]}),
    "result": set_in("dtype", "result", [["I64", 1], ["BF16", 1]]),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_statement_of_a_ledger_that_is_forged_with_all_digests_is_refuted(
    soup, name, record_property
):
    record_property("forged fields", 1)
    document = json.loads(metadata(soup)["soupctl"])
    FORGERIES[name](document)
    rewrite(soup, sealed(document))
    found = verified(soup)

    assert found.refuted
    assert not found.reaches(Level.REBUILD)
    assert not found.reaches(None)


ANCESTORS = {
    "operation": set_in("operation", "add"),
    "name": set_in("ingredients", 0, "name", "innocent.st"),
    "weight": set_in("ingredients", 0, "weight", "2"),
    "content": set_in("ingredients", 0, "digest", "blake3:" + "0" * 64),
    "exact": set_in("exact", False),
    "asked dtype": set_in("dtype", "asked", "F16"),
    "nonfinite": set_in("nonfinite", True),
    "selection": set_in("selection", "exclude", ["zzz"]),
}


@pytest.mark.parametrize("name", ANCESTORS)
def test_a_forged_ledger_of_an_ingredient_is_not_proven_against_its_own(
    soup, name, record_property
):
    record_property("forged fields", 1)
    document = json.loads(metadata(soup)["soupctl"])
    (inner,) = document["ledgers"].values()
    ANCESTORS[name](inner)
    rewrite(soup, sealed(document))
    found = verified(soup)

    assert found.refuted == (name in {"exact", "operation", "weight"})
    assert not found.reaches(Level.REBUILD)


def test_a_ledger_of_another_way_to_the_same_content_is_no_forgery(soup):
    average(Path("one.st"), "inner.st")
    revise("subtract", soup, Path("rest.st"), (), ["a.st"])
    revise("add", "one.st", Path("more.st"), ["b.st"])
    revise("subtract", "more.st", Path("less.st"), (), ["b.st"])
    for path in ("one.st", "rest.st", "less.st"):
        average(Path("of.st"), path, "a.st", force=True)

        assert Level.REBUILD is verified(Path("of.st")).level, path


def test_an_ingredient_without_its_ledger_leaves_the_rebuild_unproven(soup):
    document = json.loads(metadata(soup)["soupctl"])
    del document["ledgers"]
    rewrite(soup, sealed(document))
    found = verified(soup)

    assert (Level.DIGEST, False) == (found.level, found.refuted)
    assert "inner.st: has a ledger that the soup's does not contain" in found.problem


def test_claims_that_a_rebuild_cannot_check_are_listed(soup):
    assert () == verified(soup).unproven
    Path("b.st").unlink()
    safetensors.numpy.save_file(safetensors.numpy.load_file("inner.st"), "inner.st")
    found = verified(soup)

    assert Level.REBUILD is found.level
    stripped, earlier = found.unproven
    assert "inner.st, which has no ledger" in stripped
    assert earlier.startswith("its state after avg, blake3:")
    assert "b.st: is not found" in earlier


def test_other_tensors_with_a_resealed_ledger_are_found_by_rebuilding(soup):
    document = json.loads(metadata(soup)["soupctl"])
    loaded = safetensors.numpy.load_file(soup)
    save(soup, w=loaded["w"] + F16(1), ids=loaded["ids"])
    document["root"] = root(soup)
    rewrite(soup, sealed(document))
    found = verified(soup)

    assert (Level.DIGEST, "soup.st: is not the soup of its ingredients") == (
        found.level,
        found.problem,
    )


def set_at(*way: Any) -> Any:
    *place, value = way
    return lambda document: put(document, tuple(place), lambda _: value)


HOSTILE = {
    "count": set_at("ingredients", 0, "dtypes", 0, 1, -1),
    "huge": set_at("ingredients", 0, "weight", "9" * 400),
    "zero": set_at("ingredients", 0, "weight", "0"),
    "real": set_at("ingredients", 0, "weight", 1.5),
    "none": set_at("ingredients", []),
    "type": set_at("chain", 7),
    "depth": set_at("base", json.loads("[" * 500 + "]" * 500)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_ledger_is_refused_in_one_line(soup, name):
    document = json.loads(metadata(soup)["soupctl"])
    HOSTILE[name](document)
    rewrite(soup, json.dumps(document, sort_keys=True, separators=(",", ":")))

    assert_refused(soup, Level.NOTHING)
    with pytest.raises(LedgerError):
        verbs.history(soup)


def test_ancestors_that_come_from_each_other_end_somewhere(soup):
    document = json.loads(metadata(soup)["soupctl"])
    (inner,) = document["ledgers"]
    itself = {k: v for k, v in document.items() if k not in ("ledgers", "format")}
    document["ledgers"][document["root"]] = itself
    document["ledgers"][inner]["ingredients"][0]["digest"] = "blake3:" + "0" * 64
    document["ledgers"][inner]["ingredients"][1]["digest"] = inner
    document["ledgers"][inner]["ingredients"].sort(key=lambda entry: entry["digest"])
    rewrite(soup, sealed(document))
    made = revise("add", soup, Path("out.st"), ["b.st"])
    found = verified(soup)

    assert Level.DIGEST is found.level
    assert found.problem
    assert [inner] == list(made.ledger.ancestors)


@pytest.mark.parametrize(
    "hint", ["/dev/zero", "/etc/passwd", "..", "", "a\0b", "x" * 5000, "/", "-", "a.st/a.st"]
)
def test_a_hint_to_any_other_file_finds_nothing(soup, hint):
    document = json.loads(metadata(soup)["soupctl"])
    for entry in document["ingredients"]:
        entry["hint"] = hint
    rewrite(soup, sealed(document))

    with pytest.raises(LedgerError, match="is not found"):
        revise("add", soup, Path("out.st"), ["b.st"])
    assert Level.DIGEST is verified(soup).level
    made = revise("add", soup, Path("out.st"), ["b.st"], approximate=True)
    assert not any((entry.hint or "").startswith("/") for entry in made.ledger.ingredients)
