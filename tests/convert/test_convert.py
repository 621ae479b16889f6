"""A conversion copies tensors whose dtype stays, and rounds the others once."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from deltas import floats, numbers, rounded
from making import contents, metadata, save, save_pipeline, save_raw
from revising import average, root
from safetensors.numpy import load_file

from soupctl import verbs
from soupctl.choices import ConvertQuantization
from soupctl.errors import InputError, LedgerError, MismatchError, OutputError, UsageError
from soupctl.format.dtypes import FLOATS, DType
from soupctl.verbs import ConvertRequest, ExecutionOptions, Level, Quantization

COUNT = 90
LINEAR = "blocks.0.attn.weight"


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def convert(source="a.st", output="out.st", *, execution=None, **options):
    (made,) = verbs.convert(
        ConvertRequest(source, output, **options), force=True, execution=execution
    )
    return made


def record(path="out.st"):
    return json.loads(metadata(Path(path))["soupctl.converted"])


@pytest.mark.parametrize(("own", "asked"), [*product(FLOATS, FLOATS)], ids=lambda each: each.value)
def test_a_cast_is_the_value_rounded_once_and_keeps_the_sign_of_zero(own, asked):
    data = floats(own, COUNT, asked.value)
    save_raw(Path("a.st"), {"w": (own.value, (COUNT,), data)})
    expected = rounded(numbers(own, data), asked)
    if expected is None:
        with pytest.raises(MismatchError, match=r"a\.st: w: element \d+ is beyond the range of"):
            convert(dtype=asked)
        return
    width, signs = asked.bits // 8, data[own.bits // 8 - 1 :: own.bits // 8]

    convert(dtype=asked, execution=ExecutionOptions(2, 7))

    (_, _, made) = contents(Path("out.st"))["w"]
    signed = bytearray(expected)
    for place, sign in enumerate(signs):
        if sign & 0x80:
            signed[(place + 1) * width - 1] |= 0x80
    assert bytes(signed) == made
    assert [asked.value] == [dtype for dtype, *_ in contents(Path("out.st")).values()]


def test_what_is_not_asked_to_change_is_copied_bit_for_bit():
    odd = bytes.fromhex("010080ff00807f7f")
    tensors = {
        "nan": ("F16", (4,), odd),
        "ids": ("I64", (1,), bytes(8)),
        "alphas_cumprod": ("F32", (2,), bytes(8)),
        "codes": ("F8_E8M0", (3,), b"abc"),
        "none": ("F32", (0, 3), b""),
        "one": ("BF16", (), b"\x80?"),
    }
    save_raw(Path("a.st"), tensors)

    made = convert(metadata=(("title", "=x"),))
    convert(output="half.st", dtype=DType.F64, excludes=("nan",))

    assert contents(Path("a.st")) == contents(Path("out.st"))
    assert {"title": "=x"} == metadata(Path("out.st"))
    assert (root("a.st"),) == made.sources
    kept = contents(Path("half.st"))
    assert {"ids", "alphas_cumprod", "codes"} <= {
        n for n in kept if kept[n] == contents(Path("a.st"))[n]
    }
    assert "F64" == kept["one"][0] == kept["none"][0]


def test_the_bytes_depend_on_the_request_alone():
    save(Path("a.st"), **{f"{n}.w": np.arange(40, dtype=np.float32) for n in range(9)})
    made = set()
    for execution in (ExecutionOptions(1), ExecutionOptions(2, 1), ExecutionOptions(3, 7)):
        convert(execution=execution, dtype=DType.F16)
        made.add(Path("out.st").read_bytes())

    assert 1 == len(made)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nan_and_infinity_are_copied_and_cast_only_on_request(odd):
    save(Path("a.st"), w=np.array([1, odd], np.float32))

    convert()
    assert contents(Path("a.st")) == contents(Path("out.st"))
    with pytest.raises(InputError, match=r"a\.st: w: holds NaN or infinity \(element 1\)"):
        convert(dtype=DType.BF16)
    convert(dtype=DType.F16, allow_nonfinite=True)

    np.testing.assert_equal(load_file("out.st")["w"], np.array([1, odd], np.float16))


def test_metadata_is_set_and_left_out_and_a_key_that_is_not_there_is_refused():
    save(Path("a.st"), {"format": "pt", "title": "x"}, w=np.ones(2, np.float32))

    convert(metadata=(("author", "me"),), without_metadata=("title",))

    assert {"format": "pt", "author": "me"} == metadata(Path("out.st"))
    with pytest.raises(UsageError, match=r"without_metadata 'author' is not in its metadata"):
        convert(without_metadata=("author",))
    for key in ("soupctl", "soupctl.sum", "", "__metadata__"):
        with pytest.raises(UsageError, match="is not a key of metadata"):
            ConvertRequest("a.st", "b.st", metadata=((key, ""),))


def test_a_soup_that_is_only_laid_out_anew_keeps_a_ledger_that_proves():
    for name in "ab":
        save(Path(f"{name}.st"), w=np.ones(9, np.float32), v=np.ones(3, np.float16))
    average("soup.st", "a.st", "b.st")

    assert convert("soup.st", "sharded", shard_size=20).keeps_ledger
    assert convert("sharded", "whole.st", metadata=(("title", "x"),)).keeps_ledger

    for path in ("sharded", "whole.st"):
        assert [Level.REBUILD] == [each.level for each in verbs.verify(path)]


@pytest.mark.parametrize(
    "options", [{"dtype": DType.F16}, {"excludes": ("v",)}, {"ignore_ledger": True}]
)
def test_no_ledger_stays_where_it_would_not_prove(options):
    for name in "ab":
        save(Path(f"{name}.st"), w=np.ones(9, np.float32), v=np.ones(3, np.float16))
    average("soup.st", "a.st", "b.st")

    assert not convert("soup.st", **options).keeps_ledger

    assert "soupctl" not in metadata(Path("out.st"))
    if not options.get("ignore_ledger"):
        assert [root("soup.st")] == [each["digest"] for each in record()["sources"]]
    with verbs.open_conversion(ConvertRequest("soup.st", "out.st", **options)) as job:
        notes = verbs.preview_conversion(job).notes
    assert bool(notes) == (not options.get("ignore_ledger"))


def test_a_soup_whose_ledger_is_of_other_tensors_is_refused():
    save(Path("a.st"), w=np.ones(9, np.float32))
    average("soup.st", "a.st")
    data = bytearray(Path("soup.st").read_bytes())
    data[-1] ^= 1
    Path("soup.st").write_bytes(data)

    with pytest.raises(LedgerError, match=r"soup\.st: its ledger does not match its tensors"):
        convert("soup.st")

    assert not Path("out.st").exists()


def test_a_record_of_a_conversion_does_not_go_into_a_soup():
    save(Path("a.st"), w=np.ones(9, np.float32))
    convert(dtype=DType.F16)

    average("soup.st", "out.st", "out.st")

    assert {"soupctl", "format"} == metadata(Path("soup.st")).keys()


def test_quantised_weights_are_written_as_avg_writes_them_and_read_by_value():
    weights = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float16)
    save(Path("a.st"), **{LINEAR: weights, "norm.weight": np.ones(3, np.float16)})
    average("soup.st", "a.st", quantize=Quantization.FP8_SCALED)

    made = convert(quantize=ConvertQuantization.FP8_SCALED, execution=ExecutionOptions(2, 5))
    convert("out.st", "plain.st", dtype=DType.F32)
    convert("out.st", "copied.st", metadata=(("a", "b"),))

    assert contents(Path("soup.st")) == contents(Path("out.st")) == contents(Path("copied.st"))
    assert made.error is not None
    assert 1 == made.error.tensors
    assert {LINEAR, "norm.weight"} == contents(Path("plain.st")).keys()
    average("mean.st", "out.st", dtype=DType.F32)
    assert contents(Path("mean.st")) == contents(Path("plain.st"))


def test_codes_that_cannot_be_read_exactly_are_copied_or_refused_by_name():
    save(
        Path("a.st"),
        **{"l.weight": np.ones((4, 4), np.uint8), "l.weight.absmax": np.ones(2, np.float32)},
    )

    convert(metadata=(("a", "b"),))
    assert contents(Path("a.st")) == contents(Path("out.st"))
    with pytest.raises(MismatchError, match=r"a\.st: l\.weight.*: is a c.*cannot read exactly"):
        convert(dtype=DType.F16)


def test_a_pipeline_is_converted_component_by_component_with_its_configs():
    save_pipeline(Path("pipe"), 0)

    made = verbs.convert(ConvertRequest("pipe", "half", dtype=DType.BF16))

    assert ["text_encoder", "unet", "vae"] == [each.name for each in made]
    names = {str(each.relative_to("pipe")) for each in Path("pipe").rglob("*") if each.is_file()}
    assert names >= {str(e.relative_to("half")) for e in Path("half").rglob("*") if e.is_file()}
    assert "half/model_index.json" in map(str, Path("half").iterdir())
    convert("half", "again.st", component="unet", dtype=DType.F32)
    assert ["F32"] == [dtype for dtype, *_ in contents(Path("again.st")).values()]
    with pytest.raises(UsageError, match="one file cannot hold 3 components"):
        convert("pipe", "one.st")
    # a folder that soupctl made is replaced on request, and no other
    verbs.convert(ConvertRequest("pipe", "half", dtype=DType.F32), force=True)
    with pytest.raises(OutputError):
        verbs.convert(ConvertRequest("half", "pipe"), force=True)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"keys": ("none*",)}, "keys 'none[*]' matches no tensor"),
        ({"excludes": ("*",)}, "no tensor is left to convert"),
        ({"quantize": ConvertQuantization.FP8_SCALED}, "finds no weight of a linear layer"),
        ({"output": "a.st"}, "is also an input"),
        ({"output": "x.onnx"}, "holds no safetensors"),
    ],
)
def test_requests_that_no_file_satisfies_are_refused_without_an_output(options, what):
    save(Path("a.st"), w=np.ones(9, np.float32))
    before = Path("a.st").read_bytes()

    with pytest.raises((UsageError, OutputError), match=what):
        convert(**options)

    assert ["a.st"] == [each.name for each in Path().iterdir()]
    assert before == Path("a.st").read_bytes()


def test_sums_and_deltas_are_not_converted():
    save(Path("a.st"), w=np.ones(9, np.float32))
    save(Path("b.st"), w=np.zeros(9, np.float32))
    verbs.make_delta(verbs.DeltaRequest("a.st", "b.st", "d.st"))

    with pytest.raises(InputError, match="is a delta, not a model"):
        convert("d.st")
