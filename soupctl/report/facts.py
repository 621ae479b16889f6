"""What a page tells about a soup, as values.

Rule 1: an ingredient is measured only if its file has the content that the ledger names.
Rule 2: figures describe and prove nothing: they are right to a dozen digits. What is proven is told
by the proof level alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fnmatch import translate
from fractions import Fraction
from math import sqrt
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.hashing import checkpoint_digest, remembering_digests
from ..checkpoints.open import STREAM, find_input
from ..choices import Level
from ..engines.moments import joined
from ..errors import LedgerError, SoupError, UsageError
from ..frozen import frozen
from ..ledger.ledger import IngredientEntry, Ledger
from ..merge.blocks.grouping import block_of, in_order
from ..merge.blocks.table import BlockRow, block_rows
from ..merge.diff.compare import DiffRequest, compare_checkpoints
from ..merge.opened_inputs import OpenedInputs, open_model
from ..merge.verify import Verified, verify
from ..scoring.journal import RecordedScores, read_scores
from ..scoring.trials import journal_path
from ..workers import ExecutionOptions

CHOOSERS = ("greedy", "search", "rank")
"""The commands that leave a journal beside a soup."""


@frozen
class ReportRequest:
    """A soup to report on."""

    soup: str | Path
    ingredients: tuple[str | Path, ...] = ()
    """Ingredients that are not at the ledger's hints."""
    search: tuple[Path, ...] = ()
    """Folders to search for ingredients."""
    journals: tuple[Path, ...] = ()
    """Journals of scores besides those that lie beside the soup."""
    samples: tuple[Path, ...] = ()
    """Pictures to show."""
    level: Level | None = None
    """The highest proof level that is tried; None for the highest possible."""
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for standard input, which cannot be read twice."""
        if self.soup == STREAM:
            raise UsageError("a soup is read twice for its report", advice="name its file")


@frozen
class MeasuredIngredient:
    """An ingredient, compared with the soup."""

    norm: float
    """The Euclidean norm of all its numbers."""
    distance: float | None
    """The norm of its difference from the soup, over the soup's norm."""
    cosine: float | None
    """The cosine of the angle between it and the soup."""
    contribution: float | None
    """Its part of the soup's squared norm: the product of its weighted numbers and the soup's.

    None if a method combined it, whose result is no sum of weighted numbers."""
    blocks: tuple[tuple[str, float | None], ...]
    """The contribution in each block."""


@frozen
class ReportedIngredient:
    """An ingredient of a component."""

    entry: IngredientEntry
    share: Fraction | None
    """Its share of the mean, or its scale if it is a delta; None if a method combined it."""
    is_added: bool
    """Whether it is a delta or an adapter."""
    measured: MeasuredIngredient | None
    why_not: str
    """Why it was not measured."""


