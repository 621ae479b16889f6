"""`soupctl hash`: content digests of checkpoints, printed or checked against a list."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from . import options
from .console import digest_text, put, put_json, say, shows_whole_digests
from .hub_option import CHECKPOINTS
from .option_groups import with_option_groups
from .progress import read_bar

if TYPE_CHECKING:
    from ..verbs import FileDigest, Verdict


@with_option_groups
def hash_files(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Checkpoints, data folders, images.", metavar="FILE..."),
        CHECKPOINTS,
    ] = None,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Digest whole files with SHA-256 instead.")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option("--check", "-c", help="Check a list of digests; - is stdin.", metavar="LIST"),
    ] = None,
    component: options.Component = None,
    variant: options.Variant = None,
    threads: options.Threads = None,
    *,
    printing: options.PrintOptions,
) -> None:
    """Print content digests: equal tensors, equal digests.

    Sharding, order, padding and metadata do not matter. The digest of a data folder is the one that
    training records: it covers the names, bytes, captions and labels of its images. On a terminal,
    digests are shortened unless -v is given. A line with an escaped name begins with a backslash.

    Example: soupctl hash soup.safetensors > soup.b3 && soupctl hash --check soup.b3
    """
    if check is not None:
        if paths or sha256 or component is not None:
            raise UsageError(
                "--check reads the files and the kind of digest from its list",
                advice="leave out FILE, --sha256 and --component",
            )
        raise typer.Exit(_check(options.named(check), variant, printing))
    if sha256 and not (component is None and variant is None):
        raise UsageError(
            "--sha256 digests whole files", advice="leave out --component and --variant"
        )
    from .. import verbs

    def digests_of(path: str) -> tuple[FileDigest, ...]:
        if sha256:
            return (verbs.file_sha256(path),)
        if images := verbs.images_digest(path):
            return (images,)
        return verbs.content_digests(path, threads=threads, component=component, variant=variant)

    _print_digests(_hashed(paths or []), digests_of, printing)


def _print_digests(
    paths: Sequence[str],
    digests_of: Callable[[str], tuple[FileDigest, ...]],
    printing: options.PrintOptions,
) -> None:
    """Hash each path, and print its digests at once, or as JSON in the end."""
    digests = []
    whole = shows_whole_digests(printing.verbose)
    for path in paths:
        started = time.monotonic()
        with read_bar(printing.quiet):
            found = digests_of(path)
        if printing.verbose:
            say(f"{path}: hashed in {time.monotonic() - started:.1f} s", printing.quiet)
        for each in found:
            digests.append({"digest": each.digest, "path": each.path})
            if not printing.json:
                mark, name = _listed(each.path)
                put(f"{mark}{digest_text(each.digest, whole=whole)}  {name}")
    if printing.json:
        put_json({"digests": digests})


def _hashed(paths: list[str]) -> list[str]:
    """The paths to hash; UsageError if there are none, or if standard input is there twice."""
    if not paths:
        raise UsageError("no file is named", advice="name at least one checkpoint")
    if paths.count("-") > 1:
        raise UsageError("standard input can be hashed only once")
    return [options.named(path) for path in paths]


def _listed(name: str) -> tuple[str, str]:
    """The prefix of a name's line in a list, and the name as that line has it."""
    from ..checkpoints.lists import escape

    return escape(name, sys.stdout.encoding)


def _check(source: str, variant: str | None, printing: options.PrintOptions) -> int:
    """Print a verdict on each line of the list; 0 if all hold, else 1."""
    from .. import verbs
    from ..checkpoints.lists import read_list

    verdicts = []
    answers = verbs.check_digests(
        read_list(source), source, variant, digest_other=verbs.images_digest
    )
    while (verdict := _next_verdict(answers, printing.quiet)) is not None:
        verdicts.append(verdict)
        if not printing.json and not printing.quiet:
            said = "OK" if verdict.holds else verdict.problem or "DIFFERS"
            put(f"{''.join(_listed(verdict.path))}: {said}")
    failed = sum(not verdict.holds for verdict in verdicts)
    if printing.json:
        checked = [
            {"path": each.path, "ok": each.holds, "problem": each.problem} for each in verdicts
        ]
        put_json({"ok": not failed, "checked": checked})
    if failed:
        say(f"soupctl: {failed} of {len(verdicts)} do not match their digests in {source}")
    return 1 if failed else 0


def _next_verdict(verdicts: Iterator[Verdict], quiet: bool) -> Verdict | None:
    """The next verdict, with a progress bar while it is computed; None if there are no more."""
    with read_bar(quiet):
        return next(verdicts, None)
