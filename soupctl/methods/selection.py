"""The largest magnitudes of a tensor, selected exactly in passes over its blocks.

Rule 1: of equal magnitudes, those of lower index count as larger, so that exactly as many are
selected as are asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .contract import Values
from .settings import BLOCK

Bits = NDArray[np.uint64]
DIGIT = 16
"""Bits of a magnitude that one pass decides."""
MASK = (1 << DIGIT) - 1


def magnitude_bits(values: Values) -> Bits:
    """The bits of magnitudes as integers, which are in the order of the magnitudes."""
    return np.abs(values).view(np.uint64)


class LargestMagnitudes:
    """Selects so many of the largest magnitudes of a tensor of `count` elements.

    Each survey counts by the next 16 bits those that are still undecided; as soon as they fit a
    block, they are gathered and sorted.
    """

    def __init__(self, wanted: int, count: int) -> None:
        self._left = wanted
        """How many of the undecided magnitudes are selected."""
        self._prefix = 0
        """The leading bits of the undecided ones."""
        self._shift = 64
        self._undecided = count
        self._counts = np.zeros(1 << DIGIT, np.int64)
        self._gathered: list[Bits] = []
        self.needs_survey = 0 < wanted < count
        if not self.needs_survey:
            # none or all of them
            self._left = min(wanted, count)
            self._prefix, self._shift = 0, 0 if wanted else 64

    def survey(self, bits: Bits) -> None:
        """Survey the magnitudes of the next block."""
        if self._shift < 64:
            bits = bits[bits >> np.uint64(self._shift) == np.uint64(self._prefix)]
        if self._undecided <= BLOCK:
            self._gathered.append(bits)
            return
        digits = bits >> np.uint64(self._shift - DIGIT) & np.uint64(MASK)
        self._counts += np.bincount(digits.astype(np.int64), minlength=1 << DIGIT)

    def end_survey(self) -> None:
        """Decide what the survey has shown."""
        if self._undecided <= BLOCK:
            found = np.sort(np.concatenate(self._gathered))[::-1]
            least = found[self._left - 1]
            self._left -= int(np.count_nonzero(found > least))
            self._decide(int(least))
            return
        from_top = np.cumsum(self._counts[::-1])
        place = int(np.searchsorted(from_top, self._left))
        digit = MASK - place
        self._undecided = int(self._counts[digit])
        self._left -= int(from_top[place]) - self._undecided
        self._prefix = self._prefix << DIGIT | digit
        self._shift -= DIGIT
        self._counts[:] = 0
        if self._shift == 0:
            self._decide(self._prefix)

    def _decide(self, least: int) -> None:
        self._prefix, self._shift = least, 0
        self._gathered = []
        self.needs_survey = False

    def selected(self, bits: Bits) -> NDArray[np.bool_]:
        """Which of the next block's magnitudes are selected; blocks are given in order, once."""
        if self._shift == 64:
            return np.zeros(bits.shape, np.bool_)
        least = np.uint64(self._prefix)
        found: NDArray[np.bool_] = bits > least
        equal = np.flatnonzero(bits == least)[: self._left]
        found[equal] = True
        self._left -= len(equal)
        return found
