"""How far a soup can be proven."""

from __future__ import annotations

from enum import Enum


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
