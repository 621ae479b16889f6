"""The files of a new pipeline other than its weights: configs, and its list of components."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...checkpoints.layout import find_model
from ...checkpoints.listing import PIPELINE
from ...checkpoints.unchanged import FileSnapshot
from ...errors import InputError
from ...frozen import frozen
from ...merge.companion_files import companion_files
from ..dtypes import OutputComponent
from ..layouts.families import ModelFamily
from ..layouts.texts import open_clip_pairs
from .denoisers import autoencoder_config, flux_config, unet_config
from .encoders import encoder_config
from .shapes import Shapes, size
from .tokenizers import has_tokenizers, tokenizer_files

ABSENT = [None, None]
"""The entry of a component that a pipeline does not have."""
INPAINTING = 9
"""Input channels of a UNet that is told what to keep of an image."""

_BETAS = {
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}
SCHEDULERS: Mapping[str, Mapping[str, Any]] = {
    "Stable Diffusion 1": {
        "_class_name": "PNDMScheduler",
        **_BETAS,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
    },
    "Stable Diffusion 2": {
        "_class_name": "DDIMScheduler",
        **_BETAS,
        "clip_sample": False,
        "prediction_type": "v_prediction",
        "set_alpha_to_one": False,
    },
    "Stable Diffusion XL": {
        "_class_name": "EulerDiscreteScheduler",
        **_BETAS,
        "timestep_spacing": "leading",
    },
    "Flux": {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "base_image_seq_len": 256,
        "base_shift": 0.5,
        "max_image_seq_len": 4096,
        "max_shift": 1.15,
        "num_train_timesteps": 1000,
        "shift": 3.0,
        "use_dynamic_shifting": True,
    },
}
"""The configs of the schedulers of the published pipelines."""
REFINER = "Stable Diffusion XL refiner"
SCHNELL = {"shift": 1.0, "use_dynamic_shifting": False}
"""The fields that differ in the scheduler's config of a Flux without guidance."""
CLIP_TOKENS = ["transformers", "CLIPTokenizer"]
_OF_SD = {"feature_extractor": ABSENT, "safety_checker": ABSENT, "tokenizer": CLIP_TOKENS}
_OF_XL = {"tokenizer": CLIP_TOKENS, "tokenizer_2": CLIP_TOKENS}
PIPELINES: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    # class, settings, and the components without weights
    "Stable Diffusion 1": ("StableDiffusionPipeline", {"requires_safety_checker": False}, _OF_SD),
    "Stable Diffusion 2": ("StableDiffusionPipeline", {"requires_safety_checker": False}, _OF_SD),
    "Stable Diffusion XL": (
        "StableDiffusionXLPipeline",
        {"force_zeros_for_empty_prompt": True},
        _OF_XL,
    ),
    REFINER: (
        "StableDiffusionXLImg2ImgPipeline",
        {"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
        {**_OF_XL, "text_encoder": ABSENT, "tokenizer": ABSENT},
    ),
    "Flux": (
        "FluxPipeline",
        {},
        {"tokenizer": CLIP_TOKENS, "tokenizer_2": ["transformers", "T5TokenizerFast"]},
    ),
}
"""The classes of the published pipelines, by family."""
NO_TOKENIZER = (
    "the new pipeline has built-in configs and no tokenizer, because single files have neither;"
    " those of another pipeline can be copied while it is converted"
)


@frozen
class PipelineFiles:
    """Files beside the weights of a new pipeline, by their names in it."""

    texts: tuple[tuple[str, bytes], ...]
    copies: tuple[tuple[str, Path], ...] = ()
    seen: tuple[FileSnapshot, ...] = ()


def pipeline_files(
    config_from: str | Path | None, family: ModelFamily, components: Sequence[OutputComponent]
) -> PipelineFiles:
    """The files of a pipeline with these components: those of `config_from`, or built-in ones.

    From a folder of tokenizers alone, these are taken. Raises InputError for any other folder.
    """
    folder = None if config_from is None else Path(config_from)
    if folder is not None and ((folder / PIPELINE).is_file() or not has_tokenizers(folder)):
        return _copied(folder)
    shapes = {
        component.name: {each.name: each.arranged.shape for each in component.tensors}
        for component in components
    }
    configs = {name: _config(name, own, family, shapes) for name, own in shapes.items()}
    texts = [(f"{name}/config.json", _json(config)) for name, config in configs.items()]
    schedule = _schedule(family, configs)
    texts += [
        ("scheduler/scheduler_config.json", _json(schedule)),
        (PIPELINE, _json(_listing(family, configs, schedule))),
    ]
    if folder is None:
        return PipelineFiles(tuple(texts))
    tokenizers, seen = tokenizer_files(folder, *_wanted_tokenizers(family))
    return PipelineFiles((*texts, *tokenizers), seen=tuple(seen))


def _wanted_tokenizers(family: ModelFamily) -> tuple[dict[str, str], set[str]]:
    """The classes of the tokenizers of a family, and those whose encoders are from OpenCLIP."""
    _, _, others = PIPELINES[family.name]
    wanted = {
        name: entry[1]
        for name, entry in others.items()
        if name.startswith("tokenizer") and entry != ABSENT
    }
    open_clip = {
        model.component.replace("text_encoder", "tokenizer")
        for model in family.models
        if model.pairs is open_clip_pairs
    }
    return wanted, open_clip


def _copied(folder: Path) -> PipelineFiles:
    """The files of another pipeline, without its weights."""
    if not (folder / PIPELINE).is_file():
        raise InputError(f"is no pipeline and no tokenizer: it has no {PIPELINE}", path=folder)
    try:
        found = find_model(folder)
        weights = {file for component in found.components for file in component.files}
    except InputError:
        # one of configs alone serves as well
        weights = set()
    others = companion_files([folder], weights)
    return PipelineFiles((), others.copies, others.seen)


def _config(
    name: str, own: Shapes, family: ModelFamily, every: Mapping[str, Shapes]
) -> dict[str, Any]:
    if name == "unet":
        pooled = size(every.get("text_encoder_2", {}), "text_projection.weight", 0)
        return unet_config(own, family.name, pooled)
    if name == "transformer":
        return flux_config(own)
    if name == "vae":
        return autoencoder_config(own, family.name)
    (model,) = (each for each in family.models if each.component == name)
    return encoder_config(own, is_open_clip=model.pairs is open_clip_pairs)


def _schedule(family: ModelFamily, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    name = "Stable Diffusion XL" if family.name == REFINER else family.name
    schedule = dict(SCHEDULERS[name])
    if name == "Flux" and not configs.get("transformer", {}).get("guidance_embeds"):
        schedule |= SCHNELL
    return schedule


def _listing(
    family: ModelFamily, configs: Mapping[str, Mapping[str, Any]], schedule: Mapping[str, Any]
) -> dict[str, Any]:
    """The list of a pipeline's components."""
    kind, settings, others = PIPELINES[family.name]
    if configs.get("unet", {}).get("in_channels") == INPAINTING:
        kind = kind.replace("Pipeline", "InpaintPipeline")
    listed: dict[str, Any] = dict(others)
    for model in family.models:
        config = configs.get(model.component)
        listed[model.component] = ABSENT if config is None else _entry(config)
    listed["scheduler"] = ["diffusers", schedule["_class_name"]]
    return {"_class_name": kind, **settings, **listed}


def _entry(config: Mapping[str, Any]) -> list[str]:
    """The library and the class of a component."""
    if "_class_name" in config:
        return ["diffusers", config["_class_name"]]
    return ["transformers", config["architectures"][0]]


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
