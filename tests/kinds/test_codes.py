"""Every known layout of quantised tensors is recognised by its names, dtypes and shapes."""

from __future__ import annotations

import json

import pytest

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor
from soupctl.format.scales import CodeScale
from soupctl.kinds.classify import classify
from soupctl.kinds.facts import TensorFacts, facts_of
from soupctl.kinds.kind import Role
from soupctl.kinds.quantised import SCHEMES

U8, I8, I32, I64 = DType.U8, DType.I8, DType.I32, DType.I64
F32, F16, BF16, E4M3, E8M0 = DType.F32, DType.F16, DType.BF16, DType.F8_E4M3, DType.F8_E8M0
P = "blocks.0.q."

Layout = dict[str, tuple[DType, tuple[int, ...]]]


def tensors(layout: Layout) -> dict[str, Tensor]:
    return {name: Tensor(name, dtype, shape, 0, 0) for name, (dtype, shape) in layout.items()}


def kinds(layout: Layout, facts: TensorFacts | None = None) -> dict[str, tuple[Role, str]]:
    found = classify(tensors(layout), facts or TensorFacts())
    return {name: (kind.role, kind.what) for name, kind in found.items()}


LAYOUTS = {
    "nf4": (
        P + "weight",
        {
            P + "weight": (U8, (2048, 1)),
            P + "weight.absmax": (U8, (64,)),
            P + "weight.nested_absmax": (F32, (1,)),
            P + "weight.nested_quant_map": (F32, (256,)),
            P + "weight.quant_map": (F32, (16,)),
            P + "weight.quant_state.bitsandbytes__nf4": (U8, (90,)),
        },
    ),
    "fp4": (
        P + "weight",
        {
            P + "weight": (U8, (2048, 1)),
            P + "weight.absmax": (F32, (64,)),
            P + "weight.quant_map": (F32, (16,)),
            P + "weight.quant_state.bitsandbytes__fp4": (U8, (90,)),
        },
    ),
    "int8": (
        P + "weight",
        {
            P + "weight": (I8, (64, 64)),
            P + "SCB": (F32, (64,)),
            P + "weight_format": (U8, ()),
        },
    ),
    "GPTQ": (
        P + "qweight",
        {
            P + "qweight": (I32, (8, 64)),
            P + "qzeros": (I32, (1, 8)),
            P + "scales": (F16, (1, 64)),
            P + "g_idx": (I32, (64,)),
        },
    ),
    "AWQ": (
        P + "qweight",
        {
            P + "qweight": (I32, (64, 8)),
            P + "qzeros": (I32, (1, 8)),
            P + "scales": (F16, (1, 64)),
        },
    ),
    "quanto": (
        P + "weight._data",
        {
            P + "weight._data": (I8, (64, 64)),
            P + "weight._scale": (BF16, (64, 1)),
            P + "input_scale": (F32, ()),
            P + "output_scale": (F32, ()),
        },
    ),
    "torchao": (
        P + "_weight_qdata",
        {
            P + "_weight_qdata": (E4M3, (64, 64)),
            P + "_weight_scale": (F32, (64, 1)),
        },
    ),
    "compressed-tensors": (
        P + "weight_packed",
        {
            P + "weight_packed": (I32, (64, 8)),
            P + "weight_scale": (BF16, (64, 1)),
            P + "weight_shape": (I64, (2,)),
        },
    ),
    "nvfp4": (
        P + "weight",
        {
            P + "weight": (U8, (64, 32)),
            P + "weight_scale": (E4M3, (64, 4)),
            P + "weight_scale_2": (F32, ()),
            P + "input_scale": (F32, ()),
            P + "comfy_quant": (U8, (20,)),
        },
    ),
    "mxfp8": (
        P + "weight",
        {P + "weight": (E4M3, (64, 64)), P + "weight_scale": (E8M0, (64, 2))},
    ),
    "mxfp4": (
        "experts.gate_up_proj_blocks",
        {
            "experts.gate_up_proj_blocks": (U8, (4, 64, 2, 16)),
            "experts.gate_up_proj_scales": (U8, (4, 64, 2)),
        },
    ),
    "SVDQuant": (
        P + "qweight",
        {
            P + "qweight": (I8, (64, 32)),
            P + "wscales": (BF16, (1, 64)),
            P + "smooth_factor": (BF16, (64,)),
            P + "proj_down": (BF16, (64, 32)),
            P + "proj_up": (BF16, (64, 32)),
        },
    ),
    "MLX": (
        P + "weight",
        {
            P + "weight": (DType.U32, (64, 8)),
            P + "scales": (BF16, (64, 1)),
            P + "biases": (BF16, (64, 1)),
        },
    ),
    "HQQ": (P + "W_q", {P + "W_q": (U8, (64, 32)), P + "meta": (U8, (100,))}),
}


