"""What a changed soup is computed with: its ingredients, or itself as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..checkpoints.layout import Component
from ..checkpoints.open import STREAM, open_input
from ..errors import Issue, LedgerError
from ..ledger.ledger import Change, IngredientEntry, Ledger, descendants_of
from ..ledger.locate import Places, locate
from ..ledger.read import require_model
from .executor import Outcome
from .kept_sum.format import REMOVE
from .kept_sum.reader import SumReader

SEARCH = "--search DIR looks for it elsewhere"


@dataclass(frozen=True, slots=True)
class RemovalTarget:
    """What is taken out: a checkpoint, or only what a user calls it."""

    component: Component | None
    what: str
    weight: Fraction | None


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that is computed with, and the content that it must have."""

    digest: str
    checkpoint: Checkpoint | SumReader
    weight: Fraction


class Finder:
    """Checkpoints by content: those that are open already, and those that can be found."""

    def __init__(self, stack: ExitStack, opened: dict[str, Checkpoint], places: Places) -> None:
        self.opened = opened
        self._stack = stack
        self._places = places

    def offer(self, component: Component, ledger: Ledger, soup: str) -> None:
        """Use a checkpoint for the ingredient of its content; LedgerError if there is none."""
        checkpoint = self._stack.enter_context(open_input(component))
        digest = checkpoint_digest(checkpoint)
        if digest not in (entry.digest for entry in ledger.ingredients):
            raise LedgerError(f"is not in {soup}", path=checkpoint.shown)
        self.opened[digest] = checkpoint

    def find(self, entry: IngredientEntry) -> Checkpoint | None:
        """The ingredient, open until the stack is closed; None if it is not found."""
        if entry.digest not in self.opened:
            component = locate(entry, self._places)
            if component is None:
                return None
            self.opened[entry.digest] = self._stack.enter_context(open_input(component))
        return self.opened[entry.digest]


def folder_of(checkpoint: Checkpoint) -> Path | None:
    """The folder that holds a checkpoint's file or folder; None for a stream."""
    component = checkpoint.component
    return Path(os.path.abspath(component.path)).parent if component.files else None


def is_input(what: str) -> bool:
    """Whether a user who says `what` means an input, and not a digest or name in a ledger."""
    # of a text too long for a path, `Path.exists` raises an error
    return what == STREAM or os.path.exists(what)  # noqa: PTH110


def resolve(
    stack: ExitStack, ledger: Ledger, leaver: RemovalTarget
) -> tuple[tuple[str, ...], Checkpoint | None]:
    """The content digests that are meant, and the checkpoint that has them, if a path was given.

    The digest of a data shard means every ingredient that was trained on it. Raises LedgerError for
    what is neither a file nor in the ledger by digest, name or data digest, for a name of several,
    and for a weight that several would share.
    """
    if leaver.component is not None:
        checkpoint = stack.enter_context(open_input(leaver.component))
        require_model(checkpoint)
        return (checkpoint_digest(checkpoint),), checkpoint
    found = called(leaver.what, ledger.ingredients, ledger.ancestors)
    if not found:
        raise unknown(leaver.what, ledger)
    if len(found) > 1 and leaver.what not in {data_of(each, ledger.ancestors) for each in found}:
        what, advice = "is the name of several ingredients", "their digests tell them apart"
        raise LedgerError(what, path=leaver.what, advice=advice)
    if len(found) > 1 and leaver.weight is not None:
        what = f"is what {len(found)} ingredients were trained on, and a weight is that of one"
        raise LedgerError(what, path=leaver.what, advice=f"they are {_some(found)}")
    return tuple(entry.digest for entry in found), None


def unknown(what: str, ledger: Ledger) -> LedgerError:
    """What is raised for a text that means no file and no ingredient in the ledger."""
    if bearers := ways_to((what,), ledger):
        text, advice = f"is in the soup as part of {_some(bearers)}", "swap exchanges that as one"
        return LedgerError(text, path=what, advice=advice)
    advice = f"it holds {_some(ledger.ingredients)}"
    return LedgerError("is no file and not in the soup", path=what, advice=advice)


