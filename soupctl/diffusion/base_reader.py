"""Reading a base: its configs, which are checked, and the files of its weights.

Rule 1: everything that configs and headers reveal is refused here, before data is read.
Rule 2: a component's files are in the folder of its name; without one they are in the base's own
folder, as in the first pipelines of diffusers.
Rule 3: a pipeline with a model that soupctl would not use is refused: the others depend on it.
"""

from __future__ import annotations

import re
import reprlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.layout import PICKLES
from ..checkpoints.listing import PIPELINE
from ..checkpoints.remote.address import address_of
from ..errors import InputError, MismatchError, UsageError
from .base import AUTOENCODERS, MODEL, SCHEDULER, VAE, VQVAE, Base, Conditioning
from .base_checks import require_trainable, require_whole, shown_class
from .base_files import BaseFiles
from .component_classes import (
    CONFIG,
    DENOISERS,
    SCHEDULER_CONFIG,
    TOKENIZER_CONFIG,
    VOCABULARIES,
    ComponentClass,
    known_components,
    listed_classes,
    supported,
    unsupported_denoiser,
)
from .families.family import DenoiserFamily
from .families.table import family_of
from .published_configs import CLASS_NAME, bounded_captions, present_config
from .single_file import is_single_file, pipeline_of

DENOISER_NAMES = ("unet", "transformer")
PARTS = (VAE, SCHEDULER)
"""Components that are used besides the denoiser and text encoders."""
WITH_VQVAE = "UNet2DModel"
"""The class of a denoiser whose autoencoder may be a vqvae, as in diffusers' LDMPipeline."""
EMA_COPIES = ("unet_ema",)
"""Components that are the EMA of a denoiser, left out as diffusers does."""
COMPANIONS = ("safety_checker", "feature_extractor", "image_encoder")
"""Components that are copied with a model, but have no influence on training or sampling."""
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
REMOTE = re.compile(r"[\w.-]+/[\w.-]+")
"""The pattern of a model's name on the hub."""
BARE_SCHEDULER = ComponentClass("diffusers", "DDPMScheduler", (SCHEDULER_CONFIG,), False)
"""The config of the scheduler beside a bare denoiser, which names its class."""


def read_base(
    folder: Path, variant: str | None = None, config_from: str | Path | None = None
) -> Base:
    """Read the base in a folder: its configs, which are checked, and the files of its weights.

    `variant` prefers weights such as `model.fp16.safetensors` to the plain ones. A single file is
    converted to a pipeline first, with configs or tokenizers from the folder `config_from`.

    Raises InputError if it is not a diffusers folder, or if a config is not valid, MismatchError
    for an unsupported model, or one that names code.
    """
    given, folder = folder, _pipeline_folder(folder, config_from)
    files = BaseFiles(folder, variant)
    listing = files.read_config(PIPELINE)
    listed = listed_classes(listing or {}, folder / PIPELINE)
    left_out = _without_copies(listed, folder)
    denoiser, config = _read_denoiser(files, listed)
    family = _require_supported(config, folder / denoiser)
    class_name = str(config["_class_name"])
    if listed:
        components = _listed_components(files, listed, denoiser, class_name, family)
    else:
        components = _bare_components(files, class_name)
    conditioning = _conditioning(config, family)
    configs = {denoiser: config, **_read_components(files, components, denoiser, family)}
    own = {*listed, *left_out}
    settings = {name: value for name, value in (listing or {}).items() if name not in own}
    base = Base(
        folder,
        given,
        denoiser,
        class_name,
        config,
        conditioning,
        components,
        configs,
        files,
        settings,
        left_out,
    )
    require_trainable(base)
    files.require_variant()
    return base


def _pipeline_folder(given: Path, config_from: str | Path | None) -> Path:
    """The folder of a base, converted from a single file if it is one.

    Raises UsageError for configs from elsewhere for a folder, InputError for what is not there.
    """
    folder = given
    if is_single_file(given):
        folder = pipeline_of(given, config_from)
    elif config_from is not None:
        what = "is not a single file, so --config-from does not apply"
        raise UsageError(what, path=given, advice="remove --config-from")
    if not folder.is_dir():
        raise _no_folder(folder)
    return folder


