"""The ledger of a soup that a method made, from that of the mean with the same inputs.

Rule 1: a base has weight 1, and the weights of the others are scales of what is added to it.
Rule 2: settings are exact texts, so that a rebuild has all that the first pass had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

from ...errors import LedgerError, UsageError
from ...ledger.ledger import MERGE, UNKNOWN, Ledger
from ...ledger.method_record import MethodRecord
from ...ledger.weights import parse_number
from ...methods.settings import TAKES, MergedTensor, MethodSettings, block_of
from ..order import Outcome
from ..plan import Plan
from ..step import Rule

LONGEST = "16777215/16777216"
"""A ratio of the greatest length; it stands for unknown ones when the ledger's size is planned."""
YES, NO = "yes", "no"


def require_rows(plan: Plan) -> None:
    """Raise LimitError for a tensor whose rows the plan's method cannot rank."""
    if plan.method is not None:
        for step in plan.kept:
            if step.rule is Rule.AVERAGE:
                block_of(plan.method.method, MergedTensor(step.name, step.shape))


def recorded(settings: MethodSettings) -> tuple[tuple[str, str], ...]:
    """The settings that the method takes, as a ledger has them."""
    taken = TAKES[settings.method]
    found = {
        "density": ",".join(map(str, settings.densities)) if taken.density else "",
        "lambda": str(settings.scale) if taken.density else "",
        "elect": _flag(settings.elect) if taken.density else "",
        "normalize": _flag(settings.normalize) if taken.density else "",
        "gamma": str(settings.gamma) if taken.gamma else "",
        "epsilon": str(settings.epsilon) if taken.epsilon else "",
        "seed": str(settings.seed) if taken.seed else "",
    }
    return tuple(sorted((name, text) for name, text in found.items() if text))


def _flag(value: bool) -> str:
    return YES if value else NO


def settings_of(ledger: Ledger, label: str) -> MethodSettings:
    """The settings that a ledger records; LedgerError about `label` for malformed ones."""
    record = ledger.method
    assert record is not None
    found = dict(record.settings)
    weights = {entry.digest: entry.weight for entry in ledger.ingredients}
    models = record.order[1:] if ledger.base is not None else record.order
    try:
        settings = MethodSettings(
            record.method,
            tuple(weights[digest] for digest in models),
            tuple(map(parse_number, found["density"].split(","))) if "density" in found else (),
            parse_number(found.get("lambda", "1")),
            parse_number(found.get("gamma", "0")),
            parse_number(found.get("epsilon", "0")),
            int(found.get("seed", "0")),
            found.get("elect", NO) == YES,
            found.get("normalize", NO) == YES,
        )
    except (ValueError, UsageError):
        raise LedgerError("its ledger has a malformed method", path=label) from None
    has_base = ledger.base is not None
    if recorded(settings) != record.settings or has_base != TAKES[record.method].base:
        raise LedgerError("its ledger has a malformed method", path=label)
    return settings


def draft_merge(mean: Ledger, plan: Plan, settings: MethodSettings, has_base: bool) -> Ledger:
    """The ledger with digests and ratios still unknown, from the draft of the mean."""
    exact = TAKES[settings.method].exact
    averaged = sum(step.rule is Rule.AVERAGE for step in plan.kept)
    record = MethodRecord(
        settings.method,
        recorded(settings),
        (UNKNOWN,) * len(mean.ingredients),
        (LONGEST,) * averaged if exact else (),
    )
    return replace(
        mean,
        operation=MERGE,
        base=UNKNOWN if has_base else None,
        exact=mean.exact and exact,
        method=record,
    )


def complete_merge(
    complete_mean: Callable[[Sequence[Outcome]], Ledger],
    draft: Ledger,
    settings: MethodSettings,
    has_base: bool,
    outcomes: Sequence[Outcome],
) -> Ledger:
    """The draft with digests and ratios; raises as the mean's, and UsageError for equal models."""
    (outcome,) = outcomes
    names: dict[str, str] = {}
    for entry, digest in zip(draft.ingredients, outcome.ingredients, strict=True):
        if digest in names:
            what = f"has the same content as {names[digest]}"
            raise UsageError(what, path=entry.name, advice="name it once")
        names[digest] = entry.name
    record = MethodRecord(
        settings.method,
        recorded(settings),
        outcome.ingredients,
        tuple(map(str, outcome.ratios)),
    )
    return replace(
        complete_mean(outcomes),
        operation=MERGE,
        base=outcome.ingredients[0] if has_base else None,
        exact=draft.exact,
        method=record,
    )


def ratios_differ(ledger: Ledger, ratios: Sequence[Fraction]) -> bool:
    """Whether a ledger records other ratios than those that a rebuild has found."""
    return ledger.method is not None and ledger.method.ratios != tuple(map(str, ratios))
