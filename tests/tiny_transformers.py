"""Tiny transformers after Flux and SD3 as their authors store them, with all their tensors.

diffusers takes some of their sizes for granted; of those matrices one column is drawn.
"""

import numpy as np
import pytest

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor

WIDTH = 8
FLAT = {
    "HunyuanVideo": ("linear1.", 3072),
    "Lumina 2": (".qkv.", 2304),
    "Chroma": ("linear1.", 3072),
}
"""For each kind, the matrices of which one column is drawn, and how many they have."""


def _flux_2():
    shapes = {"img_in": (WIDTH, 4), "txt_in": (WIDTH, 6), "time_in.in_layer": (WIDTH, 4)}
    shapes |= {"time_in.out_layer": (WIDTH, WIDTH), "guidance_in.in_layer": (WIDTH, 4)}
    shapes |= {"double_stream_modulation_img.lin": (6 * WIDTH, WIDTH)}
    shapes |= {"single_stream_modulation.lin": (3 * WIDTH, WIDTH), "final_layer.linear": (4, WIDTH)}
    shapes["final_layer.adaLN_modulation.1"] = (2 * WIDTH, WIDTH)
    for number in range(2):
        for stream in ("img", "txt"):
            block = f"double_blocks.{number}.{stream}"
            shapes[f"{block}_attn.qkv"] = (3 * WIDTH, WIDTH)
            shapes[f"{block}_attn.proj"] = (WIDTH, WIDTH)
            shapes[f"{block}_mlp.0"], shapes[f"{block}_mlp.2"] = (32, WIDTH), (WIDTH, 16)
            shapes[f"{block}_attn.norm.query_norm.scale"] = (4,)
        block = f"single_blocks.{number}"
        shapes[f"{block}.linear1"], shapes[f"{block}.linear2"] = (56, WIDTH), (WIDTH, 24)
        shapes[f"{block}.norm.key_norm.scale"] = (4,)
    return shapes


def _auraflow():
    shapes = {"t_embedder.mlp.0": (WIDTH, 4), "t_embedder.mlp.2": (WIDTH, WIDTH)}
    shapes |= {"cond_seq_linear": (WIDTH, 6), "init_x_linear": (WIDTH, 4), "modF.1": (16, WIDTH)}
    shapes |= {"final_linear": (4, WIDTH), "positional_encoding*": (1, 4, WIDTH)}
    shapes["register_tokens*"] = (1, 2, WIDTH)
    for letter in "qkvo":
        for name in (f"double_layers.0.attn.w1{letter}", f"double_layers.0.attn.w2{letter}"):
            shapes[name] = (WIDTH, WIDTH)
        shapes[f"single_layers.0.attn.w1{letter}"] = (WIDTH, WIDTH)
    for block in ("double_layers.0.mlpX", "double_layers.0.mlpC", "single_layers.0.mlp"):
        shapes[f"{block}.c_fc1"] = shapes[f"{block}.c_fc2"] = (16, WIDTH)
        shapes[f"{block}.c_proj"] = (WIDTH, 16)
    for block in ("double_layers.0.modX.1", "double_layers.0.modC.1", "single_layers.0.modCX.1"):
        shapes[block] = (6 * WIDTH, WIDTH)
    return shapes


def _hunyuan_video():
    shapes = {"img_in.proj": (WIDTH, 4, 1, 2, 2), "time_in.mlp.0": (WIDTH, 4)}
    shapes |= {"time_in.mlp.2": (WIDTH, WIDTH), "vector_in.in_layer": (WIDTH, 6)}
    shapes |= {"guidance_in.mlp.0": (WIDTH, 4), "txt_in.input_embedder": (WIDTH, 6)}
    shapes |= {"final_layer.linear": (4, WIDTH), "final_layer.adaLN_modulation.1": (16, WIDTH)}
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        shapes[f"{block}_mod.linear"] = (6 * WIDTH, WIDTH)
        shapes[f"{block}_attn_qkv"], shapes[f"{block}_attn_proj"] = (24, WIDTH), (WIDTH, WIDTH)
        shapes[f"{block}_mlp.fc1"], shapes[f"{block}_mlp.fc2"] = (32, WIDTH), (WIDTH, 32)
    block = "txt_in.individual_token_refiner.blocks.0"
    shapes[f"{block}.self_attn_qkv"], shapes[f"{block}.self_attn_proj"] = (24, 8), (8, 8)
    shapes[f"{block}.mlp.fc1"], shapes[f"{block}.mlp.fc2"] = (32, WIDTH), (WIDTH, 32)
    shapes[f"{block}.adaLN_modulation.1"] = (16, WIDTH)
    shapes["single_blocks.0.linear1"], shapes["single_blocks.0.linear2"] = (7 * 3072, 1), (8, 40)
    shapes["single_blocks.0.modulation.linear"] = (24, WIDTH)
    return shapes


