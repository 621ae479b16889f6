"""Soups attested and checked in one line each, for tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soupctl import verbs
from soupctl.choices import Proof
from soupctl.verbs import Attestation, AttestRequest, CheckedAttestation


def attest(soup: str | Path, output: str = "proof.json", **options: Any) -> Attestation:
    """An attestation of a soup in a file that may exist."""
    force = options.pop("force", True)
    return verbs.attest(AttestRequest(soup=soup, output=Path(output), **options), force=force)


def checked(
    soup: str | Path, proof: str = "proof.json", trusted: str | None = None
) -> CheckedAttestation:
    """The result of checking an attestation against a soup."""
    found = verbs.verify(soup, level=verbs.Level.DIGEST)
    key = None if trusted is None else Path(trusted)
    return verbs.check_attestation(soup, Path(proof), found, key=key)


def only_problem(*words: Any) -> str:
    """The one problem that checking an attestation finds."""
    found = checked(*words)
    (problem,) = found.problems
    assert found.verdict is Proof.FAILED
    return problem


def edit(path: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the statement that an attestation holds, signed or not."""
    value = json.loads(Path(path).read_text())
    if "dsseEnvelope" in value or "payload" in value:
        envelope = value.get("dsseEnvelope", value)
        statement = json.loads(base64.b64decode(envelope["payload"]))
        change(statement["predicate"].get("soupctl", statement))
        envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    else:
        change(value)
    Path(path).write_text(json.dumps(value))


def set_weight(statement: dict[str, Any]) -> None:
    """Change the weight of the first ingredient in a statement."""
    statement["predicate"]["components"][0]["materials"][0]["weight"] = "7"
