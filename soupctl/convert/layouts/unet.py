"""The UNet of Stable Diffusion 1, 2 and XL.

Source: diffusers, `convert_ldm_unet_checkpoint`. The order of blocks is that of `lora.unet_blocks`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...lora.pairs import UNET
from ...lora.unet_blocks import unet_names
from .pairs import PairTable, TensorPair, plain, tensor_pairs

NORMS = {"in_layers.0": "norm1", "out_layers.0": "norm2"}
"""The norms of a resnet, which no adapter changes."""
OUTSIDE = PairTable(
    (
        *tensor_pairs(UNET),
        *plain({f"out.0.{end}": f"conv_norm_out.{end}" for end in ("weight", "bias")}),
    )
)
"""The tensors outside of blocks."""
ENDS = (".weight", ".bias")


def unet_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of a UNet with these names, in either layout."""
    yield from OUTSIDE.pairs_of(names)
    modules = {name.removesuffix(end) for name in names for end in ENDS if name.endswith(end)}
    is_original = any(name.startswith("input_blocks.") for name in modules)
    for own, other in unet_names(modules):
        foreign = _with_norm(own, other, is_original=is_original)
        original, diffusers = (own, foreign) if is_original else (foreign, own)
        for end in ENDS:
            if f"{own}{end}" in names:
                yield TensorPair(f"{original}{end}", (f"{diffusers}{end}",))


def _with_norm(own: str, other: str, *, is_original: bool) -> str:
    """The other name of a module, where it is the norm of a resnet."""
    for original, diffusers in NORMS.items():
        if is_original and own.endswith(f".{original}"):
            return f"{other.removesuffix(original)}{diffusers}"
        if not is_original and ".resnets." in own and own.endswith(f".{diffusers}"):
            return f"{other.removesuffix(diffusers)}{original}"
    return other
