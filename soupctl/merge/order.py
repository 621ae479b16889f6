"""The executor's input and output as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from fractions import Fraction
from math import prod

from ..checkpoints.digest import Row
from ..checkpoints.read_progress import current_progress
from ..frozen import frozen
from .chunks import Write, WriteSeveral
from .code_error import CodeError
from .kept_sum.format import SumForm
from .kept_sum.reader import Source
from .kept_sum.writer import SumOutput
from .plan import Plan
from .shared_content import distinct


@frozen
class Order:
    """A plan, its sources, and the destinations of the soup and its sum."""

    plan: Plan
    sources: Sequence[Source]
    write: Write
    sum: SumOutput | None = None
    """The destination of the exact sum; None if it is not kept."""
    write_several: WriteSeveral | None = None
    """Writes whole tensors faster than `write` does one after the other; None to use `write`."""

    def write_together(
        self, tensors: Sequence[str], sizes: Sequence[int], data: memoryview
    ) -> None:
        """Write whole tensors, which lie one after the other in `data`."""
        if self.write_several is not None:
            self.write_several(tensors, sizes, data)
            return
        start = 0
        for tensor, size in zip(tensors, sizes, strict=True):
            self.write(tensor, 0, data[start : start + size])
            start += size


@frozen
class Outcome:
    """Content digests of the sources and of everything that was written."""

    ingredients: tuple[str, ...]
    """The digest of a kept sum's own tensors, if one is among the sources."""
    soup: str
    taken: tuple[str, ...]
    """Integer tensors copied from the first ingredient although others differ."""
    sum: str | None = None
    """Content digest of the sum that was written."""
    error: CodeError | None = None
    """The quantisation error; None without quantised weights."""
    misfits: Mapping[str, SumForm] = field(default_factory=dict)
    """The forms of sums that were expected to have others; if any, the sum is not complete."""
    ratios: tuple[Fraction, ...] = ()
    """The ratio of each averaged tensor, by name, where a method has found one."""


@frozen
class PassRows:
    """The rows of everything that a pass over some steps of a plan read and wrote."""

    sources: tuple[tuple[Row, ...], ...]
    """For each source of the plan, its tensors that were read."""
    soup: tuple[Row, ...]
    taken: tuple[str, ...]
    """Integer tensors copied from the first ingredient although others differ."""


def announce(sources: Sequence[Source], *plans: Plan) -> None:
    """Report how much will be read, once for each plan, and made."""
    read = sum(each.size for source in distinct(sources) for each in source.tensors.values())
    written = (entry for plan in plans for entry in plan.written)
    made = sum(prod(shape) * dtype.bits // 8 for _, dtype, shape in written)
    current_progress().expect(len(plans) * read + made)
