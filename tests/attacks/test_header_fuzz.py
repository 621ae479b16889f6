"""The header parser against the safetensors library, on headers bent in the places that matter.

Rule 1: what the library refuses we refuse; what it takes we take, with equal names, dtypes, shapes
and bytes. The one exception are names that occur twice, which we always refuse.
"""

from __future__ import annotations

import json
import struct

import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from soupctl.errors import InputError
from soupctl.format.dtypes import DType
from soupctl.format.header import encode_header, header_size, lay_out, parse_header

Facts = dict[str, tuple[str, tuple[int, ...], bytes]]

NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "8",
    "-1",
    "-0",
    "2.0",
    "1e1",
    "true",
    "null",
    "18446744073709551615",
]
NUMBERS += [
    "18446744073709551616",
    "9223372036854775808",
    "1e400",
    "-1e-400",
    "NaN",
    "00",
    "'",
    "{}",
]
TOKENS = [
    *NUMBERS,
    *('"F32"', '"U8"', '"F4"', '"BF16"', '"f32"', '{"U8":null}', '"a"', '"b"', '""'),
    *('"dtype"', '"shape"', '"data_offsets"', '"__metadata__"', '"x"'),
    *('"\\ud83c\\udf72"', '"\\ud83c"', '"\\u0061"', '"\\n"', '"\x1f"', '"\x7f"', '"\\/"', '"\\q"'),
    *("{", "}", "[", "]", ":", ",", " ", "\n", "\ufeff", "\0", "[]", "{}", '{"a":"b"}', "[0,1]"),
    *("[" * 126 + "]" * 126, "[" * 124 + "]" * 124, '{"y":1,"y":2}', '{"y":{"z":[]}}'),
]

names = st.sampled_from(["a", "b", "weight", "", "é", "\U0001f372", "\\", '"'])
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
dtypes = st.sampled_from([DType.U8, DType.F16, DType.BF16, DType.F32, DType.F64, DType.F8_E4M3])


@st.composite
def sound_headers(draw: st.DrawFn) -> tuple[str, int]:
    """The text of a header that nothing is wrong with, and the size of its data."""
    found = draw(st.dictionaries(names, st.tuples(dtypes, shapes), max_size=4))
    tensors = lay_out([(name, dtype, shape) for name, (dtype, shape) in found.items()])
    metadata = draw(st.dictionaries(names, names, max_size=2))
    text = encode_header(tensors, metadata)[8:].decode()
    return text, tensors[-1].stop if tensors else 0


@st.composite
def bent_headers(draw: st.DrawFn) -> bytes:
    """A file whose header is sound but for a few tokens replaced, doubled, dropped or put in."""
    text, size = draw(sound_headers())
    tokens = split(text)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(tokens)))
        width = draw(st.integers(0, 2))
        tokens[at : at + width] = draw(
            st.lists(st.sampled_from(TOKENS), max_size=2) | st.just(tokens[at : at + width] * 2)
        )
    raw = "".join(tokens).encode()
    size += draw(st.sampled_from([0, 0, 0, 0, 1, -1]))
    return struct.pack("<Q", len(raw)) + raw + bytes(index % 251 for index in range(size))


@st.composite
def bent_values(draw: st.DrawFn) -> bytes:
    """A file whose header is JSON throughout, with a few of its values replaced by others."""
    text, size = draw(sound_headers())
    header = json.loads(text)
    others = st.sampled_from([0, 1, 2, 8, -1, 2**64, 2**63, 2.0, True, None, "F32", "U8", [], {}])
    for entry in [entry for entry in header.values() if "shape" in entry]:
        if draw(st.booleans()):
            field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
            entry[field] = draw(others | st.lists(st.integers(0, 9) | others, max_size=3))
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(size)


def split(text: str) -> list[str]:
    """The tokens of a JSON text."""
    tokens: list[str] = []
    quoted = False
    for before, letter in zip(" " + text, text, strict=False):
        if quoted or (letter not in '{}[]:,"' and before not in '{}[]:,"'):
            tokens[-1] += letter
            quoted = quoted and not (letter == '"' and before != "\\")
        else:
            tokens.append(letter)
            quoted = letter == '"'
    return tokens


def library(raw: bytes) -> Facts | None:
    try:
        found = safetensors.deserialize(raw)
    except safetensors.SafetensorError:
        return None
    return {
        name: (facts["dtype"], tuple(facts["shape"]), bytes(facts["data"])) for name, facts in found
    }


def ours(raw: bytes) -> Facts | str:
    try:
        size = header_size(raw[:8], len(raw), "file")
        header = parse_header(raw[:size], len(raw), "file")
    except InputError as error:
        return str(error)
    return {
        tensor.name: (
            tensor.dtype.value,
            tensor.shape,
            raw[size + tensor.start : size + tensor.stop],
        )
        for tensor in header.tensors
    }


def require_agreement(raw: bytes) -> None:
    expected, found = library(raw), ours(raw)
    if expected is None:
        assert isinstance(found, str)
    elif isinstance(found, str):
        assert "occurs twice" in found
    else:
        assert expected == found


@settings(max_examples=1500)
@given(bent_headers())
def test_we_agree_with_the_library_on_bent_text(raw):
    require_agreement(raw)


@settings(max_examples=500)
@given(bent_values())
def test_we_agree_with_the_library_on_bent_values(raw):
    require_agreement(raw)


@settings(max_examples=500)
@given(bent_headers(), st.integers(0, 200), st.integers(0, 7))
def test_we_agree_with_the_library_on_a_flipped_bit(raw, at, bit):
    bent = bytearray(raw)
    bent[at % len(bent)] ^= 1 << bit
    require_agreement(bytes(bent))


@settings(max_examples=300)
@given(st.binary(max_size=64))
def test_we_agree_with_the_library_on_noise(raw):
    require_agreement(raw)
    require_agreement(struct.pack("<Q", len(raw)) + raw)
