"""A statement in the form that OpenSSF model signing signs, with an attestation inside it.

Rule 1: its verifiers ignore members of the predicate that they do not know, so one signature
covers both, and either tool checks it.
Rule 2: both list the same files with the same digests, or the statement is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from .statement import STATEMENT, Attestation, AttestedFile, encode_statement, parse_statement

MODEL_SIGNATURE = "https://model_signing/signature/v1.0"
MEMBER = "soupctl"
"""The member of its predicate that is the attestation."""
ITSELF = "."
"""The name that a model of one file has in its own list."""
IGNORED = (".cache", ".git", ".gitattributes", ".github", ".gitignore")
"""Files and folders of a model that are neither signed nor attested: those of git and downloads."""


def model_statement(
    attestation: Attestation, name: str, *, is_folder: bool, beside: Sequence[str] = ()
) -> dict[str, Any]:
    """The statement that model signing makes of a soup called `name`, and the attestation.

    `beside` are files in the soup's folder that are left out, such as the attestation itself.
    """
    resources = [
        {
            "name": each.name if is_folder else ITSELF,
            "algorithm": "sha256",
            "digest": each.sha256,
        }
        for each in _in_order(attestation.files)
    ]
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": _root(attestation.files)}}],
        "predicateType": MODEL_SIGNATURE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                # a snapshot in the hub's cache is links to its blobs
                "allow_symlinks": True,
                "ignore_paths": sorted({*IGNORED, *beside}),
            },
            "resources": resources,
            MEMBER: encode_statement(attestation),
        },
    }


def attestation_of(statement: Any) -> Attestation:
    """The attestation in a statement of either form.

    Raises ValueError, TypeError or KeyError for any other statement.
    """
    if statement["predicateType"] != MODEL_SIGNATURE:
        return parse_statement(statement)
    predicate = statement["predicate"]
    found = parse_statement(predicate[MEMBER])
    listed = [each["digest"] for each in predicate["resources"]]
    (subject,) = statement["subject"]
    expected = [each.sha256 for each in _in_order(found.files)]
    if listed != expected or subject["digest"]["sha256"] != _root(found.files):
        raise ValueError("its model signature lists other files than its attestation")
    return found


def _in_order(files: Sequence[AttestedFile]) -> list[AttestedFile]:
    return sorted(files, key=lambda each: PurePosixPath(each.name).parts)


def _root(files: Sequence[AttestedFile]) -> str:
    """The digest of all digests, in the order of the list."""
    hasher = hashlib.sha256()
    for each in _in_order(files):
        hasher.update(bytes.fromhex(each.sha256))
    return hasher.hexdigest()
