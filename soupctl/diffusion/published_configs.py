"""Published configs, converted to the fields of today's classes.

Rule 1: an absent field has the default of its class, as in the libraries.
Rule 2: earlier names of fields and classes are converted to today's, even if the libraries no
longer know them.
Rule 3: the files themselves are never rewritten.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..configs.defaults import defaults_of

CLASS_NAME = "_class_name"
RENAMED: Mapping[str, str] = {
    "UNetConditionalModel": "UNet2DConditionModel",
    "UNetUnconditionalModel": "UNet2DModel",
}
"""Class names of the first versions of diffusers, and today's."""
FLAX = "Flax"
"""Prefix of diffusers' classes for another framework, which have the same weights."""
SPLIT = "Transformer2DModel"
"""The class that DiT and other transformers shared in earlier versions."""
DIT = "DiTTransformer2DModel"
MODEL_TYPES: Mapping[str, str] = {
    "CLIPTextModel": "clip_text_model",
    "CLIPTextModelWithProjection": "clip_text_model",
    "T5EncoderModel": "t5",
}
"""The prefix of transformers' classes in the table of defaults."""
LENGTH, POSITIONS = "model_max_length", "max_position_embeddings"
UNBOUNDED = 1e18
"""Lengths beyond this one mean no limit; transformers writes 1e30."""
PREDICTION, PREDICTS_NOISE = "prediction_type", "predict_epsilon"


def present_class(name: str, config: Mapping[str, Any] | None = None) -> str:
    """Today's name of a diffusers class; `config` tells which one a shared class became.

    Without a config, a shared class means DiT.
    """
    name = name.removeprefix(FLAX)
    if name == SPLIT and (config is None or config.get("norm_type") == "ada_norm_zero"):
        return DIT
    return RENAMED.get(name, name)


def present_config(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A config with the defaults of its class, under today's names.

    `kind` is its class, for a config that does not name it.
    """
    own = config.get("text_config")
    # the text encoder within a CLIP model that has one of images, too
    found = dict(own if kind in MODEL_TYPES and isinstance(own, dict) else config)
    name = config.get(CLASS_NAME)
    if isinstance(name, str):
        found[CLASS_NAME] = kind = present_class(name, config)
    if found.get(PREDICTS_NOISE) is False:
        # in diffusers before 0.11, this field of DDPM meant that it predicts the clean image
        found.setdefault(PREDICTION, "sample")
    size = found.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        found["sample_size"] = size[0]
    defaults = defaults_of(MODEL_TYPES.get(kind, kind)).values
    return {**{key: value for key, value in defaults.items() if key not in found}, **found}


def bounded_captions(
    tokenizer: Mapping[str, Any], encoder: Mapping[str, Any], tokens: int | None
) -> dict[str, Any]:
    """A tokenizer's config with a length limit: its own, or `tokens`, or its text encoder's."""
    own = tokenizer.get(LENGTH)
    if own is None or (isinstance(own, int | float) and own > UNBOUNDED):
        return {**tokenizer, LENGTH: tokens or encoder.get(POSITIONS)}
    return dict(tokenizer)
