"""The entries and changes of a ledger as canonical JSON, and back from its values.

Rule 1: a field that a later format added is left out if it has its default.
Rule 2: a ledger is untrusted input: whatever is malformed raises TypeError, KeyError or ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from json.encoder import encode_basestring as quoted
from typing import Any

from .block_weights import WeightTuple
from .entries import merged_shares
from .json_values import (
    parse_digest,
    parse_runs,
    read_flag,
    read_name,
    read_text,
    read_texts,
    runs_text,
)
from .ledger import Change, IngredientEntry, PipelineShare, SoupState
from .sealed import Digest, canonical, list_text
from .weights import read_weight, weight_text

USUAL_FIELDS = 5
"""Fields of an entry without optional ones."""


def entry_text(entry: IngredientEntry) -> str:
    """An ingredient as canonical JSON."""
    return _entry_text(entry, f',"weight":"{weight_text(entry.weight)}"')


def donor_text(entry: IngredientEntry) -> str:
    """A donor as canonical JSON."""
    return _entry_text(entry, "")


def _entry_text(entry: IngredientEntry, weight: str) -> str:
    pipelines = ""
    if entry.pipelines:
        pipelines = f',"pipelines":{list_text(map(_share_text, entry.pipelines))}'
    # the members in the order of their names; thousands of entries are too many to sort each
    return (
        f'{{{_blocks_text(entry.blocks)}"digest":{quoted(entry.digest)}'
        f',"dtypes":{runs_text(entry.dtypes)},"hint":{_text_or_null(entry.hint)}'
        f'{_given("lacks", entry.lacks)},"name":{quoted(entry.name)}'
        f"{pipelines}{_given('renamed', entry.renamed)}{_given('scales', entry.scales)}"
        f"{_given('schemes', entry.schemes)}{weight}}}"
    )


def _share_text(share: PipelineShare) -> str:
    return (
        f'{{{_blocks_text(share.blocks)}"digest":{quoted(share.digest)}'
        f',"hint":{_text_or_null(share.hint)},"name":{quoted(share.name)}'
        f',"weight":"{weight_text(share.weight)}"}}'
    )


def changes_text(changes: Iterable[Change]) -> str:
    """The changes of a soup as canonical JSON."""
    return list_text(
        f'{{{_blocks_text(each.blocks)}"digest":{quoted(each.digest)},"name":{quoted(each.name)}'
        f',"weight":"{weight_text(each.weight)}"}}'
        for each in changes
    )


def chain_text(chain: Iterable[SoupState], digest: Digest) -> str:
    """The earlier states of a soup as canonical JSON, each with the digest of the one before."""
    records: list[str] = []
    for record in chain:
        previous = quoted(digest(records[-1])) if records else "null"
        records.append(
            f'{{"changed":{changes_text(record.changed)}'
            f',"exact":{"true" if record.exact else "false"},"operation":{quoted(record.operation)}'
            f',"previous":{previous},"root":{quoted(record.root)}}}'
        )
    return list_text(records)


def _blocks_text(blocks: WeightTuple) -> str:
    return f'"blocks":{canonical(list(map(weight_text, blocks)))},' if blocks else ""


def _given(name: str, value: str | tuple[str, ...] | None) -> str:
    """An optional member; nothing if it has its default."""
    return "" if value is None or value == () else f',"{name}":{canonical(value)}'


def _text_or_null(text: str | None) -> str:
    return "null" if text is None else quoted(text)


def parse_entry(entry: Any) -> IngredientEntry:
    """The entry of an ingredient; KeyError, TypeError or ValueError if malformed."""
    digest, dtypes = parse_digest(entry["digest"]), parse_runs(entry["dtypes"])
    name, hint, weight = read_name(entry["name"]), _read_hint(entry["hint"]), entry["weight"]
    # thousands of entries have no other fields
    if len(entry) == USUAL_FIELDS and weight is not None:
        return IngredientEntry(digest, name, hint, read_weight(read_text(weight)), dtypes)
    shares = tuple(map(_parse_share, entry.get("pipelines", ())))
    if shares and merged_shares(shares) != shares:
        raise ValueError("its pipelines are not sorted or not unique")
    return IngredientEntry(
        digest=digest,
        name=name,
        hint=hint,
        # donors have no weight
        **({"weight": Fraction(0)} if weight is None else _parse_weights(entry)),
        dtypes=dtypes,
        renamed=read_name(entry["renamed"]) if "renamed" in entry else None,
        lacks=read_texts(entry.get("lacks", [])),
        schemes=read_texts(entry.get("schemes", [])),
        scales=parse_digest(entry["scales"]) if "scales" in entry else None,
        pipelines=shares,
    )


def _parse_share(share: Any) -> PipelineShare:
    return PipelineShare(
        digest=parse_digest(share["digest"]),
        name=read_name(share["name"]),
        hint=_read_hint(share["hint"]),
        **_parse_weights(share),
    )


def _read_hint(hint: object) -> str | None:
    return None if hint is None else read_name(hint)


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
