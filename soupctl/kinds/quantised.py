"""The schemes of quantised tensors: codes, with scales and other companions.

Rule 1: a scheme is recognised by the companions of a code, never by the code's dtype alone.
Rule 2: the first scheme of the table that fits wins, so the special ones stand before the general.
"""

from __future__ import annotations

from ..format.dtypes import DType
from ..frozen import frozen

FP8 = frozenset({DType.F8_E4M3, DType.F8_E5M2})
"""Dtypes of codes whose value is exactly code times scale."""
NARROW = frozenset(
    {
        *(DType.U8, DType.I8, DType.F4, DType.F6_E2M3, DType.F6_E3M2),
        *(DType.F8_E4M3, DType.F8_E5M2, DType.F8_E4M3FNUZ, DType.F8_E5M2FNUZ),
    }
)
"""Dtypes of eight bits or fewer: tensors of them with a scale are codes."""
PACKED = NARROW | {DType.I16, DType.U16, DType.I32, DType.U32}
"""Dtypes that codes are packed into."""
BYTES = frozenset({DType.U8, DType.I8})
PLAIN = frozenset({DType.F64, DType.F32, DType.F16, DType.BF16})
"""Dtypes that are never codes."""
POWERS = frozenset({DType.U8, DType.F8_E8M0})
"""Dtypes of scales that are powers of two."""


@frozen
class Scheme:
    """One way to store a quantised tensor: the ends of the names that belong together."""

    title: str
    code: str
    """Ending of the name of the codes; empty if the companions extend the code's whole name."""
    required: tuple[str, ...]
    """Endings of the companions that identify the scheme."""
    source: str
    """Where the layout is described."""
    more: tuple[str, ...] = ()
    """Endings of optional companions."""
    dtypes: frozenset[DType] = frozenset()
    """Dtypes of the codes; empty for any."""
    scale_dtypes: frozenset[DType] = frozenset()
    """Dtypes of the first companion; empty for any."""
    is_scaled: bool = False
    """Whether the value is exactly code times first companion."""


WIDE = "a wide float with a scale"
INPUT = ("input_scale", "output_scale", "scale_input", "comfy_quant", "weight_format")

