"""What an attestation says of a soup's ledger, as JSON values, and how a ledger differs from it.

Rule 1: it follows from the ledger alone, so anybody who has the soup can compute it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..checkpoints.digest import PREFIX, text_digest
from ..ledger.ledger import Change, IngredientEntry, Ledger
from ..ledger.ledger_json import encode_ledger
from ..ledger.training_record import encode_training

CONTENT = "soupctlContent"
"""The kind of a content digest in a digest set: BLAKE3 over tensors alone."""

Record = dict[str, Any]


def component_record(name: str, ledger: Ledger) -> Record:
    """What an attestation says of one component of a soup; `name` is its folder in a pipeline."""
    known = {"ancestors": _ancestors(ledger.ancestors)} if ledger.ancestors else {}
    return {
        "name": name,
        "digest": _content(ledger.root),
        "ledger": {"blake3": text_digest(encode_ledger(ledger, text_digest)).removeprefix(PREFIX)},
        "exact": ledger.exact,
        "materials": _materials(ledger),
        "history": [
            {
                "operation": state.operation,
                "digest": _content(state.root),
                "exact": state.exact,
                "changed": [_named(each) for each in state.changed],
            }
            for state in ledger.states
        ],
        "removed": removed(ledger),
        **_training(ledger),
        **({} if ledger.method is None else {"method": ledger.method.text}),
        **known,
    }


def removed(ledger: Ledger) -> list[Record]:
    """The ingredients that were removed from a soup, wholly or in part, oldest first."""
    return [
        {"operation": state.operation, **_named(change)}
        for state in ledger.states
        if state.operation in ("subtract", "swap")
        for change in state.changed
        if min((change.weight, *change.blocks)) < 0
    ]


def differences(stated: Mapping[str, Any], ledger: Ledger) -> Iterator[str]:
    """How an attestation's record of a component differs from that of a soup's ledger."""
    own = component_record(str(stated["name"]), ledger)
    if stated == own:
        return
    if stated.get("digest") != own["digest"]:
        yield "it is the attestation of another soup, whose tensors have another digest"
        return
    wrong = [
        f"it states other {what} than the soup's ledger"
        for key, what in FIELDS.items()
        if stated.get(key) != own.get(key)
    ]
    yield from wrong or ["it states things that do not follow from the soup's ledger"]


FIELDS = {
    "materials": "ingredients, weights or training data",
    "removed": "removed ingredients",
    "history": "operations",
    "ancestors": "ingredients of ingredients",
    "training": "training data",
    "exact": "exactness",
    "method": "methods",
}
"""The members of a record that have a message of their own, and what they hold."""


def _content(digest: str) -> dict[str, str]:
    return {CONTENT: digest.removeprefix(PREFIX)}


def _materials(ledger: Ledger) -> list[Record]:
    """The ingredients of a ledger, each with its weight, what it is and what it was trained on."""
    ingredients = [
        {**_named(entry), "role": _role(ledger, entry), **_data(ledger, entry)}
        for entry in ledger.ingredients
    ]
    donors = [
        {**_named(entry), "role": "donor", "tensors": ledger.taken_from(entry.digest)}
        for entry in ledger.donors
    ]
    return [*ingredients, *donors]


def _role(ledger: Ledger, entry: IngredientEntry) -> str:
    if entry.digest == ledger.base:
        return "base"
    # a method combines models, although its ledger has their weights as scales
    return "delta" if ledger.adds(entry) and ledger.method is None else "ingredient"


def _data(ledger: Ledger, entry: IngredientEntry) -> Record:
    known = ledger.ancestors.get(entry.digest)
    return {} if known is None else _training(known)


def _training(ledger: Ledger) -> Record:
    return {} if ledger.training is None else {"training": encode_training(ledger.training)}


def _named(each: IngredientEntry | Change) -> Record:
    blocks = {"blocks": list(map(str, each.blocks))} if each.blocks else {}
    return {
        "name": each.name,
        "digest": _content(each.digest),
        "weight": str(each.weight),
        **blocks,
    }


def _ancestors(ancestors: Mapping[str, Ledger]) -> list[Record]:
    """The soups among the ingredients and theirs, and what was trained, by digest."""
    found: Sequence[tuple[str, Ledger]] = sorted(ancestors.items())
    return [
        {
            "digest": _content(digest),
            "exact": each.exact,
            "materials": _materials(each),
            "removed": removed(each),
            **_training(each),
        }
        for digest, each in found
    ]
