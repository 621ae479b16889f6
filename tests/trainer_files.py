"""Adapter files as trainers write them, with the base of each, and their updates by formula.

Each function returns the shapes of a base by name, and for each tensor that changes the tensors of
the adapter and the update in float64, which factors of few digits make exact.
"""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np

SCALE = Fraction(3, 4)
D = 8
RNG = np.random.default_rng(7)


def few(*shape):
    """Numbers of few digits."""
    return (RNG.integers(-16, 17, shape) / 32).astype(np.float32)


def pair(module, rows, columns, *, names=("lora_down", "lora_up"), rank=2, alpha=None, kernel=()):
    """The tensors of a LoRA, and its product."""
    down, up = few(rank, columns, *kernel), few(rows, rank, *(1 for _ in kernel))
    tensors = {f"{module}.{names[0]}.weight": down, f"{module}.{names[1]}.weight": up}
    if alpha is not None:
        tensors[f"{module}.alpha"] = np.float32(alpha)
    product = up.reshape(rows, rank).astype(float) @ down.reshape(rank, -1).astype(float)
    return tensors, product * (1 if alpha is None else alpha / rank)


def full(name, *shape):
    value = few(*shape)
    return {name: value}, value.astype(float)


AB = ("lora_A", "lora_B")
WAN_BASE = {
    "blocks.0.self_attn.q.weight": (D, D),
    "blocks.0.self_attn.q.bias": (D,),
    "blocks.0.norm3.weight": (D,),
    "blocks.0.norm3.bias": (D,),
    "blocks.0.modulation": (1, 6, D),
    "head.head.weight": (4, D),
    "head.head.bias": (4,),
    "head.modulation": (1, 2, D),
    "patch_embedding.weight": (D, 4, 1, 2, 2),
    "patch_embedding.bias": (D,),
}
WAN_DIFFUSERS = {
    "blocks.0.self_attn.q": "blocks.0.attn1.to_q",
    "blocks.0.norm3": "blocks.0.norm2",
    "blocks.0.modulation": "blocks.0.scale_shift_table",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}


def renamed(shapes, names):
    found = {}
    for name, shape in shapes.items():
        old = next((old for old in names if name == old or name.startswith(f"{old}.")), None)
        found[name if old is None else names[old] + name.removeprefix(old)] = shape
    return found


def wan():
    """As ComfyUI's LoraSave and lightx2v write it: LoRA and full differences in one file."""
    prefix = "diffusion_model."
    found = {
        "blocks.0.self_attn.q.weight": pair(f"{prefix}blocks.0.self_attn.q", D, D, alpha=1),
        "blocks.0.self_attn.q.bias": full(f"{prefix}blocks.0.self_attn.q.diff_b", D),
        "blocks.0.norm3.weight": full(f"{prefix}blocks.0.norm3.diff", D),
        "blocks.0.norm3.bias": full(f"{prefix}blocks.0.norm3.diff_b", D),
        "blocks.0.modulation": full(f"{prefix}blocks.0.diff_m", 1, 6, D),
        "head.head.weight": full(f"{prefix}head.head.diff", 4, D),
        "head.head.bias": full(f"{prefix}head.head.diff_b", 4),
        "head.modulation": full(f"{prefix}head.modulation.diff", 1, 2, D),
        "patch_embedding.weight": full(f"{prefix}patch_embedding.diff", D, 4, 1, 2, 2),
        "patch_embedding.bias": full(f"{prefix}patch_embedding.diff_b", D),
    }
    return WAN_BASE, found


def wan_on_diffusers():
    base, found = wan()
    return renamed(base, WAN_DIFFUSERS), renamed(found, WAN_DIFFUSERS)