def _listed_components(
    files: BaseFiles,
    listed: Mapping[str, tuple[str, str]],
    denoiser: str,
    class_name: str,
    family: DenoiserFamily,
) -> dict[str, ComponentClass]:
    """The components of a pipeline by folder, sorted; raises what `read_base` says of them."""
    _require_used(listed, class_name, family, files.folder)
    known = known_components(listed, files.folder)
    require_whole(known, files, [part.encoder for part in family.texts if part.is_optional])
    kind = known.pop(next(name for name in DENOISER_NAMES if name in known))
    if kind.name != class_name:
        what = f"has class {class_name}, but {PIPELINE} says {kind.name}"
        raise MismatchError(what, path=files.folder / denoiser)
    found = {name: each for name, each in known.items() if files.holds(name, each)}
    return dict(sorted({**found, denoiser: kind}.items()))


def _bare_components(files: BaseFiles, class_name: str) -> dict[str, ComponentClass]:
    """The components of a denoiser that is no pipeline: itself, and a scheduler if it has one."""
    components = {"": ComponentClass("diffusers", class_name)}
    if files.holds(SCHEDULER, BARE_SCHEDULER):
        components[SCHEDULER] = BARE_SCHEDULER
    return components


def _without_copies(listed: dict[str, tuple[str, str]], folder: Path) -> tuple[str, ...]:
    """Take copies of the denoiser out of the listed components; returns those that exist."""
    found = [name for name in EMA_COPIES if name in listed or (folder / name).is_dir()]
    for name in found:
        listed.pop(name, None)
    return tuple(found) if listed else ()


def _read_denoiser(
    files: BaseFiles, listed: Mapping[str, tuple[str, str]]
) -> tuple[str, dict[str, Any]]:
    """The denoiser's folder within the base, empty for the base's own, and its config."""
    own = [name for name in DENOISER_NAMES if name in listed]
    if listed and not own:
        raise MismatchError(f"has no unet and no transformer; {supported()}", path=files.folder)
    denoiser = own[0] if own and (files.folder / own[0]).is_dir() else ""
    kind = listed[own[0]][1] if own else ""
    config = files.read_config(str(Path(denoiser, CONFIG)))
    if config is None and own:
        raise InputError(f"has no {CONFIG}", path=files.folder / own[0])
    if config is None:
        raise _no_diffusers_folder(files.folder)
    return denoiser, present_config(_with_class(config, kind), "")