def _wan():
    shapes = {"patch_embedding": (WIDTH, 4, 1, 2, 2), "head.head": (4, WIDTH)}
    shapes |= {"time_embedding.0": (WIDTH, 4), "time_embedding.2": (WIDTH, WIDTH)}
    shapes |= {"text_embedding.0": (WIDTH, 6), "text_embedding.2": (WIDTH, WIDTH)}
    shapes |= {"time_projection.1": (6 * WIDTH, WIDTH), "head.modulation*": (1, 2, WIDTH)}
    shapes |= {"img_emb.proj.0": (6,), "img_emb.proj.1": (6, 6), "img_emb.proj.3": (WIDTH, 6)}
    shapes |= {"vace_patch_embedding": (WIDTH, 4, 1, 2, 2), "vace_blocks.0.before_proj": (8, 8)}
    for block in ("blocks.0", "blocks.1", "vace_blocks.0"):
        for letter in "qkvo":
            shapes[f"{block}.self_attn.{letter}"] = (WIDTH, WIDTH)
            shapes[f"{block}.cross_attn.{letter}"] = (WIDTH, WIDTH)
        shapes[f"{block}.cross_attn.k_img"] = shapes[f"{block}.cross_attn.v_img"] = (8, 8)
        shapes[f"{block}.self_attn.norm_q"] = shapes[f"{block}.norm3"] = (WIDTH,)
        shapes[f"{block}.ffn.0"], shapes[f"{block}.ffn.2"] = (32, WIDTH), (WIDTH, 32)
        shapes[f"{block}.modulation*"] = (1, 6, WIDTH)
    shapes["vace_blocks.0.after_proj"] = (WIDTH, WIDTH)
    return shapes


def _next_dit(qkv):
    shapes = {"x_embedder": (WIDTH, 4), "t_embedder.mlp.0": (WIDTH, 4), "cap_embedder.1": (8, 6)}
    shapes |= {"final_layer.linear": (4, WIDTH), "final_layer.adaLN_modulation.1": (8, 8)}
    for block in ("layers.0", "layers.1", "noise_refiner.0", "context_refiner.0"):
        shapes[f"{block}.attention.qkv"], shapes[f"{block}.attention.out"] = qkv, (WIDTH, WIDTH)
        shapes[f"{block}.attention.q_norm"] = (4,)
        for name, shape in (("w1", (16, WIDTH)), ("w2", (WIDTH, 16)), ("w3", (16, WIDTH))):
            shapes[f"{block}.feed_forward.{name}"] = shape
        if block != "context_refiner.0":
            shapes[f"{block}.adaLN_modulation.1"] = (4 * WIDTH, WIDTH)
        shapes[f"{block}.attention_norm1"] = shapes[f"{block}.ffn_norm1"] = (WIDTH,)
    return shapes


def _chroma():
    shapes = {"img_in": (WIDTH, 4), "txt_in": (WIDTH, 6), "final_layer.linear": (4, WIDTH)}
    guidance = "distilled_guidance_layer"
    shapes |= {f"{guidance}.in_proj": (WIDTH, 4), f"{guidance}.out_proj": (WIDTH, WIDTH)}
    for number in range(2):
        layer = f"{guidance}.layers.{number}"
        shapes[f"{layer}.in_layer"] = shapes[f"{layer}.out_layer"] = (WIDTH, WIDTH)
        shapes[f"{guidance}.norms.{number}.scale"] = (WIDTH,)
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        shapes[f"{block}_attn.qkv"], shapes[f"{block}_attn.proj"] = (24, WIDTH), (WIDTH, WIDTH)
        shapes[f"{block}_mlp.0"], shapes[f"{block}_mlp.2"] = (32, WIDTH), (WIDTH, 32)
        for norm in ("query_norm", "key_norm"):
            shapes[f"{block}_attn.norm.{norm}.scale"] = (4,)
            shapes[f"single_blocks.0.norm.{norm}.scale"] = (4,)
    shapes["single_blocks.0.linear1"], shapes["single_blocks.0.linear2"] = (7 * 3072, 1), (8, 40)
    return shapes


