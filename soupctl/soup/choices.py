"""What a user chooses from by name; light enough for a command line to load first."""

from __future__ import annotations

from enum import Enum


class OnInt(Enum):
    """What happens to integer tensors that differ between ingredients."""

    REFUSE = "refuse"
    FIRST = "first"


class Way(Enum):
    """What a soup is computed from."""

    INGREDIENTS = "ingredients"
    SUM = "sum"
    """The exact sum that was kept beside the soup, and what changes."""
    ROUNDED = "rounded soup"
    """The soup as it is, and what changes: not exact."""


class WeightBy(Enum):
    """What gives ingredients their weights."""

    SAMPLES = "samples"
    """How many images each was trained on."""


class Level(Enum):
    """A level of proof; each holds those before it."""

    NOTHING = "nothing"
    HEADER = "header"
    """Its ledger is sound and describes tensors of these dtypes."""
    DIGEST = "digest"
    """Its tensors are those that the ledger describes."""
    REBUILD = "rebuild"
    """Its tensors are, bit for bit, what its ingredients make."""

    def holds(self, other: Level) -> bool:
        """Whether what is proven to this level is proven to the other."""
        levels = list(Level)
        return levels.index(self) >= levels.index(other)