@frozen
class ReportedComponent:
    """A component of the soup, or the soup itself."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    label: str
    ledger: Ledger
    ingredients: tuple[ReportedIngredient, ...]
    rows: tuple[BlockRow, ...]
    """The weights by block; empty if they are the same everywhere."""
    norm: float | None
    """The Euclidean norm of the soup; None if nothing was measured."""
    verified: Verified


@frozen
class SoupFacts:
    """Everything that a page tells."""

    soup: str
    components: tuple[ReportedComponent, ...]
    journals: tuple[RecordedScores, ...]


def soup_facts(asked: ReportRequest, execution: ExecutionOptions | None = None) -> SoupFacts:
    """Verify a soup, measure its ingredients, and read its journals.

    Raises LedgerError for a component without a sound ledger, and what `verify` and `read_scores`
    raise.
    """
    with remembering_digests():
        proofs = verify(
            asked.soup,
            asked.ingredients,
            search=asked.search,
            level=asked.level,
            component=asked.component,
            variant=asked.variant,
            execution=execution,
        )
        components = tuple(_components(asked, proofs, execution))
    beside = [journal_path(asked.soup, each) for each in CHOOSERS]
    paths = dict.fromkeys([*(each for each in beside if each.is_file()), *asked.journals])
    return SoupFacts(str(asked.soup), components, tuple(map(read_scores, paths)))


def _components(
    asked: ReportRequest, proofs: Sequence[Verified], execution: ExecutionOptions | None
) -> Iterator[ReportedComponent]:
    model = find_input(asked.soup, asked.component, asked.variant)
    with ExitStack() as stack:
        inputs = [OpenedInputs(stack, asked.search, asked.variant) for _ in model.components]
        opened = open_model(inputs, model)
        for its, soup, verified in zip(inputs, opened, proofs, strict=True):
            ledger = verified.ledger
            if ledger is None:
                what = verified.problem or "has no ledger: it is not a soup"
                raise LedgerError(what.removeprefix(f"{soup.label}: "), path=soup.label)
            _offer(its, asked, ledger)
            measured = [
                _ingredient(its, soup, ledger, entry, share, execution)
                for entry, share in zip(ledger.ingredients, ledger.known_shares, strict=True)
            ]
            norms = [norm for _, norm in measured if norm is not None]
            yield ReportedComponent(
                verified.name,
                soup.label,
                ledger,
                tuple(each for each, _ in measured),
                _rows(ledger, soup),
                norms[0] if norms else None,
                verified,
            )


def _offer(inputs: OpenedInputs, asked: ReportRequest, ledger: Ledger) -> None:
    """Use the checkpoints that the user named; those of other components are passed over."""
    for path in asked.ingredients:
        for component in find_input(path, asked.component, asked.variant).components:
            try:
                inputs.offer(component, ledger, str(asked.soup))
            except LedgerError:
                continue


def _rows(ledger: Ledger, soup: Checkpoint) -> tuple[BlockRow, ...]:
    return block_rows(
        ledger.blocks,
        [entry.weights for entry in ledger.ingredients],
        soup.tensors.keys(),
        [ledger.adds(entry) for entry in ledger.ingredients],
        normalize=ledger.normalize,
    )


def _ingredient(
    inputs: OpenedInputs,
    soup: Checkpoint,
    ledger: Ledger,
    entry: IngredientEntry,
    share: Fraction | None,
    execution: ExecutionOptions | None,
) -> tuple[ReportedIngredient, float | None]:
    """The measurements of an ingredient, and the norm of the soup if both were read."""
    if ledger.method is None and ledger.adds(entry):
        why = "is a delta, which is no part of a mean"
        return ReportedIngredient(entry, share, True, None, why), None
    found = inputs.find(entry, soup)
    if found is None:
        why = inputs.why_absent(entry, soup)
        return ReportedIngredient(entry, share, False, None, why), None
    if checkpoint_digest(found) != entry.digest:
        why = "the file that was found has other content"
        return ReportedIngredient(entry, share, False, None, why), None
    try:
        measured, norm = _measured(soup, found, ledger, entry, execution)
    except SoupError as error:
        return ReportedIngredient(entry, share, False, None, error.issues[0].what), None
    return ReportedIngredient(entry, share, False, measured, ""), norm


def _measured(
    soup: Checkpoint,
    ingredient: Checkpoint,
    ledger: Ledger,
    entry: IngredientEntry,
    execution: ExecutionOptions | None,
) -> tuple[MeasuredIngredient, float]:
    request = DiffRequest(soup.component.path, ingredient.component.path)
    (found,) = compare_checkpoints(request, execution)
    total = joined(each.moments for each in found.tensors)
    norms = sqrt(total.other), sqrt(total.one)
    facts = norms[0], total.relative_change, total.cosine
    if ledger.method is not None:
        return MeasuredIngredient(*facts, None, ()), norms[1]
    share_of = _share_of(ledger, entry)
    group_of = block_of([each.name for each in found.tensors])
    parts: dict[str, float] = {}
    for each in found.tensors:
        group = group_of(each.name)
        parts[group] = parts.get(group, 0.0) + share_of(each.name) * each.moments.product
    squares = {group.name: group.moments.one for group in found.grouped(group_of)}
    names = sorted(squares, key=in_order)
    blocks = tuple((name, _part(parts[name], squares[name])) for name in names)
    part = _part(sum(parts.values()), total.one)
    return MeasuredIngredient(*facts, part, blocks), norms[1]


def _share_of(ledger: Ledger, entry: IngredientEntry) -> Callable[[str], float]:
    """The share of an ingredient in a tensor of a name."""
    count = len(ledger.blocks)
    matches = [re.compile(translate(glob)).match for glob in ledger.blocks]
    weights, totals = entry.weights.spread(count), ledger.totals.spread(count)
    shares = [float(w / of) if of else 0.0 for w, of in zip(weights, totals, strict=True)]
    usual = float(entry.weight / ledger.total) if ledger.total else 0.0

    def share(name: str) -> float:
        return next((shares[n] for n, match in enumerate(matches) if match(name)), usual)

    return share


def _part(product: float, whole: float) -> float | None:
    return product / whole if whole else None
