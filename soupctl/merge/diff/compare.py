"""Comparing two checkpoints tensor by tensor, in one pass over both.

Rule 1: nothing that can be read is refused: what does not fit is part of the answer.
Rule 2: checkpoints are equal if `soupctl hash` prints the same digest for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod
from pathlib import Path

from ...checkpoints.read_progress import with_read_progress
from ...engines.moments import Moments, joined
from ...frozen import frozen
from ...kinds.classify import Kinds, classify, kind_of
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..aligned import align
from ..chunks import ranges
from ..facts import facts_of_source
from ..ingredients import ComponentInputs
from ..kept_sum.reader import Source
from .differences import CheckpointDifference, ReshapedTensor, TensorDifference
from .opened import open_to_compare
from .values import ValueReader

CHUNK = 1 << 16
"""Elements that are compared at a time; their float64s fit a core's cache."""
LARGEST_TRANSPOSED = 1 << 25
"""Most bytes of a tensor that is compared with another one's transpose."""
NEAR = 1e-9
"""How far the norms of a tensor and its transpose may be apart, relative to either."""


@frozen
class DiffRequest:
    """Two checkpoints to compare, and what of them."""

    one: str | Path
    other: str | Path
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    component: str | None = None
    variant: str | None = None


def compare_checkpoints(
    request: DiffRequest, execution: ExecutionOptions | None = None
) -> tuple[CheckpointDifference, ...]:
    """The differences of each component; raises the errors of `open_to_compare`."""
    execution = execution or ExecutionOptions()
    with open_to_compare((request.one, request.other), request) as (components, selected):
        return tuple(_compare_component(selected, component, execution) for component in components)


def _compare_component(
    selected: Callable[[str], bool], component: ComponentInputs, execution: ExecutionOptions
) -> CheckpointDifference:
    alignment = align(component.checkpoints, selected, is_partial=True)
    one, other = alignment.sources
    names = [[n for n in source.tensors if selected(n)] for source in alignment.sources]
    shared = sorted({*names[0]} & {*names[1]})
    comparison = _Comparison((one, other))
    same: list[str] = []
    reshaped: list[str] = []
    for name in shared:
        has_one_shape = one.tensors[name].shape == other.tensors[name].shape
        (same if has_one_shape else reshaped).append(name)

    def compare(task: Sequence[str], advance: Advance) -> list[TensorDifference]:
        return [comparison.compare(name, advance) for name in task]

    def size(name: str) -> int:
        return one.tensors[name].size + other.tensors[name].size

    reading = with_read_progress(execution, sum(map(size, same)))
    tensors = chain.from_iterable(run_in_order(compare, tasks(same, size), reading))
    return CheckpointDifference(
        name=component.name,
        labels=(one.label, other.label),
        tensors=tuple(tensors),
        only=(
            tuple(sorted({*names[0]} - {*names[1]})),
            tuple(sorted({*names[1]} - {*names[0]})),
        ),
        reshaped=tuple(map(comparison.reshaped, reshaped)),
        renamed=alignment.renamed[1],
    )


class _Comparison:
    """Compares tensors; all threads share one, and nothing in it changes while they run."""

    def __init__(self, sources: tuple[Source, Source]) -> None:
        self._sources = sources
        self._kinds: tuple[Kinds, ...] = tuple(
            classify(source.tensors, facts_of_source(source)) for source in sources
        )
        self._scratch = Scratch()

    def compare(self, name: str, advance: Advance) -> TensorDifference:
        """The difference of a tensor that has one shape in both."""
        one, other = self._readers(name)
        count = prod(one.tensor.shape)
        same_dtype = one.tensor.dtype is other.tensor.dtype
        is_equal, parts = same_dtype, []
        size = min(count, CHUNK)
        buffers = self._scratch.parts(one.bytes_of(size), other.bytes_of(size))
        for start, stop in ranges(count, CHUNK):
            raws = one.read(start, stop, buffers[0]), other.read(start, stop, buffers[1])
            same = same_dtype and _same_bytes(*raws)
            is_equal = is_equal and same
            parts.append(_moments(one, other, raws, start, stop - start, same=same))
            advance(sum(map(len, raws)))
        found = joined(parts)
        is_suspect = not is_equal and _may_be_transposed(found)
        return TensorDifference(
            name=name,
            dtypes=(one.tensor.dtype, other.tensor.dtype),
            is_equal=is_equal,
            moments=found,
            zeros_in=_zeros_in(found),
            is_transposed=is_suspect and _are_transposed(one, other),
        )

    def reshaped(self, name: str) -> ReshapedTensor:
        """The difference of a tensor that has two shapes."""
        one, other = self._readers(name)
        shapes = one.tensor.shape, other.tensor.shape
        is_transposed = shapes[0] == shapes[1][::-1] and _are_transposed(one, other)
        return ReshapedTensor(name, shapes, is_transposed)

    def _readers(self, name: str) -> tuple[ValueReader, ValueReader]:
        one, other = (
            ValueReader(source, name, kind_of(kinds, name))
            for source, kinds in zip(self._sources, self._kinds, strict=True)
        )
        return one, other


def _same_bytes(one: memoryview, other: memoryview) -> bool:
    import numpy as np

    return bool(np.array_equal(np.frombuffer(one, np.uint8), np.frombuffer(other, np.uint8)))


def _moments(
    one: ValueReader,
    other: ValueReader,
    raws: tuple[memoryview, memoryview],
    start: int,
    count: int,
    *,
    same: bool,
) -> Moments:
    """The sums of one chunk, of which `same` says whether its bytes are the same in both."""
    from ...engines.comparison import moments

    if not (one.is_float and other.is_float):
        return Moments(count, 0 if same else _differing(raws, count))
    (first, one_dtype), (second, other_dtype) = (
        each.floats(raw, start) for each, raw in zip((one, other), raws, strict=True)
    )
    return moments(first, second, (one_dtype, other_dtype))


def _differing(raws: tuple[memoryview, memoryview], count: int) -> int:
    """The number of elements whose bytes differ; all of them if their widths do.

    Elements that share a byte count as differing together.
    """
    import numpy as np

    one, other = (np.frombuffer(each, np.uint8) for each in raws)
    if len(one) != len(other):
        return count
    differs = one != other
    if len(one) < count:
        return int(differs.sum()) * count // len(one)
    return int(differs.reshape(count, -1).any(axis=1).sum())


def _zeros_in(found: Moments) -> int | None:
    if found.nonfinite or bool(found.one) == bool(found.other):
        return None
    return 0 if found.other else 1


def _may_be_transposed(found: Moments) -> bool:
    return found.differing > 0 and abs(found.one - found.other) <= NEAR * found.one


def _are_transposed(one: ValueReader, other: ValueReader) -> bool:
    """Whether one matrix is the other with rows and columns exchanged, and is not too large."""
    shapes = one.tensor.shape, other.tensor.shape
    if len(shapes[0]) != 2 or shapes[0] != shapes[1][::-1]:
        return False
    if not (one.is_float and other.is_float):
        return False
    if max(one.tensor.size, other.tensor.size) > LARGEST_TRANSPOSED:
        return False
    first, second = (each.whole().reshape(each.tensor.shape) for each in (one, other))
    return bool((first == second.T).all())
