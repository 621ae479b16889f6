"""The fields that soupctl and its libraries read from a base's configs, with types and bounds.

Rule 1: a field that is missing though needed, or has another type or an absurd value, is refused
before a library sees it.
Rule 2: what a field means together with others is left to `rehearsal`, which builds the models.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, Issue

LARGEST = 1 << 31
LONGEST = 1 << 16
"""Most entries of a list, and most characters of a text."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a config."""

    kind: str
    """The allowed values in words."""
    holds: Callable[[Any], bool]
    is_required: bool = False


def whole(least: int = 0, most: int = LARGEST) -> Field:
    """A field for a whole number within bounds."""
    return Field(
        f"a whole number from {least} to {most}",
        lambda value: type(value) is int and least <= value <= most,
    )


def number(least: float, most: float) -> Field:
    """A field for a number within bounds."""
    return Field(
        f"a number from {least:g} to {most:g}",
        lambda value: type(value) in (int, float) and least <= value <= most,
    )


def listed(each: Field, least: int = 1, most: int = 64) -> Field:
    """A field for a list of a bounded number of values."""
    return Field(
        f"a list of {least} to {most} values, each {each.kind}",
        lambda value: (
            isinstance(value, list) and least <= len(value) <= most and all(map(each.holds, value))
        ),
    )


def either(first: Field, other: Field) -> Field:
    """A field for either of two kinds of values."""
    return Field(
        f"{first.kind} or {other.kind}", lambda value: first.holds(value) or other.holds(value)
    )


def optional(field: Field) -> Field:
    """The same field, which may also be null."""
    return either(field, NULL)


def required(field: Field) -> Field:
    """The same field, which must be present."""
    return Field(field.kind, field.holds, is_required=True)


def choice(*values: str) -> Field:
    """A field for one of some texts."""
    return Field(f"one of {', '.join(values)}", lambda value: value in values)


NULL = Field("null", lambda value: value is None)
FLAG = Field("true or false", lambda value: isinstance(value, bool))
TEXT = Field("a text", lambda value: isinstance(value, str) and len(value) <= LONGEST)
TEXTS = listed(TEXT)
SIZE = whole(1, LONGEST)
LAYERS = whole(1, 128)
SHARE = number(0, 1)

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

TEXT_ENCODER_FIELDS: Mapping[str, Field] = {
    "architectures": optional(
        listed(choice("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel"))
    ),
    "attention_dropout": SHARE,
    "bos_token_id": optional(whole()),
    "dtype": optional(TEXT),
    "eos_token_id": optional(whole()),
    "hidden_act": TEXT,
    "hidden_size": required(SIZE),
    "initializer_factor": number(0, 1e6),
    "initializer_range": number(0, 1e6),
    "intermediate_size": SIZE,
    "layer_norm_eps": number(0, 1),
    "max_position_embeddings": required(SIZE),
    "model_type": choice("clip_text_model", "clip"),
    "num_attention_heads": SIZE,
    "num_hidden_layers": LAYERS,
    "pad_token_id": optional(whole()),
    "projection_dim": SIZE,
    "torch_dtype": optional(TEXT),
    "transformers_version": optional(TEXT),
    "vocab_size": required(whole(1, 10_000_000)),
}
"""The fields of a text encoder that are passed to transformers."""

_TOKEN = optional(either(TEXT, Field("an object", lambda value: isinstance(value, dict))))

TOKENIZER_FIELDS: Mapping[str, Field] = {
    "add_prefix_space": FLAG,
    "added_tokens_decoder": Field("an object", lambda value: isinstance(value, dict)),
    "additional_special_tokens": listed(TEXT, 0),
    "backend": optional(TEXT),
    "bos_token": _TOKEN,
    "clean_up_tokenization_spaces": optional(FLAG),
    "do_lower_case": FLAG,
    "eos_token": _TOKEN,
    "errors": choice("replace", "strict", "ignore"),
    "model_max_length": required(SIZE),
    "pad_token": _TOKEN,
    "processor_class": optional(choice("CLIPProcessor")),
    "tokenizer_class": optional(choice("CLIPTokenizer", "CLIPTokenizerFast")),
    "unk_token": _TOKEN,
}
"""The fields of a tokenizer that are passed to transformers."""

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

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "UNet2DModel": _UNET,
    "UNet2DConditionModel": _UNET,
    "DiTTransformer2DModel": _DIT,
    "AutoencoderKL": _VAE,
    "CLIPTextModel": TEXT_ENCODER_FIELDS,
    "CLIPTextModelWithProjection": TEXT_ENCODER_FIELDS,
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
