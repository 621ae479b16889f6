"""The in-toto statement that attests a soup: its files, its ledger, and how it was verified.

Rule 1: equal soups, verified alike, have equal statements: no clock and no path outside the soup.
Rule 2: an attestation is untrusted input: it is checked in full before any of it is used.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..choices import Level
from ..format.index import is_inside
from ..frozen import frozen
from ..pattern import pattern

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:soupctl:attestation:v1"
"""The kind of what is said of the files: that they are a soup, of what, and how it is known."""

HEX = pattern(r"[0-9a-f]{64}")
MOST_FILES = 100_000
LONGEST_NAME = 4096


@frozen
class AttestedFile:
    """A file of a soup: its path in the soup's folder, or its name, and digests in hexadecimal."""

    name: str
    sha256: str
    blake3: str


@frozen
class Verification:
    """How a soup was verified, and with what."""

    level: Level
    unproven: int
    """Claims of the ledger about earlier states that could not be checked."""
    soupctl: str
    """The version that verified it."""
    arithmetic: int
    """The version of the arithmetic contract."""


@frozen
class Attestation:
    """What is attested of a soup."""

    files: tuple[AttestedFile, ...]
    """Sorted by name, at least one."""
    components: tuple[dict[str, Any], ...]
    """A record for each component: see `ledger_record.py`."""
    verification: Verification


def encode_statement(attestation: Attestation) -> dict[str, Any]:
    """The attestation as an in-toto statement."""
    verified = attestation.verification
    return {
        "_type": STATEMENT,
        "subject": [
            {"name": each.name, "digest": {"blake3": each.blake3, "sha256": each.sha256}}
            for each in attestation.files
        ],
        "predicateType": PREDICATE,
        "predicate": {
            "components": list(attestation.components),
            "verification": {
                "level": verified.level.value,
                "unproven": verified.unproven,
                "soupctl": verified.soupctl,
                "arithmetic": verified.arithmetic,
            },
        },
    }


def statement_text(attestation: Attestation) -> str:
    """The statement as a file that is not signed."""
    value = encode_statement(attestation)
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def parse_statement(value: Any) -> Attestation:
    """The inverse of `encode_statement`.

    Raises ValueError, TypeError or KeyError for anything else.
    """
    if value["_type"] != STATEMENT:
        raise ValueError("it is not an in-toto statement of version 1")
    if value["predicateType"] != PREDICATE:
        raise ValueError("it states something else than an attestation of soupctl")
    files = tuple(_parse_file(each) for each in _list(value["subject"]))
    names = [each.name for each in files]
    if not files or len(files) > MOST_FILES or sorted(set(names)) != names:
        raise ValueError("its files are none, too many, or not in order")
    predicate = value["predicate"]
    components = tuple(map(_parse_component, _list(predicate["components"])))
    if not components:
        raise ValueError("it has no component")
    return Attestation(files, components, _parse_verification(predicate["verification"]))


def _parse_verification(value: Any) -> Verification:
    level = Level(_text(value["level"]))
    if not level.holds(Level.HEADER):
        raise ValueError("it attests a level at which nothing is proven")
    return Verification(
        level, _count(value["unproven"]), _text(value["soupctl"]), _count(value["arithmetic"])
    )


def _parse_file(value: Any) -> AttestedFile:
    name, digests = _text(value["name"]), value["digest"]
    if not is_inside(name):
        raise ValueError(f"it names the file {name[:80]!r}, which is not inside the soup")
    found = [_text(digests[kind]) for kind in ("sha256", "blake3")]
    if not all(map(HEX.fullmatch, found)):
        raise ValueError(f"a digest of {name[:80]!r} is not one")
    return AttestedFile(name, *found)


def _parse_component(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("a component is not an object")
    _text(value["name"])
    return value


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("a list is missing")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NAME:
        raise TypeError("a text is missing or too long")
    return value


def _count(value: object) -> int:
    # True is an int to Python
    if type(value) is not int or value < 0:
        raise ValueError("a count is missing")
    return value
