"""Whole pipelines among the ingredients of a soup, each with its own weight in every component.

Rule 1: a pipeline is identified by its content: the digest over those of its components. This
distinguishes pipelines that share a component. A delta or adapter that is one checkpoint for
several components is identified by its own digest.
Rule 2: a pipeline in the components' ledgers is valid only if its digest is that of the contents
that they list for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..checkpoints.digest import text_digest
from ..errors import LedgerError
from ..frozen import frozen
from .ledger import IngredientEntry, Ledger, PipelineShare
from .sealed import canonical


def is_shared(ledger: Ledger | None) -> bool:
    """Whether all ingredients of a pipeline have the same content in the ledger's component."""
    return ledger is not None and len(ledger.ingredients) == 1


def pipeline_digest(contents: Mapping[str, str]) -> str:
    """The digest of a pipeline, from the content digests of its components by name."""
    return text_digest(canonical(sorted(contents.items())))


@frozen
class PipelineEntry:
    """One pipeline, from the ledgers of a soup's components."""

    digest: str
    name: str
    places: tuple[tuple[tuple[str, PipelineShare], ...], ...]
    """For each component in order: its contents, and its share of their weight."""

    def contents(self, names: Sequence[str], soup: str) -> tuple[str | None, ...]:
        """The content of each component, None of one that it lacks; `names` are the soup's.

        Raises LedgerError about `soup` for a pipeline that has several contents of a component, or
        another digest than its contents have.
        """
        found = {
            name: content
            for name, place in zip(names, self.places, strict=True)
            for content, _ in place
        }
        # the digest of a pipeline does not follow from one component
        is_right = len(names) == 1 or self.digest in (*found.values(), pipeline_digest(found))
        if any(len(place) > 1 for place in self.places) or (
            not is_right and len(found) < len(names)
        ):
            what = f"its components do not all contain {self.name}, or the same {self.name}"
            raise LedgerError(what, path=soup, advice="--component picks one")
        if not is_right or (self.digest in found.values() and len({*found.values()}) > 1):
            raise LedgerError(f"its ledgers do not agree about {self.name}", path=soup)
        return tuple(map(found.get, names))


def pipelines_of(ledgers: Sequence[Ledger]) -> dict[str, PipelineEntry]:
    """The pipelines of a soup by digest, from the ledgers of its components."""
    found: dict[str, list[list[tuple[str, PipelineShare]]]] = {}
    for position, ledger in enumerate(ledgers):
        for entry in ledger.ingredients:
            for share in entry.pipelines:
                places = found.setdefault(share.digest, [[] for _ in ledgers])
                places[position].append((entry.digest, share))
    return {
        digest: PipelineEntry(
            digest,
            min(share.name for place in places for _, share in place),
            tuple(map(tuple, places)),
        )
        for digest, places in sorted(found.items())
    }


def attributed(names: Sequence[str], ledgers: Sequence[Ledger]) -> tuple[Ledger, ...]:
    """Ledgers of the first format with the pipelines that can be derived, if any.

    They can if pipelines differ in at most one component, and share all others.
    """
    entries = [entry for ledger in ledgers for entry in ledger.ingredients]
    differing = [ledger for ledger in ledgers if len(ledger.ingredients) > 1] or ledgers[:1]
    is_known = any(entry.pipelines for entry in entries)
    if (
        len(ledgers) < 2
        or is_known
        or len(differing) > 1
        or len({ledger.total for ledger in ledgers}) > 1
    ):
        return tuple(ledgers)
    shares: list[dict[str, list[PipelineShare]]] = [{} for _ in ledgers]
    for told in differing[0].ingredients:
        held = [told if ledger is differing[0] else ledger.ingredients[0] for ledger in ledgers]
        roots = {name: entry.digest for name, entry in zip(names, held, strict=True)}
        digest = pipeline_digest(roots)
        for place, entry in zip(shares, held, strict=True):
            share = PipelineShare(digest, told.name, entry.hint, told.weight)
            place.setdefault(entry.digest, []).append(share)
    return tuple(
        replace(
            ledger,
            ingredients=tuple(
                replace(entry, pipelines=tuple(sorted(place[entry.digest], key=_digest)))
                for entry in ledger.ingredients
            ),
        )
        for ledger, place in zip(ledgers, shares, strict=True)
    )


def _digest(share: PipelineShare) -> str:
    return share.digest


def as_ledger(pipelines: Mapping[str, PipelineEntry], ledgers: Sequence[Ledger]) -> Ledger:
    """A soup's pipelines as a ledger of whole models, for looking up texts."""
    entries, trained = [], {}
    for each in pipelines.values():
        shares = [share for place in each.places for _, share in place]
        entries.append(IngredientEntry(each.digest, each.name, None, shares[0].weight, ()))
        for place, ledger in zip(each.places, ledgers, strict=True):
            for content, _ in place:
                known = ledger.ancestors.get(content)
                if known is not None and known.training is not None:
                    trained[each.digest] = known
    return Ledger("", "", tuple(entries), (), ancestors=trained)


def holders(digest: str, pipelines: Mapping[str, PipelineEntry]) -> Iterator[PipelineEntry]:
    """The pipelines that have a component of this content."""
    for each in pipelines.values():
        if any(content == digest for place in each.places for content, _ in place):
            yield each
