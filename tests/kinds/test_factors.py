"""Parameters of adapters that multiply each other are factors; linear ones are weights."""

from __future__ import annotations

import pytest

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor
from soupctl.kinds.classify import classify
from soupctl.kinds.facts import TensorFacts
from soupctl.kinds.kind import Role

Shapes = dict[str, tuple[int, ...]]

B, L = "base_model.model.layers.0.q_proj.", "lora_unet_mid_block_proj_in."
SQUARE = (4, 4)


def factors(shapes: Shapes, adapter: str | None = None) -> dict[str, str]:
    tensors = {name: Tensor(name, DType.F32, shape, 0, 0) for name, shape in shapes.items()}
    found = classify(tensors, TensorFacts(adapter=adapter))
    return {name: kind.what for name, kind in found.items() if kind.role is Role.FACTOR}


MULTIPLY = {
    "LoRA": (
        (B + "lora_A.weight", B + "lora_B.weight"),
        (B + "lora_A.default.weight", B + "lora_B.default.weight"),
        (B + "lora_embedding_A", B + "lora_embedding_B"),
        (L + "lora_up.weight", L + "lora_down.weight", L + "lora_mid.weight", L + "alpha"),
        ("a.processor.to_q_lora.down.weight", "a.processor.to_q_lora.up.weight"),
        ("a.processor.qkv_lora1.down.weight", "a.processor.qkv_lora2.up.weight"),
        ("x.to_q.lora.up.weight", "x.to_q.lora.down.weight"),
        ("x.lora_linear_layer.up.weight", "x.lora_linear_layer.down.weight"),
    ),
    "DoRA": (
        (B + "lora_magnitude_vector",),
        (L + "dora_scale",),
        (L + "lora_down.weight", L + "lora_up.weight", L + "dora_scale"),
        (B + "lora_A.weight", B + "lora_B.weight", B + "lora_magnitude_vector"),
    ),
    "AdaLoRA": ((B + "lora_A", B + "lora_B", B + "lora_E"),),
    "LoHa": (
        (L + "hada_w1_a", L + "hada_w1_b", L + "hada_w2_a", L + "hada_w2_b", L + "alpha"),
        (L + "hada_t1", L + "hada_t2"),
    ),
    "LoKr": ((L + "lokr_w1", L + "lokr_w2"), (L + "lokr_w1_a", L + "lokr_t2")),
    "OFT": ((B + "oft_R.weight",), (L + "oft_blocks",)),
    "BOFT": ((B + "boft_R", B + "boft_s"),),
    "VeRA": ((B + "vera_lambda_b", B + "vera_lambda_d"),),
    "RandLoRA": ((B + "randlora_lambda", B + "randlora_gamma"),),
    "HRA": ((B + "hra_u",),),
    "RoAd": ((B + "road_theta", B + "road_alpha"),),
    "GLoRA": ((L + "a1.weight", L + "a2.weight", L + "b1.weight", L + "b2.weight"),),
    "T-LoRA": ((L + "q_layer.weight", L + "p_layer.weight", L + "lambda_layer"),),
    "GraLoRA": ((B + "gralora_A", B + "gralora_B"),),
    "HiRA": ((B + "hira_A", B + "hira_B"),),
    "Lily": ((B + "lily_A", B + "lily_B"),),
    "VB-LoRA": ((B + "vblora_logits_A", "base_model.vblora_vector_bank"),),
    "Control-LoRA": (("lora_controlnet", "input_blocks.1.1.proj_in.up", "x.proj_in.down"),),
}


@pytest.mark.parametrize(
    ("kind", "names"), [(kind, names) for kind, each in MULTIPLY.items() for names in each]
)
def test_parameters_that_multiply_are_factors(kind, names):
    assert dict.fromkeys(names, kind) == factors(dict.fromkeys(names, SQUARE))


LINEAR = [
    (L + "diff", L + "diff_b"),
    (L + "w_norm", L + "b_norm"),
    (B + "ia3_l",),
    (B + "fourierft_spectrum",),
    (B + "shira_weight",),
    (B + "c3a_kernel",),
    (B + "weight", B + "bias"),
    ("emb_params",),
    ("clip_g", "clip_l"),
]


@pytest.mark.parametrize("names", LINEAR)
def test_linear_parameters_are_weights(names):
    assert {} == factors(dict.fromkeys(names, SQUARE))


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.mlp.up.weight",
        "encoder.down.0.block.1.conv1.weight",
        "model.layers.0.self_attn.q_a_proj.weight",
        "attn.w_lora.lora.0.weight",
        "a1.weight",
        "colora_Around.weight",
        "flora.upper",
        "lora",
        "explora_A1.weight",
        "alpha",
        "step_alpha.scale",
    ],
)
def test_names_of_models_that_only_look_alike_are_weights(name):
    assert {} == factors({name: (8, 8), "norm.weight": (8,), "out.weight": (8, 8)})


def test_a_peft_type_outside_the_linear_ones_makes_all_parameters_factors():
    shapes = {B + "newmethod_p": SQUARE, B + "newmethod_q": SQUARE}

    assert dict.fromkeys(shapes, "NEWMETHOD") == factors(shapes, "NEWMETHOD")
    assert dict.fromkeys(shapes, "an adapter of an unknown kind") == factors(shapes)
    assert {} == factors(shapes, "IA3")


def test_a_file_of_thin_pairs_alone_is_an_adapter_under_any_names():
    pairs = {
        "x.k.down.weight": (4, 32),
        "x.k.up.weight": (32, 4),
        "x.q_A": (4, 64),
        "x.q_B": (32, 4),
        "unet:0:down": (4, 32),
        "unet:0:up": (32, 4),
    }

    assert dict.fromkeys(pairs, "LoRA") == factors({**pairs, "x.bias": (32,)})
    assert {} == factors({**pairs, "x.out.weight": (32, 32)})


def test_low_rank_modules_of_a_whole_model_are_found():
    k = "model.layers.0.mlp.down_proj."
    found = factors(
        {
            k + "base_layer.weight": (32, 32),
            k + "lora_A.vision.weight": (4, 32),
            k + "lora_B.vision.weight": (32, 4),
        }
    )

    assert [k + "lora_A.vision.weight", k + "lora_B.vision.weight"] == sorted(found)
