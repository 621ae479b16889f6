"""Float8 codes with scales are averaged as what they stand for: code times scale, rounded once."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, metadata, save_raw

from soupctl import verbs
from soupctl.engines.reference import decode, encode
from soupctl.errors import InputError, MismatchError
from soupctl.format.dtypes import DType
from soupctl.verbs import DiffRequest, Ingredient, Request

E4M3, BF16, F16, F32 = DType.F8_E4M3, DType.BF16, DType.F16, DType.F32
ROWS, COLUMNS = 6, 12

SCALES = {
    "tensor": ("scale_weight", (), (ROWS, COLUMNS)),
    "a tensor's only row": ("weight_scale", (1,), (ROWS, COLUMNS)),
    "row": ("weight_scale", (ROWS, 1), (1, COLUMNS)),
    "block": ("weight_scale_inv", (2, 3), (3, 4)),
}


def checkpoint(
    path: Path, seed: int, layout: str, *, scale: DType = F32, plain: DType = BF16, **more: object
) -> list[Fraction]:
    """Save a checkpoint with one scaled tensor, and return what its codes stand for."""
    generator = np.random.default_rng(seed)
    name, shape, block = SCALES[layout]
    codes = bytes(generator.integers(0, 127, ROWS * COLUMNS).astype(np.uint8) | 128 * (seed % 2))
    numbers = generator.uniform(1e-4, 1e-2, shape).reshape(-1)
    words = [encode(Fraction(float(number)), scale) for number in numbers]
    raw = b"".join(word.to_bytes(scale.bits // 8, "little") for word in words)
    ones = encode(Fraction(seed), plain).to_bytes(plain.bits // 8, "little") * 40
    tensors = {
        "layer.weight": ("F8_E4M3", (ROWS, COLUMNS), codes),
        f"layer.{name}": (scale.value, shape, raw),
        "norm.weight": (plain.value, (40,), ones),
        **more,
    }
    save_raw(path, tensors)
    across = -(-COLUMNS // block[1])
    values = [decode(word, scale) for word in words]
    return [
        decode(code, E4M3)
        * values[place // COLUMNS // block[0] * across + place % COLUMNS // block[1]]
        for place, code in enumerate(codes)
    ]


def rounded(values: list[Fraction], dtype: DType) -> bytes:
    width = dtype.bits // 8
    return b"".join(encode(value, dtype).to_bytes(width, "little") for value in values)


def average(output: Path, *pairs: tuple[Path, Fraction | int], **options: object) -> None:
    ingredients = [Ingredient(path, Fraction(weight)) for path, weight in pairs]
    verbs.average(Request(ingredients, output, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [DType.F64, F32, F16, BF16])
@pytest.mark.parametrize("layout", SCALES)
def test_the_soup_is_the_exact_mean_of_codes_times_scales(tmp_path, layout, scale):
    a = checkpoint(tmp_path / "a.st", 1, layout, scale=scale)
    b = checkpoint(tmp_path / "b.st", 2, layout, scale=scale)
    weights = Fraction("0.123456789"), Fraction("0.876543211")
    average(tmp_path / "o.st", *zip((tmp_path / "a.st", tmp_path / "b.st"), weights, strict=True))

    mean = [weights[0] * x + weights[1] * y for x, y in zip(a, b, strict=True)]
    made = contents(tmp_path / "o.st")
    assert ("BF16", (ROWS, COLUMNS), rounded(mean, BF16)) == tuple(made["layer.weight"])
    assert {"layer.weight", "norm.weight"} == set(made)


def test_scales_of_other_blocks_and_plain_weights_are_averaged_together(tmp_path):
    values = [checkpoint(tmp_path / f"{n}.st", n, layout) for n, layout in enumerate(SCALES)]
    half = [Fraction(n, 64) for n in range(ROWS * COLUMNS)]
    plain = rounded(half, F16)
    norm = rounded([Fraction(1)] * 40, BF16)
    save_raw(
        tmp_path / "plain.st",
        {"layer.weight": ("F16", (ROWS, COLUMNS), plain), "norm.weight": ("BF16", (40,), norm)},
    )
    paths = [*(tmp_path / f"{n}.st" for n in range(len(SCALES))), tmp_path / "plain.st"]
    average(tmp_path / "o.st", *((path, 1) for path in paths))

    mean = [sum(each) / 5 for each in zip(*values, half, strict=True)]
    # fp16 with bfloat16 is float32, as for any other tensors
    assert ("F32", rounded(mean, F32)) == tuple(contents(tmp_path / "o.st")["layer.weight"])[::2]


@pytest.mark.parametrize(
    ("plain", "asked", "expected"),
    [(F16, None, F16), (BF16, None, BF16), (F32, None, BF16), (F16, F32, F32)],
)
def test_the_soup_has_the_width_of_the_unquantised_weights(tmp_path, plain, asked, expected):
    values = [checkpoint(tmp_path / f"{n}.st", n, "tensor", plain=plain) for n in range(2)]
    average(tmp_path / "o.st", (tmp_path / "0.st", 1), (tmp_path / "1.st", 1), dtype=asked)

    mean = [(x + y) / 2 for x, y in zip(*values, strict=True)]
    made = contents(tmp_path / "o.st")["layer.weight"]
    assert (expected.value, rounded(mean, expected)) == (made[0], made[2])


def test_markers_and_metadata_that_say_quantised_are_left_out(tmp_path):
    more = {
        "scaled_fp8": ("F8_E4M3", (0,), b""),
        "layer.comfy_quant": ("U8", (2,), b"{}"),
        "layer.input_scale": ("F32", (), np.float32([1.5]).tobytes()),
    }
    for n in range(2):
        checkpoint(tmp_path / f"{n}.st", n, "tensor", **more)
    average(tmp_path / "o.st", (tmp_path / "0.st", 1), (tmp_path / "1.st", 1))

    assert {"layer.weight", "norm.weight"} == set(contents(tmp_path / "o.st"))
    assert "_quantization_metadata" not in metadata(tmp_path / "o.st")


@pytest.mark.parametrize("scale", [F32, DType.F64])
@pytest.mark.parametrize("keep_sum", [True, False])
def test_a_removed_ingredient_leaves_no_trace(tmp_path, keep_sum, scale):
    paths = [tmp_path / f"{n}.st" for n in range(3)]
    for n, (path, layout) in enumerate(zip(paths, ("tensor", "block", "row"), strict=True)):
        checkpoint(path, n, layout, scale=scale)
    average(
        tmp_path / "all.st", *((path, n + 1) for n, path in enumerate(paths)), keep_sum=keep_sum
    )
    revision = verbs.Revision(
        "subtract", tmp_path / "all.st", tmp_path / "less.st", removed=[paths[1]]
    )
    (made,) = verbs.revise(revision)
    average(tmp_path / "expected.st", (paths[0], 1), (paths[2], 3))

    assert ("sum" if keep_sum else "ingredients") == made.method.value
    assert contents(tmp_path / "expected.st") == contents(tmp_path / "less.st")
    (proven,) = verbs.verify(tmp_path / "less.st", level=verbs.Level.REBUILD)
    assert verbs.Level.REBUILD is proven.level


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_scale_that_is_no_number_is_refused(tmp_path, bad):
    checkpoint(tmp_path / "a.st", 1, "tensor")
    checkpoint(
        tmp_path / "b.st", 2, "tensor",
        **{"layer.scale_weight": ("F32", (), np.float32([bad]).tobytes())},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"layer\.scale_weight: holds NaN or infinity") as caught:
        average(tmp_path / "o.st", (tmp_path / "a.st", 1), (tmp_path / "b.st", 1))
    # an option that would not help is not advised
    assert "--allow-nonfinite" not in caught.value.message()


@pytest.mark.parametrize("value", [1e-50, 1e40])
def test_a_scale_beyond_the_range_of_f32_is_refused_with_a_way(tmp_path, value):
    for n in range(2):
        number = ("F64", (), np.float64([value]).tobytes())
        checkpoint(tmp_path / f"{n}.st", n, "tensor", **{"layer.scale_weight": number})
    with pytest.raises(MismatchError, match=r"is a scale beyond the range of F32") as caught:
        average(tmp_path / "o.st", (tmp_path / "0.st", 1), (tmp_path / "1.st", 1))
    assert "average the unquantised weights" in caught.value.message()


def test_a_difference_of_codes_with_scales_of_f64_is_found(tmp_path):
    a, b = (checkpoint(tmp_path / f"{n}.st", n, "row", scale=DType.F64) for n in range(2))
    (found,) = verbs.compare_checkpoints(DiffRequest(tmp_path / "0.st", tmp_path / "1.st"))
    (layer,) = [each for each in found.tensors if each.name == "layer.weight"]

    largest = max(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))
    assert largest == layer.moments.largest


def test_the_config_of_a_folder_says_quantised_no_longer(tmp_path):
    for n, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        checkpoint(tmp_path / name / "model.safetensors", n, "block")
        config = {"quantization_config": {"quant_method": "fp8"}, "model_type": "qwen3"}
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "hf_quant_config.json").write_text("{}")
    average(tmp_path / "o", (tmp_path / "a", 1), (tmp_path / "b", 1))

    assert {"model_type": "qwen3"} == json.loads((tmp_path / "o" / "config.json").read_text())
    assert not (tmp_path / "o" / "hf_quant_config.json").exists()


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "text_encoders.t5xxl.transformer."])
def test_the_marker_below_a_prefix_is_left_out(tmp_path, prefix):
    for n in range(2):
        checkpoint(tmp_path / f"{n}.st", n, "tensor", scaled_fp8=("F8_E4M3", (2,), bytes(2)))
        raw = contents(tmp_path / f"{n}.st")
        save_raw(tmp_path / f"{n}.st", {prefix + name: each for name, each in raw.items()})
    average(tmp_path / "o.st", (tmp_path / "0.st", 1), (tmp_path / "1.st", 1))

    assert {prefix + "layer.weight", prefix + "norm.weight"} == set(contents(tmp_path / "o.st"))


@pytest.mark.parametrize("scaled_first", [True, False])
def test_scaled_codes_are_averaged_with_plain_weights_below_a_prefix(tmp_path, scaled_first):
    values = checkpoint(tmp_path / "a.st", 1, "row")
    plain = [Fraction(n, 64) for n in range(ROWS * COLUMNS)]
    below = "model.diffusion_model."
    save_raw(
        tmp_path / "b.st",
        {
            f"{below}layer.weight": ("BF16", (ROWS, COLUMNS), rounded(plain, BF16)),
            f"{below}norm.weight": ("BF16", (40,), rounded([Fraction(1)] * 40, BF16)),
        },
    )
    pairs = [(tmp_path / "a.st", 1), (tmp_path / "b.st", 1)]
    average(tmp_path / "o.st", *(pairs if scaled_first else pairs[::-1]))

    mean = [(x + y) / 2 for x, y in zip(values, plain, strict=True)]
    name = "layer.weight" if scaled_first else f"{below}layer.weight"
    assert rounded(mean, BF16) == contents(tmp_path / "o.st")[name][2]


def test_taken_scaled_codes_become_their_values(tmp_path):
    values = [checkpoint(tmp_path / f"{n}.st", n, "block") for n in range(2)]
    paths = [tmp_path / "0.st", tmp_path / "1.st"]
    average(tmp_path / "o.st", *((path, 1) for path in paths), take=(("layer.*", paths[1]),))

    assert rounded(values[1], BF16) == contents(tmp_path / "o.st")["layer.weight"][2]


def test_a_rotation_that_only_a_tensor_tells_of_is_refused(tmp_path):
    said = json.dumps({"format": "float8_e4m3fn", "convrot": True}).encode()
    for n in range(2):
        more = {"layer.comfy_quant": ("U8", (len(said),), said)}
        checkpoint(tmp_path / f"{n}.st", n, "row", **more)
    with pytest.raises(MismatchError, match=r"is quantised \(float8_e4m3fn with convrot\)"):
        average(tmp_path / "o.st", (tmp_path / "0.st", 1), (tmp_path / "1.st", 1))


@pytest.mark.parametrize("quantised_first", [True, False])
def test_a_folder_of_scaled_codes_is_averaged_with_one_of_plain_weights(tmp_path, quantised_first):
    values = []
    for n, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        values.append(checkpoint(tmp_path / name / "model.safetensors", n, "block"))
    config = {"model_type": "qwen3", "quantization_config": {"quant_method": "fp8"}}
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    save_raw(
        tmp_path / "b" / "model.safetensors",
        {
            "layer.weight": ("BF16", (ROWS, COLUMNS), rounded(values[1], BF16)),
            "norm.weight": ("BF16", (40,), rounded([Fraction(1)] * 40, BF16)),
        },
    )
    (tmp_path / "b" / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    pair = [(tmp_path / "a", 1), (tmp_path / "b", 1)]
    average(tmp_path / "o", *(pair if quantised_first else pair[::-1]))

    assert {"model_type": "qwen3"} == json.loads((tmp_path / "o" / "config.json").read_text())


def test_a_dry_run_shows_codes_and_counts_no_scale_as_left_out(tmp_path):
    paths = [tmp_path / f"{n}.st" for n in range(2)]
    for n, path in enumerate(paths):
        checkpoint(path, n, "tensor")
    with verbs.open_job(Request(paths, tmp_path / "o.st")) as job:
        (shown,) = verbs.preview(job).components

    assert (2, 0) == (shown.kept, shown.left_out)
    assert [("layer.weight", "codes times scales, averaged into BF16")] == [
        (each.tensor, each.rule) for each in shown.special
    ]


def with_scale(path: Path, weight: int, scale: float, dtype: str = "BF16") -> None:
    """Save a weight that is no code, with a scale beside it."""
    raw = rounded([Fraction(weight)] * 8, DType(dtype))
    number = ("F32", (), np.float32([scale]).tobytes())
    save_raw(path, {"layer.weight": (dtype, (2, 4), raw), "layer.scale_weight": number})


def test_a_scale_of_wide_floats_is_kept_if_it_is_the_same_in_all(tmp_path):
    pair = tmp_path / "a.st", tmp_path / "b.st"
    with_scale(pair[0], 1, 2)
    with_scale(pair[1], 3, 2)
    average(tmp_path / "o.st", *((path, 1) for path in pair))

    found = contents(tmp_path / "o.st")
    assert rounded([Fraction(2)] * 8, BF16) == found["layer.weight"][2]
    assert np.float32([2]).tobytes() == found["layer.scale_weight"][2]


@pytest.mark.parametrize("other", ["BF16", "F8_E4M3"])
def test_wide_floats_with_scales_that_differ_are_refused(tmp_path, other):
    pair = tmp_path / "a.st", tmp_path / "b.st"
    with_scale(pair[0], 1, 2)
    with_scale(pair[1], 3, 4, other)
    for paths in (pair, pair[::-1]):
        with pytest.raises(MismatchError, match=r"is quantised \(a wide float with a scale\)"):
            average(tmp_path / "o.st", *((path, 1) for path in paths))


def test_the_marker_is_left_out_whatever_its_dtype(tmp_path):
    paths = tmp_path / "0.st", tmp_path / "1.st"
    for n, path in enumerate(paths):
        checkpoint(path, n, "tensor", scaled_fp8=("F32", (2,), bytes(8)))
    average(tmp_path / "o.st", *((path, 1) for path in paths))

    assert {"layer.weight", "norm.weight"} == set(contents(tmp_path / "o.st"))
