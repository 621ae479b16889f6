"""`soupctl verify`: the proof of a soup, failures first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import Level, Proof
from ..errors import UsageError
from ..frozen import frozen
from . import options
from .attestation_report import attestation_verdict
from .console import put, put_json
from .option_groups import with_option_groups
from .progress import read_bar
from .verify_folder import folder_json, put_folder, summary, worst
from .verify_options import AttestationOptions, ShareOptions, require_together
from .verify_report import PROOFS, proof_json, put_verdicts

if TYPE_CHECKING:
    from ..verbs import CheckedAttestation, ExecutionOptions, Share, SoupFolder, Verified


@frozen
class AskedProof:
    """What is to be proven of each soup, where ingredients may be, and how that is printed."""

    search: tuple[Path, ...]
    level: Level | None
    printing: options.PrintOptions
    prove: Callable[..., tuple[Verified, ...]]
    """Verifies one soup, here or on workers."""


@with_option_groups
def verify(
    soup: options.Soup,
    ingredients: options.Moved = None,
    search: options.Search = None,
    level: Annotated[
        Level | None, typer.Option(help="Highest level to prove.  [default: as high as possible]")
    ] = None,
    *,
    checking: AttestationOptions,
    of_folder: ShareOptions,
    component: options.Component = None,
    ray: options.Ray = None,
    work: options.WorkOptions,
    printing: options.PrintOptions,
) -> None:
    """Verify a soup: its header, its tensors, or by rebuilding it bit for bit.

    The exit code is 0 if the level named by --level is proven, else 1. Without --level, the
    highest possible level is tried, and the exit code is 0 from level digest on, unless the
    ingredients disprove the soup.

    With --attestation, the soup's files and ledger must also be those that were attested, and with
    --key or --signers, the attestation must be signed with that key or one of those.

    In a folder of soups, all are verified, or a --sample of them. The summary counts those that
    were not read; the exit code covers the others.

    Example: soupctl verify soup.safetensors --level rebuild
    """
    require_together(checking, component)
    from .. import verbs

    share, execution = of_folder.share(), work.execution()
    several = None if soup == "-" else verbs.soups_in(options.named(soup))
    with _proving(ray, work.threads) as prove:
        asked = AskedProof(tuple(map(Path, search or ())), level, printing, prove)
        if several is not None:
            _require_no_single(soup, checking.attestation, ingredients, component)
            is_proven = _verify_folder(several, share, asked, execution)
        else:
            _require_no_share(soup, share)
            is_proven = _verify_soup(soup, ingredients or (), component, checking, asked, execution)
    raise typer.Exit(0 if is_proven else 1)


def _proving(
    ray: str | None, threads: int | None
) -> AbstractContextManager[Callable[..., tuple[Verified, ...]]]:
    """The function that verifies a soup, with --ray on the workers at that address."""
    if ray is None:
        from .. import verbs

        return nullcontext(verbs.verify)
    from .ray import proving

    return proving(ray, threads or 1)


def _verify_folder(
    several: SoupFolder, share: Share, asked: AskedProof, execution: ExecutionOptions
) -> bool:
    """Print the verdicts on the soups of a folder; whether all that were read are proven."""
    from .. import verbs

    printing, level = asked.printing, asked.level
    with read_bar(printing.quiet) as advance:
        execution = replace(execution, progress=advance)
        read = verbs.verify_folder(
            several, share, search=asked.search, level=level, execution=execution, how=asked.prove
        )
    if printing.json:
        put_json(folder_json(several, read, level, share.seed))
    elif not printing.quiet:
        put_folder(read, level, verbose=printing.verbose)
        put(summary(several, read, share))
    return worst(read, level) is Proof.OK


def _verify_soup(
    soup: str,
    ingredients: Sequence[str],
    component: str | None,
    checking: AttestationOptions,
    asked: AskedProof,
    execution: ExecutionOptions,
) -> bool:
    """Print the verdicts on a soup and its attestation; whether both are proven."""
    printing, level = asked.printing, asked.level
    with read_bar(printing.quiet) as advance:
        found = asked.prove(
            soup,
            ingredients,
            search=asked.search,
            level=level,
            component=component,
            execution=replace(execution, progress=advance),
        )
        checked = _checked(soup, checking.attestation, checking.key or checking.signers, found)
    if printing.json:
        put_json(proof_json(soup, found, level, checked))
    elif not printing.quiet:
        worst_first = sorted(found, key=lambda each: PROOFS.index(each.verdict(level)))
        put_verdicts(worst_first, level, verbose=printing.verbose)
        if checked is not None:
            put(attestation_verdict(checked))
    proven = all(each.reaches(level) for each in found)
    return proven and (checked is None or checked.verdict is Proof.OK)


def _checked(
    soup: str, attestation: str | None, key: str | None, found: Sequence[Verified]
) -> CheckedAttestation | None:
    """The result of checking an attestation, if there is one."""
    from .. import verbs

    if attestation is None:
        return None
    return verbs.check_attestation(
        soup, Path(attestation), found, key=None if key is None else Path(key)
    )


def _require_no_single(
    soup: str,
    attestation: str | None,
    ingredients: list[str] | None,
    component: str | None,
) -> None:
    """Raise UsageError for what applies to one soup, where there are several."""
    if attestation is not None or ingredients or component is not None:
        what = "is a folder of soups, of which each has its own ingredients and attestation"
        raise UsageError(what, path=soup, advice="name one of them")


def _require_no_share(soup: str, share: Share) -> None:
    """Raise UsageError for a share of several soups, where there is one."""
    if share.sample != 1 or share.seconds is not None:
        what = "is not a folder of soups, which --sample and --max-duration are for"
        raise UsageError(what, path=soup, advice="leave them out")
