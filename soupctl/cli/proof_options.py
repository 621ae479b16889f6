"""The options of `verify` by subject: the attestation, and the share of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..frozen import frozen
from . import options
from .proof_folder import parse_duration, parse_sample

if TYPE_CHECKING:
    from ..verbs import Share


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

        return Share(parse_sample(self.sample), self.seed, parse_duration(self.max_duration))


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
