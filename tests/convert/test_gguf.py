"""GGUF files are read and written as the gguf package of llama.cpp reads and writes them."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from making import contents, metadata, save, save_raw
from safetensors.numpy import load_file

from soupctl import verbs
from soupctl.choices import ConvertQuantization, Layout
from soupctl.convert.gguf.blocks import blocks_of, values_of
from soupctl.convert.gguf.reader import open_gguf
from soupctl.errors import InputError, MismatchError, SoupError, UsageError
from soupctl.format import gguf as ours
from soupctl.format.dtypes import DType
from soupctl.ledger.ledger import LEDGER_KEY
from soupctl.verbs import ConvertRequest, ExecutionOptions

Q8 = gguf.GGMLQuantizationType.Q8_0
BF16 = gguf.GGMLQuantizationType.BF16
LINEAR = "double_blocks.0.img_attn.proj.weight"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def convert(source, output, *, execution=None, **options):
    verbs.convert(ConvertRequest(source, output, **options), force=True, execution=execution)


def drawn(*shape, scale=1.0):
    return (np.random.default_rng(7).normal(size=shape) * scale).astype(np.float32)


def write_gguf(path, tensors, texts=(), shapes=()):
    """A file as the package writes it; tensors are arrays, or arrays with the type to store."""
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    writer.add_float32("some.number", 0.5)
    for key, text in texts:
        writer.add_string(key, text)
    for name, shape in shapes:
        writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
    for name, array in tensors.items():
        if isinstance(array, tuple):
            values, kind = array
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_gguf(path):
    reader = gguf.GGUFReader(path)
    return reader, {each.name: each for each in reader.tensors}


def test_what_the_package_writes_is_read_bit_for_bit():
    matrix = drawn(6, 64)
    plain = {"w": matrix, "half": matrix.astype(np.float16), "ids": np.arange(5, dtype=np.int64)}
    packed = {"q": (matrix, Q8), "brain": (matrix, BF16), "one": drawn(1)}
    write_gguf("a.gguf", {**plain, **packed}, texts=[("general.name", "é")])

    convert("a.gguf", "out.st", execution=ExecutionOptions(2, 5))

    made = contents(Path("out.st"))
    for name, array in plain.items():
        assert (array.shape, array.tobytes()) == made[name][1:]
    expected = gguf.quants.dequantize(gguf.quants.quantize(matrix, Q8), Q8)
    assert ("F32", (6, 64), expected.tobytes()) == made["q"]
    assert ("BF16", (6, 64), gguf.quants.quantize(matrix, BF16).tobytes()) == made["brain"]
    assert {"general.architecture": "flux", "general.name": "é"} == metadata(Path("out.st"))


def test_a_reshaped_tensor_has_its_own_shape_again():
    kernel = drawn(8, 4, 4, 2).astype(np.float16)
    write_gguf("a.gguf", {"conv": kernel.reshape(1, 256)}, shapes=[("conv", [8, 4, 4, 2])])

    convert("a.gguf", "out.st")

    assert (load_file("out.st")["conv"] == kernel).all()


def test_there_and_back_gives_the_same_tensors():
    tensors = {
        "a": ("F16", (3, 2), bytes.fromhex("010080ff00807f7f007e3c00")),
        "b": ("BF16", (1,), b"\x80?"),
        "c": ("F64", (1, 2, 1, 3), bytes(range(48))),
        "none": ("F32", (0, 3), b""),
        "ids": ("I32", (2,), b"abcdefgh"),
    }
    save_raw(Path("a.st"), tensors)

    convert("a.st", "a.gguf", metadata=(("general.name", "x"),))
    convert("a.gguf", "back.st")

    assert contents(Path("a.st")) == contents(Path("back.st"))
    _, found = read_gguf("a.gguf")
    assert tensors["a"][2] == found["a"].data.tobytes()
    assert [3, 1, 2, 1] == found["c"].shape.tolist()
    assert all(each.data_offset % 32 == 0 for each in found.values())
    assert "x" == metadata(Path("back.st"))["general.name"]


def test_a_tensor_without_dimensions_becomes_one_of_one_element():
    # the package reads no BF16 tensor without dimensions
    save_raw(Path("a.st"), {"w": ("BF16", (), b"\x80?")})

    convert("a.st", "a.gguf")
    convert("a.gguf", "back.st")

    assert {"w": ("BF16", (1,), b"\x80?")} == contents(Path("back.st"))
    _, found = read_gguf("a.gguf")
    assert [1] == found["w"].shape.tolist()


@pytest.mark.parametrize("scale", [1.0, 1e-30, 3e4])
def test_blocks_are_those_of_the_package(scale):
    values = drawn(40, 64, scale=scale)
    values[0, :32] = 0
    values[1, :4] = [2.5, 127, -2.5, 0.5]
    if scale == 1.0:
        values[2] *= np.float32(2.0**-20)
    expected = gguf.quants.quantize(values, Q8).tobytes()

    made = blocks_of(values.reshape(-1))

    assert expected == made
    again = gguf.quants.dequantize(np.frombuffer(made, np.uint8).reshape(40, -1), Q8)
    assert (again.reshape(-1) == values_of(memoryview(made))).all()


def test_linear_layers_become_blocks_and_the_others_the_dtype():
    tensors = {
        LINEAR: drawn(24, 64).astype(np.float16),
        "double_blocks.0.img_attn.norm.query_norm.scale": drawn(64),
        "double_blocks.0.odd.weight": drawn(4, 33),
        "img_in.weight": drawn(8, 64),
    }
    save(Path("a.st"), **tensors)
    options = {"quantize": ConvertQuantization.Q8_0, "dtype": DType.BF16}

    for chunk in (7, 64, None):
        convert("a.st", f"{chunk}.gguf", execution=ExecutionOptions(2, chunk), **options)

    reader, found = read_gguf("None.gguf")
    types = {name: each.tensor_type.name for name, each in found.items()}
    assert {"Q8_0"} == {types.pop(LINEAR)}
    assert {"BF16"} == set(types.values())
    expected = gguf.quants.quantize(tensors[LINEAR].astype(np.float32), Q8)
    assert (expected == found[LINEAR].data).all()
    assert "flux" == reader.get_field("general.architecture").contents()
    assert 7 == reader.get_field("general.file_type").contents()
    assert Path("7.gguf").read_bytes() == Path("64.gguf").read_bytes()
    assert Path("7.gguf").read_bytes() == Path("None.gguf").read_bytes()
    record = json.loads(reader.get_field("soupctl.converted").contents())
    assert {"dtype": "BF16", "quantize": "q8_0"} == record["asked"]


def test_blocks_are_made_of_fused_layers_in_the_same_pass():
    names = [f"transformer_blocks.0.attn.{name}.weight" for name in ("to_q", "to_k", "to_v")]
    shared = "single_transformer_blocks.0.attn.norm_q.weight"
    save(Path("a.st"), **{name: drawn(64, 64, scale=n + 1) for n, name in enumerate(names)})
    tensors = {**load_file("a.st"), shared: drawn(8)}
    save(Path("a.st"), **tensors)

    convert("a.st", "plain.gguf", layout=Layout.LDM)
    convert("a.st", "out.gguf", layout=Layout.LDM, quantize=ConvertQuantization.Q8_0)
    convert("plain.gguf", "two.gguf", quantize=ConvertQuantization.Q8_0)

    _, found = read_gguf("out.gguf")
    _, other = read_gguf("two.gguf")
    (fused,) = [each for name, each in found.items() if name.endswith("img_attn.qkv.weight")]
    assert Q8 == fused.tensor_type
    assert (fused.data == other[fused.name].data).all()
    assert [64, 192] == fused.shape.tolist()


def test_diffusers_reads_what_is_written():
    loading = pytest.importorskip("diffusers.models.model_loading_utils")
    tensors = {LINEAR: drawn(8, 64), "img_in.bias": drawn(5).astype(np.float16)}
    save(Path("a.st"), **tensors)
    convert("a.st", "out.gguf", quantize=ConvertQuantization.Q8_0)
    convert("out.gguf", "back.st")

    found = loading.load_gguf_checkpoint("out.gguf")

    assert tensors.keys() == found.keys()
    assert (found["img_in.bias"].numpy() == tensors["img_in.bias"]).all()
    raw = found[LINEAR].numpy().reshape(8, -1)
    assert (gguf.quants.dequantize(raw, Q8) == load_file("back.st")[LINEAR]).all()


@pytest.mark.parametrize("kind", [gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q5_1])
def test_other_quantisations_are_refused_by_name(kind):
    write_gguf("a.gguf", {"w": (drawn(2, 64), kind)})

    with pytest.raises(MismatchError, match=rf"a\.gguf: w: is quantised as {kind.name}; F32, F16"):
        convert("a.gguf", "out.st")


def test_every_type_of_the_package_has_its_name():
    known = {number: dtype.value for number, dtype in ours.TYPES.items()}
    theirs = {each.value: each.name for each in gguf.GGMLQuantizationType}

    assert theirs == {**known, ours.Q8_0: "Q8_0", **ours.OTHERS}


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


def test_a_ledger_in_the_metadata_is_not_taken():
    write_gguf("a.gguf", {"w": drawn(2)}, texts=[(LEDGER_KEY, "{}")])

    convert("a.gguf", "out.st")

    assert LEDGER_KEY not in metadata(Path("out.st"))


def test_the_plan_counts_types_and_says_that_the_architecture_is_unknown():
    save(Path("a.st"), **{LINEAR: drawn(2, 32), "x": drawn(3)})
    request = ConvertRequest("a.st", "a.gguf", quantize=ConvertQuantization.Q8_0)
    with verbs.open_conversion(request) as job:
        found = verbs.preview_conversion(job)
        assert (("F32", 1), ("Q8_0", 1)) == found.components[0].dtypes
        assert not found.notes
        verbs.convert_tensors(job)
        assert Path("a.gguf").stat().st_size == job.size
    for options, count in (({}, 1), ({"metadata": (("general.architecture", "t5"),)}, 0)):
        request = ConvertRequest("a.st", "b.gguf", keys=("x",), **options)
        with verbs.open_conversion(request) as job:
            notes = verbs.preview_conversion(job).notes
            assert count == sum("names no architecture" in note for note in notes)
