"""The kind of a tensor: its role in the model.

Rule 1: only weights, statistics and copies are averaged as stored; for every other kind, a mean of
the stored numbers is not the mean of the values they represent.
"""

from __future__ import annotations

from enum import Enum

from ..format.scales import CodeScale
from ..frozen import frozen


class Role(Enum):
    """The role of a tensor."""

    WEIGHT = "weight"
    COPY = "copy"
    STATISTIC = "statistic"
    CODE = "code"
    COMPANION = "companion of a code"
    FACTOR = "factor"
    CONSTANT = "constant"
    SETTING = "setting"


PLURALS = {Role.COPY: "copies", Role.COMPANION: "companions of codes"}
"""The roles that several tensors do not have by an added `s`."""
AVERAGED = frozenset({Role.WEIGHT, Role.COPY, Role.STATISTIC})
"""Roles for which the mean of the stored numbers is the mean of their values."""
QUANTISED = frozenset({Role.CODE, Role.COMPANION})
FIXED = frozenset({Role.CONSTANT, Role.SETTING})
"""Roles of tensors that training does not change, or that say how the weights are used."""


@frozen
class TensorKind:
    """The kind of one tensor."""

    role: Role
    what: str = ""
    """A description: the scheme of a code, the kind of a factor, the name of a constant."""
    of: str | None = None
    """The tensor that it belongs to: the code of a companion, the original of a copy."""
    scale: CodeScale | None = None
    """The place of a code's scale, if code times scale is exactly its value."""
    is_derived: bool = False
    """Whether a library recomputes it from the config if it is missing."""

    @property
    def is_part(self) -> bool:
        """Whether it means something only together with other tensors: a code or a factor."""
        return self.role in QUANTISED or self.role is Role.FACTOR

    @property
    def text(self) -> str:
        """The kind in words, such as `code (fp8 with a scale)`."""
        return self._with_what(self.role.value)

    def counted(self, number: int) -> str:
        """`number` tensors of the kind in words, such as `2 codes (fp8 with a scale)`."""
        role = self.role.value if number == 1 else PLURALS.get(self.role, f"{self.role.value}s")
        return f"{number} {self._with_what(role)}"

    def _with_what(self, role: str) -> str:
        return f"{role} ({self.what})" if self.what else role


WEIGHT = TensorKind(Role.WEIGHT)
