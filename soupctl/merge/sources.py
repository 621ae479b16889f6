"""The sources of a changed soup: its ingredients, its kept sum, or the rounded soup.

Rule 1: a result is published only if every source had the expected content digest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field, replace
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest
from ..choices import Method, OnInt
from ..errors import Issue, LedgerError, MismatchError
from ..frozen import frozen
from ..ledger.block_weights import WeightByBlock
from ..ledger.ledger import Change, IngredientEntry, Ledger
from ..ledger.read import is_delta
from .aligned import Alignment
from .kept_sum.format import REMOVE
from .kept_sum.reader import Source as AnySource
from .kept_sum.reader import SumReader
from .kept_sum.record import SummedSource
from .opened_inputs import OpenedInputs
from .order import Outcome
from .plan import Plan
from .recipe import Recipe, columns_of, selector

SEARCH = "--search DIR looks for it elsewhere"
WAYS_OUT = (
    "--search DIR looks for it, --approximate computes with the rounded soup; a soup made with"
    " --keep-sum needs none of the others"
)
BEYOND_THE_SUM = (
    "the kept sum alone is not enough for this change; --search DIR looks for it,"
    " --approximate computes with the rounded soup"
)
"""Advice where an ingredient must be read although the soup's sum is kept."""


@frozen
class Source:
    """A checkpoint or sum to compute with, and its expected content digest."""

    digest: str
    checkpoint: Checkpoint | SumReader
    weights: WeightByBlock
    is_donor: bool = False
    """Whether it is a donor, which only gives the tensors taken from it."""


