"""The history of a soup replayed from its ledger: the weights of each state, and contradictions.

Rule 1: pure; whether a state was ever made is for a rebuild to find out.
Rule 2: only what no command writes is a contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .block_weights import NO_WEIGHT, WeightByBlock
from .ledger import Ledger, SoupState

BEGINNINGS = ("avg", "given", "apply", "delta")
"""The operations that a history begins with, and no other."""

Weights = dict[str, WeightByBlock]
"""The weight of each ingredient by its content digest."""


@dataclass(frozen=True, slots=True)
class ReplayedState:
    """A state in the history of a soup, and what it was made of."""

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
    """What a ledger says that cannot be so, whatever the tensors are; most are none."""
    if ledger.training is not None:
        if ledger.operation != "trained":
            yield f"calls a training {ledger.operation!r}"
        return
    states = replay(ledger)
    first = states[0].state.operation
    if first not in _beginnings(ledger):
        yield f"begins its history with {first!r}"
    if not ledger.chain and ledger.changed:
        yield "says what changed, and has no earlier state"
    if states[-1].weights != {entry.digest: entry.weights for entry in ledger.ingredients}:
        yield "lists other ingredients or weights than its history leads to"
    for each in states[1:]:
        if not _is_change(each):
            yield f"has a {each.state.operation!r} that changes other things"
    flags = [each.state.exact for each in states]
    if flags != sorted(flags, reverse=True):
        yield "has an exact state after an approximate one"
    held = (ledger.ancestors.get(entry.digest) for entry in ledger.sources)
    if ledger.exact and not all(each.exact for each in held if each is not None):
        yield "calls itself exact, and an ingredient approximate"
    yield from _other_names(ledger, states)


def _beginnings(ledger: Ledger) -> tuple[str, ...]:
    """The operations that the history of such a ledger may begin with."""
    if ledger.base is not None:
        return ("delta",) if ledger.is_delta else ("apply",)
    if ledger.deltas:
        return ("apply",)
    # a soup without a ledger whose weight was declared is no soup that soupctl wrote, and of a mean
    # with deltas these may have been taken out
    return ("avg", "given", "apply") if ledger.chain else ("avg",)


def _is_change(each: ReplayedState) -> bool:
    """Whether an operation is one that changes what it did."""
    gone = each.before.keys() - each.weights.keys()
    new = each.weights.keys() - each.before.keys()
    match each.state.operation:
        case "add":
            return bool(each.state.changed) and not gone
        case "subtract":
            # one of two pipelines of opposite weights leaves more of what they share
            return bool(each.state.changed) and not new
        case "swap":
            # what came may count less than nothing, or be what was there already
            return not gone or len(each.state.changed) > len(gone)
    # a program may have called it anything else
    return each.state.operation not in (*BEGINNINGS, "trained")


def _other_names(ledger: Ledger, states: tuple[ReplayedState, ...]) -> Iterator[str]:
    """Names that a history gives to content which it called otherwise since it came."""
    names: dict[str, set[str]] = {}
    for each in states:
        if each.state.operation not in ("add", "subtract"):
            # what was exchanged for the same content may have given it another name
            names.clear()
        came = {change.digest for change in each.state.changed} - each.before.keys()
        names.update({digest: set() for digest in came})
        for change in each.state.changed:
            known = names.get(change.digest)
            if known is None:
                continue
            if change.digest not in each.weights and known and change.name not in known:
                yield f"calls {min(known)} {change.name} where it was taken out"
            known.add(change.name)
    for entry in ledger.ingredients:
        known = names.get(entry.digest)
        if known and entry.name not in known:
            yield f"calls {min(known)} {entry.name}"
