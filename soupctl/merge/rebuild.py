"""Rebuilding a soup from its ingredients, and checking its ledger against the result.

Rule 1: claims of the soup or its sum are never used to prove themselves: the soup is rebuilt with
the weights of its ledger, and separately its sum.
Rule 2: a difference disproves the soup; a claim that cannot be checked is listed as unproven.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

from ..errors import Issue, LedgerError, SoupError
from ..frozen import frozen
from ..ledger.ancestry import shares_of
from ..ledger.block_weights import WeightByBlock
from ..ledger.entries import weighted
from ..ledger.ledger import IngredientEntry, Ledger
from ..ledger.replay import ReplayedState, replay
from .applied_sources import first_of
from .delta.rebuild import delta_difference
from .kept_sum.opened import OpenedSum
from .kept_sum.record import facts_on, in_order, summed_source
from .made_again import MadeAgain, RebuildRequest, make_again
from .methods.rebuild import as_named
from .methods.record import ratios_differ
from .opened_inputs import OpenedInputs
from .order import Outcome
from .plan import Plan
from .recorded_sources import other_records
from .sources import (
    SEARCH,
    Source,
    checkpoints_of,
    exact_sources,
)
from .step import Rule

MOST_STATES = 32
"""The number of a soup's earlier states that are rebuilt, the newest ones."""
IGNORED = "as after --ignore-ledger; what the soup holds of it is not known"


@frozen
class Rebuilt:
    """The result of a rebuild."""

    difference: str | None = None
    """The difference of the soup, its sum or its ledger from the rebuilt ones, if any."""
    of_tensors: bool = False
    """Whether the difference is in the tensors, as is expected of an approximate soup."""
    unproven: tuple[str, ...] = ()
    """Claims of the ledger that no rebuild can check."""


def rebuild(request: RebuildRequest, ledger: Ledger, kept: OpenedSum | None) -> Rebuilt:
    """The result of rebuilding a soup and its sum; SoupError if an ingredient is missing."""
    sources = sources_of(request, ledger)
    if ledger.is_delta:
        difference = delta_difference(request.inputs, request.soup, ledger, request.execution)
        return Rebuilt(difference and f"{request.soup.label}: {difference}", of_tensors=True)
    made = make_again(request, sources, ledger, kept)
    # what follows is rarely needed, and small
    request = replace(request, elsewhere=None)
    other = _other_result(request, ledger, kept, sources, made)
    if other is not None:
        return other
    what = _other_integers(ledger, made.plan, made.soup)
    what = what or other_records(ledger, made.plan, made.alignment, made.takes, sources)
    if what := what or _false_ledger(request, ledger, sources):
        return Rebuilt(f"{request.soup.label}: {what}")
    _require_known_ledgers(request.inputs, ledger, sources)
    unproven = [
        f"the claims about {source.checkpoint.label}, which has no ledger"
        for source, own in _own_ledgers(request.inputs, sources)
        if own is None and source.digest in ledger.ancestors
    ]
    difference, others = _earlier(request, ledger)
    unproven += others
    return Rebuilt(difference and f"{request.soup.label}: {difference}", unproven=tuple(unproven))


def _other_result(
    request: RebuildRequest,
    ledger: Ledger,
    kept: OpenedSum | None,
    sources: Sequence[Source],
    made: MadeAgain,
) -> Rebuilt | None:
    """The difference of the soup, its ratios or its sum from the rebuilt ones; None if equal."""
    soup = request.soup.label
    if made.soup.soup != ledger.root:
        return Rebuilt(f"{soup}: is not the soup of its ingredients", of_tensors=True)
    if ratios_differ(ledger, made.soup.ratios):
        return Rebuilt(f"{soup}: records other ratios than its ingredients give")
    if kept is None or made.scaled is None:
        return None
    plan, aligned = made.summed
    ingredients = [source for source in sources if not source.is_donor]
    known = {
        source.digest: summed_source(plan, place, aligned[place])
        for place, source in enumerate(ingredients)
    }
    found = facts_on(kept.facts.scale, in_order(known, ledger))
    if replace(found, root=made.scaled.sum or "") == kept.facts:
        return None
    return Rebuilt(f"{kept.label}: is not the sum of the soup's ingredients", of_tensors=True)


def sources_of(request: RebuildRequest, ledger: Ledger) -> tuple[Source, ...]:
    """The ingredients of a soup, found; none of a delta. LedgerError if one is missing."""
    for component in request.given:
        request.inputs.offer(component, ledger, request.soup.label)
    if ledger.is_delta:
        return ()
    first = first_of(ledger)
    sources = exact_sources(
        request.inputs, request.soup, ledger.ingredients, first, SEARCH, ledger.donors
    )
    return tuple(as_named(sources, ledger))


def _other_integers(ledger: Ledger, plan: Plan, outcome: Outcome) -> str | None:
    """The difference of the integers from those in the ledger; None if there is none."""
    listed = set(ledger.integer_source.tensors) if ledger.integer_source else set()
    firsts = {step.name for step in plan.kept if step.rule is Rule.FIRST}
    # tensors that differed may have become equal when other ingredients were taken out
    held = {entry.digest for entry in ledger.ingredients}
    if ledger.exact and ledger.integer_source and ledger.integer_source.digest not in held:
        return "took integers from a file that is not an ingredient"
    are_all = listed == set(outcome.taken) if not ledger.chain else set(outcome.taken) <= listed
    if are_all and listed <= firsts:
        return None
    return "lists other integer tensors than those that differ in its ingredients"


