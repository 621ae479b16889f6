"""The classes of components that a base may have; a base that names any other is refused.

Rule 1: classes come from this table, never from a base, so no base can bring code.
Rule 2: a component's files are listed here, so nothing else in its folder is ever opened.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, MismatchError
from .published_configs import present_class

CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
PROCESSOR_CONFIG = "preprocessor_config.json"
CONFIGS = (CONFIG, SCHEDULER_CONFIG, TOKENIZER_CONFIG, PROCESSOR_CONFIG)
VOCABULARIES = (
    "tokenizer.json",
    "spiece.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
DENOISERS = (
    "UNet2DConditionModel",
    "UNet2DModel",
    "DiTTransformer2DModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)
CODE = ("auto_map", "custom_pipeline", "custom_code")
"""Fields in which a config names code of its own."""
ATTENTIONS = (None, "eager", "sdpa")
"""Attention implementations built into transformers; any other would be loaded as code."""


@dataclass(frozen=True, slots=True)
class ComponentClass:
    """The class of a component, and the files of its folder."""

    library: str
    name: str
    files: tuple[str, ...] = (CONFIG,)
    has_weights: bool = True


NOISE_SCHEDULERS = tuple(
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep"),
        *("DPMSolverMultistep", "DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete"),
        *("EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM"),
        *("LMSDiscrete", "PNDM", "SASolver", "TCD", "UniPCMultistep"),
    )
)
"""Schedulers with betas; only their noise schedule is used."""
FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
"""Schedulers without betas; a denoiser with betas is refused with one of them."""

_TOKENIZER = (TOKENIZER_CONFIG, *VOCABULARIES)
_KNOWN = (
    *(ComponentClass("diffusers", name) for name in (*DENOISERS, "AutoencoderKL", "VQModel")),
    *(
        ComponentClass("diffusers", name, (SCHEDULER_CONFIG,), has_weights=False)
        for name in (*NOISE_SCHEDULERS, *FLOW_SCHEDULERS)
    ),
    ComponentClass("transformers", "CLIPTextModel"),
    ComponentClass("transformers", "CLIPTextModelWithProjection"),
    ComponentClass("transformers", "T5EncoderModel"),
    ComponentClass("transformers", "T5Tokenizer", _TOKENIZER, has_weights=False),
    ComponentClass("transformers", "T5TokenizerFast", _TOKENIZER, has_weights=False),
    ComponentClass("transformers", "CLIPTokenizer", _TOKENIZER, has_weights=False),
    ComponentClass("transformers", "CLIPTokenizerFast", _TOKENIZER, has_weights=False),
    # these are copied with a trained model, and never loaded
    ComponentClass("transformers", "CLIPFeatureExtractor", (PROCESSOR_CONFIG,), has_weights=False),
    *(
        ComponentClass("transformers", f"CLIPImageProcessor{kind}", (PROCESSOR_CONFIG,), False)
        for kind in ("", "Fast", "Pil")
    ),
    ComponentClass("transformers", "CLIPVisionModelWithProjection"),
    ComponentClass("stable_diffusion", "StableDiffusionSafetyChecker"),
)
CLASSES: Mapping[tuple[str, str], ComponentClass] = {
    (each.library, each.name): each for each in _KNOWN
}


def listed_classes(listing: Mapping[str, Any], path: Path) -> dict[str, tuple[str, str]]:
    """Library and class of each component that a pipeline lists, not yet looked up.

    Raises InputError for a malformed list at `path`, MismatchError for one that names code.
    """
    require_no_code(listing, path)
    if not isinstance(listing.get("_class_name", ""), str):
        what = "names code of its own as its class, which soupctl never runs"
        raise MismatchError(what, path=path)
    found = {}
    for name, value in listing.items():
        if not isinstance(value, list) or value == [None, None]:
            continue
        if len(value) != 2 or not all(isinstance(each, str) for each in value):
            what = f"{reprlib.repr(name)} is {reprlib.repr(value)}, not a library and a class"
            raise InputError(what, path=path)
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise InputError(f"{reprlib.repr(name)} cannot be the name of a component", path=path)
        found[name] = (value[0], value[1])
    return found


def known_components(
    listed: Mapping[str, tuple[str, str]], folder: Path
) -> dict[str, ComponentClass]:
    """The listed components of the pipeline in a folder; MismatchError for an unknown class."""
    found = {}
    for name, (library, kind) in listed.items():
        known = CLASSES.get((library, present_class(kind)))
        if known is None:
            what = f"is {_shown(library)}.{_shown(kind)}, which soupctl does not load"
            advice = "soupctl loads only the classes on its own list"
            raise MismatchError(what, path=folder / name, advice=advice)
        found[name] = known
    return found


def _shown(name: str) -> str:
    return reprlib.repr(name)[1:-1]


def unsupported_denoiser(kind: str, path: Path) -> MismatchError:
    """The error for a denoiser of an unsupported class."""
    return MismatchError(f"has class {kind}; {supported()}", path=path)


def supported() -> str:
    """The denoisers that are supported, in words."""
    return f"supported are {', '.join(DENOISERS)}"


def require_no_code(config: Mapping[str, Any], path: Path) -> None:
    """Raise MismatchError if a config names code of its own, at any depth."""
    values: list[Any] = [config]
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        if not isinstance(value, dict):
            continue
        if found := [name for name in CODE if value.get(name) is not None]:
            what = f"names code of its own ({found[0]}), which soupctl never runs"
            raise MismatchError(what, path=path, advice=f"remove {found[0]} if it is not needed")
        for name in ("attn_implementation", "_attn_implementation"):
            if value.get(name) not in ATTENTIONS:
                shown = reprlib.repr(value[name])
                what = f"names {shown} as its attention, which would be loaded as code"
                raise MismatchError(what, path=path, advice=f"remove {name}")
        values += value.values()
