"""What no GGUF file holds, and forged GGUF files, are refused in one line."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_files import LINEAR, Q8, convert, drawn, write_gguf
from making import save, save_raw

from soupctl import verbs
from soupctl.choices import ConvertQuantization
from soupctl.convert.gguf.reader import open_gguf
from soupctl.errors import InputError, MismatchError, SoupError, UsageError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q5_1])
def test_other_quantisations_are_refused_by_name(kind):
    write_gguf("a.gguf", {"w": (drawn(2, 64), kind)})

    with pytest.raises(MismatchError, match=rf"a\.gguf: w: is quantised as {kind.name}; F32, F16"):
        convert("a.gguf", "out.st")


@pytest.mark.parametrize(
    ("tensors", "options", "error", "said"),
    [
        ({"w": ("F8_E4M3", (2,), b"ab")}, {}, MismatchError, "F8_E4M3, which GGUF does not have"),
        ({"w": ("BOOL", (1,), b"\0")}, {}, MismatchError, r"\(excludes .w. leaves it out\)"),
        ({"w": ("F16", (1,) * 5, b"ab")}, {}, MismatchError, "has 5 dimensions"),
        ({"w" * 128: ("F16", (1,), b"ab")}, {}, MismatchError, "a name of more than 127"),
        ({"w": ("F16", (1,), b"ab")}, {"shard_size": 9}, UsageError, "shard_size makes a folder"),
        (
            {"w": ("F16", (1,), b"ab")},
            {"quantize": ConvertQuantization.Q8_0},
            UsageError,
            "finds no weight of a linear layer with rows of 32",
        ),
        (
            {LINEAR: ("F32", (1, 32), struct.pack("<f", 3e38) * 32)},
            {"quantize": ConvertQuantization.Q8_0},
            MismatchError,
            r"a block has values that Q8_0 does not hold \(dtype_for",
        ),
        (
            {LINEAR: ("F32", (1, 32), struct.pack("<f", np.nan) * 32)},
            {"quantize": ConvertQuantization.Q8_0},
            InputError,
            "holds NaN or infinity .* leaves it out",
        ),
    ],
)
def test_what_no_gguf_file_holds_is_refused_without_an_output(tensors, options, error, said):
    save_raw(Path("a.st"), tensors)

    with pytest.raises(error, match=said):
        convert("a.st", "out.gguf", **options)
    assert not Path("out.gguf").exists()


def test_blocks_go_into_gguf_files_alone_and_records_into_none():
    save(Path("a.st"), **{LINEAR: drawn(2, 32)})
    write_gguf("b.gguf", {"w": drawn(2)})

    with pytest.raises(UsageError, match=r"name a \.gguf file"):
        convert("a.st", "out.st", quantize=ConvertQuantization.Q8_0)
    with pytest.raises(UsageError, match="is not a pipeline"):
        convert("b.gguf", "out.st", component="unet")
    with pytest.raises(UsageError, match="holds no training record"):
        verbs.RecordRequest("a.st", "out.gguf", Path("data"), "b.st", 5)


def forged(version=3, tensors=1, entries=0, between=b"", info=None, data=bytes(64)):
    """A small file with one tensor, some of it other than it should be."""
    name = struct.pack("<Q", 1) + b"w"
    own = name + struct.pack("<IQIQ", 1, 16, 0, 0) if info is None else info
    head = b"GGUF" + struct.pack("<IQQ", version, tensors, entries) + between + own
    return head + bytes(-len(head) % 32) + data


def entry(key, kind, data):
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + data


def info(name=b"w", sizes=(16,), kind=0, offset=0):
    head = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(sizes))
    return head + struct.pack(f"<{len(sizes)}Q", *sizes) + struct.pack("<IQ", kind, offset)


MANY = 1 << 60
LONG = b"n" * 70_000
FORGED = {
    "version 1": (forged(version=1), "of version 1; 2 and 3 are read"),
    "other order": (forged(version=3 << 24), "of version 50331648"),
    "many tensors": (forged(tensors=MANY), "claims"),
    "more tensors": (forged(tensors=9), "not valid|ends within its header|lies beyond"),
    "no data": (forged(data=b""), "lies beyond the end of the file"),
    "huge": (forged(info=info(sizes=(1 << 40, 1 << 40))), "lies beyond the end"),
    "offset": (forged(info=info(offset=32)), "lies beyond the end"),
    "dimensions": (forged(info=info(sizes=(1,) * 9)), "has 9 dimensions"),
    "type": (forged(info=info(kind=77)), "has the unknown type 77"),
    "part of a block": (forged(info=info(kind=8)), "whole blocks of 32"),
    "twice": (
        forged(tensors=2, info=info(sizes=(1,)) + info(sizes=(1,), offset=32)),
        "is there twice",
    ),
    "overlap": (forged(tensors=2, info=info() + info(b"v")), "overlaps another"),
    "name": (forged(info=info(name=b"\xff")), "header is not valid"),
    "value": (forged(entries=1, between=entry(b"k", 99, b"")), "unknown type 99"),
    "nested": (
        forged(entries=1, between=entry(b"k", 9, struct.pack("<IQ", 9, 1))),
        "elements of the type 9",
    ),
    "endless": (
        forged(entries=1, between=entry(b"k", 9, struct.pack("<IQ", 8, MANY))),
        "ends within its header",
    ),
    "alignment": (
        forged(entries=1, between=entry(b"general.alignment", 4, struct.pack("<I", 33))),
        "not a power of two",
    ),
    "key twice": (forged(entries=2, between=2 * entry(b"k", 8, bytes(8))), "has 'k' twice"),
    "shape": (
        forged(
            entries=1,
            between=entry(b"comfy.gguf.orig_shape.w", 9, struct.pack("<IQii", 5, 2, 3, 5)),
        ),
        r"has shape \[16\], and \[3, 5\] in the metadata",
    ),
    "size": (forged(info=info(sizes=(0, 1 << 61, 32))), "does not fit in 64 bits"),
    "name of metadata": (
        forged(info=info(name=b"__metadata__")),
        "__metadata__ is not a name that a tensor can have",
    ),
    "long name": (forged(info=info(name=LONG, sizes=(1,) * 9)), "has 9 dimensions"),
    "long key": (forged(entries=2, between=2 * entry(LONG, 8, bytes(8))), "twice"),
    "long alignment": (
        forged(
            entries=1,
            between=entry(b"general.alignment", 8, struct.pack("<Q", len(LONG)) + LONG),
        ),
        "is not a power of two",
    ),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_file_is_refused_in_one_line(name):
    data, said = FORGED[name]
    Path("a.gguf").write_bytes(data)

    with pytest.raises(InputError, match=said) as caught:
        convert("a.gguf", "out.st")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert not Path("out.st").exists()


def test_a_file_that_is_cut_off_anywhere_is_refused():
    write_gguf("a.gguf", {"w": drawn(2, 32), "q": (drawn(2, 64), Q8)})
    whole = Path("a.gguf").read_bytes()

    for size in [*range(4, 400), len(whole) - 33]:
        Path("a.gguf").write_bytes(whole[:size])
        with pytest.raises(SoupError), open_gguf(Path("a.gguf"), "a.gguf"):
            pass
