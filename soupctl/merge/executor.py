"""Carry out plans: read, combine, write, digest.

Rule 1: nothing here may change a number; speed and safety are its only concerns.
Rule 2: every byte of every source is digested in the pass that uses it, while it is in cache; once,
however many plans use it, and also if it was digested before.
Rule 3: a tensor is one thread's from its first chunk to its last, unless it is large.
Rule 4: a soup without a kept sum is an order with no sum to write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from heapq import merge
from itertools import chain, groupby

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import RootHasher, Row, root_of, row_starts, tensor_hasher
from ..engines.contract import Engine
from ..errors import OutputError, SoupError
from ..format.dtypes import DType
from ..workers import (
    ROW_BYTES,
    Advance,
    ExecutionOptions,
    run_in_order,
    tasks,
    threads_for,
)
from .code_error import CodeError
from .kept_sum.format import SumForm
from .kept_sum.reader import Source, recorded_digest
from .large_tensors import LargeTensor, with_large_ones_apart
from .order import Order, Outcome
from .quantised_steps import CODES, MARKED
from .shared_content import as_read
from .small_tensors import SmallTensors, TogetherResult
from .tensor_pass import TensorPass, TensorResult
from .use import Use, sources_of

Result = TensorResult | TogetherResult


def execute(
    orders: Sequence[Order], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """Make the tensors of all orders in step, reading shared sources from disk only once.

    Orders that share a source, which is then one object, have the same rule for its tensors. Of
    sources of equal content, one is read. The `write` of orders is called from several threads,
    never twice for a byte.

    Raises for the first failing tensor: InputError for NaN or infinity, MismatchError for integers
    that differ and results beyond the range of their dtype, LimitError for a sum beyond that of
    F64, LedgerError for a kept sum that is not sound.
    """
    read = iter(as_read(source for order in orders for source in order.sources))
    positions: dict[Source, int] = {}
    places = [
        [positions.setdefault(next(read), len(positions)) for _ in order.sources]
        for order in orders
    ]
    sources = tuple(positions)
    roots = _Roots(orders, sources)
    for number, order in enumerate(orders):
        if order.plan.marker is not None:
            roots.add_marker(number, order.plan.marker)
            order.write(order.plan.marker, 0, memoryview(MARKED))
    every = [_uses(order, n, places[n]) for n, order in enumerate(orders)]
    for result in _results(orders, sources, _by_tensor(every), engine, execution):
        if isinstance(result, TogetherResult):
            roots.add_together(result)
        else:
            roots.add(result)
    return tuple(roots.outcome(n, places[n]) for n in range(len(orders)))


def _results(
    orders: Sequence[Order],
    sources: Sequence[Source],
    by_tensor: Iterable[Sequence[Use]],
    engine: Engine,
    execution: ExecutionOptions,
) -> Iterator[Result]:
    """The results of all tensors, in the order of their names."""
    scales = frozenset(
        scale.tensor
        for order in orders
        for step in order.plan.steps
        for scale in step.scales
        if scale is not None
    )
    work = TensorPass(orders, sources, engine, execution.chunk, scales)
    small = SmallTensors(orders, sources, engine, execution.chunk, work.scratch)

    def make(task: Sequence[Sequence[Use]] | LargeTensor, advance: Advance) -> Sequence[Result]:
        if isinstance(task, LargeTensor):
            return task.make(advance)
        results: list[Result] = []
        for group in small.groups(task):
            if len(group) > 1:
                # if it fails, each is made alone, for the error of the first that fails
                with suppress(SoupError):
                    results.append(small.make(group, advance))
                    continue
            results += [work.make(uses, advance) for uses in group]
        return results

    def size(uses: Sequence[Use]) -> int:
        used = uses[0].sources if len(uses) == 1 else tuple(sources_of(uses))
        return (sources[used[0]].tensors[uses[0].step.name].size + ROW_BYTES) * len(used)

    most = max((each.tensors for each in sources), key=len, default={})
    execution = threads_for(execution, len(most), sum(each.size for each in most.values()))
    every_task = with_large_ones_apart(tasks(by_tensor, size), work, execution.threads)
    return chain.from_iterable(run_in_order(make, every_task, execution))


class _Roots:
    """Collects the results of all tensors, in the order of their names, into root digests."""

    def __init__(self, orders: Sequence[Order], sources: Sequence[Source]) -> None:
        self._orders = orders
        self._sources = [(each, _Root(not isinstance(each, Checkpoint))) for each in sources]
        self._tensor: str | None = None
        self._found: dict[tuple[int, str], str] = {}
        """Digests of the present tensor, by source and name there."""
        # scales are separate tensors with their own names
        self._soups = [_Root(order.plan.marker is not None) for order in orders]
        self._errors: list[CodeError | None] = [None for _ in orders]
        self._sums = [None if order.sum is None else _Root(True) for order in orders]
        self._taken: list[list[str]] = [[] for _ in orders]
        self._misfits: list[dict[str, SumForm]] = [{} for _ in orders]
        self._ratios: list[list[Fraction]] = [[] for _ in orders]

    def add(self, result: TensorResult) -> None:
        """Add the result of one tensor.

        Several results may be of one name, one after the other: what orders do with it may differ.
        """
        if result.tensor != self._tensor:
            self._tensor, self._found = result.tensor, {}
        for source, row in result.sources:
            self._add_source(source, row)
        for order, row in result.soups:
            self._soups[order].add(row)
        for order, row in result.sums:
            kept = self._sums[order]
            assert kept is not None
            kept.add(row)
        for order, error in result.errors:
            self._errors[order] = error.together(self._errors[order])
        for order, form in result.misfits:
            self._misfits[order][result.tensor] = form
        for order, ratio in result.ratios:
            self._ratios[order].append(ratio)
        for order in result.differing:
            self._taken[order].append(result.tensor)

    def add_together(self, results: TogetherResult) -> None:
        """Add the results of several tensors, as `add` does those of one."""
        names, shapes = results.tensors, results.shapes
        if names[0] != self._tensor:
            self._found = {}
        starts = {
            dtype: row_starts(names, dtype.value, shapes)
            for dtype in {each for _, each, _ in (*results.sources, *results.soups)}
        }
        found = {}
        for source, dtype, digests in results.sources:
            self._add_source(source, (names[0], dtype.value, shapes[0], digests[0]))
            _, root = self._sources[source]
            root.add_rows(names[1:], shapes[1:], dtype, starts[dtype][1:], digests[1:])
            found[source, names[-1]] = digests[-1]
        for order, dtype, digests in results.soups:
            self._soups[order].add_rows(names, shapes, dtype, starts[dtype], digests)
        self._tensor, self._found = names[-1], found

    def add_marker(self, order: int, name: str) -> None:
        """Add the tensor that says that weights are quantised."""
        hasher = tensor_hasher()
        hasher.update(MARKED)
        self._soups[order].add((name, CODES.value, (len(MARKED),), str(hasher.hexdigest())))

    def _add_source(self, source: int, row: Row) -> None:
        """Add a row of a source once; OutputError if it was read before and has changed."""
        checkpoint, root = self._sources[source]
        name, *_, digest = row
        found = self._found.get((source, name))
        if found is None:
            self._found[source, name] = digest
            root.add(row)
        elif found != digest:
            raise _changed(checkpoint)

    def outcome(self, order: int, places: Sequence[int]) -> Outcome:
        """The outcome of an order whose sources are at these places."""
        kept = self._sums[order]
        return Outcome(
            tuple(
                _digest(source, self._sources[place][1])
                for source, place in zip(self._orders[order].sources, places, strict=True)
            ),
            self._soups[order].digest(),
            tuple(self._taken[order]),
            None if kept is None else kept.digest(),
            self._errors[order],
            self._misfits[order],
            tuple(self._ratios[order]),
        )


def _digest(source: Source, root: _Root) -> str:
    """The digest found in the pass; OutputError if another was found since the source was opened.

    A change through a memory map of another process shows neither in a file's size nor its times.
    """
    found = root.digest()
    if recorded_digest(source) not in (None, found):
        raise _changed(source)
    return found


def _changed(source: Source) -> OutputError:
    return OutputError("changed while it was read", path=source.label)


class _Root:
    """The root of tensors added in the order of their names, or in any order.

    The order differs for a sum, or for an ingredient with other names.
    """

    def __init__(self, in_any_order: bool) -> None:
        self._hasher = None if in_any_order else RootHasher()
        self._rows: list[Row] = []

    def add(self, row: Row) -> None:
        if self._hasher is None:
            self._rows.append(row)
        else:
            self._hasher.add(*row)

    def add_rows(
        self,
        names: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        dtype: DType,
        starts: Sequence[str],
        digests: Sequence[str],
    ) -> None:
        """Add several tensors, whose rows begin with `starts`."""
        if self._hasher is None:
            dtypes = (dtype.value,) * len(names)
            self._rows += zip(names, dtypes, shapes, digests, strict=True)
        else:
            self._hasher.add_rows(names, starts, digests)

    def digest(self) -> str:
        return root_of(self._rows) if self._hasher is None else self._hasher.digest()


def _uses(order: Order, number: int, places: Sequence[int]) -> Iterator[Use]:
    """The steps of one order; `places` are the indices of its sources among all sources."""
    last: tuple[int, ...] | None = None
    for step in order.plan.steps:
        # one tuple for all tensors that all ingredients have; otherwise n ingredients would take n
        # words per tensor
        if step.sources is not last:
            last, sources = step.sources, tuple(places[source] for source in step.sources)
        yield Use(number, step, sources)


def _by_tensor(every: Sequence[Iterator[Use]]) -> Iterator[Sequence[Use]]:
    """The uses of each tensor, from those of each order, which are sorted."""
    if len(every) == 1:
        # an order has one step for each, and neither a merge nor groups cost time
        return ((use,) for use in every[0])
    return (list(group) for _, group in groupby(merge(*every, key=_tensor_of), _tensor_of))


def _tensor_of(use: Use) -> tuple[str, tuple[int, ...], str]:
    # the same name may be a different tensor if orders share no source; tensors that are left out
    # are only digested, whatever their shapes
    shape = () if use.step.out is None else use.step.shape
    return use.step.name, shape, use.step.rule.value
