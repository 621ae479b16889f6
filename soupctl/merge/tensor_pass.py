"""Make one tensor for every order that has it: read, combine or copy, write, digest.

Rule 1: a chunk is combined, written and digested while it is in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ..checkpoints.digest import Row, tensor_hasher
from ..engines.contract import Engine
from ..format.header import Tensor
from ..workers import Advance
from .chunks import PLANE_BYTES, chunk_elements, pieces, ranges
from .kept_sum.format import COPIED
from .kept_sum.reader import Source, Terms, copied_tensor, recorded_digest, terms_of
from .kept_sum.writer import PlaneWriter
from .order import Order
from .plan import Rule, Step
from .tensor_errors import different
from .weighted_sum import WeightedSum


@dataclass(frozen=True, slots=True)
class Use:
    """A step of one order, and its sources among those of all orders."""

    order: int
    step: Step
    sources: tuple[int, ...]


@dataclass(slots=True)
class TensorResult:
    """Rows for the roots of everything that was read and written of one tensor."""

    tensor: str
    sources: list[tuple[int, Row]] = field(default_factory=list)
    soups: list[tuple[int, Row]] = field(default_factory=list)
    sums: list[tuple[int, Row]] = field(default_factory=list)
    differing: list[int] = field(default_factory=list)
    """Orders that took the first ingredient's values though the others have different ones."""


