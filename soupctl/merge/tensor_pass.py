"""Make one tensor for every order that has it: read, combine or copy, write, digest.

Rule 1: a chunk is combined, written and digested while it is in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ..checkpoints.digest import Row, tensor_hasher
from ..checkpoints.safetensors import StoredTensor
from ..engines.contract import Engine
from ..errors import OutputError
from ..workers import Advance, Scratch
from .chunks import PLANE_BYTES, chunk_elements, ranges
from .kept_sum.format import COPIED
from .kept_sum.reader import Source, copied_tensor, is_extra_name
from .kept_sum.writer import PlaneWriter
from .order import Order
from .plan import Rule, Step
from .scale_values import read_scales
from .tensor_errors import different
from .terms import Term, allot, bytes_an_element, row_of, terms_of
from .weighted_sum import WeightedSum


@dataclass(frozen=True, slots=True)
class Use:
    """A step of one order, and its sources among those of all orders."""

    order: int
    step: Step
    sources: tuple[int, ...]

    @property
    def counted(self) -> list[int]:
        """Those of the sources that count for the tensor, at least one."""
        return [self.sources[place] for place in self.step.weights.counted]


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
    scale_tensors: frozenset[str]
    """The names of all scales, each of which is read where it is used and where it is digested."""
    scratch: Scratch = field(default_factory=Scratch)
    seen: dict[tuple[int, str], str] = field(default_factory=dict)
    """The digest that a scale of a source had when it was first read."""

    def make(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Make the tensor that these uses have in common."""
        if uses[0].step.rule is Rule.AVERAGE:
            return self._average(uses, advance)
        return self._copy(uses, advance)

    def _average(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Combine one tensor chunk by chunk, digesting each chunk while it is in cache."""
        name, count = uses[0].step.name, prod(uses[0].step.shape)
        terms = {s: terms_of(self.sources[s], name, count) for s in sources_of(uses)}
        every = [term for each in terms.values() for term in each]
        width = max(use.step.out.bits // 8 for use in uses if use.step.out is not None)
        keeps_sum = any(self.orders[use.order].sum is not None for use in uses)
        planes = PLANE_BYTES if keeps_sum else 0
        chunk = min(count, self.chunk or chunk_elements(bytes_an_element(every) + planes + width))
        out, plane = allot(self.scratch, every, chunk, width, planes)
        means = [self._mean(use, terms) for use in uses]
        for start, stop in ranges(count, chunk):
            moved = sum(term.read(start, stop) for term in every)
            for mean in means:
                moved += mean.write(start, stop, out, plane)
            for term in every:
                term.digest()
            advance(moved)
        result = TensorResult(name)
        for source, each in terms.items():
            if not is_extra_name(self.sources[source], name):
                result.sources += [(source, row) for term in each for row in term.digests()]
        for use, mean in zip(uses, means, strict=True):
            result.soups.append((use.order, mean.row()))
            result.sums += [(use.order, row) for row in mean.sum_rows()]
        return result

    def _mean(self, use: Use, terms: Mapping[int, Sequence[Term]]) -> _Mean:
        order = self.orders[use.order]
        used = [terms[source] for source in use.sources]
        scales = read_scales(use.step, [self.sources[source] for source in use.sources])
        for source, scale in zip(use.sources, scales, strict=False):
            if scale is not None:
                hasher = tensor_hasher()
                hasher.update(scale.data)
                self._require_unchanged_scale(source, scale.tensor, str(hasher.hexdigest()))
        weighted = WeightedSum(order.plan, use.step, self.engine, used, scales)
        return _Mean(order, use.step, self.engine, weighted)

    def _copy(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Digest a tensor that is not averaged, and copy it to the soups that have it."""
        name = uses[0].step.name
        result = TensorResult(name)
        digests = {}
        for source in sources_of(uses):
            stored = copied_tensor(self.sources[source], name)
            copied = [u for u in uses if u.step.out is not None and u.counted[0] == source]
            digests[source] = self._copy_one(name, stored, copied, advance)
            if not is_extra_name(self.sources[source], name):
                result.sources.append((source, row_of(stored.tensor, digests[source])))
            if name in self.scale_tensors:
                self._require_unchanged_scale(source, name, digests[source])
        for use in uses:
            if use.step.out is None:
                continue
            first, *rest = use.counted
            others = [source for source in rest if digests[source] != digests[first]]
            if others and use.step.rule is Rule.IDENTICAL:
                labels = [self.sources[source].label for source in others]
                raise different(use.step, self.sources[first].label, labels)
            result.differing += [use.order] if others else []
            row = (name, use.step.out.value, use.step.shape, digests[first])
            result.soups.append((use.order, row))
            if self.orders[use.order].sum is not None:
                result.sums.append((use.order, (COPIED + name, *row[1:])))
        return result

    def _require_unchanged_scale(self, source: int, name: str, digest: str) -> None:
        """Raise OutputError if a scale is not what it was when it was read before."""
        if self.seen.setdefault((source, name), digest) != digest:
            what = "an input was changed while it was read"
            raise OutputError(what, path=self.sources[source].label, tensor=name)

    def _copy_one(
        self, name: str, stored: StoredTensor, uses: Sequence[Use], advance: Advance
    ) -> str:
        """Copy a tensor of one source to the soups of `uses`; its digest."""
        hasher = tensor_hasher()
        for offset, piece in stored.pieces(self.scratch):
            hasher.update(piece)
            for order in (self.orders[use.order] for use in uses):
                order.write(name, offset, piece)
                if order.sum is not None:
                    order.sum.write(COPIED + name, offset, piece)
            advance(len(piece) * (1 + len(uses)))
        return str(hasher.hexdigest())


class _Mean:
    """The mean of one tensor for one order: computed, written and digested chunk by chunk."""

    def __init__(self, order: Order, step: Step, engine: Engine, weighted: WeightedSum) -> None:
        assert step.out is not None
        self._step, self._out = step, step.out
        self._width = step.out.bits // 8
        self._write = order.write
        self._weighted = weighted
        self._hasher = tensor_hasher()
        self._sum = None if order.sum is None else PlaneWriter(step, order.sum, engine)
        if self._sum is None:
            self._combine = weighted.prepare_mean()
        else:
            self._planes = weighted.prepare_planes()

    def write(self, start: int, stop: int, out: memoryview, plane: memoryview) -> int:
        """Make elements `start` to `stop`, and return their bytes.

        `out` has room for the mean, `plane` for a plane.
        """
        out = out[: (stop - start) * self._width]
        if self._sum is None:
            self._combine(start, stop, out)
        else:
            # the exact sum is computed first, and the mean from that
            first = plane[: (stop - start) * PLANE_BYTES]
            planes = [first, *self._planes(start, stop, first)]
            self._weighted.round(planes, start, out)
            self._sum.write(start, planes)
        self._write(self._step.name, start * self._width, out)
        self._hasher.update(out)
        return len(out)

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
