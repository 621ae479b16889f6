"""Aspect-ratio buckets: images of one shape share a batch, in an order that any start can continue.

Rule 1: the image at a position follows from seed, batch size and images alone.
Rule 2: all batches are full: the last one of a bucket takes images of that bucket a second time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..diffusion import rng

Size = tuple[int, int]
"""Width and height in pixels."""
REMEMBERED = 2
"""Epochs whose order is kept in memory."""


def bucket_sizes(resolution: int, unit: int, most: int | None = None) -> tuple[Size, ...]:
    """The sizes of buckets: multiples of `unit` with about as many pixels as a square.

    No size has more pixels than the square of `resolution`, nor a side of less than half or more
    than twice of it, or than `most`. Widths and heights are exchangeable.
    """
    found = {(resolution, resolution)}
    longest = 2 * resolution if most is None else min(2 * resolution, most)
    for long in range(resolution + unit, longest + 1, unit):
        short = resolution * resolution // long // unit * unit
        if 2 * short >= resolution:
            found |= {(long, short), (short, long)}
    return tuple(sorted(found))


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """The size whose aspect ratio is nearest to that of an image, on a logarithmic scale.

    Of several, the one with the most pixels, and of those the first.
    """
    aspect = math.log(size[0] / size[1])

    def distance(each: Size) -> tuple[float, int]:
        return abs(math.log(each[0] / each[1]) - aspect), -each[0] * each[1]

    return min(sizes, key=distance)


def size_for(size: Size, resolutions: Sequence[Sequence[Size]]) -> Size:
    """The size of an image among those of several resolutions, which ascend.

    It is the nearest one of the highest resolution at which the image is not enlarged, or of the
    lowest.
    """
    nearest = [nearest_size(size, each) for each in resolutions]
    covered = [each for each in nearest if each[0] <= size[0] and each[1] <= size[1]]
    return covered[-1] if covered else nearest[0]


@dataclass(frozen=True, slots=True)
class PlainOrder:
    """An order in which each epoch visits every image as often as it counts."""

    seed: int
    visited: tuple[int, ...]
    """The indices of images, each as often as it counts."""

    @property
    def epoch(self) -> int:
        """Visits in an epoch."""
        return len(self.visited)

    def index(self, position: int) -> int:
        """The index of the image at a position, counted through all epochs."""
        return self.visited[rng.sample_index(self.seed, position, self.epoch)]


class BucketOrder:
    """An order in which each batch has images of one bucket."""

    def __init__(self, seed: int, buckets: Sequence[Sequence[int]], batch_size: int) -> None:
        """An order of the images whose indices are in `buckets`."""
        self._seed = seed
        self._buckets = [np.asarray(each, np.int64) for each in buckets]
        self._batch_size = batch_size
        self._known: dict[int, Any] = {}
        self.epoch = visits([len(each) for each in buckets], batch_size)

    def index(self, position: int) -> int:
        """The index of the image at a position, counted through all epochs."""
        epoch, place = divmod(position, self.epoch)
        batch, number = divmod(place, self._batch_size)
        return int(self._batches(epoch)[batch, number])

    def _batches(self, epoch: int) -> Any:
        """The batches of an epoch: indices [batches, batch size]."""
        if epoch not in self._known:
            rows = []
            for number, bucket in enumerate(self._buckets):
                order = rng.generator(self._seed, "bucket", epoch, number).permutation(len(bucket))
                count = -(-len(bucket) // self._batch_size)
                filled = np.resize(bucket[order], count * self._batch_size)
                rows.append(filled.reshape(count, self._batch_size))
            batches = np.concatenate(rows)
            order = rng.generator(self._seed, "batches", epoch).permutation(len(batches))
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[epoch] = batches[order]
        return self._known[epoch]


Order = PlainOrder | BucketOrder


def visits(counts: Sequence[int], batch_size: int) -> int:
    """The visits in an epoch of buckets with so many images, whose batches are full."""
    return sum(-(-count // batch_size) for count in counts) * batch_size
