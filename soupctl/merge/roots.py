"""The roots of what a pass reads and writes: content digests of whole checkpoints.

Rule 1: results come in the order of their names, and a root holds each tensor once.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import RootHasher, Row, root_of, row_starts, tensor_hasher
from ..errors import OutputError
from ..format.dtypes import DType
from .code_error import CodeError
from .kept_sum.format import SumForm
from .kept_sum.reader import Source, recorded_digest
from .order import Order, Outcome, PassRows
from .quantised_steps import CODES, MARKED
from .small_tensors import TogetherResult
from .tensor_pass import TensorResult


class Roots:
    """Collects the results of all tensors, in the order of their names, into root digests."""

    def __init__(
        self, orders: Sequence[Order], sources: Sequence[Source], *, keeps_rows: bool = False
    ) -> None:
        """Roots of what these orders read and write; `keeps_rows` keeps the rows of all sources."""
        self._orders = orders
        self._sources = [
            (each, _Root(keeps_rows or not isinstance(each, Checkpoint))) for each in sources
        ]
        self._tensor: str | None = None
        self._found: dict[tuple[int, str], str] = {}
        """Digests of the present tensor, by source and name there."""
        # scales are separate tensors with their own names
        self._soups = [_Root(keeps_rows or order.plan.marker is not None) for order in orders]
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

    def rows(self, order: int, places: Sequence[int]) -> PassRows:
        """The rows of an order whose sources are at these places; all rows must have been kept."""
        return PassRows(
            tuple(tuple(self._sources[place][1].rows) for place in places),
            tuple(self._soups[order].rows),
            tuple(self._taken[order]),
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
        self.rows: list[Row] = []
        """Rows that may come in any order."""

    def add(self, row: Row) -> None:
        if self._hasher is None:
            self.rows.append(row)
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
            self.rows += zip(names, dtypes, shapes, digests, strict=True)
        else:
            self._hasher.add_rows(names, starts, digests)

    def digest(self) -> str:
        return root_of(self.rows) if self._hasher is None else self._hasher.digest()