def _false_ledger(request: RebuildRequest, ledger: Ledger, sources: Sequence[Source]) -> str | None:
    """A false claim of the ledger about an ingredient; None if there is none.

    One content can be made in several ways, so the ledger may describe another one than the
    ingredient's own ledger. Raises LedgerError if neither is proven.
    """
    for source, own in _own_ledgers(request.inputs, sources):
        known = ledger.ancestors.get(source.digest)
        if known is None or own is None or _is_same(known, own):
            continue
        # a soup of a single soup has the same content
        if (earlier := own.ancestors.get(source.digest)) and _is_same(known, earlier):
            continue
        label = source.checkpoint.label
        if not known.exact or shares_of(known) == shares_of(own):
            what = "has a ledger that contradicts the soup's"
            raise LedgerError(what, path=label)
        checkpoint = checkpoints_of([source])[0]
        entries = exact_sources(
            request.inputs, checkpoint, known.ingredients, known.base, SEARCH, known.donors
        )
        if make_again(replace(request, soup=checkpoint), entries, known).soup.soup != source.digest:
            return f"contradicts the ledger of {label}, and is wrong"
    return None


def _is_same(known: Ledger, own: Ledger) -> bool:
    """Whether two ledgers are equal except for hints, which change when files are moved."""
    return _without_hints(known) == _without_hints(own)


def _own_ledgers(
    inputs: OpenedInputs, sources: Sequence[Source]
) -> Iterator[tuple[Source, Ledger | None]]:
    """Each ingredient with its own ledger, if that is for its content."""
    for source, checkpoint in zip(sources, checkpoints_of(sources), strict=True):
        own = None
        with suppress(LedgerError):
            own = inputs.ledger(checkpoint)
        yield source, own if own is not None and own.root == source.digest else None


def _without_hints(ledger: Ledger) -> Ledger:
    """A ledger of an ancestor without hints, which change when files are moved."""
    entries, donors = (
        tuple(replace(entry, hint=None) for entry in each)
        for each in (ledger.ingredients, ledger.donors)
    )
    return replace(ledger, ingredients=entries, donors=donors, ancestors={}, disputed=())


def _require_known_ledgers(inputs: OpenedInputs, ledger: Ledger, sources: Sequence[Source]) -> None:
    """Raise LedgerError for ingredients whose ledgers the soup's ledger lacks."""
    disputed = set(ledger.disputed)
    issues = [
        Issue(
            "has a ledger that the soup's does not contain", source.checkpoint.label, advice=IGNORED
        )
        for source, own in _own_ledgers(inputs, sources)
        if own is not None
        and source.digest not in ledger.ancestors
        and source.digest not in disputed
    ]
    if issues:
        raise LedgerError.collected(issues)


def _earlier(request: RebuildRequest, ledger: Ledger) -> tuple[str | None, list[str]]:
    """The difference of an earlier state from its record, and claims that are unproven.

    A state is rebuilt if all its ingredients are found.
    """
    states = replay(ledger)[:-1]
    unproven: list[str] = []
    if len(states) > MOST_STATES:
        unproven.append(f"its first {len(states) - MOST_STATES} states, of {len(states)}")
    for each in states[-MOST_STATES:]:
        after = f"its state after {each.state.operation}, {each.state.root}"
        if not each.state.exact:
            unproven.append(f"{after}: it is approximate")
            continue
        try:
            root = _root_of(request, ledger, each)
        except SoupError as error:
            unproven.append(f"{after}: {error.message(1)}")
            continue
        if root is None:
            unproven.append(f"{after}: the source of its integers and names is not recorded")
        elif root != each.state.root:
            return f"{after}, is not the soup that its history describes", unproven
    return None, unproven


def _root_of(request: RebuildRequest, ledger: Ledger, each: ReplayedState) -> str | None:
    """The digest of an earlier state, rebuilt; None if it depends on unrecorded facts.

    Raises SoupError if an ingredient is not found, or does not fit the others.
    """
    entries = [_entry(ledger, digest, weights) for digest, weights in each.weights.items()]
    sources = exact_sources(
        request.inputs, request.soup, entries, ledger.base, SEARCH, ledger.donors
    )
    made = make_again(request, sources, ledger)
    return None if made.soup.taken or not made.alignment.is_plain else made.soup.soup


def _entry(ledger: Ledger, digest: str, weights: WeightByBlock) -> IngredientEntry:
    """The entry of an ingredient of an earlier state, found by name if it was removed."""
    for entry in ledger.ingredients:
        if entry.digest == digest:
            return weighted(entry, weights)
    names = [
        change.name
        for state in ledger.states
        for change in state.changed
        if change.digest == digest
    ]
    dtypes = ledger.ingredients[0].dtypes
    return weighted(IngredientEntry(digest, names[-1], names[-1], Fraction(0), dtypes), weights)
