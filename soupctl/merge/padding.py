"""Padding of input channels with zeros, for example to those of an inpainting model.

Rule 1: channels are the second dimension; zeros come after the existing ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ..frozen import frozen

CHANNELS = 1
"""The dimension of the input channels."""


@frozen
class Rows:
    """The elements of one output channel."""

    stored: int
    padded: int
    """The number of elements with padding."""


def differ_in_channels(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes differ only in their input channels."""
    if len(one) != len(other) or len(one) <= CHANNELS or one[CHANNELS] == other[CHANNELS]:
        return False
    return _without_channels(one) == _without_channels(other)


def _without_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:CHANNELS] + shape[CHANNELS + 1 :]


def rows_of(stored: tuple[int, ...], padded: tuple[int, ...]) -> Rows:
    """The rows of a tensor of one shape, padded to another."""
    return Rows(prod(stored[CHANNELS:]), prod(padded[CHANNELS:]))


def stored_before(place: int, rows: Rows) -> int:
    """The number of stored elements before a position in the padded tensor."""
    channel, within = divmod(place, rows.padded)
    return channel * rows.stored + min(within, rows.stored)


def stored_runs(start: int, stop: int, rows: Rows) -> Iterator[tuple[int, int]]:
    """The runs of stored elements from `start` to `stop`: position after padding, and length.

    They come in order, one for each output channel.
    """
    for channel in range(start // rows.padded * rows.padded, stop, rows.padded):
        first, last = max(channel, start), min(channel + rows.stored, stop)
        if first < last:
            yield first, last - first
