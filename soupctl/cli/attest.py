"""`soupctl attest`: a proof of what is in a soup, for others to check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import Level
from ..errors import UsageError
from . import options
from .console import counted, is_terminal, say
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from ..verbs import Attestation


@with_option_groups
def attest(
    soup: options.LocalSoup,
    ingredients: options.Moved = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Output file, such as proof.json.", metavar="OUTPUT"),
    ] = None,
    level: Annotated[
        Level | None, typer.Option(help="Level to prove first.  [default: as high as possible]")
    ] = None,
    sign_with: Annotated[
        str | None,
        typer.Option(help="Sign with this private key: PEM or SSH.", metavar="KEY"),
    ] = None,
    certificate: Annotated[
        str | None,
        typer.Option(help="The certificate of a PEM key, and its chain.", metavar="FILE"),
    ] = None,
    search: options.Search = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    *,
    work: options.WorkOptions,
) -> None:
    """Verify a soup, and write an attestation of it for others to check.

    It states the soup's files with their digests, the ingredients with their weights and training
    data, what was removed, and the level of proof. `verify --attestation` checks it. The format is
    an in-toto statement; with a PEM key, `model_signing verify key` accepts it as well.

    Example: soupctl attest soup.safetensors -o proof.json --sign-with key.pem
    """
    if output is None:
        raise UsageError("-o is required", advice="-o proof.json")
    if output in ("", "-"):
        raise UsageError(f"-o {output!r} is not a file", advice="-o proof.json")
    from .. import verbs

    execution = work.execution()
    request = verbs.AttestRequest(
        soup=options.named(soup),
        output=Path(output),
        ingredients=tuple(ingredients or ()),
        search=tuple(map(Path, search or ())),
        level=level,
        sign_with=None if sign_with is None else Path(options.named(sign_with)),
        certificate=None if certificate is None else Path(options.named(certificate)),
    )
    with read_bar(quiet) as advance:
        made = verbs.attest(request, force=force, execution=replace(execution, progress=advance))
    if sign_with is None:
        say(f"{output}: {_summary(made)}; not signed, so anyone can have written it", quiet)
    else:
        is_heard = verbose or is_terminal()
        say(f"{output}: {_summary(made)}; signed with {sign_with}", quiet or not is_heard)
    if verbose and not quiet:
        for each in made.files:
            say(f"  sha256:{each.sha256}  {each.name}")


def _summary(made: Attestation) -> str:
    materials = sum(len(each["materials"]) for each in made.components)
    removed = sum(len(each["removed"]) for each in made.components)
    parts = [
        counted(len(made.files), "file"),
        counted(materials, "ingredient"),
        *([f"{removed} removed"] if removed else []),
    ]
    return f"{', '.join(parts)}, proven to level {made.verification.level.value}"
