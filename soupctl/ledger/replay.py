"""Replaying a soup's history from its ledger: the weights of each state, and contradictions.

Rule 1: pure; only a rebuild can find out whether a state ever existed.
Rule 2: a contradiction is something that no command ever writes.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..frozen import frozen
from .block_weights import NO_WEIGHT, WeightByBlock
from .ledger import Ledger, SoupState

BEGINNINGS = ("avg", "given", "apply", "delta", "merge")
"""The operations that only the first state of a history can have."""

Weights = dict[str, WeightByBlock]
"""The weight of each ingredient by content digest."""


@frozen
class ReplayedState:
    """A state in the history of a soup, and its ingredients."""

    state: SoupState
    before: Weights
    """Weights in the state before it."""
    weights: Weights


def replay(ledger: Ledger) -> tuple[ReplayedState, ...]:
    """All states of a soup, oldest first, the present one last."""
    if not ledger.chain:
        weights = {entry.digest: entry.weights for entry in ledger.ingredients}
        return (ReplayedState(ledger.states[0], {}, weights),)
    found: list[ReplayedState] = []
    before: Weights = {}
    for state in ledger.states:
        weights = dict(before)
        for change in state.changed:
            weights[change.digest] = weights.get(change.digest, NO_WEIGHT) + change.weights
            if not weights[change.digest]:
                del weights[change.digest]
        found.append(ReplayedState(state, before, weights))
        before = weights
    return tuple(found)


def contradictions(ledger: Ledger) -> Iterator[str]:
    """The contradictions in a ledger, whatever its tensors are; usually empty."""
    if ledger.training is not None:
        if ledger.operation != "trained":
            yield f"records a training as {ledger.operation!r}"
        return
    states = replay(ledger)
    first = states[0].state.operation
    if first not in _beginnings(ledger):
        yield f"begins its history with {first!r}"
    if not ledger.chain and ledger.changed:
        yield "records changes but no earlier state"
    if states[-1].weights != {entry.digest: entry.weights for entry in ledger.ingredients}:
        yield "lists ingredients or weights that do not follow from its history"
    for each in states[1:]:
        if not _is_change(each):
            yield f"records a {each.state.operation!r} with changes that it cannot make"
    flags = [each.state.exact for each in states]
    if flags != sorted(flags, reverse=True):
        yield "has an exact state after an approximate one"
    held = (ledger.ancestors.get(entry.digest) for entry in ledger.sources)
    if ledger.exact and not all(each.exact for each in held if each is not None):
        yield "claims to be exact, but has an approximate ingredient"
    yield from _other_names(ledger, states)


def _beginnings(ledger: Ledger) -> tuple[str, ...]:
    """The operations that the history of such a ledger may begin with."""
    if ledger.method is not None:
        return ("merge",)
    if ledger.base is not None:
        return ("delta",) if ledger.is_delta else ("apply",)
    if ledger.deltas:
        return ("apply",)
    # a soup without a ledger, with a declared weight, was not written by soupctl; and deltas may
    # have been taken out of a mean with deltas
    return ("avg", "given", "apply") if ledger.chain else ("avg",)


def _is_change(each: ReplayedState) -> bool:
    """Whether an operation can make the changes that it records."""
    gone = each.before.keys() - each.weights.keys()
    new = each.weights.keys() - each.before.keys()
    match each.state.operation:
        case "add":
            return bool(each.state.changed) and not gone
        case "subtract":
            # taking out one of two pipelines with opposite weights increases the weight of a shared
            # component
            return bool(each.state.changed) and not new
        case "swap":
            # what was added may have a negative weight, or be content that was already there
            return not gone or len(each.state.changed) > len(gone)
    # another program may have used any other name
    return each.state.operation not in (*BEGINNINGS, "trained")


def _other_names(ledger: Ledger, states: tuple[ReplayedState, ...]) -> Iterator[str]:
    """Contents that the history calls by different names."""
    names: dict[str, set[str]] = {}
    for each in states:
        if each.state.operation not in ("add", "subtract"):
            # a swap for the same content may have changed the name
            names.clear()
        came = {change.digest for change in each.state.changed} - each.before.keys()
        names.update({digest: set() for digest in came})
        for change in each.state.changed:
            known = names.get(change.digest)
            if known is None:
                continue
            if change.digest not in each.weights and known and change.name not in known:
                yield f"calls {min(known)} {change.name} where it was removed"
            known.add(change.name)
    for entry in ledger.ingredients:
        known = names.get(entry.digest)
        if known and entry.name not in known:
            yield f"calls {min(known)} {entry.name}"