@frozen
class Computation:
    """The computation of a changed component."""

    method: Method
    sources: tuple[Source, ...]
    """In the order of the plan."""
    plan: Plan
    scale: Fraction
    """The factor from the sum with requested weights to the plan's weighted sum."""
    alignment: Alignment
    """The sources under the names of the soup."""
    takes: tuple[tuple[str, int], ...] = ()
    """Globs with the index of the source whose tensors are taken."""
    recorded: Mapping[str, SummedSource] = field(default_factory=dict)
    """By content digest, what is recorded of ingredients that are not read."""
    lacks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By content digest, what ingredients lack that are not read, of the soup's tensors."""

    summed: tuple[Plan, Sequence[AnySource]] | None = None
    """The plan and sources of its sum, where those of the soup have none."""

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The sources that are checkpoints of ingredients, not sums."""
        return checkpoints_of([source for source in self.sources if not source.is_donor])

    @property
    def donors(self) -> tuple[Checkpoint, ...]:
        """The donors among the sources."""
        return checkpoints_of([source for source in self.sources if source.is_donor])


def checkpoints_of(sources: Sequence[Source]) -> tuple[Checkpoint, ...]:
    """The sources that are checkpoints, not sums."""
    return tuple(
        source.checkpoint for source in sources if not isinstance(source.checkpoint, SumReader)
    )


def recipe_of(ledger: Ledger, sources: Sequence[Source], *, first: bool) -> Recipe:
    """The recipe of a soup with other sources; `first` takes integers from the first.

    Raises LedgerError for tensors taken from a checkpoint that is not among the sources.
    """
    # if an ingredient is also a donor, the donor gives them
    places = {source.digest: place for place, source in enumerate(sources)}
    takes = []
    for glob, digest in ledger.takes:
        if digest not in places:
            what = f"{glob} is taken from an ingredient that would be removed ({digest[:19]})"
            raise LedgerError(what, advice="make the soup again with avg --take")
        takes.append((glob, places[digest]))
    weights = [each.weights for each in sources if not each.is_donor]
    recipe = plain_recipe(ledger, weights, first=first)
    return replace(recipe, takes=tuple(takes))


def plain_recipe(ledger: Ledger, weights: Sequence[WeightByBlock], *, first: bool) -> Recipe:
    """The recipe of a soup with other weights, without tensors taken from one source."""
    return Recipe(
        weights=tuple(each.usual for each in weights),
        blocks=columns_of(ledger.blocks, weights),
        dtype=ledger.asked_dtype,
        keys=ledger.keys,
        excludes=ledger.excludes,
        quantize=ledger.quantize,
        on_int=OnInt.FIRST if first else OnInt.REFUSE,
        allow_nonfinite=ledger.allow_nonfinite,
        on_missing=ledger.on_missing,
        dtype_for=ledger.dtype_for,
        pads=ledger.pads,
        normalize=ledger.normalize,
    )


def selector_of(ledger: Ledger) -> Callable[[str], bool]:
    """A function that tells from its name whether a tensor is in a soup."""
    return selector(plain_recipe(ledger, [], first=False))


def exact_sources(
    inputs: OpenedInputs,
    soup: Checkpoint,
    after: Sequence[IngredientEntry],
    first: str | None,
    advice: str = WAYS_OUT,
    donors: Sequence[IngredientEntry] = (),
) -> tuple[Source, ...]:
    """The ingredients of a soup, and its donors last.

    Deltas come after models, and the one with digest `first` before the others of its kind.

    Raises LedgerError, with `advice`, naming those that are not found, and for a soup without
    ingredients.
    """
    if not after:
        raise LedgerError("is a trained checkpoint and has no ingredients")
    sources, missing = [], []
    for is_donor, entry in (*((False, each) for each in after), *((True, each) for each in donors)):
        checkpoint = inputs.find(entry, soup)
        if checkpoint is None:
            what = f"{inputs.why_absent(entry, soup)}, and an exact soup needs it"
            missing.append(Issue(what, entry.name))
        else:
            sources.append(Source(entry.digest, checkpoint, entry.weights, is_donor))
    if missing:
        missing[0] = replace(missing[0], advice=advice)
        raise LedgerError.collected(missing)
    return tuple(
        sorted(
            sources,
            key=lambda each: (each.is_donor, is_added(each.checkpoint), each.digest != first),
        )
    )


def is_added(source: Checkpoint | SumReader) -> bool:
    """Whether a source is a delta or an adapter, which is added to models."""
    if isinstance(source, SumReader):
        return False
    from ..lora.modules import is_adapter

    return is_delta(source) or is_adapter(source.tensors)


def rounded_sources(
    inputs: OpenedInputs, soup: Checkpoint, before: Ledger, changed: Sequence[Change]
) -> tuple[Source, ...]:
    """The rounded soup with its total weight, and the added or removed checkpoints.

    Raises LedgerError for a missing ingredient.
    """
    entries = {entry.digest: entry for entry in before.ingredients}
    sources = [Source(before.root, soup, before.totals)]
    for change in changed:
        checkpoint = inputs.by_digest.get(change.digest)
        what = "is not found"
        if checkpoint is None and change.digest in entries:
            checkpoint = inputs.find(entries[change.digest], soup)
            what = inputs.why_absent(entries[change.digest], soup)
        if checkpoint is None:
            raise LedgerError(what, path=change.name, advice=SEARCH)
        sources.append(Source(change.digest, checkpoint, change.weights))
    return tuple(sources)


def require_contents(sources: Sequence[Source], outcome: Outcome) -> None:
    """Raise LedgerError naming the sources that had other content than expected."""
    _require_equal(sources, outcome.ingredients)


def require_digests(sources: Sequence[Source]) -> None:
    """Read every source; raise LedgerError naming those with other content than expected."""
    _require_equal(sources, [_digest(source.checkpoint) for source in sources])


@contextmanager
def explained_by_digests(sources: Sequence[Source]) -> Iterator[None]:
    """If an error is due to content that differs from the ledger's, raise that error instead."""
    try:
        yield
    except (MismatchError, LedgerError):
        # if the file at a hint has changed, that is the error to report
        require_digests(sources)
        raise


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
        return Issue("holds other tensors than it records", source.label, advice=REMOVE)
    return Issue("has other content than the ledger records", source.label, advice=SEARCH)
