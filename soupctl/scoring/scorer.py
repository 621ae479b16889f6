"""What scores candidates: a shell command, or a Python function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from ..errors import UsageError
from ..frozen import frozen

Recorder = Callable[[int, float], None]
"""Takes the index of a candidate among those that are scored together, and its score."""


@frozen
class Candidate:
    """A soup to score."""

    label: str
    """Its name in messages: its ingredients."""
    path: Path


class Scorer(Protocol):
    """Scores candidates."""

    def score(self, candidates: Sequence[Candidate], record: Recorder) -> None:
        """Give `record` the score of each; ScorerError for one that gets none."""


@frozen
class Scoring:
    """How candidates are scored, and which score is better."""

    command: str | None = None
    """A shell command in which `{}` is the candidate's path."""
    function: str | Callable[[dict[str, Any]], float] | None = None
    """A function of a dict of arrays, or where it is: `module:function`, `file.py:function`."""
    minimize: bool = False
    jobs: int = 1
    """Candidates that are scored at once."""
    timeout: float | None = None
    """Seconds that a command may take; None for no limit."""

    def __post_init__(self) -> None:
        """Raise UsageError for no scorer or two, and for what a function cannot do."""
        if (self.command is None) == (self.function is None):
            what = "a scorer is given by either --score or --scorer"
            raise UsageError(what, advice="such as --score 'python score.py {}'")
        if self.jobs < 1:
            raise UsageError(f"at least one job is needed, not {self.jobs}")
        if self.timeout is not None and not (self.timeout > 0 and isfinite(self.timeout)):
            raise UsageError(f"a timeout must be positive, not {self.timeout}")
        if self.function is not None and (self.jobs > 1 or self.timeout is not None):
            what = "--jobs and --timeout apply to commands, not to a function"
            raise UsageError(what, advice="use --score")

    @property
    def name(self) -> str:
        """The scorer as its journal records it."""
        if self.command is not None:
            return self.command
        if isinstance(self.function, str):
            return self.function
        return f"{self.function.__module__}:{getattr(self.function, '__qualname__', 'function')}"

    def is_better(self, one: float, other: float) -> bool:
        """Whether a score is better than another, and not equal to it."""
        return one < other if self.minimize else one > other

    def best_first(self, scores: Sequence[float]) -> list[int]:
        """The places of the scores, the best first; equal ones in their order."""
        sign = 1 if self.minimize else -1
        return sorted(range(len(scores)), key=lambda place: sign * scores[place])
