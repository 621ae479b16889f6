"""Files that break a rule of the format: each is refused in one line that names the file.

Rule 1: every attack but those in `OURS` is one that the safetensors library refuses too.
"""

from __future__ import annotations

import json
import os
import struct

import pytest
import safetensors

from soupctl.checkpoints.safetensors import open_safetensors, read_header
from soupctl.errors import InputError
from soupctl.format.header import MAX_HEADER

GOOD = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
EIGHT = bytes(8)


def file_of(header: str | bytes, data: bytes = EIGHT) -> bytes:
    raw = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(
    dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]", more: str = ""
) -> bytes:
    """A file of one tensor, with any of its fields as given, in JSON."""
    return file_of(f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}{more}}}}}')


def spans(*offsets: tuple[int, int], size: int) -> bytes:
    """A file of `size` bytes of data with a U8 tensor at each of the offsets."""
    tensors = {
        f"t{number}": {
            "dtype": "U8",
            "shape": [max(0, stop - start)],
            "data_offsets": [start, stop],
        }
        for number, (start, stop) in enumerate(offsets)
    }
    return file_of(json.dumps(tensors), bytes(size))


def deep(levels: int) -> bytes:
    return entry(more=',"x":' + "[" * levels + "]" * levels)


LENGTHS = {
    "empty file": b"",
    "seven bytes": bytes(7),
    "length only": struct.pack("<Q", 2),
    "no header": bytes(8),
    "no header and data": bytes(16),
    "length beyond the file": struct.pack("<Q", 1000) + GOOD.encode(),
    "length beyond the file by one": struct.pack("<Q", len(GOOD) + 9) + GOOD.encode() + EIGHT,
    "length beyond the limit": struct.pack("<Q", MAX_HEADER + 1) + GOOD.encode() + EIGHT,
    "length of 2**63": struct.pack("<Q", 2**63) + GOOD.encode() + EIGHT,
    "length of 2**64-1": struct.pack("<Q", 2**64 - 1) + GOOD.encode() + EIGHT,
    "length too short": struct.pack("<Q", len(GOOD) - 1) + GOOD.encode() + EIGHT,
    "truncated data": file_of(GOOD, bytes(7)),
    "no data": file_of(GOOD, b""),
    "a byte too many": file_of(GOOD, bytes(9)),
    "a zip after the data": file_of(GOOD, EIGHT + b"PK\x03\x04"),
    "data and no tensors": file_of("{}", EIGHT),
}

TEXTS = {
    "not JSON": file_of("hello, world"),
    "an array": file_of("[]", b""),
    "a string": file_of('"a"', b""),
    "null": file_of("null", b""),
    "text after the object": file_of(GOOD + "{}"),
    "null character after the object": file_of(GOOD + "\0"),
    "null character before the object": file_of("\0" + GOOD),
    "vertical tab before the object": file_of("\v" + GOOD),
    "no-break space before the object": file_of("\u00a0" + GOOD),
    "comma at the end": file_of(GOOD[:-1] + ",}"),
    "two commas": file_of('{"a":["F32",[2],[0,8]],,}'),
    "no colon": file_of('{"a" ["F32",[2],[0,8]]}'),
    "no comma": file_of('{"a":["F32",[1],[0,4]] "b":["F32",[1],[4,8]]}'),
    "never closed": file_of(GOOD[:-1]),
    "only an opening brace": file_of("{", b""),
    "a name without quotes": file_of(GOOD.replace('"a"', "a")),
    "a name in single quotes": file_of(GOOD.replace('"a"', "'a'")),
    "a number for a name": file_of(GOOD.replace('"a"', "1")),
    "a control character in a name": file_of(GOOD.replace('"a"', '"\x1f"')),
    "a comment": file_of("/**/" + GOOD),
    "byte order mark": file_of("\ufeff" + GOOD),
    "UTF-16": file_of(GOOD.encode("utf-16")),
    "UTF-16 without a mark": file_of(GOOD.encode("utf-16-le")),
    "UTF-32": file_of(GOOD.encode("utf-32-le")),
    "Latin-1": file_of(GOOD.replace('"a"', '"é"').encode("latin-1")),
    "an overlong UTF-8 form": file_of(GOOD.encode().replace(b'"a"', b'"\xc0\xaf"')),
    "a surrogate in UTF-8": file_of(GOOD.encode().replace(b'"a"', b'"\xed\xa0\x80"')),
    "half a character": file_of(GOOD.encode().replace(b'"a"', b'"\xe2\x82"')),
    "a lone high surrogate": file_of(GOOD.replace('"a"', '"\\ud800"')),
    "a lone low surrogate": file_of(GOOD.replace('"a"', '"\\udc00"')),
    "surrogates in the wrong order": file_of(GOOD.replace('"a"', '"\\udc00\\ud800"')),
    "a lone surrogate in a value": entry(more=',"x":"\\ud800"'),
    "a lone surrogate in a field's name": entry(more=',"\\ud800":1'),
    "a lone surrogate in metadata": file_of('{"__metadata__":{"a":"\\ud800"}}', b""),
    "a bad escape": file_of(GOOD.replace('"a"', '"\\x41"')),
    "a short escape": file_of(GOOD.replace('"a"', '"\\u41"')),
    "NaN": entry(more=',"x":NaN'),
    "Infinity": entry(more=',"x":Infinity'),
    "minus Infinity": entry(more=',"x":-Infinity'),
    "a number beyond float64": entry(more=',"x":1e400'),
    "an integer beyond float64": entry(more=',"x":' + "9" * 400),
    "an integer of 5000 digits": entry(more=',"x":' + "1" * 5000),
    "an integer of 5000 digits for a size": entry(shape="[" + "1" * 5000 + "]"),
    "a leading zero": entry(shape="[02]"),
    "a plus sign": entry(shape="[+2]"),
    "a hexadecimal number": entry(shape="[0x2]"),
    "a number that ends in a point": entry(more=',"x":1.'),
    "128 levels": deep(126),
    "1000 levels": deep(1000),
    "a million levels": deep(1_000_000),
    "a million levels of objects": entry(more=',"x":' + '{"a":' * 1_000_000),
}

