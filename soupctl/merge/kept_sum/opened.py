"""The sum that is kept beside a soup, open, and checked that it fits.

Rule 1: a sum fits a soup if it describes the same tensors, made of the same ingredients in the same
proportions; a sum beside a soup that does not fit is refused, not ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.digest import text_digest
from ...checkpoints.layout import Component
from ...checkpoints.open import STREAM
from ...checkpoints.remote.address import address_of
from ...errors import (
    InputError,
    LedgerError,
    UnreadableError,
    UsageError,
)
from ...format.header import Tensor
from ...frozen import frozen
from ...ledger.block_weights import WeightByBlock, summed
from ...ledger.ledger import LEDGER_KEY, SUM_KEY, IngredientEntry, Ledger, Runs
from ...ledger.read import is_sum
from ...ledger.weights import LARGEST
from ..opened_inputs import OpenedInputs
from ..plan import Plan
from ..recipe import Recipe
from ..step_weights import StepWeights
from .by_block import scaled_by_block
from .format import NO_SUM, REMOVE, Facts, parse_facts
from .reader import SumReader, soup_names
from .sum_weights import sum_weights


@frozen
class OpenedSum:
    """The open sum of one component of a soup, which fits it."""

    reader: SumReader
    ledger: Ledger
    """The soup's ledger."""
    facts: Facts
    scale: Fraction
    """The sum is that of the ingredients times their weights in `ledger`, times this."""

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.reader.label

    @property
    def denominators(self) -> dict[str, int]:
        """The denominators of its adapters' scales that are not 1, by content digest."""
        return denominators_of(self.facts, self.ledger)

    @property
    def dtypes(self) -> dict[str, Runs]:
        """The recorded dtypes of its ingredients, by content digest."""
        digests = [entry.digest for entry in self.ledger.ingredients]
        return dict(zip(digests, self.facts.dtypes, strict=True))

    def reweighted(self, ingredients: tuple[IngredientEntry, ...]) -> OpenedSum:
        """The sum for ingredients of other weights in the same proportions."""
        ledger = replace(self.ledger, ingredients=ingredients)
        return replace(self, ledger=ledger, scale=self.scale * self.ledger.total / ledger.total)

    def rescaled(self, plan: Plan, recipe: Recipe) -> Plan:
        """The plan with whole weights whose sum is this one, if its ledger has them."""
        if recipe.blocks:
            return scaled_by_block(plan, recipe, self.scale)
        whole = tuple(int(weight * self.scale) for weight in recipe.weights)
        divisor = sum(whole) if recipe.normalize else int(self.scale)
        return plan.reweighted(StepWeights(whole, divisor))


def has_place(output: str | Path) -> bool:
    """Whether a sum can be kept beside an output: a file or folder on this disk."""
    return output != STREAM and address_of(output) is None


def require_keepable(output: str | Path, allow_nonfinite: bool) -> None:
    """Raise UsageError for a soup whose sum cannot be kept."""
    if not has_place(output):
        raise UsageError("a kept sum needs a file as output", advice="-o FILE")
    if allow_nonfinite:
        raise UsageError("no sum can be kept of NaN or infinity", advice=NO_SUM)


def open_sum(
    inputs: OpenedInputs, component: Component, soup: Checkpoint, ledger: Ledger
) -> OpenedSum:
    """The sum beside an open soup, opened and checked against the soup and its ledger.

    The pass verifies its tensors. Raises LedgerError for a sum that is not sound or does not fit.
    """
    with _removable():
        checkpoint = inputs.open(component)
        own = inputs.ledger(checkpoint)
    if own is None or not is_sum(checkpoint):
        raise LedgerError("is not a sum of a soup", path=checkpoint.label, advice=REMOVE)
    facts = facts_of(checkpoint, own)
    ratio = own.total / ledger.total
    # equal ingredients in equal proportions have equal sums; requested dtype, selection and integer
    # source need not be compared
    mine, others = _weights(own, Fraction(1)), _weights(ledger, ratio)
    if (own.root, own.added, mine) != (ledger.root, ledger.added, others):
        what = "is the sum of another soup than the one beside it"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    found = _opened(checkpoint, ledger, facts, facts.scale * ratio)
    tensors = {name: soup.tensors[name] for name in soup_names(soup)}
    if _shapes(found.reader.tensors) != _shapes(tensors):
        what = "is a sum of other tensors than the soup beside it has"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return found


def as_sum(checkpoint: Checkpoint, ledger: Ledger) -> OpenedSum:
    """An open sum that is used in place of its soup; LedgerError if it is not sound."""
    facts = facts_of(checkpoint, ledger)
    return _opened(checkpoint, ledger, facts, facts.scale)


def _opened(checkpoint: Checkpoint, ledger: Ledger, facts: Facts, scale: Fraction) -> OpenedSum:
    """The open sum; LedgerError for a scale that no sum has.

    With its scale, the weights are whole numbers that the engines compute with exactly.
    """
    entries = ledger.ingredients
    known = denominators_of(facts, ledger)
    weights = [x * scale for x in sum_weights(entries, ledger.added, known).values()]
    total = summed(weights) if ledger.normalize else WeightByBlock(scale)
    every = (*weights, total)
    whole = [weight for each in every for weight in (each.usual, *each.blocks)]
    largest = max(map(abs, whole))
    if any(weight.denominator != 1 for weight in whole) or largest > LARGEST:
        what = "records a scale that does not fit its weights"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return OpenedSum(SumReader(checkpoint), ledger, facts, scale)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in tensors.items()}


@contextmanager
def _removable() -> Iterator[None]:
    """Add to errors about an unsound sum that it can be removed."""
    try:
        yield
    except UnreadableError:
        # a failure that is not the fault of the sum
        raise
    except (InputError, LedgerError) as error:
        issues = [replace(issue, advice=REMOVE) for issue in error.issues]
        raise LedgerError.collected(issues) from None


def facts_of(checkpoint: Checkpoint, ledger: Ledger) -> Facts:
    """The facts that a sum records beside its ledger; LedgerError if they are malformed."""
    metadata = checkpoint.metadata
    facts = parse_facts(metadata[SUM_KEY], metadata[LEDGER_KEY], checkpoint.label, text_digest)
    count = len(ledger.ingredients)
    if len(facts.dtypes) != count or len(facts.denominators) not in (0, count):
        what = "its record of a sum is malformed"
        raise LedgerError(what, path=checkpoint.label, advice=REMOVE)
    return facts


def denominators_of(facts: Facts, ledger: Ledger) -> dict[str, int]:
    """The denominators of the scales of adapters, by content digest, unless they are 1."""
    pairs = zip(ledger.ingredients, facts.denominators, strict=False)
    return {entry.digest: number for entry, number in pairs if number > 1}


def _weights(
    ledger: Ledger, ratio: Fraction
) -> tuple[tuple[str, ...], list[tuple[str, WeightByBlock]]]:
    """The blocks of a soup, if weights differ by block, and the weights of its ingredients."""
    own = sum_weights(ledger.ingredients, ledger.added)
    weights = [(digest, weight * ratio) for digest, weight in own.items()]
    return (ledger.blocks if any(each.blocks for _, each in weights) else ()), weights
