"""Making small tensors together: one read of each source, one call of the engine, one write.

Rule 1: together are tensors of equal dtypes and weights, each next to the last by name, that have
no rule of their own, and that fit one chunk.
Rule 2: where anything is wrong, the caller makes them one at a time, so that the error is that of
the first failing tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import prod

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import data_digest
from ..engines.contract import Engine
from ..format.dtypes import DType
from ..frozen import frozen
from ..workers import Advance, Scratch
from .chunks import chunk_elements
from .kept_sum.reader import Source
from .order import Order
from .step import Rule
from .use import Use
from .weighted_sum import WeightedSum


@frozen
class TogetherResult:
    """The digests of everything that was read and written for several tensors."""

    tensors: Sequence[str]
    shapes: Sequence[tuple[int, ...]]
    sources: Sequence[tuple[int, DType, Sequence[str]]]
    """For each source, its dtype, and a digest for each tensor."""
    soups: Sequence[tuple[int, DType, Sequence[str]]]
    """For each order, the dtype of its soup, and a digest for each tensor."""


@frozen
class ReadRow:
    """What was read of a source, as the one term that it has in a weighted sum."""

    source: Source
    dtype: DType
    row: memoryview
    own_weight: int | None = None


@frozen
class SmallTensors:
    """Makes small tensors together; all threads share one."""

    orders: Sequence[Order]
    sources: Sequence[Source]
    engine: Engine
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    scratch: Scratch

    def groups(self, task: Sequence[Sequence[Use]]) -> Iterator[Sequence[Sequence[Use]]]:
        """The tensors of a task in order; those that can be made together are together."""
        group: list[Sequence[Use]] = []
        alike: tuple[object, ...] | None = None
        room = 0
        for uses in task:
            likeness = self._likeness(uses)
            count = prod(uses[0].step.shape)
            if likeness is None or likeness != alike or count > room:
                if group:
                    yield group
                group, alike = [], likeness
                room = 0 if likeness is None else self._most_elements(uses)
            group.append(uses)
            room -= count
        if group:
            yield group

    def _likeness(self, uses: Sequence[Use]) -> tuple[object, ...] | None:
        """A key that all tensors made together share; None for a tensor that is made alone."""
        parts: list[object] = []
        for order, step, sources in uses:
            if (
                self.orders[order].plan.method is not None
                or step.rule is not Rule.AVERAGE
                or step.scales
                or step.is_quantised
                or self.orders[order].sum is not None
            ):
                return None
            for source in sources:
                checkpoint = self.sources[source]
                if (
                    not isinstance(checkpoint, Checkpoint)
                    or checkpoint.tensors[step.name].shape != step.shape
                ):
                    return None
            parts += (order, sources, step.weights, step.out, step.dtypes)
        return tuple(parts)

    def _most_elements(self, uses: Sequence[Use]) -> int:
        """The elements of a chunk."""
        read = sum(map(width, _dtypes(uses).values()))
        return self.chunk or chunk_elements(read + sum(map(width, _outs(uses))))

    def make(self, group: Sequence[Sequence[Use]], advance: Advance) -> TogetherResult:
        """Make the tensors of a group; SoupError of any of them, with nothing written."""
        first = group[0]
        names = [uses[0].step.name for uses in group]
        shapes = [uses[0].step.shape for uses in group]
        places = [0, *accumulate(map(prod, shapes))]
        total = places[-1]
        dtypes, outs = _dtypes(first), _outs(first)
        parts = self.scratch.parts(*(total * width(each) for each in (*dtypes.values(), *outs)))
        terms: dict[int, ReadRow] = {}
        for (source, dtype), part in zip(dtypes.items(), parts, strict=False):
            checkpoint = self.sources[source]
            assert isinstance(checkpoint, Checkpoint)
            checkpoint.read_together(names, part)
            terms[source] = ReadRow(checkpoint, dtype, part)
        # all means are known to be in range before the first is written
        means = parts[len(dtypes) :]
        for use, mean in zip(first, means, strict=True):
            used = [[terms[source]] for source in use.sources]
            weighted = WeightedSum(self.orders[use.order].plan, use.step, self.engine, used)
            weighted.prepare_mean()(0, total, mean)
        for use, out, mean in zip(first, outs, means, strict=True):
            sizes = [(stop - start) * width(out) for start, stop in pairwise(places)]
            self.orders[use.order].write_together(names, sizes, mean)
        advance(sum(map(len, parts)))
        return TogetherResult(
            names,
            shapes,
            [
                (source, each.dtype, _digests(each.row, each.dtype, places))
                for source, each in terms.items()
            ],
            [
                (use.order, out, _digests(mean, out, places))
                for use, out, mean in zip(first, outs, means, strict=True)
            ],
        )


def width(dtype: DType) -> int:
    """Bytes of an element."""
    return dtype.bits // 8


def _dtypes(uses: Sequence[Use]) -> dict[int, DType]:
    """The dtype of a tensor in each source."""
    return {
        source: dtype
        for use in uses
        for source, dtype in zip(use.sources, use.step.dtypes, strict=True)
    }


def _outs(uses: Sequence[Use]) -> list[DType]:
    """The dtype of a tensor in the soup of each order."""
    return [use.step.out for use in uses if use.step.out is not None]


def _digests(data: memoryview, dtype: DType, places: Sequence[int]) -> list[str]:
    """The digest of each tensor, from the elements at which they begin and end."""
    size = width(dtype)
    return [data_digest(data[start * size : stop * size]) for start, stop in pairwise(places)]
