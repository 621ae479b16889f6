"""The ledger of a soup that deltas are applied in: its base and the deltas with their scales.

Rule 1: a delta's own ledger is an ancestor, so FINE and BASE are known to be in the soup.
Rule 2: a base is weighed 1, a delta by its scale; equal deltas are one, with the summed scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import Issue, MismatchError
from ..ledger.ancestry import ancestry
from ..ledger.ledger import (
    UNKNOWN,
    IngredientEntry,
    IntegerSource,
    Ledger,
    merged,
    runs,
)
from ..ledger.locate import dtype_runs
from .delta.reader import DeltaReader
from .ingredients import ComponentInputs
from .new_ledger import hint_to, require_ledgers_fit
from .order import Outcome
from .plan import Plan, Rule
from .recipe import Recipe
from .schemes import schemes

OTHER_BASE = "--other-base applies it all the same"


def draft_applied(
    recipe: Recipe,
    names: Sequence[str],
    part: ComponentInputs,
    plan: Plan,
    soup_folder: Path | None,
) -> Ledger:
    """The ledger with digests still unknown; the base is the first of the part's checkpoints."""
    stored = schemes(plan)
    entries = tuple(
        IngredientEntry(
            digest=UNKNOWN,
            name=name,
            hint=hint_to(each, soup_folder),
            weight=weight,
            dtypes=dtype_runs(each),
            schemes=stored.get(place, ()),
        )
        for place, (name, each, weight) in enumerate(
            zip(names, part.checkpoints, recipe.weights, strict=True)
        )
    )
    ledgers = [ledger for ledger in part.ledgers if ledger is not None]
    # each is about the content of its input, or the pass refuses it
    known = ancestry(ledgers).of(ledger.root for ledger in ledgers)
    firsts = tuple(step.name for step in plan.kept if step.rule is Rule.FIRST)
    return Ledger(
        operation="apply",
        root=UNKNOWN,
        ingredients=entries,
        dtypes=runs(step.out for step in plan.kept if step.out is not None),
        asked_dtype=recipe.dtype,
        keys=recipe.keys,
        excludes=recipe.excludes,
        allow_nonfinite=recipe.allow_nonfinite,
        dtype_for=recipe.dtype_for,
        integer_source=IntegerSource(UNKNOWN, firsts) if firsts else None,
        exact=all(ledger.exact for ledger in ledgers),
        ancestors=known.ledgers,
        disputed=known.disputed,
        base=UNKNOWN,
    )


def complete_applied(
    draft: Ledger,
    part: ComponentInputs,
    deltas: Sequence[DeltaReader],
    position: int,
    outcomes: Sequence[Outcome],
    *,
    other_base: bool,
) -> Ledger:
    """The draft with the digests of the pass.

    Raises LedgerError for an input whose ledger does not match its tensors, and MismatchError for
    deltas of another base unless they are asked for.
    """
    outcome = outcomes[position]
    require_ledgers_fit(part, outcome)
    base = outcome.ingredients[0]
    if not other_base:
        require_own_base(base, part.checkpoints[0].label, deltas)
    entries = [
        replace(entry, digest=digest)
        for entry, digest in zip(draft.ingredients, outcome.ingredients, strict=True)
    ]
    taken = IntegerSource(base, outcome.taken) if outcome.taken else None
    return replace(
        draft, root=outcome.soup, ingredients=merged(entries), integer_source=taken, base=base
    )


def require_own_base(base: str, label: str, deltas: Sequence[DeltaReader]) -> None:
    """Raise MismatchError for deltas that were not taken from the base of this digest."""
    issues = [
        Issue(f"is a delta of another base than {label}", each.label, advice=OTHER_BASE)
        for each in deltas
        if each.ledger.base != base
    ]
    if issues:
        raise MismatchError.collected(issues)
