"""The entries and changes of a ledger as values of JSON, and back.

Rule 1: a field that a later format added is left out if it has its default.
Rule 2: a ledger is untrusted input: whatever is malformed raises TypeError, KeyError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from .json_values import (
    encode_runs,
    parse_digest,
    parse_runs,
    read_flag,
    read_name,
    read_text,
    read_texts,
)
from .ledger import Change, IngredientEntry, PipelineShare, SoupState, merged_shares
from .sealed import Digest, canonical
from .weights import read_weight, weight_text


def given(**fields: Any) -> dict[str, Any]:
    """The optional fields that differ from their defaults."""
    return {name: value for name, value in fields.items() if value not in (None, [])}


def encode_entry(entry: IngredientEntry) -> dict[str, Any]:
    """An ingredient as a value of JSON."""
    return {
        "digest": entry.digest,
        "dtypes": encode_runs(entry.dtypes),
        "hint": entry.hint,
        "name": entry.name,
        "weight": weight_text(entry.weight),
        **given(
            renamed=entry.renamed,
            lacks=list(entry.lacks),
            blocks=list(map(weight_text, entry.blocks)),
            scales=entry.scales,
            schemes=list(entry.schemes),
            pipelines=[
                {
                    "digest": share.digest,
                    "hint": share.hint,
                    "name": share.name,
                    "weight": weight_text(share.weight),
                    **given(blocks=list(map(weight_text, share.blocks))),
                }
                for share in entry.pipelines
            ],
        ),
    }


def encode_donor(entry: IngredientEntry) -> dict[str, Any]:
    """A donor as a value of JSON."""
    encoded = encode_entry(entry)
    del encoded["weight"]
    return encoded


def encode_changes(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """The changes of a soup as a value of JSON."""
    return [
        {
            "digest": each.digest,
            "name": each.name,
            "weight": weight_text(each.weight),
            **given(blocks=list(map(weight_text, each.blocks))),
        }
        for each in changes
    ]


def encode_chain(chain: Iterable[SoupState], digest: Digest) -> list[dict[str, Any]]:
    """The earlier states of a soup as a value of JSON, each with the digest of the one before."""
    encoded: list[dict[str, Any]] = []
    for record in chain:
        encoded.append(
            {
                "changed": encode_changes(record.changed),
                "exact": record.exact,
                "operation": record.operation,
                "previous": digest(canonical(encoded[-1])) if encoded else None,
                "root": record.root,
            }
        )
    return encoded


def parse_entry(entry: Any) -> IngredientEntry:
    """The entry of an ingredient; KeyError, TypeError or ValueError if malformed."""
    shares = tuple(
        PipelineShare(
            digest=parse_digest(share["digest"]),
            name=read_name(share["name"]),
            hint=None if share["hint"] is None else read_name(share["hint"]),
            **_parse_weights(share),
        )
        for share in entry.get("pipelines", ())
    )
    if shares and merged_shares(shares) != shares:
        raise ValueError("its pipelines are not sorted or not unique")
    return IngredientEntry(
        digest=parse_digest(entry["digest"]),
        name=read_name(entry["name"]),
        hint=None if entry["hint"] is None else read_name(entry["hint"]),
        # donors have no weight
        **({"weight": Fraction(0)} if entry["weight"] is None else _parse_weights(entry)),
        dtypes=parse_runs(entry["dtypes"]),
        renamed=read_name(entry["renamed"]) if "renamed" in entry else None,
        lacks=read_texts(entry.get("lacks", [])),
        schemes=read_texts(entry.get("schemes", [])),
        scales=parse_digest(entry["scales"]) if "scales" in entry else None,
        pipelines=shares,
    )


def parse_donor(entry: Any) -> IngredientEntry:
    """The entry of a donor, which has no weight; the same errors."""
    return parse_entry({**entry, "weight": None})


def parse_changes(changes: Any) -> tuple[Change, ...]:
    """The changes of a soup; the same errors."""
    return tuple(
        Change(parse_digest(each["digest"]), read_name(each["name"]), **_parse_weights(each))
        for each in changes
    )


def parse_chain(chain: Any) -> tuple[SoupState, ...]:
    """The earlier states of a soup; the same errors."""
    return tuple(
        SoupState(
            operation=read_text(record["operation"]),
            changed=parse_changes(record["changed"]),
            root=parse_digest(record["root"]),
            exact=read_flag(record["exact"]),
        )
        for record in chain
    )


def _parse_weights(value: Any) -> dict[str, Any]:
    """The weight of a JSON object, and its weights by block; only with these may one be zero."""
    blocks = tuple(map(_weight_or_zero, read_texts(value.get("blocks", []))))
    read = _weight_or_zero if blocks else read_weight
    return {"weight": read(read_text(value["weight"])), "blocks": blocks}


def _weight_or_zero(text: str) -> Fraction:
    return Fraction(0) if text == "0" else read_weight(text)
