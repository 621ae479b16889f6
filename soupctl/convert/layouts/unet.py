"""The UNet of Stable Diffusion 1, 2 and XL.

Source: diffusers, `convert_ldm_unet_checkpoint`. The order of blocks is that of `lora.unet_blocks`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ...lora.pairs import UNET
from ...lora.unet_blocks import unet_names
from .pairs import PairTable, TensorPair, tensor_pairs

OUTSIDE = PairTable(tensor_pairs(UNET))
"""The tensors outside of blocks."""
ENDS = (".weight", ".bias")


def unet_pairs(names: Collection[str]) -> Iterator[TensorPair]:
    """The pairs of the tensors of a UNet with these names, in either layout."""
    yield from OUTSIDE.pairs_of(names)
    modules = {name.removesuffix(end) for name in names for end in ENDS if name.endswith(end)}
    is_original = any(name.startswith("input_blocks.") for name in modules)
    for own, other in unet_names(modules):
        original, diffusers = (own, other) if is_original else (other, own)
        for end in ENDS:
            if f"{own}{end}" in names:
                yield TensorPair(f"{original}{end}", (f"{diffusers}{end}",))
