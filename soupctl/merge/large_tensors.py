"""Making one large tensor by several threads, which take its chunks in turn.

Rule 1: a tensor is made so if every chunk can be read without those before it, and if the pass over
it needs nothing that another pass finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from math import prod
from threading import Lock

from ..checkpoints.hashing import ignore_progress
from ..checkpoints.shared_chunks import SharedChunks
from ..errors import SoupError
from ..workers import Advance
from .adapter_reader import AdapterReader
from .chunks import SMALLEST_CHUNK, ranges
from .step import Rule
from .tensor_pass import AveragedTensor, TensorPass, TensorResult
from .terms import SparseTerm
from .use import Use, sources_of

LARGE = 16
"""Chunks of a tensor that is worth several threads."""


class LargeTensor:
    """A tensor that each thread may help to make."""

    def __init__(self, work: TensorPass, uses: Sequence[Use]) -> None:
        self._work, self._uses = work, uses
        self._lock = Lock()
        self._begun: tuple[AveragedTensor, SharedChunks] | None = None

    def make(self, advance: Advance) -> list[TensorResult]:
        """Make chunks until none is left; returns the result where the last one was made."""
        with self._lock:
            if self._begun is None:
                tensor = self._work.begin(self._uses, advance)
                chunks = [*ranges(tensor.count, tensor.chunk)]
                self._begun = tensor, SharedChunks(chunks)
        tensor, shared = self._begun
        # the copies digest with the same hashers, but read into memory of this thread
        terms = {source: [copy(term) for term in each] for source, each in tensor.terms.items()}
        if shared.make(self._work.chunk_work(tensor, terms), advance):
            return [self._work.result(tensor)]
        return []


def with_large_ones_apart(
    tasks: Iterable[Sequence[Sequence[Use]]], work: TensorPass, threads: int
) -> Iterator[Sequence[Sequence[Use]] | LargeTensor]:
    """The tasks in order; a large tensor becomes as many tasks as there are threads."""
    for task in tasks:
        *others, last = task
        # only the last tensor of a task can be large
        if threads == 1 or not _is_large(work, last):
            yield task
            continue
        if others:
            yield others
        yield from [LargeTensor(work, last)] * threads


def _is_large(work: TensorPass, uses: Sequence[Use]) -> bool:
    """Whether several threads should make the tensor."""
    step = uses[0].step
    if step.rule is not Rule.AVERAGE or prod(step.shape) <= LARGE * (work.chunk or SMALLEST_CHUNK):
        return False
    if any(
        use.step.is_quantised or work.orders[use.order].plan.method is not None for use in uses
    ) or any(isinstance(work.sources[source], AdapterReader) for source in sources_of(uses)):
        return False
    try:
        tensor = work.begin(uses, ignore_progress)
    except SoupError:
        # the thread that makes it says so, in its turn
        return False
    every = [term for each in tensor.terms.values() for term in each]
    is_long = tensor.count > LARGE * tensor.chunk
    return is_long and not any(isinstance(term, SparseTerm) for term in every)
