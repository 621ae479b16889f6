"""What an exact sum is added up from: tensors of checkpoints, and the planes of sums kept before.

Rule 1: a kept sum stands for itself times one whole number; its planes share that weight.
Rule 2: sparse planes are spread out chunk by chunk, never whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

from ...checkpoints.checkpoint import Checkpoint
from ...checkpoints.digest import Row, tensor_hasher
from ...engines.contract import Blend, Combine, Engine, Expand, NonFinite, OutOfRange
from ...engines.planes import Sparse
from ...errors import LedgerError, LimitError, SoupError
from ...format.dtypes import DType, Kind
from ...format.header import Tensor
from ..executor import TASK_BYTES, chunk_elements
from ..findings import nonfinite, out_of_range
from ..plan import Plan, Step
from .format import REMOVE, summed_tensors

PLANE_BYTES = DType.F64.bits // 8


class SumReader:
    """A sum open for reading: under each name of the soup's tensors, what holds its sum."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raise LedgerError for a checkpoint that is no sum."""
        self.checkpoint = checkpoint
        try:
            self.parts = summed_tensors(checkpoint.tensors.values())
        except ValueError as error:
            problem = f"is no sound sum: {error}"
            raise LedgerError(problem, path=checkpoint.shown, advice=REMOVE) from None
        self.tensors: Mapping[str, Tensor] = {
            name: Tensor(name, parts[0].dtype, parts[0].shape, 0, parts[0].size)
            for name, parts in self.parts.items()
        }

    @property
    def shown(self) -> str:
        """What messages call it."""
        return self.checkpoint.shown


Source = Checkpoint | SumReader


def digest_of(source: Source) -> str | None:
    """The content digest of a source that was digested since it was opened."""
    return source.checkpoint.digest if isinstance(source, SumReader) else source.digest


def copied_part(source: Source, name: str) -> tuple[Tensor, memoryview]:
    """The tensor that holds one that is not averaged, and its bytes."""
    if isinstance(source, SumReader):
        (part,) = source.parts[name]
        return part, source.checkpoint.view(part.name)
    return source.tensors[name], source.view(name)


@dataclass(frozen=True, slots=True)
class _Dense:
    """Elements one after the other."""

    source: int
    weight: int
    tensor: Tensor
    view: memoryview


@dataclass(frozen=True, slots=True)
class _Scattered:
    """A plane of which only what is not zero is kept, and the two tensors that keep it."""

    source: int
    weight: int
    plane: Sparse
    tensors: tuple[tuple[Tensor, memoryview], ...]


@dataclass(frozen=True, slots=True)
class Chunks:
    """Ranges of elements, in order."""

    count: int
    """All elements."""
    size: int
    """The most elements in one of them."""

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return pairwise((*range(0, self.count, self.size or 1), self.count))


class Buffer:
    """Room for one chunk after the other."""

    def __init__(self, count: int, width: int) -> None:
        self._width = width
        self._bytes = memoryview(bytearray(count * width))

    def of(self, count: int) -> memoryview:
        """Room for `count` elements."""
        return self._bytes[: count * self._width]


