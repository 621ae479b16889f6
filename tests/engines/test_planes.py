"""Planes of which only what is not zero is kept come back as they were."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.engines import planes
from soupctl.engines.planes import INDEX_NAMES, SparseArray, count_present, present
from soupctl.format.dtypes import DType

INDEX_TYPES = {DType.U32: np.uint32, DType.U64: np.uint64}
values = st.sampled_from((0.0, 0.0, 1.0, -1.5, 5e-324, -1.7e308))


def view(numbers, kind=np.float64) -> memoryview:
    return np.array(numbers, kind).data.cast("B")


@pytest.mark.parametrize("index", INDEX_TYPES)
@given(numbers=st.lists(values, max_size=30), size=st.integers(1, 9), data=st.data())
def test_a_sparse_plane_reads_back_in_chunks_of_any_size(index, numbers, size, data):
    places, found = b"", b""
    for start in range(0, len(numbers), size):
        more = present(view(numbers[start : start + size]), start, index)
        places, found = places + bytes(more[0]), found + bytes(more[1])
    plane = SparseArray(memoryview(places), memoryview(found), index, len(numbers))

    assert sum(map(bool, numbers)) == count_present(view(numbers)) == len(found) // 8
    assert len(places) == len(found) // 8 * index.bits // 8
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start, len(numbers)))
    if start < stop:
        assert bytes(view(numbers[start:stop])) == bytes(plane.dense(start, stop))


def sparse(places, count, index=DType.U32) -> SparseArray:
    return SparseArray(view(places, INDEX_NAMES[index]), view([1.0] * len(places)), index, count)


@pytest.mark.parametrize("index", INDEX_TYPES)
@pytest.mark.parametrize(
    "places", [[1, 0], [0, 0], [2, 2], [0, 5], [5], [0, 4, 3], [2**32 - 1], [4, 2**32 - 1]]
)
def test_places_out_of_order_or_range_are_refused(index, places):
    with pytest.raises(ValueError, match="places are out of order"):
        sparse(places, 5, index)


@pytest.mark.parametrize("wrong", [0, 3, 4, 5, 8, 11])
def test_places_out_of_order_are_found_wherever_pieces_meet(monkeypatch, wrong):
    monkeypatch.setattr(planes, "PIECE", 4)
    right = list(range(1, 14))
    sparse(right, 14)
    right[wrong + 1] = right[wrong]
    with pytest.raises(ValueError, match="places are out of order"):
        sparse(right, 14)


def test_a_plane_of_nothing_is_all_zero():
    assert bytes(24) == bytes(sparse([], 5).dense(1, 4))
    with pytest.raises(ValueError, match="places are out of order"):
        sparse([0], 0)


@pytest.mark.parametrize(
    ("index", "count"), [(DType.U32, 2**32), (DType.U64, 2**32 + 1), (DType.U64, 2**40)]
)
def test_the_end_of_a_plane_that_is_as_long_as_its_places_reach_is_read(index, count):
    """No such plane is ever whole in memory; what is kept of it takes a few bytes."""
    plane = sparse([0, count - 2, count - 1], count, index)

    assert bytes(view([0.0, 1.0, 1.0])) == bytes(plane.dense(count - 3, count))
    assert bytes(view([1.0, 0.0])) == bytes(plane.dense(0, 2))
    places, _ = present(view([0.0, 2.5]), count - 2, index)
    assert [count - 1] == np.frombuffer(places, INDEX_NAMES[index]).tolist()


def test_places_at_any_alignment_are_read():
    raw = b"x" + bytes(view([1, 3], np.uint32)), b"xyz" + bytes(view([0.5, 0.25]))
    plane = SparseArray(memoryview(raw[0])[1:], memoryview(raw[1])[3:], DType.U32, 4)

    assert bytes(view([0.0, 0.5, 0.0, 0.25])) == bytes(plane.dense(0, 4))


def test_the_order_of_places_takes_no_room_that_grows_with_them():
    places = np.arange(1 << 21, dtype=np.uint32)
    numbers = np.ones(len(places))
    tracemalloc.start()
    plane = SparseArray(places.data.cast("B"), numbers.data.cast("B"), DType.U32, len(places))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert bytes(view([1.0])) == bytes(plane.dense(5, 6))
    assert peak < 1 << 20
