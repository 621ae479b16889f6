"""Attesting a soup: verified first, then stated, then signed.

Rule 1: nothing is stated that was not proven, or that changed since.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..checkpoints.layout import ModelFiles
from ..checkpoints.open import STREAM, find_input
from ..choices import Level
from ..errors import LedgerError, OutputError, UsageError
from ..ledger.ledger_json import ARITHMETIC
from ..merge.verify import Verified, verify
from ..storage.atomic import publish_bytes
from ..storage.place import place_of
from ..workers import ExecutionOptions
from .ledger_record import component_record
from .signing import require_signing, signed_file
from .soup_files import SoupFiles, digests_of, soup_files
from .statement import Attestation, Verification, statement_text


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestRequest:
    """A soup to attest, how to verify it, and with what to sign."""

    soup: str | Path
    output: Path
    ingredients: Sequence[str | Path] = ()
    """Files of ingredients, used before those at hints or in `search`."""
    search: Sequence[Path] = ()
    level: Level | None = None
    """The level to prove; None for the highest possible, from digest on."""
    sign_with: Path | None = None
    """A private key in PEM, or an SSH key; None for an attestation that is not signed."""
    certificate: Path | None = None
    """For a key in PEM: its certificate and those that vouch for it, in PEM."""


def attest(
    request: AttestRequest, *, force: bool = False, execution: ExecutionOptions | None = None
) -> Attestation:
    """Verify a soup, and write an attestation of its files, its ingredients and the verification.

    Raises LedgerError if the level is not proven, OutputError if the output exists or is an input,
    LimitError if what signs is not installed, and the errors of `verify`.
    """
    _require_sound(request)
    model = find_input(request.soup)
    files = soup_files(model, [request.output])
    _require_place(request, model, force=force)
    if request.sign_with is not None:
        require_signing(request.sign_with)
    found = verify(
        request.soup,
        request.ingredients,
        search=request.search,
        level=request.level,
        execution=execution,
    )
    level = _proven(found, request.level)
    attestation = Attestation(
        digests_of(files),
        tuple(component_record(each.name, each.ledger) for each in found if each.ledger),
        Verification(level, sum(len(each.unproven) for each in found), __version__, ARITHMETIC),
    )
    publish_bytes(request.output, _file(attestation, files, request), replace=force)
    return attestation


def _require_sound(request: AttestRequest) -> None:
    if request.soup == STREAM:
        what = "an attestation names files, and standard input is none"
        raise UsageError(what, advice="give the path of the soup")
    if request.level is Level.NOTHING:
        raise UsageError("--level nothing proves nothing to attest", advice="leave it out")
    if request.certificate is not None and request.sign_with is None:
        raise UsageError("--certificate needs the key that it is for", advice="--sign-with KEY")


def _require_place(request: AttestRequest, model: ModelFiles, *, force: bool) -> None:
    """Raise OutputError if the attestation could not be written, or would replace an input."""
    paths = [file for each in model.components for file in each.files]
    inputs = [*paths, *(each for each in (request.sign_with, request.certificate) if each)]
    target = os.path.realpath(request.output)
    if any(os.path.realpath(each) == target for each in inputs):
        raise OutputError("is also an input", path=request.output)
    with place_of(request.output) as place:
        place.require_free(request.output, force)


def _proven(found: Sequence[Verified], wanted: Level | None) -> Level:
    """The level that every component is proven to; LedgerError if that is not enough."""
    for each in found:
        if not each.reaches(wanted):
            level = (wanted or Level.DIGEST).value
            problem = (each.problem or "something is disproved").removeprefix(f"{each.path}: ")
            raise LedgerError(f"is not proven to level {level}: {problem}", path=each.path)
    levels = list(Level)
    return min((each.level for each in found), key=levels.index)


def _file(attestation: Attestation, files: SoupFiles, request: AttestRequest) -> bytes:
    if request.sign_with is None:
        return statement_text(attestation).encode()
    return signed_file(attestation, files, request.sign_with, request.certificate)
