"""Random numbers of the elements of a tensor, the same however it is divided.

Rule 1: the generator is Philox 4x64 (Salmon et al. 2011): its key is a digest of the seed, the
tensor's name and the model's place, its counter the element's index.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

WORDS = 4
"""Numbers of one count of Philox."""


class ElementNumbers:
    """A random 64-bit number for each element of a tensor in one model."""

    def __init__(self, seed: int, tensor: str, model: int) -> None:
        text = json.dumps([seed, tensor, model])
        self._key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")

    def at(self, start: int, count: int) -> NDArray[np.uint64]:
        """The numbers of `count` elements from `start` on, uniform from 0 to 2**64 - 1."""
        counter, skipped = divmod(start, WORDS)
        generator = np.random.Philox(key=self._key, counter=counter)
        numbers: NDArray[np.uint64] = generator.random_raw(skipped + count)
        return numbers[skipped:]

    def shares(self, start: int, count: int) -> NDArray[np.float64]:
        """The numbers of `at` as multiples of 2**-53, from 0 to below 1."""
        shares: NDArray[np.float64] = (self.at(start, count) >> np.uint64(11)).astype(np.float64)
        return shares * 2.0**-53
