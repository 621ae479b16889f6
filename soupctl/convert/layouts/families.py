"""The models of a single file, and the prefixes under which they are in it.

Sources: the single files of CompVis, Stability AI and Black Forest Labs, and what ComfyUI saves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from ...frozen import frozen
from .autoencoder import autoencoder_pairs
from .flux import flux_pairs
from .pairs import TensorPair
from .texts import open_clip_pairs, same_pairs
from .unet import unet_pairs

Pairs = Callable[[Collection[str]], Iterator[TensorPair]]
"""The pairs of the tensors of a model, by their names in either layout."""


@frozen
class FamilyModel:
    """One model of a family: its folder in a pipeline, and its prefix in a single file."""

    component: str
    prefix: str
    pairs: Pairs


@frozen
class ModelFamily:
    """The models that are published together."""

    name: str
    models: tuple[FamilyModel, ...]
    left_out: Mapping[str, str]
    """Patterns of original names that diffusers has no use for, and why."""


DENOISER = "model.diffusion_model."
SCHEDULE = "the scheduler's config gives the noise schedule"
CONTRASTIVE = "only used to train CLIP"
LAST = "diffusers never runs the last block of this text encoder"
ALWAYS_LEFT_OUT = {
    "betas": SCHEDULE,
    "*alphas_cumprod": SCHEDULE,
    "alphas_cumprod_prev": SCHEDULE,
    "sqrt_recip*_alphas_cumprod": SCHEDULE,
    "posterior_*": SCHEDULE,
    "denoiser.sigmas": SCHEDULE,
    "*.logit_scale": CONTRASTIVE,
    "*.attn_mask": "it is computed",
}
"""Patterns of names that all families have in common; see `ModelFamily.left_out`."""

_UNET = FamilyModel("unet", DENOISER, unet_pairs)
_VAE = FamilyModel("vae", "first_stage_model.", autoencoder_pairs)

SD1 = ModelFamily(
    "Stable Diffusion 1",
    (_UNET, _VAE, FamilyModel("text_encoder", "cond_stage_model.transformer.", same_pairs)),
    ALWAYS_LEFT_OUT,
)
SD2 = ModelFamily(
    "Stable Diffusion 2",
    (_UNET, _VAE, FamilyModel("text_encoder", "cond_stage_model.model.", open_clip_pairs)),
    {
        **ALWAYS_LEFT_OUT,
        "cond_stage_model.model.transformer.resblocks.23.*": LAST,
        "cond_stage_model.model.text_projection": "its text encoder has no projection",
    },
)
SDXL = ModelFamily(
    "Stable Diffusion XL",
    (
        _UNET,
        _VAE,
        FamilyModel("text_encoder", "conditioner.embedders.0.transformer.", same_pairs),
        FamilyModel("text_encoder_2", "conditioner.embedders.1.model.", open_clip_pairs),
    ),
    ALWAYS_LEFT_OUT,
)
REFINER = ModelFamily(
    "Stable Diffusion XL refiner",
    (_UNET, _VAE, FamilyModel("text_encoder_2", "conditioner.embedders.0.model.", open_clip_pairs)),
    ALWAYS_LEFT_OUT,
)
FLUX = ModelFamily(
    "Flux",
    (
        FamilyModel("transformer", DENOISER, flux_pairs),
        FamilyModel("vae", "vae.", autoencoder_pairs),
        FamilyModel("text_encoder", "text_encoders.clip_l.transformer.", same_pairs),
        FamilyModel("text_encoder_2", "text_encoders.t5xxl.transformer.", same_pairs),
    ),
    ALWAYS_LEFT_OUT,
)
FAMILIES = (SDXL, REFINER, SD2, SD1, FLUX)
"""In the order in which their text encoders are looked for."""

ALONE = (
    # a module that only this model has in the original layout or in that of diffusers
    (("double_blocks.", "single_transformer_blocks."), FamilyModel("transformer", "", flux_pairs)),
    (
        ("input_blocks.", "down_blocks.", "time_embed"),
        FamilyModel("unet", "", unet_pairs),
    ),
    (
        ("encoder.down", "decoder.up", "encoder.conv_in."),
        FamilyModel("vae", "", autoencoder_pairs),
    ),
    (
        ("transformer.resblocks.",),
        FamilyModel("text_encoder", "", open_clip_pairs),
    ),
)


def family_of_file(names: Collection[str]) -> ModelFamily | None:
    """The family of a single file in the original layout; None for a file of one model, alone."""

    def has(prefix: str) -> bool:
        return any(name.startswith(prefix) for name in names)

    if not any(has(model.prefix) for family in FAMILIES for model in family.models):
        return None
    if has(f"{DENOISER}double_blocks."):
        return FLUX
    for family in FAMILIES:
        texts = [m for m in family.models if m.component.startswith("text_encoder")]
        if any(has(model.prefix) for model in texts):
            return family
    return SDXL if has(f"{DENOISER}label_emb.") else SD1


def model_alone(names: Collection[str]) -> FamilyModel | None:
    """The model whose tensors a file holds without a prefix; None if it is none of these."""
    for starts, model in ALONE:
        if any(name.startswith(starts) for name in names):
            return model
    return None


def family_of_pipeline(components: Collection[str], *, is_open_clip: bool) -> ModelFamily | None:
    """The family of a pipeline with these components; None for any other.

    `is_open_clip` tells of its text encoder whether it is from OpenCLIP.
    """
    if "transformer" in components:
        return FLUX
    if "unet" not in components:
        return None
    if "text_encoder_2" in components:
        return SDXL if "text_encoder" in components else REFINER
    return SD2 if is_open_clip else SD1
