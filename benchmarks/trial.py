"""One case, carried out: check, watch, then time it in turn with what it is measured against.

Rule 1: before and after the timed runs the output, and the sum kept of it, must have the bytes that
another number of threads gives; where soupctl is measured against itself, both outputs must have
the same content; else RedGate.
Rule 2: what both sides read and what soupctl writes, together above half of memory, are run cold,
as is a case that asks for it, and it is said how cold.
Rule 3: every run begins with no output and no sum of one, nothing left to write, and the inputs as
the rule above says.
"""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pagecache
from cases import OUT, PREPARED, Case, Versus
from files import Files, remove_soup, total_bytes
from gate import RedGate, content_digest, other_threads, sha256, tensors_described
from machine import memory_bytes
from measure import Duration, timed, watched
from result import CaseResult
from subjects import Subjects

Measured = TypeVar("Measured")

# if more of the inputs than this are still cached, a run does not count as cold
COLD_SHARE = 0.01


class Trial:
    """A case with its files in a folder, ready to be run any number of times."""

    def __init__(self, case: Case, subjects: Subjects, folder: Path) -> None:
        self.case = case
        self.subjects = subjects
        self.files = Files.of(case, folder)
        if case.ingredients is not None:
            case.ingredients.write(folder)
        if case.needs_soup and self.files.soup is not None and not self.files.soup.exists():
            timed(subjects.ours(PREPARED, self.files))
        self.bytes_read = total_bytes(self.files.read_by(case.command))
        self.bytes_written = 0
        self.cold = False
        self.warm_share = 0.0

    @property
    def ours(self) -> list[str]:
        """The command of soupctl."""
        return self.subjects.ours(self.case.command, self.files)

    def theirs(self, versus: Versus) -> list[str]:
        """The command that takes turns with soupctl's."""
        return self.subjects.theirs(versus, self.files)

    @property
    def inputs(self) -> list[Path]:
        """What either side reads."""
        rival = self.case.versus and self.case.versus.command
        both = self.files.read_by([*self.case.command, *(rival or ())])
        return list(dict.fromkeys(both))

    def digests(self) -> dict[str, str]:
        """The hash of every file that the last run left, by name."""
        return {path.name: sha256(path) for path in self.files.written()}

    def rehearse(self) -> dict[str, str]:
        """The hashes of what one run with another number of threads leaves.

        How much that is decides with the inputs whether the runs that follow are cold.
        """
        if OUT in self.case.command:
            self.run(timed, [*self.ours, "--threads", other_threads()])
        self.bytes_written = total_bytes(self.files.written())
        sparse = self.case.ingredients is not None and self.case.ingredients.sparse
        touched = total_bytes(self.inputs) + self.bytes_written
        self.cold = self.case.evicted or (not sparse and touched > memory_bytes() // 2)
        return self.digests()

    def run(
        self,
        measure: Callable[[Sequence[str], dict[str, str]], Measured],
        command: Sequence[str],
    ) -> Measured:
        """What `measure` says of one run of `command`; its output stays until the next."""
        remove_soup(self.files.out)
        # pending writes of the previous run must not slow down this one
        os.sync()
        if self.cold:
            self.warm_share = max(self.warm_share, pagecache.evict(self.inputs))
        with ExitStack() as stack:
            environment = {}
            if self.case.first_run:
                empty = tempfile.TemporaryDirectory(dir=self.files.out.parent)
                environment["XDG_CACHE_HOME"] = stack.enter_context(empty)
            return measure(command, environment)

    def page_cache(self) -> str:
        """How the inputs lay in the page cache when the runs began, in words."""
        if not self.cold:
            return "warm"
        if self.warm_share <= COLD_SHARE:
            return "cold (inputs evicted)"
        return f"cold but for {self.warm_share:.0%} of the inputs"


def measured(case: Case, subjects: Subjects, folder: Path, runs: int) -> CaseResult:
    """The figures of `case` from `runs` timed runs of each side, in turn, after a warm-up."""
    trial = Trial(case, subjects, folder)
    try:
        return _measured(trial, runs)
    finally:
        remove_soup(trial.files.out)


def _measured(trial: Trial, runs: int) -> CaseResult:
    digests = trial.rehearse()
    if not trial.cold and not _is_sparse(trial.case):
        pagecache.warm(trial.inputs)
    footprints = tuple(trial.run(watched, trial.ours) for _ in range(trial.case.watched_runs))
    _require_digests(trial, digests)
    if trial.case.versus is not None:
        _rehearse_theirs(trial, trial.case.versus)
    ours: list[Duration] = []
    theirs: list[Duration] = []
    for _ in range(runs):
        if trial.case.versus is not None:
            theirs.append(trial.run(timed, trial.theirs(trial.case.versus)))
        ours.append(trial.run(timed, trial.ours))
    _require_digests(trial, digests)
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


def _require_digests(trial: Trial, digests: Mapping[str, str]) -> None:
    if trial.digests() != digests:
        raise RedGate(f"{trial.case.name}: the output depends on the threads, or on the run")


def _rehearse_theirs(trial: Trial, versus: Versus) -> None:
    """One run of what soupctl is measured against, after one of soupctl; RedGate if they differ."""
    soupctl, out = trial.subjects.soupctl, trial.files.out
    ours = content_digest(soupctl, out) if versus.command else None
    trial.run(timed, trial.theirs(versus))
    if ours is not None and content_digest(soupctl, out) != ours:
        raise RedGate(f"{trial.case.name}: {versus.value} gives another content")
    # a script whose output has other tensors has not done the same job
    if versus is Versus.SCRIPT and tensors_described(out) != tensors_described(trial.inputs[0]):
        command = shlex.join(trial.theirs(versus)[:2])
        raise RedGate(f"{trial.case.name}: {command} wrote other tensors than it read")
