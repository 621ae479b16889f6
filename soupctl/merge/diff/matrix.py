"""Comparing the deltas of several checkpoints from one base: cosines and conflicts.

Rule 1: a tensor counts if all checkpoints have it in one shape as floating-point numbers; the
others are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ...checkpoints.read_progress import with_read_progress
from ...engines.moments import cosine, relative_norm, total
from ...errors import UsageError
from ...format.dtypes import Kind
from ...frozen import frozen
from ...kinds.classify import classify, kind_of
from ...workers import Advance, ExecutionOptions, Scratch, run_in_order, tasks
from ..aligned import align
from ..chunks import ranges
from ..facts import facts_of_source
from ..ingredients import ComponentInputs
from .opened import open_to_compare
from .values import ValueReader

if TYPE_CHECKING:
    from ...engines.comparison import DeltaProducts

CHUNK = 1 << 15
"""Elements of each checkpoint that are compared at a time."""
MOST = 64
"""Most checkpoints in one matrix."""


@frozen
class MatrixRequest:
    """Checkpoints whose deltas from a base are compared, and what of them."""

    base: str | Path
    others: tuple[str | Path, ...]
    keys: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    component: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for fewer than two checkpoints, or more than a matrix has."""
        if not 2 <= len(self.others) <= MOST:
            raise UsageError(f"a matrix is of 2 to {MOST} checkpoints, not {len(self.others)}")


@frozen
class DeltaMatrix:
    """One component of several checkpoints, each minus that of the base."""

    name: str
    """Folder name within a pipeline; empty for the only checkpoint."""
    base: str
    labels: tuple[str, ...]
    """The names of the checkpoints in messages."""
    tensors: int
    """The number of tensors that are compared."""
    left_out: tuple[str, ...]
    """The names of tensors that cannot be compared."""
    products: tuple[tuple[float, ...], ...]
    """The sum of the products of each two deltas."""
    base_square: float
    """The sum of the squares of the base."""
    conflicts: int
    """Elements that some deltas raise and others lower."""
    changed: int
    """Elements that at least two deltas change."""
    nonfinite: int
    """Elements that are NaN or infinite somewhere, and count for nothing else."""

    @property
    def changes(self) -> tuple[float | None, ...]:
        """The norm of each delta over that of the base; None if the base is all zeros."""
        squares = (self.products[place][place] for place in range(len(self.labels)))
        return tuple(relative_norm(each, self.base_square) for each in squares)

    @property
    def cosines(self) -> tuple[tuple[float | None, ...], ...]:
        """The cosine of each two deltas; None if either is all zeros."""
        squares = [self.products[place][place] for place in range(len(self.labels))]
        return tuple(
            tuple(cosine(*each) for each in zip(row, [square] * len(row), squares, strict=True))
            for row, square in zip(self.products, squares, strict=True)
        )

    @property
    def conflict_ratio(self) -> float | None:
        """The share of elements on whose sign deltas disagree; None if no two change one."""
        return self.conflicts / self.changed if self.changed else None


def compare_deltas(
    request: MatrixRequest, execution: ExecutionOptions | None = None
) -> tuple[DeltaMatrix, ...]:
    """The deltas of each component, compared; all checkpoints are read once.

    Raises the errors of `open_to_compare`.
    """
    execution = execution or ExecutionOptions()
    with open_to_compare((request.base, *request.others), request) as (components, selected):
        return tuple(_component(selected, component, execution) for component in components)


def _component(
    selected: Callable[[str], bool], component: ComponentInputs, execution: ExecutionOptions
) -> DeltaMatrix:
    sources = align(component.checkpoints, selected, is_partial=True).sources
    kinds = [classify(source.tensors, facts_of_source(source)) for source in sources]
    scratch = Scratch()

    def readers(name: str) -> list[ValueReader]:
        pairs = zip(sources, kinds, strict=True)
        return [ValueReader(source, name, kind_of(kind, name)) for source, kind in pairs]

    def is_shared(name: str) -> bool:
        if not all(name in source.tensors for source in sources):
            return False
        tensors = [source.tensors[name] for source in sources]
        one_shape = len({tensor.shape for tensor in tensors}) == 1
        return one_shape and all(tensor.dtype.kind is Kind.FLOAT for tensor in tensors)

    def compare(task: Sequence[str], advance: Advance) -> list[DeltaProducts]:
        return list(
            chain.from_iterable(_products(readers(name), scratch, advance) for name in task)
        )

    names = sorted({name for source in sources for name in source.tensors if selected(name)})
    shared: list[str] = []
    others: list[str] = []
    for name in names:
        (shared if is_shared(name) else others).append(name)

    def size(name: str) -> int:
        return sum(source.tensors[name].size for source in sources)

    reading = with_read_progress(execution, sum(map(size, shared)))
    found = list(chain.from_iterable(run_in_order(compare, tasks(shared, size), reading)))
    deltas = range(len(sources) - 1)
    return DeltaMatrix(
        name=component.name,
        base=sources[0].label,
        labels=tuple(source.label for source in sources[1:]),
        tensors=len(shared),
        left_out=tuple(others),
        products=tuple(
            tuple(total(float(each.products[row, column]) for each in found) for column in deltas)
            for row in deltas
        ),
        base_square=total(each.base for each in found),
        conflicts=sum(each.conflicts for each in found),
        changed=sum(each.changed for each in found),
        nonfinite=sum(each.nonfinite for each in found),
    )


def _products(
    readers: Sequence[ValueReader], scratch: Scratch, advance: Advance
) -> list[DeltaProducts]:
    """The products of each chunk of one tensor."""
    import numpy as np

    from ...engines.comparison import delta_products

    count = prod(readers[0].tensor.shape)
    size = min(count, CHUNK)
    buffers = scratch.parts(*(reader.bytes_of(size) for reader in readers))
    found = []
    for start, stop in ranges(count, CHUNK):
        raws = [
            reader.read(start, stop, buffer)
            for reader, buffer in zip(readers, buffers, strict=True)
        ]
        base, *others = (
            reader.values(raw, start) for reader, raw in zip(readers, raws, strict=True)
        )
        found.append(delta_products(base, np.stack(others)))
        advance(sum(map(len, raws)))
    return found
