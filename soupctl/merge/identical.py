"""Compares what must be the same in all ingredients before anything is averaged.

Rule 1: the pass compares digests as well; what is refused here is refused without hours of work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import Issue, MismatchError
from ..format.values import first_difference, value_text
from ..kinds.kind import AVERAGED, FIXED
from .kept_sum.reader import Source, copied_tensor
from .kind_errors import not_averaged, other_constant
from .plan import Plan, Rule, Step


def require_identical(plan: Plan, sources: Sequence[Source]) -> None:
    """Raise MismatchError for codes, factors and constants that are not the same in all sources."""
    seen: set[tuple[object, ...]] = set()
    issues = []
    for step in plan.kept:
        if step.rule is Rule.IDENTICAL and step.kind.role not in AVERAGED:
            for issue in _issues(step, sources):
                # one tensor of each kind and file says it all
                key = (issue.path, step.kind.role, step.kind.what)
                if key not in seen:
                    issues.append(issue)
                seen.add(key)
    if issues:
        raise MismatchError.collected(issues)


def _issues(step: Step, sources: Sequence[Source]) -> Iterator[Issue]:
    first, *rest = (sources[source] for source in step.sources)
    mine, view = copied_tensor(first, step.name)
    for other in rest:
        _, theirs = copied_tensor(other, step.name)
        place = None if other is first else first_difference(view, theirs)
        if place is None:
            continue
        if step.kind.role not in FIXED:
            yield not_averaged(first.label, step.name, step.kind)
            return
        element = place * 8 // mine.dtype.bits
        shown = (
            value_text(theirs, mine.dtype, element),
            value_text(view, mine.dtype, element),
        )
        yield other_constant(other.label, step.name, step.kind, mine.dtype, shown, first.label)
