"""One component of a changed soup: its ingredients, its inputs, and its ledger.

Rule 1: entries are the contents of a soup, sources are the inputs of its computation; for an exact
result, both have the same digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.changes import recorded_changes
from ..ledger.entries import as_state, moved, named_by_pipelines
from ..ledger.ledger import UNKNOWN, IngredientEntry, IntegerSource, Ledger, runs
from ..ledger.locate import hint_from
from ..ledger.read import is_sum
from .adapter_reader import scales_of
from .aligned import lacking
from .ingredients import ComponentInputs, Donor
from .kept_sum.format import NO_SUM
from .kept_sum.record import SumRecord, facts_on, summed_source
from .membership import Membership, membership
from .new_ledger import hint_to
from .opened_inputs import folder_of
from .order import Outcome
from .revised_computation import computation_of
from .revision import ComponentChange
from .schemes import schemes
from .sources import Computation, require_contents
from .step import Rule


@frozen
class RevisedComponent:
    """One component after the change, planned and not yet computed."""

    change: ComponentChange
    members: Membership
    computation: Computation

    @property
    def inputs(self) -> ComponentInputs:
        """What the component is computed from."""
        soup = self.change.soup
        # the files of a kept sum have other names than those of its soup
        layout = soup if soup.component.folder is not None and not is_sum(soup) else None
        inputs = _inputs_of(soup.component.name, self.computation.checkpoints, layout)
        donors = enumerate(self.computation.donors)
        return replace(inputs, donors=tuple(Donor(number, each, None) for number, each in donors))

    @property
    def named(self) -> ComponentInputs:
        """The soup before the change, and everything else that the user named."""
        named = tuple(self.change.inputs.named)
        return _inputs_of(self.change.soup.component.name, named, None)

    def sum_record(self, keep: bool) -> SumRecord | None:
        """The record of the result's sum, if `keep` requests one and it can be kept.

        Raises UsageError for a soup whose sum cannot be kept.
        """
        computation = self.computation
        if not keep or self.change.revision.rounded:
            return None
        if self.members.before.allow_nonfinite:
            raise UsageError("no sum can be kept of NaN or infinity", advice=NO_SUM)
        plan, aligned = computation.summed or (computation.plan, computation.alignment.sources)
        read = {
            source.digest: summed_source(plan, place, aligned[place])
            for place, source in enumerate(computation.sources)
            if not source.is_donor
        }
        found = {**read, **computation.recorded}
        sources = tuple(found[entry.digest] for entry in self.members.after)
        return SumRecord(facts_on(computation.scale, sources), lambda *_: sources)

    def draft(self, folder: Path | None) -> Ledger:
        """The ledger without the soup's own digest; hints are relative to `folder`."""
        before, after = self.members.before, self.members.after
        if not (self.change.removals or self.change.added):
            # of a delta that only other components have
            placed = tuple(self._placed(entry, folder) for entry in before.ingredients)
            return replace(before, ingredients=placed)
        plan = self.computation.plan
        named = self._named_tensors()
        known = self.members.ancestry.of(entry.digest for entry in (*after, *before.donors))
        return replace(
            before,
            operation=self.change.operation,
            root=UNKNOWN,
            blocks=self.members.blocks,
            deltas=self.members.deltas,
            ingredients=tuple(
                replace(self._placed(entry, folder), **named.get(entry.digest, {}))
                for entry in after
            ),
            donors=self._donors(folder),
            dtypes=runs(dtype for _, dtype, _ in plan.written),
            integer_source=self._taken(
                tuple(step.name for step in plan.kept if step.rule is Rule.FIRST)
            ),
            exact=self.members.exact and not self.change.revision.rounded,
            changed=recorded_changes(before.ingredients, after),
            chain=(*before.chain, as_state(before)),
            ancestors=known.ledgers,
            disputed=known.disputed,
        )

    def _named_tensors(self) -> dict[str, dict[str, Any]]:
        """For each ingredient by digest, the renaming of its tensors and those that it lacks.

        Ingredients that are not read keep those of the ledger, even if one is swapped for itself.
        """
        computation = self.computation
        alignment = computation.alignment
        lacks = lacking(computation.plan, alignment.ingredients, computation.takes)
        stored = schemes(computation.plan)
        # donors come last, and lack no tensors
        every = zip(computation.sources, alignment.renamed, lacks, strict=False)
        earlier = {
            entry.digest: {
                "renamed": entry.renamed,
                "lacks": computation.lacks.get(entry.digest, entry.lacks),
                "schemes": entry.schemes,
                "scales": entry.scales,
            }
            for entry in self.members.before.ingredients
        }
        return earlier | {
            source.digest: {
                "renamed": renamed,
                "lacks": missing,
                "schemes": stored.get(place, ()),
                "scales": scales_of(computation.alignment.sources[place]),
            }
            for place, (source, renamed, missing) in enumerate(every)
        }

    def _donors(self, folder: Path | None) -> tuple[IngredientEntry, ...]:
        """The entries of the soup's donors, with hints relative to `folder`."""
        computation = self.computation
        every = zip(computation.sources, computation.alignment.renamed, strict=True)
        renamed = {source.digest: what for source, what in every if source.is_donor}
        return tuple(
            replace(self._placed(each, folder), renamed=renamed.get(each.digest, each.renamed))
            for each in self.members.before.donors
        )

    def _placed(self, entry: IngredientEntry, folder: Path | None) -> IngredientEntry:
        """An entry with hints, relative to `folder`, to the known places of its files."""
        old = folder_of(self.change.soup)
        moved_hints = moved(entry, lambda hint: hint_from(hint, old, folder))
        found = self.change.inputs.by_digest.get(entry.digest)
        if found is None:
            return moved_hints
        here = hint_to(found, folder)
        added = self._added_hints(folder)
        # the opened file may belong to a pipeline that is removed; only a search finds another copy
        stays = here in moved_hints.hints or not self.change.revision.search
        shares = tuple(
            replace(
                share,
                hint=added.get(
                    (entry.digest, share.digest),
                    share.hint if stays and share.hint is not None else here,
                ),
            )
            for share in moved_hints.pipelines
        )
        return named_by_pipelines(replace(moved_hints, hint=here, pipelines=shares))

    def _added_hints(self, folder: Path | None) -> dict[tuple[str, str], str | None]:
        """The paths of components of added pipelines, by content and pipeline.

        A soup with a ledger is no substitute for its ingredients, not even for a single one, which
        it equals: it may be replaced.
        """
        return {
            (checkpoint_digest(checkpoint), whole.digest): hint_to(checkpoint, folder)
            for checkpoint, whole in zip(
                self.change.added, self.change.added_pipelines, strict=True
            )
            if whole.digest is not None and not whole.is_soup
        }

    def complete(self, draft: Ledger, position: int, outcomes: Sequence[Outcome]) -> Ledger:
        """The ledger after the pass, in which the component's outcome is at `position`.

        Raises LedgerError if a source had other content than expected.
        """
        outcome = outcomes[position]
        require_contents(self.computation.sources, outcome)
        return replace(draft, root=outcome.soup, integer_source=self._taken(outcome.taken))

    def _taken(self, tensors: tuple[str, ...]) -> IntegerSource | None:
        """The source of the soup's integers: the same one while it is in the soup, then the first.

        So the choice depends neither on the way of computing nor on whether the rest differ.
        """
        computation = self.computation
        earlier = self.members.before.integer_source
        held = {entry.digest for entry in self.members.after}
        if earlier is not None and (self.change.revision.approximate or earlier.digest in held):
            return IntegerSource(earlier.digest, tuple(sorted({*earlier.tensors, *tensors})))
        if tensors or earlier is not None:
            return IntegerSource(computation.sources[0].digest, tensors)
        return None


def _inputs_of(
    name: str, checkpoints: tuple[Checkpoint, ...], layout: Checkpoint | None
) -> ComponentInputs:
    return ComponentInputs(name, checkpoints, (None,) * len(checkpoints), layout)


def revise_component(change: ComponentChange) -> RevisedComponent:
    """The component after the change; LedgerError as `open_revision` says."""
    members = membership(change)
    return RevisedComponent(change, members, computation_of(change, members))
