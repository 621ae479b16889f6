"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError, UsageError
from ..soup.weights import parse_weight

if TYPE_CHECKING:
    from ..verbs import Ingredient

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more; show every issue.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Where the result goes; - is stdout.", metavar="OUTPUT"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and stop.")]
Threads = Annotated[
    int | None, typer.Option("--threads", "-j", min=1, max=256, help="Worker threads.", metavar="N")
]
MaxMemory = Annotated[
    str | None, typer.Option(help="Most memory to use, such as 512M.", metavar="SIZE")
]


def parse_size(text: str | None, option: str) -> int | None:
    """Bytes of a size such as `512M` or `5GB`; M and MiB are powers of 1024, MB of 1000."""
    if text is None:
        return None
    found = SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{option} {text!r} is not a size", advice="such as 512M or 5GB")
    number, prefix, suffix = found.groups()
    base = 1000 if (suffix or "").lower() == "b" else 1024
    size = int(Fraction(number) * base ** " kmgt".index(prefix.lower() or " "))
    if size < 1:
        raise UsageError(f"{option} {text!r} is nothing")
    return size


def read_inputs(
    inputs: Sequence[str], weights: str | None, files_from: str | None, null: bool
) -> list[Ingredient]:
    """The ingredients that a command line names, in order, each with its weight.

    Raises UsageError if weights are malformed, of another number than the inputs, or given twice.
    """
    from ..verbs import Ingredient

    if null and files_from is None:
        raise UsageError("-0 goes with --files-from")
    texts = [*inputs, *(_listed(files_from, null) if files_from is not None else [])]
    if files_from == "-" and "-" in inputs:
        raise UsageError("standard input cannot be both a list of files and an ingredient")
    split = [_split(text) for text in texts]
    if weights is None:
        return [Ingredient(path, Fraction(1) if w is None else w) for path, w in split]
    if any(weight is not None for _, weight in split):
        raise UsageError("weights are given twice, with -w and with @", advice="choose one way")
    listed = [parse_weight(text.strip()) for text in weights.split(",")]
    if len(listed) != len(split):
        raise UsageError(f"-w has {len(listed)} weights for {len(split)} inputs")
    return [Ingredient(path, weight) for (path, _), weight in zip(split, listed, strict=True)]


def _split(text: str) -> tuple[str, Fraction | None]:
    """Path and weight of `a.st@0.7`; a file of that literal name is meant where there is one."""
    if not text:
        # what an unset variable of a shell becomes, and not the current folder
        raise UsageError("the name of an input is empty")
    path, mark, weight = text.rpartition("@")
    if not mark or os.path.lexists(text):
        return text, None
    try:
        return path, parse_weight(weight)
    except UsageError:
        if path == "-" or os.path.lexists(path):
            raise
        return text, None


def _listed(files_from: str, null: bool) -> list[str]:
    """The paths in a file, one a line, or NUL-terminated; bytes that are no UTF-8 are kept."""
    try:
        raw = sys.stdin.buffer.read() if files_from == "-" else Path(files_from).read_bytes()
    except OSError as error:
        raise InputError(error.strerror or str(error), path=files_from) from None
    lines = raw.split(b"\0" if null else b"\n")
    return [os.fsdecode(line) for line in lines if line]
