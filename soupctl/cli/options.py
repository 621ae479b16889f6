"""Options that several commands share, and how their texts become values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import OnInt
from ..errors import InputError, UsageError
from ..frozen import frozen
from ..ledger.weights import parse_weight
from . import completion
from .error_report import ErrorStyle
from .hub_option import CHECKPOINTS

if TYPE_CHECKING:
    from ..verbs import DType, ExecutionOptions, Ingredient


def _show_every_issue(context: typer.Context, asked: bool) -> bool:
    context.ensure_object(ErrorStyle).every_issue |= asked
    return asked


Soup = Annotated[
    str, typer.Argument(help="A soup: a file or a folder.", metavar="SOUP"), CHECKPOINTS
]
LocalSoup = Annotated[str, typer.Argument(help="A soup: a file or a folder.", metavar="SOUP")]
"""For commands that need its files on this disk."""
Moved = Annotated[
    list[str] | None,
    typer.Argument(help="Ingredients that have moved since the soup was made.", metavar="X..."),
    CHECKPOINTS,
]
Search = Annotated[
    list[str] | None,
    typer.Option("--search", help="Also look for ingredients in this folder.", metavar="DIR"),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_show_every_issue,
        help="Print more, and every issue of an error.",
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", help="Output file or folder; - for stdout.", metavar="OUTPUT"),
]
RoundWeights = Annotated[
    int | None,
    typer.Option(help="Round the weights to this many decimals.", metavar="N", min=0, max=18),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="Float dtype of the result.  [default: the narrowest that holds all inputs']",
        autocompletion=completion.dtypes,
    ),
]
DtypeFor = Annotated[
    list[str] | None,
    typer.Option(
        help="Float dtype of the tensors whose names match; the first match wins.",
        metavar="GLOB=DTYPE",
    ),
]
Key = Annotated[
    list[str] | None,
    typer.Option(help="Include only tensors whose names match.", metavar="GLOB"),
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="Leave out tensors whose names match.", metavar="GLOB")
]
OnInts = Annotated[OnInt, typer.Option(help="What to do with integer tensors that differ.")]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Allow NaN and infinity in inputs and result.")
]
IgnoreLedger = Annotated[
    bool, typer.Option("--ignore-ledger", help="Treat soups as plain checkpoints.")
]
ShardSize = Annotated[
    str | None,
    typer.Option(help="Write a folder of shards of at most this size.", metavar="SIZE"),
]
Blocks = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        help="Weights by block: a TOML file, a preset, or 26, 20 or 61 numbers.",
        metavar="FILE|PRESET|T,...",
    ),
]
ScalesByBlock = Annotated[
    str | None,
    typer.Option(
        "--blocks",
        help="Scales by block: a TOML file, or for one delta a preset or numbers.",
        metavar="FILE|PRESET|T,...",
    ),
]
KeepSum = Annotated[
    bool, typer.Option("--keep-sum/--no-keep-sum", help="Keep the exact sum beside the soup.")
]
ConfigFrom = Annotated[
    str | None,
    typer.Option(
        help="Use this input's configs where they differ without affecting the weights.",
        metavar="INPUT",
    ),
    CHECKPOINTS,
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Print the plan and exit.")]
Component = Annotated[
    str | None,
    typer.Option(help="Use only this component (subfolder) of a pipeline.", metavar="NAME"),
]
Variant = Annotated[
    str | None,
    typer.Option(help="Prefer weight files of this variant, such as fp16.", metavar="NAME"),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", "-j", min=1, max=256, help="Number of worker threads.", metavar="N"),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Share the work among the workers of a Ray cluster: HOST:PORT, auto or local.",
        metavar="[ADDRESS]",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        help="Compute device: auto, cpu, cuda, cuda:N or cuda:N,M.",
        metavar="DEVICE",
    ),
]
OneDevice = Annotated[
    str, typer.Option(help="Compute device: auto, cpu, cuda or cuda:N.", metavar="DEVICE")
]
MaxMemory = Annotated[str | None, typer.Option(help="Memory limit, such as 512M.", metavar="SIZE")]


@frozen
class PrintOptions:
    """How a command prints its result."""

    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@frozen
class ResultOptions:
    """Options of the commands that make a new soup of inputs with weights."""

    dtype: Dtype = None
    component: Component = None
    variant: Variant = None
    keep_sum: KeepSum = False

    @property
    def float_dtype(self) -> DType | None:
        """The dtype of the result; None for the usual one. UsageError for no float dtype."""
        from ..format.dtypes import parse_dtype

        return None if self.dtype is None else parse_dtype(self.dtype)


@frozen
class WorkOptions:
    """Options that decide the speed of the work alone."""

    threads: Threads = None
    device: Device = "auto"

    def execution(self) -> ExecutionOptions:
        """The options of the work; UsageError for an unknown device."""
        from ..verbs import ExecutionOptions

        found = ExecutionOptions.on(self.device)
        return found if self.threads is None else replace(found, threads=self.threads)


def read_inputs(
    inputs: Sequence[str],
    weights: str | None,
    files_from: str | None,
    null: bool,
    hub: bool = False,
) -> list[Ingredient]:
    """The ingredients given on a command line, in order, each with its weight.

    With `hub`, OWNER/NAME in the list is a repository of the hub where there is no such path.
    Raises UsageError if weights are malformed, given twice, or not as many as the inputs.
    """
    from ..checkpoints.lists import read_list
    from ..checkpoints.remote.hub_ids import on_hub
    from ..verbs import Ingredient

    if null and files_from is None:
        raise UsageError("-0 needs --files-from")
    if files_from == "-" and "-" in inputs:
        raise UsageError("standard input cannot be both a list of files and an ingredient")
    listed = [] if files_from is None else read_list(named(files_from), b"\0" if null else b"\n")
    if any("\0" in each for each in listed):
        what = "holds null characters, which no file name has"
        raise InputError(what, path=files_from, advice="-0 reads names that end with them")
    texts = [*inputs, *(map(on_hub, listed) if hub else listed)]
    split = [split_weight(text) for text in texts]
    if weights is None:
        return [Ingredient(path, Fraction(1) if w is None else w) for path, w in split]
    if any(weight is not None for _, weight in split):
        raise UsageError("-w and @ both give weights", advice="use one of them")
    asked = [parse_weight(text.strip()) for text in weights.split(",")]
    if len(asked) != len(split):
        raise UsageError(f"-w gives {len(asked)} weights, but there are {len(split)} inputs")
    return [Ingredient(path, weight) for (path, _), weight in zip(split, asked, strict=True)]


def named(text: str) -> str:
    """The name of an input; UsageError for an empty one, as from an unset shell variable."""
    if not text:
        # as a path, an empty text would be the current folder
        raise UsageError("the name of an input is empty")
    return text


def split_weight(text: str) -> tuple[str, Fraction | None]:
    """Path and weight of `a.st@0.7`; an existing file of that whole name takes precedence."""
    path, mark, weight = named(text).rpartition("@")
    if not mark or os.path.lexists(text):
        return text, None
    named(path)
    try:
        return path, parse_weight(weight)
    except UsageError:
        if path == "-" or os.path.lexists(path):
            raise
        return text, None


def pairs(texts: list[str] | None, option: str) -> tuple[tuple[str, str], ...]:
    """Arguments of the form `GLOB=VALUE`, split at the first `=`; UsageError for other texts."""
    found = []
    for text in texts or ():
        glob, equals, value = text.partition("=")
        if not (glob and equals and value):
            raise UsageError(f"{option} {text!r} is not GLOB=VALUE")
        found.append((glob, value))
    return tuple(found)


def entries(texts: list[str] | None, option: str) -> tuple[tuple[str, str], ...]:
    """Arguments of the form `KEY=VALUE`, split at the first `=`; the value may be empty."""
    found = []
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{option} {text!r} is not KEY=VALUE")
        found.append((key, value))
    return tuple(found)
