"""The bill of materials of a soup: CycloneDX 1.6 JSON, as for any machine-learning model.

Rule 1: it follows from the soup's files and ledgers alone: no clock, and a serial number that is
made of the content digests.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import __version__
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.training_record import TrainingRecord
from .statement import AttestedFile

SPECIFICATION = "1.6"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
MODEL = "machine-learning-model"
SOUP = "soup"
"""The reference of the soup itself."""

Ledgers = Sequence[tuple[str, Ledger]]
"""The name and ledger of each component of a soup."""


def bill_text(name: str, ledgers: Ledgers, files: Sequence[AttestedFile]) -> str:
    """The bill of materials of a soup, as a file."""
    return json.dumps(bill_of(name, ledgers, files), indent=2, sort_keys=True) + "\n"


def bill_of(name: str, ledgers: Ledgers, files: Sequence[AttestedFile]) -> dict[str, Any]:
    """The bill of materials of a soup, as a JSON value."""
    roots = [ledger.root for _, ledger in ledgers]
    ingredients = {each.digest: each for _, ledger in ledgers for each in ledger.sources}
    trainings = {each.data: each for _, ledger in ledgers for each in _trainings(ledger)}
    depends = sorted([*map(_model_ref, ingredients), *map(_data_ref, trainings)])
    return {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": SPECIFICATION,
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_URL, " ".join(roots)).urn,
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "soupctl", "version": __version__}]
            },
            "component": _soup(name, ledgers, files, trainings),
        },
        "components": [
            *(_ingredient(each) for _, each in sorted(ingredients.items())),
            *(_data(each) for _, each in sorted(trainings.items())),
        ],
        "dependencies": [
            {"ref": SOUP, "dependsOn": depends},
            *({"ref": ref} for ref in depends),
        ],
    }


def _soup(
    name: str,
    ledgers: Ledgers,
    files: Sequence[AttestedFile],
    trainings: Mapping[str, TrainingRecord],
) -> dict[str, Any]:
    """The soup: its files with their hashes, and its ingredients as ancestors."""
    ancestors = [each for part in ledgers for each in _ancestors(*part)]
    parameters = {"datasets": [{"ref": _data_ref(each)} for each in sorted(trainings)]}
    facts = [
        fact
        for part, ledger in ledgers
        for fact in (
            _fact(_in(part, "content"), ledger.root),
            _fact(_in(part, "exact"), str(ledger.exact).lower()),
            _fact(_in(part, "operation"), ledger.operation),
            *(_fact(_in(part, "removed"), each) for each in _removed(ledger)),
        )
    ]
    return {
        "type": MODEL,
        "bom-ref": SOUP,
        "name": name,
        "components": [
            {"type": "file", "name": each.name, "hashes": _hashes(each)} for each in files
        ],
        "pedigree": {"ancestors": ancestors},
        **({"modelCard": {"modelParameters": parameters}} if trainings else {}),
        "properties": facts,
    }


def _ancestors(part: str, ledger: Ledger) -> Iterator[dict[str, Any]]:
    for entry, share in zip(ledger.ingredients, ledger.known_shares, strict=True):
        yield {
            "type": MODEL,
            "name": entry.name,
            "properties": [
                _fact(_in(part, "content"), entry.digest),
                _fact(_in(part, "weight"), str(entry.weight)),
                *(() if share is None else (_fact(_in(part, "share"), str(share)),)),
                *(_fact(_in(part, "blockWeight"), str(each)) for each in entry.blocks),
            ],
        }


def _ingredient(entry: IngredientEntry) -> dict[str, Any]:
    return {
        "type": MODEL,
        "bom-ref": _model_ref(entry.digest),
        "name": entry.name,
        "properties": [_fact("soupctl:content", entry.digest)],
    }


def _data(training: TrainingRecord) -> dict[str, Any]:
    """The images that an ingredient was trained on."""
    return {
        "type": "data",
        "bom-ref": _data_ref(training.data),
        "name": training.data_name,
        "data": [{"type": "dataset", "name": training.data_name}],
        "properties": [
            _fact("soupctl:data", training.data),
            _fact("soupctl:samples", str(training.samples)),
        ],
    }


def _trainings(ledger: Ledger) -> Iterator[TrainingRecord]:
    for each in (ledger, *ledger.ancestors.values()):
        if each.training is not None:
            yield each.training


def _removed(ledger: Ledger) -> Iterator[str]:
    for state in ledger.states:
        if state.operation in ("subtract", "swap"):
            yield from (f"{each.digest} {each.name}" for each in state.changed if each.weight < 0)


def _hashes(file: AttestedFile) -> list[dict[str, str]]:
    return [
        {"alg": "SHA-256", "content": file.sha256},
        {"alg": "BLAKE3", "content": file.blake3},
    ]


def _in(part: str, name: str) -> str:
    """The name of a property, of one component of a pipeline."""
    return f"soupctl:{part}:{name}" if part else f"soupctl:{name}"


def _fact(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


def _model_ref(digest: str) -> str:
    return f"model {digest}"


def _data_ref(digest: str) -> str:
    return f"data {digest}"
