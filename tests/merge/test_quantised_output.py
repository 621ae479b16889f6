"""`--quantize fp8-scaled` writes the exact mean as codes and scales, correctly rounded."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import contents, metadata, save, save_raw
from revising import assert_proven, average, revise

from soupctl.choices import OnMissing, Quantization
from soupctl.engines.reference import decode, encode
from soupctl.errors import MismatchError, UsageError
from soupctl.format.dtypes import DType
from soupctl.merge.code_writer import scale_of
from soupctl.verbs import ExecutionOptions

E4M3, BF16, F16, F32, F64 = (DType(name) for name in ("F8_E4M3", "BF16", "F16", "F32", "F64"))
Q = Quantization.FP8_SCALED
W, S, MARKER = "blocks.0.q.weight", "blocks.0.q.scale_weight", "scaled_fp8"


def packed(values: list[Fraction], dtype: DType) -> bytes:
    codes = [encode(value, dtype) for value in values]
    assert None not in codes
    return b"".join(code.to_bytes(dtype.bits // 8, "little") for code in codes if code is not None)


def save_weight(path: Path, values: list[Fraction], dtype: DType = F32) -> None:
    save_raw(
        path,
        {
            W: (dtype.value, (2, len(values) // 2), packed(values, dtype)),
            "norm.weight": ("BF16", (2,), bytes(4)),
        },
    )


def expected(means: list[Fraction]) -> tuple[bytes, bytes]:
    """Scale and codes of a tensor of these means, by the words of the documentation."""
    largest = max(map(abs, means))
    single = np.float32(float(largest) / 448) if largest else np.float32(1)
    codes = [encode(mean / Fraction(float(single)), E4M3) for mean in means]
    return single.tobytes(), bytes(code for code in codes if code is not None)


def made(path: Path) -> tuple[bytes, bytes]:
    found = contents(path)
    return found[S][2], found[W][2]


MIDPOINTS = [
    (Fraction(decode(code, E4M3)) + Fraction(decode(code + 1, E4M3))) / 2 for code in range(126)
]


@pytest.mark.parametrize("shift", [0, -40, 40])
@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (Fraction("0.123456789"), 5)])
def test_means_half_way_between_codes_and_beside_them_are_rounded_as_real_numbers(
    tmp_path, shift, weights
):
    scale = Fraction(2) ** shift
    points = [sign * point for point in MIDPOINTS[:-2] for sign in (1, -1)]
    tiny = Fraction(1, 2**60)
    sides = [point * scale for point in points for _ in range(3)]
    other = [
        point * scale + side * tiny * abs(point) * scale for point in points for side in (0, 1, -1)
    ]
    top = [448 * scale] * 2
    save_weight(tmp_path / "a.st", [*sides, *top])
    save_weight(tmp_path / "b.st", [*other, *top], F64)
    read = [decode(encode(value, F64) or 0, F64) for value in [*other, *top]]
    average(tmp_path / "o.st", *zip((tmp_path / "a.st", tmp_path / "b.st"), weights, strict=True),
            quantize=Q)  # fmt: skip

    total = sum(weights)
    means = [
        (weights[0] * one + weights[1] * two) / total
        for one, two in zip([*sides, *top], read, strict=True)
    ]
    assert expected(means) == made(tmp_path / "o.st")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(-(2**12), 2**12), min_size=8, max_size=8),
    st.lists(st.integers(-(2**12), 2**12), min_size=8, max_size=8),
    st.sampled_from([F16, F32]),
    st.sampled_from([(1, 1), (3, 2), (2, -1), (1, Fraction(1, 7))]),
    st.booleans(),
)
def test_codes_are_those_of_exact_fractions(tmp_path_factory, one, two, dtype, weights, keep_sum):
    folder = tmp_path_factory.mktemp("codes")
    # few bits, so that half-way cases are many
    values = [[Fraction(n // 8 * 8 if n % 3 else n, 256) for n in each] for each in (one, two)]
    for name, each in zip("ab", values, strict=True):
        save_weight(folder / f"{name}.st", each, dtype)
    read = [[decode(encode(value, dtype) or 0, dtype) for value in each] for each in values]
    paths = (folder / "a.st", folder / "b.st")
    execution = ExecutionOptions(2, 3)
    average(folder / "o.st", *zip(paths, weights, strict=True), quantize=Q, keep_sum=keep_sum,
            execution=execution)  # fmt: skip

    total = sum(weights)
    means = [(weights[0] * x + weights[1] * y) / total for x, y in zip(*read, strict=True)]
    assert expected(means) == made(folder / "o.st")


def model(path: Path, seed: int, **more: tuple[str, tuple[int, ...]]) -> None:
    """Save tensors of these dtypes and shapes, with values of no more than a few hundred."""
    generator = np.random.default_rng(seed)
    saved = {}
    for name, (dtype, shape) in more.items():
        numbers = generator.normal(0, 1, int(np.prod(shape)))
        data = packed([Fraction(float(np.float16(number))) for number in numbers], DType(dtype))
        saved[name] = (dtype, shape, data)
    save_raw(path, saved)


LAYERS = {
    "blocks.0.attn.q.weight": True,
    "blocks.11.mlp.fc1.weight": True,
    "double_blocks.0.img_attn.qkv.weight": True,
    "encoder.block.0.layer.0.SelfAttention.q.weight": True,
    "single_transformer_blocks.0.proj_mlp.weight": True,
    "double_blocks.0.img_mod.lin.weight": False,
    "transformer_blocks.0.norm1.linear.weight": False,
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": False,
    "time_embed.0.weight": False,
    "label_emb.0.0.weight": False,
    "img_in.weight": False,
    "final_layer.linear.weight": False,
    "shared.weight": False,
}


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_weights_of_linear_layers_in_blocks_are_quantised(tmp_path, prefix):
    tensors = {prefix + name: ("BF16", (4, 6)) for name in LAYERS}
    tensors |= {prefix + "blocks.0.conv.weight": ("BF16", (4, 2, 1, 1))}
    tensors |= {prefix + "blocks.0.attn.q.bias": ("BF16", (4,))}
    outside = "text_encoders.clip_l.layers.0.q.weight"
    if prefix:
        tensors[outside] = ("BF16", (4, 6))
    for seed, name in enumerate("ab"):
        model(tmp_path / f"{name}.st", seed, **tensors)
    average(tmp_path / "o.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q)

    found = contents(tmp_path / "o.st")
    quantised = {prefix + name for name, is_quantised in LAYERS.items() if is_quantised}
    assert quantised == {name for name, (dtype, *_) in found.items() if dtype == "F8_E4M3"} - {
        prefix + MARKER
    }
    assert ("F8_E4M3", (2,), bytes(2)) == tuple(found[prefix + MARKER])
    scales = {name.removesuffix("weight") + "scale_weight" for name in quantised}
    assert {*tensors, *scales, prefix + MARKER} == found.keys()
    assert {("F32", ())} == {found[name][:2] for name in scales}


def test_tensors_with_an_explicit_option_are_not_quantised(tmp_path):
    tensors = {f"blocks.{n}.q.weight": ("BF16", (4, 6)) for n in range(3)}
    for seed, name in enumerate("ab"):
        model(tmp_path / f"{name}.st", seed, **tensors)
    average(
        tmp_path / "o.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q,
        dtype_for=(("blocks.0.*", F16),), take=(("blocks.1.*", tmp_path / "a.st"),),
    )  # fmt: skip

    found = contents(tmp_path / "o.st")
    assert ["F16", "BF16", "F8_E4M3"] == [found[f"blocks.{n}.q.weight"][0] for n in range(3)]


def test_metadata_of_another_layout_go(tmp_path):
    said = {"_quantization_metadata": '{"layers": {}}', "format": "pt"}
    for name in "ab":
        save(tmp_path / f"{name}.st", said, **{W: np.ones((4, 6), np.float16)})
    average(tmp_path / "o.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q)

    assert {"format", "soupctl"} == metadata(tmp_path / "o.st").keys()


def test_a_model_without_linear_layers_is_refused(tmp_path):
    for seed, name in enumerate("ab"):
        model(tmp_path / f"{name}.st", seed, norm=("BF16", (4,)))
    with pytest.raises(UsageError, match="finds no weight of a linear layer"):
        average(tmp_path / "o.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q)


def test_a_tensor_that_has_the_name_of_a_scale_is_refused(tmp_path):
    for seed, name in enumerate("ab"):
        model(tmp_path / f"{name}.st", seed, **{W: ("BF16", (4, 6)), S: ("F32", (1,))})
    pair = (tmp_path / "a.st", tmp_path / "b.st")
    with pytest.raises(MismatchError, match="has the name of a tensor that"):
        average(tmp_path / "o.st", *pair, quantize=Q)
    average(tmp_path / "o.st", *pair, quantize=Q, excludes=(S,))


def test_infinity_has_no_code(tmp_path):
    model(tmp_path / "a.st", 1, **{W: ("BF16", (4, 6))})
    with pytest.raises(UsageError, match="exclude each other"):
        average(tmp_path / "o.st", tmp_path / "a.st", quantize=Q, allow_nonfinite=True)


@pytest.mark.parametrize("largest", [0.0, 1e-45, 1e-38, 448.0, 3e38])
def test_a_scale_is_a_normal_number(largest):
    scale = scale_of(largest, W)
    assert 2.0**-126 <= scale
    assert largest / scale <= 464


@pytest.mark.parametrize("keep_sum", [True, False])
def test_a_quantised_soup_is_changed_as_if_it_had_been_made_so(tmp_path, keep_sum):
    for seed, name in enumerate("abc"):
        model(tmp_path / f"{name}.st", seed, **{W: ("F16", (8, 6)), "norm.weight": ("BF16", (4,))})
    a, b, c = (tmp_path / f"{name}.st" for name in "abc")
    average(tmp_path / "all.st", a, (b, 2), quantize=Q, keep_sum=keep_sum)
    revise("add", tmp_path / "all.st", tmp_path / "more.st", [(c, Fraction(1, 3))])
    made = revise("subtract", tmp_path / "more.st", tmp_path / "less.st", (), [b])
    average(tmp_path / "expected.st", a, (c, Fraction(1, 3)), quantize=Q)

    assert contents(tmp_path / "expected.st") == contents(tmp_path / "less.st")
    assert ("sum" if keep_sum else "ingredients") == made.method.value
    assert made.error is not None
    assert_proven(tmp_path / "all.st", tmp_path / "more.st", tmp_path / "less.st")


def test_a_quantised_soup_is_averaged_by_value(tmp_path):
    for seed, name in enumerate("ab"):
        model(tmp_path / f"{name}.st", seed, **{W: ("F16", (8, 6)), "norm.weight": ("F16", (4,))})
    average(tmp_path / "q.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q)
    average(tmp_path / "o.st", tmp_path / "q.st", dtype=F32)

    scale, codes = made(tmp_path / "q.st")
    exact = Fraction(float(np.frombuffer(scale, "<f4")[0]))
    values = [exact * Fraction(decode(code, E4M3)) for code in codes]
    assert packed(values, F32) == contents(tmp_path / "o.st")[W][2]
    assert {W, "norm.weight"} == contents(tmp_path / "o.st").keys()


@pytest.mark.parametrize("keep_sum", [False, True])
def test_codes_with_scales_of_f64_are_quantised_again_by_value(tmp_path, keep_sum):
    scale, values = Fraction(0.1), [Fraction(n, 4) for n in range(1, 9)]
    for name in ("a.st", "b.st"):
        save_weight(tmp_path / name, values, E4M3)
        number = {S: ("F64", (), packed([scale], F64))}
        save_raw(tmp_path / name, {**contents(tmp_path / name), **number})
    average(
        tmp_path / "s.st", *(tmp_path / n for n in ("a.st", "b.st")), quantize=Q, keep_sum=keep_sum
    )

    assert expected([scale * value for value in values]) == made(tmp_path / "s.st")


def test_the_error_is_that_of_the_codes(tmp_path):
    model(tmp_path / "a.st", 1, **{W: ("F16", (40, 60))})
    error = average(tmp_path / "o.st", tmp_path / "a.st", quantize=Q).error

    assert error is not None
    scale, codes = made(tmp_path / "o.st")
    means = np.frombuffer(contents(tmp_path / "a.st")[W][2], "<f2").astype("f8")
    table = np.array([float(decode(code, E4M3)) for code in range(256) if code % 128 < 127])
    order = np.frombuffer(codes, np.uint8)
    values = table[order - (order > 127)] * float(np.frombuffer(scale, "<f4")[0])
    relative = np.sqrt(((values - means) ** 2).sum() / (means**2).sum())
    assert abs(error.relative - relative) < 1e-9
    assert (1, W, error.relative) == (error.tensors, error.where, error.worst)


def test_tensors_that_only_some_have_are_quantised_as_well(tmp_path):
    model(tmp_path / "a.st", 1, **{W: ("F16", (4, 6)), "blocks.1.q.weight": ("F16", (4, 6))})
    model(tmp_path / "b.st", 2, **{W: ("F16", (4, 6))})
    average(
        tmp_path / "o.st", tmp_path / "a.st", tmp_path / "b.st", quantize=Q,
        on_missing=OnMissing.KEEP,
    )  # fmt: skip

    assert "F8_E4M3" == contents(tmp_path / "o.st")["blocks.1.q.weight"][0]
    assert_proven(tmp_path / "o.st")
