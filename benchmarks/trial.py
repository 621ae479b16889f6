"""One case, carried out: check, watch, then time it in turn with what it is measured against.

Rule 1: before and after the timed runs the output must have the bytes that another number of
threads gives; else RedGate.
Rule 2: inputs and output together above half of memory are run cold, and it is said how cold.
Rule 3: every run begins with no output, nothing left to write, and the inputs as the rule above
says.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pagecache
from cases import OUT, Case, Versus
from gate import RedGate, other_threads, sha256, tensors_described
from machine import memory_bytes
from measure import Duration, timed, watched
from result import CaseResult
from subjects import Subjects

Measured = TypeVar("Measured")

# with more of the inputs than this still in memory, a run is not called cold
COLD_SHARE = 0.01


class Trial:
    """A case with its files in a folder, ready to be run any number of times."""

    def __init__(self, case: Case, subjects: Subjects, folder: Path) -> None:
        self.case = case
        self.subjects = subjects
        self.out = folder / "benchmark-out.safetensors"
        self.inputs = case.ingredients.write(folder) if case.ingredients else []
        self.bytes_read = sum(path.stat().st_size for path in self.inputs)
        self.bytes_written = self.inputs[0].stat().st_size if OUT in case.command else 0
        sparse = case.ingredients is not None and case.ingredients.sparse
        self.cold = not sparse and self.bytes_read + self.bytes_written > memory_bytes() // 2
        self.warm_share = 0.0

    @property
    def ours(self) -> list[str]:
        """The command of soupctl."""
        return self.subjects.ours(self.case, self.inputs, self.out)

    def theirs(self, versus: Versus) -> list[str]:
        """The command that takes turns with soupctl's."""
        return self.subjects.theirs(versus, self.inputs, self.out)

    def run(
        self,
        measure: Callable[[Sequence[str], dict[str, str]], Measured],
        command: Sequence[str],
    ) -> Measured:
        """What `measure` says of one run of `command`; its output stays until the next."""
        self.out.unlink(missing_ok=True)
        # what the run before left to write must not burden this one
        os.sync()
        if self.cold:
            self.warm_share = max(self.warm_share, pagecache.evict(self.inputs))
        with ExitStack() as stack:
            environment = {}
            if self.case.first_run:
                empty = tempfile.TemporaryDirectory(dir=self.out.parent)
                environment["XDG_CACHE_HOME"] = stack.enter_context(empty)
            return measure(command, environment)

    def page_cache(self) -> str:
        """How the inputs lay in the page cache when the runs began, in words."""
        if not self.cold:
            return "warm"
        if self.warm_share <= COLD_SHARE:
            return "cold (inputs evicted: above half of memory)"
        return f"cold but for {self.warm_share:.0%} of the inputs"


def measured(case: Case, subjects: Subjects, folder: Path, runs: int) -> CaseResult:
    """The figures of `case` from `runs` timed runs of each side, in turn, after a warm-up."""
    trial = Trial(case, subjects, folder)
    try:
        return _measured(trial, runs)
    finally:
        trial.out.unlink(missing_ok=True)


def _measured(trial: Trial, runs: int) -> CaseResult:
    digest = _digest_with_other_threads(trial)
    if not trial.cold and not _is_sparse(trial.case):
        pagecache.warm(trial.inputs)
    footprints = tuple(trial.run(watched, trial.ours) for _ in range(trial.case.watched_runs))
    _require_digest(trial, digest)
    if trial.case.versus is not None:
        trial.run(timed, trial.theirs(trial.case.versus))
        _require_same_work(trial)
    ours: list[Duration] = []
    theirs: list[Duration] = []
    for _ in range(runs):
        if trial.case.versus is not None:
            theirs.append(trial.run(timed, trial.theirs(trial.case.versus)))
        ours.append(trial.run(timed, trial.ours))
    _require_digest(trial, digest)
    return CaseResult(
        case=trial.case,
        page_cache=trial.page_cache(),
        ours=tuple(ours),
        theirs=tuple(theirs),
        footprints=footprints,
        bytes_read=trial.bytes_read,
        bytes_written=trial.bytes_written,
    )


def _is_sparse(case: Case) -> bool:
    return case.ingredients is not None and case.ingredients.sparse


def _digest_with_other_threads(trial: Trial) -> str | None:
    if OUT not in trial.case.command:
        return None
    trial.run(timed, [*trial.ours, "--threads", other_threads()])
    return sha256(trial.out)


def _require_digest(trial: Trial, digest: str | None) -> None:
    if digest is not None and sha256(trial.out) != digest:
        raise RedGate(f"{trial.case.name}: the output depends on the threads, or on the run")


def _require_same_work(trial: Trial) -> None:
    """A script that writes other tensors than it was given has not done what soupctl does."""
    if trial.case.versus is not Versus.SCRIPT:
        return
    if tensors_described(trial.out) != tensors_described(trial.inputs[0]):
        command = shlex.join(trial.theirs(Versus.SCRIPT)[:2])
        raise RedGate(f"{trial.case.name}: {command} wrote other tensors than it read")
