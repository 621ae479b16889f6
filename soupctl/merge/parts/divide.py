"""Dividing a plan: each part has whole tensors, next to each other by name, of about equal bytes.

Rule 1: a division depends on the plan and the number of parts alone, so that processes that never
meet agree on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby
from math import prod
from operator import attrgetter
from typing import Protocol

from ...errors import UsageError
from ...frozen import frozen
from ...pattern import pattern
from ..kept_sum.reader import Source
from ..plan import Plan
from ..step import Step

MOST_PARTS = 10_000
PART_BYTES = 1 << 30
"""Bytes read and written for a part at most, if there are not too many."""
PARTS_A_WORKER = 4
"""Parts for each worker at least, so that none waits long for the last one."""
WRITTEN = pattern(r"([0-9]{1,6})/([0-9]{1,6})")


@frozen
class PartOfPlan:
    """Which part of a plan: the first of four is 1 of 4."""

    number: int
    count: int

    def __post_init__(self) -> None:
        """Raise UsageError for a part that does not exist, and for too many parts."""
        if not 1 <= self.count <= MOST_PARTS:
            what = f"a plan has 1 to {MOST_PARTS} parts, not {self.count}"
            raise UsageError(what, advice="such as --part 1/4")
        if not 1 <= self.number <= self.count:
            what = f"--part {self.number}/{self.count} does not exist"
            raise UsageError(what, advice=f"parts are 1/{self.count} to {self.count}/{self.count}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_part(text: str) -> PartOfPlan:
    """The part in a text such as `2/16`; UsageError for any other text."""
    found = WRITTEN.fullmatch(text) if text.isascii() else None
    if found is None:
        raise UsageError(f"--part {text[:40]!r} is not a part", advice="such as --part 1/4")
    return PartOfPlan(int(found[1]), int(found[2]))


class Divisible(Protocol):
    """A plan with its sources: a component of a job, or an order to the executor."""

    @property
    def plan(self) -> Plan:
        """The plan of all parts."""

    @property
    def sources(self) -> Sequence[Source]:
        """Its sources, in the order of the plan."""


def divided(components: Sequence[Divisible], count: int) -> list[list[Plan]]:
    """For each of `count` parts, the plan of each component with the steps of that part.

    A part has at most its share of the bytes and one tensor more; of more parts than tensors, some
    are empty.
    """
    found = _assigned(components, count)
    return [_plans(components, found.get(number, {})) for number in range(1, count + 1)]


def number_of_parts(components: Sequence[Divisible], workers: int) -> int:
    """The parts that workers make of plans: no more than tensors, and at most `MOST_PARTS`."""
    size = sum(sum(bytes_of(each.plan, each.sources)) for each in components)
    tensors = sum(len(each.plan.written) for each in components)
    wanted = max(workers * PARTS_A_WORKER, -(-size // PART_BYTES))
    return max(1, min(wanted, tensors, MOST_PARTS))


def part_of(components: Sequence[Divisible], part: PartOfPlan) -> list[Plan]:
    """The plan of each component with the steps of one part."""
    return _plans(components, _assigned(components, part.count).get(part.number, {}))


def _assigned(components: Sequence[Divisible], count: int) -> dict[int, dict[int, list[Step]]]:
    """The steps of each part that has any, by the index of the component."""
    groups = [[*_sized(each.plan.steps, each.sources)] for each in components]
    total = sum(size for _, size in chain.from_iterable(groups))
    start = 0
    found: dict[int, dict[int, list[Step]]] = {}
    for place, every in enumerate(groups):
        for steps, size in every:
            # the part that the middle of the tensor lies in
            number = 1 + (2 * start + size) * count // (2 * total)
            found.setdefault(number, {}).setdefault(place, []).extend(steps)
            start += size
    return found


def _plans(components: Sequence[Divisible], steps: Mapping[int, Sequence[Step]]) -> list[Plan]:
    return [
        replace(component.plan, steps=tuple(steps.get(place, ())))
        for place, component in enumerate(components)
    ]


def bytes_of(plan: Plan, sources: Sequence[Source]) -> tuple[int, int]:
    """The bytes that the steps of a plan read and write."""
    read = sum(_read(step, sources) for step in plan.steps)
    return read, sum(map(_written, plan.kept))


def _sized(steps: Sequence[Step], sources: Sequence[Source]) -> Iterator[tuple[list[Step], int]]:
    for _, group in groupby(steps, attrgetter("name")):
        every = [*group]
        # an empty tensor takes time as well
        yield every, 1 + sum(_read(step, sources) + _written(step) for step in every)


def _read(step: Step, sources: Sequence[Source]) -> int:
    return sum(sources[place].tensors[step.name].size for place in step.sources)


def _written(step: Step) -> int:
    return 0 if step.out is None else prod(step.shape) * step.out.bits // 8
