"""`--ray`: the work of a command on the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.address import require_address, require_reachable
from .main import RAY
from .merge_output import MergeOptions, make
from .progress import BytesBar

if TYPE_CHECKING:
    from ..verbs import ComponentResult, ExecutionOptions, Job, Level, Verified


def with_address(arguments: Sequence[str]) -> list[str]:
    """The arguments, where `--ray` without an address stands for `--ray auto`."""
    found = list(arguments)
    for place, each in enumerate(arguments):
        if each == "--":
            break
        is_last = place + 1 == len(found)
        if each == RAY and (is_last or found[place + 1].startswith("-")):
            found[place] = f"{RAY}=auto"
    return found


def make_on_workers(
    address: str,
    opening: Callable[[Any], AbstractContextManager[Job]],
    request: Any,
    output: str,
    merge: MergeOptions,
) -> tuple[ComponentResult, ...]:
    """Make the soup of a request on workers and report it; a dry run needs none."""
    from .. import verbs

    shared = verbs.Opening(opening, request)
    if merge.dry_run:
        require_address(address)
        return make(shared.job(), output, merge)
    require_reachable(address)

    def carry_out(job: Job, execution: ExecutionOptions) -> tuple[ComponentResult, ...]:
        if isinstance(execution.progress, BytesBar):
            # joining reads and writes the soup once more
            execution.progress.expect(2 * sum(each.written for each in job.components))
        verbs.require_divisible(job)
        with verbs.open_workers(address) as workers:
            return verbs.make_on_workers(
                workers,
                shared,
                job,
                force=merge.force,
                execution=execution,
                threads=merge.threads or 1,
            )

    return make(shared.job(), output, merge, carry_out=carry_out)


@contextmanager
def proving(address: str, threads: int) -> Iterator[Callable[..., tuple[Verified, ...]]]:
    """A function that verifies a soup on workers, and takes what `verbs.verify` takes."""
    from .. import verbs

    with verbs.open_workers(address) as workers:

        def prove(
            soup: str | Path,
            ingredients: Sequence[str | Path] = (),
            *,
            search: Sequence[Path] = (),
            level: Level | None = None,
            component: str | None = None,
            execution: ExecutionOptions | None = None,
        ) -> tuple[Verified, ...]:
            question = verbs.ProofQuestion(soup, tuple(ingredients), tuple(search), component)
            return verbs.verify_on_workers(
                workers, question, level=level, execution=execution, threads=threads
            )

        yield prove
