"""Tensors whose input channels are padded with zeros, such as those of an inpainting model.

Rule 1: channels are the second dimension; what is there keeps its place, and zeros come after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

CHANNELS = 1
"""The dimension of the input channels."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The elements of one output channel."""

    stored: int
    padded: int
    """With the zeros after them."""


def differ_in_channels(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes differ in their input channels and in nothing else."""
    if len(one) != len(other) or len(one) <= CHANNELS or one[CHANNELS] == other[CHANNELS]:
        return False
    return _without_channels(one) == _without_channels(other)


def _without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:CHANNELS] + shape[CHANNELS + 1 :]


def rows_of(stored: tuple[int, ...], padded: tuple[int, ...]) -> Rows:
    """The rows of a tensor of one shape that is padded to another."""
    return Rows(prod(stored[CHANNELS:]), prod(padded[CHANNELS:]))


def stored_before(place: int, rows: Rows) -> int:
    """How many elements are stored of those before a place in the padded tensor."""
    channel, within = divmod(place, rows.padded)
    return channel * rows.stored + min(within, rows.stored)


def stored_runs(start: int, stop: int, rows: Rows) -> Iterator[tuple[int, int]]:
    """The runs of stored elements from `start` to `stop`: place in the padded tensor, and length.

    They come in order, one an output channel.
    """
    for channel in range(start // rows.padded * rows.padded, stop, rows.padded):
        first, last = max(channel, start), min(channel + rows.stored, stop)
        if first < last:
            yield first, last - first
