"""The result of checking an attestation, as a line and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..choices import Proof

if TYPE_CHECKING:
    from ..verbs import CheckedAttestation


def attestation_verdict(checked: CheckedAttestation) -> str:
    """The verdict on an attestation: what is wrong with it, or what it proves and claims."""
    verified = checked.attestation.verification
    claim = f"it claims level {verified.level.value}, proven by soupctl {verified.soupctl}"
    if checked.verdict is Proof.OK:
        proven = "the soup's files, ingredients and weights are as attested"
        text = f"{checked.signature}; {proven}; {claim}"
    else:
        text = "; ".join(checked.problems)
    return f"{checked.verdict.value}: {checked.path}: {text}"


def attestation_json(checked: CheckedAttestation) -> dict[str, Any]:
    """The result as JSON; the attestation's claims count only if its verdict is OK."""
    verified = checked.attestation.verification
    return {
        "path": checked.path,
        "verdict": checked.verdict.value,
        "signature": checked.signature,
        "problems": list(checked.problems),
        "claims": {
            "level": verified.level.value,
            "unproven": verified.unproven,
            "soupctl": verified.soupctl,
            "arithmetic": verified.arithmetic,
        },
    }
