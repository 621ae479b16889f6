"""What was done: the record that travels inside a soup.

Rule 1: canonical JSON, so equal facts are equal bytes: sorted keys, no floats, no clock, no
absolute paths.
Rule 2: every digest has one width, so a ledger's size is known before the data it describes.
Rule 3: a ledger is attacker text: `parse_ledger` checks all of it, and its own digest, first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import groupby
from typing import Any

from ..errors import LedgerError, UsageError
from ..format.dtypes import DType
from .weights import read_weight, require_positive_total, weight_text

FORMAT = 1
"""Version of the ledger's own layout."""

ARITHMETIC = 1
"""Version of the arithmetic contract: the exact mean, rounded once, to nearest even."""

KEY = "soupctl"
"""Key of the ledger among a checkpoint's metadata."""

UNKNOWN = "blake3:" + "0" * 64
"""A digest that is not known yet, as wide as one that is."""

Runs = tuple[tuple[DType, int], ...]
"""Dtypes of tensors in the order of their names, as runs: how many in a row have which."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One ingredient."""

    digest: str
    name: str
    hint: str | None
    weight: Fraction
    dtypes: Runs


@dataclass(frozen=True, slots=True)
class Taken:
    """Integer tensors that differed, and the ingredient whose values the soup has."""

    digest: str
    tensors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ledger:
    """One soup: its ingredients, how they combine, and the ledgers of those that are soups."""

    operation: str
    root: str
    """Content digest of the soup's tensors."""
    ingredients: tuple[Entry, ...]
    """Sorted by digest, one entry a content."""
    dtypes: Runs
    asked_dtype: DType | None = None
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    allow_nonfinite: bool = False
    taken: Taken | None = None
    exact: bool = True
    ancestors: Mapping[str, Ledger] = field(default_factory=dict)
    """Ledgers of ingredients that are soups, and of theirs, by content digest; these have none."""


def runs(dtypes: Iterable[DType]) -> Runs:
    """The dtypes as runs of equal neighbours."""
    return tuple((dtype, sum(1 for _ in group)) for dtype, group in groupby(dtypes))