def kohya_sdxl():
    """A single file, its UNet and both text encoders."""
    base = {
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight": (D, D),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight": (16, D),
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": (3 * D, D),
        "conditioner.embedders.1.model.transformer.resblocks.0.ln_1.weight": (D,),
    }
    names = list(base)
    tensors, second = {}, np.zeros((3 * D, D))
    for place, letter in enumerate("qkv"):
        module = f"lora_te2_text_model_encoder_layers_0_self_attn_{letter}_proj"
        more, product = pair(module, D, D, alpha=4)
        tensors |= more
        second[place * D : (place + 1) * D] = product
    unet = "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q"
    first = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    return base, {
        names[0]: pair(unet, D, D, alpha=1),
        names[1]: pair(first, 16, D, alpha=1),
        names[2]: (tensors, second),
    }


def lycoris_sd1():
    """Convolutions with a core, and norms, in the names of diffusers for a file of CompVis."""
    block = "model.diffusion_model.input_blocks.1.0"
    base = {
        "model.diffusion_model.input_blocks.0.0.weight": (D, 4, 3, 3),
        f"{block}.in_layers.0.weight": (D,),
        f"{block}.in_layers.0.bias": (D,),
        f"{block}.in_layers.2.weight": (D, D, 3, 3),
        f"{block}.out_layers.3.weight": (D, D, 3, 3),
    }
    module = "lora_unet_down_blocks_0_resnets_0"
    up, mid, down = few(D, 2, 1, 1), few(2, 2, 3, 3), few(2, D, 1, 1)
    core = {
        f"{module}_conv1.lora_up.weight": up,
        f"{module}_conv1.lora_mid.weight": mid,
        f"{module}_conv1.lora_down.weight": down,
        f"{module}_conv1.alpha": np.float32(1),
    }
    tucker = np.einsum(
        "oa,abxy,bi->oixy",
        *(each.astype(float) for each in (up[:, :, 0, 0], mid, down[:, :, 0, 0])),
    )
    return base, {
        f"{block}.in_layers.2.weight": (core, tucker / 2),
        f"{block}.out_layers.3.weight": pair(f"{module}_conv2", D, D, alpha=1, kernel=(3, 3)),
        f"{block}.in_layers.0.weight": full(f"{module}_norm1.w_norm", D),
        f"{block}.in_layers.0.bias": full(f"{module}_norm1.b_norm", D),
    }


def lycoris_products():
    """LoHa with cores, and LoKr in each of its forms."""
    base = {f"body.{name}.weight": (D, D) for name in ("whole", "half", "both")}
    base |= {"body.conv.weight": (D, D, 3, 3), "body.kron.weight": (D, D, 3, 3)}
    parts = {f"hada_w{n}_a": few(2, D) for n in (1, 2)} | {f"hada_w{n}_b": few(2, D) for n in "12"}
    parts |= {f"hada_t{n}": few(2, 2, 3, 3) for n in (1, 2)}
    one, two = (
        np.einsum(
            "abxy,bi,ao->oixy",
            *(parts[key].astype(float) for key in (f"hada_t{n}", f"hada_w{n}_b", f"hada_w{n}_a")),
        )
        for n in (1, 2)
    )
    loha = {f"lycoris_body_conv.{key}": value for key, value in parts.items()}
    found = {"body.conv.weight": (loha | {"lycoris_body_conv.alpha": np.float32(1)}, one * two / 2)}
    w1, w2, a, b = few(2, 2), few(4, 4), few(4, 2), few(2, 4)
    # with two whole factors, alpha does not count
    whole = {"lokr_w1": w1, "lokr_w2": w2, "alpha": np.float32(5)}
    found["body.whole.weight"] = whole, np.kron(w1.astype(float), w2)
    half = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "alpha": np.float32(1)}
    second = a.astype(float) @ b
    found["body.half.weight"] = half, np.kron(w1.astype(float), second) / 2
    c, d = few(2, 2), few(2, 2)
    both = {"lokr_w1_a": c, "lokr_w1_b": d, "lokr_w2_a": a, "lokr_w2_b": b}
    found["body.both.weight"] = (
        both | {"alpha": np.float32(1)},
        np.kron(c.astype(float) @ d, second) / 2,
    )
    core, e, f = few(2, 2, 3, 3), few(2, 4), few(2, 4)
    kron = {"lokr_w1": w1, "lokr_t2": core, "lokr_w2_a": e, "lokr_w2_b": f}
    inner = np.einsum("abxy,bi,ao->oixy", *(each.astype(float) for each in (core, f, e)))
    product = np.einsum("pq,oixy->poqixy", w1.astype(float), inner).reshape(D, D, 3, 3)
    found["body.kron.weight"] = kron | {"alpha": np.float32(1)}, product / 2
    return base, {
        name: ({_of(name, key): value for key, value in tensors.items()}, update)
        for name, (tensors, update) in found.items()
    }


