"""One component of a soup that is being changed: what it is made of then, and from what.

Rule 1: entries say what a soup holds, sources say what is computed with; for an exact result they
are the same contents.
Rule 2: whatever is computed with has the digest that was expected of it, or nothing is published.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..errors import MismatchError
from ..execute import Outcome
from ..soup.changes import changes
from ..soup.choices import OnInt
from ..soup.ledger import UNKNOWN, Entry, Ledger, Taken, as_record, kin, runs
from ..soup.plan import Plan, Rule, make_plan
from ..soup.recipe import Recipe
from ..storage.checkpoint import Checkpoint
from ..storage.layout import Component
from .inputs import Part
from .locate import Places, hint_from
from .membership import Gathering, Terms, entries_after, ledger_before
from .record import hint_to
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

    terms: Terms
    before: Ledger
    after: tuple[Entry, ...]
    ancestors: dict[str, Ledger]
    sources: tuple[Source, ...]
    looked_at: Part
    """The soup as it was, and what else was named."""
    part: Part
    plan: Plan
    exact: bool

    def draft(self, folder: Path | None) -> Ledger:
        """The ledger, but for the soup's own digest; hints lead from `folder`."""
        old = folder_of(self.looked_at.checkpoints[0])
        hints = {entry.digest: hint_from(entry.hint, old, folder) for entry in self.after}
        hints |= {source.digest: hint_to(source.checkpoint, folder) for source in self.sources}
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
            ancestors=kin(self.after, self.ancestors),
        )

    def complete(self, draft: Ledger, outcome: Outcome) -> Ledger:
        """The ledger once the pass is over; LedgerError if a source was not what was expected."""
        require_contents(self.sources, outcome)
        return replace(draft, root=outcome.soup, taken=self._taken(outcome.taken))

    def completing(self, draft: Ledger) -> Callable[[Outcome], Ledger]:
        """What turns the outcome of the pass into the ledger."""
        return partial(self.complete, draft)

    def _taken(self, tensors: tuple[str, ...]) -> Taken | None:
        """Whose integers the soup has; those of a rounded soup remain whose they were."""
        earlier = self.before.taken if self.terms.approximate else None
        if earlier is not None:
            return Taken(earlier.digest, tuple(sorted({*earlier.tensors, *tensors})))
        return Taken(self.sources[0].digest, tensors) if tensors else None


def revise_component(stack: ExitStack, component: Component, terms: Terms) -> Revised:
    """The component after the change; checkpoints stay open until the stack is closed.

    Raises LedgerError as `open_revision` says.
    """
    gathering = Gathering(stack)
    soup = gathering.open(component)
    return revised(gathering, ledger_before(gathering, soup, terms), terms)


def revised(gathering: Gathering, before: Ledger, terms: Terms) -> Revised:
    """What becomes of the soup that was gathered first; several changes may share what is open.

    Raises LedgerError as `open_revision` says.
    """
    soup = gathering.looked_at[0]
    after = entries_after(gathering, before, terms)
    places = Places(folder_of(soup), terms.search, terms.variant)
    finder = Finder(gathering.stack, gathering.opened, places)
    if terms.approximate and terms.total is None:
        sources = rounded_sources(finder, before, soup, changes(before.ingredients, after))
    else:
        # integers that differ are the first one's: the same one's as before, if it is still there
        kept = before.taken.digest if before.taken else None
        sources = exact_sources(finder, after, kept if terms.total is None else before.root)
    checkpoints = tuple(source.checkpoint for source in sources)
    like = soup if soup.component.folder is not None else None
    return Revised(
        terms,
        before,
        after,
        gathering.ancestors,
        sources,
        _part(soup.component, tuple(gathering.looked_at), None),
        _part(soup.component, checkpoints, like),
        _plan(terms, before, sources),
        gathering.exact and not terms.rounded,
    )


def _part(
    component: Component, checkpoints: tuple[Checkpoint, ...], like: Checkpoint | None
) -> Part:
    return Part(component.name, checkpoints, (None,) * len(checkpoints), like)


def _plan(terms: Terms, before: Ledger, sources: tuple[Source, ...]) -> Plan:
    """The plan of the change; what is only taken out has no say in the soup's dtype."""
    # whose integers a soup without a ledger has is not known
    first = before.taken is not None or terms.total is not None
    recipe = Recipe(
        weights=tuple(source.weight for source in sources),
        dtype=before.asked_dtype,
        keys=before.keys,
        excludes=before.excludes,
        on_int=OnInt.FIRST if first else OnInt.REFUSE,
        allow_nonfinite=before.allow_nonfinite,
    )
    deciding = [index for index, source in enumerate(sources) if source.weight > 0]
    shown = [source.checkpoint.shown for source in sources]
    contents = [source.checkpoint.tensors for source in sources]
    try:
        return make_plan(recipe, shown, contents, deciding if terms.rounded else None)
    except MismatchError:
        # what lies at a hint may be something else by now: then that is the news
        require_digests(sources)
        raise
