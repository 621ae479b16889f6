"""Making one tensor for every order that has it: read, combine or copy, write, digest.

Rule 1: a chunk is combined, written and digested while it is in cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from ..checkpoints.digest import Row, tensor_hasher
from ..checkpoints.safetensors import StoredTensor
from ..checkpoints.shared_chunks import ChunkWork, make_alone
from ..engines.contract import Engine
from ..errors import OutputError
from ..frozen import frozen
from ..workers import Advance, Scratch
from .chunks import PLANE_BYTES, SINGLE_BYTES, chunk_elements, ranges
from .code_error import CodeError
from .code_writer import CodeWriter
from .kept_sum.format import COPIED, SumForm
from .kept_sum.reader import Source, is_extra_name, stored_planes
from .mean_writer import MeanRecord, MeanWriter
from .order import Order
from .scale_values import ScaleValues, read_scales
from .step import Rule
from .tensor_errors import different
from .terms import Term, allot, bytes_an_element, row_of, terms_of
from .updates import updates_of
from .use import Use, sources_of
from .weighted_sum import WeightedSum

if TYPE_CHECKING:
    from .methods.passes import SurveyedTensor


@dataclass(slots=True)
class TensorResult:
    """Rows for the roots of everything that was read and written for one tensor."""

    tensor: str
    sources: list[tuple[int, Row]] = field(default_factory=list)
    soups: list[tuple[int, Row]] = field(default_factory=list)
    sums: list[tuple[int, Row]] = field(default_factory=list)
    errors: list[tuple[int, CodeError]] = field(default_factory=list)
    """The quantisation error, for orders that quantise the tensor."""
    misfits: list[tuple[int, SumForm]] = field(default_factory=list)
    """The form of the sum, for orders that expected another."""
    differing: list[int] = field(default_factory=list)
    """Orders that took the first ingredient's values although others differ."""
    ratios: list[tuple[int, Fraction]] = field(default_factory=list)
    """The ratio that a method has found, for orders whose method finds one."""


@frozen
class AveragedTensor:
    """A tensor to be averaged, whose chunks several threads may make."""

    uses: Sequence[Use]
    count: int
    """Its elements."""
    chunk: int
    """Elements in a chunk."""
    widths: tuple[int, int, int]
    """Bytes of an element in the mean, and in a plane of a kept sum in F64 and in F32."""
    terms: Mapping[int, Sequence[Term]]
    """The terms of each source, with the digests of what is read."""
    records: Sequence[MeanRecord]
    """The records of the means of `uses`."""
    largest: Mapping[int, float]
    """The largest magnitude of the mean, for orders that quantise it."""
    surveyed: SurveyedTensor | None
    """How a method combines it; None for a mean."""