def _with_class(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A config that names its class: its own, or that of the pipeline's list if it names none."""
    # a model of transformers names its class in another way
    is_named = not kind or "model_type" in config
    return {**({} if is_named else {CLASS_NAME: kind}), **config}


def _require_used(
    listed: Mapping[str, tuple[str, str]], class_name: str, family: DenoiserFamily, folder: Path
) -> None:
    """Raise MismatchError for a pipeline with a model that would be left out."""
    texts = [name for part in family.texts for name in (part.encoder, part.tokenizer)]
    used = [*DENOISER_NAMES, *PARTS, *texts]
    if class_name == WITH_VQVAE and VAE not in listed:
        used.append(VQVAE)
    for name, (_, kind) in listed.items():
        if name not in (*used, *COMPANIONS):
            what = f"is a {reprlib.repr(kind)[1:-1]}, which soupctl does not use in a pipeline"
            parts = ", ".join(used)
            raise MismatchError(what, path=folder / name, advice=f"supported are {parts}")


def _read_components(
    files: BaseFiles,
    components: Mapping[str, ComponentClass],
    denoiser: str,
    family: DenoiserFamily,
) -> dict[str, dict[str, Any]]:
    """The configs of the components that are loaded besides the denoiser.

    The files of all components are read, and their weights found.
    """
    used = {denoiser, *AUTOENCODERS, SCHEDULER}
    used |= {name for part in family.texts for name in (part.encoder, part.tokenizer)}
    configs = {}
    for name, kind in components.items():
        if name == denoiser:
            files.find_weights(name)
            continue
        if kind.has_weights and (name in used or files.has_weights(name)):
            files.find_weights(name)
        config = _read_component(files, name, kind)
        if config is None and name in used:
            raise InputError(f"has no {kind.files[0]}", path=files.folder / name)
        if config is not None and name in used:
            is_model = kind.library == "diffusers" and kind.has_weights
            config = _with_class(config, kind.name) if is_model else config
            configs[name] = present_config(config, kind.name)
    for part in family.texts:
        if part.tokenizer in configs and part.encoder in configs:
            own = configs[part.tokenizer]
            configs[part.tokenizer] = bounded_captions(own, configs[part.encoder], part.tokens)
    return configs


def _read_component(files: BaseFiles, name: str, kind: ComponentClass) -> dict[str, Any] | None:
    """The config of a component, None without one; its vocabularies are read, too."""
    for file in kind.files[1:]:
        files.read(files.inside(name, file))
    config = files.read_config(files.inside(name, kind.files[0]))
    is_tokenizer = kind.files[0] == TOKENIZER_CONFIG
    if config is None and is_tokenizer and files.holds_any(name, VOCABULARIES):
        # missing fields have the defaults of the class
        return {}
    return config


def _no_folder(path: Path) -> InputError:
    if path.is_file():
        what = "is a file, but a base is a diffusers folder or a .safetensors file of a pipeline"
        advice = "give one of these"
        if path.suffix in PICKLES:
            advice = f"soupctl convert {shlex.quote(str(path))} -o model.safetensors reads it"
        return InputError(what, path=path, advice=advice)
    advice = "a base is a local diffusers folder; soupctl downloads nothing"
    if (address := address_of(path)) is not None:
        return InputError("is not on this disk", path=address.shown, advice=advice)
    if REMOTE.fullmatch(str(path)) and not path.parent.exists():
        advice = f"soupctl downloads nothing; run 'hf download {path} --local-dir DIR'"
    return InputError("is not a folder", path=path, advice=advice)


def _no_diffusers_folder(folder: Path) -> InputError:
    what = "is not a diffusers folder"
    advice = f"it needs {PIPELINE}, or {CONFIG} of a bare denoiser"
    if any((folder / MODEL / name).is_file() for name in (PIPELINE, CONFIG)):
        advice = f"use {folder / MODEL}"
    elif found := [name for name in DENOISER_NAMES if (folder / name / CONFIG).is_file()]:
        # a checkpoint of diffusers' training scripts, whose other components are in its base
        advice = f"use {folder / found[0]}, or for captions its base with this {found[0]} in it"
    if any((folder / name).is_file() for name in ADAPTERS):
        what, advice = "is an adapter, not a model", "merge it with diffusers' fuse_lora"
    return InputError(what, path=folder, advice=advice)


def _conditioning(config: Mapping[str, Any], family: DenoiserFamily) -> Conditioning:
    if family.texts:
        return Conditioning.TEXT
    if config.get("_class_name") == "DiTTransformer2DModel" or config.get("num_class_embeds"):
        return Conditioning.LABEL
    return Conditioning.NONE


def _require_supported(config: Mapping[str, Any], place: Path) -> DenoiserFamily:
    """The family of a denoiser; MismatchError for one of a kind that is not supported."""
    if "_class_name" not in config:
        raise MismatchError(f"is not a diffusers model; {supported()}", path=place)
    if config["_class_name"] not in DENOISERS:
        raise unsupported_denoiser(shown_class(config["_class_name"]), place)
    family = family_of(config)
    if family is None:
        kind = shown_class(config.get("addition_embed_type"))
        what = f"has conditions of the kind {kind} besides text, which is not supported"
        raise MismatchError(what, path=place, advice="use SD 1.x, SD 2.x or SDXL")
    return family
