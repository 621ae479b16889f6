"""Exporting the one recipe of a whole pipeline, if all its components have the same.

Rule 1: pipelines are the inputs, each pinned to the content of every component.
Rule 2: components that differ in ingredients, weights or options have no recipe in common; they are
refused, and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from ...checkpoints.open import find_input
from ...errors import LedgerError
from ...frozen import frozen
from ...ledger.changes import CANNOT_SAY, unattributed
from ...ledger.ledger import IngredientEntry, IntegerSource, Ledger, PipelineShare
from ...ledger.pipelines import PipelineEntry, pipeline_digest, pipelines_of
from ..query import history
from .export import (
    Exported,
    has_other_base,
    input_text,
    lines_of,
    place_of,
    recipe_of,
    require_described,
)
from .toml import quoted

PICK = "--component picks one"


def recipe_of_soup(soup: str | Path, *, component: str | None = None) -> Iterator[str]:
    """The lines of a recipe that makes a soup, or all components of one that is a pipeline.

    Raises LedgerError as `history` and `recipe_of` do, and for components without a recipe in
    common.
    """
    found = history(soup, component=component)
    if len(found) == 1:
        ((path, ledger),) = found
        return recipe_of(ledger, path)
    names = [each.name for each in find_input(soup, component).components]
    paths, ledgers = zip(*found, strict=True)
    return lines_of(_exported(_SoupComponents(str(soup), names, paths, ledgers)))


@frozen
class _SoupComponents:
    """The components of a soup: their names, paths and ledgers."""

    soup: str
    names: Sequence[str]
    paths: Sequence[str]
    ledgers: Sequence[Ledger]

    def error(self, what: str) -> LedgerError:
        """The error for components without a recipe in common."""
        return LedgerError(what, path=self.soup, advice=PICK)


def _exported(parts: _SoupComponents) -> Exported:
    """The components of a soup as one whose ingredients are pipelines."""
    for path, ledger in zip(parts.paths, parts.ledgers, strict=True):
        require_described(ledger, path)
        if any(unattributed(entry) for entry in ledger.ingredients):
            raise parts.error(f"has no recipe as a whole: {CANNOT_SAY}")
    blocks = _common_blocks(parts)
    pipelines, donors = pipelines_of(parts.ledgers), _donors(parts)
    added = {digest for digest, each in pipelines.items() if _is_added(parts, each)}
    entries = [_entry(parts, each, is_partial=each.digest in added) for each in pipelines.values()]
    models = [entry.digest for entry in entries if entry.digest not in added]
    sources = [ledger.integer_source for ledger in parts.ledgers]
    first = _giving(parts, pipelines, [each.digest if each else None for each in sources])
    whole = replace(
        parts.ledgers[0],
        ingredients=tuple(entries),
        blocks=blocks,
        takes=_takes(parts, pipelines, donors),
        donors=tuple(_entry(parts, each, is_partial=True) for each in donors.values()),
        config_from=_giving(parts, pipelines, [each.config_from for each in parts.ledgers]),
        integer_source=IntegerSource(first, ()) if first else None,
        base=models[0] if added and len(models) == 1 else None,
        deltas=tuple(sorted(added)) if len(models) > 1 else (),
    )
    inputs = {digest: _input(parts, each) for digest, each in (pipelines | donors).items()}
    return Exported(
        whole,
        inputs,
        has_other_base=any(map(has_other_base, parts.ledgers)),
        histories=dict(zip(parts.names, (each.states for each in parts.ledgers), strict=True)),
    )


def _common_blocks(parts: _SoupComponents) -> tuple[str, ...]:
    """The blocks of all components; LedgerError for those that differ in them or in options."""
    # an adapter with scales by block may leave out components
    blocks = {ledger.blocks for ledger in parts.ledgers if ledger.blocks}
    options = {
        (
            *(ledger.asked_dtype, ledger.quantize, ledger.on_missing, ledger.allow_nonfinite),
            ledger.normalize,
            *(ledger.keys, ledger.excludes, ledger.pads, ledger.dtype_for),
        )
        for ledger in parts.ledgers
    }
    if len(options) > 1 or len(blocks) > 1:
        raise parts.error("its components were made with different options or blocks")
    return next(iter(blocks), ())


def _is_added(parts: _SoupComponents, pipeline: PipelineEntry) -> bool:
    """Whether a pipeline of the soup is a delta or an adapter; LedgerError if it is both."""
    found = {
        content in ledger.added
        for ledger, place in zip(parts.ledgers, pipeline.places, strict=True)
        for content, _ in place
    }
    if len(found) > 1:
        raise parts.error(f"its components use {pipeline.name} as a model and as a delta")
    return found.pop()


def _entry(parts: _SoupComponents, pipeline: PipelineEntry, *, is_partial: bool) -> IngredientEntry:
    """A pipeline as an ingredient; LedgerError unless all components have it with one weight.

    Components may lack one that `is_partial`.
    """
    contents = _contents(parts, pipeline)
    shares = [share for place in pipeline.places for _, share in place]
    if len({share.weights for share in shares}) > 1:
        raise parts.error(f"its components have different weights of {pipeline.name}")
    if None in contents and not is_partial:
        raise parts.error(f"its components do not all contain {pipeline.name}")
    renamed = {
        entry.renamed
        for ledger, content in zip(parts.ledgers, contents, strict=True)
        for entry in ledger.ingredients
        if entry.digest == content and entry.renamed
    }
    return IngredientEntry(
        digest=pipeline.digest,
        name=pipeline.name,
        hint=None,
        weight=shares[0].weight,
        dtypes=(),
        renamed=next(iter(sorted(renamed)), None),
        blocks=shares[0].blocks,
    )


def _contents(parts: _SoupComponents, pipeline: PipelineEntry) -> tuple[str | None, ...]:
    """The content of each component; LedgerError for a pipeline that is not the same in all."""
    try:
        return pipeline.contents(parts.names, parts.soup)
    except LedgerError as error:
        raise parts.error(error.issues[0].what) from error


def _giving(
    parts: _SoupComponents, pipelines: Mapping[str, PipelineEntry], contents: Iterable[str | None]
) -> str | None:
    """The first pipeline that has these contents of the components; None if there are none.

    A content of None is one that is not asked for.
    """
    wanted = list(contents)
    if not any(wanted):
        return None
    for digest, each in pipelines.items():
        held = zip(wanted, _contents(parts, each), strict=True)
        if all(content in (None, has) for content, has in held):
            return digest
    raise parts.error("its components were made with different options or blocks")


def _donors(parts: _SoupComponents) -> dict[str, PipelineEntry]:
    """The donors of a soup as pipelines by digest, of the components that they give tensors to."""
    found: dict[str, list[list[tuple[str, PipelineShare]]]] = {}
    for position, ledger in enumerate(parts.ledgers):
        for entry in ledger.donors:
            share = PipelineShare("", entry.name, entry.hint, Fraction(0))
            places = found.setdefault(entry.name, [[] for _ in parts.ledgers])
            places[position].append((entry.digest, share))
    donors = {}
    for donor, places in found.items():
        named = zip(parts.names, places, strict=True)
        digest = pipeline_digest({name: place[0][0] for name, place in named if place})
        donors[digest] = PipelineEntry(digest, donor, tuple(map(tuple, places)))
    return donors


def _takes(
    parts: _SoupComponents,
    pipelines: Mapping[str, PipelineEntry],
    donors: Mapping[str, PipelineEntry],
) -> tuple[tuple[str, str], ...]:
    """The globs of tensors that are copied, each with the pipeline that they are taken from.

    A component has those that match its tensors, so any order that keeps its own gives the same. It
    lacks those of a donor that gives it nothing, so with donors the order must be known.
    """
    contents: dict[str, list[str | None]] = {}
    order: TopologicalSorter[str] = TopologicalSorter()
    known: set[tuple[str, str]] = set()
    for position, ledger in enumerate(parts.ledgers):
        globs = [glob for glob, _ in ledger.takes]
        known.update(pairwise(globs))
        for place, (glob, content) in enumerate(ledger.takes):
            contents.setdefault(glob, [None] * len(parts.ledgers))[position] = content
            order.add(glob, *globs[:place])
    try:
        merged = tuple(order.static_order())
    except CycleError as error:
        raise parts.error("its components take tensors in different orders") from error
    if donors and not known.issuperset(pairwise(merged)):
        raise parts.error("its components take tensors in an order that no ledger records")
    sources = [(glob, _giving(parts, {**donors, **pipelines}, contents[glob])) for glob in merged]
    return tuple((glob, source) for glob, source in sources if source is not None)


def _input(parts: _SoupComponents, pipeline: PipelineEntry) -> str:
    """The table of a pipeline in a recipe: its folder or file, and its contents."""
    places, pins = set(), {}
    for name, path, place in zip(parts.names, parts.paths, pipeline.places, strict=True):
        for content, share in place:
            at = place_of(share.hint, share.name, path)
            # an adapter is one file for all components
            before, mark, last = at.rpartition("/")
            is_folder = content != pipeline.digest and last == name
            places.add((before or mark or ".") if is_folder else at)
            pins[name] = content
    if len(places) > 1:
        raise parts.error(f"the components of {pipeline.name} were in several folders")
    if pipeline.digest in pins.values():
        return input_text(places.pop(), quoted(pipeline.digest))
    table = ", ".join(f"{quoted(name)} = {quoted(content)}" for name, content in pins.items())
    return input_text(places.pop(), f"{{ {table} }}")
