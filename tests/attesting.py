"""Soups attested and checked in one line each, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soupctl import verbs
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
