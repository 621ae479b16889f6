"""Planes of which only what is not zero is kept come back as they were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.engines.planes import INDEX_NAMES, count_before, count_present, present, spread
from soupctl.format.dtypes import DType

INDEX_TYPES = {DType.U32: np.uint32, DType.U64: np.uint64}
values = st.sampled_from((0.0, 0.0, 1.0, -1.5, 5e-324, -1.7e308))


def view(numbers, kind=np.float64) -> memoryview:
    return np.array(numbers, kind).data.cast("B")


def expanded(places, values, index, start, stop) -> bytes:
    """Elements `start` to `stop` of a plane that is stored from `start` on."""
    count = count_before(places, index, start, stop)
    out = memoryview(bytearray(b"\xff" * (8 * (stop - start))))
    spread(places[: count * index.bits // 8], values[: 8 * count], index, start, out)
    return bytes(out)


@pytest.mark.parametrize("index", INDEX_TYPES)
@given(numbers=st.lists(values, max_size=30), size=st.integers(1, 9), data=st.data())
def test_a_sparse_plane_reads_back_from_any_place_on(index, numbers, size, data):
    places, found = b"", b""
    for start in range(0, len(numbers), size):
        more = present(view(numbers[start : start + size]), start, index)
        places, found = places + bytes(more[0]), found + bytes(more[1])

    assert sum(map(bool, numbers)) == count_present(view(numbers)) == len(found) // 8
    assert len(places) == len(found) // 8 * index.bits // 8
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start, len(numbers)))
    if start < stop:
        before = sum(map(bool, numbers[:start]))
        stored = memoryview(places)[before * index.bits // 8 :], memoryview(found)[8 * before :]
        assert bytes(view(numbers[start:stop])) == expanded(*stored, index, start, stop)


@pytest.mark.parametrize("index", INDEX_TYPES)
@pytest.mark.parametrize("places", [[3, 2], [2, 2], [2, 5, 4], [1], [0, 3]])
def test_places_that_do_not_rise_from_the_start_on_are_refused(index, places):
    with pytest.raises(ValueError, match="places are out of order"):
        count_before(view(places, INDEX_NAMES[index]), index, 2, 5)


def test_a_plane_of_nothing_is_all_zero():
    assert bytes(24) == expanded(view([], np.uint32), view([]), DType.U32, 1, 4)


@pytest.mark.parametrize(
    ("index", "count"), [(DType.U32, 2**32), (DType.U64, 2**32 + 1), (DType.U64, 2**40)]
)
def test_the_end_of_a_plane_that_is_as_long_as_its_places_reach_is_read(index, count):
    """No such plane is ever whole in memory; what is kept of it takes a few bytes."""
    places = view([count - 2, count - 1], INDEX_NAMES[index])

    end = expanded(places, view([1.0, 1.0]), index, count - 3, count)
    assert bytes(view([0.0, 1.0, 1.0])) == end
    assert 1 == count_before(places, index, count - 3, count - 1)
    places, _ = present(view([0.0, 2.5]), count - 2, index)
    assert [count - 1] == np.frombuffer(places, INDEX_NAMES[index]).tolist()


def test_places_at_any_alignment_are_read():
    raw = b"x" + bytes(view([1, 3], np.uint32)), b"xyz" + bytes(view([0.5, 0.25]))
    places, found = memoryview(raw[0])[1:], memoryview(raw[1])[3:]

    assert bytes(view([0.0, 0.5, 0.0, 0.25])) == expanded(places, found, DType.U32, 0, 4)