@pytest.mark.parametrize(("title", "code", "layout"), [(k, *v) for k, v in LAYOUTS.items()])
def test_a_layout_is_named_and_all_its_tensors_belong_to_it(title, code, layout):
    plain: Layout = {P + "bias": (F16, (64,)), "norm.weight": (F16, (64,))}
    found = kinds({**plain, **layout})

    assert (Role.CODE, title) == found[code]
    assert layout.keys() == found.keys()
    assert all(role is Role.COMPANION for name, (role, _) in found.items() if name != code)


@pytest.mark.parametrize(
    ("code", "scale", "block"),
    [
        ((64, 96), (), (64, 96)),
        ((64, 96), (1,), (64, 96)),
        ((64, 96), (1, 1), (64, 96)),
        ((64, 96), (64,), (1, 96)),
        ((64, 96), (64, 1), (1, 96)),
        ((64, 96, 3, 3), (64, 1, 1, 1), (1, 864)),
        ((256, 384), (2, 3), (128, 128)),
        ((200, 300), (2, 3), (128, 128)),
        ((64, 96), (2, 3), (32, 32)),
        ((65, 96), (2, 3), None),
        ((64, 96), (96,), None),
    ],
)
@pytest.mark.parametrize("end", ["weight_scale", "scale_weight", "weight_scale_inv"])
def test_the_scale_of_fp8_codes_is_found_by_its_shape(code, scale, block, end):
    found = classify(tensors({P + "weight": (E4M3, code), P + end: (F32, scale)}))

    expected = None if block is None else CodeScale(P + end, block)
    assert expected == found[P + "weight"].scale
    assert (block is None) == ("unknown layout" in found[P + "weight"].what)


def test_the_size_of_a_block_is_taken_from_the_config():
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [48, 80]}}
    facts = facts_of({}, json.dumps(config).encode())
    layout = {P + "weight": (E4M3, (60, 100)), P + "weight_scale_inv": (F32, (2, 2))}

    found = classify(tensors(layout), facts)

    assert CodeScale(P + "weight_scale_inv", (48, 80)) == found[P + "weight"].scale


def test_fp8_without_a_scale_is_a_plain_weight():
    assert {} == kinds({P + "weight": (E4M3, (64, 64)), P + "bias": (F16, (64,))})


def test_markers_are_companions_even_where_no_layer_has_a_scale():
    found = kinds({"scaled_fp8": (E4M3, (0,)), P + "weight": (E4M3, (64, 64))})

    assert {"scaled_fp8": (Role.COMPANION, "marker of scaled fp8")} == found


def test_a_layer_that_only_metadata_calls_quantised_is_a_code():
    layers = {"format_version": "1.0", "layers": {P[:-1]: {"format": "int8_tensorwise"}}}
    facts = facts_of({"_quantization_metadata": json.dumps(layers)})

    found = kinds({P + "weight": (I8, (64, 64))}, facts)

    assert {P + "weight": (Role.CODE, "int8_tensorwise")} == found


@pytest.mark.parametrize("more", ["convrot", "unheard_of"])
def test_a_layer_with_more_than_code_times_scale_is_not_read(more):
    layers = {"layers": {P[:-1]: {"format": "float8_e4m3fn", more: True}}}
    facts = facts_of({"_quantization_metadata": json.dumps(layers)})

    found = classify(
        tensors({P + "weight": (E4M3, (64, 64)), P + "weight_scale": (F32, ())}), facts
    )

    assert (f"float8_e4m3fn with {more}", None) == (
        found[P + "weight"].what,
        found[P + "weight"].scale,
    )


def test_settings_that_change_no_value_let_a_layer_be_read():
    layer = {"format": "float8_e4m3fn", "full_precision_matrix_mult": True, "convrot": False}
    facts = facts_of({"_quantization_metadata": json.dumps({"layers": {P[:-1]: layer}})})

    found = classify(
        tensors({P + "weight": (E4M3, (64, 64)), P + "weight_scale": (F32, ())}), facts
    )

    assert CodeScale(P + "weight_scale", (64, 64)) == found[P + "weight"].scale