def _ltx():
    time = "adaln_single"
    shapes = {"patchify_proj": (WIDTH, 4), "proj_out": (4, WIDTH), "scale_shift_table*": (2, WIDTH)}
    shapes |= {f"{time}.emb.timestep_embedder.linear_1": (WIDTH, 4), f"{time}.linear": (48, WIDTH)}
    shapes[f"{time}.emb.timestep_embedder.linear_2"] = (WIDTH, WIDTH)
    shapes |= {"caption_projection.linear_1": (WIDTH, 6), "caption_projection.linear_2": (8, 8)}
    for number in range(2):
        block = f"transformer_blocks.{number}"
        for attention in (f"{block}.attn1", f"{block}.attn2"):
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                shapes[f"{attention}.{name}"] = (WIDTH, WIDTH)
            shapes[f"{attention}.q_norm"] = shapes[f"{attention}.k_norm"] = (WIDTH,)
        shapes[f"{block}.ff.net.0.proj"], shapes[f"{block}.ff.net.2"] = (32, WIDTH), (WIDTH, 32)
        shapes[f"{block}.scale_shift_table*"] = (6, WIDTH)
    return shapes


KINDS = {
    "Flux.2": (_flux_2, "convert_flux2_transformer_checkpoint_to_diffusers"),
    "AuraFlow": (_auraflow, "convert_auraflow_transformer_checkpoint_to_diffusers"),
    "HunyuanVideo": (_hunyuan_video, "convert_hunyuan_video_transformer_to_diffusers"),
    "Wan": (_wan, "convert_wan_transformer_to_diffusers"),
    "Z-Image": (
        lambda: {**_next_dit((3 * WIDTH, WIDTH)), "cap_pad_token*": (1, WIDTH)},
        "convert_z_image_transformer_checkpoint_to_diffusers",
    ),
    "Chroma": (_chroma, "convert_chroma_transformer_checkpoint_to_diffusers"),
    "LTX": (_ltx, "convert_ltx_transformer_checkpoint_to_diffusers"),
    "Lumina 2": (lambda: _next_dit((2304 + 2 * 768, 1)), "convert_lumina2_to_diffusers"),
}
"""The shapes of each kind's layers, and the function of diffusers that renames them."""


def drawn(kind):
    """The tensors of a tiny model; a star marks one that is no weight of a layer."""
    rng = np.random.default_rng(0)
    shapes = KINDS[kind][0]()
    # no layer of these has a bias
    biased = kind not in ("Flux.2", "AuraFlow")
    model = {}
    for name, shape in shapes.items():
        is_whole = name.endswith(("*", ".scale"))
        plain = name.removesuffix("*") if is_whole else f"{name}.weight"
        model[plain] = rng.normal(size=shape).astype(np.float32)
        is_biased = biased and not (kind == "Z-Image" and name.endswith(("qkv", "q_norm")))
        if is_biased and not is_whole:
            model[f"{name}.bias"] = rng.normal(size=shape[0]).astype(np.float32)
    if kind == "AuraFlow":
        model["init_x_linear.bias"] = rng.normal(size=WIDTH).astype(np.float32)
    return model


def converted(kind, original):
    """The model in the naming of diffusers, by diffusers."""
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("diffusers.loaders.single_file_utils")
    model = {name: torch.from_numpy(array) for name, array in original.items()}
    found = getattr(utils, KINDS[kind][1])(model)
    return {name: tensor.numpy() for name, tensor in found.items() if tensor is not None}


def headers(kind, model):
    """The tensors of a model, of which flat ones get all their columns."""
    part, columns = FLAT.get(kind, ("?", 0))
    flat = {name for name, array in model.items() if array.ndim == 2 and array.shape[1] == 1}
    assert all(part in name or "to_" in name or "proj_mlp" in name for name in flat)
    return {
        name: Tensor(name, DType.F32, (len(array), columns) if name in flat else array.shape, 0, 0)
        for name, array in model.items()
    }
