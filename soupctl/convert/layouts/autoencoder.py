"""The autoencoder of Stable Diffusion and Flux.

Source: diffusers, `convert_ldm_vae_checkpoint`; its decoder counts levels the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from .pairs import LayoutChange, TensorPair

ATTENTION = {
    "norm": "group_norm",
    "q": "to_q",
    "k": "to_k",
    "v": "to_v",
    "proj_out": "to_out.0",
}
"""The original names of the modules of its attention, and those of diffusers."""
EARLIER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of diffusers before 0.15, which it still loads."""
MODULES = (
    ("encoder.down.{}.block.{}.", "encoder.down_blocks.{}.resnets.{}."),
    ("encoder.down.{}.downsample.conv.", "encoder.down_blocks.{}.downsamplers.0.conv."),
    ("decoder.up.{}.block.{}.", "decoder.up_blocks.{}.resnets.{}."),
    ("decoder.up.{}.upsample.conv.", "decoder.up_blocks.{}.upsamplers.0.conv."),
    *(
        (f"{side}.{own}.", f"{side}.{other}.")
        for side in ("encoder", "decoder")
        for own, other in (
            ("mid.block_1", "mid_block.resnets.0"),
            ("mid.block_2", "mid_block.resnets.1"),
            ("norm_out", "conv_norm_out"),
            ("conv_in", "conv_in"),
            ("conv_out", "conv_out"),
        )
    ),
    ("quant_conv.", "quant_conv."),
    ("post_quant_conv.", "post_quant_conv."),
)
"""How names begin originally, and in diffusers; `{}` is a number."""
NUMBER = re.escape("{}")
LEVEL = re.compile(r"^decoder\.up(?:_blocks)?\.(\d+)")


def autoencoder_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of an autoencoder with these names, in either layout."""
    is_original = not any(".mid_block." in name or "_blocks." in name for name in names)
    levels = [int(found[1]) for name in names if (found := LEVEL.match(name))]
    count = max(levels, default=-1) + 1
    for name in names:
        pair = _attention(name) or _renamed(name, count, is_original=is_original)
        if pair is not None:
            yield pair


def _renamed(name: str, levels: int, *, is_original: bool) -> TensorPair | None:
    for module in MODULES:
        beginning, new = module if is_original else module[::-1]
        found = re.match(re.escape(beginning).replace(NUMBER, r"(\d+)"), name)
        if found:
            other = new.format(*found.groups()) + name[found.end() :]
            other = LEVEL.sub(lambda match: _turned(match, levels), other)
            one, two = ("nin_shortcut", "conv_shortcut")
            other = other.replace(one, two) if is_original else other.replace(two, one)
            return TensorPair(*((name, (other,)) if is_original else (other, (name,))))
    return None


def _turned(match: re.Match[str], levels: int) -> str:
    """The start of a decoder's name with the number of its level counted from the other end."""
    number = int(match[1])
    return f"{match[0].removesuffix(match[1])}{levels - 1 - number}"


def _attention(name: str) -> TensorPair | None:
    """The pair of a tensor of the attention, whose matrices are convolutions originally."""
    side, _, rest = name.partition(".")
    module, _, end = rest.rpartition(".")
    known = {
        **{f"mid.attn_1.{own}": (own, other) for own, other in ATTENTION.items()},
        **{f"mid_block.attentions.0.{other}": (own, other) for own, other in ATTENTION.items()},
    }
    originals = {other: own for own, other in ATTENTION.items()}
    for earlier, other in EARLIER.items():
        known[f"mid_block.attentions.0.{earlier}"] = (originals[other], earlier)
    if module not in known or end not in ("weight", "bias"):
        return None
    own, other = known[module]
    change = LayoutChange.POINTWISE if own != "norm" and end == "weight" else LayoutChange.NONE
    return TensorPair(
        f"{side}.mid.attn_1.{own}.{end}", (f"{side}.mid_block.attentions.0.{other}.{end}",), change
    )
