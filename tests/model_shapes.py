"""Names and shapes of tensors by which models are known."""

from __future__ import annotations

from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor

LDM = "model.diffusion_model."
CROSS = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight"
EARLY = LDM + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
LATE = LDM + "input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes, by name, as a header describes them."""
    return {name: Tensor(name, DType.F16, shape, 0, 0) for name, shape in shapes.items()}
