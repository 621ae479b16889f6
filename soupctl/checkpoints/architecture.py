"""Guesses the architecture of a model from tensor names and shapes.

Rule 1: a guess for people, in messages and in `inspect`; no number ever depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..format.header import Tensor
from ..kinds.factors import find_factors
from ..kinds.facts import NO_FACTS


@dataclass(frozen=True, slots=True)
class Pattern:
    """An architecture: tensors that it has, each with the dimensions that identify it."""

    title: str
    tensors: tuple[tuple[str, Mapping[int, int]], ...]
    """Name and {axis: size}; a name may be a prefix if it ends in a dot."""


def _pattern(title: str, *tensors: tuple[str, Mapping[int, int]]) -> Pattern:
    return Pattern(title, tensors)


_LDM = "model.diffusion_model."
_DIFFUSERS_CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
_LDM_CROSS = _LDM + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"

# the first pattern that fits wins, so the special cases stand before the general ones; the width of
# the text embedding tells the Stable Diffusion generations apart
PATTERNS = (
    _pattern(
        "SDXL UNet, diffusers naming",
        ("add_embedding.linear_1.weight", {}),
        (_DIFFUSERS_CROSS, {1: 2048}),
    ),
    _pattern(
        "SDXL refiner UNet, diffusers naming",
        ("add_embedding.linear_1.weight", {}),
        (_DIFFUSERS_CROSS, {1: 1280}),
    ),
    _pattern("SD 2.x UNet, diffusers naming", (_DIFFUSERS_CROSS, {1: 1024})),
    _pattern("SD 1.x UNet, diffusers naming", (_DIFFUSERS_CROSS, {1: 768})),
    _pattern("SDXL, LDM naming", (_LDM + "label_emb.0.0.weight", {}), (_LDM_CROSS, {1: 2048})),
    _pattern(
        "SDXL refiner, LDM naming", (_LDM + "label_emb.0.0.weight", {}), (_LDM_CROSS, {1: 1280})
    ),
    _pattern(
        "SD 2.x, LDM naming",
        (_LDM + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", {1: 1024}),
    ),
    _pattern(
        "SD 1.x, LDM naming",
        (_LDM + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", {1: 768}),
    ),
    _pattern("SD 3 transformer, LDM naming", (_LDM + "joint_blocks.", {})),
    _pattern(
        "SD 3 transformer, diffusers naming",
        ("pos_embed.proj.weight", {}),
        ("context_embedder.weight", {}),
    ),
    _pattern("Flux transformer, LDM naming", ("double_blocks.", {}), ("single_blocks.", {})),
    _pattern(
        "Flux transformer, LDM naming", (_LDM + "double_blocks.", {}), (_LDM + "single_blocks.", {})
    ),
    _pattern(
        "Flux transformer, diffusers naming",
        ("single_transformer_blocks.", {}),
        ("x_embedder.weight", {}),
    ),
    _pattern(
        "DiT, diffusers naming",
        ("transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight", {}),
    ),
    _pattern(
        "DiT, original naming",
        ("y_embedder.embedding_table.weight", {}),
        ("blocks.0.adaLN_modulation.1.weight", {}),
    ),
    _pattern(
        "PixArt transformer, diffusers naming",
        ("caption_projection.linear_1.weight", {}),
        ("adaln_single.linear.weight", {}),
    ),
    _pattern(
        "UNet, diffusers naming",
        ("conv_in.weight", {}),
        ("down_blocks.", {}),
        ("up_blocks.", {}),
        ("time_embedding.linear_1.weight", {}),
    ),
    _pattern("VAE, diffusers naming", ("encoder.down_blocks.", {}), ("decoder.up_blocks.", {})),
    _pattern("VAE, LDM naming", ("encoder.down.", {}), ("decoder.up.", {})),
    _pattern("CLIP text encoder", ("text_model.embeddings.token_embedding.weight", {})),
    _pattern("prompt bank", ("prompts.", {}), ("gate.", {})),
    _pattern("T5 encoder", ("encoder.block.0.layer.0.SelfAttention.q.weight", {})),
)


def guess_architecture(tensors: Mapping[str, Tensor]) -> str | None:
    """A short title such as `SDXL UNet, diffusers naming`; None if nothing fits."""
    factors = find_factors(tensors, NO_FACTS).values()
    if factors:
        return f"{next(iter(factors)).what} factors"
    # prefixes by dots, so that a pattern costs a look-up whatever the number of tensors
    prefixes = {name[: dot.end()] for name in tensors for dot in re.finditer(r"\.", name)}
    for pattern in PATTERNS:
        if all(_fits(name, sizes, tensors, prefixes) for name, sizes in pattern.tensors):
            return pattern.title + _inpainting(tensors)
    return None


def _fits(
    name: str, sizes: Mapping[int, int], tensors: Mapping[str, Tensor], prefixes: set[str]
) -> bool:
    if name.endswith("."):
        return name in prefixes
    tensor = tensors.get(name)
    if tensor is None:
        return False
    return all(
        axis < len(tensor.shape) and tensor.shape[axis] == size for axis, size in sizes.items()
    )


def _inpainting(tensors: Mapping[str, Tensor]) -> str:
    for name in ("conv_in.weight", _LDM + "input_blocks.0.0.weight"):
        if name in tensors and tensors[name].shape[1:2] == (9,):
            return ", inpainting"
    return ""


def difference_hint(
    name: str, tensors: Mapping[str, Tensor], other_name: str, others: Mapping[str, Tensor]
) -> str | None:
    """A hint that two checkpoints have different architectures; None if that is not clear."""
    first, second = guess_architecture(tensors), guess_architecture(others)
    if first is None or second is None or first == second:
        return None
    return f"{name} looks like {first}, {other_name} like {second}"


def shape_hint(first: tuple[int, ...], other: tuple[int, ...]) -> str | None:
    """A hint why two tensors of one name differ in shape; None if no known case fits."""
    if len(first) == len(other) == 4 and {first[1], other[1]} == {4, 9}:
        return "nine input channels are an inpainting model, four an ordinary one"
    return None
