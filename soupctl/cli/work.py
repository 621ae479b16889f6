"""The work of a planned job: its limits from the command line, and its progress on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from ..storage.sizes import parse_size
from .progress import progress

if TYPE_CHECKING:
    from ..verbs import ExecutionOptions
    from .merge_output import MergeOptions


class PlannedWork(Protocol):
    """What a preview tells about the work."""

    @property
    def read(self) -> int:
        """Bytes that will be read."""

    @property
    def written(self) -> int:
        """Bytes that will be written."""

    @property
    def threads(self) -> int:
        """Threads that the limits allow."""

    @property
    def chunk(self) -> int | None:
        """Elements in a chunk; None to fit the cache."""


def limits(merge: MergeOptions) -> tuple[ExecutionOptions, int | None]:
    """The options of the device, and the limit of memory; None if there is no limit."""
    from .. import verbs

    most = parse_size(merge.max_memory, "--max-memory")
    return verbs.ExecutionOptions.on(merge.device, most), most


@contextmanager
def working(
    plan: PlannedWork, execution: ExecutionOptions, merge: MergeOptions, output: str | None = None
) -> Iterator[ExecutionOptions]:
    """The options with which the plan is carried out, whose progress a terminal shows meanwhile.

    Nothing is shown while the output goes to standard output.
    """
    with progress(plan.read + plan.written, merge.quiet or output == "-") as advance:
        yield replace(execution, threads=plan.threads, chunk=plan.chunk, progress=advance)
