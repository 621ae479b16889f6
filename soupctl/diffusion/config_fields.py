"""The fields that soupctl and its libraries read from a base's configs, with types and bounds.

Rule 1: a field that is missing though needed, or has another type or an absurd value, is refused
before a library sees it.
Rule 2: what a field means together with others is left to `rehearsal`, which builds the models.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, Issue
from .config_field import (
    FLAG,
    LARGEST,
    LAYERS,
    LONGEST,
    NULL,
    SHARE,
    SIZE,
    TEXT,
    TEXTS,
    Field,
    choice,
    either,
    listed,
    number,
    optional,
    required,
    whole,
)
from .text_fields import T5_FIELDS, TEXT_ENCODER_FIELDS, TOKENIZER_FIELDS

_LAYERS_PER_BLOCK = either(LAYERS, listed(either(LAYERS, listed(LAYERS))))
_SIZES = either(SIZE, listed(SIZE))
_HEADS = optional(_SIZES)

_MODEL: Mapping[str, Field] = {
    "_class_name": TEXT,
    "act_fn": TEXT,
    "dropout": SHARE,
    "in_channels": required(SIZE),
    "norm_eps": optional(number(0, 1)),
    "norm_num_groups": optional(SIZE),
    "out_channels": optional(SIZE),
    "quantization_config": NULL,
    "sample_size": optional(either(SIZE, listed(SIZE, 2, 2))),
}

_UNET: Mapping[str, Field] = {
    **_MODEL,
    "addition_embed_type": optional(TEXT),
    "addition_time_embed_dim": optional(SIZE),
    "attention_head_dim": _HEADS,
    "block_out_channels": required(listed(SIZE)),
    "center_input_sample": FLAG,
    "class_embed_type": optional(TEXT),
    "cross_attention_dim": optional(_SIZES),
    "down_block_types": required(TEXTS),
    "layers_per_block": _LAYERS_PER_BLOCK,
    "num_attention_heads": _HEADS,
    "num_class_embeds": optional(whole(1, 10_000_000)),
    "projection_class_embeddings_input_dim": optional(SIZE),
    "reverse_transformer_layers_per_block": optional(_LAYERS_PER_BLOCK),
    "time_embedding_dim": optional(SIZE),
    "transformer_layers_per_block": _LAYERS_PER_BLOCK,
    "up_block_types": required(TEXTS),
}

_DIT: Mapping[str, Field] = {
    **_MODEL,
    "attention_head_dim": SIZE,
    "num_attention_heads": SIZE,
    "num_embeds_ada_norm": required(whole(1, 10_000_000)),
    "num_layers": LAYERS,
    "patch_size": required(SIZE),
    "sample_size": required(SIZE),
}

_TRANSFORMER: Mapping[str, Field] = {
    **_MODEL,
    "attention_head_dim": SIZE,
    "joint_attention_dim": SIZE,
    "num_attention_heads": SIZE,
    "num_layers": whole(0, 256),
    "patch_size": SIZE,
    "pooled_projection_dim": SIZE,
}

_SD3: Mapping[str, Field] = {
    **_TRANSFORMER,
    "caption_projection_dim": SIZE,
    "dual_attention_layers": listed(whole(0, 256), 0, 256),
    "pos_embed_max_size": whole(1, 4096),
    "qk_norm": optional(TEXT),
    "sample_size": required(SIZE),
}

_FLUX: Mapping[str, Field] = {
    **_TRANSFORMER,
    "axes_dims_rope": listed(SIZE, 3, 3),
    "guidance_embeds": FLAG,
    "num_single_layers": whole(0, 256),
}

_VAE: Mapping[str, Field] = {
    **_MODEL,
    "block_out_channels": required(listed(SIZE)),
    "down_block_types": required(TEXTS),
    "latents_mean": optional(listed(number(-1e6, 1e6), 1, LONGEST)),
    "latents_std": optional(listed(number(1e-6, 1e6), 1, LONGEST)),
    "latent_channels": required(SIZE),
    "layers_per_block": LAYERS,
    "scaling_factor": number(1e-6, 1e6),
    "shift_factor": optional(number(-1e6, 1e6)),
    "up_block_types": required(TEXTS),
}

_VQ: Mapping[str, Field] = {
    **_VAE,
    "lookup_from_codebook": FLAG,
    "mid_block_add_attention": FLAG,
    "norm_type": choice("group", "spatial"),
    "num_vq_embeddings": required(whole(1, 10_000_000)),
    "vq_embed_dim": optional(SIZE),
}

_SCHEDULER: Mapping[str, Field] = {
    "beta_end": required(number(0, 1)),
    "beta_schedule": required(TEXT),
    "beta_start": required(number(0, 1)),
    "clip_sample": FLAG,
    "clip_sample_range": number(0, 1e6),
    "dynamic_thresholding_ratio": SHARE,
    "num_train_timesteps": required(whole(1, 1_000_000)),
    "prediction_type": TEXT,
    "rescale_betas_zero_snr": FLAG,
    "sample_max_value": number(0, 1e6),
    "set_alpha_to_one": FLAG,
    "steps_offset": whole(0, 1_000_000),
    "thresholding": FLAG,
    "timestep_spacing": choice("linspace", "leading", "trailing"),
    "trained_betas": optional(listed(number(0, 1), 1, 1_000_000)),
    "variance_type": TEXT,
}

SCHEDULER_FIELDS: Mapping[str, Field] = {
    # some schedulers write null for the fields of others
    name: field if field.is_required or field.holds(None) else optional(field)
    for name, field in _SCHEDULER.items()
}
"""The fields of a scheduler that are passed to diffusers, unless they are null."""

FLOW_FIELDS: Mapping[str, Field] = {
    "base_image_seq_len": SIZE,
    "base_shift": optional(number(-1e6, 1e6)),
    "invert_sigmas": Field("false", lambda value: value is False),
    "max_image_seq_len": SIZE,
    "max_shift": optional(number(-1e6, 1e6)),
    "num_train_timesteps": whole(1, 1_000_000),
    "shift": number(1e-6, 1e6),
    "shift_terminal": optional(number(0, 1)),
    "stochastic_sampling": Field("false", lambda value: value is False),
    "time_shift_type": choice("exponential", "linear"),
    "use_beta_sigmas": FLAG,
    "use_dynamic_shifting": FLAG,
    "use_exponential_sigmas": FLAG,
    "use_karras_sigmas": FLAG,
}
"""The fields of a scheduler of flow matching that are passed to diffusers, unless null."""

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "UNet2DModel": _UNET,
    "UNet2DConditionModel": _UNET,
    "DiTTransformer2DModel": _DIT,
    "SD3Transformer2DModel": _SD3,
    "FluxTransformer2DModel": _FLUX,
    "AutoencoderKL": _VAE,
    "VQModel": _VQ,
    "CLIPTextModel": TEXT_ENCODER_FIELDS,
    "CLIPTextModelWithProjection": TEXT_ENCODER_FIELDS,
    "T5EncoderModel": T5_FIELDS,
    "T5Tokenizer": TOKENIZER_FIELDS,
    "T5TokenizerFast": TOKENIZER_FIELDS,
    "CLIPTokenizer": TOKENIZER_FIELDS,
    "CLIPTokenizerFast": TOKENIZER_FIELDS,
}
"""The fields of each class that is loaded, except schedulers."""


def require_fields(config: Mapping[str, Any], fields: Mapping[str, Field], path: Path) -> None:
    """Raise InputError, naming the config at `path` and all fields that are missing or wrong."""
    if issues := [Issue(text, path) for text in _problems(config, fields)]:
        raise InputError.collected(issues)


def _problems(config: Mapping[str, Any], fields: Mapping[str, Field]) -> Iterator[str]:
    for name, field in fields.items():
        if name not in config:
            if field.is_required:
                yield f"has no {name}, which must be {field.kind}"
        elif not field.holds(config[name]):
            yield f"{name} is {reprlib.repr(config[name])}, but must be {field.kind}"
    for name, value in config.items():
        if name not in fields and not _is_plain(value):
            yield f"{reprlib.repr(name)} is {reprlib.repr(value)}, which is out of bounds"


def _is_plain(value: Any) -> bool:
    """Whether a value of an unknown field is small enough to be passed on."""
    if isinstance(value, list | dict):
        values = value if isinstance(value, list) else [*value.keys(), *value.values()]
        return len(values) <= LONGEST and all(map(_is_plain, values))
    if isinstance(value, str):
        return len(value) <= LONGEST
    # diffusers writes infinity as the bound of a scheduler that has none
    return value is None or abs(value) <= LARGEST or not math.isfinite(value)
