"""One component of a soup that is being changed: what it is made of then, and from what.

Rule 1: entries say what a soup holds, sources say what is computed with; for an exact result they
are the same contents.
Rule 2: whatever is computed with has the digest that was expected of it, or nothing is published.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.layout import Component
from ..choices import Method
from ..errors import MismatchError, UsageError
from ..ledger.changes import changes
from ..ledger.ledger import (
    UNKNOWN,
    IngredientEntry,
    IntegerSource,
    Ledger,
    ancestors_of,
    as_record,
    runs,
)
from ..ledger.locate import Places, hint_from
from ..ledger.read import is_sum
from .executor import Outcome
from .ingredients import Part
from .kept_sum.format import NO_SUM, Facts, scale_of
from .kept_sum.update import Carried, carry_over, checkpoints_of, recipe_of
from .kept_sum.writer import Summing, SumRecord, kept_runs
from .membership import ChangeSpec, OpenedInputs, entries_after, gather_sum, ledger_before
from .new_ledger import hint_to
from .plan import Plan, Rule, make_plan
from .sources import (
    Finder,
    Source,
    exact_sources,
    folder_of,
    require_contents,
    require_digests,
    rounded_sources,
)


@dataclass(frozen=True, slots=True)
class Revised:
    """One component after the change, planned and not yet computed."""

    terms: ChangeSpec
    before: Ledger
    after: tuple[IngredientEntry, ...]
    ancestors: dict[str, Ledger]
    sources: tuple[Source, ...]
    opened: Mapping[str, Checkpoint]
    """Ingredients, past and future, that were found, by content digest."""
    looked_at: Part
    """The soup as it was, and what else was named."""
    part: Part
    plan: Plan
    exact: bool
    had_sum: bool
    """Whether a sum was kept of the soup before."""
    carried: Carried | None = None
    """How the soup's sum carries over, if the change is computed from it."""

    @property
    def sums(self) -> tuple[Checkpoint, ...]:
        """The sums that the change is computed from."""
        return () if self.carried is None else self.carried.sums

    @property
    def way(self) -> Method:
        """What the change is computed from."""
        if self.terms.rounded:
            return Method.ROUNDED
        return Method.INGREDIENTS if self.carried is None else Method.SUM

    def summing(self, keep: bool) -> Summing | None:
        """How the change is computed in exact sums, if it is; `keep` asks for the result's sum.

        Raises UsageError for a soup of which no sum is kept.
        """
        sources = tuple(source.checkpoint for source in self.sources)
        if not keep or self.terms.rounded:
            return None if self.carried is None else Summing(sources, None)
        if self.before.allow_nonfinite:
            raise UsageError("of NaN and infinity no sum is kept", advice=NO_SUM)
        found = {source.digest: kept_runs(self.plan, i) for i, source in enumerate(self.sources)}
        scale = scale_of([source.weight for source in self.sources], self.plan.weights)
        if self.carried is not None:
            found |= self.carried.runs
            scale = self.carried.step.scale
        dtypes = tuple(found[entry.digest] for entry in self.after)
        return Summing(sources, SumRecord(Facts(scale, UNKNOWN, dtypes), lambda *_: dtypes))

    def draft(self, folder: Path | None) -> Ledger:
        """The ledger, but for the soup's own digest; hints lead from `folder`."""
        old = folder_of(self.looked_at.checkpoints[0])
        hints = {entry.digest: hint_from(entry.hint, old, folder) for entry in self.after}
        hints |= {digest: hint_to(found, folder) for digest, found in self.opened.items()}
        firsts = tuple(step.name for step in self.plan.kept if step.rule is Rule.FIRST)
        return replace(
            self.before,
            operation=self.terms.operation,
            root=UNKNOWN,
            ingredients=tuple(replace(entry, hint=hints[entry.digest]) for entry in self.after),
            dtypes=runs(step.out for step in self.plan.kept if step.out is not None),
            taken=self._taken(firsts),
            exact=self.exact,
            changed=changes(self.before.ingredients, self.after),
            chain=(*self.before.chain, as_record(self.before)),
            ancestors=ancestors_of(self.after, self.ancestors),
        )

    def complete(self, draft: Ledger, outcome: Outcome) -> Ledger:
        """The ledger once the pass is over; LedgerError if a source was not what was expected."""
        require_contents(self.sources, outcome)
        return replace(draft, root=outcome.soup, taken=self._taken(outcome.taken))

    def completing(self, draft: Ledger) -> Callable[[Outcome], Ledger]:
        """What turns the outcome of the pass into the ledger."""
        return partial(self.complete, draft)

    def _taken(self, tensors: tuple[str, ...]) -> IntegerSource | None:
        """Whose integers the soup has; those of a rounded soup remain whose they were."""
        earlier = self.before.taken if self.terms.approximate or self.carried else None
        if earlier is not None:
            return IntegerSource(earlier.digest, tuple(sorted({*earlier.tensors, *tensors})))
        return IntegerSource(self.sources[0].digest, tensors) if tensors else None