def _of(name, key):
    module = f"lycoris_{name.removesuffix('.weight').replace('.', '_')}"
    return key if key.startswith("lycoris_") else f"{module}.{key}"


def peft_with_biases():
    """PEFT with ranks and alphas of single modules, and biases of the half up."""
    base = {"a.to_q.weight": (D, D), "a.to_q.bias": (D,), "a.to_k.weight": (D, D)}
    prefix = "base_model.model.a."
    config = {"r": 2, "lora_alpha": 1, "rank_pattern": {"to_k": 4}, "alpha_pattern": {"to_k": 2}}
    one, product = pair(f"{prefix}to_q", D, D, names=AB)
    bias, moved = full(f"{prefix}to_q.lora_B.bias", D)
    two, other = pair(f"{prefix}to_k", D, D, names=AB, rank=4)
    Path("adapter_config.json").write_text(json.dumps(config))
    return base, {
        "a.to_q.weight": (one, product / 2),
        "a.to_q.bias": (bias, moved / 2),
        "a.to_k.weight": (two, other / 2),
    }


def old_diffusers():
    """Processors of attention, as diffusers wrote them before it used PEFT."""
    base = {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight": (D, D)}
    base |= {"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0.weight": (D, D)}
    block = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor"
    query, output = base
    return base, {
        query: pair(f"{block}.to_q_lora", D, D, names=("down", "up")),
        output: pair(f"{block}.to_out_lora", D, D, names=("down", "up")),
    }


def flux_of_ai_toolkit():
    """The names of diffusers behind `transformer.`, for a file of Black Forest Labs."""
    base = {
        "double_blocks.0.img_attn.qkv.weight": (3 * D, D),
        "double_blocks.0.img_attn.norm.query_norm.scale": (4,),
        "single_blocks.0.linear1.weight": (7 * D, D),
        "single_blocks.0.linear1.bias": (7 * D,),
    }
    double, single = "transformer.transformer_blocks.0", "transformer.single_transformer_blocks.0"
    keys, product = pair(f"{double}.attn.to_k", D, D, names=AB)
    fused = np.zeros((3 * D, D))
    fused[D : 2 * D] = product
    mlp, more = pair(f"{single}.proj_mlp", 4 * D, D, names=AB)
    linear, biases = np.zeros((7 * D, D)), np.zeros(7 * D)
    linear[3 * D :] = more
    bias, moved = full(f"{single}.proj_mlp.lora_B.bias", 4 * D)
    biases[3 * D :] = moved
    return base, {
        "double_blocks.0.img_attn.qkv.weight": (keys, fused),
        "double_blocks.0.img_attn.norm.query_norm.scale": full(f"{double}.attn.norm_q.diff", 4),
        "single_blocks.0.linear1.weight": (mlp, linear),
        "single_blocks.0.linear1.bias": (bias, biases),
    }


FILES = (
    *(wan, wan_on_diffusers, kohya_sdxl, lycoris_sd1, lycoris_products),
    *(peft_with_biases, old_diffusers, flux_of_ai_toolkit),
)
