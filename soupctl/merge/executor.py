"""Carry out plans: read, combine, write, digest.

Rule 1: nothing here may change a number; speed and safety are its only concerns.
Rule 2: every byte of every ingredient is digested in the pass that uses it, while it is in cache;
once, however many plans use it, and not again if it was since the ingredient was opened.
Rule 3: a tensor is one worker's from its first chunk to its last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain, groupby

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import RootHasher, tensor_hasher
from ..engines.contract import Blend, Combine, Engine, NonFinite, OutOfRange
from ..workers import ExecutionOptions, OrderedPool
from .findings import different, nonfinite, out_of_range
from .plan import Plan, Rule, Step

Write = Callable[[str, int, memoryview], None]
"""Puts bytes at an offset within the soup's tensor of that name."""

CACHED_BYTES = 3 << 19
"""Bytes of all sources and the result in one chunk, so that a chunk stays in a core's cache."""
SMALLEST_CHUNK = 1 << 14
LARGEST_CHUNK = 1 << 18
TASK_BYTES = 1 << 20
"""Small tensors are handed out together, about this many bytes at a time."""


@dataclass(frozen=True, slots=True)
class Order:
    """A plan, what it is carried out with, and where its tensors go."""

    plan: Plan
    checkpoints: Sequence[Checkpoint]
    write: Write


@dataclass(frozen=True, slots=True)
class Outcome:
    """Content digests of what went in and what came out."""

    ingredients: tuple[str, ...]
    soup: str
    taken: tuple[str, ...]
    """Tensors that differ between ingredients, and are the first ingredient's in the soup."""


def execute(
    plan: Plan,
    checkpoints: Sequence[Checkpoint],
    engine: Engine,
    write: Write,
    execution: ExecutionOptions,
) -> Outcome:
    """Make the plan's tensors from the open checkpoints and hand them to `write`.

    Raises InputError for NaN or infinity, MismatchError for integers that differ and for results
    beyond the range of their dtype. `write` is called from several threads, never twice for a byte.
    """
    (outcome,) = execute_together([Order(plan, checkpoints, write)], engine, execution)
    return outcome


def execute_together(
    orders: Sequence[Order], engine: Engine, execution: ExecutionOptions
) -> tuple[Outcome, ...]:
    """Make the tensors of several plans in step, reading what they share from disk only once.

    Plans that share a checkpoint, which is then one object, have the same rule for its tensors.
    Raises what `execute` does, for the first of the orders that fails at the first such tensor.
    """
    worker = _Worker(orders, engine, execution)
    roots = [RootHasher() for _ in worker.checkpoints]
    soups = [RootHasher() for _ in orders]
    taken: list[list[str]] = [[] for _ in orders]
    for found in chain.from_iterable(worker.line.results(worker.tasks())):
        for source, digest in found.ingredients.items():
            tensor = worker.checkpoints[source].tensors[found.tensor]
            roots[source].add(found.tensor, tensor.dtype.value, tensor.shape, digest)
        for use, digest in found.soups:
            assert use.step.out is not None
            soups[use.order].add(found.tensor, use.step.out.value, use.step.shape, digest)
            if use.step.rule is Rule.FIRST and found.differs(use):
                taken[use.order].append(found.tensor)
    digests = [
        checkpoint.digest or root.digest()
        for checkpoint, root in zip(worker.checkpoints, roots, strict=True)
    ]
    return tuple(
        Outcome(tuple(digests[source] for source in sources), soup.digest(), tuple(names))
        for sources, soup, names in zip(worker.sources, soups, taken, strict=True)
    )


@dataclass(frozen=True, slots=True)
class _Use:
    """A step of one order, and its sources among the checkpoints of all orders."""

    order: int
    step: Step
    sources: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """Digests of one tensor: in each source that was digested, and of what became of it."""

    tensor: str
    ingredients: dict[int, str]
    soups: list[tuple[_Use, str]]

    def differs(self, use: _Use) -> bool:
        """Whether the sources of a use, all of which were digested, hold different values."""
        return len({self.ingredients[source] for source in use.sources}) > 1


