"""One component of a soup that is being changed: what it is made of then, and from what.

Rule 1: entries say what a soup holds, sources say what is computed with; for an exact result they
are the same contents.
Rule 2: whatever is computed with has the digest that was expected of it, or nothing is published.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..errors import LedgerError
from ..execute import Outcome
from ..soup.changes import Removal, changes, expanded, require_new, taken_out
from ..soup.ledger import UNKNOWN, Entry, Ledger, Taken, as_record, kin, merged, runs
from ..soup.naming import unique_names
from ..soup.plan import Plan, Rule, make_plan
from ..soup.recipe import OnInt, Recipe
from ..storage.checkpoint import Checkpoint
from ..storage.layout import Component
from .digests import checkpoint_digest
from .inputs import Part, open_input, read_ledger
from .locate import Places, dtype_runs, locate
from .record import hint_to
from .sources import (
    Finder,
    Leaver,
    Source,
    exact_sources,
    folder_of,
    require_contents,
    resolve,
    rounded_sources,
)

NEEDS_FILE = "what is taken out of a soup without a ledger must be there"
NO_LEDGER = "--count N or --total W says how much it holds; the result is approximate then"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """What is put in, found but not opened."""

    component: Component
    weight: Fraction | None


@dataclass(frozen=True, slots=True)
class Terms:
    """How a component is changed."""

    operation: str
    search: tuple[Path, ...]
    approximate: bool
    total: Fraction | None
    again: bool
    newcomers: tuple[Newcomer, ...]
    leavers: tuple[Leaver, ...]


@dataclass(frozen=True, slots=True)
class Revised:
    """One component after the change, planned and not yet computed."""

    terms: Terms
    before: Ledger
    after: tuple[Entry, ...]
    ancestors: dict[str, Ledger]
    sources: tuple[Source, ...]
    part: Part
    plan: Plan
    exact: bool

    def draft(self, folder: Path | None) -> Ledger:
        """The ledger, but for the soup's own digest; hints lead from `folder`."""
        places = {source.digest: hint_to(source.checkpoint, folder) for source in self.sources}
        entries = tuple(
            replace(entry, hint=places.get(entry.digest, entry.hint)) for entry in self.after
        )
        firsts = tuple(step.name for step in self.plan.kept if step.rule is Rule.FIRST)
        return replace(
            self.before,
            operation=self.terms.operation,
            root=UNKNOWN,
            ingredients=entries,
            dtypes=runs(step.out for step in self.plan.kept if step.out is not None),
            taken=Taken(self.sources[0].digest, firsts) if firsts else None,
            exact=self.exact,
            changed=changes(self.before.ingredients, self.after),
            chain=(*self.before.chain, as_record(self.before)),
            ancestors=kin(self.after, self.ancestors),
        )

    def completing(self, draft: Ledger) -> Callable[[Outcome], Ledger]:
        """What turns the outcome of the pass into the ledger."""
        return partial(_completed, draft, self.sources)


def _completed(draft: Ledger, sources: Sequence[Source], outcome: Outcome) -> Ledger:
    require_contents(sources, outcome)
    taken = Taken(sources[0].digest, outcome.taken) if outcome.taken else None
    return replace(draft, root=outcome.soup, taken=taken)


def revise_component(stack: ExitStack, component: Component, terms: Terms) -> Revised:
    """The component after the change; checkpoints stay open until the stack is closed.

    Raises LedgerError as `open_revision` says.
    """
    soup = stack.enter_context(open_input(component))
    before = ledger_of(soup, terms.total)
    declared = terms.total is not None
    opened = {before.root: soup}
    added, ancestors = _added(stack, before, terms, opened)
    removed = [_resolved(stack, before, leaver, opened) for leaver in terms.leavers]
    if declared:
        remaining = merged((*before.ingredients, *(_negative(each, opened) for each in removed)))
    else:
        remaining = taken_out(before, removed, soup.shown)
    if not terms.again:
        require_new(remaining, added, soup.shown)
    after = merged((*remaining, *added))
    finder = Finder(stack, opened, Places(folder_of(soup), terms.search))
    if terms.approximate and not declared:
        changed = changes(before.ingredients, after)
        sources = rounded_sources(finder, before, soup, changed)
    else:
        # integers that differ are the first one's: the same one's as before, if it is still there
        first = before.root if declared else before.taken.digest if before.taken else None
        sources = exact_sources(finder, after, first)
    return _planned(terms, before, after, {**before.ancestors, **ancestors}, sources, soup)


