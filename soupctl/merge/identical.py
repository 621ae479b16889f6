"""Comparing tensors that must be the same in all ingredients before anything is averaged.

Rule 1: the pass compares digests as well; checking here saves hours of work on a mismatch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..checkpoints.safetensors import StoredTensor
from ..errors import Issue, MismatchError
from ..format.values import first_difference, rounded, value_text
from ..kinds.kind import AVERAGED, FIXED, QUANTISED, WEIGHT, Role
from ..workers import Scratch
from .kept_sum.reader import Source, copied_tensor
from .kind_errors import fixed_advice, not_averaged, other_constant
from .plan import Plan
from .shared_content import as_read
from .step import Rule, Step


def require_identical(plan: Plan, sources: Sequence[Source]) -> None:
    """Raise MismatchError for codes, factors and constants that are not the same in all sources."""
    sources = as_read(sources)
    seen: set[tuple[object, ...]] = set()
    issues = []
    for step in plan.kept:
        if step.rule is Rule.IDENTICAL and step.kind.role not in AVERAGED:
            for issue in _issues(step, sources):
                # one tensor of each kind and file is enough for a message
                role = Role.CODE if step.kind.role in QUANTISED else step.kind.role
                key = (issue.path, role, step.kind.what)
                if key not in seen:
                    issues.append(issue)
                seen.add(key)
    issues += _unlike(plan, sources)
    if issues:
        raise MismatchError.collected(issues)


def _unlike(plan: Plan, sources: Sequence[Source]) -> Iterator[Issue]:
    """The constants in a narrower dtype that are not the kept ones, rounded."""
    kept = {step.name: step for step in plan.kept}
    for step in plan.steps:
        if step.out is not None or step.kind is WEIGHT:
            continue
        first = sources[kept[step.name].sources[0]]
        mine = copied_tensor(first, step.name)
        for source, dtype in zip(step.sources, step.dtypes, strict=True):
            other = sources[source]
            theirs = copied_tensor(other, step.name)
            if rounded(memoryview(mine.read()), mine.tensor.dtype, dtype) != bytes(theirs.read()):
                what = (
                    f"is a {step.kind.text}, and not that of {first.label} rounded to {dtype.value}"
                )
                yield Issue(what, other.label, step.name, fixed_advice(step.name, step.kind, dtype))


def _issues(step: Step, sources: Sequence[Source]) -> Iterator[Issue]:
    first, *rest = (sources[source] for source in step.sources)
    mine = copied_tensor(first, step.name)
    for other in rest:
        shown = None if other is first else _different(mine, copied_tensor(other, step.name))
        if shown is None:
            continue
        if step.kind.role not in FIXED:
            yield not_averaged(first.label, step.name, step.kind)
            return
        dtype = mine.tensor.dtype
        yield other_constant(other.label, step.name, step.kind, dtype, shown, first.label)


def _different(mine: StoredTensor, theirs: StoredTensor) -> tuple[str, str] | None:
    """The first value of theirs that differs, and mine; None if all bytes are equal."""
    dtype = mine.tensor.dtype
    pieces = zip(mine.pieces(Scratch()), theirs.pieces(Scratch()), strict=True)
    for (_, one), (_, other) in pieces:
        place = first_difference(one, other)
        if place is not None:
            element = place * 8 // dtype.bits
            return value_text(other, dtype, element), value_text(one, dtype, element)
    return None