class _Worker:
    """What all threads share."""

    def __init__(
        self, orders: Sequence[Order], engine: Engine, execution: ExecutionOptions
    ) -> None:
        self.orders = orders
        self.engine = engine
        self.execution = execution
        self.line = OrderedPool(self.run, execution)
        distinct = {id(each): each for order in orders for each in order.checkpoints}
        self.checkpoints = list(distinct.values())
        places = {identity: position for position, identity in enumerate(distinct)}
        self.sources = [[places[id(each)] for each in order.checkpoints] for order in orders]
        """Where in `checkpoints` each order's are."""

    def tasks(self) -> Iterator[list[list[_Use]]]:
        """The tensors in order, neighbours of small size together."""
        task: list[list[_Use]] = []
        size = 0
        for uses in self._tensors():
            task.append(uses)
            step = uses[0].step
            first = self.checkpoints[uses[0].sources[0]].tensors[step.name]
            size += first.size * len({source for use in uses for source in use.sources})
            if size >= TASK_BYTES or len(task) >= 256:
                yield task
                task, size = [], 0
        if task:
            yield task

    def _tensors(self) -> Iterator[list[_Use]]:
        """The steps of all orders, those together that concern one tensor."""
        for _, uses in groupby(merge(*map(self._uses, range(len(self.orders))), key=_key), _key):
            yield list(uses)

    def _uses(self, order: int) -> Iterator[_Use]:
        places = self.sources[order]
        last: tuple[int, ...] | None = None
        for step in self.orders[order].plan.steps:
            # one tuple for all tensors that all hold, or n ingredients would cost n words a tensor
            if step.sources is not last:
                last, sources = step.sources, tuple(places[source] for source in step.sources)
            yield _Use(order, step, sources)

    def run(self, task: Iterable[list[_Use]]) -> list[_Found]:
        """The digests of every tensor."""
        return [self._tensor(uses) for uses in task]

    def _tensor(self, uses: list[_Use]) -> _Found:
        step = uses[0].step
        sources = dict.fromkeys(source for use in uses for source in use.sources)
        views = {source: self.checkpoints[source].view(step.name) for source in sources}
        if step.rule is Rule.AVERAGE:
            return self._average(uses, views)
        digests = {source: self._digest(view) for source, view in views.items()}
        if step.rule is Rule.LEFT_OUT:
            return _Found(step.name, digests, [])
        for use in uses:
            if step.rule is Rule.IDENTICAL:
                self._require_identical(use, digests)
            offset = 0
            for piece in self._pieces(views[use.sources[0]]):
                self.orders[use.order].write(step.name, offset, piece)
                offset += len(piece)
        return _Found(step.name, digests, [(use, digests[use.sources[0]]) for use in uses])

    def _average(self, uses: list[_Use], views: Mapping[int, memoryview]) -> _Found:
        """Combine one tensor chunk by chunk, digesting each chunk while it is in cache."""
        name = uses[0].step.name
        sizes = {s: self.checkpoints[s].tensors[name].dtype.bits // 8 for s in views}
        widths = [use.step.out.bits // 8 for use in uses if use.step.out is not None]
        first = uses[0].sources[0]
        count = len(views[first]) // sizes[first]
        an_element = sum(sizes.values())
        chunk = min(count, self.execution.chunk or chunk_elements(an_element + max(widths)))
        buffer = memoryview(bytearray(chunk * max(widths)))
        combines = [self._prepare(use, views) for use in uses]
        hashers = {
            source: tensor_hasher() for source in views if self.checkpoints[source].digest is None
        }
        results = [tensor_hasher() for _ in uses]
        for start in range(0, count, chunk or 1):
            stop = min(start + chunk, count)
            for use, width, combine, result in zip(uses, widths, combines, results, strict=True):
                out = buffer[: (stop - start) * width]
                self._combine(use, combine, start, stop, out)
                self.orders[use.order].write(name, start * width, out)
                result.update(out)
            for source, hasher in hashers.items():
                hasher.update(views[source][start * sizes[source] : stop * sizes[source]])
            self.line.advance((stop - start) * (an_element + sum(widths)))
        digests = {source: hasher.hexdigest() for source, hasher in hashers.items()}
        made = [(use, result.hexdigest()) for use, result in zip(uses, results, strict=True)]
        return _Found(name, digests, made)

    def _prepare(self, use: _Use, views: Mapping[int, memoryview]) -> Combine:
        step, plan = use.step, self.orders[use.order].plan
        assert step.out is not None
        blend = Blend(step.dtypes, plan.weights, step.out, plan.allow_nonfinite)
        return self.engine.prepare(blend, [views[source] for source in use.sources])

    def _combine(self, use: _Use, combine: Combine, start: int, stop: int, out: memoryview) -> None:
        try:
            combine(start, stop, out)
        except NonFinite as found:
            shown = self.checkpoints[use.sources[found.source]].shown
            raise nonfinite(shown, use.step.name, found.element) from None
        except OutOfRange as found:
            raise out_of_range(use.step, found.element) from None

    def _digest(self, view: memoryview) -> str:
        hasher = tensor_hasher()
        for piece in self._pieces(view):
            hasher.update(piece)
        return hasher.hexdigest()

    def _pieces(self, view: memoryview) -> Iterator[memoryview]:
        for start in range(0, len(view), TASK_BYTES):
            piece = view[start : start + TASK_BYTES]
            self.line.advance(len(piece))
            yield piece

    def _require_identical(self, use: _Use, digests: Mapping[int, str]) -> None:
        first, *rest = use.sources
        others = [self.checkpoints[s].shown for s in rest if digests[s] != digests[first]]
        if others:
            raise different(use.step, self.checkpoints[first].shown, others)


def _key(use: _Use) -> tuple[str, tuple[int, ...], str]:
    # the same name may stand for different tensors where orders share no checkpoint
    return use.step.name, use.step.shape, use.step.rule.value


def chunk_elements(bytes_an_element: int) -> int:
    """How many elements make a chunk whose sources and result fit a core's cache together."""
    return max(SMALLEST_CHUNK, min(LARGEST_CHUNK, CACHED_BYTES // bytes_an_element // 4096 * 4096))


BASELINE = 80 << 20
"""Anonymous memory of the process before it combines anything: interpreter, numpy, numba."""
A_THREAD = 4 << 20
"""Buffers, the engine's scratch and the allocator's arena of one worker."""
A_STEP = 1280
"""Tables, places and digests of one tensor, whatever the number of ingredients of equal layout."""
A_LETTER = 6
"""Copies of a letter of a tensor's name: in headers read and written, and in tables."""


def memory_needed(plans: Iterable[Plan], threads: int) -> int:
    """An upper estimate of the anonymous memory, in bytes, that these plans take with `threads`."""
    names = [step.name for plan in plans for step in plan.steps]
    letters = sum(map(len, names))
    return BASELINE + threads * A_THREAD + len(names) * A_STEP + letters * A_LETTER
