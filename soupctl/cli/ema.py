"""`soupctl ema`: averages the snapshots of a training run over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import parse_weight
from . import options
from .console import counted, say
from .hub_option import CHECKPOINTS
from .merge_output import MergeOptions, make, require_output
from .option_groups import with_option_groups

if TYPE_CHECKING:
    from ..verbs import EmaRequest, TimeAverage


@frozen
class EmaOptions:
    """Options of `ema` besides those of every command that makes a soup."""

    decay: Annotated[
        str | None,
        typer.Option(help="Share of the average that is kept at each snapshot.", metavar="D"),
    ] = None
    sigma_rel: Annotated[
        str | None,
        typer.Option(help="Width of a power-function profile, such as 0.10.", metavar="S"),
    ] = None
    steps: Annotated[
        str | None,
        typer.Option(
            help="Steps of the inputs, such as 500,1000.  [default: 1,2,...]", metavar="N,..."
        ),
    ] = None
    stored_sigma_rel: Annotated[
        str | None,
        typer.Option(
            help="Profile widths of the inputs, if they are power-function averages.",
            metavar="S,...",
        ),
    ] = None
    round_weights: options.RoundWeights = None

    def request(
        self, inputs: Sequence[str], output: str, result: options.ResultOptions
    ) -> EmaRequest:
        """The average of these inputs; UsageError for malformed numbers."""
        from ..verbs import EmaRequest

        return EmaRequest(
            inputs=[options.named(each) for each in inputs],
            output=output,
            decay=None if self.decay is None else parse_weight(self.decay),
            sigma_rel=None if self.sigma_rel is None else _number(self.sigma_rel, "--sigma-rel"),
            steps=tuple(_step(each) for each in _listed(self.steps)),
            stored_sigma_rel=tuple(
                _number(each, "--stored-sigma-rel") for each in _listed(self.stored_sigma_rel)
            ),
            round_weights=self.round_weights,
            dtype=result.float_dtype,
            component=result.component,
            variant=result.variant,
            keep_sum=result.keep_sum,
        )


@with_option_groups
def ema(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Snapshots in training order, or the folder of a run.", metavar="INPUT..."
        ),
        CHECKPOINTS,
    ] = None,
    output: options.Output = None,
    *,
    asked: EmaOptions,
    result: options.ResultOptions,
    merge: MergeOptions,
) -> None:
    """Average the snapshots of a training run over time.

    Example: soupctl ema step-1.st step-2.st step-3.st --decay 0.9 -o ema.st
    """
    output = require_output(output, merge)
    from .. import verbs

    found = verbs.time_average(asked.request(inputs or (), output, result))
    facts = {} if found.error is None else {"reconstruction_error": found.error}
    make(verbs.open_job(found.request), output, merge, facts)
    _report(found, merge.quiet)


def _report(found: TimeAverage, quiet: bool) -> None:
    """Report how the weights were determined."""
    if found.error is not None:
        what = (
            f"the {found.fitted} reproduce the profile with a relative error of {found.error:.2%}"
        )
        say(f"soupctl: {what}", quiet)
    if found.decimals is not None and found.error is None:
        what = f"the weights are too fine to be exact and are rounded to {found.decimals} decimals"
        say(f"soupctl: {what}", quiet)
    if found.left_out:
        count = counted(len(found.left_out), "snapshot")
        say(f"soupctl: left out, with a weight of zero: {count}, {found.left_out[0]} first", quiet)


def _listed(text: str | None) -> list[str]:
    return [] if text is None else [each.strip() for each in text.split(",")]


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{option} {text!r} is not a number", advice="such as 0.10")
    return number


def _step(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_STEP):
        raise UsageError(f"--steps {text!r} is not a step", advice="such as 500,1000,1500")
    return int(text)


LONGEST_STEP = 12
"""Most digits of a step."""
