"""The dtypes of the ingredients of a soup that is computed from its sum, and of the result.

Rule 1: the dtypes of ingredients that are not read are those that the sum records.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from ...errors import LedgerError
from ...format.dtypes import FLOATS, DType, narrowest
from ...ledger.ledger import Runs
from ..membership import Membership
from ..plan import Plan
from ..recipe import first_match
from ..sources import Source
from ..step import Rule
from .format import REMOVE, UNDECIDED, expand_runs
from .holders import Holders, taken_by
from .opened import OpenedSum


def _outs(
    plan: Plan, columns: Mapping[str, Mapping[str, DType]], members: Membership
) -> dict[str, DType]:
    """The dtype of each averaged tensor: the requested one, or one that holds all that counts.

    It is not known of a tensor that was taken from one file, and not in a requested one.
    """
    asked, asked_for = members.before.asked_dtype, first_match(members.before.dtype_for)
    is_taken = taken_by(members.before)
    counts = _counting(members)
    outs = {}
    for step in plan.kept:
        if step.rule is not Rule.AVERAGE:
            continue
        given = asked_for(step.name) or asked
        if given is None and not is_taken(step.name):
            held = (
                each[step.name]
                for digest, each in columns.items()
                if step.name in each and counts(digest, step.name)
            )
            given = narrowest(frozenset(held))
        if given is not None:
            outs[step.name] = given
    return outs


def _counting(members: Membership) -> Callable[[str, str], bool]:
    """A function of a content digest and a tensor: whether that ingredient has weight in it."""
    block_of = first_match([(glob, place) for place, glob in enumerate(members.blocks)])
    spread = {each.digest: each.weights.spread(len(members.blocks)) for each in members.after}
    usual = {each.digest: each.weight for each in members.after}

    def counts(digest: str, tensor: str) -> bool:
        block = block_of(tensor)
        return bool(usual[digest] if block is None else spread[digest][block])

    return counts


def dtypes_by_ingredient(
    plan: Plan,
    sources: Sequence[Source],
    recorded: Mapping[str, Runs],
    kept: OpenedSum,
    members: Membership,
    holders: Holders,
    undecided: Collection[str] = (),
) -> dict[str, dict[str, DType]]:
    """For each remaining ingredient, the dtype of each tensor of the soup that it holds.

    Deltas have those of the tensors that they change, and adapters none; `undecided` are the
    adapters that are read.
    """
    places = {source.digest: place for place, source in enumerate(sources)}
    found = {}
    for entry in members.after:
        if entry.digest in recorded:
            every = _recorded_dtypes(plan, recorded[entry.digest], kept)
        elif entry.digest in undecided:
            every = {}
        else:
            every = _read_dtypes(plan, places[entry.digest])
        found[entry.digest] = {
            name: dtype for name, dtype in every.items() if holders.holds(entry.digest, name)
        }
    return found


def filled(plan: Plan, column: Mapping[str, DType], *, is_added: bool = False) -> Iterator[DType]:
    """The dtypes of an ingredient for all tensors of the soup; the soup's where it has none.

    Where a delta or an adapter does not decide the soup's dtype, it is `UNDECIDED`.
    """
    if is_added:
        averaged = {step.name for step in plan.kept if step.rule is Rule.AVERAGE}
        known = {name: dtype for name, dtype in column.items() if name in averaged}
        return (known.get(step.name, UNDECIDED) for step in plan.kept)
    return (column.get(step.name, step.out or step.dtypes[0]) for step in plan.kept)


def _read_dtypes(plan: Plan, source: int) -> dict[str, DType]:
    """The dtypes that a source has of the plan's tensors."""
    return {
        step.name: step.dtypes[step.sources.index(source)]
        for step in plan.kept
        if source in step.sources
    }


def _recorded_dtypes(plan: Plan, recorded: Runs, kept: OpenedSum) -> dict[str, DType]:
    """The dtypes that a sum records of an ingredient; LedgerError if its tensors are others."""
    names = sorted(kept.reader.tensors)
    # the recorded value may be of any length
    found = list(islice(expand_runs(recorded), len(names) + 1))
    dtypes = dict(zip(names, found, strict=False))
    averaged = (step.name for step in plan.kept if step.rule is Rule.AVERAGE)
    fits = all(dtypes.get(name, UNDECIDED) in (UNDECIDED, *FLOATS) for name in averaged)
    if len(found) != len(names) or not fits:
        what = "records dtypes of an ingredient that do not fit its tensors"
        raise LedgerError(what, path=kept.label, advice=REMOVE)
    return {name: dtype for name, dtype in dtypes.items() if dtype is not UNDECIDED}


def with_dtypes(
    plan: Plan, columns: Mapping[str, Mapping[str, DType]], members: Membership
) -> Plan | None:
    """The plan with dtypes for the averaged tensors that are not quantised; None if one is unknown.

    `columns` are the dtypes of each ingredient's tensors, by its content digest.
    """
    outs = _outs(plan, columns, members)
    if not all(step.name in outs for step in plan.kept if step.rule is Rule.AVERAGE):
        return None
    steps = (
        replace(step, out=outs[step.name])
        if step.rule is Rule.AVERAGE and not step.is_quantised
        else step
        for step in plan.steps
    )
    return replace(plan, steps=tuple(steps))
