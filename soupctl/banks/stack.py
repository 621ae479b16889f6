"""Several banks on one base, each with a weight, every one of them kept as it is.

Rule 1: the stack adds sum(w_j * delta_j) to a block's input: the mean of outputs, where averaging
parameters would give something else unless the gates are equal.
Rule 2: members are added in the order of their names, so a stack that one was taken out of is, bit
for bit, the stack that never held it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from torch import nn

from ..errors import LedgerError, UsageError
from .bank import PromptBank
from .compatibility import require_same_base


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A bank in a stack."""

    name: str
    scale: float
    """Its weight, as the nearest float64."""
    bank: PromptBank


class BankStack(nn.Module):
    """Banks by name, each with a weight that may be any number but zero.

    Raises UsageError for no bank, a weight of zero, or prompts that are put before the sequence,
    which have no sum; MismatchError for banks of different bases.
    """

    def __init__(
        self, banks: Mapping[str, PromptBank], weights: Mapping[str, Fraction] | None = None
    ) -> None:
        super().__init__()
        if not banks:
            raise UsageError("a stack holds one bank or more")
        given = {name: Fraction(1) for name in banks} if weights is None else weights
        if given.keys() != banks.keys():
            raise UsageError("weights and banks of a stack have different names")
        self.weights = {name: given[name] for name in sorted(banks)}
        self._banks = {name: banks[name] for name in sorted(banks)}
        for number, bank in enumerate(self._banks.values()):
            # by number, because a name may hold dots
            self.add_module(str(number), bank)
        if zero := [name for name, weight in self.weights.items() if not weight]:
            raise UsageError("has a weight of zero", path=zero[0], advice="leave it out")
        self._require_one_base()

    def _require_one_base(self) -> None:
        (first, *others) = self._banks.items()
        for name, bank in self._banks.items():
            if others and bank.config.prepended:
                what = "puts prompts before the sequence, which cannot be added up"
                raise UsageError(what, path=name, advice="such a bank stays alone")
        for name, bank in others:
            require_same_base(first[1].config, bank.config, name)

    @property
    def members(self) -> tuple[Member, ...]:
        """The banks with their weights, in the order in which they are added."""
        return tuple(
            Member(name, float(self.weights[name]), bank) for name, bank in self._banks.items()
        )

    def without(self, name: str) -> BankStack:
        """The stack of all other members, as they are; it shares them.

        Raises LedgerError if there is none of that name, UsageError for the last one.
        """
        if name not in self._banks:
            have = ", ".join(self._banks)
            raise LedgerError("is not in the stack", path=name, advice=f"it holds {have}")
        rest = {other: bank for other, bank in self._banks.items() if other != name}
        if not rest:
            raise UsageError("is the last bank of the stack", path=name)
        return BankStack(rest, {other: self.weights[other] for other in rest})
