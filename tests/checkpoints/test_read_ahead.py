"""Ranges that are read ahead of need: in which blocks, and that they are right."""

from __future__ import annotations

import pytest
from loopback import Loopback

from soupctl.checkpoints.remote import read_ahead


def test_blocks_follow_the_file_where_few_are_begun_at_one_time() -> None:
    together = [(0, 10), (100, 150), (10, 20), (150, 200)]
    assert read_ahead.blocks(together, 60) == [(0, 20), (100, 160), (160, 200)]
    scattered = [(start * 37 % 100 * 10, start * 37 % 100 * 10 + 10) for start in range(100)]
    assert read_ahead.blocks(scattered, 50) == scattered
    assert read_ahead.blocks([(0, 0), (0, 130)], 60) == [(0, 60), (60, 120), (120, 130)]


def test_reads_in_any_order_are_right(server: Loopback) -> None:
    class BytesElsewhere:
        """Bytes of a file."""

        address, size = "held", 1000
        hint = address
        asked = 0

        def read(self, start: int, stop: int) -> bytes:
            self.asked += stop - start
            return bytes(place % 251 for place in range(start, stop))

        def is_unchanged(self) -> bool:
            return True

    held = BytesElsewhere()
    reader = read_ahead.RangeReader(held, [(0, 1000)])
    for start in (900, 0, 500, 0):
        buffer = bytearray(100)
        reader.read_into(memoryview(buffer), start)
        assert buffer == bytes(place % 251 for place in range(start, start + 100))
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read_into(memoryview(buffer), 0)
