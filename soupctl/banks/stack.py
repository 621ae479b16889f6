"""Stacks: several banks of one base, each with a weight.

Rule 1: a stack adds sum(w_j * delta_j) to a block's input, where delta_j are the weighted prompts
of bank j. An average of the banks' parameters adds the same only if the gates are equal.
Rule 2: members are summed in the order of their names, so a stack without one of its banks is, bit
for bit, the stack that never had it.
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
    """Its weight, rounded to float64."""
    bank: PromptBank


class BankStack(nn.Module):
    """Banks by name, each with a weight other than zero; weights default to 1.

    Raises UsageError for no bank, a weight of zero, or several banks of which one prepends its
    prompts, which cannot be added; MismatchError for banks of different bases.
    """

    def __init__(
        self, banks: Mapping[str, PromptBank], weights: Mapping[str, Fraction] | None = None
    ) -> None:
        super().__init__()
        if not banks:
            raise UsageError("a stack needs at least one bank")
        given = {name: Fraction(1) for name in banks} if weights is None else weights
        if given.keys() != banks.keys():
            raise UsageError("the weights and banks of a stack have different names")
        self.weights = {name: given[name] for name in sorted(banks)}
        self._banks = {name: banks[name] for name in sorted(banks)}
        for number, bank in enumerate(self._banks.values()):
            # by number, because a name may hold dots
            self.add_module(str(number), bank)
        if zero := [name for name, weight in self.weights.items() if not weight]:
            raise UsageError("has a weight of zero", path=zero[0], advice="leave the bank out")
        self._require_one_base()

    def _require_one_base(self) -> None:
        (first, *others) = self._banks.items()
        for name, bank in self._banks.items():
            if others and bank.config.prepended:
                what = "has prepended prompts, which cannot be added to those of other banks"
                raise UsageError(what, path=name, advice="leave the bank out")
        for name, bank in others:
            require_same_base(first[1].config, bank.config, name)

    @property
    def members(self) -> tuple[Member, ...]:
        """The banks with their weights, in the order in which they are summed."""
        return tuple(
            Member(name, float(self.weights[name]), bank) for name, bank in self._banks.items()
        )

    def without(self, name: str) -> BankStack:
        """The stack of all other members, which the two stacks share.

        Raises LedgerError if there is none of that name, UsageError for the last one.
        """
        if name not in self._banks:
            names = ", ".join(self._banks)
            raise LedgerError("is not in the stack", path=name, advice=f"it holds {names}")
        rest = {other: bank for other, bank in self._banks.items() if other != name}
        if not rest:
            raise UsageError("is the only bank of the stack", path=name)
        return BankStack(rest, {other: self.weights[other] for other in rest})