@dataclass(frozen=True, slots=True)
class TensorPass:
    """Makes tensors; all threads share one, and nothing in it changes while they run."""

    orders: Sequence[Order]
    sources: Sequence[Source]
    """Those of all orders, each once."""
    engine: Engine
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""

    def make(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Make the tensor that these uses have in common."""
        if uses[0].step.rule is Rule.AVERAGE:
            return self._average(uses, advance)
        return self._copy(uses, advance)

    def _average(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Combine one tensor chunk by chunk, digesting each chunk while it is in cache."""
        name, count = uses[0].step.name, prod(uses[0].step.shape)
        terms = {source: terms_of(self.sources[source], name) for source in sources_of(uses)}
        inputs = [
            _Input(source, tensor, view, recorded_digest(self.sources[source]) is None)
            for source, each in terms.items()
            for tensor, view in each.dense
        ]
        means = [self._mean(use, terms) for use in uses]
        plane_width = PLANE_BYTES if any(mean.takes_planes for mean in means) else 0
        width = max(mean.width for mean in means)
        read = sum(each.width for each in inputs)
        chunk = min(count, self.chunk or chunk_elements(read + plane_width + width))
        out, plane = (
            memoryview(bytearray(chunk * width)),
            memoryview(bytearray(chunk * plane_width)),
        )
        moved = read + sum(mean.width for mean in means)
        for start, stop in ranges(count, chunk):
            for mean in means:
                mean.write(start, stop, out, plane)
            for each in inputs:
                each.digest(start, stop)
            advance((stop - start) * moved)
        result = TensorResult(name)
        for each in inputs:
            result.sources += each.rows()
        for source, term in terms.items():
            # sparse planes are short, and are digested whole
            stored = [each for plane in term.sparse for each in plane.stored]
            result.sources += [(source, _row(tensor, _digest(view))) for tensor, view in stored]
        for use, mean in zip(uses, means, strict=True):
            result.soups.append((use.order, mean.row()))
            result.sums += [(use.order, row) for row in mean.sum_rows()]
        return result

    def _mean(self, use: Use, terms: Mapping[int, Terms]) -> _Mean:
        order = self.orders[use.order]
        weighted = WeightedSum(
            order.plan,
            use.step,
            self.engine,
            [self.sources[source] for source in use.sources],
            [terms[source] for source in use.sources],
        )
        return _Mean(order, use.step, self.engine, weighted)

    def _copy(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Digest a tensor that is not averaged, and copy it to the soups that have it."""
        name = uses[0].step.name
        result = TensorResult(name)
        stored = {s: copied_tensor(self.sources[s], name) for s in sources_of(uses)}
        digests = {s: _digest(view, advance) for s, (_, view) in stored.items()}
        result.sources += [(s, _row(tensor, digests[s])) for s, (tensor, _) in stored.items()]
        for use in uses:
            if use.step.out is None:
                continue
            first, *rest = use.sources
            others = [source for source in rest if digests[source] != digests[first]]
            if others and use.step.rule is Rule.IDENTICAL:
                labels = [self.sources[source].label for source in others]
                raise different(use.step, self.sources[first].label, labels)
            result.differing += [use.order] if others else []
            order = self.orders[use.order]
            for offset, piece in pieces(stored[first][1]):
                order.write(name, offset, piece)
                if order.sum is not None:
                    order.sum.write(COPIED + name, offset, piece)
                advance(len(piece))
            row = (name, use.step.out.value, use.step.shape, digests[first])
            result.soups.append((use.order, row))
            if order.sum is not None:
                result.sums.append((use.order, (COPIED + name, *row[1:])))
        return result


class _Input:
    """A tensor of one source that is combined; its bytes are digested if they are not yet known."""

    def __init__(self, source: int, tensor: Tensor, view: memoryview, is_digested: bool) -> None:
        self.width = tensor.dtype.bits // 8
        self._source = source
        self._tensor = tensor
        self._view = view
        self._hasher = tensor_hasher() if is_digested else None

    def digest(self, start: int, stop: int) -> None:
        """Digest these elements; chunks come in order, and all."""
        if self._hasher is not None:
            self._hasher.update(self._view[start * self.width : stop * self.width])

    def rows(self) -> list[tuple[int, Row]]:
        """The digested rows, for the root of each source."""
        if self._hasher is None:
            return []
        return [(self._source, _row(self._tensor, self._hasher.hexdigest()))]


class _Mean:
    """The mean of one tensor for one order: computed, written and digested chunk by chunk."""

    def __init__(self, order: Order, step: Step, engine: Engine, weighted: WeightedSum) -> None:
        assert step.out is not None
        self.width = step.out.bits // 8
        self.takes_planes = order.sum is not None or not weighted.is_dense
        """Whether the exact sum is computed first, and the mean from that."""
        self._step, self._out = step, step.out
        self._write = order.write
        self._weighted = weighted
        self._hasher = tensor_hasher()
        self._sum = None if order.sum is None else PlaneWriter(step, order.sum, engine)
        if self.takes_planes:
            self._planes = weighted.prepare_planes()
        else:
            self._combine = weighted.prepare_mean()

    def write(self, start: int, stop: int, out: memoryview, plane: memoryview) -> None:
        """Make elements `start` to `stop`; `out` has room for the mean, `plane` for a plane."""
        out = out[: (stop - start) * self.width]
        planes: list[memoryview] = []
        if self.takes_planes:
            first = plane[: (stop - start) * PLANE_BYTES]
            planes = [first, *self._planes(start, stop, first)]
            self._weighted.round(planes, start, out)
        else:
            self._combine(start, stop, out)
        self._write(self._step.name, start * self.width, out)
        self._hasher.update(out)
        if self._sum is not None:
            self._sum.write(start, planes)

    def row(self) -> Row:
        """The mean, for the root of the soup."""
        step = self._step
        return step.name, self._out.value, step.shape, self._hasher.hexdigest()

    def sum_rows(self) -> list[Row]:
        """The tensors of the sum, for its root; none if it is not kept."""
        return [] if self._sum is None else self._sum.rows()


def sources_of(uses: Sequence[Use]) -> dict[int, None]:
    """The sources of all uses, each once, in order."""
    return dict.fromkeys(source for use in uses for source in use.sources)


def _row(tensor: Tensor, digest: str) -> Row:
    return tensor.name, tensor.dtype.value, tensor.shape, digest


def _digest(view: memoryview, advance: Advance | None = None) -> str:
    hasher = tensor_hasher()
    for _, piece in pieces(view):
        hasher.update(piece)
        if advance is not None:
            advance(len(piece))
    return str(hasher.hexdigest())