FIELDS = {
    "no fields": file_of('{"a":{}}'),
    "no dtype": file_of('{"a":{"shape":[2],"data_offsets":[0,8]}}'),
    "no shape": file_of('{"a":{"dtype":"F32","data_offsets":[0,8]}}'),
    "no offsets": file_of('{"a":{"dtype":"F32","shape":[2]}}'),
    "entry is null": file_of('{"a":null}'),
    "entry is a number": file_of('{"a":1}'),
    "entry is a string": file_of('{"a":"F32"}'),
    "entry is a list of two": file_of('{"a":["F32",[2]]}'),
    "entry is a list of four": file_of('{"a":["F32",[2],[0,8],0]}'),
    "dtype in lower case": entry(dtype='"f32"'),
    "dtype unknown": entry(dtype='"F128"'),
    "dtype empty": entry(dtype='""'),
    "dtype null": entry(dtype="null"),
    "dtype a number": entry(dtype="7"),
    "dtype a list": entry(dtype='["F32"]'),
    "dtype an object": entry(dtype='{"F32":{}}'),
    "dtype an object of two": entry(dtype='{"F32":null,"F16":null}'),
    "shape null": entry(shape="null"),
    "shape a number": entry(shape="2"),
    "shape a string": entry(shape='"2"'),
    "shape an object": entry(shape='{"0":2}'),
    "shape nested": entry(shape="[[2]]"),
    "size true": entry(shape="[2,true]"),
    "size null": entry(shape="[2,null]"),
    "size a string": entry(shape='["2"]'),
    "size 2.0": entry(shape="[2.0]"),
    "size 2e0": entry(shape="[2e0]"),
    "size -2": entry(shape="[-2]"),
    "two negative sizes": entry(shape="[-1,-2]"),
    "size -0": entry(shape="[-0]", offsets="[0,0]"),
    "size 2**64": entry(shape="[18446744073709551616,0]", offsets="[0,0]"),
    "offsets null": entry(offsets="null"),
    "one offset": entry(offsets="[0]"),
    "three offsets": entry(offsets="[0,8,8]"),
    "offset true": entry(offsets="[false,8]"),
    "offset 8.0": entry(offsets="[0,8.0]"),
    "offset -0": entry(offsets="[-0,8]"),
    "offset -8": entry(offsets="[-8,0]"),
    "offset 2**64": entry(offsets="[0,18446744073709551616]"),
    "metadata a list": file_of('{"__metadata__":[]}', b""),
    "metadata a string": file_of('{"__metadata__":"pt"}', b""),
    "metadata of numbers": file_of('{"__metadata__":{"a":1}}', b""),
    "metadata of nulls": file_of('{"__metadata__":{"a":null}}', b""),
    "metadata of objects": file_of('{"__metadata__":{"a":{}}}', b""),
    "metadata twice": file_of('{"__metadata__":{},"__metadata__":{}}', b""),
    "dtype twice": entry(more=',"dtype":"F32"'),
}

LAYOUTS = {
    "a hole at the start": spans((1, 4), size=4),
    "a hole in the middle": spans((0, 2), (3, 4), size=4),
    "a hole at the end": spans((0, 2), size=4),
    "an overlap": spans((0, 3), (2, 4), size=4),
    "the same bytes twice": spans((0, 4), (0, 4), size=4),
    "one within another": spans((0, 4), (1, 2), size=4),
    "reversed offsets": spans((4, 0), size=4),
    "reversed after another": spans((0, 4), (4, 2), size=4),
    "an empty tensor in the middle of another": spans((0, 4), (2, 2), size=4),
    "an empty tensor beyond the end": spans((0, 4), (9, 9), size=4),
    "beyond the file": spans((0, 4), (4, 2**40), size=4),
    "2**64-1": spans((0, 2**64 - 1), size=4),
    "the shape is too small": entry(shape="[1]"),
    "the shape is too large": entry(shape="[3]"),
    "a scalar of eight bytes": entry(shape="[]"),
    "a zero in the shape": entry(shape="[0,2]"),
    "the sizes overflow": entry(shape="[4294967296,4294967296]"),
    "the sizes overflow to the right one": entry(shape="[9223372036854775809,2]"),
    "the bits overflow": entry(shape="[2305843009213693952]"),
    "the bits overflow to the right ones": entry(shape="[576460752303423490]"),
    "an overflow before a zero": entry(shape="[9223372036854775808,4,0]", offsets="[0,0]"),
    "half a byte": entry(dtype='"F4"', shape="[15]"),
    "six bits": entry(dtype='"F6_E2M3"', shape="[11]"),
    "a bomb by overlap": file_of(
        json.dumps(
            {
                f"t{number}": {"dtype": "U8", "shape": [2**20], "data_offsets": [0, 2**20]}
                for number in range(20_000)
            }
        ),
        bytes(2**20),
    ),
}