def _some(entries: Sequence[IngredientEntry]) -> str:
    return ", ".join(entry.name for entry in entries[:5])


def called(
    what: str, entries: Iterable[IngredientEntry], ancestors: Mapping[str, Ledger]
) -> tuple[IngredientEntry, ...]:
    """Those entries that a text may mean: a digest, a name, or the digest of a data shard."""
    return tuple(
        entry for entry in entries if what in {entry.digest, entry.name, data_of(entry, ancestors)}
    )


def ways_to(names: Sequence[str], ledger: Ledger) -> list[IngredientEntry]:
    """The ingredients of a soup that are called so, or come from one that is."""
    soups = (ledger, *ledger.ancestors.values())
    every = list(chain.from_iterable(soup.ingredients for soup in soups))
    meant = (entry.digest for name in names for entry in called(name, every, ledger.ancestors))
    bearers = descendants_of(meant, ledger.ancestors)
    return [entry for entry in ledger.ingredients if entry.digest in bearers]


def data_of(entry: IngredientEntry, ancestors: Mapping[str, Ledger]) -> str | None:
    """The digest of the data shard that an ingredient was trained on, if that is known."""
    known = ancestors.get(entry.digest)
    return None if known is None or known.training is None else known.training.data


WAYS_OUT = (
    "--search DIR looks for it, --approximate computes with the rounded soup; a soup made with"
    " --keep-sum needs none of the others"
)


def exact_sources(
    finder: Finder, after: Sequence[IngredientEntry], first: str | None, advice: str = WAYS_OUT
) -> tuple[Source, ...]:
    """The ingredients themselves, that with digest `first` before all others.

    Raises LedgerError naming those that are not found, with `advice`, and if there are none to
    find.
    """
    if not after:
        raise LedgerError("was trained, and is made of no ingredients")
    sources, missing = [], []
    for entry in after:
        checkpoint = finder.find(entry)
        if checkpoint is None:
            missing.append(Issue("is not found, and an exact soup needs it", entry.name))
        else:
            sources.append(Source(entry.digest, checkpoint, entry.weight))
    if missing:
        missing[0] = replace(missing[0], advice=advice)
        raise LedgerError.collected(missing)
    return tuple(sorted(sources, key=lambda source: source.digest != first))


def rounded_sources(
    finder: Finder, before: Ledger, soup: Checkpoint, changed: Sequence[Change]
) -> tuple[Source, ...]:
    """The soup as it is, with all its weight, and what is put in or taken out of it.

    Raises LedgerError for what is not found.
    """
    entries = {entry.digest: entry for entry in before.ingredients}
    total = sum((entry.weight for entry in before.ingredients), Fraction(0))
    sources = [Source(before.root, soup, total)]
    for change in changed:
        checkpoint = finder.opened.get(change.digest)
        if checkpoint is None and change.digest in entries:
            checkpoint = finder.find(entries[change.digest])
        if checkpoint is None:
            raise LedgerError("is not found", path=change.name, advice=SEARCH)
        sources.append(Source(change.digest, checkpoint, change.weight))
    return tuple(sources)


def require_contents(sources: Sequence[Source], outcome: Outcome) -> None:
    """Raise LedgerError for every source that turned out to have another content than expected."""
    _require_equal(sources, outcome.ingredients)


def require_digests(sources: Sequence[Source]) -> None:
    """Read every source and raise LedgerError for those of another content than expected."""
    _require_equal(sources, [_digest(source.checkpoint) for source in sources])


def _digest(source: Checkpoint | SumReader) -> str:
    return checkpoint_digest(source.checkpoint if isinstance(source, SumReader) else source)


def _require_equal(sources: Sequence[Source], digests: Sequence[str]) -> None:
    issues = [
        _other_content(source.checkpoint)
        for source, digest in zip(sources, digests, strict=True)
        if source.digest != digest
    ]
    if issues:
        raise LedgerError.collected(issues)


def _other_content(source: Checkpoint | SumReader) -> Issue:
    if isinstance(source, SumReader):
        return Issue("holds other tensors than it records", source.shown, advice=REMOVE)
    return Issue("is not the content that the ledger records", source.shown, advice=SEARCH)
