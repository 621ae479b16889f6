"""The answer to a question about a soup, as a value, and the refusal where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..errors import UsageError
from ..ledger.ledger import IngredientEntry, Ledger

Known = Sequence[tuple[Checkpoint, Ledger]]
"""The components of a soup, each with its ledger, which was found to fit its tensors."""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """A data shard that ingredients were trained on."""

    name: str
    digest: str
    samples: int
    """Images in it."""
    images: tuple[str, ...] = ()
    """Names that it has for the image that was asked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a soup holds something, and by which ingredients."""

    holds: bool
    entries: tuple[IngredientEntry, ...] = ()
    """What is it, is made of it or was trained on it, in each component."""
    data: tuple[TrainedOn, ...] = ()
    """The data shards that were asked for, by themselves or by an image."""
    notes: tuple[str, ...] = ()
    """What else there is to know, above all of a no."""


def cannot_tell(what: str | Path, soup: str, reason: str, advice: str | None = None) -> UsageError:
    """The refusal of a question to which neither yes nor no is proven."""
    problem = f"cannot tell whether {soup} holds it: {reason}"
    return UsageError(problem, path=what, advice=advice)