class Summands:
    """What the sum of one tensor is added up from, in chunks."""

    def __init__(self, step: Step, plan: Plan, sources: Sequence[Source], engine: Engine) -> None:
        """Raise LedgerError for a kept sum that is not sound."""
        self._step = step
        self._plan = plan
        self._sources = sources
        self._engine = engine
        self._count = prod(step.shape)
        self._dense: list[_Dense] = []
        self._scattered: list[_Scattered] = []
        for source in step.sources:
            self._take(source, plan.weights[source])
        self._hashers = {
            place: tensor_hasher()
            for place, each in enumerate(self._dense)
            if digest_of(sources[each.source]) is None
        }
        self._whole: Expand | None = None
        if not self._scattered:
            self._whole = engine.prepare_sum(self._blend(), [each.view for each in self._dense])

    def _take(self, index: int, weight: int) -> None:
        """Take in one source."""
        source, name = self._sources[index], self._step.name
        if not isinstance(source, SumReader):
            self._dense.append(_Dense(index, weight, source.tensors[name], source.view(name)))
            return
        parts = iter([(part, source.checkpoint.view(part.name)) for part in source.parts[name]])
        for part, view in parts:
            if part.dtype.kind is Kind.FLOAT:
                self._dense.append(_Dense(index, weight, part, view))
                continue
            values = next(parts)
            try:
                plane = Sparse(view, values[1], part.dtype, self._count)
            except ValueError as error:
                problem = f"is no sound sum: {error}"
                raise LedgerError(problem, path=source.shown, tensor=name, advice=REMOVE) from None
            self._scattered.append(_Scattered(index, weight, plane, ((part, view), values)))

    @property
    def _all(self) -> list[_Dense | _Scattered]:
        """All summands, in the order of the engine's sources."""
        return [*self._dense, *self._scattered]

    def _blend(self) -> Blend:
        scattered = len(self._scattered)
        return Blend(
            (*(each.tensor.dtype for each in self._dense), *(DType.F64,) * scattered),
            tuple(each.weight for each in self._all),
            DType.F64,
            divisor=1,
        )

    @property
    def width(self) -> int:
        """Bytes of one element in all dense summands."""
        return sum(each.tensor.dtype.bits // 8 for each in self._dense)

    def chunks(self, asked: int | None, out_width: int) -> Chunks:
        """Ranges of elements, in order, that fit the cache with a result of `out_width` bytes."""
        size = asked or chunk_elements(self.width + PLANE_BYTES + out_width)
        return Chunks(self._count, min(size, self._count))

    def expand(self, start: int, stop: int, first: memoryview) -> list[memoryview]:
        """The exact sums of elements `start` to `stop` as planes of float64, into `first` and more.

        Raises InputError for NaN or infinity, LimitError for a sum that float64 does not reach.
        """
        try:
            if self._whole is not None:
                return self._whole(start, stop, first)
            rows = [self._bytes(each, start, stop) for each in self._dense]
            rows += [each.plane.dense(start, stop) for each in self._scattered]
            return self._engine.prepare_sum(self._blend(), rows)(0, stop - start, first)
        except NonFinite as found:
            element = found.element + (0 if self._whole is not None else start)
            raise self._nonfinite(found.source, element) from None
        except OutOfRange:
            raise LimitError(
                "its sum is beyond the range of F64",
                tensor=self._step.name,
                advice="without a kept sum, the soup is computed from its ingredients",
            ) from None

    def rounding(self) -> Combine | None:
        """What makes the soup's elements in one pass; None where planes are scattered.

        It raises InputError for NaN or infinity, and MismatchError for a mean that is out of range.
        """
        if self._scattered:
            return None
        assert self._step.out is not None
        blend = replace(self._blend(), out=self._step.out, divisor=self._plan.total)
        combine = self._engine.prepare(blend, [each.view for each in self._dense])

        def refusing(start: int, stop: int, out: memoryview) -> None:
            try:
                combine(start, stop, out)
            except NonFinite as found:
                raise self._nonfinite(found.source, found.element) from None
            except OutOfRange as found:
                raise out_of_range(self._step, found.element) from None

        return refusing

    def _nonfinite(self, row: int, element: int) -> SoupError:
        """The refusal of NaN or infinity: in an ingredient, or in a sum, which never has any."""
        owner = self._sources[self._all[row].source]
        if isinstance(owner, SumReader):
            problem = "is no sound sum: it holds NaN or infinity"
            tensor = self._step.name
            return LedgerError(problem, path=owner.shown, tensor=tensor, advice=REMOVE)
        return nonfinite(owner.shown, self._step.name, element)

    def _bytes(self, dense: _Dense, start: int, stop: int) -> memoryview:
        width = dense.tensor.dtype.bits // 8
        return dense.view[start * width : stop * width]

    def digest(self, start: int, stop: int) -> None:
        """Take the bytes of these elements into the digests; chunks come in order, and all."""
        for place, hasher in self._hashers.items():
            hasher.update(self._bytes(self._dense[place], start, stop))

    def rows(self) -> list[tuple[int, list[Row]]]:
        """By source, what was read for its root; nothing of one that is known by digest."""
        found = [
            (self._dense[place].source, [_row(self._dense[place].tensor, hasher.hexdigest())])
            for place, hasher in self._hashers.items()
        ]
        found += [
            (each.source, [_row(tensor, _digest(view)) for tensor, view in each.tensors])
            for each in self._scattered
        ]
        return found


def _row(tensor: Tensor, digest: str) -> Row:
    return tensor.name, tensor.dtype.value, tensor.shape, digest


def _digest(view: memoryview) -> str:
    hasher = tensor_hasher()
    for start in range(0, len(view), TASK_BYTES):
        hasher.update(view[start : start + TASK_BYTES])
    return str(hasher.hexdigest())
