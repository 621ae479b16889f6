"""Small images kept in memory once they are decoded, so that each is read from disk once.

Rule 1: at most MOST_KEPT bytes are kept in a process; images beyond that are read each time.
Rule 2: an image that is kept had the digest of the scan when it was read, so a file that changes
afterwards changes nothing in training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .buckets import Size
from .dataset import Sample
from .pixels import read_pixels

MOST_KEPT = 1 << 26


class KeptImages:
    """Images as `read_pixels` gives them, kept so far as they fit."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._free = most
        self._kept: dict[tuple[str, Size, int], npt.NDArray[np.float32]] = {}

    def read(self, sample: Sample, size: Size, channels: int) -> npt.NDArray[np.float32]:
        """The middle of an image, [channels, height, width]; it must not be changed."""
        key = str(sample.path), size, channels
        if key in self._kept:
            return self._kept[key]
        pixels = read_pixels(sample, size, channels, (0.5, 0.5))
        if pixels.nbytes <= self._free:
            self._free -= pixels.nbytes
            self._kept[key] = pixels
        return pixels
