"""The header as a value: what it says, how it is laid out, and how it is written."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from soupctl.errors import InputError, LimitError
from soupctl.format.dtypes import DType
from soupctl.format.header import (
    MAX_HEADER,
    Header,
    Tensor,
    encode_header,
    header_size,
    lay_out,
    parse_header,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda name: name != "__metadata__"
)
# whole bytes for every dtype
shapes = st.lists(st.integers(0, 3), max_size=2).map(lambda shape: (*shape, 8))
entries = st.dictionaries(names, st.tuples(st.sampled_from(DType), shapes), max_size=8).map(
    lambda found: [(name, dtype, shape) for name, (dtype, shape) in found.items()]
)
metadata = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), names, max_size=4)


NUMPY = {
    DType.BOOL: "bool",
    DType.U8: "uint8",
    DType.I8: "int8",
    DType.I16: "int16",
    DType.U16: "uint16",
    DType.F16: "float16",
    DType.I32: "int32",
    DType.U32: "uint32",
    DType.F32: "float32",
    DType.F64: "float64",
    DType.I64: "int64",
    DType.U64: "uint64",
}


def end_of(tensors: tuple[Tensor, ...]) -> int:
    return tensors[-1].stop if tensors else 0


@given(entries, metadata)
def test_encoding_and_parsing_are_inverse(entries, metadata):
    tensors = lay_out(entries)
    raw = encode_header(tensors, metadata)

    header = parse_header(raw, len(raw) + end_of(tensors), "file")

    # tensors without data share offsets: their names decide, not the dtype they were laid out by
    expected = tuple(sorted(tensors, key=lambda each: (each.start, each.stop, each.name)))
    assert header == Header(expected, metadata, len(raw))
    assert header.file_size == len(raw) + end_of(tensors)


@given(entries, metadata)
def test_header_bytes_equal_the_librarys(entries, metadata):
    # the library writes metadata in the order of a hash map, so at most one entry can be compared
    metadata = dict(list(metadata.items())[:1])
    entries = [entry for entry in entries if entry[1] in NUMPY]
    arrays = {name: np.zeros(shape, NUMPY[dtype]) for name, dtype, shape in entries}
    tensors = lay_out(entries)

    expected = safetensors.numpy.save(arrays, metadata or None)

    assert expected == encode_header(tensors, metadata) + bytes(end_of(tensors))


def test_wider_dtypes_come_first_and_then_names_in_utf8_order():
    entries = [
        ("a", DType.F16, (2,)),
        ("\U00010000", DType.F32, (1,)),
        ("\uffff", DType.F32, (1,)),
        ("b", DType.F64, ()),
    ]

    tensors = lay_out(entries)

    assert [("b", 0, 8), ("\uffff", 8, 12), ("\U00010000", 12, 16), ("a", 16, 20)] == [
        (each.name, each.start, each.stop) for each in tensors
    ]


def test_a_tensor_knows_its_bytes_and_elements():
    (tensor,) = lay_out([("a", DType.F16, (3, 5))])

    assert (30, 15) == (tensor.size, tensor.count)


def test_a_scalar_has_one_element():
    (tensor,) = lay_out([("a", DType.F64, ())])

    assert (8, 1) == (tensor.size, tensor.count)


def test_the_data_begins_at_a_multiple_of_eight():
    sizes = {
        len(encode_header(lay_out([("n" * length, DType.U8, (1,))]), {})) % 8 for length in range(9)
    }

    assert {0} == sizes


def test_a_header_fills_the_size_it_is_given():
    tensors = lay_out([("a", DType.F32, (2,))])

    raw = encode_header(tensors, {"format": "pt"}, 1000)

    assert len(raw) == 1000
    assert parse_header(raw, 1008, "file") == Header(tensors, {"format": "pt"}, 1000)


def test_a_header_that_does_not_fit_the_size_is_refused():
    with pytest.raises(ValueError, match="does not fit in 16"):
        encode_header(lay_out([("a", DType.F32, (2,))]), {}, 16)


def test_a_header_beyond_the_formats_limit_is_refused_when_written():
    with pytest.raises(LimitError, match=str(MAX_HEADER)):
        encode_header((), {"fat": "x" * MAX_HEADER})


def test_metadata_is_written_first_and_sorted():
    raw = encode_header(lay_out([("a", DType.U8, (1,))]), {"b": "2", "a": "1"})

    assert raw[8:].startswith(b'{"__metadata__":{"a":"1","b":"2"},"a":')


def test_header_size_counts_the_length_field():
    assert header_size((24).to_bytes(8, "little"), 32, "file") == 32


def test_the_end_of_a_stream_is_not_checked():
    tensors = lay_out([("a", DType.F32, (2,))])
    raw = encode_header(tensors, {})

    assert parse_header(raw, None, "-").tensors == tensors
    assert header_size(raw[:8], None, "-") == len(raw)


def test_tensors_without_data_are_in_the_order_of_their_names():
    empty = [Tensor(name, DType.F32, (0,), 0, 0) for name in "cab"]
    raw = encode_header(empty, {})

    assert [each.name for each in parse_header(raw, len(raw), "file").tensors] == ["a", "b", "c"]


def test_names_may_be_anything_that_json_allows():
    wild = ["", "\0", "\x1b[31m", "\u009b", "n" * 60_000, "\U0001f372", "..", "/etc/passwd", '"']
    tensors = lay_out([(name, DType.U8, (1,)) for name in wild])
    raw = encode_header(tensors, {})

    assert parse_header(raw, len(raw) + len(wild), "file").tensors == tensors


def test_a_hundred_thousand_tensors_are_read():
    tensors = lay_out([(f"blocks.{number}.weight", DType.F16, (4, 4)) for number in range(100_000)])
    raw = encode_header(tensors, {})

    assert parse_header(raw, len(raw) + 3_200_000, "file").tensors == tensors


def test_more_elements_than_32_bits_count_are_read():
    size = 3 * 2**31
    tensors = (Tensor("a", DType.U8, (3, 2**31), 0, size),)
    raw = encode_header(tensors, {})

    (tensor,) = parse_header(raw, len(raw) + size, "file").tensors

    assert (size, size) == (tensor.size, tensor.count)


def test_every_dtype_of_the_library_is_known():
    tensors = lay_out([(dtype.value, dtype, (8,)) for dtype in DType])
    raw = encode_header(tensors, {}) + bytes(end_of(tensors))

    found = {name: facts["dtype"] for name, facts in safetensors.deserialize(raw)}

    assert {dtype.value: dtype.value for dtype in DType} == found


def test_the_error_names_file_and_tensor():
    broken = replace(lay_out([("unet.conv_in", DType.F32, (2,))])[0], stop=4)
    raw = encode_header([broken], {})

    with pytest.raises(InputError) as caught:
        parse_header(raw, len(raw) + 4, "dir/a.st")

    (issue,) = caught.value.issues
    assert ("dir/a.st", "unet.conv_in") == (issue.path, issue.tensor)
    assert str(issue) == "dir/a.st: unet.conv_in: has 4 bytes of data, but F32 [2] takes 64 bits"


def test_header_text_is_json_without_spaces():
    raw = encode_header(lay_out([("a", DType.F32, (2, 3))]), {})
    text = raw[8:].decode().rstrip(" ")

    assert text == json.dumps(json.loads(text), separators=(",", ":"))
    assert text == '{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}'


@given(entries, st.sampled_from([("", ""), (" ", ""), (" ", " "), ("", "\n")]))
def test_a_header_means_the_same_however_it_is_spaced(entries, spaces):
    """The form that libraries write is read by a pattern, any other by the JSON reader."""
    tensors = lay_out(entries)
    usual = encode_header(tensors, {})
    after, before = spaces
    text = json.dumps(json.loads(usual[8:]), separators=("," + after, before + ":" + after))
    other = len(text.encode()).to_bytes(8, "little") + text.encode()
    assert parse_header(usual, None, "a").tensors == parse_header(other, None, "a").tensors


ODD_NUMBERS = ["-1", "01", "1.0", "1e0", "true", "18446744073709551616", "1,", '"1"', "null"]


@pytest.mark.parametrize("odd", ODD_NUMBERS)
@pytest.mark.parametrize("place", ["[1]", "[0,", ",4]"])
def test_odd_numbers_are_refused_in_the_usual_form_too(odd, place):
    text = '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    assert place in text
    text = text.replace(place, place.translate({ord(digit): odd for digit in "014"}))
    raw = len(text).to_bytes(8, "little") + text.encode()
    with pytest.raises(InputError):
        parse_header(raw, None, "a")
