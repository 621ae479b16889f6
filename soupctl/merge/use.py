"""The use of a tensor by one order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .step import Step


class Use(NamedTuple):
    """A step of one order, with the indices of its sources among those of all orders."""

    order: int
    step: Step
    sources: tuple[int, ...]

    @property
    def counted(self) -> list[int]:
        """The indices of the sources that count for the tensor, at least one."""
        return [self.sources[place] for place in self.step.weights.counted]


def sources_of(uses: Sequence[Use]) -> dict[int, None]:
    """The sources of all uses, each once, in order."""
    return dict.fromkeys(source for use in uses for source in use.sources)
