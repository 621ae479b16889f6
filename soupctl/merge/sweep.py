"""Averaging two checkpoints in many proportions in one pass.

Rule 1: each output equals, byte for byte, that of `avg` with the two weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

from ..checkpoints.open import STREAM
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.weights import parse_number
from ..workers import ExecutionOptions
from .average import Request, planned_average
from .config_source import config_source
from .donors import donors_named
from .ingredients import ComponentInputs, Ingredient, Inputs, as_ingredient, open_inputs
from .job import ComponentResult, Job
from .rounds import arrange
from .run import carry_out_together

SHARE = "{t}"
TEMPLATE = f"such as -o 'mix-{SHARE}.st'"
MOST_SOUPS = 256
"""Most soups of one sweep."""
MOST_DECIMALS = 30
"""Most decimals of a share in the name of a file."""


@frozen
class ShareRange:
    """Shares of a second ingredient: from `start` to `stop`, both included, `step` by `step`."""

    start: Fraction
    stop: Fraction
    step: Fraction

    def __post_init__(self) -> None:
        """Raise UsageError for a step that does not lead to `stop`, and for too many shares."""
        if self.step <= 0 or self.stop < self.start:
            what = "--sweep START:STOP:STEP needs a positive step from START up to STOP"
            raise UsageError(what, advice="such as 0:1:0.1")
        if (count := self._count) > MOST_SOUPS:
            what = f"--sweep makes {count} soups, and at most {MOST_SOUPS} are possible"
            raise UsageError(what, advice="a larger step makes fewer")

    @property
    def _count(self) -> int:
        return (self.stop - self.start) // self.step + 1

    @property
    def shares(self) -> tuple[Fraction, ...]:
        """Every share, in order."""
        return tuple(self.start + place * self.step for place in range(self._count))


def parse_range(text: str) -> ShareRange:
    """The shares that `START:STOP:STEP` means; UsageError for any other text."""
    parts = text.split(":")
    if len(parts) != 3:
        raise UsageError(f"--sweep {text!r} is not START:STOP:STEP", advice="such as 0:1:0.1")
    return ShareRange(*(parse_number(part.strip()) for part in parts))


@frozen
class Sweep:
    """Soups of two ingredients in many proportions."""

    request: Request
    """A request with two ingredients without weights; `{t}` in its output is the second's share."""
    range: ShareRange

    def __post_init__(self) -> None:
        """Raise UsageError for options that do not work with a sweep."""
        request, output = self.request, str(self.request.output)
        if output == STREAM:
            raise UsageError("standard output holds one soup, not several", advice=TEMPLATE)
        if SHARE not in output:
            raise UsageError(f"the output has no {SHARE}", path=output, advice=TEMPLATE)
        if len(request.ingredients) != 2:
            what = f"a sweep mixes two checkpoints, and {len(request.ingredients)} are given"
            raise UsageError(what)
        if any(as_ingredient(each).weight != 1 for each in request.ingredients):
            raise UsageError("--sweep gives the weights", advice="leave out -w and @")
        if request.blocks is not None:
            raise UsageError("--sweep has no weights by block", advice="leave out --blocks")
        if request.keep_sum:
            raise UsageError("--sweep cannot keep sums", advice="leave out --keep-sum")


@frozen
class SweptSoup:
    """One soup of a sweep."""

    share: Fraction
    """The share of the second ingredient."""
    job: Job


def sweep(
    asked: Sweep, *, force: bool = False, execution: ExecutionOptions | None = None
) -> dict[Fraction, tuple[ComponentResult, ...]]:
    """Make every soup; the results of its components, by the share of the second ingredient.

    `force` replaces existing outputs, but no input. Raises any child of SoupError; for the outputs
    that then exist, see `carry_out_together`.
    """
    with open_sweep(asked) as soups:
        rounds = arrange([each.job for each in soups], execution.threads if execution else None)
        made = carry_out_together(rounds, force=force, execution=execution)
        return {each.share: results for each, results in zip(soups, made, strict=True)}


@contextmanager
def open_sweep(asked: Sweep) -> Iterator[tuple[SweptSoup, ...]]:
    """All soups, planned but not yet computed, by the share of the second ingredient.

    Raises the errors of `open_job` for any of them.
    """
    request = asked.request
    ingredients = [as_ingredient(each) for each in request.ingredients]
    with open_inputs(
        ingredients,
        component=request.component,
        variant=request.variant,
        ignore_ledger=request.ignore_ledger,
        donors=donors_named(request.take, ingredients),
    ) as inputs:
        yield tuple(_planned(request, share, ingredients, inputs) for share in asked.range.shares)


def _planned(
    request: Request, share: Fraction, ingredients: Sequence[Ingredient], inputs: Inputs
) -> SweptSoup:
    """The soup of one share; for 0 or 1, of one ingredient alone."""
    weights = (1 - share, share)
    counted = [place for place, weight in enumerate(weights) if weight]
    kept = [Ingredient(ingredients[place].path, weights[place]) for place in counted]
    output = str(request.output).replace(SHARE, share_text(share))
    # configs of an ingredient that is left out do not matter
    is_in = config_source(request.config_from, inputs.models) in counted
    configs = request.config_from if is_in else None
    return SweptSoup(
        share,
        planned_average(
            replace(request, output=output, ingredients=kept, config_from=configs),
            kept,
            of_these(inputs, counted),
        ),
    )


def of_these(inputs: Inputs, places: Sequence[int]) -> Inputs:
    """The inputs with these indices."""
    components = []
    for component in inputs.components:
        checkpoints = tuple(component.checkpoints[place] for place in places)
        ledgers = tuple(component.ledgers[place] for place in places)
        layout = next((each for each in checkpoints if each.component.folder is not None), None)
        components.append(
            ComponentInputs(component.name, checkpoints, ledgers, layout, component.donors)
        )
    return Inputs(tuple(inputs.models[place] for place in places), tuple(components), inputs.donors)


def share_text(share: Fraction) -> str:
    """A share as part of a file name: `0.25`, or `1-3` if no decimal is exact."""
    whole, digits = share, 0
    while whole.denominator > 1 and digits < MOST_DECIMALS:
        whole, digits = whole * 10, digits + 1
    if whole.denominator > 1:
        return f"{share.numerator}-{share.denominator}"
    sign = "-" if share < 0 else ""
    text = f"{abs(whole.numerator):0{digits + 1}}"
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"
