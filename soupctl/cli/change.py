"""`soupctl add`, `subtract` and `swap`: change the ingredients of a soup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..choices import Method
from ..errors import UsageError
from ..frozen import frozen
from . import completion, options
from .console import say
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, make_on, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import ComponentResult, Revision

Again = Annotated[
    bool, typer.Option("--again", help="Allow an ingredient that the soup already has.")
]
Each = Annotated[
    bool,
    typer.Option(
        "--each", help="Take out each ingredient in turn; the output's name contains {name}."
    ),
]


@frozen
class ReviseOptions:
    """Options of every command that changes a soup."""

    search: options.Search = None
    keep_sum: Annotated[
        bool | None,
        typer.Option(
            "--keep-sum/--no-keep-sum",
            help="Keep the exact sum beside the result.  [default: if the soup has one]",
        ),
    ] = None
    approximate: Annotated[
        bool | None,
        typer.Option(
            "--approximate/--exact",
            help="Compute from the rounded soup, or refuse to.  [default: exact]",
        ),
    ] = None
    count: Annotated[
        int | None,
        typer.Option(
            "--count", help="Number of models in a soup without a ledger.", metavar="N", min=1
        ),
    ] = None
    total: Annotated[
        str | None,
        typer.Option("--total", help="Total weight of a soup without a ledger.", metavar="W"),
    ] = None
    round_weights: options.RoundWeights = None
    ray: options.Ray = None
    component: options.Component = None
    variant: options.Variant = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders in which ingredients are searched for."""
        return tuple(map(Path, self.search or ()))

    @property
    def total_weight(self) -> Fraction | None:
        """The declared total weight of a soup without a ledger; UsageError with --exact."""
        if self.count is not None and self.total is not None:
            raise UsageError("--count and --total exclude each other", advice="use one of them")
        if self.approximate is False and (self.count is not None or self.total is not None):
            what = "a soup without a ledger cannot be changed exactly"
            raise UsageError(what, advice="leave out --exact")
        if self.total is not None:
            from ..ledger.weights import parse_weight

            return parse_weight(self.total)
        return None if self.count is None else Fraction(self.count)

    def fill_in(self, revision: Revision) -> Revision:
        """The change of a soup, with these options."""
        return replace(
            revision,
            search=self.folders,
            approximate=bool(self.approximate),
            total=self.total_weight,
            keep_sum=self.keep_sum,
            round_weights=self.round_weights,
            component=self.component,
            variant=self.variant,
        )


@with_option_groups
def add(
    soup: options.Soup,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Checkpoints, each with an optional @WEIGHT.", metavar="NEW..."),
        CHECKPOINTS,
    ],
    output: options.Output = None,
    again: Again = False,
    config_from: options.ConfigFrom = None,
    *,
    revise: ReviseOptions,
    merge: MergeOptions,
) -> None:
    """Put checkpoints into a soup, exactly.

    Example: soupctl add soup.safetensors new.safetensors -o more.safetensors
    """
    from .. import verbs

    revision = verbs.Revision(
        operation="add",
        soup=soup,
        output=require_output(output, merge),
        added=[verbs.Addition(*options.split_weight(text)) for text in inputs],
        again=again,
        config_from=config_from,
    )
    _revise(revision, revise, merge)


@with_option_groups
def subtract(
    soup: options.Soup,
    removed: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, digests or names, each with an optional @WEIGHT.",
            metavar="X...",
            autocompletion=completion.ingredients,
        ),
        CHECKPOINTS,
    ] = None,
    output: options.Output = None,
    each: Each = False,
    *,
    revise: ReviseOptions,
    merge: MergeOptions,
) -> None:
    """Take ingredients out of a soup, exactly.

    Example: soupctl subtract soup.safetensors dogs.safetensors -o without.safetensors

    Example: soupctl subtract soup.safetensors --each -o 'without-{name}'
    """
    from .. import verbs

    target = require_output(output, merge)
    if each:
        _require_alone(removed, revise)
        _leave_out_each(soup, target, revise, merge)
        return
    if not removed:
        raise UsageError(
            "no ingredient to take out is named",
            advice="name one, or --each takes out each in turn",
        )
    revision = verbs.Revision(
        operation="subtract",
        soup=soup,
        output=target,
        removed=[verbs.Removal(*options.split_weight(text)) for text in removed],
    )
    _revise(revision, revise, merge)


def _require_alone(removed: list[str] | None, revise: ReviseOptions) -> None:
    """Raise UsageError for arguments that --each excludes."""
    if removed:
        raise UsageError("--each takes out every ingredient in turn", advice="name no ingredient")
    if revise.total_weight is not None:
        raise UsageError(
            "--each needs a soup with a ledger", advice="leave out --count and --total"
        )
    if revise.keep_sum:
        raise UsageError("--each cannot keep sums", advice="leave out --keep-sum")
    if revise.ray is not None:
        raise UsageError("--each reads all once, on this machine", advice="leave out --ray")


@with_option_groups
def swap(
    soup: options.Soup,
    old: Annotated[
        str,
        typer.Argument(
            help="A file, digest or name.", metavar="OLD", autocompletion=completion.ingredients
        ),
        CHECKPOINTS,
    ],
    new: Annotated[
        str, typer.Argument(help="The checkpoint that replaces it.", metavar="NEW"), CHECKPOINTS
    ],
    output: options.Output = None,
    again: Again = False,
    config_from: options.ConfigFrom = None,
    *,
    revise: ReviseOptions,
    merge: MergeOptions,
) -> None:
    """Replace an ingredient of a soup with another, at its weight.

    Example: soupctl swap soup.safetensors dogs.safetensors dogs-v2.safetensors -o new.safetensors
    """
    from .. import verbs

    what, weight = options.split_weight(old)
    revision = verbs.Revision(
        operation="swap",
        soup=soup,
        output=require_output(output, merge),
        added=[verbs.Addition(*options.split_weight(new))],
        removed=[verbs.Removal(what, weight)],
        again=again,
        config_from=config_from,
    )
    _revise(revision, revise, merge)


def _revise(revision: Revision, revise: ReviseOptions, merge: MergeOptions) -> None:
    """Make the changed soup, with a warning if the result is approximate."""
    from .. import verbs

    output, asked = str(revision.output), revise.fill_in(revision)
    made = make_on(revise.ray, verbs.open_revision, asked, output, merge)
    _report_approximate(made, output, merge)


def _leave_out_each(soup: str, output: str, revise: ReviseOptions, merge: MergeOptions) -> None:
    """Make one soup for each ingredient, without it."""
    from .. import verbs
    from .several_soups import leave_out_each

    family = verbs.LeaveOneOut(
        soup, output, revise.folders, bool(revise.approximate), revise.component, revise.variant
    )
    _report_approximate(leave_out_each(family, merge), output, merge)


def _report_approximate(made: Sequence[ComponentResult], output: str, merge: MergeOptions) -> None:
    found = [each for each in made if not each.ledger.exact]
    if found:
        why = MERGED if all(map(_has_only_merged, found)) else APPROXIMATE
        say(f"soupctl: {output}: approximate: {why}", merge.quiet)


def _has_only_merged(made: ComponentResult) -> bool:
    """Whether it is approximate only because ingredients of it were merged by a method."""
    known = made.ledger.ancestors.values()
    from_rounded = any(not each.exact and each.method is None for each in known)
    merged = any(not each.exact for each in known)
    return merged and not from_rounded and made.method is not Method.ROUNDED


APPROXIMATE = "computed from a rounded soup, so a trace of what was taken out may remain"
MERGED = "an ingredient was merged by a method that is not an exact mean"
