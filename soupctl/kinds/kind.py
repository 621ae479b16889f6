"""What a tensor is to its model, as a value.

Rule 1: only weights, statistics and copies are averaged as they lie; of every other kind, a mean
of the numbers is not the mean of what they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..format.scales import CodeScale


class Role(Enum):
    """What the numbers of a tensor are."""

    WEIGHT = "weight"
    COPY = "copy"
    STATISTIC = "statistic"
    CODE = "code"
    COMPANION = "companion of a code"
    FACTOR = "factor"
    CONSTANT = "constant"
    SETTING = "setting"


AVERAGED = frozenset({Role.WEIGHT, Role.COPY, Role.STATISTIC})
"""Kinds of which the mean of the numbers is the mean of what they stand for."""
QUANTISED = frozenset({Role.CODE, Role.COMPANION})
FIXED = frozenset({Role.CONSTANT, Role.SETTING})
"""Kinds that training does not change, or that say how the weights are used."""


@dataclass(frozen=True, slots=True)
class TensorKind:
    """The kind of one tensor."""

    role: Role
    what: str = ""
    """In words: the scheme of a code, the kind of a factor, what a constant is."""
    of: str | None = None
    """The tensor that it belongs to: the code of a companion, the original of a copy."""
    scale: CodeScale | None = None
    """Where the scale of a code is, if the code times its scale is exactly what it stands for."""
    is_derived: bool = False
    """Whether a library makes it anew where it is missing, from its config alone."""

    @property
    def text(self) -> str:
        """The kind in words, such as `code (fp8 with a scale)`."""
        return f"{self.role.value} ({self.what})" if self.what else self.role.value


WEIGHT = TensorKind(Role.WEIGHT)
