"""The answer to a question about a soup, and the error if it cannot be answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import UsageError
from ..frozen import frozen
from ..ledger.ledger import IngredientEntry, Ledger

Known = Sequence[tuple[Checkpoint, Ledger]]
"""The components of a soup, each with its verified ledger."""


@frozen
class TrainedOn:
    """A data shard that ingredients were trained on."""

    name: str
    digest: str
    samples: int
    """The number of its images."""
    images: tuple[str, ...] = ()
    """Its names of the image in question."""


@frozen
class Answer:
    """Whether a soup holds something, and by which ingredients."""

    holds: bool
    entries: tuple[IngredientEntry, ...] = ()
    """The ingredients that are it, contain it or were trained on it, in each component."""
    data: tuple[TrainedOn, ...] = ()
    """The data shards in question, or that contain the image in question."""
    notes: tuple[str, ...] = ()
    """Remarks for the user, for example on a negative answer."""


def cannot_tell(what: str | Path, soup: str, reason: str, advice: str | None = None) -> UsageError:
    """The error for a question that can be answered neither with yes nor with no."""
    problem = f"cannot tell whether {soup} holds it: {reason}"
    return UsageError(problem, path=what, advice=advice)
