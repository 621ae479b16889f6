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
from heapq import merge
from itertools import chain, groupby

from ..engines.contract import Engine
from ..errors import SoupError
from ..workers import (
    ROW_BYTES,
    Advance,
    ExecutionOptions,
    run_in_order,
    tasks,
    threads_for,
)
from .kept_sum.reader import Source
from .large_tensors import LargeTensor, with_large_ones_apart
from .order import Order, Outcome, PassRows
from .quantised_steps import MARKED
from .roots import Roots
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
    roots, places = _passed(orders, engine, execution)
    return tuple(roots.outcome(n, places[n]) for n in range(len(orders)))


def execute_part(order: Order, engine: Engine, execution: ExecutionOptions) -> PassRows:
    """Make the tensors of an order whose plan has some of the steps only.

    Returns the rows of what was read and written: the roots need those of all steps. Raises what
    `execute` raises.
    """
    roots, (places,) = _passed([order], engine, execution, keeps_rows=True)
    return roots.rows(0, places)


def _passed(
    orders: Sequence[Order],
    engine: Engine,
    execution: ExecutionOptions,
    *,
    keeps_rows: bool = False,
) -> tuple[Roots, list[list[int]]]:
    """The roots after the pass, and the places of each order's sources among them."""
    read = iter(as_read(source for order in orders for source in order.sources))
    positions: dict[Source, int] = {}
    places = [
        [positions.setdefault(next(read), len(positions)) for _ in order.sources]
        for order in orders
    ]
    sources = tuple(positions)
    roots = Roots(orders, sources, keeps_rows=keeps_rows)
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
    return roots, places


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
