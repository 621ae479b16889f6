"""The ledger of a soup that deltas are applied in: its base or models, and deltas with scales.

Rule 1: a delta's own ledger becomes an ancestor, so the soup is known to contain FINE and BASE.
Rule 2: a base has weight 1, the models of a mean have theirs, a delta its scale; equal contents are
one, with the summed weight or scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..errors import Issue, MismatchError, UsageError
from ..ledger.ancestry import ancestry
from ..ledger.entries import merged
from ..ledger.ledger import APPLY, UNKNOWN, IntegerSource, Ledger, PipelineShare, runs
from .applied_plan import Delta
from .delta.reader import DeltaReader
from .ingredients import ComponentInputs
from .new_ledger import (
    PlannedComponent,
    draft_entries,
    require_ledgers_fit,
    require_no_cancelling,
)
from .order import Outcome
from .step import Rule
from .whole_models import WholeModels

OTHER_BASE = "--other-base applies it anyway"


def draft_applied(
    planned: PlannedComponent, shares: Sequence[tuple[PipelineShare, ...]], models: int
) -> Ledger:
    """The ledger with digests still unknown; the first `models` sources are models, not deltas."""
    recipe, component, plan = planned.recipe, planned.inputs, planned.plan
    entries = draft_entries(planned, shares)
    ledgers = [ledger for ledger in component.ledgers if ledger is not None]
    # each ledger describes the content of its input; otherwise the pass refuses the input
    known = ancestry(ledgers).of(ledger.root for ledger in ledgers)
    firsts = tuple(step.name for step in plan.kept if step.rule is Rule.FIRST)
    is_mean = 1 < models == len(entries)
    return Ledger(
        operation="avg" if is_mean else APPLY,
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
        blocks=tuple(glob for glob, _ in recipe.blocks) if any(x.blocks for x in entries) else (),
        base=UNKNOWN if models == 1 else None,
        deltas=() if models == 1 else (UNKNOWN,) * (len(entries) - models),
    )


def complete_applied(
    draft: Ledger,
    component: ComponentInputs,
    deltas: Sequence[Delta],
    models: int,
    outcomes: Sequence[Outcome],
    *,
    position: int,
    wholes: WholeModels | None,
    other_base: bool,
) -> Ledger:
    """The draft of the component at `position` with the digests of the pass.

    The first `models` of the component's checkpoints are models, and its deltas follow. Raises
    LedgerError for an input whose ledger does not match its tensors, MismatchError for deltas of
    another base unless they are asked for, and UsageError for models that are one.
    """
    outcome = outcomes[position]
    require_ledgers_fit(component, outcome)
    base = outcome.ingredients[0]
    differences = [each for each in deltas if isinstance(each, DeltaReader)]
    if not other_base:
        require_own_base(base, component.checkpoints[0].label, differences)
    if models > 1 and len({*outcome.ingredients[:models]}) == 1 and (differences or wholes is None):
        # one model with one delta may be FINE, which this pass did not compute
        other = component.checkpoints[1].label
        what = f"has the same content as {other}"
        raise UsageError(what, path=component.checkpoints[0].label, advice="name it once")
    entries = [
        replace(entry, digest=digest)
        for entry, digest in zip(draft.ingredients, outcome.ingredients, strict=True)
    ]
    if wholes is not None:
        completed = wholes.completed(entries, position, outcomes)
        entries = [
            replace(entry, pipelines=its) for entry, its in zip(entries, completed, strict=True)
        ]
    if models > 1:
        require_no_cancelling(draft, entries)
    ingredients = merged(entries)
    return replace(
        draft,
        root=outcome.soup,
        ingredients=ingredients,
        blocks=draft.blocks if any(entry.blocks for entry in ingredients) else (),
        integer_source=IntegerSource(base, outcome.taken) if outcome.taken else None,
        base=base if models == 1 else None,
        deltas=tuple(sorted({*outcome.ingredients[models:]})) if models > 1 else (),
    )


def require_own_base(base: str, label: str, deltas: Sequence[DeltaReader]) -> None:
    """Raise MismatchError for deltas that were made from another base than this one."""
    issues = [
        Issue(f"is a delta of another base than {label}", each.label, advice=OTHER_BASE)
        for each in deltas
        if each.ledger.base != base
    ]
    if issues:
        raise MismatchError.collected(issues)