SCHEMES = (
    # packed into few bits
    Scheme(
        "nf4",
        "",
        (".absmax", ".quant_state.bitsandbytes__nf4"),
        "bitsandbytes, functional.py, QuantState.as_dict",
        (".quant_map", ".nested_absmax", ".nested_quant_map", ".nested_offset"),
    ),
    Scheme(
        "fp4",
        "",
        (".absmax", ".quant_state.bitsandbytes__fp4"),
        "bitsandbytes, functional.py, QuantState.as_dict",
        (".quant_map", ".nested_absmax", ".nested_quant_map", ".nested_offset"),
    ),
    Scheme(
        "bitsandbytes",
        "",
        (".absmax",),
        "bitsandbytes, functional.py, QuantState",
        (".quant_map", ".code", ".nested_absmax", ".nested_quant_map", ".nested_offset"),
    ),
    Scheme("int8", "weight", ("SCB",), "bitsandbytes, Int8Params", ("weight_format",)),
    Scheme(
        "SVDQuant",
        "qweight",
        ("wscales",),
        "nunchaku, SVDQW4A4Linear and AWQW4A16Linear",
        (
            *("wzeros", "wcscales", "wtscale", "smooth", "smooth_orig"),
            *("smooth_factor", "smooth_factor_orig"),
            *("proj_down", "proj_up", "lora_down", "lora_up"),
        ),
    ),
    Scheme("GPTQ", "qweight", ("scales", "g_idx"), "AutoGPTQ and GPTQModel, qlinear", ("qzeros",)),
    Scheme("AWQ", "qweight", ("scales", "qzeros"), "AutoAWQ, WQLinear_GEMM"),
    Scheme("GPTQ", "qweight", ("scales",), "GPTQModel, symmetric", ("perm", "workspace")),
    Scheme("Marlin", "B", ("s",), "Marlin, Layer", dtypes=frozenset({DType.I32})),
    Scheme(
        "quanto",
        "weight._data",
        ("weight._scale",),
        "optimum-quanto, WeightQBytesTensor.save_to_state_dict",
        ("weight._shift", "weight._zeropoint", *INPUT),
    ),
    Scheme(
        "quanto",
        "weight._data._data",
        ("weight._scale",),
        "optimum-quanto, WeightQBitsTensor with PackedTensor",
        ("weight._shift", "weight._zeropoint", *INPUT),
    ),
    Scheme(
        "torchao",
        "_weight_qdata",
        ("_weight_scale",),
        "torchao, prototype/safetensors, flatten_tensor_state_dict",
        ("_weight_zero_point", "_weight_act_pre_scale", "_weight_per_tensor_scale"),
    ),
    Scheme(
        "torchao",
        "weight:qdata",
        ("weight:scale",),
        "torchao, prototype/safetensors, first layout",
        ("weight:zero_point",),
    ),
    Scheme(
        "nvfp4",
        "weight_packed",
        ("weight_global_scale",),
        "compressed-tensors, nvfp4-pack-quantized",
        ("weight_scale", "input_global_scale"),
    ),
    Scheme(
        "compressed-tensors",
        "weight_packed",
        ("weight_scale",),
        "compressed-tensors, pack-quantized",
        ("weight_shape", "weight_zero_point", "weight_g_idx"),
    ),
    Scheme(
        "nvfp4",
        "weight",
        ("weight_scale", "weight_scale_2"),
        "ModelOpt, and ComfyUI quant_ops.py",
        (*INPUT, "pre_quant_scale"),
    ),
    Scheme(
        "int4 with a codebook",
        "weight",
        ("weight_s_rel", "weight_s_channel"),
        "ComfyUI, asym_w4a8_int8",
        (*INPUT, "weight_codebook"),
    ),
    Scheme(
        "mxfp8",
        "weight",
        ("weight_scale",),
        "ComfyUI quant_ops.py; OCP Microscaling Formats 1.0",
        INPUT,
        dtypes=FP8,
        scale_dtypes=POWERS,
    ),
    Scheme(
        "mxfp4",
        "weight",
        ("weight_scale",),
        "OCP Microscaling Formats 1.0",
        INPUT,
        dtypes=frozenset({DType.U8, DType.F4}),
        scale_dtypes=POWERS,
    ),
    Scheme(
        "mxfp4",
        "_blocks",
        ("_scales",),
        "gpt-oss, and transformers integrations/mxfp4.py",
        dtypes=frozenset({DType.U8}),
    ),
    Scheme(
        "MLX",
        "weight",
        ("scales", "biases"),
        "MLX, QuantizedLinear",
        dtypes=frozenset({DType.U32}),
    ),
    Scheme("HQQ", "W_q", ("meta",), "HQQ, HQQLinear.state_dict", ("scale", "zero")),
    Scheme("HQQ", "W_q", ("scale",), "HQQ, HQQLinear.state_dict", ("zero", "shape", "nbits")),
    Scheme("EETQ", "weight", ("weight_scales",), "EETQ, EetqLinear", dtypes=BYTES),
    Scheme("AQLM", "codes", ("codebooks", "scales"), "AQLM, QuantizedLinear"),
    Scheme("VPTQ", "indices", ("centroids",), "VPTQ, VQuantLinear"),
    Scheme("QuIP#", "Qidxs", ("SU", "SV"), "QuIP#, QuantizedLinear", ("Wscale", "codebook_id")),
    Scheme(
        "EXL2",
        "q_weight",
        ("q_scale", "q_groups"),
        "ExLlamaV2, ext_qmatrix",
        ("q_scale_max", "q_perm", "q_invperm"),
    ),
    Scheme(
        "EXL3",
        "trellis",
        ("suh", "svh"),
        "ExLlamaV3, LinearEXL3",
        ("su", "sv", "mcg", "mul1"),
    ),
    Scheme("HIGGS", "weight", ("tables", "scales"), "FLUTE, HiggsLinear", ("tables2",)),
    Scheme(
        "fp8 with a scale and a zero point",
        "weight",
        ("weight_scale", "weight_zero_point"),
        "compressed-tensors, asymmetric",
        INPUT,
        dtypes=FP8,
    ),
    # code times scale
    Scheme(
        "fp8 with scales per block",
        "weight",
        ("weight_scale_inv",),
        "DeepSeek-V3, and transformers integrations/finegrained_fp8.py",
        (*INPUT, "activation_scale", "activation_scale_inv"),
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme(
        "fp8 with a scale",
        "weight",
        ("weight_scale",),
        "ComfyUI quant_ops.py; compressed-tensors, naive-quantized; ModelOpt; FBGEMM",
        (*INPUT, "input_scale_ub", "k_scale", "v_scale", "q_scale"),
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme(
        "fp8 with a scale",
        "weight",
        ("scale_weight",),
        "ComfyUI ops.py, scaled_fp8_ops",
        INPUT,
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme(
        "fp8 with a scale",
        "weight",
        ("qscale_weight",),
        "Mistral, consolidated.safetensors",
        ("qscale_act",),
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme(
        "fp8 with scales per block",
        "",
        ("_scale_inv",),
        "transformers integrations/finegrained_fp8.py, fused experts",
        ("_activation_scale",),
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme(
        "fp8 with a scale",
        "",
        ("_scale",),
        "compressed-tensors, fused experts",
        ("_input_scale",),
        dtypes=FP8,
        is_scaled=True,
    ),
    Scheme("fp8 with a scale", "weight", ("scale",), "DeepSeek, original names", dtypes=FP8),
    # multiplied when used, as those of eight bits are
    *(
        Scheme(WIDE, "weight", (end,), "ComfyUI ops.py", dtypes=PLAIN, scale_dtypes=PLAIN)
        for end in ("scale_weight", "weight_scale", "weight_scale_inv", "qscale_weight")
    ),
    # a tensor with a scale beside it is a code, whichever library wrote it
    Scheme("int8", "weight", ("weight_scale",), "ComfyUI, int8_tensorwise", INPUT, dtypes=NARROW),
    Scheme("int8", "weight", ("scale_weight",), "ComfyUI ops.py", INPUT, dtypes=NARROW),
    Scheme("integers", "weight", ("scales",), "several", ("zeros", "qzeros"), dtypes=NARROW),
    Scheme("integers", "weight", ("scale",), "several", ("zero_point", "zero"), dtypes=NARROW),
    Scheme("integers", "", ("_scale",), "several", ("_zero_point",), dtypes=NARROW),
    Scheme("integers", "", ("_scales",), "several", ("_zeros",), dtypes=NARROW),
)

MARKER = "scaled_fp8"
"""Last part of the name of the marker of a file or model (ComfyUI)."""
MARKERS = {
    MARKER: "marker of scaled fp8",
    "comfy_quant": "marker of a quantised layer",
}
"""Last parts of the names of markers, which only say that other tensors are quantised (ComfyUI)."""

SCALES_OF = {
    **dict.fromkeys(
        ("scale_weight", "weight_scale", "weight_scale_inv", "qscale_weight"), "weight"
    ),
    **dict.fromkeys(("weight_scale_2", "SCB"), "weight"),
    "weight_global_scale": "weight_packed",
    "wscales": "qweight",
    "absmax": "",
}
"""Last parts of the names of scales that nothing else is named, and of the codes beside them."""
ORPHAN = "scale of a weight that the file lacks"