def merged(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries sorted by digest, those of one content made one with the summed weight.

    Raises UsageError if the weights of one content cancel.
    """
    by_digest: dict[str, Entry] = {}
    for entry in sorted(entries, key=lambda entry: (entry.digest, entry.name, entry.hint or "")):
        earlier = by_digest.get(entry.digest)
        total = entry.weight + (earlier.weight if earlier else 0)
        by_digest[entry.digest] = replace(earlier or entry, weight=total)
    for entry in by_digest.values():
        if not entry.weight:
            raise UsageError(
                "is in more than once, with weights that cancel",
                path=entry.name,
                advice="leave it out",
            )
    return tuple(by_digest.values())


def gather_ancestors(soups: Iterable[Ledger]) -> dict[str, Ledger]:
    """The ledgers of ingredients that are soups and of all their ancestors, once each.

    Where several tell of one content, as for a soup of nothing but that soup, an ancestor's stays.
    """
    soups = tuple(soups)
    heads = [replace(soup, ancestors={}) for soup in soups]
    ancestors = [ancestor for soup in soups for ancestor in soup.ancestors.values()]
    found: dict[str, Ledger] = {}
    for generation in (heads, ancestors):
        # sorted, so that the order of the ingredients does not show
        for ledger in sorted(generation, key=lambda ledger: canonical(_body(ledger))):
            found[ledger.root] = ledger
    return dict(sorted(found.items()))


def encode_ledger(ledger: Ledger, digest: Callable[[str], str]) -> str:
    """The ledger as canonical JSON; `digest` is the digest of a text."""
    document = {"format": FORMAT, **_sealed(_body(ledger), digest)}
    if ledger.ancestors:
        document["ledgers"] = {
            root: _sealed(_body(ancestor), digest) for root, ancestor in ledger.ancestors.items()
        }
    return canonical(document)


def canonical(value: object) -> str:
    """The one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sealed(body: dict[str, Any], digest: Callable[[str], str]) -> dict[str, Any]:
    return {**body, "digest": digest(canonical(body))}


def _body(ledger: Ledger) -> dict[str, Any]:
    return {
        "arithmetic": ARITHMETIC,
        "base": None,
        "chain": [],
        "dtype": {
            "asked": ledger.asked_dtype and ledger.asked_dtype.value,
            "result": _encode_runs(ledger.dtypes),
        },
        "exact": ledger.exact,
        "ingredients": [
            {
                "digest": entry.digest,
                "dtypes": _encode_runs(entry.dtypes),
                "hint": entry.hint,
                "name": entry.name,
                "weight": weight_text(entry.weight),
            }
            for entry in ledger.ingredients
        ],
        "nonfinite": ledger.allow_nonfinite,
        "operation": ledger.operation,
        "root": ledger.root,
        "selection": {"exclude": list(ledger.excludes), "key": list(ledger.keys)},
        "taken": ledger.taken
        and {"digest": ledger.taken.digest, "tensors": list(ledger.taken.tensors)},
    }


def _encode_runs(dtypes: Runs) -> list[list[str | int]]:
    return [[dtype.value, count] for dtype, count in dtypes]


def parse_ledger(text: str, path: str, digest: Callable[[str], str]) -> Ledger:
    """The ledger that `text` holds, checked in full; LedgerError for `path` if it is not sound."""
    try:
        document = json.loads(text)
        version = document["format"]
        if type(version) is not int:
            raise TypeError("a version is a whole number")
    except (ValueError, RecursionError, TypeError, KeyError):
        raise LedgerError("its ledger is not readable", path=path, advice=IGNORE) from None
    if version != FORMAT:
        raise LedgerError(
            f"its ledger has format {str(version)[:20]}, this soupctl reads format {FORMAT}",
            path=path,
            advice="use a newer soupctl, or --ignore-ledger to take the file as it is",
        )
    try:
        ancestors = {root: _parse_body(body) for root, body in document.get("ledgers", {}).items()}
        ledger = replace(_parse_body(document), ancestors=ancestors)
        sound = all(root == ancestor.root for root, ancestor in ancestors.items())
        # whatever was changed, added, repeated or reordered does not come out as it went in
        sound = sound and encode_ledger(ledger, digest) == text
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
        what = f"its ledger is malformed: {error!s:.60}"
        raise LedgerError(what, path=path, advice=IGNORE) from None
    if not sound:
        raise LedgerError(
            "its ledger was altered: it does not match its own digest", path=path, advice=IGNORE
        )
    return ledger


IGNORE = "--ignore-ledger treats the file as a plain checkpoint"


def _parse_body(body: dict[str, Any]) -> Ledger:
    ingredients = tuple(
        Entry(
            digest=_digest(entry["digest"]),
            name=_text(entry["name"]),
            hint=None if entry["hint"] is None else _text(entry["hint"]),
            weight=read_weight(_text(entry["weight"])),
            dtypes=_parse_runs(entry["dtypes"]),
        )
        for entry in body["ingredients"]
    )
    require_positive_total([entry.weight for entry in ingredients])
    if merged(ingredients) != ingredients:
        raise ValueError("its ingredients are not sorted or not unique")
    asked, taken = body["dtype"]["asked"], body["taken"]
    return Ledger(
        operation=_text(body["operation"]),
        root=_digest(body["root"]),
        ingredients=ingredients,
        dtypes=_parse_runs(body["dtype"]["result"]),
        asked_dtype=None if asked is None else DType(asked),
        keys=_texts(body["selection"]["key"]),
        excludes=_texts(body["selection"]["exclude"]),
        allow_nonfinite=_flag(body["nonfinite"]),
        taken=None if taken is None else Taken(_digest(taken["digest"]), _texts(taken["tensors"])),
        exact=_flag(body["exact"]),
    )


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:20]!r} is not a text")
    return value


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError("a list is missing")
    return tuple(map(_text, values))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:20]!r} is not true or false")
    return value


def _digest(value: object) -> str:
    text = _text(value)
    if len(text) != len(UNKNOWN) or not text.startswith("blake3:") or set(text[7:]) - set(HEX):
        raise ValueError(f"{text[:80]!r} is not a digest")
    return text


def _parse_runs(value: Sequence[Any]) -> Runs:
    found = tuple((DType(dtype), count) for dtype, count in value)
    if any(type(count) is not int or count < 1 for _, count in found):
        raise ValueError("a run of dtypes is empty")
    return found


HEX = "0123456789abcdef"
