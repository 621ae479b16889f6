"""Carry out a plan: read, combine, write, digest.

Rule 1: nothing here may change a number; speed and safety are its only concerns.
Rule 2: every byte of every ingredient is digested in the pass that uses it, while it is in cache.
Rule 3: a tensor is one worker's from its first chunk to its last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from .engines.contract import Blend, Engine, NonFinite, OutOfRange
from .errors import InputError, Issue, MismatchError
from .format.dtypes import DType, Kind
from .pace import Line, Pace
from .soup.plan import Plan, Rule, Step
from .storage.checkpoint import Checkpoint
from .storage.digest import RootHasher, tensor_hasher

Write = Callable[[str, int, memoryview], None]
"""Puts bytes at an offset within the soup's tensor of that name."""

CACHED_BYTES = 3 << 19
"""Bytes of all sources and the result in one chunk, so that a chunk stays in a core's cache."""
SMALLEST_CHUNK = 1 << 14
LARGEST_CHUNK = 1 << 18
TASK_BYTES = 1 << 20
"""Small tensors are handed out together, about this many bytes at a time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Content digests of what went in and what came out."""

    ingredients: tuple[str, ...]
    soup: str
    taken: tuple[str, ...]
    """Tensors that differ between ingredients, and are the first ingredient's in the soup."""


def execute(
    plan: Plan, checkpoints: Sequence[Checkpoint], engine: Engine, write: Write, pace: Pace
) -> Outcome:
    """Make the plan's tensors from the open checkpoints and hand them to `write`.

    Raises InputError for NaN or infinity, MismatchError for integers that differ and for results
    beyond the range of their dtype. `write` is called from several threads, never twice for a byte.
    """
    roots = [RootHasher() for _ in checkpoints]
    soup = RootHasher()
    taken = []
    worker = _Worker(plan, checkpoints, engine, write, pace)
    for step, digests in chain.from_iterable(worker.line.results(worker.tasks())):
        for source, digest, dtype in zip(step.sources, digests, step.dtypes, strict=False):
            tensor = checkpoints[source].tensors[step.name]
            roots[source].add(step.name, dtype.value, tensor.shape, digest)
        if step.out is not None:
            soup.add(step.name, step.out.value, step.shape, digests[-1])
        if step.rule is Rule.FIRST and len(set(digests)) > 1:
            taken.append(step.name)
    return Outcome(tuple(root.digest() for root in roots), soup.digest(), tuple(taken))


class _Worker:
    """What all threads share."""

    def __init__(
        self,
        plan: Plan,
        checkpoints: Sequence[Checkpoint],
        engine: Engine,
        write: Write,
        pace: Pace,
    ) -> None:
        self.plan = plan
        self.checkpoints = checkpoints
        self.engine = engine
        self.write = write
        self.pace = pace
        self.line = Line(self.run, pace)

    def tasks(self) -> Iterator[list[Step]]:
        """The steps in order, neighbours of small size together."""
        task: list[Step] = []
        size = 0
        for step in self.plan.steps:
            task.append(step)
            size += self.checkpoints[step.sources[0]].tensors[step.name].size * len(step.sources)
            if size >= TASK_BYTES or len(task) >= 256:
                yield task
                task, size = [], 0
        if task:
            yield task

    def run(self, task: Iterable[Step]) -> list[tuple[Step, list[str]]]:
        """Digests of every step's sources and, last, of its result."""
        return [(step, self._step(step)) for step in task]

    def _step(self, step: Step) -> list[str]:
        views = [self.checkpoints[source].view(step.name) for source in step.sources]
        if step.rule is Rule.AVERAGE:
            return self._average(step, views)
        digests = [self._digest(view) for view in views]
        if step.rule is Rule.LEFT_OUT:
            return digests
        if step.rule is Rule.IDENTICAL:
            self._require_identical(step, digests)
        offset = 0
        for piece in self._pieces(views[0]):
            self.write(step.name, offset, piece)
            offset += len(piece)
        return [*digests, digests[0]]

    def _average(self, step: Step, views: list[memoryview]) -> list[str]:
        """Combine one tensor chunk by chunk, digesting each chunk while it is in cache."""
        assert step.out is not None
        blend = Blend(step.dtypes, self.plan.weights, step.out, self.plan.allow_nonfinite)
        sizes = [dtype.bits // 8 for dtype in step.dtypes]
        out_size = step.out.bits // 8
        count = len(views[0]) // sizes[0]
        chunk = min(count, self.pace.chunk or chunk_elements(sum(sizes) + out_size))
        buffer = memoryview(bytearray(chunk * out_size))
        hashers = [tensor_hasher() for _ in range(len(views) + 1)]
        try:
            combine = self.engine.prepare(blend, views)
            for start in range(0, count, chunk or 1):
                stop = min(start + chunk, count)
                out = buffer[: (stop - start) * out_size]
                combine(start, stop, out)
                self.write(step.name, start * out_size, out)
                hashers[-1].update(out)
                for hasher, view, size in zip(hashers, views, sizes, strict=False):
                    hasher.update(view[start * size : stop * size])
                self.line.advance((stop - start) * (sum(sizes) + out_size))
        except NonFinite as found:
            raise self._nonfinite(step, found) from None
        except OutOfRange as found:
            raise _out_of_range(step, found) from None
        return [hasher.hexdigest() for hasher in hashers]

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

    def _require_identical(self, step: Step, digests: Sequence[str]) -> None:
        first = self.checkpoints[step.sources[0]].shown
        issues = [
            Issue(
                f"holds other values than in {first}, and {step.dtypes[0].value} is not averaged",
                self.checkpoints[source].shown,
                step.name,
                _way_out(step.dtypes[0]),
            )
            for source, digest in zip(step.sources, digests, strict=True)
            if digest != digests[0]
        ]
        if issues:
            raise MismatchError.collected(issues)

    def _nonfinite(self, step: Step, found: NonFinite) -> InputError:
        return InputError(
            f"holds NaN or infinity (element {found.element})",
            path=self.checkpoints[found.source].shown,
            tensor=step.name,
            advice="--allow-nonfinite lets IEEE rules apply",
        )


def _way_out(dtype: DType) -> str:
    leave_out = "--exclude leaves the tensor out"
    if dtype.kind is Kind.INTEGER:
        return f"--on-int first takes the first ingredient's, {leave_out}"
    return leave_out


def _out_of_range(step: Step, found: OutOfRange) -> MismatchError:
    assert step.out is not None
    return MismatchError(
        f"the mean of element {found.element} is beyond the range of {step.out.value}",
        tensor=step.name,
        advice="ask for a wider dtype, such as --dtype F32",
    )


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
