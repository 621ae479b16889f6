"""The options of `verify` by subject: the attestation, and the share of a folder."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import parse_weight
from ..pattern import pattern
from . import options

if TYPE_CHECKING:
    from ..verbs import Share

DURATION = pattern(r"([0-9]{1,9})(s|m|h)?")
SECONDS = {"s": 1, "m": 60, "h": 3600, None: 1}


@frozen
class AttestationOptions:
    """Options for checking an attestation besides."""

    attestation: Annotated[
        str | None,
        typer.Option(help="Check this attestation of the soup, too.", metavar="FILE"),
    ] = None
    key: Annotated[
        str | None,
        typer.Option(help="Public key or certificate that must have signed it.", metavar="PUB"),
    ] = None
    signers: Annotated[
        str | None,
        typer.Option(help="List of SSH keys, one of which must have signed it.", metavar="FILE"),
    ] = None


@frozen
class ShareOptions:
    """Options for the share of a folder's soups that is verified."""

    sample: Annotated[
        str | None,
        typer.Option(help="Verify only this share of the soups in a folder.", metavar="PERCENT"),
    ] = None
    seed: Annotated[int, typer.Option(help="Seed of the sample.", metavar="N", min=0)] = 0
    max_duration: Annotated[
        str | None,
        typer.Option(help="Begin no further soup of a folder after this time.", metavar="TIME"),
    ] = None

    def share(self) -> Share:
        """The share of the soups; UsageError for malformed options."""
        from ..verbs import Share

        return Share(_parse_sample(self.sample), self.seed, _parse_duration(self.max_duration))


def require_together(given: AttestationOptions, component: str | None) -> None:
    """Raise UsageError for options of an attestation that do not go together."""
    attestation, key, signers = given.attestation, given.key, given.signers
    if attestation is None and (key is not None or signers is not None):
        signed = "--key" if key is not None else "--signers"
        raise UsageError(f"{signed} is for an attestation", advice="--attestation FILE names it")
    if key is not None and signers is not None:
        raise UsageError("--key and --signers both say who signed", advice="give one of them")
    if attestation is not None and component is not None:
        raise UsageError("an attestation is of all components", advice="leave out --component")
    for text in (attestation, key, signers):
        if text is not None:
            options.named(text)


def _parse_sample(text: str | None) -> Fraction:
    """The share of soups of `5%` or `1/20`; all for None."""
    if text is None:
        return Fraction(1)
    try:
        return parse_weight(text)
    except UsageError:
        raise UsageError(f"--sample {text[:40]!r} is not a share", advice="such as 5%") from None


def _parse_duration(text: str | None) -> float | None:
    """Seconds of a duration such as `90s`, `10m` or `2h`."""
    if text is None:
        return None
    found = DURATION.fullmatch(text.strip())
    if found is None:
        what = f"--max-duration {text[:40]!r} is not a duration"
        raise UsageError(what, advice="such as 90s, 10m or 2h")
    return float(int(found[1]) * SECONDS[found[2]])
