"""Finding the form of the difference of each tensor, in a separate pass.

Rule 1: all offsets in the delta's file are fixed before its first byte is written.
Rule 2: every byte of both checkpoints is digested, also of tensors that are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from ...checkpoints.digest import Row, tensor_hasher
from ...checkpoints.safetensors import StoredTensor
from ...engines.contract import Engine
from ...engines.planes import negative_zeros
from ...errors import InputError, LimitError
from ...format.dtypes import DType, Kind
from ...frozen import frozen
from ...kinds.kind import AVERAGED
from ...workers import Advance, Scratch
from ..chunks import PLANE_BYTES, chunk_elements, ranges
from ..kept_sum.reader import Source, copied_tensor
from ..plan import Plan
from ..step import Step
from ..step_weights import StepWeights
from ..terms import Term, allot, bytes_an_element, row_of, terms_of
from ..weighted_sum import WeightedSum
from .format import WHOLE, DeltaForm, TensorSpec
from .planes import FormSurvey

MINUS = StepWeights((-1, 1), 1)
"""The weights of BASE and FINE in a delta."""


WORK = 16 * PLANE_BYTES
"""Bytes that an element of a chunk takes in all planes that are tried."""


@frozen
class Finding:
    """The result of the survey for one tensor of both checkpoints."""

    name: str
    rows: tuple[tuple[int, Row], ...]
    """Rows for the roots of BASE (0) and FINE (1)."""
    spec: TensorSpec | None = None
    """FINE's tensor; None if nothing of it is stored."""
    form: DeltaForm | None = None
    is_equal: bool = False
    """Whether it is the same in both."""


class DeltaSurvey:
    """Determines the forms; all threads share one, and nothing in it changes while they run."""

    def __init__(
        self,
        plan: Plan,
        sources: tuple[Source, Source],
        engine: Engine,
        chunk: int | None,
        *,
        allow_nonfinite: bool,
    ) -> None:
        """`sources` are BASE and FINE, under the same names."""
        self._plan = plan
        self._sources = sources
        self._engine = engine
        self._chunk = chunk
        self._allowed = allow_nonfinite
        self._scratch = Scratch()

    def find(self, step: Step, advance: Advance) -> Finding:
        """The finding for one tensor; InputError for NaN or infinity."""
        held = [n for n, source in enumerate(self._sources) if step.name in source.tensors]
        held = [n for n in held if n in step.sources]
        if step.out is None or len(held) < len(self._sources):
            rows = [(n, self._row(n, step.name, advance)) for n in held]
            return Finding(step.name, tuple(rows))
        return self._of_both(step, advance)

    def _of_both(self, step: Step, advance: Advance) -> Finding:
        """The finding for a selected tensor that both have."""
        base, fine = (self._stored(n, step.name) for n in (0, 1))
        same, rows = self._compare(base, fine, advance)
        if same:
            return Finding(step.name, rows, is_equal=True)
        spec = (step.name, fine.tensor.dtype, fine.tensor.shape)
        form = WHOLE
        floats = all(each.tensor.dtype.kind is Kind.FLOAT for each in (base, fine))
        if floats and step.kind.role in AVERAGED:
            form = self._form(step, base, fine, advance)
        return Finding(step.name, rows, spec, form)

    def _form(
        self, step: Step, base: StoredTensor, fine: StoredTensor, advance: Advance
    ) -> DeltaForm:
        """The form of a difference; `WHOLE` if it is not finite."""
        dtypes = fine.tensor.dtype, base.tensor.dtype
        reading = DifferencePass(self._plan, step, self._sources, self._engine, self._chunk)
        survey, zeros = FormSurvey(self._engine, *dtypes), 0
        try:
            # its digests are known, and the pass that writes checks them
            for chunk in reading.chunks(self._scratch, advance, digest=False):
                survey.add(chunk.exact)
                zeros += len(negative_zeros(chunk.fine, dtypes[0], 0, DType.U32)) // 4
        except InputError:
            if not self._allowed:
                raise
            return WHOLE
        return survey.form(prod(step.shape), zeros)

    def _stored(self, source: int, name: str) -> StoredTensor:
        return copied_tensor(self._sources[source], name)

    def _row(self, source: int, name: str, advance: Advance) -> Row:
        """The row of a tensor that is only digested."""
        stored, hasher = self._stored(source, name), tensor_hasher()
        for _, piece in stored.pieces(self._scratch):
            hasher.update(piece)
            advance(len(piece))
        return row_of(stored.tensor, str(hasher.hexdigest()))

    def _compare(
        self, base: StoredTensor, fine: StoredTensor, advance: Advance
    ) -> tuple[bool, tuple[tuple[int, Row], ...]]:
        """Whether two tensors are the same, and their rows."""
        rows = []
        for number, stored in enumerate((base, fine)):
            hasher = tensor_hasher()
            for _, piece in stored.pieces(self._scratch):
                hasher.update(piece)
                advance(len(piece))
            rows.append((number, row_of(stored.tensor, str(hasher.hexdigest()))))
        (_, mine), (_, theirs) = rows
        return mine[1:] == theirs[1:], tuple(rows)


@frozen
class DifferenceChunk:
    """The elements of a difference from `start` on."""

    start: int
    exact: list[memoryview]
    """Planes of F64 that add up to it; empty if it is beyond the range of F64."""
    base: memoryview
    fine: memoryview
    """The bytes of both, each in its dtype."""


class DifferencePass:
    """Reads one tensor of BASE and FINE, chunk by chunk, and subtracts exactly."""

    def __init__(
        self,
        plan: Plan,
        step: Step,
        sources: tuple[Source, Source],
        engine: Engine,
        chunk: int | None,
    ) -> None:
        self.count = prod(step.shape)
        self._terms: list[list[Term]] = [terms_of(each, step.name, step.shape) for each in sources]
        self._every = [term for each in self._terms for term in each]
        self._size = min(self.count, chunk or chunk_elements(bytes_an_element(self._every) + WORK))
        self._plan, self._engine = plan, engine
        self._step = replace(step, weights=MINUS)

    def chunks(
        self, scratch: Scratch, advance: Advance, *, digest: bool = True
    ) -> Iterator[DifferenceChunk]:
        """Each chunk of the difference, in order; InputError for NaN or infinity."""
        (plane,) = allot(scratch, self._every, self._size, PLANE_BYTES)
        weighted = WeightedSum(self._plan, self._step, self._engine, self._terms)
        subtract = weighted.prepare_planes()
        for start, stop in ranges(self.count, self._size):
            moved = sum(term.read(start, stop) for term in self._every)
            first = plane[: (stop - start) * PLANE_BYTES]
            base, fine = (term.row[: (stop - start) * term.dtype.bits // 8] for term in self._every)
            try:
                exact = [first, *subtract(start, stop, first)]
            except LimitError:
                exact = []
            for term in self._every if digest else ():
                term.digest()
            yield DifferenceChunk(start, exact, base, fine)
            advance(moved)

    def digests(self) -> list[str]:
        """The digests of BASE's and FINE's bytes that were read."""
        return [term.digests()[0][3] for term in self._every]