def ledger_of(soup: Checkpoint, total: Fraction | None = None) -> Ledger:
    """The soup's ledger, found to fit its tensors, or for a `total` one that holds it as it is.

    Raises LedgerError for a soup that has none, and for one that has other tensors.
    """
    ledger = read_ledger(soup)
    if ledger is None and total is None:
        raise LedgerError("has no ledger", path=soup.shown, advice=NO_LEDGER)
    if ledger is not None and total is not None:
        raise LedgerError("has a ledger, which says how much it holds", path=soup.shown)
    root = checkpoint_digest(soup)
    if ledger is not None:
        if ledger.root != root:
            raise LedgerError("its ledger describes other tensors than it holds", path=soup.shown)
        return ledger
    assert total is not None
    dtypes = dtype_runs(soup)
    name = unique_names([os.path.abspath(soup.component.path)])[0]
    return Ledger("given", root, (Entry(root, name, None, total, dtypes),), dtypes, exact=False)


def _added(
    stack: ExitStack, before: Ledger, terms: Terms, opened: dict[str, Checkpoint]
) -> tuple[list[Entry], dict[str, Ledger]]:
    """Entries for what is put in, soups as their own ingredients, and the ancestors of those."""
    paths = [os.path.abspath(newcomer.component.path) for newcomer in terms.newcomers]
    names = unique_names(paths, [entry.name for entry in before.ingredients])
    entries: list[Entry] = []
    ancestors: dict[str, Ledger] = {}
    for newcomer, name in zip(terms.newcomers, names, strict=True):
        checkpoint = stack.enter_context(open_input(newcomer.component))
        if read_ledger(checkpoint) is None:
            digest = checkpoint_digest(checkpoint)
            opened[digest] = checkpoint
            weight = newcomer.weight or Fraction(1)
            entries.append(Entry(digest, name, None, weight, dtype_runs(checkpoint)))
            continue
        ledger = ledger_of(checkpoint)
        ancestors |= ledger.ancestors
        for entry in expanded(ledger, newcomer.weight):
            found = locate(entry, Places(folder_of(checkpoint), terms.search))
            if found is not None:
                opened[entry.digest] = stack.enter_context(open_input(found))
            entries.append(entry)
    return entries, ancestors


def _resolved(
    stack: ExitStack, before: Ledger, leaver: Leaver, opened: dict[str, Checkpoint]
) -> Removal:
    digest, checkpoint = resolve(stack, before, leaver)
    if checkpoint is not None:
        opened[digest] = checkpoint
    return Removal(digest, leaver.what, leaver.weight)


def _negative(removal: Removal, opened: dict[str, Checkpoint]) -> Entry:
    """What is taken out of a soup that has no ledger: its share, with the sign turned round."""
    checkpoint = opened.get(removal.digest)
    if checkpoint is None:
        raise LedgerError(
            "is no file", path=removal.shown, advice="a soup without a ledger needs it"
        )
    name = unique_names([os.path.abspath(checkpoint.component.path)])[0]
    weight = -(removal.weight or Fraction(1))
    return Entry(removal.digest, name, None, weight, dtype_runs(checkpoint))


def _planned(
    terms: Terms,
    before: Ledger,
    after: tuple[Entry, ...],
    ancestors: dict[str, Ledger],
    sources: tuple[Source, ...],
    soup: Checkpoint,
) -> Revised:
    """The plan of the change; what is only taken out has no say in the soup's dtype."""
    rounded = terms.approximate or terms.total is not None
    recipe = Recipe(
        weights=tuple(source.weight for source in sources),
        dtype=before.asked_dtype,
        keys=before.keys,
        excludes=before.excludes,
        on_int=OnInt.FIRST if before.taken or rounded else OnInt.REFUSE,
        allow_nonfinite=before.allow_nonfinite,
    )
    deciding = [index for index, source in enumerate(sources) if source.weight > 0]
    checkpoints = tuple(source.checkpoint for source in sources)
    shown = [checkpoint.shown for checkpoint in checkpoints]
    contents = [checkpoint.tensors for checkpoint in checkpoints]
    plan = make_plan(recipe, shown, contents, deciding if rounded else None)
    like = soup if soup.component.folder is not None else None
    part = Part(soup.component.name, checkpoints, (None,) * len(checkpoints), like)
    return Revised(
        terms, before, after, ancestors, sources, part, plan, before.exact and not rounded
    )
