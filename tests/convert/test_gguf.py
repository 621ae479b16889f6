"""GGUF files are read and written as the gguf package of llama.cpp reads and writes them."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_files import LINEAR, Q8, convert, drawn, write_gguf
from making import contents, metadata, save, save_raw
from safetensors.numpy import load_file

from soupctl import verbs
from soupctl.choices import ConvertQuantization, Layout
from soupctl.convert.gguf.blocks import blocks_of, values_of
from soupctl.format import gguf as ours
from soupctl.format.dtypes import DType
from soupctl.ledger.ledger import LEDGER_KEY
from soupctl.verbs import ConvertRequest, ExecutionOptions

BF16 = gguf.GGMLQuantizationType.BF16


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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


def test_every_type_of_the_package_has_its_name():
    known = {number: dtype.value for number, dtype in ours.TYPES.items()}
    theirs = {each.value: each.name for each in gguf.GGMLQuantizationType}

    assert theirs == {**known, ours.Q8_0: "Q8_0", **ours.OTHERS}


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
