"""The family of each denoiser that is supported, by its class and config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .family import DenoiserFamily
from .flux import FLUX
from .plain import DIT, PLAIN
from .sd3 import SD3
from .sdxl import SDXL
from .stable_diffusion import STABLE_DIFFUSION

FAMILIES: Mapping[tuple[str, object], DenoiserFamily] = {
    ("UNet2DModel", None): PLAIN,
    ("DiTTransformer2DModel", None): DIT,
    ("UNet2DConditionModel", None): STABLE_DIFFUSION,
    ("UNet2DConditionModel", "text_time"): SDXL,
    ("SD3Transformer2DModel", None): SD3,
    ("FluxTransformer2DModel", None): FLUX,
}
"""Families by the class of the denoiser and the kind of conditions besides text."""


def family_of(config: Mapping[str, Any]) -> DenoiserFamily | None:
    """The family of a denoiser by its config; None for one that is not supported."""
    kind = config.get("addition_embed_type")
    return FAMILIES.get((str(config.get("_class_name")), kind if isinstance(kind, str) else None))