# the library takes these: of two equal names it keeps the last
OURS = {
    "a name twice, equal": file_of('{"a":["F32",[2],[0,8]],"a":["F32",[2],[0,8]]}'),
    "a name twice, one escaped": file_of('{"a":["F32",[2],[0,8]],"\\u0061":["F32",[2],[0,8]]}'),
    "a field twice": entry(more=',"x":1,"x":1'),
    "a field twice, deep inside": entry(more=',"x":[{"y":{"z":1,"z":1}}]'),
    "metadata with a key twice": file_of('{"__metadata__":{"a":"1","a":"1"}}', b""),
}

LIBRARYS = {**LENGTHS, **TEXTS, **FIELDS, **LAYOUTS}


@pytest.mark.parametrize("attack", [*LIBRARYS, *OURS])
def test_a_file_is_refused_in_one_line_that_names_it(attack, tmp_path):
    path = tmp_path / "attack.safetensors"
    path.write_bytes({**LIBRARYS, **OURS}[attack])

    with pytest.raises(InputError) as caught:
        open_safetensors(path)

    assert caught.value.exit_code == 3
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("attack", LIBRARYS)
def test_the_library_refuses_it_too(attack):
    with pytest.raises(safetensors.SafetensorError):
        safetensors.deserialize(LIBRARYS[attack])


@pytest.mark.parametrize("attack", OURS)
def test_the_library_would_take_it(attack):
    safetensors.deserialize(OURS[attack])


ODD = {
    "no tensors": file_of("{}", b""),
    "white space around": file_of(" \t\r\n" + GOOD + " \n"),
    "white space within": file_of(GOOD.replace(":", " : ").replace(",", "\n,\t")),
    "metadata null": file_of('{"__metadata__":null}', b""),
    "metadata last": file_of(GOOD[:-1] + ',"__metadata__":{"a":"b"}}'),
    "unknown fields": entry(more=',"x":{"y":[1,null,true,-0,1e300,"\\ud83c\\udf72"]}'),
    "127 levels": deep(125),
    "an integer of 300 digits": entry(more=',"x":' + "1" * 300),
    "entry a list": file_of('{"a":["F32",[2],[0,8]]}'),
    "dtype an object": entry(dtype='{"F32":null}'),
    "unaligned data": spans((0, 1), (1, 4), size=4),
    "data in another order": file_of('{"b":["U8",[1],[3,4]],"a":["U8",[3],[0,3]]}', bytes(4)),
    "no elements": entry(shape="[0,18446744073709551615,4]", offsets="[0,0]")[:-8],
    "empty tensors between": spans((0, 0), (0, 4), (4, 4), (4, 4), size=4),
    "a header of no round size": file_of(GOOD + "   "),
    "half bytes that fill whole ones": entry(dtype='"F4"', shape="[16]"),
    "a null character in a name": file_of(GOOD.replace('"a"', '"\\u0000"')),
    "an empty name": file_of(GOOD.replace('"a"', '""')),
}


@pytest.mark.parametrize("oddity", ODD)
def test_every_file_that_the_library_loads_is_read(oddity, tmp_path):
    path = tmp_path / "odd.st"
    path.write_bytes(ODD[oddity])

    expected = {
        name: (facts["dtype"], tuple(facts["shape"]), bytes(facts["data"]))
        for name, facts in safetensors.deserialize(ODD[oddity])
    }
    with open_safetensors(path) as file:
        found = {
            tensor.name: (tensor.dtype.value, tensor.shape, bytes(file.stored(tensor).read()))
            for tensor in file.header.tensors
        }

    assert expected == found


def test_a_huge_claim_allocates_nothing(tmp_path):
    path = tmp_path / "sparse.st"
    header = '{"a":{"dtype":"U8","shape":[1099511627776],"data_offsets":[0,1099511627776]}}'
    path.write_bytes(file_of(header, b""))
    os.truncate(path, len(header) + 8 + 2**40)

    with open_safetensors(path) as file:
        (tensor,) = file.header.tensors
        last = memoryview(bytearray(b"end"))
        file.stored(tensor).read_into(last, tensor.size - 3)
        assert bytes(last) == bytes(3)
    assert read_header(path).tensors == (tensor,)