def revise_component(stack: ExitStack, component: Component, terms: ChangeSpec) -> Revised:
    """The component after the change; checkpoints stay open until the stack is closed.

    Raises LedgerError as `open_revision` says.
    """
    gathering = OpenedInputs(stack)
    soup = gathering.open(component)
    before = ledger_before(gathering, soup, terms)
    gather_sum(gathering, before, terms)
    return revised(gathering, before, terms)


def revised(gathering: OpenedInputs, before: Ledger, terms: ChangeSpec) -> Revised:
    """What becomes of the soup that was gathered first; several changes may share what is open.

    Raises LedgerError as `open_revision` says.
    """
    soup = gathering.looked_at[0]
    after = entries_after(gathering, before, terms)
    places = Places(folder_of(soup), terms.search, terms.variant)
    finder = Finder(gathering.stack, gathering.opened, places)
    carried = None if terms.rounded else carry_over(finder, gathering, before, after)
    if carried is not None:
        sources = carried.sources
        plan = carried.plan(after)
    elif terms.approximate and terms.total is None:
        sources = rounded_sources(finder, before, soup, changes(before.ingredients, after))
        plan = _plan(terms, before, sources)
    else:
        # integers that differ are the first one's: the same one's as before, if it is still there
        first = before.taken.digest if before.taken else None
        sources = exact_sources(finder, after, first if terms.total is None else before.root)
        plan = _plan(terms, before, sources)
    # a sum's files are not named as those of its soup
    like = soup if soup.component.folder is not None and not is_sum(soup) else None
    return Revised(
        terms,
        before,
        after,
        gathering.ancestors,
        sources,
        dict(gathering.opened),
        _part(soup.component, tuple(gathering.looked_at), None),
        _part(soup.component, checkpoints_of(sources), like),
        plan,
        gathering.exact and not terms.rounded,
        gathering.kept is not None,
        carried,
    )


def _part(
    component: Component, checkpoints: tuple[Checkpoint, ...], like: Checkpoint | None
) -> Part:
    return Part(component.name, checkpoints, (None,) * len(checkpoints), like)


def _plan(terms: ChangeSpec, before: Ledger, sources: tuple[Source, ...]) -> Plan:
    """The plan of the change; what is only taken out has no say in the soup's dtype."""
    # whose integers a soup without a ledger has is not known
    first = before.taken is not None or terms.total is not None
    recipe = recipe_of(before, [source.weight for source in sources], first=first)
    deciding = [index for index, source in enumerate(sources) if source.weight > 0]
    shown = [source.checkpoint.shown for source in sources]
    contents = [source.checkpoint.tensors for source in sources]
    try:
        return make_plan(recipe, shown, contents, deciding if terms.rounded else None)
    except MismatchError:
        # what lies at a hint may be something else by now: then that is the news
        require_digests(sources)
        raise
