"""Every tensor of the newer transformers is found by its name in either naming."""

import numpy as np
import pytest
from tiny_transformers import KINDS, converted, drawn, headers

from soupctl.lora.modules import LayerTensor
from soupctl.lora.targets import TargetIndex


def asked_of(name):
    """The layer and the parameter that an adapter would ask for."""
    layer, _, last = name.rpartition(".")
    if last in ("weight", "scale"):
        return layer, LayerTensor.WEIGHT
    if last == "bias":
        return layer, LayerTensor.BIAS
    return name, LayerTensor.WEIGHT


def rows_at(model, target):
    parts = [
        model[rows.tensor].reshape(len(model[rows.tensor]), -1)[
            rows.first : rows.first + rows.count
        ]
        for rows in target
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("form", ["{}", "lora_unet_{}", "diffusion_model.{}"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_found_by_its_name_in_the_other_naming(kind, form):
    original = drawn(kind)
    other = converted(kind, dict(original))
    for own, theirs in ((original, other), (other, original)):
        index = TargetIndex(headers(kind, own))
        for name, array in theirs.items():
            layer, parameter = asked_of(name)
            asked = form.format(layer.replace(".", "_") if form.startswith("lora") else layer)
            target = index.find(asked, parameter)
            if name in NOT_IN_A_LORA:
                continue
            assert target is not None, name
            assert np.array_equal(array.reshape(len(array), -1), rows_at(own, target)), name


# a fixed table of AuraFlow, whose names no adapter has
NOT_IN_A_LORA = {"positional_encoding", "pos_embed.pos_embed"}


@pytest.mark.parametrize(
    ("tencents", "comfys"),
    [
        ("double_blocks.0.img_attn_qkv", "double_blocks.0.img_attn.qkv"),
        ("double_blocks.0.txt_attn_proj", "double_blocks.0.txt_attn.proj"),
        ("double_blocks.0.img_mlp.fc1", "double_blocks.0.img_mlp.0"),
        ("double_blocks.0.txt_mod.linear", "double_blocks.0.txt_mod.lin"),
        ("single_blocks.0.modulation.linear", "single_blocks.0.modulation.lin"),
        (
            "txt_in.individual_token_refiner.blocks.0.self_attn_qkv",
            "txt_in.individual_token_refiner.blocks.0.self_attn.qkv",
        ),
        ("time_in.mlp.2", "time_in.out_layer"),
    ],
)
def test_names_of_comfyui_are_found_in_a_hunyuan_video_of_tencent(tencents, comfys):
    index = TargetIndex(headers("HunyuanVideo", drawn("HunyuanVideo")))

    for asked in (f"diffusion_model.{comfys}", f"lora_unet_{comfys.replace('.', '_')}"):
        assert f"{tencents}.weight" == index.find(asked)[0].tensor


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        ("to_qkv", ("to_q", "to_k", "to_v")),
        ("to_kv", ("to_k", "to_v")),
        ("to_added_qkv", ("add_q_proj", "add_k_proj", "add_v_proj")),
        ("qkv_proj", ("q_proj", "k_proj", "v_proj")),
    ],
)
def test_projections_are_found_where_any_model_has_them_fused_or_split(whole, parts):
    rng = np.random.default_rng(0)
    split = {f"a.attn.{part}.weight": rng.normal(size=(4, 4)) for part in parts}
    fused = {f"a.attn.{whole}.weight": np.concatenate([*split.values()])}

    def header(model):
        return headers("Wan", model)

    target = TargetIndex(header(split)).find(f"a.attn.{whole}")
    assert np.array_equal(fused[f"a.attn.{whole}.weight"], rows_at(split, target))
    index = TargetIndex(header(fused))
    for name, array in split.items():
        target = index.find(name.removesuffix(".weight"))
        assert np.array_equal(array, rows_at(fused, target))
    # the parts of a matrix of other sizes are not known
    grouped = {f"a.attn.{whole}.weight": np.zeros((len(parts) * 4 + 2, 4))}
    assert TargetIndex(header(grouped)).find(f"a.attn.{parts[0]}") is None
