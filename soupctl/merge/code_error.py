"""The error of quantised weights against their exact means."""

from __future__ import annotations

from math import sqrt

from ..frozen import frozen


@frozen
class CodeError:
    """The quantisation error of one tensor, or of several."""

    tensors: int
    squares: float
    """Sum of the squares of all errors."""
    means: float
    """Sum of the squares of all means."""
    worst: float
    """Largest relative error of a tensor."""
    where: str
    """The tensor that has it."""

    @property
    def relative(self) -> float:
        """Root mean square of the errors, relative to that of the means."""
        return sqrt(self.squares / self.means) if self.means else 0.0

    def together(self, other: CodeError | None) -> CodeError:
        """The error of both together."""
        if other is None:
            return self
        worst = max(self, other, key=lambda each: each.worst)
        return CodeError(
            self.tensors + other.tensors,
            self.squares + other.squares,
            self.means + other.means,
            worst.worst,
            worst.where,
        )