@frozen
class TensorPass:
    """Makes tensors; all threads share one, and nothing in it changes while they run."""

    orders: Sequence[Order]
    sources: Sequence[Source]
    """The sources of all orders, each once."""
    engine: Engine
    chunk: int | None
    """Elements in a chunk; None to fit the cache."""
    scale_tensors: frozenset[str]
    """The names of all scales, which are read twice: to be used and to be digested."""
    scratch: Scratch = field(default_factory=Scratch)
    seen: dict[tuple[int, str], str] = field(default_factory=dict)
    """The digest of each source's scale when it was first read."""

    def make(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Make the tensor of these uses."""
        if uses[0].step.rule is Rule.AVERAGE:
            return self._average(uses, advance)
        return self._copy(uses, advance)

    def _average(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Combine one tensor chunk by chunk, digesting each chunk while it is in cache."""
        tensor = self.begin(uses, advance)
        chunks = ranges(tensor.count, tensor.chunk)
        make_alone(chunks, self.chunk_work(tensor, tensor.terms), advance)
        return self.result(tensor)

    def begin(self, uses: Sequence[Use], advance: Advance) -> AveragedTensor:
        """The tensor of these uses, of which no chunk is made yet."""
        name, shape = uses[0].step.name, uses[0].step.shape
        largest = self._largest(uses, advance)
        terms = {s: terms_of(self.sources[s], name, shape) for s in sources_of(uses)}
        width = max(use.step.out.bits // 8 for use in uses if use.step.out is not None)
        keeps_sum = any(self.orders[use.order].sum is not None for use in uses)
        planes = PLANE_BYTES if keeps_sum else 0
        surveyed = self._surveyed(uses[0], advance)
        if surveyed is None:
            read = sum(map(bytes_an_element, terms.values()))
            block = self.chunk or chunk_elements(read + planes + width)
        else:
            block = surveyed.block
        records = [MeanRecord(self.orders[use.order], use.step, self.engine) for use in uses]
        count = prod(shape)
        chunk, widths = min(count, block), (width, planes, SINGLE_BYTES if keeps_sum else 0)
        return AveragedTensor(uses, count, chunk, widths, terms, records, largest, surveyed)

    def result(self, tensor: AveragedTensor) -> TensorResult:
        """The result of a tensor of which all chunks are made."""
        name = tensor.uses[0].step.name
        result = TensorResult(name)
        for source, each in tensor.terms.items():
            if not is_extra_name(self.sources[source], name):
                result.sources += [(source, row) for term in each for row in term.digests()]
        for use, record in zip(tensor.uses, tensor.records, strict=True):
            result.soups += [(use.order, row) for row in record.rows()]
            if record.codes is not None:
                result.errors.append((use.order, record.codes.error()))
            result.sums += [(use.order, row) for row in record.sum_rows()]
            if record.misfit is not None:
                result.misfits.append((use.order, record.misfit))
        if tensor.surveyed is not None and tensor.surveyed.ratio is not None:
            result.ratios.append((tensor.uses[0].order, tensor.surveyed.ratio))
        return result

    def chunk_work(
        self, tensor: AveragedTensor, terms: Mapping[int, Sequence[Term]]
    ) -> list[ChunkWork]:
        """What one thread, with terms of its own, does with each chunk of a tensor."""
        every = [term for each in terms.values() for term in each]
        room = allot(self.scratch, every, tensor.chunk, *tensor.widths)
        work = [ChunkWork(term.read, term.digest) for term in every]
        for use, record in zip(tensor.uses, tensor.records, strict=True):
            mean = self._mean(use, record, terms, tensor, room)
            if record.sum is None:
                work.append(ChunkWork(mean.make, mean.record))
            else:
                # apart, so that one thread can digest the sum while another digests the mean
                work += [ChunkWork(mean.make, mean.record_sum), ChunkWork(_nothing, mean.record)]
        return work

    def _surveyed(self, use: Use, advance: Advance) -> SurveyedTensor | None:
        """How a method combines the tensor, after its surveys; None for a mean."""
        plan, step = self.orders[use.order].plan, use.step
        if plan.method is None:
            return None
        # loads numpy, which plain means can do without
        from .methods.passes import TensorWork

        def terms() -> list[list[Term]]:
            return [terms_of(self.sources[s], step.name, step.shape) for s in use.sources]

        work = TensorWork(plan, step, self.engine, self.scratch, terms, self._scales(use))
        return work.surveyed(plan.method, advance)

    def _largest(self, uses: Sequence[Use], advance: Advance) -> dict[int, float]:
        """For each order, the largest magnitude of the means to be quantised, in an extra pass."""
        quantised = [use for use in uses if use.step.is_quantised]
        if not quantised:
            return {}
        name, shape = uses[0].step.name, uses[0].step.shape
        count = prod(shape)
        terms = {s: terms_of(self.sources[s], name, shape) for s in sources_of(quantised)}
        every = [term for each in terms.values() for term in each]
        chunk = min(count, self.chunk or chunk_elements(bytes_an_element(every)))
        allot(self.scratch, every, chunk)
        passes = [(use.order, self._weighted(use, terms).prepare_largest()) for use in quantised]
        found = {use.order: 0.0 for use in quantised}
        for start, stop in ranges(count, chunk):
            advance(sum(term.read(start, stop) for term in every))
            for order, largest in passes:
                found[order] = max(found[order], largest(start, stop))
        return found

    def _mean(
        self,
        use: Use,
        record: MeanRecord,
        terms: Mapping[int, Sequence[Term]],
        tensor: AveragedTensor,
        room: Sequence[memoryview],
    ) -> MeanWriter:
        weighted = self._weighted(use, terms)
        if use.order in tensor.largest:
            largest = tensor.largest[use.order]
            record.codes = CodeWriter(weighted, use.step.name, largest)
        combine = None
        if tensor.surveyed is not None:
            combine = tensor.surveyed.prepare([terms[source] for source in use.sources])
        return MeanWriter(self.orders[use.order], use.step, record, weighted, combine, room)

    def _weighted(self, use: Use, terms: Mapping[int, Sequence[Term]]) -> WeightedSum:
        order = self.orders[use.order]
        used = [terms[source] for source in use.sources]
        scales = self._scales(use)
        updates = updates_of([self.sources[source] for source in use.sources], use.step)
        return WeightedSum(order.plan, use.step, self.engine, used, scales, updates)

    def _scales(self, use: Use) -> Sequence[ScaleValues | None]:
        """The scales of the codes in each source; OutputError if one has changed."""
        scales = read_scales(use.step, [self.sources[source] for source in use.sources])
        for source, scale in zip(use.sources, scales, strict=False):
            if scale is not None:
                hasher = tensor_hasher()
                hasher.update(scale.data)
                self._require_unchanged_scale(source, scale.tensor, str(hasher.hexdigest()))
        return scales

    def _copy(self, uses: Sequence[Use], advance: Advance) -> TensorResult:
        """Digest a tensor that is not averaged, and copy it to the soups that have it."""
        name = uses[0].step.name
        result = TensorResult(name)
        digests = {}
        for source in sources_of(uses):
            copied = [u for u in uses if u.step.out is not None and u.counted[0] == source]
            for stored in stored_planes(self.sources[source], name):
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
        """Raise OutputError if a scale has changed since it was first read."""
        if self.seen.setdefault((source, name), digest) != digest:
            what = "an input was changed while it was read"
            raise OutputError(what, path=self.sources[source].label, tensor=name)

    def _copy_one(
        self, name: str, stored: StoredTensor, uses: Sequence[Use], advance: Advance
    ) -> str:
        """Copy a tensor of one source to the soups of `uses`; returns its digest."""
        hasher = tensor_hasher()
        for offset, piece in stored.pieces(self.scratch):
            hasher.update(piece)
            for order in (self.orders[use.order] for use in uses):
                order.write(name, offset, piece)
                if order.sum is not None:
                    order.sum.write(COPIED + name, offset, piece)
            advance(len(piece) * (1 + len(uses)))
        return str(hasher.hexdigest())


def _nothing(_start: int, _stop: int) -> int:
    """Make nothing of a chunk."""
    return 0
