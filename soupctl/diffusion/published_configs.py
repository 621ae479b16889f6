"""Configs as they were published, in the form that today's classes have.

Rule 1: a field that a config does not have is the default of its class, as in the libraries.
Rule 2: what a field or a class was called in earlier versions is read under today's name, even if
the libraries have forgotten it since.
Rule 3: files keep their bytes; only what is read from them has this form.
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
"""Classes of the first versions of diffusers, and what they are called since."""
FLAX = "Flax"
"""Begins the names of classes that diffusers had for another framework, with the same weights."""
SPLIT = "Transformer2DModel"
"""The class that DiT and other transformers shared until they got classes of their own."""
DIT = "DiTTransformer2DModel"
MODEL_TYPES: Mapping[str, str] = {"CLIPTextModel": "clip_text_model"}
"""What the defaults of transformers' classes are filed under."""
LENGTH, POSITIONS = "model_max_length", "max_position_embeddings"
UNBOUNDED = int(1e30)
"""What transformers writes as the length of a tokenizer that has none."""
PREDICTION, PREDICTS_NOISE = "prediction_type", "predict_epsilon"


def present_class(name: str, config: Mapping[str, Any] | None = None) -> str:
    """Today's name of a class of diffusers; `config`, if given, tells which of those it became.

    Without a config, the class that several classes shared means DiT.
    """
    name = name.removeprefix(FLAX)
    if name == SPLIT and (config is None or config.get("norm_type") == "ada_norm_zero"):
        return DIT
    return RENAMED.get(name, name)


def present_config(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A config with the defaults of its class, and under today's names.

    `kind` is its class, for a config that does not say it.
    """
    found = dict(config)
    name = config.get(CLASS_NAME)
    if isinstance(name, str):
        found[CLASS_NAME] = kind = present_class(name, config)
    if found.get(PREDICTS_NOISE) is False:
        # until 0.11 of diffusers, DDPM said so that it predicts the clean image
        found.setdefault(PREDICTION, "sample")
    size = found.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        found["sample_size"] = size[0]
    defaults = defaults_of(MODEL_TYPES.get(kind, kind)).values
    return {**{key: value for key, value in defaults.items() if key not in found}, **found}


def bounded_captions(tokenizer: Mapping[str, Any], encoder: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer's config with a length, if it has none that of its text encoder."""
    if tokenizer.get(LENGTH, UNBOUNDED) == UNBOUNDED:
        return {**tokenizer, LENGTH: encoder.get(POSITIONS)}
    return dict(tokenizer)
