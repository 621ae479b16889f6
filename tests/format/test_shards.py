"""Tensors are spread over files by name, the same way every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupctl.errors import LimitError
from soupctl.format.dtypes import DType
from soupctl.format.shards import MOST_SHARDS, index_name, same_files, split

shapes = st.lists(st.integers(0, 9), max_size=2).map(tuple)
entries = st.dictionaries(
    st.text(max_size=4), st.tuples(st.sampled_from([DType.F16, DType.F64, DType.U8]), shapes)
).map(lambda found: [(name, dtype, shape) for name, (dtype, shape) in found.items()])


@given(entries, st.integers(1, 500))
def test_every_tensor_is_in_one_file_and_files_are_filled_by_name(found, size):
    files = split(found, size, "model")
    names = [sorted(tensor.name for tensor in file.tensors) for file in files]

    assert sorted(name for name, _, _ in found) == [name for part in names for name in part]


@given(entries, st.integers(1, 500))
def test_no_file_is_larger_than_asked_unless_one_tensor_is(found, size):
    for file in split(found, size, "model"):
        sizes = [tensor.size for tensor in file.tensors]
        assert sum(sizes) <= size or len(sizes) == 1


@given(entries, st.integers(1, 500), st.randoms())
def test_the_order_of_the_entries_does_not_matter(found, size, random):
    expected = split(found, size, "model")
    random.shuffle(found)

    assert expected == split(found, size, "model")


def test_files_are_called_as_the_libraries_call_them():
    found = [(name, DType.U8, (2,)) for name in "abc"]

    assert ["model.safetensors"] == [file.name for file in split(found, 6, "model")]
    assert ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"] == [
        file.name for file in split(found, 5, "m")
    ]
    assert "model.safetensors.index.json" == index_name("model")


def test_a_tensor_larger_than_a_file_is_alone():
    found = [("a", DType.U8, (1,)), ("b", DType.U8, (9,)), ("c", DType.U8, (1,))]

    assert [["a"], ["b"], ["c"]] == [
        [tensor.name for tensor in file.tensors] for file in split(found, 4, "model")
    ]


def test_no_tensors_make_one_file_without_tensors():
    (file,) = split([], 100, "model")

    assert ("model.safetensors", ()) == (file.name, file.tensors)


def test_entries_keep_the_files_that_are_named_for_them():
    found = [(name, DType.U8, (2,)) for name in "abc"]
    files = same_files(found, {"a": "y", "b": "x", "c": "y", "d": "z"})

    assert [("x", ["b"]), ("y", ["a", "c"])] == [
        (file.name, [tensor.name for tensor in file.tensors]) for file in files
    ]


def test_more_files_than_can_be_open_are_refused_with_advice():
    found = [(f"{number:04}", DType.U8, (1,)) for number in range(MOST_SHARDS + 1)]

    assert MOST_SHARDS == len(split(found[1:], 1, "model"))
    with pytest.raises(LimitError, match="choose a larger size"):
        split(found, 1, "model")
    assert MOST_SHARDS == len(same_files(found[1:], {name: name for name, _, _ in found}))
    with pytest.raises(LimitError, match="shard_size makes fewer"):
        same_files(found, {name: name for name, _, _ in found})