@pytest.mark.parametrize(
    "strange",
    [
        *("weight_scale_2", "pre_quant_scale", "smooth_factor", "weight_zero_point_2", "scales"),
        *("weight.scale", "weight.scale_inv", "_scale", "amax", "weight_quantizer._amax"),
        *("weight_quantizer._scale", "weight.dequant.scale"),
    ],
)
@pytest.mark.parametrize("scale", ["weight_scale", "input_scale"])
def test_codes_with_an_unknown_companion_are_not_read(strange, scale):
    layout = {
        P + "weight": (E4M3, (64, 64)),
        P + scale: (F32, ()),
        P + strange: (F32, (64,)),
    }

    found = classify(tensors(layout))[P + "weight"]

    assert (Role.CODE, None) == (found.role, found.scale)


def test_codes_of_another_layer_do_not_count_as_scaled():
    layout = {
        "blocks.0.weight": (E4M3, (64, 64)),
        "blocks.0.scale_up.weight": (E4M3, (64, 64)),
        "blocks.1.weight": (BF16, (64, 64)),
        "blocks.1.norm.scale": (F32, (64,)),
    }

    assert {} == classify(tensors(layout))


def test_codes_with_two_scales_are_not_read():
    layout = {
        P + "weight": (E4M3, (64, 64)),
        P + "weight_scale": (F32, ()),
        P + "scale_weight": (F32, ()),
    }

    found = classify(tensors(layout))

    assert {"unknown layout" in found[P + "weight"].what, found[P + "weight"].scale is None} == {
        True
    }
    assert layout.keys() == found.keys()


def test_norms_called_scale_in_a_model_of_plain_fp8_are_weights():
    layout = {
        "blocks.0.norm.query_norm.scale": (E4M3, (64,)),
        "blocks.0.norm.key_norm.scale": (BF16, (64,)),
        "blocks.0.qkv.weight": (E4M3, (64, 64)),
    }

    assert {} == kinds(layout)


def test_integer_weights_are_codes_if_the_config_is_quantised():
    facts = facts_of({}, b'{"quantization_config": {"quant_method": "awq"}}')

    assert {P + "weight": (Role.CODE, "AWQ")} == kinds({P + "weight": (I8, (4, 4))}, facts)
    assert {P + "weight": (Role.CODE, "I8 codes")} == kinds({P + "weight": (I8, (4, 4))})


@pytest.mark.parametrize(
    "layout",
    [
        # compressed-tensors, marlin-24
        {P + "weight_packed": (I32, (8, 16)), P + "scale_packed": (F16, (1, 8))},
        # ONNX
        {
            P + "weight_quantized": (U8, (8, 16)),
            P + "weight_scale": (F32, ()),
            P + "weight_zero_point": (U8, ()),
        },
        {P + "packed": (U8, (64,)), P + "absmax_scale": (F32, (2,))},
        {P + "w_int": (I8, (8, 16)), P + "w_scl": (F32, (8,))},
    ],
)
def test_integers_of_an_unknown_layout_are_codes_beside_a_scale_or_if_they_are_signed_bytes(layout):
    found = kinds(layout)

    assert Role.CODE is found[next(iter(layout))][0]
    assert not any("lacks" in what for _, what in found.values())


def test_other_integers_are_codes_if_the_config_is_quantised_and_else_are_not():
    layout = {
        P + "bitmask": (U8, (8, 2)),
        P + "row_offsets": (I64, (8,)),
        "embeddings.position_ids": (I32, (1, 77)),
    }
    facts = facts_of({}, b'{"quantization_config": {"quant_method": "compressed-tensors"}}')

    constant = {"embeddings.position_ids": (Role.CONSTANT, "position ids")}
    assert constant == kinds(layout)
    assert constant | {P + "bitmask": (Role.CODE, "compressed-tensors")} == kinds(layout, facts)


def test_integers_beside_the_scale_of_logits_are_no_codes():
    assert {} == kinds({"steps": (I32, (2,)), "logit_scale": (F32, ())})


@pytest.mark.parametrize(
    "config", [b"", b"[]", b"{", b'{"quantization_config": 3}', b'{"quantization_config": {}}']
)
def test_a_config_that_is_not_as_it_should_be_says_nothing(config):
    assert TensorFacts() == facts_of({"_quantization_metadata": "x"}, config, config)


def test_each_scheme_says_where_it_is_described():
    assert all(scheme.source and scheme.title and scheme.required for scheme in SCHEMES)
