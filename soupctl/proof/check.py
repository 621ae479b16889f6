"""Checking an attestation against a soup: its signature, the soup's files and its ledger.

Rule 1: every problem has a message of its own, and one hides no other.
Rule 2: what the attestation says was verified is told as its claim; the soup is verified anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..checkpoints.open import STREAM, find_input
from ..choices import Proof
from ..errors import UsageError
from ..frozen import frozen
from ..merge.verify import Verified
from .envelope import AttestationFile, read_attestation
from .ledger_record import differences
from .signature_error import SignatureProblem
from .signing import check_signature
from .soup_files import SoupFiles, digests_of, soup_files
from .statement import Attestation

SHOWN = 5


@frozen
class CheckedAttestation:
    """The result of checking an attestation against a soup."""

    path: str
    verdict: Proof
    signature: str | None
    """Whose signature it has, or that it has none, in words; None if that is not proven."""
    problems: tuple[str, ...]
    """What is wrong or not proven, each with its own message."""
    attestation: Attestation
    """What it states, which is proven only if there are no problems."""


def check_attestation(
    soup: str | Path, path: Path, found: Sequence[Verified], *, key: Path | None = None
) -> CheckedAttestation:
    """Whether an attestation is of this soup, and whose it is; `found` is what `verify` says of it.

    `key` is a public key, certificates to trust, or a list of the SSH keys of signers. Raises
    InputError for what is not an attestation, LimitError if what checks signatures is missing.
    """
    if soup == STREAM:
        what = "an attestation is of files, and standard input is none"
        raise UsageError(what, advice="give the path of the soup")
    file = read_attestation(path)
    signature, unproven, refuted = _signature(file, key)
    problems = [*refuted, *_problems(soup, path, file.attestation, found)]
    verdict = Proof.FAILED if problems else Proof.UNPROVEN if unproven else Proof.OK
    every = (*problems, *unproven)
    return CheckedAttestation(file.label, verdict, signature, every, file.attestation)


def _signature(
    file: AttestationFile, trusted: Path | None
) -> tuple[str | None, list[str], list[str]]:
    """Whose signature it is, what of that is not proven, and what is disproved."""
    try:
        return check_signature(file, trusted), [], []
    except SignatureProblem as problem:
        return None, *(([], [problem.what]) if problem.refutes else ([problem.what], []))


def _problems(
    soup: str | Path, path: Path, stated: Attestation, found: Sequence[Verified]
) -> Iterator[str]:
    """How a soup differs from what is stated of it: its ledger first, then its files."""
    components = {each["name"]: each for each in stated.components}
    verified = {each.name: each for each in found}
    if components.keys() != verified.keys():
        yield "it is the attestation of another soup, with other components"
        return
    swapped = False
    for name, each in verified.items():
        if each.ledger is None:
            yield "the soup has no sound ledger to compare it with"
            continue
        for what in differences(components[name], each.ledger):
            swapped = swapped or "another soup" in what
            yield f"{what} ({name})" if name else what
    if not swapped:
        files = soup_files(find_input(soup), [path])
        yield from _of_files(stated, files)


def _of_files(stated: Attestation, files: SoupFiles) -> Iterator[str]:
    digests = {each.name: (each.sha256, each.blake3) for each in digests_of(files)}
    expected = {each.name: (each.sha256, each.blake3) for each in stated.files}
    if not files.is_folder and len(expected) == 1:
        # a single file may be renamed
        expected = dict(zip(digests, expected.values(), strict=True))
    yield from _named("has no file", expected.keys() - digests.keys())
    yield from _named("has a file that is not attested:", digests.keys() - expected.keys())
    both = expected.keys() & digests.keys()
    changed = {name for name in both if expected[name] != digests[name]}
    yield from _named("has another file than was attested:", changed)


def _named(what: str, names: set[str]) -> Iterator[str]:
    """One message about the names, the first few of them named."""
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        yield f"the soup {what} {', '.join(sorted(names)[:SHOWN])}{more}"
